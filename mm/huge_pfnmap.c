// SPDX-License-Identifier: GPL-2.0
/*
 * Huge leaves of VM_PFNMAP mappings: user mappings of device memory.
 *
 * Such a leaf has no struct page, no rmap and no deposited page table. If the
 * driver has no fault handler, what is lost from the page table is lost for good.
 *
 * Locking: a PUD entry is changed under pud_lock(), a PMD entry under pmd_lock().
 * A leaf becomes a table under that lock, with these lockless readers around:
 *
 * - The CPU. SDM volume 3, "Recommended Invalidation", and AMD erratum 383: the
 *   leaf and the table that replaces it must not be in the TLB together. So the
 *   leaf is made invalid, the TLB flushed, and then the table installed. An
 *   access in between faults, and the fault handler waits for the lock.
 * - GUP-fast and KVM's lockless walk read the entry with interrupts disabled and
 *   see a leaf, an invalid leaf or a complete table. Only a leaf goes away: no
 *   table is freed.
 * - Walkers with the mmap lock or i_mmap lock for reading (zap, the fault path)
 *   see a huge entry until the table is there, lock, and look again.
 * - Secondary MMUs. A split changes no translation, but is notified as if the whole
 *   leaf were cleared. KVM maps as much as a leaf by one entry, and when it does so,
 *   looks only for invalidations of the page that faulted. If the zap of another
 *   page was notified and has yet to split the leaf, KVM maps that page as well.
 *   The notification of the split is what removes it again.
 */

#include <linux/gfp.h>
#include <linux/huge_iomap.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/pgalloc.h>
#include <linux/printk.h>
#include <linux/sched/mm.h>

#include "huge_iomap_trace.h"
#include "huge_pfnmap.h"
#include "internal.h"

/*
 * The next level has the leaf's pfn, permissions, memory type, accessed, dirty and
 * software bits: PUD and PMD leaves have them all at the same place.
 */
static void fill_pmds(struct mm_struct *mm, unsigned long addr, pmd_t *pmdp,
		      pud_t leaf)
{
	const pgprot_t prot = pud_pgprot(leaf);
	unsigned long pfn = pud_pfn(leaf);

	for (int i = 0; i < PTRS_PER_PMD; i++) {
		set_pmd_at(mm, addr, pmdp + i, pmd_mkhuge(pfn_pmd(pfn, prot)));
		addr += PMD_SIZE;
		pfn += PMD_SIZE >> PAGE_SHIFT;
	}
}

static void fill_ptes(struct mm_struct *mm, unsigned long addr, pgtable_t table,
		      pmd_t leaf)
{
	const pgprot_t prot = pmd_pgprot(leaf);
	pmd_t pmd;
	pte_t *pte;

	pmd_populate(mm, &pmd, table);
	pte = pte_offset_map(&pmd, addr);
	set_ptes(mm, addr, pte, pfn_pte(pmd_pfn(leaf), prot), PTRS_PER_PTE);
	pte_unmap(pte);
}

static bool is_pfn_pud(struct vm_area_struct *vma, pud_t pud)
{
	return (vma->vm_flags & VM_PFNMAP) && pud_present(pud) &&
	       pud_leaf(pud) && pud_special(pud);
}

static bool is_pfn_pmd(struct vm_area_struct *vma, pmd_t pmd)
{
	return (vma->vm_flags & VM_PFNMAP) && pmd_present(pmd) &&
	       pmd_leaf(pmd) && pmd_special(pmd);
}

/*
 * With lock debugging the constructor allocates the lock of the table, and with
 * GFP_KERNEL, whatever the table is allocated with: where that must not reclaim, the
 * lock must not either.
 */
static struct ptdesc *alloc_table(struct mm_struct *mm, gfp_t gfp,
				  bool (*ctor)(struct mm_struct *mm,
					       struct ptdesc *table))
{
	struct ptdesc *table = pagetable_alloc(gfp, 0);
	unsigned int flags = 0;
	bool ok;

	if (!table)
		return NULL;
	if (!gfpflags_allow_blocking(gfp))
		flags = memalloc_noreclaim_save();
	ok = ctor(mm, table);
	memalloc_noreclaim_restore(flags);
	if (ok)
		return table;
	pagetable_free(table);
	return NULL;
}

