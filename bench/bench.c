// SPDX-License-Identifier: GPL-2.0
/*
 * Runs in the guest: map and unmap parts of the BAR twice, in the kernel, by mmap(),
 * through vfio-pci and for DMA, give it struct pages, and print one JSON object a line.
 * Under QEMU's -icount shift=0 the TSC counts guest instructions.
 *
 *   bench KERNEL [sizes in MiB...]
 *   bench vfio KERNEL
 *   bench vmap KERNEL
 *   bench memremap KERNEL
 */
#include "../build/linux/tools/testing/selftests/huge_iomap/huge_iomap_vfio.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <x86intrin.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void one(int fd, const char *kernel, __u64 offset, __u64 bytes,
		const char *place)
{
	struct test_huge_iomap_leaves leaves;
	struct test_huge_iomap_unmap unmap;
	struct test_huge_iomap_map map;
	__u64 first_map = 0, first_unmap = 0;

	/* The first round allocates page tables, which stay for the second. */
	for (int round = 0; round < 2; round++) {
		if (ioctl(fd, THI_PURGE))
			die("purge");
		if (thi_map(fd, THI_IOREMAP, offset, bytes, &map) ||
		    thi_leaves(fd, map.handle, &leaves) ||
		    thi_unmap(fd, map.handle, &unmap))
			die("map");
		if (leaves.wrong || unmap.left) {
			fprintf(stderr, "a wrong mapping\n");
			exit(1);
		}
		if (!round) {
			first_map = map.ticks;
			first_unmap = unmap.ticks;
		}
	}
	/* The PUD table is shared with other areas, and counted here. */
	printf("{\"path\": \"ioremap\", \"kernel\": \"%s\", \"place\": \"%s\", "
	       "\"offset\": %llu, \"bytes\": %llu, "
	       "\"first_map_instructions\": %llu, \"first_unmap_instructions\": %llu, "
	       "\"map_instructions\": %llu, \"unmap_instructions\": %llu, "
	       "\"leaves_4k\": %llu, \"leaves_2m\": %llu, \"leaves_1g\": %llu, "
	       "\"table_kib\": %llu}\n",
	       kernel, place, offset, bytes, first_map, first_unmap, map.ticks,
	       unmap.ticks, leaves.nr[THI_4K], leaves.nr[THI_2M],
	       leaves.nr[THI_1G], (leaves.tables + 1) * 4);
	fflush(stdout);
}

/*
 * mmap() of a file, at an address of the kernel's choice, or at one that is a
 * multiple of 1 GiB
 */
static void user(const char *kernel, const char *path, const char *place, int fd,
		 __u64 offset, __u64 bytes)
{
	const bool any = !strcmp(place, "any");
	struct user_leaves leaves;
	__u64 ticks[2][3];
	long before, after;
	char *va;

	char *at = any ? NULL : reserve(bytes);

	for (int round = 0; round < 2; round++) {
		before = vm_pte("/proc/self/status");
		ticks[round][0] = __rdtsc();
		va = mmap(at, bytes, PROT_READ | PROT_WRITE,
			  MAP_SHARED | (any ? 0 : MAP_FIXED), fd, offset);
		ticks[round][1] = __rdtsc();
		if (va == MAP_FAILED || !user_leaves(va, bytes, &leaves))
			die("mmap");
		after = vm_pte("/proc/self/status");
		ticks[round][0] = ticks[round][1] - ticks[round][0];
		ticks[round][1] = __rdtsc();
		munmap(va, bytes);
		ticks[round][2] = __rdtsc() - ticks[round][1];
	}
	if (at)
		munmap(at, bytes);
	printf("{\"path\": \"%s\", \"kernel\": \"%s\", \"place\": \"%s\", "
	       "\"offset\": %llu, \"bytes\": %llu, "
	       "\"first_map_instructions\": %llu, \"first_unmap_instructions\": %llu, "
	       "\"map_instructions\": %llu, \"unmap_instructions\": %llu, "
	       "\"leaves_4k\": %llu, \"leaves_2m\": %llu, \"leaves_1g\": %llu, "
	       "\"table_kib\": %ld}\n",
	       path, kernel, place, offset, bytes, ticks[0][0], ticks[0][2], ticks[1][0], ticks[1][2],
	       leaves.bytes[THI_4K] / SZ_4K, leaves.bytes[THI_2M] / SZ_2M,
	       leaves.bytes[THI_1G] / SZ_1G, after - before);
	fflush(stdout);
}

