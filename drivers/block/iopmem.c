// SPDX-License-Identifier: GPL-2.0
/*
 * The memory behind a BAR of any PCI device: as a block device with DAX, as a
 * character device for mmap(), or as memory for peer-to-peer DMA.
 *
 * The driver has no ids of its own. Bind it by driver_override or new_id.
 *
 * Ordering. A prefetchable BAR is mapped write-combining: the CPU keeps stores in
 * buffers, in any order, until it drains them (Intel SDM, volume 3, "Methods of
 * Caching Available"), and PCI Express posts them. Stores have reached the device when
 * wmb() has drained the buffers and a read of the device has come back after it, for
 * a read does not pass posted writes (PCI Express Base Specification, "Transaction
 * Ordering"). device_sync() does both, at the end of every bio, so that the CPU
 * and other devices see what a bio that is complete has written. Who writes through
 * mmap() has fsync(), which ends in a flush, or does the same by hand.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/dax.h>
#include <linux/idr.h>
#include <linux/kref.h>
#include <linux/memcpy_wc.h>
#include <linux/memremap.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>
#include <linux/pfnmap.h>
#include <linux/pm.h>
#include <linux/rwsem.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <uapi/linux/p2pmem.h>

enum { MODE_BLOCK, MODE_CHAR, MODE_P2PMEM };

static const char *const mode_names[] = {
	[MODE_BLOCK]	= "block",
	[MODE_CHAR]	= "char",
	[MODE_P2PMEM]	= "p2pmem",
};

static int mode = MODE_BLOCK;

static int mode_set(const char *val, const struct kernel_param *kp)
{
	int i = sysfs_match_string(mode_names, val);

	if (i < 0)
		return i;
	WRITE_ONCE(mode, i);
	return 0;
}

static int mode_get(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%s\n", mode_names[READ_ONCE(mode)]);
}

static const struct kernel_param_ops mode_ops = {
	.set = mode_set,
	.get = mode_get,
};
module_param_cb(mode, &mode_ops, NULL, 0644);
MODULE_PARM_DESC(mode, "what devices that are bound from now on become: block (default), char, p2pmem");

static int bar = -1;
module_param(bar, int, 0644);
MODULE_PARM_DESC(bar, "BAR of devices that are bound from now on (default -1: the largest)");

static bool wc = true;
module_param(wc, bool, 0644);
MODULE_PARM_DESC(wc, "map prefetchable BARs write-combining, not uncached (default Y)");

static DEFINE_IDA(iopmem_ida);

/**
 * struct iopmem - a device that is bound
 * @pdev: the device
 * @bar: number of the BAR
 * @phys: physical address of the BAR
 * @size: of the BAR in bytes
 * @id: number, for names
 * @wc: mapped write-combining, not uncached
 * @addr: of the memory in the direct map
 * @disk: in mode block
 * @dax: in mode block
 * @misc: in mode char
 * @ref: in mode char: open files and the driver
 * @lock: in mode char: orders faults, opens and exports against removal. Guards
 *	@files, @dead
 * @files: in mode char: struct iopmem_file
 * @exports: in mode char: dma-bufs
 * @dead: the device is being reset, or its link is frozen; in mode char also: the driver
 *	is unbound. In mode block, the disk's open_mutex orders it against opens
 */
struct iopmem {
	struct pci_dev *pdev;
	int bar;
	phys_addr_t phys;
	u64 size;
	int id;
	bool wc;

	void *addr;
	struct gendisk *disk;
	struct dax_device *dax;

	struct miscdevice misc;
	struct kref ref;
	struct rw_semaphore lock;
	struct list_head files;
	struct list_head exports;
	bool dead;
};

struct iopmem_file {
	struct iopmem *iop;
	struct list_head node;
	struct address_space *mapping;
};

/* Is the device there, and does it decode its memory? VFs have no bit for that. */
static bool device_works(struct iopmem *iop)
{
	u16 command;

	return !pci_read_config_word(iop->pdev, PCI_COMMAND, &command) &&
	       !PCI_POSSIBLE_ERROR(command) &&
	       (iop->pdev->no_command_memory || (command & PCI_COMMAND_MEMORY));
}

