/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Huge leaves of vmap() and vmap_pfn(), for mm/vmalloc.c: see mm/huge_vunmap.c and
 * mm/huge_vmap.c.
 */
#ifndef _MM_HUGE_VMAP_H
#define _MM_HUGE_VMAP_H

#include <linux/pgtable.h>
#include <linux/types.h>

struct page;

/**
 * struct huge_vmap_array - what vmap() or vmap_pfn() maps
 * @pages: struct pages, or NULL if there are @pfns
 * @pfns: pfns, or NULL if there are @pages
 * @nr: how many
 * @max_shift: of the leaves, see huge_iomap_max_shift()
 */
struct huge_vmap_array {
	struct page **pages;
	const unsigned long *pfns;
	unsigned long nr;
	unsigned int max_shift;
};

/**
 * struct huge_vmap_run - contiguous part of an array
 * @first: index of its first page
 * @nr: length in pages
 */
struct huge_vmap_run {
	unsigned long first;
	unsigned long nr;
};

/* mm/huge_vmap.c, with CONFIG_HUGE_VMAP */
unsigned int huge_vmap_place(const struct huge_vmap_array *a,
			     unsigned long *skew);
bool __huge_vmap_is_leaf(const struct huge_vmap_array *a, unsigned long i,
			 unsigned int shift);
void huge_vmap_next_run(const struct huge_vmap_array *a, unsigned long addr,
			unsigned long from, struct huge_vmap_run *run);

/**
 * huge_vmap_is_leaf - can one leaf map the pages?
 * @a: array of struct pages
 * @i: index of the first page
 * @bytes: from its address to the end of the mapping or to the next multiple of the
 *	leaf's size, whichever is nearer
 * @shift: PMD_SHIFT or PUD_SHIFT
 *
 * Context: Any. No locks. The caller has references on the pages.
 * Return: true if they are contiguous and the first one is aligned.
 */
static inline bool huge_vmap_is_leaf(const struct huge_vmap_array *a,
				     unsigned long i, unsigned long bytes,
				     unsigned int shift)
{
	return IS_ENABLED(CONFIG_HUGE_VMAP) && a->max_shift >= shift &&
	       bytes == 1UL << shift && __huge_vmap_is_leaf(a, i, shift);
}

/* mm/huge_vunmap.c, with CONFIG_ARCH_HAS_HUGE_PFNMAP_SPLIT */
int huge_vunmap_split(unsigned long start, unsigned long end);

#endif /* _MM_HUGE_VMAP_H */
