// SPDX-License-Identifier: GPL-2.0
/*
 * Operations on a 1 GiB leaf of device memory: vfio-pci maps a BAR of 1 GiB or more
 * with one where address and offset are multiples of 1 GiB. An operation on a part of
 * it takes effect there, the rest reads as before, and the kernel prints no warning.
 *
 * Needs nothing but this file, kselftest_harness.h, kselftest.h and kernel headers:
 *
 *   gcc -O2 -static -I tools/testing/selftests -o vfio_leaf_test vfio_leaf_test.c -lpthread
 *   ./vfio_leaf_test 0000:01:00.0
 *
 * As for the other tests of vfio VFIO_SELFTESTS_BDF can name the device, too. If no
 * driver of vfio has it, it is bound to vfio-pci, and given back in the end. The BAR is
 * read. It is written to only if it is that of QEMU's ivshmem, or if VFIO_LEAF_WRITE=1.
 *
 * Each operation runs in a process of its own. A kernel that oopses there leaves the
 * process behind, with locks that it holds for good. So the operation fails by what
 * the kernel prints, or after 60 seconds, and those that follow are skipped. To see
 * them on such a kernel run one after each boot: -v NAME.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/futex.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <linux/vfio.h>

#include "kselftest_harness.h"

#define SZ_4K		0x1000UL
#define SZ_1M		0x100000UL
#define SZ_2M		0x200000UL
#define SZ_1G		0x40000000UL

/* What C libraries may not know yet */
#define NR_PIDFD_OPEN			434
#define NR_PROCESS_MADVISE		440
#define NR_SET_MEMPOLICY_HOME_NODE	450
#define NR_MSEAL			462

/* Pages that are looked at: three in each 2 MiB */
#define PROBES		(SZ_1G / SZ_2M * 3)

enum { OK = KSFT_PASS, NOT_OK = KSFT_FAIL, NOTHING = KSFT_SKIP };

struct device {
	char bdf[32], driver[64], override[64];
	int bar;
	bool vfio;		/* has a driver of vfio, not vfio-pci perhaps */
	bool write;
};

/* Shared by main(), the tests, and the processes that do the work */
static struct {
	bool oopsed;			/* do not touch the device any more */
	int stuck;			/* operations that took too long */
	bool bound;			/* to vfio-pci: @device tells what it was */
	struct device device;
	char why[400];
} *shared;

static __attribute__((constructor)) void share(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* The worker ends here, with what it has found. */
static __noreturn __printf(2, 3)
void done(int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(shared->why, sizeof(shared->why), format, args);
	va_end(args);
	_exit(code);
}

#define CHECK(cond) do {						\
	if (!(cond))							\
		done(NOT_OK, "line %d: not true: %s (errno: %s)",	\
		     __LINE__, #cond, strerror(errno));			\
} while (0)

/* The device */

static bool read_text(const char *bdf, const char *file, char *text, size_t len)
{
	char path[128];
	FILE *f;
	bool ok;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf, file);
	f = fopen(path, "r");
	if (!f)
		return false;
	ok = fgets(text, len, f);
	fclose(f);
	return ok;
}

static void write_text(const char *bdf, const char *file, const char *text)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf, file);
	fd = open(path, O_WRONLY);
	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		errno = 0;	/* What it has not done is seen later. */
	close(fd);
}

/* The name that a link in the device's directory ends with, or "" */
static void link_name(const char *bdf, const char *link, char *name, size_t len)
{
	char path[128], to[PATH_MAX] = "";

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf, link);
	if (readlink(path, to, sizeof(to) - 1) < 0)
		to[0] = 0;
	snprintf(name, len, "%s", strrchr(to, '/') ? strrchr(to, '/') + 1 : "");
}

/* The first BAR that is memory of 1 GiB at least; -1 if there is none */
static int large_bar(const char *bdf)
{
	unsigned long long start, end, flags;
	char path[128];
	int bar = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", bdf);
	f = fopen(path, "r");
	for (int i = 0; f && i < 6 && bar < 0; i++)
		if (fscanf(f, "%llx %llx %llx", &start, &end, &flags) == 3 &&
		    flags & 0x200 && end - start + 1 >= SZ_1G)
			bar = i;
	if (f)
		fclose(f);
	return bar;
}

/* Does vfio-pci have it, or a driver for one kind of device, like mlx5_vfio_pci? */
static bool has_vfio(const char *bdf)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
	return !access(path, F_OK);
}

static bool is_ivshmem(const char *bdf)
{
	char vendor[16], device[16];

	return read_text(bdf, "vendor", vendor, sizeof(vendor)) &&
	       read_text(bdf, "device", device, sizeof(device)) &&
	       !strcmp(vendor, "0x1af4\n") && !strcmp(device, "0x1110\n");
}

/* Why there is none, or NULL */
static const char *find_device(struct device *d)
{
	const char *env = getenv("VFIO_SELFTESTS_BDF");

	*d = (struct device) { .bar = -1 };
	if (!env)
		return "no device is named: VFIO_SELFTESTS_BDF, or an argument";
	snprintf(d->bdf, sizeof(d->bdf), "%s", env);
	d->vfio = has_vfio(d->bdf);
	if (!d->vfio && access("/sys/bus/pci/drivers/vfio-pci", F_OK))
		return "no vfio-pci: CONFIG_VFIO_PCI is not set, or the module is not loaded";
	d->bar = large_bar(d->bdf);
	if (d->bar < 0)
		return "the device has no BAR of 1 GiB";
	link_name(d->bdf, "driver", d->driver, sizeof(d->driver));
	if (!read_text(d->bdf, "driver_override", d->override, sizeof(d->override)) ||
	    !strcmp(d->override, "(null)\n"))
		strcpy(d->override, "\n");
	env = getenv("VFIO_LEAF_WRITE");
	d->write = is_ivshmem(d->bdf) || (env && !strcmp(env, "1"));
	return NULL;
}

