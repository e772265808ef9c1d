/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of the series take from the kernel, for cbmc: as little as they need,
 * with tables of 4 entries (a PMD leaf maps 4 pages, a PUD leaf 16) so that each loop
 * is gone through to its end. What can be one thing or another is left open.
 */
#ifndef PROOF_STUBS_H
#define PROOF_STUBS_H

#include <stdbool.h>
#include <stddef.h>

typedef unsigned long phys_addr_t, pgoff_t;
typedef unsigned int vm_fault_t;
typedef struct { unsigned long pgprot; } pgprot_t;

#define PAGE_SHIFT	12
#define PMD_SHIFT	14
#define PUD_SHIFT	16
#define PAGE_SIZE	(1UL << PAGE_SHIFT)
#define PMD_SIZE	(1UL << PMD_SHIFT)
#define PUD_SIZE	(1UL << PUD_SHIFT)
#define PAGE_MASK	(~(PAGE_SIZE - 1))
#define ALIGN_DOWN(x, a)	((x) & ~((typeof(x))(a) - 1))
#define IS_ALIGNED(x, a)	(((x) & ((typeof(x))(a) - 1)) == 0)
#define PAGE_ALIGN(x)	(((x) + PAGE_SIZE - 1) & PAGE_MASK)
#define PFN_PHYS(x)	((phys_addr_t)(x) << PAGE_SHIFT)
#define PHYS_PFN(x)	((unsigned long)((x) >> PAGE_SHIFT))
#define min(a, b)	((a) < (b) ? (a) : (b))
#define max(a, b)	((a) > (b) ? (a) : (b))
#define __always_inline	inline
#define unrolled_count(n)
#define EXPORT_SYMBOL_GPL(f)
#define EXPORT_SYMBOL_IF_KUNIT(f)
#define IS_ENABLED(x)	1
#define WARN_ON_ONCE(x)	(x)
#define IS_ERR_VALUE(x)	((unsigned long)(x) >= -4095UL)
#define snprintf(...)	0
#define ENOMEM		12
#define arch_vmap_pud_supported(prot)	nondet_bool()
#define arch_vmap_pmd_supported(prot)	nondet_bool()
#define trace_huge_iomap_place(...)	((void)0)
#define trace_huge_iomap_refuse(...)	((void)0)

#define CONFIG_HUGE_VMAP	1
#define CONFIG_HUGE_IOMAP	1
#define CONFIG_ARCH_HAS_HUGE_PFNMAP_SPLIT	1

bool nondet_bool(void);
unsigned char nondet_uchar(void);
unsigned int nondet_uint(void);
unsigned long nondet_ulong(void);
#define assume		__CPROVER_assume

#endif /* PROOF_STUBS_H */
