// SPDX-License-Identifier: GPL-2.0
/*
 * Parts of kernel mappings: they are made read-only, get another memory type, or are
 * unmapped. The rest stays as it is, and what PAT keeps of it is what is mapped.
 */
#include "huge_iomap_user.h"

#include <sys/mman.h>

#include "kselftest_harness.h"

#define MAPPED		(4 * SZ_1G)

FIXTURE(parts) {
	int fd;
	__u64 start;			/* of the BAR */
	bool pat;
	long all, before;		/* reservations, and those in the BAR */
	struct test_huge_iomap_map map;
};

FIXTURE_SETUP(parts)
{
	struct test_huge_iomap_bar bar;

	self->fd = open_driver();
	if (self->fd < 0)
		SKIP(return, "no " DEVICE ", no ivshmem device, or another driver has it");
	ASSERT_EQ(0, ioctl(self->fd, THI_BAR, &bar));
	self->start = bar.start;
	self->pat = !access(PAT_LIST, R_OK);
	self->all = pat_entries(0, -1ULL);
	self->before = pat_entries(bar.start, MAPPED);
	ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, 0, MAPPED, &self->map));
	if (self->pat) {
		ASSERT_TRUE(pat_has(bar.start, MAPPED, "uncached-minus"));
		ASSERT_EQ(self->before + 1, pat_entries(bar.start, MAPPED));
	}
}

/* However many parts there are, nothing is left of them. */
FIXTURE_TEARDOWN(parts)
{
	struct test_huge_iomap_unmap unmap;

	EXPECT_EQ(0, thi_unmap(self->fd, self->map.handle, &unmap));
	EXPECT_EQ(0, unmap.left);
	EXPECT_EQ(self->all, pat_entries(0, -1ULL));
	close(self->fd);
}

struct range { __u64 offset; __u32 nr; };

/* Ranges within a leaf, over the ends of leaves, and whole leaves */
static const struct range ranges[] = {
	/* Of a leaf that is whole, at the border of a smaller one */
	{ 3 * SZ_1G + 8 * SZ_2M, 512 },
	{ SZ_1G + 5 * SZ_2M + 7 * SZ_4K, 1 },
	{ 3 * SZ_2M - SZ_4K, 3 },
	{ 2 * SZ_1G - 2 * SZ_4K, 5 },
	{ SZ_1G + 8 * SZ_2M, 512 },
	{ SZ_1G + 20 * SZ_2M - SZ_4K, 514 },
	{ 0, 1 },
	{ MAPPED - SZ_4K, 1 },
};

/* All is mapped as it was made, and writable but for @r, if that is @ro. */
static bool only_in(int fd, __u32 handle, const struct range *r, bool ro)
{
	const __u64 end = r->offset + r->nr * SZ_4K;
	struct test_huge_iomap_page page;
	__u64 next;

	for (__u64 o = 0; o < MAPPED; o = next) {
		const bool in = o >= r->offset && o < end;

		if (thi_page(fd, handle, o, &page) || !page.present || page.wrong)
			return false;
		next = (o & ~(leaf_sizes[page.leaf] - 1)) + leaf_sizes[page.leaf];
		/* A leaf is in it or not. */
		if (ro && ((o < r->offset && next > r->offset) || (in && next > end)))
			return false;
		/* Far away, where all is in pages: one of each 2 MiB */
		if (page.leaf == THI_4K && (next + 2 * SZ_2M < r->offset || o > end + SZ_2M))
			next = (next + SZ_2M - 1) & ~(SZ_2M - 1);
		if (page.type != THI_UC_MINUS || page.writable == (in && ro))
			return false;
	}
	return true;
}

/* The type is that of the whole mapping: it is not changed, in part or as a whole. */
TEST_F_TIMEOUT(parts, type, MINUTES(2))
{
	const struct range all = { 0, MAPPED / SZ_4K };

	for (int i = 0; i <= ARRAY_SIZE(ranges); i++) {
		const struct range *r = i ? &ranges[i - 1] : &all;

		for (int what = THI_SET_UC; what <= THI_SET_WB; what++) {
			EXPECT_EQ(-EINVAL, thi_change(self->fd, self->map.handle, what,
						      r->offset, r->nr)) {
				TH_LOG("%u pages at %#llx, %d", r->nr, r->offset, what);
			}
		}
	}
	EXPECT_TRUE(only_in(self->fd, self->map.handle, &all, false));
	if (self->pat) {
		EXPECT_EQ(self->all + 1, pat_entries(0, -1ULL));
		EXPECT_TRUE(pat_has(self->start, MAPPED, "uncached-minus"));
	}
	if (max_leaf() == THI_1G) {
		struct test_huge_iomap_leaves leaves;

		ASSERT_EQ(0, thi_leaves(self->fd, self->map.handle, &leaves));
		EXPECT_EQ(4, leaves.nr[THI_1G]);
	}
}

