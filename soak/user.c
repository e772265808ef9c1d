// SPDX-License-Identifier: GPL-2.0
/*
 * User mappings. The model: a sorted list of pieces of the worker's window, each with
 * its file, the page of the BAR that its first page shows, and its protection. A piece
 * never covers more than one VMA.
 */
#include "soak.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define WINDOW_PAGES	(6 * PAGES_1G)

enum source {
	SRC_SYSFS, SRC_SYSFS_WC, SRC_MEM, SRC_DRIVER, SRC_EXTENT, SRC_VFIO, SRC_IOPMEM,
	SRC_DAX, SRC_P2P, NR_SOURCE,
};

static struct source_file {
	const char *name;
	int fd;
	u64 at;			/* of the BAR in the file, in bytes */
	u64 first, end;		/* pages of the BAR that it maps */
	bool can_private;
	bool faults;		/* maps when it is touched */
	bool known;		/* what maps says is known */
	u64 maps;		/* offset of the BAR in /proc/self/maps */
} sources[NR_SOURCE] = {
	[SRC_SYSFS] = { "sysfs", .end = UC_END, .can_private = true },
	[SRC_SYSFS_WC] = { "sysfs_wc", .first = UC_END, .end = WC_END, .can_private = true },
	[SRC_MEM] = { "mem", .end = UC_END, .can_private = true },
	[SRC_DRIVER] = { "driver", .end = UC_END },
	[SRC_EXTENT] = { "extent", .end = UC_END, .faults = true },
	[SRC_VFIO] = { "vfio", .end = UC_END, .faults = true },
	[SRC_IOPMEM] = { "iopmem", .end = BAR_PAGES, .faults = true },
	[SRC_DAX] = { "DAX", .end = BAR_PAGES, .can_private = true, .faults = true },
	[SRC_P2P] = { "p2pmem", .end = BAR_PAGES, .faults = true },
};

/* What madvise() leaves in a VMA: a piece is cut where it differs. */
#define A_RANDOM	0x01
#define A_SEQ		0x02
#define A_HUGE		0x04
#define A_NOHUGE	0x08
#define A_DONTDUMP	0x10
#define A_DONTFORK	0x20
/* MADV_REMOVE has given the memory back. */
#define A_REMOVED	0x40
/* It is not known if a child has it. */
#define A_UNKNOWN	0x80

struct piece {
	u64 start, end;		/* pages of the window */
	u64 page;		/* of the BAR, at start */
	u8 src, prot, shared, advice;
};

#define MAX_PIECES	1024
static struct piece pieces[MAX_PIECES + 8];
static int nr_pieces;
static bool decode_off;
static u32 gone_sources;	/* bits: what they show has gone for now */
static char *window;

static int vfio_device = -1;
static u64 vfio_config;
static int uffd = -1, copy_file = -1, ring = -1, pkey = -1;
static u32 stamps[PAGES_2M * PAGE / 4];	/* what is written to a file */

enum kind {
	OP_MAP, OP_UNMAP, OP_PROTECT, OP_MOVE, OP_SHRINK, OP_GROW, OP_ADVISE, OP_LOCK,
	OP_UNLOCK, OP_BIND, OP_UFFD, OP_FORK, OP_LIMIT, OP_PROC, OP_DECODE, OP_ANYWHERE,
	OP_MEM_FILE, OP_MTRR, OP_PIN, OP_COPY, OP_STAY, OP_RECLAIM, OP_UNBIND, OP_REMOVE,
	OP_TRACE, OP_PUNCH, NR_KIND,
};
static const char * const kind_names[NR_KIND] = {
	"mmap", "munmap", "mprotect", "mremap", "mremap_shrink", "mremap_grow", "madvise",
	"mlock", "munlock", "mbind", "userfaultfd", "fork", "limit", "proc", "decode",
	"mmap_anywhere", "proc_mem", "mtrr", "pin", "copy", "mremap_dontunmap", "reclaim",
	"unbind", "remove", "ptrace", "punch",
};
static u64 done[NR_KIND], refused[NR_KIND], failed_alloc[NR_KIND];

static char *addr_of(u64 page)
{
	return window + page * PAGE;
}

/* The piece with @page, or NULL */
static struct piece *find(u64 page)
{
	int lo = 0, hi = nr_pieces;

	while (lo < hi) {
		int mid = (lo + hi) / 2;

		if (pieces[mid].end <= page)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < nr_pieces && pieces[lo].start <= page ? &pieces[lo] : NULL;
}

/* Cut at @page: the index of the first piece that begins there or later */
static int cut(u64 page)
{
	int i = 0;

	while (i < nr_pieces && pieces[i].end <= page)
		i++;
	if (i < nr_pieces && pieces[i].start < page) {
		memmove(&pieces[i + 1], &pieces[i], (nr_pieces - i) * sizeof(*pieces));
		nr_pieces++;
		pieces[i].end = page;
		pieces[i + 1].page += page - pieces[i + 1].start;
		pieces[i + 1].start = page;
		i++;
	}
	return i;
}

static void forget(u64 start, u64 end)
{
	int i = cut(start), k = cut(end);

	memmove(&pieces[i], &pieces[k], (nr_pieces - k) * sizeof(*pieces));
	nr_pieces -= k - i;
}

static void remember(struct piece p)
{
	int i;

	forget(p.start, p.end);
	i = cut(p.start);
	memmove(&pieces[i + 1], &pieces[i], (nr_pieces - i) * sizeof(*pieces));
	nr_pieces++;
	pieces[i] = p;
}

/* Where the first hole of [start, end) begins; end if there is none */
static u64 first_hole(u64 start, u64 end)
{
	while (start < end) {
		struct piece *p = find(start);

		if (!p)
			return start;
		start = p->end;
	}
	return end;
}

/* A piece that has a page of [start, end), or NULL */
static struct piece *first_piece(u64 start, u64 end)
{
	for (int i = 0; i < nr_pieces; i++)
		if (pieces[i].start < end && pieces[i].end > start)
			return &pieces[i];
	return NULL;
}

/* Accesses that may fault */

static __thread sigjmp_buf env;
static __thread volatile sig_atomic_t may_fault;
static __thread volatile int fault_signal, fault_code;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!may_fault) {
		signal(sig, SIG_DFL);
		return;
	}
	fault_signal = sig;
	fault_code = info->si_code;
	siglongjmp(env, 1);
}

static bool try_access(volatile u32 *p, u32 *get, const u32 *set)
{
	bool ok = false;

	may_fault = 1;
	if (!sigsetjmp(env, 0)) {
		if (set)
			*p = *set;
		else
			*get = *p;
		ok = true;
	}
	may_fault = 0;
	/* The handler of a signal has no rights to it, and does not return. */
	if (!ok && pkey > 0)
		pkey_set(pkey, 0);
	return ok;
}

static bool try_load(volatile u32 *p, u32 *v)
{
	return try_access(p, v, NULL);
}

static bool try_store(volatile u32 *p, u32 v)
{
	return try_access(p, NULL, &v);
}

/* What a piece showed has gone for now */
static bool gone(const struct piece *p)
{
	return gone_sources >> p->src & 1 || p->advice & A_REMOVED;
}

/* Where a word of a page of the BAR can be seen: in the mirror, if there is one */
static volatile u32 *real_word(volatile u32 *at, u64 page, u64 word)
{
	return mirror ? mirror_of(page) + word : at + word;
}

/* One page of the window against the model */
static bool look(u64 page, bool store)
{
	struct piece *p = find(page);
	const bool there = p && !gone(p);
	const bool readable = there && p->prot & PROT_READ;
	volatile u32 *at = (volatile u32 *)addr_of(page);
	static u32 stores;
	u64 bar, word = 1 + worker_nr;
	u32 v = 0, w = 0;

	if (try_load(at, &v) != readable)
		return soak_bad("page %#lx: %s", (long)page, readable ?
				"cannot be read" : "can be read");
	if (!readable) {
		const int sig = p && !there && p->prot & PROT_READ ? SIGBUS : SIGSEGV;

		if (fault_signal != sig)
			return soak_bad("page %#lx: signal %d, not %d", (long)page,
					fault_signal, sig);
		if (sig == SIGSEGV && fault_code != (p ? SEGV_ACCERR : SEGV_MAPERR))
			return soak_bad("page %#lx: si_code %d", (long)page, fault_code);
		return !store || !try_store(at + word, 0) ||
		       soak_bad("page %#lx: can be written", (long)page);
	}
	bar = p->page + page - p->start;
	if (decode_off) {
		if (v && v != ~0U)
			return soak_bad("page %#lx: %#x without decode", (long)page, v);
		return true;
	}
	if (v != stamp(bar))
		return soak_bad("page %#lx: shows %#x, not page %#lx of the BAR",
				(long)page, v, (long)bar);
	if (!store)
		return true;
	v = ++stores;
	if (p->prot & PROT_WRITE && p->shared) {
		if (!try_store(at + word, v))
			return soak_bad("page %#lx: cannot be written", (long)page);
		w = *real_word(at, bar, word);
		if (w != v)
			return soak_bad("page %#lx: %#x written, %#x in page %#lx of the BAR",
					(long)page, v, w, (long)bar);
	} else if (!(p->prot & PROT_WRITE) && try_store(at + word, v)) {
		return soak_bad("page %#lx: can be written", (long)page);
	}
	return true;
}

