// SPDX-License-Identifier: GPL-2.0
/*
 * The events of huge leaves: where a mapping is placed, which leaves are set, split and
 * refused, and why. All events of a call are looked at: each has to be expected.
 */
#include "huge_iomap_user.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "kselftest_harness.h"

#define TRACING		"/sys/kernel/tracing"
#define INSTANCE	TRACING "/instances/huge_iomap_test"
#define MAX_EVENTS	8192

struct event {
	char name[16];		/* place, insert, refuse, split */
	unsigned int major, minor;
	__u64 ino, addr, pfn, len, asked, given;
	char why[16];
	bool seen;
};

struct events {
	struct event *ev;
	int nr;
};

FIXTURE(trace) {
	char saved[16];
	struct test_huge_iomap_bar bar;
	int fd, sysfs, max;
	__u64 pfn;		/* of the BAR */
	__u64 mtrr;		/* where one was set */
	char *area;		/* 4 GiB of address space */
	struct events events;
};

#define AREA	(4 * SZ_1G)

FIXTURE_SETUP(trace)
{
	char pid[16];

	self->sysfs = -1;
	self->fd = open_driver();
	if (self->fd < 0)
		SKIP(return, "no " DEVICE ", no ivshmem device, or another driver has it");
	if (access(TRACING "/events/huge_iomap/enable", F_OK))
		SKIP(return, "no events: no CONFIG_EVENT_TRACING, or tracefs is not mounted");
	if (!read_line(LIMIT, self->saved, sizeof(self->saved)))
		SKIP(return, LIMIT " is not there: CONFIG_HUGE_IOMAP is not set");
	if (write_file(LIMIT, "1G"))
		SKIP(return, "nohugeiomap: nothing is huge");
	ASSERT_EQ(0, ioctl(self->fd, THI_BAR, &self->bar));
	self->pfn = self->bar.start / SZ_4K;
	self->max = user_max_leaf();
	self->sysfs = open(PCI_DEVICE "/resource2", O_RDWR);
	ASSERT_GE(self->sysfs, 0);
	self->area = reserve(AREA);
	ASSERT_NE(NULL, self->area);
	self->events.ev = calloc(MAX_EVENTS, sizeof(struct event));
	ASSERT_NE(NULL, self->events.ev);

	rmdir(INSTANCE);
	ASSERT_EQ(0, mkdir(INSTANCE, 0700)) TH_LOG("%s", strerror(errno));
	snprintf(pid, sizeof(pid), "%d", getpid());
	ASSERT_EQ(0, write_file(INSTANCE "/set_event_pid", pid));
	ASSERT_EQ(0, write_file(INSTANCE "/events/huge_iomap/enable", "1"));
}

FIXTURE_TEARDOWN(trace)
{
	if (self->saved[0])
		write_file(LIMIT, self->saved);
	if (self->mtrr)
		clear_mtrr(self->mtrr);
	rmdir(INSTANCE);
	close(self->sysfs);
	close(self->fd);
}

/* They go when the file is opened so. */
static bool clear_events(void)
{
	int fd = open(INSTANCE "/trace", O_WRONLY | O_TRUNC);

	return fd >= 0 && !close(fd);
}

/* Take the events that there are. False if that was not possible. */
static bool take(struct events *list)
{
	FILE *f = fopen(INSTANCE "/trace", "r");
	char *line = NULL, *p, *len;
	size_t size = 0;
	bool ok = f;

	list->nr = 0;
	while (ok && getline(&line, &size, f) > 0) {
		struct event *e = &list->ev[list->nr];

		p = strstr(line, ": huge_iomap_");
		if (strstr(line, "LOST"))
			ok = false;
		if (!p || line[0] == '#')
			continue;
		*e = (struct event) {};
		len = strstr(p, " len=");
		ok = sscanf(p, ": huge_iomap_%15[a-z]: dev %u:%u ino %llu addr=%llx pfn=%llx",
			    e->name, &e->major, &e->minor, &e->ino, &e->addr, &e->pfn) == 6 &&
		     (!len || sscanf(len, " len=%llx", &e->len) == 1) &&
		     (p = strstr(p, " asked=")) &&
		     sscanf(p, " asked=%llx given=%llx why=%15[a-z_]", &e->asked, &e->given,
			    e->why) == 3 && ++list->nr < MAX_EVENTS;
	}
	free(line);
	if (f)
		fclose(f);
	return clear_events() && ok;
}

