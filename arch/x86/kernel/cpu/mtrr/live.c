// SPDX-License-Identifier: GPL-2.0
/*
 * Huge mappings of I/O memory, and MTRRs that change meanwhile.
 *
 * A page table leaf of 2 MiB or 1 GiB must not map memory of different MTRR types:
 * the result is undefined (Intel SDM volume 3, "MTRR Considerations in MP Systems"
 * and "Large Page Size Considerations"). mtrr_type_lookup() tells who installs a
 * leaf. This file keeps the ranges in which such leaves may live, and refuses to
 * change the MTRRs so that one of these leaves is not uniform any more.
 *
 * A range is entered before its leaves are installed. A change searches the ranges
 * and is announced under the lock that enters them. So either the range is found, or
 * mtrr_type_lookup() is called after the announcement and calls nothing uniform until
 * the change is done.
 */
#define pr_fmt(fmt) "mtrr: " fmt

#include <linux/huge_iomap.h>
#include <linux/interval_tree_generic.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include <asm/mtrr.h>

#include "mtrr.h"

struct mtrr_live {
	struct rb_node rb;
	unsigned long first, last;	/* pfn */
	unsigned long subtree_last;
	unsigned int shift;		/* of the largest leaf */
	pid_t pid;
	const void *caller;		/* NULL: a user mapping, by @pid */
	char comm[TASK_COMM_LEN];
};

#define FIRST(node)	((node)->first)
#define LAST(node)	((node)->last)

INTERVAL_TREE_DEFINE(struct mtrr_live, rb, unsigned long, subtree_last, FIRST, LAST,
		     static, live)

static struct rb_root_cached live_root = RB_ROOT_CACHED;
static DEFINE_SPINLOCK(live_lock);

/* Odd while the MTRRs change. Written with mtrr_mutex held. */
unsigned int mtrr_nr_changes;

/**
 * mtrr_live_add - huge leaves may map a range of I/O memory from now on
 * @start: physical address
 * @bytes: length
 * @caller: the code that maps it into the kernel; NULL: current maps it
 *
 * To be called before mtrr_type_lookup() is asked for parts of the range.
 *
 * Context: May sleep.
 * Return: 0, also if no huge leaf fits. -ENOMEM.
 */
int mtrr_live_add(phys_addr_t start, unsigned long bytes, const void *caller)
{
	const unsigned int shift = huge_iomap_congruent_shift(start, bytes,
					huge_iomap_max_shift(PAGE_KERNEL));
	struct mtrr_live *live;

	if (shift == PAGE_SHIFT || !mtrr_enabled())
		return 0;
	live = kzalloc_obj(*live);
	if (!live)
		return -ENOMEM;
	live->first = PHYS_PFN(start);
	live->last = PHYS_PFN(start + bytes - 1);
	live->shift = shift;
	live->caller = caller;
	live->pid = task_pid_nr(current);
	get_task_comm(live->comm, current);

	guard(spinlock)(&live_lock);
	live_insert(live, &live_root);
	return 0;
}

/**
 * mtrr_live_del - the mapping of a range is gone
 * @start: physical address
 * @bytes: length
 * @caller: as it was given to mtrr_live_add()
 *
 * To be called after the page tables have been cleared. A range that is not known is
 * ignored: no huge leaf may have fit.
 *
 * Context: Any but interrupts.
 */
