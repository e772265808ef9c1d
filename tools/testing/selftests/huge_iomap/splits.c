// SPDX-License-Identifier: GPL-2.0
/*
 * Splits of huge leaves in user mappings of a PCI BAR: while other threads use the
 * mapping, without memory, and in random sequences against a model.
 */
#include "huge_iomap_vfio.h"

#include <linux/fs.h>
#include <pthread.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#define AREA		(2 * SZ_1G)

FIXTURE(splits) {
	char saved[16];
	int fd, thi;
	__u64 base;		/* where the BAR begins in the file */
	struct vfio vfio;
	char *area;
	int max;		/* largest leaf that can be had */
};

FIXTURE_VARIANT(splits) {
	const char *limit;
	bool vfio;		/* mapped by faults, else by remap_pfn_range() */
};

FIXTURE_VARIANT_ADD(splits, limit_4k) { .limit = "4K" };
FIXTURE_VARIANT_ADD(splits, limit_2m) { .limit = "2M" };
FIXTURE_VARIANT_ADD(splits, limit_1g) { .limit = "1G" };
FIXTURE_VARIANT_ADD(splits, vfio_4k) { .limit = "4K", .vfio = true };
FIXTURE_VARIANT_ADD(splits, vfio_2m) { .limit = "2M", .vfio = true };
FIXTURE_VARIANT_ADD(splits, vfio_1g) { .limit = "1G", .vfio = true };

FIXTURE_SETUP(splits)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR2_REGION_INDEX,
	};

	self->vfio.device = -1;
	self->thi = open_driver();
	ASSERT_GE(self->thi, 0) TH_LOG(DEVICE ": %s", strerror(errno));
	if (read_line(LIMIT, self->saved, sizeof(self->saved)) &&
	    write_file(LIMIT, variant->limit))
		SKIP(return, "nohugeiomap does not allow %s", variant->limit);
	if (variant->vfio) {
		ASSERT_EQ(0, bind_to("vfio-pci"));
		ASSERT_TRUE(open_cdev(&self->vfio)) TH_LOG("%s", strerror(errno));
		self->fd = self->vfio.device;
		ASSERT_EQ(0, ioctl(self->fd, VFIO_DEVICE_GET_REGION_INFO, &info));
		self->base = info.offset;
	} else {
		self->fd = self->thi;
	}
	self->max = variant->vfio ? fault_max_leaf() : user_max_leaf();
	self->area = reserve(AREA);
	ASSERT_NE(NULL, self->area);
	ASSERT_LT(0, vm_pte("/proc/self/status"));
}

FIXTURE_TEARDOWN(splits)
{
	if (self->saved[0])
		write_file(LIMIT, self->saved);
	if (self->vfio.device < 0)
		return;
	munmap(self->area, AREA);
	close_vfio(&self->vfio);
	bind_to("\n");
}

/* Two threads read and write around the pages that a third cuts out. */

struct hammer {
	char *va;
	int stop;
	long wrong;
	int rounds;
	int first;
};

static void *hammer(void *arg)
{
	struct hammer *h = arg;

	while (!load(&h->stop)) {
		for (__u64 o = h->first * SZ_4K; o < SZ_1G; o += 64 * SZ_1M / 4) {
			/* A fault that is not resolved kills the test. */
			if (load(h->va + o) != pattern(o))
				h->wrong++;
			store(h->va + o, pattern(o));
		}
		store(&h->rounds, h->rounds + 1);
	}
	return NULL;
}

TEST_F_TIMEOUT(splits, under_load, MINUTES(5))
{
	char *va = self->area;
	struct hammer h[2];
	pthread_t t[2];

	for (int round = 0; round < 4; round++) {
		ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, SZ_1G));
		fill(va, 0, SZ_1G);
		for (int i = 0; i < 2; i++) {
			h[i] = (struct hammer) { .va = va, .first = i };
			ASSERT_EQ(0, pthread_create(&t[i], NULL, hammer, &h[i]));
			while (!load(&h[i].rounds))
				sched_yield();
		}
		for (__u64 o = 8 * SZ_4K; o < SZ_1G; o += 32 * SZ_2M + 3 * SZ_4K) {
			switch (round % 3) {
			case 0:
				EXPECT_EQ(0, munmap(va + o, SZ_4K));
				break;
			case 1:
				EXPECT_EQ(0, mprotect(va + o, SZ_4K, PROT_NONE));
				break;
			case 2:
				EXPECT_EQ(0, madvise(va + o, SZ_4K, MADV_DONTFORK));
			}
			sched_yield();
		}
		for (int i = 0; i < 2; i++) {
			store(&h[i].stop, 1);
			ASSERT_EQ(0, pthread_join(t[i], NULL));
			EXPECT_EQ(0, h[i].wrong);
			EXPECT_LT(0, h[i].rounds);
		}
	}
}