static bool is_event(const struct event *e, const char *name, __u64 asked, __u64 given,
		     const char *why)
{
	return !strcmp(e->name, name) && e->asked == asked && e->given == given &&
	       !strcmp(e->why, why);
}

/* How many of the kind there are; they are seen then. */
static int count(struct events *list, const char *name, __u64 asked, __u64 given,
		 const char *why)
{
	int n = 0;

	for (int i = 0; i < list->nr; i++) {
		if (!is_event(&list->ev[i], name, asked, given, why))
			continue;
		list->ev[i].seen = true;
		n++;
	}
	return n;
}

/* The first of the kind, at @addr; a place of no event if there is none */
static struct event find(struct events *list, const char *name, __u64 addr,
			 __u64 asked)
{
	for (int i = 0; i < list->nr; i++)
		if (!strcmp(list->ev[i].name, name) && list->ev[i].addr == addr &&
		    list->ev[i].asked == asked)
			return list->ev[i];
	return (struct event) {};
}

/* All events are of the mapping of @pfn at @addr: no other address, no other pfn */
static bool all_of(struct events *list, __u64 addr, __u64 pfn)
{
	for (int i = 0; i < list->nr; i++)
		if (list->ev[i].pfn && list->ev[i].pfn - pfn !=
		    (__u64)((__s64)(list->ev[i].addr - addr) >> 12))
			return false;
	return true;
}

static int unseen(struct events *list)
{
	int n = 0;

	for (int i = 0; i < list->nr; i++) {
		const struct event *e = &list->ev[i];

		if (e->seen)
			continue;
		if (!n++)
			ksft_print_msg("not expected: %s %#llx of %#llx: %s\n", e->name,
				       e->addr, e->asked, e->why);
	}
	return n;
}

#define EXPECT_EVENTS(n, name, asked, given, why)				\
do {										\
	const char *_why = why, *_name = name;					\
										\
	EXPECT_EQ(n, count(&self->events, _name, asked, given, _why)) {		\
		TH_LOG("%s %s to %s: %s", _name, #asked, #given, _why);		\
	}									\
} while (0)

#define TAKE() ASSERT_TRUE(take(&self->events))
#define EXPECT_NO_MORE() EXPECT_EQ(0, unseen(&self->events))

/* In the area, which is aligned to 1 GiB as the BAR is */
#define map_driver(off, bytes)							\
	map_at(self->fd, 0, self->area, off, bytes)

/* mmap() of 4 GiB: one place, four leaves, no refusal, of this file and at these pfns */
TEST_F_TIMEOUT(trace, largest, MINUTES(2))
{
	struct event e;
	struct stat st;
	char *p;

	if (self->max < THI_1G)
		SKIP(return, "the CPU has no leaves of 1 GiB");
	ASSERT_EQ(0, fstat(self->sysfs, &st));
	p = mmap(NULL, 4 * SZ_1G, PROT_READ | PROT_WRITE, MAP_SHARED, self->sysfs, 0);
	ASSERT_NE(MAP_FAILED, p);
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_1G, "largest");
	EXPECT_EVENTS(4, "insert", SZ_1G, SZ_1G, "largest");
	EXPECT_NO_MORE();
	e = find(&self->events, "place", (unsigned long)p, SZ_1G);
	EXPECT_EQ(4 * SZ_1G, e.len);
	EXPECT_EQ(self->pfn, e.pfn);
	for (int i = 0; i < 4; i++) {
		e = find(&self->events, "insert", (unsigned long)p + i * SZ_1G, SZ_1G);
		EXPECT_EQ(self->pfn + i * SZ_1G / SZ_4K, e.pfn);
		EXPECT_EQ(st.st_ino, e.ino);
		EXPECT_EQ(major(st.st_dev), e.major);
		EXPECT_EQ(minor(st.st_dev), e.minor);
	}
	ASSERT_EQ(0, munmap(p, 4 * SZ_1G));
}

