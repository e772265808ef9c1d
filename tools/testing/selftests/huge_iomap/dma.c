// SPDX-License-Identifier: GPL-2.0
/*
 * What a device reaches by DMA, and no longer reaches: QEMU's "edu" device copies
 * between its buffer and an address of the IOMMU, which type1 or iommufd maps. Each
 * translation is used before it goes, so that it is in the IOTLB, and is tried after
 * that. Contents are compared in memory, not in the page tables: see iommu.c for those.
 */
#include "huge_iomap_iommu.h"

#include <linux/pci_regs.h>
#include <pthread.h>
#include <stdatomic.h>

#include "kselftest_harness.h"

#define HUGE_PAGES	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

/* Registers of the device, and its buffer as it sees it */
#define EDU_ID		0x00
#define EDU_SRC		0x80
#define EDU_DST		0x88
#define EDU_COUNT	0x90
#define EDU_CMD		0x98
#define  EDU_RUN	1
#define  EDU_TO_MEMORY	2
#define EDU_REGS	SZ_4K
#define EDU_BUFFER	0x40000ULL

/* What one DMA copies */
#define WORDS		64
#define BYTES		(WORDS * 4ULL)

/* Where pages are for the device: the one that fills and shows its buffer, all else */
#define IOVA_BOUNCE	SZ_1G
#define IOVA		(8 * SZ_1G)

/* Pages of an area of 4 KiB leaves: such as are not beside each other in memory */
#define NR_SMALL	8

enum api { TYPE1_V1, TYPE1_V2, IOMMUFD };

struct edu {
	enum api api;
	char name[32];
	struct vfio fd;
	__u32 ioas;
	void *reg;
	__u32 *bounce;
	char huge_pages[16];
};

/* An area of the process, and how it is to be mapped for the device */
struct area {
	char *va;
	__u64 iova, bytes, leaf;
};

static __u64 edu_read(struct edu *e, int reg)
{
	return __atomic_load_n((__u64 *)(e->reg + reg), __ATOMIC_RELAXED);
}

static void edu_write(struct edu *e, int reg, __u64 value)
{
	__atomic_store_n((__u64 *)(e->reg + reg), value, __ATOMIC_RELAXED);
}

/* One DMA, to or from the beginning of the buffer. False: it has not ended. */
static bool edu_dma(struct edu *e, __u64 iova, __u64 bytes, __u64 direction)
{
	const bool to_memory = direction == EDU_TO_MEMORY;

	edu_write(e, EDU_SRC, to_memory ? EDU_BUFFER : iova);
	edu_write(e, EDU_DST, to_memory ? iova : EDU_BUFFER);
	edu_write(e, EDU_COUNT, bytes);
	edu_write(e, EDU_CMD, EDU_RUN | direction);
	for (int i = 0; i < 10000 * SLOW; i++) {
		if (!(edu_read(e, EDU_CMD) & EDU_RUN))
			return true;
		usleep(1000);
	}
	return false;
}

static void set_words(void *p, __u32 value)
{
	for (int i = 0; i < WORDS; i++)
		store(p + 4 * i, value + i);
}

/* How many of them are there as set_words() has left them */
static int same_words(void *p, __u32 value)
{
	int n = 0;

	for (int i = 0; i < WORDS; i++)
		n += load(p + 4 * i) == value + i;
	return n;
}

/* Values that no other DMA has had */
static __u32 fresh(void)
{
	static __u32 value = 0x10000000;

	return value += 0x1000;
}

/* Let the buffer have these words. */
static bool load_buffer(struct edu *e, __u32 value)
{
	set_words(e->bounce, value);
	return edu_dma(e, IOVA_BOUNCE, BYTES, 0);
}

/* Write words at @iova. */
static bool push(struct edu *e, __u64 iova, __u32 value)
{
	return load_buffer(e, value) && edu_dma(e, iova, BYTES, EDU_TO_MEMORY);
}

/*
 * Read what is at @iova to the bounce page. What cannot be read leaves there what the
 * buffer has, or what QEMU makes of it.
 */
static bool pull(struct edu *e, __u64 iova)
{
	const __u32 poison = fresh();

	if (!edu_dma(e, iova, BYTES, 0))
		return false;
	set_words(e->bounce, poison);
	return edu_dma(e, IOVA_BOUNCE, BYTES, EDU_TO_MEMORY) &&
	       !same_words(e->bounce, poison);
}