/* @driver is "" for none. */
static void bind_driver(const char *bdf, const char *override, const char *driver)
{
	char path[128];
	int fd;

	write_text(bdf, "driver/unbind", bdf);
	write_text(bdf, "driver_override", override);
	if (!driver[0])
		return;
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/bind", driver);
	fd = open(path, O_WRONLY);
	if (fd >= 0 && write(fd, bdf, strlen(bdf)) < 0)
		errno = 0;
	close(fd);
}

/* By its group and a type1 container, or else by its own file and an iommufd; or -1 */
static int open_device(const char *bdf)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char path[PATH_MAX], name[64];
	int container, group, device;

	link_name(bdf, "iommu_group", name, sizeof(name));
	snprintf(path, sizeof(path), "/dev/vfio/%s", name);
	group = name[0] ? open(path, O_RDWR) : -1;
	container = open("/dev/vfio/vfio", O_RDWR);
	if (group >= 0 && container >= 0 &&
	    !ioctl(group, VFIO_GROUP_GET_STATUS, &status) &&
	    !(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		done(NOTHING, "other devices of IOMMU group %s are in use", name);
	if (group >= 0 && container >= 0 &&
	    !ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) &&
	    !ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU)) {
		device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf);
		if (device >= 0)
			return device;
	}
	close(group);
	close(container);
#ifdef VFIO_DEVICE_BIND_IOMMUFD
	{
		struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
		struct dirent *entry;
		DIR *dir;

		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
		dir = opendir(path);
		bind.iommufd = open("/dev/iommu", O_RDWR);
		while (dir && bind.iommufd >= 0 && (entry = readdir(dir))) {
			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "/dev/vfio/devices/%s", entry->d_name);
			device = open(path, O_RDWR);
			if (device >= 0 && !ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind))
				return device;
		}
	}
#endif
	return -1;
}

/* Accesses that may fault */

static __thread sigjmp_buf access_env;
static __thread int access_signal;

static void access_handler(int sig)
{
	access_signal = sig;
	siglongjmp(access_env, 1);
}

static __u32 load(const void *p)
{
	return __atomic_load_n((const __u32 *)p, __ATOMIC_RELAXED);
}

static void store(void *p, __u32 value)
{
	__atomic_store_n((__u32 *)p, value, __ATOMIC_RELAXED);
}

/* 0, or the signal that an access gets. A write does not change the value. */
static int try_access(char *p, __u32 *value, bool write)
{
	access_signal = 0;
	if (!sigsetjmp(access_env, 1)) {
		*value = load(p);
		if (write)
			store(p, *value);
	}
	return access_signal;
}

static bool gone(char *p)
{
	__u32 v;

	return try_access(p, &v, false) == SIGSEGV;
}

/* What the worker has */
struct leaf {
	int device;
	__u64 offset;		/* of the region in the device's file */
	char *va;		/* 1 GiB of the BAR, at a multiple of 1 GiB */
	char *page;		/* one in it */
	char *free;		/* 2 GiB that can be mapped, at a multiple of 1 GiB */
	bool write;
	__u32 has[PROBES];	/* what the BAR has there */
	bool varies[PROBES];	/* a register that reads otherwise the next time */
};

static unsigned long probe(int i)
{
	static const unsigned long at[] = { 0, SZ_1M + SZ_4K, SZ_2M - SZ_4K };

	return i / 3 * SZ_2M + at[i % 3];
}

/* Do [from, to) of the 1 GiB that begins at @va read as they should? */
static bool reads(const struct leaf *l, char *va, unsigned long from, unsigned long to)
{
	__u32 v, now;

	for (int i = 0; i < PROBES; i++) {
		if (probe(i) < from || probe(i) >= to)
			continue;
		if (try_access(va + probe(i), &v, false))
			return false;
		if (v == l->has[i] || l->varies[i])
			continue;
		/* A register may have changed. It is read by the kernel's mapping. */
		if (l->write || pread(l->device, &now, 4, l->offset + probe(i)) != 4 ||
		    v != now)
			return false;
	}
	return true;
}

/* Address space that is aligned to 1 GiB */
static char *reserve(unsigned long bytes)
{
	char *p = mmap(NULL, bytes + SZ_1G, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(p != MAP_FAILED);
	return (char *)(((unsigned long)p + SZ_1G - 1) & ~(SZ_1G - 1));
}

static long minor_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

/* Of x86. Elsewhere nobody asks for leaves that cannot be. */
static bool cpu_has_1g(void)
{
	FILE *f = fopen("/proc/cpuinfo", "r");
	bool has = true, found = false;
	char *line = NULL;
	size_t len = 0;

	while (f && !found && getline(&line, &len, f) > 0) {
		found = !strncmp(line, "flags", 5);
		has = !found || strstr(line, " pdpe1gb");
	}
	free(line);
	if (f)
		fclose(f);
	return has;
}

/* True if it is one leaf, as far as the number of faults tells. */
static bool make_leaf(struct leaf *l, const struct device *d)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = d->bar };
	struct sigaction sa = { .sa_handler = access_handler, .sa_flags = SA_NODEFER };
	char *area = reserve(6 * SZ_1G);
	char *small = area + 4 * SZ_1G + SZ_4K;
	long faults;
	__u32 v;

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	l->device = open_device(d->bdf);
	if (l->device < 0)
		done(NOTHING, "%s cannot be opened by a type1 container or an iommufd: no IOMMU?",
		     d->bdf);
	CHECK(!ioctl(l->device, VFIO_DEVICE_GET_REGION_INFO, &info));
	if (!(info.flags & VFIO_REGION_INFO_FLAG_MMAP))
		done(NOTHING, "BAR %d cannot be mapped", d->bar);
	l->offset = info.offset;
	l->write = d->write;
	l->va = area;
	l->page = area + 77 * SZ_2M + 5 * SZ_4K;
	l->free = area + 2 * SZ_1G;
	/* What is there is read by another mapping, which has small leaves. */
	if (mmap(small, SZ_1G, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 l->device, l->offset) != small)
		done(NOTHING, "1 GiB of BAR %d cannot be mapped: %s", d->bar, strerror(errno));
	for (int i = 0; i < PROBES; i++) {
		if (try_access(small + probe(i), &v, false))
			done(NOTHING, "the BAR cannot be read: signal %d", access_signal);
		if (l->write)
			store(small + probe(i), 0x5eed0000u ^ (i + 1) * 2654435761u);
		l->has[i] = load(small + probe(i));
	}
	for (int n = 0; n < 3; n++)
		for (int i = 0; i < PROBES; i++)
			l->varies[i] |= load(small + probe(i)) != l->has[i];
	CHECK(!munmap(small, SZ_1G));
	CHECK(mmap(l->va, SZ_1G, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		   l->device, l->offset) == l->va);
	/* On some kernels it has no leaf otherwise, if THP is set to madvise. */
	madvise(l->va, SZ_1G, MADV_HUGEPAGE);
	faults = minor_faults();
	CHECK(!try_access(l->va, &v, l->write));
	CHECK(reads(l, l->va, 0, SZ_1G));
	faults = minor_faults() - faults;
	/* 512 if it is leaves of 2 MiB */
	if (faults < 100 && !cpu_has_1g())
		done(NOT_OK, "a leaf of 1 GiB, on a CPU that has no pages of 1 GiB");
	return faults < 100;
}

