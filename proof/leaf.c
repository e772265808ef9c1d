// SPDX-License-Identifier: GPL-2.0
/*
 * include/linux/huge_iomap.h: a leaf lies in its range and is congruent, none that fits
 * is missed, and the shift to place by is right: for all addresses and lengths.
 */
#include "stubs.h"
#include <linux/huge_iomap.h>

static bool fits(unsigned long va, unsigned long pa, unsigned long bytes, unsigned int shift)
{
	const unsigned long size = 1UL << shift;

	/* Without a wrap: the last byte is not before the first. */
	return bytes >= size && va % size == 0 && pa % size == 0 &&
	       va <= -1UL - (bytes - 1) && pa <= -1UL - (bytes - 1);
}

/* Is there a full block of the size in [pa, pa + bytes)? By its number, not by masks */
static bool has_block(unsigned long pa, unsigned long bytes, unsigned int shift)
{
	const unsigned long size = 1UL << shift;
	unsigned long first = pa / size + (pa % size != 0);

	/* The first one that begins in the range; its number may be past the last. */
	if (first > -1UL / size)
		return false;
	return first * size >= pa && bytes && (first * size - pa) <= bytes &&
	       bytes - (first * size - pa) >= size;
}

int main(void)
{
	unsigned long va = nondet_ulong(), pa = nondet_ulong(), bytes = nondet_ulong();
	unsigned int max_shift = nondet_uint(), shift, want = PAGE_SHIFT;
	const bool wraps = bytes && pa > -1UL - (bytes - 1);

	assume(max_shift == PAGE_SHIFT || max_shift == PMD_SHIFT || max_shift == PUD_SHIFT);

	shift = huge_iomap_leaf_shift(va, pa, bytes, max_shift);
	if (max_shift >= PMD_SHIFT && fits(va, pa, bytes, PMD_SHIFT))
		want = PMD_SHIFT;
	if (max_shift >= PUD_SHIFT && fits(va, pa, bytes, PUD_SHIFT))
		want = PUD_SHIFT;
	__CPROVER_assert(shift == want, "the largest leaf that fits");

	shift = huge_iomap_congruent_shift(pa, bytes, max_shift);
	want = PAGE_SHIFT;
	if (!wraps && max_shift >= PMD_SHIFT && has_block(pa, bytes, PMD_SHIFT))
		want = PMD_SHIFT;
	if (!wraps && max_shift >= PUD_SHIFT && has_block(pa, bytes, PUD_SHIFT))
		want = PUD_SHIFT;
	__CPROVER_assert(shift == want, "the largest full block");
	return 0;
}
