// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI BAR mapped through vfio-pci: where it goes, which leaves it has, how many
 * faults it takes, and what is left of it when the device's memory is disabled. By
 * the group and type1 interface, and by the device's own file and iommufd.
 */
#include "huge_iomap_vfio.h"

#include <limits.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "kselftest_harness.h"

FIXTURE(vfio) {
	char saved[16];
	struct vfio fd;
	int mem;
	__u64 bar, offset, config;	/* physical address, offsets in the file */
	char *area;			/* 4 GiB of address space */
	int max;			/* largest leaf that can be had */
};

FIXTURE_VARIANT(vfio) {
	bool group;
};

FIXTURE_VARIANT_ADD(vfio, group) { .group = true };
FIXTURE_VARIANT_ADD(vfio, cdev) { .group = false };

#define AREA	(4 * SZ_1G)

FIXTURE_SETUP(vfio)
{
	struct vfio_region_info info = { .argsz = sizeof(info) };

	self->fd.device = -1;
	read_line(LIMIT, self->saved, sizeof(self->saved));
	self->bar = bar_start();
	ASSERT_NE(0, self->bar);
	self->mem = open("/dev/mem", O_RDWR | O_SYNC);
	ASSERT_GE(self->mem, 0);
	ASSERT_EQ(0, bind_to("vfio-pci"));
	ASSERT_TRUE(variant->group ? open_group(&self->fd) : open_cdev(&self->fd))
		TH_LOG("%s", strerror(errno));
	info.index = VFIO_PCI_BAR2_REGION_INDEX;
	ASSERT_EQ(0, ioctl(self->fd.device, VFIO_DEVICE_GET_REGION_INFO, &info));
	self->offset = info.offset;
	self->config = config_offset(&self->fd);
	ASSERT_NE(0, self->config);
	self->max = fault_max_leaf();
	self->area = reserve(AREA);
	ASSERT_NE(NULL, self->area);
}

FIXTURE_TEARDOWN(vfio)
{
	if (self->saved[0])
		write_file(LIMIT, self->saved);
	munmap(self->area, AREA);
	close_vfio(&self->fd);
	bind_to("\n");
}

#define map_region(at, bytes, from, flags)				\
	mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (flags),	\
	     self->fd.device, self->offset + (from))

static long faults(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_SELF, &usage) ? -1 : usage.ru_minflt;
}

/* Faults that it takes to access all: reads, or writes of the pattern */
static long touch(char *va, __u64 offset, __u64 bytes, bool write)
{
	/* What is behind the BAR takes as much of the host's memory as is touched. */
	const __u64 step = bytes > 4 * SZ_1G ? SZ_1M : SZ_4K;
	long before = faults();

	for (__u64 o = 0; o < bytes; o += step) {
		if (write)
			store(va + o, pattern(offset + o));
		else
			load(va + o);
	}
	return faults() - before;
}

/* What has the BAR mapped when the device is opened decides; later, the device does. */
TEST_F_TIMEOUT(vfio, alias, MINUTES(2))
{
	char *other = self->area + 2 * SZ_1G;
	int wc = open(PCI_DEVICE "/resource2_wc", O_RDWR);

	if (wc < 0)
		SKIP(return, "no PAT: types are not tracked");
	ASSERT_EQ(self->area, map_region(self->area, SZ_1G, SZ_1G, MAP_FIXED));
	touch(self->area, 0, SZ_1G, false);
	ASSERT_EQ(other, map_at(wc, SZ_1G, other, 0, SZ_2M));
	EXPECT_EQ(THI_UC_MINUS, dump_type(self->area, SZ_1G));
	EXPECT_EQ(THI_UC_MINUS, dump_type(other, SZ_2M));
	ASSERT_EQ(0, munmap(self->area, SZ_1G));
	ASSERT_EQ(0, munmap(other, SZ_2M));
	close_vfio(&self->fd);

	ASSERT_EQ(other, map_at(wc, SZ_1G, other, 0, SZ_2M));
	EXPECT_EQ(THI_WC, dump_type(other, SZ_2M));
	ASSERT_TRUE(variant->group ? open_group(&self->fd) : open_cdev(&self->fd));
	ASSERT_EQ(self->area, map_region(self->area, SZ_1G, SZ_1G, MAP_FIXED));
	touch(self->area, 0, SZ_1G, false);
	EXPECT_EQ(THI_WC, dump_type(self->area, SZ_1G));
	ASSERT_EQ(0, munmap(other, SZ_2M));
	close(wc);
}

