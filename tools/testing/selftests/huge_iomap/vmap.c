// SPDX-License-Identifier: GPL-2.0
/*
 * Leaves of vmap(), vm_map_ram() and vmap_pfn() over arrays of pages of all kinds,
 * and what else touches such an area.
 */
#include "huge_iomap_util.h"

#include <linux/elf.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "kselftest_harness.h"

#define BLOCK		512		/* pages of a PMD leaf */
#define PAGES_1G	(512 * BLOCK)
#define MAX_PIECES	64

FIXTURE(vmap) {
	char saved[16];
	int fd;
	int max;			/* largest leaf that can be had */
};

FIXTURE_VARIANT(vmap) {
	__u32 how;
	bool folios;			/* pages may be those of large folios */
};

FIXTURE_VARIANT_ADD(vmap, vmap) { .how = THV_VMAP, .folios = true };
FIXTURE_VARIANT_ADD(vmap, put_pages) { .how = THV_VMAP_PUT };
FIXTURE_VARIANT_ADD(vmap, map_ram) { .how = THV_VM_MAP_RAM, .folios = true };

FIXTURE_SETUP(vmap)
{
	self->fd = open(DEVICE, O_RDWR);
	if (self->fd < 0 && errno == ENOENT)
		SKIP(return, "no " DEVICE ": CONFIG_TEST_HUGE_MAP is not set");
	ASSERT_GE(self->fd, 0) TH_LOG(DEVICE ": %s", strerror(errno));
	read_line(LIMIT, self->saved, sizeof(self->saved));
	self->max = max_leaf();
}

FIXTURE_TEARDOWN(vmap)
{
	if (self->saved[0])
		write_file(LIMIT, self->saved);
	/* Unmaps and frees all */
	if (self->fd >= 0)
		close(self->fd);
}

/* The number of a new block of @nr times 1 << @order pages; -1 on error */
static int alloc_pages(int fd, unsigned int order, unsigned int nr, bool compound)
{
	struct test_huge_vmap_alloc req = {
		.order = order, .nr = nr, .flags = compound ? THV_COMPOUND : 0,
	};

	return ioctl(fd, THV_ALLOC, &req) ? -1 : (int)req.block;
}

static void free_pages(int fd, __u32 block)
{
	ioctl(fd, THV_FREE, &block);
}

static struct test_huge_vmap_piece piece(__u32 block, __u64 first, __u32 nr, int step)
{
	return (struct test_huge_vmap_piece) {
		.block = block, .first = first, .nr = nr, .step = step,
	};
}

struct area {
	__u64 va, nr;
	__u32 handle;
};

/* 0 or an errno */
static int map_pieces(int fd, __u32 how, const struct test_huge_vmap_piece *p, int nr,
		      struct area *area)
{
	struct test_huge_vmap_map req = {
		.pieces = (unsigned long)p, .nr = nr, .how = how,
	};

	if (ioctl(fd, THV_MAP, &req))
		return errno;
	area->va = req.va;
	area->handle = req.handle;
	area->nr = 0;
	for (int i = 0; i < nr; i++)
		area->nr += p[i].nr;
	return 0;
}

/* Pages that are still mapped afterwards; -1 on error */
static long unmap(int fd, const struct area *area)
{
	struct test_huge_vmap_unmap req = { .handle = area->handle };

	return ioctl(fd, THV_UNMAP, &req) ? -1 : (long)req.left;
}

static bool get_leaves(int fd, const struct area *area, __u64 first, __u64 nr,
		       struct test_huge_vmap_leaves *l)
{
	*l = (struct test_huge_vmap_leaves) {
		.handle = area->handle, .first = first, .nr = nr,
	};
	return !ioctl(fd, THV_LEAVES, l);
}

/* An ioctl on a part of an area; -1 on error */
static long part(int fd, unsigned long cmd, const struct area *area, __u64 first,
		 __u64 nr)
{
	struct test_huge_vmap_part req = {
		.handle = area->handle, .first = first, .nr = nr,
	};

	return ioctl(fd, cmd, &req);
}

static bool is_contiguous(const __u64 *pfns, __u64 nr)
{
	for (__u64 i = 1; i < nr; i++)
		if (pfns[i] != pfns[0] + i)
			return false;
	return true;
}

/* The leaves of an area, from its address and pfns, by looking at every page */
static void array_leaves(const __u64 *pfns, const struct area *area, int max,
			 __u64 leaf[THI_NR_LEAF])
{
	__u64 n, vpn = area->va / SZ_4K;

	memset(leaf, 0, THI_NR_LEAF * sizeof(*leaf));
	for (__u64 i = 0; i < area->nr; i += n) {
		n = 1;
		if (max >= THI_1G && !((vpn + i) % PAGES_1G) && !(pfns[i] % PAGES_1G) &&
		    area->nr - i >= PAGES_1G && is_contiguous(pfns + i, PAGES_1G)) {
			n = PAGES_1G;
			leaf[THI_1G]++;
		} else if (max >= THI_2M && !((vpn + i) % BLOCK) && !(pfns[i] % BLOCK) &&
			   area->nr - i >= BLOCK && is_contiguous(pfns + i, BLOCK)) {
			n = BLOCK;
			leaf[THI_2M]++;
		} else {
			leaf[THI_4K]++;
		}
	}
}

/*
 * Is each page mapped to the right pfn, with the leaves that its address allows, and
 * is that address a good one? Returns NULL, or what is wrong.
 */
static const char *check_area(int fd, const struct area *area, int max,
			      struct test_huge_vmap_leaves *l)
{
	struct test_huge_vmap_pfns req = { .handle = area->handle, .nr = area->nr };
	const char *wrong = NULL;
	__u64 ideal[THI_NR_LEAF];
	__u64 *pfns, i;

	pfns = malloc(area->nr * sizeof(*pfns));
	if (!pfns)
		return "no memory";
	req.addr = (unsigned long)pfns;
	if (ioctl(fd, THV_PFNS, &req) || !get_leaves(fd, area, 0, area->nr, l)) {
		free(pfns);
		return "ioctl";
	}
	array_leaves(pfns, area, max, ideal);
	if (l->wrong || l->absent)
		wrong = "pages are not mapped, or not where they should be";
	else if (memcmp(ideal, l->leaf, sizeof(ideal)))
		wrong = "not the ideal leaves for the address";
	/* The first block has to be a leaf. */
	for (i = 0; i + BLOCK <= area->nr; i++)
		if (!(pfns[i] % BLOCK) && is_contiguous(pfns + i, BLOCK))
			break;
	if (max >= THI_2M && i + BLOCK <= area->nr &&
	    (area->va / SZ_4K + i - pfns[i]) % BLOCK)
		wrong = "the address does not suit the first block";
	free(pfns);
	return wrong;
}

