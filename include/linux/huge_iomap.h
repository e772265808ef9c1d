/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Huge leaves for mappings of device memory.
 *
 * Terms:
 *
 * leaf        a page table entry that maps memory, at the PTE, PMD or PUD level
 * shift       log2 of the bytes that a leaf maps: PAGE_SHIFT, PMD_SHIFT, PUD_SHIFT
 * congruent   va and pa are congruent modulo S when va % S == pa % S. A leaf of
 *             S bytes can map pa at va only if they are, so whoever chooses the
 *             va of a mapping chooses a congruent one.
 * limit       the largest leaf that the administrator allows
 */
#ifndef _LINUX_HUGE_IOMAP_H
#define _LINUX_HUGE_IOMAP_H

#include <linux/align.h>
#include <linux/pgtable.h>
#include <linux/sprintf.h>
#include <linux/types.h>

/**
 * enum huge_iomap_why - what keeps a leaf from being larger
 * @HUGE_IOMAP_LARGEST: nothing, it is as large as was asked for
 * @HUGE_IOMAP_VMA: the VMA begins or ends inside of the larger one
 * @HUGE_IOMAP_EXTENT: what is to be mapped does: the extent of a driver, or a range
 * @HUGE_IOMAP_CPU: the CPU does not have them
 * @HUGE_IOMAP_LIMIT: the limit, nohugeiomap, or nohugevmalloc with vmap()
 * @HUGE_IOMAP_MADVISE: MADV_NOHUGEPAGE
 * @HUGE_IOMAP_PRIVATE: pages of a private mapping are copied one by one
 * @HUGE_IOMAP_MKWRITE: the driver has pfn_mkwrite(), it wants to hear of pages
 * @HUGE_IOMAP_CALLER: the VMA has no vm_ops, its huge leaves are anonymous memory
 * @HUGE_IOMAP_CONGRUENCE: the addresses are not congruent
 * @HUGE_IOMAP_PAGES: the pages in the array are not contiguous, or not aligned, where
 *	the larger one would be
 * @HUGE_IOMAP_PROT: some pages must not be mapped with this protection
 * @HUGE_IOMAP_PAT: it would have several memory types, by PAT
 * @HUGE_IOMAP_MTRR: or by MTRRs, or these are not known
 * @HUGE_IOMAP_TABLE: a page table is in its place, and stays for now
 * @HUGE_IOMAP_BUSY: so is one, and somebody changes or dumps the kernel's page tables
 * @HUGE_IOMAP_ADDRESS: the address is one that was asked for
 * @HUGE_IOMAP_ROOM: there is no room for a congruent address, or a task has 32 bits
 * @HUGE_IOMAP_MEMORY: there is no memory for a page table
 * @HUGE_IOMAP_DRIVER: the driver does not say what lies behind its file
 *
 * The code that decides about a leaf gives the reason itself; the events in
 * include/trace/events/huge_iomap.h tell it. Their filters have the numbers: what is
 * added goes to the end.
 */
enum huge_iomap_why {
	HUGE_IOMAP_LARGEST,
	HUGE_IOMAP_VMA,
	HUGE_IOMAP_EXTENT,
	HUGE_IOMAP_CPU,
	HUGE_IOMAP_LIMIT,
	HUGE_IOMAP_MADVISE,
	HUGE_IOMAP_PRIVATE,
	HUGE_IOMAP_MKWRITE,
	HUGE_IOMAP_CALLER,
	HUGE_IOMAP_CONGRUENCE,
	HUGE_IOMAP_PAGES,
	HUGE_IOMAP_PROT,
	HUGE_IOMAP_PAT,
	HUGE_IOMAP_MTRR,
	HUGE_IOMAP_TABLE,
	HUGE_IOMAP_BUSY,
	HUGE_IOMAP_ADDRESS,
	HUGE_IOMAP_ROOM,
	HUGE_IOMAP_MEMORY,
	HUGE_IOMAP_DRIVER,
};

/**
 * huge_iomap_leaf_why - what keeps a leaf from mapping @pa at @va?
 * @va: virtual address at which the leaf starts
 * @pa: physical address that it maps
 * @bytes: length of the range that starts at @va and @pa
 * @shift: of the leaf, PMD_SHIFT or PUD_SHIFT
 *
 * The leaf has to lie within the range whole: it is never larger than @bytes.
 *
 * Context: Any. Looks at its arguments only.
 * Return: HUGE_IOMAP_LARGEST if it fits; HUGE_IOMAP_EXTENT if the range is too short for
 * it, wraps around, or begins inside of it; HUGE_IOMAP_CONGRUENCE if the addresses are
 * not congruent.
 */