/* The BAR from 1 MiB on, for 2 GiB: the ends lie in larger blocks, which the VMA cuts. */
TEST_F_TIMEOUT(trace, vma, MINUTES(2))
{
	const int of_2m = 511;
	struct event e;
	char *p;

	if (self->max < THI_1G)
		SKIP(return, "the CPU has no leaves of 1 GiB");
	p = mmap(NULL, 2 * SZ_1G, PROT_READ | PROT_WRITE, MAP_SHARED, self->sysfs, SZ_1M);
	ASSERT_NE(MAP_FAILED, p);
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_1G, "largest");
	EXPECT_EVENTS(1, "insert", SZ_1G, SZ_1G, "largest");
	EXPECT_EVENTS(of_2m, "insert", SZ_2M, SZ_2M, "largest");
	EXPECT_EVENTS(2, "refuse", SZ_1G, SZ_2M, "vma");
	EXPECT_EVENTS(2, "refuse", SZ_2M, SZ_4K, "vma");
	EXPECT_NO_MORE();
	EXPECT_TRUE(all_of(&self->events, (unsigned long)p, self->pfn + SZ_1M / SZ_4K));
	e = find(&self->events, "refuse", (unsigned long)p, SZ_1G);
	EXPECT_STREQ("vma", e.why);
	e = find(&self->events, "refuse", (unsigned long)p - SZ_1M + 2 * SZ_1G, SZ_2M);
	EXPECT_STREQ("vma", e.why);
	ASSERT_EQ(0, munmap(p, 2 * SZ_1G));
}

TEST_F_TIMEOUT(trace, limit, MINUTES(2))
{
	const bool gib = self->max == THI_1G;
	char *p;

	ASSERT_EQ(0, write_file(LIMIT, "2M"));
	p = mmap(NULL, SZ_1G, PROT_READ | PROT_WRITE, MAP_SHARED, self->sysfs, 0);
	ASSERT_NE(MAP_FAILED, p);
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_2M, gib ? "limit" : "cpu");
	/* It is placed modulo 2 MiB, so it may lie in two blocks of 1 GiB. */
	if ((unsigned long)p % SZ_1G)
		EXPECT_EVENTS(2, "refuse", SZ_1G, SZ_2M, "congruence");
	else
		EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "limit");
	EXPECT_EVENTS(512, "insert", SZ_2M, SZ_2M, "largest");
	EXPECT_NO_MORE();
	ASSERT_EQ(0, munmap(p, SZ_1G));

	ASSERT_EQ(0, write_file(LIMIT, "4K"));
	ASSERT_EQ(self->area, map_at(self->sysfs, 0, self->area, 0, SZ_1G));
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_4K, "address");
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "limit");
	EXPECT_EVENTS(512, "refuse", SZ_2M, SZ_4K, "limit");
	EXPECT_NO_MORE();
	p = mmap(NULL, SZ_2M, PROT_READ, MAP_SHARED, self->sysfs, 0);
	ASSERT_NE(MAP_FAILED, p);
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_4K, "limit");
	munmap(p, SZ_2M);
}

/* A range that has no whole block is not placed. */
TEST_F_TIMEOUT(trace, place_extent, MINUTES(2))
{
	char *p = mmap(NULL, SZ_2M, PROT_READ, MAP_SHARED, self->sysfs, SZ_1M);
	char *q = mmap(NULL, SZ_1M, PROT_READ, MAP_SHARED, self->sysfs, 0);
	char *r = mmap(NULL, SZ_1G, PROT_READ, MAP_SHARED, self->sysfs, SZ_2M);

	ASSERT_NE(MAP_FAILED, p);
	ASSERT_NE(MAP_FAILED, q);
	ASSERT_NE(MAP_FAILED, r);
	TAKE();
	EXPECT_EVENTS(2, "place", SZ_1G, SZ_4K, "extent");
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_2M, "extent");
	EXPECT_EQ((unsigned long)r, find(&self->events, "place", (unsigned long)r, SZ_1G).addr);
	munmap(p, SZ_2M);
	munmap(q, SZ_1M);
	munmap(r, SZ_1G);
}

TEST_F_TIMEOUT(trace, cpu, MINUTES(2))
{
	if (self->max == THI_1G)
		SKIP(return, "the CPU has leaves of 1 GiB");
	ASSERT_EQ(self->area, map_driver(THE_MMAP, SZ_1G));
	load(self->area);
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_4K, "address");
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "cpu");
	EXPECT_EVENTS(1, "insert", SZ_2M, SZ_2M, "largest");
	EXPECT_NO_MORE();
}

