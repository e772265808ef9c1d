/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * ioctls of lib/test_memremap.c: struct pages for parts of a real PCI BAR.
 */
#ifndef _LIB_TEST_MEMREMAP_UAPI_H
#define _LIB_TEST_MEMREMAP_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

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

#define TMR_MAP		_IOW('m', 0x00, struct test_memremap_map)
#define TMR_UNMAP	_IO('m', 0x01)
#define TMR_LEAVES	_IOR('m', 0x02, struct test_memremap_leaves)
#define TMR_ACCESS	_IOWR('m', 0x03, struct test_memremap_access)
#define TMR_P2PMEM	_IOW('m', 0x04, struct test_memremap_p2pmem)

#endif /* _LIB_TEST_MEMREMAP_UAPI_H */