/* 0 or an errno */
static int map_bytes(struct edu *e, void *va, __u64 iova, __u64 bytes)
{
	return e->api == IOMMUFD ? ioas_map_ram(&e->fd, e->ioas, va, iova, bytes) :
				   type1_map(&e->fd, va, iova, bytes, RW);
}

/* 0 or an errno; @done: how many bytes */
static int unmap_bytes(struct edu *e, __u64 iova, __u64 bytes, __u64 *done)
{
	struct vfio_iommu_type1_dma_unmap type1 = {
		.argsz = sizeof(type1), .iova = iova, .size = bytes,
	};
	struct iommu_ioas_unmap ioas = {
		.size = sizeof(ioas), .ioas_id = e->ioas, .iova = iova, .length = bytes,
	};
	const int err = e->api == IOMMUFD ?
		ioctl(e->fd.container, IOMMU_IOAS_UNMAP, &ioas) :
		ioctl(e->fd.container, VFIO_IOMMU_UNMAP_DMA, &type1);

	*done = err ? 0 : e->api == IOMMUFD ? ioas.length : type1.size;
	return err ? errno : 0;
}

static int map_area(struct edu *e, const struct area *a)
{
	return map_bytes(e, a->va, a->iova, a->bytes);
}

static int unmap_area(struct edu *e, const struct area *a)
{
	__u64 done;
	int err = unmap_bytes(e, a->iova, a->bytes, &done);

	return err ?: done == a->bytes ? 0 : ERANGE;
}

/* Pages that follow each other at no place in memory, whatever the file's pages do */
static char *small_pages(int nr)
{
	int fd = memfd_create("dma", 0);
	char *va = reserve(nr * SZ_4K);

	if (fd < 0 || !va || ftruncate(fd, nr * SZ_4K))
		return NULL;
	for (int i = 0; i < nr; i++)
		if (map_at(fd, 0, va + i * SZ_4K, i * 3 % nr * SZ_4K, SZ_4K) == MAP_FAILED)
			return NULL;
	close(fd);
	memset(va, 0, nr * SZ_4K);
	return va;
}

/* Of hugetlbfs; NULL if there are not so many */
static char *huge_pages(int nr, int shift)
{
	char *va = mmap(NULL, (__u64)nr << shift, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE |
			(shift << MAP_HUGE_SHIFT), -1, 0);

	return va == MAP_FAILED ? NULL : va;
}

/* An area of such leaves. False if there is not so much memory. */
static bool get_area(struct area *a, int leaf, __u64 iova)
{
	static const int nr[] = { NR_SMALL, 3, 1 };

	*a = (struct area) {
		.iova = iova, .leaf = leaf_sizes[leaf], .bytes = nr[leaf] * leaf_sizes[leaf],
	};
	a->va = leaf == THI_4K ? small_pages(nr[leaf]) :
		huge_pages(nr[leaf], leaf == THI_1G ? 30 : 21);
	return a->va;
}

static void put_area(struct area *a)
{
	if (a->va)
		munmap(a->va, a->bytes);
}

/* Is it mapped with these leaves, and no other? True where that cannot be read. */
static bool has_leaves(struct edu *e, const struct area *a)
{
	struct io_table t = {};
	__u64 leaves[THI_NR_LEAF] = {};
	bool good = true;

	if (!read_io_table_of(e->name, &t))
		return access(IO_PAGE_TABLES, F_OK);
	for (long i = 0; i < t.nr; i++)
		for (int j = 0; j < THI_NR_LEAF; j++)
			if (t.entry[i].iova - a->iova < a->bytes &&
			    t.entry[i].bytes == leaf_sizes[j])
				leaves[j] += leaf_sizes[j];
	free(t.entry);
	for (int j = 0; j < THI_NR_LEAF; j++)
		good &= leaves[j] == (leaf_sizes[j] == a->leaf ? a->bytes : 0);
	return good;
}

#define NR_PLACES	3

/* Places in an area: in the first leaf, in the middle of all, at the end */
static __u64 place(const struct area *a, int i)
{
	return i == 0 ? 0 : i == 1 ? a->bytes / 2 + 3 * BYTES : a->bytes - BYTES;
}