static bool look_at(struct rnd *r, u64 start, u64 end)
{
	const u64 at[] = {
		start - 1, start, start + below(r, end - start), end - 1, end,
	};

	for (unsigned int i = 0; i < 5; i++)
		if (at[i] < WINDOW_PAGES && !look(at[i], below(r, 3) == 0))
			return false;
	/* And some elsewhere */
	for (int i = below(r, 4) ? 2 : 0; i < 3 && nr_pieces; i++) {
		struct piece *p = &pieces[below(r, nr_pieces)];

		if (!look(below(r, 2) ? p->start : p->end - 1, below(r, 3) == 0) ||
		    !look(p->start + below(r, p->end - p->start), false))
			return false;
	}
	return true;
}

/* Against /proc/self/maps: as the pieces of one line that begins here */
static bool compare_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	u64 seen = 0, want = 0;
	char line[512];

	if (!f)
		return soak_bad("/proc/self/maps: %s", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		unsigned long start, end, offset;
		char prot[5];

		if (sscanf(line, "%lx-%lx %4s %lx", &start, &end, prot, &offset) != 4 ||
		    start < (unsigned long)window ||
		    end > (unsigned long)window + WINDOW_PAGES * PAGE)
			continue;
		start = (start - (unsigned long)window) / PAGE;
		end = (end - (unsigned long)window) / PAGE;
		seen += end - start;
		for (u64 at = start; at < end;) {
			struct piece *p = find(at);
			struct source_file *src;
			u64 maps;

			if (!p) {
				fclose(f);
				return soak_bad("maps: page %#lx is mapped", (long)at);
			}
			src = &sources[p->src];
			/* As if the BAR began there */
			maps = offset + (at - start) * PAGE - (p->page + at - p->start) * PAGE;
			if (!src->known) {
				src->known = true;
				src->maps = maps;
			}
			/* Each has a file of its own. */
			if (p->src == SRC_P2P)
				maps = src->maps;
			if (src->maps != maps || (prot[0] == 'r') != !!(p->prot & PROT_READ) ||
			    (prot[1] == 'w') != !!(p->prot & PROT_WRITE) ||
			    (prot[3] == 's') != p->shared) {
				fclose(f);
				return soak_bad("maps: page %#lx: %s offset %#lx", (long)at, prot,
						offset);
			}
			at = p->end;
		}
	}
	fclose(f);
	for (int i = 0; i < nr_pieces; i++)
		want += pieces[i].end - pieces[i].start;
	return seen == want || soak_bad("maps: %ld pages, not %ld", (long)seen, (long)want);
}

/* What smaps says of the leaves: all of what is mapped when mmap() returns is there */
static bool compare_smaps(void)
{
	static const char * const keys[] = { "PfnPteMapped:", "PfnPmdMapped:", "PfnPudMapped:" };
	FILE *f = fopen("/proc/self/smaps", "re");
	long kib = -1, size = -1, sum = 0, lines = 0;
	struct piece *p = NULL;
	char line[512];
	bool ok = true;

	if (!f)
		return true;
	while (ok && fgets(line, sizeof(line), f)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx %*4s", &start, &end) == 2) {
			p = NULL;
			if (start >= (unsigned long)window &&
			    end <= (unsigned long)window + WINDOW_PAGES * PAGE)
				p = find((start - (unsigned long)window) / PAGE);
			size = (end - start) / 1024;
			sum = lines = 0;
			continue;
		}
		for (int i = 0; p && i < 3; i++) {
			if (strncmp(line, keys[i], strlen(keys[i])))
				continue;
			kib = atol(line + strlen(keys[i]));
			sum += kib;
			lines++;
			if (kib % (i == 2 ? 1048576 : i ? 2048 : 4))
				ok = soak_bad("smaps: %s", line);
		}
		if (p && lines == 3) {
			if (sum > size || (!sources[p->src].faults && sum != size))
				ok = soak_bad("smaps: %ld of %ld kB from page %#lx on", sum, size,
					      (long)p->start);
			p = NULL;
		}
	}
	fclose(f);
	return ok;
}

/* Of this process: what was open before fork() is its parent's. */
static bool read_own(const char *name, void *buf, size_t len, off_t at)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	bool ok = fd >= 0 && pread(fd, buf, len, at) == (ssize_t)len;
	int err = errno;

	if (fd >= 0)
		close(fd);
	errno = err;
	return ok;
}

/* What pagemap says of a page that is mapped */
static bool compare_pagemap(struct rnd *r)
{
	struct piece *p;
	u64 at, entry, pfn;

	if (!nr_pieces)
		return true;
	p = &pieces[below(r, nr_pieces)];
	at = p->start + below(r, p->end - p->start);
	if (!read_own("/proc/self/pagemap", &entry, 8, (unsigned long)addr_of(at) / PAGE * 8))
		return soak_bad("pagemap: %s", strerror(errno));
	pfn = entry & ((1ULL << 55) - 1);
	/* Where a file or p2pmem is in the BAR is not known: what is there shows it. */
	if (raw_bar && entry >> 63 && pfn && !gone(p)) {
		const u64 raw = pfn - bar_phys / PAGE;

		return (raw < raw_pages && raw_bar[raw * (PAGE / 4)] ==
			stamp(p->page + at - p->start)) ||
		       soak_bad("pagemap: page %#lx: %#llx, which has %#x", (long)at,
				(long long)entry, raw < raw_pages ? raw_bar[raw * (PAGE / 4)] : 0);
	}
	if (entry >> 62 & 1 || (entry >> 63 && pfn && !raw_bar &&
				pfn != bar_phys / PAGE + p->page + at - p->start))
		return soak_bad("pagemap: page %#lx: %#llx", (long)at, (long long)entry);
	return true;
}

/* sysfs and /dev/mem let a debugger in. */
static bool debuggable(const struct piece *p)
{
	return p->src == SRC_SYSFS || p->src == SRC_SYSFS_WC || p->src == SRC_MEM;
}

/* Read a page of the window by /proc/self/mem: as a debugger does */
static bool compare_mem_file(struct rnd *r)
{
	struct piece *p;
	u32 v;
	u64 at;

	if (!nr_pieces || decode_off)
		return true;
	p = &pieces[below(r, nr_pieces)];
	at = p->start + below(r, p->end - p->start);
	if (!read_own("/proc/self/mem", &v, 4, (unsigned long)addr_of(at))) {
		refused[OP_MEM_FILE]++;
		return !debuggable(p) ||
			soak_bad("/proc/self/mem: page %#lx: %s", (long)at, strerror(errno));
	}
	return v == stamp(p->page + at - p->start) ||
		soak_bad("/proc/self/mem: page %#lx: %#x", (long)at, v);
}

/* A debugger reads a page, and writes a word that is 64 bits wide */
static bool do_trace(const struct op *op, bool *failed)
{
	static long traces;
	struct piece *p = find(op->a);
	const u64 word = 64 + 2 * worker_nr;
	volatile u32 *at = (volatile u32 *)addr_of(op->a), *real;
	long v = 0;
	u64 bar;
	int err;

	if (decode_off)
		return true;
	/* It is the debugger whose allocations would fail. */
	*failed = false;
	err = trace_word((void *)at, &v, false);
	if (err < 0)
		return soak_bad("no debugger");
	if (!p || gone(p)) {
		refused[OP_TRACE]++;
		return err == EIO || soak_bad("ptrace reads page %#lx: %#lx", (long)op->a, v);
	}
	bar = p->page + op->a - p->start;
	if (err) {
		refused[OP_TRACE]++;
		return (!debuggable(p) && err == EIO) ||
		       soak_bad("ptrace: page %#lx: %s", (long)op->a, strerror(err));
	}
	if ((u32)v != stamp(bar))
		return soak_bad("ptrace: page %#lx: %#lx", (long)op->a, v);
	if (op->d % 2 || !p->shared)
		return true;
	/* A page of sysfs is write-protected until it is written. */
	if (p->prot & PROT_WRITE && !try_store(at + word, 0))
		return soak_bad("page %#lx: cannot be written", (long)op->a);
	v = 0x100000001 * (u32)++traces;
	err = trace_word((void *)(at + word), &v, true);
	if (p->prot & PROT_WRITE ? err != 0 : err != EIO)
		return soak_bad("ptrace writes to page %#lx: %s", (long)op->a, strerror(err));
	real = real_word(at, bar, word);
	return err || (real[0] == (u32)v && real[1] == (u32)v) ||
	       soak_bad("ptrace writes %#lx to page %#lx: %#x %#x", v, (long)op->a, real[0],
			real[1]);
}