static long faults(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_SELF, &usage) ? -1 : usage.ru_minflt;
}

/* mmap() of a BAR by a driver, and an access to each 4 KiB of it */
static void touch(const char *path, const char *kernel, const char *place, int fd,
		  __u64 region, __u64 bytes)
{
	const bool skewed = !strcmp(place, "skewed");
	char *at = skewed ? reserve(bytes + SZ_2M) + SZ_4K : NULL;
	struct user_leaves leaves;
	__u64 ticks[3];
	long nr, tables;
	char *va;

	tables = vm_pte("/proc/self/status");
	va = mmap(at, bytes, PROT_READ | PROT_WRITE,
		  MAP_SHARED | (skewed ? MAP_FIXED : 0), fd, region);
	if (va == MAP_FAILED)
		die("mmap");
	nr = faults();
	ticks[0] = __rdtsc();
	for (__u64 o = 0; o < bytes; o += SZ_4K)
		load(va + o);
	ticks[1] = __rdtsc();
	nr = faults() - nr;
	tables = vm_pte("/proc/self/status") - tables;
	if (!user_leaves(va, bytes, &leaves))
		die("leaves");
	ticks[0] = ticks[1] - ticks[0];
	ticks[1] = __rdtsc();
	munmap(va, bytes);
	ticks[2] = __rdtsc() - ticks[1];
	printf("{\"path\": \"%s\", \"kernel\": \"%s\", \"place\": \"%s\", "
	       "\"offset\": 0, \"bytes\": %llu, \"faults\": %ld, "
	       "\"map_instructions\": %llu, \"unmap_instructions\": %llu, "
	       "\"leaves_4k\": %llu, \"leaves_2m\": %llu, \"leaves_1g\": %llu, "
	       "\"table_kib\": %ld}\n",
	       path, kernel, place, bytes, nr, ticks[0], ticks[2],
	       leaves.bytes[THI_4K] / SZ_4K, leaves.bytes[THI_2M] / SZ_2M,
	       leaves.bytes[THI_1G] / SZ_1G, tables);
	fflush(stdout);
	if (skewed)
		munmap(at - SZ_4K, bytes + SZ_2M);
}

static void dma_row(const char *path, const char *kernel, const char *place, __u64 bytes,
		    const __u64 ticks[3])
{
	printf("{\"path\": \"%s\", \"kernel\": \"%s\", \"place\": \"%s\", "
	       "\"offset\": 0, \"bytes\": %llu, "
	       "\"map_instructions\": %llu, \"unmap_instructions\": %llu}\n",
	       path, kernel, place, bytes, ticks[1] - ticks[0], ticks[2] - ticks[1]);
	fflush(stdout);
}

/* VFIO_IOMMU_MAP_DMA and UNMAP_DMA; @skew: of the IOVA */
static void dma(const char *kernel, const char *place, struct vfio *fd, char *va,
		__u64 skew, __u64 bytes)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .size = bytes, .iova = 4 * SZ_1G + skew,
		.vaddr = (unsigned long)va,
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
	};
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = map.iova, .size = bytes,
	};
	__u64 ticks[3];

	for (int round = 0; round < 2; round++) {
		ticks[0] = __rdtsc();
		if (ioctl(fd->container, VFIO_IOMMU_MAP_DMA, &map))
			die("VFIO_IOMMU_MAP_DMA");
		ticks[1] = __rdtsc();
		if (ioctl(fd->container, VFIO_IOMMU_UNMAP_DMA, &unmap) ||
		    unmap.size != bytes)
			die("VFIO_IOMMU_UNMAP_DMA");
		ticks[2] = __rdtsc();
	}
	dma_row("type1", kernel, place, bytes, ticks);
}

/* Part of the BAR that is mapped by PTEs: of two around a page of MSI-X, the second */
static void dma_skewed(const char *kernel, const char *place, struct vfio *fd,
		       __u64 region, __u64 from, __u64 bytes)
{
	char *area = reserve(bytes + SZ_1G), *va = area + from + SZ_4K;

	if (mmap(va, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 fd->device, region + from) != va)
		die("mmap of vfio-pci");
	dma(kernel, place, fd, va, from, bytes);
	munmap(area, bytes + SZ_1G);
}

