// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI BAR, mapped through vfio-pci, as memory of a KVM guest: the nested leaves are
 * as large as the host's, and follow when those are split.
 */
#include "huge_iomap_vfio.h"

#include <limits.h>
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
	bool two_tables;	/* the CPU walks the guest's tables and KVM's */
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

static int set_slot_flags(int vm, int slot, int flags, __u64 gpa, __u64 bytes, void *va)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .flags = flags, .guest_phys_addr = gpa,
		.memory_size = bytes, .userspace_addr = (unsigned long)va,
	};

	return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static int set_slot(int vm, int slot, __u64 gpa, __u64 bytes, void *va)
{
	return set_slot_flags(vm, slot, 0, gpa, bytes, va);
}

/* Map memory for the guest, as its read faults would. 0 or an errno */
static int prefault(int vcpu, __u64 gpa, __u64 bytes)
{
	struct kvm_pre_fault_memory range = { .gpa = gpa, .size = bytes };

	while (range.size) {
		if (ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range) && errno != EINTR)
			return errno;
	}
	return 0;
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
	self->two_tables = ioctl(self->kvm, KVM_CHECK_EXTENSION,
				 KVM_CAP_PRE_FAULT_MEMORY) > 0;
	self->max = fault_max_leaf();
	/* One table for both has leaves no larger than the guest's. */
	if (!self->two_tables && self->max == THI_1G)
		self->max = THI_2M;
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

/* How many leaves of each size the guest has; false on error */
static bool count_nested(int stats, long nr[THI_NR_LEAF])
{
	nr[THI_4K] = vm_stat(stats, "pages_4k");
	nr[THI_2M] = vm_stat(stats, "pages_2m");
	nr[THI_1G] = vm_stat(stats, "pages_1g");
	return nr[THI_4K] >= 0 && nr[THI_2M] >= 0 && nr[THI_1G] >= 0;
}

/*
 * A nested leaf is no larger than the host's, than what is congruent in both address
 * spaces, and than what the slot has of it.
 */
TEST_F_TIMEOUT(kvm, slots, MINUTES(5))
{
	static const struct {
		__u64 from, gpa, bytes;
		long nr[THI_NR_LEAF];
	} slots[] = {
		{ 0, 0, 2 * SZ_1G, { 0, 0, 2 } },
		{ 0, SZ_2M, 2 * SZ_1G, { 0, 1024, 0 } },
		{ SZ_2M, SZ_2M, 2 * SZ_1G, { 0, 512, 1 } },
		{ SZ_1G, SZ_4K, 2 * SZ_2M, { 1024, 0, 0 } },
		{ SZ_1G + SZ_2M + SZ_4K, SZ_4K, 2 * SZ_2M, { 512, 1, 0 } },
	};
	const bool has_1g = self->max == THI_1G;
	long nr[THI_NR_LEAF];
	__u64 sum;

	if (self->max == THI_4K || !self->two_tables)
		SKIP(return, "no huge leaves, or no nested paging");
	for (__u64 o = 0; o < BAR_BYTES; o += SZ_4K * 511)
		store(self->bar + o, pattern(o));
	for (int i = 0; i < ARRAY_SIZE(slots); i++) {
		const __u64 from = slots[i].from, bytes = slots[i].bytes;
		const long *want = slots[i].nr;

		ASSERT_EQ(0, set_slot(self->vm, 1, BAR_GPA, 0, NULL));
		ASSERT_TRUE(count_nested(self->stats, nr));
		EXPECT_EQ(0, nr[THI_4K] + nr[THI_2M] + nr[THI_1G]);

		ASSERT_EQ(0, set_slot(self->vm, 1, BAR_GPA + slots[i].gpa, bytes,
				      self->bar + from));
		ASSERT_EQ(0, prefault(self->vcpu, BAR_GPA + slots[i].gpa, bytes));
		ASSERT_TRUE(count_nested(self->stats, nr));
		EXPECT_EQ(want[THI_4K], nr[THI_4K]) TH_LOG("%d", i);
		EXPECT_EQ(want[THI_2M] + (has_1g ? 0 : 512 * want[THI_1G]), nr[THI_2M])
			TH_LOG("%d", i);
		EXPECT_EQ(has_1g ? want[THI_1G] : 0, nr[THI_1G]) TH_LOG("%d", i);

		ASSERT_EQ(0, guest_sum(self->vcpu, self->run, slots[i].gpa, bytes, &sum));
		EXPECT_EQ(host_sum(self->bar, from, bytes), sum) TH_LOG("%d", i);
	}
}