TEST_F_TIMEOUT(parts, read_only, MINUTES(2))
{
	for (int i = 0; i < ARRAY_SIZE(ranges); i++) {
		const struct range *r = &ranges[i];

		ASSERT_EQ(0, thi_change(self->fd, self->map.handle, THI_SET_RO, r->offset,
					r->nr));
		EXPECT_TRUE(only_in(self->fd, self->map.handle, r, true)) {
			TH_LOG("%u pages at %#llx", r->nr, r->offset);
		}
		ASSERT_EQ(0, thi_change(self->fd, self->map.handle, THI_SET_RW, r->offset,
					r->nr));
		EXPECT_TRUE(only_in(self->fd, self->map.handle, r, false));
	}
}

TEST_F_TIMEOUT(parts, vmalloc, MINUTES(2))
{
	EXPECT_EQ(0, ioctl(self->fd, THI_VMALLOC)) TH_LOG("%s", strerror(errno));
}

/* Unmapping of a part takes no neighbour with it. */
TEST_F_TIMEOUT(parts, unmap, MINUTES(2))
{
	for (int i = 0; i < ARRAY_SIZE(ranges); i++) {
		const struct range *r = &ranges[i];
		const __u64 end = r->offset + r->nr * SZ_4K;
		struct test_huge_iomap_page page;
		__u32 value;

		ASSERT_EQ(0, thi_change(self->fd, self->map.handle, THI_VUNMAP, r->offset,
					r->nr));
		for (__u64 o = r->offset; o < end; o += SZ_4K) {
			ASSERT_EQ(0, thi_page(self->fd, self->map.handle, o, &page));
			ASSERT_FALSE(page.present);
		}
		if (r->offset) {
			ASSERT_EQ(0, thi_page(self->fd, self->map.handle, r->offset - SZ_4K,
					      &page));
			EXPECT_TRUE(page.present && !page.wrong);
			EXPECT_EQ(THI_UC_MINUS, page.type);
			EXPECT_EQ(0, thi_read(self->fd, self->map.handle, r->offset - 4, &value));
		}
		if (end < MAPPED) {
			ASSERT_EQ(0, thi_page(self->fd, self->map.handle, end, &page));
			EXPECT_TRUE(page.present && !page.wrong);
			EXPECT_EQ(THI_UC_MINUS, page.type);
			EXPECT_EQ(0, thi_read(self->fd, self->map.handle, end, &value));
		}
	}
	/* That block was touched by none. */
	if (max_leaf() == THI_1G) {
		struct test_huge_iomap_page page;

		ASSERT_EQ(0, thi_page(self->fd, self->map.handle, 3 * SZ_1G - SZ_2M, &page));
		EXPECT_TRUE(page.present && page.leaf == THI_2M);
	}
}

/* The pages that /proc/vmallocinfo counts in the leaves of the area; -1 on error */
static long counted_pages(__u64 phys)
{
	static const long pages[THI_NR_LEAF] = { 1, 512, 262144 };
	char *line = NULL, *p, key[32];
	FILE *f = fopen("/proc/vmallocinfo", "r");
	size_t len = 0;
	long n = -1;

	if (!f)
		return -1;
	snprintf(key, sizeof(key), " phys=0x%016llx ", phys);
	while (n < 0 && getline(&line, &len, f) > 0) {
		if (!strstr(line, " thi_") || !strstr(line, key))
			continue;
		n = 0;
		for (int i = 0; i < THI_NR_LEAF; i++) {
			snprintf(key, sizeof(key), " %s=", leaf_names[i]);
			p = strstr(line, key);
			n += p ? atol(p + strlen(key)) * pages[i] : 0;
		}
	}
	free(line);
	fclose(f);
	return n;
}

/* What is not mapped any more is not counted. */
TEST_F_TIMEOUT(parts, vmallocinfo, MINUTES(2))
{
	long left = MAPPED / SZ_4K;

	if (access(LIMIT, F_OK))
		SKIP(return, "no leaves are shown: CONFIG_HUGE_IOMAP is not set");
	EXPECT_EQ(left, counted_pages(self->start));
	for (int i = 0; i < ARRAY_SIZE(ranges); i++) {
		ASSERT_EQ(0, thi_change(self->fd, self->map.handle, THI_VUNMAP,
					ranges[i].offset, ranges[i].nr));
		left -= ranges[i].nr;
		EXPECT_EQ(left, counted_pages(self->start)) TH_LOG("range %d", i);
	}
}

