// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of mm/huge_vmap.c: which parts of a page array large leaves can map,
 * against a reference that looks at every entry, and which address is chosen.
 */
#include <kunit/test.h>
#include <linux/dma-map-ops.h>
#include <linux/huge_iomap.h>
#include <linux/mm.h>
#include <linux/prandom.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "../huge_vmap.h"

#define BLOCK		((unsigned long)(PMD_SIZE >> PAGE_SHIFT))
#define MAX_NR		(8 * BLOCK)
#define NR_CASES	4000

struct vmap_ctx {
	struct rnd_state rnd;
	unsigned long *pfns;
	struct page **pages;
};

static u32 pick(struct vmap_ctx *ctx, u32 limit)
{
	return prandom_u32_state(&ctx->rnd) % limit;
}

static int vmap_init(struct kunit *test)
{
	struct vmap_ctx *ctx = kunit_kzalloc(test, sizeof(*ctx), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, ctx);
	ctx->pfns = kunit_kmalloc_array(test, MAX_NR, sizeof(*ctx->pfns),
					GFP_KERNEL);
	ctx->pages = kunit_kmalloc_array(test, MAX_NR, sizeof(*ctx->pages),
					 GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ctx->pfns);
	KUNIT_ASSERT_NOT_NULL(test, ctx->pages);
	prandom_seed_state(&ctx->rnd, 1);
	test->priv = ctx;
	return 0;
}

static bool naive_block(const unsigned long *pfns, unsigned long nr,
			unsigned long i)
{
	if (i + BLOCK > nr || pfns[i] % BLOCK)
		return false;
	for (unsigned long k = 1; k < BLOCK; k++)
		if (pfns[i + k] != pfns[i] + k)
			return false;
	return true;
}

/* The first run from @from on in an array that is mapped at page @va_pfn */
static struct huge_vmap_run naive_run(const unsigned long *pfns, unsigned long nr,
				      unsigned long va_pfn, unsigned long from)
{
	struct huge_vmap_run run = { .first = nr };

	for (unsigned long i = from; i < nr; i++) {
		if ((va_pfn + i) % BLOCK || !naive_block(pfns, nr, i))
			continue;
		run.first = i;
		run.nr = BLOCK;
		while (naive_block(pfns, nr, i + run.nr) &&
		       pfns[i + run.nr] == pfns[i] + run.nr)
			run.nr += BLOCK;
		break;
	}
	return run;
}

/* Returns how many runs there are. */
static int compare_runs(struct kunit *test, const struct huge_vmap_array *a,
			const unsigned long *pfns, unsigned long va_pfn)
{
	struct huge_vmap_run got, want;
	unsigned long from = 0;
	int runs = 0;

	for (; from < a->nr; from = got.first + got.nr) {
		want = naive_run(pfns, a->nr, va_pfn, from);
		huge_vmap_next_run(a, va_pfn << PAGE_SHIFT, from, &got);
		KUNIT_ASSERT_EQ(test, want.first, got.first);
		KUNIT_ASSERT_EQ(test, want.nr, got.nr);
		runs += got.nr != 0;
	}
	return runs;
}

/* Contiguous, aligned or not, the continuation of what is before, or in disorder */
static unsigned long generate(struct vmap_ctx *ctx)
{
	const unsigned long nr = 1 + pick(ctx, MAX_NR);
	unsigned long *p = ctx->pfns;
	unsigned long i = 0;

	while (i < nr) {
		unsigned long len = min_t(unsigned long, nr - i,
					  1 + pick(ctx, pick(ctx, 2) ? 8 : 3 * BLOCK));
		unsigned long pfn = BLOCK + pick(ctx, 1 << 24);
		u32 kind = pick(ctx, 6);

		if (kind < 2)
			pfn = ALIGN_DOWN(pfn, BLOCK);
		if (kind == 2 && i)
			pfn = p[i - 1] + 1;
		for (unsigned long k = 0; k < len; k++) {
			if (kind == 4)
				p[i + k] = pfn + len - k;
			else if (kind == 5)
				p[i + k] = pfn + (k ^ 1);
			else
				p[i + k] = pfn + k;
		}
		i += len;
	}
	return nr;
}

static void pfn_runs_test(struct kunit *test)
{
	struct vmap_ctx *ctx = test->priv;
	int runs = 0;

	for (int n = 0; n < NR_CASES; n++) {
		struct huge_vmap_array a = {
			.pfns = ctx->pfns, .nr = generate(ctx),
			.max_shift = PUD_SHIFT,
		};

		runs += compare_runs(test, &a, ctx->pfns, pick(ctx, 1 << 20));
		runs += compare_runs(test, &a, ctx->pfns, ctx->pfns[0]);
	}
	kunit_info(test, "%d runs", runs);
	KUNIT_EXPECT_GT(test, runs, NR_CASES / 10);
}

