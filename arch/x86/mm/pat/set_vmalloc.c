// SPDX-License-Identifier: GPL-2.0
/*
 * set_memory_uc(), set_memory_wc() and set_memory_wb() on parts of vmalloc space.
 *
 * An ioremap() is one reservation of a range of physical addresses. A part of it that
 * gets another type is noted within that reservation, and goes with it. The pages of
 * a vmalloc() or vmap() are RAM: each has its own type, as in the direct map, which
 * is changed along with them.
 */
#include <linux/mm.h>
#include <linux/set_memory.h>
#include <linux/vmalloc.h>

#include <asm/memtype.h>

#include "memtype.h"
#include "../mm_internal.h"

static int set_io(unsigned long addr, phys_addr_t phys, int numpages,
		  enum page_cache_mode pcm)
{
	const phys_addr_t end = phys + ((phys_addr_t)numpages << PAGE_SHIFT);
	enum page_cache_mode whole = _PAGE_CACHE_MODE_UC_MINUS;
	int err;

	err = memtype_set_part(phys, end, pcm, &whole);
	if (err)
		return err;
	/* By way of UC-, as SDM volume 3, "Programming the PAT", wants it for WB to WC */
	err = _set_memory_type(addr, numpages, _PAGE_CACHE_MODE_UC_MINUS);
	if (!err && pcm != _PAGE_CACHE_MODE_UC_MINUS)
		err = _set_memory_type(addr, numpages, pcm);
	if (!err)
		return 0;
	/* No memory for a page table. Where there is none there is nothing to undo. */
	if (!_set_memory_type(addr, numpages, whole))
		memtype_set_part(phys, end, whole, &whole);
	return err;
}

static phys_addr_t page_phys(unsigned long addr, int i)
{
	return PFN_PHYS(vmalloc_to_pfn((void *)(addr + i * PAGE_SIZE)));
}

static void free_ram(unsigned long addr, int numpages)
{
	for (int i = 0; i < numpages; i++) {
		const phys_addr_t phys = page_phys(addr, i);

		memtype_free(phys, phys + PAGE_SIZE);
	}
}

static int set_ram(unsigned long addr, int numpages, enum page_cache_mode pcm)
{
	int err;

	if (pcm == _PAGE_CACHE_MODE_WB) {
		err = _set_memory_wb(addr, numpages);
		if (!err)
			free_ram(addr, numpages);
		return err;
	}
	for (int i = 0; i < numpages; i++) {
		const phys_addr_t phys = page_phys(addr, i);

		err = memtype_reserve(phys, phys + PAGE_SIZE, pcm, NULL);
		if (err) {
			free_ram(addr, i);
			return err;
		}
	}
	err = pcm == _PAGE_CACHE_MODE_WC ? _set_memory_wc(addr, numpages) :
					   _set_memory_uc(addr, numpages);
	if (err)
		free_ram(addr, numpages);
	return err;
}

/**
 * set_vmalloc_type - change the memory type of a part of vmalloc space
 * @addr: virtual address, a multiple of PAGE_SIZE
 * @numpages: length in pages of 4 KiB
 * @pcm: UC-, WC or WB
 *
 * The rest of a leaf keeps its type: the leaf is split.
 *
 * Context: May sleep. The caller owns the mapping.
 * Return: 0. -EINVAL if it is not a part of one mapping. -EBUSY if someone else has
 * mapped or reserved a part of it with another type. -ENOMEM: nothing has changed, or
 * I/O memory has the type that the mapping was made with again.
 */
int set_vmalloc_type(unsigned long addr, int numpages, enum page_cache_mode pcm)
{
	const struct vm_struct *area = find_vm_area((void *)addr);
	phys_addr_t phys;

	if (!area || numpages <= 0 ||
	    addr + ((unsigned long)numpages << PAGE_SHIFT) >
	    (unsigned long)area->addr + get_vm_area_size(area))
		return -EINVAL;
	if (!(area->flags & VM_IOREMAP))
		return set_ram(addr, numpages, pcm);
	/* vmap_pfn() has no one physical address, and no reservation. */
	phys = area->phys_addr + (addr - (unsigned long)area->addr);
	if (phys != page_phys(addr, 0))
		return -EINVAL;
	return set_io(addr, phys, numpages, pcm);
}
