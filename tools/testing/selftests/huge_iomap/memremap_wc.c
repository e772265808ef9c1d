// SPDX-License-Identifier: GPL-2.0
/*
 * struct pages for parts of a PCI BAR, mapped with the memory type that was asked for:
 * the direct map, what PAT tracks, what is refused, and what is left afterwards.
 */
#include "huge_iomap_vfio.h"

#include "kselftest_harness.h"

#define SZ_128M		(128 * SZ_1M)

FIXTURE(memremap) {
	int dev, thi;		/* the driver under test, and who else maps the BAR */
	__u64 start;		/* of the BAR */
	bool pat, gbpages;
	bool wb;		/* the MTRRs say WB */
	long all;		/* entries that PAT has */
};

/* A PAT index for each of the flags */
static int index_of(bool pat, __u64 flags)
{
	switch (flags) {
	case TMR_WB:
		return THI_WB;
	case TMR_WT:
		return pat ? THI_WT : 1;
	case TMR_WC:
		return pat ? THI_WC : THI_UC_MINUS;
	}
	return THI_UC_MINUS;
}

static const char *pat_name(__u64 flags)
{
	return flags == TMR_WB ? "write-back" : flags == TMR_WT ? "write-through" :
	       flags == TMR_WC ? "write-combining" : "uncached-minus";
}

/* 0 or an errno */

static int map(int fd, int type, __u64 flags, __u64 offset, __u64 bytes)
{
	struct test_memremap_map req = {
		.type = type, .flags = flags, .offset = offset, .bytes = bytes,
	};

	return ioctl(fd, TMR_MAP, &req) ? errno : 0;
}

static int map_two(int fd, __u64 flags, __u64 offset, __u64 bytes, __u64 offset2,
		   __u64 bytes2)
{
	struct test_memremap_map req = {
		.flags = flags, .offset = offset, .bytes = bytes,
		.offset2 = offset2, .bytes2 = bytes2,
	};

	return ioctl(fd, TMR_MAP, &req) ? errno : 0;
}

/* All of @bytes is mapped with @type, by the largest leaves that fit. */
static bool is_mapped(int fd, __u64 offset, __u64 bytes, int type, bool gbpages)
{
	struct test_memremap_leaves got;
	__u64 next, nr[3] = {};

	for (__u64 o = offset; o < offset + bytes; o = next) {
		const bool gb = gbpages && !(o % SZ_1G) && o + SZ_1G <= offset + bytes;

		nr[gb ? 2 : 1]++;
		next = o + (gb ? SZ_1G : SZ_2M);
	}
	if (ioctl(fd, TMR_LEAVES, &got) || got.wrong || got.no_page || got.type != type)
		return false;
	return !memcmp(nr, got.nr, sizeof(nr));
}

/* Nothing is left of @bytes that were mapped by @fd. */
static bool is_gone(int fd, __u64 bytes)
{
	struct test_memremap_leaves got;

	return !ioctl(fd, TMR_LEAVES, &got) && got.wrong == bytes / SZ_4K &&
	       got.no_page == bytes / SZ_4K;
}

FIXTURE_SETUP(memremap)
{
	struct test_huge_iomap_bar bar;
	struct test_huge_iomap_leaves leaves;
	struct test_huge_iomap_unmap unmap;
	struct test_huge_iomap_map req;

	self->dev = open(DEVICE, O_RDWR);
	self->thi = open_driver();
	if (self->dev < 0 || self->thi < 0)
		SKIP(return, "no test driver with a BAR");
	ASSERT_EQ(0, ioctl(self->thi, THI_BAR, &bar));
	self->start = bar.start;
	self->pat = !access(PAT_LIST, R_OK);
	self->gbpages = file_has("/proc/cpuinfo", " pdpe1gb");
	self->all = pat_entries(0, -1ULL);
	/* Where the MTRRs do not say WB, nobody gets it. */
	ASSERT_EQ(0, thi_map(self->thi, THI_IOREMAP_CACHE, 0, SZ_4K, &req));
	ASSERT_EQ(0, thi_leaves(self->thi, req.handle, &leaves));
	self->wb = leaves.type == THI_WB;
	ASSERT_EQ(0, thi_unmap(self->thi, req.handle, &unmap));
}

