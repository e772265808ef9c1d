/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Device memory in user space: what a driver tells the core of it.
 */
#ifndef _LINUX_PFNMAP_H
#define _LINUX_PFNMAP_H

#include <linux/kconfig.h>
#include <linux/mm_types.h>
#include <linux/types.h>

struct vm_fault;

/**
 * struct pfn_extent - physically contiguous memory behind a part of a file
 * @pgoff: where it begins in the file, in pages, as in vm_pgoff
 * @pfn: pfn at @pgoff
 * @nr: length in pages
 *
 * It may reach beyond a mapping on both sides. f_op->pfn_extent() gives the one
 * around an offset, for mmap() to place a mapping: modulo the largest leaf is enough
 * there, and it is no promise that the pfns can be mapped. A driver that maps its
 * memory by faults hands the exact one to vmf_insert_pfn_extent().
 */
struct pfn_extent {
	pgoff_t pgoff;
	unsigned long pfn;
	unsigned long nr;
};

vm_fault_t vmf_insert_pfn_extent(struct vm_fault *vmf,
				 const struct pfn_extent *extent);

/* Does remap_pfn_range() install large leaves, so that it is worth placing a mapping? */
static inline bool remap_pfn_range_has_leaves(void)
{
	return IS_ENABLED(CONFIG_HUGE_PFNMAP);
}

#endif /* _LINUX_PFNMAP_H */