/* DMA in both directions at an IOVA that @va is mapped at */
#define EXPECT_REACHES(iova, va) do {					\
	const __u32 to_ = fresh(), from_ = fresh();			\
	const __u64 iova_ = iova;					\
	char *va_ = va;							\
	ASSERT_TRUE(push(&self->edu, iova_, to_));			\
	EXPECT_EQ(WORDS, same_words(va_, to_)) TH_LOG("%#llx", iova_);	\
	set_words(va_, from_);						\
	ASSERT_TRUE(pull(&self->edu, iova_));				\
	EXPECT_EQ(WORDS, same_words(self->edu.bounce, from_))		\
		TH_LOG("%#llx", iova_);					\
} while (0)

/* No longer: it neither writes nor reads what it would reach by the old translation. */
#define EXPECT_BLOCKED(iova, va) do {					\
	const __u32 old_ = fresh();					\
	const __u64 iova_ = iova;					\
	char *va_ = va;							\
	set_words(va_, old_);						\
	ASSERT_TRUE(push(&self->edu, iova_, fresh()));			\
	EXPECT_EQ(WORDS, same_words(va_, old_)) TH_LOG("%#llx", iova_);	\
	set_words(va_, old_);						\
	ASSERT_TRUE(pull(&self->edu, iova_));				\
	EXPECT_EQ(0, same_words(self->edu.bounce, old_))		\
		TH_LOG("%#llx", iova_);					\
} while (0)

/* If QEMU is not told otherwise, the device ignores all but 28 bits of an address. */
static bool short_mask(struct edu *e)
{
	const __u32 value = fresh();
	char *low = small_pages(1);
	bool found;
	__u64 done;

	if (!low || map_bytes(e, low, IOVA_BOUNCE % (1 << 28), SZ_4K))
		return false;
	set_words(low, value);
	found = edu_dma(e, IOVA_BOUNCE, BYTES, 0);
	set_words(low, fresh());
	found = found && edu_dma(e, IOVA_BOUNCE, BYTES, EDU_TO_MEMORY) &&
		same_words(low, value);
	unmap_bytes(e, IOVA_BOUNCE % (1 << 28), SZ_4K, &done);
	munmap(low, SZ_4K);
	return found;
}

/* The device for DMA, with its bounce page mapped. NULL, or what is missing. */
static const char *open_edu(struct edu *e, enum api api)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR0_REGION_INDEX,
	};
	__u16 command;
	__u64 config;

	*e = (struct edu) {
		.api = api, .fd = { .device = -1, .container = -1, .group = -1 },
	};
	if (!find_pci("0x1234", "0x11e8", 0, e->name, sizeof(e->name)))
		return "no edu device";
	read_line(HUGE_PAGES, e->huge_pages, sizeof(e->huge_pages));
	if (bind_device(e->name, "vfio-pci"))
		return "no vfio-pci";
	if (api == IOMMUFD ? !open_cdev_of(e->name, &e->fd) || attach_ioas(&e->fd, &e->ioas) :
	    !open_group_of(e->name, api == TYPE1_V1 ? VFIO_TYPE1_IOMMU : VFIO_TYPE1v2_IOMMU,
			   &e->fd))
		return "no IOMMU";
	if (ioctl(e->fd.device, VFIO_DEVICE_GET_REGION_INFO, &info))
		return "no registers";
	e->reg = mmap(NULL, EDU_REGS, PROT_READ | PROT_WRITE, MAP_SHARED, e->fd.device,
		      info.offset);
	config = config_offset(&e->fd);
	if (e->reg == MAP_FAILED || !config ||
	    pread(e->fd.device, &command, 2, config + PCI_COMMAND) != 2)
		return "no registers";
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(e->fd.device, &command, 2, config + PCI_COMMAND) != 2)
		return "no bus master";
	e->bounce = (void *)small_pages(1);
	if (!e->bounce || map_bytes(e, e->bounce, IOVA_BOUNCE, SZ_4K))
		return "no bounce page";
	return short_mask(e) ? "edu is without dma_mask=0xffffffffffffffff" : NULL;
}