FIXTURE_TEARDOWN(memremap)
{
	if (self->dev < 0)
		return;
	ioctl(self->dev, TMR_UNMAP);
	/* p2p memory, if a test has ended with it */
	bind_to("\n");
	close(self->dev);
	EXPECT_EQ(self->all, pat_entries(0, -1ULL));
	close(self->thi);
}

static const struct { __u64 offset, bytes; } ranges[] = {
	{ 0, SZ_2M }, { 6 * SZ_2M, SZ_2M }, { 0, SZ_128M }, { SZ_1G, SZ_1G },
	{ SZ_1G - SZ_2M, SZ_1G + 2 * SZ_2M }, { SZ_128M - SZ_2M, 2 * SZ_2M },
};

TEST_F_TIMEOUT(memremap, types, MINUTES(2))
{
	static const __u64 flags[] = { 0, TMR_WB, TMR_WT, TMR_WC };

	for (int n = 0; n < ARRAY_SIZE(ranges) * ARRAY_SIZE(flags) * 3; n++) {
		const __u64 offset = ranges[n / 12].offset, bytes = ranges[n / 12].bytes;
		const __u64 flag = flags[n / 3 % 4];
		/* Without flags it is as ever. */
		const __u64 real = flag ?: n % 3 == TMR_P2PDMA ? 0 : self->wb ? TMR_WB : 0;

		if (flag == TMR_WB && !self->wb && self->pat) {
			EXPECT_EQ(EBUSY, map(self->dev, n % 3, flag, offset, bytes));
			continue;
		}
		ASSERT_EQ(0, map(self->dev, n % 3, flag, offset, bytes));
		EXPECT_TRUE(is_mapped(self->dev, offset, bytes, index_of(self->pat, real),
				      self->gbpages)) {
			TH_LOG("%#llx at %#llx, type %d, flags %llu", bytes, offset, n % 3,
			       flag);
		}
		if (self->pat) {
			EXPECT_TRUE(pat_has(self->start + offset, bytes, pat_name(real)));
			EXPECT_EQ(self->all + 1, pat_entries(0, -1ULL));
		}
		ASSERT_EQ(0, ioctl(self->dev, TMR_UNMAP));
		EXPECT_TRUE(is_gone(self->dev, bytes));
		EXPECT_EQ(self->all, pat_entries(0, -1ULL));
	}
}

/* All of a large BAR, by a handful of leaves */
TEST_F_TIMEOUT(memremap, large, MINUTES(2))
{
	ASSERT_EQ(0, map(self->dev, TMR_GENERIC, TMR_WC, 0, 8 * SZ_1G));
	EXPECT_TRUE(is_mapped(self->dev, 0, 8 * SZ_1G, index_of(self->pat, TMR_WC),
			      self->gbpages));
	ASSERT_EQ(0, ioctl(self->dev, TMR_UNMAP));
	EXPECT_TRUE(is_gone(self->dev, 8 * SZ_1G));
}

/*
 * Each allocation fails in turn: all of it is mapped, or nothing is. The range is in two
 * sections and under two entries of a PUD table.
 */
