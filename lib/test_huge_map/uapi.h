/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * ioctls of lib/test_huge_map, the test driver for huge mappings.
 */
#ifndef _LIB_TEST_HUGE_MAP_UAPI_H
#define _LIB_TEST_HUGE_MAP_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* An ioctl's number says which part of the driver it is for. */
#define THM_MAGIC	'I'
#define THM_PARTS	0x60
#define THM_IOREMAP	0x00
#define THM_VMAP	0x20
#define THM_MEMREMAP	0x40
#define THM_EDU		0x60

/*
 * Parts of a real PCI BAR, mapped in all the ways that there are, in the kernel and in
 * user space
 */

/* How to map */
enum test_huge_iomap_how {
	THI_IOREMAP,
	THI_IOREMAP_UC,
	THI_IOREMAP_WC,
	THI_IOREMAP_WT,
	THI_IOREMAP_CACHE,
	THI_IOREMAP_PROT,		/* with the protection of ioremap_wc() */
	THI_MEMREMAP_WB,
	THI_MEMREMAP_WT,
	THI_MEMREMAP_WC,
	THI_PCI_IOMAP_RANGE,
	THI_PCI_IOMAP_WC_RANGE,
	THI_DEVM_IOREMAP,
	THI_DEVM_IOREMAP_WC,
	THI_DEVM_MEMREMAP_WC,
	THI_NR_HOW,
};

/* Index of a leaf size */
enum test_huge_iomap_leaf {
	THI_4K,
	THI_2M,
	THI_1G,
	THI_NR_LEAF,
};

/* Memory type of a leaf: index into the PAT, as Linux programs it */
enum test_huge_iomap_type {
	THI_WB = 0,
	THI_WC = 1,
	THI_UC_MINUS = 2,
	THI_UC = 3,
	THI_WT = 7,
	THI_MIXED = 255,		/* not the same in all leaves */
};

/* The BAR: @start is a physical address, @bytes its length */
struct test_huge_iomap_bar {
	__u64	start;
	__u64	bytes;
};

/*
 * Map @bytes of the BAR from @offset on, both in bytes.
 * @ticks: how long it took, in TSC ticks
 */
struct test_huge_iomap_map {
	__u64	offset;
	__u64	bytes;
	__u32	how;
	__u32	handle;			/* out */
	__u64	va;			/* out */
	__u64	ticks;			/* out */
};

/*
 * Unmap.
 * @page: give iounmap() the address of this page of the mapping
 * @left: pages that are still mapped in the range afterwards
 * @tables: page tables below the PUD level that remain under the range
 */
struct test_huge_iomap_unmap {
	__u32	handle;
	__u32	page;
	__u64	ticks;			/* out */
	__u64	left;			/* out */
	__u64	tables;			/* out */
};

/*
 * Walk the page tables of a mapping.
 * @nr: leaves by size
 * @tables: PMD and PTE tables under the range
 * @wrong: pages that are not mapped, or not to the physical address they should
 * @type: memory type
 * @guarded: is_ioremap_addr() is true for the range, and the page behind it is not
 *	mapped
 */
struct test_huge_iomap_leaves {
	__u32	handle;
	__u32	type;			/* out */
	__u64	nr[THI_NR_LEAF];	/* out */
	__u64	tables;			/* out */
	__u64	wrong;			/* out */
	__u32	guarded;		/* out */
	__u32	pad;			/* 0 */
};

/*
 * Read or write 32 bits, aligned: at @offset of the mapping @handle (READ, WRITE),
 * or at @offset of the BAR through a mapping of that one page (PEEK, POKE).
 */
struct test_huge_iomap_access {
	__u64	offset;
	__u32	handle;
	__u32	how;
	__u32	value;			/* in, out */
	__u32	pad;			/* 0 */
};

/*
 * Zap part of the caller's mapping of the test device, or map the same there once
 * more, which is refused if there are no huge leaves
 */
struct test_huge_iomap_zap {
	__u64	addr;
	__u64	bytes;
};

/*
 * What maps [addr, addr + bytes) of the caller.
 * @leaf_bytes: bytes by leaf size
 * @writable: bytes that can be written to
 * @type: memory type
 */
struct test_huge_iomap_user {
	__u64	addr;
	__u64	bytes;
	__u64	leaf_bytes[THI_NR_LEAF];	/* out */
	__u64	writable;			/* out */
	__u32	type;				/* out */
	__u32	pad;				/* 0 */
};

/*
 * Zap [offset, offset + bytes) of all mappings of the file @fd, as revoke_iomem()
 * does. @offset counts as in vm_pgoff: a physical address with PCI resources.
 */
