/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by the tests of this directory: the test driver, the sysfs limit, and the
 * leaves that a mapping should have.
 */
#ifndef __SELFTEST_HUGE_IOMAP_UTIL_H
#define __SELFTEST_HUGE_IOMAP_UTIL_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <time.h>
#include <unistd.h>

#include "../../../../lib/test_huge_map/uapi.h"

#define DEVICE		"/dev/test_huge_map"
#define LIMIT		"/sys/kernel/mm/huge_iomap/limit"

/* How long a test may take. A kernel with KASAN and lockdep: USERCFLAGS=-DSLOW=10 */
#ifndef SLOW
#define SLOW	1
#endif
#define MINUTES(n)	(60 * SLOW * (n))

#define SZ_4K		0x1000ULL
#define SZ_64K		0x10000ULL
#define SZ_1M		0x100000ULL
#define SZ_2M		0x200000ULL
#define SZ_1G		0x40000000ULL

static const char * const leaf_names[THI_NR_LEAF] = { "4K", "2M", "1G" };
static const __u64 leaf_sizes[THI_NR_LEAF] = { SZ_4K, SZ_2M, SZ_1G };

/*
 * ns since @begin. With QEMU's -icount that is the number of instructions, and
 * HUGE_IOMAP_CLOCK says so. Other clocks tell of the machine and of its load.
 */
static inline long ns_since(const struct timespec *begin)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - begin->tv_sec) * 1000000000L + now.tv_nsec - begin->tv_nsec;
}

static inline bool clock_counts_instructions(void)
{
	const char *clock = getenv("HUGE_IOMAP_CLOCK");

	return clock && !strcmp(clock, "instructions");
}

/*
 * Opens the test driver. -1 if it is not there; also, with ENOENT, if it has no BAR:
 * there is no such device, or another driver has it.
 */
static inline int open_driver(void)
{
	struct test_huge_iomap_bar bar;
	int fd = open(DEVICE, O_RDWR);

	if (fd < 0 || !ioctl(fd, THI_BAR, &bar))
		return fd;
	close(fd);
	errno = ENOENT;
	return -1;
}

/* The first line of a file, without its end. False if it cannot be read. */
static inline bool read_line(const char *path, char *buf, size_t len)
{
	FILE *f = fopen(path, "r");
	bool ok;

	if (!f)
		return false;
	ok = fgets(buf, len, f);
	fclose(f);
	if (ok)
		buf[strcspn(buf, "\n")] = 0;
	return ok;
}

/* 0, or the errno of the write */
static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t n;
	int err = 0;

	if (fd < 0)
		return errno;
	n = write(fd, text, strlen(text));
	if (n < 0)
		err = errno;
	close(fd);
	return err;
}

static inline bool file_has(const char *path, const char *word)
{
	FILE *f = fopen(path, "r");
	bool found = false;
	char *line = NULL;
	size_t len = 0;

	if (!f)
		return false;
	while (!found && getline(&line, &len, f) > 0)
		found = strstr(line, word);
	free(line);
	fclose(f);
	return found;
}

/* The number behind @key in /proc/vmstat; -1 if there is none. */
static inline long vmstat_value(const char *key)
{
	FILE *f = fopen("/proc/vmstat", "r");
	char name[64];
	long value, found = -1;

	if (!f)
		return -1;
	while (found < 0 && fscanf(f, "%63s %ld", name, &value) == 2)
		if (!strcmp(name, key))
			found = value;
	fclose(f);
	return found;
}

/* Bytes of page tables on the system, exact: per-CPU counts are folded in first. */
static inline long page_table_bytes(void)
{
	write_file("/proc/sys/vm/stat_refresh", "1");
	return vmstat_value("nr_page_table_pages") * 4096;
}

/* How many ioremap areas there are in the system; -1 on error */
static inline long ioremap_areas(void)
{
	FILE *f = fopen("/proc/vmallocinfo", "r");
	char *line = NULL;
	size_t len = 0;
	long n = 0;

	if (!f)
		return -1;
	while (getline(&line, &len, f) > 0)
		n += !!strstr(line, " ioremap");
	free(line);
	fclose(f);
	return n;
}

/* Lines of the kernel's log with @word */
static inline int messages(const char *word)
{
	static char log[1 << 20];
	int n = klogctl(3, log, sizeof(log) - 1), found = 0;

	log[n < 0 ? 0 : n] = 0;
	for (char *p = strstr(log, word); p; p = strstr(p + 1, word))
		found++;
	return found;
}

/* The largest leaf that a user mapping can get now: THI_4K, THI_2M or THI_1G */
static inline int user_max_leaf(void)
{
	char limit[16];

	/* CONFIG_HUGE_IOMAP is not set. */
	if (!read_line(LIMIT, limit, sizeof(limit)))
		return THI_4K;
	if (!strcmp(limit, "4K"))
		return THI_4K;
	if (!strcmp(limit, "2M") || !file_has("/proc/cpuinfo", " pdpe1gb"))
		return THI_2M;
	return THI_1G;
}

