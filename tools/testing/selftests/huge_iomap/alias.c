// SPDX-License-Identifier: GPL-2.0
/*
 * The same memory mapped twice: which memory type the second mapping gets, or that it
 * is refused. These are the lines of the table in Documentation/mm/huge_iomap.rst.
 */
#include "huge_iomap_user.h"

#include <limits.h>
#include <sys/mman.h>
#include <time.h>

#include "kselftest_harness.h"

#define AT		(SZ_1G + 4 * SZ_2M)	/* in the BAR */

/* Types, from the least cached to the most */
enum { UC, UCM, WC, WT, WB, NR_TYPES, NONE };

static const char * const type_names[] = { "UC", "UC-", "WC", "WT", "WB", "-", "none" };

/* [the type that is there][the type that is asked for] */
static const int result[NR_TYPES][NR_TYPES] = {
	/*	     UC	   UC-	 WC    WT    WB */
	[UC]	= { UC,	  UC,	UC,   UC,   UC },
	[UCM]	= { UCM,  UCM,	UCM,  UCM,  UCM },
	[WC]	= { NONE, WC,	WC,   NONE, WC },
	[WT]	= { NONE, WT,	WT,   WT,   WT },
	[WB]	= { NONE, NONE, NONE, NONE, WB },
};

/* Who maps */
enum {
	IOREMAP_UC, IOREMAP, IOREMAP_WC, IOREMAP_WT, IOREMAP_CACHE,
	SYSFS, SYSFS_WC, DEVMEM_SYNC, DEVMEM, DRIVER, NR_WHO
};

static const struct { const char *name; int how, type; const char *path; int flags; }
who[] = {
	[IOREMAP_UC]	= { "ioremap_uc", THI_IOREMAP_UC, UC, NULL, 0 },
	[IOREMAP]	= { "ioremap", THI_IOREMAP, UCM, NULL, 0 },
	[IOREMAP_WC]	= { "ioremap_wc", THI_IOREMAP_WC, WC, NULL, 0 },
	[IOREMAP_WT]	= { "ioremap_wt", THI_IOREMAP_WT, WT, NULL, 0 },
	[IOREMAP_CACHE]	= { "ioremap_cache", THI_IOREMAP_CACHE, WB, NULL, 0 },
	[SYSFS]		= { "resource2", 0, UCM, PCI_DEVICE "/resource2", 0 },
	[SYSFS_WC]	= { "resource2_wc", 0, WC, PCI_DEVICE "/resource2_wc", 0 },
	[DEVMEM_SYNC]	= { "/dev/mem, O_SYNC", 0, UCM, "/dev/mem", O_SYNC },
	[DEVMEM]	= { "/dev/mem", 0, WB, "/dev/mem", 0 },
	[DRIVER]	= { "remap_pfn_range", 0, UCM, DEVICE, 0 },
};

struct mapping {
	int type;		/* that it got; NONE: none */
	__u32 handle;
	void *p;
	__u64 bytes;
	bool kernel;
};

FIXTURE(alias) {
	int fd;
	int file[NR_WHO];	/* -1: is not there */
	char *area;
	__u64 start;
	bool pat;
	int wb;			/* what WB is on the BAR: the MTRRs may say UC */
	long before;
};

/* The type that a PAT index means, as Linux programs the PAT */
static int by_index(int index)
{
	switch (index) {
	case THI_WB: return WB;
	case THI_WC: return WC;
	case THI_UC_MINUS: return UCM;
	case THI_UC: return UC;
	case THI_WT: return WT;
	}
	return NR_TYPES;
}

static int user_type(int fd, void *p, __u64 bytes)
{
	struct test_huge_iomap_user req = { .addr = (unsigned long)p, .bytes = bytes };

	if (ioctl(fd, THI_USER, &req))
		return NR_TYPES;
	for (int i = 0; i < THI_NR_LEAF; i++)
		bytes -= req.leaf_bytes[i];
	return bytes ? NR_TYPES : by_index(req.type);
}

