// SPDX-License-Identifier: GPL-2.0
/*
 * mm/huge_pfnmap_place.c: where a mapping is placed there is room for it, the address is
 * page aligned, and it is congruent to the extent wherever a full leaf lies in both.
 */
#include "stubs.h"

struct pfn_extent;
struct file_operations {
	int (*pfn_extent)(void *file, pgoff_t pgoff, struct pfn_extent *extent);
};
struct file { const struct file_operations *f_op; };

#define MAP_FIXED	0x10
#define MAP_SHARED	0x01
#define PAGE_KERNEL	((pgprot_t) {})
unsigned int huge_iomap_max_shift(pgprot_t prot);

static bool compat;
static bool in_compat_syscall(void) { return compat; }

/* Where there is room is left open: what was asked for last */
static unsigned long room, room_len, plain;
static unsigned int calls, refused;
static unsigned long mm_get_unmapped_area(struct file *file, unsigned long addr,
					  unsigned long len, unsigned long pgoff,
					  unsigned long flags)
{
	unsigned long at = nondet_ulong();

	calls++;
	if (nondet_bool()) {
		refused++;
		return -12UL;
	}
	/* As the kernel does: aligned, and below the end of user space */
	assume((at & ~PAGE_MASK) == 0 && len <= 1UL << 56 && at <= (1UL << 56) - len);
	room = at;
	room_len = len;
	if (calls == 1)
		plain = at;
	return at;
}

#include <linux/huge_iomap.h>
#include <linux/pfnmap.h>

static unsigned int max_shift;
unsigned int huge_iomap_max_shift(pgprot_t prot) { return max_shift; }
unsigned int huge_iomap_limit_shift(void) { return max_shift; }
unsigned int huge_iomap_cpu_shift(void) { return max_shift; }

static struct pfn_extent the_extent;
static bool has_extent;
static int pfn_extent(void *file, pgoff_t pgoff, struct pfn_extent *extent)
{
	*extent = the_extent;
	return has_extent ? 0 : -19;
}

#include "mm/huge_pfnmap_place.c"

int main(void)
{
	static const struct file_operations fops = { pfn_extent };
	struct file file = { &fops };
	unsigned long addr = nondet_ulong(), len = nondet_ulong(), pgoff = nondet_ulong();
	unsigned long flags = nondet_ulong(), at;

	compat = nondet_bool();
	has_extent = nondet_bool();
	max_shift = nondet_uint();
	assume(max_shift == PAGE_SHIFT || max_shift == PMD_SHIFT || max_shift == PUD_SHIFT);
	the_extent = (struct pfn_extent) { nondet_ulong(), nondet_ulong(), nondet_ulong() };
	/* An extent lies in the file and in memory: nothing else is asked of a driver. */
	assume(the_extent.nr <= 1UL << 44 && the_extent.pgoff <= 1UL << 51 &&
	       the_extent.pfn <= 1UL << 44);
	/* As mmap() hands them on */
	assume(len && (len & ~PAGE_MASK) == 0 && pgoff + (len >> PAGE_SHIFT) >= pgoff);

	at = pfnmap_get_unmapped_area(&file, addr, len, pgoff, flags);
	if (IS_ERR_VALUE(at))
		return 0;
	__CPROVER_assert((at & ~PAGE_MASK) == 0, "page aligned");
	__CPROVER_assert(at >= room && len <= room_len && at - room <= room_len - len,
			 "within the room that was found");
	const unsigned long before = pgoff - the_extent.pgoff;
	const unsigned long pa = PFN_PHYS(the_extent.pfn + before);
	const bool may = !(flags & MAP_FIXED) && (flags & MAP_SHARED) && !compat && has_extent &&
			 !(addr && plain == PAGE_ALIGN(addr)) &&
			 pgoff >= the_extent.pgoff && before < the_extent.nr;
	unsigned long want = PAGE_SIZE;

	/* By blocks, not by masks: the first multiple of the size, and is it in both? */
	for (unsigned int s = PMD_SHIFT; may && s <= max_shift; s += PUD_SHIFT - PMD_SHIFT) {
		unsigned long head = (-pa & ((1UL << s) - 1)) >> PAGE_SHIFT;
		unsigned long n = 1UL << (s - PAGE_SHIFT);

		if ((len >> PAGE_SHIFT) >= n + head && the_extent.nr - before >= n + head &&
		    len + (1UL << s) - PAGE_SIZE >= len)
			want = 1UL << s;
	}
	if (room_len == len)
		__CPROVER_assert(at == plain, "what was found, if it is not padded");
	else
		__CPROVER_assert(may && (at ^ pa) % (room_len - len + PAGE_SIZE) == 0 &&
				 room_len - len + PAGE_SIZE <= want, "congruent modulo what it was padded for");
	if (!refused)
		__CPROVER_assert(room_len - len + PAGE_SIZE == want, "placed for the largest block");
	return 0;
}
