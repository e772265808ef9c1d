// SPDX-License-Identifier: GPL-2.0
/*
 * Unmapping part of a huge leaf in the kernel's vmalloc area: the leaf becomes a
 * table first, so that the rest stays mapped.
 *
 * Locking: a leaf is replaced with the mmap lock of init_mm held for writing, and it is
 * read again under that lock. All who may want to change a leaf of which the caller
 * unmaps a part take this lock:
 *
 *  - another caller that unmaps another part of it;
 *  - set_memory_*() on another part of it, for reading. cpa_lock, which it splits
 *    under, is its own. A change of the encryption takes cpa_lock only, so it must not
 *    be made meanwhile to what shares a leaf with the part.
 *
 * After that, each has entries of its own. Only set_memory_rox() makes leaves of
 * tables; it must not be called meanwhile on what shares a leaf with the part.
 *
 * Walkers that own nothing and hold no lock, as lookup_address(), see the leaf or a
 * complete table that maps the same; no table is freed.
 *
 * The rest may be in use meanwhile, so the leaf cannot be made invalid before the
 * table is there. Leaf and table are in the TLB together until the flush, with the
 * same address, permissions and memory type, as when set_memory_ro() splits a leaf.
 * The flush is done under the lock, before set_memory_*() can change them. Another
 * caller of vunmap_range() may see the table before, and clears its own entries: it
 * flushes after that.
 */

#include <linux/mm.h>
#include <linux/pgalloc.h>

#include <asm/tlbflush.h>

#include "huge_iomap_trace.h"
#include "huge_vmap.h"
#include "internal.h"

static pud_t *find_pud(unsigned long addr)
{
	pgd_t *pgdp = pgd_offset_k(addr);
	p4d_t *p4dp;

	if (pgd_none_or_clear_bad(pgdp))
		return NULL;
	p4dp = p4d_offset(pgdp, addr);
	if (p4d_none_or_clear_bad(p4dp))
		return NULL;
	return pud_offset(p4dp, addr);
}

/* The leaf that reaches across @addr, if it is one of this level */
static pud_t *pud_leaf_across(unsigned long addr)
{
	pud_t *pudp;

	if (IS_ALIGNED(addr, PUD_SIZE))
		return NULL;
	pudp = find_pud(addr);
	return pudp && pud_leaf(pudp_get(pudp)) ? pudp : NULL;
}

static pmd_t *pmd_leaf_across(unsigned long addr)
{
	pud_t *pudp, pud;
	pmd_t *pmdp;

	if (IS_ALIGNED(addr, PMD_SIZE))
		return NULL;
	pudp = find_pud(addr);
	if (!pudp)
		return NULL;
	pud = pudp_get(pudp);
	if (pud_none(pud) || pud_leaf(pud))
		return NULL;
	pmdp = pmd_offset(pudp, addr);
	return pmd_leaf(pmdp_get(pmdp)) ? pmdp : NULL;
}

static void replace_pud(pud_t *pudp, unsigned long start, pmd_t *table)
{
	const pud_t leaf = pudp_get(pudp);
	unsigned long pfn = pud_pfn(leaf);

	for (int i = 0; i < PTRS_PER_PMD; i++, pfn += PMD_SIZE >> PAGE_SHIFT)
		set_pmd(table + i, pmd_mkhuge(pfn_pmd(pfn, pud_pgprot(leaf))));
	smp_wmb(); /* See comment in pmd_install() */
	pud_populate(&init_mm, pudp, table);
	flush_tlb_kernel_range(start, start + PUD_SIZE);
	trace_huge_iomap_split(NULL, start, pud_pfn(leaf), PUD_SHIFT, PMD_SHIFT,
			       HUGE_IOMAP_LARGEST);
}

static void replace_pmd(pmd_t *pmdp, unsigned long start, pte_t *table)
{
	const pmd_t leaf = pmdp_get(pmdp);
	const pgprot_t prot = pmd_pgprot(leaf);
	unsigned long pfn = pmd_pfn(leaf);

	for (int i = 0; i < PTRS_PER_PTE; i++)
		set_pte(table + i, pfn_pte(pfn + i, prot));
	smp_wmb(); /* See comment in pmd_install() */
	pmd_populate_kernel(&init_mm, pmdp, table);
	flush_tlb_kernel_range(start, start + PMD_SIZE);
	trace_huge_iomap_split(NULL, start, pmd_pfn(leaf), PMD_SHIFT, PAGE_SHIFT,
			       HUGE_IOMAP_LARGEST);
}

static int split_pud(unsigned long addr)
{
	pmd_t *table;
	pud_t *pudp, leaf;

	pudp = pud_leaf_across(addr);
	if (!pudp)
		return 0;
	table = pmd_alloc_one(&init_mm, addr);
	if (!table) {
		leaf = pudp_get(pudp);
		if (pud_leaf(leaf))
			trace_huge_iomap_split(NULL, ALIGN_DOWN(addr, PUD_SIZE),
					       pud_pfn(leaf), PUD_SHIFT, PUD_SHIFT,
					       HUGE_IOMAP_MEMORY);
		return -ENOMEM;
	}
	mmap_write_lock(&init_mm);
	pudp = pud_leaf_across(addr);
	if (pudp)
		replace_pud(pudp, ALIGN_DOWN(addr, PUD_SIZE), table);
	mmap_write_unlock(&init_mm);
	if (!pudp)
		pmd_free(&init_mm, table);
	return 0;
}

static int split_pmd(unsigned long addr)
{
	pte_t *table;
	pmd_t *pmdp, leaf;

	pmdp = pmd_leaf_across(addr);
	if (!pmdp)
		return 0;
	table = pte_alloc_one_kernel(&init_mm);
	if (!table) {
		leaf = pmdp_get(pmdp);
		if (pmd_leaf(leaf))
			trace_huge_iomap_split(NULL, ALIGN_DOWN(addr, PMD_SIZE),
					       pmd_pfn(leaf), PMD_SHIFT, PMD_SHIFT,
					       HUGE_IOMAP_MEMORY);
		return -ENOMEM;
	}
	mmap_write_lock(&init_mm);
	pmdp = pmd_leaf_across(addr);
	if (pmdp)
		replace_pmd(pmdp, ALIGN_DOWN(addr, PMD_SIZE), table);
	mmap_write_unlock(&init_mm);
	if (!pmdp)
		pte_free_kernel(&init_mm, table);
	return 0;
}

/**
 * huge_vunmap_split - prepare to unmap part of a kernel mapping
 * @start: address at which the part begins, page aligned
 * @end: address after it, page aligned
 *
 * Splits the leaves that lie partly in the range. What is mapped stays as it is. Other
 * parts of the mapping may be unmapped at the same time, or changed by set_memory_*().
 *
 * Context: May sleep if there is such a leaf; takes the mmap lock of init_mm for
 * writing then. The part is the caller's.
 * Return: 0, or -ENOMEM if a table cannot be allocated: then nothing can be unmapped
 * without taking more along.
 */
int huge_vunmap_split(unsigned long start, unsigned long end)
{
	return split_pud(start) ?: split_pmd(start) ?:
	       split_pud(end) ?: split_pmd(end);
}
