/* SPDX-License-Identifier: GPL-2.0 */
/* What is mapped for a device by its IOMMU: IO page tables, type1, iommufd */
#ifndef __SELFTEST_HUGE_IOMAP_IOMMU_H
#define __SELFTEST_HUGE_IOMAP_IOMMU_H

#include "huge_iomap_vfio.h"

#include "kselftest.h"

/* Only VT-d has them. */
#define IO_PAGE_TABLES	"/sys/kernel/debug/iommu/intel"

/* An entry that maps */
struct entry {
	__u64 iova, pa, bytes;
	bool writable;
};

struct io_table {
	struct entry *entry;
	long nr, max;
	__u64 root;		/* physical address: another domain has another one */
};

static inline void add_entry(struct io_table *t, struct entry e)
{
	if (t->nr == t->max) {
		t->max = t->max * 2 + 1024;
		t->entry = realloc(t->entry, t->max * sizeof(*t->entry));
		if (!t->entry)
			exit(1);
	}
	t->entry[t->nr++] = e;
}

/* All that is mapped for a PCI device; false if that cannot be read */
static inline bool read_io_table_of(const char *name, struct io_table *t)
{
	static const __u64 sizes[] = { SZ_1G, SZ_2M, SZ_4K };
	char *line = NULL, path[128];
	size_t len = 0;
	FILE *f;

	snprintf(path, sizeof(path), IO_PAGE_TABLES "/%s/domain_translation_struct", name);
	f = fopen(path, "r");
	t->nr = 0;
	t->root = 0;
	if (!f)
		return false;
	while (getline(&line, &len, f) > 0) {
		unsigned long long pfn, v[5];
		/* Those of five and four levels, and of one to three */
		int n = sscanf(line, "0x%llx | %llx %llx %llx %llx %llx", &pfn, &v[0],
			       &v[1], &v[2], &v[3], &v[4]);

		if (n < 4) {
			if (strstr(line, " @0x"))
				t->root = strtoull(strstr(line, " @0x") + 2, NULL, 16);
			continue;
		}
		add_entry(t, (struct entry) {
			.iova = pfn * SZ_4K, .bytes = sizes[n - 4],
			.pa = v[n - 2] & 0xffffffffff000ull & ~(sizes[n - 4] - 1),
			.writable = v[n - 2] & 2,
		});
	}
	free(line);
	fclose(f);
	return true;
}

/* The same for the device with the BAR */
static inline bool read_io_table(struct io_table *t)
{
	return read_io_table_of(PCI_NAME, t);
}

/* What of [iova, iova + bytes) is mapped to @pa and on, in bytes by leaf size */
static inline void mapped_to(const struct io_table *t, __u64 iova, __u64 bytes, __u64 pa,
			     __u64 leaves[THI_NR_LEAF])
{
	memset(leaves, 0, THI_NR_LEAF * sizeof(*leaves));
	for (long i = 0; i < t->nr; i++) {
		const struct entry *e = &t->entry[i];
		int size = e->bytes == SZ_1G ? THI_1G : e->bytes == SZ_2M ? THI_2M : THI_4K;

		if (e->iova >= iova && e->bytes <= bytes &&
		    e->iova - iova <= bytes - e->bytes && e->pa == pa + e->iova - iova)
			leaves[size] += e->bytes;
	}
}

/* The entries are in the order of their IOVA. ~0: nothing is mapped there */
static inline __u64 translate(const struct io_table *t, __u64 iova)
{
	long low = 0, high = t->nr;

	while (low < high) {
		const long mid = (low + high) / 2;
		const struct entry *e = &t->entry[mid];

		if (iova < e->iova)
			high = mid;
		else if (iova - e->iova >= e->bytes)
			low = mid + 1;
		else
			return e->pa + iova - e->iova;
	}
	return ~0ull;
}

/* What all entries together map, in bytes */
static inline __u64 io_mapped(const struct io_table *t)
{
	__u64 bytes = 0;

	for (long i = 0; i < t->nr; i++)
		bytes += t->entry[i].bytes;
	return bytes;
}

#define RW	(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)

static inline int type1_map(struct vfio *fd, char *va, __u64 iova, __u64 bytes, __u32 flags)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .vaddr = (unsigned long)va, .iova = iova,
		.size = bytes, .flags = flags,
	};

	return ioctl(fd->container, VFIO_IOMMU_MAP_DMA, &map) ? errno : 0;
}

/* How many bytes were unmapped */
static inline __u64 type1_unmap(struct vfio *fd, __u64 iova, __u64 bytes)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = iova, .size = bytes,
	};

	return ioctl(fd->container, VFIO_IOMMU_UNMAP_DMA, &unmap) ? 0 : unmap.size;
}

static inline int ioas_unmap(struct vfio *fd, __u32 ioas, __u64 iova, __u64 bytes)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap), .ioas_id = ioas, .iova = iova, .length = bytes,
	};

	if (ioctl(fd->container, IOMMU_IOAS_UNMAP, &unmap))
		return errno;
	return unmap.length == bytes ? 0 : ERANGE;
}

static inline int ioas_map_ram(struct vfio *fd, __u32 ioas, char *va, __u64 iova, __u64 bytes)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map), .ioas_id = ioas, .user_va = (unsigned long)va,
		.iova = iova, .length = bytes,
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_FIXED_IOVA,
	};

	return ioctl(fd->container, IOMMU_IOAS_MAP, &map) ? errno : 0;
}

/* Maps where iommufd likes. 0 or an errno */
static inline int ioas_map_file(struct vfio *fd, __u32 ioas, int file, __u64 start,
				__u64 bytes, __u64 *iova)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .ioas_id = ioas, .fd = file, .start = start,
		.length = bytes,
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
	};

	if (ioctl(fd->container, IOMMU_IOAS_MAP_FILE, &map))
		return errno;
	*iova = map.iova;
	return 0;
}

/* Pages that are pinned in the whole system, accounted for or not */
static inline long pins_held(void)
{
	char *line = NULL;
	size_t len = 0;
	long n, held = 0;
	FILE *f;

	write_file("/proc/sys/vm/stat_refresh", "1");
	f = fopen("/proc/vmstat", "r");
	while (f && getline(&line, &len, f) > 0) {
		if (sscanf(line, "nr_foll_pin_acquired %ld", &n) == 1)
			held += n;
		if (sscanf(line, "nr_foll_pin_released %ld", &n) == 1)
			held -= n;
	}
	free(line);
	if (f)
		fclose(f);
	return held;
}

/* All allocations, and of many some */
static inline int next_nth(int n)
{
	return n + (n < 40 ? 1 : n / 3);
}

static inline unsigned int next_random(unsigned int *seed)
{
	*seed = *seed * 1103515245 + 12345;
	return *seed >> 8;
}

/* All of it, with the largest entries that fit: the BAR and the IOVA are congruent */
static inline bool is_mapped(const struct io_table *t, __u64 iova, __u64 bytes, __u64 pa)
{
	const struct ideal ideal = ideal_leaves(iova, pa, bytes, THI_1G);
	__u64 leaves[THI_NR_LEAF];
	bool good = true;

	mapped_to(t, iova, bytes, pa, leaves);
	for (int i = 0; i < THI_NR_LEAF; i++) {
		if (leaves[i] / leaf_sizes[i] == ideal.nr[i])
			continue;
		ksft_print_msg("%#llx: %llu leaves of %s, not %llu\n", iova,
			       leaves[i] / leaf_sizes[i], leaf_names[i], ideal.nr[i]);
		good = false;
	}
	return good;
}

#endif /* __SELFTEST_HUGE_IOMAP_IOMMU_H */
