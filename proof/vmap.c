// SPDX-License-Identifier: GPL-2.0
/*
 * mm/huge_vmap.c: a leaf maps just the pages of the array, in all arrays of up to 18
 * entries with any pages or none; nothing outside the array is read.
 */
#include "stubs.h"

#define NR	18
#define BLOCK_PAGES	4UL
#define ALL_PAGES	48UL

struct page { int x; };
static struct page mem_map[ALL_PAGES];
#define page_to_pfn(p)	((unsigned long)((p) - mem_map))
#define pfn_valid(pfn)	((pfn) < ALL_PAGES)

unsigned int huge_iomap_max_shift(pgprot_t prot);
#include <linux/huge_iomap.h>
#include "mm/huge_vmap.c"

static struct page *pages[NR];
static unsigned long pfns[NR];

static unsigned long pfn_at(bool by_pfn, unsigned long i)
{
	return by_pfn ? pfns[i] : page_to_pfn(pages[i]);
}

/* Are @n entries from @i on contiguous and aligned? One after the other */
static bool is_leaf(bool by_pfn, unsigned long nr, unsigned long i, unsigned long n)
{
	if (n > nr || i > nr - n)
		return false;
	for (unsigned long k = 0; k < n; k++) {
		if (!by_pfn && !pages[i + k])
			return false;
		if (pfn_at(by_pfn, i + k) != pfn_at(by_pfn, i) + k)
			return false;
	}
	return !(pfn_at(by_pfn, i) & (n - 1));
}

int main(void)
{
	struct huge_vmap_array a = { .nr = nondet_ulong(), .max_shift = nondet_uint() };
	const bool by_pfn = nondet_bool();
	unsigned long i = nondet_ulong(), addr = nondet_ulong(), skew;
	struct huge_vmap_run run;
	unsigned int shift;

	assume(a.nr && a.nr <= NR);
	assume(a.max_shift == PAGE_SHIFT || a.max_shift == PMD_SHIFT || a.max_shift == PUD_SHIFT);
	for (int k = 0; k < NR; k++) {
		unsigned long p = nondet_ulong();

		assume(p <= ALL_PAGES);
		pages[k] = p < ALL_PAGES ? &mem_map[p] : NULL;
		pfns[k] = nondet_ulong();
		assume(pfns[k] < 1UL << 40);
	}
	if (by_pfn)
		a.pfns = pfns;
	else
		a.pages = pages;

	shift = huge_vmap_place(&a, &skew);
	__CPROVER_assert(shift == PAGE_SHIFT || shift <= a.max_shift, "allowed");
	__CPROVER_assert(!(skew & (PAGE_SIZE - 1)) && skew < 1UL << shift, "less than a leaf");
	if (shift > PAGE_SHIFT) {
		bool found = false;

		for (unsigned long k = 0; k < NR; k++)
			found |= is_leaf(by_pfn, a.nr, k, BLOCK_PAGES) &&
				 !((skew + (k << PAGE_SHIFT)) & (PMD_SIZE - 1));
		__CPROVER_assert(found, "there is a block where a leaf fits");
	}
	if (shift == PAGE_SHIFT && a.max_shift >= PMD_SHIFT) {
		unsigned long k = nondet_ulong();

		assume(k < NR);
		__CPROVER_assert(!is_leaf(by_pfn, a.nr, k, BLOCK_PAGES), "a block is not missed");
	}

	if (by_pfn) {
		unsigned long from = nondet_ulong();

		assume(from < a.nr && !(addr & (PAGE_SIZE - 1)));
		huge_vmap_next_run(&a, addr, from, &run);
		__CPROVER_assert(run.first <= a.nr && run.nr <= a.nr - run.first, "in the array");
		if (!run.nr && a.max_shift >= PMD_SHIFT) {
			unsigned long k = nondet_ulong();

			assume(k >= from && k < NR);
			__CPROVER_assert(!is_leaf(true, a.nr, k, BLOCK_PAGES) ||
					 ((addr + (k << PAGE_SHIFT)) & (PMD_SIZE - 1)),
					 "a block is not missed");
		}
		if (run.nr) {
			unsigned long k = nondet_ulong();

			assume(k < run.nr);
			__CPROVER_assert(run.first >= from && !(run.nr & (BLOCK_PAGES - 1)) &&
					 !((addr + (run.first << PAGE_SHIFT)) & (PMD_SIZE - 1)) &&
					 !(pfns[run.first] & (BLOCK_PAGES - 1)), "aligned");
			__CPROVER_assert(pfns[run.first + k] == pfns[run.first] + k, "contiguous");
		}
	} else {
		shift = nondet_bool() ? PMD_SHIFT : PUD_SHIFT;
		unsigned long n = 1UL << (shift - PAGE_SHIFT);

		/* There is room: huge_vmap_is_leaf() has asked. */
		assume(n <= a.nr && i <= a.nr - n);
		__CPROVER_assert(__huge_vmap_is_leaf(&a, i, shift) ==
				 is_leaf(false, a.nr, i, n), "just the pages of the array");
	}
	return 0;
}