/* Instructions for a fault that maps 1 GiB: the best of some */
static long time_fault(struct vfio *fd, char *at, __u64 offset)
{
	long best = LONG_MAX;

	for (int i = 0; i < 8; i++) {
		struct timespec begin;
		long ns;

		if (mmap(at, SZ_1G, PROT_READ, MAP_SHARED | MAP_FIXED, fd->device,
			 offset) != at)
			return -1;
		clock_gettime(CLOCK_MONOTONIC, &begin);
		load(at + SZ_2M);
		ns = ns_since(&begin);
		best = ns < best ? ns : best;
	}
	return best;
}

/* What others have reserved in a block does not slow the fault that maps it down. */
TEST_F_TIMEOUT(vfio, many_reservations, MINUTES(2))
{
	enum { NR = 10000 };
	char *other = self->area + 2 * SZ_1G;
	long none, many;
	int res;

	if (!clock_counts_instructions())
		SKIP(return, "the clock does not count instructions");
	res = open(PCI_DEVICE "/resource2", O_RDWR);
	ASSERT_GE(res, 0);
	none = time_fault(&self->fd, self->area, self->offset + SZ_1G);
	for (int i = 0; i < NR; i++) {
		ASSERT_NE(MAP_FAILED, mmap(other + 2 * i * SZ_4K, SZ_4K, PROT_READ,
					   MAP_SHARED | MAP_FIXED, res,
					   SZ_1G + 3 * i * SZ_4K));
	}
	many = time_fault(&self->fd, self->area, self->offset + SZ_1G);
	TH_LOG("1 GiB: %ld instructions, with %d reservations in it %ld", none, NR, many);
	EXPECT_LT(many, 2 * none);
	munmap(other, 2 * NR * SZ_4K);
	close(res);
}

/* Faults install leaves at any time: the MTRRs stay while the device is open. */
TEST_F_TIMEOUT(vfio, mtrr, MINUTES(2))
{
	const int want = watched_leaf() >= THI_2M ? EBUSY : 0;

	if (access("/proc/mtrr", W_OK))
		SKIP(return, "no MTRRs");
	EXPECT_EQ(want, try_mtrr(self->bar + SZ_1G));
	ASSERT_EQ(self->area, map_region(self->area, AREA, 0, MAP_FIXED));
	touch(self->area, 0, AREA, false);
	EXPECT_EQ(want, try_mtrr(self->bar + SZ_1G));
	ASSERT_EQ(0, munmap(self->area, AREA));
	close_vfio(&self->fd);
	self->fd = (struct vfio) { -1, -1, -1 };
	EXPECT_EQ(0, try_mtrr(self->bar + SZ_1G));
}

/* One fault for each large leaf, and for each page table with pages of 4 KiB */
static __u64 ideal_faults(const struct ideal *ideal)
{
	return ideal->nr[THI_1G] + ideal->nr[THI_2M] +
	       (ideal->nr[THI_4K] ? ideal->tables : 0);
}

/* Faults besides those that are counted: the stack, the C library */
#define SLACK	4

TEST_F_TIMEOUT(vfio, plain_mmap, MINUTES(5))
{
	static const struct { __u64 offset, bytes; } range[] = {
		{ 0, 4 * SZ_1G }, { 0, 16 * SZ_1G }, { SZ_1G, SZ_1G },
		{ SZ_1G - SZ_2M, 2 * SZ_1G }, { SZ_4K, SZ_1G + SZ_2M },
		{ SZ_1M, 6 * SZ_1M }, { 3 * SZ_4K, SZ_1M },
	};

	for (int i = 0; i < ARRAY_SIZE(range); i++) {
		const __u64 offset = range[i].offset, bytes = range[i].bytes;
		long before = vm_pte("/proc/self/status"), nr;
		struct user_leaves leaves;
		struct ideal ideal;
		char *va;

		va = map_region(NULL, bytes, offset, 0);
		ASSERT_NE(MAP_FAILED, va);
		ideal = ideal_leaves((unsigned long)va, self->bar + offset, bytes,
				     self->max);
		nr = touch(va, offset, bytes < SZ_1G ? bytes : 4 * SZ_1M, true);
		nr += touch(va, offset, bytes, i & 1);
		EXPECT_LE(nr, ideal_faults(&ideal) + SLACK)
			TH_LOG("%llu bytes at %#llx", bytes, offset);
		ASSERT_TRUE(user_leaves(va, bytes, &leaves));
		EXPECT_EQ(ideal.nr[THI_1G], leaves.bytes[THI_1G] / SZ_1G);
		EXPECT_EQ(ideal.nr[THI_2M], leaves.bytes[THI_2M] / SZ_2M);
		EXPECT_EQ(ideal.nr[THI_4K], leaves.bytes[THI_4K] / SZ_4K);
		/* Above the PMD level: two tables at most */
		EXPECT_LE(vm_pte("/proc/self/status") - before,
			  4 * ideal.tables + 8);
		ASSERT_EQ(0, munmap(va, bytes));
	}
}

