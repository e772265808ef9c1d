// SPDX-License-Identifier: GPL-2.0
/*
 * mm/huge_pfnmap_map.c: what vmf_insert_pfn_extent() maps lies in the VMA and in the
 * extent, each page shows what the extent says, leaves are aligned, and PTEs are set in
 * the table of the fault: whatever the extent, the VMA and the
 * address are.
 */
#include "stubs.h"

/*
 * The limit on leaves, and what is beyond it is not gone into: a proof for each LEVEL
 * ends in a minute. Numbers of few bits: 16 PUD leaves, or 4 tables
 */
#define NUMBER	(nondet_uchar() & (LEVEL == PAGE_SHIFT ? 15 : 255))

enum state { NONE, LEAF, TABLE, NOT_PRESENT };
typedef struct { enum state s; unsigned long pfn; } pte_t, pmd_t, pud_t;
typedef int spinlock_t;
struct mm_struct { int x; };
struct vm_fault;
struct vm_operations_struct {
	vm_fault_t (*hugepfn_fault)(struct vm_fault *vmf);
	vm_fault_t (*fault)(struct vm_fault *vmf);
	vm_fault_t (*pfn_mkwrite)(struct vm_fault *vmf);
};
struct vm_area_struct {
	unsigned long vm_start, vm_end, vm_pgoff, vm_flags;
	pgprot_t vm_page_prot;
	struct mm_struct *vm_mm;
	const struct vm_operations_struct *vm_ops;
};
struct vm_fault {
	struct vm_area_struct *vma;
	unsigned long pgoff, address;
	unsigned int flags;
	pud_t *pud;
	pmd_t *pmd;
	pte_t *pte;
	spinlock_t *ptl;
};

#define VM_FAULT_OOM		1
#define VM_FAULT_SIGBUS		2
#define VM_FAULT_NOPAGE		4
#define VM_FAULT_FALLBACK	8
#define FAULT_FLAG_WRITE	1
#define VM_PFNMAP		1
#define VM_MIXEDMAP		2

static struct pfn_extent { pgoff_t pgoff; unsigned long pfn, nr; } extent;
static struct vm_area_struct vma;
static pud_t the_pud;
static pmd_t pmds[4];
static pte_t ptes[4];
static unsigned int max_shift;
/* Has a stub said no? And how many pages around the fault have been mapped */
static bool refused;
static unsigned long shown, fault_addr;
static bool may(void)
{
	bool yes = nondet_bool();

	refused |= !yes;
	return yes;
}

#define _LINUX_PFNMAP_H
unsigned int huge_iomap_max_shift(pgprot_t prot);
#include <linux/huge_iomap.h>

static bool vma_is_cow_mapping(struct vm_area_struct *v) { return false; }
static bool vma_is_accessible(struct vm_area_struct *v) { return nondet_bool(); }
/* Of PROT_NONE mappings that show what must not be seen: the caller falls back. */
static bool arch_has_pfn_modify_check(void) { return false; }
static bool pfn_modify_allowed(unsigned long pfn, pgprot_t prot) { return may(); }
static bool has_transparent_pud_hugepage(void) { return may(); }
static bool has_transparent_hugepage(void) { return may(); }
static enum huge_iomap_why huge_pfnmap_vma_why(struct vm_area_struct *v, unsigned int shift)
{
	return max_shift < shift ? HUGE_IOMAP_LIMIT : HUGE_IOMAP_LARGEST;
}

#define entry_functions(e)							\
static e##_t e##p_get(e##_t *p) { return *p; }					\
static e##_t e##p_get_lockless(e##_t *p) { return *p; }				\
static bool e##_none(e##_t x) { return x.s == NONE; }				\
static bool e##_leaf(e##_t x) { return x.s == LEAF; }				\
static bool e##_present(e##_t x) { return x.s == LEAF || x.s == TABLE; }
entry_functions(pud)
entry_functions(pmd)