static int split_pud(struct vm_area_struct *vma, pud_t *pudp,
		     unsigned long addr, gfp_t gfp)
{
	struct mm_struct *mm = vma->vm_mm;
	spinlock_t *ptl = pud_lockptr(mm, pudp);
	struct mmu_notifier_range range;
	struct ptdesc *table;
	pud_t leaf;

	table = alloc_table(mm, gfp, pagetable_pmd_ctor);
	if (!table) {
		leaf = pudp_get(pudp);
		if (is_pfn_pud(vma, leaf))
			trace_huge_iomap_split(vma->vm_file, addr & PUD_MASK,
					       pud_pfn(leaf), PUD_SHIFT, PUD_SHIFT,
					       HUGE_IOMAP_MEMORY);
		return -ENOMEM;
	}

	addr &= PUD_MASK;
	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, mm, addr,
				addr + PUD_SIZE);
	mmu_notifier_invalidate_range_start(&range);
	spin_lock(ptl);
	if (likely(is_pfn_pud(vma, *pudp))) {
		count_vm_event(THP_SPLIT_PUD);
		leaf = pudp_invalidate(vma, addr, pudp);
		fill_pmds(mm, addr, ptdesc_address(table), leaf);
		mm_inc_nr_pmds(mm);
		smp_wmb(); /* See comment in pmd_install() */
		pud_populate(mm, pudp, ptdesc_address(table));
		table = NULL;
		trace_huge_iomap_split(vma->vm_file, addr, pud_pfn(leaf), PUD_SHIFT,
				       PMD_SHIFT, HUGE_IOMAP_LARGEST);
	}
	spin_unlock(ptl);
	mmu_notifier_invalidate_range_end(&range);

	if (table)
		pagetable_dtor_free(table);
	return 0;
}

static int split_pmd(struct vm_area_struct *vma, pmd_t *pmdp,
		     unsigned long addr, gfp_t gfp)
{
	struct mm_struct *mm = vma->vm_mm;
	spinlock_t *ptl = pmd_lockptr(mm, pmdp);
	struct mmu_notifier_range range;
	struct ptdesc *ptdesc;
	pgtable_t table;
	pmd_t leaf;

	ptdesc = alloc_table(mm, gfp, pagetable_pte_ctor);
	if (!ptdesc) {
		leaf = pmdp_get_lockless(pmdp);
		if (is_pfn_pmd(vma, leaf))
			trace_huge_iomap_split(vma->vm_file, addr & PMD_MASK,
					       pmd_pfn(leaf), PMD_SHIFT, PMD_SHIFT,
					       HUGE_IOMAP_MEMORY);
		return -ENOMEM;
	}
	table = ptdesc_page(ptdesc);

	addr &= PMD_MASK;
	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, mm, addr,
				addr + PMD_SIZE);
	mmu_notifier_invalidate_range_start(&range);
	spin_lock(ptl);
	if (likely(is_pfn_pmd(vma, *pmdp))) {
		count_vm_event(THP_SPLIT_PMD);
		leaf = pmdp_invalidate(vma, addr, pmdp);
		fill_ptes(mm, addr, table, leaf);
		mm_inc_nr_ptes(mm);
		smp_wmb(); /* See comment in pmd_install() */
		pmd_populate(mm, pmdp, table);
		table = NULL;
		trace_huge_iomap_split(vma->vm_file, addr, pmd_pfn(leaf), PMD_SHIFT,
				       PAGE_SHIFT, HUGE_IOMAP_LARGEST);
	}
	spin_unlock(ptl);
	mmu_notifier_invalidate_range_end(&range);

	if (table)
		pte_free(mm, table);
	return 0;
}

/*
 * A zap may hold i_mmap_lock, which reclaim takes: do not reclaim. Without memory
 * the caller drops the leaf whole. What was to go is gone then, which is what
 * revoking access to a device needs, and so is the rest.
 */
#define GFP_SPLIT_NORECLAIM \
	((GFP_PGTABLE_USER & ~__GFP_DIRECT_RECLAIM) | __GFP_HIGH | __GFP_NOWARN)

