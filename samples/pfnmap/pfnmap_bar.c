// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI driver that gives its memory to others: to user space by mmap(), in leaves as
 * large as fit, or to the kernel and to other devices as struct pages. See
 * Documentation/driver-api/pfnmap.rst, which explains it part by part.
 *
 * It has no ids of its own: bind a device by driver_override. BAR 2 is what it maps.
 *
 * Locking: @lock is held for reading by a fault while it maps, and for writing to say
 * that the device is off. What a fault has mapped before that is unmapped after it.
 */
#include <linux/cleanup.h>
#include <linux/io.h>
#include <linux/kref.h>
#include <linux/memremap.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>
#include <linux/pfnmap.h>
#include <linux/rwsem.h>
#include <linux/slab.h>

#define BAR	2

static bool own;
module_param(own, bool, 0644);
MODULE_PARM_DESC(own, "devices bound from now on have struct pages for the driver, no mmap()");

static bool p2p;
module_param(p2p, bool, 0644);
MODULE_PARM_DESC(p2p, "devices bound from now on have p2p memory, no /dev/pfnmap_bar-*");

struct sample {
	struct miscdevice misc;
	phys_addr_t start;		/* of the BAR */
	resource_size_t bytes;
	struct kref ref;		/* the driver, and each open file */
	struct rw_semaphore lock;	/* of what follows */
	struct list_head files;
	bool off;			/* the device has gone, or is being reset */
};

struct sample_file {
	struct sample *s;
	struct address_space *mapping;
	struct list_head node;
};

/* User space: mmap() */

/* begin-extent */
/* The BAR begins at the start of the file. */
static struct pfn_extent sample_extent(const struct sample *s)
{
	return (struct pfn_extent) {
		.pgoff = 0,
		.pfn = PHYS_PFN(s->start),
		.nr = PHYS_PFN(s->bytes),
	};
}

static int sample_pfn_extent(struct file *file, pgoff_t pgoff,
			     struct pfn_extent *extent)
{
	struct sample_file *f = file->private_data;

	*extent = sample_extent(f->s);
	return 0;
}

/* end-extent */

/* begin-fault */
static vm_fault_t sample_fault(struct vm_fault *vmf)
{
	struct sample_file *f = vmf->vma->vm_private_data;
	struct sample *s = f->s;
	const struct pfn_extent bar = sample_extent(s);

	guard(rwsem_read)(&s->lock);
	if (s->off)
		return VM_FAULT_SIGBUS;
	return vmf_insert_pfn_extent(vmf, &bar);
}

static const struct vm_operations_struct sample_vm_ops = {
	.hugepfn_fault	= sample_fault,
};

/* end-fault */

/* begin-mmap */
static int sample_mmap_prepare(struct vm_area_desc *desc)
{
	struct sample_file *f = desc->file->private_data;
	const unsigned long nr = PHYS_PFN(f->s->bytes);

	if (!vma_desc_test(desc, VMA_MAYSHARE_BIT))
		return -EINVAL;
	if (desc->pgoff >= nr || vma_desc_pages(desc) > nr - desc->pgoff)
		return -EINVAL;
	desc->page_prot = pgprot_writecombine(desc->page_prot);
	vma_desc_set_flags(desc, VMA_IO_BIT, VMA_PFNMAP_BIT, VMA_DONTEXPAND_BIT,
			   VMA_DONTDUMP_BIT);
	desc->private_data = f;
	desc->vm_ops = &sample_vm_ops;
	return 0;
}

/* end-mmap */

static void sample_free(struct kref *ref)
{
	kfree(container_of(ref, struct sample, ref));
}

/* misc_open() holds misc_mtx: the device is there until this is through. */
static int sample_open(struct inode *inode, struct file *file)
{
	struct sample *s = container_of(file->private_data, struct sample, misc);
	struct sample_file *f = kzalloc_obj(*f);

	if (!f)
		return -ENOMEM;
	kref_get(&s->ref);
	f->s = s;
	f->mapping = file->f_mapping;
	scoped_guard(rwsem_write, &s->lock)
		list_add(&f->node, &s->files);
	file->private_data = f;
	return 0;
}

/* A mapping holds its file: there is none any more. */
static int sample_release(struct inode *inode, struct file *file)
{
	struct sample_file *f = file->private_data;
	struct sample *s = f->s;

	scoped_guard(rwsem_write, &s->lock)
		list_del(&f->node);
	kref_put(&s->ref, sample_free);
	kfree(f);
	return 0;
}

static const struct file_operations sample_fops = {
	.owner			= THIS_MODULE,
	.open			= sample_open,
	.release		= sample_release,
	.mmap_prepare		= sample_mmap_prepare,
	.pfn_extent		= sample_pfn_extent,
};