/* Memory decode of the device: without it the BAR is revoked, unless it is a VF's. */
struct revoke {
	int device, usec;
	__u64 command;		/* where PCI_COMMAND is in the device's file */
};

static void memory_decode(const struct revoke *r, bool on)
{
	__u16 value;

	CHECK(pread(r->device, &value, 2, r->command) == 2);
	value = on ? value | 2 : value & ~2;
	CHECK(pwrite(r->device, &value, 2, r->command) == 2);
}

/* It is off and on again: what was mapped is not. */
static void can_revoke(const struct leaf *l, struct revoke *r)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	__u32 v;
	int got;

	CHECK(!ioctl(l->device, VFIO_DEVICE_GET_REGION_INFO, &info));
	r->device = l->device;
	r->command = info.offset + 4;
	memory_decode(r, false);
	got = try_access(l->va, &v, false);
	memory_decode(r, true);
	if (!got)
		done(NOTHING, "memory decode does not revoke the BAR: a VF?");
	CHECK(got == SIGBUS);
}

/* Operations. At the end of them, all but @page, in which is no probe, reads as before. */

static void op_munmap(struct leaf *l)
{
	CHECK(!munmap(l->page, SZ_4K));
	CHECK(gone(l->page));
}

static void op_munmap_2m(struct leaf *l)
{
	char *p = l->va + SZ_1G - SZ_2M;

	CHECK(!munmap(p, SZ_2M));
	CHECK(gone(p));
	CHECK(reads(l, l->va, 0, SZ_1G - SZ_2M));
	CHECK(mmap(p, SZ_2M, PROT_READ, MAP_SHARED | MAP_FIXED, l->device,
		   l->offset + SZ_1G - SZ_2M) == p);
}

static void op_munmap_head(struct leaf *l)
{
	CHECK(!munmap(l->va, SZ_4K));
	CHECK(gone(l->va));
	CHECK(reads(l, l->va, SZ_4K, SZ_1G));
	CHECK(mmap(l->va, SZ_4K, PROT_READ, MAP_SHARED | MAP_FIXED, l->device,
		   l->offset) == l->va);
}

/* Another mapping in its place */
static void op_mmap_over(struct leaf *l)
{
	CHECK(mmap(l->page, SZ_4K, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		   -1, 0) == l->page);
	CHECK(!load(l->page));
}

static void op_mprotect(struct leaf *l)
{
	__u32 v;

	CHECK(!mprotect(l->page, SZ_4K, PROT_READ));
	CHECK(!try_access(l->page, &v, false));
	CHECK(try_access(l->page, &v, true) == SIGSEGV);
}

static void op_mprotect_none(struct leaf *l)
{
	__u32 v;

	CHECK(!mprotect(l->va, SZ_1G, PROT_NONE));
	CHECK(gone(l->va));
	CHECK(gone(l->page));
	CHECK(!mprotect(l->page, SZ_4K, PROT_READ));
	CHECK(gone(l->va));
	CHECK(!try_access(l->page, &v, false));
	CHECK(!mprotect(l->va, SZ_1G, PROT_READ | PROT_WRITE));
}

static void op_pkey_mprotect(struct leaf *l)
{
	int key = syscall(SYS_pkey_alloc, 0, 0);

	if (key < 0)
		done(NOTHING, "no protection keys: %s", strerror(errno));
	CHECK(!syscall(SYS_pkey_mprotect, l->page, SZ_4K, PROT_READ, key));
}

static void op_madvise_dontfork(struct leaf *l)
{
	CHECK(!madvise(l->page, SZ_4K, MADV_DONTFORK));
}

static void op_madvise_random(struct leaf *l)
{
	CHECK(!madvise(l->page, SZ_4K, MADV_RANDOM));
}

/* Those that a driver's mapping may refuse, on the page and on all */
static void op_madvise_other(struct leaf *l)
{
	/* Not MADV_HWPOISON and MADV_SOFT_OFFLINE; 102 and 103 are guard regions. */
	static const int advice[] = {
		MADV_NORMAL, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE,
		MADV_REMOVE, MADV_DONTDUMP, MADV_DODUMP, MADV_MERGEABLE, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_WIPEONFORK, 20, 21, 22, 23, 24, 25, 102, 103,
	};

	for (unsigned int i = 0; i < sizeof(advice) / sizeof(*advice); i++) {
		madvise(l->va, SZ_1G, advice[i]);
		madvise(l->page, SZ_4K, advice[i]);
		CHECK(reads(l, l->va, 0, SZ_1G));
	}
}