/* The log of writes needs small leaves. After it KVM looks the large ones up again. */
TEST_F_TIMEOUT(kvm, log_writes, MINUTES(5))
{
	const long nr_2m = self->max == THI_2M ? 512 : 0, nr_1g = self->max == THI_1G;
	long nr[THI_NR_LEAF];

	if (self->max == THI_4K || !self->two_tables)
		SKIP(return, "no huge leaves, or no nested paging");
	if (!file_has("/sys/module/kvm/parameters/tdp_mmu", "Y"))
		SKIP(return, "huge leaves come back with a fault only");
	ASSERT_EQ(0, set_slot(self->vm, 1, BAR_GPA, 0, NULL));
	ASSERT_EQ(0, set_slot(self->vm, 1, BAR_GPA, SZ_1G, self->bar));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, prefault(self->vcpu, BAR_GPA, SZ_1G));
		ASSERT_TRUE(count_nested(self->stats, nr));
		EXPECT_EQ(0, nr[THI_4K]);
		EXPECT_EQ(nr_2m, nr[THI_2M]);
		EXPECT_EQ(nr_1g, nr[THI_1G]);

		ASSERT_EQ(0, set_slot_flags(self->vm, 1, KVM_MEM_LOG_DIRTY_PAGES, BAR_GPA,
					    SZ_1G, self->bar));
		ASSERT_EQ(0, prefault(self->vcpu, BAR_GPA + 5 * SZ_2M, SZ_4K));
		ASSERT_TRUE(count_nested(self->stats, nr));
		EXPECT_LT(0, nr[THI_4K]);
		EXPECT_EQ(0, nr[THI_1G]);

		ASSERT_EQ(0, set_slot(self->vm, 1, BAR_GPA, SZ_1G, self->bar));
		ASSERT_TRUE(count_nested(self->stats, nr));
		EXPECT_EQ(0, nr[THI_4K]);
		EXPECT_EQ(nr_2m, nr[THI_2M]);
		EXPECT_EQ(nr_1g, nr[THI_1G]);
	}
}

/* Where the guest has less at once than the host, a split leaves other GiBs alone. */
TEST_F_TIMEOUT(kvm, split, MINUTES(5))
{
	const __u64 gpa = BAR_GPA + SZ_2M, cut = SZ_1G + 7 * SZ_2M + 5 * SZ_4K;
	long nr[THI_NR_LEAF];
	__u64 sum, want;

	if (self->max != THI_1G)
		SKIP(return, "no leaves of 1 GiB");
	for (__u64 o = 0; o < 2 * SZ_1G; o += SZ_2M)
		store(self->bar + o, pattern(o));
	want = host_sum(self->bar, 0, 2 * SZ_1G);
	ASSERT_EQ(0, set_slot(self->vm, 1, BAR_GPA, 0, NULL));
	ASSERT_EQ(0, set_slot(self->vm, 1, gpa, 2 * SZ_1G, self->bar));
	ASSERT_EQ(0, prefault(self->vcpu, gpa, 2 * SZ_1G));
	EXPECT_EQ(1024, vm_stat(self->stats, "pages_2m"));

	ASSERT_EQ(0, munmap(self->bar + cut, SZ_4K));
	ASSERT_TRUE(count_nested(self->stats, nr));
	EXPECT_LE(512, nr[THI_2M]);
	EXPECT_GT(1024, nr[THI_2M]);
	EXPECT_EQ(EFAULT, guest_sum(self->vcpu, self->run, SZ_2M + cut, SZ_4K, &sum));
	ASSERT_EQ(0, guest_sum(self->vcpu, self->run, SZ_2M, 2 * SZ_1G, &sum));
	EXPECT_EQ(want, sum);
	EXPECT_EQ(1023, vm_stat(self->stats, "pages_2m"));
}

/* The fewest ns to map a page for the guest, of a few hundred pages; -1 on error */
static long least_ns(int vcpu, __u64 gpa)
{
	long least = LONG_MAX;

	for (__u64 end = gpa + SZ_2M; gpa < end; gpa += SZ_4K) {
		struct timespec begin;
		long ns;

		clock_gettime(CLOCK_MONOTONIC, &begin);
		if (prefault(vcpu, gpa, SZ_4K))
			return -1;
		ns = ns_since(&begin);
		if (ns < least)
			least = ns;
	}
	return least;
}

/*
 * If no huge leaf is possible KVM need not ask how large the host's is. If one is, the
 * lookup of the page has told that: it costs the same.
 */
TEST_F_TIMEOUT(kvm, cost_of_size, MINUTES(2))
{
	const __u64 bytes = 2 * SZ_2M, apart = BAR_GPA + SZ_1G + SZ_4K;
	long asked, other;
	char *va;

	if (!clock_counts_instructions() || !self->two_tables)
		SKIP(return, "not counting instructions, or no nested paging");
	va = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd.device,
		  self->offset);
	ASSERT_NE(MAP_FAILED, va);
	ASSERT_EQ(0, (unsigned long)va % SZ_2M);
	ASSERT_EQ(0, madvise(va, bytes, MADV_NOHUGEPAGE));
	for (__u64 o = 0; o < bytes; o += SZ_4K)
		load(va + o);

	ASSERT_EQ(0, set_slot(self->vm, 1, BAR_GPA, 0, NULL));
	ASSERT_EQ(0, set_slot(self->vm, 1, BAR_GPA, bytes, va));
	asked = least_ns(self->vcpu, BAR_GPA);
	ASSERT_LT(0, asked);
	ASSERT_EQ(0, set_slot(self->vm, 1, BAR_GPA, 0, NULL));
	ASSERT_EQ(0, set_slot(self->vm, 1, apart, bytes, va));
	other = least_ns(self->vcpu, apart - SZ_4K + SZ_2M);
	ASSERT_LT(0, other);
	TH_LOG("%ld instructions, %ld if it can only be a page", asked, other);
	EXPECT_LT(asked, other + 30);
	ASSERT_EQ(0, munmap(va, bytes));
}

TEST_HARNESS_MAIN
