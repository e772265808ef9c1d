// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel mappings of a PCI BAR: every way to ask for one, at aligned and odd
 * offsets, gets the ideal set of page table leaves; and nothing else changes.
 */
#include "huge_iomap_util.h"

#include <pthread.h>
#include <sys/mman.h>

#include "kselftest_harness.h"

#define PAT_LIST	"/sys/kernel/debug/x86/pat_memtype_list"

/* In 4 KiB pages a mapping is slow to make: most tests use smaller ones then. */
#define MAX_4K_BYTES	(64 * SZ_1M)

static const __u64 offsets[] = {
	0, SZ_4K, SZ_1M, SZ_2M, SZ_1G - SZ_4K,
};

static const __u64 sizes[] = {
	SZ_4K, 2 * SZ_4K, SZ_1M, SZ_2M - SZ_4K, SZ_2M, SZ_2M + SZ_4K, 4 * SZ_2M,
	SZ_1G - SZ_2M, SZ_1G, SZ_1G + SZ_4K, 2 * SZ_1G, 4 * SZ_1G, 16 * SZ_1G,
};

/*
 * @how: how to map, and @type: the memory type that it gives
 */
FIXTURE(ioremap) {
	int fd;
	struct test_huge_iomap_bar bar;
	int max;
	bool small;		/* at an odd offset there are 4 KiB pages only */
	bool pat;
};

FIXTURE_VARIANT(ioremap) {
	int how;
	unsigned int type;
};

FIXTURE_VARIANT_ADD(ioremap, ioremap) {
	.how = THI_IOREMAP,
	.type = THI_UC_MINUS,
};

FIXTURE_VARIANT_ADD(ioremap, ioremap_uc) {
	.how = THI_IOREMAP_UC,
	.type = THI_UC,
};

FIXTURE_VARIANT_ADD(ioremap, ioremap_wc) {
	.how = THI_IOREMAP_WC,
	.type = THI_WC,
};

FIXTURE_VARIANT_ADD(ioremap, ioremap_wt) {
	.how = THI_IOREMAP_WT,
	.type = THI_WT,
};

FIXTURE_VARIANT_ADD(ioremap, ioremap_cache) {
	.how = THI_IOREMAP_CACHE,
	.type = THI_WB,
};

FIXTURE_VARIANT_ADD(ioremap, ioremap_prot) {
	.how = THI_IOREMAP_PROT,
	.type = THI_WC,
};

FIXTURE_VARIANT_ADD(ioremap, memremap_wb) {
	.how = THI_MEMREMAP_WB,
	.type = THI_WB,
};

FIXTURE_VARIANT_ADD(ioremap, memremap_wt) {
	.how = THI_MEMREMAP_WT,
	.type = THI_WT,
};

FIXTURE_VARIANT_ADD(ioremap, memremap_wc) {
	.how = THI_MEMREMAP_WC,
	.type = THI_WC,
};

FIXTURE_VARIANT_ADD(ioremap, pci_iomap_range) {
	.how = THI_PCI_IOMAP_RANGE,
	.type = THI_UC_MINUS,
};

FIXTURE_VARIANT_ADD(ioremap, pci_iomap_wc_range) {
	.how = THI_PCI_IOMAP_WC_RANGE,
	.type = THI_WC,
};

FIXTURE_VARIANT_ADD(ioremap, devm_ioremap) {
	.how = THI_DEVM_IOREMAP,
	.type = THI_UC_MINUS,
};

FIXTURE_VARIANT_ADD(ioremap, devm_ioremap_wc) {
	.how = THI_DEVM_IOREMAP_WC,
	.type = THI_WC,
};

FIXTURE_VARIANT_ADD(ioremap, devm_memremap_wc) {
	.how = THI_DEVM_MEMREMAP_WC,
	.type = THI_WC,
};

FIXTURE_SETUP(ioremap)
{
	self->fd = open_driver();
	if (self->fd < 0 && errno == ENOENT)
		SKIP(return, "no " DEVICE ", no ivshmem device, or another driver has it");
	ASSERT_GE(self->fd, 0) TH_LOG(DEVICE ": %s", strerror(errno));
	ASSERT_EQ(0, ioctl(self->fd, THI_BAR, &self->bar));
	self->max = ioremap_max_leaf();
	self->small = max_leaf() == THI_4K;
	self->pat = !access(PAT_LIST, R_OK) &&
		    !file_has("/proc/cmdline", "nopat");
}