TEST_F_TIMEOUT(trace, private, MINUTES(2))
{
	char *p = mmap(self->area, SZ_1G, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
		       self->fd, 0);
	ASSERT_EQ(self->area, p);
	TAKE();
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "private");
	EXPECT_EVENTS(512, "refuse", SZ_2M, SZ_4K, "private");
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_4K, "address");
	EXPECT_NO_MORE();
	p = mmap(NULL, SZ_2M, PROT_READ, MAP_PRIVATE, self->fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_4K, "private");
	munmap(p, SZ_2M);
}

/* Faults: each is refused what is larger, and the pages of a table are mapped at once. */
TEST_F_TIMEOUT(trace, madvise, MINUTES(2))
{
	ASSERT_EQ(self->area, map_driver(THE_MMAP, SZ_1G));
	ASSERT_EQ(0, madvise(self->area, SZ_1G, MADV_NOHUGEPAGE));
	TAKE();
	load(self->area + SZ_2M);
	load(self->area + SZ_2M + SZ_4K);
	TAKE();
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "madvise");
	EXPECT_EVENTS(1, "refuse", SZ_2M, SZ_4K, "madvise");
	EXPECT_NO_MORE();
	EXPECT_EQ(self->pfn + 512,
		  find(&self->events, "refuse", (unsigned long)self->area + SZ_2M, SZ_2M).pfn);
	EXPECT_EQ(self->pfn, find(&self->events, "refuse", (unsigned long)self->area, SZ_1G).pfn);
}

TEST_F_TIMEOUT(trace, pfn_mkwrite, MINUTES(2))
{
	ASSERT_EQ(self->area, map_driver(THE_MKWRITE, SZ_1G));
	TAKE();
	store(self->area, 1);
	TAKE();
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "pfn_mkwrite");
	EXPECT_EVENTS(1, "refuse", SZ_2M, SZ_4K, "pfn_mkwrite");
	EXPECT_NO_MORE();
}

TEST_F_TIMEOUT(trace, congruence, MINUTES(2))
{
	/* In the middle, so that a whole block of addresses lies in the VMA */
	ASSERT_EQ(self->area, map_driver(THE_MMAP + SZ_2M, 2 * SZ_1G));
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_4K, "address");
	load(self->area + SZ_1G);
	TAKE();
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "congruence");
	EXPECT_EVENTS(1, "insert", SZ_2M, SZ_2M, "largest");
	EXPECT_NO_MORE();

	ASSERT_EQ(self->area, map_driver(THE_MMAP + SZ_4K, 2 * SZ_1G));
	TAKE();
	load(self->area + SZ_1G);
	TAKE();
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "congruence");
	EXPECT_EVENTS(1, "refuse", SZ_2M, SZ_4K, "congruence");
	EXPECT_NO_MORE();
}

/*
 * A mapping that is as long as a leaf, at an address that is not congruent: there is no
 * whole block of addresses in it either, but that is not why.
 */
TEST_F_TIMEOUT(trace, congruence_short, MINUTES(2))
{
	ASSERT_EQ(self->area + SZ_4K, map_at(self->fd, 0, self->area + SZ_4K, THE_MMAP, SZ_2M));
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_4K, "address");
	load(self->area + SZ_4K);
	TAKE();
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "vma");
	EXPECT_EVENTS(1, "refuse", SZ_2M, SZ_4K, "congruence");
	EXPECT_NO_MORE();
}

/* remap_pfn_range() in three pieces, which meet at 3 MiB and at 1 GiB */
TEST_F_TIMEOUT(trace, extent, MINUTES(2))
{
	struct event e;

	ASSERT_EQ(self->area, map_driver(THI_PIECES, 2 * SZ_1G));
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_4K, "address");
	EXPECT_EVENTS(2, "refuse", SZ_2M, SZ_4K, "extent");
	EXPECT_EVENTS(2, "refuse", SZ_1G, SZ_2M, "extent");
	EXPECT_EVENTS(self->max == THI_1G ? 511 : 511 + 512, "insert", SZ_2M, SZ_2M, "largest");
	if (self->max == THI_1G)
		EXPECT_EVENTS(1, "insert", SZ_1G, SZ_1G, "largest");
	else
		EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "cpu");
	EXPECT_NO_MORE();
	e = find(&self->events, "refuse", (unsigned long)self->area + SZ_2M, SZ_2M);
	EXPECT_STREQ("extent", e.why);
	EXPECT_EQ(self->pfn + 512, e.pfn);
}

