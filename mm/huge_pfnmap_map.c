// SPDX-License-Identifier: GPL-2.0
/*
 * Huge leaves of VM_PFNMAP mappings: install them.
 *
 * One installer, with one set of checks, for remap_pfn_range() and for faults on
 * mappings whose driver has vm_ops->hugepfn_fault(). Such a driver names an extent:
 * what lies where, physically contiguous. The leaf is chosen here, for all drivers
 * and by one policy.
 *
 * Locking: an entry is set under the lock of its page table, pud_lock() or
 * pmd_lock(), and only where there is none. remap_pfn_range() holds the mmap lock for
 * writing. A fault holds it for reading, or the VMA lock: so two faults can race, and
 * a fault with a zap. The driver's own lock, held around vmf_insert_pfn_extent(),
 * decides whether a zap comes before or after it.
 */

#include <linux/export.h>
#include <linux/huge_iomap.h>
#include <linux/mm.h>
#include <linux/pfnmap.h>
#include <linux/pgtable.h>

#include "huge_iomap_trace.h"
#include "huge_pfnmap.h"
#include "internal.h"

/* What may be mapped around an address */
struct window {
	unsigned long start;	/* user addresses */
	unsigned long end;
	unsigned long addr;	/* in a page with this ... */
	unsigned long pfn;	/* ... pfn */
	bool lookup;		/* the memory type is not known yet */
};

static unsigned long window_pfn(const struct window *w, unsigned long addr)
{
	return w->pfn - ((w->addr - addr) >> PAGE_SHIFT);
}

/*
 * What keeps a leaf of this size from being around the address? It has to lie in the
 * window, and in the VMA: drivers have given remap_pfn_range() more than that, and PTEs
 * past it are harm enough. @can: there are such leaves. @table: a page table is in its
 * place.
 */
static __always_inline enum huge_iomap_why
leaf_why(struct vm_area_struct *vma, const struct window *w, pgprot_t *prot,
	 unsigned int shift, bool can, bool table)
{
	const unsigned long size = 1UL << shift, addr = ALIGN_DOWN(w->addr, size);
	const unsigned long last = addr + size - 1;
	unsigned long pfn = window_pfn(w, addr);
	enum huge_iomap_why why;

	if (!can)
		return HUGE_IOMAP_CPU;
	if (vma->vm_end - vma->vm_start < size)
		return HUGE_IOMAP_VMA;
	if (!IS_ALIGNED(w->addr ^ PFN_PHYS(w->pfn), size))
		return HUGE_IOMAP_CONGRUENCE;
	if (addr < vma->vm_start || last >= vma->vm_end || w->end > vma->vm_end)
		return HUGE_IOMAP_VMA;
	if (addr < w->start || last >= w->end)
		return HUGE_IOMAP_EXTENT;
	why = huge_pfnmap_vma_why(vma, shift);
	if (!why)
		why = huge_iomap_leaf_why(addr, PFN_PHYS(pfn), w->end - addr, shift);
	if (why)
		return why;
	if (table)
		return HUGE_IOMAP_TABLE;
	/* Where one is refused for PROT_NONE, the PTE level says so. */
	if (arch_has_pfn_modify_check() && !vma_is_accessible(vma)) {
		for (unsigned long i = 0; i < size >> PAGE_SHIFT; i++)
			if (!pfn_modify_allowed(pfn + i, *prot))
				return HUGE_IOMAP_PROT;
	}
	if (w->lookup && pfnmap_setup_cachemode_leaf(pfn, size, prot))
		return HUGE_IOMAP_PAT;
	return HUGE_IOMAP_LARGEST;
}

static vm_fault_t refuse(struct vm_area_struct *vma, const struct window *w,
			 unsigned int shift, enum huge_iomap_why why)
{
	/* What lies before the window has no pfn. */
	const unsigned long addr = max(ALIGN_DOWN(w->addr, 1UL << shift), w->start);

	trace_huge_iomap_refuse(vma->vm_file, addr, window_pfn(w, addr), shift,
				huge_iomap_smaller(shift), why);
	return VM_FAULT_FALLBACK;
}

/*
 * VM_FAULT_NOPAGE: a leaf is there, this one or another. There is no table to fall
 * back to then, whatever becomes of it.
 */