/* Each allocation of a split fails in turn: -ENOMEM, and nothing has changed. */
TEST_F_TIMEOUT(splits, no_memory, MINUTES(2))
{
	char *page = self->area + 100 * SZ_2M + 7 * SZ_4K;
	int nth = open("/proc/self/fail-nth", O_RDWR);
	const __u64 bytes = SZ_1G;
	long tables, failed = 0;
	int err, left, n;

	if (variant->vfio)
		SKIP(return, "the leaves are split by the same code");
	if (nth < 0 || !can_fail_nth())
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC or CONFIG_FAILSLAB");
	for (n = 1; n < 100; n++) {
		ASSERT_EQ(self->area, map_at(self->fd, self->base, self->area, 0, bytes));
		tables = vm_pte("/proc/self/status");
		ASSERT_TRUE(set_fail_nth(nth, n));
		err = mprotect(page, SZ_4K, PROT_READ) ? errno : 0;
		left = get_fail_nth(nth);
		ASSERT_TRUE(set_fail_nth(nth, 0));
		ASSERT_GE(left, 0);
		if (err) {
			failed++;
			EXPECT_EQ(ENOMEM, err);
			EXPECT_EQ(0, try_write(page, 1));
			EXPECT_GE(tables + 8, vm_pte("/proc/self/status"));
			ASSERT_EQ(0, mprotect(page, SZ_4K, PROT_READ));
		}
		EXPECT_EQ(SIGSEGV, try_write(page, 1));
		EXPECT_EQ(0, try_write(page - SZ_4K, 1));
		EXPECT_EQ(0, try_write(page + SZ_4K, 1));
		EXPECT_EQ(4 * tables_of_cut(self->max),
			  vm_pte("/proc/self/status") - tables);
		/* The count has not run out: no more allocations to fail. */
		if (left)
			break;
	}
	close(nth);
	EXPECT_GE(failed, tables_of_cut(self->max));
	EXPECT_LT(n, 100);
}

/* The same where a part moves to a congruent address: the leaf cannot go whole. */
TEST_F_TIMEOUT(splits, no_memory_to_move, MINUTES(2))
{
	const __u64 off = 100 * SZ_2M + 7 * SZ_4K, bytes = 3 * SZ_2M;
	char *from = self->area + off, *to = from + SZ_1G;
	int nth = open("/proc/self/fail-nth", O_RDWR);
	int left, n, failed = 0;
	void *got;

	if (variant->vfio)
		SKIP(return, "the leaves are split by the same code");
	if (nth < 0 || !can_fail_nth())
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC or CONFIG_FAILSLAB");
	for (n = 1; n < 100; n++) {
		ASSERT_EQ(self->area, map_at(self->fd, self->base, self->area, 0, SZ_1G));
		fill(self->area, 0, SZ_1G);
		fill(from, off, bytes);
		munmap(self->area + SZ_1G, SZ_1G);
		ASSERT_TRUE(set_fail_nth(nth, n));
		got = mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to);
		left = get_fail_nth(nth);
		ASSERT_TRUE(set_fail_nth(nth, 0));
		ASSERT_GE(left, 0);
		if (got == MAP_FAILED) {
			failed++;
			EXPECT_EQ(0, differ(from, off, 0, bytes)) TH_LOG("%d", n);
		} else {
			EXPECT_EQ(0, differ(to, off, 0, bytes)) TH_LOG("%d", n);
			/* The VMA may stay if there is no memory to cut it. */
			EXPECT_NE(0, try_write(from, 1));
			EXPECT_NE(0, try_write(from + bytes - SZ_4K, 1));
		}
		EXPECT_EQ(0, differ(self->area, 0, 0, off)) TH_LOG("%d", n);
		EXPECT_EQ(0, differ(self->area, 0, off + bytes, SZ_1G))
			TH_LOG("%d", n);
		/* The count has not run out: no more allocations to fail. */
		if (left)
			break;
	}
	close(nth);
	EXPECT_GE(failed, tables_of_cut(self->max));
	EXPECT_LT(n, 100);
}