struct env {
	int fd, *file;
	__u64 start;
	char *area;
};

/* Map, and tell the type. @slot: two may live at a time. */
static struct mapping map(const struct env *env, int by, __u64 at, __u64 bytes, int slot)
{
	struct mapping m = { .type = NONE, .bytes = bytes, .kernel = !who[by].path };
	struct test_huge_iomap_leaves leaves;
	struct test_huge_iomap_map req;

	if (m.kernel) {
		if (thi_map(env->fd, who[by].how, at, bytes, &req))
			return m;
		m.handle = req.handle;
		m.type = thi_leaves(env->fd, req.handle, &leaves) || leaves.wrong ?
			 NR_TYPES : by_index(leaves.type);
		return m;
	}
	if (by == DEVMEM || by == DEVMEM_SYNC)
		at += env->start;
	m.p = mmap(env->area + slot * SZ_1G, bytes, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED, env->file[by], at);
	if (m.p != MAP_FAILED)
		m.type = user_type(env->fd, m.p, bytes);
	return m;
}

static void unmap(const struct env *env, struct mapping *m)
{
	struct test_huge_iomap_unmap req;

	if (m->type == NONE)
		return;
	if (m->kernel)
		thi_unmap(env->fd, m->handle, &req);
	else
		munmap(m->p, m->bytes);
	m->type = NONE;
}

FIXTURE_SETUP(alias)
{
	struct test_huge_iomap_bar bar;
	struct mapping m;
	struct env env;

	for (int i = 0; i < NR_WHO; i++)
		self->file[i] = -1;
	self->fd = open_driver();
	if (self->fd < 0)
		SKIP(return, "no " DEVICE ", no ivshmem device, or another driver has it");
	ASSERT_EQ(0, ioctl(self->fd, THI_BAR, &bar));
	self->start = bar.start;
	self->pat = !access(PAT_LIST, R_OK);
	for (int i = 0; i < NR_WHO; i++)
		if (who[i].path)
			self->file[i] = open(who[i].path, O_RDWR | who[i].flags);
	self->area = reserve(4 * SZ_1G);
	ASSERT_NE(NULL, self->area);
	self->before = pat_entries(0, -1ULL);

	/* Without PAT the types are what the PTE bits of old mean: see "nopat". */
	if (!self->pat)
		return;
	ASSERT_GE(self->file[SYSFS_WC], 0);
	env = (struct env) { self->fd, self->file, self->start, self->area };
	m = map(&env, IOREMAP_CACHE, AT, SZ_4K, 0);
	self->wb = m.type;
	unmap(&env, &m);
	/* Where the MTRRs say UC, WB is tracked as UC-. Have them say WB, if there are any. */
	if (self->wb != WB &&
	    !set_mtrr(self->start, 4 * SZ_1G, "write-back")) {
		m = map(&env, IOREMAP_CACHE, AT, SZ_4K, 0);
		self->wb = m.type;
		unmap(&env, &m);
		ASSERT_EQ(WB, self->wb);
	}
}

FIXTURE_TEARDOWN(alias)
{
	if (self->fd < 0)
		return;
	clear_mtrr(self->start);
	EXPECT_EQ(self->before, pat_entries(0, -1ULL));
	for (int i = 0; i < NR_WHO; i++)
		close(self->file[i]);
	munmap(self->area, 4 * SZ_1G);
	close(self->fd);
}

/* The type of the first mapping of something */
static int tracked(int type, int wb)
{
	return type == WB ? wb : type;
}

/*
 * Each after each, in pages and in a leaf of 2 MiB: what is there decides. When the
 * first one goes, the second one is what is there; when both are gone, nothing is.
 */