struct test_huge_iomap_revoke {
	__u64	offset;
	__u64	bytes;
	__s32	fd;
	__u32	pad;			/* 0 */
};

/* What to do with a part of a mapping */
enum test_huge_iomap_what {
	THI_SET_UC,
	THI_SET_WC,
	THI_SET_WB,
	THI_SET_RO,
	THI_SET_RW,
	THI_VUNMAP,			/* with vunmap_range() */
};

/* Do it to @nr pages from @offset on, in bytes */
struct test_huge_iomap_change {
	__u32	handle;
	__u32	what;
	__u64	offset;
	__u32	nr;
	__u32	pad;			/* 0 */
};

/*
 * Change the type of pages of RAM: of @nr pages, 2 at most, from the @first on, of the
 * two that the file has. They are WB again when it is closed.
 */
struct test_huge_iomap_ram {
	__u32	what;			/* THI_SET_UC, THI_SET_WC, THI_SET_WB */
	__u32	first;
	__u32	nr;			/* 0: just tell the address */
	__u32	pad;			/* 0 */
	__u64	phys;			/* out: of the first of the two */
};

/* The leaf that maps @offset of a mapping. Its address is checked, if it is present. */
struct test_huge_iomap_page {
	__u32	handle;
	__u32	leaf;			/* out */
	__u64	offset;
	__u32	type;			/* out */
	__u8	present, writable;	/* out */
	__u8	wrong;			/* out */
	__u8	pad;			/* 0 */
};

/*
 * What follow_pfnmap_start() says of @addr of the caller.
 * @phys: physical address of the page
 * @size: of the leaf that it takes it from
 * @type: memory type, as a 4 KiB mapping with its pgprot would have
 */
struct test_huge_iomap_follow {
	__u64	addr;
	__u64	phys;			/* out */
	__u64	size;			/* out */
	__u32	type;			/* out */
	__u32	writable;		/* out */
};

#define THI_BAR		_IOR(THM_MAGIC, 0x00, struct test_huge_iomap_bar)
#define THI_MAP		_IOWR(THM_MAGIC, 0x01, struct test_huge_iomap_map)
#define THI_UNMAP	_IOWR(THM_MAGIC, 0x02, struct test_huge_iomap_unmap)
#define THI_LEAVES	_IOWR(THM_MAGIC, 0x03, struct test_huge_iomap_leaves)
#define THI_READ	_IOWR(THM_MAGIC, 0x04, struct test_huge_iomap_access)
#define THI_WRITE	_IOW(THM_MAGIC, 0x05, struct test_huge_iomap_access)
#define THI_PEEK	_IOWR(THM_MAGIC, 0x06, struct test_huge_iomap_access)
#define THI_POKE	_IOW(THM_MAGIC, 0x07, struct test_huge_iomap_access)
/* Give unmapped areas back to the allocator now */
#define THI_PURGE	_IO(THM_MAGIC, 0x08)
/* Call ioremap() with no length and with ranges that wrap around: fails if one works */
#define THI_BAD_RANGES	_IO(THM_MAGIC, 0x09)

#define THI_ZAP		_IOW(THM_MAGIC, 0x0a, struct test_huge_iomap_zap)
#define THI_REMAP	_IOW(THM_MAGIC, 0x12, struct test_huge_iomap_zap)
#define THI_USER	_IOWR(THM_MAGIC, 0x0b, struct test_huge_iomap_user)
#define THI_REVOKE	_IOW(THM_MAGIC, 0x0c, struct test_huge_iomap_revoke)
#define THI_CHANGE	_IOW(THM_MAGIC, 0x0d, struct test_huge_iomap_change)
#define THI_PAGE	_IOWR(THM_MAGIC, 0x0e, struct test_huge_iomap_page)
/* Change the type of a part of a vmalloc(): fails if that is not what it should be */
#define THI_VMALLOC	_IO(THM_MAGIC, 0x0f)
#define THI_RAM		_IOWR(THM_MAGIC, 0x10, struct test_huge_iomap_ram)
#define THI_FOLLOW	_IOWR(THM_MAGIC, 0x11, struct test_huge_iomap_follow)

/*
 * mmap() maps the BAR from the offset on, uncached. With an offset of THI_PIECES
 * or more it maps the BAR from there on, by three calls of remap_pfn_range() that
 * meet at THI_CUT1 and THI_CUT2 of the VMA. An offset of THI_FAR or more is a
 * physical address with nothing there: to be mapped, not to be touched. Offsets of
 * THI_RAM_PAGES and THI_RAM_PFNS are those of the RAM pages of THI_RAM, by
 * vm_insert_page() and by remap_pfn_range().
 * From THE_MMAP on it is the BAR, behind a file that mmap() replaces by another; from
 * THE_MKWRITE on the same, by a driver that has pfn_mkwrite().
 * A private mapping that is read-only stays so: it cannot be copied.
 */