/* Drain and flush what the CPU has written: device_works() is the read behind it. */
static bool device_sync(struct iopmem *iop)
{
	/* Stores that are in write-combining buffers go to the device now. */
	wmb();
	return device_works(iop);
}

static int add_p2p_memory(struct iopmem *iop, int bar)
{
	return iop->wc ? pci_p2pdma_add_resource_wc(iop->pdev, bar, 0, 0) :
			 pci_p2pdma_add_resource(iop->pdev, bar, 0, 0);
}

/* Block device */

static bool copy_segment(struct bio_vec *bv, void *addr, bool write)
{
	void *mem = bvec_kmap_local(bv);
	unsigned long left = 0;

	if (write) {
		flush_dcache_page(bv->bv_page);
		memcpy_flushcache(addr, mem, bv->bv_len);
	} else {
		left = copy_mc_from_wc(mem, addr, bv->bv_len);
		flush_dcache_page(bv->bv_page);
	}
	kunmap_local(mem);
	return !left;
}

static blk_status_t iopmem_rw(struct iopmem *iop, struct bio *bio)
{
	const bool write = op_is_write(bio_op(bio));
	struct bvec_iter iter;
	struct bio_vec bv;

	bio_for_each_segment(bv, bio, iter) {
		void *addr = iop->addr + (iter.bi_sector << SECTOR_SHIFT);

		if (!copy_segment(&bv, addr, write))
			return BLK_STS_IOERR;
		/* A read of a BAR is slow: 1 GiB may take a minute. */
		cond_resched();
	}
	return BLK_STS_OK;
}

static void iopmem_submit_bio(struct bio *bio)
{
	struct block_device *bdev = bio->bi_bdev;
	struct iopmem *iop = bdev->bd_disk->private_data;
	const bool acct = bio_has_data(bio) && blk_queue_io_stat(bdev->bd_disk->queue);
	blk_status_t status = BLK_STS_OK;
	unsigned long start;

	switch (bio_op(bio)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
	case REQ_OP_FLUSH:
		break;
	default:
		bio->bi_status = BLK_STS_NOTSUPP;
		bio_endio(bio);
		return;
	}

	/* REQ_PREFLUSH and REQ_FUA ask for no more than what every bio gets. */
	if (acct)
		start = bio_start_io_acct(bio);
	if (bio_has_data(bio))
		status = iopmem_rw(iop, bio);
	if (!device_sync(iop))
		status = BLK_STS_IOERR;
	if (acct)
		bio_end_io_acct(bio, start);
	bio->bi_status = status;
	bio_endio(bio);
}

/* Context: open_mutex is held. */
static int iopmem_open_block(struct gendisk *disk, blk_mode_t mode)
{
	struct iopmem *iop = disk->private_data;

	return READ_ONCE(iop->dead) ? -ENXIO : 0;
}

static const struct block_device_operations iopmem_block_ops = {
	.owner		= THIS_MODULE,
	.open		= iopmem_open_block,
	.submit_bio	= iopmem_submit_bio,
};

static long iopmem_direct_access(struct dax_device *dax, pgoff_t pgoff, long nr_pages,
				 enum dax_access_mode mode, void **kaddr,
				 unsigned long *pfn)
{
	struct iopmem *iop = dax_get_private(dax);
	const u64 offset = PFN_PHYS(pgoff);

	/* kill_dax() may have come after the core's look. */
	if (!iop || !device_works(iop))
		return -EIO;
	if (kaddr)
		*kaddr = iop->addr + offset;
	if (pfn)
		*pfn = PHYS_PFN(iop->phys + offset);
	return PHYS_PFN(iop->size - offset);
}

static int iopmem_zero_page_range(struct dax_device *dax, pgoff_t pgoff, size_t nr_pages)
{
	struct iopmem *iop = dax_get_private(dax);

	if (!iop)
		return -EIO;
	memset(iop->addr + PFN_PHYS(pgoff), 0, PFN_PHYS(nr_pages));
	return device_sync(iop) ? 0 : -EIO;
}

static const struct dax_operations iopmem_dax_ops = {
	.direct_access		= iopmem_direct_access,
	.zero_page_range	= iopmem_zero_page_range,
};