TEST_F_TIMEOUT(memremap, allocations, MINUTES(5))
{
	const __u64 offset = SZ_1G - SZ_128M, bytes = 2 * SZ_128M;
	int nth = open("/proc/self/fail-nth", O_RDWR), err, left = 0, failed = 0;

	if (nth < 0 || !can_fail_nth())
		SKIP(return, "the kernel has no failing allocations");
	ASSERT_EQ(0, map(self->dev, TMR_GENERIC, TMR_WC, offset, bytes));
	ASSERT_EQ(0, ioctl(self->dev, TMR_UNMAP));
	for (int n = 1; !left; n++) {
		ASSERT_TRUE(set_fail_nth(nth, n));
		err = map(self->dev, TMR_GENERIC, TMR_WC, offset, bytes);
		left = get_fail_nth(nth);
		ASSERT_LE(0, left);
		ASSERT_TRUE(set_fail_nth(nth, 0));
		if (err) {
			failed++;
			ASSERT_EQ(ENOMEM, err);
		} else {
			struct test_memremap_access a = {};

			ASSERT_TRUE(is_mapped(self->dev, offset, bytes,
					      index_of(self->pat, TMR_WC), self->gbpages));
			/* What KASAN has for it, too */
			ASSERT_EQ(0, ioctl(self->dev, TMR_ACCESS, &a));
			a.offset = bytes - sizeof(__u32);
			ASSERT_EQ(0, ioctl(self->dev, TMR_ACCESS, &a));
			ASSERT_EQ(0, ioctl(self->dev, TMR_UNMAP));
		}
		ASSERT_TRUE(is_gone(self->dev, bytes)) {
			TH_LOG("allocation %d has failed", n);
		}
		ASSERT_EQ(self->all, pat_entries(0, -1ULL));
	}
	EXPECT_LT(0, failed);
	/* Nothing of it decides for the next one. */
	ASSERT_EQ(0, map(self->dev, TMR_GENERIC, TMR_WT, offset, bytes));
	EXPECT_TRUE(is_mapped(self->dev, offset, bytes, index_of(self->pat, TMR_WT),
			      self->gbpages));
	ASSERT_EQ(0, ioctl(self->dev, TMR_UNMAP));
	close(nth);
}

TEST_F_TIMEOUT(memremap, refused, MINUTES(2))
{
	static const __u64 flags[] = { 3, 5, 6, 7, 8, 16, 12, 32, 1ULL << 40, -1ULL };

	for (int i = 0; i < ARRAY_SIZE(flags); i++)
		EXPECT_EQ(EINVAL, map(self->dev, TMR_GENERIC, flags[i], 0, SZ_2M));
	for (int flag = TMR_WB; flag <= TMR_WC; flag *= 2) {
		EXPECT_EQ(EINVAL, map(self->dev, TMR_PRIVATE, flag, 0, SZ_2M));
		EXPECT_EQ(EINVAL, map(self->dev, TMR_COHERENT, flag, 0, SZ_2M));
	}
	/* Less than a sub-section, or not in its place */
	EXPECT_EQ(EINVAL, map(self->dev, TMR_GENERIC, TMR_WC, 0, SZ_4K));
	EXPECT_EQ(EINVAL, map(self->dev, TMR_GENERIC, TMR_WC, 0, SZ_2M + SZ_1M));
	EXPECT_EQ(EINVAL, map(self->dev, TMR_GENERIC, TMR_WC, SZ_1M, SZ_2M));
	EXPECT_EQ(EINVAL, map(self->dev, TMR_GENERIC, 0, SZ_4K, SZ_2M));
	EXPECT_EQ(self->all, pat_entries(0, -1ULL));
	/* All is as if nothing had happened. */
	EXPECT_EQ(0, map(self->dev, TMR_GENERIC, TMR_WC, 0, SZ_2M));
}

