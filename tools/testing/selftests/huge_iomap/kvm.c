// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI BAR, mapped through vfio-pci, as memory of a KVM guest: the nested leaves are
 * as large as the host's, and follow when those are split.
 */
#include "huge_iomap_vfio.h"

#include <linux/kvm.h>

#include "kselftest_harness.h"

#define RAM_BYTES	SZ_2M
#define BAR_BYTES	(4 * SZ_1G)
#define BAR_GPA		(4 * SZ_1G)

/* Guest physical addresses in RAM */
#define PML4		0x1000
#define PDPT		0x2000
#define PD		0x3000		/* for code, then one for each GiB of the BAR */
#define CODE		0x10000

/* rbx += the 32 bits at rdi, rdi + r8, ... below rsi; then halt */
static const unsigned char code[] = {
	0x8b, 0x07,		/* 1: mov (%rdi), %eax */
	0x48, 0x01, 0xc3,	/*    add %rax, %rbx */
	0x4c, 0x01, 0xc7,	/*    add %r8, %rdi */
	0x48, 0x39, 0xf7,	/*    cmp %rsi, %rdi */
	0x72, 0xf3,		/*    jb 1b */
	0xf4,			/*    hlt */
};

FIXTURE(kvm) {
	struct vfio fd;
	int kvm, vm, vcpu, stats;
	struct kvm_run *run;
	char *ram, *bar;
	__u64 offset;
	int max;
};

static void set_tables(char *ram)
{
	__u64 *pml4 = (void *)(ram + PML4), *pdpt = (void *)(ram + PDPT);
	__u64 *pd = (void *)(ram + PD);

	pml4[0] = PDPT | 3;
	pdpt[0] = PD | 3;
	pd[0] = 0x83;		/* 2 MiB at 0 */
	for (int i = 0; i < BAR_BYTES / SZ_1G; i++)
		pdpt[BAR_GPA / SZ_1G + i] = (PD + (i + 1) * SZ_4K) | 3;
	for (__u64 i = 0; i < BAR_BYTES / SZ_2M; i++)
		pd[512 + i] = (BAR_GPA + i * SZ_2M) | 0x83;
}

static int set_long_mode(int vcpu)
{
	struct kvm_segment seg = { .limit = 0xffffffff, .present = 1, .s = 1, .g = 1 };
	struct kvm_sregs sregs;

	if (ioctl(vcpu, KVM_GET_SREGS, &sregs))
		return -1;
	sregs.cr3 = PML4;
	sregs.cr4 |= 1 << 5;				/* PAE */
	sregs.cr0 = 0x80000001;				/* PG, PE */
	sregs.efer = 0x500;				/* LMA, LME */
	seg.type = 3;
	seg.db = 1;
	sregs.ds = seg;
	sregs.es = seg;
	sregs.ss = seg;
	seg.type = 11;
	seg.db = 0;
	seg.l = 1;
	seg.selector = 8;
	sregs.cs = seg;
	return ioctl(vcpu, KVM_SET_SREGS, &sregs);
}

static int set_cpuid(int kvm, int vcpu)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid = { .head.nent = 256 };

	return ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) ||
	       ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
}

static int set_slot(int vm, int slot, __u64 gpa, __u64 bytes, void *va)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = bytes,
		.userspace_addr = (unsigned long)va,
	};

	return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

FIXTURE_SETUP(kvm)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR2_REGION_INDEX,
	};
	char *at;
	int bytes;

	self->fd.device = -1;
	self->kvm = open("/dev/kvm", O_RDWR);
	if (self->kvm < 0)
		SKIP(return, "/dev/kvm: %s", strerror(errno));
	ASSERT_EQ(0, bind_to("vfio-pci"));
	ASSERT_TRUE(open_cdev(&self->fd)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, ioctl(self->fd.device, VFIO_DEVICE_GET_REGION_INFO, &info));
	self->offset = info.offset;
	self->max = fault_max_leaf();
	self->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->ram);
	ASSERT_EQ(0, madvise(self->ram, RAM_BYTES, MADV_NOHUGEPAGE));
	set_tables(self->ram);
	memcpy(self->ram + CODE, code, sizeof(code));
	/* Without CONFIG_HUGE_IOMAP it takes an address that is congruent. */
	at = option_off() ? reserve(BAR_BYTES) : NULL;
	self->bar = mmap(at, BAR_BYTES, PROT_READ | PROT_WRITE,
			 MAP_SHARED | (at ? MAP_FIXED : 0),
			 self->fd.device, self->offset);
	ASSERT_NE(MAP_FAILED, self->bar);

	self->vm = ioctl(self->kvm, KVM_CREATE_VM, 0);
	ASSERT_GE(self->vm, 0);
	self->stats = ioctl(self->vm, KVM_GET_STATS_FD, NULL);
	ASSERT_GE(self->stats, 0);
	ASSERT_EQ(0, set_slot(self->vm, 0, 0, RAM_BYTES, self->ram));
	ASSERT_EQ(0, set_slot(self->vm, 1, BAR_GPA, BAR_BYTES, self->bar));
	self->vcpu = ioctl(self->vm, KVM_CREATE_VCPU, 0);
	ASSERT_GE(self->vcpu, 0);
	bytes = ioctl(self->kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
	ASSERT_LT(0, bytes);
	self->run = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, self->vcpu, 0);
	ASSERT_NE(MAP_FAILED, self->run);
	ASSERT_EQ(0, set_cpuid(self->kvm, self->vcpu));
	ASSERT_EQ(0, set_long_mode(self->vcpu));
}