/* Two blocks side by side are one run if one continues the other. */
static void runs_apart_test(struct kunit *test)
{
	static const int second[] = { 5, 6, 7, 3, 4 };
	struct vmap_ctx *ctx = test->priv;
	const struct huge_vmap_array a = {
		.pfns = ctx->pfns, .nr = 2 * BLOCK, .max_shift = PUD_SHIFT,
	};

	for (int n = 0; n < ARRAY_SIZE(second); n++) {
		for (unsigned long i = 0; i < BLOCK; i++) {
			ctx->pfns[i] = 4 * BLOCK + i;
			ctx->pfns[BLOCK + i] = second[n] * BLOCK + i;
		}
		KUNIT_EXPECT_EQ(test, n ? 2 : 1,
				compare_runs(test, &a, ctx->pfns, 0));
	}
}

/* At the address that is chosen, the first block of the array is in a run. */
static void place_test(struct kunit *test)
{
	struct vmap_ctx *ctx = test->priv;
	int placed = 0;

	for (int n = 0; n < NR_CASES; n++) {
		struct huge_vmap_array a = {
			.pfns = ctx->pfns, .nr = generate(ctx),
			.max_shift = PMD_SHIFT,
		};
		struct huge_vmap_run run;
		unsigned long first, skew = ~0UL;
		unsigned int shift;

		for (first = 0; first < a.nr; first++)
			if (naive_block(ctx->pfns, a.nr, first))
				break;
		shift = huge_vmap_place(&a, &skew);
		if (first == a.nr) {
			KUNIT_ASSERT_EQ(test, PAGE_SHIFT, shift);
			continue;
		}
		KUNIT_ASSERT_EQ(test, PMD_SHIFT, shift);
		KUNIT_ASSERT_LT(test, skew, PMD_SIZE);
		KUNIT_ASSERT_TRUE(test, PAGE_ALIGNED(skew));
		huge_vmap_next_run(&a, PUD_SIZE + skew, 0, &run);
		KUNIT_ASSERT_EQ(test, first, run.first);
		placed++;
	}
	kunit_info(test, "%d placed", placed);
	KUNIT_EXPECT_GT(test, placed, NR_CASES / 10);
}

/* A PUD leaf's worth of pages, with as many before it as make the address odd */
static void place_pud_test(struct kunit *test)
{
	const unsigned long nr = (PUD_SIZE >> PAGE_SHIFT) + 3;
	struct huge_vmap_array a = { .nr = nr, .max_shift = PUD_SHIFT };
	unsigned long *pfns, skew = 0;

	/* 4 TiB with 64 KiB pages */
	if (PUD_SHIFT == PMD_SHIFT || PUD_SIZE > SZ_1G)
		kunit_skip(test, "the PMD level is folded, or a PUD leaf is large");
	pfns = kvmalloc_array(nr, sizeof(*pfns), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pfns);
	a.pfns = pfns;
	for (unsigned long i = 0; i < nr; i++)
		pfns[i] = (2 * PUD_SIZE >> PAGE_SHIFT) - 3 + i;
	KUNIT_EXPECT_EQ(test, PUD_SHIFT, huge_vmap_place(&a, &skew));
	KUNIT_EXPECT_EQ(test, PUD_SIZE - 3 * PAGE_SIZE, skew);
	a.max_shift = PMD_SHIFT;
	KUNIT_EXPECT_EQ(test, PMD_SHIFT, huge_vmap_place(&a, &skew));
	KUNIT_EXPECT_EQ(test, PMD_SIZE - 3 * PAGE_SIZE, skew);
	a.max_shift = PAGE_SHIFT;
	KUNIT_EXPECT_EQ(test, PAGE_SHIFT, huge_vmap_place(&a, &skew));
	a.max_shift = PUD_SHIFT;
	a.nr--;		/* One page short */
	KUNIT_EXPECT_EQ(test, PMD_SHIFT, huge_vmap_place(&a, &skew));
	kvfree(pfns);
}

static void fill_pages(struct vmap_ctx *ctx, struct page **first, int nr)
{
	for (int b = 0; b < nr; b++)
		for (unsigned long i = 0; i < BLOCK; i++)
			ctx->pages[b * BLOCK + i] = first[b] + i;
}