/* Has the kernel said since the last call that a leaf is unmapped? */
static bool told(int kmsg)
{
	char record[1024];
	bool found = false;
	ssize_t n;

	while ((n = read(kmsg, record, sizeof(record) - 1)) > 0 || errno == EPIPE) {
		record[n > 0 ? n : 0] = 0;
		if (strstr(record, "to split a leaf of device memory"))
			found = true;
	}
	return found;
}

/*
 * A part of a leaf is revoked and there is no memory to split it. The rest comes
 * back by a fault, or nothing brings it back, and then the kernel says so.
 */
TEST_F_TIMEOUT(splits, lost_is_told, MINUTES(2))
{
	const int kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	const int nth = open("/proc/self/fail-nth", O_RDWR);
	const __u64 from = 33 * SZ_2M + SZ_4K;
	const int max = self->max;
	struct { int fd; __u64 base; } files[2] = {
		{ self->fd, self->base },
		{ open(PCI_DEVICE "/resource2", O_RDWR | O_SYNC), bar_start() },
	};
	char *va = self->area;
	int left, n;
	__u32 v;

	if (option_off())
		SKIP(return, "without the option leaves are dropped, not split");
	if (nth < 0 || !can_fail_nth())
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC or CONFIG_FAILSLAB");
	ASSERT_GE(kmsg, 0);
	ASSERT_GE(files[1].fd, 0);
	/* sysfs and vfio: both have vm_ops->fault(), and only one can fault back. */
	for (int i = 0; i < 2; i++) {
		const bool back = !i && variant->vfio;
		struct test_huge_iomap_revoke revoke = {
			.offset = files[i].base + from, .bytes = SZ_4K, .fd = files[i].fd,
		};
		int failed = 0;

		for (n = 1; n < 20; n++) {
			bool lost;

			ASSERT_EQ(va, map_at(files[i].fd, i ? 0 : self->base, va, 0, SZ_1G));
			fill(va, 0, SZ_1G);
			told(kmsg);
			ASSERT_TRUE(set_fail_nth(nth, n));
			ASSERT_EQ(0, ioctl(self->thi, THI_REVOKE, &revoke));
			left = get_fail_nth(nth);
			ASSERT_TRUE(set_fail_nth(nth, 0));
			ASSERT_GE(left, 0);
			lost = try_read(va + from - SZ_4K, &v);
			EXPECT_EQ(lost, told(kmsg)) TH_LOG("file %d, allocation %d", i, n);
			EXPECT_EQ(back ? 0 : SIGBUS, try_read(va + from, &v));
			if (back)
				EXPECT_FALSE(lost);
			/* What is not of the leaf that could not be split */
			if (back || max < THI_1G)
				EXPECT_EQ(0, differ(va, 0, from + SZ_2M, SZ_1G));
			failed += back ? !left : lost;
			if (left)
				break;
		}
		EXPECT_LT(n, 20);
		EXPECT_GE(failed, tables_of_cut(max));
		ASSERT_EQ(0, munmap(va, SZ_1G));
	}
	close(files[1].fd);
	close(nth);
	close(kmsg);
}

/*
 * Random operations on random ranges, and what a model of each page says of it. The
 * seed is fixed: a failure can be had again.
 */

#define PAGES		(AREA / SZ_4K)
#define NOT_MAPPED	0xffffffffu

struct model {
	__u32 *page;		/* page of the BAR, or NOT_MAPPED */
	unsigned char *prot;
	bool *dontfork;
	char *area;
	__u64 base, seed;
};

static __u64 pick(struct model *m, __u64 limit)
{
	m->seed = m->seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (m->seed >> 24) % limit;
}

