// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings of a PCI BAR are revoked while something else is done with them: what was
 * revoked is gone from each process and each address, all else is there, and a leaf
 * that may come back comes back whole.
 */
#include "huge_iomap_vfio.h"

#include <pthread.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#define AREA		(2 * SZ_1G)

/* The page of each 2 MiB that is revoked: each at another place in a small TLB */
static __u64 hole(__u64 block)
{
	return block + (3 + block / SZ_2M % 256) * SZ_4K;
}

/* Can the page be read? Of any thread, and without a signal: by the kernel */
static bool readable(int sink, const char *va)
{
	return pwrite(sink, va, 4, 0) == 4;
}

FIXTURE(races) {
	char saved[16];
	int thi, sink;
	char *area;
	int max;		/* largest leaf that can be had */
};

FIXTURE_VARIANT(races) {
	const char *limit;
};

FIXTURE_VARIANT_ADD(races, limit_4k) { .limit = "4K" };
FIXTURE_VARIANT_ADD(races, limit_2m) { .limit = "2M" };
FIXTURE_VARIANT_ADD(races, limit_1g) { .limit = "1G" };

FIXTURE_SETUP(races)
{
	self->thi = open_driver();
	ASSERT_GE(self->thi, 0) TH_LOG(DEVICE ": %s", strerror(errno));
	if (read_line(LIMIT, self->saved, sizeof(self->saved)) &&
	    write_file(LIMIT, variant->limit))
		SKIP(return, "nohugeiomap does not allow %s", variant->limit);
	self->max = user_max_leaf();
	self->sink = memfd_create("sink", 0);
	ASSERT_GE(self->sink, 0);
	self->area = reserve(AREA);
	ASSERT_NE(NULL, self->area);
}

FIXTURE_TEARDOWN(races)
{
	if (self->saved[0])
		write_file(LIMIT, self->saved);
}

/* A thread that revokes, all at once or page by page, some time after the start */
struct revoke {
	int thi;
	bool all;
	int delay;
	int go, done;
	int err;
	pthread_t thread;
};

static void *revoke_thread(void *arg)
{
	struct revoke *r = arg;
	struct test_huge_iomap_revoke req = { .fd = r->thi };

	while (!load(&r->go))
		;
	for (int i = 0; i < r->delay; i++)
		load(&r->go);
	for (__u64 o = 0; o < SZ_1G; o += r->all ? SZ_1G : SZ_2M) {
		req.offset = r->all ? 0 : hole(o);
		req.bytes = r->all ? SZ_1G : SZ_4K;
		r->err |= ioctl(r->thi, THI_REVOKE, &req);
	}
	store(&r->done, 1);
	return NULL;
}

/* How many of the pages are readable that should not be, or the other way round */
static int wrong_pages(int sink, const char *va, bool all)
{
	int wrong = 0;

	for (__u64 o = 0; o < SZ_1G; o += SZ_2M) {
		wrong += readable(sink, va + o) == all;
		wrong += readable(sink, va + hole(o) - SZ_4K) == all;
		wrong += readable(sink, va + hole(o));
		wrong += readable(sink, va + hole(o) + SZ_4K) == all;
		wrong += readable(sink, va + o + SZ_2M - SZ_4K) == all;
	}
	return wrong;
}

/* What the child has of a mapping that is revoked while it is made */
TEST_F_TIMEOUT(races, fork_revoke, MINUTES(5))
{
	const int rounds = self->max == THI_4K ? 4 : 40;
	char c;

	for (int i = 0; i < rounds; i++) {
		struct revoke r = { .thi = self->thi, .all = i % 2, .delay = i * 2503 };
		int go[2], status;
		pid_t pid;

		ASSERT_EQ(0, pipe(go));
		ASSERT_EQ(self->area, map_at(self->thi, 0, self->area, 0, SZ_1G));
		ASSERT_EQ(0, pthread_create(&r.thread, NULL, revoke_thread, &r));
		store(&r.go, 1);
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			close(go[1]);
			/* The end of the file: all is revoked. */
			if (read(go[0], &c, 1))
				_exit(2);
			_exit(!!wrong_pages(self->sink, self->area, r.all));
		}
		close(go[0]);
		ASSERT_EQ(0, pthread_join(r.thread, NULL));
		EXPECT_EQ(0, r.err);
		close(go[1]);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status) TH_LOG("child, round %d", i);
		ASSERT_EQ(0, wrong_pages(self->sink, self->area, r.all))
			TH_LOG("round %d", i);
	}
}

/* How many of the pages that are to be revoked can be read */
static int readable_holes(int sink, const char *va)
{
	int n = 0;

	for (__u64 o = 0; o < SZ_1G; o += SZ_2M)
		n += readable(sink, va + hole(o));
	return n;
}