/* iounmap() takes any address in the mapping, and unmaps all of it. */
TEST_F_TIMEOUT(parts, iounmap_inside, MINUTES(2))
{
	static const __u32 pages[] = { 1, SZ_2M / SZ_4K, MAPPED / SZ_4K - 1 };
	struct test_huge_iomap_map map;

	for (int i = 0; i < ARRAY_SIZE(pages); i++) {
		struct test_huge_iomap_unmap unmap = { .page = pages[i] };

		ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, 0, MAPPED, &map));
		if (self->pat)
			EXPECT_EQ(self->all + 2, pat_entries(0, -1ULL));
		unmap.handle = map.handle;
		ASSERT_EQ(0, ioctl(self->fd, THI_UNMAP, &unmap));
		EXPECT_EQ(0, unmap.left);
		if (self->pat)
			EXPECT_EQ(self->all + 1, pat_entries(0, -1ULL));
	}
}

/* Parts of vmap(): pages of RAM */

#define VMAP_PAGES	2048
#define FIRST		211		/* the part that changes: not whole leaves */
#define NR		1111

FIXTURE(ram) {
	int fd, vmap, mem, nth;
	bool pat;
	__u32 handle;
	__u64 pfn[VMAP_PAGES];
};

/* New RAM in a vmap(): the handle of that, and the pfns */
static bool vmap_ram(int vmap, __u32 *handle, __u64 *pfn)
{
	struct test_huge_vmap_alloc alloc = {
		.order = 10, .nr = VMAP_PAGES >> 10, .flags = THV_COMPOUND,
	};
	struct test_huge_vmap_piece piece = { .nr = VMAP_PAGES, .step = 1 };
	struct test_huge_vmap_map map = {
		.pieces = (unsigned long)&piece, .nr = 1, .how = THV_VMAP,
	};
	struct test_huge_vmap_pfns pfns = {
		.nr = VMAP_PAGES, .addr = (unsigned long)pfn,
	};

	if (ioctl(vmap, THV_ALLOC, &alloc))
		return false;
	piece.block = alloc.block;
	if (ioctl(vmap, THV_MAP, &map))
		return false;
	*handle = map.handle;
	pfns.handle = map.handle;
	return !ioctl(vmap, THV_PFNS, &pfns);
}

FIXTURE_SETUP(ram)
{
	void *p;

	self->fd = open_driver();
	self->vmap = open(DEVICE, O_RDWR);
	self->mem = open("/dev/mem", O_RDWR);
	if (self->fd < 0 || self->vmap < 0 || self->mem < 0)
		SKIP(return, "no test driver with a BAR, or no /dev/mem");
	self->nth = open("/proc/self/fail-nth", O_RDWR);
	self->pat = !access(PAT_LIST, R_OK);
	ASSERT_TRUE(vmap_ram(self->vmap, &self->handle, self->pfn));
	/* What is tracked is seen in a mapping by it. */
	p = mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, self->mem, self->pfn[0] * SZ_4K);
	if (p == MAP_FAILED && errno == EPERM)
		SKIP(return, "/dev/mem does not map RAM: CONFIG_STRICT_DEVMEM");
	munmap(p, SZ_4K);
}

FIXTURE_TEARDOWN(ram)
{
	struct test_huge_vmap_part all = { .handle = self->handle, .nr = VMAP_PAGES };

	if (self->vmap >= 0)
		EXPECT_EQ(0, ioctl(self->vmap, THV_SET_WB, &all));
	/* Unmaps and frees all */
	close(self->vmap);
	close(self->mem);
	close(self->nth);
	close(self->fd);
}

/* 0, or a negative errno */
static int set_ram(int vmap, __u32 handle, unsigned long cmd, __u64 first, __u64 nr)
{
	struct test_huge_vmap_part part = { .handle = handle, .first = first, .nr = nr };

	return ioctl(vmap, cmd, &part) ? -errno : 0;
}

/* The type that is tracked for a page of RAM: /dev/mem maps it with that. */
static int tracked(int fd, int mem, __u64 pfn)
{
	struct test_huge_iomap_user req = { .bytes = SZ_4K };
	void *p = mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, mem, pfn * SZ_4K);

	if (p == MAP_FAILED)
		return -1;
	req.addr = (unsigned long)p;
	if (ioctl(fd, THI_USER, &req))
		req.type = -1;
	munmap(p, SZ_4K);
	return req.type;
}

