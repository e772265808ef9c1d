// SPDX-License-Identifier: GPL-2.0
/*
 * How vfio's type1 replays mappings for a group that comes to a container later. With an
 * emulated group alone, that of the mtty sample device, a mapping is only a note: the
 * first real group has all of it pinned and mapped. A second domain gets what the first
 * one maps. Each IO page table entry is compared with what it should be.
 */
#include "huge_iomap_iommu.h"

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "kselftest_harness.h"

#define MTTY	"/sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-1/create"
#define UUID	"7f3a54c6-6a0e-4f0a-9a64-6f8f3a0b7c11"
#define MDEV	"/sys/bus/mdev/devices/" UUID

#define AREA	(4 * SZ_1G)
#define IOVA	(8 * SZ_1G)

/* Part of the address space: RAM, or the BAR from @from on */
struct piece {
	char *va;
	__u64 bytes, from;
	bool ram;
	__u64 *pagemap;		/* of RAM, a word for each page */
};

/* A mapping of type1. Any number of them may have the same memory. */
struct dma {
	char *va;
	__u64 iova, bytes;
	__u32 flags;
	bool mapped;
};

#define NR_PIECES	10
#define NR_DMAS		14

struct world {
	struct vfio bar;		/* the device with the BAR, in its own container */
	struct vfio fd;			/* the container under test, and its first group */
	char edu[32];			/* the device whose group comes later */
	int group;
	__u64 start, offset;		/* of the BAR: physical, and in its file */
	long locked, pins;		/* before anything is mapped */
	char *area;
	struct piece piece[NR_PIECES];
	struct dma dma[NR_DMAS];	/* by rising IOVA */
	struct io_table table, want;
	long runs;			/* physically contiguous ones in what is wanted */
	long pages;			/* that are pinned then */
	__u64 seen[2][THI_NR_LEAF];	/* entries of RAM and of the BAR that were wanted */
};

/* Pages, often as many as make a leaf, or some more or less */
static __u64 random_bytes(unsigned int *seed)
{
	static const __u64 sizes[] = {
		SZ_4K, SZ_64K, SZ_1M, SZ_2M, 2 * SZ_2M, 2 * SZ_2M, 3 * SZ_2M, 4 * SZ_2M,
	};
	const __u64 bytes = sizes[next_random(seed) % ARRAY_SIZE(sizes)] +
			    next_random(seed) % 5 * SZ_4K;

	return bytes > 3 * SZ_4K ? bytes - 2 * SZ_4K : bytes;
}

static bool map_bar(struct world *w, struct piece *p)
{
	return map_at(w->bar.device, w->offset, p->va, p->from, p->bytes) == p->va;
}