/* A table that a fault has made stays when the limit is raised. */
TEST_F_TIMEOUT(trace, table, MINUTES(2))
{
	if (self->max < THI_1G)
		SKIP(return, "the CPU has no leaves of 1 GiB");
	ASSERT_EQ(self->area, map_driver(THE_MMAP, SZ_1G));
	ASSERT_EQ(0, write_file(LIMIT, "4K"));
	load(self->area);
	TAKE();
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "limit");
	EXPECT_EVENTS(1, "refuse", SZ_2M, SZ_4K, "limit");
	ASSERT_EQ(0, write_file(LIMIT, "1G"));
	load(self->area + SZ_2M);
	TAKE();
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "table");
	EXPECT_EVENTS(1, "insert", SZ_2M, SZ_2M, "largest");
	EXPECT_NO_MORE();
}

/* A page of a block has another type, by PAT. Then the table of its neighbours stays. */
TEST_F_TIMEOUT(trace, pat, MINUTES(2))
{
	const __u64 odd = SZ_2M + 5 * SZ_4K;
	int wc = open(PCI_DEVICE "/resource2_wc", O_RDWR);
	char *q;

	if (access(PAT_LIST, R_OK) || wc < 0)
		SKIP(return, "no PAT");
	q = mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, wc, odd);
	ASSERT_NE(MAP_FAILED, q);
	ASSERT_EQ(self->area, map_driver(THE_MMAP, SZ_1G));
	TAKE();
	load(self->area + SZ_2M);
	TAKE();
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "pat");
	EXPECT_EVENTS(1, "refuse", SZ_2M, SZ_4K, "pat");
	EXPECT_NO_MORE();
	load(self->area);
	TAKE();
	EXPECT_EVENTS(1, "insert", SZ_2M, SZ_2M, "largest");
	/* A fault has mapped one page there. */
	ASSERT_EQ(0, munmap(q, SZ_4K));
	load(self->area + SZ_2M + SZ_1M);
	TAKE();
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "table");
	EXPECT_EVENTS(1, "refuse", SZ_2M, SZ_4K, "table");
	EXPECT_NO_MORE();
	close(wc);
}

/* An MTRR begins inside of a block: of a user mapping, and of the kernel's. */
TEST_F_TIMEOUT(trace, mtrr, MINUTES(2))
{
	const bool gib = self->max == THI_1G;
	struct test_huge_iomap_unmap unmap;
	struct test_huge_iomap_map map;

	if (try_mtrr(self->bar.start + SZ_2M) ||
	    set_mtrr(self->bar.start + SZ_2M, SZ_4K, "write-combining"))
		SKIP(return, "the MTRRs cannot be changed");
	self->mtrr = self->bar.start + SZ_2M;
	ASSERT_EQ(self->area, map_driver(THE_MMAP, SZ_1G));
	TAKE();
	load(self->area + SZ_2M);
	TAKE();
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, gib ? "mtrr" : "cpu");
	EXPECT_EVENTS(1, "refuse", SZ_2M, SZ_4K, "mtrr");
	EXPECT_NO_MORE();
	ASSERT_EQ(0, munmap(self->area, SZ_1G));

	EXPECT_EQ(0, thi_map(self->fd, THI_IOREMAP, 0, SZ_1G, &map));
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, gib ? SZ_1G : SZ_2M, gib ? "largest" : "cpu");
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, gib ? "mtrr" : "cpu");
	EXPECT_EVENTS(1, "refuse", SZ_2M, SZ_4K, "mtrr");
	EXPECT_EVENTS(511, "insert", SZ_2M, SZ_2M, "largest");
	EXPECT_NO_MORE();
	EXPECT_EQ(map.va + SZ_2M, find(&self->events, "refuse", map.va + SZ_2M, SZ_2M).addr);
	EXPECT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));
	EXPECT_EQ(0, clear_mtrr(self->mtrr));
	self->mtrr = 0;
}

