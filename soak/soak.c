// SPDX-License-Identifier: GPL-2.0
/*
 * Random operations for a time, by several workers, with readers beside them.
 *   soak [-s SEED] [-t SECONDS] [-n OPERATIONS] [-u USERS] [-k KERNELS] [-j THREADS]
 *        [-r] [-v | -c | -i | -d | -p] [-F]
 *     -u, -k  so many workers with user mappings, and with kernel mappings
 *     -j      so many threads of each worker with user mappings touch pages meanwhile
 *     -r      readers of /proc and debugfs besides
 *     -v, -c  the BAR belongs to vfio-pci, and is opened by its group, or by its own file:
 *             by one user
 *     -i      it belongs to iopmem in mode char, and has struct pages: not with -k
 *     -d      it is a disk of iopmem, with a file of ext4 in it (DAX): not with -k
 *     -p      it is p2pmem: not with -k
 *     -F      no allocation fails
 * A worker's operations follow from the seed, its number and the epoch alone. After
 * each epoch all is unmapped. When kernel and model differ, the epoch is done again in
 * fresh processes with operations left out, and the shortest list that fails is printed.
 */
#include "soak.h"

#include <asm/mtrr.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EPOCH		1000	/* operations */

bool opt_alone, opt_fail = true;
int opt_touch, worker_nr;
struct rnd rnd;

static char bad_text[512];

bool soak_bad(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(bad_text, sizeof(bad_text), fmt, args);
	va_end(args);
	return false;
}

bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return ok;
}

/* The number after @key at the begin of a line; -1 if there is none */
long read_number(const char *path, const char *key)
{
	FILE *f = fopen(path, "re");
	char line[256];
	long n = -1;

	if (!f)
		return -1;
	while (n < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			n = atol(line + strlen(key) + strspn(line + strlen(key), ": \t"));
	fclose(f);
	return n;
}

bool same_types(bool first)
{
	static long types;
	char line[256];
	long n = 0;
	FILE *f;

	if (!opt_alone)
		return true;
	f = fopen("/sys/kernel/debug/x86/pat_memtype_list", "re");
	while (f && fgets(line, sizeof(line), f))
		n++;
	if (f)
		fclose(f);
	if (!first && n != types)
		return soak_bad("%ld ranges have a memory type, %ld had", n, types);
	types = n;
	return true;
}

/* They go with the file that they are set by, too. */
static int mtrr_fd = -1;
static struct mtrr_sentry mtrr;
u64 mtrrs_set;
static u64 refused;

void drop_mtrr(void)
{
	if (mtrr_fd >= 0)
		close(mtrr_fd);
	mtrr_fd = -1;
	mtrr.size = 0;
}

bool toggle_mtrr(u64 page, u64 pages, bool wc)
{
	if (mtrr_fd < 0)
		mtrr_fd = open("/proc/mtrr", O_RDWR | O_CLOEXEC);
	if (mtrr_fd < 0)
		return soak_bad("/proc/mtrr: %s", strerror(errno));
	if (mtrr.size) {
		/* It returns the number of a register. */
		const bool deleted = ioctl(mtrr_fd, MTRRIOC_DEL_ENTRY, &mtrr) >= 0;

		if (!deleted && opt_alone)
			return soak_bad("MTRR of %#llx: not deleted: %s",
					(unsigned long long)mtrr.base, strerror(errno));
		/* One that another worker's encloses has no register of its own. */
		if (!deleted)
			drop_mtrr();
		mtrr.size = 0;
		return true;
	}
	mtrr = (struct mtrr_sentry) {
		.base = bar_phys + page / pages * pages * PAGE, .size = pages * PAGE,
		.type = wc ? MTRR_TYPE_WRCOMB : MTRR_TYPE_UNCACHABLE,
	};
	/* There are few of them, and they must not overlap as they like. */
	if (ioctl(mtrr_fd, MTRRIOC_ADD_ENTRY, &mtrr) < 0) {
		mtrr.size = 0;
		/* Alone, most of them work; but vfio-pci has all of the BAR mapped. */
		return ++refused < 50 || mtrrs_set || !opt_alone || owner != OWNER_NONE ||
		       soak_bad("no MTRR can be set: %s", strerror(errno));
	}
	mtrrs_set++;
	return true;
}

/* A page in [from, to): often one where a leaf begins or ends, or one beside it */
u64 near_leaf(struct rnd *r, u64 from, u64 to)
{
	static const u64 size[] = { 1, 8, PAGES_2M, PAGES_2M, PAGES_2M, PAGES_1G, PAGES_1G };
	static const int off[] = { 0, 0, 0, 0, 1, -1, 2, -2, 7, -9 };
	u64 s = size[below(r, sizeof(size) / sizeof(*size))];
	u64 p = from + below(r, to - from);

	p = p / s * s + off[below(r, sizeof(off) / sizeof(*off))];
	return p >= from && p < to ? p : from;
}

u64 some_length(struct rnd *r, u64 max)
{
	static const u64 size[] = {
		1, 2, 3, 17, PAGES_2M - 1, PAGES_2M, PAGES_2M + 1, 2 * PAGES_2M + 3,
		5 * PAGES_2M, PAGES_1G - 1, PAGES_1G, PAGES_1G + 1, 2 * PAGES_1G,
	};
	u64 n = size[below(r, sizeof(size) / sizeof(*size))];

	if (below(r, 4) == 0)
		n = 1 + below(r, n);
	return n < max ? n : max;
}

static int fail_fd = -1;

/* A worker cannot go on. */
static void give_up(const char *what)
{
	printf("not ok - worker %d: %s: %s\n", worker_nr, what, strerror(errno));
	fflush(stdout);
	abort();
}

/* Files of the worker's cgroup. They are open: what opens a file is charged for it. */
static int max_fd = -1, current_fd = -1, events_fd = -1;
static long charges_failed;
static u64 squeezes, charges_refused;
static bool squeezed;

static bool set_max(const char *max)
{
	return pwrite(max_fd, max, strlen(max), 0) == (ssize_t)strlen(max);
}

/* The number behind @key in one of these files; -1 if there is none */
static long read_cgroup(int fd, const char *key)
{
	char text[512];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	char *at;

	if (n <= 0)
		return -1;
	text[n] = 0;
	at = strstr(text, key);
	return at ? atol(at + strlen(key)) : -1;
}

/* How often it had not enough */
static long charge_failures(void)
{
	return read_cgroup(events_fd, "oom ");
}

/* No more than @pages are charged from now on. */
static void squeeze(int pages)
{
	long used = read_cgroup(current_fd, "");
	char text[32];

	/* Less than there are: CPUs give up what they have charged in advance. */
	snprintf(text, sizeof(text), "%ld", used > (long)PAGE ? used - (long)PAGE : 0);
	squeezed = set_max(text);
	squeezes++;
	charges_failed = charge_failures();
	used = read_cgroup(current_fd, "");
	snprintf(text, sizeof(text), "%ld", used + pages * (long)PAGE);
	if (!squeezed || charges_failed < 0 || used < 0 || !set_max(text))
		give_up("memory.max");
}

static int open_cgroup(const char *dir, const char *name, int flags)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return open(path, flags | O_CLOEXEC);
}