/* Nothing but 4 KiB fits: a fault maps what there is of 2 MiB. */
TEST_F_TIMEOUT(vfio, skewed, MINUTES(2))
{
	char *va = self->area + SZ_4K;
	struct user_leaves leaves;

	for (int write = 0; write < 2; write++) {
		ASSERT_EQ(va, map_region(va, SZ_1G, 0, MAP_FIXED));
		EXPECT_LE(touch(va, 0, SZ_1G, write), 514 + SLACK);
		ASSERT_TRUE(user_leaves(va, SZ_1G, &leaves));
		EXPECT_EQ(SZ_1G, leaves.bytes[THI_4K]);
	}
	for (__u64 o = 0; o < SZ_1G; o = next_page(o)) {
		__u32 *p = page_of(self->mem, self->bar + o);

		ASSERT_NE(NULL, p);
		ASSERT_EQ(pattern(o), *p) TH_LOG("%#llx", o);
		munmap(p, SZ_4K);
	}
}

/* Settings of transparent huge pages are not for devices. */
TEST_F_TIMEOUT(vfio, thp_disabled, MINUTES(2))
{
	struct ideal ideal;
	char *va;

	ASSERT_EQ(0, prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	va = map_region(NULL, 4 * SZ_1G, 0, 0);
	ASSERT_NE(MAP_FAILED, va);
	ideal = ideal_leaves((unsigned long)va, self->bar, 4 * SZ_1G, self->max);
	EXPECT_LE(touch(va, 0, 4 * SZ_1G, false), ideal_faults(&ideal) + SLACK);
	munmap(va, 4 * SZ_1G);
}

/* At an address that is congruent the leaves are as large as with huge_fault(). */
TEST_F_TIMEOUT(vfio, congruent, MINUTES(2))
{
	char *va = self->area;
	struct user_leaves leaves;

	ASSERT_EQ(va, map_region(va, SZ_1G, 0, MAP_FIXED));
	EXPECT_LE(touch(va, 0, SZ_1G, true),
		  (self->max == THI_1G ? 1 : 512) + SLACK);
	ASSERT_TRUE(user_leaves(va, SZ_1G, &leaves));
	EXPECT_EQ(SZ_1G, leaves.bytes[self->max]);
	EXPECT_EQ(0, differ(va, 0, 0, SZ_1G));
	ASSERT_EQ(0, munmap(va, SZ_1G));
}

TEST_F_TIMEOUT(vfio, madv_nohugepage, MINUTES(2))
{
	char *va = self->area;
	struct user_leaves leaves;

	ASSERT_EQ(va, map_region(va, SZ_1G, 0, MAP_FIXED));
	ASSERT_EQ(0, madvise(va, SZ_1G, MADV_NOHUGEPAGE));
	EXPECT_LE(touch(va, 0, SZ_1G, true), 512 + SLACK);
	ASSERT_TRUE(user_leaves(va, SZ_1G, &leaves));
	EXPECT_EQ(SZ_1G, leaves.bytes[THI_4K]);
	EXPECT_EQ(0, differ(va, 0, 0, SZ_1G));
}

TEST_F_TIMEOUT(vfio, limit, MINUTES(2))
{
	char *va = self->area;
	struct user_leaves leaves;

	if (user_max_leaf() < THI_2M)
		SKIP(return, "the limit is 4K already");
	ASSERT_EQ(0, write_file(LIMIT, "2M"));
	ASSERT_EQ(va, map_region(va, SZ_1G, 0, MAP_FIXED));
	EXPECT_LE(touch(va, 0, SZ_1G, true), 512 + SLACK);
	ASSERT_TRUE(user_leaves(va, SZ_1G, &leaves));
	EXPECT_EQ(SZ_1G, leaves.bytes[THI_2M]);
	EXPECT_EQ(0, differ(va, 0, 0, SZ_1G));
}

/* In the middle of a leaf there is a hole; the device's memory goes and comes back. */
TEST_F_TIMEOUT(vfio, partial_and_refault, MINUTES(2))
{
	const __u64 hole = 100 * SZ_2M + 3 * SZ_4K;
	char *va = self->area;
	__u32 v;

	ASSERT_EQ(va, map_region(va, SZ_1G, 0, MAP_FIXED));
	fill(va, 0, SZ_1G);
	ASSERT_EQ(0, munmap(va + hole, SZ_4K));
	ASSERT_EQ(0, memory_enable(&self->fd, self->config, false));
	EXPECT_EQ(SIGBUS, try_read(va, &v));
	EXPECT_EQ(SIGBUS, try_write(va + SZ_1G - SZ_4K, 0));
	ASSERT_EQ(0, memory_enable(&self->fd, self->config, true));
	EXPECT_EQ(0, differ(va, 0, 0, hole));
	EXPECT_EQ(0, differ(va, 0, hole + SZ_4K, SZ_1G));
	EXPECT_EQ(SIGSEGV, try_read(va + hole, &v));
}

TEST_F_TIMEOUT(vfio, write_after_mprotect, MINUTES(2))
{
	static const __u64 skews[] = { 0, SZ_2M, SZ_4K };

	for (int i = 0; i < ARRAY_SIZE(skews); i++) {
		char *va = self->area + skews[i];

		ASSERT_EQ(va, map_region(va, SZ_1G, 0, MAP_FIXED));
		fill(va, 0, SZ_1G);
		ASSERT_EQ(0, mprotect(va, SZ_1G, PROT_READ));
		EXPECT_EQ(SIGSEGV, try_write(va + SZ_2M, 1));
		ASSERT_EQ(0, write_file("/proc/self/clear_refs", "4"));
		ASSERT_EQ(0, mprotect(va, SZ_1G, PROT_READ | PROT_WRITE));
		EXPECT_EQ(0, try_write(va + SZ_2M, pattern(SZ_2M)));
		EXPECT_EQ(0, differ(va, 0, 0, SZ_1G));
		/* What is not mapped yet becomes read-only, and writable later. */
		ASSERT_EQ(va, map_region(va, SZ_1G, 0, MAP_FIXED));
		ASSERT_EQ(0, mprotect(va, SZ_1G, PROT_READ));
		EXPECT_EQ(0, differ(va, 0, 0, SZ_1G));
		EXPECT_EQ(SIGSEGV, try_write(va, 1));
		ASSERT_EQ(0, mprotect(va, SZ_1G, PROT_READ | PROT_WRITE));
		EXPECT_EQ(0, try_write(va, pattern(0)));
		ASSERT_EQ(0, munmap(va, SZ_1G));
	}
}

/* Threads that access the BAR, with SIGBUS or without */

struct user {
	char *va;
	__u64 first;
	int stop;
	long rounds, wrong, sigbus;
};

static __thread sigjmp_buf user_env;

static void user_sigbus(int sig)
{
	siglongjmp(user_env, sig);
}

static void *user(void *arg)
{
	struct user *u = arg;

	while (!load(&u->stop)) {
		if (sigsetjmp(user_env, 1)) {
			u->sigbus++;
			sched_yield();
		}
		for (__u64 o = u->first; o < SZ_1G; o += 61 * SZ_4K) {
			if (load(u->va + o) != pattern(o))
				u->wrong++;
			store(u->va + o, pattern(o));
		}
		u->rounds++;
	}
	return NULL;
}

TEST_F_TIMEOUT(vfio, disable_under_load, MINUTES(5))
{
	struct sigaction sa = { .sa_handler = user_sigbus, .sa_flags = SA_NODEFER };
	struct user u[2];
	pthread_t t[2];

	ASSERT_EQ(0, sigaction(SIGBUS, &sa, NULL));
	for (int skew = 0; skew < 2; skew++) {
		char *va = self->area + skew * SZ_4K;

		ASSERT_EQ(va, map_region(va, SZ_1G, 0, MAP_FIXED));
		touch(va, 0, SZ_1G, true);
		for (int i = 0; i < 2; i++) {
			u[i] = (struct user) { .va = va, .first = i * SZ_4K };
			ASSERT_EQ(0, pthread_create(&t[i], NULL, user, &u[i]));
		}
		for (int i = 0; i < 50; i++) {
			ASSERT_EQ(0, memory_enable(&self->fd, self->config, false));
			busy_wait(1000);
			ASSERT_EQ(0, memory_enable(&self->fd, self->config, true));
			busy_wait(1000);
		}
		for (int i = 0; i < 2; i++) {
			store(&u[i].stop, 1);
			ASSERT_EQ(0, pthread_join(t[i], NULL));
			EXPECT_EQ(0, u[i].wrong);
			EXPECT_LT(0, u[i].sigbus);
			EXPECT_LT(0, u[i].rounds);
		}
		touch(va, 0, SZ_4K, false);
		EXPECT_EQ(0, differ(va, 0, 0, SZ_1G));
	}
}

/* Many threads fault on the same pages at a time. */
TEST_F_TIMEOUT(vfio, faults_race, MINUTES(5))
{
	struct user u[4];
	pthread_t t[4];

	touch(map_region(self->area, SZ_1G, 0, MAP_FIXED), 0, SZ_1G, true);
	for (int round = 0; round < 60; round++) {
		static const __u64 skews[] = { 0, SZ_2M, SZ_4K };
		char *va = self->area + skews[round % 3];

		ASSERT_EQ(va, map_region(va, SZ_1G, 0, MAP_FIXED));
		for (int i = 0; i < 4; i++) {
			u[i] = (struct user) { .va = va };
			ASSERT_EQ(0, pthread_create(&t[i], NULL, user, &u[i]));
		}
		for (int i = 0; i < 4; i++) {
			store(&u[i].stop, 1);
			ASSERT_EQ(0, pthread_join(t[i], NULL));
			EXPECT_EQ(0, u[i].wrong);
		}
		ASSERT_EQ(0, munmap(self->area, SZ_1G + SZ_2M));
	}
}

TEST_F_TIMEOUT(vfio, fork_and_two_processes, MINUTES(2))
{
	char *va = self->area, *own;
	int status;
	pid_t pid;

	ASSERT_EQ(va, map_region(va, SZ_1G, 0, MAP_FIXED));
	fill(va, 0, SZ_1G);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		if (differ(va, 0, 0, SZ_1G))
			_exit(1);
		own = map_region(NULL, SZ_1G, 0, 0);
		if (own == MAP_FAILED || differ(own, 0, 0, SZ_1G))
			_exit(2);
		store(own + SZ_1M, 0xc411d);
		if (munmap(va + SZ_4K, SZ_4K))
			_exit(3);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0xc411d, load(va + SZ_1M));
	EXPECT_EQ(0, differ(va, 0, 0, SZ_1M - SZ_4K));
	EXPECT_EQ(0, differ(va, 0, SZ_2M, SZ_1G));
}

