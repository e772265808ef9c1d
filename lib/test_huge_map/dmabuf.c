// SPDX-License-Identifier: GPL-2.0
/*
 * Import a dma-buf for QEMU's "edu" device. When the exporter takes it away, it is
 * unmapped at once, or later, as importers do who have to stop a device first.
 *
 * Locking: the mutex of edu.c covers what user space asks for. The reservation lock of
 * the dma-buf covers its mapping: no DMA is on its way when it is unmapped.
 */
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "test_huge_map.h"

static void tdb_unmap_late(struct work_struct *work);

static struct {
	struct dma_buf_attachment *attach;	/* NULL: nothing is imported */
	struct sg_table *sgt;			/* NULL: not mapped */
	bool late;
	u32 notified;
} tdb;
static DECLARE_DELAYED_WORK(tdb_work, tdb_unmap_late);

/* Context: the reservation lock is held. */
static void tdb_unmap(void)
{
	if (tdb.sgt)
		dma_buf_unmap_attachment(tdb.attach, tdb.sgt, DMA_BIDIRECTIONAL);
	tdb.sgt = NULL;
}

static void tdb_unmap_locked(void)
{
	struct dma_resv *resv = tdb.attach->dmabuf->resv;

	dma_resv_lock(resv, NULL);
	tdb_unmap();
	dma_resv_unlock(resv);
}

static void tdb_unmap_late(struct work_struct *work)
{
	tdb_unmap_locked();
}

static void tdb_invalidate(struct dma_buf_attachment *attach)
{
	tdb.notified++;
	if (tdb.late)
		schedule_delayed_work(&tdb_work, msecs_to_jiffies(TDB_LATE_MS));
	else
		tdb_unmap();
}

static const struct dma_buf_attach_ops tdb_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = tdb_invalidate,
};

/* Importers that pin and cannot be told, or that want normal memory: to be refused */
static const struct dma_buf_attach_ops tdb_deaf_ops = {
	.allow_peer2peer = true,
};

static const struct dma_buf_attach_ops tdb_local_ops = {
	.invalidate_mappings = tdb_invalidate,
};

void tdb_drop(void)
{
	struct dma_buf *dmabuf;

	if (!tdb.attach)
		return;
	dmabuf = tdb.attach->dmabuf;
	tdb_unmap_locked();
	dma_buf_detach(dmabuf, tdb.attach);
	/* Nobody queues it from here on, and it finds no mapping. */
	cancel_delayed_work_sync(&tdb_work);
	dma_buf_put(dmabuf);
	tdb.attach = NULL;
}

static long tdb_import(struct device *dev, struct test_edu_import *req)
{
	static const struct dma_buf_attach_ops *const ops[] = {
		[TDB_NOW] = &tdb_ops, [TDB_LATE] = &tdb_ops,
		[TDB_DEAF] = &tdb_deaf_ops, [TDB_LOCAL] = &tdb_local_ops,
	};
	struct dma_buf_attachment *attach;
	struct dma_buf *dmabuf;

	if (req->how >= ARRAY_SIZE(ops))
		return -EINVAL;
	tdb_drop();
	dmabuf = dma_buf_get(req->fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	attach = dma_buf_dynamic_attach(dmabuf, dev, ops[req->how], NULL);
	if (IS_ERR(attach)) {
		dma_buf_put(dmabuf);
		return PTR_ERR(attach);
	}
	tdb.attach = attach;
	tdb.late = req->how == TDB_LATE;
	tdb.notified = 0;
	return 0;
}

static long tdb_map(struct test_edu_import *req)
{
	struct dma_resv *resv = tdb.attach->dmabuf->resv;
	struct scatterlist *sg;
	struct sg_table *sgt;
	int i;

	dma_resv_lock(resv, NULL);
	tdb_unmap();
	sgt = dma_buf_map_attachment(tdb.attach, DMA_BIDIRECTIONAL);
	if (!IS_ERR(sgt)) {
		tdb.sgt = sgt;
		req->dma = sg_dma_address(sgt->sgl);
		req->bytes = 0;
		for_each_sgtable_dma_sg(sgt, sg, i)
			req->bytes += sg_dma_len(sg);
	}
	dma_resv_unlock(resv);
	return PTR_ERR_OR_ZERO(sgt);
}

/* The address of @bytes at @offset of what is mapped. A DMA does not cross two entries. */
static u64 tdb_address(u64 offset, u64 bytes)
{
	struct scatterlist *sg;
	int i;

	for_each_sgtable_dma_sg(tdb.sgt, sg, i) {
		if (offset < sg_dma_len(sg))
			return bytes <= sg_dma_len(sg) - offset ?
			       sg_dma_address(sg) + offset : DMA_MAPPING_ERROR;
		offset -= sg_dma_len(sg);
	}
	return DMA_MAPPING_ERROR;
}

/* By offset. The lock keeps the exporter waiting until the DMA is done. */
static long tdb_dma(void __user *arg)
{
	struct test_edu_dma *req __free(kfree) = memdup_user(arg, sizeof(*req));
	struct dma_resv *resv = tdb.attach->dmabuf->resv;
	long error = -ENODEV;
	u64 dma;

	if (IS_ERR(req))
		return PTR_ERR(no_free_ptr(req));
	dma_resv_lock(resv, NULL);
	if (tdb.sgt) {
		dma = tdb_address(req->dma, TED_BYTES);
		error = dma == DMA_MAPPING_ERROR ? -EINVAL :
			req->write ? ted_push(dma, req->value) : ted_pull(dma, req->words);
	}
	dma_resv_unlock(resv);
	if (error)
		return error;
	return copy_to_user(arg, req, sizeof(*req)) ? -EFAULT : 0;
}

static void tdb_state(struct test_edu_import *req)
{
	struct dma_resv *resv = tdb.attach->dmabuf->resv;

	dma_resv_lock(resv, NULL);
	req->mapped = !!tdb.sgt;
	req->notified = tdb.notified;
	dma_resv_unlock(resv);
}

/* Context: the mutex of edu.c is held, which has looked at @cmd. */
long tdb_ioctl(struct device *dev, unsigned int cmd, void __user *arg)
{
	struct test_edu_import req;
	long error = 0;

	if (cmd != TDB_IMPORT && !tdb.attach)
		return -ENOENT;
	if (cmd == TDB_DMA)
		return tdb_dma(arg);
	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	switch (cmd) {
	case TDB_IMPORT:
		error = tdb_import(dev, &req);
		break;
	case TDB_MAP:
		error = tdb_map(&req);
		break;
	case TDB_STATE:
		tdb_state(&req);
		break;
	case TDB_DROP:
		tdb_drop();
		break;
	}
	if (error)
		return error;
	return copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
}
MODULE_IMPORT_NS("DMA_BUF");
