/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * ioctls of lib/test_huge_vmap.c: map arrays of pages, put together from pieces as a
 * test program likes, into the kernel, and report the page tables.
 */
#ifndef _LIB_TEST_HUGE_VMAP_UAPI_H
#define _LIB_TEST_HUGE_VMAP_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Who maps */
enum test_huge_vmap_how {
	THV_VMAP,
	THV_VMAP_PUT,			/* with VM_MAP_PUT_PAGES: no folios */
	THV_VM_MAP_RAM,
	THV_VMAP_PFN,
	THV_NR_HOW,
};

/* Index of a leaf size */
enum test_huge_vmap_leaf {
	THV_4K,
	THV_2M,
	THV_1G,
	THV_NR_LEAF,
};

/* flags: each of 1 << @order pages is one folio */
#define THV_COMPOUND	1

/* Allocate a block of pages: @nr times 1 << @order. */
struct test_huge_vmap_alloc {
	__u32	order;
	__u32	nr;
	__u32	flags;
	__u32	block;			/* out */
};

/* Pin the caller's memory, in bytes, page aligned. */
struct test_huge_vmap_pin {
	__u64	addr;
	__u64	bytes;
	__u32	block;			/* out */
	__u32	pad;			/* 0 */
};

/* @block of the pieces for THV_VMAP_PFN: @first is a pfn */
#define THV_PFN		0xffffffffU

/* @nr pages of a block: @first, @first + @step, and so on */
struct test_huge_vmap_piece {
	__u64	first;
	__u32	block;
	__u32	nr;
	__s32	step;
	__u32	pad;			/* 0 */
};

/*
 * Map @nr pieces one behind the other.
 * @prot_ro: without write permission
 * @ticks: how long it took, in TSC ticks
 */
struct test_huge_vmap_map {
	__u64	pieces;			/* their address */
	__u32	nr;
	__u32	how;
	__u32	prot_ro;
	__u32	handle;			/* out */
	__u64	va;			/* out */
	__u64	ticks;			/* out */
};

struct test_huge_vmap_unmap {
	__u32	handle;
	__u32	pad;			/* 0 */
	__u64	ticks;			/* out */
	__u64	left;			/* out: pages that are still mapped */
};

/*
 * Pages [first, first + nr) of a mapping: walk the page tables.
 * @leaf: leaves by size
 * @tables: PMD and PTE tables under the range
 * @absent: pages that are not mapped
 * @wrong: pages that are mapped to another pfn, or of which vmalloc_to_page() tells
 *	another page
 * @readonly: pages without write permission
 */
struct test_huge_vmap_leaves {
	__u32	handle;
	__u32	pad;			/* 0 */
	__u64	first;
	__u64	nr;
	__u64	leaf[THV_NR_LEAF];	/* out */
	__u64	tables;			/* out */
	__u64	absent;			/* out */
	__u64	wrong;			/* out */
	__u64	readonly;		/* out */
};

/*
 * A part of a mapping, in pages
 * @direct: THV_SET_UC and its like change these pages by their address in the direct
 *	map; they are contiguous
 */
struct test_huge_vmap_part {
	__u32	handle;
	__u32	direct;
	__u64	first;
	__u64	nr;
};

/*
 * copy_to_user() @bytes of a mapping from @offset on, in bytes, to @addr, as one piece
 */
struct test_huge_vmap_copy {
	__u32	handle;
	__u32	pad;			/* 0 */
	__u64	offset;
	__u64	bytes;
	__u64	addr;
};

/* Write the pfns of a mapping, as they were asked for, to @addr, 8 bytes each. */
struct test_huge_vmap_pfns {
	__u32	handle;
	__u32	pad;			/* 0 */
	__u64	first;
	__u64	nr;
	__u64	addr;
};

#define THV_ALLOC	_IOWR('V', 0x00, struct test_huge_vmap_alloc)
#define THV_PIN		_IOWR('V', 0x01, struct test_huge_vmap_pin)
#define THV_FREE	_IOW('V', 0x02, __u32)
#define THV_MAP		_IOWR('V', 0x03, struct test_huge_vmap_map)
#define THV_UNMAP	_IOWR('V', 0x04, struct test_huge_vmap_unmap)
#define THV_LEAVES	_IOWR('V', 0x05, struct test_huge_vmap_leaves)
/*
 * Write a pattern through the mapping and read it through the direct map, then the
 * other way round. Returns the number of pages that differ.
 */
#define THV_CHECK	_IOW('V', 0x06, struct test_huge_vmap_part)
/* vunmap_range() */
#define THV_VUNMAP	_IOW('V', 0x07, struct test_huge_vmap_part)
#define THV_SET_RO	_IOW('V', 0x08, struct test_huge_vmap_part)
#define THV_SET_RW	_IOW('V', 0x09, struct test_huge_vmap_part)
#define THV_COPY	_IOW('V', 0x0a, struct test_huge_vmap_copy)
#define THV_PFNS	_IOW('V', 0x0c, struct test_huge_vmap_pfns)
#define THV_SET_UC	_IOW('V', 0x0d, struct test_huge_vmap_part)
#define THV_SET_WC	_IOW('V', 0x0e, struct test_huge_vmap_part)
#define THV_SET_WB	_IOW('V', 0x0f, struct test_huge_vmap_part)
/*
 * Write the memory types of the pages of a mapping to @addr, two bytes each: that of
 * the mapping and that of the direct map, as indices into the PAT.
 */
#define THV_TYPES	_IOW('V', 0x10, struct test_huge_vmap_pfns)
/* Give unmapped areas back to the allocator now */
#define THV_PURGE	_IO('V', 0x0b)

/* mmap() of the device: remap_vmalloc_range() of the mapping with the offset's handle */
#define THV_MMAP_SHIFT	12

#endif /* _LIB_TEST_HUGE_VMAP_UAPI_H */