/*
 * None of the worker is killed when it has reached the limit: the system call fails.
 * False if the kernel has no such cgroups.
 */
static bool enter_cgroup(void)
{
	char dir[64], path[96];

	snprintf(dir, sizeof(dir), "/sys/fs/cgroup/soak.%d", worker_nr);
	mkdir(dir, 0700);
	max_fd = open_cgroup(dir, "memory.max", O_WRONLY);
	current_fd = open_cgroup(dir, "memory.current", O_RDONLY);
	events_fd = open_cgroup(dir, "memory.events", O_RDONLY);
	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	return max_fd >= 0 && read_cgroup(current_fd, "") >= 0 && charge_failures() >= 0 &&
	       write_text("/proc/self/oom_score_adj", "-1000") && write_text(path, "0");
}

void fail_nth(int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n);

	if (n >= FAIL_CHARGE)
		squeeze(n - FAIL_CHARGE);
	else if (fail_fd >= 0 && pwrite(fail_fd, text, len, 0) != len)
		give_up("fail-nth");
}

bool fail_end(void)
{
	char text[16] = "";
	bool failed;

	if (squeezed) {
		squeezed = false;
		if (!set_max("max"))
			give_up("memory.max");
		failed = charge_failures() > charges_failed;
		charges_refused += failed;
		return failed;
	}
	if (fail_fd < 0)
		return false;
	failed = pread(fail_fd, text, sizeof(text) - 1, 0) > 0 && atoi(text) == 0;
	fail_nth(0);
	return failed;
}

void fail_leave(void)
{
	fail_fd = -1;
	squeezed = false;
}