/* The same for the kernel, which takes no chances where the MTRRs are not known */
static inline int max_leaf(void)
{
	return file_has("/proc/cpuinfo", " mtrr ") ? user_max_leaf() : THI_4K;
}

/*
 * Without CONFIG_HUGE_IOMAP, what ioremap() and vfio-pci map has huge leaves where an
 * address happens to be congruent, up to what the machine has.
 */
static inline bool option_off(void)
{
	return access(LIMIT, F_OK);
}

static inline int fault_max_leaf(void)
{
	if (!option_off())
		return user_max_leaf();
	return file_has("/proc/cpuinfo", " pdpe1gb") ? THI_1G : THI_2M;
}

static inline int ioremap_max_leaf(void)
{
	if (file_has("/proc/cmdline", "nohugeiomap") || !file_has("/proc/cpuinfo", " mtrr "))
		return THI_4K;
	return fault_max_leaf();
}

/*
 * The ideal set of leaves for a range of whole pages, and the PMD and PTE tables
 * under it, counted block by block: each full block of the largest size is one
 * leaf, and so on downwards. Without CONFIG_HUGE_IOMAP nothing makes @va congruent.
 */
struct ideal {
	__u64 nr[THI_NR_LEAF];
	__u64 tables;
};

static inline struct ideal ideal_leaves(__u64 va, __u64 pa, __u64 bytes,
					int max)
{
	const bool chance = option_off();
	struct ideal ideal = {};
	__u64 off, next;

	for (off = 0; off < bytes; off = next) {
		int leaf = THI_4K;

		for (int i = max; i > THI_4K && leaf == THI_4K; i--)
			if ((pa + off) % leaf_sizes[i] == 0 &&
			    (!chance || (va + off) % leaf_sizes[i] == 0) &&
			    bytes - off >= leaf_sizes[i])
				leaf = i;
		ideal.nr[leaf]++;
		if (leaf < THI_1G && (!off || (va + off) % SZ_1G == 0))
			ideal.tables++;
		if (leaf < THI_2M && (!off || (va + off) % SZ_2M == 0))
			ideal.tables++;
		next = off + leaf_sizes[leaf];
	}
	return ideal;
}

/* Failing allocations */

#define FAIL_PAGES	"/sys/kernel/debug/fail_page_alloc"

/* Prepares for set_fail_nth(); false if the kernel cannot do that. */
static inline bool can_fail_nth(void)
{
	/* Quiet, and also for the order and the context of page tables */
	static const struct { const char *file, *value; } faults[] = {
		{ FAIL_PAGES "/verbose", "0" },
		{ FAIL_PAGES "/min-order", "0" },
		{ FAIL_PAGES "/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/failslab/verbose", "0" },
		{ "/sys/kernel/debug/failslab/ignore-gfp-wait", "N" },
		{ }
	};

	for (int i = 0; faults[i].file; i++)
		if (write_file(faults[i].file, faults[i].value))
			return false;
	return true;
}

/*
 * All pages that a process with make-it-fail asks for fail, after as many as FAIL_PAGES
 * "/space" says, less one. Nothing changes for other processes.
 */
static inline bool can_fail_pages(void)
{
	return !write_file(FAIL_PAGES "/task-filter", "Y") &&
	       !write_file(FAIL_PAGES "/interval", "1") &&
	       !write_file(FAIL_PAGES "/times", "-1") &&
	       !write_file(FAIL_PAGES "/probability", "100");
}

/*
 * Let the n-th allocation of this process fail. @fd is /proc/self/fail-nth, open
 * already: to open it takes allocations too.
 */
static inline bool set_fail_nth(int fd, int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n);

	return pwrite(fd, text, len, 0) == len;
}

/* How many allocations are left until the one that fails; -1 on error */
static inline int get_fail_nth(int fd)
{
	char text[16] = "";

	return pread(fd, text, sizeof(text) - 1, 0) > 0 ? atoi(text) : -1;
}

/* MTRRs. Base and length in bytes, the type as in /proc/mtrr. 0 or an errno */

static inline int set_mtrr(__u64 base, __u64 bytes, const char *type)
{
	char text[96];

	snprintf(text, sizeof(text), "base=0x%llx size=0x%llx type=%s", base, bytes,
		 type);
	return write_file("/proc/mtrr", text);
}

static inline int clear_mtrr(__u64 base)
{
	FILE *f = fopen("/proc/mtrr", "r");
	char line[128], text[32];
	int reg = -1, err = ENOENT;

	if (!f)
		return errno;
	snprintf(text, sizeof(text), "base=0x%09llx", base);
	while (fgets(line, sizeof(line), f))
		if (strstr(line, text))
			sscanf(line, "reg%d", &reg);
	fclose(f);
	if (reg >= 0) {
		snprintf(text, sizeof(text), "disable=%d", reg);
		err = write_file("/proc/mtrr", text);
	}
	return err;
}

/*
 * The largest leaf that a mapping can get at any limit: the MTRRs have to stay as they
 * are in blocks of that size, wherever device memory is mapped.
 */