/* A page is cut out of 1 GiB: that is split, and a leaf of 2 MiB of it. */
TEST_F_TIMEOUT(trace, split, MINUTES(2))
{
	const __u64 at = 5 * SZ_2M + 7 * SZ_4K;
	struct event e;

	ASSERT_EQ(self->area, map_at(self->sysfs, 0, self->area, 0, SZ_1G));
	TAKE();
	ASSERT_EQ(0, munmap(self->area + at, SZ_4K));
	TAKE();
	if (self->max == THI_1G) {
		EXPECT_EVENTS(1, "split", SZ_1G, SZ_2M, "largest");
		e = find(&self->events, "split", (unsigned long)self->area, SZ_1G);
		EXPECT_EQ(self->pfn, e.pfn);
		EXPECT_NE(0, e.ino);
	}
	EXPECT_EVENTS(1, "split", SZ_2M, SZ_4K, "largest");
	e = find(&self->events, "split", (unsigned long)self->area + 5 * SZ_2M, SZ_2M);
	EXPECT_EQ(self->pfn + 5 * 512, e.pfn);
	EXPECT_NO_MORE();
}

/* Each allocation of the same fails in turn: what fails for a table says so. */
TEST_F_TIMEOUT(trace, split_memory, MINUTES(2))
{
	const __u64 at = 5 * SZ_2M + 7 * SZ_4K;
	int nth = open("/proc/self/fail-nth", O_RDWR), left = 0, err;
	int failed[2] = {};

	if (nth < 0 || !can_fail_nth())
		SKIP(return, "no fault injection in this kernel");
	for (int n = 1; !left; n++) {
		ASSERT_EQ(self->area, map_at(self->sysfs, 0, self->area, 0, SZ_1G));
		TAKE();
		ASSERT_TRUE(set_fail_nth(nth, n));
		err = munmap(self->area + at, SZ_4K) ? errno : 0;
		left = get_fail_nth(nth);
		ASSERT_TRUE(set_fail_nth(nth, 0));
		ASSERT_GE(left, 0);
		TAKE();
		err = err == ENOMEM;
		if (count(&self->events, "split", SZ_1G, SZ_1G, "memory")) {
			EXPECT_EQ(1, err);
			EXPECT_EQ(self->pfn, find(&self->events, "split",
						  (unsigned long)self->area, SZ_1G).pfn);
			failed[0]++;
		}
		if (count(&self->events, "split", SZ_2M, SZ_2M, "memory")) {
			EXPECT_EQ(1, err);
			failed[1]++;
		}
		if (!err)
			EXPECT_EVENTS(1, "split", SZ_2M, SZ_4K, "largest");
	}
	close(nth);
	if (self->max == THI_1G)
		EXPECT_GE(failed[0], 1);
	EXPECT_GE(failed[1], 1);
}

/* ioremap() and vunmap_range(): no file, and the exact leaves */
TEST_F_TIMEOUT(trace, ioremap, MINUTES(2))
{
	struct test_huge_iomap_unmap unmap;
	struct test_huge_iomap_map map;
	struct event e;

	if (max_leaf() < THI_1G)
		SKIP(return, "no leaves of 1 GiB in the kernel");
	ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, SZ_1M, 2 * SZ_1G, &map));
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_1G, "largest");
	EXPECT_EVENTS(1, "insert", SZ_1G, SZ_1G, "largest");
	EXPECT_EVENTS(511, "insert", SZ_2M, SZ_2M, "largest");
	EXPECT_EVENTS(2, "refuse", SZ_1G, SZ_2M, "extent");
	EXPECT_EVENTS(2, "refuse", SZ_2M, SZ_4K, "extent");
	EXPECT_NO_MORE();
	EXPECT_TRUE(all_of(&self->events, map.va, self->pfn + SZ_1M / SZ_4K));
	e = find(&self->events, "place", map.va, SZ_1G);
	EXPECT_EQ(2 * SZ_1G, e.len);
	EXPECT_EQ(0, e.ino + e.major + e.minor);
	ASSERT_EQ(0, thi_change(self->fd, map.handle, THI_VUNMAP, SZ_1G - SZ_1M + SZ_2M + SZ_4K,
				1));
	TAKE();
	EXPECT_EVENTS(1, "split", SZ_1G, SZ_2M, "largest");
	EXPECT_EVENTS(1, "split", SZ_2M, SZ_4K, "largest");
	EXPECT_NO_MORE();
	EXPECT_TRUE(all_of(&self->events, map.va, self->pfn + SZ_1M / SZ_4K));
	ASSERT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));

	ASSERT_EQ(0, write_file(LIMIT, "2M"));
	ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, 0, SZ_1G, &map));
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_2M, "limit");
	EXPECT_EVENTS(512, "insert", SZ_2M, SZ_2M, "largest");
	EXPECT_EVENTS(1, "refuse", SZ_1G, SZ_2M, "limit");
	EXPECT_NO_MORE();
	ASSERT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));
}