static void close_edu(struct edu *e)
{
	if (e->reg && e->reg != MAP_FAILED)
		munmap(e->reg, EDU_REGS);
	close_vfio(&e->fd);
	if (e->bounce)
		munmap(e->bounce, SZ_4K);
	if (e->name[0])
		bind_device(e->name, "\n");
	if (e->huge_pages[0])
		write_file(HUGE_PAGES, e->huge_pages);
}

FIXTURE(dma) {
	struct edu edu;
	struct area a, small;
	char *near[2];		/* pages before and after the area, in IOVA */
};

FIXTURE_VARIANT(dma) {
	enum api api;
	int leaf;
};

FIXTURE_VARIANT_ADD(dma, type1_4k) { .api = TYPE1_V2, .leaf = THI_4K };
FIXTURE_VARIANT_ADD(dma, type1_2m) { .api = TYPE1_V2, .leaf = THI_2M };
FIXTURE_VARIANT_ADD(dma, type1_1g) { .api = TYPE1_V2, .leaf = THI_1G };
FIXTURE_VARIANT_ADD(dma, type1v1_2m) { .api = TYPE1_V1, .leaf = THI_2M };
FIXTURE_VARIANT_ADD(dma, iommufd_4k) { .api = IOMMUFD, .leaf = THI_4K };
FIXTURE_VARIANT_ADD(dma, iommufd_2m) { .api = IOMMUFD, .leaf = THI_2M };
FIXTURE_VARIANT_ADD(dma, iommufd_1g) { .api = IOMMUFD, .leaf = THI_1G };

FIXTURE_SETUP(dma)
{
	const char *missing = open_edu(&self->edu, variant->api);
	/* Pages at an odd place: a flush of a power of two has to cover all of them. */
	const __u64 iova = variant->leaf == THI_4K ? IOVA + 5 * SZ_4K :
						     IOVA + leaf_sizes[variant->leaf];

	if (missing)
		SKIP(return, "%s: %s", missing, strerror(errno));
	ASSERT_EQ(0xed, load(self->edu.reg + EDU_ID) & 0xff);
	ASSERT_EQ(0, write_file(HUGE_PAGES, "8"));
	if (!get_area(&self->a, variant->leaf, iova))
		SKIP(return, "no memory in pages of %s", leaf_names[variant->leaf]);
	ASSERT_TRUE(get_area(&self->small, THI_4K, iova));
	ASSERT_EQ(0, map_area(&self->edu, &self->a));
	EXPECT_TRUE(has_leaves(&self->edu, &self->a));
	for (int i = 0; i < 2; i++) {
		self->near[i] = small_pages(1);
		ASSERT_NE(NULL, self->near[i]);
		ASSERT_EQ(0, map_bytes(&self->edu, self->near[i],
				       i ? iova + self->a.bytes : iova - SZ_4K, SZ_4K));
	}
}

FIXTURE_TEARDOWN(dma)
{
	for (int i = 0; i < 2; i++)
		if (self->near[i])
			munmap(self->near[i], SZ_4K);
	put_area(&self->a);
	put_area(&self->small);
	close_edu(&self->edu);
}

#define EXPECT_AREA(what, of) do {					\
	const struct area *a_ = of;					\
	for (int i_ = 0; i_ < NR_PLACES; i_++)				\
		what(a_->iova + place(a_, i_), a_->va + place(a_, i_));	\
} while (0)

#define EXPECT_NEIGHBOURS() do {					\
	EXPECT_REACHES(self->a.iova - BYTES, self->near[0] + SZ_4K - BYTES); \
	EXPECT_REACHES(self->a.iova + self->a.bytes, self->near[1]);	\
} while (0)

/* Nothing of what is unmapped is reached, and all that is beside it. */
TEST_F_TIMEOUT(dma, unmap, MINUTES(3))
{
	const __u64 end = self->a.iova + self->a.bytes;
	__u32 value, last;

	EXPECT_NEIGHBOURS();
	EXPECT_AREA(EXPECT_REACHES, &self->a);
	ASSERT_EQ(0, unmap_area(&self->edu, &self->a));
	EXPECT_AREA(EXPECT_BLOCKED, &self->a);
	EXPECT_NEIGHBOURS();

	/* A DMA over the end of it: the neighbour has its half. */
	value = fresh();
	last = fresh();
	set_words(self->a.va + self->a.bytes - BYTES, last);
	ASSERT_TRUE(push(&self->edu, end - BYTES / 2, value));
	EXPECT_EQ(WORDS, same_words(self->a.va + self->a.bytes - BYTES, last));
	EXPECT_EQ(value + WORDS / 2, load(self->near[1]));
	EXPECT_EQ(value + WORDS - 1, load(self->near[1] + BYTES / 2 - 4));
}