static void set_pfns(struct vmap_ctx *ctx, unsigned long nr)
{
	for (unsigned long i = 0; i < nr; i++)
		ctx->pfns[i] = ctx->pages[i] ? page_to_pfn(ctx->pages[i]) : 0;
}

/* Returns how many blocks there are at multiples of BLOCK, counted from @from on. */
static int compare_blocks(struct kunit *test, const struct huge_vmap_array *a,
			  const unsigned long *pfns, unsigned long from)
{
	int blocks = 0;

	for (unsigned long i = from; i + BLOCK <= a->nr; i += BLOCK) {
		bool want = naive_block(pfns, a->nr, i);

		KUNIT_EXPECT_EQ(test, want, huge_vmap_is_leaf(a, i, PMD_SIZE, PMD_SHIFT));
		blocks += want;
	}
	KUNIT_EXPECT_FALSE(test, huge_vmap_is_leaf(a, 0, PMD_SIZE - PAGE_SIZE,
						   PMD_SHIFT));
	return blocks;
}

/*
 * Blocks of folios and of loose pages, with some entries replaced by a page from
 * elsewhere and some that have changed places.
 */
static void page_blocks_test(struct kunit *test)
{
	struct vmap_ctx *ctx = test->priv;
	const unsigned int order = PMD_SHIFT - PAGE_SHIFT;
	struct page *first[4] = {};
	int blocks = 0;

	for (int i = 0; i < ARRAY_SIZE(first); i++)
		first[i] = alloc_pages(GFP_KERNEL | __GFP_NOWARN |
				       (i & 1 ? 0 : __GFP_COMP), order);
	for (int i = 0; i < ARRAY_SIZE(first); i++)
		if (!first[i])
			goto free;

	for (int n = 0; n < NR_CASES; n++) {
		struct huge_vmap_array a = {
			.pages = ctx->pages, .nr = 4 * BLOCK,
			.max_shift = PMD_SHIFT,
		};
		unsigned long i = pick(ctx, a.nr), k = pick(ctx, a.nr);

		fill_pages(ctx, first, 4);
		switch (pick(ctx, 4)) {
		case 0:
			ctx->pages[i] = ctx->pages[k];
			break;
		case 1:
			swap(ctx->pages[i], ctx->pages[k]);
			break;
		case 2:
			ctx->pages[i] = NULL;
			break;
		}
		set_pfns(ctx, a.nr);
		blocks += compare_blocks(test, &a, ctx->pfns, 0);
		blocks += compare_blocks(test, &a, ctx->pfns, i % BLOCK);
	}
	kunit_info(test, "%d blocks", blocks);
	KUNIT_EXPECT_GT(test, blocks, NR_CASES);
free:
	for (int i = 0; i < ARRAY_SIZE(first); i++)
		if (first[i])
			__free_pages(first[i], order);
	if (!blocks)
		kunit_skip(test, "no contiguous memory");
}

/*
 * What a block shows at index @i: all of these keep the first and the last page and
 * much of what is between them.
 */
static struct page *neighbours(struct page *folio, struct page *other, int i)
{
	return folio + (i % 4 == 1 ? i + 1 : i % 4 == 2 ? i - 1 : i);
}

static struct page *interleaved(struct page *folio, struct page *other, int i)
{
	return folio + i / 2 + i % 2 * (BLOCK / 2);
}

static struct page *bits_reversed(struct page *folio, struct page *other, int i)
{
	unsigned int k = 0;

	for (unsigned int bit = 1; bit < BLOCK; bit *= 2)
		k = 2 * k + !!(i & bit);
	return folio + k;
}

static struct page *other_chunks(struct page *folio, struct page *other, int i)
{
	return (i >= 64 && i < BLOCK - 64 ? other : folio) + i;
}

static struct page *hole(struct page *folio, struct page *other, int i)
{
	return i >= 64 && i < 128 ? NULL : folio + i;
}

