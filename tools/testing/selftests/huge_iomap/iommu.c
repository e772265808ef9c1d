// SPDX-License-Identifier: GPL-2.0
/*
 * What an IOMMU maps for vfio: a PCI BAR by type1, RAM and a dma-buf of the BAR by
 * iommufd. Each IO page table entry is compared with what it should be.
 */
#include "huge_iomap_iommu.h"

#include "kselftest_harness.h"

#define IO_PAGE_TABLE	IO_PAGE_TABLES "/" PCI_NAME "/domain_translation_struct"

#define AREA	(4 * SZ_1G)
#define IOVA	(8 * SZ_1G)

FIXTURE(type1) {
	struct vfio fd;
	struct io_table table;
	__u64 bar, offset;		/* physical address, offset in the file */
	char *area;			/* 4 GiB of address space */
};

FIXTURE_SETUP(type1)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR2_REGION_INDEX,
	};

	self->fd.device = -1;
	self->bar = bar_start();
	ASSERT_NE(0, self->bar);
	ASSERT_EQ(0, bind_to("vfio-pci"));
	ASSERT_TRUE(open_group(&self->fd)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, ioctl(self->fd.device, VFIO_DEVICE_GET_REGION_INFO, &info));
	self->offset = info.offset;
	self->area = reserve(AREA);
	ASSERT_NE(NULL, self->area);
	if (access(IO_PAGE_TABLE, R_OK))
		SKIP(return, "no CONFIG_INTEL_IOMMU_DEBUGFS, or another IOMMU");
}

FIXTURE_TEARDOWN(type1)
{
	if (self->area)
		munmap(self->area, AREA);
	close_vfio(&self->fd);
	bind_to("\n");
}

#define EXPECT_NOTHING_MAPPED() do {					\
	ASSERT_TRUE(read_io_table(&self->table));			\
	EXPECT_EQ(0, io_mapped(&self->table));				\
	EXPECT_EQ(locked, status_kib("/proc/self/status", "VmLck"));	\
} while (0)

/* Mapped by PTEs, it is mapped by as large entries as if by leaves. */
TEST_F_TIMEOUT(type1, runs, MINUTES(2))
{
	/* Where in the BAR, how far off its place the address is, how long */
	static const struct { __u64 from, skew, bytes; } layout[] = {
		{ SZ_4K, SZ_4K, SZ_1G + SZ_2M - SZ_4K }, { 0, SZ_64K, 2 * SZ_2M },
		{ SZ_64K, 2 * SZ_4K, SZ_1G }, { SZ_2M - SZ_4K, SZ_2M - SZ_4K, 3 * SZ_4K },
		{ 5 * SZ_4K, SZ_1M, SZ_4K },
	};
	const long locked = status_kib("/proc/self/status", "VmLck");

	for (int i = 0; i < ARRAY_SIZE(layout); i++) {
		const __u64 from = layout[i].from, bytes = layout[i].bytes;
		char *va = self->area + from + layout[i].skew;

		ASSERT_EQ(va, map_at(self->fd.device, self->offset, va, from, bytes));
		/* Where nothing has touched it, and again */
		for (int round = 0; round < 2; round++) {
			ASSERT_EQ(0, type1_map(&self->fd, va, IOVA + from, bytes, RW));
			ASSERT_TRUE(read_io_table(&self->table));
			EXPECT_EQ(bytes, io_mapped(&self->table)) TH_LOG("%d", i);
			EXPECT_TRUE(is_mapped(&self->table, IOVA + from, bytes,
					      self->bar + from));
			ASSERT_EQ(bytes, type1_unmap(&self->fd, IOVA + from, bytes));
			EXPECT_NOTHING_MAPPED();
		}
		ASSERT_EQ(0, munmap(va, bytes));
	}
}