static void prepare_failures(void)
{
	static const char * const files[][2] = {
		{ "/sys/kernel/debug/fail_page_alloc/verbose", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/min-order", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/failslab/verbose", "0" },
		{ "/sys/kernel/debug/failslab/ignore-gfp-wait", "N" },
	};

	for (unsigned int i = 0; i < sizeof(files) / sizeof(*files); i++)
		opt_fail &= write_text(files[i][0], files[i][1]);
	mount("none", "/sys/fs/cgroup", "cgroup2", 0, NULL);
	opt_fail &= write_text("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	write_text("/proc/sys/vm/oom_dump_tasks", "0");
}

/* What a worker tells its parent */
struct result {
	u64 seed, epoch, n, ops;
	bool failed;
	char text[512];
};

static struct op ops[EPOCH];

/* The operations of @list again, in a process of its own. True if they fail. */
static bool fails_again(const struct worker_ops *w, const struct op *list, int nr)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return false;
	if (!pid) {
		bool ok;

		alarm(300);
		fail_fd = opt_fail ? open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC) : -1;
		ok = w->reset(true);
		for (int i = 0; ok && i < nr; i++)
			ok = w->apply(&list[i]);
		_exit(ok && w->reset(false) ? 0 : 1);
	}
	if (waitpid(pid, &status, 0) != pid)
		return false;
	/* A crash fails as well; what takes too long is not known. */
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		return false;
	return !WIFEXITED(status) || WEXITSTATUS(status);
}

/* Leave out what is not needed for the failure: halves first, then less */
static int shorten(const struct worker_ops *w, int nr)
{
	static struct op less[EPOCH];
	time_t end = time(NULL) + 120;

	if (!fails_again(w, ops, nr))
		return -1;
	for (int step = nr / 2; step; step /= 2) {
		for (int at = 0; at + step <= nr && time(NULL) < end;) {
			memcpy(less, ops, at * sizeof(*ops));
			memcpy(less + at, ops + at + step, (nr - at - step) * sizeof(*ops));
			if (fails_again(w, less, nr - step)) {
				nr -= step;
				memcpy(ops, less, nr * sizeof(*ops));
			} else {
				at += step;
			}
		}
	}
	return nr;
}

static void tell(const struct worker_ops *w, struct result *res, int nr)
{
	char text[200];
	int left;

	printf("not ok - %s worker %d: seed %llu, epoch %llu, operation %d: %s\n", w->name,
	       worker_nr, (unsigned long long)res->seed, (unsigned long long)res->epoch, nr,
	       res->text);
	w->print(&ops[nr], text, sizeof(text));
	printf("#   %s\n", text);
	fflush(stdout);
	w->leave();
	left = shorten(w, nr + 1);
	if (left < 0) {
		printf("# a fresh process does not fail with these; the last of them:\n");
		left = nr + 1;
	} else {
		printf("# %d operations are enough:\n", left);
	}
	for (int i = left > 40 ? left - 40 : 0; i < left; i++) {
		w->print(&ops[i], text, sizeof(text));
		printf("#   %s\n", text);
	}
	fflush(stdout);
}

static void work(const struct worker_ops *w, int nr, u64 seed, time_t end, u64 max, int to)
{
	struct result res = { .seed = seed };
	bool ok;
	int n = 0;

	worker_nr = nr;
	fail_fd = opt_fail ? open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC) : -1;
	ok = !opt_fail || enter_cgroup() || soak_bad("no cgroup: %s", strerror(errno));
	ok = ok && w->reset(true);
	while (ok && time(NULL) < end && res.ops < max) {
		rnd.s = seed * 1000003 + nr * 7919 + res.epoch * 104729;
		for (n = 0; ok && n < EPOCH && res.ops < max &&
		     (n % 16 || time(NULL) < end); n++) {
			memset(&ops[n], 0, sizeof(ops[n]));
			w->choose(&ops[n]);
			ops[n].seed = next(&rnd);
			ok = w->apply(&ops[n]);
			res.ops++;
		}
		n--;
		if (ok)
			ok = w->reset(false);
		res.epoch += ok;
	}
	if (!ok) {
		res.failed = true;
		memcpy(res.text, bad_text, sizeof(res.text));
		tell(w, &res, n);
	}
	printf("# %s worker %d: %llu operations in %llu epochs\n", w->name, nr,
	       (unsigned long long)res.ops, (unsigned long long)res.epoch);
	w->report(stdout);
	printf("#   limits of the cgroup: %llu, a charge refused %llu\n",
	       (unsigned long long)squeezes, (unsigned long long)charges_refused);
	/* They cannot all have been enough. */
	if (squeezes > 200 && !charges_refused) {
		printf("not ok - no charge was ever refused\n");
		res.failed = true;
	}
	fflush(stdout);
	if (write(to, &res, sizeof(res)) != sizeof(res))
		give_up("pipe");
	exit(res.failed);
}

