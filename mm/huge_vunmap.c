// SPDX-License-Identifier: GPL-2.0
/*
 * Unmapping part of a huge leaf in the kernel's vmalloc area: the leaf becomes a
 * table first, so that the rest stays mapped.
 *
 * Locking: who unmaps owns the area, and nobody else changes its entries. Walkers
 * that own nothing (ptdump, /proc/kcore, lookup_address()) see the leaf or a complete
 * table that maps the same; no table is freed. init_mm.page_table_lock is held, as
 * for any table that is added.
 *
 * The rest may be in use meanwhile, so the leaf cannot be made invalid before the
 * table is there. Leaf and table are in the TLB together until the flush, with the
 * same address, permissions and memory type, as when set_memory_ro() splits a leaf.
 */

#include <linux/huge_iomap.h>
#include <linux/mm.h>
#include <linux/pgalloc.h>

#include <asm/tlbflush.h>

#include "internal.h"

static int split_pud(pud_t *pudp, unsigned long addr)
{
	const unsigned long start = ALIGN_DOWN(addr, PUD_SIZE);
	const pud_t leaf = pudp_get(pudp);
	unsigned long pfn = pud_pfn(leaf);
	pmd_t *table = pmd_alloc_one(&init_mm, start);

	if (!table)
		return -ENOMEM;
	for (int i = 0; i < PTRS_PER_PMD; i++, pfn += PMD_SIZE >> PAGE_SHIFT)
		set_pmd(table + i, pfn_pmd(pfn, pud_pgprot(leaf)));
	spin_lock(&init_mm.page_table_lock);
	smp_wmb(); /* See comment in pmd_install() */
	pud_populate(&init_mm, pudp, table);
	spin_unlock(&init_mm.page_table_lock);
	flush_tlb_kernel_range(start, start + PUD_SIZE);
	return 0;
}

static int split_pmd(pmd_t *pmdp, unsigned long addr)
{
	const unsigned long start = ALIGN_DOWN(addr, PMD_SIZE);
	const pmd_t leaf = pmdp_get(pmdp);
	const pgprot_t prot = pgprot_large_2_4k(pmd_pgprot(leaf));
	unsigned long pfn = pmd_pfn(leaf);
	pte_t *table = pte_alloc_one_kernel(&init_mm);

	if (!table)
		return -ENOMEM;
	for (int i = 0; i < PTRS_PER_PTE; i++)
		set_pte(table + i, pfn_pte(pfn + i, prot));
	spin_lock(&init_mm.page_table_lock);
	smp_wmb(); /* See comment in pmd_install() */
	pmd_populate_kernel(&init_mm, pmdp, table);
	spin_unlock(&init_mm.page_table_lock);
	flush_tlb_kernel_range(start, start + PMD_SIZE);
	return 0;
}

/* Let no leaf reach across @addr. */
static int split_at(unsigned long addr)
{
	pgd_t *pgdp = pgd_offset_k(addr);
	p4d_t *p4dp;
	pud_t *pudp;
	pmd_t *pmdp;
	int err;

	if (pgd_none_or_clear_bad(pgdp))
		return 0;
	p4dp = p4d_offset(pgdp, addr);
	if (p4d_none_or_clear_bad(p4dp))
		return 0;
	pudp = pud_offset(p4dp, addr);
	if (pud_none(*pudp) || IS_ALIGNED(addr, PUD_SIZE))
		return 0;
	if (pud_leaf(*pudp)) {
		err = split_pud(pudp, addr);
		if (err)
			return err;
	}
	pmdp = pmd_offset(pudp, addr);
	if (!pmd_none(*pmdp) && !IS_ALIGNED(addr, PMD_SIZE) && pmd_leaf(*pmdp))
		return split_pmd(pmdp, addr);
	return 0;
}

/**
 * huge_vunmap_split - prepare to unmap part of a kernel mapping
 * @start: address at which the part begins, page aligned
 * @end: address behind it, page aligned
 *
 * Splits the leaves that lie partly in the range. What is mapped stays as it is.
 *
 * Context: May sleep if there is such a leaf. The caller owns the mapping.
 * Return: 0, or -ENOMEM if a table cannot be allocated: then nothing can be unmapped
 * without taking more along.
 */
int huge_vunmap_split(unsigned long start, unsigned long end)
{
	return split_at(start) ?: split_at(end);
}