/* Map the pieces, check everything, unmap. @leaf_2m: how many; -1: do not compare */
#define check_map(how, pieces, n, leaf_2m)					\
do {										\
	struct test_huge_vmap_leaves _l;					\
	const int _want = leaf_2m;						\
	struct area _a = {};							\
	const char *_wrong;							\
										\
	ASSERT_EQ(0, map_pieces(self->fd, how, pieces, n, &_a));		\
	_wrong = check_area(self->fd, &_a, self->max, &_l);			\
	EXPECT_EQ(NULL, _wrong) {						\
		TH_LOG("%s: %llu 4K, %llu 2M, %llu 1G at %#llx", _wrong,	\
		       _l.leaf[THI_4K], _l.leaf[THI_2M], _l.leaf[THI_1G],	\
		       _a.va);							\
	}									\
	if (_want >= 0 && self->max >= THI_2M)					\
		EXPECT_EQ(_want, _l.leaf[THI_2M]);				\
	EXPECT_EQ(0, part(self->fd, THV_CHECK, &_a, 0, _a.nr));		\
	EXPECT_EQ(0, unmap(self->fd, &_a));					\
} while (0)

/* Blocks of each order, whole and with their first page missing */
TEST_F_TIMEOUT(vmap, orders, MINUTES(2))
{
	static const unsigned int orders[] = { 0, 4, 8, 9, 10 };

	for (int i = 0; i < 5; i++) {
		for (int compound = 0; compound <= variant->folios; compound++) {
			unsigned int order = orders[i], nr = 4096 >> order;
			int b = alloc_pages(self->fd, order, nr, compound);
			struct test_huge_vmap_piece p[2];

			ASSERT_GE(b, 0);
			/* Order 8 and less may happen to be contiguous. */
			p[0] = piece(b, 0, 4096, 1);
			check_map(variant->how, p, 1, order < 9 ? -1 : 8);
			p[0] = piece(b, 1, 4095, 1);
			check_map(variant->how, p, 1, order < 9 ? -1 : 7);
			p[0] = piece(b, 0, 4095, 1);
			check_map(variant->how, p, 1, order < 9 ? -1 : 7);
			p[0] = piece(b, 300, 1000, 1);
			check_map(variant->how, p, 1, order < 9 ? -1 : 1);
			p[0] = piece(b, 100, 511, 1);
			check_map(variant->how, p, 1, 0);
			p[0] = piece(b, 0, 16, 1);
			check_map(variant->how, p, 1, 0);
			p[0] = piece(b, 4095, 4096, -1);
			check_map(variant->how, p, 1, order < 9 ? -1 : 0);
			p[0] = piece(b, 0, 2048, 2);
			p[1] = piece(b, 1, 2048, 2);
			check_map(variant->how, p, 2, 0);
			/* One page in front: the address has to be odd. */
			p[0] = piece(b, 7, 1, 1);
			p[1] = piece(b, 0, 2048, 1);
			check_map(variant->how, p, 2, order < 9 ? -1 : 4);
			free_pages(self->fd, b);
		}
	}
}

/* One entry of a block is another page, or two have changed places. */
TEST_F_TIMEOUT(vmap, one_page_is_another, MINUTES(2))
{
	for (int compound = 0; compound <= variant->folios; compound++) {
		int b = alloc_pages(self->fd, 9, 3, compound);
		struct test_huge_vmap_piece p[5];

		ASSERT_GE(b, 0);
		for (int i = 0; i < BLOCK; i += 7) {
			int n = 0;

			if (i)
				p[n++] = piece(b, 0, i, 1);
			p[n++] = piece(b, 2 * BLOCK + i, 1, 1);
			p[n++] = piece(b, i + 1, 2 * BLOCK - i - 1, 1);
			check_map(variant->how, p, n, 1);

			if (i < 2 || i > BLOCK - 8)
				continue;
			p[0] = piece(b, 0, i, 1);
			p[1] = piece(b, i + 5, 1, 1);
			p[2] = piece(b, i + 1, 4, 1);
			p[3] = piece(b, i, 1, 1);
			p[4] = piece(b, i + 6, 2 * BLOCK - i - 6, 1);
			check_map(variant->how, p, 5, 1);
		}
		free_pages(self->fd, b);
	}
}

/* Folios of all sizes and single pages, one behind the other */
TEST_F_TIMEOUT(vmap, mixed, MINUTES(2))
{
	int b9 = alloc_pages(self->fd, 9, 4, variant->folios);
	int b10 = alloc_pages(self->fd, 10, 2, false);
	int b4 = alloc_pages(self->fd, 4, 64, variant->folios);
	struct test_huge_vmap_piece p[] = {
		piece(b9, 0, BLOCK, 1),		/* a leaf */
		piece(b4, 64, 64, -1),
		piece(b10, 0, 1024, 1),		/* not congruent */
		piece(b4, 512, 448, -1),
		piece(b9, BLOCK, BLOCK, 1),	/* a leaf */
		piece(b10, 1024, 1024, 1),	/* two leaves */
		piece(b4, 1000, 3, -1),
	};

	ASSERT_GE(b9, 0);
	ASSERT_GE(b10, 0);
	ASSERT_GE(b4, 0);
	check_map(variant->how, p, 7, 4);
}

TEST_F_TIMEOUT(vmap, limit, MINUTES(2))
{
	int b = alloc_pages(self->fd, 10, 2, variant->folios);
	struct test_huge_vmap_piece p = piece(b, 0, 2048, 1);
	static const char * const names[] = { "4K", "2M", "1G" };

	if (!self->saved[0])
		SKIP(return, LIMIT " is not there: CONFIG_HUGE_IOMAP is not set");
	ASSERT_GE(b, 0);
	for (int i = 0; i < 3; i++) {
		if (write_file(LIMIT, names[i]))
			SKIP(return, "nohugeiomap does not allow %s", names[i]);
		self->max = max_leaf();
		check_map(variant->how, &p, 1, i ? 4 : 0);
	}
}

