/* SPDX-License-Identifier: GPL-2.0 */
/* DMA by QEMU's "edu" device, which the test driver has */
#ifndef __SELFTEST_HUGE_IOMAP_EDU_H
#define __SELFTEST_HUGE_IOMAP_EDU_H

#include "huge_iomap_vfio.h"

/* Values that no other DMA has had */
static inline __u32 fresh(void)
{
	static __u32 value = 0x20000000;

	return value += 0x1000;
}

/* Let it write words at an address, or where @cmd says. 0 or an errno */
static inline int push(int fd, unsigned long cmd, __u64 at, __u32 value)
{
	struct test_edu_dma req = { .dma = at, .write = 1, .value = value };

	return ioctl(fd, cmd, &req) ? errno : 0;
}

/* Let it read them. 0 or an errno */
static inline int pull(int fd, unsigned long cmd, __u64 at, struct test_edu_dma *req)
{
	*req = (struct test_edu_dma) { .dma = at };
	return ioctl(fd, cmd, req) ? errno : 0;
}

/* How many of them are as a DMA, or a set_words(), left them */
static inline int same(const struct test_edu_dma *req, __u32 value)
{
	int n = 0;

	for (int i = 0; i < TED_WORDS; i++)
		n += req->words[i] == value + i;
	return n;
}

#endif /* __SELFTEST_HUGE_IOMAP_EDU_H */
