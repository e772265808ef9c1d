// SPDX-License-Identifier: GPL-2.0
/*
 * Memory types: no huge leaf reaches over MTRRs of different types, and where they
 * are the same the leaves are as large as ever.
 */
#include "huge_iomap_user.h"

#include <asm/mtrr.h>

#include "kselftest_harness.h"

#define MAPPED		(4 * SZ_1G)
#define MAX_MTRR	3

/* Types as the CPU numbers them; NO_MTRR: in none of those that are set here */
enum { UC, WC, WT = 4, WB = 6, NO_MTRR = 15 };

static const char *type_name(int type)
{
	return type == UC ? "uncachable" : type == WC ? "write-combining" :
	       type == WT ? "write-through" : "write-back";
}

struct mtrr_range {
	__u64 offset, bytes;	/* in the BAR */
	int type;
	int fd;			/* it goes when that is closed, unless -1 */
};

/* By the ioctl: it goes when @fd is closed. 0 or an errno */
static int ioctl_mtrr(__u64 base, __u64 bytes, int type, int *fd)
{
	struct mtrr_sentry entry = { .base = base, .size = bytes, .type = type };
	int err;

	*fd = open("/proc/mtrr", O_WRONLY);
	if (*fd < 0)
		return errno;
	/* It returns the number of the MTRR. */
	if (ioctl(*fd, MTRRIOC_ADD_ENTRY, &entry) >= 0)
		return 0;
	err = errno;
	close(*fd);
	return err;
}

struct bar {
	int fd;			/* of the test driver */
	int res;		/* of the PCI resource */
	__u64 start;
	char *area;
	int max;
	int type;		/* of what is in no MTRR */
	struct mtrr_range range[MAX_MTRR];	/* that are set */
	int nr;
};

FIXTURE(mtrr) {
	struct bar bar;
};

/* The leaves of a mapping of MAPPED bytes, by the kernel or by mmap() */
static bool get_leaves(struct bar *bar, bool kernel, __u64 nr[THI_NR_LEAF])
{
	struct test_huge_iomap_leaves leaves;
	struct test_huge_iomap_unmap unmap;
	struct test_huge_iomap_map map;
	struct user_leaves user;

	if (kernel) {
		if (thi_map(bar->fd, THI_IOREMAP, 0, MAPPED, &map) ||
		    thi_leaves(bar->fd, map.handle, &leaves) ||
		    thi_unmap(bar->fd, map.handle, &unmap) || leaves.wrong)
			return false;
		memcpy(nr, leaves.nr, sizeof(leaves.nr));
		return true;
	}
	if (map_at(bar->res, 0, bar->area, 0, MAPPED) == MAP_FAILED ||
	    !user_leaves(bar->area, MAPPED, &user) || munmap(bar->area, MAPPED))
		return false;
	nr[THI_4K] = user.bytes[THI_4K] / SZ_4K;
	nr[THI_2M] = user.bytes[THI_2M] / SZ_2M;
	nr[THI_1G] = user.bytes[THI_1G] / SZ_1G;
	return true;
}

/* Every second one by the ioctl */
static int add(struct bar *bar, __u64 offset, __u64 bytes, int type)
{
	struct mtrr_range *r = &bar->range[bar->nr];
	int err;

	*r = (struct mtrr_range) { offset, bytes, type, -1 };
	if (bar->nr & 1)
		err = ioctl_mtrr(bar->start + offset, bytes, type, &r->fd);
	else
		err = set_mtrr(bar->start + offset, bytes, type_name(type));
	bar->nr += !err;
	return err;
}

static void remove_all(struct bar *bar)
{
	while (bar->nr) {
		struct mtrr_range *r = &bar->range[--bar->nr];

		if (r->fd >= 0)
			close(r->fd);
		else
			clear_mtrr(bar->start + r->offset);
	}
}

/* The type at @offset: SDM volume 3, "MTRR Precedences". UC wins, WT over WB. */
static int type_at(struct bar *bar, __u64 offset)
{
	int type = NO_MTRR;

	for (int i = 0; i < bar->nr; i++) {
		const struct mtrr_range *r = &bar->range[i];

		if (offset < r->offset || offset >= r->offset + r->bytes)
			continue;
		if (type == NO_MTRR || r->type == UC)
			type = r->type;
	}
	return type == NO_MTRR ? bar->type : type;
}