/* IOMMU_IOAS_MAP and UNMAP of RAM */
static void ioas(const char *kernel, const char *place, struct vfio *fd, __u32 id,
		 int advice, __u64 bytes)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map), .ioas_id = id, .iova = 4 * SZ_1G, .length = bytes,
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_FIXED_IOVA,
	};
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap), .ioas_id = id, .iova = map.iova,
	};
	char *va = reserve(bytes);
	__u64 ticks[3];

	if (madvise(va, bytes, advice))
		die("madvise");
	memset(va, 1, bytes);
	map.user_va = (unsigned long)va;
	for (int round = 0; round < 2; round++) {
		unmap.length = bytes;
		ticks[0] = __rdtsc();
		if (ioctl(fd->container, IOMMU_IOAS_MAP, &map))
			die("IOMMU_IOAS_MAP");
		ticks[1] = __rdtsc();
		if (ioctl(fd->container, IOMMU_IOAS_UNMAP, &unmap) || unmap.length != bytes)
			die("IOMMU_IOAS_UNMAP");
		ticks[2] = __rdtsc();
	}
	dma_row("iommufd", kernel, place, bytes, ticks);
	munmap(va, bytes);
}

/* IOMMU_IOAS_MAP_FILE of a dma-buf of the BAR, and UNMAP; iommufd chooses the IOVA. */
static void ioas_dmabuf(const char *kernel, const char *place, struct vfio *fd, __u32 id,
			__u64 from, __u64 bytes)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .ioas_id = id, .length = bytes,
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.fd = bar_dmabuf(fd, from, bytes),
	};
	struct iommu_ioas_unmap unmap = { .size = sizeof(unmap), .ioas_id = id };
	__u64 ticks[3];

	if (map.fd < 0)
		die("VFIO_DEVICE_FEATURE_DMA_BUF");
	for (int round = 0; round < 2; round++) {
		ticks[0] = __rdtsc();
		if (ioctl(fd->container, IOMMU_IOAS_MAP_FILE, &map))
			die("IOMMU_IOAS_MAP_FILE");
		ticks[1] = __rdtsc();
		unmap.iova = map.iova;
		unmap.length = bytes;
		if (ioctl(fd->container, IOMMU_IOAS_UNMAP, &unmap))
			die("IOMMU_IOAS_UNMAP");
		ticks[2] = __rdtsc();
	}
	dma_row("iommufd", kernel, place, bytes, ticks);
	close(map.fd);
}

static void iommufd(const char *kernel)
{
	struct vfio fd;
	__u32 id = 0;

	if (!open_cdev(&fd) || attach_ioas(&fd, &id))
		die("iommufd");
	ioas(kernel, "huge RAM", &fd, id, MADV_HUGEPAGE, SZ_1G / 4);
	ioas(kernel, "4K RAM", &fd, id, MADV_NOHUGEPAGE, SZ_1G / 4);
	ioas_dmabuf(kernel, "BAR", &fd, id, 0, 4 * SZ_1G);
	ioas_dmabuf(kernel, "BAR + 1 MiB", &fd, id, SZ_1M, 2 * SZ_1G);
	close_vfio(&fd);
}