static void op_process_madvise(struct leaf *l)
{
	int fd = syscall(NR_PIDFD_OPEN, getpid(), 0);
	struct iovec iov[2] = { { l->page, SZ_4K }, { l->va, SZ_1G } };

	CHECK(fd >= 0);
	for (int advice = 0; advice < 26; advice++)
		if (advice < MADV_REMOVE || advice > MADV_DOFORK)
			syscall(NR_PROCESS_MADVISE, fd, iov, 2, advice, 0);
}

static void op_mlock(struct leaf *l)
{
	CHECK(!mlock(l->page, SZ_4K));
	CHECK(reads(l, l->va, 0, SZ_1G));
	CHECK(!munlock(l->page, SZ_4K));
}

static void op_mlockall(struct leaf *l)
{
	CHECK(!mlock(l->va, SZ_1G));
	CHECK(!munlock(l->page, SZ_4K));
	CHECK(!munlockall());
}

/* VMAs of device memory take no policy: the walk meets the leaf, if anything does. */
static void op_mbind(struct leaf *l)
{
	unsigned long nodes = 1;

	if (access("/proc/self/numa_maps", F_OK))
		done(NOTHING, "CONFIG_NUMA is not set");
	syscall(SYS_mbind, l->page, SZ_4K, MPOL_BIND, &nodes, 8, 0);
	syscall(SYS_mbind, l->va, SZ_1G, MPOL_BIND, &nodes, 8, MPOL_MF_STRICT);
	syscall(SYS_mbind, l->va, SZ_1G, MPOL_BIND, &nodes, 8,
		MPOL_MF_STRICT | MPOL_MF_MOVE);
	syscall(SYS_mbind, l->va + SZ_2M, SZ_2M, MPOL_BIND, &nodes, 8,
		MPOL_MF_STRICT | MPOL_MF_MOVE);
	CHECK(reads(l, l->va, 0, SZ_1G));
	syscall(NR_SET_MEMPOLICY_HOME_NODE, l->va + SZ_4K, SZ_4K, 0, 0);
	syscall(SYS_migrate_pages, 0, 8, &nodes, &nodes);
}

static void op_move_pages(struct leaf *l)
{
	void *pages[2] = { l->va, l->page };
	int nodes[2] = {}, status[2];

	syscall(SYS_move_pages, 0, 2, pages, NULL, status, 0);
	syscall(SYS_move_pages, 0, 2, pages, nodes, status, MPOL_MF_MOVE);
}

static void op_mseal(struct leaf *l)
{
	if (syscall(NR_MSEAL, l->page, SZ_4K, 0))
		done(NOTHING, "no mseal(): %s", strerror(errno));
	CHECK(munmap(l->va, SZ_1G) && errno == EPERM);
}

/* A thread, on another CPU if there is one, reads the page that is moved away. */
struct watch {
	char *p;
	int reading, moved;
	bool stale;
};

static void *watch_page(void *arg)
{
	struct watch *w = arg;
	int moved, sig;
	__u32 v;

	do {
		moved = __atomic_load_n(&w->moved, __ATOMIC_ACQUIRE);
		sig = try_access(w->p, &v, false);
		/* Or it has tried to: the other thread waits for that. */
		__atomic_store_n(&w->reading, 1, __ATOMIC_RELEASE);
	} while (!sig && !moved);
	w->stale = !sig;
	return NULL;
}