static bool do_proc(struct rnd *r)
{
	return compare_maps() && compare_smaps() && compare_pagemap(r);
}

static bool set_decode(bool on)
{
	u16 command;

	if (pread(vfio_device, &command, 2, vfio_config + 4) != 2)
		return false;
	command = on ? command | 2 : command & ~2;
	return pwrite(vfio_device, &command, 2, vfio_config + 4) == 2;
}

/*
 * Faults and accesses, while the mappings change. What a page shows is not known, but
 * that it is one of the BAR: with threads, decode stays on.
 */
static volatile bool touch_bad;
static volatile u32 touch_saw;
static bool touching;

static void *touch(void *arg)
{
	struct rnd r = { (unsigned long)arg };

	while (!touch_bad) {
		volatile u32 *at = (volatile u32 *)addr_of(near_leaf(&r, 0, WINDOW_PAGES));
		u32 v = 0;

		/* Memory that nobody has had yet has no stamp. */
		if (try_load(at, &v) && (owner == OWNER_P2P ? v && v >> 28 != stamp(0) >> 28 :
					 v - stamp(0) >= BAR_PAGES)) {
			touch_saw = v;
			touch_bad = true;
		}
		/* No worker looks at this word. */
		try_store(at + PAGE / 4 - 1, v);
	}
	return NULL;
}

static bool start_touching(void)
{
	pthread_t thread;

	for (long i = 0; i < opt_touch && !touching; i++)
		if (pthread_create(&thread, NULL, touch, (void *)(i + 1)))
			return soak_bad("no thread");
	touching = true;
	return !touch_bad || soak_bad("a thread saw %#x", touch_saw);
}

static int open_resource(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", bar_device, name);
	return open(path, O_RDWR | O_CLOEXEC);
}

/* What can be mapped: false, with errno, if something cannot be opened */
static bool open_sources(void)
{
	switch (owner) {
	case OWNER_DAX:
		sources[SRC_DAX].fd = open_dax();
		return sources[SRC_DAX].fd >= 0;
	case OWNER_P2P:
		sources[SRC_P2P].fd = open_p2p();
		return sources[SRC_P2P].fd >= 0;
	case OWNER_IOPMEM:
		sources[SRC_IOPMEM].fd = open_iopmem();
		/* Struct pages that are write-combining let nothing else in. */
		sources[SRC_SYSFS_WC].fd = open_resource("resource2_wc");
		return sources[SRC_IOPMEM].fd >= 0 && sources[SRC_SYSFS_WC].fd >= 0;
	case OWNER_VFIO:
	case OWNER_CDEV:
		vfio_device = open_vfio(&sources[SRC_VFIO].at, &vfio_config);
		sources[SRC_VFIO].fd = vfio_device;
		if (vfio_device < 0)
			return false;
		break;
	case OWNER_NONE:
		sources[SRC_DRIVER].fd = open("/dev/test_huge_map", O_RDWR | O_CLOEXEC);
		sources[SRC_EXTENT].fd = sources[SRC_DRIVER].fd;
		sources[SRC_EXTENT].at = 0x07000000000ULL;	/* THE_MMAP */
		if (sources[SRC_DRIVER].fd < 0)
			return false;
	}
	sources[SRC_SYSFS].fd = open_resource("resource2");
	sources[SRC_SYSFS_WC].fd = open_resource("resource2_wc");
	sources[SRC_MEM].fd = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
	sources[SRC_MEM].at = bar_phys;
	return sources[SRC_SYSFS].fd >= 0 && sources[SRC_SYSFS_WC].fd >= 0 &&
	       sources[SRC_MEM].fd >= 0;
}

static void close_sources(void)
{
	for (int i = 0; i < NR_SOURCE; i++) {
		if (sources[i].fd >= 0 && i != SRC_EXTENT)
			close(sources[i].fd);
		sources[i].fd = -1;
	}
}

/* vfio devices are opened once: the parent has it. */
static bool reopen(void)
{
	if (owner == OWNER_VFIO || owner == OWNER_CDEV)
		return true;
	close_sources();
	write_text("/sys/kernel/mm/huge_iomap/limit", "1G");
	return (find_bar() && map_mirror(false) && open_sources()) ||
	       soak_bad("the BAR is not as it was: %s", strerror(errno));
}

void munmap_window(void)
{
	munmap(window, WINDOW_PAGES * PAGE);
}

static bool prepare(void)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
	struct uffdio_api api = { .api = UFFD_API };

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	window = (char *)(0x100000000000UL + worker_nr * 0x1000000000UL);
	for (int i = 0; i < NR_SOURCE; i++)
		sources[i].fd = -1;
	if (!open_sources())
		return soak_bad("no device: %s", strerror(errno));
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd >= 0)
		ioctl(uffd, UFFDIO_API, &api);
	copy_file = memfd_create("copy", MFD_CLOEXEC);
	if (copy_file < 0 || ftruncate(copy_file, PAGE))
		return soak_bad("no file: %s", strerror(errno));
	ring = syscall(SYS_io_uring_setup, 2, &(struct io_uring_params) {});
	pkey = pkey_alloc(0, 0);
	/* Its page tables are there before they are counted. */
	memset(stamps, 1, sizeof(stamps));
	return true;
}

/* Page tables and memory types: what is left when nothing is mapped */
static bool user_reset(bool first)
{
	static long tables;
	struct rnd r = {};
	long now;

	fail_nth(0);
	/* In a child, which does operations again, the device may have gone and come. */
	if (window ? first && !reopen() : !prepare())
		return false;
	drop_mtrr();
	if (!start_touching())
		return false;
	if (!first && !do_proc(&r))
		return false;
	if (munmap(window, WINDOW_PAGES * PAGE))
		return soak_bad("munmap of all: %s", strerror(errno));
	nr_pieces = 0;
	/* What these take stays: that of the heap. */
	if (first)
		do_proc(&r);
	if (decode_off && !set_decode(true))
		return soak_bad("decode: %s", strerror(errno));
	decode_off = false;
	gone_sources = 0;
	if (!compare_maps())
		return false;
	if (owner == OWNER_P2P && opt_alone && p2p_used())
		return soak_bad("%ld bytes of p2pmem are not free", p2p_used());
	write_text("/sys/kernel/mm/huge_iomap/limit", "1G");
	if (!drop_faulted_mirror())
		return soak_bad("the mirror cannot be mapped: %s", strerror(errno));
	now = read_number("/proc/self/status", "VmPTE:");
	/* Each thread has a stack of its own, which it may touch later. */
	if (!first && now > tables + 12 * opt_touch)
		return soak_bad("%ld KiB of page tables are left", now - tables);
	if (first || !opt_touch)
		tables = now;
	return same_types(first);
}

static void choose_range(struct rnd *r, struct op *op)
{
	if (nr_pieces && below(r, 8)) {
		/* In a piece, from it on, or over it */
		struct piece *p = &pieces[below(r, nr_pieces)];

		op->a = below(r, 3) ? near_leaf(r, p->start, p->end) : p->start;
		op->b = some_length(r, below(r, 4) ? p->end - op->a : WINDOW_PAGES - op->a);
	} else {
		op->a = near_leaf(r, 0, WINDOW_PAGES);
		op->b = some_length(r, WINDOW_PAGES - op->a);
	}
}

/* Of mmap() */
#define F_PRIVATE	1
#define F_GENTLE	2