/* A 1 GiB page of hugetlbfs, and part of it */
TEST_F_TIMEOUT(vmap, hugetlb_1g, MINUTES(2))
{
	char *mem = mmap(NULL, SZ_1G, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (30 << MAP_HUGE_SHIFT),
			 -1, 0);
	struct test_huge_vmap_pin pin = {
		.addr = (unsigned long)mem, .bytes = SZ_1G,
	};
	struct test_huge_vmap_leaves l;
	struct test_huge_vmap_piece p[2];
	struct area a = {};

	if (!variant->folios)
		SKIP(return, "vfree() puts pages of order 0 only");
	if (mem == MAP_FAILED)
		SKIP(return, "no 1 GiB page: %s", strerror(errno));
	ASSERT_EQ(0, ioctl(self->fd, THV_PIN, &pin));
	p[0] = piece(pin.block, 0, PAGES_1G, 1);
	ASSERT_EQ(0, map_pieces(self->fd, variant->how, p, 1, &a));
	ASSERT_TRUE(get_leaves(self->fd, &a, 0, a.nr, &l));
	EXPECT_EQ(0, l.wrong);
	EXPECT_EQ(0, l.absent);
	EXPECT_EQ(self->max == THI_1G ? 1 : 0, l.leaf[THI_1G]);
	EXPECT_EQ(self->max == THI_2M ? 512 : 0, l.leaf[THI_2M]);
	EXPECT_EQ(self->max == THI_4K ? PAGES_1G : 0, l.leaf[THI_4K]);
	mem[12345 * SZ_4K] = 42;
	EXPECT_EQ(0, part(self->fd, THV_CHECK, &a, 12000, 1000));
	EXPECT_EQ(42, mem[12345 * SZ_4K]);
	EXPECT_EQ(0, unmap(self->fd, &a));

	p[0] = piece(pin.block, 5, BLOCK, 1);
	p[1] = piece(pin.block, 0, PAGES_1G, 1);
	ASSERT_EQ(0, map_pieces(self->fd, variant->how, p, 2, &a));
	ASSERT_TRUE(get_leaves(self->fd, &a, 0, a.nr, &l));
	EXPECT_EQ(0, l.wrong + l.absent);
	EXPECT_EQ(self->max == THI_1G ? 1 : 0, l.leaf[THI_1G]);
	EXPECT_EQ(0, unmap(self->fd, &a));
	munmap(mem, SZ_1G);
}

/* What is unmapped is gone, and nothing else is. */
TEST_F_TIMEOUT(vmap, partial_vunmap, MINUTES(2))
{
	static const struct { __u64 first, nr; } cuts[] = {
		{ 5, 1 }, { 0, 1 }, { 511, 1 }, { 511, 2 }, { 0, 512 }, { 100, 900 },
		{ 1023, 512 }, { 2047, 1 },
	};
	int b = alloc_pages(self->fd, 10, 2, variant->folios);
	struct test_huge_vmap_piece p = piece(b, 0, 2048, 1);
	struct test_huge_vmap_leaves l;
	struct area a = {};

	ASSERT_GE(b, 0);
	for (int i = 0; i < 8; i++) {
		__u64 end = cuts[i].first + cuts[i].nr;

		ASSERT_EQ(0, map_pieces(self->fd, variant->how, &p, 1, &a));
		ASSERT_EQ(0, part(self->fd, THV_VUNMAP, &a, cuts[i].first, cuts[i].nr));
		ASSERT_TRUE(get_leaves(self->fd, &a, 0, a.nr, &l));
		EXPECT_EQ(cuts[i].nr, l.absent) TH_LOG("cut %d", i);
		EXPECT_EQ(0, l.wrong);
		if (cuts[i].first)
			EXPECT_EQ(0, part(self->fd, THV_CHECK, &a, 0, cuts[i].first));
		if (end < a.nr)
			EXPECT_EQ(0, part(self->fd, THV_CHECK, &a, end, a.nr - end));
		EXPECT_EQ(0, unmap(self->fd, &a));
	}
}

TEST_F_TIMEOUT(vmap, set_memory, MINUTES(2))
{
	int b = alloc_pages(self->fd, 10, 2, variant->folios);
	struct test_huge_vmap_piece p = piece(b, 0, 2048, 1);
	struct test_huge_vmap_leaves l;
	struct area a = {};

	ASSERT_GE(b, 0);
	for (__u64 nr = 1; nr < 1000; nr *= 9) {
		ASSERT_EQ(0, map_pieces(self->fd, variant->how, &p, 1, &a));
		ASSERT_EQ(0, part(self->fd, THV_SET_RO, &a, 700, nr));
		ASSERT_TRUE(get_leaves(self->fd, &a, 0, a.nr, &l));
		EXPECT_EQ(nr, l.readonly);
		EXPECT_EQ(0, l.absent + l.wrong);
		ASSERT_TRUE(get_leaves(self->fd, &a, 700, nr, &l));
		EXPECT_EQ(nr, l.readonly);
		EXPECT_EQ(0, part(self->fd, THV_CHECK, &a, 0, 700));
		EXPECT_EQ(0, part(self->fd, THV_CHECK, &a, 700 + nr, a.nr - 700 - nr));
		ASSERT_EQ(0, part(self->fd, THV_SET_RW, &a, 700, nr));
		ASSERT_TRUE(get_leaves(self->fd, &a, 0, a.nr, &l));
		EXPECT_EQ(0, l.readonly);
		EXPECT_EQ(0, part(self->fd, THV_CHECK, &a, 0, a.nr));
		EXPECT_EQ(0, unmap(self->fd, &a));
	}
}

/* What is mapped read-only is, in leaves of all sizes. */
TEST_F_TIMEOUT(vmap, read_only, MINUTES(2))
{
	int b = alloc_pages(self->fd, 10, 2, variant->folios);
	struct test_huge_vmap_piece p = piece(b, 3, 2045, 1);
	struct test_huge_vmap_map req = {
		.pieces = (unsigned long)&p, .nr = 1, .how = variant->how, .prot_ro = 1,
	};
	struct test_huge_vmap_leaves l;
	struct area a = { .nr = p.nr };

	if (variant->how == THV_VM_MAP_RAM)
		SKIP(return, "vm_map_ram() takes no protection");
	ASSERT_GE(b, 0);
	ASSERT_EQ(0, ioctl(self->fd, THV_MAP, &req));
	a.handle = req.handle;
	ASSERT_TRUE(get_leaves(self->fd, &a, 0, a.nr, &l));
	EXPECT_EQ(0, l.wrong + l.absent);
	EXPECT_EQ(a.nr, l.readonly);
	EXPECT_EQ(self->max == THI_4K ? 0 : 3, l.leaf[THI_2M]);
	EXPECT_EQ(0, unmap(self->fd, &a));
}

/* Where kernel memory is in /proc/kcore; -1 if it is not there */
static off_t kcore_offset(int fd, __u64 va, size_t bytes)
{
	struct elf64_hdr eh;
	struct elf64_phdr ph;

	if (pread(fd, &eh, sizeof(eh), 0) != sizeof(eh))
		return -1;
	for (int i = 0; i < eh.e_phnum; i++) {
		if (pread(fd, &ph, sizeof(ph), eh.e_phoff + i * sizeof(ph)) != sizeof(ph))
			break;
		if (ph.p_type == PT_LOAD && va >= ph.p_vaddr &&
		    va + bytes <= ph.p_vaddr + ph.p_memsz)
			return ph.p_offset + (va - ph.p_vaddr);
	}
	return -1;
}

/* Read @bytes of kernel memory; false if kcore does not have them */
static bool read_kcore(__u64 va, void *buf, size_t bytes)
{
	int fd = open("/proc/kcore", O_RDONLY);
	off_t at;
	bool ok;

	if (fd < 0)
		return false;
	at = kcore_offset(fd, va, bytes);
	ok = at >= 0 && pread(fd, buf, bytes, at) == (ssize_t)bytes;
	close(fd);
	return ok;
}

