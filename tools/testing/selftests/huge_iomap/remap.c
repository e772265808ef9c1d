// SPDX-License-Identifier: GPL-2.0
/*
 * User mappings of a PCI BAR made by remap_pfn_range(): through sysfs, /dev/mem and
 * the test driver, with leaves of each size. Parts of a leaf are unmapped, changed,
 * moved and zapped; the rest has to stay what it was.
 */
#include "huge_iomap_user.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#define AREA		(4 * SZ_1G)

enum path { SYSFS, DEV_MEM, DRIVER };

FIXTURE(remap) {
	char saved[16];
	int fd, thi, mem;
	__u64 bar, base;	/* physical address, file offset of the BAR */
	char *area;
	int max;		/* largest leaf that can be had */
	long tables;
};

FIXTURE_VARIANT(remap) {
	enum path path;
	const char *limit;
};

FIXTURE_VARIANT_ADD(remap, sysfs_4k) { .path = SYSFS, .limit = "4K" };
FIXTURE_VARIANT_ADD(remap, sysfs_2m) { .path = SYSFS, .limit = "2M" };
FIXTURE_VARIANT_ADD(remap, sysfs_1g) { .path = SYSFS, .limit = "1G" };
FIXTURE_VARIANT_ADD(remap, devmem_4k) { .path = DEV_MEM, .limit = "4K" };
FIXTURE_VARIANT_ADD(remap, devmem_2m) { .path = DEV_MEM, .limit = "2M" };
FIXTURE_VARIANT_ADD(remap, devmem_1g) { .path = DEV_MEM, .limit = "1G" };
FIXTURE_VARIANT_ADD(remap, driver_1g) { .path = DRIVER, .limit = "1G" };

FIXTURE_SETUP(remap)
{
	struct test_huge_iomap_bar bar;
	struct user_leaves leaves;

	self->thi = open_driver();
	ASSERT_GE(self->thi, 0) TH_LOG(DEVICE ": %s", strerror(errno));
	ASSERT_EQ(0, ioctl(self->thi, THI_BAR, &bar));
	self->bar = bar.start;
	self->mem = open("/dev/mem", O_RDWR | O_SYNC);
	ASSERT_GE(self->mem, 0);

	self->fd = -1;
	if (read_line(LIMIT, self->saved, sizeof(self->saved)) &&
	    write_file(LIMIT, variant->limit))
		SKIP(return, "nohugeiomap does not allow %s", variant->limit);

	self->max = user_max_leaf();
	switch (variant->path) {
	case SYSFS:
		self->fd = open(PCI_DEVICE "/resource2", O_RDWR | O_SYNC);
		break;
	case DEV_MEM:
		self->fd = self->mem;
		self->base = bar.start;
		break;
	case DRIVER:
		self->fd = self->thi;
		break;
	}
	ASSERT_GE(self->fd, 0) TH_LOG("%s", strerror(errno));
	self->area = reserve(AREA);
	ASSERT_NE(NULL, self->area);

	/* What the helpers need has its page tables then. */
	for (int i = 0; i < 2; i++) {
		ASSERT_TRUE(user_leaves(self->area, SZ_4K, &leaves))
			TH_LOG(PAGE_TABLES);
		ASSERT_LT(0, vm_pte("/proc/self/status"));
	}
}

FIXTURE_TEARDOWN(remap)
{
	if (self->saved[0])
		write_file(LIMIT, self->saved);
}

#define map_bar(addr, bytes, offset, flags)				\
	mmap(addr, bytes, PROT_READ | PROT_WRITE, flags, self->fd,	\
	     self->base + (offset))

TEST_F_TIMEOUT(remap, leaves, MINUTES(2))
{
	static const struct { __u64 offset, bytes; } range[] = {
		{ 0, SZ_4K }, { 0, SZ_2M }, { 0, SZ_1G }, { 0, 2 * SZ_1G },
		{ SZ_4K, SZ_2M }, { SZ_2M - SZ_4K, 2 * SZ_2M },
		{ SZ_1G - SZ_4K, SZ_1G + 2 * SZ_4K },
		{ SZ_1G - SZ_2M, SZ_1G + 2 * SZ_2M },
		{ SZ_1M, 2 * SZ_1G },
	};

	for (int i = 0; i < ARRAY_SIZE(range); i++) {
		const __u64 offset = range[i].offset, bytes = range[i].bytes;
		char *va = self->area + offset;
		struct ideal ideal = ideal_leaves((unsigned long)va,
						  self->bar + offset, bytes,
						  self->max);
		long before = vm_pte("/proc/self/status");

		ASSERT_EQ(va, map_at(self->fd, self->base, va, offset, bytes));
		EXPECT_LEAVES(va, bytes, ideal.nr[THI_4K], ideal.nr[THI_2M],
			      ideal.nr[THI_1G]);
		EXPECT_EQ(ideal.tables * 4,
			  vm_pte("/proc/self/status") - before)
			TH_LOG("offset %#llx, %#llx bytes", offset, bytes);
		/* All of it: tables at the edges serve the neighbours too. */
		ASSERT_EQ(0, munmap(self->area, AREA));
		EXPECT_EQ(before, vm_pte("/proc/self/status"));
	}
}