/* Who has mapped a part of it with another type */
TEST_F_TIMEOUT(memremap, conflict, MINUTES(2))
{
	static const int hows[] = { THI_IOREMAP, THI_IOREMAP_UC, THI_IOREMAP_WT };
	struct test_huge_iomap_leaves leaves;
	struct test_huge_iomap_unmap unmap;
	struct test_huge_iomap_map req;

	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	/* The ranges that is_gone() looks at */
	ASSERT_EQ(0, map_two(self->dev, TMR_WC, 0, SZ_128M, SZ_1G, SZ_128M));
	ASSERT_EQ(0, ioctl(self->dev, TMR_UNMAP));
	for (int i = 0; i < ARRAY_SIZE(hows); i++) {
		int err;

		/* In the second range: the first one is undone. */
		ASSERT_EQ(0, thi_map(self->thi, hows[i], SZ_1G + SZ_1M, SZ_4K, &req));
		err = map_two(self->dev, TMR_WC, 0, SZ_128M, SZ_1G, SZ_128M);
		EXPECT_TRUE(err == EBUSY || err == EINVAL) TH_LOG("%d", err);
		EXPECT_TRUE(is_gone(self->dev, 2 * SZ_128M));
		EXPECT_EQ(self->all + 1, pat_entries(0, -1ULL));
		ASSERT_EQ(0, thi_unmap(self->thi, req.handle, &unmap));
	}
	ASSERT_EQ(0, map_two(self->dev, TMR_WC, 0, SZ_128M, SZ_1G, SZ_128M));

	/* The other way round, what is there decides. */
	ASSERT_EQ(0, thi_map(self->thi, THI_IOREMAP, SZ_1M, SZ_4K, &req));
	ASSERT_EQ(0, thi_leaves(self->thi, req.handle, &leaves));
	EXPECT_EQ(THI_WC, leaves.type);
	ASSERT_EQ(0, thi_unmap(self->thi, req.handle, &unmap));
	EXPECT_EQ(-ENOMEM, thi_map(self->thi, THI_IOREMAP_UC, SZ_1M, SZ_4K, &req));
	EXPECT_EQ(-ENOMEM, thi_map(self->thi, THI_IOREMAP_WT, SZ_1M, SZ_4K, &req));
}

/* Pages of neighbours: any spacing of whole sub-sections will do, in any section. */
TEST_F_TIMEOUT(memremap, neighbours, MINUTES(2))
{
	static const __u64 gaps[] = { 0, SZ_2M, 62 * SZ_2M, 63 * SZ_2M, 64 * SZ_2M };
	const int other = open(DEVICE, O_RDWR);

	ASSERT_GE(other, 0);
	for (int i = 0; i < ARRAY_SIZE(gaps); i++) {
		const __u64 next = SZ_2M + gaps[i];

		ASSERT_EQ(0, map(self->dev, TMR_GENERIC, TMR_WC, 0, SZ_2M));
		ASSERT_EQ(0, map(other, TMR_FS_DAX, TMR_WT, next, SZ_2M)) {
			TH_LOG("%#llx", gaps[i]);
		}
		EXPECT_TRUE(is_mapped(self->dev, 0, SZ_2M, index_of(self->pat, TMR_WC), false));
		EXPECT_TRUE(is_mapped(other, next, SZ_2M, index_of(self->pat, TMR_WT), false));
		/* Either may go first. */
		ASSERT_EQ(0, ioctl(i & 1 ? other : self->dev, TMR_UNMAP));
		EXPECT_TRUE(is_mapped(i & 1 ? self->dev : other, i & 1 ? 0 : next, SZ_2M,
				      index_of(self->pat, i & 1 ? TMR_WC : TMR_WT), false));
		ASSERT_EQ(0, ioctl(i & 1 ? self->dev : other, TMR_UNMAP));
		EXPECT_TRUE(is_gone(self->dev, SZ_2M));
		EXPECT_TRUE(is_gone(other, SZ_2M));
	}

	/* Pages that exist, at the begin, at the end and in the middle */
	ASSERT_EQ(0, map(self->dev, TMR_GENERIC, TMR_WC, 2 * SZ_2M, SZ_2M));
	EXPECT_EQ(EBUSY, map(other, TMR_GENERIC, TMR_WC, 2 * SZ_2M, 2 * SZ_2M));
	EXPECT_EQ(EBUSY, map(other, TMR_GENERIC, TMR_WC, SZ_2M, 2 * SZ_2M));
	EXPECT_EQ(EBUSY, map(other, TMR_GENERIC, TMR_WC, 0, 8 * SZ_2M));
	EXPECT_TRUE(is_mapped(self->dev, 2 * SZ_2M, SZ_2M, index_of(self->pat, TMR_WC),
			      false));
	EXPECT_EQ(0, map(other, TMR_GENERIC, TMR_WC, 0, 2 * SZ_2M));
	close(other);
}

