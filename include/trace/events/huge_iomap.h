/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM huge_iomap

#if !defined(_TRACE_HUGE_IOMAP_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_HUGE_IOMAP_H

#include <linux/fs.h>
#include <linux/huge_iomap.h>
#include <linux/kdev_t.h>
#include <linux/tracepoint.h>

/* See enum huge_iomap_why */
#define HUGE_IOMAP_WHY					\
	EM(HUGE_IOMAP_LARGEST,	"largest")		\
	EM(HUGE_IOMAP_VMA,	"vma")			\
	EM(HUGE_IOMAP_EXTENT,	"extent")		\
	EM(HUGE_IOMAP_CPU,	"cpu")			\
	EM(HUGE_IOMAP_LIMIT,	"limit")		\
	EM(HUGE_IOMAP_MADVISE,	"madvise")		\
	EM(HUGE_IOMAP_PRIVATE,	"private")		\
	EM(HUGE_IOMAP_MKWRITE,	"pfn_mkwrite")		\
	EM(HUGE_IOMAP_CALLER,	"caller")		\
	EM(HUGE_IOMAP_CONGRUENCE, "congruence")		\
	EM(HUGE_IOMAP_PAGES,	"pages")		\
	EM(HUGE_IOMAP_PROT,	"prot")			\
	EM(HUGE_IOMAP_PAT,	"pat")			\
	EM(HUGE_IOMAP_MTRR,	"mtrr")			\
	EM(HUGE_IOMAP_TABLE,	"table")		\
	EM(HUGE_IOMAP_BUSY,	"busy")			\
	EM(HUGE_IOMAP_ADDRESS,	"address")		\
	EM(HUGE_IOMAP_ROOM,	"room")			\
	EM(HUGE_IOMAP_MEMORY,	"memory")		\
	EMe(HUGE_IOMAP_DRIVER,	"driver")

#undef EM
#undef EMe
#define EM(a, b)	TRACE_DEFINE_ENUM(a);
#define EMe(a, b)	TRACE_DEFINE_ENUM(a);

HUGE_IOMAP_WHY

#undef EM
#undef EMe
#define EM(a, b)	{ a, b },
#define EMe(a, b)	{ a, b }

/*
 * Sizes are in bytes, so that filters can compare them. Mappings of the kernel have no
 * file: dev 0:0 ino 0.
 */
DECLARE_EVENT_CLASS(huge_iomap_leaf,

	TP_PROTO(const struct file *file__nullable, unsigned long addr, unsigned long pfn,
		 unsigned int asked_shift, unsigned int given_shift,
		 enum huge_iomap_why why),

	TP_ARGS(file__nullable, addr, pfn, asked_shift, given_shift, why),

	TP_STRUCT__entry(
		__field(dev_t,		dev)
		__field(u64,		ino)
		__field(unsigned long,	addr)
		__field(unsigned long,	pfn)
		__field(unsigned long,	asked)
		__field(unsigned long,	given)
		__field(int,		why)
	),

	TP_fast_assign(
		__entry->dev = file__nullable ? file_inode(file__nullable)->i_sb->s_dev : 0;
		__entry->ino = file__nullable ? file_inode(file__nullable)->i_ino : 0;
		__entry->addr = addr;
		__entry->pfn = pfn;
		__entry->asked = 1UL << asked_shift;
		__entry->given = 1UL << given_shift;
		__entry->why = why;
	),

	TP_printk("dev %d:%d ino %llu addr=0x%lx pfn=0x%lx asked=0x%lx given=0x%lx why=%s",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino,
		  __entry->addr, __entry->pfn, __entry->asked, __entry->given,
		  __print_symbolic(__entry->why, HUGE_IOMAP_WHY))
);

/*
 * An address was chosen for a mapping of @len bytes, congruent to the pfn modulo @given.
 * @asked is the largest leaf that there is, and @why says why @given is no larger.
 */
TRACE_EVENT(huge_iomap_place,

	TP_PROTO(const struct file *file__nullable, unsigned long addr, unsigned long pfn,
		 unsigned long len, unsigned int asked_shift,
		 unsigned int given_shift, enum huge_iomap_why why),

	TP_ARGS(file__nullable, addr, pfn, len, asked_shift, given_shift, why),

	TP_STRUCT__entry(
		__field(dev_t,		dev)
		__field(u64,		ino)
		__field(unsigned long,	addr)
		__field(unsigned long,	pfn)
		__field(unsigned long,	len)
		__field(unsigned long,	asked)
		__field(unsigned long,	given)
		__field(int,		why)
	),

	TP_fast_assign(
		__entry->dev = file__nullable ? file_inode(file__nullable)->i_sb->s_dev : 0;
		__entry->ino = file__nullable ? file_inode(file__nullable)->i_ino : 0;
		__entry->addr = addr;
		__entry->pfn = pfn;
		__entry->len = len;
		__entry->asked = 1UL << asked_shift;
		__entry->given = 1UL << given_shift;
		__entry->why = why;
	),

	TP_printk("dev %d:%d ino %llu addr=0x%lx pfn=0x%lx len=0x%lx asked=0x%lx given=0x%lx why=%s",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino,
		  __entry->addr, __entry->pfn, __entry->len, __entry->asked,
		  __entry->given, __print_symbolic(__entry->why, HUGE_IOMAP_WHY))
);

/* A leaf was set, at the PMD or PUD level: it is as large as was asked for. */
DEFINE_EVENT(huge_iomap_leaf, huge_iomap_insert,
	TP_PROTO(const struct file *file__nullable, unsigned long addr, unsigned long pfn,
		 unsigned int asked_shift, unsigned int given_shift,
		 enum huge_iomap_why why),
	TP_ARGS(file__nullable, addr, pfn, asked_shift, given_shift, why));

/* No leaf of @asked bytes can be around @addr, for @why. @given is the size to try next. */
DEFINE_EVENT(huge_iomap_leaf, huge_iomap_refuse,
	TP_PROTO(const struct file *file__nullable, unsigned long addr, unsigned long pfn,
		 unsigned int asked_shift, unsigned int given_shift,
		 enum huge_iomap_why why),
	TP_ARGS(file__nullable, addr, pfn, asked_shift, given_shift, why));

/*
 * A leaf of @asked bytes was split into leaves of @given bytes; or there was no memory
 * for that, and @given is @asked.
 */
DEFINE_EVENT(huge_iomap_leaf, huge_iomap_split,
	TP_PROTO(const struct file *file__nullable, unsigned long addr, unsigned long pfn,
		 unsigned int asked_shift, unsigned int given_shift,
		 enum huge_iomap_why why),
	TP_ARGS(file__nullable, addr, pfn, asked_shift, given_shift, why));

#undef EM
#undef EMe

#endif /* _TRACE_HUGE_IOMAP_H */

#include <trace/define_trace.h>
