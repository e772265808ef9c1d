// SPDX-License-Identifier: GPL-2.0
/*
 * Test driver for memremap_pages(): struct pages for parts of BAR 2 of QEMU's
 * ivshmem-plain, which is plain memory. The driver that is bound to the device may
 * map other parts of the BAR meanwhile.
 *
 * Locking: a mutex in each file covers what it has mapped.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/io.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "test_huge_map.h"

#define TMR_BAR		2

struct tmr_file {
	struct pci_dev *pdev;
	struct mutex lock;	/* of the rest */
	bool mapped;
	int nr_range;
	/* The flexible array of struct dev_pagemap has room for two. */
	struct range ranges[2];
	struct dev_pagemap *pgmap;
};

static_assert(TMR_WB == MEMREMAP_WB && TMR_WT == MEMREMAP_WT && TMR_WC == MEMREMAP_WC);

static void tmr_folio_free(struct folio *folio)
{
}

static vm_fault_t tmr_migrate_to_ram(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static const struct dev_pagemap_ops tmr_ops = {
	.folio_free = tmr_folio_free,
	.migrate_to_ram = tmr_migrate_to_ram,
};

/* Context: @f->lock is held. */
static void tmr_unmap(struct tmr_file *f)
{
	if (f->mapped)
		memunmap_pages(f->pgmap);
	f->mapped = false;
}

static int tmr_range(struct tmr_file *f, struct range *range, u64 offset, u64 bytes)
{
	const u64 len = pci_resource_len(f->pdev, TMR_BAR);

	if (!bytes || bytes > len || offset > len - bytes)
		return -EINVAL;
	range->start = pci_resource_start(f->pdev, TMR_BAR) + offset;
	range->end = range->start + bytes - 1;
	return 0;
}

static long tmr_map(struct tmr_file *f, void __user *arg)
{
	static const enum memory_type types[TMR_NR_TYPE] = {
		[TMR_GENERIC] = MEMORY_DEVICE_GENERIC,
		[TMR_FS_DAX] = MEMORY_DEVICE_FS_DAX,
		[TMR_P2PDMA] = MEMORY_DEVICE_PCI_P2PDMA,
		[TMR_PRIVATE] = MEMORY_DEVICE_PRIVATE,
		[TMR_COHERENT] = MEMORY_DEVICE_COHERENT,
	};
	struct test_memremap_map req;
	struct dev_pagemap *pgmap = f->pgmap;
	struct range ranges[2];
	void *addr;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (f->mapped || req.type >= TMR_NR_TYPE ||
	    tmr_range(f, &ranges[0], req.offset, req.bytes) ||
	    (req.bytes2 && tmr_range(f, &ranges[1], req.offset2, req.bytes2)))
		return -EBADRQC;

	memset(pgmap, 0, struct_size(pgmap, ranges, 2));
	pgmap->type = types[req.type];
	pgmap->ops = &tmr_ops;
	pgmap->owner = f;
	pgmap->memremap_flags = req.flags;
	pgmap->vmemmap_shift = req.vmemmap_shift;
	pgmap->nr_range = req.bytes2 ? 2 : 1;
	pgmap->ranges[0] = ranges[0];
	if (req.bytes2)
		pgmap->ranges[1] = ranges[1];
	if (req.altmap) {
		const struct vmem_altmap altmap = {
			.base_pfn = PHYS_PFN(ranges[0].start),
			.free = req.altmap,
			.end_pfn = PHYS_PFN(ranges[0].end),
		};

		pgmap->flags = PGMAP_ALTMAP_VALID;
		memcpy(&pgmap->altmap, &altmap, sizeof(altmap));
	}
	addr = memremap_pages(pgmap, NUMA_NO_NODE);
	if (IS_ERR(addr))
		return PTR_ERR(addr);
	f->mapped = true;
	f->nr_range = pgmap->nr_range;
	memcpy(f->ranges, ranges, sizeof(ranges));
	return addr == __va(ranges[0].start) ? 0 : -EBADE;
}

static void tmr_look(struct test_memremap_leaves *req, const struct range *range,
		     bool *first)
{
	const unsigned long start = (unsigned long)__va(range->start);
	const unsigned long end = (unsigned long)__va(range->end) + 1;
	struct thm_leaf l;
	unsigned long va;

	for (va = start; va < end; va = min(l.next, end)) {
		thm_read_leaf(NULL, va, &l);
		if (!l.present || l.phys != __pa(va))
			req->wrong += (min(l.next, end) - va) >> PAGE_SHIFT;
		if (!l.present)
			continue;
		req->nr[l.leaf]++;
		if (*first)
			req->type = l.type;
		else if (l.type != req->type)
			req->type = THI_MIXED;
		*first = false;
	}
}

static long tmr_leaves(struct tmr_file *f, void __user *arg)
{
	struct test_memremap_leaves req = {};
	bool first = true;

	for (int i = 0; i < f->nr_range; i++) {
		const struct range *range = &f->ranges[i];

		tmr_look(&req, range, &first);
		/* One page of each sub-section */
		for (u64 phys = range->start; phys < range->end; phys += SZ_2M)
			if (!pfn_valid(PHYS_PFN(phys)) ||
			    !is_zone_device_page(pfn_to_page(PHYS_PFN(phys))))
				req.no_page += PAGES_PER_SUBSECTION;
		cond_resched();
	}
	return copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
}

static long tmr_access(struct tmr_file *f, void __user *arg)
{
	struct test_memremap_access req;
	struct page *page;
	void *addr;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (!f->mapped || !IS_ALIGNED(req.offset, sizeof(u32)) ||
	    req.offset >= range_len(&f->ranges[0]))
		return -EINVAL;
	page = pfn_to_page(PHYS_PFN(f->ranges[0].start + req.offset));
	addr = req.kmap ? kmap_local_page(page) : page_address(page);
	addr += offset_in_page(req.offset);
	if (req.write) {
		WRITE_ONCE(*(u32 *)addr, req.value);
		/* Out of the write-combining buffers before anyone else looks. */
		wmb();
	} else {
		req.value = READ_ONCE(*(u32 *)addr);
	}
	if (req.kmap)
		kunmap_local(addr);
	return copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
}

/* What pci_p2pdma_add_resource() allocates belongs to the driver of the device. */
static long tmr_p2pmem(struct tmr_file *f, void __user *arg)
{
	struct device *dev = &f->pdev->dev;
	struct test_memremap_p2pmem req;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (req.bar >= PCI_STD_NUM_BARS)
		return -EBADRQC;
	guard(device)(dev);
	if (!dev->driver)
		return -ENODEV;
	return req.wc ?
	       pci_p2pdma_add_resource_wc(f->pdev, req.bar, req.bytes, req.offset) :
	       pci_p2pdma_add_resource(f->pdev, req.bar, req.bytes, req.offset);
}

long tmr_ioctl(struct file *file, unsigned int cmd, unsigned long val)
{
	struct tmr_file *f = file->private_data;
	void __user *arg = (void __user *)val;

	if (!f->pdev)
		return -ENODEV;
	guard(mutex)(&f->lock);
	switch (cmd) {
	case TMR_MAP:
		return tmr_map(f, arg);
	case TMR_UNMAP:
		tmr_unmap(f);
		return 0;
	case TMR_LEAVES:
		return tmr_leaves(f, arg);
	case TMR_P2PMEM:
		return tmr_p2pmem(f, arg);
	case TMR_ACCESS:
		return tmr_access(f, arg);
	}
	return -ENOTTY;
}

/* The device may have been removed and found again. */
static struct pci_dev *tmr_get_device(void)
{
	struct pci_dev *pdev = pci_get_device(PCI_VENDOR_ID_REDHAT_QUMRANET,
					      0x1110, NULL);	/* ivshmem */

	if (!pdev || pci_resource_len(pdev, TMR_BAR))
		return pdev;
	pci_dev_put(pdev);
	return NULL;
}

/* A file without a device can be opened: it is for another part of the driver. */
int tmr_open(struct file *file)
{
	struct tmr_file *f = kzalloc_obj(*f);

	if (!f)
		return -ENOMEM;
	f->pgmap = kzalloc(struct_size(f->pgmap, ranges, 2), GFP_KERNEL);
	if (!f->pgmap) {
		kfree(f);
		return -ENOMEM;
	}
	f->pdev = tmr_get_device();
	mutex_init(&f->lock);
	file->private_data = f;
	return 0;
}

void tmr_release(struct file *file)
{
	struct tmr_file *f = file->private_data;

	tmr_unmap(f);
	pci_dev_put(f->pdev);
	kfree(f->pgmap);
	kfree(f);
}