static bool is_uniform(struct bar *bar, __u64 offset, __u64 bytes)
{
	for (__u64 o = offset; o < offset + bytes; o += SZ_4K)
		if (type_at(bar, o) != type_at(bar, offset))
			return false;
	return true;
}

/* By looking at every page */
static void ideal(struct bar *bar, __u64 nr[THI_NR_LEAF])
{
	__u64 next;

	memset(nr, 0, THI_NR_LEAF * sizeof(*nr));
	for (__u64 o = 0; o < MAPPED; o = next) {
		if (bar->max >= THI_1G && !(o % SZ_1G) && is_uniform(bar, o, SZ_1G)) {
			nr[THI_1G]++;
			next = o + SZ_1G;
		} else if (bar->max >= THI_2M && !(o % SZ_2M) &&
			   is_uniform(bar, o, SZ_2M)) {
			nr[THI_2M]++;
			next = o + SZ_2M;
		} else {
			nr[THI_4K]++;
			next = o + SZ_4K;
		}
	}
}

FIXTURE_SETUP(mtrr)
{
	struct test_huge_iomap_bar pci;
	__u64 nr[THI_NR_LEAF];
	bool uniform[2];

	self->bar.fd = open(DEVICE, O_RDWR);
	self->bar.res = open(PCI_DEVICE "/resource2", O_RDWR);
	if (self->bar.fd < 0 || self->bar.res < 0)
		SKIP(return, DEVICE " is not there: no ivshmem device or no driver");
	ASSERT_EQ(0, ioctl(self->bar.fd, THI_BAR, &pci));
	self->bar.start = pci.start;
	self->bar.max = max_leaf();
	self->bar.area = reserve(MAPPED);
	ASSERT_NE(NULL, self->bar.area);
	if (access("/proc/mtrr", W_OK))
		SKIP(return, "no MTRRs");

	/* The default type is WB or UC: one of them does not show. */
	for (int i = 0; i < 2; i++) {
		int err = add(&self->bar, SZ_1G + SZ_2M, SZ_2M, i ? WB : UC);

		if (err)
			SKIP(return, "no MTRR to set: %s", strerror(err));
		ASSERT_TRUE(get_leaves(&self->bar, true, nr));
		uniform[i] = nr[THI_1G] == 4;
		remove_all(&self->bar);
	}
	if (self->bar.max == THI_1G)
		ASSERT_NE(uniform[0], uniform[1]);
	self->bar.type = uniform[0] ? UC : WB;
}

FIXTURE_TEARDOWN(mtrr)
{
	remove_all(&self->bar);
	if (self->bar.fd >= 0)
		close(self->bar.fd);
	if (self->bar.res >= 0)
		close(self->bar.res);
}

/* Kernel and user mapping have the leaves that the MTRRs allow. */
#define check_leaves(name)							\
do {										\
	__u64 want[THI_NR_LEAF], got[THI_NR_LEAF];				\
										\
	ideal(&self->bar, want);							\
	for (int kernel = 0; kernel < 2; kernel++) {				\
		ASSERT_TRUE(get_leaves(&self->bar, kernel, got));			\
		for (int i = 0; i < THI_NR_LEAF; i++) {				\
			EXPECT_EQ(want[i], got[i]) {				\
				TH_LOG("%s, %s: %s leaves", name,		\
				       kernel ? "ioremap" : "mmap",		\
				       leaf_names[i]);				\
			}							\
		}								\
	}									\
} while (0)

TEST_F(mtrr, none)
{
	check_leaves("none");
}