/* What is revoked while it moves */
TEST_F_TIMEOUT(races, mremap_revoke, MINUTES(5))
{
	const int rounds = self->max == THI_4K ? 4 : 40;
	char *to = self->area + SZ_1G;
	struct user_leaves l;

	for (int i = 0; i < rounds; i++) {
		struct revoke r = { .thi = self->thi, .all = i % 2, .delay = i * 2503 };

		ASSERT_EQ(self->area, map_at(self->thi, 0, self->area, 0, SZ_1G));
		ASSERT_EQ(0, pthread_create(&r.thread, NULL, revoke_thread, &r));
		store(&r.go, 1);
		ASSERT_EQ(to, mremap(self->area, SZ_1G, SZ_1G,
				     MREMAP_MAYMOVE | MREMAP_FIXED, to));
		/* What is in the TLB of this CPU of it goes as well. */
		while (!load(&r.done))
			readable_holes(self->sink, to);
		ASSERT_EQ(0, readable_holes(self->sink, to)) TH_LOG("round %d", i);
		ASSERT_EQ(0, pthread_join(r.thread, NULL));
		EXPECT_EQ(0, r.err);
		ASSERT_EQ(0, wrong_pages(self->sink, to, r.all))
			TH_LOG("round %d", i);
		ASSERT_TRUE(user_leaves(to, SZ_1G, &l));
		EXPECT_EQ(r.all ? 0 : SZ_1G - 512 * SZ_4K,
			  l.bytes[THI_4K] + l.bytes[THI_2M] + l.bytes[THI_1G]);
	}
}

FIXTURE(faults) {
	char saved[16];
	struct vfio vfio;
	__u64 base, config;
	char *area;
	int max;
};

FIXTURE_VARIANT(faults) {
	const char *limit;
};

FIXTURE_VARIANT_ADD(faults, limit_2m) { .limit = "2M" };
FIXTURE_VARIANT_ADD(faults, limit_1g) { .limit = "1G" };

FIXTURE_SETUP(faults)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR2_REGION_INDEX,
	};

	self->vfio.device = -1;
	if (read_line(LIMIT, self->saved, sizeof(self->saved)) &&
	    write_file(LIMIT, variant->limit))
		SKIP(return, "nohugeiomap does not allow %s", variant->limit);
	self->max = user_max_leaf();
	ASSERT_EQ(0, bind_to("vfio-pci"));
	ASSERT_TRUE(open_cdev(&self->vfio)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, ioctl(self->vfio.device, VFIO_DEVICE_GET_REGION_INFO, &info));
	self->base = info.offset;
	self->config = config_offset(&self->vfio);
	ASSERT_NE(0, self->config);
	self->area = reserve(AREA);
	ASSERT_NE(NULL, self->area);
}

FIXTURE_TEARDOWN(faults)
{
	if (self->saved[0])
		write_file(LIMIT, self->saved);
	if (self->vfio.device < 0)
		return;
	munmap(self->area, AREA);
	close_vfio(&self->vfio);
	bind_to("\n");
}

struct toucher {
	char *va;
	int stop;
	long touched;
	pthread_t thread;
};

static void *touch_thread(void *arg)
{
	struct toucher *t = arg;
	int sink = memfd_create("sink", 0);

	while (!load(&t->stop))
		t->touched += readable(sink, t->va);
	close(sink);
	return NULL;
}

/*
 * A fault finds a leaf, of another thread's fault, that is gone a moment later. No
 * page table may take its place: the leaf would never come back.
 */
TEST_F_TIMEOUT(faults, leaf_comes_back, MINUTES(5))
{
	char *va = self->area;
	struct toucher t[3];

	if (self->max == THI_4K)
		SKIP(return, "no leaves");
	ASSERT_EQ(va, map_at(self->vfio.device, self->base, va, 0, SZ_1G));
	for (int i = 0; i < 3; i++) {
		t[i] = (struct toucher) { .va = va + 5 * SZ_2M };
		ASSERT_EQ(0, pthread_create(&t[i].thread, NULL, touch_thread, &t[i]));
	}
	for (int i = 0; i < 200; i++) {
		EXPECT_EQ(0, memory_enable(&self->vfio, self->config, false));
		EXPECT_EQ(0, memory_enable(&self->vfio, self->config, true));
	}
	for (int i = 0; i < 3; i++) {
		store(&t[i].stop, 1);
		ASSERT_EQ(0, pthread_join(t[i].thread, NULL));
		EXPECT_LT(0, t[i].touched);
	}
	load(va + 5 * SZ_2M);
	EXPECT_LEAVES(va, SZ_1G, 0, self->max == THI_2M, self->max == THI_1G);
}

TEST_HARNESS_MAIN