/* Who reads an area: copy_to_user(), mmap() of it, /proc/kcore, /proc/vmallocinfo */
TEST_F_TIMEOUT(vmap, readers, MINUTES(2))
{
	const size_t bytes = 4096 * SZ_4K;
	char *copy = malloc(bytes), *mapped, name[64];
	int b = alloc_pages(self->fd, 9, 8, variant->folios);
	struct test_huge_vmap_copy req = { .addr = (unsigned long)copy, .bytes = bytes };
	struct test_huge_vmap_piece p[] = {
		piece(b, 0, 2048, 1), piece(b, 4095, 1024, -1), piece(b, 2048, 1024, 1),
	};
	struct area a = {};

	ASSERT_NE(NULL, copy);
	ASSERT_GE(b, 0);
	ASSERT_EQ(0, map_pieces(self->fd, variant->how, p, 3, &a));
	ASSERT_EQ(0, part(self->fd, THV_CHECK, &a, 0, a.nr));
	req.handle = a.handle;
	ASSERT_EQ(0, ioctl(self->fd, THV_COPY, &req));

	mapped = malloc(bytes);
	ASSERT_NE(NULL, mapped);
	ASSERT_TRUE(read_kcore(a.va, mapped, bytes));
	EXPECT_EQ(0, memcmp(mapped, copy, bytes));
	free(mapped);

	if (variant->how == THV_VMAP) {
		mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd,
			      THV_MMAP + (off_t)a.handle * SZ_4K);
		ASSERT_NE(MAP_FAILED, mapped) TH_LOG("%s", strerror(errno));
		EXPECT_EQ(0, memcmp(mapped, copy, bytes));
		mapped[3 * SZ_2M + 77] = 0x5a;
		req.offset = 3 * SZ_2M + 77;
		req.bytes = 1;
		ASSERT_EQ(0, ioctl(self->fd, THV_COPY, &req));
		EXPECT_EQ(0x5a, copy[0]);
		munmap(mapped, bytes);
	}
	/* Addresses, not hashes of them */
	EXPECT_EQ(0, write_file("/proc/sys/kernel/kptr_restrict", "1"));
	snprintf(name, sizeof(name), "0x%016llx-0x%016llx", a.va,
		 a.va + bytes + (variant->how == THV_VM_MAP_RAM ? 0 : SZ_4K));
	EXPECT_TRUE(file_has("/proc/vmallocinfo", name)) TH_LOG("%s", name);
	EXPECT_EQ(0, write_file("/proc/sys/kernel/kptr_restrict", "0"));
	EXPECT_EQ(0, unmap(self->fd, &a));
	EXPECT_FALSE(read_kcore(a.va, copy, SZ_4K) && *(__u64 *)(copy + 8));
	free(copy);
}