static int iopmem_memory_failure(struct dev_pagemap *pgmap, unsigned long pfn,
				 unsigned long nr_pages, int mf_flags)
{
	struct iopmem *iop = pci_get_drvdata(pgmap->owner);

	return dax_holder_notify_failure(iop->dax, PFN_PHYS(pfn) - iop->phys,
					 PFN_PHYS(nr_pages), mf_flags);
}

static const struct dev_pagemap_ops iopmem_pagemap_ops = {
	.memory_failure	= iopmem_memory_failure,
};

/*
 * What is written to memory that does not answer is lost, and nobody hears of it. A file
 * system on it is shut down, and nothing of it stays mapped. The driver has to be bound
 * again.
 */
static void iopmem_stop_block(struct iopmem *iop)
{
	scoped_guard(mutex, &iop->disk->open_mutex) {
		WRITE_ONCE(iop->dead, true);
		if (!disk_openers(iop->disk))
			return;
	}
	blk_mark_disk_dead(iop->disk);
	/* What is being copied is through before the reset, or fails. */
	blk_mq_freeze_queue_wait(iop->disk->queue);
	kill_dax(iop->dax);
	/* Who has pins may wait for a device that is reset with this one. */
	dax_unmap_pages(PHYS_PFN(iop->phys), PHYS_PFN(iop->size));
}

static void iopmem_remove_block(void *data)
{
	struct iopmem *iop = data;

	/* The file system syncs, and is shut down. */
	del_gendisk(iop->disk);
	dax_remove_host(iop->disk);
	kill_dax(iop->dax);
	dax_evict_pages(PHYS_PFN(iop->phys), PHYS_PFN(iop->size));
	put_disk(iop->disk);
}

/* The pagemap is gone: iopmem_memory_failure() is not called any more. */
static void iopmem_put_dax(void *data)
{
	struct iopmem *iop = data;

	kill_dax(iop->dax);
	put_dax(iop->dax);
}

static int iopmem_add_block(struct iopmem *iop, int bar)
{
	struct queue_limits lim = {
		.logical_block_size	= SECTOR_SIZE,
		.physical_block_size	= PAGE_SIZE,
		.max_hw_sectors		= UINT_MAX,
		.features		= BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA |
					  BLK_FEAT_SYNCHRONOUS | BLK_FEAT_DAX,
	};
	struct device *dev = &iop->pdev->dev;
	int error;

	iop->dax = alloc_dax(iop, &iopmem_dax_ops);
	if (IS_ERR(iop->dax))
		return PTR_ERR(iop->dax);
	error = devm_add_action_or_reset(dev, iopmem_put_dax, iop);
	if (error)
		return error;
	iop->addr = pcim_p2pdma_memremap(iop->pdev, bar, 0, 0, iop->wc ? MEMREMAP_WC : 0,
					 &iopmem_pagemap_ops);
	if (IS_ERR(iop->addr))
		return PTR_ERR(iop->addr);

	iop->disk = blk_alloc_disk(&lim, dev_to_node(dev));
	if (IS_ERR(iop->disk))
		return PTR_ERR(iop->disk);
	iop->disk->fops = &iopmem_block_ops;
	iop->disk->private_data = iop;
	snprintf(iop->disk->disk_name, sizeof(iop->disk->disk_name), "iopmem%d", iop->id);
	set_capacity(iop->disk, iop->size >> SECTOR_SHIFT);

	error = dax_add_host(iop->dax, iop->disk);
	if (error)
		goto err_disk;
	error = device_add_disk(dev, iop->disk, NULL);
	if (error)
		goto err_host;
	return devm_add_action_or_reset(dev, iopmem_remove_block, iop);

err_host:
	dax_remove_host(iop->disk);
err_disk:
	put_disk(iop->disk);
	return error;
}

/* Character device */

/*
 * Map the folio around a fault by one leaf, or a page of it. The page tables hold the
 * only references to memory that no DMA uses: with them it becomes free, for folios of
 * other orders, but keeps its contents.
 */