static void choose_source(struct rnd *r, struct op *op)
{
	struct source_file *src;

	do {
		op->src = below(r, NR_SOURCE);
		src = &sources[op->src];
	} while (src->fd < 0);
	op->c = op->src == SRC_P2P ? 0 : near_leaf(r, src->first, src->end);
	if (op->b > src->end - op->c)
		op->b = src->end - op->c;
	/* As who maps it likes it: congruent, or not */
	if (op->kind == OP_MAP && below(r, 4)) {
		u64 size = below(r, 2) ? PAGES_1G : PAGES_2M;
		u64 a = op->a / size * size + op->c % size;

		if (a + op->b <= WINDOW_PAGES)
			op->a = a;
	}
	op->flags = src->can_private && !below(r, 6) ? F_PRIVATE : 0;
	/* The place is a wish, or has to be free. */
	if (!below(r, 6))
		op->flags |= F_GENTLE;
	/* So many PTEs take long, and so does it to stamp pages. */
	if (op->kind == OP_MAP && op->b > 4 * PAGES_2M && below(r, 50) &&
	    ((op->a - op->c) % PAGES_2M || op->src == SRC_P2P))
		op->b = 1 + op->b % (4 * PAGES_2M);
}

static void user_choose(struct op *op)
{
	static const u8 prots[] = {
		PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_NONE,
	};
	static const u8 often[] = {
		OP_MAP, OP_MAP, OP_MAP, OP_MAP, OP_UNMAP, OP_UNMAP, OP_UNMAP, OP_PROTECT,
		OP_PROTECT, OP_PROTECT, OP_MOVE, OP_MOVE, OP_MOVE, OP_MOVE, OP_SHRINK, OP_GROW,
		OP_ADVISE, OP_ADVISE, OP_LOCK, OP_UNLOCK, OP_BIND, OP_UFFD, OP_ANYWHERE,
		OP_MEM_FILE, OP_MEM_FILE, OP_PIN, OP_COPY, OP_COPY, OP_STAY, OP_TRACE,
	};
	static const u16 advices[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED,
		MADV_FREE, MADV_REMOVE, MADV_DONTFORK, MADV_DOFORK, MADV_MERGEABLE, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP, MADV_WIPEONFORK, MADV_COLD,
		MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE, 24 /* DONTNEED_LOCKED */,
		25 /* COLLAPSE */,
	};
	struct rnd *r = &rnd;

	op->kind = often[below(r, sizeof(often))];
	if (!below(r, 150))
		op->kind = OP_FORK;
	else if (!below(r, 40))
		op->kind = OP_LIMIT;
	else if (!below(r, 200))
		op->kind = OP_PROC;
	else if (!below(r, 100) && vfio_device >= 0 && opt_alone)
		op->kind = OP_DECODE;
	/* Over write-combining struct pages there can be none. */
	if (!below(r, 400) && owner < OWNER_IOPMEM)
		op->kind = OP_MTRR;
	else if (!below(r, 2000) && opt_alone &&
		 (owner == OWNER_IOPMEM || owner == OWNER_P2P))
		op->kind = OP_UNBIND;
	else if (!below(r, 4000) && opt_alone &&
		 (owner == OWNER_NONE || owner == OWNER_IOPMEM))
		op->kind = OP_REMOVE;
	else if (!below(r, 100) && opt_alone && owner == OWNER_DAX)
		op->kind = OP_PUNCH;
	else if (!below(r, 2000))
		op->kind = OP_RECLAIM;
	if (nr_pieces > MAX_PIECES / 4) {
		op->kind = OP_UNMAP;
		op->b = WINDOW_PAGES;
		return;
	}
	choose_range(r, op);
	op->prot = prots[below(r, sizeof(prots))];
	op->advice = advices[below(r, sizeof(advices) / sizeof(*advices))];
	/* The file would have holes: see OP_PUNCH. */
	if (op->advice == MADV_REMOVE && owner == OWNER_DAX)
		op->advice = MADV_DONTNEED;
	/* What it has is not known before it is mapped. */
	if (op->kind == OP_ANYWHERE && owner == OWNER_P2P)
		op->kind = OP_MAP;
	op->d = near_leaf(r, 0, WINDOW_PAGES);
	if (op->kind == OP_MAP || op->kind == OP_ANYWHERE)
		choose_source(r, op);
	if (op->kind == OP_MOVE || op->kind == OP_STAY) {
		/* Where its leaves fit, more often than not */
		if (below(r, 3)) {
			u64 size = below(r, 2) ? PAGES_1G : PAGES_2M;

			op->d = op->d / size * size + op->a % size;
		}
		if (op->b > 4 * PAGES_2M && below(r, 50))
			op->d = op->d / PAGES_2M * PAGES_2M + op->a % PAGES_2M;
		if (op->d + op->b > WINDOW_PAGES)
			op->d = 0;
		op->flags = below(r, 8) != 0;	/* to a place of our choice */
	}
	if (op->kind == OP_PROTECT)
		op->flags = !below(r, 4);
	if (op->kind == OP_LIMIT)
		op->a = below(r, 4);
	if (op->kind == OP_GROW)
		op->d = 1 + below(r, PAGES_2M);
	if (opt_fail && !below(r, 6))
		op->fail_nth = below(r, 60) ? 1 + below(r, 8) : FAIL_CHARGE + below(r, 4);
	/* The child would have the limit, too. */
	if (op->kind == OP_FORK && op->fail_nth >= FAIL_CHARGE)
		op->fail_nth = 1;
	if (op->kind == OP_PUNCH) {
		/* Shorter: all that it loses has to be written again. */
		op->flags = below(r, 2);
		op->c = near_leaf(r, op->flags ? BAR_PAGES - 16 * PAGES_2M : 0, BAR_PAGES);
		if (!op->flags && nr_pieces && below(r, 2)) {
			struct piece *p = &pieces[below(r, nr_pieces)];

			op->c = near_leaf(r, p->page, p->page + p->end - p->start);
		}
		op->d = op->flags ? BAR_PAGES - op->c : 1 + below(r, 6 * PAGES_2M);
		op->d = op->d < BAR_PAGES - op->c ? op->d : BAR_PAGES - op->c;
	}
	if (op->kind == OP_MTRR) {
		op->c = near_leaf(r, 0, BAR_PAGES);
		op->d = 1ULL << below(r, 19);
		op->flags = below(r, 2);
	}
	if (op->kind == OP_LIMIT || op->kind == OP_PROC || op->kind == OP_DECODE ||
	    op->kind == OP_MTRR || op->kind == OP_RECLAIM || op->kind == OP_UNBIND ||
	    op->kind == OP_REMOVE || op->kind == OP_TRACE || op->kind == OP_PUNCH)
		op->fail_nth = 0;
}

/*
 * Errors of mmap() of a source. /dev/mem makes EAGAIN of all errors, remap_pfn_range()
 * EINVAL of those of PAT; the test driver has one lock, and does not wait for it.
 */
static bool map_may_fail(int src, bool failed, int err)
{
	if (src == SRC_DRIVER && err == EAGAIN && !opt_alone)
		return true;
	/* There is only so much of it in one piece. */
	if (src == SRC_P2P && err == ENOMEM && p2p_used())
		return true;
	return failed && (err == ENOMEM || err == EINVAL || (src == SRC_MEM && err == EAGAIN));
}

/* p2pmem has no contents of its own: numbers that no other page has */
static u64 new_pages(u64 nr)
{
	static u64 used;

	if (used + nr > 1 << 24)
		used = 0;
	used += nr;
	return ((u64)worker_nr << 24) + used - nr;
}

static bool stamp_pages(const struct piece *p)
{
	for (u64 i = 0; i < p->end - p->start; i++)
		if (!try_store((volatile u32 *)addr_of(p->start + i), stamp(p->page + i)))
			return soak_bad("p2pmem: page %#lx cannot be written",
					(long)(p->start + i));
	return !mprotect(addr_of(p->start), (p->end - p->start) * PAGE, p->prot) ||
	       soak_bad("mprotect of p2pmem: %s", strerror(errno));
}

static bool do_map(const struct op *op, bool *failed)
{
	struct source_file *src = &sources[op->src];
	const bool private = op->flags & F_PRIVATE;
	int flags = private ? MAP_PRIVATE : MAP_SHARED;
	/* Nobody writes to a private mapping here: it would no longer be the BAR. */
	int prot = private ? op->prot & ~PROT_WRITE : op->prot, map_prot = prot;
	char *at = addr_of(op->a), *got;
	bool busy;
	struct piece p = {
		.start = op->a, .end = op->a + op->b, .page = op->c, .src = op->src,
		.prot = prot, .shared = !private,
	};

	if (op->src == SRC_P2P) {
		p.page = new_pages(op->b);
		map_prot = PROT_READ | PROT_WRITE;
	}
	busy = op->flags & F_GENTLE && first_piece(op->a, op->a + op->b);
	flags |= op->flags & F_GENTLE ? MAP_FIXED_NOREPLACE : MAP_FIXED;
	fail_nth(op->fail_nth);
	got = mmap(at, op->b * PAGE, map_prot, flags, src->fd, src->at + op->c * PAGE);
	*failed = op->fail_nth && fail_end();
	if (got == at && !busy) {
		remember(p);
		return op->src != SRC_P2P || stamp_pages(&p);
	}
	if (busy) {
		refused[OP_MAP]++;
		return (got == MAP_FAILED && errno == EEXIST) ||
		       soak_bad("mmap over what is there, with MAP_FIXED_NOREPLACE: %p", got);
	}
	if (got != MAP_FAILED)
		return soak_bad("mmap at %p: %p", at, got);
	if (!map_may_fail(op->src, *failed, errno))
		return soak_bad("mmap: %s", strerror(errno));
	refused[OP_MAP]++;
	/* What was there before may be gone. */
	if (munmap(at, op->b * PAGE))
		return soak_bad("munmap: %s", strerror(errno));
	forget(op->a, op->a + op->b);
	return true;
}

