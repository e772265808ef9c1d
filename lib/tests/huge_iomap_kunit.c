// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the arithmetic in include/linux/huge_iomap.h: which leaf fits,
 * and which virtual address to choose; and of get_ioremap_area(), which chooses.
 */
#include <kunit/test.h>
#include <linux/mm.h>	/* before ioremap.h: it uses high_memory on 32-bit x86 */
#include <linux/huge_iomap.h>
#include <linux/ioremap.h>
#include <linux/prandom.h>
#include <linux/sizes.h>
#include <linux/vmalloc.h>

/* Where the vmalloc area starts with 4 and with 5 levels, or any aligned address. */
#ifdef CONFIG_X86_64
#define VA_4LEVEL	0xffffc90000000000UL
#define VA_5LEVEL	0xffa0000000000000UL
#else
#define VA_4LEVEL	0x40000000UL
#define VA_5LEVEL	0x80000000UL
#endif

struct leaf_case {
	const char *name;
	unsigned long va;
	phys_addr_t pa;
	unsigned long bytes;
	unsigned int max_shift;
	unsigned int want;
};

static const struct leaf_case leaf_cases[] = {
	{ "aligned, one PUD, 4-level",
	  VA_4LEVEL, PUD_SIZE, PUD_SIZE, PUD_SHIFT, PUD_SHIFT },
	{ "aligned, one PUD, 5-level",
	  VA_5LEVEL, PUD_SIZE, PUD_SIZE, PUD_SHIFT, PUD_SHIFT },
	{ "aligned, longer than a PUD",
	  VA_4LEVEL, PUD_SIZE, PUD_SIZE + PAGE_SIZE, PUD_SHIFT, PUD_SHIFT },
	{ "aligned, one page short of a PUD",
	  VA_4LEVEL, PUD_SIZE, PUD_SIZE - PAGE_SIZE, PUD_SHIFT, PMD_SHIFT },
	{ "va odd by a PMD",
	  VA_4LEVEL + PMD_SIZE, PUD_SIZE, PUD_SIZE, PUD_SHIFT, PMD_SHIFT },
	{ "pa odd by a PMD",
	  VA_4LEVEL, PUD_SIZE + PMD_SIZE, PUD_SIZE, PUD_SHIFT, PMD_SHIFT },
	{ "both odd by a PMD",
	  VA_4LEVEL + PMD_SIZE, PMD_SIZE, PUD_SIZE, PUD_SHIFT, PMD_SHIFT },
	{ "va odd by a page",
	  VA_4LEVEL + PAGE_SIZE, 0, PUD_SIZE, PUD_SHIFT, PAGE_SHIFT },
	{ "pa odd by a page",
	  VA_4LEVEL, PAGE_SIZE, PUD_SIZE, PUD_SHIFT, PAGE_SHIFT },
	{ "both odd by a page",
	  VA_4LEVEL + PAGE_SIZE, PAGE_SIZE, PUD_SIZE, PUD_SHIFT, PAGE_SHIFT },
	{ "one PMD",
	  VA_4LEVEL, PMD_SIZE, PMD_SIZE, PUD_SHIFT, PMD_SHIFT },
	{ "one page short of a PMD",
	  VA_4LEVEL, PMD_SIZE, PMD_SIZE - PAGE_SIZE, PUD_SHIFT, PAGE_SHIFT },
	{ "one page", VA_4LEVEL, 0, PAGE_SIZE, PUD_SHIFT, PAGE_SHIFT },
	{ "nothing", VA_4LEVEL, 0, 0, PUD_SHIFT, PAGE_SHIFT },
	{ "bound PMD", VA_4LEVEL, 0, PUD_SIZE, PMD_SHIFT, PMD_SHIFT },
	{ "bound page", VA_4LEVEL, 0, PUD_SIZE, PAGE_SHIFT, PAGE_SHIFT },
	{ "va wraps around", -PMD_SIZE, 0, PUD_SIZE, PUD_SHIFT, PAGE_SHIFT },
	{ "va ends at the top", -PMD_SIZE, 0, PMD_SIZE, PUD_SHIFT, PMD_SHIFT },
	{ "pa wraps around", VA_4LEVEL, -(phys_addr_t)PMD_SIZE, PUD_SIZE,
	  PUD_SHIFT, PAGE_SHIFT },
	{ "pa ends at the top", VA_4LEVEL, -(phys_addr_t)PMD_SIZE, PMD_SIZE,
	  PUD_SHIFT, PMD_SHIFT },
};