static void adversaries_test(struct kunit *test)
{
	static struct page *(* const block[])(struct page *, struct page *, int) = {
		neighbours, interleaved, bits_reversed, other_chunks, hole,
	};
	struct vmap_ctx *ctx = test->priv;
	const unsigned int order = PMD_SHIFT - PAGE_SHIFT;
	const gfp_t gfp = GFP_KERNEL | __GFP_NOWARN | __GFP_COMP;
	struct page *folio = alloc_pages(gfp, order);
	struct page *other = alloc_pages(gfp, order);
	struct huge_vmap_array a = {
		.pages = ctx->pages, .nr = BLOCK, .max_shift = PMD_SHIFT,
	};

	for (int n = 0; folio && other && n < ARRAY_SIZE(block); n++) {
		for (int i = 0; i < BLOCK; i++)
			ctx->pages[i] = block[n](folio, other, i);
		KUNIT_EXPECT_PTR_EQ(test, folio, ctx->pages[0]);
		KUNIT_EXPECT_PTR_EQ(test, folio + BLOCK - 1, ctx->pages[BLOCK - 1]);
		KUNIT_EXPECT_FALSE_MSG(test,
				       huge_vmap_is_leaf(&a, 0, PMD_SIZE, PMD_SHIFT),
				       "block %d", n);
	}
	if (folio)
		__free_pages(folio, order);
	if (other)
		__free_pages(other, order);
	if (!folio || !other)
		kunit_skip(test, "no contiguous memory");
}

/*
 * Put aligned pieces of a block, of a power of two, into another order: exchange two
 * of them, or the bits of their index.
 */
static void permute(struct vmap_ctx *ctx, struct page **block)
{
	const unsigned int bits = PMD_SHIFT - PAGE_SHIFT;
	const unsigned long piece = 1UL << pick(ctx, bits);
	const unsigned long nr = BLOCK / piece;
	unsigned long i = pick(ctx, nr), k = pick(ctx, nr);

	if (pick(ctx, 2)) {
		for (unsigned long n = 0; n < piece; n++)
			swap(block[i * piece + n], block[k * piece + n]);
		return;
	}
	i = BIT(pick(ctx, bits));
	k = BIT(pick(ctx, bits));
	for (unsigned long n = 0; n < BLOCK; n++)
		if ((n & i) && !(n & k))
			swap(block[n], block[n ^ i ^ k]);
}

/* A leaf maps exactly what the array says, whatever order a folio's pages are in. */
static void permutations_test(struct kunit *test)
{
	const unsigned int order = PMD_SHIFT - PAGE_SHIFT;
	struct vmap_ctx *ctx = test->priv;
	struct huge_vmap_array a = {
		.pages = ctx->pages, .nr = BLOCK, .max_shift = PMD_SHIFT,
	};
	struct page *folio = alloc_pages(GFP_KERNEL | __GFP_NOWARN | __GFP_COMP, order);
	int blocks = 0;

	if (!folio)
		kunit_skip(test, "no contiguous memory");
	for (int n = 0; n < NR_CASES; n++) {
		fill_pages(ctx, &folio, 1);
		for (int i = pick(ctx, 4); i > 0; i--)
			permute(ctx, ctx->pages);
		set_pfns(ctx, a.nr);
		blocks += compare_blocks(test, &a, ctx->pfns, 0);
	}
	__free_pages(folio, order);
	kunit_info(test, "%d blocks", blocks);
	KUNIT_EXPECT_GT(test, blocks, NR_CASES / 10);
	KUNIT_EXPECT_LT(test, blocks, NR_CASES);
}

/* 1 GiB of RAM. Nobody looks into the pages, so they can be in use. */
static unsigned long find_ram_1g(void)
{
	const unsigned long nr = PUD_SIZE >> PAGE_SHIFT;
	unsigned long first, pfn;

	for (first = nr; first < 64 * nr; first += nr) {
		for (pfn = first; pfn < first + nr && pfn_valid(pfn); pfn += BLOCK)
			;
		if (pfn == first + nr)
			return first;
	}
	return 0;
}