static vm_fault_t install_pud(struct vm_area_struct *vma, pud_t *pudp,
			      const struct window *w, pgprot_t prot, bool write)
{
	const unsigned long addr = ALIGN_DOWN(w->addr, PUD_SIZE);
	pud_t pud = pudp_get(pudp);
	enum huge_iomap_why why;
	vm_fault_t ret;

	if (!pud_none(pud) && (pud_leaf(pud) || !pud_present(pud)))
		return VM_FAULT_NOPAGE;
	if (!IS_ENABLED(CONFIG_ARCH_SUPPORTS_PUD_PFNMAP))
		return VM_FAULT_FALLBACK;
	why = leaf_why(vma, w, &prot, PUD_SHIFT, has_transparent_pud_hugepage(),
		       !pud_none(pud));
	if (why)
		return refuse(vma, w, PUD_SHIFT, why);
	ret = insert_pfn_pud(vma, addr, pudp, window_pfn(w, addr), prot, write);
	if (ret & VM_FAULT_FALLBACK)
		return refuse(vma, w, PUD_SHIFT, arch_vmap_pud_supported(prot) ?
			      HUGE_IOMAP_MTRR : HUGE_IOMAP_CPU);
	return ret;
}

static vm_fault_t install_pmd(struct vm_area_struct *vma, pmd_t *pmdp,
			      const struct window *w, pgprot_t prot, bool write)
{
	const unsigned long addr = ALIGN_DOWN(w->addr, PMD_SIZE);
	pmd_t pmd = pmdp_get_lockless(pmdp);
	enum huge_iomap_why why;
	vm_fault_t ret;

	/* As in install_pud() */
	if (!pmd_none(pmd) && (pmd_leaf(pmd) || !pmd_present(pmd)))
		return VM_FAULT_NOPAGE;
	if (!IS_ENABLED(CONFIG_ARCH_SUPPORTS_PMD_PFNMAP))
		return VM_FAULT_FALLBACK;
	why = leaf_why(vma, w, &prot, PMD_SHIFT, has_transparent_hugepage(),
		       !pmd_none(pmd));
	if (why)
		return refuse(vma, w, PMD_SHIFT, why);
	ret = insert_pfn_pmd(vma, addr, pmdp, window_pfn(w, addr), prot, write);
	if (ret & VM_FAULT_FALLBACK)
		return refuse(vma, w, PMD_SHIFT, arch_vmap_pmd_supported(prot) ?
			      HUGE_IOMAP_MTRR : HUGE_IOMAP_CPU);
	return ret;
}

/**
 * huge_pfnmap_map_pud - map device memory with a PUD leaf if one fits
 * @vma: VMA to map in
 * @pudp: entry that maps @addr, with no leaf
 * @addr: user address
 * @end: end of the range to map in this entry
 * @pfn: pfn to map at @addr
 * @prot: protection and memory type, of a base page
 *
 * Context: The mmap lock is held for writing: no fault installs a table or a leaf. But
 * i_mmap may know the VMA, and who zaps it may split the leaf or take it away at once:
 * nothing is to be looked at afterwards. Takes pud_lock().
 * Return: true if the entry has mapped the range, false if it needs a table.
 */
bool huge_pfnmap_map_pud(struct vm_area_struct *vma, pud_t *pudp,
			 unsigned long addr, unsigned long end,
			 unsigned long pfn, pgprot_t prot)
{
	const struct window w = {
		.start = addr, .end = end, .addr = addr, .pfn = pfn,
	};

	return install_pud(vma, pudp, &w, prot, false) & VM_FAULT_NOPAGE;
}

/**
 * huge_pfnmap_map_pmd - map device memory with a PMD leaf if one fits
 * @vma: VMA to map in
 * @pmdp: entry that maps @addr, with no leaf
 * @addr: user address
 * @end: end of the range to map in this entry
 * @pfn: pfn to map at @addr
 * @prot: protection and memory type, of a base page
 *
 * Context: The mmap lock is held for writing. Takes pmd_lock().
 * Return: As huge_pfnmap_map_pud().
 */
bool huge_pfnmap_map_pmd(struct vm_area_struct *vma, pmd_t *pmdp,
			 unsigned long addr, unsigned long end,
			 unsigned long pfn, pgprot_t prot)
{
	const struct window w = {
		.start = addr, .end = end, .addr = addr, .pfn = pfn,
	};

	return install_pmd(vma, pmdp, &w, prot, false) & VM_FAULT_NOPAGE;
}

