/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For the callers of the events in include/trace/events/huge_iomap.h, in mm/.
 *
 * Code that decides about a leaf has the reason as its result, or at least that a leaf
 * is too large for huge_iomap_max_shift().
 */
#ifndef _MM_HUGE_IOMAP_TRACE_H
#define _MM_HUGE_IOMAP_TRACE_H

#include <linux/huge_iomap.h>
#include <linux/vmalloc.h>

#ifdef CONFIG_HUGE_IOMAP
#include <trace/events/huge_iomap.h>
#else
/* As on 7.3: leaves that drivers have nevertheless are not told. */
struct file;

static inline void no_leaf_event(const struct file *file, unsigned long addr,
				 unsigned long pfn, unsigned int asked_shift,
				 unsigned int given_shift, enum huge_iomap_why why)
{
}

#define trace_huge_iomap_insert			no_leaf_event
#define trace_huge_iomap_refuse			no_leaf_event
#define trace_huge_iomap_split			no_leaf_event
#define trace_huge_iomap_place_enabled()	false
#define trace_huge_iomap_insert_enabled()	false
#define trace_huge_iomap_refuse_enabled()	false

static inline void trace_huge_iomap_place(const struct file *file, unsigned long addr,
					  unsigned long pfn, unsigned long len,
					  unsigned int asked_shift,
					  unsigned int given_shift,
					  enum huge_iomap_why why)
{
}
#endif

static inline unsigned int huge_iomap_smaller(unsigned int shift)
{
	/* Where the PMD level is folded, both shifts are the same. */
	return shift > PMD_SHIFT ? PMD_SHIFT : PAGE_SHIFT;
}

/* huge_iomap_max_shift() is less than @shift: is that for the CPU, or for the limit? */
static inline enum huge_iomap_why huge_iomap_max_why(pgprot_t prot, unsigned int shift)
{
	const bool has = shift > PMD_SHIFT ? arch_vmap_pud_supported(prot) :
					     arch_vmap_pmd_supported(prot);

	return has ? HUGE_IOMAP_LIMIT : HUGE_IOMAP_CPU;
}

#endif /* _MM_HUGE_IOMAP_TRACE_H */