/* In a PUD leaf's worth of pages one is another, two are exchanged, or blocks are. */
static void pud_blocks_test(struct kunit *test)
{
	const unsigned long nr = PUD_SIZE >> PAGE_SHIFT;
	const unsigned long first = find_ram_1g();
	struct vmap_ctx *ctx = test->priv;
	struct huge_vmap_array a = { .nr = nr, .max_shift = PUD_SHIFT };
	struct page **pages;
	unsigned long i, k;

	if (PUD_SHIFT == PMD_SHIFT)
		kunit_skip(test, "the PMD level is folded");
	if (!first)
		kunit_skip(test, "no 1 GiB of RAM in one piece");
	pages = kvmalloc_array(nr, sizeof(*pages), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	a.pages = pages;
	for (i = 0; i < nr; i++)
		pages[i] = pfn_to_page(first + i);
	KUNIT_EXPECT_TRUE(test, huge_vmap_is_leaf(&a, 0, PUD_SIZE, PUD_SHIFT));
	for (int n = 0; n < 200; n++) {
		const unsigned long step = n % 3 == 0 ? BLOCK : 1;

		i = 1 + pick(ctx, nr / step - 2);
		do {
			k = 1 + pick(ctx, nr / step - 2);
		} while (k == i);
		if (n % 3 == 2) {
			struct page *was = pages[i];

			pages[i] = n & 1 ? NULL : pages[k];
			KUNIT_EXPECT_FALSE(test, huge_vmap_is_leaf(&a, 0, PUD_SIZE,
								   PUD_SHIFT));
			pages[i] = was;
			continue;
		}
		for (unsigned long j = 0; j < step; j++)
			swap(pages[i * step + j], pages[k * step + j]);
		KUNIT_EXPECT_FALSE(test, huge_vmap_is_leaf(&a, 0, PUD_SIZE, PUD_SHIFT));
		for (unsigned long j = 0; j < step; j++)
			swap(pages[i * step + j], pages[k * step + j]);
	}
	KUNIT_EXPECT_TRUE(test, huge_vmap_is_leaf(&a, 0, PUD_SIZE, PUD_SHIFT));
	kvfree(pages);
}

/* What is not a page is not looked into. */
static void no_page_test(struct kunit *test)
{
	struct vmap_ctx *ctx = test->priv;
	struct huge_vmap_array a = {
		.pages = ctx->pages, .nr = 2 * BLOCK, .max_shift = PUD_SHIFT,
	};
	unsigned long skew;

	memset(ctx->pages, 0, a.nr * sizeof(*ctx->pages));
	KUNIT_EXPECT_EQ(test, PAGE_SHIFT, huge_vmap_place(&a, &skew));
	KUNIT_EXPECT_FALSE(test, huge_vmap_is_leaf(&a, 0, PMD_SIZE, PMD_SHIFT));
}

#ifdef CONFIG_VMAP_PFN
/* A page with a struct page is refused, wherever it is in the array. */
static void pfn_ram_test(struct kunit *test)
{
	struct vmap_ctx *ctx = test->priv;
	struct page *page = alloc_page(GFP_KERNEL);
	static const int at[] = { 0, 1, 700, 1499 };

	KUNIT_ASSERT_NOT_NULL(test, page);
	for (int n = 0; n < ARRAY_SIZE(at); n++) {
		/* Far above all memory */
		for (unsigned long i = 0; i < 1500; i++)
			ctx->pfns[i] = (1UL << (MAX_PHYSMEM_BITS - PAGE_SHIFT - 1)) + i;
		ctx->pfns[at[n]] = page_to_pfn(page);
		kunit_warning_suppress(test)
			KUNIT_EXPECT_NULL(test, vmap_pfn(ctx->pfns, 1500, PAGE_KERNEL));
	}
	__free_page(page);
}
#endif

/* dma_common_find_pages() warns of flags that it does not know. */
static void dma_remap_test(struct kunit *test)
{
	struct page *page = alloc_page(GFP_KERNEL);
	struct page *pages[] = { page, page };
	void *va;

	KUNIT_ASSERT_NOT_NULL(test, page);
	va = dma_common_pages_remap(pages, ARRAY_SIZE(pages) * PAGE_SIZE,
				    PAGE_KERNEL, __builtin_return_address(0));
	KUNIT_EXPECT_NOT_NULL(test, va);
	if (va) {
		kunit_warning_suppress(test) {
			KUNIT_EXPECT_PTR_EQ(test, dma_common_find_pages(va), &pages[0]);
			KUNIT_EXPECT_EQ(test, 0, KUNIT_SUPPRESSED_WARNING_COUNT());
		}
		dma_common_free_remap(va, ARRAY_SIZE(pages) * PAGE_SIZE);
	}
	__free_page(page);
}

static struct kunit_case huge_vmap_cases[] = {
	KUNIT_CASE(pfn_runs_test),
	KUNIT_CASE(runs_apart_test),
	KUNIT_CASE(page_blocks_test),
	KUNIT_CASE(adversaries_test),
	KUNIT_CASE(permutations_test),
	KUNIT_CASE(pud_blocks_test),
	KUNIT_CASE(place_test),
	KUNIT_CASE(place_pud_test),
	KUNIT_CASE(no_page_test),
#ifdef CONFIG_VMAP_PFN
	KUNIT_CASE(pfn_ram_test),
#endif
	KUNIT_CASE(dma_remap_test),
	{}
};

static struct kunit_suite huge_vmap_suite = {
	.name = "huge_vmap",
	.init = vmap_init,
	.test_cases = huge_vmap_cases,
};

kunit_test_suite(huge_vmap_suite);

MODULE_DESCRIPTION("KUnit tests of the search for runs in page arrays");
MODULE_LICENSE("GPL");