/* All of it at once, with what is beside it: several mappings, one unmap. */
TEST_F_TIMEOUT(dma, unmap_span, MINUTES(3))
{
	const __u64 bytes = self->a.bytes + 2 * SZ_4K, iova = self->a.iova - SZ_4K;
	__u64 done;

	EXPECT_NEIGHBOURS();
	EXPECT_AREA(EXPECT_REACHES, &self->a);
	ASSERT_EQ(0, unmap_bytes(&self->edu, iova, bytes, &done));
	EXPECT_EQ(bytes, done);
	EXPECT_AREA(EXPECT_BLOCKED, &self->a);
	EXPECT_BLOCKED(iova, self->near[0]);
	EXPECT_BLOCKED(iova + bytes - BYTES, self->near[1] + SZ_4K - BYTES);
}

/* The same IOVA for other memory, in leaves of another size: that is reached. */
TEST_F_TIMEOUT(dma, remap, MINUTES(3))
{
	const struct area *a = &self->a, *small = &self->small;
	__u32 kept[NR_PLACES];

	EXPECT_AREA(EXPECT_REACHES, a);
	for (int i = 0; i < NR_PLACES; i++) {
		kept[i] = fresh();
		set_words(a->va + place(a, i), kept[i]);
	}
	ASSERT_EQ(0, unmap_area(&self->edu, a));
	ASSERT_EQ(0, map_area(&self->edu, small));
	EXPECT_TRUE(has_leaves(&self->edu, small));
	EXPECT_AREA(EXPECT_REACHES, small);
	for (int i = 0; i < NR_PLACES; i++) {
		EXPECT_EQ(WORDS, same_words(a->va + place(a, i), kept[i]))
			TH_LOG("%d", i);
	}
	/* What the new mapping does not reach to is not there. */
	if (small->bytes < a->bytes)
		EXPECT_BLOCKED(a->iova + a->bytes - BYTES, a->va + a->bytes - BYTES);

	for (int i = 0; i < NR_PLACES; i++) {
		kept[i] = fresh();
		set_words(small->va + place(small, i), kept[i]);
	}
	ASSERT_EQ(0, unmap_area(&self->edu, small));
	ASSERT_EQ(0, map_area(&self->edu, a));
	EXPECT_TRUE(has_leaves(&self->edu, a));
	EXPECT_AREA(EXPECT_REACHES, a);
	/* At the places where the small pages were */
	for (int i = 0; i < NR_PLACES; i++) {
		EXPECT_REACHES(a->iova + place(small, i), a->va + place(small, i));
		EXPECT_EQ(WORDS, same_words(small->va + place(small, i), kept[i]))
			TH_LOG("%d", i);
	}
	EXPECT_NEIGHBOURS();
}

/* Part of a mapping: refused, with all of it in place, or all of it goes (type1 v1). */
TEST_F_TIMEOUT(dma, partial, MINUTES(3))
{
	const __u64 iova = self->a.iova, half = self->a.bytes / 2 & -SZ_4K;
	static const int refused[] = {
		[TYPE1_V1] = 0, [TYPE1_V2] = EINVAL, [IOMMUFD] = ENOENT,
	};
	__u64 done;

	/* From within it on, and up to its last page but one */
	EXPECT_EQ(refused[variant->api],
		  unmap_bytes(&self->edu, iova + SZ_4K, self->a.bytes - SZ_4K, &done));
	EXPECT_EQ(0, done);
	EXPECT_AREA(EXPECT_REACHES, &self->a);
	/* From its first page on */
	EXPECT_EQ(refused[variant->api], unmap_bytes(&self->edu, iova, half, &done));
	if (variant->api == TYPE1_V1) {
		EXPECT_EQ(self->a.bytes, done);
		EXPECT_AREA(EXPECT_BLOCKED, &self->a);
	} else {
		EXPECT_EQ(0, done);
		EXPECT_AREA(EXPECT_REACHES, &self->a);
		EXPECT_TRUE(has_leaves(&self->edu, &self->a));
	}
	EXPECT_NEIGHBOURS();
}