/* Where the kernel likes, maybe with a wish, then into the window */
static bool do_anywhere(const struct op *op, struct rnd *r, bool *failed)
{
	struct source_file *src = &sources[op->src];
	u64 bytes = op->b * PAGE;
	volatile u32 *at, *to = (volatile u32 *)addr_of(op->a);
	u32 v;

	fail_nth(op->fail_nth);
	at = mmap(op->flags & F_GENTLE ? (void *)to : NULL, bytes, PROT_READ | PROT_WRITE,
		  MAP_SHARED, src->fd, src->at + op->c * PAGE);
	*failed = op->fail_nth && fail_end();
	if (at == MAP_FAILED) {
		refused[OP_ANYWHERE]++;
		return map_may_fail(op->src, *failed, errno) ||
		       soak_bad("mmap: %s", strerror(errno));
	}
	for (int i = 0; i < 4; i++) {
		u64 off = i == 0 ? 0 : i == 1 ? op->b - 1 : below(r, op->b);

		if (decode_off)
			break;
		if (!try_load(at + off * (PAGE / 4), &v) || v != stamp(op->c + off)) {
			munmap((void *)at, bytes);
			return soak_bad("mmap anywhere: page %#lx of %#lx: %#x", (long)off,
					(long)op->b, v);
		}
	}
	/* Its wish, or near it: what was there would be gone. */
	if ((char *)at >= window && (char *)at < addr_of(WINDOW_PAGES)) {
		const u64 page = ((char *)at - window) / PAGE;

		if (first_piece(page, page + op->b))
			return soak_bad("mmap with a wish takes page %#lx, which is mapped",
					(long)page);
		remember((struct piece) {
			.start = page, .end = page + op->b, .page = op->c, .src = op->src,
			.prot = PROT_READ | PROT_WRITE, .shared = true,
		});
		return true;
	}
	if (mremap((void *)at, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		return soak_bad("mremap into the window: %s", strerror(errno));
	remember((struct piece) {
		.start = op->a, .end = op->a + op->b, .page = op->c, .src = op->src,
		.prot = PROT_READ | PROT_WRITE, .shared = true,
	});
	return true;
}

static bool do_unmap(const struct op *op, bool *failed)
{
	int err;

	fail_nth(op->fail_nth);
	err = munmap(addr_of(op->a), op->b * PAGE) ? errno : 0;
	*failed = op->fail_nth && fail_end();
	if (!err)
		forget(op->a, op->a + op->b);
	else
		refused[OP_UNMAP]++;
	return !err || (*failed && err == ENOMEM) || soak_bad("munmap: %s", strerror(err));
}

/* What mprotect() that failed has done: up to some VMA all, then nothing */
static bool learn_prot(u64 start, u64 end, u8 prot)
{
	FILE *f = fopen("/proc/self/maps", "re");
	bool ended = false;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		unsigned long s, e;
		char p[5];
		u8 is;

		if (sscanf(line, "%lx-%lx %4s", &s, &e, p) != 3 ||
		    s < (unsigned long)window || e > (unsigned long)window + WINDOW_PAGES * PAGE)
			continue;
		s = (s - (unsigned long)window) / PAGE;
		e = (e - (unsigned long)window) / PAGE;
		s = s < start ? start : s;
		e = e > end ? end : e;
		if (s >= e)
			continue;
		is = (p[0] == 'r' ? PROT_READ : 0) | (p[1] == 'w' ? PROT_WRITE : 0);
		if (is == prot && !ended) {
			for (int i = cut(s), k = cut(e); i < k; i++)
				pieces[i].prot = prot;
		} else if (is != prot) {
			ended = true;
		}
	}
	if (f)
		fclose(f);
	return f;
}

/* Without rights to the protection key, no access */
static bool key_denies(u64 page, int prot)
{
	u32 v;
	bool ok;

	pkey_set(pkey, PKEY_DISABLE_ACCESS);
	ok = !try_load((volatile u32 *)addr_of(page), &v) && fault_signal == SIGSEGV &&
	     (fault_code == SEGV_PKUERR || !(prot & PROT_READ));
	pkey_set(pkey, 0);
	return ok || soak_bad("page %#lx: a protection key without rights does not deny it",
			      (long)page);
}

static bool do_protect(const struct op *op, bool *failed)
{
	u64 end = op->a + op->b, hole = first_hole(op->a, end);
	const int want = hole < end ? ENOMEM : 0;
	int prot = op->prot, err;

	/* Not where it is private: see do_map(). */
	for (int i = 0; i < nr_pieces; i++)
		if (!pieces[i].shared && pieces[i].start < end && pieces[i].end > op->a)
			prot &= ~PROT_WRITE;
	fail_nth(op->fail_nth);
	err = (op->flags && pkey > 0 ? pkey_mprotect(addr_of(op->a), op->b * PAGE, prot, pkey) :
	       mprotect(addr_of(op->a), op->b * PAGE, prot)) ? errno : 0;
	*failed = op->fail_nth && fail_end();
	if (err)
		refused[OP_PROTECT]++;
	if (*failed && err == ENOMEM)
		return learn_prot(op->a, end, prot) || soak_bad("maps: %s", strerror(errno));
	if (err != want)
		return soak_bad("mprotect: %s, not %s", strerror(err), strerror(want));
	for (int i = cut(op->a), k = cut(hole); i < k; i++)
		pieces[i].prot = prot;
	return !(op->flags && pkey > 0 && !err) || key_denies(op->a, prot);
}

/* How many VMAs has a part of a piece? A call that failed can have cut it. */
static int count_vmas(u64 start, u64 end)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	int n = 0;

	while (f && fgets(line, sizeof(line), f)) {
		unsigned long s, e;

		n += sscanf(line, "%lx-%lx", &s, &e) == 2 && s < (unsigned long)addr_of(end) &&
		     e > (unsigned long)addr_of(start);
	}
	if (f)
		fclose(f);
	return n;
}