static bool split_done(struct vm_area_struct *vma, unsigned long addr, int err)
{
	if (err && (vma->vm_flags & VM_NOREFAULT))
		pr_warn_ratelimited("%s: no page table to split a leaf of device memory at %#lx: it is unmapped\n",
				    current->comm, addr);
	return !err;
}

/**
 * huge_pfnmap_split_pud - split a PUD leaf of device memory, do not reclaim
 * @vma: VMA that the leaf lies in whole
 * @pudp: the entry
 * @addr: user address in the leaf
 *
 * Context: The caller keeps the VMA from going away, by the mmap lock, the VMA lock
 * or i_mmap_lock. Takes pud_lock(). Runs mmu notifiers.
 * Return: true if the entry is no longer a leaf, and nothing was lost; false if it
 * is none of a VM_PFNMAP VMA, or if there was no memory for the table.
 */
bool huge_pfnmap_split_pud(struct vm_area_struct *vma, pud_t *pudp,
			   unsigned long addr)
{
	if (!is_pfn_pud(vma, pudp_get(pudp)))
		return false;
	return split_done(vma, addr,
			  split_pud(vma, pudp, addr, GFP_SPLIT_NORECLAIM));
}

/**
 * huge_pfnmap_split_pmd - split a PMD leaf of device memory, do not reclaim
 * @vma: VMA that the leaf lies in whole
 * @pmdp: the entry
 * @addr: user address in the leaf
 *
 * Context: As huge_pfnmap_split_pud(), with pmd_lock().
 * Return: As huge_pfnmap_split_pud().
 */
bool huge_pfnmap_split_pmd(struct vm_area_struct *vma, pmd_t *pmdp,
			   unsigned long addr)
{
	if (!is_pfn_pmd(vma, pmdp_get_lockless(pmdp)))
		return false;
	return split_done(vma, addr,
			  split_pmd(vma, pmdp, addr, GFP_SPLIT_NORECLAIM));
}

static pud_t *find_pud(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;

	if (pgd_none_or_clear_bad(pgd))
		return NULL;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none_or_clear_bad(p4d))
		return NULL;
	return pud_offset(p4d, addr);
}

/**
 * huge_pfnmap_split - split the leaves of device memory around an address
 * @vma: VM_PFNMAP VMA that @addr lies in, or where it ends
 * @addr: user address, a multiple of PAGE_SIZE
 *
 * Splits until @addr is the start of a leaf, so that the VMA can be cut there.
 *
 * Context: Process context, may sleep. The mmap lock is held for writing. Locks the
 * VMA for writing: no fault may bring a leaf back.
 * Return: 0, or -ENOMEM. Then every page is mapped as before.
 */
int huge_pfnmap_split(struct vm_area_struct *vma, unsigned long addr)
{
	pud_t *pudp;
	pmd_t *pmdp;
	int err;

	vma_start_write(vma);
	pudp = find_pud(vma->vm_mm, addr);
	if (!pudp || pud_none(*pudp) || IS_ALIGNED(addr, PUD_SIZE))
		return 0;
	if (is_pfn_pud(vma, *pudp)) {
		err = split_pud(vma, pudp, addr, GFP_PGTABLE_USER);
		if (err)
			return err;
	}
	if (pud_none_or_clear_bad(pudp) || IS_ALIGNED(addr, PMD_SIZE))
		return 0;
	pmdp = pmd_offset(pudp, addr);
	if (!is_pfn_pmd(vma, *pmdp))
		return 0;
	return split_pmd(vma, pmdp, addr, GFP_PGTABLE_USER);
}

static int split_pmds_for_move(struct vm_area_struct *vma, pud_t *pudp,
			       unsigned long addr, unsigned long end)
{
	unsigned long next;
	pmd_t *pmdp = pmd_offset(pudp, addr);
	int err;

	do {
		next = pmd_addr_end(addr, end);
		if (!is_pfn_pmd(vma, *pmdp))
			continue;
		err = split_pmd(vma, pmdp, addr, GFP_PGTABLE_USER);
		if (err)
			return err;
	} while (pmdp++, addr = next, addr != end);
	return 0;
}