KUNIT_ARRAY_PARAM_DESC(leaf, leaf_cases, name);

static void leaf_shift_test(struct kunit *test)
{
	const struct leaf_case *c = test->param_value;

	KUNIT_EXPECT_EQ(test, c->want,
			huge_iomap_leaf_shift(c->va, c->pa, c->bytes,
					      c->max_shift));
}

/*
 * Congruent means that some range of these addresses has the leaf: one that begins where
 * the first aligned address is, and is long enough.
 */
static void check_why(struct kunit *test, unsigned long va, phys_addr_t pa,
		      unsigned long bytes, unsigned int shift)
{
	const unsigned long size = 1UL << shift, head = -va & (size - 1);
	const bool wraps = va + (bytes - 1) < va || pa + (bytes - 1) < pa;

	switch (huge_iomap_leaf_why(va, pa, bytes, shift)) {
	case HUGE_IOMAP_LARGEST:
		KUNIT_EXPECT_EQ(test, 0, va % size);
		KUNIT_EXPECT_EQ(test, 0, pa & (size - 1));
		KUNIT_EXPECT_GE(test, bytes, size);
		KUNIT_EXPECT_FALSE(test, wraps);
		break;
	case HUGE_IOMAP_EXTENT:
		KUNIT_EXPECT_TRUE(test, wraps || bytes < size ||
				  (head && !((pa + head) & (size - 1))));
		break;
	case HUGE_IOMAP_CONGRUENCE:
		KUNIT_EXPECT_NE(test, 0, (pa + head) & (size - 1));
		break;
	default:
		KUNIT_FAIL(test, "no such reason");
	}
}

static void leaf_why_test(struct kunit *test)
{
	struct rnd_state rnd;
	unsigned long va;
	phys_addr_t pa;

	for (int i = 0; i < ARRAY_SIZE(leaf_cases); i++) {
		const struct leaf_case *c = &leaf_cases[i];

		check_why(test, c->va, c->pa, c->bytes, PMD_SHIFT);
		check_why(test, c->va, c->pa, c->bytes, PUD_SHIFT);
	}

	KUNIT_EXPECT_EQ(test, HUGE_IOMAP_CONGRUENCE,
			huge_iomap_leaf_why(VA_4LEVEL, PAGE_SIZE, PUD_SIZE, PMD_SHIFT));
	KUNIT_EXPECT_EQ(test, HUGE_IOMAP_EXTENT,
			huge_iomap_leaf_why(VA_4LEVEL + PAGE_SIZE, PAGE_SIZE, PUD_SIZE,
					    PMD_SHIFT));
	KUNIT_EXPECT_EQ(test, HUGE_IOMAP_EXTENT,
			huge_iomap_leaf_why(VA_4LEVEL, PAGE_SIZE, PMD_SIZE - 1, PMD_SHIFT));
	KUNIT_EXPECT_EQ(test, HUGE_IOMAP_LARGEST,
			huge_iomap_leaf_why(VA_4LEVEL, 0, PMD_SIZE, PMD_SHIFT));

	prandom_seed_state(&rnd, 7);
	for (int i = 0; i < 20000; i++) {
		const unsigned int odd = prandom_u32_state(&rnd);

		va = VA_4LEVEL + (odd & 1 ? PMD_SIZE : 0) + (odd & 2 ? PAGE_SIZE : 0);
		pa = (odd & 4 ? PMD_SIZE : 0) + (odd & 8 ? PAGE_SIZE : 0);
		check_why(test, va, pa, (unsigned long)prandom_u32_state(&rnd) & PAGE_MASK,
			  odd & 16 ? PMD_SHIFT : PUD_SHIFT);
	}
}