static bool do_move(const struct op *op, bool *failed)
{
	struct piece *p = find(op->a), moved;
	const bool overlap = op->a < op->d + op->b && op->d < op->a + op->b;
	bool empty = true, several;
	char *from = addr_of(op->a), *to = addr_of(op->d), *got;
	int err;

	if (!p || op->a + op->b > p->end)
		return true;
	for (int i = 0; i < nr_pieces; i++)
		empty &= pieces[i].end <= op->d || pieces[i].start >= op->d + op->b;
	moved = *p;
	moved.page += op->a - p->start;
	moved.start = op->d;
	moved.end = op->d + op->b;
	if (!op->flags) {
		/* Without a need to move it, it stays. */
		got = mremap(from, op->b * PAGE, op->b * PAGE, MREMAP_MAYMOVE);
		return got == from || soak_bad("mremap in place: %s", strerror(errno));
	}
	/* More than one allocation may fail: what undoes it, too. */
	several = op->fail_nth >= FAIL_CHARGE ||
		  (op->fail_nth && count_vmas(op->a, op->a + op->b) > 1);
	fail_nth(op->fail_nth);
	got = mremap(from, op->b * PAGE, op->b * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	err = got == MAP_FAILED ? errno : 0;
	*failed = op->fail_nth && fail_end();
	if (!err) {
		if (got != to || overlap)
			return soak_bad("mremap to %p: %p", to, got);
		/*
		 * Without memory to cut it, the VMA of before is left, empty, and mremap()
		 * has moved what it should: so is 7.3.
		 */
		if (*failed && munmap(from, op->b * PAGE))
			return soak_bad("munmap: %s", strerror(errno));
		forget(op->a, op->a + op->b);
		remember(moved);
		return true;
	}
	refused[OP_MOVE]++;
	if (overlap)
		return err == EINVAL || soak_bad("mremap over itself: %s", strerror(err));
	if (!*failed || err != ENOMEM)
		return soak_bad("mremap: %s", strerror(err));
	/* Of several VMAs the first ones may have been moved: so is 7.3. */
	if (several) {
		if (munmap(from, op->b * PAGE))
			return soak_bad("munmap: %s", strerror(errno));
		forget(op->a, op->a + op->b);
	}
	/* What was there before may be gone, what was to be moved not. */
	if (!empty || several) {
		if (munmap(to, op->b * PAGE))
			return soak_bad("munmap: %s", strerror(errno));
		forget(op->d, op->d + op->b);
	}
	return true;
}

/* A mapping of a file grows, here or elsewhere. Look, and have done with it */
static bool grown(struct piece *p, const struct op *op, char *got)
{
	const u64 nr = p->end - op->a, bar = p->page + op->a - p->start;
	const u64 at[] = { 0, nr - 1, nr, nr + op->d - 1 };
	const bool readable = p->prot & PROT_READ;
	bool ok = true;
	u32 v = 0;

	for (int i = 0; ok && i < 4; i++) {
		const bool there = readable && bar + at[i] < BAR_PAGES;

		ok = try_load((volatile u32 *)(got + at[i] * PAGE), &v) == there &&
		     (!there || v == stamp(bar + at[i]));
		if (!ok)
			soak_bad("mremap that grows: page %#lx: %#x", (long)(bar + at[i]), v);
	}
	/* When an allocation fails, the VMA of before may be left, empty: see do_move(). */
	if (munmap(got, (nr + op->d) * PAGE) || munmap(addr_of(op->a), nr * PAGE))
		return soak_bad("munmap: %s", strerror(errno));
	forget(op->a, op->a + nr);
	return ok;
}

static bool do_resize(const struct op *op, bool *failed)
{
	struct piece *p = find(op->a);
	char *from = addr_of(op->a), *got;
	u64 bytes, to;
	int err;

	if (!p)
		return true;
	bytes = (p->end - op->a) * PAGE;
	to = op->kind == OP_GROW ? bytes + op->d * PAGE : 1 + op->b % (p->end - op->a);
	if (op->kind == OP_SHRINK)
		to *= PAGE;
	fail_nth(op->fail_nth);
	got = mremap(from, bytes, to, op->kind == OP_GROW ? MREMAP_MAYMOVE : 0);
	err = got == MAP_FAILED ? errno : 0;
	*failed = op->fail_nth && fail_end();
	if (err)
		refused[op->kind]++;
	if (op->kind == OP_GROW && !err && p->src == SRC_DAX)
		return grown(p, op, got);
	if (op->kind == OP_GROW && p->src == SRC_DAX && !*failed &&
	    count_vmas(op->a, p->end) == 1)
		return soak_bad("mremap that grows: %s", strerror(err));
	if (op->kind == OP_GROW)
		return err || soak_bad("mremap has grown the mapping of a device");
	if (!err)
		forget(op->a + to / PAGE, op->a + bytes / PAGE);
	return !err || (*failed && err == ENOMEM) || soak_bad("mremap: %s", strerror(err));
}

/* What @advice makes of the flags of a VMA */
static u8 advised(u8 a, int advice)
{
	switch (advice) {
	case MADV_NORMAL:
		return a & ~(A_RANDOM | A_SEQ);
	case MADV_RANDOM:
		return (a & ~A_SEQ) | A_RANDOM;
	case MADV_SEQUENTIAL:
		return (a & ~A_RANDOM) | A_SEQ;
	case MADV_HUGEPAGE:
		return (a & ~A_NOHUGE) | A_HUGE;
	case MADV_NOHUGEPAGE:
		return (a & ~A_HUGE) | A_NOHUGE;
	case MADV_DONTDUMP:
		return a | A_DONTDUMP;
	case MADV_DODUMP:
		return a & ~A_DONTDUMP;
	case MADV_DONTFORK:
		return a | A_DONTFORK;
	case MADV_DOFORK:
		return a & ~A_DONTFORK;
	case MADV_REMOVE:
		return owner == OWNER_P2P ? a | A_REMOVED : a;
	}
	return a;
}

static bool do_advise(const struct op *op, bool *failed)
{
	const u64 end = op->a + op->b;
	int err, i, k;

	fail_nth(op->fail_nth);
	err = madvise(addr_of(op->a), op->b * PAGE, op->advice) ? errno : 0;
	*failed = op->fail_nth && fail_end();
	if (err)
		refused[OP_ADVISE]++;
	if (op->advice == MADV_REMOVE && owner == OWNER_P2P && err &&
	    (*failed || err != ENOMEM)) {
		/* How far it came is not known. */
		if (munmap(addr_of(op->a), op->b * PAGE))
			return soak_bad("munmap: %s", strerror(errno));
		forget(op->a, end);
		return true;
	}
	/* ENOMEM: of a hole, all the same. It may also have ended somewhere. */
	i = cut(op->a);
	k = cut(end);
	for (; i < k; i++) {
		const u8 want = advised(pieces[i].advice, op->advice);
		u8 a = err && err != ENOMEM ? pieces[i].advice : want;

		/* Not known: neither with it nor without it would be right. */
		if (*failed && err && want != pieces[i].advice &&
		    (op->advice == MADV_DONTFORK || op->advice == MADV_DOFORK))
			a |= A_UNKNOWN;
		pieces[i].advice = a;
	}
	return true;
}

/* What changes nothing that is seen */
static bool do_other(const struct op *op, bool *failed)
{
	struct uffdio_register reg = {
		.range = { (unsigned long)addr_of(op->a), op->b * PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	unsigned long node = 1;
	int err = 0;

	cut(op->a);
	cut(op->a + op->b);
	fail_nth(op->fail_nth);
	switch (op->kind) {
	case OP_LOCK:
		err = mlock(addr_of(op->a), op->b * PAGE) ? errno : 0;
		break;
	case OP_UNLOCK:
		err = munlock(addr_of(op->a), op->b * PAGE) ? errno : 0;
		break;
	case OP_BIND:
		err = syscall(SYS_mbind, addr_of(op->a), op->b * PAGE, MPOL_PREFERRED, &node, 64,
			      op->d % 2 ? MPOL_MF_MOVE : 0) ? errno : 0;
		break;
	case OP_UFFD:
		err = ioctl(uffd, UFFDIO_REGISTER, &reg) ? errno : 0;
		break;
	}
	*failed = op->fail_nth && fail_end();
	if (err)
		refused[op->kind]++;
	if (op->kind == OP_UFFD && !err && uffd >= 0)
		return soak_bad("userfaultfd takes the mapping of a device");
	return true;
}

/* What pins pages gets none of a device. */
static bool do_pin(const struct op *op, bool *failed)
{
	char buf[64];
	struct iovec here = { buf, sizeof(buf) }, there = { addr_of(op->a), sizeof(buf) };
	struct iovec all = { addr_of(op->a), op->b * PAGE < 1 << 30 ? op->b * PAGE : 1 << 30 };
	long got;
	int err;

	fail_nth(op->fail_nth);
	if (op->d % 2 && ring >= 0)
		got = syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &all, 1);
	else if (op->d / 2 % 2)
		got = process_vm_writev(getpid(), &here, 1, &there, 1, 0);
	else
		got = process_vm_readv(getpid(), &here, 1, &there, 1, 0);
	err = got < 0 ? errno : 0;
	*failed = op->fail_nth && fail_end();
	refused[OP_PIN]++;
	/* Struct pages of a BAR are for those that know of p2pdma. */
	return err == EFAULT || (err && owner >= OWNER_IOPMEM) || (*failed && err == ENOMEM) ||
	       soak_bad("pages of a device are pinned: %ld, %s", got, strerror(err));
}

/* The kernel reads a page of the window, and writes a word of it: as write() and read() do */
static bool do_copy(const struct op *op, bool *failed)
{
	static u32 copies;
	struct piece *p = find(op->a);
	const bool there = p && !gone(p);
	const bool readable = there && p->prot & PROT_READ;
	const bool writable = readable && p->prot & PROT_WRITE && p->shared;
	const u64 word = 1 + worker_nr;
	u32 *at = (u32 *)addr_of(op->a), v;
	long n;
	int err;

	if (decode_off)
		return true;
	fail_nth(op->fail_nth);
	n = pwrite(copy_file, at, PAGE, 0);
	err = n < 0 ? errno : 0;
	*failed = op->fail_nth && fail_end();
	if (*failed && (err == ENOMEM || err == EFAULT))
		return true;
	if (readable ? n != PAGE : err != EFAULT)
		return soak_bad("write() of page %#lx: %ld, %s", (long)op->a, n, strerror(err));
	if (!readable)
		return true;
	if (pread(copy_file, &v, 4, 0) != 4 || v != stamp(p->page + op->a - p->start))
		return soak_bad("write() of page %#lx writes %#x", (long)op->a, v);
	if (p->shared && !(p->prot & PROT_WRITE)) {
		n = pread(copy_file, at + word, 4, word * 4);
		return (n < 0 && errno == EFAULT) ||
		       soak_bad("read() to page %#lx, which is read-only: %ld", (long)op->a, n);
	}
	if (!writable)
		return true;
	v = ~copies++;
	if (pwrite(copy_file, &v, 4, word * 4) != 4 || pread(copy_file, at + word, 4, word * 4) != 4)
		return soak_bad("read() to page %#lx: %s", (long)op->a, strerror(errno));
	n = *real_word(at, p->page + op->a - p->start, word);
	return (u32)n == v || soak_bad("read() to page %#lx: %#x, not %#x in the BAR", (long)op->a,
				       (u32)n, v);
}

/* One of a file has moved, and stays: both show the same. */
static bool stays(const struct piece *p, const struct op *op, char *got)
{
	struct piece moved = *p;

	moved.page += op->a - p->start;
	if (op->flags && got != addr_of(op->d))
		return soak_bad("mremap with MREMAP_DONTUNMAP to %p: %p", addr_of(op->d), got);
	if (got < window || got >= addr_of(WINDOW_PAGES)) {
		const bool there = p->prot & PROT_READ;
		u32 v = 0;

		if (try_load((volatile u32 *)got, &v) != there ||
		    (there && v != stamp(moved.page)))
			return soak_bad("mremap with MREMAP_DONTUNMAP shows %#x", v);
		return !munmap(got, op->b * PAGE) || soak_bad("munmap: %s", strerror(errno));
	}
	moved.start = (got - window) / PAGE;
	moved.end = moved.start + op->b;
	if (!op->flags && first_piece(moved.start, moved.end))
		return soak_bad("mremap with a wish takes page %#lx, which is mapped",
				(long)moved.start);
	remember(moved);
	return true;
}

/* A mapping of a device cannot move and stay. */
static bool do_stay(const struct op *op, bool *failed)
{
	struct piece *p = find(op->a);
	const bool file = p && p->src == SRC_DAX;
	const bool overlap = op->a < op->d + op->b && op->d < op->a + op->b;
	void *got;
	int err;

	if (file && (op->a + op->b > p->end || op->d + op->b > WINDOW_PAGES))
		return true;
	fail_nth(op->fail_nth);
	got = mremap(addr_of(op->a), op->b * PAGE, op->b * PAGE,
		     MREMAP_MAYMOVE | MREMAP_DONTUNMAP | (op->flags ? MREMAP_FIXED : 0),
		     addr_of(op->d));
	err = got == MAP_FAILED ? errno : 0;
	*failed = op->fail_nth && fail_end();
	if (!err && file)
		return stays(p, op, got);
	refused[OP_STAY]++;
	if (file && !*failed && !(overlap && err == EINVAL) && count_vmas(op->a, op->a + op->b) == 1)
		return soak_bad("mremap with MREMAP_DONTUNMAP: %s", strerror(err));
	/* What was there before may be gone. */
	if (file && *failed && err == ENOMEM) {
		if (munmap(addr_of(op->d), op->b * PAGE))
			return soak_bad("munmap: %s", strerror(errno));
		forget(op->d, op->d + op->b);
	}
	return err || soak_bad("mremap with MREMAP_DONTUNMAP: %p", got);
}

/* A child that seals a range cannot unmap, move or protect any of it. */
static bool sealed(const struct op *op)
{
	const bool all = first_hole(op->a, op->a + op->b) == op->a + op->b;
	const int err = syscall(462 /* mseal */, addr_of(op->a), op->b * PAGE, 0) ? errno : 0;

	if (err == ENOSYS)
		return true;
	if (err != (all ? 0 : ENOMEM))
		return soak_bad("mseal: %s", strerror(err));
	return err || (munmap(addr_of(op->a), op->b * PAGE) && errno == EPERM &&
		       mprotect(addr_of(op->a), op->b * PAGE, PROT_NONE) && errno == EPERM) ||
	       soak_bad("what is sealed can be changed");
}

/* Of each piece, three pages */
static bool look_at_all(struct rnd *r)
{
	for (int i = 0; i < nr_pieces; i++) {
		const u64 start = pieces[i].start, end = pieces[i].end;

		if (!look(start, true) || !look(end - 1, true) ||
		    !look(start + below(r, end - start), true))
			return false;
	}
	return true;
}

/*
 * The driver, or the device, goes while the BAR is mapped: nothing of it is left. Then it
 * comes again.
 */
static bool do_unbind(struct rnd *r, bool device)
{
	const u32 files = device ? 1 << SRC_SYSFS | 1 << SRC_SYSFS_WC : 0;
	bool ok = true;

	/* The test driver and /dev/mem know nothing of it. */
	for (int i = nr_pieces - 1; device && i >= 0; i--) {
		const struct piece p = pieces[i];

		if (p.src != SRC_MEM && p.src != SRC_DRIVER && p.src != SRC_EXTENT)
			continue;
		if (munmap(addr_of(p.start), (p.end - p.start) * PAGE))
			return soak_bad("munmap: %s", strerror(errno));
		forget(p.start, p.end);
	}
	if (!take_bar(device))
		return soak_bad("%s: %s", device ? "remove" : "unbind", strerror(errno));
	gone_sources = files | 1 << SRC_IOPMEM | 1 << SRC_P2P;
	ok = look_at_all(r) && compare_maps();
	close_sources();
	/* The mirror has large leaves. */
	write_text("/sys/kernel/mm/huge_iomap/limit", "1G");
	if ((!return_bar(device) || !open_sources()) && ok)
		ok = soak_bad("the BAR does not come again: %s", strerror(errno));
	/* What was mapped before stays as it is. */
	ok = ok && look_at_all(r) && compare_maps();
	gone_sources = 0;
	if (ok && munmap(window, WINDOW_PAGES * PAGE))
		ok = soak_bad("munmap: %s", strerror(errno));
	nr_pieces = 0;
	/* It may be at another address. */
	sources[SRC_MEM].known = false;
	return ok;
}

/*
 * Pages of the file in a range of it: what pieces show that have one. A hole is zero; half
 * of the time something is stored to it. Behind the end of the file is nothing.
 */
enum { FILE_STAMPS, FILE_HOLE, FILE_END };

static bool look_at_file(struct rnd *r, u64 page, u64 nr, int what)
{
	const bool there = what != FILE_END;
	const u64 word = 1 + worker_nr;

	for (int i = 0; i < nr_pieces; i++) {
		const struct piece *p = &pieces[i];
		const u64 size = p->end - p->start;
		u64 from = page > p->page ? page - p->page : 0;
		u64 end = page + nr > p->page ? page + nr - p->page : 0;
		volatile u32 *to;
		u32 v = 0;
		u64 at;

		end = end < size ? end : size;
		if (from >= end || !(p->prot & PROT_READ))
			continue;
		at = below(r, 2) ? from : from + below(r, end - from);
		to = (volatile u32 *)addr_of(p->start + at);
		if (try_load(to, &v) != there || (!there && fault_signal != SIGBUS))
			return soak_bad("page %#lx of a file that has changed: %s",
					(long)(p->start + at), there ? strsignal(fault_signal) :
					"not SIGBUS");
		if (there && v != (what == FILE_HOLE ? 0 : stamp(p->page + at)))
			return soak_bad("page %#lx of a file that has changed: %#x",
					(long)(p->start + at), v);
		if (what != FILE_HOLE || !(p->prot & PROT_WRITE) || !p->shared || below(r, 2))
			continue;
		if (!try_store(to + word, ~0U) ||
		    pread(sources[SRC_DAX].fd, &v, 4, (p->page + at) * PAGE + word * 4) != 4 ||
		    v != ~0U)
			return soak_bad("page %#lx of a hole: %#x in the file",
					(long)(p->start + at), v);
	}
	return true;
}

/* The file loses a part, and all behind it if it becomes shorter, and gets it again. */
static bool do_punch(const struct op *op, struct rnd *r)
{
	const int fd = sources[SRC_DAX].fd;
	const bool shorter = op->flags;
	const u64 end = op->c + op->d;
	bool ok;

	if (shorter ? ftruncate(fd, op->c * PAGE) :
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, op->c * PAGE, op->d * PAGE))
		return soak_bad("punch: %s", strerror(errno));
	ok = look_at_file(r, op->c, op->d, shorter ? FILE_END : FILE_HOLE);
	/* All the same: operations may be done again. */
	if (fallocate(fd, 0, op->c * PAGE, op->d * PAGE))
		return soak_bad("fallocate: %s", strerror(errno));
	for (u64 page = op->c; page < end;) {
		const u64 nr = end - page < PAGES_2M ? end - page : PAGES_2M;

		for (u64 i = 0; i < nr; i++)
			stamps[i * (PAGE / 4)] = stamp(page + i);
		if (pwrite(fd, stamps, nr * PAGE, page * PAGE) != (ssize_t)(nr * PAGE))
			return soak_bad("write: %s", strerror(errno));
		page += nr;
	}
	return ok && look_at_file(r, op->c, op->d, FILE_STAMPS);
}

/* A child has what its parent has, and changes only its own */
static bool do_fork(const struct op *op, struct rnd *r, bool *failed)
{
	int status;
	pid_t pid;

	if (nr_pieces + 2 >= MAX_PIECES)
		return true;
	fail_nth(op->fail_nth);
	pid = fork();
	if (pid)
		*failed = op->fail_nth && fail_end();
	if (pid < 0) {
		refused[OP_FORK]++;
		return *failed || soak_bad("fork: %s", strerror(errno));
	}
	if (!pid) {
		bool ok = true;

		fail_leave();
		for (int i = nr_pieces - 1; i >= 0; i--) {
			if (pieces[i].advice & A_UNKNOWN)
				munmap(addr_of(pieces[i].start),
				       (pieces[i].end - pieces[i].start) * PAGE);
			if (pieces[i].advice & (A_DONTFORK | A_UNKNOWN))
				forget(pieces[i].start, pieces[i].end);
		}
		ok = look_at(r, op->a, op->a + op->b);
		if (ok && op->d % 8 == 2) {
			ok = sealed(op) && look_at(r, op->a, op->a + op->b);
		} else if (ok && op->d % 8 == 4) {
			execl("/bin/true", "true", NULL);
			ok = false;
		} else if (ok && op->d % 2) {
			if (!munmap(addr_of(op->a), op->b * PAGE))
				forget(op->a, op->a + op->b);
			ok = look_at(r, op->a, op->a + op->b);
		} else if (ok) {
			struct op protect = { .a = op->a, .b = op->b, .prot = op->prot };
			bool none;

			ok = do_protect(&protect, &none) && look_at(r, op->a, op->a + op->b);
		}
		_exit(!ok);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status))
		return soak_bad("the child of fork() sees something else (status %#x)", status);
	return true;
}