static vm_fault_t iopmem_huge_fault(struct vm_fault *vmf, unsigned int order)
{
	struct iopmem_file *f = vmf->vma->vm_file->private_data;
	struct iopmem *iop = f->iop;
	const unsigned long size = PAGE_SIZE << order;
	const unsigned long addr = ALIGN_DOWN(vmf->address, size);
	const u64 offset = PFN_PHYS(vmf->pgoff) - (ALIGN_DOWN(vmf->address, PAGE_SIZE) - addr);
	struct folio *folio;
	vm_fault_t ret;

	/* No folio is made that a leaf could not map; the VMA may not be congruent. */
	if (order && (!pci_p2pdma_leaf_fits(vmf, order) ||
		      !IS_ALIGNED(iop->phys + offset, size)))
		return VM_FAULT_FALLBACK;

	guard(rwsem_read)(&iop->lock);
	if (iop->dead || !device_works(iop))
		return VM_FAULT_SIGBUS;

	folio = pci_p2pdma_get_folio(iop->pdev, iop->addr + offset, order);
	if (folio == ERR_PTR(-EAGAIN)) /* It is just becoming free. */
		return fatal_signal_pending(current) ? VM_FAULT_SIGBUS : VM_FAULT_NOPAGE;
	if (IS_ERR_OR_NULL(folio))
		return folio || !order ? VM_FAULT_SIGBUS : VM_FAULT_FALLBACK;
	ret = pci_p2pdma_vmf_insert(vmf, virt_to_page(iop->addr + PFN_PHYS(vmf->pgoff)), order);
	folio_put(folio);
	return ret;
}

static vm_fault_t iopmem_fault(struct vm_fault *vmf)
{
	return iopmem_huge_fault(vmf, 0);
}

static const struct vm_operations_struct iopmem_vm_ops = {
	.fault		= iopmem_fault,
	.huge_fault	= iopmem_huge_fault,
};

static int iopmem_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct iopmem_file *f = file->private_data;
	struct iopmem *iop = f->iop;
	const unsigned long pages = PHYS_PFN(iop->size);

	if (!(vma->vm_flags & VM_MAYSHARE) || vma->vm_pgoff >= pages ||
	    vma_pages(vma) > pages - vma->vm_pgoff)
		return -EINVAL;
	if (READ_ONCE(iop->dead))
		return -ENODEV;
	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP | VM_HUGEPAGE);
	vma->vm_ops = &iopmem_vm_ops;
	return 0;
}

static int iopmem_pfn_extent(struct file *file, pgoff_t pgoff,
			     struct pfn_extent *extent)
{
	struct iopmem_file *f = file->private_data;

	*extent = (struct pfn_extent) {
		.pfn = PHYS_PFN(f->iop->phys),
		.nr = PHYS_PFN(f->iop->size),
	};
	return 0;
}

static void iopmem_free(struct kref *ref)
{
	struct iopmem *iop = container_of(ref, struct iopmem, ref);

	kfree(iop->misc.name);
	kfree(iop);
}

/* misc_mtx is held: the driver is not unbound before this is through. */
static int iopmem_open(struct inode *inode, struct file *file)
{
	struct iopmem *iop = container_of(file->private_data, struct iopmem, misc);
	struct iopmem_file *f = kzalloc_obj(*f);

	if (!f)
		return -ENOMEM;
	kref_get(&iop->ref);
	f->iop = iop;
	f->mapping = file->f_mapping;
	/* As with device DAX: leaves are zapped and faulted in again, not split. */
	inode->i_flags |= S_DAX;
	scoped_guard(rwsem_write, &iop->lock)
		list_add(&f->node, &iop->files);
	file->private_data = f;
	return 0;
}

static int iopmem_release(struct inode *inode, struct file *file)
{
	struct iopmem_file *f = file->private_data;
	struct iopmem *iop = f->iop;

	scoped_guard(rwsem_write, &iop->lock)
		list_del(&f->node);
	kref_put(&iop->ref, iopmem_free);
	kfree(f);
	return 0;
}

/* msync(), too: what this CPU has stored is in the device. */
static int iopmem_fsync(struct file *file, loff_t start, loff_t end, int datasync)
{
	struct iopmem_file *f = file->private_data;

	guard(rwsem_read)(&f->iop->lock);
	return !f->iop->dead && device_sync(f->iop) ? 0 : -EIO;
}

