// SPDX-License-Identifier: GPL-2.0
/*
 * Which parts of the array that vmap() or vmap_pfn() maps can huge leaves map?
 *
 * A block is what one PMD leaf maps: PMD_SIZE bytes of memory, aligned to their
 * size. A run is one block or more, each where the one before it ends. All entries of
 * a block are compared, and nothing but the array is read.
 *
 * The virtual address is chosen first, and a leaf needs one that is aligned too. So
 * an array of scattered pages costs a look at a few entries in 512.
 */

#include <linux/huge_iomap.h>
#include <linux/mm.h>
#include <linux/unroll.h>

#include "huge_vmap.h"
#include "internal.h"

#define BLOCK	((unsigned int)(PMD_SIZE >> PAGE_SHIFT))

static unsigned long array_pfn(const struct huge_vmap_array *a, unsigned long i)
{
	return a->pfns ? a->pfns[i] : page_to_pfn(a->pages[i]);
}

/* Do the values rise by @step from one to the next? */
static __always_inline bool is_rising(const unsigned long *v, unsigned long step)
{
	unsigned long want = v[0];

	unrolled_count(16)
	for (int i = 0; i < BLOCK; i++, want += step)
		if (v[i] != want)
			return false;
	return true;
}

/*
 * Every entry counts: a process can put the pages of its folios into any order.
 *
 * A block lies within a section, so struct pages that follow each other are pfns that
 * do, in all memory models.
 */
static __always_inline bool is_page_block(struct page **pages)
{
	struct page *first = pages[0];

	/* page_to_pfn() may read the struct page. */
	return first && pages[BLOCK - 1] == first + (BLOCK - 1) &&
	       IS_ALIGNED(page_to_pfn(first), BLOCK) &&
	       pfn_valid(page_to_pfn(first)) &&
	       is_rising((unsigned long *)pages, sizeof(struct page));
}

/* Is it likely that @nr contiguous pages, aligned to as many, begin at index @i? */
static bool has_ends(const struct huge_vmap_array *a, unsigned long i,
		     unsigned long nr)
{
	const unsigned long last = i + nr - 1;

	if (i >= a->nr || last >= a->nr)
		return false;
	if (a->pages && (!a->pages[i] || !a->pages[last]))
		return false;
	return IS_ALIGNED(array_pfn(a, i), nr) &&
	       array_pfn(a, last) - array_pfn(a, i) == nr - 1;
}

static bool is_pud_block(const struct huge_vmap_array *a, unsigned long i)
{
	const unsigned long nr = PUD_SIZE >> PAGE_SHIFT;

	if (!has_ends(a, i, nr))
		return false;
	for (unsigned long k = 0; k < nr; k += BLOCK)
		if (!is_page_block(a->pages + i + k) ||
		    array_pfn(a, i + k) != array_pfn(a, i) + k)
			return false;
	return true;
}

/* See huge_vmap_is_leaf(). The mapping is known to have room for the leaf. */
bool __huge_vmap_is_leaf(const struct huge_vmap_array *a, unsigned long i,
			 unsigned int shift)
{
	if (shift == PUD_SHIFT)
		return is_pud_block(a, i);
	return is_page_block(a->pages + i);
}

static bool is_block(const struct huge_vmap_array *a, unsigned long i)
{
	if (a->pages)
		return __huge_vmap_is_leaf(a, i, PMD_SHIFT);
	return IS_ALIGNED(a->pfns[i], BLOCK) && is_rising(a->pfns + i, 1);
}

/**
 * huge_vmap_next_run - find the next pfns that large leaves can map
 * @a: array of pfns
 * @addr: virtual address that its first page is mapped at, page aligned
 * @from: index to search from
 * @run: what was found. If there is no run left, its length is 0 and it begins
 *	behind the last page.
 *
 * The pages of a run are contiguous; its first one is aligned to PMD_SIZE, and so is
 * the virtual address.
 *
 * Context: Any. No locks.
 */
void huge_vmap_next_run(const struct huge_vmap_array *a, unsigned long addr,
			unsigned long from, struct huge_vmap_run *run)
{
	unsigned long i = from + ((-(addr >> PAGE_SHIFT) - from) & (BLOCK - 1));
	const unsigned long *pfns = a->pfns;

	run->first = a->nr;
	run->nr = 0;
	if (a->max_shift < PMD_SHIFT)
		return;
	for (; i < a->nr && a->nr - i >= BLOCK; i += BLOCK) {
		const bool block = is_block(a, i);

		if (!run->nr && block)
			run->first = i;
		else if (run->nr &&
			 (!block || pfns[i] != pfns[run->first] + run->nr))
			break;
		if (block)
			run->nr += BLOCK;
	}
}

/**
 * huge_vmap_place - choose the virtual address for an array of pages
 * @a: the array
 * @skew: how far from a multiple of the size that is returned the area has to
 *	begin, in bytes
 *
 * The area is to be congruent to the first block: it then becomes a leaf. Any block
 * has one of the indices that are multiples of its length in it, so only these are
 * looked at, and where they say that the block would begin and end. If that is
 * right, the block is read.
 *
 * Context: Any. No locks. The caller has references on the pages.
 * Return: PUD_SHIFT or PMD_SHIFT, or PAGE_SHIFT if any address will do.
 */
unsigned int huge_vmap_place(const struct huge_vmap_array *a,
			     unsigned long *skew)
{
	const unsigned long pud_nr = PUD_SIZE >> PAGE_SHIFT;
	unsigned int shift = PMD_SHIFT;
	unsigned long i, first, pfn;

	*skew = 0;
	if (a->max_shift < PMD_SHIFT)
		return PAGE_SHIFT;
	for (i = 0; i < a->nr; i += BLOCK) {
		if (a->pages && !a->pages[i])
			continue;
		first = array_pfn(a, i) & (BLOCK - 1);
		if (first > i)
			continue;
		first = i - first;
		if (has_ends(a, first, BLOCK) && is_block(a, first))
			break;
	}
	if (i >= a->nr)
		return PAGE_SHIFT;

	pfn = array_pfn(a, first);
	if (a->max_shift >= PUD_SHIFT) {
		i = -pfn & (pud_nr - 1);
		if (has_ends(a, first + i, pud_nr) &&
		    array_pfn(a, first + i) == pfn + i)
			shift = PUD_SHIFT;
	}
	*skew = (pfn - first) << PAGE_SHIFT & ((1UL << shift) - 1);
	return shift;
}