FIXTURE_TEARDOWN(ioremap)
{
	if (self->fd >= 0)
		close(self->fd);
}

/* The kernel tracks the memory type of the whole range, in one piece. */
static bool pat_tracks(__u64 start, __u64 end)
{
	char range[64];

	snprintf(range, sizeof(range), "[mem 0x%016llx-0x%016llx]",
		 start, end);
	return file_has(PAT_LIST, range);
}

/* Compare a mapping with the ideal. @offset and @bytes need not be aligned. */
static void check_mapping(struct __test_metadata *_metadata, int fd,
			  const struct test_huge_iomap_bar *bar,
			  const struct test_huge_iomap_map *map, int max)
{
	__u64 pa = bar->start + map->offset;
	__u64 first = pa & ~(SZ_4K - 1);
	__u64 bytes = ((pa + map->bytes + SZ_4K - 1) & ~(SZ_4K - 1)) - first;
	struct ideal ideal = ideal_leaves(map->va & ~(SZ_4K - 1), first, bytes, max);
	struct test_huge_iomap_leaves leaves;

	ASSERT_EQ(0, thi_leaves(fd, map->handle, &leaves));
	EXPECT_EQ(map->va % SZ_4K, pa % SZ_4K);
	EXPECT_EQ(0, leaves.wrong);
	EXPECT_EQ(1, leaves.guarded);
	for (int i = 0; i < THI_NR_LEAF; i++) {
		EXPECT_EQ(ideal.nr[i], leaves.nr[i])
			TH_LOG("offset %#llx bytes %#llx: %s leaves",
			       map->offset, map->bytes,
			       leaf_names[i]);
	}
	EXPECT_EQ(ideal.tables, leaves.tables)
		TH_LOG("offset %#llx bytes %#llx",
		       map->offset, map->bytes);
}

/*
 * What is written through the mapping is read through another one, and the other
 * way round: at both ends and around each boundary where the leaf size can change.
 */
static void check_contents(struct __test_metadata *_metadata, int fd,
			   const struct test_huge_iomap_map *map)
{
	__u64 end = map->offset + map->bytes;
	__u64 at[] = {
		map->offset,
		end - 4,
		(map->offset / SZ_2M + 1) * SZ_2M,
		(map->offset / SZ_2M + 1) * SZ_2M - 4,
		(map->offset / SZ_1G + 1) * SZ_1G,
		(map->offset / SZ_1G + 1) * SZ_1G - 4,
		end / SZ_2M * SZ_2M,
		end / SZ_2M * SZ_2M - 4,
		end / SZ_1G * SZ_1G,
		end / SZ_1G * SZ_1G - 4,
		(map->offset + map->bytes / 2) & ~3ULL,
	};
	__u32 salt = random(), value;

	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		if (at[i] < map->offset || at[i] > end - 4)
			continue;
		/* The number of the place tells one from another. */
		ASSERT_EQ(0, thi_write(fd, map->handle, at[i] - map->offset,
				       salt + i));
		ASSERT_EQ(0, thi_peek(fd, map->how, at[i], &value));
		EXPECT_EQ(salt + i, value) TH_LOG("at %#llx", at[i]);
		ASSERT_EQ(0, thi_poke(fd, map->how, at[i], ~(salt + i)));
	}
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		bool twice = false;

		if (at[i] < map->offset || at[i] > end - 4)
			continue;
		for (size_t k = i + 1; k < ARRAY_SIZE(at); k++)
			twice |= at[k] == at[i];
		if (twice)
			continue;
		ASSERT_EQ(0, thi_read(fd, map->handle, at[i] - map->offset, &value));
		EXPECT_EQ(~(__u32)(salt + i), value) TH_LOG("at %#llx", at[i]);
	}
}

