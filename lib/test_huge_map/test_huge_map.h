/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The parts of the test driver for huge mappings: what main.c calls, and the reader
 * of page tables.
 */
#ifndef _LIB_TEST_HUGE_MAP_H
#define _LIB_TEST_HUGE_MAP_H

#include <linux/fs.h>
#include <linux/mm_types.h>
#include <linux/pgtable.h>

#include "uapi.h"

struct device;
struct pfn_extent;

/* A page table entry at any level, present or not */
struct thm_leaf {
	unsigned long next;	/* first address after it */
	enum test_huge_iomap_leaf leaf;
	bool present, writable;
	phys_addr_t phys;	/* of the page at the address */
	unsigned int type;	/* index into the PAT */
};

/* leaf.c */
void thm_read_leaf(struct mm_struct *mm, unsigned long va, struct thm_leaf *l);
unsigned int thm_tables(const struct thm_leaf *l, unsigned long va, unsigned long start);
unsigned int thm_pat_index(pgprotval_t prot);

/* ioremap.c: the BAR, in the kernel and in user space */
int thi_init(void);
void thi_exit(void);
long thi_ioctl(struct file *file, unsigned int cmd, unsigned long val);
int thi_mmap(struct file *file, struct vm_area_struct *vma);
void thi_release(struct file *file);
bool thi_bar_pfns(unsigned long *pfn, unsigned long *nr);

/* extent.c: the BAR behind a file that mmap() replaces by another */
int the_pfn_extent(struct file *file, pgoff_t pgoff, struct pfn_extent *extent);
int the_mmap(struct file *file, struct vm_area_struct *vma);

/* vmap.c: arrays of pages */
long thv_ioctl(struct file *file, unsigned int cmd, unsigned long val);
int thv_mmap(struct file *file, struct vm_area_struct *vma);
void thv_release(struct file *file);

/* memremap.c, with CONFIG_ZONE_DEVICE: struct pages. Each file has its own. */
int tmr_open(struct file *file);
long tmr_ioctl(struct file *file, unsigned int cmd, unsigned long val);
void tmr_release(struct file *file);

/* edu.c: DMA */
int ted_init(void);
void ted_exit(void);
long ted_ioctl(struct file *file, unsigned int cmd, unsigned long val);
int ted_push(u64 dma, u32 value);
int ted_pull(u64 dma, u32 *words);

/* dmabuf.c, with CONFIG_DMA_SHARED_BUFFER: an import for that device */
long tdb_ioctl(struct device *dev, unsigned int cmd, void __user *arg);
void tdb_drop(void);

#endif /* _LIB_TEST_HUGE_MAP_H */