static void vfio(const char *kernel, bool few)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR2_REGION_INDEX,
	};
	struct vfio fd;
	char *va;

	if (bind_to("vfio-pci") || !open_group(&fd) ||
	    ioctl(fd.device, VFIO_DEVICE_GET_REGION_INFO, &info))
		die("vfio-pci");
	touch("vfio", kernel, "any", fd.device, info.offset, 4 * SZ_1G);
	touch("vfio", kernel, "skewed", fd.device, info.offset, SZ_1G);
	if (!few) {
		prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
		touch("vfio", kernel, "THP disabled", fd.device, info.offset, 4 * SZ_1G);
		prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
	}

	va = reserve(4 * SZ_1G);
	if (mmap(va, 4 * SZ_1G, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 fd.device, info.offset) != va)
		die("mmap of vfio-pci");
	dma(kernel, "BAR", &fd, va, 0, 4 * SZ_1G);
	munmap(va, 4 * SZ_1G);
	dma_skewed(kernel, "BAR + 4 KiB, skewed", &fd, info.offset, SZ_4K, 2 * SZ_1G - SZ_4K);
	dma_skewed(kernel, "BAR + 64 KiB, skewed", &fd, info.offset, 16 * SZ_4K, SZ_1G);

	va = reserve(SZ_1G / 2);
	if (madvise(va, SZ_1G / 2, MADV_HUGEPAGE))
		die("MADV_HUGEPAGE");
	memset(va, 1, SZ_1G / 2);
	dma(kernel, "huge RAM", &fd, va, 0, SZ_1G / 2);
	madvise(va, SZ_1G / 2, MADV_NOHUGEPAGE);
	madvise(va, SZ_1G / 2, MADV_DONTNEED);
	memset(va, 1, SZ_1G / 2);
	dma(kernel, "4K RAM", &fd, va, 0, SZ_1G / 2);
	munmap(va, SZ_1G / 2);
	close_vfio(&fd);
	iommufd(kernel);
	bind_to("\n");
}

enum { PAGES_512M = 512 * 256, PAGES_1G = 1024 * 256 };

/* vmap() of an array that is put together from the pieces, and vunmap() */
static void vmap(const char *kernel, const char *place, int fd,
		 const struct test_huge_vmap_piece *pieces, __u32 nr, __u64 pages)
{
	struct test_huge_vmap_map map = {
		.pieces = (unsigned long)pieces, .nr = nr, .how = THV_VMAP,
	};
	struct test_huge_vmap_unmap unmap = {};
	struct test_huge_vmap_leaves leaves;
	__u64 first_map = 0, first_unmap = 0;

	for (int round = 0; round < 2; round++) {
		if (ioctl(fd, THV_PURGE) || ioctl(fd, THV_MAP, &map))
			die("vmap");
		leaves = (struct test_huge_vmap_leaves) {
			.handle = map.handle, .nr = pages,
		};
		unmap.handle = map.handle;
		if (ioctl(fd, THV_LEAVES, &leaves) || ioctl(fd, THV_UNMAP, &unmap))
			die("vunmap");
		if (leaves.wrong || leaves.absent || unmap.left) {
			fprintf(stderr, "a wrong mapping\n");
			exit(1);
		}
		if (!round) {
			first_map = map.ticks;
			first_unmap = unmap.ticks;
		}
	}
	printf("{\"path\": \"vmap\", \"kernel\": \"%s\", \"place\": \"%s\", "
	       "\"offset\": 0, \"bytes\": %llu, "
	       "\"first_map_instructions\": %llu, \"first_unmap_instructions\": %llu, "
	       "\"map_instructions\": %llu, \"unmap_instructions\": %llu, "
	       "\"leaves_4k\": %llu, \"leaves_2m\": %llu, \"leaves_1g\": %llu, "
	       "\"table_kib\": %llu}\n",
	       kernel, place, pages * SZ_4K, first_map, first_unmap, map.ticks,
	       unmap.ticks, leaves.leaf[THI_4K], leaves.leaf[THI_2M],
	       leaves.leaf[THI_1G], (leaves.tables + 1) * 4);
	fflush(stdout);
}

static __u32 pages_of(int fd, __u32 order, __u32 flags)
{
	struct test_huge_vmap_alloc req = {
		.order = order, .nr = PAGES_512M >> order, .flags = flags,
	};

	if (ioctl(fd, THV_ALLOC, &req))
		die("alloc");
	return req.block;
}

