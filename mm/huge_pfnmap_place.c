// SPDX-License-Identifier: GPL-2.0
/*
 * Where mmap() places device memory: so that huge leaves can map it.
 *
 * There is no VMA yet, so the file is asked: f_op->pfn_extent() says which pfns lie
 * behind it. No driver computes an address.
 */

#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/huge_iomap.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pfnmap.h>
#include <linux/sched/mm.h>

#include "huge_pfnmap.h"

/**
 * pfnmap_get_unmapped_area - place a mapping of device memory for leaves
 * @file: file to map, which has f_op->pfn_extent()
 * @addr: hint, or the address with MAP_FIXED
 * @len: length in bytes
 * @pgoff: offset in the file, in pages
 * @flags: MAP_*
 *
 * Chooses an address that is congruent to the extent modulo the largest leaf that
 * fits. That costs randomization, with 4 KiB pages 18 bits of the page number for a
 * mapping with a full 1 GiB block, 9 bits for one with a full 2 MiB block. A hint that is free,
 * MAP_FIXED, private mappings and 32-bit tasks are as with mm_get_unmapped_area(),
 * and so is a mapping for which there is no room with padding. Private mappings can
 * be copied page by page, also those of a file that is open for reading only. A
 * driver can forbid that, by clearing VM_MAYWRITE, but not before the mapping has
 * its address.
 *
 * Context: Process context, the mmap lock is held for writing.
 * Return: the address, or a negative errno.
 */
unsigned long pfnmap_get_unmapped_area(struct file *file, unsigned long addr,
				       unsigned long len, unsigned long pgoff,
				       unsigned long flags)
{
	const unsigned int most = IS_ENABLED(CONFIG_ARCH_SUPPORTS_PUD_PFNMAP) ?
				  PUD_SHIFT : PMD_SHIFT;
	unsigned int shift = min(huge_iomap_max_shift(PAGE_KERNEL), most);
	unsigned long plain, padded, place, size, before, bytes;
	struct pfn_extent extent;
	phys_addr_t pa;

	plain = mm_get_unmapped_area(file, addr, len, pgoff, flags);
	if (IS_ERR_VALUE(plain) || (flags & MAP_FIXED) ||
	    !(flags & MAP_SHARED) || in_compat_syscall() ||
	    (addr && plain == PAGE_ALIGN(addr)))
		return plain;
	if (shift < PMD_SHIFT || len < PMD_SIZE ||
	    file->f_op->pfn_extent(file, pgoff, &extent))
		return plain;

	before = pgoff - extent.pgoff;
	if (pgoff < extent.pgoff || before >= extent.nr)
		return plain;
	pa = PFN_PHYS(extent.pfn + before);
	bytes = min(len >> PAGE_SHIFT, extent.nr - before) << PAGE_SHIFT;

	for (; shift >= PMD_SHIFT; shift = shift > PMD_SHIFT ? PMD_SHIFT : 0) {
		size = 1UL << shift;
		if (huge_iomap_congruent_shift(pa, bytes, shift) < shift)
			continue;
		padded = len + size - PAGE_SIZE;
		if (padded < len)
			continue;
		/* The hint is not free, but it tells which part of memory to use. */
		place = mm_get_unmapped_area(file, addr, padded, pgoff, flags);
		if (!IS_ERR_VALUE(place))
			return place + ((pa - place) & (size - 1));
	}
	return plain;
}