/* The leaves that /proc/vmallocinfo shows for the area around @va; false: it is not there */
static bool shown_leaves(__u64 va, __u64 leaf[THI_NR_LEAF])
{
	FILE *f = fopen("/proc/vmallocinfo", "r");
	unsigned long long start, end;
	char *line = NULL, *p, key[8];
	bool found = false;
	size_t len = 0;

	memset(leaf, 0, THI_NR_LEAF * sizeof(*leaf));
	while (f && !found && getline(&line, &len, f) > 0) {
		if (sscanf(line, "0x%llx-0x%llx", &start, &end) != 2 || va < start ||
		    va >= end || strstr(line, " unpurged "))
			continue;
		found = true;
		for (int i = 0; i < THI_NR_LEAF; i++) {
			snprintf(key, sizeof(key), " %s=", leaf_names[i]);
			p = strstr(line, key);
			leaf[i] = p ? strtoull(p + strlen(key), NULL, 10) : 0;
		}
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

/* What is shown of area @a is what the page tables have, and just @n4k and @n2m */
#define check_shown(n4k, n2m)							\
do {										\
	__u64 _shown[THI_NR_LEAF];						\
	struct test_huge_vmap_leaves _l;					\
										\
	ASSERT_TRUE(shown_leaves(a.va, _shown));				\
	ASSERT_TRUE(get_leaves(self->fd, &a, 0, a.nr, &_l));			\
	for (int _i = 0; _i < THI_NR_LEAF; _i++) {				\
		EXPECT_EQ(_l.leaf[_i], _shown[_i]) TH_LOG("%s", leaf_names[_i]);	\
	}									\
	EXPECT_EQ((__u64)(n4k), _shown[THI_4K]);				\
	EXPECT_EQ((__u64)(n2m), _shown[THI_2M]);				\
	EXPECT_EQ(0ULL, _shown[THI_1G]);					\
} while (0)

/* /proc/vmallocinfo counts the leaves, also after a part was unmapped. */
TEST_F_TIMEOUT(vmap, vmallocinfo, MINUTES(2))
{
	int b9 = alloc_pages(self->fd, 9, 4, variant->folios);
	int b4 = alloc_pages(self->fd, 4, 8, variant->folios);
	/* 2 MiB, 64 pages in any order, and 2 MiB that are not congruent then */
	struct test_huge_vmap_piece whole = piece(b9, 0, 4 * BLOCK, 1), mixed[] = {
		piece(b9, 0, BLOCK, 1), piece(b4, 100, 64, -1), piece(b9, BLOCK, BLOCK, 1),
	};
	__u64 leaves[THI_NR_LEAF];
	const bool huge = self->max >= THI_2M;
	struct test_huge_vmap_piece few = piece(b4, 0, 16, 1);
	struct area a = {};
	char saved[16];

	if (!self->saved[0])
		SKIP(return, "no leaves are shown: CONFIG_HUGE_IOMAP is not set");
	ASSERT_GE(b9, 0);
	ASSERT_GE(b4, 0);
	/* Addresses, not hashes of them */
	ASSERT_TRUE(read_line("/proc/sys/kernel/kptr_restrict", saved, sizeof(saved)));
	ASSERT_EQ(0, write_file("/proc/sys/kernel/kptr_restrict", "1"));

	ASSERT_EQ(0, map_pieces(self->fd, variant->how, mixed, 3, &a));
	check_shown(huge ? 64 + BLOCK : 64 + 2 * BLOCK, huge ? 1 : 0);
	ASSERT_EQ(0, unmap(self->fd, &a));

	ASSERT_EQ(0, map_pieces(self->fd, variant->how, &whole, 1, &a));
	check_shown(huge ? 0 : 4 * BLOCK, huge ? 4 : 0);
	/* Inside a leaf, a whole one, and from one that is gone into the next */
	ASSERT_EQ(0, part(self->fd, THV_VUNMAP, &a, BLOCK + 200, 10));
	check_shown(huge ? BLOCK - 10 : 4 * BLOCK - 10, huge ? 3 : 0);
	ASSERT_EQ(0, part(self->fd, THV_VUNMAP, &a, 2 * BLOCK, BLOCK));
	check_shown(huge ? BLOCK - 10 : 3 * BLOCK - 10, huge ? 2 : 0);
	ASSERT_EQ(0, part(self->fd, THV_VUNMAP, &a, 3 * BLOCK - 50, 100));
	check_shown(huge ? 2 * BLOCK - 60 : 3 * BLOCK - 60, huge ? 1 : 0);
	ASSERT_EQ(0, unmap(self->fd, &a));
	EXPECT_FALSE(shown_leaves(a.va, leaves));

	/* A few pages: vm_map_ram() takes them from a block, of which none are shown. */
	ASSERT_EQ(0, map_pieces(self->fd, variant->how, &few, 1, &a));
	if (variant->how != THV_VM_MAP_RAM) {
		check_shown(16, 0);
	} else {
		ASSERT_TRUE(shown_leaves(a.va, leaves));
		EXPECT_EQ(0ULL, leaves[THI_4K] + leaves[THI_2M] + leaves[THI_1G]);
	}
	ASSERT_EQ(0, unmap(self->fd, &a));

	EXPECT_EQ(0, write_file("/proc/sys/kernel/kptr_restrict", saved));
}

#define SEEN_ROUNDS	40

struct kcore_reader {
	int fd;
	off_t first, last;		/* a word of the first page, and of the last */
	long round;			/* odd: it is being mapped, or is mapped */
	bool stop;
	long whole, torn[SEEN_ROUNDS];
};

static __u64 kcore_word(int fd, off_t at)
{
	__u64 word = 0;

	return pread(fd, &word, sizeof(word), at) == sizeof(word) ? word : 0;
}

/* The first page is there, the last one is not, and the first is still there? */
static void *watch_kcore(void *arg)
{
	struct kcore_reader *r = arg;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		long round = __atomic_load_n(&r->round, __ATOMIC_ACQUIRE);
		bool first, last, again;

		if (round % 2 == 0)
			continue;
		first = kcore_word(r->fd, r->first);
		last = kcore_word(r->fd, r->last);
		again = kcore_word(r->fd, r->first);
		if (__atomic_load_n(&r->round, __ATOMIC_ACQUIRE) != round)
			continue;
		r->torn[round / 2] += first && !last && again;
		if (first && last)
			__atomic_add_fetch(&r->whole, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

/*
 * Readers find an area when all of it is mapped: huge leaves free the page tables of
 * what was there before, and nobody may be in them. Leaves and pages in turn, at the
 * same address.
 */
TEST_F_TIMEOUT(vmap, seen_when_mapped, MINUTES(2))
{
	enum { NR = 64 * BLOCK };
	int b = alloc_pages(self->fd, 9, NR / BLOCK, variant->folios), same = 0;
	/* The first block is a leaf of both, so they are placed alike. */
	const struct test_huge_vmap_piece p[2][2] = {
		{ piece(b, 0, BLOCK, 1), piece(b, BLOCK, NR - BLOCK, 1) },
		{ piece(b, 0, BLOCK, 1), piece(b, NR - 1, NR - BLOCK, -1) },
	};
	struct kcore_reader r = { .fd = open("/proc/kcore", O_RDONLY) };
	struct area a = {};
	pthread_t thread;
	long torn = 0;
	__u64 va = 0;

	if (r.fd < 0)
		SKIP(return, "no /proc/kcore");
	ASSERT_GE(b, 0);
	/* After some rounds the same hole is found again. */
	for (int i = 0; i < 8; i++) {
		ASSERT_EQ(0, map_pieces(self->fd, variant->how, p[i % 2], 2, &a));
		/* Not zero, from now on */
		ASSERT_EQ(0, part(self->fd, THV_CHECK, &a, 0, NR));
		va = a.va;
		EXPECT_EQ(0, unmap(self->fd, &a));
		ASSERT_EQ(0, ioctl(self->fd, THV_PURGE));
	}
	r.first = kcore_offset(r.fd, va + 8, 8);
	r.last = kcore_offset(r.fd, va + (NR - 1) * SZ_4K + 8, 8);
	ASSERT_GE(r.first, 0);
	ASSERT_GE(r.last, 0);
	ASSERT_EQ(0, pthread_create(&thread, NULL, watch_kcore, &r));
	for (int i = 0; i < SEEN_ROUNDS; i++) {
		long whole = __atomic_load_n(&r.whole, __ATOMIC_ACQUIRE);

		__atomic_add_fetch(&r.round, 1, __ATOMIC_RELEASE);
		ASSERT_EQ(0, map_pieces(self->fd, variant->how, p[i % 2], 2, &a));
		/* It is seen at last. */
		if (a.va == va) {
			for (int ms = 0; ms < 5000 &&
			     __atomic_load_n(&r.whole, __ATOMIC_ACQUIRE) == whole; ms++)
				usleep(1000);
			EXPECT_LT(whole, r.whole);
			same++;
		}
		__atomic_add_fetch(&r.round, 1, __ATOMIC_RELEASE);
		torn += a.va == va ? r.torn[i] : 0;
		EXPECT_EQ(0, unmap(self->fd, &a));
		ASSERT_EQ(0, ioctl(self->fd, THV_PURGE));
	}
	__atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	close(r.fd);
	TH_LOG("%d mappings at one address, read %ld times", same, r.whole);
	EXPECT_EQ(0, torn);
	EXPECT_GT(same, SEEN_ROUNDS / 2);
}

/* A leaf is not installed where the MTRRs differ within it. */
TEST_F_TIMEOUT(vmap, mtrr, MINUTES(2))
{
	int b = alloc_pages(self->fd, 10, 2, variant->folios);
	struct test_huge_vmap_piece p = piece(b, 0, 2048, 1);
	struct test_huge_vmap_pfns req = { .nr = 2048 };
	struct test_huge_vmap_leaves l;
	__u64 pfns[2048];
	struct area a = {};
	int err;

	ASSERT_GE(b, 0);
	ASSERT_EQ(0, map_pieces(self->fd, variant->how, &p, 1, &a));
	req.handle = a.handle;
	req.addr = (unsigned long)pfns;
	ASSERT_EQ(0, ioctl(self->fd, THV_PFNS, &req));
	EXPECT_EQ(0, unmap(self->fd, &a));

	err = set_mtrr(pfns[600] * SZ_4K, SZ_4K, "uncachable");
	if (err)
		SKIP(return, "no MTRR to set: %s", strerror(err));
	EXPECT_EQ(0, map_pieces(self->fd, variant->how, &p, 1, &a));
	EXPECT_TRUE(get_leaves(self->fd, &a, 0, a.nr, &l));
	EXPECT_EQ(0, clear_mtrr(pfns[600] * SZ_4K));

	EXPECT_EQ(0, l.wrong + l.absent);
	EXPECT_EQ(self->max == THI_4K ? 0 : 3, l.leaf[THI_2M]);
	EXPECT_EQ(0, unmap(self->fd, &a));
}

static __u64 seed = 1;

static unsigned int pick(unsigned int limit)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (seed >> 33) % limit;
}

/* Part of a block of 2,048 pages: any, a short one, or whole 2 MiB; rarely backwards */
static struct test_huge_vmap_piece random_piece(__u32 block)
{
	unsigned int first = pick(2048), nr = 1 + pick(2048 - first);

	switch (pick(3)) {
	case 0:
		nr = 1 + pick(nr < 16 ? nr : 16);
		break;
	case 1:
		first &= ~(BLOCK - 1);
		nr = BLOCK * (1 + pick((2048 - first) / BLOCK));
	}
	if (!pick(8))
		return piece(block, first + nr - 1, nr, -1);
	return piece(block, first, nr, 1);
}

/* Random arrays; neither areas nor page tables nor memory are lost. */
TEST_F_TIMEOUT(vmap, random, MINUTES(15))
{
	static const unsigned int orders[] = { 0, 4, 9, 9, 10, 10 };
	const bool debug = !access("/sys/kernel/debug/fail_page_alloc", F_OK);
	const int rounds = debug ? 1000 : 10000;
	struct test_huge_vmap_piece p[MAX_PIECES];
	struct test_huge_vmap_leaves l;
	const char *wrong;
	int block[6];
	long before, after;
	__u64 leaves = 0;

	for (int i = 0; i < 6; i++) {
		block[i] = alloc_pages(self->fd, orders[i], 2048 >> orders[i],
				       variant->folios && (i & 1));
		ASSERT_GE(block[i], 0);
	}
	before = page_table_bytes();
	for (int round = 0; round < rounds; round++) {
		const int max = 1 + pick(pick(2) ? 3 : MAX_PIECES);
		unsigned int total = 0;
		struct area a = {};
		int n;

		for (n = 0; n < max; n++) {
			p[n] = random_piece(block[pick(6)]);
			total += p[n].nr;
			if (n && total > 4096)
				break;
		}
		ASSERT_EQ(0, map_pieces(self->fd, variant->how, p, n, &a));
		wrong = check_area(self->fd, &a, self->max, &l);
		ASSERT_EQ(NULL, wrong) TH_LOG("round %d: %s", round, wrong);
		leaves += l.leaf[THI_2M];
		/* The area is there under the driver's name, for the check below. */
		if (!round && variant->how != THV_VM_MAP_RAM)
			EXPECT_TRUE(file_has("/proc/vmallocinfo", " thv_"));
		if (!(round % 16))
			ASSERT_EQ(0, part(self->fd, THV_CHECK, &a, 0, a.nr));
		ASSERT_EQ(0, unmap(self->fd, &a));
	}
	TH_LOG("%llu leaves of 2 MiB in %d maps", leaves, rounds);
	if (self->max >= THI_2M)
		EXPECT_GT(leaves, (__u64)rounds / 4);
	ioctl(self->fd, THV_PURGE);
	after = page_table_bytes();
	/* Tables stay for the next mapping there, as many as addresses were used. */
	EXPECT_LE(after - before, 64 * 4096 * 16);
	EXPECT_FALSE(file_has("/proc/vmallocinfo", " thv_"));
}

/* Each allocation of a mapping fails in turn: nothing is mapped, or all. */
TEST_F_TIMEOUT(vmap, no_memory, MINUTES(5))
{
	int b = alloc_pages(self->fd, 9, 4, variant->folios), err, left, n;
	int nth = open("/proc/self/fail-nth", O_RDWR);
	struct test_huge_vmap_piece p[] = {
		piece(b, 0, BLOCK, 1), piece(b, 2047, 1536, -1),
	};
	struct area a = {};

	ASSERT_GE(b, 0);
	if (nth < 0 || !can_fail_nth())
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC or CONFIG_FAILSLAB");
	for (n = 1; n < 100; n++) {
		ASSERT_TRUE(set_fail_nth(nth, n));
		err = map_pieces(self->fd, variant->how, p, 2, &a);
		left = get_fail_nth(nth);
		ASSERT_TRUE(set_fail_nth(nth, 0));
		ASSERT_GE(left, 0);
		if (!err) {
			EXPECT_EQ(0, part(self->fd, THV_CHECK, &a, 0, a.nr));
			EXPECT_EQ(0, unmap(self->fd, &a));
		} else {
			EXPECT_EQ(ENOMEM, err);
		}
		if (left)
			break;
	}
	close(nth);
	EXPECT_GT(n, 3);
	EXPECT_LT(n, 100);
}

FIXTURE(vmap_pfn) {
	int fd;
	int max;
	__u64 bar;			/* pfn */
};

FIXTURE_SETUP(vmap_pfn)
{
	struct test_huge_iomap_bar bar;
	int fd = open_driver();

	self->fd = open(DEVICE, O_RDWR);
	if (fd < 0 || self->fd < 0)
		SKIP(return, "no test driver with a BAR");
	ASSERT_EQ(0, ioctl(fd, THI_BAR, &bar));
	close(fd);
	self->bar = bar.start / SZ_4K;
	self->max = max_leaf();
}

FIXTURE_TEARDOWN(vmap_pfn)
{
	if (self->fd >= 0)
		close(self->fd);
}

/* PUD, PMD and PTE leaves from pfns of a BAR */
TEST_F_TIMEOUT(vmap_pfn, bar, MINUTES(2))
{
	struct test_huge_vmap_piece p[3];
	struct test_huge_vmap_leaves l;
	const char *wrong;
	struct area a = {};
	static const struct { __u64 first, nr; int leaf_1g; } cases[] = {
		{ 0, PAGES_1G, 1 }, { 1, PAGES_1G, 0 }, { 511, 2 * PAGES_1G, 1 },
		{ 0, 1024, 0 }, { 3, 1300, 0 }, { 7, 20, 0 }, { 512, PAGES_1G, 0 },
	};

	for (int i = 0; i < 7; i++) {
		p[0] = piece(THV_PFN, self->bar + cases[i].first, cases[i].nr, 1);
		ASSERT_EQ(0, map_pieces(self->fd, THV_VMAP_PFN, p, 1, &a));
		wrong = check_area(self->fd, &a, self->max, &l);
		EXPECT_EQ(NULL, wrong) TH_LOG("case %d: %s", i, wrong);
		if (self->max == THI_1G)
			EXPECT_EQ(cases[i].leaf_1g, l.leaf[THI_1G]);
		EXPECT_EQ(0, unmap(self->fd, &a));
	}
	p[0] = piece(THV_PFN, self->bar + 9, 1, 1);
	p[1] = piece(THV_PFN, self->bar + 2048, 1024, 1);
	p[2] = piece(THV_PFN, self->bar + 1023, 1024, -1);
	ASSERT_EQ(0, map_pieces(self->fd, THV_VMAP_PFN, p, 3, &a));
	wrong = check_area(self->fd, &a, self->max, &l);
	EXPECT_EQ(NULL, wrong) TH_LOG("%s", wrong);
	EXPECT_EQ(self->max >= THI_2M ? 2 : 0, l.leaf[THI_2M]);
	EXPECT_EQ(0, part(self->fd, THV_VUNMAP, &a, 5, 1000));
	ASSERT_TRUE(get_leaves(self->fd, &a, 0, a.nr, &l));
	EXPECT_EQ(1000, l.absent);
	EXPECT_EQ(0, l.wrong);
	EXPECT_EQ(0, unmap(self->fd, &a));
}

/* The MTRRs may not change under the leaves. */
TEST_F_TIMEOUT(vmap_pfn, mtrr, MINUTES(2))
{
	struct test_huge_vmap_piece p[2] = {
		piece(THV_PFN, self->bar, 1024, 1), piece(THV_PFN, self->bar + 2049, 1024, 1),
	};
	const int want = watched_leaf() >= THI_2M ? EBUSY : 0;
	const __u64 base = self->bar * SZ_4K;
	struct area a = {};

	if (access("/proc/mtrr", W_OK))
		SKIP(return, "no MTRRs");
	ASSERT_EQ(0, map_pieces(self->fd, THV_VMAP_PFN, p, 2, &a));
	EXPECT_EQ(self->max >= THI_2M ? want : 0, try_mtrr(base + 5 * SZ_4K));
	EXPECT_EQ(self->max >= THI_2M ? want : 0, try_mtrr(base + 600 * SZ_4K));
	EXPECT_EQ(0, try_mtrr(base + 1030 * SZ_4K));
	/* Not congruent to the first piece: pages */
	EXPECT_EQ(0, try_mtrr(base + 2600 * SZ_4K));
	EXPECT_EQ(0, unmap(self->fd, &a));
	EXPECT_EQ(0, try_mtrr(base + 5 * SZ_4K));
	EXPECT_EQ(0, try_mtrr(base + 600 * SZ_4K));
}

/* One page is cut out of a 1 GiB leaf. */
TEST_F_TIMEOUT(vmap_pfn, cut_1g, MINUTES(2))
{
	struct test_huge_vmap_piece p = piece(THV_PFN, self->bar, PAGES_1G, 1);
	struct test_huge_vmap_leaves l;
	struct area a = {};

	if (self->max < THI_1G)
		SKIP(return, "no 1 GiB leaves");
	ASSERT_EQ(0, map_pieces(self->fd, THV_VMAP_PFN, &p, 1, &a));
	ASSERT_EQ(0, part(self->fd, THV_VUNMAP, &a, 77777, 1));
	ASSERT_TRUE(get_leaves(self->fd, &a, 0, a.nr, &l));
	EXPECT_EQ(1, l.absent);
	EXPECT_EQ(0, l.wrong);
	EXPECT_EQ(511, l.leaf[THI_2M]);
	EXPECT_EQ(511, l.leaf[THI_4K]);
	EXPECT_EQ(2, l.tables);
	EXPECT_EQ(0, unmap(self->fd, &a));
}

/* Someone else who changes a page of the same mapping at the same time */
struct partner {
	int fd;
	unsigned long cmd;
	struct area area;
	__u64 page;
	long go, done, err;
	bool stop;
};

static void *be_partner(void *arg)
{
	struct partner *p = arg;

	for (long round = 1;; round++) {
		while (__atomic_load_n(&p->go, __ATOMIC_ACQUIRE) != round)
			if (__atomic_load_n(&p->stop, __ATOMIC_ACQUIRE))
				return NULL;
		p->err = part(p->fd, p->cmd, &p->area, p->page, 1);
		__atomic_store_n(&p->done, round, __ATOMIC_RELEASE);
	}
}

FIXTURE(at_once) {
	struct partner p;
	__u64 bar;			/* pfn */
};

FIXTURE_VARIANT(at_once) {
	__u64 nr;			/* pages of a leaf */
	unsigned long cmd;		/* what the partner does */
};

FIXTURE_VARIANT_ADD(at_once, vunmap_2m) { .nr = BLOCK, .cmd = THV_VUNMAP };
FIXTURE_VARIANT_ADD(at_once, vunmap_1g) { .nr = PAGES_1G, .cmd = THV_VUNMAP };
FIXTURE_VARIANT_ADD(at_once, set_ro_2m) { .nr = BLOCK, .cmd = THV_SET_RO };
FIXTURE_VARIANT_ADD(at_once, set_ro_1g) { .nr = PAGES_1G, .cmd = THV_SET_RO };

FIXTURE_SETUP(at_once)
{
	struct test_huge_iomap_bar bar;
	int fd = open_driver();

	self->p.fd = open(DEVICE, O_RDWR);
	if (fd < 0 || self->p.fd < 0)
		SKIP(return, "no test driver with a BAR");
	ASSERT_EQ(0, ioctl(fd, THI_BAR, &bar));
	close(fd);
	self->bar = bar.start / SZ_4K;
	self->p.cmd = variant->cmd;
}

FIXTURE_TEARDOWN(at_once)
{
	if (self->p.fd >= 0)
		close(self->p.fd);
}

/*
 * One page of a leaf is unmapped, while another one is unmapped or made read-only:
 * just that has happened then.
 */
TEST_F_TIMEOUT(at_once, vunmap, MINUTES(5))
{
	const int rounds = variant->nr == BLOCK ? 400 : 60;
	const struct test_huge_vmap_piece piece_of_bar =
		piece(THV_PFN, self->bar, variant->nr, 1);
	const bool ro = variant->cmd == THV_SET_RO;
	struct partner *p = &self->p;
	struct test_huge_vmap_leaves l;
	int failed = 0;
	pthread_t thread;
	long err;

	ASSERT_EQ(0, pthread_create(&thread, NULL, be_partner, p));
	for (int i = 1; i <= rounds; i++) {
		const __u64 page = pick(variant->nr);

		do {
			p->page = pick(variant->nr);
		} while (p->page == page);
		ASSERT_EQ(0, map_pieces(p->fd, THV_VMAP_PFN, &piece_of_bar, 1, &p->area));
		__atomic_store_n(&p->go, i, __ATOMIC_RELEASE);
		/* set_memory_ro() does other things first. */
		for (int n = ro ? pick(1 << pick(18)) : 0; n > 0; n--)
			if (__atomic_load_n(&p->done, __ATOMIC_ACQUIRE) == i)
				break;
		err = part(p->fd, THV_VUNMAP, &p->area, page, 1);
		while (__atomic_load_n(&p->done, __ATOMIC_ACQUIRE) != i)
			;
		EXPECT_EQ(0, err | p->err);
		ASSERT_TRUE(get_leaves(p->fd, &p->area, 0, variant->nr, &l));
		EXPECT_EQ(0, l.wrong);
		failed += l.absent != (ro ? 1 : 2) || l.readonly != ro;
		ASSERT_TRUE(get_leaves(p->fd, &p->area, page, 1, &l));
		failed += l.absent != 1;
		ASSERT_TRUE(get_leaves(p->fd, &p->area, p->page, 1, &l));
		failed += ro ? l.readonly != 1 : l.absent != 1;
		EXPECT_EQ(0, unmap(p->fd, &p->area));
	}
	__atomic_store_n(&p->stop, true, __ATOMIC_RELEASE);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, failed) TH_LOG("of %d rounds", rounds);
}

#define MTHP		"/sys/kernel/mm/transparent_hugepage/hugepages-128kB/enabled"

/* 2 MiB of a process, of which the first and the last page are those of a THP */
FIXTURE(user_pages) {
	char saved[16];			/* of MTHP */
	int fd;
	int max;
	char *area, *mem;
};

FIXTURE_VARIANT(user_pages) {
	bool refault;			/* or exchange single pages */
};

FIXTURE_VARIANT_ADD(user_pages, refault) { .refault = true };
FIXTURE_VARIANT_ADD(user_pages, mremap) { };

/* The chosen word of "always inherit [madvise] never" */
static bool chosen_word(const char *path, char *word)
{
	char line[64], *p;

	if (!read_line(path, line, sizeof(line)))
		return false;
	p = strchr(line, '[');
	return p && sscanf(p, "[%15[^]]]", word) == 1;
}

/* Exchange two pages of @mem. */
static bool exchange(char *mem, int i, int k, char *hole)
{
	char * const from[] = { mem + i * SZ_4K, mem + k * SZ_4K, hole };
	char * const to[] = { hole, mem + i * SZ_4K, mem + k * SZ_4K };

	for (int n = 0; n < 3; n++)
		if (mremap(from[n], SZ_4K, SZ_4K, MREMAP_MAYMOVE | MREMAP_FIXED,
			   to[n]) != to[n])
			return false;
	return true;
}

FIXTURE_SETUP(user_pages)
{
	self->area = MAP_FAILED;
	self->fd = open(DEVICE, O_RDWR);
	if (self->fd < 0)
		SKIP(return, "no " DEVICE);
	if (!chosen_word(MTHP, self->saved) || write_file(MTHP, "always"))
		SKIP(return, "no " MTHP);
	self->max = max_leaf();
	self->area = mmap(NULL, 3 * SZ_2M, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->area);
	self->mem = (char *)(((unsigned long)self->area + SZ_2M - 1) & ~(SZ_2M - 1));
	ASSERT_EQ(0, madvise(self->mem, SZ_2M, MADV_HUGEPAGE));
	memset(self->mem, 0xee, SZ_2M);
	if (variant->refault) {
		ASSERT_EQ(0, madvise(self->mem + 64 * SZ_4K, 384 * SZ_4K, MADV_DONTNEED));
	} else {
		/* The memory behind it is there for that. */
		for (int i = 1; i < BLOCK; i += 4)
			ASSERT_TRUE(exchange(self->mem, i, i + 1, self->mem + SZ_2M));
	}
	for (__u64 i = 0; i < BLOCK; i++)
		*(__u64 *)(self->mem + i * SZ_4K) = i + 1;
}

FIXTURE_TEARDOWN(user_pages)
{
	if (self->saved[0])
		write_file(MTHP, self->saved);
	if (self->fd >= 0)
		close(self->fd);
	if (self->area != MAP_FAILED)
		munmap(self->area, 3 * SZ_2M);
}

/* The kernel sees the pages in the order of the process, not of the folio. */
TEST_F_TIMEOUT(user_pages, vmap, MINUTES(2))
{
	static const __u32 hows[] = { THV_VMAP, THV_VM_MAP_RAM };
	struct test_huge_vmap_pin pin = {
		.addr = (unsigned long)self->mem, .bytes = SZ_2M,
	};
	struct test_huge_vmap_copy req = { .bytes = SZ_2M };
	struct test_huge_vmap_leaves l;
	struct test_huge_vmap_piece p;
	char *copy = malloc(SZ_2M);
	struct area a;

	ASSERT_NE(NULL, copy);
	ASSERT_EQ(0, ioctl(self->fd, THV_PIN, &pin));
	p = piece(pin.block, 0, BLOCK, 1);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, map_pieces(self->fd, hows[i], &p, 1, &a));
		EXPECT_EQ(NULL, check_area(self->fd, &a, self->max, &l));
		EXPECT_EQ(0, l.wrong);
		req.handle = a.handle;
		req.addr = (unsigned long)copy;
		ASSERT_EQ(0, ioctl(self->fd, THV_COPY, &req));
		EXPECT_EQ(0, memcmp(copy, self->mem, SZ_2M));
		EXPECT_EQ(0, unmap(self->fd, &a));
	}
	free(copy);
}