static void vmaps(const char *kernel)
{
	struct test_huge_vmap_piece *scattered, piece = { .nr = PAGES_512M, .step = 1 };
	int fd = open(DEVICE, O_RDWR);
	struct test_huge_vmap_pin pin = { .bytes = SZ_1G };
	char *mem;

	if (fd < 0)
		die(DEVICE);
	piece.block = pages_of(fd, 9, THV_COMPOUND);
	vmap(kernel, "order-9 folios", fd, &piece, 1, PAGES_512M);
	if (ioctl(fd, THV_FREE, &piece.block))
		die("free");

	piece.block = pages_of(fd, 9, 0);
	vmap(kernel, "order-9, not compound", fd, &piece, 1, PAGES_512M);

	/* The same pages, in disorder */
	scattered = calloc(PAGES_512M, sizeof(*scattered));
	if (!scattered)
		die("calloc");
	for (__u64 i = 0; i < PAGES_512M; i++)
		scattered[i] = (struct test_huge_vmap_piece) {
			.block = piece.block, .first = i * 40503 % PAGES_512M,
			.nr = 1, .step = 1,
		};
	vmap(kernel, "scattered pages", fd, scattered, PAGES_512M, PAGES_512M);
	vmap(kernel, "16 pages", fd, scattered, 16, 16);
	free(scattered);
	if (ioctl(fd, THV_FREE, &piece.block))
		die("free");

	mem = mmap(NULL, SZ_1G, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (30 << MAP_HUGE_SHIFT), -1, 0);
	if (mem == MAP_FAILED)
		die("hugetlb");
	pin.addr = (unsigned long)mem;
	if (ioctl(fd, THV_PIN, &pin))
		die("pin");
	piece = (struct test_huge_vmap_piece) {
		.block = pin.block, .nr = PAGES_1G, .step = 1,
	};
	vmap(kernel, "1 GiB hugetlb folio", fd, &piece, 1, PAGES_1G);
	close(fd);
	munmap(mem, SZ_1G);
}

/* struct pages for a part of the BAR, and what maps it in the direct map then */
static void pages(const char *kernel, const char *place, int fd, __u64 flags,
		  __u32 shift, __u64 bytes)
{
	struct test_memremap_map map = {
		.type = TMR_P2PDMA, .flags = flags, .vmemmap_shift = shift, .bytes = bytes,
	};
	struct test_memremap_leaves leaves;
	__u64 ticks[3], tables, gib = bytes / SZ_1G;

	for (int round = 0; round < 2; round++) {
		ticks[0] = __rdtsc();
		if (ioctl(fd, TMR_MAP, &map))
			die("memremap_pages");
		ticks[1] = __rdtsc();
		if (ioctl(fd, TMR_LEAVES, &leaves))
			die("leaves");
		if (leaves.wrong || leaves.no_page) {
			fprintf(stderr, "a wrong mapping\n");
			exit(1);
		}
		ticks[0] = ticks[1] - ticks[0];
		ticks[1] = __rdtsc();
		if (ioctl(fd, TMR_UNMAP))
			die("memunmap_pages");
		ticks[2] = __rdtsc() - ticks[1];
	}
	/*
	 * A PUD table; a PMD table for each GiB and a PTE table for each 2 MiB that is
	 * no leaf. That is what is in use: the kernel keeps tables for the next time.
	 */
	tables = 1 + gib - leaves.nr[THI_1G] +
		 (gib - leaves.nr[THI_1G]) * 512 - leaves.nr[THI_2M];
	printf("{\"path\": \"memremap\", \"kernel\": \"%s\", \"place\": \"%s\", "
	       "\"offset\": 0, \"bytes\": %llu, "
	       "\"map_instructions\": %llu, \"unmap_instructions\": %llu, "
	       "\"leaves_4k\": %llu, \"leaves_2m\": %llu, \"leaves_1g\": %llu, "
	       "\"table_kib\": %llu}\n",
	       kernel, place, bytes, ticks[0], ticks[2], leaves.nr[THI_4K],
	       leaves.nr[THI_2M], leaves.nr[THI_1G], tables * 4);
	fflush(stdout);
}

static void memremaps(const char *kernel)
{
	static const int gib[] = { 1, 4, 16 };
	const bool base = !strcmp(kernel, "base");
	int fd = open(DEVICE, O_RDWR);

	if (fd < 0)
		die(DEVICE);
	for (int i = 0; i < 3; i++) {
		pages(kernel, "UC", fd, 0, 0, gib[i] * SZ_1G);
		if (!base)
			pages(kernel, "WC", fd, TMR_WC, 0, gib[i] * SZ_1G);
		pages(kernel, "UC, 1 GiB folios", fd, 0, 18, gib[i] * SZ_1G);
	}
	close(fd);
	if (base)
		return;
	if (write_file("/sys/module/iopmem/parameters/mode", "char") || bind_to("iopmem"))
		die("iopmem");
	fd = open("/dev/iopmem0c", O_RDWR);
	if (fd < 0)
		die("iopmem0c");
	touch("iopmem", kernel, "any", fd, 0, 4 * SZ_1G);
	close(fd);
	bind_to("\n");
}