/**
 * huge_pfnmap_split_for_move - split the leaves that mremap() cannot move whole
 * @vma: VM_PFNMAP VMA to move
 * @addr: start of the range, in bytes
 * @new_addr: where it moves to
 * @len: length of the range in bytes
 *
 * A leaf moves whole if it lies in the range whole, and @addr and @new_addr are
 * congruent modulo its size.
 *
 * Context: Process context, may sleep. The mmap lock is held for writing. Locks the
 * VMA for writing.
 * Return: 0, or -ENOMEM. Then every page is mapped as before.
 */
int huge_pfnmap_split_for_move(struct vm_area_struct *vma, unsigned long addr,
			       unsigned long new_addr, unsigned long len)
{
	const unsigned long end = addr + len, skew = addr ^ new_addr;
	unsigned long next;
	pud_t *pudp;
	int err;

	err = huge_pfnmap_split(vma, addr);
	if (!err)
		err = huge_pfnmap_split(vma, end);
	if (err || IS_ALIGNED(skew, PUD_SIZE))
		return err;

	for (; addr != end; addr = next) {
		cond_resched();
		next = pud_addr_end(addr, end);
		pudp = find_pud(vma->vm_mm, addr);
		if (!pudp || pud_none(*pudp))
			continue;
		if (is_pfn_pud(vma, *pudp)) {
			err = split_pud(vma, pudp, addr, GFP_PGTABLE_USER);
			if (err)
				return err;
		}
		if (IS_ALIGNED(skew, PMD_SIZE) || pud_none_or_clear_bad(pudp))
			continue;
		err = split_pmds_for_move(vma, pudp, addr, next);
		if (err)
			return err;
	}
	return 0;
}

/* Can a write fault on a leaf be resolved without asking the driver? */
static bool can_mkwrite(struct vm_area_struct *vma)
{
	const vm_flags_t need = VM_SHARED | VM_WRITE;

	return (vma->vm_flags & need) == need && !vma->vm_ops->huge_fault &&
	       !vma->vm_ops->pfn_mkwrite;
}

/**
 * huge_pfnmap_mkwrite_pud - make a PUD leaf of device memory writable in place
 * @vmf: the write fault
 * @leaf: the entry that it was seen on
 *
 * A VMA that was read-only and is writable now has leaves that are still read-only.
 *
 * Context: Fault handler. Takes pud_lock().
 * Return: true if the access can be tried again, false if that is for the driver.
 */
bool huge_pfnmap_mkwrite_pud(struct vm_fault *vmf, pud_t leaf)
{
	struct vm_area_struct *vma = vmf->vma;

	if (!can_mkwrite(vma) || !is_pfn_pud(vma, leaf))
		return false;

	vmf->ptl = pud_lock(vma->vm_mm, vmf->pud);
	if (likely(pud_same(*vmf->pud, leaf))) {
		leaf = pud_mkwrite(pud_mkdirty(pud_mkyoung(leaf)));
		if (pudp_set_access_flags(vma, vmf->address & PUD_MASK,
					  vmf->pud, leaf, 1))
			update_mmu_cache_pud(vma, vmf->address, vmf->pud);
	}
	spin_unlock(vmf->ptl);
	return true;
}

/**
 * huge_pfnmap_mkwrite_pmd - make a PMD leaf of device memory writable in place
 * @vmf: the write fault, on vmf->orig_pmd
 *
 * Context: Fault handler. Takes pmd_lock().
 * Return: As huge_pfnmap_mkwrite_pud().
 */
bool huge_pfnmap_mkwrite_pmd(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	pmd_t leaf = vmf->orig_pmd;

	if (!can_mkwrite(vma) || !is_pfn_pmd(vma, leaf))
		return false;

	vmf->ptl = pmd_lock(vma->vm_mm, vmf->pmd);
	if (likely(pmd_same(*vmf->pmd, leaf))) {
		leaf = pmd_mkwrite(pmd_mkdirty(pmd_mkyoung(leaf)), vma);
		if (pmdp_set_access_flags(vma, vmf->address & PMD_MASK,
					  vmf->pmd, leaf, 1))
			update_mmu_cache_pmd(vma, vmf->address, vmf->pmd);
	}
	spin_unlock(vmf->ptl);
	return true;
}
