/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Huge leaves of VM_PFNMAP mappings, for the rest of mm/: see mm/huge_pfnmap.c,
 * huge_pfnmap_map.c and huge_pfnmap_place.c.
 */
#ifndef _MM_HUGE_PFNMAP_H
#define _MM_HUGE_PFNMAP_H

#include <linux/huge_iomap.h>
#include <linux/mm.h>

/* Can the VMA have leaves that are split? If not, what asks compiles to nothing. */
static __always_inline bool vma_is_huge_pfnmap(const struct vm_area_struct *vma)
{
	return IS_ENABLED(CONFIG_HUGE_PFNMAP) && (vma->vm_flags & VM_PFNMAP);
}

/*
 * What keeps a VMA from leaves of device memory of this size now? What can be copied is
 * copied page by page, and a driver that wants to hear of writes hears of pages.
 * madvise(MADV_NOHUGEPAGE) is the way out for one mapping. Anonymous VMAs, those
 * without vm_ops, have huge leaves of another kind.
 */
static inline enum huge_iomap_why
huge_pfnmap_vma_why(const struct vm_area_struct *vma, unsigned int shift)
{
	/* Without the option there is no limit, as with vm_ops->huge_fault(). */
	if (IS_ENABLED(CONFIG_HUGE_IOMAP) && huge_iomap_limit_shift() < shift)
		return HUGE_IOMAP_LIMIT;
	if (vma->vm_flags & VM_NOHUGEPAGE)
		return HUGE_IOMAP_MADVISE;
	if (vma_is_cow_mapping(vma))
		return HUGE_IOMAP_PRIVATE;
	if (vma_is_anonymous(vma))
		return HUGE_IOMAP_CALLER;
	return vma->vm_ops->pfn_mkwrite ? HUGE_IOMAP_MKWRITE : HUGE_IOMAP_LARGEST;
}

/* mm/huge_pfnmap.c, with CONFIG_HUGE_PFNMAP */
bool huge_pfnmap_split_pud(struct vm_area_struct *vma, pud_t *pudp,
			   unsigned long addr);
bool huge_pfnmap_split_pmd(struct vm_area_struct *vma, pmd_t *pmdp,
			   unsigned long addr);
int huge_pfnmap_split(struct vm_area_struct *vma, unsigned long addr);
int huge_pfnmap_split_for_move(struct vm_area_struct *vma, unsigned long addr,
			       unsigned long new_addr, unsigned long len);
bool huge_pfnmap_mkwrite_pud(struct vm_fault *vmf, pud_t leaf);
bool huge_pfnmap_mkwrite_pmd(struct vm_fault *vmf);

/* mm/huge_memory.c, with CONFIG_ARCH_SUPPORTS_PUD_PFNMAP or _PMD_PFNMAP */
vm_fault_t insert_pfn_pud(struct vm_area_struct *vma, unsigned long addr,
			  pud_t *pudp, unsigned long pfn, pgprot_t prot,
			  bool write);
vm_fault_t insert_pfn_pmd(struct vm_area_struct *vma, unsigned long addr,
			  pmd_t *pmdp, unsigned long pfn, pgprot_t prot,
			  bool write);

/* mm/huge_pfnmap_map.c */
bool huge_pfnmap_map_pud(struct vm_area_struct *vma, pud_t *pudp,
			 unsigned long addr, unsigned long end,
			 unsigned long pfn, pgprot_t prot);
bool huge_pfnmap_map_pmd(struct vm_area_struct *vma, pmd_t *pmdp,
			 unsigned long addr, unsigned long end,
			 unsigned long pfn, pgprot_t prot);
vm_fault_t handle_hugepfn_fault(struct vm_fault *vmf, bool *mapped);

static inline bool vma_has_hugepfn_fault(const struct vm_area_struct *vma)
{
	return (vma->vm_flags & VM_PFNMAP) && vma->vm_ops &&
	       vma->vm_ops->hugepfn_fault && !vma_is_cow_mapping(vma);
}

/* mm/huge_pfnmap_place.c, with CONFIG_PFNMAP_PLACEMENT */
unsigned long pfnmap_get_unmapped_area(struct file *file, unsigned long addr,
				       unsigned long len, unsigned long pgoff,
				       unsigned long flags);

#endif /* _MM_HUGE_PFNMAP_H */