/* Large folios, and struct pages in the BAR itself */
TEST_F_TIMEOUT(memremap, vmemmap, MINUTES(2))
{
	for (int i = 0; i < 2; i++) {
		struct test_memremap_map req = {
			.type = TMR_GENERIC, .flags = TMR_WC, .offset = SZ_1G, .bytes = SZ_1G,
			.vmemmap_shift = i ? 18 : 9,
		};

		ASSERT_EQ(0, ioctl(self->dev, TMR_MAP, &req));
		EXPECT_TRUE(is_mapped(self->dev, SZ_1G, SZ_1G, index_of(self->pat, TMR_WC),
				      self->gbpages));
		ASSERT_EQ(0, ioctl(self->dev, TMR_UNMAP));
		EXPECT_TRUE(is_gone(self->dev, SZ_1G));
	}
}

TEST_F_TIMEOUT(memremap, altmap, MINUTES(2))
{
	struct test_memremap_map req = {
		.type = TMR_GENERIC, .flags = TMR_WC, .offset = 0, .bytes = SZ_1G,
		.altmap = 8 * 512,	/* 64 bytes a page, and some for the page tables */
	};
	struct test_memremap_leaves got;

	/* The struct pages would be write-back, on the same BAR. */
	EXPECT_EQ(-1, ioctl(self->dev, TMR_MAP, &req));
	EXPECT_EQ(EINVAL, errno);
	req.flags = TMR_WT;
	EXPECT_EQ(-1, ioctl(self->dev, TMR_MAP, &req));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(self->all, pat_entries(0, -1ULL));

	req.flags = 0;
	ASSERT_EQ(0, ioctl(self->dev, TMR_MAP, &req));
	ASSERT_EQ(0, ioctl(self->dev, TMR_LEAVES, &got));
	EXPECT_EQ(0, got.wrong);
	EXPECT_EQ(index_of(self->pat, self->wb ? TMR_WB : 0), got.type);
	EXPECT_EQ(self->gbpages ? 1 : 512, got.nr[self->gbpages ? 2 : 1]);
	ASSERT_EQ(0, ioctl(self->dev, TMR_UNMAP));
	EXPECT_TRUE(is_gone(self->dev, SZ_1G));
}

/* By page_address() and kmap_local_page(), against another mapping of the BAR */
TEST_F_TIMEOUT(memremap, contents, MINUTES(2))
{
	static const __u64 at[] = { 0, SZ_4K - 4, SZ_2M, 5 * SZ_2M + 0x123c, SZ_128M - 4 };

	ASSERT_EQ(0, map(self->dev, TMR_GENERIC, TMR_WC, SZ_1G, SZ_128M));
	for (int i = 0; i < 2 * ARRAY_SIZE(at); i++) {
		struct test_memremap_access a = {
			.offset = at[i / 2], .kmap = i & 1, .write = 1,
			.value = 0x5a000000 + i,
		};
		__u32 value = 0;

		ASSERT_EQ(0, ioctl(self->dev, TMR_ACCESS, &a));
		ASSERT_EQ(0, thi_peek(self->thi, THI_IOREMAP_WC, SZ_1G + a.offset, &value));
		EXPECT_EQ(a.value, value);
		ASSERT_EQ(0, thi_poke(self->thi, THI_IOREMAP_WC, SZ_1G + a.offset, ~value));
		a.write = 0;
		ASSERT_EQ(0, ioctl(self->dev, TMR_ACCESS, &a));
		EXPECT_EQ(~value, a.value);
	}
}