struct congruent_case {
	const char *name;
	phys_addr_t pa;
	unsigned long bytes;
	unsigned int max_shift;
	unsigned int want;
};

static const struct congruent_case congruent_cases[] = {
	{ "one PUD, aligned", PUD_SIZE, PUD_SIZE, PUD_SHIFT, PUD_SHIFT },
	{ "one PUD, odd by a page",
	  PUD_SIZE + PAGE_SIZE, PUD_SIZE, PUD_SHIFT, PMD_SHIFT },
	{ "two PUDs, odd by a page",
	  PUD_SIZE + PAGE_SIZE, 2 * PUD_SIZE, PUD_SHIFT, PUD_SHIFT },
	{ "the full PUD lies at the end",
	  PUD_SIZE - PAGE_SIZE, PUD_SIZE + PAGE_SIZE, PUD_SHIFT, PUD_SHIFT },
	{ "the full PUD lacks its last page",
	  PUD_SIZE - PAGE_SIZE, PUD_SIZE, PUD_SHIFT, PMD_SHIFT },
	{ "one PMD, aligned", PMD_SIZE, PMD_SIZE, PUD_SHIFT, PMD_SHIFT },
	{ "one PMD, odd by a page",
	  PMD_SIZE + PAGE_SIZE, PMD_SIZE, PUD_SHIFT, PAGE_SHIFT },
	{ "a PMD and a half, odd by half of one",
	  PMD_SIZE / 2, PMD_SIZE + PMD_SIZE / 2, PUD_SHIFT, PMD_SHIFT },
	{ "one page", 0, PAGE_SIZE, PUD_SHIFT, PAGE_SHIFT },
	{ "nothing", 0, 0, PUD_SHIFT, PAGE_SHIFT },
	{ "bound PMD", PUD_SIZE, PUD_SIZE, PMD_SHIFT, PMD_SHIFT },
	{ "bound page", PUD_SIZE, PUD_SIZE, PAGE_SHIFT, PAGE_SHIFT },
	{ "wraps around",
	  -(phys_addr_t)PMD_SIZE, PUD_SIZE, PUD_SHIFT, PAGE_SHIFT },
	{ "ends at the top",
	  -(phys_addr_t)PUD_SIZE, PUD_SIZE, PUD_SHIFT, PUD_SHIFT },
};

KUNIT_ARRAY_PARAM_DESC(congruent, congruent_cases, name);

static void congruent_shift_test(struct kunit *test)
{
	const struct congruent_case *c = test->param_value;

	KUNIT_EXPECT_EQ(test, c->want,
			huge_iomap_congruent_shift(c->pa, c->bytes,
						   c->max_shift));
}

static void cap_shift_test(struct kunit *test)
{
	static const unsigned int shifts[] = { PAGE_SHIFT, PMD_SHIFT, PUD_SHIFT };

	for (int i = 0; i < ARRAY_SIZE(shifts); i++) {
		/* A CPU that has all sizes follows the limit. */
		KUNIT_EXPECT_EQ(test, shifts[i],
				huge_iomap_cap_shift(shifts[i], true, true));
		/* No 1 GiB pages (pdpe1gb) on x86-64. */
		KUNIT_EXPECT_EQ(test, min_t(unsigned int, shifts[i], PMD_SHIFT),
				huge_iomap_cap_shift(shifts[i], true, false));
		/* No large pages at all. */
		KUNIT_EXPECT_EQ(test, (unsigned int)PAGE_SHIFT,
				huge_iomap_cap_shift(shifts[i], false, false));
	}
}

/* Count, by plain enumeration, the aligned blocks of @size within the range. */
static unsigned long count_blocks(phys_addr_t pa, unsigned long bytes,
				  unsigned long size)
{
	unsigned long n = 0;

	for (phys_addr_t b = 0; b + size <= pa + bytes; b += size)
		if (b >= pa)
			n++;
	return n;
}

/*
 * Map generated ranges on paper: choose a va as ioremap() does, walk the range
 * leaf by leaf, and compare the number of leaves with the ideal set, in which
 * each full PUD block is one leaf and each full PMD block outside of them too.
 */
