// SPDX-License-Identifier: GPL-2.0
/*
 * Memory behind a PCI BAR as dma-bufs, for importers that map it for longer than
 * removal of the device can wait: each mapping can be revoked.
 *
 * Locking: exports_lock guards the lists of dma-bufs, and their revoking. The reservation
 * lock of a dma-buf guards its revoked and nr_mapped. Neither is taken under the other.
 */
#include <linux/dma-buf.h>
#include <linux/dma-buf-mapping.h>
#include <linux/dma-resv.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait_bit.h>

#include <uapi/linux/p2pmem.h>

#include "p2pdma.h"

static DEFINE_MUTEX(exports_lock);

/**
 * struct p2pdma_dmabuf - a part of a BAR as a dma-buf
 * @node: in a list of the driver; empty when it was revoked
 * @dmabuf: that it is
 * @provider: valid as long as it is not revoked
 * @phys: the memory
 * @folios: a reference to each folio of the memory is held
 * @nr_mapped: mappings that importers have
 * @revoking: pci_p2pdma_revoke() is at it; release() waits. A reference to the file
 *	would not do: who has opened it by O_PATH keeps the dma-buf, but not the file
 * @revoked: for good: the driver of the device goes, or the device is reset
 */
struct p2pdma_dmabuf {
	struct list_head node;
	struct dma_buf *dmabuf;
	struct p2pdma_provider *provider;
	struct phys_vec phys;
	bool folios;
	unsigned int nr_mapped;
	bool revoking;
	bool revoked;
};

/* VFs have no bit for that. */
static bool decodes_memory(struct pci_dev *pdev)
{
	u16 command;

	if (pdev->current_state == PCI_D3hot || pdev->current_state == PCI_D3cold)
		return false;
	return !pci_read_config_word(pdev, PCI_COMMAND, &command) &&
	       !PCI_POSSIBLE_ERROR(command) &&
	       (pdev->no_command_memory || (command & PCI_COMMAND_MEMORY));
}

/* May it be mapped? Context: the reservation lock is held: it is not revoked meanwhile. */
static bool is_there(struct p2pdma_dmabuf *p)
{
	dma_resv_assert_held(p->dmabuf->resv);
	return !p->revoked && decodes_memory(to_pci_dev(p->provider->owner));
}

static int p2pdma_dmabuf_attach(struct dma_buf *dmabuf,
				struct dma_buf_attachment *attachment)
{
	struct p2pdma_dmabuf *p = dmabuf->priv;

	/* Removal of the device waits for the importer. */
	if (!attachment->peer2peer || !dma_buf_attach_revocable(attachment))
		return -EOPNOTSUPP;
	return READ_ONCE(p->revoked) ? -ENODEV : 0;
}

static struct sg_table *p2pdma_dmabuf_map(struct dma_buf_attachment *attachment,
					  enum dma_data_direction dir)
{
	struct p2pdma_dmabuf *p = attachment->dmabuf->priv;
	struct sg_table *sgt;

	if (!is_there(p))
		return ERR_PTR(-ENODEV);
	sgt = dma_buf_phys_vec_to_sgt(attachment, p->provider, &p->phys, 1, p->phys.len, dir);
	if (!IS_ERR(sgt))
		p->nr_mapped++;
	return sgt;
}

static void p2pdma_dmabuf_unmap(struct dma_buf_attachment *attachment,
				struct sg_table *sgt, enum dma_data_direction dir)
{
	struct p2pdma_dmabuf *p = attachment->dmabuf->priv;

	dma_buf_free_sgt(attachment, sgt, dir);
	store_release_wake_up(&p->nr_mapped, p->nr_mapped - 1);
}

static void put_folios(phys_addr_t paddr, u64 size)
{
	for (u64 done = 0; done < size; ) {
		struct page *page = pfn_to_page(PHYS_PFN(paddr + done));
		struct folio *folio = page_folio(page);

		done += folio_size(folio) - folio_page_idx(folio, page) * PAGE_SIZE;
		folio_put(folio);
		cond_resched();
	}
}