/* Pieces of the BAR beside each other, in any order, in the same page tables */
TEST_F_TIMEOUT(type1, pieces, MINUTES(4))
{
	const long locked = status_kib("/proc/self/status", "VmLck");
	struct { __u64 at, from, bytes; } piece[64];
	unsigned int seed = 1;

	for (int round = 0; round < 8; round++) {
		__u64 bytes = 0, wrong = 0;

		for (int i = 0; i < ARRAY_SIZE(piece); i++) {
			/* Few pages in every second round: many pieces in a table */
			__u64 n = 1 + next_random(&seed) % (round % 2 ? 5 : 700);
			char *va = self->area + SZ_4K * (round + 1) + bytes;

			piece[i].at = bytes;
			piece[i].bytes = n * SZ_4K;
			/* Now and then it goes on where the last one ends. */
			if (i && next_random(&seed) % 4 == 0)
				piece[i].from = piece[i - 1].from + piece[i - 1].bytes;
			else
				piece[i].from = next_random(&seed) % 2048 * SZ_4K;
			ASSERT_EQ(va, map_at(self->fd.device, self->offset, va,
					     piece[i].from, piece[i].bytes));
			bytes += piece[i].bytes;
		}
		ASSERT_EQ(0, type1_map(&self->fd, self->area + SZ_4K * (round + 1), IOVA,
				       bytes, RW));
		ASSERT_TRUE(read_io_table(&self->table));
		EXPECT_EQ(bytes, io_mapped(&self->table));
		for (int i = 0; i < ARRAY_SIZE(piece); i++) {
			for (__u64 o = 0; o < piece[i].bytes; o += SZ_4K)
				wrong += translate(&self->table, IOVA + piece[i].at + o) !=
					 self->bar + piece[i].from + o;
		}
		EXPECT_EQ(0, wrong) TH_LOG("%d", round);
		ASSERT_EQ(bytes, type1_unmap(&self->fd, IOVA, bytes));
		EXPECT_NOTHING_MAPPED();
		ASSERT_EQ(0, munmap(self->area + SZ_4K * (round + 1), bytes));
	}
}