TEST_F_TIMEOUT(remap, contents, MINUTES(2))
{
	const __u64 offset = SZ_1G - SZ_2M - SZ_4K, bytes = SZ_1G + 4 * SZ_2M;
	char *va = self->area + offset;

	ASSERT_EQ(va, map_at(self->fd, self->base, va, offset, bytes));
	fill(va, offset, bytes);
	for (__u64 o = 0; o < bytes; o = next_page(o)) {
		__u32 *p = page_of(self->mem, self->bar + offset + o);

		ASSERT_NE(NULL, p);
		ASSERT_EQ(pattern(offset + o), *p) TH_LOG("%#llx", offset + o);
		munmap(p, SZ_4K);
	}
	EXPECT_EQ(0, differ(va, offset, 0, bytes));
}

TEST_F_TIMEOUT(remap, private_is_4k, MINUTES(2))
{
	char *va = self->area;

	if (variant->path == DRIVER)
		SKIP(return, "the driver's mmap() is for shared mappings");
	ASSERT_EQ(va, mmap(va, 2 * SZ_2M, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_FIXED, self->fd, self->base));
	EXPECT_LEAVES(va, 2 * SZ_2M, 1024, 0, 0);
}

/* What can never be written to is never copied. */
TEST_F_TIMEOUT(remap, read_only, MINUTES(2))
{
	const int flags[] = { MAP_SHARED, MAP_PRIVATE };
	char *va = self->area, path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->fd);
	fd = open(path, O_RDONLY | O_SYNC);
	ASSERT_GE(fd, 0) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G));
	fill(va, 0, SZ_1G);
	/* A private mapping of a file can be written to, unless the driver says no. */
	for (int i = 0; i < (variant->path == DRIVER ? 2 : 1); i++) {
		ASSERT_EQ(va, mmap(va, SZ_1G, PROT_READ, flags[i] | MAP_FIXED, fd,
				   self->base));
		EXPECT_LEAVES(va, SZ_1G, self->max == THI_4K ? SZ_1G / SZ_4K : 0,
			      self->max == THI_2M ? 512 : 0, self->max == THI_1G);
		EXPECT_EQ(0, differ(va, 0, 0, SZ_1G));
		EXPECT_EQ(SIGSEGV, try_write(va, 1));
		EXPECT_EQ(-1, mprotect(va, SZ_4K, PROT_READ | PROT_WRITE));
		EXPECT_EQ(EACCES, errno);
		/* A part of it can be cut out as of any other. */
		EXPECT_EQ(0, munmap(va + SZ_2M + SZ_4K, SZ_4K));
		EXPECT_EQ(1, differ(va, 0, 0, SZ_1G));
	}
	close(fd);
}

/* A driver that maps again what has a leaf gets an error. Only that part is zapped. */
TEST_F_TIMEOUT(remap, mapped_twice, MINUTES(2))
{
	const __u64 sizes[] = { SZ_2M, SZ_1G };
	struct test_huge_iomap_zap again = { .bytes = SZ_4K };
	char *va = self->area;

	if (variant->path != DRIVER || self->max == THI_4K)
		SKIP(return, "no driver to do that, or no leaf");
	for (int i = 0; i < self->max; i++) {
		ASSERT_EQ(va, map_at(self->fd, 0, va, 0, sizes[i]));
		fill(va, 0, sizes[i]);
		again.addr = (unsigned long)va + sizes[i] - 2 * SZ_4K;
		EXPECT_EQ(-1, ioctl(self->thi, THI_REMAP, &again));
		EXPECT_EQ(EBUSY, errno);
		EXPECT_EQ(1, differ(va, 0, 0, sizes[i]));
		ASSERT_EQ(va, map_at(self->fd, 0, va, 0, sizes[i]));
		EXPECT_EQ(0, differ(va, 0, 0, sizes[i]));
	}
}

enum cut { UNMAP, PROTECT, DONTFORK, LOCK, MOVE, NR_CUTS };