/* A thread that maps and unmaps B, while the device uses A and B */
struct churn {
	struct edu *edu;
	struct area b;
	atomic_uint changes;	/* odd: about to change, or changing */
	atomic_bool mapped, stop;
	atomic_int err, cycles;
};

static void *churn(void *arg)
{
	struct churn *c = arg;
	unsigned int seed = 1;

	for (bool map = true; !c->stop; map = !map) {
		c->changes++;
		if (c->mapped)
			c->err = c->err ?: unmap_area(c->edu, &c->b);
		for (int i = 0; i < 20; i++) {
			c->err = c->err ?: map_area(c->edu, &c->b);
			c->err = c->err ?: unmap_area(c->edu, &c->b);
			c->cycles++;
		}
		if (map)
			c->err = c->err ?: map_area(c->edu, &c->b);
		c->mapped = map;
		c->changes++;
		/* A DMA takes 100 ms. Not in step with the other thread */
		usleep(150000 + rand_r(&seed) % 500000);
	}
	return NULL;
}

TEST_F_TIMEOUT(dma, load, MINUTES(4))
{
	const struct area *a = &self->a;
	struct churn c = { .edu = &self->edu };
	int reached = 0, blocked = 0;
	__u64 in_b;
	pthread_t thread;
	__u64 done;

	/* In place of the page after A */
	ASSERT_EQ(0, unmap_bytes(&self->edu, a->iova + a->bytes, SZ_4K, &done));
	ASSERT_TRUE(get_area(&c.b, variant->leaf == THI_4K ? THI_4K : THI_2M,
			     a->iova + a->bytes));
	/* Always the same place: what was reached there is in the IOTLB later. */
	in_b = place(&c.b, 1);
	ASSERT_EQ(0, pthread_create(&thread, NULL, churn, &c));
	for (int i = 0; i < 60 && (i < 8 || reached < 2 || blocked < 2); i++) {
		const __u64 in_a = place(a, i % NR_PLACES);
		const __u32 value = fresh(), old = fresh();
		unsigned int changes;
		bool mapped;
		int n;

		ASSERT_TRUE(load_buffer(&self->edu, value));
		set_words(c.b.va + in_b, old);
		changes = c.changes;
		mapped = c.mapped;
		ASSERT_TRUE(edu_dma(&self->edu, c.b.iova + in_b, BYTES, EDU_TO_MEMORY));
		n = same_words(c.b.va + in_b, value);
		if (changes % 2 == 0 && changes == c.changes) {
			EXPECT_EQ(mapped ? WORDS : 0, n);
			EXPECT_EQ(mapped ? 0 : WORDS, same_words(c.b.va + in_b, old));
			reached += mapped;
			blocked += !mapped;
		} else {
			EXPECT_EQ(WORDS, n + same_words(c.b.va + in_b, old));
		}
		ASSERT_TRUE(edu_dma(&self->edu, a->iova + in_a, BYTES, EDU_TO_MEMORY));
		EXPECT_EQ(WORDS, same_words(a->va + in_a, value)) TH_LOG("%d", i);
		set_words(a->va + in_a, old);
		ASSERT_TRUE(pull(&self->edu, a->iova + in_a));
		EXPECT_EQ(WORDS, same_words(self->edu.bounce, old)) TH_LOG("%d", i);
	}
	c.stop = true;
	pthread_join(thread, NULL);
	TH_LOG("%d cycles, B reached %d times, blocked %d times", c.cycles, reached, blocked);
	EXPECT_EQ(0, c.err);
	EXPECT_LE(2, reached);
	EXPECT_LE(2, blocked);
	EXPECT_LE(40, c.cycles);
	put_area(&c.b);
}

/*
 * One flush for one unmap, as wide as it has to be: a reader of QEMU's trace finds the
 * unmap that a line tells of between those of two pages, which are the marks.
 */
#define IOVA_MARK	(32 * SZ_1G)