TEST_F_TIMEOUT(vfio, reset, MINUTES(2))
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	char *va = self->area;

	ASSERT_EQ(0, ioctl(self->fd.device, VFIO_DEVICE_GET_INFO, &info));
	if (!(info.flags & VFIO_DEVICE_FLAGS_RESET))
		SKIP(return, "the device has no reset");
	ASSERT_EQ(va, map_region(va, SZ_1G, 0, MAP_FIXED));
	fill(va, 0, SZ_1G);
	ASSERT_EQ(0, ioctl(self->fd.device, VFIO_DEVICE_RESET));
	ASSERT_EQ(0, memory_enable(&self->fd, self->config, true));
	EXPECT_EQ(0, differ(va, 0, 0, SZ_1G));
}

TEST_F_TIMEOUT(vfio, refused, MINUTES(2))
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR2_REGION_INDEX,
	};

	ASSERT_EQ(0, ioctl(self->fd.device, VFIO_DEVICE_GET_REGION_INFO, &info));
	EXPECT_EQ(MAP_FAILED, map_region(NULL, SZ_4K, info.size, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, map_region(NULL, SZ_2M, info.size - SZ_1M, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_PRIVATE,
				   self->fd.device, self->offset));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED,
				   self->fd.device, self->config));
	EXPECT_EQ(EINVAL, errno);
}