static void p2pdma_dmabuf_release(struct dma_buf *dmabuf)
{
	struct p2pdma_dmabuf *p = dmabuf->priv;

	scoped_guard(mutex, &exports_lock) {
		list_del(&p->node);
		wait_var_event_mutex(&p->revoking, !p->revoking, &exports_lock);
	}
	if (p->folios)
		put_folios(p->phys.paddr, p->phys.len);
	kfree(p);
}

static const struct dma_buf_ops p2pdma_dmabuf_ops = {
	.attach = p2pdma_dmabuf_attach,
	.map_dma_buf = p2pdma_dmabuf_map,
	.unmap_dma_buf = p2pdma_dmabuf_unmap,
	.release = p2pdma_dmabuf_release,
};

static void revoke(struct p2pdma_dmabuf *p)
{
	struct dma_buf *dmabuf = p->dmabuf;

	dma_resv_lock(dmabuf->resv, NULL);
	WRITE_ONCE(p->revoked, true);
	dma_buf_invalidate_mappings(dmabuf);
	dma_resv_wait_timeout(dmabuf->resv, DMA_RESV_USAGE_BOOKKEEP, false,
			      MAX_SCHEDULE_TIMEOUT);
	dma_resv_unlock(dmabuf->resv);
	/* Pairs with store_release_wake_up(): what was mapped is unmapped. */
	wait_var_event(&p->nr_mapped, !smp_load_acquire(&p->nr_mapped));

	/* Removal waits for these, too. */
	if (p->folios)
		put_folios(p->phys.paddr, p->phys.len);
	p->folios = false;
}

/**
 * p2pdma_export - make p2p memory a dma-buf
 * @exports: list of dma-bufs
 * @provider: of the memory
 * @paddr: the memory, page aligned
 * @size: in bytes, page aligned
 * @flags: for the file descriptor
 * @folios: the caller has a reference to each folio of the memory, and gives it away,
 *	also if this fails
 *
 * Context: Process context. May sleep.
 * Return: see pci_p2pdma_export().
 */
int p2pdma_export(struct list_head *exports, struct p2pdma_provider *provider,
		  phys_addr_t paddr, u64 size, int flags, bool folios)
{
	DEFINE_DMA_BUF_EXPORT_INFO(exp_info);
	struct p2pdma_dmabuf *p;
	int fd = -EINVAL;

	if (flags & ~(O_ACCMODE | O_CLOEXEC))
		goto err_put;
	fd = -ENODEV;
	if (!decodes_memory(to_pci_dev(provider->owner)))
		goto err_put;

	fd = -ENOMEM;
	p = kzalloc_obj(*p, GFP_KERNEL_ACCOUNT);
	if (!p)
		goto err_put;
	INIT_LIST_HEAD(&p->node);
	p->phys.paddr = paddr;
	p->phys.len = size;
	p->folios = folios;
	p->provider = provider;

	exp_info.ops = &p2pdma_dmabuf_ops;
	exp_info.size = size;
	exp_info.flags = flags;
	exp_info.priv = p;
	p->dmabuf = dma_buf_export(&exp_info);
	if (IS_ERR(p->dmabuf)) {
		fd = PTR_ERR(p->dmabuf);
		kfree(p);
		goto err_put;
	}

	/* dma_buf_put() frees it from here on. */
	scoped_guard(mutex, &exports_lock)
		list_add(&p->node, exports);
	fd = dma_buf_fd(p->dmabuf, flags);
	if (fd < 0)
		dma_buf_put(p->dmabuf);
	return fd;

err_put:
	if (folios)
		put_folios(paddr, size);
	return fd;
}

/**
 * pci_p2pdma_export - make memory behind a BAR a dma-buf
 * @exports: list of the driver for its dma-bufs, see pci_p2pdma_revoke()
 * @pdev: the device
 * @bar: its BAR
 * @offset: into the BAR in bytes
 * @size: in bytes
 * @flags: for the file descriptor: O_CLOEXEC, and O_RDWR or the like
 *
 * Memory that is not whole pages is refused, and so are importers that cannot be told
 * to let go of it. The dma-buf does not keep the driver bound. Others may use the same
 * memory meanwhile: that is up to the users.
 *
 * Context: Process context. May sleep. The driver is bound until this returns.
 * Return: a file descriptor. -EINVAL for what is not part of the BAR, or for other
 * flags; -ENODEV if the device does not decode memory; -ENOMEM, -EMFILE.
 */