static int do_cut(enum cut cut, char *page)
{
	void *to;

	switch (cut) {
	case UNMAP:
		return munmap(page, SZ_4K);
	case PROTECT:
		return mprotect(page, SZ_4K, PROT_READ);
	case DONTFORK:
		return madvise(page, SZ_4K, MADV_DONTFORK);
	case LOCK:
		return mlock(page, SZ_4K);
	case MOVE:
		to = mmap(NULL, SZ_4K, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		return mremap(page, SZ_4K, SZ_4K, MREMAP_MAYMOVE | MREMAP_FIXED,
			      to) == to ? 0 : -1;
	default:
		return -1;
	}
}

TEST_F_TIMEOUT(remap, cut_one_page, MINUTES(2))
{
	static const __u64 at[] = { 0, SZ_4K, SZ_2M, 100 * SZ_2M + 7 * SZ_4K,
				    SZ_1G - SZ_4K };
	char *va = self->area;
	__u32 v;

	ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G));
	fill(va, 0, SZ_1G);
	for (int c = 0; c < NR_CUTS; c++) {
		for (int i = 0; i < ARRAY_SIZE(at); i++) {
			const bool gone = c == UNMAP || c == MOVE;
			const __u64 o = at[i];
			long before;

			/* The leaf is whole again. */
			ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G));
			*(__u32 *)(va + o) = pattern(o);
			before = vm_pte("/proc/self/status");
			ASSERT_EQ(0, do_cut(c, va + o)) TH_LOG("%d: %m", c);
			/*
			 * mlock() leaves device memory alone. The page that
			 * moves may take tables of its own.
			 */
			if (c != MOVE) {
				EXPECT_EQ(c == LOCK ? 0 : 4 * tables_of_cut(self->max),
					  vm_pte("/proc/self/status") - before)
					TH_LOG("cut %d at %#llx", c, o);
			}
			EXPECT_EQ(gone ? SIGSEGV : 0, try_read(va + o, &v));
			EXPECT_EQ(gone || c == PROTECT ? SIGSEGV : 0,
				  try_write(va + o, pattern(o)));
			EXPECT_EQ(0, differ(va, 0, 0, o));
			EXPECT_EQ(0, differ(va, 0, o + SZ_4K, SZ_1G));
		}
	}
	ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G));
	ASSERT_EQ(0, mprotect(va + 5 * SZ_2M + SZ_4K, SZ_4K, PROT_READ));
	switch (self->max) {
	case THI_1G:
	case THI_2M:
		EXPECT_LEAVES(va, SZ_1G, 512, 511, 0);
		break;
	default:
		EXPECT_LEAVES(va, SZ_1G, 512 * 512, 0, 0);
	}
}

TEST_F_TIMEOUT(remap, write_after_mprotect, MINUTES(2))
{
	char *va = self->area;
	struct user_leaves before, after;

	for (int soft = 0; soft < 2; soft++) {
		ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G + SZ_2M + SZ_4K));
		fill(va, 0, SZ_1G + SZ_2M + SZ_4K);
		ASSERT_TRUE(user_leaves(va, SZ_1G + SZ_2M + SZ_4K, &before));
		ASSERT_EQ(0, soft ? write_file("/proc/self/clear_refs", "4") : 0);
		ASSERT_EQ(0, mprotect(va, SZ_1G + SZ_2M + SZ_4K, PROT_READ));
		EXPECT_EQ(SIGSEGV, try_write(va + SZ_2M, 1));
		ASSERT_TRUE(user_leaves(va, SZ_1G + SZ_2M + SZ_4K, &after));
		EXPECT_EQ(0, after.writable);
		ASSERT_EQ(0, mprotect(va, SZ_1G + SZ_2M + SZ_4K, PROT_NONE));
		EXPECT_EQ(SIGSEGV, try_write(va + SZ_2M, 1));
		ASSERT_EQ(0, mprotect(va, SZ_1G + SZ_2M + SZ_4K,
				      PROT_READ | PROT_WRITE));
		EXPECT_EQ(0, try_write(va + SZ_2M, 0x11));
		EXPECT_EQ(0, try_write(va + SZ_1G, 0x12));
		EXPECT_EQ(0, try_write(va + SZ_1G + SZ_2M, 0x13));
		EXPECT_EQ(0x11, *(__u32 *)(va + SZ_2M));
		*(__u32 *)(va + SZ_2M) = pattern(SZ_2M);
		*(__u32 *)(va + SZ_1G) = pattern(SZ_1G);
		*(__u32 *)(va + SZ_1G + SZ_2M) = pattern(SZ_1G + SZ_2M);
		EXPECT_EQ(0, differ(va, 0, 0, SZ_1G + SZ_2M + SZ_4K));
		ASSERT_TRUE(user_leaves(va, SZ_1G + SZ_2M + SZ_4K, &after));
		for (int i = 0; i < THI_NR_LEAF; i++) {
			EXPECT_EQ(before.bytes[i], after.bytes[i])
				TH_LOG("%s, soft-dirty %d", leaf_names[i], soft);
		}
	}
}

/* A leaf that cannot be accessed now is not lost either. */
TEST_F_TIMEOUT(remap, cut_without_access, MINUTES(2))
{
	char *va = self->area, *page = va + 3 * SZ_2M + SZ_4K;
	__u32 v;

	ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G));
	fill(va, 0, SZ_1G);
	ASSERT_EQ(0, mprotect(va, SZ_1G, PROT_NONE));
	ASSERT_EQ(0, munmap(page, SZ_4K));
	EXPECT_EQ(SIGSEGV, try_read(va, &v));
	ASSERT_EQ(0, mprotect(va, page - va, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, mprotect(page + SZ_4K, va + SZ_1G - page - SZ_4K,
			      PROT_READ | PROT_WRITE));
	EXPECT_EQ(SIGSEGV, try_read(page, &v));
	EXPECT_EQ(0, differ(va, 0, 0, page - va));
	EXPECT_EQ(0, differ(va, 0, page - va + SZ_4K, SZ_1G));
	EXPECT_EQ(0, try_write(va, pattern(0)));
}