static inline enum huge_iomap_why huge_iomap_leaf_why(unsigned long va,
						      phys_addr_t pa,
						      unsigned long bytes,
						      unsigned int shift)
{
	const unsigned long size = 1UL << shift;

	if (bytes < size || va + (bytes - 1) < va || pa + (bytes - 1) < pa)
		return HUGE_IOMAP_EXTENT;
	if (!IS_ALIGNED(va | pa, size))
		return IS_ALIGNED(va ^ pa, size) ? HUGE_IOMAP_EXTENT :
						   HUGE_IOMAP_CONGRUENCE;
	return HUGE_IOMAP_LARGEST;
}

/**
 * huge_iomap_leaf_shift - the largest leaf that maps @pa at @va
 * @va: virtual address at which the leaf starts
 * @pa: physical address that it maps
 * @bytes: length of the range that starts at @va and @pa
 * @max_shift: upper bound, usually huge_iomap_max_shift()
 *
 * Context: Any. Looks at its arguments only.
 * Return: PUD_SHIFT or PMD_SHIFT, or PAGE_SHIFT where neither fits; see
 * huge_iomap_leaf_why().
 */
static inline unsigned int huge_iomap_leaf_shift(unsigned long va,
						 phys_addr_t pa,
						 unsigned long bytes,
						 unsigned int max_shift)
{
	if (max_shift >= PUD_SHIFT && !huge_iomap_leaf_why(va, pa, bytes, PUD_SHIFT))
		return PUD_SHIFT;
	if (max_shift >= PMD_SHIFT && !huge_iomap_leaf_why(va, pa, bytes, PMD_SHIFT))
		return PMD_SHIFT;
	return PAGE_SHIFT;
}

static inline bool huge_iomap_has_block(phys_addr_t pa, unsigned long bytes,
					unsigned long size)
{
	unsigned long head = -pa & (size - 1);

	return bytes >= size && bytes - head >= size;
}

/**
 * huge_iomap_congruent_shift - the modulus to choose a virtual address by
 * @pa: physical address at which the range starts
 * @bytes: length of the range
 * @max_shift: upper bound, usually huge_iomap_max_shift()
 *
 * If the range is mapped at a va that is congruent to @pa modulo the size that
 * is returned, every full block of that size becomes one leaf.
 *
 * Context: Any. Looks at its arguments only.
 * Return: the largest shift of which at least one full, naturally aligned block
 * lies within the range: PUD_SHIFT or PMD_SHIFT. PAGE_SHIFT if there is none, or
 * if the range wraps around.
 */
static inline unsigned int huge_iomap_congruent_shift(phys_addr_t pa,
						      unsigned long bytes,
						      unsigned int max_shift)
{
	if (!bytes || pa + (bytes - 1) < pa)
		return PAGE_SHIFT;
	if (max_shift >= PUD_SHIFT && huge_iomap_has_block(pa, bytes, PUD_SIZE))
		return PUD_SHIFT;
	if (max_shift >= PMD_SHIFT && huge_iomap_has_block(pa, bytes, PMD_SIZE))
		return PMD_SHIFT;
	return PAGE_SHIFT;
}

/**
 * huge_iomap_cap_shift - bound the limit by what the CPU can map
 * @limit: shift of the largest leaf that the administrator allows
 * @pmd: the CPU has PMD leaves
 * @pud: the CPU has PUD leaves
 *
 * Context: Any. Looks at its arguments only.
 * Return: PUD_SHIFT, PMD_SHIFT or PAGE_SHIFT.
 */
static inline unsigned int huge_iomap_cap_shift(unsigned int limit, bool pmd,
						bool pud)
{
	if (pud && limit >= PUD_SHIFT)
		return PUD_SHIFT;
	if (pmd && limit >= PMD_SHIFT)
		return PMD_SHIFT;
	return PAGE_SHIFT;
}

/* Room for what huge_iomap_leaf_name() writes */
#define HUGE_IOMAP_LEAF_NAME_LEN	8

/**
 * huge_iomap_leaf_name - the size of a leaf as text: 4K, 2M, 1G
 * @shift: shift of the leaf
 * @name: where to write it, HUGE_IOMAP_LEAF_NAME_LEN bytes
 *
 * Context: Any.
 * Return: @name.
 */
static inline const char *huge_iomap_leaf_name(unsigned int shift, char *name)
{
	snprintf(name, HUGE_IOMAP_LEAF_NAME_LEN, "%lu%c", 1UL << (shift % 10),
		 "?KMGTPE"[shift / 10]);
	return name;
}

#ifdef CONFIG_HUGE_IOMAP
unsigned int huge_iomap_limit_shift(void);
unsigned int huge_iomap_max_shift(pgprot_t prot);
unsigned int huge_iomap_cpu_shift(void);
#else
static inline unsigned int huge_iomap_limit_shift(void)
{
	return PAGE_SHIFT;
}

static inline unsigned int huge_iomap_max_shift(pgprot_t prot)
{
	return PAGE_SHIFT;
}

static inline unsigned int huge_iomap_cpu_shift(void)
{
	return PAGE_SHIFT;
}
#endif

#endif /* _LINUX_HUGE_IOMAP_H */