/* vmap(): a block, one with two pages in each other's place, and one that is shifted */
TEST_F_TIMEOUT(trace, vmap, MINUTES(2))
{
	struct test_huge_vmap_alloc alloc = { .order = 10, .nr = 2, .flags = THV_COMPOUND };
	struct test_huge_vmap_unmap unmap = {};
	struct test_huge_vmap_piece p[] = {
		{ .first = 0, .nr = 513, .step = 1 },
		{ .first = 514, .nr = 1, .step = 1 },
		{ .first = 513, .nr = 1, .step = 1 },
		{ .first = 515, .nr = 509, .step = 1 },
		{ .first = 1025, .nr = 512, .step = 1 },
	};
	struct test_huge_vmap_map map = {
		.pieces = (unsigned long)p, .nr = ARRAY_SIZE(p), .how = THV_VMAP,
	};

	if (max_leaf() < THI_2M)
		SKIP(return, "no huge leaves in the kernel");
	ASSERT_EQ(0, ioctl(self->fd, THV_ALLOC, &alloc));
	for (int i = 0; i < ARRAY_SIZE(p); i++)
		p[i].block = alloc.block;
	TAKE();
	ASSERT_EQ(0, ioctl(self->fd, THV_MAP, &map));
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_2M, "extent");
	/* One for each table: two where the area crosses a multiple of 1 GiB */
	if (max_leaf() == THI_1G)
		EXPECT_EVENTS(1 + (map.va / SZ_1G != (map.va + 3 * SZ_2M - 1) / SZ_1G),
			      "refuse", SZ_1G, SZ_2M, "extent");
	EXPECT_EVENTS(1, "insert", SZ_2M, SZ_2M, "largest");
	/* Swapped pages, and pages that are not aligned */
	EXPECT_EVENTS(2, "refuse", SZ_2M, SZ_4K, "pages");
	EXPECT_NO_MORE();
	EXPECT_EQ(map.va, find(&self->events, "insert", map.va, SZ_2M).addr);
	EXPECT_STREQ("pages", find(&self->events, "refuse", map.va + SZ_2M, SZ_2M).why);
	unmap.handle = map.handle;
	ASSERT_EQ(0, ioctl(self->fd, THV_UNMAP, &unmap));

	/* Every other page: there is no block in the array. */
	p[0] = (struct test_huge_vmap_piece) {
		.block = alloc.block, .first = 0, .nr = 768, .step = 2,
	};
	map.nr = 1;
	ASSERT_EQ(0, ioctl(self->fd, THV_MAP, &map));
	TAKE();
	EXPECT_EVENTS(1, "place", SZ_1G, SZ_4K, "pages");
	unmap.handle = map.handle;
	ASSERT_EQ(0, ioctl(self->fd, THV_UNMAP, &unmap));
	ASSERT_EQ(0, ioctl(self->fd, THV_FREE, &alloc.block));
}

/* Nothing is recorded of what nobody asks for. */
TEST_F_TIMEOUT(trace, off, MINUTES(2))
{
	ASSERT_EQ(0, write_file(INSTANCE "/events/huge_iomap/enable", "0"));
	ASSERT_EQ(self->area, map_at(self->sysfs, 0, self->area, 0, SZ_1G));
	TAKE();
	EXPECT_EQ(0, self->events.nr);
	ASSERT_EQ(0, write_file(INSTANCE "/events/huge_iomap/huge_iomap_insert/enable", "1"));
	ASSERT_EQ(self->area, map_at(self->sysfs, 0, self->area, 0, SZ_1G));
	TAKE();
	EXPECT_EQ(self->max == THI_1G ? 1 : 512, self->events.nr);
	EXPECT_EVENTS(self->events.nr, "insert", leaf_sizes[self->max], leaf_sizes[self->max],
		      "largest");
}

TEST_HARNESS_MAIN