static void move_to(struct leaf *l, char *from, unsigned long bytes, char *to)
{
	unsigned long off = from - l->va;
	struct watch w = { .p = from };
	pthread_t thread;

	CHECK(!pthread_create(&thread, NULL, watch_page, &w));
	while (!__atomic_load_n(&w.reading, __ATOMIC_ACQUIRE))
		;
	CHECK(mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	__atomic_store_n(&w.moved, 1, __ATOMIC_RELEASE);
	CHECK(!pthread_join(thread, NULL));
	if (w.stale)
		done(NOT_OK, "stale access: the BAR is readable at the old address");
	CHECK(gone(from));
	CHECK(gone(from + bytes - SZ_4K));
	CHECK(reads(l, to - off, off, off + bytes));
}

static void put_back(struct leaf *l)
{
	CHECK(mmap(l->va, SZ_1G, PROT_READ, MAP_SHARED | MAP_FIXED, l->device,
		   l->offset) == l->va);
}

static void op_mremap(struct leaf *l)
{
	move_to(l, l->page, SZ_4K, l->free + SZ_1M);
}

static void op_mremap_2m(struct leaf *l)
{
	move_to(l, l->va + SZ_2M, SZ_2M, l->free + SZ_2M);
	CHECK(reads(l, l->va, 0, SZ_2M));
	CHECK(reads(l, l->va, 2 * SZ_2M, SZ_1G));
	put_back(l);
}

static void op_mremap_half(struct leaf *l)
{
	move_to(l, l->va + SZ_1G / 2, SZ_1G / 2, l->free + SZ_1G / 2);
	CHECK(reads(l, l->va, 0, SZ_1G / 2));
	put_back(l);
}

static void op_mremap_all(struct leaf *l)
{
	move_to(l, l->va, SZ_1G, l->free);
	CHECK(!munmap(l->free + SZ_2M, SZ_4K));
	CHECK(gone(l->free + SZ_2M));
	CHECK(reads(l, l->free, 0, SZ_2M));
	put_back(l);
}

static void op_mremap_all_2m(struct leaf *l)
{
	move_to(l, l->va, SZ_1G, l->free + 3 * SZ_2M);
	put_back(l);
}

static void op_mremap_all_4k(struct leaf *l)
{
	move_to(l, l->va, SZ_1G, l->free + SZ_4K);
	put_back(l);
}

static void op_mremap_shrink(struct leaf *l)
{
	CHECK(mremap(l->va, SZ_1G, SZ_1G / 2 + SZ_4K, 0) == l->va);
	CHECK(gone(l->va + SZ_1G / 2 + SZ_4K));
	CHECK(gone(l->va + SZ_1G - SZ_4K));
	CHECK(reads(l, l->va, 0, SZ_1G / 2 + SZ_4K));
	put_back(l);
}

/* Those that a driver's mapping refuses */
static void op_mremap_refused(struct leaf *l)
{
	CHECK(mremap(l->va, SZ_1G, SZ_1G + SZ_4K, MREMAP_MAYMOVE) == MAP_FAILED);
	CHECK(mremap(l->va, SZ_1G, SZ_1G, MREMAP_MAYMOVE | MREMAP_DONTUNMAP) == MAP_FAILED);
	/* A copy: old size 0 */
	mremap(l->page, 0, SZ_4K, MREMAP_MAYMOVE);
}

static void op_remap_file_pages(struct leaf *l)
{
	if (remap_file_pages(l->page, SZ_4K, 0, (l->offset + (l->page - l->va)) / SZ_4K, 0))
		errno = 0;
}

static void op_fork(struct leaf *l)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (!pid) {
		CHECK(reads(l, l->va, 0, SZ_1G));
		CHECK(!munmap(l->page, SZ_4K));
		CHECK(gone(l->page));
		CHECK(reads(l, l->va, 0, SZ_1G));
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	if (WIFSIGNALED(status))
		done(NOT_OK, "a child: signal %d", WTERMSIG(status));
	if (status)
		_exit(NOT_OK);
}

static void read_proc(const char *name, const char *what)
{
	char path[64], buf[4096];
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/%s", name, what);
	fd = open(path, O_RDONLY);
	while (fd >= 0 && read(fd, buf, sizeof(buf)) > 0)
		;
	close(fd);
}

static void op_smaps(struct leaf *l)
{
	read_proc("self", "smaps");
	CHECK(reads(l, l->va, 0, SZ_1G));
	read_proc("self", "smaps_rollup");
}

static void op_numa_maps(struct leaf *l)
{
	(void)l;
	read_proc("self", "numa_maps");
}

static void op_pagemap(struct leaf *l)
{
	/* struct pm_scan_arg of linux/fs.h: pages that are present */
	struct {
		__u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
		__u64 inverted, mask, anyof, returned;
	} scan = {
		.size = sizeof(scan), .start = (unsigned long)l->va,
		.end = (unsigned long)l->va + SZ_1G, .anyof = 1 << 3, .returned = 1 << 3,
	};
	__u64 vec[3 * 16], buf[512];
	int fd = open("/proc/self/pagemap", O_RDONLY);

	CHECK(fd >= 0);
	for (int i = 0; i < 512; i++)
		CHECK(pread(fd, buf, sizeof(buf), ((unsigned long)l->va >> 9) + i * sizeof(buf)) >
		      0);
	CHECK(reads(l, l->va, 0, SZ_1G));
	scan.vec = (unsigned long)vec;
	scan.vec_len = 16;
	/* Not in 6.6 and before */
	ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, 'f', 16, sizeof(scan)), &scan);
}

static void op_clear_refs(struct leaf *l)
{
	for (char c = '1'; c <= '5'; c++) {
		int fd = open("/proc/self/clear_refs", O_WRONLY);

		CHECK(fd >= 0);
		if (write(fd, &c, 1) != 1)
			errno = 0;
		close(fd);
		CHECK(reads(l, l->va, 0, SZ_1G));
	}
}

/* To look for writes makes a mapping read-only until a write fault. */
static void op_soft_dirty(struct leaf *l)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY);
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	struct revoke r = {};
	__u64 entry;
	__u32 v;

	if (!l->write)
		done(NOTHING, "the BAR must not be written to: VFIO_LEAF_WRITE=1");
	CHECK(fd >= 0);
	CHECK(pagemap >= 0);
	CHECK(pread(pagemap, &entry, 8, (unsigned long)&entry / SZ_4K * 8) == 8);
	if (!(entry >> 55 & 1))
		done(NOTHING, "CONFIG_MEM_SOFT_DIRTY is not set");
	CHECK(write(fd, "4", 1) == 1);
	can_revoke(l, &r);
	/* It is read first, then written to. A fault that does nothing comes again. */
	CHECK(reads(l, l->va, 0, SZ_1G));
	alarm(20);
	CHECK(!try_access(l->page, &v, true));
	CHECK(!try_access(l->va, &v, true));
	alarm(0);
}

static void op_mincore(struct leaf *l)
{
	unsigned char *vec = malloc(SZ_1G / SZ_4K);

	CHECK(vec);
	CHECK(!mincore(l->va, SZ_1G, vec));
	CHECK(!mincore(l->page, SZ_4K, vec));
}

static void op_msync(struct leaf *l)
{
	CHECK(!msync(l->va, SZ_1G, MS_ASYNC | MS_INVALIDATE));
	/* The file has no fsync(). */
	msync(l->page, SZ_4K, MS_SYNC);
}

/* From outside: a BAR of vfio-pci cannot be read by a debugger. */
static void op_debugger(struct leaf *l)
{
	char buf[64];
	struct iovec to = { buf, 8 }, from = { l->page, 8 };
	int fd = open("/proc/self/mem", O_RDWR), status;
	pid_t pid;

	CHECK(fd >= 0);
	for (int prot = PROT_NONE; prot <= PROT_READ; prot++) {
		CHECK(!mprotect(l->va, SZ_1G, prot));
		if (pread(fd, buf, 8, (unsigned long)l->page) < 0)
			errno = 0;
		pid = fork();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			pause();
			_exit(0);
		}
		process_vm_readv(pid, &to, 1, &from, 1, 0);
		CHECK(!ptrace(PTRACE_SEIZE, pid, 0, 0));
		CHECK(!ptrace(PTRACE_INTERRUPT, pid, 0, 0));
		CHECK(waitpid(pid, &status, 0) == pid);
		ptrace(PTRACE_PEEKDATA, pid, l->page, 0);
		snprintf(buf, sizeof(buf), "%d", pid);
		read_proc(buf, "smaps");
		CHECK(!kill(pid, SIGKILL));
		CHECK(waitpid(pid, &status, 0) == pid);
	}
}

