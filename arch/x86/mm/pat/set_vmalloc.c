// SPDX-License-Identifier: GPL-2.0
/*
 * set_memory_uc(), set_memory_wc() and set_memory_wb() on vmalloc space.
 *
 * The pages of a vmalloc() or vmap() are RAM: each has its own type, as in the direct
 * map, which is changed along with them. The type of an I/O mapping is chosen when it
 * is made.
 */
#include <linux/mm.h>
#include <linux/set_memory.h>
#include <linux/vmalloc.h>

#include <asm/memtype.h>

#include "memtype.h"
#include "../mm_internal.h"

static phys_addr_t page_phys(unsigned long addr, int i)
{
	return PFN_PHYS(vmalloc_to_pfn((void *)(addr + i * PAGE_SIZE)));
}

static bool is_mapped(unsigned long addr, int numpages)
{
	for (int i = 0; i < numpages; i++) {
		if (!vmalloc_to_page((void *)(addr + i * PAGE_SIZE)))
			return false;
	}
	return true;
}

static void free_pages_type(unsigned long addr, int numpages)
{
	for (int i = 0; i < numpages; i++) {
		const phys_addr_t phys = page_phys(addr, i);

		memtype_free(phys, phys + PAGE_SIZE);
	}
}

static int reserve_pages_type(unsigned long addr, int numpages,
			      enum page_cache_mode pcm)
{
	for (int i = 0; i < numpages; i++) {
		const phys_addr_t phys = page_phys(addr, i);
		int err = memtype_reserve(phys, phys + PAGE_SIZE, pcm, NULL);

		if (err) {
			free_pages_type(addr, i);
			return err;
		}
	}
	return 0;
}

/* From @addr on, how many pages have the same type? */
static int same_type(unsigned long addr, int numpages, enum page_cache_mode *pcm)
{
	int nr = 1;

	*pcm = lookup_memtype(page_phys(addr, 0));
	while (nr < numpages && lookup_memtype(page_phys(addr, nr)) == *pcm)
		nr++;
	return nr;
}

/* The page tables. If they cannot be split, a part may have changed. */
static int set_type(unsigned long addr, int numpages, enum page_cache_mode pcm)
{
	switch (pcm) {
	case _PAGE_CACHE_MODE_UC_MINUS:
		return _set_memory_uc(addr, numpages);
	case _PAGE_CACHE_MODE_WC:
		return _set_memory_wc(addr, numpages);
	default:
		return _set_memory_wb(addr, numpages);
	}
}

/*
 * Taking back what has changed takes no memory: it lies in leaves that need no split.
 * Without PAT nobody knows what it was.
 */
static int set_uncached(unsigned long addr, int numpages, enum page_cache_mode pcm)
{
	int err = reserve_pages_type(addr, numpages, pcm);

	if (err)
		return err;
	err = set_type(addr, numpages, pcm);
	/* A page that may have the new type keeps it reserved. */
	if (err && pat_enabled() && !set_type(addr, numpages, _PAGE_CACHE_MODE_WB))
		free_pages_type(addr, numpages);
	return err;
}

static int set_cached(unsigned long addr, int numpages)
{
	enum page_cache_mode old;

	while (numpages) {
		int nr = same_type(addr, numpages, &old);
		int err = set_type(addr, nr, _PAGE_CACHE_MODE_WB);

		if (err) {
			set_type(addr, nr, old);
			return err;
		}
		free_pages_type(addr, nr);
		addr += nr * PAGE_SIZE;
		numpages -= nr;
	}
	return 0;
}

/**
 * set_vmalloc_type - change the memory type of a part of a vmalloc() or vmap()
 * @addr: virtual address, a multiple of PAGE_SIZE
 * @numpages: length in pages of 4 KiB
 * @pcm: UC-, WC or WB
 *
 * The rest of a leaf keeps its type: the leaf is split.
 *
 * Context: May sleep. The caller owns the mapping.
 * Return: 0. -EINVAL if it is not a part of one mapping, if not all of it is mapped, or
 * if that is I/O memory. -EBUSY if a page has another type than WB already. -ENOMEM: each page has
 * the type that is tracked for it, the old one or, if @pcm is WB, the new one.
 */
int set_vmalloc_type(unsigned long addr, int numpages, enum page_cache_mode pcm)
{
	const struct vm_struct *area = find_vm_area((void *)addr);

	if (!area || numpages <= 0 ||
	    addr + ((unsigned long)numpages << PAGE_SHIFT) >
	    (unsigned long)area->addr + get_vm_area_size(area))
		return -EINVAL;
	/* The reservation is that of the whole mapping, and others may share the type. */
	if (area->flags & VM_IOREMAP) {
		pr_warn_once("x86/PAT: the memory type of an I/O mapping cannot be changed: mapped by %pS\n",
			     area->caller);
		return -EINVAL;
	}
	/* After vunmap_range(), or vrealloc() to less, there are holes. */
	if (!is_mapped(addr, numpages))
		return -EINVAL;
	return pcm == _PAGE_CACHE_MODE_WB ? set_cached(addr, numpages) :
					    set_uncached(addr, numpages, pcm);
}