static pmd_t *pmd_offset(pud_t *pudp, unsigned long addr)
{
	return &pmds[(addr >> PMD_SHIFT) & 3];
}
static pmd_t *pmd_alloc(struct mm_struct *mm, pud_t *pudp, unsigned long addr)
{
	return LEVEL == PUD_SHIFT ? NULL : pmd_offset(pudp, addr);
}
static bool pud_trans_unstable(pud_t *pudp) { return !may(); }
static int pte_alloc(struct mm_struct *mm, pmd_t *pmdp) { return LEVEL != PAGE_SHIFT; }
static pte_t *pte_offset_map_lock(struct mm_struct *mm, pmd_t *pmdp, unsigned long addr,
				  spinlock_t **ptl)
{
	return !may() ? NULL : &ptes[(addr >> PAGE_SHIFT) & 3];
}
static pte_t *pte_offset_map(pmd_t *pmdp, unsigned long addr) { return &ptes[0]; }
static void pte_unmap(pte_t *p) { }
static void pte_unmap_unlock(pte_t *p, spinlock_t *ptl) { }
static pte_t ptep_get(pte_t *p) { return *p; }
static pte_t ptep_get_lockless(pte_t *p) { return *p; }
static bool pte_none(pte_t p) { return p.s == NONE; }
static unsigned long pte_pfn(pte_t p) { return p.pfn; }
static pte_t pfn_pte(unsigned long pfn, pgprot_t prot) { return (pte_t) { LEAF, pfn }; }
static pte_t pte_next_pfn(pte_t p) { p.pfn++; return p; }
#define pte_mkspecial(p)	(p)
#define pte_mkyoung(p)		(p)
#define pte_mkold(p)		(p)
#define pte_sw_mkyoung(p)	(p)
#define pte_mkdirty(p)		(p)
#define maybe_mkwrite(p, v)	(p)
#define arch_wants_old_prefaulted_pte()	nondet_bool()
#define update_mmu_cache(v, a, p)	((void)0)

static int pfnmap_setup_cachemode_leaf(unsigned long pfn, unsigned long size, pgprot_t *prot)
{
	return may() ? 0 : -22;
}
static int pfnmap_setup_cachemode(unsigned long pfn, unsigned long size, pgprot_t *prot)
{
	/* The range that is mapped then, not another */
	__CPROVER_assert(pfn >= extent.pfn && size >> PAGE_SHIFT <= extent.nr &&
			 pfn - extent.pfn <= extent.nr - (size >> PAGE_SHIFT), "type of the extent");
	return nondet_bool() ? -22 : 0;
}
static void pfnmap_setup_cachemode_pfn(unsigned long pfn, pgprot_t *prot) { }

/* What is mapped at [addr, addr + nr pages) */
static void mapped(unsigned long addr, unsigned long pfn, unsigned long nr)
{
	unsigned long pgoff = vma.vm_pgoff + ((addr - vma.vm_start) >> PAGE_SHIFT);

	__CPROVER_assert(!(addr & (nr * PAGE_SIZE - 1)) && !(pfn & (nr - 1)), "aligned");
	__CPROVER_assert(addr >= vma.vm_start && addr < vma.vm_end &&
			 nr <= (vma.vm_end - addr) >> PAGE_SHIFT, "in the VMA");
	__CPROVER_assert(pgoff >= extent.pgoff && nr <= extent.nr &&
			 pgoff - extent.pgoff <= extent.nr - nr, "in the extent");
	__CPROVER_assert(pfn == extent.pfn + (pgoff - extent.pgoff), "the pfn of the extent");
	if (fault_addr - addr < nr << PAGE_SHIFT)
		shown = nr;
}

static vm_fault_t insert_pfn_pud(struct vm_area_struct *v, unsigned long addr, pud_t *pudp,
				 unsigned long pfn, pgprot_t prot, bool write)
{
	__CPROVER_assert(pudp == &the_pud && max_shift >= PUD_SHIFT, "allowed");
	mapped(addr, pfn, 16);
	return may() ? VM_FAULT_NOPAGE : VM_FAULT_FALLBACK;
}
static vm_fault_t insert_pfn_pmd(struct vm_area_struct *v, unsigned long addr, pmd_t *pmdp,
				 unsigned long pfn, pgprot_t prot, bool write)
{
	__CPROVER_assert(pmdp == pmd_offset(NULL, addr) && max_shift >= PMD_SHIFT, "allowed");
	mapped(addr, pfn, 4);
	return may() ? VM_FAULT_NOPAGE : VM_FAULT_FALLBACK;
}
static void set_pte_at(struct mm_struct *mm, unsigned long addr, pte_t *p, pte_t pte)
{
	__CPROVER_assert(p == &ptes[(addr >> PAGE_SHIFT) & 3] && p->s == NONE,
			 "the entry of the address, if there was none");
	mapped(addr, pte.pfn, 1);
	*p = pte;
}
static bool ptep_set_access_flags(struct vm_area_struct *v, unsigned long addr, pte_t *p,
				  pte_t pte, bool dirty)
{
	__CPROVER_assert(p == &ptes[(addr >> PAGE_SHIFT) & 3] && p->pfn == pte.pfn, "the same page");
	return nondet_bool();
}