/* Pages of which the record is looked at: around the ends of all, some in between */
static bool is_sample(int i)
{
	const int in = i % 512;

	return in < 2 || in > 509 || i % 37 == 0 || abs(i - FIRST) < 3 ||
	       abs(i - FIRST - NR) < 3;
}

/*
 * How many pages have @in in the part, WB elsewhere; -1 if any has different types in
 * the vmap(), in the direct map, and in the record
 */
static int count(int fd, int vmap, int mem, __u32 handle, const __u64 *pfn, int in)
{
	__u8 types[VMAP_PAGES][2];
	struct test_huge_vmap_pfns req = {
		.handle = handle, .nr = VMAP_PAGES, .addr = (unsigned long)types,
	};
	int n = 0;

	if (ioctl(vmap, THV_TYPES, &req))
		return -1;
	for (int i = 0; i < VMAP_PAGES; i++) {
		const bool part = i >= FIRST && i < FIRST + NR;

		if (types[i][0] != types[i][1])
			return -1;
		if (is_sample(i) && tracked(fd, mem, pfn[i]) != types[i][0])
			return -1;
		n += types[i][0] == (part ? in : THI_WB);
	}
	return n;
}

/* Each allocation fails in turn: what is mapped is what is tracked. */
TEST_F_TIMEOUT(ram, no_memory, MINUTES(5))
{
	static const unsigned long cmds[] = { THV_SET_UC, THV_SET_WC };
	int failed = 0;

	if (self->nth < 0 || !can_fail_nth())
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC or CONFIG_FAILSLAB");
	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	for (int c = 0; c < 2; c++) {
		const int type = c ? THI_WC : THI_UC_MINUS;
		int err, left = 0;

		for (int n = 1; n < 100 && !left; n++) {
			ASSERT_TRUE(set_fail_nth(self->nth, n));
			err = set_ram(self->vmap, self->handle, cmds[c], FIRST, NR);
			left = get_fail_nth(self->nth);
			ASSERT_TRUE(set_fail_nth(self->nth, 0));
			EXPECT_TRUE(!err || err == -ENOMEM);
			failed += !!err;
			EXPECT_EQ(VMAP_PAGES, count(self->fd, self->vmap, self->mem,
						    self->handle, self->pfn,
						    err ? THI_WB : type)) {
				TH_LOG("allocation %d fails: %d", n, err);
			}
			if (!err)
				ASSERT_EQ(0, set_ram(self->vmap, self->handle, THV_SET_WB,
						     FIRST, NR));
		}
		EXPECT_GT(left, 0);
	}
	EXPECT_GT(failed, 1);
}

/*
 * The same in the direct map, over the end of a block of 2 MiB: the first one can be
 * split, the second one cannot. By address and as an array, which says -EINVAL.
 */
TEST_F_TIMEOUT(ram, no_memory_direct, MINUTES(2))
{
	static const unsigned long cmds[] = { THV_SET_UC, THV_SET_WC };
	__u32 handle = self->handle;
	int failed = 0;

	if (self->nth < 0 || !can_fail_nth())
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC or CONFIG_FAILSLAB");
	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	for (int i = 0; i < 4; i++) {
		struct test_huge_vmap_part part = {
			.direct = 1 + i / 2, .first = 1024 * (i % 2) + 510, .nr = 4,
		};
		int err, left = 0;

		/* What was changed once, maybe by a test before, is in pages of 4 KiB. */
		if (i == 2) {
			EXPECT_GT(failed, 0);
			failed = 0;
			ASSERT_TRUE(vmap_ram(self->vmap, &handle, self->pfn));
		}
		part.handle = handle;
		for (int n = 1; n < 100 && !left; n++) {
			__u8 types[4][2];
			struct test_huge_vmap_pfns req = {
				.handle = handle, .first = part.first, .nr = part.nr,
				.addr = (unsigned long)types,
			};

			ASSERT_TRUE(set_fail_nth(self->nth, n));
			err = ioctl(self->vmap, cmds[i % 2], &part) ? -errno : 0;
			left = get_fail_nth(self->nth);
			ASSERT_TRUE(set_fail_nth(self->nth, 0));
			EXPECT_TRUE(!err || err == (part.direct == 2 ? -EINVAL : -ENOMEM));
			failed += !!err;
			ASSERT_EQ(0, ioctl(self->vmap, THV_TYPES, &req));
			for (int j = 0; j < part.nr; j++) {
				const int type = err ? THI_WB : i % 2 ? THI_WC : THI_UC_MINUS;

				EXPECT_EQ(type, types[j][1]) {
					TH_LOG("allocation %d fails: %d: page %d", n, err, j);
				}
				EXPECT_EQ(types[j][1], tracked(self->fd, self->mem,
							       self->pfn[part.first + j]));
			}
		}
		EXPECT_GT(left, 0);
		ASSERT_EQ(0, ioctl(self->vmap, THV_SET_WB, &part));
	}
	EXPECT_GT(failed, 0);
}