FIXTURE_TEARDOWN(kvm)
{
	if (self->kvm < 0)
		return;
	close(self->stats);
	close(self->vcpu);
	close(self->vm);
	munmap(self->bar, BAR_BYTES);
	close_vfio(&self->fd);
	bind_to("\n");
}

/* A counter of the VM; -1 on error */
static long vm_stat(int fd, const char *name)
{
	struct kvm_stats_header head;
	struct kvm_stats_desc *desc;
	long found = -1;
	char *buf;

	if (pread(fd, &head, sizeof(head), 0) != sizeof(head))
		return -1;
	buf = malloc(sizeof(*desc) + head.name_size);
	for (int i = 0; buf && i < head.num_desc; i++) {
		size_t len = sizeof(*desc) + head.name_size;
		__u64 value;

		desc = (void *)buf;
		if (pread(fd, buf, len, head.desc_offset + i * len) == len &&
		    !strcmp(desc->name, name) &&
		    pread(fd, &value, 8, head.data_offset + desc->offset) == 8)
			found = value;
	}
	free(buf);
	return found;
}

/* Let the guest add up what it reads. 0, or an errno of KVM_RUN, or -1 */
static int guest_sum(int vcpu, struct kvm_run *run, __u64 offset, __u64 bytes,
		     __u64 *sum)
{
	struct kvm_regs regs = {
		.rip = CODE, .rflags = 2, .r8 = SZ_2M,
		.rdi = BAR_GPA + offset, .rsi = BAR_GPA + offset + bytes,
	};

	if (ioctl(vcpu, KVM_SET_REGS, &regs))
		return -1;
	if (ioctl(vcpu, KVM_RUN, NULL))
		return errno;
	if (run->exit_reason != KVM_EXIT_HLT || ioctl(vcpu, KVM_GET_REGS, &regs))
		return -1;
	*sum = regs.rbx;
	return 0;
}

static __u64 host_sum(char *va, __u64 offset, __u64 bytes)
{
	__u64 sum = 0;

	for (__u64 o = offset; o < offset + bytes; o += SZ_2M)
		sum += load(va + o);
	return sum;
}

TEST_F_TIMEOUT(kvm, nested_leaves, MINUTES(5))
{
	const __u64 cut = SZ_1G + 7 * SZ_2M + 5 * SZ_4K;
	__u64 sum, want;
	char *other;
	int rc;

	/* The guest is the first to touch this mapping. */
	other = mmap(NULL, BAR_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		     self->fd.device, self->offset);
	ASSERT_NE(MAP_FAILED, other);
	for (__u64 o = 0; o < BAR_BYTES; o += SZ_2M)
		store(other + o, pattern(o));
	want = host_sum(other, 0, BAR_BYTES);
	rc = guest_sum(self->vcpu, self->run, 0, BAR_BYTES, &sum);
	ASSERT_EQ(0, rc) TH_LOG("exit %u: %s", self->run->exit_reason, strerror(rc));
	EXPECT_EQ(want, sum);
	EXPECT_EQ(self->max == THI_1G ? 4 : 0, vm_stat(self->stats, "pages_1g"));
	EXPECT_EQ(self->max == THI_2M ? 2048 : 0, vm_stat(self->stats, "pages_2m"));

	/* The host makes one page read-only, the guest reads on. */
	ASSERT_EQ(0, mprotect(self->bar + cut, SZ_4K, PROT_READ));
	ASSERT_EQ(0, guest_sum(self->vcpu, self->run, 0, BAR_BYTES, &sum));
	EXPECT_EQ(want, sum);
	EXPECT_EQ(self->max == THI_1G ? 3 : 0, vm_stat(self->stats, "pages_1g"));
	EXPECT_EQ(self->max == THI_1G ? 511 : self->max == THI_2M ? 2047 : 0,
		  vm_stat(self->stats, "pages_2m"));

	/* And takes it away: the guest cannot read it, but all around it. */
	ASSERT_EQ(0, munmap(self->bar + cut, SZ_4K));
	EXPECT_EQ(EFAULT, guest_sum(self->vcpu, self->run, cut, SZ_4K, &sum));
	ASSERT_EQ(0, guest_sum(self->vcpu, self->run, 0, BAR_BYTES, &sum));
	EXPECT_EQ(want, sum);

	/* When the device's memory goes, so does the guest's. */
	want = host_sum(other, 0, SZ_2M);
	ASSERT_EQ(0, memory_enable(&self->fd, config_offset(&self->fd), false));
	EXPECT_EQ(EFAULT, guest_sum(self->vcpu, self->run, 0, SZ_2M, &sum));
	ASSERT_EQ(0, memory_enable(&self->fd, config_offset(&self->fd), true));
	ASSERT_EQ(0, guest_sum(self->vcpu, self->run, 0, SZ_2M, &sum));
	EXPECT_EQ(want, sum);
	ASSERT_EQ(0, munmap(other, BAR_BYTES));
}

TEST_HARNESS_MAIN