/*
 * Is there nothing mapped where the fault happened? If a leaf is there, the fault is
 * about permissions, or another one has resolved it. The driver has nothing to add.
 */
static bool is_missing(struct vm_fault *vmf)
{
	pud_t pud = pudp_get(vmf->pud);
	pmd_t *pmdp, pmd;
	pte_t *pte;
	bool none;

	if (pud_none(pud))
		return true;
	if (pud_leaf(pud) || !pud_present(pud))
		return false;
	pmdp = pmd_offset(vmf->pud, vmf->address);
	pmd = pmdp_get_lockless(pmdp);
	if (pmd_none(pmd))
		return true;
	if (pmd_leaf(pmd) || !pmd_present(pmd))
		return false;
	pte = pte_offset_map(pmdp, vmf->address);
	if (!pte)
		return false;
	none = pte_none(ptep_get_lockless(pte));
	pte_unmap(pte);
	return none;
}

/**
 * handle_hugepfn_fault - let vm_ops->hugepfn_fault() resolve a fault
 * @vmf: the fault; @vmf->pud is valid, lower levels may not exist yet
 * @mapped: set to true if something is mapped there. If that has gone when the
 *	fault handler comes to it, the fault begins again: what was there may have
 *	been a leaf, and a page table must not take its place.
 *
 * Context: Fault handler, vma_has_hugepfn_fault() is true.
 * Return: VM_FAULT_FALLBACK if the fault is for the rest of the fault handler: the
 * page is mapped, or the driver has said so and has vm_ops->fault().
 */
vm_fault_t handle_hugepfn_fault(struct vm_fault *vmf, bool *mapped)
{
	const struct vm_operations_struct *ops = vmf->vma->vm_ops;
	vm_fault_t ret;

	*mapped = !is_missing(vmf);
	if (*mapped)
		return VM_FAULT_FALLBACK;
	ret = ops->hugepfn_fault(vmf);
	if ((ret & VM_FAULT_FALLBACK) && !ops->fault)
		return VM_FAULT_SIGBUS;
	return ret;
}

/* A driver with pfn_mkwrite() makes pages writable by a second fault. */
static bool is_write(struct vm_fault *vmf)
{
	return (vmf->flags & FAULT_FLAG_WRITE) && !vmf->vma->vm_ops->pfn_mkwrite;
}

/* The page that was asked for is accessed, and dirty if that was a write. */
static void set_faulting_pte(struct vm_fault *vmf, pte_t *ptep, pte_t entry)
{
	struct vm_area_struct *vma = vmf->vma;
	const bool write = is_write(vmf);
	pte_t old = ptep_get(ptep);

	if (!pte_none(old)) {
		if (pte_pfn(old) != pte_pfn(entry))
			return;
		entry = old;
	}
	entry = pte_mkyoung(entry);
	if (write)
		entry = maybe_mkwrite(pte_mkdirty(entry), vma);
	if (pte_none(old))
		set_pte_at(vma->vm_mm, vmf->address, ptep, entry);
	else if (!ptep_set_access_flags(vma, vmf->address, ptep, entry, write))
		return;
	update_mmu_cache(vma, vmf->address, ptep);
}

static pte_t prefaulted_pte(pte_t entry)
{
	return arch_wants_old_prefaulted_pte() ? pte_mkold(entry) :
						 pte_sw_mkyoung(entry);
}