TEST_F_TIMEOUT(remap, move, MINUTES(2))
{
	char *va = self->area, *to = self->area + 2 * SZ_1G;
	const __u64 b4 = SZ_1G / SZ_4K, b2 = SZ_1G / SZ_2M;

	/* Congruent modulo 1 GiB, 2 MiB and 4 KiB. */
	ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G));
	fill(va, 0, SZ_1G);
	ASSERT_EQ(to, mremap(va, SZ_1G, SZ_1G, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_EQ(0, differ(to, 0, 0, SZ_1G));
	EXPECT_LEAVES(to, SZ_1G, self->max == THI_4K ? b4 : 0,
		      self->max == THI_2M ? b2 : 0, self->max == THI_1G ? 1 : 0);

	ASSERT_EQ(va + SZ_2M, mremap(to, SZ_1G, SZ_1G,
				     MREMAP_MAYMOVE | MREMAP_FIXED, va + SZ_2M));
	EXPECT_EQ(0, differ(va + SZ_2M, 0, 0, SZ_1G));
	EXPECT_LEAVES(va + SZ_2M, SZ_1G, self->max == THI_4K ? b4 : 0,
		      self->max == THI_4K ? 0 : b2, 0);

	ASSERT_EQ(to + SZ_4K, mremap(va + SZ_2M, SZ_1G, SZ_1G,
				     MREMAP_MAYMOVE | MREMAP_FIXED, to + SZ_4K));
	EXPECT_EQ(0, differ(to + SZ_4K, 0, 0, SZ_1G));
	EXPECT_LEAVES(to + SZ_4K, SZ_1G, b4, 0, 0);
}

/* A protection key on one page: no access to that page, all others as before */
TEST_F_TIMEOUT(remap, cut_by_key, MINUTES(2))
{
	char *va = self->area, *page = va + 7 * SZ_2M + SZ_4K;
	int key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
	long before;
	__u32 v;

	if (key < 0)
		SKIP(return, "no protection keys: %m");
	ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G));
	fill(va, 0, SZ_1G);
	/* The frame of a signal may take a page table for the stack. */
	EXPECT_EQ(SIGSEGV, try_read(NULL, &v));
	before = vm_pte("/proc/self/status");
	ASSERT_EQ(0, pkey_mprotect(page, SZ_4K, PROT_READ | PROT_WRITE, key));
	EXPECT_EQ(4 * tables_of_cut(self->max), vm_pte("/proc/self/status") - before);
	EXPECT_EQ(SIGSEGV, try_read(page, &v));
	EXPECT_EQ(0, differ(va, 0, 0, page - va));
	EXPECT_EQ(0, differ(va, 0, page - va + SZ_4K, SZ_1G));
	/* On the whole leaf, it stays one. */
	ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G));
	ASSERT_EQ(0, pkey_mprotect(va, SZ_1G, PROT_READ, key));
	EXPECT_EQ(SIGSEGV, try_read(page, &v));
	ASSERT_EQ(0, pkey_mprotect(va, SZ_1G, PROT_READ | PROT_WRITE, 0));
	EXPECT_EQ(0, try_write(page, pattern(page - va)));
	EXPECT_EQ(0, differ(va, 0, 0, SZ_1G));
	EXPECT_EQ(before, vm_pte("/proc/self/status"));
	pkey_free(key);
}