int pci_p2pdma_export(struct list_head *exports, struct pci_dev *pdev, int bar,
		      u64 offset, u64 size, int flags)
{
	const u64 len = pci_resource_len(pdev, bar);
	const phys_addr_t paddr = pci_resource_start(pdev, bar) + offset;
	struct p2pdma_provider *provider = pcim_p2pdma_provider(pdev, bar);

	if (!provider || !size || size > len || offset > len - size ||
	    !PAGE_ALIGNED(paddr) || !PAGE_ALIGNED(size))
		return -EINVAL;
	return p2pdma_export(exports, provider, paddr, size, flags, false);
}
EXPORT_SYMBOL_GPL(pci_p2pdma_export);

/**
 * pci_p2pdma_revoke - take dma-bufs away from who imported them
 * @exports: all of this list, which is empty then
 *
 * Importers are told, and waited for, until no device reaches the memory by these
 * dma-bufs. They cannot be mapped again.
 *
 * Context: Process context. Sleeps, as long as the slowest importer takes. The caller
 * serializes this with itself and with pci_p2pdma_export(), by the device lock for
 * example, and holds no lock that an importer takes to unmap. In a reset, the PCI core
 * holds that lock, those of the bridge and pci_cfg_access_lock().
 */
void pci_p2pdma_revoke(struct list_head *exports)
{
	struct p2pdma_dmabuf *p;

	mutex_lock(&exports_lock);
	while ((p = list_first_entry_or_null(exports, typeof(*p), node))) {
		list_del_init(&p->node);
		p->revoking = true;
		/* An importer may put other dma-bufs before it unmaps this one. */
		mutex_unlock(&exports_lock);
		revoke(p);
		mutex_lock(&exports_lock);
		p->revoking = false;
		wake_up_var_locked(&p->revoking, &exports_lock);
	}
	mutex_unlock(&exports_lock);
}
EXPORT_SYMBOL_GPL(pci_p2pdma_revoke);

/**
 * pci_p2pdma_exported - are there dma-bufs?
 * @exports: the list
 *
 * Return: true if one was neither closed nor revoked.
 */
bool pci_p2pdma_exported(struct list_head *exports)
{
	guard(mutex)(&exports_lock);
	return !list_empty(exports);
}
EXPORT_SYMBOL_GPL(pci_p2pdma_exported);

/**
 * pci_p2pdma_dmabuf_phys - the memory behind a dma-buf
 * @attachment: to it
 * @phys: the memory
 *
 * For iommufd, which maps physical addresses: it has to unmap them when it is told that
 * mappings are invalid, before it returns from that.
 *
 * Context: The reservation lock of the dma-buf is held.
 * Return: 0, -EOPNOTSUPP if it is not such a dma-buf, -ENODEV if it was revoked or the
 * device does not decode memory.
 */
int pci_p2pdma_dmabuf_phys(struct dma_buf_attachment *attachment, struct phys_vec *phys)
{
	struct p2pdma_dmabuf *p = attachment->dmabuf->priv;

	if (attachment->dmabuf->ops != &p2pdma_dmabuf_ops)
		return -EOPNOTSUPP;
	if (!is_there(p))
		return -ENODEV;
	*phys = p->phys;
	return 0;
}
EXPORT_SYMBOL_FOR_MODULES(pci_p2pdma_dmabuf_phys, "iommufd");

static long p2pmem_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct p2pmem_export req;

	if (cmd != P2PMEM_EXPORT)
		return -ENOTTY;
	if (copy_from_user(&req, (void __user *)arg, sizeof(req)))
		return -EFAULT;
	if (req.flags)
		return -EINVAL;
	return p2pmem_export(req.start, req.size, req.open_flags);
}

static const struct file_operations p2pmem_fops = {
	.owner		= THIS_MODULE,
	.unlocked_ioctl	= p2pmem_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct miscdevice p2pmem_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "p2pmem",
	/* Who has memory mapped may do this. */
	.mode	= 0666,
	.fops	= &p2pmem_fops,
};

builtin_misc_device(p2pmem_misc);