/* A dma-buf, for who uses the memory longer than by O_DIRECT */
static long iopmem_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct iopmem_file *f = file->private_data;
	struct iopmem *iop = f->iop;
	struct p2pmem_export req;

	if (cmd != P2PMEM_EXPORT || !IS_ENABLED(CONFIG_PCI_P2PDMA_DMABUF))
		return -ENOTTY;
	/* Importers read and write. */
	if ((file->f_mode & (FMODE_READ | FMODE_WRITE)) != (FMODE_READ | FMODE_WRITE))
		return -EBADF;
	if (copy_from_user(&req, (void __user *)arg, sizeof(req)))
		return -EFAULT;
	if (req.flags)
		return -EINVAL;
	guard(rwsem_read)(&iop->lock);
	if (iop->dead)
		return -ENODEV;
	return pci_p2pdma_export(&iop->exports, iop->pdev, iop->bar, req.start, req.size,
				 req.open_flags);
}

static const struct file_operations iopmem_fops = {
	.owner			= THIS_MODULE,
	.unlocked_ioctl		= iopmem_ioctl,
	.compat_ioctl		= compat_ptr_ioctl,
	.open			= iopmem_open,
	.release		= iopmem_release,
	.fsync			= iopmem_fsync,
	.mmap			= iopmem_mmap,
	.pfn_extent		= iopmem_pfn_extent,
	.llseek			= noop_llseek,
};

/* Context: The device lock is held. */
static void iopmem_stop_char(struct iopmem *iop)
{
	struct iopmem_file *f;

	scoped_guard(rwsem_write, &iop->lock)
		iop->dead = true;
	/* No fault maps anything from here on, and nothing is exported. */
	scoped_guard(rwsem_read, &iop->lock)
		list_for_each_entry(f, &iop->files, node)
			unmap_mapping_range(f->mapping, 0, 0, true);
	if (IS_ENABLED(CONFIG_PCI_P2PDMA_DMABUF))
		pci_p2pdma_revoke(&iop->exports);
}

static void iopmem_remove_char(void *data)
{
	struct iopmem *iop = data;

	misc_deregister(&iop->misc);
	iopmem_stop_char(iop);
}

static int iopmem_add_char(struct iopmem *iop, int bar)
{
	struct device *dev = &iop->pdev->dev;
	int error;

	error = add_p2p_memory(iop, bar);
	if (error)
		return error;
	iop->addr = __va(iop->phys);
	iop->misc.name = kasprintf(GFP_KERNEL, "iopmem%dc", iop->id);
	if (!iop->misc.name)
		return -ENOMEM;
	iop->misc.minor = MISC_DYNAMIC_MINOR;
	iop->misc.fops = &iopmem_fops;
	iop->misc.parent = dev;
	error = misc_register(&iop->misc);
	if (error)
		return error;
	return devm_add_action_or_reset(dev, iopmem_remove_char, iop);
}

/* Memory for peer-to-peer DMA */

static int iopmem_add_p2pmem(struct iopmem *iop, int bar)
{
	int error = add_p2p_memory(iop, bar);

	if (!error)
		pci_p2pmem_publish(iop->pdev, true);
	return error;
}

/* PCI */

/* The BAR that the parameter names, or the largest one: its number or -ENODEV */
static int choose_bar(struct pci_dev *pdev, int wanted)
{
	int best = -ENODEV;

	for (int i = 0; i < PCI_STD_NUM_BARS; i++) {
		if ((wanted >= 0 && i != wanted) ||
		    !(pci_resource_flags(pdev, i) & IORESOURCE_MEM) ||
		    pci_resource_len(pdev, i) < PAGE_SIZE)
			continue;
		if (best < 0 || pci_resource_len(pdev, i) > pci_resource_len(pdev, best))
			best = i;
	}
	return best;
}

static void iopmem_put(void *data)
{
	struct iopmem *iop = data;

	ida_free(&iopmem_ida, iop->id);
	kref_put(&iop->ref, iopmem_free);
}