/* begin-revoke */
static void sample_revoke(struct sample *s)
{
	struct sample_file *f;

	/* No fault maps anything from here on. */
	scoped_guard(rwsem_write, &s->lock)
		s->off = true;
	/* What has been mapped goes. A file that is open has a list entry. */
	scoped_guard(rwsem_read, &s->lock)
		list_for_each_entry(f, &s->files, node)
			unmap_mapping_range(f->mapping, 0, 0, true);
}

/* Of the PCI core, which holds the device's lock: not while the driver is unbound */
static void sample_reset_prepare(struct pci_dev *pdev)
{
	struct sample *s = pci_get_drvdata(pdev);

	if (s)
		sample_revoke(s);
}

static void sample_reset_done(struct pci_dev *pdev)
{
	struct sample *s = pci_get_drvdata(pdev);

	if (!s)
		return;
	/* The next access faults, and maps again. */
	guard(rwsem_write)(&s->lock);
	s->off = false;
}

/* end-revoke */

static void sample_unregister(void *data)
{
	struct sample *s = data;

	misc_deregister(&s->misc);
	sample_revoke(s);
	kref_put(&s->ref, sample_free);
}

static int sample_add_mmap(struct pci_dev *pdev)
{
	struct sample *s;
	int error;

	/* pgprot_writecombine() is what a driver asks for, this is what it gets. */
	error = devm_arch_io_reserve_memtype_wc(&pdev->dev, pci_resource_start(pdev, BAR),
						pci_resource_len(pdev, BAR));
	if (error)
		return error;
	s = kzalloc_obj(*s);
	if (!s)
		return -ENOMEM;
	kref_init(&s->ref);
	init_rwsem(&s->lock);
	INIT_LIST_HEAD(&s->files);
	s->start = pci_resource_start(pdev, BAR);
	s->bytes = pci_resource_len(pdev, BAR);
	s->misc.minor = MISC_DYNAMIC_MINOR;
	s->misc.name = devm_kasprintf(&pdev->dev, GFP_KERNEL, "pfnmap_bar-%s", pci_name(pdev));
	if (!s->misc.name) {
		kfree(s);
		return -ENOMEM;
	}
	s->misc.fops = &sample_fops;
	s->misc.parent = &pdev->dev;
	error = misc_register(&s->misc);
	if (error) {
		kfree(s);
		return error;
	}
	pci_set_drvdata(pdev, s);
	return devm_add_action_or_reset(&pdev->dev, sample_unregister, s);
}

/* The kernel: struct pages of its own */

/* begin-own */
static int sample_add_own(struct pci_dev *pdev)
{
	struct dev_pagemap *pgmap = devm_kzalloc(&pdev->dev, sizeof(*pgmap), GFP_KERNEL);
	void *addr;

	if (!pgmap)
		return -ENOMEM;
	pgmap->type = MEMORY_DEVICE_GENERIC;
	pgmap->range.start = pci_resource_start(pdev, BAR);
	pgmap->range.end = pci_resource_end(pdev, BAR);
	pgmap->nr_range = 1;
	pgmap->memremap_flags = MEMREMAP_WC;
	addr = devm_memremap_pages(&pdev->dev, pgmap);
	if (IS_ERR(addr))
		return PTR_ERR(addr);

	memset(addr, 0, PAGE_SIZE);
	/* The stores are combined, in any order, until they are drained. */
	wmb();
	return 0;
}

/* end-own */

/* Other devices: peer-to-peer DMA */

/* begin-p2p */
static int sample_add_p2p(struct pci_dev *pdev)
{
	int error = pci_p2pdma_add_resource_wc(pdev, BAR, 0, 0);

	if (!error)
		pci_p2pmem_publish(pdev, true);
	return error;
}

/* end-p2p */

static int sample_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int error;

	if (!(pci_resource_flags(pdev, BAR) & IORESOURCE_PREFETCH) ||
	    pci_resource_len(pdev, BAR) < PAGE_SIZE)
		return -ENODEV;
	error = pcim_enable_device(pdev);
	if (error)
		return error;
	error = pcim_request_region(pdev, BAR, KBUILD_MODNAME);
	if (error)
		return error;
	if (own)
		return sample_add_own(pdev);
	if (p2p)
		return sample_add_p2p(pdev);
	return sample_add_mmap(pdev);
}

static const struct pci_error_handlers sample_err_handler = {
	.reset_prepare	= sample_reset_prepare,
	.reset_done	= sample_reset_done,
};

static struct pci_driver sample_driver = {
	.name		= KBUILD_MODNAME,
	.probe		= sample_probe,
	.err_handler	= &sample_err_handler,
};
module_pci_driver(sample_driver);

MODULE_DESCRIPTION("Sample: map a PCI BAR for user space, the kernel and other devices");
MODULE_LICENSE("GPL");