#include "mm/huge_pfnmap_map.c"

static enum state any_state(void)
{
	unsigned int s = nondet_uint();

	assume(s <= NOT_PRESENT);
	return s;
}

int main(void)
{
	static const struct vm_operations_struct ops;
	struct vm_fault vmf = { .vma = &vma, .pud = &the_pud };
	unsigned long at, end;
	bool inside, table;

	/* A VMA as there are, aligned and not empty, and an extent, of any place */
	vma = (struct vm_area_struct) {
		.vm_start = (unsigned long)NUMBER << PAGE_SHIFT,
		.vm_end = (unsigned long)NUMBER << PAGE_SHIFT,
		.vm_pgoff = NUMBER, .vm_flags = VM_PFNMAP, .vm_ops = &ops,
	};
	extent = (struct pfn_extent) { NUMBER, NUMBER, NUMBER };
	assume(vma.vm_start < vma.vm_end);
	max_shift = LEVEL;
	vmf.address = (unsigned long)NUMBER << PAGE_SHIFT;
	assume(vmf.address >= vma.vm_start && vmf.address < vma.vm_end);
	vmf.pgoff = vma.vm_pgoff + ((vmf.address - vma.vm_start) >> PAGE_SHIFT);
	vmf.flags = nondet_uint();
	the_pud.s = any_state();
	for (int i = 0; i < 4; i++) {
		pmds[i].s = any_state();
		/* What is there already is of the same mapping. */
		ptes[i].s = nondet_bool() ? LEAF : NONE;
		ptes[i].pfn = nondet_ulong();
	}
	fault_addr = vmf.address;
	const pud_t pud = the_pud;
	const pmd_t pmd = pmds[(vmf.address >> PMD_SHIFT) & 3];
	const pte_t pte = ptes[(vmf.address >> PAGE_SHIFT) & 3];
	inside = vmf.pgoff >= extent.pgoff && vmf.pgoff - extent.pgoff < extent.nr;
	table = vmf_insert_pfn_extent(&vmf, &extent) != VM_FAULT_SIGBUS;
	__CPROVER_assert(inside || !table, "nothing outside of the extent");

	/* Nothing stood in the way: is it there, by the leaf that fits? */
	const unsigned long n = 1UL << (LEVEL - PAGE_SHIFT);
	const unsigned long first = vmf.address & -(n << PAGE_SHIFT);
	const unsigned long in = (vmf.address - first) >> PAGE_SHIFT;
	const bool is_table = LEVEL == PUD_SHIFT || pud.s == TABLE || pud.s == NONE;
	const enum state was = LEVEL == PUD_SHIFT ? pud.s : LEVEL == PMD_SHIFT ? pmd.s : pte.s;
	const bool below = LEVEL != PAGE_SHIFT || pmd.s == TABLE || pmd.s == NONE;

	if (inside && !refused && is_table && below && was == NONE && first >= vma.vm_start &&
	    first + (n << PAGE_SHIFT) <= vma.vm_end && in <= vmf.pgoff - extent.pgoff &&
	    vmf.pgoff - in + n <= extent.pgoff + extent.nr &&
	    (extent.pfn + vmf.pgoff - in - extent.pgoff) % n == 0)
		__CPROVER_assert(shown == n, "the leaf that fits is there");

	/* remap_pfn_range(): of any range, as a driver gives it, also past the VMA */
	at = (unsigned long)NUMBER << PAGE_SHIFT;
	end = (unsigned long)NUMBER << PAGE_SHIFT;
	assume(at < end);
	extent = (struct pfn_extent) {
		.pgoff = vma.vm_pgoff + ((at - vma.vm_start) >> PAGE_SHIFT), .pfn = NUMBER,
		.nr = (end - at) >> PAGE_SHIFT,
	};
	if (LEVEL == PUD_SHIFT)
		huge_pfnmap_map_pud(&vma, &the_pud, at, end, extent.pfn, vma.vm_page_prot);
	if (LEVEL == PMD_SHIFT)
		huge_pfnmap_map_pmd(&vma, &pmds[(at >> PMD_SHIFT) & 3], at, end, extent.pfn,
				    vma.vm_page_prot);
	return 0;
}
