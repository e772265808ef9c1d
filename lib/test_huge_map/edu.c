// SPDX-License-Identifier: GPL-2.0
/*
 * DMA by QEMU's "edu" device, to pages that the DMA API has mapped. The device copies
 * between its buffer and memory. It is bound by driver_override to "test_edu".
 *
 * Locking: a mutex covers the device, its pages, and each DMA.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/uaccess.h>

#include "test_huge_map.h"

#define EDU_SRC		0x80
#define EDU_DST		0x88
#define EDU_COUNT	0x90
#define EDU_CMD		0x98
#define  EDU_RUN	BIT(0)
#define  EDU_TO_MEMORY	BIT(1)
/* The buffer, as the device sees it */
#define EDU_BUFFER	0x40000

static DEFINE_MUTEX(ted_lock);

static struct {
	struct pci_dev *pdev;	/* NULL: not bound */
	void __iomem *reg;
	u32 *bounce;		/* fills and shows the buffer */
	dma_addr_t bounce_dma;
	struct {
		struct page *page;
		unsigned int order;
		bool mapped;
		dma_addr_t dma;
	} slot[TED_NR_SLOT];
} ted;

/* A DMA takes a tenth of a second. */
static int ted_copy(u64 src, u64 dst, u64 direction)
{
	writeq(src, ted.reg + EDU_SRC);
	writeq(dst, ted.reg + EDU_DST);
	writeq(TED_BYTES, ted.reg + EDU_COUNT);
	writeq(EDU_RUN | direction, ted.reg + EDU_CMD);
	for (int i = 0; i < 10000; i++) {
		if (!(readq(ted.reg + EDU_CMD) & EDU_RUN))
			return 0;
		fsleep(1000);
	}
	return -ETIMEDOUT;
}

/* Write words at an address. Context: ted_lock is held, the device is bound. */
int ted_push(u64 dma, u32 value)
{
	int error;

	for (int i = 0; i < TED_WORDS; i++)
		ted.bounce[i] = value + i;
	error = ted_copy(ted.bounce_dma, EDU_BUFFER, 0);
	return error ?: ted_copy(EDU_BUFFER, dma, EDU_TO_MEMORY);
}

/* Read words at an address, likewise: what is not readable leaves what was in the buffer, or ~0. */
int ted_pull(u64 dma, u32 *words)
{
	int error = ted_copy(dma, EDU_BUFFER, 0);

	if (!error)
		error = ted_copy(EDU_BUFFER, ted.bounce_dma, EDU_TO_MEMORY);
	memcpy(words, ted.bounce, TED_BYTES);
	return error;
}

static long ted_dma(void __user *arg)
{
	struct test_edu_dma *req __free(kfree) = memdup_user(arg, sizeof(*req));
	int error;

	if (IS_ERR(req))
		return PTR_ERR(no_free_ptr(req));
	error = req->write ? ted_push(req->dma, req->value) : ted_pull(req->dma, req->words);
	if (error)
		return error;
	return copy_to_user(arg, req, sizeof(*req)) ? -EFAULT : 0;
}

/* The page stays: what is written to it after it was unmapped can be seen. */
static void ted_unmap(int i)
{
	if (ted.slot[i].mapped)
		dma_unmap_page(&ted.pdev->dev, ted.slot[i].dma,
			       PAGE_SIZE << ted.slot[i].order, DMA_BIDIRECTIONAL);
	ted.slot[i].mapped = false;
}

static void ted_free(int i)
{
	ted_unmap(i);
	if (ted.slot[i].page)
		__free_pages(ted.slot[i].page, ted.slot[i].order);
	ted.slot[i].page = NULL;
}

static long ted_page(unsigned int cmd, void __user *arg)
{
	struct device *dev = &ted.pdev->dev;
	struct test_edu_page req;
	u32 *word;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (req.slot >= TED_NR_SLOT || req.order > MAX_PAGE_ORDER)
		return -EINVAL;
	switch (cmd) {
	case TED_MAP:
		ted_free(req.slot);
		ted.slot[req.slot].page = alloc_pages(GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN,
						      req.order);
		if (!ted.slot[req.slot].page)
			return -ENOMEM;
		ted.slot[req.slot].order = req.order;
		req.dma = dma_map_page(dev, ted.slot[req.slot].page, 0,
				       PAGE_SIZE << req.order, DMA_BIDIRECTIONAL);
		if (dma_mapping_error(dev, req.dma))
			return -EIO;
		ted.slot[req.slot].dma = req.dma;
		ted.slot[req.slot].mapped = true;
		break;
	case TED_UNMAP:
		ted_unmap(req.slot);
		return 0;
	case TED_FREE:
		ted_free(req.slot);
		return 0;
	default:	/* TED_LOAD, TED_STORE */
		if (!ted.slot[req.slot].page || !IS_ALIGNED(req.offset, sizeof(u32)) ||
		    req.offset >= PAGE_SIZE << ted.slot[req.slot].order)
			return -EINVAL;
		word = page_address(ted.slot[req.slot].page) + req.offset;
		if (cmd == TED_STORE)
			WRITE_ONCE(*word, req.value);
		else
			req.value = READ_ONCE(*word);
	}
	return copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
}

long ted_ioctl(struct file *file, unsigned int cmd, unsigned long val)
{
	void __user *arg = (void __user *)val;
	bool import = false;

	switch (cmd) {
	case TED_DMA:
	case TED_MAP:
	case TED_UNMAP:
	case TED_FREE:
	case TED_LOAD:
	case TED_STORE:
		break;
	case TDB_IMPORT:
	case TDB_MAP:
	case TDB_STATE:
	case TDB_DROP:
	case TDB_DMA:
		if (!IS_ENABLED(CONFIG_DMA_SHARED_BUFFER))
			return -ENOTTY;
		import = true;
		break;
	default:
		return -ENOTTY;
	}
	guard(mutex)(&ted_lock);
	if (!ted.pdev)
		return -ENODEV;
	if (IS_ENABLED(CONFIG_DMA_SHARED_BUFFER) && import)
		return tdb_ioctl(&ted.pdev->dev, cmd, arg);
	return cmd == TED_DMA ? ted_dma(arg) : ted_page(cmd, arg);
}

static int ted_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	void __iomem *reg;
	int error;

	error = pcim_enable_device(pdev);
	if (error)
		return error;
	reg = pcim_iomap_region(pdev, 0, KBUILD_MODNAME);
	if (IS_ERR(reg))
		return PTR_ERR(reg);
	error = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (error)
		return error;

	guard(mutex)(&ted_lock);
	if (ted.pdev)
		return -EBUSY;
	ted.bounce = dmam_alloc_coherent(&pdev->dev, PAGE_SIZE, &ted.bounce_dma, GFP_KERNEL);
	if (!ted.bounce)
		return -ENOMEM;
	pci_set_master(pdev);
	ted.reg = reg;
	ted.pdev = pdev;
	return 0;
}

static void ted_remove(struct pci_dev *pdev)
{
	guard(mutex)(&ted_lock);
	for (int i = 0; i < TED_NR_SLOT; i++)
		ted_free(i);
	if (IS_ENABLED(CONFIG_DMA_SHARED_BUFFER))
		tdb_drop();
	pci_clear_master(pdev);
	ted.pdev = NULL;
}

static struct pci_driver ted_driver = {
	.name = "test_edu",
	.probe = ted_probe,
	.remove = ted_remove,
};

int ted_init(void)
{
	return pci_register_driver(&ted_driver);
}

void ted_exit(void)
{
	pci_unregister_driver(&ted_driver);
}
