// SPDX-License-Identifier: GPL-2.0
/*
 * Large leaves that map I/O memory, and MTRRs that change meanwhile.
 *
 * A page table leaf of 2 MiB or 1 GiB must not map memory of different MTRR types:
 * the result is undefined (Intel SDM volume 3, "MTRR Considerations in MP Systems"
 * and "Large Page Size Considerations"). mtrr_type_lookup() says where a leaf may be
 * installed. This file keeps the ranges in which such leaves may live, and refuses
 * to change the MTRRs so that one of these leaves is not uniform any more.
 *
 * A range is entered before its leaves are installed. A change searches the ranges
 * and is announced under the lock that enters them. So either the range is found, or
 * mtrr_type_lookup() is called after the announcement and calls nothing uniform that
 * is being changed.
 *
 * What is kept depends on the CPU, not on the limit of the day: leaves may be
 * installed later than the range is entered.
 */
#define pr_fmt(fmt) "mtrr: " fmt

#include <linux/huge_iomap.h>
#include <linux/interval_tree_generic.h>
#include <linux/ioport.h>
#include <linux/mm.h>
#include <linux/pfnmap_watch.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>

#include <asm/mtrr.h>

#include "mtrr.h"

struct pfnmap_watch {
	struct rb_node rb;
	struct pfnmap_watch *next;	/* of the same owner */
	unsigned long first, last;	/* pfn */
	unsigned long subtree_last;
	unsigned int max_shift;
	pid_t pid;
	const void *caller;		/* NULL: a user mapping, by @pid */
	char comm[TASK_COMM_LEN];
};

#define FIRST(node)	((node)->first)
#define LAST(node)	((node)->last)

INTERVAL_TREE_DEFINE(struct pfnmap_watch, rb, unsigned long, subtree_last, FIRST, LAST,
		     static inline, live)

static struct rb_root_cached live_root = RB_ROOT_CACHED;
static DEFINE_SPINLOCK(live_lock);

/**
 * pfnmap_watch - large leaves may map a range of device memory from now on
 * @list: of what the caller watches, NULL at first. The range is added to it
 * @pfn: first pfn of the range
 * @size: length in bytes
 * @max_shift: the largest leaf that the caller, or a fault, may make in it
 * @caller: the code that maps it into the kernel; NULL: current maps it
 *
 * Nothing is added if no leaf fits, if the MTRRs cannot change, or if a user maps
 * RAM, whose types do not change at run time. To be called before mtrr_type_lookup()
 * is asked for parts of the range.
 *
 * Context: May sleep.
 * Return: 0 or -ENOMEM.
 */
int pfnmap_watch(struct pfnmap_watch **list, unsigned long pfn, unsigned long size,
		 unsigned int max_shift, const void *caller)
{
	struct pfnmap_watch *live;

	max_shift = huge_iomap_cap_shift(max_shift, arch_vmap_pmd_supported(PAGE_KERNEL),
					 arch_vmap_pud_supported(PAGE_KERNEL));
	if (mtrr_if != &generic_mtrr_ops ||
	    huge_iomap_congruent_shift(PFN_PHYS(pfn), size, max_shift) == PAGE_SHIFT ||
	    (!caller && region_intersects(PFN_PHYS(pfn), size, IORESOURCE_SYSTEM_RAM,
					  IORES_DESC_NONE) == REGION_INTERSECTS))
		return 0;
	/* A driver's mapping is not for whoever runs when it is made. */
	live = kzalloc_obj(*live, caller ? GFP_KERNEL : GFP_KERNEL_ACCOUNT);
	if (!live)
		return -ENOMEM;
	live->first = pfn;
	live->last = pfn + PHYS_PFN(size - 1);
	live->max_shift = max_shift;
	live->caller = caller;
	if (!caller) {
		live->pid = task_pid_nr(current);
		get_task_comm(live->comm, current);
	}
	live->next = *list;
	*list = live;

	guard(spinlock)(&live_lock);
	live_insert(live, &live_root);
	return 0;
}

/**
 * pfnmap_unwatch - the mappings of some ranges are gone
 * @list: from pfnmap_watch(), or NULL
 *
 * To be called after the page tables have been cleared.
 *
 * Context: Any but interrupts.
 */
void pfnmap_unwatch(struct pfnmap_watch *list)
{
	struct pfnmap_watch *next;

	for (; list; list = next) {
		next = list->next;
		scoped_guard(spinlock, &live_lock)
			live_remove(list, &live_root);
		kfree(list);
	}
}

/* Types change at the bounds of MTRRs only. */

struct var_mtrr {
	unsigned long start, end;	/* pfn */
	mtrr_type type;
};

static u8 type_at(const struct var_mtrr *v, unsigned int nr, unsigned long pfn)
{
	u8 type = MTRR_TYPE_INVALID;

	for (; nr; nr--, v++) {
		if (pfn < v->start || pfn >= v->end)
			continue;
		type = type == MTRR_TYPE_INVALID ? v->type :
						   mtrr_effective_type(type, v->type);
	}
	if (type != MTRR_TYPE_INVALID)
		return type;
	/* AMD64 APM volume 2, "Extended Top-of-Memory": WB by default, not by force */
	if (pfn >= SZ_4G >> PAGE_SHIFT && pfn < mtrr_tom2 >> PAGE_SHIFT)
		return MTRR_TYPE_WRBACK;
	return mtrr_state.def_type;
}

