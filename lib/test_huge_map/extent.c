// SPDX-License-Identifier: GPL-2.0
/*
 * Device memory behind a file that mmap() replaces by another: as dma-buf does, and
 * drivers that keep their state in a file of its own. The file that was opened says
 * where the memory lies, the other one is what is mapped.
 *
 * Locking: none. The place of the BAR stays where it was found, and nothing is taken
 * back when the device goes: see samples/pfnmap for what a driver has to do.
 */
#include <linux/anon_inodes.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/pfnmap.h>

#include "test_huge_map.h"

static const struct file_operations the_fops = {
};

/* The extent in terms of the file that is mapped */
static vm_fault_t the_fault(struct vm_fault *vmf)
{
	struct pfn_extent extent = {};

	if (!thi_bar_pfns(&extent.pfn, &extent.nr))
		return VM_FAULT_SIGBUS;
	return vmf_insert_pfn_extent(vmf, &extent);
}

static const struct vm_operations_struct the_vm_ops = {
	.hugepfn_fault = the_fault,
};

/* Writes may go ahead. */
static vm_fault_t the_mkwrite(struct vm_fault *vmf)
{
	return 0;
}

static const struct vm_operations_struct the_mkwrite_vm_ops = {
	.hugepfn_fault = the_fault,
	.pfn_mkwrite = the_mkwrite,
};

static pgoff_t the_start(pgoff_t pgoff)
{
	return PHYS_PFN(pgoff < PHYS_PFN(THE_MKWRITE) ? THE_MMAP : THE_MKWRITE);
}

/* The extent in terms of the file that was opened */
int the_pfn_extent(struct file *file, pgoff_t pgoff, struct pfn_extent *extent)
{
	if (pgoff < PHYS_PFN(THE_MMAP) || pgoff >= PHYS_PFN(THE_MMAP_END))
		return -ENODEV;
	extent->pgoff = the_start(pgoff);
	return thi_bar_pfns(&extent->pfn, &extent->nr) ? 0 : -ENODEV;
}

int the_mmap(struct file *file, struct vm_area_struct *vma)
{
	const pgoff_t start = the_start(vma->vm_pgoff), pgoff = vma->vm_pgoff - start;
	unsigned long pfn, nr;
	struct file *other;

	if (!thi_bar_pfns(&pfn, &nr))
		return -ENODEV;
	if (!(vma->vm_flags & VM_MAYSHARE) || pgoff >= nr || vma_pages(vma) > nr - pgoff)
		return -EINVAL;
	other = anon_inode_getfile("[test_huge_map]", &the_fops, NULL, O_RDWR);
	if (IS_ERR(other))
		return PTR_ERR(other);
	vma_set_file(vma, other);
	fput(other);

	vma->vm_pgoff = pgoff;
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_ops = start == PHYS_PFN(THE_MMAP) ? &the_vm_ops : &the_mkwrite_vm_ops;
	return 0;
}