TEST_F_TIMEOUT(alias, pairs, MINUTES(2))
{
	const struct env env = { self->fd, self->file, self->start, self->area };
	int refused = 0;

	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	for (int n = 0; n < NR_WHO * NR_WHO * 2; n++) {
		const int a = n / 2 / NR_WHO, b = n / 2 % NR_WHO;
		const __u64 bytes = n & 1 ? SZ_2M : SZ_4K;
		const int there = tracked(who[a].type, self->wb);
		const int want = result[there][who[b].type];
		struct mapping first, second, third;

		first = map(&env, a, AT, bytes, 0);
		EXPECT_EQ(there, first.type) TH_LOG("%s", who[a].name);
		second = map(&env, b, AT, bytes, 1);
		EXPECT_EQ(want, second.type) {
			TH_LOG("%s, then %s: %s instead of %s", who[a].name, who[b].name,
			       type_names[second.type], type_names[want]);
		}
		refused += second.type == NONE;
		unmap(&env, &first);
		if (second.type == NONE)
			continue;
		third = map(&env, IOREMAP, AT, bytes, 0);
		EXPECT_EQ(result[want][UCM], third.type) {
			TH_LOG("%s, then %s, the first gone, ioremap", who[a].name,
			       who[b].name);
		}
		unmap(&env, &second);
		unmap(&env, &third);
		EXPECT_EQ(self->before, pat_entries(0, -1ULL));
	}
	/* Without WB, too: where the MTRRs are not known it is UC-. */
	EXPECT_GE(refused, 10);
}

/* Neither of two types is the right one for both. */
TEST_F_TIMEOUT(alias, two_types, MINUTES(2))
{
	const struct env env = { self->fd, self->file, self->start, self->area };
	struct mapping uc, wc, both, next;

	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	wc = map(&env, IOREMAP_WC, AT, SZ_4K, 0);
	uc = map(&env, SYSFS, AT + SZ_4K, SZ_4K, 1);
	ASSERT_EQ(WC, wc.type);
	ASSERT_EQ(UCM, uc.type);
	for (int i = 0; i < NR_WHO; i++) {
		both = map(&env, i, AT, SZ_2M, 2);
		EXPECT_EQ(NONE, both.type) TH_LOG("%s", who[i].name);
		unmap(&env, &both);
		/* Next to them is no matter. */
		next = map(&env, i, AT + SZ_2M, SZ_2M, 2);
		EXPECT_EQ(tracked(who[i].type, self->wb), next.type);
		unmap(&env, &next);
	}
	unmap(&env, &uc);
	unmap(&env, &wc);
}

static bool devmem_has_ram(int fd)
{
	void *p = mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, fd,
		       end_of_ram() - SZ_4K);

	if (p == MAP_FAILED)
		return errno != EPERM;
	munmap(p, SZ_4K);
	return true;
}

/* The type of RAM pages is that of set_memory_*(), whatever /dev/mem asks for. */
TEST_F_TIMEOUT(alias, ram, MINUTES(2))
{
	static const int what[] = { THI_SET_WC, THI_SET_UC };
	static const int types[] = { WC, UCM };
	struct test_huge_iomap_ram ram = {};
	const char *area = self->area;

	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	if (!devmem_has_ram(self->file[DEVMEM]))
		SKIP(return, "/dev/mem does not map RAM: CONFIG_STRICT_DEVMEM");
	ASSERT_EQ(0, ioctl(self->fd, THI_RAM, &ram));
	for (int i = 0; i < 2; i++) {
		for (int sync = 0; sync < 2; sync++) {
			const int fd = self->file[sync ? DEVMEM_SYNC : DEVMEM];
			void *p;

			ram = (struct test_huge_iomap_ram) { .nr = 2, .what = what[i] };
			ASSERT_EQ(0, ioctl(self->fd, THI_RAM, &ram));
			/* It has a type: it cannot get another one before it is WB. */
			EXPECT_EQ(-1, ioctl(self->fd, THI_RAM, &ram));
			EXPECT_EQ(EBUSY, errno);
			p = mmap((void *)area, 2 * SZ_4K, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
				 ram.phys);
			ASSERT_NE(MAP_FAILED, p);
			EXPECT_EQ(types[i], user_type(self->fd, p, 2 * SZ_4K));
			munmap(p, 2 * SZ_4K);

			/* Half of it: neither type is right for both pages. */
			ram = (struct test_huge_iomap_ram) {
				.first = 1, .nr = 1, .what = THI_SET_WB
			};
			ASSERT_EQ(0, ioctl(self->fd, THI_RAM, &ram));
			p = mmap((void *)area, 2 * SZ_4K, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
				 ram.phys);
			EXPECT_EQ(MAP_FAILED, p);
			EXPECT_EQ(EAGAIN, errno);

			ram = (struct test_huge_iomap_ram) { .nr = 1, .what = THI_SET_WB };
			ASSERT_EQ(0, ioctl(self->fd, THI_RAM, &ram));
			p = mmap((void *)area, 2 * SZ_4K, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
				 ram.phys);
			ASSERT_NE(MAP_FAILED, p);
			EXPECT_EQ(WB, user_type(self->fd, p, 2 * SZ_4K));
			munmap(p, 2 * SZ_4K);
		}
	}
}

