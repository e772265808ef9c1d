/* SPDX-License-Identifier: GPL-2.0 */
/*
 * User mappings of a PCI BAR: where they go, which leaves they have, and what is
 * accessible of them.
 */
#ifndef __SELFTEST_HUGE_IOMAP_USER_H
#define __SELFTEST_HUGE_IOMAP_USER_H

#include "huge_iomap_util.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#define PCI_DEVICE	"/sys/bus/pci/devices/0000:00:02.0"
#define PAGE_TABLES	"/sys/kernel/debug/page_tables/current_kernel"

/* What maps [va, va + bytes) of the calling process, in bytes by leaf size. */
struct user_leaves {
	__u64 bytes[THI_NR_LEAF];
	__u64 writable;
};

static inline bool dump_leaves(void *va, __u64 bytes, struct user_leaves *l)
{
	static const char * const level[] = { " pte", " pmd", " pud" };
	const __u64 from = (unsigned long)va, to = from + bytes;
	FILE *f = fopen(PAGE_TABLES, "r");
	char *line = NULL;
	size_t len = 0;

	*l = (struct user_leaves) {};
	if (!f)
		return false;
	while (getline(&line, &len, f) > 0) {
		unsigned long long s, e;
		bool rw = strstr(line, " RW ");

		if (sscanf(line, "0x%llx-0x%llx", &s, &e) != 2 || e <= from)
			continue;
		if (s >= to)
			break;
		if (!rw && !strstr(line, " ro "))
			continue;
		s = s < from ? from : s;
		e = e > to ? to : e;
		for (int i = 0; i < THI_NR_LEAF; i++)
			if (strstr(line, level[i]))
				l->bytes[i] += e - s;
		l->writable += rw ? e - s : 0;
	}
	free(line);
	fclose(f);
	return true;
}

/* The memory type of [va, va + bytes): a THI_ constant, THI_MIXED, or -1 on error */
static inline int dump_type(void *va, __u64 bytes)
{
	const __u64 from = (unsigned long)va, to = from + bytes;
	FILE *f = fopen(PAGE_TABLES, "r");
	char *line = NULL;
	int type = -1;
	size_t len = 0;

	if (!f)
		return -1;
	while (getline(&line, &len, f) > 0) {
		unsigned long long s, e;
		int t;

		if (sscanf(line, "0x%llx-0x%llx", &s, &e) != 2 || e <= from || s >= to ||
		    (!strstr(line, " RW ") && !strstr(line, " ro ")))
			continue;
		t = (strstr(line, " PWT ") ? 1 : 0) + (strstr(line, " PCD ") ? 2 : 0) +
		    (strstr(line, " PAT ") ? 4 : 0);
		type = type < 0 || type == t ? t : THI_MIXED;
	}
	free(line);
	fclose(f);
	return type;
}

/* The test driver is faster, if it has the device. */
static inline bool user_leaves(void *va, __u64 bytes, struct user_leaves *l)
{
	struct test_huge_iomap_user req = {
		.addr = (unsigned long)va, .bytes = bytes,
	};
	int fd = open_driver();

	if (fd < 0)
		return dump_leaves(va, bytes, l);
	if (ioctl(fd, THI_USER, &req)) {
		close(fd);
		return false;
	}
	close(fd);
	memcpy(l->bytes, req.leaf_bytes, sizeof(l->bytes));
	l->writable = req.writable;
	return true;
}

/* The KiB in the line of a status file in procfs that begins with @key; -1 on error */
static inline long status_kib(const char *status, const char *key)
{
	FILE *f = fopen(status, "r");
	char *line = NULL;
	size_t len = 0;
	long kib = -1;

	if (!f)
		return -1;
	while (kib < 0 && getline(&line, &len, f) > 0)
		if (!strncmp(line, key, strlen(key)))
			sscanf(line + strlen(key), ": %ld kB", &kib);
	free(line);
	fclose(f);
	return kib;
}

/* KiB of page tables of a process */
static inline long vm_pte(const char *status)
{
	return status_kib(status, "VmPTE");
}

