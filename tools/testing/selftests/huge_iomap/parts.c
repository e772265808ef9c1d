// SPDX-License-Identifier: GPL-2.0
/*
 * Parts of an ioremap(): they get another memory type, are made read-only, or are
 * unmapped. The rest stays as it is, and so does what PAT keeps of it.
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

	self->fd = open(DEVICE, O_RDWR);
	if (self->fd < 0)
		SKIP(return, DEVICE " is not there: no ivshmem device or no driver");
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

/* What THI_SET_UC, THI_SET_WC and THI_SET_WB lead to */
static int type_of(bool pat, int what)
{
	if (what == THI_SET_WB)
		return THI_WB;
	return what == THI_SET_WC && pat ? THI_WC : THI_UC_MINUS;
}

static const char * const pat_names[] = { "uncached-minus", "write-combining",
					  "write-back" };

struct range { __u64 offset; __u32 nr; };

/* Ranges within a leaf, over the ends of leaves, and whole leaves */
static const struct range ranges[] = {
	{ SZ_1G + 5 * SZ_2M + 7 * SZ_4K, 1 },
	{ 3 * SZ_2M - SZ_4K, 3 },
	{ 2 * SZ_1G - 2 * SZ_4K, 5 },
	{ SZ_1G + 8 * SZ_2M, 512 },
	{ SZ_1G + 20 * SZ_2M - SZ_4K, 514 },
	{ 0, 1 },
	{ MAPPED - SZ_4K, 1 },
};

/*
 * Every page in @r has @type, and every other one of the mapping the one that it was
 * made with; all are present; writable is all but @r, if that is @ro.
 */
static bool only_in(int fd, __u32 handle, const struct range *r, int type, bool ro)
{
	const __u64 end = r->offset + r->nr * SZ_4K;
	static const __u64 sizes[] = { SZ_4K, SZ_2M, SZ_1G };
	struct test_huge_iomap_page page;
	__u64 next;

	for (__u64 o = 0; o < MAPPED; o = next) {
		const bool in = o >= r->offset && o < end;

		if (thi_page(fd, handle, o, &page) || !page.present || page.wrong)
			return false;
		next = (o & ~(sizes[page.leaf] - 1)) + sizes[page.leaf];
		/* A leaf is in it or not. */
		if ((type != THI_UC_MINUS || ro) &&
		    ((o < r->offset && next > r->offset) || (in && next > end)))
			return false;
		/* Far away, where all is in pages: one of each 2 MiB */
		if (page.leaf == THI_4K && (next + 2 * SZ_2M < r->offset || o > end + SZ_2M))
			next = (next + SZ_2M - 1) & ~(SZ_2M - 1);
		if (page.type != (in ? type : THI_UC_MINUS) || page.writable == (in && ro))
			return false;
	}
	return true;
}

TEST_F(parts, type)
{
	for (int i = 0; i < ARRAY_SIZE(ranges); i++) {
		const struct range *r = &ranges[i];

		for (int what = THI_SET_UC; what <= THI_SET_WB; what++) {
			const int type = type_of(self->pat, what);
			const __u64 end = r->offset + r->nr * SZ_4K;
			__u32 value = 0;

			ASSERT_EQ(0, thi_change(self->fd, self->map.handle, what, r->offset,
						r->nr));
			EXPECT_TRUE(only_in(self->fd, self->map.handle, r, type, false)) {
				TH_LOG("%u pages at %#llx, %s", r->nr, r->offset,
				       pat_names[what]);
			}
			if (self->pat && what != THI_SET_UC) {
				EXPECT_TRUE(pat_has(self->start + r->offset,
						    r->nr * SZ_4K, pat_names[what]));
				EXPECT_EQ(self->before + 2,
					  pat_entries(self->start, MAPPED));
			}
			/* It still maps what it did. */
			EXPECT_EQ(0, thi_write(self->fd, self->map.handle, end - 4, what + 1));
			EXPECT_EQ(0, thi_read(self->fd, self->map.handle, end - 4, &value));
			EXPECT_EQ(what + 1, value);
		}
		ASSERT_EQ(0, thi_change(self->fd, self->map.handle, THI_SET_UC, r->offset,
					r->nr));
		EXPECT_TRUE(only_in(self->fd, self->map.handle, r, THI_UC_MINUS, false));
		if (self->pat)
			EXPECT_EQ(self->before + 1, pat_entries(self->start, MAPPED));
	}
}

TEST_F(parts, read_only)
{
	for (int i = 0; i < ARRAY_SIZE(ranges); i++) {
		const struct range *r = &ranges[i];

		ASSERT_EQ(0, thi_change(self->fd, self->map.handle, THI_SET_RO, r->offset,
					r->nr));
		EXPECT_TRUE(only_in(self->fd, self->map.handle, r, THI_UC_MINUS, true)) {
			TH_LOG("%u pages at %#llx", r->nr, r->offset);
		}
		ASSERT_EQ(0, thi_change(self->fd, self->map.handle, THI_SET_RW, r->offset,
					r->nr));
		EXPECT_TRUE(only_in(self->fd, self->map.handle, r, THI_UC_MINUS, false));
	}
}

/* Left alone: whatever was changed, the end of the mapping is the end of it. */
TEST_F(parts, left)
{
	for (int i = 0; i < ARRAY_SIZE(ranges); i++)
		ASSERT_EQ(0, thi_change(self->fd, self->map.handle,
					i & 1 ? THI_SET_WC : THI_SET_WB, ranges[i].offset,
					ranges[i].nr));
}