TEST_F(mtrr, one)
{
	static const struct mtrr_range one[] = {
		{ 0, 16 * SZ_1G, WC, -1 },		/* all */
		{ 0, 16 * SZ_1G, UC, -1 },
		{ 2 * SZ_1G, 2 * SZ_1G, WC, -1 },		/* part */
		{ SZ_1G, SZ_1G, UC, -1 },
		{ SZ_1G, SZ_1G / 2, WC, -1 },		/* ends inside a 1 GiB block */
		{ SZ_1G, SZ_1G / 2, UC, -1 },
		{ SZ_1G + SZ_1G / 2, SZ_1G / 2, WC, -1 },	/* begins in it */
		{ SZ_1G + SZ_1G / 2, SZ_1G / 2, UC, -1 },
		{ SZ_1G, SZ_2M, UC, -1 },
		{ 2 * SZ_1G - SZ_2M, SZ_2M, UC, -1 },
		{ SZ_1G, SZ_4K, UC, -1 },			/* inside a 2 MiB block */
		{ SZ_1G, SZ_4K, WC, -1 },
		{ SZ_1G + SZ_1M, SZ_1M, UC, -1 },
		{ SZ_1G + SZ_1M, SZ_1M, WT, -1 },
		{ SZ_1G + SZ_2M - SZ_4K, SZ_4K, UC, -1 },
		{ SZ_1G + 2 * SZ_2M, SZ_1M, WB, -1 },
		{ 0, SZ_4K, UC, -1 },
		{ MAPPED - SZ_4K, SZ_4K, UC, -1 },
	};

	for (int i = 0; i < ARRAY_SIZE(one); i++) {
		char name[64];

		ASSERT_EQ(0, add(&self->bar, one[i].offset, one[i].bytes, one[i].type));
		snprintf(name, sizeof(name), "%s, %#llx at %#llx",
			 type_name(one[i].type), one[i].bytes, one[i].offset);
		check_leaves(name);
		remove_all(&self->bar);
	}
}

TEST_F(mtrr, two_types)
{
	static const int types[][2] = { { WC, WT }, { UC, WC }, { WC, UC }, { WT, UC } };

	for (int i = 0; i < ARRAY_SIZE(types); i++) {
		ASSERT_EQ(0, add(&self->bar, SZ_1G, SZ_1G / 2, types[i][0]));
		ASSERT_EQ(0, add(&self->bar, SZ_1G + SZ_1G / 2, SZ_1G / 2, types[i][1]));
		check_leaves(type_name(types[i][0]));
		remove_all(&self->bar);
		ASSERT_EQ(0, add(&self->bar, SZ_1G + SZ_2M, SZ_1M, types[i][0]));
		ASSERT_EQ(0, add(&self->bar, SZ_1G + SZ_2M + SZ_1M, SZ_1M, types[i][1]));
		check_leaves(type_name(types[i][1]));
		remove_all(&self->bar);
	}
}

/* Two that meet inside a block, of one type: the block is uniform. */
TEST_F(mtrr, same_type)
{
	ASSERT_EQ(0, add(&self->bar, SZ_1G, SZ_1G / 2, WC));
	ASSERT_EQ(0, add(&self->bar, SZ_1G + SZ_1G / 2, SZ_1G / 2, WC));
	check_leaves("two of 512 MiB");
	remove_all(&self->bar);
	ASSERT_EQ(0, add(&self->bar, SZ_2M, SZ_1M, WT));
	ASSERT_EQ(0, add(&self->bar, SZ_2M + SZ_1M, SZ_1M, WT));
	check_leaves("two of 1 MiB");
}

/* One in another: UC wins. */
TEST_F(mtrr, nested)
{
	ASSERT_EQ(0, add(&self->bar, 0, 4 * SZ_1G, WC));
	ASSERT_EQ(0, add(&self->bar, SZ_1G, SZ_2M, UC));
	ASSERT_EQ(0, add(&self->bar, 3 * SZ_1G + 5 * SZ_2M, SZ_4K, UC));
	check_leaves("UC in WC");
}

/* The fixed MTRRs of the first MiB differ from the next one. */
TEST_F(mtrr, fixed_ranges)
{
	int mem = open("/dev/mem", O_RDWR);
	char *area = self->bar.area;
	struct user_leaves leaves;

	ASSERT_GE(mem, 0);
	ASSERT_EQ(area, mmap(area, 4 * SZ_2M, PROT_READ, MAP_SHARED | MAP_FIXED, mem, 0));
	ASSERT_TRUE(user_leaves(area, 4 * SZ_2M, &leaves));
	if (self->bar.max >= THI_2M) {
		EXPECT_EQ(SZ_2M, leaves.bytes[THI_4K]);
		EXPECT_EQ(3 * SZ_2M, leaves.bytes[THI_2M]);
	}
	munmap(area, 4 * SZ_2M);
	close(mem);
}

TEST_HARNESS_MAIN