static bool do_decode(struct rnd *r, const struct op *op)
{
	bool ok;

	if (!set_decode(false))
		return soak_bad("decode off: %s", strerror(errno));
	decode_off = true;
	gone_sources = 1 << SRC_VFIO;
	ok = look_at(r, op->a, op->a + op->b);
	if (!set_decode(true))
		return soak_bad("decode on: %s", strerror(errno));
	decode_off = false;
	gone_sources = 0;
	return ok;
}

static bool user_apply(const struct op *op)
{
	static const char * const limits[] = { "4K", "2M", "1G", "1G" };
	struct rnd r = { op->seed };
	bool failed = false, ok = true;

	if (nr_pieces > MAX_PIECES - 8)
		return true;
	switch (op->kind) {
	case OP_MAP:
		ok = do_map(op, &failed);
		break;
	case OP_ANYWHERE:
		ok = do_anywhere(op, &r, &failed);
		break;
	case OP_UNMAP:
		ok = do_unmap(op, &failed);
		break;
	case OP_PROTECT:
		ok = do_protect(op, &failed);
		break;
	case OP_MOVE:
		ok = do_move(op, &failed);
		break;
	case OP_SHRINK:
	case OP_GROW:
		ok = do_resize(op, &failed);
		break;
	case OP_ADVISE:
		ok = do_advise(op, &failed);
		break;
	case OP_FORK:
		ok = do_fork(op, &r, &failed);
		break;
	case OP_LIMIT:
		write_text("/sys/kernel/mm/huge_iomap/limit", limits[op->a % 4]);
		break;
	case OP_PROC:
		ok = do_proc(&r);
		break;
	case OP_MEM_FILE:
		ok = compare_mem_file(&r) && compare_pagemap(&r);
		break;
	case OP_DECODE:
		ok = do_decode(&r, op);
		break;
	case OP_MTRR:
		ok = toggle_mtrr(op->c, op->d, op->flags);
		break;
	case OP_PIN:
		ok = do_pin(op, &failed);
		break;
	case OP_COPY:
		ok = do_copy(op, &failed);
		break;
	case OP_STAY:
		ok = do_stay(op, &failed);
		break;
	case OP_UNBIND:
	case OP_REMOVE:
		ok = do_unbind(&r, op->kind == OP_REMOVE);
		break;
	case OP_TRACE:
		ok = do_trace(op, &failed);
		break;
	case OP_PUNCH:
		ok = do_punch(op, &r);
		break;
	case OP_RECLAIM:
		/* Not every kernel can. */
		write_text("/proc/sys/vm/compact_memory", "1");
		ok = write_text("/proc/sys/vm/drop_caches", "3") || soak_bad("drop_caches");
		break;
	default:
		ok = do_other(op, &failed);
	}
	done[op->kind]++;
	failed_alloc[op->kind] += failed;
	if (!ok || op->kind == OP_LIMIT)
		return ok;
	/* All of it when an allocation failed: no page may have changed. */
	if (failed && !compare_maps())
		return false;
	if (op->kind == OP_MOVE && !look_at(&r, op->d, op->d + op->b))
		return false;
	return look_at(&r, op->a, op->a + op->b);
}