/* mremap() that does not move: shrink works, what is refused changes nothing */
TEST_F_TIMEOUT(remap, resize, MINUTES(2))
{
	char *va = self->area;
	struct user_leaves before, after;
	__u32 v;

	ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G));
	fill(va, 0, SZ_1G);
	ASSERT_TRUE(user_leaves(va, SZ_1G, &before));
	EXPECT_EQ(MAP_FAILED, mremap(va, SZ_1G, 2 * SZ_1G, MREMAP_MAYMOVE));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(MAP_FAILED, mremap(va, SZ_1G, SZ_1G,
				     MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_TRUE(user_leaves(va, SZ_1G, &after));
	for (int i = 0; i < THI_NR_LEAF; i++) {
		EXPECT_EQ(before.bytes[i], after.bytes[i])
			TH_LOG("%s", leaf_names[i]);
	}
	EXPECT_EQ(va, mremap(va, SZ_1G, SZ_1G / 2 + SZ_4K, 0));
	EXPECT_EQ(0, differ(va, 0, 0, SZ_1G / 2 + SZ_4K));
	EXPECT_EQ(SIGSEGV, try_read(va + SZ_1G / 2 + SZ_4K, &v));
}

/*
 * A driver that maps more than the VMA has no leaf across an end of it: whatever is
 * mapped there next would have part of the BAR.
 */
TEST_F_TIMEOUT(remap, more_than_vma, MINUTES(2))
{
	static const struct { __u64 from, to; } vmas[] = {
		{ 8 * SZ_2M, 9 * SZ_2M + SZ_4K },
		{ 40 * SZ_2M + SZ_4K, 42 * SZ_2M },
		{ SZ_1G + SZ_4K, 2 * SZ_1G - SZ_4K },
	};

	if (variant->path != DRIVER)
		SKIP(return, "only the test driver maps more than the VMA");
	/* What is outside goes with the page tables, if no other VMA has them. */
	ASSERT_EQ(0, munmap(self->area, AREA));
	for (int i = 0; i < ARRAY_SIZE(vmas); i++) {
		const __u64 from = vmas[i].from, to = vmas[i].to;
		const __u64 start = from & ~(SZ_2M - 1), end = (to + SZ_2M - 1) & ~(SZ_2M - 1);
		char *va = self->area + from;
		struct ideal ideal = ideal_leaves((unsigned long)va, self->bar + from,
						  to - from, self->max);

		ASSERT_EQ(va, map_at(self->fd, THI_OVER, va, from, to - from));
		EXPECT_LEAVES(va, to - from, ideal.nr[THI_4K], ideal.nr[THI_2M],
			      ideal.nr[THI_1G]);
		EXPECT_LEAVES(self->area + start, from - start, (from - start) / SZ_4K, 0, 0);
		EXPECT_LEAVES(self->area + to, end - to, (end - to) / SZ_4K, 0, 0);
		fill(va, from, to - from);
		EXPECT_EQ(0, differ(va, from, 0, to - from));
		ASSERT_EQ(0, munmap(va, to - from));
	}
}

/* Several calls of remap_pfn_range() make up one VMA. */
TEST_F_TIMEOUT(remap, pieces, MINUTES(2))
{
	const __u64 bytes = SZ_1G + 3 * SZ_2M + SZ_4K;
	const __u64 cuts[] = { 0, THI_CUT1, THI_CUT2, bytes };
	struct ideal all = {};
	char *va = self->area;

	if (variant->path != DRIVER)
		SKIP(return, "only the test driver maps in pieces");
	for (int skew = 0; skew < 2; skew++) {
		memset(&all, 0, sizeof(all));
		for (int i = 0; i < 3; i++) {
			const __u64 at = cuts[i] + skew * SZ_4K;
			struct ideal ideal = ideal_leaves((unsigned long)va + at,
					self->bar + at, cuts[i + 1] - cuts[i], self->max);

			for (int l = 0; l < THI_NR_LEAF; l++)
				all.nr[l] += ideal.nr[l];
		}
		va = self->area + skew * SZ_4K;
		ASSERT_EQ(va, map_at(self->fd, THI_PIECES, va, skew * SZ_4K, bytes));
		EXPECT_LEAVES(va, bytes, all.nr[THI_4K], all.nr[THI_2M], all.nr[THI_1G]);
		fill(va, skew * SZ_4K, bytes);
		EXPECT_EQ(0, differ(va, skew * SZ_4K, 0, bytes));
		ASSERT_EQ(0, munmap(va, bytes));
		va = self->area;
	}
}

TEST_F_TIMEOUT(remap, fork_copies_leaves, MINUTES(2))
{
	char *va = self->area;
	struct user_leaves parent, child;
	int status;
	pid_t pid;

	ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G + SZ_2M));
	fill(va, 0, SZ_1G + SZ_2M);
	ASSERT_TRUE(user_leaves(va, SZ_1G + SZ_2M, &parent));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		if (!user_leaves(va, SZ_1G + SZ_2M, &child))
			_exit(1);
		if (memcmp(&parent.bytes, &child.bytes, sizeof(child.bytes)))
			_exit(2);
		if (differ(va, 0, 0, SZ_1G + SZ_2M))
			_exit(3);
		*(__u32 *)(va + SZ_1G - SZ_4K) = 0xc411d;
		/* The parent's leaf stays whole. */
		if (munmap(va + 3 * SZ_4K, SZ_4K))
			_exit(4);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0xc411d, *(__u32 *)(va + SZ_1G - SZ_4K));
	*(__u32 *)(va + SZ_1G - SZ_4K) = pattern(SZ_1G - SZ_4K);
	EXPECT_EQ(0, differ(va, 0, 0, SZ_1G + SZ_2M));
	ASSERT_TRUE(user_leaves(va, SZ_1G + SZ_2M, &child));
	for (int i = 0; i < THI_NR_LEAF; i++) {
		EXPECT_EQ(parent.bytes[i], child.bytes[i])
			TH_LOG("%s", leaf_names[i]);
	}
}