static void ideal_set_test(struct kunit *test)
{
	struct rnd_state rnd;

	if (BITS_PER_LONG < 64)
		kunit_skip(test, "ranges of several PUDs need 64 bits");

	prandom_seed_state(&rnd, 0x1badb002);
	for (int round = 0; round < 2000; round++) {
		phys_addr_t pa = (phys_addr_t)(prandom_u32_state(&rnd) %
				 (2 * PUD_SIZE / PAGE_SIZE)) * PAGE_SIZE;
		unsigned long bytes = (prandom_u32_state(&rnd) %
				 (3 * PUD_SIZE / PAGE_SIZE) + 1) * PAGE_SIZE;
		unsigned int max = round & 1 ? PUD_SHIFT : PMD_SHIFT;
		unsigned int shift;
		unsigned long va, off, npud = 0, npmd = 0, npte = 0;
		unsigned long want_pud = 0, want_pmd;

		/* Many ranges begin or end on a boundary. */
		if (round & 2)
			pa &= PMD_MASK;
		if (round & 4)
			bytes = ALIGN(bytes, PMD_SIZE);

		shift = huge_iomap_congruent_shift(pa, bytes, max);
		va = VA_4LEVEL + (pa & ((1UL << shift) - 1));

		for (off = 0; off < bytes; off += 1UL << shift) {
			shift = huge_iomap_leaf_shift(va + off, pa + off,
						      bytes - off, max);
			if (shift == PUD_SHIFT)
				npud++;
			else if (shift == PMD_SHIFT)
				npmd++;
			else
				npte++;
		}

		if (max == PUD_SHIFT)
			want_pud = count_blocks(pa, bytes, PUD_SIZE);
		want_pmd = count_blocks(pa, bytes, PMD_SIZE) -
			   want_pud * (PUD_SIZE / PMD_SIZE);
		KUNIT_ASSERT_EQ(test, bytes, off);
		KUNIT_ASSERT_EQ_MSG(test, want_pud, npud, "pa %pa bytes %#lx",
				    &pa, bytes);
		KUNIT_ASSERT_EQ_MSG(test, want_pmd, npmd, "pa %pa bytes %#lx",
				    &pa, bytes);
		KUNIT_ASSERT_EQ_MSG(test, (bytes - npud * PUD_SIZE -
					   npmd * PMD_SIZE) / PAGE_SIZE, npte,
				    "pa %pa bytes %#lx", &pa, bytes);
	}
}

/* Address space that nobody else uses, if there is that much of it */
static unsigned long window_start(void)
{
	if (BITS_PER_LONG < 64)
		return IOREMAP_START;
	return ALIGN(IOREMAP_START + (IOREMAP_END - IOREMAP_START) / 2, SZ_1G);
}

static unsigned long window_end(unsigned long bytes)
{
	return BITS_PER_LONG < 64 ? IOREMAP_END : window_start() + bytes;
}