/* RAM, the BAR and RAM again in one DMA mapping: each page is unpinned, once. */
TEST_F_TIMEOUT(vfio, dma, MINUTES(2))
{
	static const struct { __u64 ram, bar, skew; } layout[] = {
		{ 0, 4 * SZ_1G, 0 }, { SZ_2M, SZ_1G, 0 }, { SZ_1M, SZ_1G, SZ_4K },
		{ SZ_2M, SZ_2M, SZ_2M }, { SZ_4K, SZ_4K, 0 },
	};

	if (!variant->group)
		SKIP(return, "type1 belongs to the group interface");
	for (int i = 0; i < ARRAY_SIZE(layout); i++) {
		const __u64 ram = layout[i].ram, bar = layout[i].bar;
		const __u64 bytes = 2 * ram + bar;
		char *space = reserve(bytes + 2 * SZ_1G), *va;
		struct vfio_iommu_type1_dma_map map = {
			.argsz = sizeof(map), .size = bytes, .iova = 0x100000000,
			.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		};
		struct vfio_iommu_type1_dma_unmap unmap = {
			.argsz = sizeof(unmap), .iova = map.iova, .size = bytes,
		};
		long before = status_kib("/proc/self/status", "VmLck");

		ASSERT_NE(NULL, space);
		/* The BAR at a multiple of 1 GiB, or skewed against it */
		va = space + SZ_1G - ram + layout[i].skew;
		ASSERT_EQ(va + ram, map_region(va + ram, bar, 0, MAP_FIXED));
		map.vaddr = (unsigned long)va;
		for (int round = 0; round < 3; round++) {
			ASSERT_EQ(0, ioctl(self->fd.container, VFIO_IOMMU_MAP_DMA, &map))
				TH_LOG("%d: %m", i);
			EXPECT_EQ(2 * ram / 1024,
				  status_kib("/proc/self/status", "VmLck") - before);
			ASSERT_EQ(0, ioctl(self->fd.container, VFIO_IOMMU_UNMAP_DMA,
					   &unmap));
			EXPECT_EQ(bytes, unmap.size);
			EXPECT_EQ(before, status_kib("/proc/self/status", "VmLck"));
		}
		ASSERT_EQ(0, munmap(space, bytes + 2 * SZ_1G));
	}
}