TEST_F_TIMEOUT(ioremap, leaves, MINUTES(10))
{
	struct test_huge_iomap_leaves leaves;
	struct test_huge_iomap_unmap unmap;
	struct test_huge_iomap_map map;
	__u64 seen_1g = 0, seen_2m = 0;

	for (size_t o = 0; o < ARRAY_SIZE(offsets); o++) {
		for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
			__u64 start = self->bar.start + offsets[o];
			__u64 bytes = sizes[s];

			if (offsets[o] >= self->bar.bytes)
				continue;
			/* The largest size means "up to the end of the BAR". */
			if (s == ARRAY_SIZE(sizes) - 1)
				bytes = self->bar.bytes - offsets[o];
			if (bytes > self->bar.bytes - offsets[o])
				continue;
			if ((self->max == THI_4K || (self->small && offsets[o])) &&
			    bytes > MAX_4K_BYTES)
				continue;

			ASSERT_EQ(0, thi_map(self->fd, variant->how, offsets[o],
					     bytes, &map));
			check_mapping(_metadata, self->fd, &self->bar, &map,
				      self->max);
			check_contents(_metadata, self->fd, &map);
			ASSERT_EQ(0, thi_leaves(self->fd, map.handle, &leaves));
			if (self->pat) {
				EXPECT_EQ(variant->type, leaves.type);
				EXPECT_TRUE(pat_tracks(start, start + bytes));
			}
			seen_1g += leaves.nr[THI_1G];
			seen_2m += leaves.nr[THI_2M];

			ASSERT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));
			EXPECT_EQ(0, unmap.left);
			EXPECT_FALSE(self->pat &&
				     pat_tracks(start, start + bytes));
		}
	}
	/* The sizes above must have exercised what this machine can do. */
	EXPECT_EQ(self->max >= THI_2M, seen_2m > 0);
	EXPECT_EQ(self->max >= THI_1G, seen_1g > 0);
}

/* Ranges that do not begin or end on a page boundary */
TEST_F_TIMEOUT(ioremap, sub_page, MINUTES(2))
{
	static const struct { __u64 offset, bytes; } ranges[] = {
		{ 0x104, 8 },
		{ SZ_4K - 4, 8 },
		{ SZ_2M - 4, SZ_2M + 8 },
		{ SZ_1M + 0x104, 2 * SZ_2M },
		{ SZ_2M + 0x10, SZ_2M - 0x20 },
	};
	struct test_huge_iomap_unmap unmap;
	struct test_huge_iomap_map map;

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		ASSERT_EQ(0, thi_map(self->fd, variant->how, ranges[i].offset,
				     ranges[i].bytes, &map));
		check_mapping(_metadata, self->fd, &self->bar, &map, self->max);
		check_contents(_metadata, self->fd, &map);
		ASSERT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));
		EXPECT_EQ(0, unmap.left);
	}
}

/* A thousand rounds leave neither address space nor page tables behind. */
TEST_F_TIMEOUT(ioremap, no_leak, MINUTES(10))
{
	__u64 bytes = self->small ? 4 * SZ_2M : 2 * SZ_1G;
	struct test_huge_iomap_unmap unmap;
	struct test_huge_iomap_map map;
	long tables = 0, areas = 0;

	for (int i = 0; i < 1100; i++) {
		ASSERT_EQ(0, thi_map(self->fd, variant->how, SZ_1M, bytes, &map));
		ASSERT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));
		ASSERT_EQ(0, unmap.left);
		/* Unmapped areas wait to be reused. Do not depend on how long. */
		ASSERT_EQ(0, ioctl(self->fd, THI_PURGE));
		/* Tables of the kernel stay: the first rounds may add some. */
		if (i == 99) {
			tables = page_table_bytes();
			areas = ioremap_areas();
		}
	}
	ASSERT_GT(tables, 0);
	/* Another process may need a table more; a leak would be of 1,000. */
	EXPECT_LE(page_table_bytes() - tables, 2 * 4096);
	ASSERT_GT(areas, 0);
	EXPECT_EQ(areas, ioremap_areas());
}

FIXTURE(bar) {
	int fd;
	struct test_huge_iomap_bar bar;
	int max;
	bool small;
};

