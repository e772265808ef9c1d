// SPDX-License-Identifier: GPL-2.0-only
/*
 * mmap() of the BARs of a device, and faults on these mappings.
 *
 * Copyright (C) 2012 Red Hat, Inc.  All rights reserved.
 *     Author: Alex Williamson <alex.williamson@redhat.com>
 */

#include <linux/cleanup.h>
#include <linux/device.h>
#include <linux/err.h>
#include <linux/export.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/pfnmap.h>
#include <linux/rwsem.h>
#include <linux/vfio_pci_core.h>

#include "vfio_pci_priv.h"

/**
 * vfio_pci_vmf_insert_extent - map device memory around a fault, if that is enabled
 * @vdev: the device
 * @vmf: the fault
 * @extent: what lies in the file around it
 *
 * Context: Fault handler. memory_lock is held for reading: it orders this against
 * vfio_pci_zap_bars().
 * Return: as vmf_insert_pfn_extent(); VM_FAULT_SIGBUS if the device is suspended or
 * its memory is disabled.
 */
vm_fault_t vfio_pci_vmf_insert_extent(struct vfio_pci_core_device *vdev,
				      struct vm_fault *vmf,
				      const struct pfn_extent *extent)
{
	lockdep_assert_held_read(&vdev->memory_lock);

	if (vdev->pm_runtime_engaged || !__vfio_pci_memory_enabled(vdev))
		return VM_FAULT_SIGBUS;

	return vmf_insert_pfn_extent(vmf, extent);
}
EXPORT_SYMBOL_GPL(vfio_pci_vmf_insert_extent);

/**
 * vfio_pci_core_pfn_extent - the memory of the BAR at an offset of the device's file
 * @core_vdev: the device
 * @pgoff: offset in pages
 * @extent: where to write it
 *
 * Context: Any.
 * Return: 0, or -EINVAL if no BAR with memory is there.
 */
int vfio_pci_core_pfn_extent(struct vfio_device *core_vdev, pgoff_t pgoff,
			     struct pfn_extent *extent)
{
	struct vfio_pci_core_device *vdev =
		container_of(core_vdev, struct vfio_pci_core_device, vdev);
	unsigned int index = pgoff >> (VFIO_PCI_OFFSET_SHIFT - PAGE_SHIFT);

	if (index >= VFIO_PCI_ROM_REGION_INDEX ||
	    !(pci_resource_flags(vdev->pdev, index) & IORESOURCE_MEM))
		return -EINVAL;
	*extent = (struct pfn_extent) {
		.pgoff = VFIO_PCI_INDEX_TO_OFFSET(index) >> PAGE_SHIFT,
		.pfn = PHYS_PFN(pci_resource_start(vdev->pdev, index)),
		.nr = PFN_UP(pci_resource_len(vdev->pdev, index)),
	};
	return 0;
}
EXPORT_SYMBOL_GPL(vfio_pci_core_pfn_extent);

static vm_fault_t vfio_pci_mmap_fault(struct vm_fault *vmf)
{
	struct vfio_pci_core_device *vdev = vmf->vma->vm_private_data;
	struct pfn_extent bar;
	vm_fault_t ret;

	if (vfio_pci_core_pfn_extent(&vdev->vdev, vmf->pgoff, &bar))
		return VM_FAULT_SIGBUS;

	scoped_guard(rwsem_read, &vdev->memory_lock)
		ret = vfio_pci_vmf_insert_extent(vdev, vmf, &bar);

	dev_dbg_ratelimited(&vdev->pdev->dev, "%s BAR %lu page offset 0x%lx: 0x%x\n",
			    __func__, bar.pgoff >> (VFIO_PCI_OFFSET_SHIFT - PAGE_SHIFT),
			    vmf->pgoff - bar.pgoff, (__force unsigned int)ret);
	return ret;
}

static const struct vm_operations_struct vfio_pci_mmap_ops = {
	.hugepfn_fault = vfio_pci_mmap_fault,
};

int vfio_pci_core_mmap(struct vfio_device *core_vdev, struct vm_area_struct *vma)
{
	struct vfio_pci_core_device *vdev =
		container_of(core_vdev, struct vfio_pci_core_device, vdev);
	struct pci_dev *pdev = vdev->pdev;
	unsigned int index;
	u64 phys_len, req_len, pgoff, req_start;
	void __iomem *bar_io;

	index = vma->vm_pgoff >> (VFIO_PCI_OFFSET_SHIFT - PAGE_SHIFT);

	if (index >= VFIO_PCI_NUM_REGIONS + vdev->num_regions)
		return -EINVAL;
	if (vma->vm_end < vma->vm_start)
		return -EINVAL;
	if ((vma->vm_flags & VM_SHARED) == 0)
		return -EINVAL;
	if (index >= VFIO_PCI_NUM_REGIONS) {
		int regnum = index - VFIO_PCI_NUM_REGIONS;
		struct vfio_pci_region *region = vdev->region + regnum;

		if (region->ops && region->ops->mmap &&
		    (region->flags & VFIO_REGION_INFO_FLAG_MMAP))
			return region->ops->mmap(vdev, region, vma);
		return -EINVAL;
	}
	if (index >= VFIO_PCI_ROM_REGION_INDEX)
		return -EINVAL;
	if (!vdev->bar_mmap_supported[index])
		return -EINVAL;

	phys_len = PAGE_ALIGN(pci_resource_len(pdev, index));
	req_len = vma->vm_end - vma->vm_start;
	pgoff = vma->vm_pgoff &
		((1U << (VFIO_PCI_OFFSET_SHIFT - PAGE_SHIFT)) - 1);
	req_start = pgoff << PAGE_SHIFT;

	if (req_start + req_len > phys_len)
		return -EINVAL;

	/*
	 * Ensure the BAR resource region is reserved for use.
	 */
	bar_io = vfio_pci_core_get_iomap(vdev, index);
	if (IS_ERR(bar_io))
		return PTR_ERR(bar_io);

	vma->vm_private_data = vdev;
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	vma->vm_page_prot = pgprot_decrypted(vma->vm_page_prot);

	/*
	 * Set vm_flags now, they should not be changed in the fault handler.
	 * We want the same flags and page protection (decrypted above) as
	 * io_remap_pfn_range() would set.
	 *
	 * VM_ALLOW_ANY_UNCACHED: The VMA flag is implemented for ARM64,
	 * allowing KVM stage 2 device mapping attributes to use Normal-NC
	 * rather than DEVICE_nGnRE, which allows guest mappings
	 * supporting write-combining attributes (WC). ARM does not
	 * architecturally guarantee this is safe, and indeed some MMIO
	 * regions like the GICv2 VCPU interface can trigger uncontained
	 * faults if Normal-NC is used.
	 *
	 * To safely use VFIO in KVM the platform must guarantee full
	 * safety in the guest where no action taken against a MMIO
	 * mapping can trigger an uncontained failure. The assumption is
	 * that most VFIO PCI platforms support this for both mapping types,
	 * at least in common flows, based on some expectations of how
	 * PCI IP is integrated. Hence VM_ALLOW_ANY_UNCACHED is set in
	 * the VMA flags.
	 */
	vm_flags_set(vma, VM_ALLOW_ANY_UNCACHED | VM_IO | VM_PFNMAP |
			VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_ops = &vfio_pci_mmap_ops;

	return 0;
}
EXPORT_SYMBOL_GPL(vfio_pci_core_mmap);