static bool is_uniform(const struct var_mtrr *v, unsigned int nr, unsigned long start,
		       unsigned long end)
{
	const u8 type = type_at(v, nr, start);

	for (unsigned int i = 0; i < nr; i++) {
		if (v[i].start > start && v[i].start < end &&
		    type_at(v, nr, v[i].start) != type)
			return false;
		if (v[i].end > start && v[i].end < end &&
		    type_at(v, nr, v[i].end) != type)
			return false;
	}
	return true;
}

/* The range that may have this leaf, and has the same type all over it now */
static struct pfnmap_watch *find_leaf(unsigned long start, unsigned int shift)
{
	const unsigned long last = start + (1UL << (shift - PAGE_SHIFT)) - 1;
	struct pfnmap_watch *live = live_iter_first(&live_root, start, last);
	u8 uniform;

	while (live && (live->max_shift < shift || live->first > start || live->last < last))
		live = live_iter_next(live, start, last);
	if (live)
		__mtrr_type_lookup(PFN_PHYS(start), PFN_PHYS(last + 1), &uniform);
	return live && uniform ? live : NULL;
}

/* A leaf with @pfn inside, not at its start, which would not be uniform with @v */
static struct pfnmap_watch *find_cut(const struct var_mtrr *v, unsigned int nr,
				     unsigned long pfn)
{
	/* The same with two levels of page tables, which have no such leaves */
	static const unsigned int shifts[] = { PMD_SHIFT, PUD_SHIFT };

	lockdep_assert_held(&live_lock);
	for (int i = 0; i < ARRAY_SIZE(shifts); i++) {
		const unsigned long pages = 1UL << (shifts[i] - PAGE_SHIFT);
		const unsigned long start = ALIGN_DOWN(pfn, pages);
		struct pfnmap_watch *live;

		if (start == pfn)
			continue;
		live = find_leaf(start, shifts[i]);
		if (live && !is_uniform(v, nr, start, start + pages))
			return live;
	}
	return NULL;
}

static struct pfnmap_watch *find_any_cut(const struct var_mtrr *v, unsigned int nr)
{
	struct pfnmap_watch *live = NULL;

	for (unsigned int i = 0; i < nr && !live; i++) {
		live = find_cut(v, nr, v[i].start);
		if (!live)
			live = find_cut(v, nr, v[i].end);
	}
	return live;
}

static void report(unsigned int reg, const struct pfnmap_watch *live)
{
	const u64 start = (u64)live->first << PAGE_SHIFT;
	const u64 last = ((u64)live->last << PAGE_SHIFT) + PAGE_SIZE - 1;

	if (live->caller)
		pr_warn("MTRR %u not changed: [mem %#010llx-%#010llx] may have huge leaves, mapped by %pS\n",
			reg, start, last, live->caller);
	else
		pr_warn("MTRR %u not changed: [mem %#010llx-%#010llx] may have huge leaves, mapped by %s[%d]\n",
			reg, start, last, live->comm, live->pid);
}

/**
 * mtrr_change_begin - announce a change of the variable MTRRs
 * @reg: number of the MTRR that changes
 * @base: its new base, pfn
 * @size: its new length in pages; 0: it goes
 * @type: its new type
 * @replace: another one that goes, or -1
 *
 * mtrr_type_lookup() calls no range uniform whose type may change, until
 * mtrr_change_end().
 *
 * Context: mtrr_mutex held. May sleep.
 * Return: 0. -EBUSY if a large leaf that may be live would have more than one type,
 * as a message then says. -ENOMEM. After an error there is nothing to end.
 */
int mtrr_change_begin(unsigned int reg, unsigned long base, unsigned long size,
		      mtrr_type type, int replace)
{
	unsigned long start = size ? base : ULONG_MAX, end = size ? base + size : 0;
	struct pfnmap_watch *live, found;
	struct var_mtrr *v;
	unsigned int nr = 0;

	lockdep_assert_held(&mtrr_mutex);
	/* The others are of 32-bit CPUs, and mtrr_type_lookup() knows none of them. */
	if (mtrr_if != &generic_mtrr_ops)
		return 0;
	v = kmalloc_objs(*v, num_var_ranges + 1);
	if (!v)
		return -ENOMEM;
	if (size)
		v[nr++] = (struct var_mtrr) { .start = base, .end = end, .type = type };
	for (unsigned int i = 0; i < num_var_ranges; i++) {
		unsigned long b, s;
		mtrr_type t;

		mtrr_if->get(i, &b, &s, &t);
		if (!s)
			continue;
		if (i != reg && i != replace) {
			v[nr++] = (struct var_mtrr) { .start = b, .end = b + s, .type = t };
		} else {
			start = min(start, b);
			end = max(end, b + s);
		}
	}

	spin_lock(&live_lock);
	live = find_any_cut(v, nr);
	if (live)
		found = *live;
	else
		mtrr_set_changing((u64)start << PAGE_SHIFT, (u64)end << PAGE_SHIFT);
	spin_unlock(&live_lock);
	kfree(v);
	if (!live)
		return 0;
	report(reg, &found);
	return -EBUSY;
}

/**
 * mtrr_change_end - the MTRRs are as announced
 *
 * Context: mtrr_mutex held.
 */
void mtrr_change_end(void)
{
	lockdep_assert_held(&mtrr_mutex);
	mtrr_set_changing(0, 0);
}