static bool map_ram(char *va, __u64 bytes)
{
	return mmap(va, bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == va;
}

static void touch(char *va, __u64 bytes)
{
	for (__u64 o = 0; o < bytes; o += SZ_4K)
		store(va + o, 1);
}

/* Other memory, and other mappings of it. All pieces are beside each other. */
static bool make_layout(struct world *w, unsigned int *seed)
{
	char *va = w->area + SZ_1G - (1 + next_random(seed) % 3) * SZ_4K, *begin, *end;
	__u64 iova = IOVA;

	if (!map_ram(w->area, AREA))
		return false;
	for (int i = 0; i < NR_PIECES; i++) {
		struct piece *p = &w->piece[i];
		/* All kinds of them, the first one around a leaf of 1 GiB */
		const int kind = i ? (i + next_random(seed) % 2) % 4 : 0;

		free(p->pagemap);
		*p = (struct piece) { .va = va, .ram = kind >= 2 };
		p->bytes = random_bytes(seed) + (!i ? SZ_1G : kind == 2 ? 2 * SZ_2M : 0);
		if (p->ram) {
			p->pagemap = calloc(p->bytes / SZ_4K, sizeof(*p->pagemap));
			if (!p->pagemap ||
			    madvise(va, p->bytes, kind == 2 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
				return false;
		} else {
			/* By leaves, or by PTEs */
			p->from = kind ? next_random(seed) % 2048 * SZ_4K :
					 (va - w->area) % SZ_1G;
			if (!map_bar(w, p))
				return false;
		}
		/* Some of it is there only when it is pinned. */
		if (i && next_random(seed) % 4)
			touch(va, p->bytes);
		va += p->bytes;
	}
	begin = w->piece[1].va - SZ_1M;
	end = va;
	for (int i = 0; i < NR_DMAS; i++) {
		struct dma *d = &w->dma[i];
		const __u64 align = !i ? SZ_1G : next_random(seed) % 2 ? SZ_2M : SZ_4K;

		/* Anywhere, or where a piece begins */
		if (next_random(seed) % 2)
			d->va = begin + next_random(seed) % ((end - begin) / SZ_4K) * SZ_4K;
		else
			d->va = w->piece[1 + next_random(seed) % (NR_PIECES - 1)].va;
		if (!i)
			d->va = w->piece[0].va;
		d->bytes = i ? random_bytes(seed) : SZ_1G + 2 * SZ_2M;
		if (d->bytes > end - d->va)
			d->bytes = end - d->va;
		d->flags = next_random(seed) % 4 ? RW : VFIO_DMA_MAP_FLAG_READ;
		d->mapped = false;
		/* Right after the one before, or congruent with the address, or neither */
		if (next_random(seed) % 3 == 0)
			iova += next_random(seed) % 600 * SZ_4K;
		iova += ((unsigned long)d->va - iova) % align;
		d->iova = iova;
		iova += d->bytes;
	}
	return true;
}

static bool map_one(struct world *w, struct dma *d)
{
	d->mapped = !type1_map(&w->fd, d->va, d->iova, d->bytes, d->flags);
	return d->mapped;
}

static bool unmap_one(struct world *w, struct dma *d)
{
	d->mapped = type1_unmap(&w->fd, d->iova, d->bytes) != d->bytes;
	return !d->mapped;
}

/* What is not mapped, in no order of IOVA */
static bool map_all(struct world *w)
{
	for (int i = 0; i < NR_DMAS; i++) {
		struct dma *d = &w->dma[(5 * i + 3) % NR_DMAS];

		if (!d->mapped && !map_one(w, d))
			return false;
	}
	return true;
}

static bool unmap_all(struct world *w)
{
	for (int i = 0; i < NR_DMAS; i++)
		if (w->dma[i].mapped && !unmap_one(w, &w->dma[i]))
			return false;
	return true;
}

static struct piece *piece_at(struct world *w, char *va)
{
	for (int i = 0; i < NR_PIECES; i++)
		if (va >= w->piece[i].va && va < w->piece[i].va + w->piece[i].bytes)
			return &w->piece[i];
	return NULL;
}

/* Where @va is, and how many bytes there are in a row, @max at most */
static __u64 physical(struct world *w, char *va, __u64 max, __u64 *bytes)
{
	const __u64 pfn_mask = (1ULL << 55) - 1;
	struct piece *p = piece_at(w, va);
	const __u64 o = va - p->va;
	__u64 pfn;

	*bytes = p->bytes - o < max ? p->bytes - o : max;
	if (!p->ram)
		return w->start + p->from + o;
	pfn = p->pagemap[o / SZ_4K] & pfn_mask;
	for (__u64 i = 1; i < *bytes / SZ_4K; i++)
		if ((p->pagemap[o / SZ_4K + i] & pfn_mask) != pfn + i)
			*bytes = i * SZ_4K;
	w->pages += *bytes / SZ_4K;
	return pfn * SZ_4K;
}

/* The largest entries that fit */
static void want_run(struct world *w, __u64 iova, __u64 pa, __u64 bytes, bool writable)
{
	w->runs++;
	for (__u64 o = 0, size; o < bytes; o += size) {
		int leaf = THI_1G;

		while (leaf && (((iova + o) | (pa + o)) % leaf_sizes[leaf] ||
				bytes - o < leaf_sizes[leaf]))
			leaf--;
		size = leaf_sizes[leaf];
		w->seen[pa >= w->start][leaf]++;
		add_entry(&w->want, (struct entry) {
			.iova = iova + o, .pa = pa + o, .bytes = size, .writable = writable,
		});
	}
}

/* What is to be mapped for a device, when its pages are pinned: they do not move. */
static bool want_all(struct world *w)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY);

	for (int i = 0; i < NR_PIECES; i++) {
		const struct piece *p = &w->piece[i];
		const __u64 bytes = p->bytes / SZ_4K * 8;

		if (p->ram && pread(pagemap, p->pagemap, bytes,
				    (unsigned long)p->va / SZ_4K * 8) != bytes)
			return false;
	}
	close(pagemap);
	w->want.nr = 0;
	w->runs = 0;
	w->pages = 0;
	for (int i = 0; i < NR_DMAS; i++) {
		const struct dma *d = &w->dma[i];
		__u64 pa, bytes, more;

		for (__u64 o = 0; d->mapped && o < d->bytes; o += bytes) {
			pa = physical(w, d->va + o, d->bytes - o, &bytes);
			/* From one piece to the next */
			while (o + bytes < d->bytes) {
				const long pages = w->pages;

				if (physical(w, d->va + o + bytes, d->bytes - o - bytes,
					     &more) != pa + bytes) {
					w->pages = pages;
					break;
				}
				bytes += more;
			}
			want_run(w, d->iova + o, pa, bytes, d->flags & VFIO_DMA_MAP_FLAG_WRITE);
		}
	}
	return true;
}

static void print_entry(const char *what, const struct entry *e)
{
	ksft_print_msg("  %s %#llx to %#llx, %#llx bytes, %s\n", what, e->iova, e->pa, e->bytes,
		       e->writable ? "RW" : "RO");
}

/* Prints the first entry that is not what it should be. */
static bool maps_what_is_wanted(struct world *w, const char *name)
{
	static const struct entry none;

	if (!read_io_table_of(name, &w->table) || !want_all(w))
		return false;
	for (long i = 0; i < w->want.nr || i < w->table.nr; i++) {
		const struct entry *e = i < w->table.nr ? &w->table.entry[i] : &none;
		const struct entry *want = i < w->want.nr ? &w->want.entry[i] : &none;

		if (e->iova == want->iova && e->pa == want->pa && e->bytes == want->bytes &&
		    e->writable == want->writable)
			continue;
		ksft_print_msg("%s, entry %ld:\n", name, i);
		print_entry("is", e);
		print_entry("not", want);
		return false;
	}
	return true;
}

/* Were there all kinds of entries? RAM has none of 1 GiB, and may have none of 2 MiB. */
static bool seen_all(const struct world *w)
{
	const int max = file_has("/sys/kernel/mm/transparent_hugepage/enabled", "[never]") ?
			THI_4K : THI_2M;
	bool all = true;

	for (int bar = 0; bar < 2; bar++) {
		for (int i = 0; i < THI_NR_LEAF; i++) {
			ksft_print_msg("entries of %s for %s: %llu\n", leaf_names[i],
				       bar ? "the BAR" : "RAM", w->seen[bar][i]);
			all = all && (w->seen[bar][i] || (!bar && i > max));
		}
	}
	return all;
}

/* 0 or an errno */
static int attach(struct world *w)
{
	return ioctl(w->group, VFIO_GROUP_SET_CONTAINER, &w->fd.container) ? errno : 0;
}

static int detach(struct world *w)
{
	return ioctl(w->group, VFIO_GROUP_UNSET_CONTAINER) ? errno : 0;
}

/* All of the mappings, pinned and accounted for, and nothing else */
#define EXPECT_MAPPED_FOR(name) do {					\
	EXPECT_TRUE(maps_what_is_wanted(w, name));			\
	EXPECT_EQ(w->locked + w->pages * 4, status_kib("/proc/self/status", "VmLck")); \
	EXPECT_EQ(w->pins + w->pages, pins_held());			\
} while (0)