FIXTURE_SETUP(bar)
{
	self->fd = open_driver();
	if (self->fd < 0 && errno == ENOENT)
		SKIP(return, "no " DEVICE ", no ivshmem device, or another driver has it");
	ASSERT_GE(self->fd, 0) TH_LOG(DEVICE ": %s", strerror(errno));
	ASSERT_EQ(0, ioctl(self->fd, THI_BAR, &self->bar));
	self->max = ioremap_max_leaf();
	self->small = max_leaf() == THI_4K;
}

FIXTURE_TEARDOWN(bar)
{
	if (self->fd >= 0)
		close(self->fd);
}

/* A BAR but for its first MiB takes 20 KiB of page tables at most. */
TEST_F_TIMEOUT(bar, page_tables, MINUTES(5))
{
	struct test_huge_iomap_leaves leaves;
	struct test_huge_iomap_unmap unmap;
	struct test_huge_iomap_map map;
	long before, grown, most;

	if (self->small)
		SKIP(return, "4 KiB leaves at that offset: the page tables are as large as ever");
	if (self->bar.bytes < 16 * SZ_1G)
		SKIP(return, "the BAR is smaller than 16 GiB");

	/* Without 1G leaves there is a PMD table for each GiB. */
	most = 20 * 1024;
	if (self->max == THI_2M)
		most += self->bar.bytes / SZ_1G * 4096;

	/* The first reading may itself allocate. */
	page_table_bytes();
	before = page_table_bytes();
	ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, SZ_1M,
			     self->bar.bytes - SZ_1M, &map));
	grown = page_table_bytes() - before;
	ASSERT_EQ(0, thi_leaves(self->fd, map.handle, &leaves));
	ASSERT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));

	/* With the PUD table, which other areas share. */
	EXPECT_LE((long)(leaves.tables + 1) * 4096, most);
	EXPECT_LE((long)(unmap.tables + 1) * 4096, most);
	/* Less than nothing if tables of earlier mappings gave way to leaves. */
	EXPECT_LE(grown, most);
}

/* Several mappings at a time, of random ranges, made and removed in random order */
TEST_F_TIMEOUT(bar, random, MINUTES(10))
{
	struct test_huge_iomap_map map[8] = {};
	bool live[8] = {};
	struct test_huge_iomap_unmap unmap;
	__u64 largest = self->small ? MAX_4K_BYTES : self->bar.bytes;
	unsigned int seed = time(NULL);

	TH_LOG("seed %u", seed);
	srandom(seed);
	for (int round = 0; round < 1000; round++) {
		int i = random() % ARRAY_SIZE(map);
		__u64 offset, bytes;

		if (live[i]) {
			check_mapping(_metadata, self->fd, &self->bar, &map[i],
				      self->max);
			ASSERT_EQ(0, thi_unmap(self->fd, map[i].handle, &unmap));
			ASSERT_EQ(0, unmap.left);
			live[i] = false;
			continue;
		}
		/* Sizes of every magnitude */
		bytes = (random() << 20 ^ random()) %
			(largest >> random() % 22) + 4;
		offset = ((random() << 20 ^ random()) %
			  (self->bar.bytes - bytes + 1)) & ~3ULL;
		if (random() % 2)
			offset &= ~(SZ_2M - 1);
		ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, offset, bytes & ~3ULL,
				     &map[i]));
		live[i] = true;
		check_mapping(_metadata, self->fd, &self->bar, &map[i], self->max);
		check_contents(_metadata, self->fd, &map[i]);
	}
}