/* A range in pages: of any size, and often at a place where leaves begin and end */
static void pick_range(struct model *m, __u64 *first, __u64 *nr)
{
	static const __u64 align[] = { 1, 1, 512, 512, 512 * 512 };
	const __u64 a = align[pick(m, ARRAY_SIZE(align))];

	*first = pick(m, PAGES) / a * a;
	*nr = 1 + pick(m, 1ULL << pick(m, 19));
	if (pick(m, 2))
		*nr = (*nr + a - 1) / a * a;
	if (*nr > PAGES - *first)
		*nr = PAGES - *first;
}

/* Nothing, or how the page differs from the model */
static const char *check_page(struct model *m, __u64 i, bool child)
{
	char *va = m->area + i * SZ_4K;
	const bool gone = m->page[i] == NOT_MAPPED || (child && m->dontfork[i]);
	__u32 want = pattern(m->page[i] * SZ_4K), v;
	bool ok = !try_read(va, &v);

	if (ok != (!gone && (m->prot[i] & PROT_READ)))
		return ok ? "readable" : "not readable";
	if (ok && v != want)
		return "of another page";
	ok = !try_write(va, want);
	if (ok != (!gone && (m->prot[i] & PROT_WRITE)))
		return ok ? "writable" : "not writable";
	return NULL;
}

static const char *check_some(struct model *m, __u64 first, __u64 nr, bool child)
{
	const __u64 at[] = { first - 1, first, first + nr / 2, first + nr - 1,
			     first + nr, first / 512 * 512, first | 511 };
	const char *bad = NULL;

	for (int i = 0; !bad && i < ARRAY_SIZE(at); i++)
		if (at[i] < PAGES)
			bad = check_page(m, at[i], child);
	for (int i = 0; !bad && i < 24; i++)
		bad = check_page(m, pick(m, PAGES), child);
	return bad;
}

/* How many pages from @first on are of one VMA, @nr at most; 0: none */
static __u64 vma_pages(struct model *m, int maps, __u64 first, __u64 nr)
{
	struct procmap_query q = {
		.size = sizeof(q), .query_addr = (unsigned long)m->area + first * SZ_4K,
	};
	__u64 left;

	if (ioctl(maps, PROCMAP_QUERY, &q))
		return 0;
	left = (q.vma_end - q.query_addr) / SZ_4K;
	return left < nr ? left : nr;
}

static int op_map(struct model *m, int fd, __u64 first, __u64 nr)
{
	/* Congruent to the address as often as not */
	__u64 to = pick(m, 2) ? pick(m, PAGES) : first;

	if (to > PAGES - nr)
		to = PAGES - nr;
	if (map_at(fd, m->base, m->area + first * SZ_4K, to * SZ_4K,
		   nr * SZ_4K) == MAP_FAILED)
		return errno;
	for (__u64 i = 0; i < nr; i++) {
		m->page[first + i] = to + i;
		m->prot[first + i] = PROT_READ | PROT_WRITE;
		m->dontfork[first + i] = false;
	}
	return 0;
}

static int op_unmap(struct model *m, __u64 first, __u64 nr)
{
	if (munmap(m->area + first * SZ_4K, nr * SZ_4K))
		return errno;
	for (__u64 i = first; i < first + nr; i++)
		m->page[i] = NOT_MAPPED;
	return 0;
}

static int op_protect(struct model *m, __u64 first, __u64 nr)
{
	static const unsigned char prots[] = { PROT_NONE, PROT_READ,
					       PROT_READ | PROT_WRITE };
	const unsigned char prot = prots[pick(m, 3)];

	if (mprotect(m->area + first * SZ_4K, nr * SZ_4K, prot))
		return errno;
	memset(m->prot + first, prot, nr);
	return 0;
}

static int op_dontfork(struct model *m, __u64 first, __u64 nr)
{
	const bool dont = pick(m, 2);

	/* VM_SPECIAL: MADV_DOFORK is refused, and changes nothing. */
	if (madvise(m->area + first * SZ_4K, nr * SZ_4K,
		    dont ? MADV_DONTFORK : MADV_DOFORK))
		return dont ? errno : errno != EINVAL;
	memset(m->dontfork + first, dont, nr);
	return 0;
}