#define EXPECT_REPLAYED() EXPECT_MAPPED_FOR(w->edu)

/* Without a real group */
#define EXPECT_NO_DMA() do {						\
	EXPECT_EQ(w->locked, status_kib("/proc/self/status", "VmLck"));	\
	EXPECT_EQ(w->pins, pins_held());				\
	ASSERT_TRUE(read_io_table_of(w->edu, &w->table));		\
	EXPECT_EQ(0, io_mapped(&w->table));				\
} while (0)

/* After an attempt that failed: mappings come and go, and the next attempt works. */
#define EXPECT_USABLE() do {						\
	ASSERT_TRUE(unmap_one(w, &w->dma[1]));				\
	ASSERT_TRUE(map_one(w, &w->dma[1]));				\
	EXPECT_EQ(EEXIST, type1_map(&w->fd, w->dma[0].va, w->dma[0].iova, SZ_4K, RW)); \
	EXPECT_NO_DMA();						\
	ASSERT_EQ(0, attach(w));					\
	EXPECT_REPLAYED();						\
	ASSERT_EQ(0, detach(w));					\
	EXPECT_NO_DMA();						\
} while (0)

/* The device with the BAR, and the one that comes later. NULL, or what is missing. */
static const char *open_world(struct world *w)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR2_REGION_INDEX,
	};
	char path[96];

	*w = (struct world) {
		.bar = { -1, -1, -1 }, .fd = { -1, -1, -1 }, .group = -1,
		.start = bar_start(), .area = reserve(AREA),
		.locked = status_kib("/proc/self/status", "VmLck"), .pins = pins_held(),
	};
	if (!find_pci("0x1234", "0x11e8", 0, w->edu, sizeof(w->edu)))
		return "no edu device";
	snprintf(path, sizeof(path), IO_PAGE_TABLES "/%s", w->edu);
	if (access(path, R_OK))
		return "no CONFIG_INTEL_IOMMU_DEBUGFS, or another IOMMU";
	if (!w->start || !w->area)
		return "no BAR, or no address space";
	if (bind_to("vfio-pci") || bind_device(w->edu, "vfio-pci") || !open_group(&w->bar))
		return "no vfio-pci";
	if (ioctl(w->bar.device, VFIO_DEVICE_GET_REGION_INFO, &info))
		return "no BAR";
	w->offset = info.offset;
	snprintf(path, sizeof(path), PCI_DEVICES "/%s", w->edu);
	w->group = open_group_file(path);
	return w->group < 0 ? "no group" : NULL;
}

