/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_MEMCPY_WC_H
#define _LINUX_MEMCPY_WC_H

#include <linux/uaccess.h>

#ifdef CONFIG_ARCH_HAS_COPY_MC_FROM_WC
unsigned long __must_check copy_mc_from_wc(void *dst, const void *src, size_t len);
#else
static inline unsigned long __must_check
copy_mc_from_wc(void *dst, const void *src, size_t len)
{
	return copy_mc_to_kernel(dst, src, len);
}
#endif

#endif