static int op_move(struct model *m, __u64 first, __u64 nr)
{
	__u64 to = pick(m, PAGES);

	/* To the same place in another leaf as often as not */
	if (pick(m, 2))
		to = (to & ~511ULL) | (first & 511);
	if (to > PAGES - nr)
		to = PAGES - nr;
	if (to < first + nr && first < to + nr)
		return 0;
	if (mremap(m->area + first * SZ_4K, nr * SZ_4K, nr * SZ_4K,
		   MREMAP_MAYMOVE | MREMAP_FIXED, m->area + to * SZ_4K) == MAP_FAILED)
		return errno;
	for (__u64 i = 0; i < nr; i++) {
		m->page[to + i] = m->page[first + i];
		m->prot[to + i] = m->prot[first + i];
		m->dontfork[to + i] = m->dontfork[first + i];
		m->page[first + i] = NOT_MAPPED;
	}
	return 0;
}

static int op_fork(struct model *m, __u64 first, __u64 nr)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return errno;
	if (!pid)
		_exit(!!check_some(m, first, nr, true));
	return waitpid(pid, &status, 0) == pid ? status : errno;
}

TEST_F_TIMEOUT(splits, random, MINUTES(10))
{
	static const char * const names[] = { "map", "unmap", "protect", "dontfork",
					      "move", "fork", "disable" };
	const int rounds = self->max == THI_4K ? 100 : 1000;
	struct model m = { .area = self->area, .base = self->base, .seed = 1 };
	int maps, err, op;
	long before, failed = 0;

	ASSERT_EQ(self->area, map_at(self->fd, self->base, self->area, 0, AREA));
	for (__u64 i = 0; i < PAGES; i++)
		store(self->area + i * SZ_4K, pattern(i * SZ_4K));
	/* The same for the model's memory: its page tables are there. */
	m.page = malloc(PAGES * sizeof(*m.page));
	m.prot = malloc(PAGES);
	m.dontfork = malloc(PAGES * sizeof(*m.dontfork));
	ASSERT_TRUE(m.page && m.prot && m.dontfork);
	memset(m.prot, 0, PAGES);
	memset(m.dontfork, 0, PAGES * sizeof(*m.dontfork));
	for (__u64 i = 0; i < PAGES; i++)
		m.page[i] = NOT_MAPPED;
	maps = open("/proc/self/maps", O_RDONLY);
	ASSERT_GE(maps, 0);
	ASSERT_EQ(0, munmap(self->area, AREA));
	before = vm_pte("/proc/self/status");

	for (int round = 0; round < rounds && !failed; round++) {
		const char *bad;
		__u64 first, nr;

		pick_range(&m, &first, &nr);
		op = pick(&m, 8);
		if (op >= 2 && op <= 4)
			nr = vma_pages(&m, maps, first, nr);
		if (!nr)
			continue;
		switch (op) {
		case 1:
			err = op_unmap(&m, first, nr);
			break;
		case 2:
			err = op_protect(&m, first, nr);
			break;
		case 3:
			err = op_dontfork(&m, first, nr);
			break;
		case 4:
			err = op_move(&m, first, nr);
			break;
		case 5:
			err = op_fork(&m, first, nr);
			break;
		case 6:
			/* All of the BAR is zapped, and comes back by faults. */
			if (!variant->vfio)
				continue;
			err = memory_enable(&self->vfio, config_offset(&self->vfio), false);
			err = err ?: memory_enable(&self->vfio,
						   config_offset(&self->vfio), true);
			break;
		default:
			op = 0;
			err = op_map(&m, self->fd, first, nr);
		}
		bad = check_some(&m, first, nr, false);
		EXPECT_EQ(0, err)
			TH_LOG("round %d, %s: %s", round, names[op], strerror(err));
		EXPECT_EQ(NULL, bad)
			TH_LOG("round %d, %s: a page is %s", round, names[op], bad);
		failed = err || bad;
	}
	for (__u64 i = 0; i < PAGES && !failed; i += 1 + i % 61) {
		const char *bad = check_page(&m, i, false);

		EXPECT_EQ(NULL, bad)
			TH_LOG("page %llu is %s", i, bad);
		failed = !!bad;
	}
	ASSERT_EQ(0, munmap(self->area, AREA));
	EXPECT_EQ(before, vm_pte("/proc/self/status"));
}

TEST_HARNESS_MAIN