static int iopmem_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	const int as = READ_ONCE(mode), nr = choose_bar(pdev, READ_ONCE(bar));
	struct iopmem *iop;
	int error;

	if (nr < 0) {
		pci_err(pdev, "no such memory BAR\n");
		return nr;
	}
	error = pcim_enable_device(pdev);
	if (error)
		return error;
	error = pcim_request_region(pdev, nr, KBUILD_MODNAME);
	if (error)
		return error;

	iop = kzalloc_obj(*iop);
	if (!iop)
		return -ENOMEM;
	iop->id = ida_alloc(&iopmem_ida, GFP_KERNEL);
	if (iop->id < 0) {
		error = iop->id;
		kfree(iop);
		return error;
	}
	kref_init(&iop->ref);
	init_rwsem(&iop->lock);
	INIT_LIST_HEAD(&iop->files);
	INIT_LIST_HEAD(&iop->exports);
	iop->pdev = pdev;
	iop->bar = nr;
	iop->phys = pci_resource_start(pdev, nr);
	iop->size = pci_resource_len(pdev, nr);
	iop->wc = READ_ONCE(wc) && (pci_resource_flags(pdev, nr) & IORESOURCE_PREFETCH);
	error = devm_add_action_or_reset(&pdev->dev, iopmem_put, iop);
	if (error)
		return error;
	pci_set_drvdata(pdev, iop);

	switch (as) {
	case MODE_BLOCK:
		error = iopmem_add_block(iop, nr);
		break;
	case MODE_CHAR:
		error = iopmem_add_char(iop, nr);
		break;
	default:
		error = iopmem_add_p2pmem(iop, nr);
		break;
	}
	if (error)
		return error;
	pci_info(pdev, "BAR %d, %llu MiB, %s: %s\n", nr, iop->size / SZ_1M,
		 iop->wc ? "write-combining" : "uncached", mode_names[as]);
	return 0;
}

/*
 * Memory behind a BAR loses its contents when the device loses power. A file system
 * would come back with what it has cached over what is there then, and a mapping with
 * other data: do not sleep. Processes are frozen: nobody opens it after the look.
 */
static int iopmem_suspend(struct device *dev)
{
	struct iopmem *iop = dev_get_drvdata(dev);
	bool busy = false;

	if (iop->disk) {
		busy = disk_openers(iop->disk);
	} else if (iop->misc.name) {
		guard(rwsem_read)(&iop->lock);
		busy = !list_empty(&iop->files);
		if (IS_ENABLED(CONFIG_PCI_P2PDMA_DMABUF))
			busy |= pci_p2pdma_exported(&iop->exports);
	}
	if (!busy)
		return 0;
	dev_err(dev, "in use: its memory would be lost\n");
	return -EBUSY;
}

static DEFINE_SIMPLE_DEV_PM_OPS(iopmem_pm_ops, iopmem_suspend, NULL);

static void iopmem_stop(struct iopmem *iop)
{
	if (iop->disk)
		iopmem_stop_block(iop);
	else if (iop->misc.name)
		iopmem_stop_char(iop);
}

/* The device does not decode its memory while it is reset. */
static void iopmem_reset_prepare(struct pci_dev *pdev)
{
	iopmem_stop(pci_get_drvdata(pdev));
}

static void iopmem_reset_done(struct pci_dev *pdev)
{
	struct iopmem *iop = pci_get_drvdata(pdev);

	/* A disk that was in use stays dead. */
	if (iop->disk && test_bit(GD_DEAD, &iop->disk->state))
		return;
	guard(rwsem_write)(&iop->lock);
	WRITE_ONCE(iop->dead, false);
}

/* A link that is frozen is reset without iopmem_reset_prepare(), and not recovered. */
static pci_ers_result_t iopmem_error_detected(struct pci_dev *pdev, pci_channel_state_t state)
{
	struct iopmem *iop = pci_get_drvdata(pdev);

	if (state != pci_channel_io_normal)
		iopmem_stop(iop);
	return PCI_ERS_RESULT_NO_AER_DRIVER;
}

static const struct pci_error_handlers iopmem_err_handler = {
	.error_detected	= iopmem_error_detected,
	.reset_prepare	= iopmem_reset_prepare,
	.reset_done	= iopmem_reset_done,
};

/* Everything is undone by what was added with devm_add_action(), in reverse order. */
static struct pci_driver iopmem_driver = {
	.name		= KBUILD_MODNAME,
	.probe		= iopmem_probe,
	.err_handler	= &iopmem_err_handler,
	.driver.pm	= pm_sleep_ptr(&iopmem_pm_ops),
};
module_pci_driver(iopmem_driver);

MODULE_DESCRIPTION("PCI BAR as block device, character device or p2p memory");
MODULE_LICENSE("GPL");