/*
 * For the picture: one mapping that is odd at both ends, as the page tables have it. What
 * has leaves of one size is one extent: offset in the mapping, length, size of a leaf.
 */
static void strip(const char *kernel, int res, __u64 offset, __u64 bytes)
{
	static const char * const level[] = { " pte", " pmd", " pud" };
	__u64 from, start = 0, end = 0, next = 0;
	char *p, *line = NULL;
	int leaf = -1, i;
	size_t len = 0;
	bool some = false;
	FILE *f;

	p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, res, offset);
	f = fopen(PAGE_TABLES, "r");
	if (p == MAP_FAILED || !f)
		die("strip");
	from = (unsigned long)p;
	printf("{\"path\": \"strip\", \"kernel\": \"%s\", \"place\": \"any\", "
	       "\"offset\": %llu, \"bytes\": %llu, \"extents\": [", kernel, offset, bytes);
	while (getline(&line, &len, f) > 0) {
		unsigned long long s, e;

		if (sscanf(line, "0x%llx-0x%llx", &s, &e) != 2 || e <= from ||
		    s >= from + bytes || !strstr(line, " ro "))
			continue;
		for (i = 0; i < THI_NR_LEAF && !strstr(line, level[i]); i++)
			;
		s = s < from ? from : s;
		e = e > from + bytes ? from + bytes : e;
		if (i == THI_NR_LEAF || s - from != next)
			die("a hole in the strip");
		next = e - from;
		if (i != leaf && leaf >= 0) {
			printf("%s[%llu, %llu, %llu]", some ? ", " : "", start, end - start,
			       leaf_sizes[leaf]);
			some = true;
		}
		if (i != leaf)
			start = s - from;
		leaf = i;
		end = next;
	}
	if (next != bytes)
		die("an end of the strip");
	printf("%s[%llu, %llu, %llu]]}\n", some ? ", " : "", start, end - start,
	       leaf_sizes[leaf]);
	fflush(stdout);
	free(line);
	fclose(f);
	munmap(p, bytes);
}

int main(int argc, char **argv)
{
	int fd = open(DEVICE, O_RDWR);
	int res = open(PCI_DEVICE "/resource2", O_RDWR);
	static const int gib[] = { 1, 16, 256, 1024 };
	const bool few = argc < 10;
	struct test_huge_iomap_bar bar;

	if (argc < 2)
		return 2;
	if (!strcmp(argv[1], "vfio")) {
		vfio(argv[2], argc > 3);
		return 0;
	}
	if (!strcmp(argv[1], "vmap")) {
		vmaps(argv[2]);
		return 0;
	}
	if (!strcmp(argv[1], "memremap")) {
		memremaps(argv[2]);
		return 0;
	}
	if (res < 0)
		die("resource2");
	if (fd < 0 || ioctl(fd, THI_BAR, &bar))
		die(DEVICE);
	for (int i = 2; i < argc; i++) {
		__u64 bytes = strtoull(argv[i], NULL, 0) * SZ_1M;

		if (bytes > bar.bytes)
			continue;
		one(fd, argv[1], 0, bytes, "aligned");
		/* Odd by 1 MiB; the full size loses that at its start. */
		one(fd, argv[1], SZ_1M,
		    bytes == bar.bytes ? bytes - SZ_1M : bytes, "odd");
		user(argv[1], "mmap", "any", res, 0, bytes);
	}
	/*
	 * Page tables for 1 TiB of pages do not fit in the guest. With few sizes, to show
	 * it, no row that takes minutes.
	 */
	for (int i = 0; i < (few ? 2 : strcmp(argv[1], "base") ? 4 : 3); i++)
		user(argv[1], "range", "aligned", fd, THI_FAR, gib[i] * SZ_1G);
	strip(argv[1], res, SZ_1M, 4 * SZ_1G - SZ_1M - 4 * SZ_4K);
	close(fd);
	/* In an address space of its own: where a mapping lands counts. */
	if (execl("/proc/self/exe", "bench", "vfio", argv[1], few ? "few" : NULL, NULL))
		die("exec");
	return 0;
}