/* One page that cannot be had, anywhere: an error, and nothing is mapped. */
TEST_F_TIMEOUT(type1, refused, MINUTES(2))
{
	static const __u64 places[] = { 0, SZ_4K, SZ_1M, SZ_2M - 2 * SZ_4K, SZ_2M,
					3 * SZ_2M - SZ_4K };
	const long locked = status_kib("/proc/self/status", "VmLck");
	const __u64 bytes = 3 * SZ_2M;
	char *va = self->area + SZ_4K;

	for (int i = 0; i < ARRAY_SIZE(places); i++) {
		ASSERT_EQ(va, map_at(self->fd.device, self->offset, va, 0, bytes));
		ASSERT_EQ(0, mprotect(va + places[i], SZ_4K, PROT_READ));
		EXPECT_EQ(EFAULT, type1_map(&self->fd, va, IOVA, bytes, RW));
		EXPECT_NOTHING_MAPPED();
		EXPECT_EQ(0, type1_map(&self->fd, va, IOVA, bytes,
				       VFIO_DMA_MAP_FLAG_READ));
		ASSERT_TRUE(read_io_table(&self->table));
		EXPECT_TRUE(is_mapped(&self->table, IOVA, bytes, self->bar));
		EXPECT_EQ(bytes, type1_unmap(&self->fd, IOVA, bytes));
		ASSERT_EQ(0, munmap(va + places[i], SZ_4K));
		EXPECT_EQ(EFAULT, type1_map(&self->fd, va, IOVA, bytes, RW));
		EXPECT_NOTHING_MAPPED();
		/* RAM there is pinned by itself. */
		ASSERT_NE(MAP_FAILED, mmap(va + places[i], SZ_4K, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
		ASSERT_EQ(0, type1_map(&self->fd, va, IOVA, bytes, RW));
		EXPECT_EQ(locked + 4, status_kib("/proc/self/status", "VmLck"));
		ASSERT_TRUE(read_io_table(&self->table));
		EXPECT_EQ(bytes, io_mapped(&self->table));
		EXPECT_EQ(bytes, type1_unmap(&self->fd, IOVA, bytes));
		EXPECT_NOTHING_MAPPED();
		ASSERT_EQ(0, munmap(va, bytes));
	}
}

/* RAM without a reference on it is not for DMA: by itself, and after a run of the BAR */
TEST_F(type1, ram_of_mem)
{
	const long locked = status_kib("/proc/self/status", "VmLck");
	char *ram = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	int pagemap = open("/proc/self/pagemap", O_RDONLY), mem = open("/dev/mem", O_RDWR);
	char *va = self->area + SZ_4K;
	__u64 entry, pa;

	ASSERT_NE(MAP_FAILED, ram);
	ASSERT_GE(mem, 0);
	ASSERT_EQ(8, pread(pagemap, &entry, 8, (unsigned long)ram / SZ_4K * 8));
	pa = (entry & ((1ULL << 55) - 1)) * SZ_4K;
	ASSERT_NE(0, pa);
	ASSERT_EQ(va, map_at(self->fd.device, self->offset, va, 0, SZ_2M));
	ASSERT_EQ(va + SZ_2M, map_at(mem, 0, va + SZ_2M, pa, SZ_4K));
	EXPECT_EQ(EFAULT, type1_map(&self->fd, va + SZ_2M, IOVA, SZ_4K, RW));
	EXPECT_NOTHING_MAPPED();
	EXPECT_EQ(EFAULT, type1_map(&self->fd, va, IOVA, SZ_2M + SZ_4K, RW));
	EXPECT_NOTHING_MAPPED();
	EXPECT_EQ(0, type1_map(&self->fd, va, IOVA, SZ_2M, RW));
	EXPECT_EQ(SZ_2M, type1_unmap(&self->fd, IOVA, SZ_2M));
	ASSERT_EQ(0, munmap(va, SZ_2M + SZ_4K));
	munmap(ram, SZ_4K);
	close(pagemap);
	close(mem);
}

/*
 * Pages of the BAR by PTEs, of RAM, small and huge, and of the BAR again: each
 * allocation fails in turn, when they are mapped and when they are unmapped.
 */
TEST_F_TIMEOUT(type1, no_memory, MINUTES(4))
{
	const long locked = status_kib("/proc/self/status", "VmLck"), pins = pins_held();
	const __u64 bytes = 6 * SZ_2M, ram = 4 * SZ_2M;
	int failed = 0, left = 0, nth = open("/proc/self/fail-nth", O_RDWR);
	char *va = self->area + SZ_2M;
	__u64 iova = IOVA;

	if (nth < 0 || !can_fail_nth())
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC or CONFIG_FAILSLAB");
	/* Not congruent */
	ASSERT_EQ(va, map_at(self->fd.device, self->offset, va, SZ_4K, bytes));
	ASSERT_NE(MAP_FAILED, mmap(va + SZ_2M, ram, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	ASSERT_EQ(0, madvise(va + SZ_2M, SZ_2M, MADV_NOHUGEPAGE));
	ASSERT_EQ(0, madvise(va + 2 * SZ_2M, ram - SZ_2M, MADV_HUGEPAGE));
	memset(va + SZ_2M, 1, ram);
	/* Each time where there are no IO page tables yet: they stay. */
	for (int n = 1; !left && n < 4000; n = next_nth(n), iova += SZ_1G) {
		int err;

		ASSERT_TRUE(set_fail_nth(nth, n));
		err = type1_map(&self->fd, va, iova, bytes, RW);
		left = get_fail_nth(nth);
		ASSERT_TRUE(set_fail_nth(nth, 0));
		if (err) {
			failed++;
			EXPECT_EQ(ENOMEM, err) TH_LOG("allocation %d", n);
			EXPECT_NOTHING_MAPPED();
			EXPECT_EQ(pins, pins_held());
			ASSERT_EQ(0, type1_map(&self->fd, va, iova, bytes, RW));
		}
		EXPECT_EQ(locked + ram / 1024, status_kib("/proc/self/status", "VmLck"));
		ASSERT_TRUE(read_io_table(&self->table));
		EXPECT_EQ(bytes, io_mapped(&self->table)) TH_LOG("allocation %d", n);
		EXPECT_EQ(self->bar + SZ_4K, translate(&self->table, iova));
		EXPECT_EQ(self->bar + bytes, translate(&self->table, iova + bytes - SZ_4K));
		EXPECT_EQ(bytes, type1_unmap(&self->fd, iova, bytes));
		EXPECT_NOTHING_MAPPED();
		EXPECT_EQ(pins, pins_held());
	}
	EXPECT_GT(left, 0);
	EXPECT_GT(failed, 0);

	left = 0;
	for (int n = 1; !left && n < 4000; n = next_nth(n)) {
		__u64 unmapped;

		ASSERT_EQ(0, type1_map(&self->fd, va, iova, bytes, RW));
		ASSERT_TRUE(set_fail_nth(nth, n));
		unmapped = type1_unmap(&self->fd, iova, bytes);
		left = get_fail_nth(nth);
		ASSERT_TRUE(set_fail_nth(nth, 0));
		if (unmapped != bytes) {
			EXPECT_EQ(0, unmapped);
			ASSERT_TRUE(read_io_table(&self->table));
			EXPECT_EQ(bytes, io_mapped(&self->table)) TH_LOG("allocation %d", n);
			EXPECT_EQ(bytes, type1_unmap(&self->fd, iova, bytes));
		}
		EXPECT_NOTHING_MAPPED();
		EXPECT_EQ(pins, pins_held());
	}
	EXPECT_GT(left, 0);
	ASSERT_EQ(0, munmap(va, bytes));
	close(nth);
}

/* The instructions that it takes are those of runs, not of pages. */
TEST_F_TIMEOUT(type1, cost, MINUTES(2))
{
	const __u64 bytes = 2 * SZ_1G - SZ_4K;
	char *va = self->area + 2 * SZ_4K;
	struct timespec begin;
	long ns;

	if (!clock_counts_instructions())
		SKIP(return, "not counting instructions");
	ASSERT_EQ(va, map_at(self->fd.device, self->offset, va, SZ_4K, bytes));
	/* Without the faults */
	for (__u64 o = 0; o < bytes; o += SZ_4K)
		load(va + o);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	ASSERT_EQ(0, type1_map(&self->fd, va, IOVA + SZ_4K, bytes, RW));
	ns = ns_since(&begin);
	TH_LOG("%ld instructions for %llu pages", ns, bytes / SZ_4K);
	EXPECT_LT(ns, 20 * (bytes / SZ_4K));
	EXPECT_EQ(bytes, type1_unmap(&self->fd, IOVA + SZ_4K, bytes));
}

FIXTURE(iommufd) {
	struct vfio fd;
	struct io_table table;
	__u64 bar;
	__u32 ioas;
	int pagemap;
};

FIXTURE_SETUP(iommufd)
{
	self->fd.device = -1;
	self->bar = bar_start();
	ASSERT_NE(0, self->bar);
	self->pagemap = open("/proc/self/pagemap", O_RDONLY);
	ASSERT_GE(self->pagemap, 0);
	ASSERT_EQ(0, bind_to("vfio-pci"));
	ASSERT_TRUE(open_cdev(&self->fd)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, attach_ioas(&self->fd, &self->ioas));
	if (access(IO_PAGE_TABLE, R_OK))
		SKIP(return, "no CONFIG_INTEL_IOMMU_DEBUGFS, or another IOMMU");
}

FIXTURE_TEARDOWN(iommufd)
{
	close_vfio(&self->fd);
	bind_to("\n");
}

/* RAM of small and of huge pages: all that was pinned is unpinned. */
TEST_F_TIMEOUT(iommufd, ram, MINUTES(2))
{
	const __u64 bytes = 32 * SZ_1M;
	const long pinned = status_kib("/proc/self/status", "VmPin");
	char *va = reserve(bytes);

	ASSERT_NE(NULL, va);
	ASSERT_EQ(0, madvise(va, bytes / 2, MADV_HUGEPAGE));
	memset(va, 1, bytes);
	for (int round = 0; round < 3; round++) {
		/* From within a huge page on */
		const __u64 skip = round * 3 * SZ_4K;
		__u64 wrong = 0;

		ASSERT_EQ(0, ioas_map_ram(&self->fd, self->ioas, va + skip, IOVA + skip,
					  bytes - skip));
		EXPECT_EQ(pinned + (bytes - skip) / 1024,
			  status_kib("/proc/self/status", "VmPin"));
		ASSERT_TRUE(read_io_table(&self->table));
		EXPECT_EQ(bytes - skip, io_mapped(&self->table));
		for (long i = 0; i < self->table.nr; i++) {
			const struct entry *e = &self->table.entry[i];

			for (__u64 o = 0; o < e->bytes; o += SZ_4K) {
				const unsigned long page = (unsigned long)va +
							   e->iova - IOVA + o;
				__u64 v;

				ASSERT_EQ(8, pread(self->pagemap, &v, 8,
						   page / SZ_4K * 8));
				/* The pfn is in bits 0 to 54. */
				wrong += (v & ((1ull << 55) - 1)) * SZ_4K != e->pa + o;
			}
		}
		EXPECT_EQ(0, wrong);
		ASSERT_EQ(0, ioas_unmap(&self->fd, self->ioas, IOVA + skip, bytes - skip));
		EXPECT_EQ(pinned, status_kib("/proc/self/status", "VmPin"));
		ASSERT_TRUE(read_io_table(&self->table));
		EXPECT_EQ(0, io_mapped(&self->table));
	}
}

#define EXPECT_NOTHING_PINNED() do {					\
	ASSERT_TRUE(read_io_table(&self->table));			\
	EXPECT_EQ(0, io_mapped(&self->table));				\
	EXPECT_EQ(pinned, status_kib("/proc/self/status", "VmPin"));	\
	EXPECT_EQ(pins, pins_held());					\
} while (0)

/* RAM or a dma-buf of the BAR: each allocation fails in turn, to map and to unmap. */
TEST_F_TIMEOUT(iommufd, no_memory, MINUTES(4))
{
	const long pinned = status_kib("/proc/self/status", "VmPin"), pins = pins_held();
	const __u64 bytes = 4 * SZ_2M, skip = 3 * SZ_4K;
	int file, nth = open("/proc/self/fail-nth", O_RDWR);
	char *va = reserve(bytes);
	__u64 fresh = IOVA;

	if (nth < 0 || !can_fail_nth())
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC or CONFIG_FAILSLAB");
	ASSERT_NE(NULL, va);
	ASSERT_EQ(0, madvise(va, bytes / 2, MADV_HUGEPAGE));
	ASSERT_EQ(0, madvise(va + bytes / 2, bytes / 2, MADV_NOHUGEPAGE));
	memset(va, 1, bytes);
	file = bar_dmabuf(&self->fd, SZ_4K, bytes);
	for (int what = 0; what < 4; what++) {
		const bool ram = what < 2, unmap = what % 2;
		const __u64 size = ram ? bytes - skip : bytes;
		int failed = 0, left = 0;

		/* Without CONFIG_VFIO_PCI_DMABUF */
		if (!ram && file < 0)
			break;
		for (int n = 1; !left && n < 4000; n = next_nth(n)) {
			/* Where there are no IO page tables yet: they stay. */
			__u64 iova = (fresh += SZ_1G) + skip;
			int err;

			for (int try = 0; try < 2; try++) {
				if (!unmap && !try)
					ASSERT_TRUE(set_fail_nth(nth, n));
				err = ram ? ioas_map_ram(&self->fd, self->ioas, va + skip,
							 iova, size) :
					    ioas_map_file(&self->fd, self->ioas, file, 0,
							  size, &iova);
				if (!unmap && !try) {
					left = get_fail_nth(nth);
					ASSERT_TRUE(set_fail_nth(nth, 0));
				}
				if (!err)
					break;
				failed++;
				EXPECT_EQ(ENOMEM, err) TH_LOG("%d, allocation %d", what, n);
				EXPECT_NOTHING_PINNED();
			}
			ASSERT_EQ(0, err);
			ASSERT_TRUE(read_io_table(&self->table));
			EXPECT_EQ(size, io_mapped(&self->table));
			EXPECT_EQ(pinned + (ram ? size / 1024 : 0),
				  status_kib("/proc/self/status", "VmPin"));

			if (unmap)
				ASSERT_TRUE(set_fail_nth(nth, n));
			err = ioas_unmap(&self->fd, self->ioas, iova, size);
			if (unmap) {
				left = get_fail_nth(nth);
				ASSERT_TRUE(set_fail_nth(nth, 0));
			}
			if (err) {
				EXPECT_TRUE(unmap && err == ENOMEM) TH_LOG("%d", err);
				ASSERT_TRUE(read_io_table(&self->table));
				EXPECT_EQ(size, io_mapped(&self->table));
				ASSERT_EQ(0, ioas_unmap(&self->fd, self->ioas, iova, size));
			}
			EXPECT_NOTHING_PINNED();
		}
		EXPECT_GT(left, 0) TH_LOG("%d", what);
		if (!unmap)
			EXPECT_GT(failed, 0) TH_LOG("%d", what);
	}
	close(file);
	close(nth);
}

/* What is unpinned in huge pages costs by them. */
TEST_F_TIMEOUT(iommufd, cost, MINUTES(2))
{
	const __u64 bytes = SZ_1G / 4;
	char *va = reserve(bytes);
	struct timespec begin;
	long ns;

	if (!clock_counts_instructions())
		SKIP(return, "not counting instructions");
	ASSERT_NE(NULL, va);
	ASSERT_EQ(0, madvise(va, bytes, MADV_HUGEPAGE));
	memset(va, 1, bytes);
	ASSERT_EQ(0, ioas_map_ram(&self->fd, self->ioas, va, IOVA, bytes));
	clock_gettime(CLOCK_MONOTONIC, &begin);
	ASSERT_EQ(0, ioas_unmap(&self->fd, self->ioas, IOVA, bytes));
	ns = ns_since(&begin);
	TH_LOG("%ld instructions for %llu huge pages", ns, bytes / SZ_2M);
	EXPECT_LT(ns, 1000 * (bytes / SZ_2M));
}

/* Parts of dma-bufs that begin anywhere in the BAR have the largest entries that fit. */
TEST_F_TIMEOUT(iommufd, dmabuf, MINUTES(2))
{
	static const struct { __u64 from, start, bytes; } layout[] = {
		{ 0, 0, 4 * SZ_1G }, { SZ_1M, 0, 2 * SZ_1G }, { SZ_4K, 0, 3 * SZ_1G },
		{ SZ_2M, SZ_2M, SZ_1G }, { SZ_4K, SZ_4K, 2 * SZ_2M },
		{ SZ_1G - SZ_4K, 0, SZ_1G + 2 * SZ_4K }, { 3 * SZ_4K, 0, SZ_4K },
		{ SZ_1M, SZ_64K, SZ_2M },
	};
	__u64 iova[ARRAY_SIZE(layout)], sum = 0;
	int file[ARRAY_SIZE(layout)];

	for (int i = 0; i < ARRAY_SIZE(layout); i++) {
		const __u64 start = layout[i].start, bytes = layout[i].bytes;

		file[i] = bar_dmabuf(&self->fd, layout[i].from, start + bytes);
		if (file[i] < 0 && errno == ENOTTY)
			SKIP(return, "no CONFIG_VFIO_PCI_DMABUF");
		ASSERT_GE(file[i], 0) TH_LOG("%s", strerror(errno));
		ASSERT_EQ(0, ioas_map_file(&self->fd, self->ioas, file[i], start, bytes,
					   &iova[i]));
		sum += bytes;
	}
	/* All at once: they do not take room from each other. */
	ASSERT_TRUE(read_io_table(&self->table));
	EXPECT_EQ(sum, io_mapped(&self->table));
	for (int i = 0; i < ARRAY_SIZE(layout); i++) {
		const __u64 pa = self->bar + layout[i].from + layout[i].start;
		const __u64 bytes = layout[i].bytes;

		/* A full leaf lies in it: congruent modulo that size */
		for (int leaf = THI_1G; leaf > THI_4K; leaf--) {
			const __u64 size = leaf_sizes[leaf];

			if (((pa + size - 1) & -size) + size > pa + bytes)
				continue;
			EXPECT_EQ(pa % size, iova[i] % size) TH_LOG("%d", i);
			break;
		}
		EXPECT_TRUE(is_mapped(&self->table, iova[i], bytes, pa));
	}
	for (int i = 0; i < ARRAY_SIZE(layout); i++) {
		ASSERT_EQ(0, ioas_unmap(&self->fd, self->ioas, iova[i], layout[i].bytes));
		close(file[i]);
	}
	ASSERT_TRUE(read_io_table(&self->table));
	EXPECT_EQ(0, io_mapped(&self->table));
}

/* Where there is little room, smaller entries */
TEST_F_TIMEOUT(iommufd, dmabuf_little_room, MINUTES(2))
{
	const __u64 bytes = SZ_1G, room = SZ_1G + 4 * SZ_2M;
	struct iommu_iova_range range = { .start = SZ_1M, .last = SZ_1M + room - 1 };
	struct iommu_ioas_allow_iovas allow = {
		.size = sizeof(allow), .ioas_id = self->ioas, .num_iovas = 1,
		.allowed_iovas = (unsigned long)&range,
	};
	__u64 iova = 0, l[THI_NR_LEAF];
	int file = bar_dmabuf(&self->fd, 0, bytes);

	if (file < 0 && errno == ENOTTY)
		SKIP(return, "no CONFIG_VFIO_PCI_DMABUF");
	ASSERT_GE(file, 0);
	ASSERT_EQ(0, ioctl(self->fd.container, IOMMU_IOAS_ALLOW_IOVAS, &allow));
	ASSERT_EQ(0, ioas_map_file(&self->fd, self->ioas, file, 0, bytes, &iova));
	EXPECT_EQ(0, iova % SZ_2M);
	EXPECT_GE(iova, range.start);
	EXPECT_LE(iova + bytes - 1, range.last);
	ASSERT_TRUE(read_io_table(&self->table));
	mapped_to(&self->table, iova, bytes, self->bar, l);
	EXPECT_EQ(bytes, l[THI_2M]);
	ASSERT_EQ(0, ioas_unmap(&self->fd, self->ioas, iova, bytes));

	/* Just enough, at an offset */
	close(file);
	file = bar_dmabuf(&self->fd, SZ_1M, 2 * SZ_1G);
	ASSERT_GE(file, 0);
	range.last = range.start + 2 * SZ_1G - 1;
	ASSERT_EQ(0, ioctl(self->fd.container, IOMMU_IOAS_ALLOW_IOVAS, &allow));
	ASSERT_EQ(0, ioas_map_file(&self->fd, self->ioas, file, 0, 2 * SZ_1G, &iova));
	EXPECT_EQ(range.start, iova);
	ASSERT_TRUE(read_io_table(&self->table));
	EXPECT_TRUE(is_mapped(&self->table, iova, 2 * SZ_1G, self->bar + SZ_1M));
	ASSERT_EQ(0, ioas_unmap(&self->fd, self->ioas, iova, 2 * SZ_1G));

	/* None at all */
	range.last = range.start + bytes - SZ_4K - 1;
	ASSERT_EQ(0, ioctl(self->fd.container, IOMMU_IOAS_ALLOW_IOVAS, &allow));
	EXPECT_EQ(ENOSPC, ioas_map_file(&self->fd, self->ioas, file, 0, bytes, &iova));
	close(file);
}

/* A BAR has no pages to pin: by its address in the process it is refused, as on 7.3. */
TEST_F(iommufd, bar_by_address)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR2_REGION_INDEX,
	};
	const long pinned = status_kib("/proc/self/status", "VmPin");
	char *va = reserve(4 * SZ_2M);

	ASSERT_NE(NULL, va);
	ASSERT_EQ(0, ioctl(self->fd.device, VFIO_DEVICE_GET_REGION_INFO, &info));
	ASSERT_EQ(va + SZ_2M, map_at(self->fd.device, info.offset, va + SZ_2M, 0, SZ_2M));
	store(va + SZ_2M, 1);
	/* By itself, after RAM, before it, and between */
	EXPECT_EQ(EFAULT, ioas_map_ram(&self->fd, self->ioas, va + SZ_2M, IOVA, SZ_2M));
	EXPECT_EQ(EFAULT, ioas_map_ram(&self->fd, self->ioas, va, IOVA, 2 * SZ_2M));
	EXPECT_EQ(EFAULT, ioas_map_ram(&self->fd, self->ioas, va + SZ_2M, IOVA, 2 * SZ_2M));
	EXPECT_EQ(EFAULT, ioas_map_ram(&self->fd, self->ioas, va, IOVA, 4 * SZ_2M));
	ASSERT_TRUE(read_io_table(&self->table));
	EXPECT_EQ(0, io_mapped(&self->table));
	EXPECT_EQ(pinned, status_kib("/proc/self/status", "VmPin"));
	munmap(va, 4 * SZ_2M);
}

/* What does not begin with a page is refused, as a mapping of that is. */
TEST_F(iommufd, dmabuf_refused)
{
	int file = bar_dmabuf(&self->fd, 0, 4 * SZ_2M);
	__u64 iova;

	if (file < 0 && errno == ENOTTY)
		SKIP(return, "no CONFIG_VFIO_PCI_DMABUF");
	ASSERT_GE(file, 0);
	EXPECT_EQ(EINVAL, ioas_map_file(&self->fd, self->ioas, file, 1, 3 * SZ_2M, &iova));
	EXPECT_EQ(EINVAL, ioas_map_file(&self->fd, self->ioas, file, 0, 4 * SZ_2M + SZ_4K,
					&iova));
	ASSERT_TRUE(read_io_table(&self->table));
	EXPECT_EQ(0, io_mapped(&self->table));
	close(file);
}

/* The device's memory is disabled: nothing of it stays mapped, RAM does. */
TEST_F_TIMEOUT(iommufd, dmabuf_revoked, MINUTES(2))
{
	const __u64 config = config_offset(&self->fd);
	const __u64 bytes = 2 * SZ_1G;
	int file = bar_dmabuf(&self->fd, SZ_1M, bytes);
	char *ram = reserve(SZ_2M);
	__u64 iova = 0, l[THI_NR_LEAF];

	if (file < 0 && errno == ENOTTY)
		SKIP(return, "no CONFIG_VFIO_PCI_DMABUF");
	ASSERT_GE(file, 0);
	ASSERT_NE(0, config);
	ASSERT_NE(NULL, ram);
	ASSERT_EQ(0, ioas_map_ram(&self->fd, self->ioas, ram, IOVA, SZ_2M));
	ASSERT_EQ(0, ioas_map_file(&self->fd, self->ioas, file, 0, bytes, &iova));
	ASSERT_EQ(0, memory_enable(&self->fd, config, false));
	ASSERT_TRUE(read_io_table(&self->table));
	EXPECT_EQ(SZ_2M, io_mapped(&self->table));
	mapped_to(&self->table, iova, bytes, self->bar + SZ_1M, l);
	EXPECT_EQ(0, l[THI_4K] + l[THI_2M] + l[THI_1G]);
	ASSERT_EQ(0, memory_enable(&self->fd, config, true));
	ASSERT_TRUE(read_io_table(&self->table));
	EXPECT_EQ(SZ_2M, io_mapped(&self->table));
	EXPECT_EQ(0, ioas_unmap(&self->fd, self->ioas, iova, bytes));
	EXPECT_EQ(0, ioas_unmap(&self->fd, self->ioas, IOVA, SZ_2M));
	close(file);
}

TEST_HARNESS_MAIN