/* exit() frees the tables of a mapping in pieces. */
TEST_F_TIMEOUT(remap, exit_frees, MINUTES(2))
{
	long tables[2] = {};

	for (int round = 0; round <= 32; round++) {
		char *va = self->area;
		int status;
		pid_t pid = fork();

		ASSERT_GE(pid, 0);
		if (!pid) {
			if (map_at(self->fd, self->base, va, 0, 2 * SZ_1G) != va)
				_exit(1);
			for (__u64 o = SZ_4K; o < 2 * SZ_1G; o += 100 * SZ_2M)
				if (munmap(va + o, SZ_4K))
					_exit(2);
			_exit(0);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		if (round % 32)
			continue;
		/* Other processes that have ended are cleaned up in the background. */
		do {
			tables[0] = page_table_bytes();
			usleep(200000);
			tables[1] = page_table_bytes();
		} while (tables[0] != tables[1]);
		if (!round)
			self->tables = tables[1];
	}
	/*
	 * Other processes come and go: allow for 15 tables. One that each of the 32
	 * rounds leaves behind is more.
	 */
	EXPECT_LT(labs(self->tables - tables[1]), 16 * SZ_4K)
		TH_LOG("%ld bytes before, %ld after", self->tables, tables[1]);
}

/* To look at a mapping leaves it as it is. */
TEST_F_TIMEOUT(remap, readers, MINUTES(2))
{
	static const char * const files[] = { "/proc/self/smaps",
		"/proc/self/smaps_rollup", "/proc/self/maps" };
	char *va = self->area, buf[4096];
	struct user_leaves before, after;
	unsigned char vec[1024];
	int fd;

	ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G + 2 * SZ_2M));
	fill(va, 0, SZ_1G + 2 * SZ_2M);
	ASSERT_TRUE(user_leaves(va, SZ_1G + 2 * SZ_2M, &before));
	for (int i = 0; i < ARRAY_SIZE(files); i++) {
		fd = open(files[i], O_RDONLY);
		ASSERT_GE(fd, 0);
		while (read(fd, buf, sizeof(buf)) > 0)
			;
		close(fd);
	}
	memset(vec, 2, sizeof(vec));
	ASSERT_EQ(0, mincore(va + SZ_1G - SZ_2M, 2 * SZ_2M, vec));
	for (int i = 0; i < sizeof(vec); i++) {
		ASSERT_EQ(1, vec[i])
			TH_LOG("page %d", i);
	}
	/* The test driver has no access(), so it fails there as for any VMA. */
	fd = open("/proc/self/mem", O_RDWR);
	ASSERT_GE(fd, 0);
	memset(buf, 0, sizeof(buf));
	EXPECT_EQ(variant->path == DRIVER ? -1 : 8,
		  pread(fd, buf, 8, (unsigned long)va + SZ_1G - SZ_4K));
	EXPECT_EQ(variant->path == DRIVER ? 0 : pattern(SZ_1G - SZ_4K),
		  *(__u32 *)buf);
	close(fd);
	ASSERT_TRUE(user_leaves(va, SZ_1G + 2 * SZ_2M, &after));
	for (int i = 0; i < THI_NR_LEAF; i++) {
		EXPECT_EQ(before.bytes[i], after.bytes[i])
			TH_LOG("%s", leaf_names[i]);
	}
	EXPECT_EQ(0, differ(va, 0, 0, SZ_1G + 2 * SZ_2M));
}

/* A zapped range is gone, and stays gone. The rest is there. */
TEST_F_TIMEOUT(remap, zap, MINUTES(2))
{
	static const struct { __u64 at, bytes; } zaps[] = {
		{ 0, SZ_4K }, { 9 * SZ_2M, SZ_2M }, { SZ_1G - SZ_4K, SZ_4K },
		{ 50 * SZ_2M + SZ_4K, 3 * SZ_2M }, { 0, SZ_1G },
	};
	char *va = self->area;
	__u32 v;

	if (variant->path != DRIVER)
		SKIP(return, "only the test driver zaps");
	for (int i = 0; i < ARRAY_SIZE(zaps); i++) {
		const __u64 from = zaps[i].at, to = from + zaps[i].bytes;
		struct test_huge_iomap_zap zap = {
			.addr = (unsigned long)va + from, .bytes = to - from,
		};

		ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G));
		fill(va, 0, SZ_1G);
		ASSERT_EQ(0, ioctl(self->thi, THI_ZAP, &zap));
		for (int again = 0; again < 2; again++) {
			EXPECT_EQ(SIGBUS, try_read(va + from, &v));
			EXPECT_EQ(SIGBUS, try_write(va + to - SZ_4K, 0));
			EXPECT_EQ(0, differ(va, 0, 0, from));
			EXPECT_EQ(0, differ(va, 0, to, SZ_1G));
		}
	}
}