static void close_world(struct world *w)
{
	if (w->area)
		munmap(w->area, AREA);
	close(w->group);
	close_vfio(&w->bar);
	if (w->edu[0])
		bind_device(w->edu, "\n");
	bind_to("\n");
}

FIXTURE(replay) {
	struct world w;
};

FIXTURE_SETUP(replay)
{
	struct world *w = &self->w;
	const char *missing;
	int err;

	if (access(MTTY, W_OK))
		SKIP(return, "no CONFIG_SAMPLE_VFIO_MDEV_MTTY");
	missing = open_world(w);
	if (missing) {
		close_world(w);
		SKIP(return, "%s", missing);
	}
	err = write_file(MTTY, UUID);
	/* There if the test before this one was killed */
	if (err != EEXIST)
		ASSERT_EQ(0, err);
	w->fd.group = open_group_file(MDEV);
	ASSERT_GE(w->fd.group, 0) TH_LOG("%s", strerror(errno));
	w->fd.container = open("/dev/vfio/vfio", O_RDWR);
	ASSERT_GE(w->fd.container, 0);
	ASSERT_EQ(0, ioctl(w->fd.group, VFIO_GROUP_SET_CONTAINER, &w->fd.container));
	ASSERT_EQ(0, ioctl(w->fd.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
}

FIXTURE_TEARDOWN(replay)
{
	close_vfio(&self->w.fd);
	close_world(&self->w);
	write_file(MDEV "/remove", "1");
}

/*
 * The mappings come to a device at once, with as large entries as if it had been there.
 * All go with it; when it comes back it gets those of the memory that is there then.
 */
TEST_F_TIMEOUT(replay, layouts, MINUTES(5))
{
	struct world *w = &self->w;
	unsigned int seed = 7;

	for (int round = 0; round < 12; round++) {
		TH_LOG("seed %u", seed);
		ASSERT_TRUE(make_layout(w, &seed));
		ASSERT_TRUE(map_all(w));
		EXPECT_NO_DMA();
		ASSERT_EQ(0, attach(w));
		EXPECT_REPLAYED();
		for (int i = round % 3; i < NR_DMAS; i += 3)
			ASSERT_TRUE(unmap_one(w, &w->dma[i]));
		EXPECT_REPLAYED();
		/* Not replayed */
		ASSERT_TRUE(map_all(w));
		EXPECT_REPLAYED();

		ASSERT_EQ(0, detach(w));
		EXPECT_NO_DMA();
		for (int i = round % 2; i < NR_DMAS; i += 2)
			ASSERT_TRUE(unmap_one(w, &w->dma[i]));
		for (int i = 0; i < NR_PIECES; i++) {
			struct piece *p = &w->piece[i];

			if (next_random(&seed) % 2)
				continue;
			if (p->ram) {
				ASSERT_TRUE(map_ram(p->va, p->bytes));
			} else if (i) {
				p->from = next_random(&seed) % 2048 * SZ_4K;
				ASSERT_TRUE(map_bar(w, p));
			}
		}
		EXPECT_NO_DMA();
		ASSERT_EQ(0, attach(w));
		EXPECT_REPLAYED();
		ASSERT_TRUE(map_all(w));
		EXPECT_REPLAYED();
		ASSERT_TRUE(unmap_all(w));
		EXPECT_NO_DMA();
		ASSERT_EQ(0, detach(w));
	}
	EXPECT_TRUE(seen_all(w));
}

/* The emulated group goes first: the mappings stay, and end with the last group. */
TEST_F_TIMEOUT(replay, groups, MINUTES(2))
{
	struct world *w = &self->w;
	unsigned int seed = 99;

	ASSERT_TRUE(make_layout(w, &seed));
	ASSERT_TRUE(map_all(w));
	ASSERT_EQ(0, attach(w));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, ioctl(w->fd.group, VFIO_GROUP_UNSET_CONTAINER));
		EXPECT_REPLAYED();
		if (!i)
			ASSERT_EQ(0, ioctl(w->fd.group, VFIO_GROUP_SET_CONTAINER,
					   &w->fd.container));
	}
	ASSERT_EQ(0, detach(w));
	EXPECT_NO_DMA();
	/* The container is as new. */
	ASSERT_EQ(0, ioctl(w->fd.group, VFIO_GROUP_SET_CONTAINER, &w->fd.container));
	ASSERT_EQ(0, ioctl(w->fd.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	for (int i = 0; i < NR_DMAS; i++)
		w->dma[i].mapped = false;
	ASSERT_TRUE(map_all(w));
	ASSERT_EQ(0, attach(w));
	EXPECT_REPLAYED();
	/* Both at once, and all that is mapped */
	close_vfio(&w->fd);
	close(w->group);
	w->fd = (struct vfio) { -1, -1, -1 };
	w->group = -1;
	EXPECT_NO_DMA();
}

/* Each allocation fails in turn, to attach and to detach. */
TEST_F_TIMEOUT(replay, no_memory, MINUTES(6))
{
	int failed = 0, left = 0, nth = open("/proc/self/fail-nth", O_RDWR);
	struct world *w = &self->w;
	unsigned int seed = 3;

	if (nth < 0 || !can_fail_nth())
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC or CONFIG_FAILSLAB");
	ASSERT_TRUE(make_layout(w, &seed));
	ASSERT_TRUE(map_all(w));
	for (int n = 1; !left && n < 4000; n = next_nth(n)) {
		int err;

		ASSERT_TRUE(set_fail_nth(nth, n));
		err = attach(w);
		left = get_fail_nth(nth);
		ASSERT_TRUE(set_fail_nth(nth, 0));
		if (err) {
			failed++;
			EXPECT_EQ(ENOMEM, err) TH_LOG("allocation %d", n);
			EXPECT_NO_DMA();
			EXPECT_USABLE();
			continue;
		}
		EXPECT_REPLAYED();
		ASSERT_EQ(0, detach(w));
		EXPECT_NO_DMA();
	}
	EXPECT_GT(left, 0);
	EXPECT_GT(failed, 0);
	/* What is unpinned allocates for each run, and can do without. */
	for (int n = 1; n < w->runs; n = next_nth(n)) {
		ASSERT_EQ(0, attach(w));
		ASSERT_TRUE(set_fail_nth(nth, n));
		EXPECT_EQ(0, detach(w));
		EXPECT_EQ(0, get_fail_nth(nth)) TH_LOG("allocation %d", n);
		ASSERT_TRUE(set_fail_nth(nth, 0));
		EXPECT_NO_DMA();
	}
	close(nth);
}

static bool set_ipc_lock(bool on)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return false;
	data[0].effective &= ~(1U << CAP_IPC_LOCK);
	if (on)
		data[0].effective |= 1U << CAP_IPC_LOCK;
	return !syscall(SYS_capset, &header, data);
}

static bool set_memlock(__u64 pages)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit))
		return false;
	limit.rlim_cur = pages * SZ_4K;
	if (limit.rlim_max < limit.rlim_cur)
		limit.rlim_max = limit.rlim_cur;
	return !setrlimit(RLIMIT_MEMLOCK, &limit);
}

