/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * ioctls of lib/test_huge_iomap.c: map parts of a real PCI BAR into the kernel in
 * all the ways that there are, and report the page tables.
 */
#ifndef _LIB_TEST_HUGE_IOMAP_UAPI_H
#define _LIB_TEST_HUGE_IOMAP_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

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

#define THI_BAR		_IOR('I', 0x00, struct test_huge_iomap_bar)
#define THI_MAP		_IOWR('I', 0x01, struct test_huge_iomap_map)
#define THI_UNMAP	_IOWR('I', 0x02, struct test_huge_iomap_unmap)
#define THI_LEAVES	_IOWR('I', 0x03, struct test_huge_iomap_leaves)
#define THI_READ	_IOWR('I', 0x04, struct test_huge_iomap_access)
#define THI_WRITE	_IOW('I', 0x05, struct test_huge_iomap_access)
#define THI_PEEK	_IOWR('I', 0x06, struct test_huge_iomap_access)
#define THI_POKE	_IOW('I', 0x07, struct test_huge_iomap_access)
/* Give unmapped areas back to the allocator now */
#define THI_PURGE	_IO('I', 0x08)
/* Call ioremap() with no length and with ranges that wrap around: fails if one works */
#define THI_BAD_RANGES	_IO('I', 0x09)

#define THI_ZAP		_IOW('I', 0x0a, struct test_huge_iomap_zap)
#define THI_REMAP	_IOW('I', 0x11, struct test_huge_iomap_zap)
#define THI_USER	_IOWR('I', 0x0b, struct test_huge_iomap_user)
#define THI_REVOKE	_IOW('I', 0x0c, struct test_huge_iomap_revoke)
#define THI_CHANGE	_IOW('I', 0x0d, struct test_huge_iomap_change)
#define THI_PAGE	_IOWR('I', 0x0e, struct test_huge_iomap_page)
/* Change the type of a part of a vmalloc(): fails if that is not what it should be */
#define THI_VMALLOC	_IO('I', 0x0f)
#define THI_RAM		_IOWR('I', 0x10, struct test_huge_iomap_ram)
#define THI_FOLLOW	_IOWR('I', 0x11, struct test_huge_iomap_follow)

/*
 * mmap() maps the BAR from the offset on, uncached. With an offset of THI_PIECES
 * or more it maps the BAR from there on, by three calls of remap_pfn_range() that
 * meet at THI_CUT1 and THI_CUT2 of the VMA. An offset of THI_FAR or more is a
 * physical address with nothing there: to be mapped, not to be touched. Offsets of
 * THI_RAM_PAGES and THI_RAM_PFNS are those of the RAM pages of THI_RAM, by
 * vm_insert_page() and by remap_pfn_range().
 * A private mapping that is read-only stays so: it cannot be copied.
 */
#define THI_RAM_PAGES	0x04000000000ULL
#define THI_RAM_PFNS	0x06000000000ULL
#define THI_PIECES	0x08000000000ULL
#define THI_CUT1	0x00000300000ULL
#define THI_CUT2	0x00040000000ULL
#define THI_FAR		0x10000000000ULL

#endif /* _LIB_TEST_HUGE_IOMAP_UAPI_H */
