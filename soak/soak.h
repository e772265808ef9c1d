/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Random operations on mappings of a PCI BAR, held against a model. The model shares no
 * code with the kernel or with its selftests: it knows which page of the BAR each page
 * of a window of addresses has to show, and with which protection.
 */
#ifndef SOAK_H
#define SOAK_H

#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define PAGE		4096UL
#define PAGES_2M	512UL
#define PAGES_1G	262144UL

/*
 * The pages of the BAR. Each begins with its stamp(); the words after it are the
 * workers', one each.
 */
#define BAR_PAGES	(6 * PAGES_1G)
/* Mapped UC-, by user space */
#define UC_END		(2 * PAGES_1G + PAGES_1G / 2)
/* Mapped WC, by user space */
#define WC_END		(4 * PAGES_1G)
/* The rest is mapped by the kernel: UC- up to here, then WC */
#define WC_FIRST	(WC_END + PAGES_1G + PAGES_1G / 4)
/* Behind them, 1 GiB for each kernel worker: it gets struct pages */
#define PAGES_FIRST	(BAR_PAGES + PAGES_1G)

static inline u32 stamp(u64 page)
{
	return 0x50000000u | page;
}

/* One operation, with all that it takes to do it again */
struct op {
	u8 kind;
	u8 src;			/* which file, or how to map */
	u8 prot;
	u8 flags;
	u16 advice;
	u16 fail_nth;		/* 0: no allocation fails */
	u64 a, b, c, d;
	u64 seed;		/* of what is looked at afterwards */
};

/* A kind of worker: user or kernel mappings */
struct worker_ops {
	const char *name;
	/*
	 * Forget all, and unmap all: false, with a message by soak_bad(), if something is
	 * left that was not there after the @first time.
	 */
	bool (*reset)(bool first);
	void (*choose)(struct op *op);
	/* Do it and look; false if the kernel and the model differ */
	bool (*apply)(const struct op *op);
	void (*print)(const struct op *op, char *text, int len);
	void (*report)(FILE *to);
	/* Give up what children cannot share: they begin with @reset. */
	void (*leave)(void);
};

extern const struct worker_ops user_worker, kernel_worker;

/* Who has the BAR */
enum owner {
	OWNER_NONE,		/* the test driver, if it likes */
	OWNER_VFIO,		/* vfio-pci, opened by its group */
	OWNER_CDEV,		/* vfio-pci, opened by its own file */
	/* iopmem: with struct pages */
	OWNER_IOPMEM,		/* as a file */
	OWNER_DAX,		/* as a disk, with a file of ext4 */
	OWNER_P2P,		/* as p2pmem */
};
extern enum owner owner;

/* Options */
extern bool opt_alone;		/* no other worker: what the system counts is ours */
extern bool opt_fail;		/* let allocations fail */
extern int opt_touch;		/* threads that touch pages, for each user worker */
extern int worker_nr;
extern const char *bar_device;	/* directory in sysfs */
extern u64 bar_phys;
/* All of the BAR or of the file, mapped once for all, for contents. NULL for p2pmem */
extern volatile u32 *mirror;
/* With a file or p2pmem: the BAR itself, of @raw_pages pages, read-only */
extern volatile u32 *raw_bar;
extern u64 raw_pages;

static inline volatile u32 *mirror_of(u64 page)
{
	return mirror + page * (PAGE / 4);
}

/* Random numbers: of the operations, and of what is looked at (struct op, seed) */
struct rnd {
	u64 s;
};
extern struct rnd rnd;

static inline u64 next(struct rnd *r)
{
	u64 z = (r->s += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static inline u64 below(struct rnd *r, u64 n)
{
	return n ? next(r) % n : 0;
}

u64 near_leaf(struct rnd *r, u64 from, u64 to);
u64 some_length(struct rnd *r, u64 max);

/* FAIL_CHARGE + n, of fail_nth(): the worker's cgroup has only n pages left */
#define FAIL_CHARGE	0xff00

/* Let the nth allocation of this thread fail from now on; 0: none */
void fail_nth(int n);
/* In a child: what its parent has open is about the parent. */
void fail_leave(void);
/* Has it failed? Ends it */
bool fail_end(void);

/* What differs: kept for the report */
bool soak_bad(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * Are as many ranges known to PAT as at the @first time? If this worker is alone: false,
 * with a message by soak_bad(), if not
 */
bool same_types(bool first);
/* Give a part of the BAR another MTRR, or take that back. False, by soak_bad() */
bool toggle_mtrr(u64 page, u64 pages, bool wc);
void drop_mtrr(void);
extern u64 mtrrs_set;
long read_number(const char *path, const char *key);
bool write_text(const char *path, const char *text);

/* bar.c */
bool find_bar(void);
bool own_bar(void);
bool take_bar(bool device);
bool return_bar(bool device);
bool map_mirror(bool first);
void unmap_mirror(void);
bool drop_faulted_mirror(void);
int open_vfio(u64 *bar, u64 *config);
int open_iopmem(void);
int open_dax(void);
int open_p2p(void);
long p2p_used(void);

/* tracer.c */
int trace_word(void *at, long *value, bool write_it);
void tracer_leave(void);
void munmap_window(void);

#endif /* SOAK_H */