/* A submission queue of 2 MiB in that memory: each entry is the one that was written. */
TEST_F_TIMEOUT(user_pages, io_uring, MINUTES(2))
{
	enum { ENTRIES = SZ_2M / sizeof(struct io_uring_sqe) };
	struct io_uring_sqe *sqes = (struct io_uring_sqe *)self->mem;
	char *rings = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct io_uring_params params = {
		.flags = IORING_SETUP_NO_MMAP | IORING_SETUP_NO_SQARRAY,
		.sq_off.user_addr = (unsigned long)sqes,
		.cq_off.user_addr = (unsigned long)rings,
	};
	const struct io_uring_cqe *cqes;
	int fd, wrong = 0;

	ASSERT_NE(MAP_FAILED, rings);
	if (access("/proc/sys/kernel/io_uring_disabled", F_OK))
		SKIP(return, "no CONFIG_IO_URING");
	fd = syscall(__NR_io_uring_setup, ENTRIES, &params);
	ASSERT_GE(fd, 0) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(ENTRIES, params.sq_entries);

	memset(sqes, 0, SZ_2M);
	for (int i = 0; i < ENTRIES; i++) {
		sqes[i].opcode = IORING_OP_NOP;
		sqes[i].user_data = i + 1;
	}
	__atomic_store_n((__u32 *)(rings + params.sq_off.tail), ENTRIES, __ATOMIC_RELEASE);
	ASSERT_EQ(ENTRIES, syscall(__NR_io_uring_enter, fd, ENTRIES, 0, 0, NULL, 0));
	ASSERT_EQ(ENTRIES, __atomic_load_n((__u32 *)(rings + params.cq_off.tail),
					   __ATOMIC_ACQUIRE));
	cqes = (struct io_uring_cqe *)(rings + params.cq_off.cqes);
	for (int i = 0; i < ENTRIES; i++)
		wrong += cqes[i].user_data != i + 1;
	EXPECT_EQ(0, wrong) TH_LOG("of %d entries", ENTRIES);
	close(fd);
	munmap(rings, SZ_2M);
}

TEST_HARNESS_MAIN