static void read_all(const char *name)
{
	static char buf[1 << 16];
	int fd = open(name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	close(fd);
	usleep(5000);
}

/* Read all there is to read of the workers and of the system, for ever */
static void read_for_ever(const pid_t *pids, int nr)
{
	static const char * const process_files[] = {
		"smaps", "numa_maps", "smaps_rollup", "maps",
	};
	static const char * const system_files[] = {
		"/proc/vmallocinfo", "/sys/kernel/debug/x86/pat_memtype_list", "/proc/iomem",
		"/proc/mtrr",
	};
	char path[64];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int round = 0;; round++) {
		for (int i = 0; i < nr; i++) {
			for (int k = 0; k < 4; k++) {
				snprintf(path, sizeof(path), "/proc/%d/%s", pids[i],
					 process_files[k]);
				read_all(path);
			}
		}
		for (int k = 0; k < 4; k++)
			read_all(system_files[k]);
		if (round % 16 == 0)
			read_all("/sys/kernel/debug/page_tables/kernel");
	}
}

#define MAX_WORKERS	16

int main(int argc, char **argv)
{
	pid_t pids[MAX_WORKERS], reader = 0;
	int users = 1, kernels = 0, nr = 0, failed = 0, status, fds[2], c;
	u64 seed = time(NULL), max = UINT64_MAX, total = 0;
	bool want_readers = false;
	static const char * const owners[] = {
		"", ", vfio", ", vfio cdev", ", iopmem", ", DAX", ", p2pmem",
	};
	struct timespec begin, now;
	struct result res;
	time_t seconds = 60;
	double took;

	while ((c = getopt(argc, argv, "s:t:n:u:k:j:rvcidpF")) != -1) {
		switch (c) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 't':
			seconds = atol(optarg);
			break;
		case 'n':
			max = strtoull(optarg, NULL, 0);
			break;
		case 'u':
			users = atoi(optarg);
			break;
		case 'k':
			kernels = atoi(optarg);
			break;
		case 'j':
			opt_touch = atoi(optarg);
			break;
		case 'r':
			want_readers = true;
			break;
		case 'v':
			owner = OWNER_VFIO;
			break;
		case 'c':
			owner = OWNER_CDEV;
			break;
		case 'i':
			owner = OWNER_IOPMEM;
			break;
		case 'd':
			owner = OWNER_DAX;
			break;
		case 'p':
			owner = OWNER_P2P;
			break;
		case 'F':
			opt_fail = false;
			break;
		default:
			return 2;
		}
	}
	/* The same addresses with the same seed */
	if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE)) {
		personality(ADDR_NO_RANDOMIZE);
		execv("/proc/self/exe", argv);
	}
	if (users < 0 || kernels < 0 || !(users + kernels) || users + kernels > MAX_WORKERS ||
	    (owner >= OWNER_IOPMEM && kernels) ||
	    ((owner == OWNER_VFIO || owner == OWNER_CDEV) && users > 1))
		return 2;
	opt_alone = users + kernels == 1 && !opt_touch && !want_readers;
	if (!find_bar() || !own_bar() || !map_mirror(true) || pipe(fds)) {
		perror("no BAR");
		return 1;
	}
	if (opt_fail) {
		prepare_failures();
		if (!opt_fail) {
			printf("not ok - no failing allocations in this kernel; see -F\n");
			return 1;
		}
	}
	printf("# seed %llu, %d + %d workers, %d threads%s%s%s, %ld seconds\n",
	       (unsigned long long)seed, users, kernels, users * opt_touch,
	       want_readers ? ", readers" : "", owners[owner],
	       opt_fail ? ", allocations fail" : "", (long)seconds);
	fflush(stdout);

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (nr = 0; nr < users + kernels; nr++) {
		pids[nr] = fork();
		if (!pids[nr])
			work(nr < users ? &user_worker : &kernel_worker, nr, seed,
			     time(NULL) + seconds, max, fds[1]);
	}
	/* It must not hold the pipe open, nor what a device that goes was mapped by. */
	close(fds[1]);
	unmap_mirror();
	if (want_readers) {
		reader = fork();
		if (!reader)
			read_for_ever(pids, nr);
	}
	while (read(fds[0], &res, sizeof(res)) == sizeof(res))
		total += res.ops;
	for (int i = 0; i < nr; i++) {
		if (waitpid(pids[i], &status, 0) != pids[i] || !WIFEXITED(status)) {
			printf("not ok - a worker ended by signal %d\n", WTERMSIG(status));
			failed++;
		} else {
			failed += !!WEXITSTATUS(status);
		}
	}
	if (reader > 0)
		kill(reader, SIGKILL);
	clock_gettime(CLOCK_MONOTONIC, &now);
	/* All passes where nothing is done. */
	failed += !total;
	took = now.tv_sec - begin.tv_sec + (now.tv_nsec - begin.tv_nsec) / 1e9;
	printf("%s - soak: seed %llu, %llu operations, %d mismatches, %.0f a second\n",
	       failed ? "not ok" : "ok", (unsigned long long)seed, (unsigned long long)total,
	       failed, total / took);
	return failed ? 1 : 0;
}