static inline int watched_leaf(void)
{
	char limit[16];

	if (!read_line(LIMIT, limit, sizeof(limit)) ||
	    file_has("/proc/cmdline", "nohugeiomap"))
		return THI_4K;
	return file_has("/proc/cpuinfo", " pdpe1gb") ? THI_1G : THI_2M;
}

/* Where RAM ends, and something else or nothing begins; 0 if not found */
static inline __u64 end_of_ram(void)
{
	FILE *f = fopen("/proc/iomem", "r");
	unsigned long long s, e;
	__u64 end = 0;
	char line[128];

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (line[0] != ' ' && strstr(line, "System RAM") &&
		    sscanf(line, "%llx-%llx", &s, &e) == 2 && s >= SZ_1M)
			end = e + 1;
	fclose(f);
	return end;
}

/*
 * Give the page at @base two types, one after the other, and take them back: one of
 * them is not that of the memory around it. 0 if both can be had.
 */
static inline int try_mtrr(__u64 base)
{
	int uc = set_mtrr(base, SZ_4K, "uncachable");
	int wc;

	if (!uc)
		clear_mtrr(base);
	wc = set_mtrr(base, SZ_4K, "write-combining");
	if (!wc)
		clear_mtrr(base);
	return uc ?: wc;
}

/* What PAT tracks. Bytes and physical addresses */

#define PAT_LIST	"/sys/kernel/debug/x86/pat_memtype_list"

/* Entries that begin in [start, start + bytes); -1 without PAT */
static inline long pat_entries(__u64 start, __u64 bytes)
{
	FILE *f = fopen(PAT_LIST, "r");
	unsigned long long s, e;
	char line[128];
	long n = 0;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		n += sscanf(line, "PAT: [mem 0x%llx-0x%llx]", &s, &e) == 2 &&
		     s >= start && s - start < bytes;
	fclose(f);
	return n;
}

/* Is there an entry for just this range, of a type as it is written there? */
static inline bool pat_has(__u64 start, __u64 bytes, const char *type)
{
	char line[128];

	snprintf(line, sizeof(line), "[mem 0x%016llx-0x%016llx] %s\n", start,
		 start + bytes, type);
	return file_has(PAT_LIST, line);
}

/* The test driver */

static inline int thi_map(int fd, int how, __u64 offset, __u64 bytes,
			  struct test_huge_iomap_map *map)
{
	*map = (struct test_huge_iomap_map) {
		.how = how,
		.offset = offset,
		.bytes = bytes,
	};
	return ioctl(fd, THI_MAP, map) ? -errno : 0;
}

static inline int thi_unmap(int fd, __u32 handle,
			    struct test_huge_iomap_unmap *unmap)
{
	*unmap = (struct test_huge_iomap_unmap) { .handle = handle };
	return ioctl(fd, THI_UNMAP, unmap) ? -errno : 0;
}

static inline int thi_leaves(int fd, __u32 handle,
			     struct test_huge_iomap_leaves *leaves)
{
	*leaves = (struct test_huge_iomap_leaves) { .handle = handle };
	return ioctl(fd, THI_LEAVES, leaves) ? -errno : 0;
}

/* 0, or a negative errno */
static inline int thi_change(int fd, __u32 handle, int what, __u64 offset, __u32 nr)
{
	struct test_huge_iomap_change change = {
		.handle = handle, .what = what, .offset = offset, .nr = nr,
	};

	return ioctl(fd, THI_CHANGE, &change) ? -errno : 0;
}

static inline int thi_page(int fd, __u32 handle, __u64 offset,
			   struct test_huge_iomap_page *page)
{
	*page = (struct test_huge_iomap_page) { .handle = handle, .offset = offset };
	return ioctl(fd, THI_PAGE, page) ? -errno : 0;
}

static inline int thi_write(int fd, __u32 handle, __u64 offset,
			    __u32 value)
{
	struct test_huge_iomap_access a = {
		.handle = handle, .offset = offset, .value = value,
	};

	return ioctl(fd, THI_WRITE, &a) ? -errno : 0;
}

static inline int thi_read(int fd, __u32 handle, __u64 offset,
			   __u32 *value)
{
	struct test_huge_iomap_access a = { .handle = handle, .offset = offset };
	int err = ioctl(fd, THI_READ, &a) ? -errno : 0;

	*value = a.value;
	return err;
}

static inline int thi_poke(int fd, int how, __u64 offset, __u32 value)
{
	struct test_huge_iomap_access a = {
		.how = how, .offset = offset, .value = value,
	};

	return ioctl(fd, THI_POKE, &a) ? -errno : 0;
}

static inline int thi_peek(int fd, int how, __u64 offset, __u32 *value)
{
	struct test_huge_iomap_access a = { .how = how, .offset = offset };
	int err = ioctl(fd, THI_PEEK, &a) ? -errno : 0;

	*value = a.value;
	return err;
}

#endif /* __SELFTEST_HUGE_IOMAP_UTIL_H */
