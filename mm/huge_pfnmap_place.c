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

#include "huge_iomap_trace.h"
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
	const unsigned int max = min(huge_iomap_max_shift(PAGE_KERNEL), most);
	unsigned long plain, padded, place, size, before, bytes, pfn = 0;
	enum huge_iomap_why why = HUGE_IOMAP_LARGEST;
	struct pfn_extent extent;
	unsigned int shift;
	phys_addr_t pa;

	plain = mm_get_unmapped_area(file, addr, len, pgoff, flags);
	if (IS_ERR_VALUE(plain))
		return plain;
	if ((flags & MAP_FIXED) || (addr && plain == PAGE_ALIGN(addr)))
		why = HUGE_IOMAP_ADDRESS;
	else if (!(flags & MAP_SHARED))
		why = HUGE_IOMAP_PRIVATE;
	else if (in_compat_syscall())
		why = HUGE_IOMAP_ROOM;
	else if (len < PMD_SIZE)
		why = HUGE_IOMAP_EXTENT;
	else if (max < PMD_SHIFT)
		why = huge_iomap_max_why(PAGE_KERNEL, PMD_SHIFT);
	else if (file->f_op->pfn_extent(file, pgoff, &extent))
		why = HUGE_IOMAP_DRIVER;
	if (why)
		goto plain;

	before = pgoff - extent.pgoff;
	if (pgoff < extent.pgoff || before >= extent.nr) {
		why = HUGE_IOMAP_EXTENT;
		goto plain;
	}
	pfn = extent.pfn + before;
	pa = PFN_PHYS(pfn);
	bytes = min(len >> PAGE_SHIFT, extent.nr - before) << PAGE_SHIFT;

	for (shift = most; shift >= PMD_SHIFT; shift = huge_iomap_smaller(shift)) {
		size = 1UL << shift;
		if (huge_iomap_congruent_shift(pa, bytes, shift) < shift) {
			why = HUGE_IOMAP_EXTENT;
			continue;
		}
		if (shift > max) {
			why = huge_iomap_max_why(PAGE_KERNEL, shift);
			continue;
		}
		padded = len + size - PAGE_SIZE;
		/* The hint is not free, but it tells which part of memory to use. */
		place = padded < len ? -ENOMEM :
			mm_get_unmapped_area(file, addr, padded, pgoff, flags);
		if (IS_ERR_VALUE(place)) {
			why = HUGE_IOMAP_ROOM;
			continue;
		}
		place += (pa - place) & (size - 1);
		trace_huge_iomap_place(file, place, pfn, len, most, shift, why);
		return place;
	}
plain:
	trace_huge_iomap_place(file, plain, pfn, len, most, PAGE_SHIFT, why);
	return plain;
}