#define THI_RAM_PAGES	0x04000000000ULL
#define THI_RAM_PFNS	0x06000000000ULL
#define THE_MMAP	0x07000000000ULL
#define THE_MKWRITE	0x07800000000ULL
#define THE_MMAP_END	0x08000000000ULL
#define THI_PIECES	0x08000000000ULL
#define THI_CUT1	0x00000300000ULL
#define THI_CUT2	0x00040000000ULL
/* From here on by one call for more than the VMA: whole blocks of 2 MiB */
#define THI_OVER	0x0c000000000ULL
#define THI_FAR		0x10000000000ULL

/*
 * Arrays of pages, put together from pieces as a test program likes, mapped into the
 * kernel
 */

/* Who maps */
enum test_huge_vmap_how {
	THV_VMAP,
	THV_VMAP_PUT,			/* with VM_MAP_PUT_PAGES: no folios */
	THV_VM_MAP_RAM,
	THV_VMAP_PFN,
	THV_NR_HOW,
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
	__u64	leaf[THI_NR_LEAF];	/* out */
	__u64	tables;			/* out */
	__u64	absent;			/* out */
	__u64	wrong;			/* out */
	__u64	readonly;		/* out */
};

/*
 * A part of a mapping, in pages
 * @direct: THV_SET_UC and its like change these pages by their address in the direct
 *	map, where they are contiguous (1), or as an array (2)
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

#define THV_ALLOC	_IOWR(THM_MAGIC, 0x20, struct test_huge_vmap_alloc)
#define THV_PIN		_IOWR(THM_MAGIC, 0x21, struct test_huge_vmap_pin)
#define THV_FREE	_IOW(THM_MAGIC, 0x22, __u32)
#define THV_MAP		_IOWR(THM_MAGIC, 0x23, struct test_huge_vmap_map)
#define THV_UNMAP	_IOWR(THM_MAGIC, 0x24, struct test_huge_vmap_unmap)
#define THV_LEAVES	_IOWR(THM_MAGIC, 0x25, struct test_huge_vmap_leaves)
/*
 * Write a pattern through the mapping and read it through the direct map, then the
 * other way round. Returns the number of pages that differ.
 */
#define THV_CHECK	_IOW(THM_MAGIC, 0x26, struct test_huge_vmap_part)
/* vunmap_range() */
#define THV_VUNMAP	_IOW(THM_MAGIC, 0x27, struct test_huge_vmap_part)
#define THV_SET_RO	_IOW(THM_MAGIC, 0x28, struct test_huge_vmap_part)
#define THV_SET_RW	_IOW(THM_MAGIC, 0x29, struct test_huge_vmap_part)
#define THV_COPY	_IOW(THM_MAGIC, 0x2a, struct test_huge_vmap_copy)
#define THV_PFNS	_IOW(THM_MAGIC, 0x2c, struct test_huge_vmap_pfns)
#define THV_SET_UC	_IOW(THM_MAGIC, 0x2d, struct test_huge_vmap_part)
#define THV_SET_WC	_IOW(THM_MAGIC, 0x2e, struct test_huge_vmap_part)
#define THV_SET_WB	_IOW(THM_MAGIC, 0x2f, struct test_huge_vmap_part)
/*
 * Write the memory types of the pages of a mapping to @addr, two bytes each: that of
 * the mapping and that of the direct map, as indices into the PAT.
 */
#define THV_TYPES	_IOW(THM_MAGIC, 0x30, struct test_huge_vmap_pfns)
/* Give unmapped areas back to the allocator now */
#define THV_PURGE	_IO(THM_MAGIC, 0x2b)

/* mmap() from here on, a page for each handle: remap_vmalloc_range() of the mapping */
#define THV_MMAP	0x05000000000ULL
#define THV_MMAP_END	0x06000000000ULL

/* struct pages for parts of a real PCI BAR */

#define TMR_WB		1	/* as MEMREMAP_WB, MEMREMAP_WT, MEMREMAP_WC */
#define TMR_WT		2
#define TMR_WC		4

enum test_memremap_type {
	TMR_GENERIC,
	TMR_FS_DAX,
	TMR_P2PDMA,
	TMR_PRIVATE,
	TMR_COHERENT,
	TMR_NR_TYPE,
};