/* Where RAM begins, after something else; 0 if not found */
static __u64 start_of_ram(void)
{
	FILE *f = fopen("/proc/iomem", "r");
	unsigned long long s, e;
	__u64 start = 0;
	char line[128];

	if (!f)
		return 0;
	while (!start && fgets(line, sizeof(line), f))
		if (line[0] != ' ' && strstr(line, "System RAM") &&
		    sscanf(line, "%llx-%llx", &s, &e) == 2 && s > SZ_1M)
			start = s;
	fclose(f);
	return start;
}

/* A mapping from the first MiB into RAM has the type of the RAM. */
TEST_F_TIMEOUT(alias, first_mib, MINUTES(2))
{
	void *p;

	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	if (!devmem_has_ram(self->file[DEVMEM]))
		SKIP(return, "/dev/mem does not map RAM: CONFIG_STRICT_DEVMEM");
	p = mmap(self->area, 2 * SZ_2M, PROT_READ, MAP_SHARED | MAP_FIXED,
		 self->file[DEVMEM], 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(WB, user_type(self->fd, p, 2 * SZ_2M));
	munmap(p, 2 * SZ_2M);
}

/*
 * What is next to RAM has the type of the RAM in a mapping of both, WB, unless it is
 * mapped with another one.
 */
TEST_F_TIMEOUT(alias, ram_and_reserved, MINUTES(2))
{
	char *other = self->area + SZ_1G;
	const __u64 end = end_of_ram();
	void *p;

	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	if (!devmem_has_ram(self->file[DEVMEM]))
		SKIP(return, "/dev/mem does not map RAM: CONFIG_STRICT_DEVMEM");
	ASSERT_NE(0, end);
	for (int sync = 0; sync < 2; sync++) {
		const int fd = self->file[sync ? DEVMEM_SYNC : DEVMEM];

		p = mmap(self->area, 2 * SZ_4K, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
			 end - SZ_4K);
		ASSERT_NE(MAP_FAILED, p);
		EXPECT_EQ(WB, user_type(self->fd, p, 2 * SZ_4K));
		munmap(p, 2 * SZ_4K);
	}
	p = mmap(self->area, SZ_4K, PROT_READ, MAP_SHARED | MAP_FIXED, self->file[DEVMEM],
		 end - SZ_4K);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(WB, user_type(self->fd, p, SZ_4K));
	munmap(p, SZ_4K);

	p = mmap(other, SZ_4K, PROT_READ, MAP_SHARED | MAP_FIXED,
		 self->file[DEVMEM_SYNC], end);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(UCM, user_type(self->fd, p, SZ_4K));
	p = mmap(self->area, 2 * SZ_4K, PROT_READ, MAP_SHARED | MAP_FIXED,
		 self->file[DEVMEM], end - SZ_4K);
	EXPECT_EQ(MAP_FAILED, p);
	EXPECT_EQ(EAGAIN, errno);
	munmap(other, SZ_4K);
}

/* The same if RAM begins after something else. */
TEST_F_TIMEOUT(alias, reserved_and_ram, MINUTES(2))
{
	const __u64 start = start_of_ram();
	void *p;

	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	if (!devmem_has_ram(self->file[DEVMEM]))
		SKIP(return, "/dev/mem does not map RAM: CONFIG_STRICT_DEVMEM");
	if (!start)
		SKIP(return, "no RAM begins next to something else");
	p = mmap(self->area, 2 * SZ_4K, PROT_READ, MAP_SHARED | MAP_FIXED,
		 self->file[DEVMEM], start - SZ_4K);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(WB, user_type(self->fd, p, 2 * SZ_4K));
	munmap(p, 2 * SZ_4K);
}

/*
 * RAM that user space has mapped gets no other type where that is known: struct page
 * counts what vm_insert_page() maps. It does not count what /dev/mem and
 * remap_pfn_range() map.
 */
TEST_F_TIMEOUT(alias, ram_mapped_first, MINUTES(2))
{
	static const int what[] = { THI_SET_UC, THI_SET_WC };
	struct test_huge_iomap_ram ram = {};
	void *p;

	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	if (!devmem_has_ram(self->file[DEVMEM]))
		SKIP(return, "/dev/mem does not map RAM: CONFIG_STRICT_DEVMEM");
	ASSERT_EQ(0, ioctl(self->fd, THI_RAM, &ram));
	for (int i = 0; i < 2; i++) {
		ram = (struct test_huge_iomap_ram) { .nr = 2, .what = what[i] };
		/* The second page is mapped: neither changes. */
		p = mmap(self->area, 2 * SZ_4K, PROT_READ, MAP_SHARED | MAP_FIXED, self->fd,
			 THI_RAM_PAGES);
		ASSERT_NE(MAP_FAILED, p);
		munmap(p, SZ_4K);
		EXPECT_EQ(-1, ioctl(self->fd, THI_RAM, &ram));
		EXPECT_EQ(EBUSY, errno);
		munmap(p + SZ_4K, SZ_4K);
		EXPECT_EQ(0, ioctl(self->fd, THI_RAM, &ram));
		ram.what = THI_SET_WB;
		ASSERT_EQ(0, ioctl(self->fd, THI_RAM, &ram));

		for (int driver = 0; driver < 2; driver++) {
			p = mmap(self->area, 2 * SZ_4K, PROT_READ, MAP_SHARED | MAP_FIXED,
				 driver ? self->fd : self->file[DEVMEM],
				 driver ? THI_RAM_PFNS : ram.phys);
			ASSERT_NE(MAP_FAILED, p);
			ram.what = what[i];
			EXPECT_EQ(0, ioctl(self->fd, THI_RAM, &ram));
			EXPECT_EQ(WB, user_type(self->fd, p, 2 * SZ_4K));
			munmap(p, 2 * SZ_4K);
			ram.what = THI_SET_WB;
			ASSERT_EQ(0, ioctl(self->fd, THI_RAM, &ram));
		}
	}
}

/* The ISA range is WB in the page tables: the fixed MTRRs have its types. */
TEST_F_TIMEOUT(alias, isa, MINUTES(2))
{
	for (int sync = 0; sync < 2; sync++) {
		void *p = mmap(self->area, 32 * SZ_4K, PROT_READ, MAP_SHARED | MAP_FIXED,
			       self->file[sync ? DEVMEM_SYNC : DEVMEM], 0xa0000);

		ASSERT_NE(MAP_FAILED, p);
		EXPECT_EQ(WB, user_type(self->fd, p, 32 * SZ_4K));
		EXPECT_EQ(self->before, pat_entries(0, -1ULL));
		munmap(p, 32 * SZ_4K);
	}
}

/* Instructions for a mapping of 2 GiB that does not reserve, and its end: the best of some */
static long time_mapping(int fd, char *at)
{
	long best = LONG_MAX;

	for (int i = 0; i < 8; i++) {
		struct timespec begin;
		long ns;

		clock_gettime(CLOCK_MONOTONIC, &begin);
		if (mmap(at, 2 * SZ_1G, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
			 THI_PIECES) != at)
			return -1;
		munmap(at, 2 * SZ_1G);
		ns = ns_since(&begin);
		best = ns < best ? ns : best;
	}
	return best;
}

/* What others have reserved in a range does not slow a mapping of it down. */
TEST_F_TIMEOUT(alias, many, MINUTES(2))
{
	enum { NR = 10000 };
	char *far = self->area + 3 * SZ_1G;
	long none, many;

	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	if (user_max_leaf() != THI_1G)
		SKIP(return, "no leaves of 1 GiB");
	if (!clock_counts_instructions())
		SKIP(return, "the clock does not count instructions");
	none = time_mapping(self->fd, self->area);
	for (int i = 0; i < NR; i++) {
		ASSERT_NE(MAP_FAILED, mmap(far + 2 * i * SZ_4K, SZ_4K, PROT_READ,
					   MAP_SHARED | MAP_FIXED, self->file[SYSFS],
					   SZ_1G + 3 * i * SZ_4K));
	}
	EXPECT_EQ(self->before + NR, pat_entries(0, -1ULL));
	many = time_mapping(self->fd, self->area);
	TH_LOG("2 GiB: %ld instructions, with %d reservations in it %ld", none, NR, many);
	EXPECT_LT(many, 2 * none);
	munmap(far, 2 * NR * SZ_4K);
}

/* The type of pages [first, end) of the BAR, by what is reserved; NONE: several */
static int model_type(const struct mapping *m, const __u64 *at, int nr, __u64 first,
		      __u64 end)
{
	int type = NR_TYPES;

	for (__u64 page = first; page < end; page++) {
		int t = UCM;

		for (int i = 0; i < nr; i++)
			if (m[i].type != NONE && page >= at[i] &&
			    page < at[i] + m[i].bytes / SZ_4K)
				t = m[i].type;
		if (type != NR_TYPES && t != type)
			return NONE;
		type = t;
	}
	return type;
}

/* A mapping that reserves nothing is refused just where a piece of it has two types. */
TEST_F_TIMEOUT(alias, random, MINUTES(2))
{
	const struct env env = { self->fd, self->file, self->start, self->area };
	enum { NR = 12, PAGES = 4 * SZ_2M / SZ_4K, CUT = THI_CUT1 / SZ_4K };
	struct mapping m[NR];
	__u64 at[NR] = {}, state = 7;
	int refused = 0, wc = 0, uc = 0;

	if (!self->pat)
		SKIP(return, "no PAT: types are not tracked");
	for (int i = 0; i < NR; i++)
		m[i] = (struct mapping) { .type = NONE };
	for (int n = 0; n < 1500; n++) {
		__u64 first, end, bytes;
		int i, type, rest;
		void *p;

		/* One in three times long ones, that cover much */
		state = state * 6364136223846793005ULL + 1442695040888963407ULL;
		i = (state >> 33) % NR;
		unmap(&env, &m[i]);
		at[i] = (state >> 40) % PAGES;
		bytes = 1 + (state >> 50) % (i % 3 ? 64 : PAGES);
		if (bytes > PAGES - at[i])
			bytes = PAGES - at[i];
		/* Then to its own place in the area */
		m[i] = map(&env, (state >> 63) && i % 4 ? SYSFS : SYSFS_WC, at[i] * SZ_4K,
			   bytes * SZ_4K, 1);
		if (m[i].type == NONE)
			continue;
		p = mremap(m[i].p, m[i].bytes, m[i].bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
			   self->area + 2 * SZ_1G + i * 4 * SZ_2M);
		ASSERT_NE(MAP_FAILED, p);
		m[i].p = p;

		state = state * 6364136223846793005ULL + 1442695040888963407ULL;
		/* At least two pieces: one that is the whole VMA would be reserved. */
		first = (state >> 33) % (PAGES - CUT);
		end = first + CUT + 1 + (state >> 48) % (n & 1 ? 64 : PAGES);
		end = end > PAGES ? PAGES : end;
		type = model_type(m, at, NR, first, first + CUT);
		rest = model_type(m, at, NR, first + CUT, end);
		p = mmap(self->area, (end - first) * SZ_4K, PROT_READ, MAP_SHARED | MAP_FIXED,
			 self->fd, THI_PIECES + first * SZ_4K);
		if (type == NONE || rest == NONE) {
			EXPECT_EQ(MAP_FAILED, p) TH_LOG("%d: %llu-%llu", n, first, end);
			refused++;
		} else {
			EXPECT_NE(MAP_FAILED, p) TH_LOG("%d: %llu-%llu", n, first, end);
		}
		if (p == MAP_FAILED)
			continue;
		if (type == rest)
			EXPECT_EQ(type, user_type(self->fd, p, (end - first) * SZ_4K));
		wc += type == WC || rest == WC;
		uc += type == UCM || rest == UCM;
		munmap(p, (end - first) * SZ_4K);
	}
	for (int i = 0; i < NR; i++)
		unmap(&env, &m[i]);
	EXPECT_GT(refused, 100);
	EXPECT_GT(wc, 20);
	EXPECT_GT(uc, 20);
}

/* Without PAT, each gets what it asks for, WC being UC-: the MTRRs rule. */
TEST_F_TIMEOUT(alias, nopat, MINUTES(2))
{
	/* The PAT is as after reset: index 1 is WT. */
	static const int types[NR_TYPES] = { UC, UCM, UCM, WC, WB };
	const struct env env = { self->fd, self->file, self->start, self->area };

	if (self->pat)
		SKIP(return, "there is PAT");
	EXPECT_EQ(-1, self->file[SYSFS_WC]);
	for (int n = 0; n < NR_WHO * NR_WHO; n++) {
		const int a = n / NR_WHO, b = n % NR_WHO;
		struct mapping first, second;

		if (a == SYSFS_WC || b == SYSFS_WC || a == DEVMEM_SYNC || b == DEVMEM_SYNC)
			continue;
		first = map(&env, a, AT, SZ_2M, 0);
		second = map(&env, b, AT, SZ_2M, 1);
		EXPECT_EQ(types[who[a].type], first.type) TH_LOG("%s", who[a].name);
		EXPECT_EQ(types[who[b].type], second.type) {
			TH_LOG("%s, then %s", who[a].name, who[b].name);
		}
		unmap(&env, &first);
		unmap(&env, &second);
	}
}

/* A frame buffer driver maps all of the BAR, and adds an MTRR for some of it. */
TEST_F_TIMEOUT(alias, nopat_frame_buffer, MINUTES(2))
{
	const struct env env = { self->fd, self->file, self->start, self->area };
	const __u64 sizes[] = { SZ_4K, SZ_1M, SZ_2M, SZ_1G };
	struct mapping fb;

	if (self->pat)
		SKIP(return, "there is PAT");
	if (access("/proc/mtrr", W_OK))
		SKIP(return, "no MTRRs");
	fb = map(&env, IOREMAP_WC, 0, 4 * SZ_1G, 0);
	ASSERT_NE(NONE, fb.type);
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(0, set_mtrr(self->start, sizes[i], "write-combining"));
		EXPECT_EQ(0, clear_mtrr(self->start));
	}
	unmap(&env, &fb);
}

TEST_HARNESS_MAIN