void mtrr_live_del(phys_addr_t start, unsigned long bytes, const void *caller)
{
	const unsigned long first = PHYS_PFN(start), last = PHYS_PFN(start + bytes - 1);
	struct mtrr_live *live;

	if (bytes < PMD_SIZE)
		return;
	scoped_guard(spinlock, &live_lock) {
		live = live_iter_first(&live_root, first, last);
		while (live && (live->first != first || live->last != last ||
				live->caller != caller))
			live = live_iter_next(live, first, last);
		if (live)
			live_remove(live, &live_root);
	}
	kfree(live);
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
	return type == MTRR_TYPE_INVALID ? mtrr_state.def_type : type;
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
static struct mtrr_live *find_leaf(unsigned long start, unsigned int shift)
{
	const unsigned long last = start + (1UL << (shift - PAGE_SHIFT)) - 1;
	struct mtrr_live *live = live_iter_first(&live_root, start, last);
	u8 uniform;

	while (live && (live->first > start || live->last < last || live->shift < shift))
		live = live_iter_next(live, start, last);
	if (live)
		__mtrr_type_lookup(PFN_PHYS(start), PFN_PHYS(last + 1), &uniform);
	return live && uniform ? live : NULL;
}

/* A leaf with @pfn inside, not at its start, which would not be uniform with @v */
static struct mtrr_live *find_cut(const struct var_mtrr *v, unsigned int nr,
				  unsigned long pfn)
{
	/* The same with two levels of page tables, which have no such leaves */
	static const unsigned int shifts[] = { PMD_SHIFT, PUD_SHIFT };

	lockdep_assert_held(&live_lock);
	for (int i = 0; i < ARRAY_SIZE(shifts); i++) {
		const unsigned long pages = 1UL << (shifts[i] - PAGE_SHIFT);
		const unsigned long start = ALIGN_DOWN(pfn, pages);
		struct mtrr_live *live;

		if (start == pfn)
			continue;
		live = find_leaf(start, shifts[i]);
		if (live && !is_uniform(v, nr, start, start + pages))
			return live;
	}
	return NULL;
}

static struct mtrr_live *find_any_cut(const struct var_mtrr *v, unsigned int nr)
{
	struct mtrr_live *live = NULL;

	for (unsigned int i = 0; i < nr && !live; i++) {
		live = find_cut(v, nr, v[i].start);
		if (!live)
			live = find_cut(v, nr, v[i].end);
	}
	return live;
}

static void report(unsigned int reg, const struct mtrr_live *live)
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
 * mtrr_type_lookup() calls no range uniform until mtrr_change_end().
 *
 * Context: mtrr_mutex held. May sleep.
 * Return: 0. -EBUSY if a huge leaf that may be live would have more than one type, as
 * a message then says. -ENOMEM. After an error there is nothing to end.
 */
int mtrr_change_begin(unsigned int reg, unsigned long base, unsigned long size,
		      mtrr_type type, int replace)
{
	struct mtrr_live *live;
	struct var_mtrr *v;
	unsigned int nr = 0;

	lockdep_assert_held(&mtrr_mutex);
	/* The others are of 32-bit CPUs, and mtrr_type_lookup() knows none of them. */
	if (mtrr_if != &generic_mtrr_ops)
		return 0;
	v = kmalloc_objs(*v, num_var_ranges);
	if (!v)
		return -ENOMEM;
	for (unsigned int i = 0; i < num_var_ranges; i++) {
		unsigned long b = base, s = size;
		mtrr_type t = type;

		if (i != reg)
			mtrr_if->get(i, &b, &s, &t);
		if (!s || (i != reg && i == replace))
			continue;
		v[nr++] = (struct var_mtrr) { .start = b, .end = b + s, .type = t };
	}

	spin_lock(&live_lock);
	live = find_any_cut(v, nr);
	if (live)
		report(reg, live);
	else
		WRITE_ONCE(mtrr_nr_changes, mtrr_nr_changes + 1);
	spin_unlock(&live_lock);
	kfree(v);
	return live ? -EBUSY : 0;
}

/**
 * mtrr_change_end - the MTRRs are as announced
 *
 * Context: mtrr_mutex held.
 */
void mtrr_change_end(void)
{
	lockdep_assert_held(&mtrr_mutex);
	if (mtrr_if != &generic_mtrr_ops)
		return;
	/* Pairs with mtrr_type_lookup(). */
	smp_store_release(&mtrr_nr_changes, mtrr_nr_changes + 1);
}