/* A limit of one page too few, or many: what was locked before that is not any more. */
TEST_F_TIMEOUT(replay, limit, MINUTES(3))
{
	struct world *w = &self->w;
	unsigned int seed = 1234;
	long pages;

	for (int round = 0; round < 3; round++) {
		ASSERT_TRUE(make_layout(w, &seed));
		/* What counts is whether the process could lock any amount when it mapped. */
		ASSERT_TRUE(set_ipc_lock(false));
		ASSERT_TRUE(map_all(w));
		ASSERT_TRUE(set_memlock(SZ_1G / SZ_4K));
		ASSERT_EQ(0, attach(w));
		EXPECT_REPLAYED();
		pages = w->pages;
		ASSERT_GT(pages, 513);
		ASSERT_EQ(0, detach(w));
		for (int i = 0; i < 10; i++) {
			const long limits[] = { 0, 1, 511, 512, 513, pages / 2, pages - 1 };
			const long limit = i < ARRAY_SIZE(limits) ? limits[i] :
					   next_random(&seed) % pages;

			ASSERT_TRUE(set_memlock(limit));
			EXPECT_EQ(ENOMEM, attach(w)) TH_LOG("%ld of %ld", limit, pages);
			EXPECT_NO_DMA();
		}
		ASSERT_TRUE(set_memlock(pages));
		ASSERT_EQ(0, attach(w));
		EXPECT_REPLAYED();
		/* It holds for those who map, not for what is mapped. */
		ASSERT_TRUE(set_memlock(0));
		EXPECT_REPLAYED();
		ASSERT_EQ(0, detach(w));
		EXPECT_NO_DMA();
		EXPECT_EQ(ENOMEM, attach(w));
		ASSERT_TRUE(set_ipc_lock(true));
		EXPECT_EQ(ENOMEM, attach(w));
		EXPECT_NO_DMA();
		ASSERT_TRUE(unmap_all(w));
		ASSERT_TRUE(map_all(w));
		EXPECT_USABLE();
		ASSERT_TRUE(unmap_all(w));
	}
}