static int mark(struct edu *e, __u64 iova)
{
	__u64 done;

	return map_bytes(e, e->bounce, iova, SZ_4K) ?: unmap_bytes(e, iova, SZ_4K, &done);
}

#define UNMAP_MARKED(e, nr, iova, bytes) do {				\
	const __u64 mark_ = IOVA_MARK + 2 * (nr) * SZ_4K;		\
	const __u64 iova_ = iova, bytes_ = bytes;			\
	struct edu *edu_ = e;						\
	__u64 done_;							\
	ASSERT_EQ(0, mark(edu_, mark_));				\
	ASSERT_EQ(0, unmap_bytes(edu_, iova_, bytes_, &done_));		\
	EXPECT_EQ(bytes_, done_);					\
	ASSERT_EQ(0, mark(edu_, mark_ + SZ_4K));			\
	TH_LOG("width of unmap: mark %#llx iova %#llx bytes %#llx",	\
	       mark_, iova_, bytes_);					\
} while (0)

TEST_F_TIMEOUT(dma, width, MINUTES(1))
{
	/* One leaf, several at an odd place, and what is at a multiple of its size */
	const struct { __u64 iova, bytes; } unmaps[] = {
		{ self->a.iova, self->a.leaf },
		{ self->a.iova, self->a.bytes },
		{ 2 * self->a.iova / self->a.bytes * self->a.bytes, self->a.bytes },
	};
	const int first = (variant->api * THI_NR_LEAF + variant->leaf) * 3;

	ASSERT_EQ(0, unmap_area(&self->edu, &self->a));
	for (int i = 0; i < (self->a.bytes > self->a.leaf ? ARRAY_SIZE(unmaps) : 1); i++) {
		ASSERT_EQ(0, map_bytes(&self->edu, self->a.va, unmaps[i].iova,
				       unmaps[i].bytes));
		UNMAP_MARKED(&self->edu, first + i, unmaps[i].iova, unmaps[i].bytes);
	}
}

/* The BAR of another device as the target: by its mapping, or by a dma-buf */
FIXTURE(peer) {
	struct edu edu;
	struct vfio fd;
	struct area a;
	__u64 bar, config, offset;
	int mem, file;
};

FIXTURE_VARIANT(peer) {
	enum api api;
	int leaf;
};

FIXTURE_VARIANT_ADD(peer, type1_4k) { .api = TYPE1_V2, .leaf = THI_4K };
FIXTURE_VARIANT_ADD(peer, type1_2m) { .api = TYPE1_V2, .leaf = THI_2M };
FIXTURE_VARIANT_ADD(peer, type1_1g) { .api = TYPE1_V2, .leaf = THI_1G };
FIXTURE_VARIANT_ADD(peer, iommufd_4k) { .api = IOMMUFD, .leaf = THI_4K };
FIXTURE_VARIANT_ADD(peer, iommufd_2m) { .api = IOMMUFD, .leaf = THI_2M };
FIXTURE_VARIANT_ADD(peer, iommufd_1g) { .api = IOMMUFD, .leaf = THI_1G };

static int map_bar(struct edu *e, int file, const struct area *a)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .ioas_id = e->ioas, .fd = file, .length = a->bytes,
		.iova = a->iova,
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_FIXED_IOVA,
	};

	if (e->api != IOMMUFD)
		return map_area(e, a);
	return ioctl(e->fd.container, IOMMU_IOAS_MAP_FILE, &map) ? errno : 0;
}

