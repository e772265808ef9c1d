/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_PFNMAP_WATCH_H
#define _LINUX_PFNMAP_WATCH_H

struct pfnmap_watch;

#ifdef CONFIG_ARCH_HAS_PFNMAP_WATCH
int pfnmap_watch(struct pfnmap_watch **list, unsigned long pfn, unsigned long size,
		 unsigned int max_shift, const void *caller);
void pfnmap_unwatch(struct pfnmap_watch *list);
#else
/**
 * pfnmap_watch - large leaves may map a range of device memory from now on
 * @list: of what the caller watches, NULL at first. The range is added to it
 * @pfn: first pfn of the range
 * @size: length in bytes
 * @max_shift: the largest leaf that it may ever get there, see huge_iomap_cpu_shift()
 * @caller: the code that maps it into the kernel; NULL: current maps it
 *
 * An architecture defines it if the memory type of physical addresses can be
 * changed while they are mapped. Then it refuses to give a leaf two types. To be
 * called before pfnmap_leaf_allowed() is asked for parts of the range.
 *
 * Context: May sleep.
 * Return: 0 or -ENOMEM.
 */
static inline int pfnmap_watch(struct pfnmap_watch **list, unsigned long pfn,
			       unsigned long size, unsigned int max_shift,
			       const void *caller)
{
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
static inline void pfnmap_unwatch(struct pfnmap_watch *list)
{
}
#endif

#endif /* _LINUX_PFNMAP_WATCH_H */