/* Can a device write there? */
static bool is_written(struct world *w, char *va)
{
	for (int i = 0; i < NR_DMAS; i++)
		if (va >= w->dma[i].va && va < w->dma[i].va + w->dma[i].bytes &&
		    w->dma[i].flags & VFIO_DMA_MAP_FLAG_WRITE)
			return true;
	return false;
}

/* One page that was there when it was mapped, and is not any more */
TEST_F_TIMEOUT(replay, gone, MINUTES(5))
{
	struct world *w = &self->w;
	unsigned int seed = 42;

	for (int round = 0; round < 4; round++) {
		ASSERT_TRUE(make_layout(w, &seed));
		ASSERT_TRUE(map_all(w));
		for (int i = 0; i < 12; i++) {
			struct dma *d = &w->dma[next_random(&seed) % NR_DMAS];
			const __u64 nr = d->bytes / SZ_4K;
			/* The first one, the last one, or one in the middle */
			const __u64 n = i % 3 ? next_random(&seed) % nr : i % 2 * (nr - 1);
			char *va = d->va + n * SZ_4K;
			struct piece *p = piece_at(w, va);

			if (i < 6) {
				/* To read or to write it is refused. */
				ASSERT_EQ(0, mprotect(va, SZ_4K, p->ram ? PROT_NONE : PROT_READ));
				if (p->ram || is_written(w, va)) {
					EXPECT_EQ(EFAULT, attach(w));
				} else {
					ASSERT_EQ(0, attach(w));
					EXPECT_REPLAYED();
					ASSERT_EQ(0, detach(w));
				}
				EXPECT_NO_DMA();
				ASSERT_EQ(0, mprotect(va, SZ_4K, PROT_READ | PROT_WRITE));
			} else {
				ASSERT_EQ(0, munmap(va, SZ_4K));
				EXPECT_EQ(EFAULT, attach(w)) TH_LOG("page %llu of %llu", n, nr);
				EXPECT_NO_DMA();
				ASSERT_TRUE(p->ram ? map_ram(va, SZ_4K) :
					    map_at(w->bar.device, w->offset, va,
						   p->from + (va - p->va), SZ_4K) == va);
			}
			EXPECT_USABLE();
		}
		ASSERT_TRUE(unmap_all(w));
	}
}

/* The memory of the BAR is disabled: nothing of it is for a device that comes then. */
TEST_F_TIMEOUT(replay, disabled, MINUTES(2))
{
	struct world *w = &self->w;
	const __u64 config = config_offset(&w->bar);
	unsigned int seed = 17;

	ASSERT_NE(0, config);
	for (int round = 0; round < 4; round++) {
		ASSERT_TRUE(make_layout(w, &seed));
		ASSERT_TRUE(map_all(w));
		/* Where it has been mapped by the IOMMU before, and where not */
		if (round % 2) {
			ASSERT_EQ(0, attach(w));
			ASSERT_EQ(0, detach(w));
		}
		ASSERT_EQ(0, memory_enable(&w->bar, config, false));
		EXPECT_EQ(EFAULT, attach(w));
		EXPECT_NO_DMA();
		/* RAM does not need it. */
		for (int i = 0; i < NR_DMAS; i++) {
			struct dma *d = &w->dma[i];
			bool ram = true;

			for (int j = 0; j < NR_PIECES; j++)
				if (d->va < w->piece[j].va + w->piece[j].bytes &&
				    d->va + d->bytes > w->piece[j].va)
					ram = ram && w->piece[j].ram;
			if (!ram)
				ASSERT_TRUE(unmap_one(w, d));
		}
		ASSERT_EQ(0, attach(w));
		EXPECT_REPLAYED();
		/* Nor for one that is there */
		EXPECT_EQ(EFAULT, type1_map(&w->fd, w->dma[0].va, w->dma[0].iova,
					    w->dma[0].bytes, w->dma[0].flags));
		EXPECT_REPLAYED();
		ASSERT_EQ(0, detach(w));
		ASSERT_EQ(0, memory_enable(&w->bar, config, true));
		ASSERT_TRUE(map_all(w));
		EXPECT_USABLE();
		ASSERT_TRUE(unmap_all(w));
	}
}