/* The driver serializes its ioctls, so the others are readers of the page tables. */
static void *read_page_tables(void *stop)
{
	static const char * const files[] = {
		"/proc/vmallocinfo", "/sys/kernel/debug/page_tables/kernel",
	};
	static char buf[65536];

	for (int i = 0; !__atomic_load_n((bool *)stop, __ATOMIC_RELAXED); i++) {
		int fd = open(files[i % 2], O_RDONLY);

		while (fd >= 0 && read(fd, buf, sizeof(buf)) > 0)
			;
		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

/*
 * Page table dumps and vmallocinfo walk tables that come and go. A mapping that is
 * made meanwhile may get smaller leaves, but never wrong ones.
 */
TEST_F_TIMEOUT(bar, readers, MINUTES(10))
{
	__u64 bytes = self->small ? 4 * SZ_2M : 2 * SZ_1G;
	struct test_huge_iomap_leaves leaves;
	struct test_huge_iomap_unmap unmap;
	struct test_huge_iomap_map map;
	bool stop = false;
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, read_page_tables, &stop));
	for (int i = 0; i < 300; i++) {
		ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP,
				     i % 3 ? i * SZ_4K : 0, bytes, &map));
		ASSERT_EQ(0, thi_leaves(self->fd, map.handle, &leaves));
		EXPECT_EQ(0, leaves.wrong);
		ASSERT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));
		ASSERT_EQ(0, unmap.left);
		ASSERT_EQ(0, i % 10 == 9 ? ioctl(self->fd, THI_PURGE) : 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
}

/*
 * Each allocation of an ioremap fails in turn. It returns an error then, and leaves
 * nothing behind.
 */
TEST_F_TIMEOUT(bar, alloc_failure, MINUTES(2))
{
	__u64 bytes = self->small ? 4 * SZ_2M : 2 * SZ_1G;
	struct test_huge_iomap_unmap unmap;
	struct test_huge_iomap_map map;
	int n = 0, failed = 0, left = 0;
	int nth = open("/proc/self/fail-nth", O_RDWR);

	if (nth < 0)
		SKIP(return, "no fault injection in this kernel");
	if (!can_fail_nth())
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC or CONFIG_FAILSLAB");

	/* Until there are fewer allocations than are to succeed */
	while (!left) {
		long areas;
		int err;

		/* Leaves of the largest size take the place of all tables. */
		ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, 0, bytes, &map));
		ASSERT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));
		ASSERT_EQ(0, ioctl(self->fd, THI_PURGE));
		areas = ioremap_areas();

		ASSERT_TRUE(set_fail_nth(nth, ++n));
		err = thi_map(self->fd, THI_IOREMAP, SZ_1M, bytes, &map);
		left = get_fail_nth(nth);
		ASSERT_TRUE(set_fail_nth(nth, 0));
		ASSERT_GE(left, 0);
		if (!err) {
			check_mapping(_metadata, self->fd, &self->bar, &map,
				      self->max);
			ASSERT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));
			EXPECT_EQ(0, unmap.left);
			continue;
		}
		failed++;
		EXPECT_EQ(-ENOMEM, err);
		ASSERT_EQ(0, ioctl(self->fd, THI_PURGE));
		EXPECT_EQ(areas, ioremap_areas());
		EXPECT_FALSE(pat_tracks(self->bar.start + SZ_1M,
					self->bar.start + SZ_1M + bytes));
	}
	close(nth);
	TH_LOG("%d of %d failures made ioremap() fail", failed, n - 1);
	/* The driver's record, the area, and a table of each level at least */
	EXPECT_GE(failed, 4);
}

/* User space sees what the kernel wrote, through the BAR's file in sysfs. */
TEST_F_TIMEOUT(bar, user_mapping, MINUTES(2))
{
	static const __u64 at[] = { SZ_1M, SZ_2M - 4, SZ_2M, SZ_1G, 2 * SZ_1G };
	struct test_huge_iomap_map map;
	char path[128];
	__u32 value;
	FILE *f;
	int fd = -1;

	f = popen("ls /sys/bus/pci/drivers/test_huge_map/*/resource2", "r");
	ASSERT_NE(NULL, f);
	if (fscanf(f, "%127s", path) == 1)
		fd = open(path, O_RDWR);
	pclose(f);
	ASSERT_GE(fd, 0);

	ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, SZ_1M, 2 * SZ_1G, &map));
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		char *page = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED,
				  fd, at[i] & ~(SZ_4K - 1));
		__u32 *p = (__u32 *)(page + at[i] % SZ_4K);

		ASSERT_NE(MAP_FAILED, page);
		ASSERT_EQ(0, thi_write(self->fd, map.handle, at[i] - SZ_1M,
				       0xfeed0000 + i));
		EXPECT_EQ(0xfeed0000 + i, __atomic_load_n(p, __ATOMIC_SEQ_CST));
		__atomic_store_n(p, 0xbeef0000 + i, __ATOMIC_SEQ_CST);
		ASSERT_EQ(0, thi_read(self->fd, map.handle, at[i] - SZ_1M, &value));
		EXPECT_EQ(0xbeef0000 + i, value);
		ASSERT_EQ(0, munmap(page, SZ_4K));
	}
	close(fd);
}