/*
 * Address space that is aligned to 1 GiB and has no page tables of its own below
 * the PUD level. The page behind it has, so the PUD table is there.
 */
static inline char *reserve(__u64 bytes)
{
	char *p = mmap(NULL, bytes + 2 * SZ_1G, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *start;

	if (p == MAP_FAILED)
		return NULL;
	start = (char *)(((unsigned long)p + SZ_1G - 1) & ~(SZ_1G - 1));
	start[bytes] = 1;
	return start;
}

/* Accesses that the compiler makes as they are written */

static inline __u32 load(const void *p)
{
	return __atomic_load_n((const __u32 *)p, __ATOMIC_RELAXED);
}

static inline void store(void *p, __u32 value)
{
	__atomic_store_n((__u32 *)p, value, __ATOMIC_RELAXED);
}

/* Accesses that may fault */

static sigjmp_buf access_env;
static int access_signal;

static inline void access_handler(int sig)
{
	access_signal = sig;
	siglongjmp(access_env, 1);
}

/* 0, or the signal that the access gets */
static inline int try_access(void *p, __u32 *get, const __u32 *set)
{
	struct sigaction sa = { .sa_handler = access_handler, .sa_flags = SA_NODEFER };
	struct sigaction segv, bus;

	access_signal = 0;
	sigaction(SIGSEGV, &sa, &segv);
	sigaction(SIGBUS, &sa, &bus);
	if (!sigsetjmp(access_env, 1)) {
		if (set)
			store(p, *set);
		else
			*get = load(p);
	}
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return access_signal;
}

static inline int try_read(void *p, __u32 *value)
{
	return try_access(p, value, NULL);
}

static inline int try_write(void *p, __u32 value)
{
	return try_access(p, NULL, &value);
}

/* Contents */

static inline void *map_at(int fd, __u64 base, char *at, __u64 offset, __u64 bytes)
{
	return mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    fd, base + offset);
}

/* A page of the BAR through /dev/mem, whatever the mapping under test is */
static inline __u32 *page_of(int mem, __u64 pa)
{
	void *p = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED, mem, pa);

	return p == MAP_FAILED ? NULL : p;
}

static inline __u32 pattern(__u64 offset)
{
	return 0x5eed0000u ^ (__u32)(offset >> 12) * 2654435761u;
}

/* The next page to look at: all around multiples of 2 MiB, some in between */
static inline __u64 next_page(__u64 off)
{
	__u64 in = off % SZ_2M;

	if (in < 2 * SZ_4K || in >= SZ_2M - 2 * SZ_4K)
		return off + SZ_4K;
	if (in < SZ_1M)
		return off - in + SZ_1M + SZ_4K;
	return off - in + SZ_2M - 2 * SZ_4K;
}

static inline void fill(char *va, __u64 offset, __u64 bytes)
{
	for (__u64 o = 0; o < bytes; o = next_page(o))
		store(va + o, pattern(offset + o));
}

/* How many of the pages do not read as fill() has left them */
static inline long differ(char *va, __u64 offset, __u64 from, __u64 to)
{
	long wrong = 0;
	__u32 v;

	for (__u64 o = 0; o < to; o = next_page(o))
		if (o >= from && (try_read(va + o, &v) || v != pattern(offset + o)))
			wrong++;
	return wrong;
}

/* Page tables that come with one page cut out of the largest leaf */
static inline int tables_of_cut(int max)
{
	return max;	/* 4K: none, 2M: a PTE table, 1G: a PMD table too */
}

#define EXPECT_LEAVES(va, b, n4k, n2m, n1g) do {			\
	struct user_leaves l_;						\
	ASSERT_TRUE(user_leaves(va, b, &l_)) TH_LOG(PAGE_TABLES);	\
	EXPECT_EQ((__u64)(n4k), l_.bytes[THI_4K] / SZ_4K);		\
	EXPECT_EQ((__u64)(n2m), l_.bytes[THI_2M] / SZ_2M);		\
	EXPECT_EQ((__u64)(n1g), l_.bytes[THI_1G] / SZ_1G);		\
} while (0)

#endif /* __SELFTEST_HUGE_IOMAP_USER_H */