/* Where the device has something else, or cannot go */
TEST_F_TIMEOUT(replay, place, MINUTES(2))
{
	/* Where it sends its interrupts, and where no VT-d has an address */
	static const __u64 places[] = { 0xfee00000, 0xfeeff000, 1ULL << 57, -SZ_2M };
	struct world *w = &self->w;
	unsigned int seed = 5;

	ASSERT_TRUE(make_layout(w, &seed));
	ASSERT_TRUE(map_all(w));
	for (int i = 0; i < ARRAY_SIZE(places); i++) {
		ASSERT_EQ(0, type1_map(&w->fd, w->area, places[i], SZ_4K, RW));
		EXPECT_EQ(EINVAL, attach(w)) TH_LOG("%#llx", places[i]);
		EXPECT_NO_DMA();
		ASSERT_EQ(SZ_4K, type1_unmap(&w->fd, places[i], SZ_4K));
		EXPECT_USABLE();
	}
}

/* Nothing looks at an address, or a size, before it is pinned. */
TEST_F_TIMEOUT(replay, nowhere, MINUTES(2))
{
	struct world *w = &self->w;
	char *const kernel = (char *)0xffff888000000000;
	const __u64 bytes = 256 * SZ_1G;
	unsigned int seed = 11;
	struct timespec begin;
	char *last;
	long ns;

	ASSERT_TRUE(make_layout(w, &seed));
	ASSERT_TRUE(map_all(w));
	ASSERT_EQ(0, type1_map(&w->fd, kernel, SZ_1G, SZ_2M, RW));
	EXPECT_EQ(EFAULT, attach(w));
	EXPECT_NO_DMA();
	ASSERT_EQ(SZ_2M, type1_unmap(&w->fd, SZ_1G, SZ_2M));
	/* More than the process has, and a page that is there: the last one of the area */
	last = w->area + AREA - SZ_4K;
	touch(last, SZ_4K);
	ASSERT_EQ(0, munmap(last + SZ_4K, SZ_4K));
	ASSERT_EQ(0, type1_map(&w->fd, last, 64 * SZ_1G, bytes, RW));
	clock_gettime(CLOCK_MONOTONIC, &begin);
	EXPECT_EQ(EFAULT, attach(w));
	ns = ns_since(&begin);
	EXPECT_NO_DMA();
	if (clock_counts_instructions()) {
		TH_LOG("%ld instructions", ns);
		/* That page is unpinned, those that are not there cost nothing. */
		EXPECT_LT(ns, bytes / SZ_4K);
	}
	ASSERT_EQ(bytes, type1_unmap(&w->fd, 64 * SZ_1G, bytes));
	EXPECT_USABLE();
}

/*
 * Two groups of one container, in two domains: when the domain of the first one has no
 * memory to take the second one in.
 */
FIXTURE(second) {
	struct world w;
	struct io_table first;
	int nth;
};

FIXTURE_SETUP(second)
{
	const char *missing;

	self->nth = open("/proc/self/fail-nth", O_RDWR);
	if (self->nth < 0 || !can_fail_nth())
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC or CONFIG_FAILSLAB");
	missing = open_world(&self->w);
	if (missing) {
		close_world(&self->w);
		SKIP(return, "%s", missing);
	}
	self->w.fd = self->w.bar;
}

FIXTURE_TEARDOWN(second)
{
	close(self->nth);
	close_world(&self->w);
}

/* The first group has it all, the second one nothing. */
#define EXPECT_FIRST() do {						\
	EXPECT_MAPPED_FOR(PCI_NAME);					\
	ASSERT_TRUE(read_io_table_of(w->edu, &w->table));		\
	EXPECT_EQ(0, io_mapped(&w->table));				\
} while (0)

#define EXPECT_BOTH() do {						\
	EXPECT_MAPPED_FOR(PCI_NAME);					\
	EXPECT_MAPPED_FOR(w->edu);					\
} while (0)

static bool own_domain(struct world *w, struct io_table *first)
{
	return read_io_table(first) && read_io_table_of(w->edu, &w->table) &&
	       first->root && w->table.root && first->root != w->table.root;
}

/* Attach with the n-th allocation failing. 0 or an errno; how many were left */
static int attach_nth(struct world *w, int nth, int n, int *left)
{
	int err;

	set_fail_nth(nth, n);
	err = attach(w);
	*left = get_fail_nth(nth);
	set_fail_nth(nth, 0);
	return err;
}

/* The allocation to fail for two domains; 0 if there is none */
static int nth_for_two(struct world *w, int nth, struct io_table *first)
{
	for (int n = 1, left = 0; n < 200 && !left; n++) {
		bool own;

		if (attach_nth(w, nth, n, &left))
			continue;
		own = own_domain(w, first);
		detach(w);
		if (own)
			return n;
	}
	return 0;
}