static void user_print(const struct op *op, char *text, int len)
{
	int n = snprintf(text, len, "%s %#llx +%#llx", kind_names[op->kind],
			 (long long)op->a, (long long)op->b);

	if (op->kind == OP_MAP || op->kind == OP_ANYWHERE)
		n += snprintf(text + n, len - n, " %s page %#llx%s%s", sources[op->src].name,
			      (long long)op->c, op->flags & F_PRIVATE ? " private" : "",
			      op->flags & F_GENTLE ? " gently" : "");
	if (op->kind == OP_PROTECT && op->flags)
		n += snprintf(text + n, len - n, " with a key");
	if (op->kind == OP_MAP || op->kind == OP_PROTECT)
		n += snprintf(text + n, len - n, " prot %d", op->prot);
	if (op->kind == OP_FORK || op->kind == OP_PIN || op->kind == OP_TRACE ||
	    op->kind == OP_GROW)
		n += snprintf(text + n, len - n, " %#llx", (long long)op->d);
	if (op->kind == OP_STAY)
		n += snprintf(text + n, len - n, " %s", op->flags ? "fixed" : "as a wish");
	if (op->kind == OP_MOVE || op->kind == OP_STAY)
		n += snprintf(text + n, len - n, " to %#llx", (long long)op->d);
	if (op->kind == OP_ADVISE)
		n += snprintf(text + n, len - n, " advice %d", op->advice);
	if (op->kind == OP_MTRR)
		n += snprintf(text + n, len - n, " %s, %#llx pages around %#llx or none",
			      op->flags ? "WC" : "UC", (long long)op->d, (long long)op->c);
	if (op->kind == OP_PUNCH)
		n += snprintf(text + n, len - n, " page %#llx +%#llx%s", (long long)op->c,
			      (long long)op->d, op->flags ? ", by a shorter file" : "");
	if (op->fail_nth >= FAIL_CHARGE)
		snprintf(text + n, len - n, ", %d pages can be charged",
			 op->fail_nth - FAIL_CHARGE);
	else if (op->fail_nth)
		snprintf(text + n, len - n, ", allocation %d fails", op->fail_nth);
}

static void user_report(FILE *to)
{
	for (int i = 0; i < NR_KIND; i++)
		fprintf(to, "#   %s: %llu, refused %llu, an allocation failed %llu\n",
			kind_names[i], (long long)done[i], (long long)refused[i],
			(long long)failed_alloc[i]);
	fprintf(to, "#   MTRRs that were set: %llu\n", (long long)mtrrs_set);
}

/* Its files are for all of its children, threads are not. */
static void user_leave(void)
{
	drop_mtrr();
	tracer_leave();
	munmap_window();
	touching = touch_bad = false;
}

const struct worker_ops user_worker = {
	.name = "user", .reset = user_reset, .choose = user_choose, .apply = user_apply,
	.print = user_print, .report = user_report, .leave = user_leave,
};