/* The same through the file, for all that have it mapped */
TEST_F_TIMEOUT(remap, revoke, MINUTES(2))
{
	const __u64 from = 33 * SZ_2M + SZ_4K, to = from + 2 * SZ_2M;
	struct test_huge_iomap_revoke revoke = {
		.offset = (variant->path == DRIVER ? 0 : self->bar) + from,
		.bytes = to - from, .fd = self->fd,
	};
	char *va = self->area, *other = self->area + 2 * SZ_1G + SZ_2M;
	__u32 v;

	ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G));
	ASSERT_EQ(other, map_at(self->fd, self->base, other, 0, SZ_1G));
	fill(va, 0, SZ_1G);
	ASSERT_EQ(0, ioctl(self->thi, THI_REVOKE, &revoke));
	for (int again = 0; again < 2; again++) {
		EXPECT_EQ(SIGBUS, try_read(va + from, &v));
		EXPECT_EQ(SIGBUS, try_write(va + to - SZ_4K, 0));
		EXPECT_EQ(SIGBUS, try_read(other + from + SZ_2M, &v));
		EXPECT_EQ(0, differ(va, 0, 0, from));
		EXPECT_EQ(0, differ(va, 0, to, SZ_1G));
		EXPECT_EQ(0, differ(other, 0, 0, from));
		EXPECT_EQ(0, differ(other, 0, to, SZ_1G));
	}
}

/* mmap() without an address */
TEST_F_TIMEOUT(remap, placement, MINUTES(2))
{
	static const struct { __u64 offset, bytes; } range[] = {
		{ 0, 4 * SZ_1G }, { 0, 3 * SZ_2M }, { SZ_4K, SZ_1G + SZ_2M },
		{ SZ_1M, 4 * SZ_1G }, { 0, SZ_1M },
	};

	if (variant->path == DRIVER)
		SKIP(return, "the driver places nothing");
	for (int i = 0; i < ARRAY_SIZE(range); i++) {
		const __u64 offset = range[i].offset, bytes = range[i].bytes;
		long tables, before = vm_pte("/proc/self/status");
		struct ideal ideal;
		char *va;

		va = map_bar(NULL, bytes, offset, MAP_SHARED);
		ASSERT_NE(MAP_FAILED, va);
		ideal = ideal_leaves((unsigned long)va, self->bar + offset, bytes,
				     self->max);
		EXPECT_LEAVES(va, bytes, ideal.nr[THI_4K], ideal.nr[THI_2M],
			      ideal.nr[THI_1G]);
		tables = vm_pte("/proc/self/status") - before;
		EXPECT_LE(tables, self->max == THI_1G && !i ? 12 : tables);
		ASSERT_EQ(0, munmap(va, bytes));
	}
}

TEST_F_TIMEOUT(remap, placement_wc, MINUTES(2))
{
	const __u64 bytes = 2 * SZ_1G;
	struct ideal ideal;
	char *va;
	int fd;

	if (variant->path != SYSFS)
		SKIP(return, "only sysfs has a file for write-combining");
	fd = open(PCI_DEVICE "/resource2_wc", O_RDWR);
	ASSERT_GE(fd, 0);
	va = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, SZ_1M);
	ASSERT_NE(MAP_FAILED, va);
	ideal = ideal_leaves((unsigned long)va, self->bar + SZ_1M, bytes, self->max);
	EXPECT_LEAVES(va, bytes, ideal.nr[THI_4K], ideal.nr[THI_2M], ideal.nr[THI_1G]);
	ASSERT_EQ(0, munmap(va, bytes));
	close(fd);
}

TEST_F_TIMEOUT(remap, placement_asked_for, MINUTES(2))
{
	char *hint = self->area + SZ_1M;
	char *va;

	if (variant->path == DRIVER)
		SKIP(return, "the driver places nothing");
	ASSERT_EQ(0, munmap(self->area, AREA));
	va = map_bar(hint, SZ_1G, 0, MAP_SHARED);
	EXPECT_EQ(hint, va);
	EXPECT_EQ(MAP_FAILED, map_bar(hint, SZ_2M, 0,
				      MAP_SHARED | MAP_FIXED_NOREPLACE));
	EXPECT_EQ(EEXIST, errno);
	ASSERT_EQ(0, munmap(va, SZ_1G));
	va = map_bar(hint, SZ_2M, 0, MAP_SHARED | MAP_FIXED_NOREPLACE);
	EXPECT_EQ(hint, va);
	EXPECT_EQ(hint + SZ_2M, map_bar(hint + SZ_2M, SZ_2M, 0,
					MAP_SHARED | MAP_FIXED));
	va = map_bar(NULL, SZ_2M, 0, MAP_SHARED | MAP_32BIT);
	ASSERT_NE(MAP_FAILED, va);
	EXPECT_LT((unsigned long)va, 1UL << 31);
	va = map_bar(NULL, AREA, 0, MAP_SHARED | MAP_32BIT);
	EXPECT_EQ(MAP_FAILED, va);
	EXPECT_EQ(ENOMEM, errno);
}

