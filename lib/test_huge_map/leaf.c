// SPDX-License-Identifier: GPL-2.0
/*
 * The page table entry that maps an address, of the kernel or of a process: one
 * reader for all tests. It decodes the bits of the entry itself, and uses nothing of
 * the code under test.
 */
#include <linux/mm.h>
#include <linux/pgtable.h>

#include "test_huge_map.h"

/* The entry for @va, present or not, and how much it maps */
static u64 kernel_entry(unsigned long va, unsigned long *size)
{
	unsigned int level;
	pte_t *pte = lookup_address(va, &level);

	*size = page_level_size(level);
	return pte ? pte_val(*pte) : 0;
}

static u64 user_entry(struct mm_struct *mm, unsigned long va, unsigned long *size)
{
	pgd_t *pgd = pgd_offset(mm, va);
	p4d_t *p4d;
	pud_t pud;
	pmd_t pmd;

	*size = PGDIR_SIZE;
	if (pgd_none(*pgd))
		return 0;
	p4d = p4d_offset(pgd, va);
	*size = P4D_SIZE;
	if (p4d_none(*p4d))
		return 0;
	/* Another driver may take its mapping back meanwhile: look once. */
	pud = READ_ONCE(*pud_offset(p4d, va));
	*size = PUD_SIZE;
	if (pud_none(pud) || pud_leaf(pud))
		return pud_val(pud);
	pmd = READ_ONCE(*pmd_offset(&pud, va));
	*size = PMD_SIZE;
	if (pmd_none(pmd) || pmd_leaf(pmd))
		return pmd_val(pmd);
	*size = PAGE_SIZE;
	return pte_val(*pte_offset_kernel(&pmd, va));
}

/**
 * thm_pat_index - which entry of the PAT the bits of a base page mean
 * @prot: the bits
 *
 * Return: index into the PAT.
 */
unsigned int thm_pat_index(pgprotval_t prot)
{
	return (prot & _PAGE_PWT ? 1 : 0) | (prot & _PAGE_PCD ? 2 : 0) |
	       (prot & _PAGE_PAT ? 4 : 0);
}

/**
 * thm_read_leaf - what maps an address
 * @mm: the process, or NULL for the kernel
 * @va: the address
 * @l: where to write it
 *
 * Context: The page tables of @va do not go away: the mmap lock of @mm is held.
 */
void thm_read_leaf(struct mm_struct *mm, unsigned long va, struct thm_leaf *l)
{
	unsigned long size;
	const u64 val = mm ? user_entry(mm, va, &size) : kernel_entry(va, &size);

	*l = (struct thm_leaf) {
		.next = ALIGN_DOWN(va, size) + size,
		.leaf = size == PAGE_SIZE ? THI_4K : size == PMD_SIZE ? THI_2M : THI_1G,
		.present = val & _PAGE_PRESENT,
	};
	if (!l->present)
		return;
	l->writable = val & _PAGE_RW;
	l->phys = (val & PTE_PFN_MASK & ~(size - 1)) + (va & PAGE_MASK & (size - 1));
	/* The PAT bit of a large leaf is among the address bits. */
	l->type = thm_pat_index(val & (_PAGE_PWT | _PAGE_PCD)) |
		  (val & (size == PAGE_SIZE ? _PAGE_PAT : _PAGE_PAT_LARGE) ? 4 : 0);
}

/**
 * thm_tables - PMD and PTE tables that a walk meets first at an entry
 * @l: the entry for @va
 * @va: where the walk is
 * @start: where it began
 *
 * Return: how many.
 */
unsigned int thm_tables(const struct thm_leaf *l, unsigned long va, unsigned long start)
{
	unsigned int nr = 0;

	if (l->leaf != THI_1G && (va == start || IS_ALIGNED(va, PUD_SIZE)))
		nr++;
	if (l->leaf == THI_4K && (va == start || IS_ALIGNED(va, PMD_SIZE)))
		nr++;
	return nr;
}