/* A part that is cut by others, by a model that has a type for each page */
TEST_F(parts, random)
{
	enum { FIRST = 262144 - 1024, NR = 2048 };	/* around 1 GiB */
	struct test_huge_iomap_page page;
	__u8 model[NR];
	__u64 state = 1;

	memset(model, THI_SET_UC, sizeof(model));
	for (int n = 0; n < 200; n++) {
		__u32 at, nr, what, parts = 0;

		state = state * 6364136223846793005ULL + 1442695040888963407ULL;
		at = (state >> 33) % NR;
		nr = 1 + (state >> 45) % (n & 1 ? 8 : NR - at);
		nr = nr > NR - at ? NR - at : nr;
		what = (state >> 60) % 3;
		ASSERT_EQ(0, thi_change(self->fd, self->map.handle, what,
					(FIRST + at) * SZ_4K, nr));
		memset(model + at, what, nr);
		/* Parts that touch are not merged, so there may be more. */
		for (int i = 0; i < NR; i++)
			parts += model[i] != THI_SET_UC && (!i || model[i] != model[i - 1]);
		if (self->pat)
			EXPECT_GE(pat_entries(self->start, MAPPED),
				  self->before + 1 + parts);
		for (int i = 0; i < NR; i++) {
			ASSERT_EQ(0, thi_page(self->fd, self->map.handle,
					      (FIRST + i) * SZ_4K, &page));
			ASSERT_TRUE(page.present && !page.wrong);
			ASSERT_EQ(type_of(self->pat, model[i]), page.type) {
				TH_LOG("%d: page %d", n, i);
			}
		}
	}
	ASSERT_EQ(0, thi_change(self->fd, self->map.handle, THI_SET_UC, FIRST * SZ_4K, NR));
	if (self->pat)
		EXPECT_EQ(self->before + 1, pat_entries(self->start, MAPPED));
}

/* Who has mapped it already would not notice, and who wants to is refused. */
TEST_F(parts, others)
{
	const __u64 at = SZ_1G + 2 * SZ_2M;
	struct test_huge_iomap_unmap unmap;
	struct test_huge_iomap_map map;
	void *p;
	int res;

	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, at, SZ_4K, &map));
	EXPECT_EQ(-EBUSY, thi_change(self->fd, self->map.handle, THI_SET_WC, at, 1));
	EXPECT_EQ(-EBUSY, thi_change(self->fd, self->map.handle, THI_SET_WC, at - SZ_4K, 3));
	EXPECT_EQ(0, thi_change(self->fd, self->map.handle, THI_SET_UC, at, 1));
	EXPECT_EQ(0, thi_change(self->fd, self->map.handle, THI_SET_WC, at + SZ_4K, 1));
	EXPECT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));
	EXPECT_EQ(0, thi_change(self->fd, self->map.handle, THI_SET_WC, at, 1));

	EXPECT_EQ(-ENOMEM, thi_map(self->fd, THI_IOREMAP, at, SZ_4K, &map));
	EXPECT_EQ(-ENOMEM, thi_map(self->fd, THI_IOREMAP_WC, at, SZ_4K, &map));
	EXPECT_EQ(-ENOMEM, thi_map(self->fd, THI_IOREMAP, 0, MAPPED, &map));
	EXPECT_EQ(0, thi_map(self->fd, THI_IOREMAP, at + 2 * SZ_4K, SZ_2M, &map));
	EXPECT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));
	res = open(PCI_DEVICE "/resource2", O_RDWR);
	ASSERT_GE(res, 0);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SZ_2M, PROT_READ, MAP_SHARED, res, at));
	EXPECT_EQ(EINVAL, errno);
	p = mmap(NULL, SZ_2M, PROT_READ, MAP_SHARED, res, at + SZ_2M);
	EXPECT_NE(MAP_FAILED, p);
	munmap(p, SZ_2M);
	close(res);
}

/* Each allocation fails in turn: the type has changed or it has not. */
TEST_F(parts, no_memory)
{
	const struct range *r = &ranges[2];
	int fd, done = 0, failed = 0;

	fd = open("/proc/self/fail-nth", O_RDWR);
	if (fd < 0 || !can_fail_nth())
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC or CONFIG_FAILSLAB");
	for (int n = 1; n < 50 && !done; n++) {
		int err;

		ASSERT_TRUE(set_fail_nth(fd, n));
		err = thi_change(self->fd, self->map.handle, THI_SET_WC, r->offset, r->nr);
		done = get_fail_nth(fd) > 0;
		ASSERT_TRUE(set_fail_nth(fd, 0));
		EXPECT_TRUE(!err || err == -ENOMEM);
		failed += !!err;
		EXPECT_TRUE(only_in(self->fd, self->map.handle, r,
				    err ? THI_UC_MINUS : type_of(self->pat, THI_SET_WC),
				    false)) {
			TH_LOG("allocation %d fails: %d", n, err);
		}
		if (self->pat)
			EXPECT_EQ(self->before + 1 + !err, pat_entries(self->start, MAPPED));
		ASSERT_EQ(0, thi_change(self->fd, self->map.handle, THI_SET_UC, r->offset,
					r->nr));
	}
	EXPECT_TRUE(done);
	/* Without PAT nothing changes, and nothing is allocated. */
	if (self->pat)
		EXPECT_GT(failed, 0);
	close(fd);
}

TEST_F(parts, vmalloc)
{
	EXPECT_EQ(0, ioctl(self->fd, THI_VMALLOC)) TH_LOG("%s", strerror(errno));
}

/* Unmapping of a part takes no neighbour with it. */
TEST_F(parts, unmap)
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
			EXPECT_EQ(0, thi_read(self->fd, self->map.handle, r->offset - 4, &value));
		}
		if (end < MAPPED) {
			ASSERT_EQ(0, thi_page(self->fd, self->map.handle, end, &page));
			EXPECT_TRUE(page.present && !page.wrong);
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
TEST_F(parts, vmallocinfo)
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

TEST_HARNESS_MAIN