/* A hint above 47 bits asks for an address up there, also if it is not free. */
TEST_F_TIMEOUT(remap, placement_high_hint, MINUTES(2))
{
	const bool la57 = file_has("/proc/cpuinfo", " la57");
	const __u64 bytes = 2 * SZ_1G, high = 1ULL << 47;
	char *hint = (char *)(1ULL << 50) + SZ_1M;
	struct ideal ideal;
	char *va;

	if (variant->path == DRIVER)
		SKIP(return, "the driver places nothing");
	va = map_bar(hint, bytes, 0, MAP_SHARED);
	if (la57) {
		EXPECT_EQ(hint, va);
		EXPECT_EQ(MAP_FAILED, map_bar(hint, SZ_2M, 0,
					      MAP_SHARED | MAP_FIXED_NOREPLACE));
		EXPECT_EQ(EEXIST, errno);
	}
	for (int i = 0; i < 2; i++) {
		va = map_bar(hint, bytes, i * SZ_1M, MAP_SHARED);
		ASSERT_NE(MAP_FAILED, va);
		EXPECT_EQ(la57, (unsigned long)va >= high);
		ideal = ideal_leaves((unsigned long)va, self->bar + i * SZ_1M, bytes,
				     self->max);
		EXPECT_LEAVES(va, bytes, ideal.nr[THI_4K], ideal.nr[THI_2M],
			      ideal.nr[THI_1G]);
		/* Without a hint it is not for those who do not ask. */
		va = map_bar(NULL, bytes, i * SZ_1M, MAP_SHARED);
		ASSERT_NE(MAP_FAILED, va);
		EXPECT_LT((unsigned long)va, high);
	}
}

/* Where leaves fit, also for who may only read */
TEST_F_TIMEOUT(remap, placement_flags, MINUTES(2))
{
	static const int flags[] = { MAP_SHARED, MAP_SHARED_VALIDATE };
	const __u64 bytes = 2 * SZ_1G, block = self->max == THI_1G ? SZ_1G : SZ_2M;
	const char *path = variant->path == SYSFS ? PCI_DEVICE "/resource2" : "/dev/mem";
	int fd;

	if (variant->path == DRIVER || self->max == THI_4K)
		SKIP(return, "nothing is placed");
	fd = open(path, O_RDONLY | O_SYNC);
	ASSERT_GE(fd, 0);
	for (int i = 0; i < 2 * ARRAY_SIZE(flags); i++) {
		char *va = mmap(NULL, bytes, PROT_READ, flags[i / 2], i & 1 ? fd : self->fd,
				self->base);

		ASSERT_NE(MAP_FAILED, va) TH_LOG("%d: %m", i);
		EXPECT_EQ(self->bar % block, (unsigned long)va % block);
	}
	close(fd);
}

/* The padding that placement looks for does not count against RLIMIT_AS. */
TEST_F_TIMEOUT(remap, placement_rlimit, MINUTES(2))
{
	struct rlimit old, lim;
	long kib = -1;
	FILE *f;

	if (variant->path == DRIVER)
		SKIP(return, "the driver places nothing");
	f = fopen("/proc/self/statm", "r");
	ASSERT_NE(NULL, f);
	ASSERT_EQ(1, fscanf(f, "%ld", &kib));
	fclose(f);
	ASSERT_EQ(0, getrlimit(RLIMIT_AS, &old));
	lim = old;
	lim.rlim_cur = kib * SZ_4K + SZ_1G + SZ_1M;
	ASSERT_EQ(0, setrlimit(RLIMIT_AS, &lim));
	EXPECT_EQ(MAP_FAILED, map_bar(NULL, SZ_1G + SZ_2M, 0, MAP_SHARED));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_NE(MAP_FAILED, map_bar(NULL, SZ_1G, 0, MAP_SHARED));
	ASSERT_EQ(0, setrlimit(RLIMIT_AS, &old));
}

/* 1, 16, 256 and 1024 GiB: page tables do not grow with the pages. */
TEST_F_TIMEOUT(remap, cost_of_leaves, MINUTES(2))
{
	static const int gib[] = { 1, 16, 256, 1024 };

	if (variant->path != DRIVER || self->max != THI_1G)
		SKIP(return, "needs the test driver and 1 GiB leaves");
	for (int i = 0; i < ARRAY_SIZE(gib); i++) {
		const __u64 bytes = gib[i] * SZ_1G;
		long before = vm_pte("/proc/self/status");
		char *space, *va;

		space = mmap(NULL, bytes + SZ_1G, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		ASSERT_NE(MAP_FAILED, space);
		va = (char *)(((unsigned long)space + SZ_1G - 1) & ~(SZ_1G - 1));
		ASSERT_EQ(va, mmap(va, bytes, PROT_READ, MAP_SHARED | MAP_FIXED,
				   self->fd, THI_FAR));
		EXPECT_LEAVES(va, bytes, 0, 0, gib[i]);
		/* PUD tables: one for each 512 GiB that it touches */
		EXPECT_LE(vm_pte("/proc/self/status") - before, 12);
		ASSERT_EQ(0, munmap(space, bytes + SZ_1G));
	}
}

TEST_HARNESS_MAIN