FIXTURE_SETUP(peer)
{
	const char *missing = open_edu(&self->edu, variant->api);
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR2_REGION_INDEX,
	};
	/* Leaves of this size, and none larger; 1 GiB is at a multiple of that in the BAR. */
	const __u64 leaf = leaf_sizes[variant->leaf];

	self->fd = (struct vfio) { .device = -1, .container = -1, .group = -1 };
	self->file = -1;
	if (missing)
		SKIP(return, "%s: %s", missing, strerror(errno));
	self->a = (struct area) {
		.iova = IOVA + leaf, .leaf = leaf,
		.bytes = (variant->leaf == THI_1G ? 2 : 3) * leaf,
	};
	self->bar = bar_start();
	ASSERT_NE(0, self->bar);
	self->mem = open("/dev/mem", O_RDWR | O_SYNC);
	ASSERT_GE(self->mem, 0);
	ASSERT_EQ(0, bind_to("vfio-pci"));
	ASSERT_TRUE(variant->api == IOMMUFD ? open_cdev(&self->fd) : open_group(&self->fd))
		TH_LOG("%s", strerror(errno));
	self->config = config_offset(&self->fd);
	ASSERT_NE(0, self->config);
	ASSERT_EQ(0, ioctl(self->fd.device, VFIO_DEVICE_GET_REGION_INFO, &info));
	if (variant->api == IOMMUFD) {
		self->file = bar_dmabuf(&self->fd, leaf, self->a.bytes);
		if (self->file < 0 && errno == ENOTTY)
			SKIP(return, "no CONFIG_VFIO_PCI_DMABUF");
		ASSERT_GE(self->file, 0) TH_LOG("%s", strerror(errno));
	} else {
		/* Congruent, as vfio-pci places it. */
		self->a.va = mmap(NULL, self->a.bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
				  self->fd.device, info.offset + leaf);
		ASSERT_NE(MAP_FAILED, self->a.va);
	}
	ASSERT_EQ(0, map_bar(&self->edu, self->file, &self->a));
	EXPECT_TRUE(has_leaves(&self->edu, &self->a));
}

FIXTURE_TEARDOWN(peer)
{
	if (self->a.va)
		munmap(self->a.va, self->a.bytes);
	close(self->file);
	close(self->mem);
	close_vfio(&self->fd);
	bind_to("\n");
	close_edu(&self->edu);
}

/* The BAR by /dev/mem, at a place of the area */
#define AT_PLACES(what) do {						\
	for (int i_ = 0; i_ < NR_PLACES; i_++) {			\
		const __u64 at_ = place(&self->a, i_);			\
		char *page_ = (char *)page_of(self->mem, self->bar + self->a.leaf + \
					      (at_ & -SZ_4K));		\
		ASSERT_NE(NULL, page_);					\
		what(self->a.iova + at_, page_ + at_ % SZ_4K);		\
		munmap(page_, SZ_4K);					\
	}								\
} while (0)

TEST_F_TIMEOUT(peer, unmap, MINUTES(2))
{
	AT_PLACES(EXPECT_REACHES);
	ASSERT_EQ(0, unmap_area(&self->edu, &self->a));
	AT_PLACES(EXPECT_BLOCKED);
	ASSERT_EQ(0, map_bar(&self->edu, self->file, &self->a));
	AT_PLACES(EXPECT_REACHES);
}

/*
 * The BAR is disabled and enabled again: its dma-buf was revoked, and stays so where it
 * is mapped. Type1 does not hear of it, and keeps what it maps until it is told.
 */
TEST_F_TIMEOUT(peer, decode_off, MINUTES(2))
{
	AT_PLACES(EXPECT_REACHES);
	ASSERT_EQ(0, memory_enable(&self->fd, self->config, false));
	busy_wait(1000);
	ASSERT_EQ(0, memory_enable(&self->fd, self->config, true));
	busy_wait(1000);
	if (variant->api != IOMMUFD)
		ASSERT_EQ(0, unmap_area(&self->edu, &self->a));
	AT_PLACES(EXPECT_BLOCKED);
}

/* Its file is closed: there is no one left who could revoke it later. */
TEST_F_TIMEOUT(peer, closed, MINUTES(2))
{
	AT_PLACES(EXPECT_REACHES);
	close_vfio(&self->fd);
	self->fd = (struct vfio) { .device = -1, .container = -1, .group = -1 };
	/* A mapping keeps the file open. */
	if (variant->api != IOMMUFD) {
		munmap(self->a.va, self->a.bytes);
		self->a.va = NULL;
		ASSERT_EQ(0, unmap_area(&self->edu, &self->a));
	}
	/* The other driver enables the BAR. */
	ASSERT_EQ(0, bind_to("\n"));
	AT_PLACES(EXPECT_BLOCKED);
}

TEST_F_TIMEOUT(peer, width, MINUTES(1))
{
	const int first = (6 + (variant->api == IOMMUFD)) * THI_NR_LEAF * 3 + variant->leaf;

	UNMAP_MARKED(&self->edu, first, self->a.iova, self->a.bytes);
}

TEST_HARNESS_MAIN