/* The MTRRs may not change under the leaves. */
TEST_F_TIMEOUT(memremap, mtrr, MINUTES(2))
{
	const __u64 at = self->start + SZ_1G;
	char saved[16];

	if (access("/proc/mtrr", W_OK))
		SKIP(return, "no MTRRs");
	if (watched_leaf() == THI_4K)
		SKIP(return, "huge I/O mappings are off: not watched");
	ASSERT_TRUE(read_line(LIMIT, saved, sizeof(saved)));
	/* The direct map does not ask for the limit. */
	for (int max = THI_4K; max <= THI_1G; max++) {
		int err;

		ASSERT_EQ(0, write_file(LIMIT, leaf_names[max]));
		err = map(self->dev, TMR_GENERIC, TMR_WC, SZ_1G, SZ_1G);
		ASSERT_EQ(0, write_file(LIMIT, saved));
		ASSERT_EQ(0, err);
		EXPECT_EQ(EBUSY, try_mtrr(at)) TH_LOG("%s", leaf_names[max]);
		ASSERT_EQ(0, ioctl(self->dev, TMR_UNMAP));
		EXPECT_EQ(0, try_mtrr(at));
	}
}

/* Nor are there leaves where they differ already. */
TEST_F_TIMEOUT(memremap, mtrr_before, MINUTES(2))
{
	const __u64 base = self->start + SZ_1G + 5 * SZ_2M + SZ_4K;
	static const char * const types[] = { "uncachable", "write-combining" };
	struct test_memremap_leaves got;
	int small = 0;

	for (int i = 0; i < 2; i++) {
		int err = set_mtrr(base, SZ_4K, types[i]);

		if (err)
			SKIP(return, "no MTRR to set: %s", strerror(err));
		/* One of them may be what is around it. */
		err = map(self->dev, TMR_GENERIC, TMR_WC, SZ_1G, SZ_1G);
		EXPECT_EQ(0, err);
		EXPECT_EQ(0, ioctl(self->dev, TMR_LEAVES, &got));
		EXPECT_EQ(0, ioctl(self->dev, TMR_UNMAP));
		EXPECT_EQ(0, clear_mtrr(base));
		EXPECT_EQ(0, got.wrong);
		EXPECT_EQ(index_of(self->pat, TMR_WC), got.type);
		small += got.nr[0] == 512 && got.nr[1] == 511;
		EXPECT_TRUE(is_gone(self->dev, SZ_1G));
	}
	EXPECT_GE(small, 1);
}

/* p2p memory is mapped to user space as it is in the kernel. */
TEST_F_TIMEOUT(memremap, p2pmem, MINUTES(2))
{
	for (int wc = 0; wc < 2; wc++) {
		const int want = wc ? index_of(self->pat, TMR_WC) : THI_UC_MINUS;
		struct test_memremap_p2pmem req = {
			.bar = 2, .offset = 8 * SZ_2M, .bytes = 4 * SZ_2M, .wc = wc,
		};
		struct test_huge_iomap_user user = { .bytes = SZ_2M };
		char *area = reserve(SZ_1G), *p;
		int fd;

		ASSERT_NE(NULL, area);
		if (ioctl(self->dev, TMR_P2PMEM, &req)) {
			if (errno == EOPNOTSUPP)
				SKIP(return, "no CONFIG_PCI_P2PDMA");
			ASSERT_EQ(0, errno);
		}
		/* The same again: it is taken. */
		EXPECT_EQ(-1, ioctl(self->dev, TMR_P2PMEM, &req));
		EXPECT_EQ(EBUSY, errno);
		if (self->pat)
			EXPECT_TRUE(pat_has(self->start + req.offset, req.bytes,
					    pat_name(wc ? TMR_WC : 0)));
		fd = open(PCI_DEVICE "/p2pmem/allocate", O_RDWR);
		ASSERT_GE(fd, 0);
		p = mmap(area, SZ_2M, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
		ASSERT_EQ(area, p);
		close(fd);
		/* What is written there is in the BAR. */
		for (__u32 o = 0; o < SZ_2M; o += SZ_4K)
			store(p + o, 0xdeadbeef + o + wc);
		__sync_synchronize();
		user.addr = (unsigned long)p;
		ASSERT_EQ(0, ioctl(self->thi, THI_USER, &user));
		EXPECT_EQ(want, user.type);
		EXPECT_EQ(SZ_2M, user.leaf_bytes[THI_4K] + user.leaf_bytes[THI_2M]);
		for (__u32 o = 0; o < SZ_2M; o += 16 * SZ_4K) {
			__u32 value;

			ASSERT_EQ(0, thi_peek(self->thi, THI_IOREMAP_WC, req.offset + o, &value));
			ASSERT_EQ(0xdeadbeef + o + wc, value);
		}
		munmap(p, SZ_2M);
		ASSERT_EQ(0, bind_to("\n"));
		close(self->thi);
		self->thi = open_driver();
		ASSERT_GE(self->thi, 0);
		EXPECT_EQ(self->all, pat_entries(0, -1ULL));
	}
}

/* Memory that is mapped write-combining already stays so, in user space too. */
TEST_F_TIMEOUT(memremap, p2pmem_shared, MINUTES(2))
{
	struct test_memremap_p2pmem req = { .bar = 2, .bytes = 4 * SZ_2M };
	struct test_huge_iomap_user user = { .bytes = SZ_4K };
	int wc = open(PCI_DEVICE "/resource2_wc", O_RDWR), fd;
	char *other, *p;

	if (wc < 0)
		SKIP(return, "no PAT: types are not tracked");
	other = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED, wc, 0);
	ASSERT_NE(MAP_FAILED, other);
	if (ioctl(self->dev, TMR_P2PMEM, &req)) {
		if (errno == EOPNOTSUPP)
			SKIP(return, "no CONFIG_PCI_P2PDMA");
		ASSERT_EQ(0, errno);
	}
	EXPECT_TRUE(pat_has(self->start, req.bytes, "write-combining"));
	fd = open(PCI_DEVICE "/p2pmem/allocate", O_RDWR);
	ASSERT_GE(fd, 0);
	p = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	close(fd);
	store(p, 1);
	user.addr = (unsigned long)p;
	ASSERT_EQ(0, ioctl(self->thi, THI_USER, &user));
	EXPECT_EQ(THI_WC, user.type);
	munmap(p, SZ_4K);
	munmap(other, SZ_4K);
	close(wc);
	ASSERT_EQ(0, bind_to("\n"));
}

