// SPDX-License-Identifier: GPL-2.0
/*
 * Memory types: no huge leaf reaches over MTRRs of different types, and where they
 * are the same the leaves are as large as ever. MTRRs cannot be changed so that a
 * leaf which may be live gets two types.
 */
#include "huge_iomap_user.h"

#include <asm/mtrr.h>
#include <sys/klog.h>
#include <sys/wait.h>

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
static void ideal(struct bar *bar, int max, __u64 nr[THI_NR_LEAF])
{
	__u64 next;

	memset(nr, 0, THI_NR_LEAF * sizeof(*nr));
	for (__u64 o = 0; o < MAPPED; o = next) {
		if (max >= THI_1G && !(o % SZ_1G) && is_uniform(bar, o, SZ_1G)) {
			nr[THI_1G]++;
			next = o + SZ_1G;
		} else if (max >= THI_2M && !(o % SZ_2M) &&
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

	self->bar.fd = open_driver();
	self->bar.res = open(PCI_DEVICE "/resource2", O_RDWR);
	if (self->bar.fd < 0 || self->bar.res < 0)
		SKIP(return, "no " DEVICE ", no ivshmem device, or another driver has it");
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

		/* Of something that is no longer mapped */
		ASSERT_NE(EBUSY, err);
		if (err)
			SKIP(return, "no MTRR to set: %s", strerror(err));
		ASSERT_TRUE(get_leaves(&self->bar, true, nr));
		uniform[i] = nr[THI_1G] == 4;
		remove_all(&self->bar);
	}
	if (ioremap_max_leaf() == THI_1G)
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
	for (int kernel = 0; kernel < 2; kernel++) {				\
		ideal(&self->bar,						\
		      kernel ? ioremap_max_leaf() : user_max_leaf(), want);	\
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

TEST_F_TIMEOUT(mtrr, none, MINUTES(2))
{
	check_leaves("none");
}

TEST_F_TIMEOUT(mtrr, one, MINUTES(2))
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

TEST_F_TIMEOUT(mtrr, two_types, MINUTES(2))
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
TEST_F_TIMEOUT(mtrr, same_type, MINUTES(2))
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
TEST_F_TIMEOUT(mtrr, nested, MINUTES(2))
{
	ASSERT_EQ(0, add(&self->bar, 0, 4 * SZ_1G, WC));
	ASSERT_EQ(0, add(&self->bar, SZ_1G, SZ_2M, UC));
	ASSERT_EQ(0, add(&self->bar, 3 * SZ_1G + 5 * SZ_2M, SZ_4K, UC));
	check_leaves("UC in WC");
}

/* The fixed MTRRs of the first MiB differ from the next one. */
TEST_F_TIMEOUT(mtrr, fixed_ranges, MINUTES(2))
{
	int mem = open("/dev/mem", O_RDWR);
	char *area = self->bar.area;
	struct user_leaves leaves;

	ASSERT_GE(mem, 0);
	if (mmap(area, 4 * SZ_2M, PROT_READ, MAP_SHARED | MAP_FIXED, mem, 0) != area) {
		ASSERT_EQ(EPERM, errno);
		SKIP(return, "/dev/mem does not map RAM: CONFIG_STRICT_DEVMEM");
	}
	ASSERT_TRUE(user_leaves(area, 4 * SZ_2M, &leaves));
	if (self->bar.max >= THI_2M) {
		EXPECT_EQ(SZ_2M, leaves.bytes[THI_4K]);
		EXPECT_EQ(3 * SZ_2M, leaves.bytes[THI_2M]);
	}
	munmap(area, 4 * SZ_2M);
	close(mem);
}

/* MTRRs that change under mappings */

/* Which mappings are live, and which leaf they may have at most, at any limit */
struct live {
	bool kernel, user;
	int max;
	struct test_huge_iomap_map map;
};

static bool map_live(struct bar *bar, struct live *live, bool kernel)
{
	live->max = watched_leaf();
	if (kernel)
		live->kernel = !thi_map(bar->fd, THI_IOREMAP, 0, MAPPED, &live->map);
	else
		live->user = map_at(bar->res, 0, bar->area, 0, MAPPED) != MAP_FAILED;
	return kernel ? live->kernel : live->user;
}

static bool unmap_live(struct bar *bar, struct live *live)
{
	struct test_huge_iomap_unmap unmap;
	bool ok = true;

	if (live->kernel)
		ok = !thi_unmap(bar->fd, live->map.handle, &unmap);
	if (live->user)
		ok = ok && !munmap(bar->area, MAPPED);
	live->kernel = false;
	live->user = false;
	return ok;
}

/* The block around @at has one type now, and would have several. */
static bool cuts_block(struct bar *now, struct bar *then, __u64 at, __u64 size)
{
	const __u64 block = at & ~(size - 1);

	return at < MAPPED && block != at && is_uniform(now, block, size) &&
	       !is_uniform(then, block, size);
}

/* What a change should return if all blocks are mapped by leaves of up to @max */
static int expected(struct bar *now, struct bar *then, int max)
{
	bool cut = false;

	/* Types change where an MTRR begins or ends. */
	for (int leaf = THI_2M; leaf <= max; leaf++) {
		for (int i = 0; i < now->nr + then->nr; i++) {
			const struct mtrr_range *r = i < now->nr ?
				&now->range[i] : &then->range[i - now->nr];
			const __u64 start = r->offset, end = start + r->bytes;

			cut |= cuts_block(now, then, start, leaf_sizes[leaf]) ||
			       cuts_block(now, then, end, leaf_sizes[leaf]);
		}
	}
	return cut ? EBUSY : 0;
}

static int live_max(const struct live *live)
{
	return live->kernel || live->user ? live->max : THI_4K;
}

static int expect_add(struct bar *bar, const struct live *live, __u64 offset,
		      __u64 bytes, int type)
{
	struct bar then = *bar;

	then.range[then.nr++] = (struct mtrr_range) { offset, bytes, type, -1 };
	return expected(bar, &then, live_max(live));
}

static int expect_del(struct bar *bar, const struct live *live, int i)
{
	struct bar then = *bar;

	then.range[i] = then.range[--then.nr];
	return expected(bar, &then, live_max(live));
}

/* By base and length. 0 or an errno */
static int kill_mtrr(__u64 base, __u64 bytes)
{
	struct mtrr_sentry entry = { .base = base, .size = bytes };
	int fd = open("/proc/mtrr", O_WRONLY);
	int err = 0;

	if (fd < 0)
		return errno;
	if (ioctl(fd, MTRRIOC_KILL_ENTRY, &entry) < 0)
		err = errno;
	close(fd);
	return err;
}

/* A type that memory in no MTRR does not have */
static int other_type(const struct bar *bar)
{
	return bar->type == UC ? WC : UC;
}

TEST_F_TIMEOUT(mtrr, live, MINUTES(2))
{
	static const struct { __u64 offset, bytes; } change[] = {
		{ SZ_1G, SZ_4K }, { SZ_1G + SZ_2M, SZ_2M }, { SZ_1G + SZ_1M, SZ_1M },
		{ SZ_1G, SZ_1G }, { 2 * SZ_1G, 2 * SZ_1G }, { 0, SZ_1G / 2 },
		{ 0, 16 * SZ_1G }, { MAPPED, SZ_4K }, { MAPPED, 4 * SZ_1G },
		{ MAPPED - SZ_4K, SZ_4K }, { MAPPED - SZ_2M, SZ_2M },
	};
	struct bar *bar = &self->bar;
	int refused = 0, allowed = 0;

	for (int kernel = 0; kernel < 2; kernel++) {
		struct live live = {};

		ASSERT_TRUE(map_live(bar, &live, kernel));
		for (int i = 0; i < ARRAY_SIZE(change); i++) {
			const __u64 offset = change[i].offset, bytes = change[i].bytes;
			const int type = other_type(bar);
			int want = expect_add(bar, &live, offset, bytes, type);

			EXPECT_EQ(want, set_mtrr(bar->start + offset, bytes,
						 type_name(type))) {
				TH_LOG("%#llx at %#llx", bytes, offset);
			}
			if (want)
				refused++;
			else
				allowed += !clear_mtrr(bar->start + offset);
		}
		ASSERT_TRUE(unmap_live(bar, &live));
		/* All of it may change now. */
		for (int i = 0; i < ARRAY_SIZE(change); i++) {
			const __u64 base = bar->start + change[i].offset;

			EXPECT_EQ(0, set_mtrr(base, change[i].bytes,
					      type_name(other_type(bar))));
			EXPECT_EQ(0, clear_mtrr(base));
		}
	}
	/* Whole blocks of the largest leaf, and what is not mapped */
	EXPECT_GE(allowed, 2 * 5);
	EXPECT_EQ(2 * ARRAY_SIZE(change), allowed + refused);
	EXPECT_EQ(bar->max >= THI_2M, refused >= 2 * 3);
}

/* Each of the ioctls, and the end of a file whose MTRR has to stay */
TEST_F_TIMEOUT(mtrr, live_ioctl, MINUTES(2))
{
	struct bar *bar = &self->bar;
	const int want = bar->max >= THI_2M ? EBUSY : 0;
	const __u64 base = bar->start + SZ_1G;
	struct mtrr_sentry entry = {
		.base = base, .size = SZ_4K, .type = other_type(bar),
	};
	struct mtrr_sentry pages = {
		.base = base / SZ_4K, .size = 1, .type = other_type(bar),
	};
	const struct { unsigned long cmd; struct mtrr_sentry *arg; } add[] = {
		{ MTRRIOC_ADD_ENTRY, &entry }, { MTRRIOC_SET_ENTRY, &entry },
		{ MTRRIOC_ADD_PAGE_ENTRY, &pages }, { MTRRIOC_SET_PAGE_ENTRY, &pages },
	};
	struct live live = {};
	int fd;

	ASSERT_TRUE(map_live(bar, &live, true));
	for (int i = 0; i < ARRAY_SIZE(add); i++) {
		fd = open("/proc/mtrr", O_WRONLY);
		ASSERT_GE(fd, 0);
		errno = 0;
		EXPECT_EQ(want, ioctl(fd, add[i].cmd, add[i].arg) < 0 ? errno : 0);
		close(fd);
		if (!want)
			kill_mtrr(base, SZ_4K);
	}
	ASSERT_TRUE(unmap_live(bar, &live));

	/* UC over all hides what is in it, until it goes. */
	ASSERT_EQ(0, ioctl_mtrr(bar->start, 2 * SZ_1G, UC, &fd));
	ASSERT_EQ(0, set_mtrr(base, SZ_4K, "write-combining"));
	ASSERT_TRUE(map_live(bar, &live, true));
	EXPECT_EQ(want, kill_mtrr(bar->start, 2 * SZ_1G));
	close(fd);
	if (want) {
		ASSERT_TRUE(unmap_live(bar, &live));
		/* It is still there, and goes now. */
		EXPECT_EQ(0, kill_mtrr(bar->start, 2 * SZ_1G));
	} else {
		ASSERT_TRUE(unmap_live(bar, &live));
	}
	EXPECT_EQ(EINVAL, kill_mtrr(bar->start, 2 * SZ_1G));
	EXPECT_EQ(0, clear_mtrr(base));
}

/* The newest line of the kernel's log that has @word, "" if none */
static void last_message(const char *word, char *line, size_t len)
{
	static char log[1 << 20];
	int n = klogctl(3, log, sizeof(log) - 1);

	line[0] = 0;
	log[n < 0 ? 0 : n] = 0;
	for (char *p = strtok(log, "\n"); p; p = strtok(NULL, "\n"))
		if (strstr(p, word))
			snprintf(line, len, "%s", p);
}

TEST_F_TIMEOUT(mtrr, live_message, MINUTES(2))
{
	struct bar *bar = &self->bar;
	char range[64], owner[64], line[256];

	if (bar->max == THI_4K)
		SKIP(return, "nothing is refused: no huge leaves");
	snprintf(range, sizeof(range), "[mem %#010llx-%#010llx]",
		 (unsigned long long)bar->start,
		 (unsigned long long)bar->start + MAPPED - 1);
	for (int kernel = 0; kernel < 2; kernel++) {
		struct live live = {};

		ASSERT_TRUE(map_live(bar, &live, kernel));
		EXPECT_EQ(EBUSY, set_mtrr(bar->start, SZ_4K, type_name(other_type(bar))));
		ASSERT_TRUE(unmap_live(bar, &live));
		last_message("may have huge leaves", line, sizeof(line));
		if (kernel)
			snprintf(owner, sizeof(owner), "by thi_");
		else
			snprintf(owner, sizeof(owner), "by memtype[%d]", getpid());
		EXPECT_NE(NULL, strstr(line, range)) TH_LOG("%s", line);
		EXPECT_NE(NULL, strstr(line, owner)) TH_LOG("%s", line);
	}
}

/* Faults make larger leaves when the limit is raised: what it was does not count. */
TEST_F_TIMEOUT(mtrr, live_limit, MINUTES(2))
{
	struct bar *bar = &self->bar;
	char saved[16];

	if (bar->max < THI_1G)
		SKIP(return, "no leaves of 1 GiB");
	ASSERT_TRUE(read_line(LIMIT, saved, sizeof(saved)));
	for (int i = 0; i < 2 * THI_NR_LEAF; i++) {
		const char *type = type_name(other_type(bar));
		const __u64 base = bar->start + SZ_1G;
		struct live live = {};

		ASSERT_EQ(0, write_file(LIMIT, leaf_names[i / 2]));
		ASSERT_TRUE(map_live(bar, &live, i & 1));
		ASSERT_EQ(0, write_file(LIMIT, saved));
		EXPECT_EQ(EBUSY, set_mtrr(base, SZ_4K, type)) {
			TH_LOG("%s", leaf_names[i / 2]);
			clear_mtrr(base);
		}
		EXPECT_EQ(EBUSY, set_mtrr(base, SZ_2M, type)) {
			TH_LOG("%s", leaf_names[i / 2]);
			clear_mtrr(base);
		}
		ASSERT_TRUE(unmap_live(bar, &live));
		EXPECT_EQ(0, set_mtrr(base, SZ_4K, type));
		EXPECT_EQ(0, clear_mtrr(base));
	}
}

/* Each of two mappings of a range counts, whatever limit it was made at. */
TEST_F_TIMEOUT(mtrr, live_twice, MINUTES(2))
{
	struct bar *bar = &self->bar;
	char saved[16], *area = bar->area;
	char *other = reserve(MAPPED);

	if (bar->max == THI_4K)
		SKIP(return, "nothing is refused: no huge leaves");
	ASSERT_NE(NULL, other);
	ASSERT_TRUE(read_line(LIMIT, saved, sizeof(saved)));
	for (int i = 0; i < 8; i++) {
		const char *type = type_name(other_type(bar));
		struct live first = {}, second = {};
		const bool kernel = i & 1, first_goes = i & 4;

		ASSERT_EQ(0, write_file(LIMIT, i & 2 ? "4K" : saved));
		ASSERT_TRUE(map_live(bar, &first, kernel));
		ASSERT_EQ(0, write_file(LIMIT, i & 2 ? saved : "4K"));
		bar->area = other;
		ASSERT_TRUE(map_live(bar, &second, kernel));
		ASSERT_EQ(0, write_file(LIMIT, saved));

		bar->area = first_goes ? area : other;
		ASSERT_TRUE(unmap_live(bar, first_goes ? &first : &second));
		EXPECT_EQ(EBUSY, set_mtrr(bar->start + SZ_1G, SZ_4K, type)) {
			TH_LOG("case %d", i);
			clear_mtrr(bar->start + SZ_1G);
		}
		bar->area = first_goes ? other : area;
		ASSERT_TRUE(unmap_live(bar, first_goes ? &second : &first));
		bar->area = area;
		EXPECT_EQ(0, set_mtrr(bar->start + SZ_1G, SZ_4K, type));
		EXPECT_EQ(0, clear_mtrr(bar->start + SZ_1G));
	}
	munmap(other, MAPPED);
}

/* A driver that maps its VMA piece by piece, also after fork() and a split */
TEST_F_TIMEOUT(mtrr, live_pieces, MINUTES(2))
{
	struct bar *bar = &self->bar;
	const int want = watched_leaf() >= THI_2M ? EBUSY : 0;
	/* In the first piece, over the end of it, in the second and in the third one */
	const struct { __u64 at; int want; } at[] = {
		{ SZ_1M, want }, { SZ_2M + SZ_4K, 0 }, { THI_CUT2 - SZ_1M, want },
		{ 3 * SZ_1G, want },
	};
	pid_t child;

	for (int round = 0; round < 3; round++) {
		ASSERT_NE(MAP_FAILED, mmap(bar->area, MAPPED, PROT_READ | PROT_WRITE,
					   MAP_SHARED | MAP_FIXED, bar->fd, THI_PIECES));
		for (int i = 0; i < ARRAY_SIZE(at); i++) {
			EXPECT_EQ(at[i].want, try_mtrr(bar->start + at[i].at)) {
				TH_LOG("%#llx", at[i].at);
			}
		}
		child = round == 1 ? fork() : -1;
		if (!child) {
			pause();
			_exit(0);
		}
		if (round == 2) {
			ASSERT_EQ(0, munmap(bar->area + SZ_1G, SZ_4K));
			EXPECT_EQ(want, try_mtrr(bar->start + 3 * SZ_1G));
		}
		ASSERT_EQ(0, munmap(bar->area, MAPPED));
		if (child > 0) {
			EXPECT_EQ(want, try_mtrr(bar->start + 3 * SZ_1G));
			kill(child, SIGKILL);
			ASSERT_EQ(child, waitpid(child, NULL, 0));
		}
		for (int i = 0; i < ARRAY_SIZE(at); i++)
			EXPECT_EQ(0, try_mtrr(bar->start + at[i].at));
	}
}

/* RAM is not looked at, mapped or not. */
TEST_F_TIMEOUT(mtrr, live_ram, MINUTES(2))
{
	const __u64 base = (end_of_ram() - SZ_2M) & ~(SZ_2M - 1);
	int mem = open("/dev/mem", O_RDWR);
	void *p;

	/* The direct map has a leaf there. */
	if (!file_has("/proc/cpuinfo", " hypervisor"))
		SKIP(return, "a page of RAM gets two types: in a virtual machine only");
	ASSERT_GE(mem, 0);
	p = mmap(self->bar.area, SZ_2M, PROT_READ, MAP_SHARED | MAP_FIXED, mem, base);
	close(mem);
	if (p == MAP_FAILED)
		SKIP(return, "/dev/mem does not map RAM");
	EXPECT_EQ(0, try_mtrr(base + SZ_4K));
	ASSERT_EQ(0, munmap(p, SZ_2M));
	EXPECT_EQ(0, try_mtrr(base + SZ_4K));
}

/* A child's mapping keeps the range. */
TEST_F_TIMEOUT(mtrr, live_fork, MINUTES(2))
{
	struct bar *bar = &self->bar;
	const char *type = type_name(other_type(bar));
	struct live live = {};
	pid_t child;

	if (bar->max == THI_4K)
		SKIP(return, "nothing is refused: no huge leaves");
	ASSERT_TRUE(map_live(bar, &live, false));
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		pause();
		_exit(0);
	}
	ASSERT_TRUE(unmap_live(bar, &live));
	EXPECT_EQ(EBUSY, set_mtrr(bar->start, SZ_4K, type));
	kill(child, SIGKILL);
	ASSERT_EQ(child, waitpid(child, NULL, 0));
	EXPECT_EQ(0, set_mtrr(bar->start, SZ_4K, type));
	EXPECT_EQ(0, clear_mtrr(bar->start));
}

static __u64 pick(__u64 n)
{
	static __u64 state = 0x9e3779b97f4a7c15;

	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (state >> 33) % n;
}

/* May this be added next to the others, by the rules that 7.3 has? */
static bool is_valid(const struct bar *bar, __u64 offset, __u64 bytes, int type)
{
	for (int i = 0; i < bar->nr; i++) {
		const struct mtrr_range *r = &bar->range[i];

		if (offset >= r->offset + r->bytes || r->offset >= offset + bytes)
			continue;
		/* Which of two for the same range is deleted is not said. */
		if (offset == r->offset && bytes == r->bytes)
			return false;
		if (type == r->type || (type != UC && r->type != UC))
			return false;
	}
	return true;
}

TEST_F_TIMEOUT(mtrr, live_random, MINUTES(2))
{
	static const int types[] = { UC, WC, WT, WB };
	struct bar *bar = &self->bar;
	struct live live = {};
	int refused = 0, changed = 0;
	char saved[16] = "";

	read_line(LIMIT, saved, sizeof(saved));
	for (int n = 0; n < 600; n++) {
		if (!pick(8)) {
			ASSERT_TRUE(unmap_live(bar, &live));
			if (saved[0])
				write_file(LIMIT, leaf_names[pick(bar->max + 1)]);
			if (pick(4))
				ASSERT_TRUE(map_live(bar, &live, pick(2)));
			if (saved[0])
				ASSERT_EQ(0, write_file(LIMIT, saved));
		}
		if (bar->nr == MAX_MTRR || (bar->nr && !pick(3))) {
			const int i = pick(bar->nr);
			struct mtrr_range *r = &bar->range[i];
			int want = expect_del(bar, &live, i);
			int got = kill_mtrr(bar->start + r->offset, r->bytes);

			ASSERT_EQ(want, got) TH_LOG("%d: del %#llx at %#llx", n,
						    r->bytes, r->offset);
			if (!got)
				*r = bar->range[--bar->nr];
			refused += !!got;
			changed += !got;
			/* One that cannot go, as long as this is mapped */
			if (got && bar->nr == MAX_MTRR)
				ASSERT_TRUE(unmap_live(bar, &live));
		} else {
			const __u64 bytes = SZ_4K << pick(20);
			const __u64 offset = pick(2 * MAPPED / bytes) * bytes;
			const int type = types[pick(4)];
			int want, got;

			if (!is_valid(bar, offset, bytes, type))
				continue;
			want = expect_add(bar, &live, offset, bytes, type);
			got = set_mtrr(bar->start + offset, bytes, type_name(type));
			ASSERT_EQ(want, got) TH_LOG("%d: %s %#llx at %#llx", n,
						    type_name(type), bytes, offset);
			if (!got)
				bar->range[bar->nr++] =
					(struct mtrr_range) { offset, bytes, type, -1 };
			refused += !!got;
			changed += !got;
		}
	}
	ASSERT_TRUE(unmap_live(bar, &live));
	while (bar->nr) {
		struct mtrr_range *r = &bar->range[--bar->nr];

		EXPECT_EQ(0, kill_mtrr(bar->start + r->offset, r->bytes));
	}
	EXPECT_GT(changed, 100);
	EXPECT_EQ(bar->max >= THI_2M, refused > 0);
}

TEST_HARNESS_MAIN