/* Set what is missing of the page table around the fault. */
static vm_fault_t insert_ptes(struct vm_fault *vmf, const struct window *w)
{
	const unsigned long block = ALIGN_DOWN(w->addr, PMD_SIZE);
	unsigned long start = max(block, w->start);
	unsigned long end = min(block + PMD_SIZE - 1, w->end - 1) + 1;
	struct vm_area_struct *vma = vmf->vma;
	pgprot_t prot = vma->vm_page_prot;
	unsigned long addr;
	pte_t *ptep, entry;

	if (!pfn_modify_allowed(w->pfn, prot))
		return VM_FAULT_SIGBUS;
	if (pfnmap_setup_cachemode(window_pfn(w, start), end - start, &prot)) {
		/* The memory type changes on the way. */
		start = w->addr;
		end = start + PAGE_SIZE;
		pfnmap_setup_cachemode_pfn(w->pfn, &prot);
	}

	if (pte_alloc(vma->vm_mm, vmf->pmd))
		return VM_FAULT_OOM;
	ptep = pte_offset_map_lock(vma->vm_mm, vmf->pmd, start, &vmf->ptl);
	if (!ptep)
		return VM_FAULT_NOPAGE;	/* Raced with a leaf: try again. */
	entry = pte_mkspecial(pfn_pte(window_pfn(w, start), prot));
	vmf->pte = ptep;
	for (addr = start; addr != end; addr += PAGE_SIZE) {
		if (addr == w->addr)
			set_faulting_pte(vmf, ptep, entry);
		else if (pte_none(ptep_get(ptep)))
			set_pte_at(vma->vm_mm, addr, ptep,
				   prefaulted_pte(entry));
		entry = pte_next_pfn(entry);
		ptep++;
	}
	pte_unmap_unlock(vmf->pte, vmf->ptl);
	return VM_FAULT_NOPAGE;
}

/**
 * vmf_insert_pfn_extent - map device memory around a fault
 * @vmf: the fault, as handed to vm_ops->hugepfn_fault()
 * @extent: what lies in the file around @vmf->pgoff
 *
 * Installs the largest leaf that the extent, the VMA, the policy and the
 * architecture allow: PUD or PMD. If that is a PTE, sets all those that are missing
 * in its page table, as far as the extent and the VMA go; those that are not of the
 * fault are old where the architecture wants that of prefaulted pages. If another
 * fault was faster, that one's work stays.
 *
 * Process-wide and system-wide settings of transparent huge pages are not asked.
 * MADV_NOHUGEPAGE on the VMA is.
 *
 * Context: Process context, from vm_ops->hugepfn_fault() or vm_ops->fault() only.
 * May allocate page tables and sleep. The mmap lock is held for reading, or the VMA
 * lock. A driver that unmaps its mappings, by unmap_mapping_range(), calls both
 * under one lock of its own. Takes page table locks.
 * Return: VM_FAULT_NOPAGE if the access can be tried again, VM_FAULT_OOM, or
 * VM_FAULT_SIGBUS if the fault is not within the extent or the VMA is no shared
 * VM_PFNMAP one.
 */
vm_fault_t vmf_insert_pfn_extent(struct vm_fault *vmf,
				 const struct pfn_extent *extent)
{
	const unsigned long before = vmf->pgoff - extent->pgoff;
	struct vm_area_struct *vma = vmf->vma;
	struct window w;
	vm_fault_t ret;

	if (WARN_ON_ONCE(!(vma->vm_flags & VM_PFNMAP) ||
			 (vma->vm_flags & VM_MIXEDMAP) ||
			 vma_is_cow_mapping(vma)))
		return VM_FAULT_SIGBUS;
	if (vmf->pgoff < extent->pgoff || before >= extent->nr)
		return VM_FAULT_SIGBUS;

	w.addr = vmf->address & PAGE_MASK;
	w.pfn = extent->pfn + before;
	w.start = w.addr - (min(before, (w.addr - vma->vm_start) >> PAGE_SHIFT)
			    << PAGE_SHIFT);
	w.end = w.addr + (min(extent->nr - before,
			      (vma->vm_end - w.addr) >> PAGE_SHIFT)
			  << PAGE_SHIFT);
	w.lookup = true;

	ret = install_pud(vma, vmf->pud, &w, vma->vm_page_prot, is_write(vmf));
	if (!(ret & VM_FAULT_FALLBACK))
		return ret;

	vmf->pmd = pmd_alloc(vma->vm_mm, vmf->pud, w.addr);
	if (!vmf->pmd)
		return VM_FAULT_OOM;
	if (pud_trans_unstable(vmf->pud))
		return VM_FAULT_NOPAGE;	/* Raced with a leaf: try again. */
	/* As in __handle_mm_fault(): the table, if it was a leaf before */
	vmf->pmd = pmd_offset(vmf->pud, w.addr);

	ret = install_pmd(vma, vmf->pmd, &w, vma->vm_page_prot, is_write(vmf));
	if (!(ret & VM_FAULT_FALLBACK))
		return ret;
	return insert_ptes(vmf, &w);
}
EXPORT_SYMBOL_GPL(vmf_insert_pfn_extent);
