/* SPDX-License-Identifier: GPL-2.0 */
/* io_uring without liburing: one ring, whose memory can be the caller's */
#ifndef __SELFTEST_HUGE_IOMAP_URING_H
#define __SELFTEST_HUGE_IOMAP_URING_H

#include <errno.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct ring {
	struct io_uring_params p;
	char *rings, *sqes;
	int fd;
};

static inline bool has_io_uring(void)
{
	return !access("/proc/sys/kernel/io_uring_disabled", F_OK);
}

/* With @rings and @sqes, the ring lives in that memory. 0 or an errno */
static inline int ring_open(struct ring *r, unsigned int entries, unsigned int flags,
			    void *rings, void *sqes)
{
	size_t cqe = flags & IORING_SETUP_CQE32 ? 32 : 16;

	memset(r, 0, sizeof(*r));
	r->p.flags = flags | IORING_SETUP_NO_SQARRAY;
	if (rings) {
		r->p.flags |= IORING_SETUP_NO_MMAP;
		r->p.cq_off.user_addr = (unsigned long)rings;
		r->p.sq_off.user_addr = (unsigned long)sqes;
	}
	r->rings = rings;
	r->sqes = sqes;
	r->fd = syscall(__NR_io_uring_setup, entries, &r->p);
	if (r->fd < 0)
		return errno;
	if (rings)
		return 0;
	r->rings = mmap(NULL, r->p.cq_off.cqes + r->p.cq_entries * cqe,
			PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, r->p.sq_entries * sizeof(struct io_uring_sqe),
		       PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQES);
	return r->rings == MAP_FAILED || r->sqes == MAP_FAILED ? errno : 0;
}

/* 0 or an errno */
static inline int ring_register(struct ring *r, unsigned int what, void *arg,
				unsigned int nr)
{
	return syscall(__NR_io_uring_register, r->fd, what, arg, nr) < 0 ? errno : 0;
}

static inline __u32 *ring_word(struct ring *r, __u32 offset)
{
	return (__u32 *)(r->rings + offset);
}

/* The @i-th entry that ring_submit() will submit, zeroed */
static inline struct io_uring_sqe *ring_sqe(struct ring *r, unsigned int i)
{
	const __u32 at = *ring_word(r, r->p.sq_off.tail) + i;
	struct io_uring_sqe *sqe = (void *)r->sqes;

	sqe += at & (r->p.sq_entries - 1);
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

/* Submit @nr entries, and wait for as many. How many were taken, or a negative errno */
static inline int ring_submit(struct ring *r, unsigned int nr)
{
	__u32 *tail = ring_word(r, r->p.sq_off.tail);
	int ret;

	__atomic_store_n(tail, *tail + nr, __ATOMIC_RELEASE);
	ret = syscall(__NR_io_uring_enter, r->fd, nr, nr, IORING_ENTER_GETEVENTS, NULL,
		      0);
	return ret < 0 ? -errno : ret;
}

/* How many entries have completed */
static inline unsigned int ring_ready(struct ring *r)
{
	return __atomic_load_n(ring_word(r, r->p.cq_off.tail), __ATOMIC_ACQUIRE) -
	       *ring_word(r, r->p.cq_off.head);
}

/* The @i-th of them */
static inline struct io_uring_cqe *ring_cqe(struct ring *r, unsigned int i)
{
	const __u32 at = *ring_word(r, r->p.cq_off.head) + i;
	const size_t size = r->p.flags & IORING_SETUP_CQE32 ? 32 : 16;

	return (void *)(r->rings + r->p.cq_off.cqes +
			(at & (r->p.cq_entries - 1)) * size);
}

static inline void ring_seen(struct ring *r, unsigned int nr)
{
	__u32 *head = ring_word(r, r->p.cq_off.head);

	__atomic_store_n(head, *head + nr, __ATOMIC_RELEASE);
}

static inline void ring_close(struct ring *r)
{
	close(r->fd);
}

#endif /* __SELFTEST_HUGE_IOMAP_URING_H */