/* Leaves are no larger than the MTRRs allow. */
FIXTURE(vfio_type) {
	__u64 mtrr;		/* its base, or 0 */
};

FIXTURE_SETUP(vfio_type)
{
	__u64 base = bar_start() + SZ_1G + SZ_1G / 2;
	int err;

	if (access("/sys/bus/pci/drivers/vfio-pci", F_OK))
		SKIP(return, "no vfio-pci: CONFIG_VFIO_PCI is not set");
	err = set_mtrr(base, SZ_2M, "write-combining");
	if (err)
		SKIP(return, "no MTRR to set: %s", strerror(err));
	self->mtrr = base;
	ASSERT_EQ(0, bind_to("vfio-pci"));
}

FIXTURE_TEARDOWN(vfio_type)
{
	if (!self->mtrr)
		return;
	clear_mtrr(self->mtrr);
	bind_to("\n");
}

/* An MTRR for 2 MiB in the second GiB of the BAR, at 512 MiB */
TEST_F_TIMEOUT(vfio_type, mtrr_inside, MINUTES(2))
{
	struct vfio_region_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_BAR2_REGION_INDEX,
	};
	struct user_leaves leaves;
	char *va = reserve(2 * SZ_1G);
	struct vfio fd;

	ASSERT_TRUE(open_cdev(&fd));
	ASSERT_NE(NULL, va);
	ASSERT_EQ(0, ioctl(fd.device, VFIO_DEVICE_GET_REGION_INFO, &info));
	ASSERT_EQ(va, mmap(va, 2 * SZ_1G, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_FIXED, fd.device, info.offset + SZ_1G));
	fill(va, SZ_1G, 2 * SZ_1G);
	ASSERT_TRUE(user_leaves(va, SZ_1G, &leaves));
	EXPECT_EQ(0, leaves.bytes[THI_1G]);
	EXPECT_EQ(SZ_1G, leaves.bytes[fault_max_leaf() == THI_4K ? THI_4K : THI_2M]);
	EXPECT_EQ(0, differ(va, SZ_1G, 0, 2 * SZ_1G));
	munmap(va, 2 * SZ_1G);
	close_vfio(&fd);
}

TEST_HARNESS_MAIN