/* One page of the part has another type: those before it do not get any. */
TEST_F_TIMEOUT(ram, busy, MINUTES(2))
{
	const int other = FIRST + 700;
	struct test_huge_vmap_part part = {
		.handle = self->handle, .direct = 1, .first = other, .nr = 1,
	};

	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	ASSERT_EQ(0, ioctl(self->vmap, THV_SET_UC, &part));
	EXPECT_EQ(-EBUSY, set_ram(self->vmap, self->handle, THV_SET_WC, FIRST, NR));
	for (int i = 0; i < VMAP_PAGES; i++) {
		if (!is_sample(i) && abs(i - other) > 1)
			continue;
		EXPECT_EQ(i == other ? THI_UC_MINUS : THI_WB,
			  tracked(self->fd, self->mem, self->pfn[i])) {
			TH_LOG("page %d", i);
		}
	}
	ASSERT_EQ(0, ioctl(self->vmap, THV_SET_WB, &part));
	EXPECT_EQ(0, set_ram(self->vmap, self->handle, THV_SET_WC, FIRST, NR));
	EXPECT_EQ(VMAP_PAGES, count(self->fd, self->vmap, self->mem, self->handle,
				    self->pfn, THI_WC));
}

/* A page in between is not mapped any more: nothing gets a type. */
TEST_F_TIMEOUT(ram, hole, MINUTES(2))
{
	struct test_huge_vmap_part hole = { .first = FIRST + 700, .nr = 1 };

	/* Not the one that the teardown sets to WB */
	ASSERT_TRUE(vmap_ram(self->vmap, &hole.handle, self->pfn));
	ASSERT_EQ(0, ioctl(self->vmap, THV_VUNMAP, &hole));
	EXPECT_EQ(-EINVAL, set_ram(self->vmap, hole.handle, THV_SET_WC, FIRST, NR));
	EXPECT_EQ(-EINVAL, set_ram(self->vmap, hole.handle, THV_SET_WB, FIRST, NR));
	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	for (int i = 0; i < VMAP_PAGES; i++) {
		if (is_sample(i))
			EXPECT_EQ(THI_WB, tracked(self->fd, self->mem, self->pfn[i]));
	}
	EXPECT_EQ(0, set_ram(self->vmap, hole.handle, THV_SET_WC, FIRST, 700));
	EXPECT_EQ(0, set_ram(self->vmap, hole.handle, THV_SET_WB, FIRST, 700));
}

/* The way back fails: for that, a leaf has to be UC as a whole first. */
TEST_F_TIMEOUT(ram, no_memory_wb, MINUTES(5))
{
	int failed = 0, left = 0;

	if (self->nth < 0 || !can_fail_nth())
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC or CONFIG_FAILSLAB");
	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	ASSERT_EQ(0, set_ram(self->vmap, self->handle, THV_SET_UC, 0, VMAP_PAGES));
	for (int n = 1; n < 100 && !left; n++) {
		int err;

		ASSERT_TRUE(set_fail_nth(self->nth, n));
		err = set_ram(self->vmap, self->handle, THV_SET_WB, FIRST, NR);
		left = get_fail_nth(self->nth);
		ASSERT_TRUE(set_fail_nth(self->nth, 0));
		EXPECT_TRUE(!err || err == -ENOMEM);
		failed += !!err;
		/* Outside of the part, all is UC-; -1 would be disagreement. */
		EXPECT_EQ(err ? 0 : NR, count(self->fd, self->vmap, self->mem,
					      self->handle, self->pfn, THI_WB)) {
			TH_LOG("allocation %d fails: %d", n, err);
		}
	}
	EXPECT_GT(left, 0);
	/* Pages of 4 KiB are not split. */
	if (max_leaf() > THI_4K)
		EXPECT_GT(failed, 0);
}

TEST_HARNESS_MAIN