/*
 * Call memremap_pages() for @bytes of the BAR from @offset on, and as a second range,
 * if @bytes2 is not 0, for @bytes2 from @offset2 on. A file can have one mapping.
 * @altmap: so many pages of the range hold its struct pages
 */
struct test_memremap_map {
	__u64	offset, bytes;
	__u64	offset2, bytes2;
	__u64	flags;
	__u32	type;
	__u32	vmemmap_shift;
	__u64	altmap;
};

/*
 * What maps the ranges in the direct map.
 * @nr: leaves by size
 * @type: index into the PAT, 255 if there is more than one
 * @wrong: pages that are not mapped, or not to where they should
 * @no_page: pages without a struct page of ZONE_DEVICE
 * After TMR_UNMAP, these are of the ranges that were mapped last.
 */
struct test_memremap_leaves {
	__u64	nr[3];
	__u64	wrong;
	__u64	no_page;
	__u32	type;
	__u32	pad;
};

/* Read or write 32 bits at @offset of the first range, with page_address() or kmap */
struct test_memremap_access {
	__u64	offset;
	__u32	value;
	__u32	write;
	__u32	kmap;
	__u32	pad;
};

/*
 * Register @bytes of @bar from @offset on as p2p memory, write-combining if @wc. It
 * goes when the driver of the device is unbound.
 */
struct test_memremap_p2pmem {
	__u64	offset, bytes;
	__u32	bar;
	__u32	wc;
};

#define TMR_MAP		_IOW(THM_MAGIC, 0x40, struct test_memremap_map)
#define TMR_UNMAP	_IO(THM_MAGIC, 0x41)
#define TMR_LEAVES	_IOR(THM_MAGIC, 0x42, struct test_memremap_leaves)
#define TMR_ACCESS	_IOWR(THM_MAGIC, 0x43, struct test_memremap_access)
#define TMR_P2PMEM	_IOW(THM_MAGIC, 0x44, struct test_memremap_p2pmem)

/* Pages for the edu device, and what one DMA copies */
#define TED_NR_SLOT	4
#define TED_WORDS	64
#define TED_BYTES	(TED_WORDS * 4)

/* A DMA: write @value, @value + 1, ... at @dma, or read @words there */
struct test_edu_dma {
	__u64	dma;
	__u32	write;
	__u32	value;
	__u32	words[TED_WORDS];
};

/*
 * Pages that the DMA API maps: @dma is where. They stay after TED_UNMAP, for TED_LOAD
 * and TED_STORE of @value at @offset, until TED_FREE or the next TED_MAP.
 */
struct test_edu_page {
	__u32	slot;
	__u32	order;
	__u64	dma;
	__u64	offset;
	__u32	value;
	__u32	pad;
};

#define TED_DMA		_IOWR(THM_MAGIC, 0x60, struct test_edu_dma)
#define TED_MAP		_IOWR(THM_MAGIC, 0x61, struct test_edu_page)
#define TED_UNMAP	_IOW(THM_MAGIC, 0x62, struct test_edu_page)
#define TED_FREE	_IOW(THM_MAGIC, 0x63, struct test_edu_page)
#define TED_LOAD	_IOWR(THM_MAGIC, 0x64, struct test_edu_page)
#define TED_STORE	_IOWR(THM_MAGIC, 0x65, struct test_edu_page)

/* What an importer does when a dma-buf is taken away, and such as are refused */
enum {
	TDB_NOW,		/* unmap */
	TDB_LATE,		/* unmap after TDB_LATE_MS */
	TDB_DEAF,		/* cannot be told */
	TDB_LOCAL,		/* cannot reach a peer */
};

#define TDB_LATE_MS	500

/*
 * A dma-buf for the edu device: import @fd, one at a time, and map it: at @dma, @bytes
 * in all. Is it @mapped, how often was the importer @notified? TDB_DMA is TED_DMA at an
 * offset of it.
 */
struct test_edu_import {
	__s32	fd;
	__u32	how;
	__u64	dma;
	__u64	bytes;
	__u32	mapped;
	__u32	notified;
};

#define TDB_IMPORT	_IOWR(THM_MAGIC, 0x68, struct test_edu_import)
#define TDB_MAP		_IOWR(THM_MAGIC, 0x69, struct test_edu_import)
#define TDB_STATE	_IOWR(THM_MAGIC, 0x6a, struct test_edu_import)
#define TDB_DROP	_IOWR(THM_MAGIC, 0x6b, struct test_edu_import)
#define TDB_DMA		_IOWR(THM_MAGIC, 0x6c, struct test_edu_dma)

#endif /* _LIB_TEST_HUGE_MAP_UAPI_H */
