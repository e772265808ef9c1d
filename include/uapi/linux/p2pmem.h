/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef _UAPI_LINUX_P2PMEM_H
#define _UAPI_LINUX_P2PMEM_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct p2pmem_export - make memory behind a PCI BAR a dma-buf
 * @start: for a character device of iopmem, the offset into it; for /dev/p2pmem, an
 *	address of the caller, where p2pmem/allocate is mapped. In bytes, a multiple of
 *	the page size
 * @size: in bytes, a multiple of the page size
 * @open_flags: O_RDWR, O_CLOEXEC
 * @flags: 0
 *
 * The ioctl returns the file descriptor of the dma-buf.
 */
struct p2pmem_export {
	__u64 start;
	__u64 size;
	__u32 open_flags;
	__u32 flags;
};

#define P2PMEM_EXPORT	_IOW(0xBC, 0x00, struct p2pmem_export)

#endif /* _UAPI_LINUX_P2PMEM_H */