TEST_F_TIMEOUT(second, layouts, MINUTES(5))
{
	struct world *w = &self->w;
	unsigned int seed = 8;
	int n, left;

	ASSERT_TRUE(make_layout(w, &seed));
	n = nth_for_two(w, self->nth, &self->first);
	if (!n)
		SKIP(return, "one domain for both, always");
	for (int round = 0; round < 8; round++) {
		TH_LOG("seed %u", seed);
		ASSERT_TRUE(make_layout(w, &seed));
		ASSERT_TRUE(map_all(w));
		EXPECT_FIRST();
		ASSERT_EQ(0, attach_nth(w, self->nth, n, &left));
		ASSERT_TRUE(own_domain(w, &self->first));
		EXPECT_BOTH();
		for (int i = round % 2; i < NR_DMAS; i += 2)
			ASSERT_TRUE(unmap_one(w, &w->dma[i]));
		EXPECT_BOTH();
		ASSERT_TRUE(map_all(w));
		EXPECT_BOTH();
		ASSERT_EQ(0, detach(w));
		EXPECT_FIRST();
		/* Now it finds room in the domain that is there. */
		ASSERT_EQ(0, attach(w));
		EXPECT_FALSE(own_domain(w, &self->first));
		EXPECT_BOTH();
		ASSERT_EQ(0, detach(w));
		EXPECT_FIRST();
		ASSERT_TRUE(unmap_all(w));
		EXPECT_FIRST();
	}
	EXPECT_TRUE(seen_all(w));
}

/* What was pinned for the first domain stays so, whatever the second one has to undo. */
TEST_F_TIMEOUT(second, no_memory, MINUTES(6))
{
	int n, left, make = open("/proc/self/make-it-fail", O_RDWR), failed = 0, more = 1;
	struct world *w = &self->w;
	struct dma *d = &w->dma[1];
	unsigned int seed = 21;
	char text[16];

	if (make < 0 || !can_fail_pages())
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC");
	ASSERT_TRUE(make_layout(w, &seed));
	ASSERT_TRUE(map_all(w));
	n = nth_for_two(w, self->nth, &self->first);
	if (!n)
		SKIP(return, "one domain for both, always");
	EXPECT_FIRST();
	/* After that allocation, pages for IO page tables run out, too. */
	for (int pages = 1; more && pages < 1000; pages = next_nth(pages)) {
		int err;

		snprintf(text, sizeof(text), "%d", pages);
		ASSERT_EQ(0, write_file(FAIL_PAGES "/times", "1"));
		ASSERT_EQ(0, write_file(FAIL_PAGES "/space", text));
		ASSERT_EQ(1, pwrite(make, "1", 1, 0));
		err = attach_nth(w, self->nth, n, &left);
		ASSERT_EQ(1, pwrite(make, "0", 1, 0));
		ASSERT_TRUE(read_line(FAIL_PAGES "/times", text, sizeof(text)));
		more = !atoi(text);
		if (err) {
			failed++;
			EXPECT_EQ(ENOMEM, err) TH_LOG("page %d", pages);
			EXPECT_FIRST();
			ASSERT_EQ(0, attach_nth(w, self->nth, n, &left));
		}
		EXPECT_TRUE(own_domain(w, &self->first));
		EXPECT_BOTH();
		ASSERT_EQ(0, detach(w));
		EXPECT_FIRST();
	}
	EXPECT_FALSE(more);
	EXPECT_GT(failed, 0);

	/* To map for both: at other addresses, where there are no IO page tables yet */
	ASSERT_EQ(0, attach_nth(w, self->nth, n, &left));
	ASSERT_TRUE(own_domain(w, &self->first));
	for (int i = 2; i < NR_DMAS; i++)
		ASSERT_TRUE(unmap_one(w, &w->dma[i]));
	failed = 0;
	left = 0;
	for (int i = 1; !left && i < 1000; i = next_nth(i)) {
		ASSERT_TRUE(unmap_one(w, d));
		d->iova += SZ_1G;
		ASSERT_TRUE(set_fail_nth(self->nth, i));
		map_one(w, d);
		left = get_fail_nth(self->nth);
		ASSERT_TRUE(set_fail_nth(self->nth, 0));
		EXPECT_BOTH();
		if (!d->mapped) {
			failed++;
			ASSERT_TRUE(map_one(w, d));
			EXPECT_BOTH();
		}
	}
	EXPECT_GT(left, 0);
	EXPECT_GT(failed, 0);
	close(make);
}

TEST_HARNESS_MAIN