static void op_userfaultfd(struct leaf *l)
{
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = (unsigned long)l->page, .len = SZ_4K },
	};

	if (fd < 0)
		done(NOTHING, "no userfaultfd(): %s", strerror(errno));
	CHECK(!ioctl(fd, UFFDIO_API, &api));
	for (int mode = 1; mode < 8; mode++) {
		reg.mode = mode;
		CHECK(ioctl(fd, UFFDIO_REGISTER, &reg));
	}
}

/* The kernel looks for the page, and has to find that there is none. */
static void op_gup(struct leaf *l)
{
	struct timespec now = {};
	struct iovec iov = { l->page, SZ_4K };
	int pipes[2];

	CHECK(!pipe(pipes));
	if (vmsplice(pipes[1], &iov, 1, SPLICE_F_NONBLOCK) < 0)
		errno = 0;
	syscall(SYS_futex, l->page, FUTEX_WAIT, load(l->page), &now, NULL, 0);
	syscall(SYS_futex, l->va, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Not of a device: a page of 1 GiB of hugetlbfs that is PROT_NONE */
static void op_hugetlb_debugger(struct leaf *l)
{
	char *p = mmap(NULL, SZ_1G, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | 30 << MAP_HUGE_SHIFT, -1, 0);
	int status;
	pid_t pid;

	(void)l;
	if (p == MAP_FAILED)
		done(NOTHING, "no page of 1 GiB: boot with hugepagesz=1G hugepages=1");
	p[SZ_2M] = 7;
	CHECK(!mprotect(p, SZ_1G, PROT_NONE));
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	/* It is killed, if this does not end. */
	alarm(10);
	errno = 0;
	CHECK(ptrace(PTRACE_PEEKDATA, pid, p + SZ_2M, 0) == 7);
	alarm(0);
	CHECK(!kill(pid, SIGKILL));
	CHECK(waitpid(pid, &status, 0) == pid);
}

/* The BAR is revoked while a child is made: the child has nothing of it. */
static void *revoke_thread(void *arg)
{
	struct revoke *r = arg;

	usleep(r->usec);
	memory_decode(r, false);
	return NULL;
}

static void op_fork_revoke(struct leaf *l)
{
	/* Not congruent to the BAR by 1 GiB: leaves of 2 MiB */
	char *va = l->free + SZ_2M, c;
	struct revoke r = {};
	int go[2], status;
	pthread_t thread;
	pid_t pid;
	__u32 v;

	can_revoke(l, &r);
	CHECK(mmap(va, SZ_1G, PROT_READ, MAP_SHARED | MAP_FIXED, l->device, l->offset) == va);
	madvise(va, SZ_1G, MADV_HUGEPAGE);
	for (r.usec = 0; r.usec < 20000; r.usec += 1000) {
		CHECK(reads(l, va, 0, SZ_1G));
		CHECK(!pipe(go));
		CHECK(!pthread_create(&thread, NULL, revoke_thread, &r));
		pid = fork();
		CHECK(pid >= 0);
		if (!pid) {
			close(go[1]);
			CHECK(!read(go[0], &c, 1));
			for (int i = 0; i < PROBES; i++)
				if (try_access(va + probe(i), &v, false) != SIGBUS)
					done(NOT_OK, "stale access: a child reads a revoked BAR");
			_exit(OK);
		}
		close(go[0]);
		CHECK(!pthread_join(thread, NULL));
		close(go[1]);
		CHECK(waitpid(pid, &status, 0) == pid);
		memory_decode(&r, true);
		if (WIFSIGNALED(status))
			done(NOT_OK, "a child: signal %d", WTERMSIG(status));
		if (status)
			_exit(NOT_OK);
	}
	CHECK(!munmap(va, SZ_1G));
}

/*
 * Two read what is mapped while two look at it, which splits the leaf: 5 seconds. A
 * leaf that is there again at once must not be taken for a table.
 */
static int stop;

static void *look(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		read_proc("self", arg);
	return NULL;
}

static void *read_all(void *arg)
{
	struct leaf *l = arg;

	for (unsigned long i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++)
		load(l->va + (i % 512) * SZ_2M);
	return NULL;
}

static void look_while_read(struct leaf *l, const char *file)
{
	pthread_t thread[4];

	for (int i = 0; i < 4; i++)
		CHECK(!pthread_create(&thread[i], NULL, i < 2 ? look : read_all,
				      i < 2 ? (void *)file : (void *)l));
	sleep(5);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 4; i++)
		CHECK(!pthread_join(thread[i], NULL));
}

static void op_race_numa_maps(struct leaf *l)
{
	look_while_read(l, "numa_maps");
}

static void op_race_smaps(struct leaf *l)
{
	look_while_read(l, "smaps");
}

/*
 * The BAR comes and goes while all of it is moved, to where no page table is yet: the
 * move sleeps to allocate one after it has seen the leaf, and must look again. And a
 * move must not hide the leaf from a revocation.
 */
static unsigned int flickers;	/* odd while the BAR is away */

/*
 * QEMU 7.2 without KVM loses an interrupt now and then when another CPU sets a timer or
 * ends an interrupt while a BAR comes or goes: not too often, and without a timer.
 */
static void busy_wait(unsigned int usec)
{
	struct timespec begin, now;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((now.tv_sec - begin.tv_sec) * 1000000 +
	       (now.tv_nsec - begin.tv_nsec) / 1000 < usec);
}

static void *flicker(void *arg)
{
	const struct revoke *r = arg;

	for (unsigned int i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
		memory_decode(r, false);
		__atomic_add_fetch(&flickers, 1, __ATOMIC_SEQ_CST);
		busy_wait(8000 + i % 64);
		__atomic_add_fetch(&flickers, 1, __ATOMIC_SEQ_CST);
		memory_decode(r, true);
		busy_wait(8000 + i % 48);
	}
	return NULL;
}

/* Is it readable all the time that it is away? */
static void not_stale(char *p)
{
	unsigned int before = __atomic_load_n(&flickers, __ATOMIC_SEQ_CST);
	__u32 v;

	if (!try_access(p, &v, false) && before & 1 &&
	    __atomic_load_n(&flickers, __ATOMIC_SEQ_CST) == before)
		done(NOT_OK, "stale access: a BAR that has been moved is readable, and revoked");
}

static void op_race_mremap(struct leaf *l)
{
	struct revoke r = {};
	pthread_t thread;
	int moved = 0;
	time_t end;

	can_revoke(l, &r);
	CHECK(!pthread_create(&thread, NULL, flicker, &r));
	end = time(NULL) + 3;
	for (unsigned long i = 0; time(NULL) < end; i++) {
		/* 16 to 48 TiB, by 512 GiB, where nothing is */
		char *to = (char *)((32 + i % 64) << 39);

		if (mmap(to, SZ_1G, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
			 MAP_FIXED_NOREPLACE, -1, 0) != to)
			continue;
		not_stale(l->va);
		CHECK(mremap(l->va, SZ_1G, SZ_1G, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
		CHECK(gone(l->va));
		not_stale(to);
		CHECK(mremap(to, SZ_1G, SZ_1G, MREMAP_MAYMOVE | MREMAP_FIXED, l->va) == l->va);
		CHECK(gone(to));
		moved++;
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	CHECK(!pthread_join(thread, NULL));
	if (!moved)
		done(NOTHING, "there are no user addresses above 16 TiB");
}

FIXTURE(vfio_leaf) {
	int kmsg;
};

FIXTURE_VARIANT(vfio_leaf) {
	void (*op)(struct leaf *l);
};

FIXTURE_VARIANT_ADD(vfio_leaf, munmap) { .op = op_munmap };
FIXTURE_VARIANT_ADD(vfio_leaf, munmap_2m) { .op = op_munmap_2m };
FIXTURE_VARIANT_ADD(vfio_leaf, munmap_head) { .op = op_munmap_head };
FIXTURE_VARIANT_ADD(vfio_leaf, mmap_over) { .op = op_mmap_over };
FIXTURE_VARIANT_ADD(vfio_leaf, mprotect) { .op = op_mprotect };
FIXTURE_VARIANT_ADD(vfio_leaf, mprotect_none) { .op = op_mprotect_none };
FIXTURE_VARIANT_ADD(vfio_leaf, pkey_mprotect) { .op = op_pkey_mprotect };
FIXTURE_VARIANT_ADD(vfio_leaf, madvise_dontfork) { .op = op_madvise_dontfork };
FIXTURE_VARIANT_ADD(vfio_leaf, madvise_random) { .op = op_madvise_random };
FIXTURE_VARIANT_ADD(vfio_leaf, madvise_other) { .op = op_madvise_other };
FIXTURE_VARIANT_ADD(vfio_leaf, process_madvise) { .op = op_process_madvise };
FIXTURE_VARIANT_ADD(vfio_leaf, mlock) { .op = op_mlock };
FIXTURE_VARIANT_ADD(vfio_leaf, mlockall) { .op = op_mlockall };
FIXTURE_VARIANT_ADD(vfio_leaf, mseal) { .op = op_mseal };
FIXTURE_VARIANT_ADD(vfio_leaf, mbind) { .op = op_mbind };
FIXTURE_VARIANT_ADD(vfio_leaf, move_pages) { .op = op_move_pages };
FIXTURE_VARIANT_ADD(vfio_leaf, mremap) { .op = op_mremap };
FIXTURE_VARIANT_ADD(vfio_leaf, mremap_2m) { .op = op_mremap_2m };
FIXTURE_VARIANT_ADD(vfio_leaf, mremap_half) { .op = op_mremap_half };
FIXTURE_VARIANT_ADD(vfio_leaf, mremap_all) { .op = op_mremap_all };
FIXTURE_VARIANT_ADD(vfio_leaf, mremap_all_2m) { .op = op_mremap_all_2m };
FIXTURE_VARIANT_ADD(vfio_leaf, mremap_all_4k) { .op = op_mremap_all_4k };
FIXTURE_VARIANT_ADD(vfio_leaf, mremap_shrink) { .op = op_mremap_shrink };
FIXTURE_VARIANT_ADD(vfio_leaf, mremap_refused) { .op = op_mremap_refused };
FIXTURE_VARIANT_ADD(vfio_leaf, remap_file_pages) { .op = op_remap_file_pages };
FIXTURE_VARIANT_ADD(vfio_leaf, fork) { .op = op_fork };
FIXTURE_VARIANT_ADD(vfio_leaf, fork_revoke) { .op = op_fork_revoke };
FIXTURE_VARIANT_ADD(vfio_leaf, smaps) { .op = op_smaps };
FIXTURE_VARIANT_ADD(vfio_leaf, numa_maps) { .op = op_numa_maps };
FIXTURE_VARIANT_ADD(vfio_leaf, pagemap) { .op = op_pagemap };
FIXTURE_VARIANT_ADD(vfio_leaf, clear_refs) { .op = op_clear_refs };
FIXTURE_VARIANT_ADD(vfio_leaf, soft_dirty) { .op = op_soft_dirty };
FIXTURE_VARIANT_ADD(vfio_leaf, mincore) { .op = op_mincore };
FIXTURE_VARIANT_ADD(vfio_leaf, msync) { .op = op_msync };
FIXTURE_VARIANT_ADD(vfio_leaf, debugger) { .op = op_debugger };
FIXTURE_VARIANT_ADD(vfio_leaf, userfaultfd) { .op = op_userfaultfd };
FIXTURE_VARIANT_ADD(vfio_leaf, gup) { .op = op_gup };
FIXTURE_VARIANT_ADD(vfio_leaf, hugetlb_debugger) { .op = op_hugetlb_debugger };
FIXTURE_VARIANT_ADD(vfio_leaf, race_numa_maps) { .op = op_race_numa_maps };
FIXTURE_VARIANT_ADD(vfio_leaf, race_smaps) { .op = op_race_smaps };
FIXTURE_VARIANT_ADD(vfio_leaf, race_mremap) { .op = op_race_mremap };

FIXTURE_SETUP(vfio_leaf)
{
	const char *why;

	self->kmsg = -1;
	if (shared->oopsed)
		SKIP(return, "the kernel has oopsed: reboot, and run it alone, with -v");
	if (shared->stuck > 2)
		SKIP(return, "three operations took too long");
	if (sysconf(_SC_PAGESIZE) != SZ_4K)
		SKIP(return, "pages are not 4 KiB");
	if (!shared->bound) {
		why = find_device(&shared->device);
		if (why)
			SKIP(return, "%s", why);
		shared->bound = true;
		if (!shared->device.vfio)
			bind_driver(shared->device.bdf, "vfio-pci", "vfio-pci");
	}
	/* Only root may read it. */
	self->kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	if (self->kmsg >= 0)
		lseek(self->kmsg, 0, SEEK_END);
}

FIXTURE_TEARDOWN(vfio_leaf)
{
	close(self->kmsg);
}

/* After others the kernel goes on. */
static bool is_oops(const char *message)
{
	return strstr(message, "BUG: unable") || strstr(message, "BUG: kernel NULL") ||
	       strstr(message, "Oops") || strstr(message, "kernel BUG") ||
	       strstr(message, "general protection");
}

static bool oops_seen;

/* The first message of the kernel that tells of a bug goes to @text, which is "" at first. */
static void bug_message(int kmsg, char *text, size_t len)
{
	static const char * const signs[] = {
		"BUG: ", "Oops", "WARNING: ", "kernel BUG", "general protection",
		"bad pud", "bad pmd", "Bad pagetable", "Corrupted page table", "Bad page",
	};
	char record[8192];
	ssize_t n;

	while (kmsg >= 0) {
		char *message;

		n = read(kmsg, record, sizeof(record) - 1);
		if (n < 0 && errno == EPIPE)	/* Some were lost. */
			continue;
		if (n <= 0)
			return;
		record[n] = 0;
		message = strchr(record, ';');
		/* Facility 0 is the kernel. */
		if (!message || strtoul(record, NULL, 10) >> 3)
			continue;
		message[strcspn(message, "\n")] = 0;
		oops_seen |= is_oops(message);
		for (unsigned int i = 0; i < sizeof(signs) / sizeof(*signs) && !text[0]; i++)
			if (strstr(message, signs[i]))
				snprintf(text, len, "%s", message + 1);
		/* And where it was */
		if (text[0] && !strstr(text, "RIP: ") && strstr(message, "RIP: "))
			snprintf(text + strlen(text), len - strlen(text), ", %s", message + 1);
	}
}

static __noreturn void work(const struct device *d, void (*op)(struct leaf *l))
{
	int null = open("/dev/null", O_RDWR);
	struct leaf l = {};
	bool huge;

	/* What it leaves behind must not keep the test's output open. */
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	huge = make_leaf(&l, d);
	op(&l);
	CHECK(reads(&l, l.va, 0, SZ_1G));
	munmap(l.va, SZ_1G);
	close(l.device);
	if (!huge)
		done(NOTHING, "passed, but without a leaf of 1 GiB: CPU, THP or options");
	_exit(OK);
}

TEST_F_TIMEOUT(vfio_leaf, operation, 100)
{
	char bug[200] = "";
	int status = 0;
	bool ended = false;
	pid_t pid;

	shared->why[0] = 0;
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		work(&shared->device, variant->op);
	for (int i = 0; i < 600 && !ended && !oops_seen; i++) {
		usleep(100 * 1000);
		ended = waitpid(pid, &status, WNOHANG) == pid;
		bug_message(self->kmsg, bug, sizeof(bug));
	}
	if (oops_seen) {
		sleep(1);
		bug_message(self->kmsg, bug, sizeof(bug));
	}
	if (!ended) {
		/* It may have been one of its threads. */
		shared->stuck++;
		kill(pid, SIGKILL);
		for (int i = 0; i < 20 && !ended; i++) {
			usleep(100 * 1000);
			ended = waitpid(pid, &status, WNOHANG) == pid;
		}
	}
	shared->oopsed = !ended || oops_seen;
	EXPECT_EQ(0, bug[0])
		TH_LOG("the kernel says: %s", bug);
	EXPECT_TRUE(ended)
		TH_LOG("the process does not end, not even killed");
	if (!ended)
		return;
	ASSERT_TRUE(WIFEXITED(status))
		TH_LOG("signal %d: 9 and 14 are given when it takes too long",
		       WTERMSIG(status));
	if (WEXITSTATUS(status) == NOTHING && !bug[0])
		SKIP(return, "%s", shared->why);
	EXPECT_EQ(OK, WEXITSTATUS(status))
		TH_LOG("%s", shared->why);
}

int main(int argc, char **argv)
{
	int status = 0;
	pid_t pid;

	/* As the other tests of vfio: [options] BDF */
	if (argc > 1 && strchr(argv[argc - 1], ':'))
		setenv("VFIO_SELFTESTS_BDF", argv[--argc], 1);
	/* Whoever ends the tests does not end this: the device is given back. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	pid = fork();
	if (!pid) {
		signal(SIGTERM, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		exit(test_harness_run(argc, argv));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return KSFT_FAIL;
	/* After an oops it would wait for the device to be closed. */
	if (shared->bound && !shared->oopsed && !shared->device.vfio)
		bind_driver(shared->device.bdf, shared->device.override, shared->device.driver);
	return WIFEXITED(status) ? WEXITSTATUS(status) : KSFT_FAIL;
}