/* /proc/vmallocinfo names the area, its physical address and its leaves. */
TEST_F_TIMEOUT(bar, vmallocinfo, MINUTES(2))
{
	struct test_huge_iomap_leaves leaves;
	struct test_huge_iomap_map map;
	char *line = NULL, want[256], restrict_was[8];
	bool found = false;
	size_t len = 0;
	__u64 bytes = 2 * SZ_1G + SZ_4K;
	FILE *f;

	ASSERT_TRUE(read_line("/proc/sys/kernel/kptr_restrict", restrict_was,
			      sizeof(restrict_was)));
	/* 1: addresses are shown to root */
	ASSERT_EQ(0, write_file("/proc/sys/kernel/kptr_restrict", "1"));

	ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, SZ_1M, bytes, &map));
	ASSERT_EQ(0, thi_leaves(self->fd, map.handle, &leaves));
	f = fopen("/proc/vmallocinfo", "r");
	ASSERT_NE(NULL, f);
	snprintf(want, sizeof(want), "0x%016llx-0x%016llx %7llu ",
		 map.va, map.va + bytes + SZ_4K, bytes + SZ_4K);
	while (!found && getline(&line, &len, f) > 0)
		found = !strncmp(line, want, strlen(want));
	fclose(f);
	write_file("/proc/sys/kernel/kptr_restrict", restrict_was);
	ASSERT_TRUE(found) TH_LOG("no line '%s'", want);
	TH_LOG("%s", line);

	snprintf(want, sizeof(want), " phys=0x%016llx ioremap",
		 self->bar.start + SZ_1M);
	EXPECT_NE(NULL, strstr(line, want));
	for (int i = 0; i < THI_NR_LEAF; i++) {
		snprintf(want, sizeof(want), " %s=%llu", leaf_names[i],
			 leaves.nr[i]);
		/* Without CONFIG_HUGE_IOMAP there is nothing to tell. */
		EXPECT_EQ(leaves.nr[i] > 0 && !access(LIMIT, F_OK),
			  !!strstr(line, want)) TH_LOG("'%s'", want);
	}
	free(line);
}

/* No length, and ranges that wrap around, are refused. */
TEST_F_TIMEOUT(bar, bad_ranges, MINUTES(2))
{
	EXPECT_EQ(0, ioctl(self->fd, THI_BAD_RANGES)) TH_LOG("%s", strerror(errno));
}

/* The driver's own checks: nothing outside of the BAR gets mapped. */
TEST_F_TIMEOUT(bar, driver_checks, MINUTES(2))
{
	struct test_huge_iomap_unmap unmap = { .handle = 12345 };
	struct test_huge_iomap_map map;
	__u64 len = self->bar.bytes;

	EXPECT_EQ(-EINVAL, thi_map(self->fd, THI_IOREMAP, 0, 0, &map));
	EXPECT_EQ(-EINVAL, thi_map(self->fd, THI_IOREMAP, 0, len + 1, &map));
	EXPECT_EQ(-EINVAL, thi_map(self->fd, THI_IOREMAP, len, SZ_4K, &map));
	EXPECT_EQ(-EINVAL, thi_map(self->fd, THI_IOREMAP, SZ_4K, len, &map));
	EXPECT_EQ(-EINVAL, thi_map(self->fd, THI_IOREMAP, -SZ_4K, 2 * SZ_4K, &map));
	EXPECT_EQ(-EINVAL, thi_map(self->fd, THI_NR_HOW, 0, SZ_4K, &map));
	EXPECT_EQ(-ENOENT, thi_unmap(self->fd, 12345, &unmap));
	EXPECT_EQ(-1, ioctl(self->fd, _IO('I', 0xff)));
	EXPECT_EQ(ENOTTY, errno);
}

TEST_HARNESS_MAIN