static __u64 p2pmem_free(void)
{
	char line[32];

	return read_line(PCI_DEVICE "/p2pmem/available", line, sizeof(line)) ?
	       strtoull(line, NULL, 10) : -1ULL;
}

/*
 * Large leaves, which can be cut, dropped and forked without loss; folios that are given
 * back are free, and no others are
 */
TEST_F_TIMEOUT(memremap, p2pmem_leaves, MINUTES(2))
{
	struct test_memremap_p2pmem req = { .bar = 2, .bytes = 2 * SZ_1G, .wc = 1 };
	const __u64 bytes = SZ_1G + SZ_2M + SZ_4K, left = req.bytes - bytes;
	const int max = user_max_leaf();
	char *area = reserve(4 * SZ_1G), *p, *other;
	struct user_leaves l;
	int fd, status;
	__u32 v;
	pid_t pid;

	ASSERT_NE(NULL, area);
	if (ioctl(self->dev, TMR_P2PMEM, &req)) {
		if (errno == EOPNOTSUPP)
			SKIP(return, "no CONFIG_PCI_P2PDMA");
		ASSERT_EQ(0, errno);
	}
	fd = open(PCI_DEVICE "/p2pmem/allocate", O_RDWR);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(area, map_at(fd, 0, area, 0, bytes));
	p = area;
	EXPECT_EQ(left, p2pmem_free());
	for (__u64 o = 0; o < bytes; o += SZ_4K)
		store(p + o, pattern(o));
	ASSERT_TRUE(dump_leaves(p, bytes, &l));
	EXPECT_EQ(max == THI_1G ? SZ_1G : 0, l.bytes[THI_1G]);
	EXPECT_EQ(max == THI_4K ? bytes : SZ_4K, l.bytes[THI_4K]);

	/* What is left of a leaf is there, and nobody else gets the rest. */
	ASSERT_EQ(0, madvise(p + SZ_2M + SZ_4K, SZ_4K, MADV_DONTNEED));
	EXPECT_EQ(0, differ(p, 0, 0, bytes));
	ASSERT_EQ(0, munmap(p + 3 * SZ_4K, SZ_4K));
	EXPECT_EQ(left, p2pmem_free());
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		v = differ(p, 0, 4 * SZ_4K, bytes);
		munmap(p, bytes);
		_exit(v != 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	for (__u64 o = 0; o < bytes; o += SZ_4K)
		if (o != 3 * SZ_4K)
			ASSERT_EQ(pattern(o), load(p + o));

	/* A folio is given back, somebody else gets it, and the first end does not free it. */
	ASSERT_EQ(0, madvise(p + SZ_1G, SZ_2M, MADV_REMOVE));
	EXPECT_EQ(left + SZ_2M, p2pmem_free());
	EXPECT_EQ(SIGBUS, try_read(p + SZ_1G, &v));
	EXPECT_EQ(0, differ(p, 0, 4 * SZ_4K, SZ_1G));
	EXPECT_EQ(pattern(SZ_1G + SZ_2M), load(p + SZ_1G + SZ_2M));
	other = area + 2 * SZ_1G;
	ASSERT_EQ(other, map_at(fd, 0, other, 0, SZ_2M));
	EXPECT_EQ(left, p2pmem_free());
	fill(other, SZ_1G, SZ_2M);
	ASSERT_EQ(0, munmap(p, bytes));
	EXPECT_EQ(req.bytes - SZ_2M, p2pmem_free());
	EXPECT_EQ(0, differ(other, SZ_1G, 0, SZ_2M));

	/* The driver goes: so does what is mapped. */
	close(fd);
	ASSERT_EQ(0, bind_to("\n"));
	EXPECT_EQ(SIGBUS, try_read(other, &v));
	ASSERT_EQ(0, munmap(other, SZ_2M));
}

/* A BAR that is not prefetchable, and bad ranges */
TEST_F_TIMEOUT(memremap, p2pmem_refused, MINUTES(2))
{
	static const struct test_memremap_p2pmem bad[] = {
		{ .bar = 0, .wc = 1 },
		{ .bar = 4, .wc = 1 },		/* is not there */
		{ .bar = 2, .wc = 1, .offset = 1ULL << 50 },
		{ .bar = 2, .wc = 1, .bytes = 1ULL << 50 },
		{ .bar = 2, .wc = 1, .bytes = SZ_4K },
	};

	const int before = messages("memremap: ");

	for (int i = 0; i < ARRAY_SIZE(bad); i++) {
		/* The first is too short as well. That is not what it is refused for. */
		if (i == 1)
			EXPECT_EQ(before, messages("memremap: "));
		EXPECT_EQ(-1, ioctl(self->dev, TMR_P2PMEM, &bad[i]));
		if (errno == EOPNOTSUPP)
			SKIP(return, "no CONFIG_PCI_P2PDMA");
		EXPECT_EQ(EINVAL, errno) TH_LOG("%d", i);
	}
	/* But the last is. */
	EXPECT_EQ(before + 1, messages("memremap: "));
	/* What has been set up goes with the driver. */
	ASSERT_EQ(0, bind_to("\n"));
}

TEST_F_TIMEOUT(memremap, rounds, MINUTES(5))
{
	long tables = 0;

	for (int n = 0; n < 1000; n++) {
		const __u64 offset = n % 7 * SZ_2M;

		ASSERT_EQ(0, map(self->dev, n % 3, TMR_WC, offset, 8 * SZ_2M));
		ASSERT_EQ(0, ioctl(self->dev, TMR_UNMAP));
		/* Tables that the first rounds made stay. */
		if (n == 10)
			tables = page_table_bytes();
	}
	EXPECT_TRUE(is_gone(self->dev, 8 * SZ_2M));
	/* Other processes may need some tables more; a leak would be of hundreds. */
	EXPECT_LE(page_table_bytes() - tables, 16 * 4096);
	EXPECT_EQ(self->all, pat_entries(0, -1ULL));
}

TEST_HARNESS_MAIN
