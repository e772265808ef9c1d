/* SPDX-License-Identifier: GPL-2.0 */
/* Between p2pdma.c and p2pdma_dmabuf.c */
#ifndef _PCI_P2PDMA_H
#define _PCI_P2PDMA_H

#include <linux/types.h>

struct list_head;
struct p2pdma_provider;

int p2pmem_export(unsigned long start, u64 size, int flags);

/* With CONFIG_PCI_P2PDMA_DMABUF */
int p2pdma_export(struct list_head *exports, struct p2pdma_provider *provider,
		  phys_addr_t paddr, u64 size, int flags, bool folios);

#endif /* _PCI_P2PDMA_H */