static void area_place_test(struct kunit *test)
{
	static const struct { phys_addr_t pa; unsigned long bytes; } ranges[] = {
		{ PUD_SIZE, PAGE_SIZE },
		{ PUD_SIZE, PMD_SIZE },
		{ PUD_SIZE, 3 * PMD_SIZE },
		{ PUD_SIZE + PAGE_SIZE, PAGE_SIZE },
		{ PUD_SIZE + PAGE_SIZE, PMD_SIZE },
		{ PUD_SIZE + PAGE_SIZE, 2 * PMD_SIZE },
		{ PUD_SIZE + PMD_SIZE / 2, 3 * PMD_SIZE },
		{ PUD_SIZE + 3 * PMD_SIZE - PAGE_SIZE, PMD_SIZE + PAGE_SIZE },
#if BITS_PER_LONG >= 64
		{ PUD_SIZE, 4 * PUD_SIZE },
		{ PUD_SIZE + PAGE_SIZE, 2 * PUD_SIZE },
		{ PUD_SIZE + PMD_SIZE, 2 * PUD_SIZE - PMD_SIZE },
		{ 2 * PUD_SIZE - PAGE_SIZE, PUD_SIZE + PAGE_SIZE },
#endif
	};

	for (int i = 0; i < ARRAY_SIZE(ranges); i++) {
		phys_addr_t pa = ranges[i].pa;
		unsigned long bytes = ranges[i].bytes, mask, align, addr;
		unsigned int shift = huge_iomap_congruent_shift(pa, bytes,
					huge_iomap_max_shift(PAGE_KERNEL));
		struct vm_struct *area;

		area = get_ioremap_area(pa, bytes, PAGE_KERNEL, window_start(),
					window_end(16UL * SZ_1G), NULL);
		KUNIT_ASSERT_NOT_NULL(test, area);
		addr = (unsigned long)area->addr;
		KUNIT_EXPECT_EQ(test, pa, area->phys_addr);
		KUNIT_EXPECT_EQ(test, bytes, get_vm_area_size(area));
		/* Congruent modulo the leaf, ... */
		mask = shift > PAGE_SHIFT ? (1UL << shift) - 1 : 0;
		KUNIT_EXPECT_EQ_MSG(test, (unsigned long)pa & mask, addr & mask,
				    "pa %pa bytes %#lx", &pa, bytes);
		/* ... and otherwise aligned as any other area. */
		align = 1UL << clamp_t(int, get_count_order_long(bytes),
				       PAGE_SHIFT, IOREMAP_MAX_ORDER);
		KUNIT_EXPECT_EQ_MSG(test, (unsigned long)pa & mask,
				    addr & (align - 1),
				    "pa %pa bytes %#lx", &pa, bytes);
		free_vm_area(area);
	}
}

#define MAX_AREAS	64

/* How many areas for ranges like this fit into 128 MiB */
static int count_areas(struct kunit *test, phys_addr_t pa, unsigned long bytes)
{
	struct vm_struct **areas;
	int n, nr = 0;

	areas = kunit_kcalloc(test, MAX_AREAS, sizeof(*areas), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, areas);
	while (nr < MAX_AREAS) {
		areas[nr] = get_ioremap_area(pa, bytes, PAGE_KERNEL,
					     window_start(), window_end(SZ_128M),
					     NULL);
		if (!areas[nr])
			break;
		nr++;
	}
	for (n = 0; n < nr; n++)
		free_vm_area(areas[n]);
	return nr;
}

/* Congruence costs no address space: as many odd areas fit as aligned ones. */
static void area_cost_test(struct kunit *test)
{
	unsigned long bytes = PMD_SIZE + PMD_SIZE / 2;
	int aligned, odd;

	if (bytes > SZ_16M)
		kunit_skip(test, "the leaves are too large for a window of 128 MiB");

	aligned = count_areas(test, PUD_SIZE, bytes);
	odd = count_areas(test, PUD_SIZE + PMD_SIZE / 2, bytes);
	kunit_info(test, "%d aligned, %d odd areas of %lu KiB", aligned, odd,
		   bytes / SZ_1K);
	KUNIT_EXPECT_GE(test, aligned, 4);
	KUNIT_EXPECT_LT(test, aligned, MAX_AREAS);
	/* The window has the distance from the aligned address once less. */
	KUNIT_EXPECT_GE(test, odd, aligned - 1);
}

static struct kunit_case huge_iomap_cases[] = {
	KUNIT_CASE_PARAM(leaf_shift_test, leaf_gen_params),
	KUNIT_CASE(leaf_why_test),
	KUNIT_CASE_PARAM(congruent_shift_test, congruent_gen_params),
	KUNIT_CASE(cap_shift_test),
	KUNIT_CASE(ideal_set_test),
	KUNIT_CASE(area_place_test),
	KUNIT_CASE(area_cost_test),
	{}
};

static struct kunit_suite huge_iomap_suite = {
	.name = "huge_iomap",
	.test_cases = huge_iomap_cases,
};

kunit_test_suite(huge_iomap_suite);

MODULE_DESCRIPTION("KUnit tests of the huge I/O mapping arithmetic");
MODULE_LICENSE("GPL");
