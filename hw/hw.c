// SPDX-License-Identifier: GPL-2.0
/*
 * What huge leaves do on a real PCI BAR: are they what they should be, and what do they
 * cost and save in nanoseconds and TLB misses. Needs the kernel of the series and root;
 * static, so that nothing else has to be there. See hw/run and scripts/hw.
 *
 *   hw [options] DDDD:BB:DD.F BAR
 *     --write        write-combining stores, too: the contents are saved and restored
 *     --force        although a driver has the device, or reads may have side effects
 *     --runs N       of each measurement (7)
 *     --plan         only say what would be done
 *     --test FILE    the selftest vfio_leaf_test, to be run in the end
 *     --json FILE, --plot FILE    results, and a gnuplot script with them
 *
 * The status is 0, 1 if a check has failed or something went wrong, 2 if refused.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <emmintrin.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/perf_event.h>
#include <linux/vfio.h>

#define LIMIT		"/sys/kernel/mm/huge_iomap/limit"
#define PAT_LIST	"/sys/kernel/debug/x86/pat_memtype_list"
#define SZ_4K		0x1000UL
#define SZ_2M		0x200000UL
#define SZ_1G		0x40000000UL

#define READS		32768UL		/* in a run, at random */
#define TOUCH		SZ_1G		/* at most, a read for each 4 KiB of it */
#define STORES		(16 * SZ_2M)	/* at most, stored to */
#define MAX_RUNS	101

enum { LEAF_4K, LEAF_2M, LEAF_1G, NR_LEAF };
static const char * const names[NR_LEAF] = { "4K", "2M", "1G" };
static const unsigned long sizes[NR_LEAF] = { SZ_4K, SZ_2M, SZ_1G };

static struct {
	const char *bdf, *json, *plot, *test;
	int bar, runs;
	bool write, force, plan;
} opt = { .runs = 7 };

static struct {
	unsigned long start, bytes, flags;
	char driver[64], vendor[16], device[16];
	bool vfio;		/* a driver of vfio has it */
	int largest;		/* leaf that this machine and kernel can have here */
	bool mtrr_inside;	/* one begins or ends in the BAR */
	bool hypervisor, emulated;
	char where[32];		/* the hypervisor's name */
	char cpu[80];
} m;

/* What the parent puts back, whatever becomes of its child */
static struct {
	unsigned long saved;	/* bytes of the BAR in @contents */
	int failed, checks;
} *shared;
static char *contents;
static char limit[16];
static pid_t child;

static struct vfio {
	int container, group, device;
	unsigned long region;
	char why[160];		/* there is none */
} vfio = { -1, -1, -1, 0, "the device is not bound to vfio-pci" };

static FILE *json, *plot;
static char *json_text, *plot_text;
static size_t json_len, plot_len;

static void __attribute__((noreturn, format(printf, 1, 2))) refuse(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fputs("refused: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

static void __attribute__((noreturn)) die(const char *what)
{
	fflush(stdout);
	fprintf(stderr, "error: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void __attribute__((format(printf, 2, 3))) check(bool ok, const char *format, ...)
{
	va_list args;

	printf("%s - ", ok ? "ok" : "not ok");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	shared->checks++;
	shared->failed += !ok;
}

static const char *size(unsigned long n)
{
	static char text[4][24];
	static int i;
	char *s = text[i++ % 4];

	for (int shift = 40; shift >= 10; shift -= 10)
		if (n >> shift && (!(n & ((1UL << shift) - 1)) || shift == 10)) {
			sprintf(s, "%lu %ciB", n >> shift, "KMGT"[shift / 10 - 1]);
			return s;
		}
	sprintf(s, "%lu B", n);
	return s;
}

/* Files */

static bool read_line(const char *path, char *buf, size_t len)
{
	FILE *f = fopen(path, "r");
	bool ok;

	buf[0] = 0;
	if (!f)
		return false;
	ok = fgets(buf, len, f);
	fclose(f);
	buf[strcspn(buf, "\n")] = 0;
	return ok;
}

static const char *dev_path(const char *file)
{
	static char path[160];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", opt.bdf, file);
	return path;
}

static const char *resource(bool wc)
{
	char file[16];

	sprintf(file, "resource%d%s", opt.bar, wc ? "_wc" : "");
	return dev_path(file);
}

static bool file_has(const char *path, const char *word, char *line, size_t len)
{
	FILE *f = fopen(path, "r");
	bool found = false;

	while (f && !found && fgets(line, len, f))
		found = strstr(line, word);
	if (f)
		fclose(f);
	return found;
}

static int write_limit(const char *text)
{
	int fd = open(LIMIT, O_WRONLY), err = 0;

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		err = errno;
	if (fd >= 0)
		close(fd);
	return err;
}

static void set_limit(int leaf)
{
	errno = write_limit(names[leaf]);
	if (errno)
		die(LIMIT);
}

/* The number behind @key, in KiB */
static long status_kib(const char *key)
{
	char line[256];

	return file_has("/proc/self/status", key, line, sizeof(line)) ?
	       strtol(strchr(line, ':') + 1, NULL, 10) : -1;
}

/* What is there */

static void look_at_machine(void)
{
	unsigned int a, b, c, d, name[4] = {};
	char line[256];
	FILE *f;

	__cpuid(1, a, b, c, d);
	m.hypervisor = c & 1U << 31;
	if (m.hypervisor) {
		__cpuid(0x40000000, a, name[0], name[1], name[2]);
		memcpy(m.where, name, 12);
		for (int i = 0; m.where[i]; i++)
			if (m.where[i] < ' ' || m.where[i] > '~' || strchr("\"\\", m.where[i]))
				m.where[i] = '?';
	}
	m.emulated = !strncmp(m.where, "TCGTCGTCGTCG", 12);
	if (file_has("/proc/cpuinfo", "model name", line, sizeof(line)))
		snprintf(m.cpu, sizeof(m.cpu), "%.*s", (int)strcspn(strchr(line, ':') + 2, "\n\"\\"),
			 strchr(line, ':') + 2);
	m.largest = LEAF_4K;
	if (!access("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", F_OK)) {
		__cpuid(0x80000001, a, b, c, d);
		m.largest = d & 1 << 26 ? LEAF_1G : LEAF_2M;
	}
	f = fopen("/proc/mtrr", "r");
	while (f && fgets(line, sizeof(line), f)) {
		unsigned long base, bytes;
		char *p = strstr(line, "size=");
		char unit;

		if (sscanf(line, "reg%*d: base=0x%lx", &base) != 1 || !p ||
		    sscanf(p, "size=%lu%c", &bytes, &unit) != 2)
			continue;
		bytes <<= unit == 'G' ? 30 : unit == 'M' ? 20 : 10;
		for (int i = 0; i < 2; i++, base += bytes)
			m.mtrr_inside |= base > m.start && base < m.start + m.bytes;
	}
	if (f)
		fclose(f);
	while (m.largest && m.bytes < sizes[m.largest])
		m.largest--;
}

static void link_name(const char *file, char *name, size_t len)
{
	char to[PATH_MAX] = "";
	char *slash;

	if (readlink(dev_path(file), to, sizeof(to) - 1) < 0)
		to[0] = 0;
	slash = strrchr(to, '/');
	snprintf(name, len, "%s", slash ? slash + 1 : "");
}

static int first_large_bar(void)
{
	unsigned long start, end, flags;
	FILE *f = fopen(dev_path("resource"), "r");
	int bar = -1;

	for (int i = 0; f && i < 6 && bar < 0; i++)
		if (fscanf(f, "%lx %lx %lx", &start, &end, &flags) == 3 &&
		    flags & 0x200 && end - start + 1 >= SZ_1G)
			bar = i;
	if (f)
		fclose(f);
	return bar;
}

static void look_at_device(void)
{
	unsigned long start = 0, end = 0, flags = 0;
	struct stat st;
	FILE *f;

	if (access(dev_path(""), F_OK))
		refuse("there is no PCI device %s", opt.bdf);
	f = fopen(dev_path("resource"), "r");
	for (int i = 0; f && i <= opt.bar; i++)
		if (fscanf(f, "%lx %lx %lx", &start, &end, &flags) != 3)
			flags = 0;
	if (f)
		fclose(f);
	if (flags & 0x100)
		refuse("BAR %d of %s has I/O ports, not memory", opt.bar, opt.bdf);
	if (!(flags & 0x200) || !start)
		refuse("%s has no BAR %d of memory", opt.bdf, opt.bar);
	m.start = start;
	m.bytes = end - start + 1;
	m.flags = flags;
	if (m.bytes < SZ_4K || m.bytes % SZ_4K || start % SZ_4K)
		refuse("BAR %d has %lu bytes at %#lx: no whole pages", opt.bar, m.bytes, start);
	if (stat(resource(false), &st))
		refuse("no %s", resource(false));
	if ((unsigned long)st.st_size != m.bytes)
		refuse("%s has %lu bytes, BAR %d has %lu", resource(false),
		       (unsigned long)st.st_size, opt.bar, m.bytes);
	read_line(dev_path("vendor"), m.vendor, sizeof(m.vendor));
	read_line(dev_path("device"), m.device, sizeof(m.device));
	link_name("driver", m.driver, sizeof(m.driver));
	m.vfio = !access(dev_path("vfio-dev"), F_OK) || !strcmp(m.driver, "vfio-pci");
}

/* By its group and a type1 container: that keeps the device awake, too. */
static void open_vfio(void)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	struct vfio_region_info info = { .argsz = sizeof(info), .index = opt.bar };
	char name[64], path[96];

	if (!m.vfio)
		return;
	vfio.why[0] = 0;
	link_name("iommu_group", name, sizeof(name));
	snprintf(path, sizeof(path), "/dev/vfio/%s", name);
	if (!name[0]) {
		snprintf(vfio.why, sizeof(vfio.why), "there is no IOMMU");
		return;
	}
	vfio.group = open(path, O_RDWR);
	if (vfio.group < 0 && errno == EBUSY && !opt.force)
		refuse("a program has %s open, by %s", opt.bdf, m.driver);
	vfio.container = open("/dev/vfio/vfio", O_RDWR);
	if (vfio.group < 0 || vfio.container < 0)
		snprintf(vfio.why, sizeof(vfio.why), "%s: %s",
			 vfio.group < 0 ? path : "/dev/vfio/vfio", strerror(errno));
	else if (ioctl(vfio.group, VFIO_GROUP_GET_STATUS, &status) ||
		 !(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		snprintf(vfio.why, sizeof(vfio.why),
			 "other devices of IOMMU group %s have drivers", name);
	else if (ioctl(vfio.group, VFIO_GROUP_SET_CONTAINER, &vfio.container) ||
		 ioctl(vfio.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		snprintf(vfio.why, sizeof(vfio.why), "no type1: %s", strerror(errno));
	else
		vfio.device = ioctl(vfio.group, VFIO_GROUP_GET_DEVICE_FD, opt.bdf);
	if (vfio.device < 0) {
		if (!vfio.why[0])
			snprintf(vfio.why, sizeof(vfio.why), "%s cannot be opened: %s", opt.bdf,
				 strerror(errno));
		return;
	}
	if (ioctl(vfio.device, VFIO_DEVICE_GET_REGION_INFO, &info) ||
	    info.size != m.bytes || !(info.flags & VFIO_REGION_INFO_FLAG_MMAP))
		snprintf(vfio.why, sizeof(vfio.why), "vfio does not give out BAR %d", opt.bar);
	vfio.region = info.offset;
}

/* A device that sleeps or does not decode answers with ones, or with an error. */
static void is_awake(void)
{
	unsigned short command = 0;
	char state[32];
	int fd;

	if (read_line(dev_path("power_state"), state, sizeof(state)) && state[0] == 'D' &&
	    strcmp(state, "D0"))
		refuse("%s is in %s: echo on >%s", opt.bdf, state, dev_path("power/control"));
	fd = open(dev_path("config"), O_RDONLY);
	if (fd < 0 || pread(fd, &command, 2, 4) != 2)
		die(dev_path("config"));
	close(fd);
	if (!(command & 2))
		refuse("%s does not decode memory: echo 1 >%s", opt.bdf, dev_path("enable"));
}

static void tell_plan(void)
{
	struct utsname u;

	uname(&u);
	printf("Linux %s, %s%s%s%s\n", u.release, m.cpu, m.hypervisor ? ", on " : "", m.where,
	       m.emulated ? " (EMULATED: figures are not to be quoted)" :
	       m.hypervisor ? " (a virtual machine: its page tables have two stages)" : "");
	printf("%s %s:%s, BAR %d: %s at %#lx%s, driver: %s\n", opt.bdf, m.vendor, m.device, opt.bar,
	       size(m.bytes), m.start, m.flags & 0x2000 ? ", prefetchable" : "",
	       m.driver[0] ? m.driver : "none");
	printf("This will\n"
	       "- set %s, which is %s, to 4K, 2M and 1G, for all\n"
	       "  new mappings of the system, and back in the end\n"
	       "- map the BAR by %s, and read from it, %lu reads a\n"
	       "  run, and up to %lu more with each leaf size\n",
	       LIMIT, limit, resource(false), READS, TOUCH / SZ_4K);
	if (opt.write && m.driver[0])
		printf("- write nothing to the BAR: %s has the device\n", m.driver);
	else if (opt.write)
		printf("- OVERWRITE the first %s of the BAR. What is there is saved and restored;\n"
		       "  what the device does with it meanwhile, or by itself, is not known here\n",
		       size(m.bytes < STORES ? m.bytes : STORES));
	else
		printf("- write nothing to the BAR: WRITE=1 measures stores\n");
	if (m.vfio)
		printf("- open the device by %s, which resets it, and map the BAR for DMA by it\n",
		       m.driver);
	else
		printf("- not map it for DMA: %s\n", vfio.why);
	if (opt.test)
		printf("- run vfio_leaf_test, which binds it to vfio-pci, resets it and gives it back%s\n",
		       !strcmp(m.vendor, "0x1af4") && !strcmp(m.device, "0x1110") ?
		       ", and writes\n  to the BAR of an ivshmem like this" : "");
	fflush(stdout);
}

/* Figures */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts @v: the least is the first. */
static double median(double *v, int n)
{
	qsort(v, n, sizeof(*v), by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static struct {
	int fd;
	char why[80];
} tlb = { .fd = -1 };

static void open_tlb(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HW_CACHE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_CACHE_DTLB | PERF_COUNT_HW_CACHE_OP_READ << 8 |
			  PERF_COUNT_HW_CACHE_RESULT_MISS << 16,
		.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
		.disabled = 1,
		.exclude_kernel = 1,
		.exclude_hv = 1,
	};

	tlb.fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
	if (tlb.fd < 0)
		snprintf(tlb.why, sizeof(tlb.why), "%s", strerror(errno));
}

static void tlb_start(void)
{
	if (tlb.fd >= 0) {
		ioctl(tlb.fd, PERF_EVENT_IOC_RESET, 0);
		ioctl(tlb.fd, PERF_EVENT_IOC_ENABLE, 0);
	}
}

/* -1: not available, or counted only for a part of the time */
static double tlb_stop(void)
{
	static unsigned long enabled, running;
	unsigned long v[3], e, r;

	if (tlb.fd < 0)
		return -1;
	ioctl(tlb.fd, PERF_EVENT_IOC_DISABLE, 0);
	if (read(tlb.fd, v, sizeof(v)) != sizeof(v))
		return -1;
	e = v[1] - enabled;
	r = v[2] - running;
	enabled = v[1];
	running = v[2];
	return r && r == e ? v[0] : -1;
}

static void stay_on_one_cpu(void)
{
	char line[128];
	cpu_set_t set;
	int cpu;

	/* One that is near the device */
	cpu = read_line(dev_path("local_cpulist"), line, sizeof(line)) && line[0] ?
	      atoi(line) : sched_getcpu();
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set)) {
		cpu = sched_getcpu();
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
	printf("CPU %d, TLB misses: %s\n", cpu, tlb.fd < 0 ? "not available" : "dTLB-load-misses");
	if (tlb.fd < 0)
		printf("  (perf_event_open: %s)\n", tlb.why);
}

/* Mappings */

static int open_bar(bool wc, int mode)
{
	int fd = open(resource(wc), mode);

	if (fd < 0)
		die(resource(wc));
	return fd;
}

static char *map(int fd, unsigned long bytes, unsigned long offset, int prot)
{
	char *va = mmap(NULL, bytes, prot, MAP_SHARED, fd, offset);

	if (va != MAP_FAILED)
		return va;
	if (errno == EPERM)
		fprintf(stderr, "mmap() is not permitted: kernel lockdown, as with secure boot?\n");
	else if (errno == EINVAL && m.driver[0])
		fprintf(stderr, "%s has the BAR, and CONFIG_IO_STRICT_DEVMEM may be set: iomem=relaxed\n",
			m.driver);
	die("mmap");
}

struct leaves {
	unsigned long bytes[NR_LEAF];
};

/* What smaps says of [va, va + bytes) */
static bool smaps(const char *va, unsigned long bytes, struct leaves *l)
{
	static const char * const key[NR_LEAF] = {
		"PfnPteMapped:", "PfnPmdMapped:", "PfnPudMapped:",
	};
	unsigned long from, to, kib;
	FILE *f = fopen("/proc/self/smaps", "r");
	bool inside = false;
	char line[512];
	int seen = 0;

	*l = (struct leaves) {};
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
			inside = from >= (unsigned long)va && to <= (unsigned long)va + bytes;
			continue;
		}
		for (int i = 0; inside && i < NR_LEAF; i++)
			if (!strncmp(line, key[i], strlen(key[i])) &&
			    sscanf(line + strlen(key[i]), "%lu", &kib) == 1)
				l->bytes[i] += kib << 10, seen++;
	}
	if (f)
		fclose(f);
	return seen;
}

/* The largest leaf that fits each block of the BAR; the address has to be congruent. */
static struct leaves ideal(unsigned long bytes, int max)
{
	struct leaves l = {};

	for (unsigned long o = 0, leaf; o < bytes; o += leaf) {
		int i = max;

		while (i && ((m.start + o) % sizes[i] || bytes - o < sizes[i]))
			i--;
		leaf = sizes[i];
		l.bytes[i] += leaf;
	}
	return l;
}

static void check_leaves(const char *how, const char *va, unsigned long bytes, int max)
{
	struct leaves want = ideal(bytes, max), have;
	bool same;

	if (!smaps(va, bytes, &have)) {
		check(false, "%s, limit %s: smaps has no PfnPteMapped: not the whole series?", how,
		      names[max]);
		return;
	}
	same = !memcmp(&want, &have, sizeof(want));
	if (!same && (m.mtrr_inside || (m.driver[0] && !m.vfio))) {
		printf("skip - %s, limit %s: %s\n", how, names[max], m.mtrr_inside ?
		       "an MTRR begins or ends in the BAR, the leaves are other ones" :
		       "the leaves are other ones, perhaps for the driver's mappings");
		return;
	}
	check(same,
	      "%s, limit %s: smaps has %lu, %lu, %lu kB in 4K, 2M, 1G leaves, expected %lu, %lu, %lu",
	      how, names[max], have.bytes[0] >> 10, have.bytes[1] >> 10, have.bytes[2] >> 10,
	      want.bytes[0] >> 10, want.bytes[1] >> 10, want.bytes[2] >> 10);
}

/* Results */

static int in_section;

static void section(const char *name)
{
	fprintf(json, "%s  \"%s\": [", in_section < 0 ? "" : "\n  ],\n", name);
	in_section = 0;
}

static void __attribute__((format(printf, 1, 2))) object(const char *format, ...)
{
	va_list args;

	fprintf(json, "%s\n    {", in_section++ ? "," : "");
	va_start(args, format);
	vfprintf(json, format, args);
	va_end(args);
	fputc('}', json);
}

/* Reads */

/* A bijection of [0, 2^bits): an order of pages without a table of them */
static unsigned int scatter(unsigned int i, unsigned int bits)
{
	const unsigned int mask = bits < 32 ? (1U << bits) - 1 : ~0U;

	for (int k = 0; k < 3; k++) {
		i = (i * 0x9e3779b1U + 0x7f4a7c15U) & mask;
		i ^= i >> (bits + 1) / 2;
	}
	return i & mask;
}

/*
 * Each address depends on what was read before, as in a list. The BAR cannot hold one, so
 * the order comes from @order, and nothing of the value: the compiler cannot know that
 * @none is 0.
 */
static unsigned long __attribute__((noinline))
chase(const char *va, const unsigned int *order, unsigned long n, unsigned long none)
{
	unsigned long v = 0;

	for (unsigned long i = 0; i < n; i++)
		v = *(const volatile unsigned int *)(va + order[i] * SZ_4K + (v & none));
	return v;
}

static const char *number(double v)
{
	static char text[32];

	snprintf(text, sizeof(text), "%.4f", v);
	return text;
}

static char tics[1024] = "set xtics (";	/* of the plot */

static void reads(int fd)
{
	unsigned long spans[64], nr = 0, none = 0, ones = 0;
	static unsigned int order[READS];
	double ns[MAX_RUNS], misses[MAX_RUNS];

	for (unsigned long span = SZ_4K; span < m.bytes; span *= 4)
		spans[nr++] = span;
	/* The whole, or of a BAR that is no power of two what is one */
	for (spans[nr] = SZ_4K; spans[nr] * 2 <= m.bytes;)
		spans[nr] *= 2;
	if (!nr || spans[nr] > spans[nr - 1])
		nr++;
	for (unsigned long i = 0; i < nr; i++)
		sprintf(tics + strlen(tics), "%s'%s' %lu", i ? ", " : "", size(spans[i]), spans[i]);
	strcat(tics, ")\n");
	printf("\nDependent reads of 4 bytes, one a page, in random order: ns a read\n");
	section("reads");
	for (int leaf = 0; leaf <= m.largest; leaf++) {
		char *va;

		set_limit(leaf);
		va = map(fd, m.bytes, 0, PROT_READ);
		check_leaves("reads", va, m.bytes, leaf);
		printf("%-10s %-4s %10s %10s %12s\n", "span", "leaf", "median", "least", "TLB misses");
		fprintf(plot, "$leaf%s << END\n", names[leaf]);
		for (unsigned long s = 0; s < nr; s++) {
			unsigned int bits = __builtin_ctzl(spans[s] / SZ_4K), next = 0;
			double med, miss = -1;
			bool counted = true;

			ones = 0;
			/* One more, to begin with, that does not count */
			for (int r = -1; r < opt.runs; r++) {
				double t, c;

				/* Other pages in each run, as far as there are */
				for (unsigned long i = 0; i < READS; i++)
					order[i] = bits ? scatter(next++, bits) : 0;
				asm volatile("" : "+r" (none));
				tlb_start();
				t = now();
				ones += (unsigned int)chase(va, order, READS, none) == ~0U;
				t = now() - t;
				c = tlb_stop();
				if (r < 0)
					continue;
				ns[r] = t / READS;
				misses[r] = c / READS;
				counted &= c >= 0;
			}
			med = median(ns, opt.runs);
			if (counted)
				miss = median(misses, opt.runs);
			printf("%-10s %-4s %10.1f %10.1f %12s\n", size(spans[s]), names[leaf],
			       med, ns[0], counted ? number(miss) : "-");
			fprintf(plot, "%lu %.2f %.2f %s\n", spans[s], med, ns[0],
				counted ? number(miss) : "NaN");
			object("\"leaf\": \"%s\", \"span\": %lu, \"reads\": %lu, \"runs\": %d, "
			       "\"ns_median\": %.2f, \"ns_min\": %.2f, \"dtlb_misses\": %s",
			       names[leaf], spans[s], READS, opt.runs, med, ns[0],
			       counted ? number(miss) : "null");
			fflush(stdout);
		}
		fprintf(plot, "END\n");
		munmap(va, m.bytes);
	}
	if (ones == (unsigned long)opt.runs + 1)
		printf("All that was looked at is ffffffff: does the device answer at all?\n");
}

/* mmap() and munmap() of the whole BAR, and of what is read once a page */

static void touch(const char *va, unsigned long bytes)
{
	for (unsigned long o = 0; o < bytes; o += SZ_4K)
		(void)*(const volatile unsigned int *)(va + o);
}

static long faults(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_SELF, &usage) ? -1 : usage.ru_minflt;
}

static void mappings(const char *how, int fd, unsigned long offset, bool by_faults)
{
	const unsigned long some = m.bytes < TOUCH ? m.bytes : TOUCH;
	double ns[3][MAX_RUNS], med[3];

	for (int leaf = 0; leaf <= m.largest; leaf++) {
		for (int part = 0; part < 2; part++) {
			const unsigned long bytes = part ? some : m.bytes;
			long nr = 0, tables = 0;

			/* What comes by faults has no leaves without an access. */
			if (!part && by_faults && bytes > some)
				continue;
			set_limit(leaf);
			for (int r = 0; r < opt.runs; r++) {
				double t[4];
				char *va;

				nr = faults();
				tables = status_kib("VmPTE");
				t[0] = now();
				va = map(fd, bytes, offset, PROT_READ);
				t[1] = now();
				if (part)
					touch(va, bytes);
				t[2] = now();
				tables = status_kib("VmPTE") - tables;
				nr = faults() - nr;
				if (!r && (part || !by_faults))
					check_leaves(how, va, bytes, leaf);
				t[3] = now();
				munmap(va, bytes);
				ns[2][r] = now() - t[3];
				ns[0][r] = t[1] - t[0];
				ns[1][r] = t[2] - t[1];
			}
			for (int i = 0; i < 3; i++)
				med[i] = median(ns[i], opt.runs);
			printf("%-6s %-8s %-4s mmap %.0f (%.0f) ns", how, size(bytes), names[leaf],
			       med[0], ns[0][0]);
			if (part)
				printf(", a read a page %.0f (%.0f) ns", med[1], ns[1][0]);
			printf(", munmap %.0f (%.0f) ns, page tables %ld KiB, %ld faults\n", med[2],
			       ns[2][0], tables, nr);
			object("\"how\": \"%s\", \"bytes\": %lu, \"leaf\": \"%s\", \"runs\": %d, "
			       "\"mmap_ns_median\": %.0f, \"mmap_ns_min\": %.0f, "
			       "\"munmap_ns_median\": %.0f, \"munmap_ns_min\": %.0f, "
			       "\"table_kib\": %ld, \"faults\": %ld, \"reads\": %lu, "
			       "\"reads_ns_median\": %.0f, \"reads_ns_min\": %.0f",
			       how, bytes, names[leaf], opt.runs, med[0], ns[0][0], med[2], ns[2][0],
			       tables, nr, part ? bytes / SZ_4K : 0, part ? med[1] : 0,
			       part ? ns[1][0] : 0);
			fflush(stdout);
		}
	}
}

/* Write-combining stores */

static bool pat_says(char *type, size_t len)
{
	FILE *f = fopen(PAT_LIST, "r");
	unsigned long s, e;
	char line[128], name[32];
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		if (sscanf(line, "PAT: [mem %lx-%lx] %31s", &s, &e, name) == 3 &&
		    s <= m.start && e > m.start) {
			snprintf(type, len, "%s", name);
			found = true;
		}
	if (f)
		fclose(f);
	return found;
}

static void copy(void *to, const void *from, unsigned long bytes)
{
	const __m128i *s = from;
	__m128i *d = to;

	for (unsigned long i = 0; i < bytes / sizeof(*d); i++)
		_mm_store_si128(d + i, _mm_load_si128(s + i));
	_mm_sfence();
}

/* By the child, or by the parent if that has ended before */
static void restore(void)
{
	unsigned long bytes = shared->saved;
	int fd = open(resource(true), O_RDWR);
	char *va = fd < 0 ? MAP_FAILED :
		   mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (va == MAP_FAILED) {
		fprintf(stderr, "error: the first %lu bytes of the BAR are NOT restored: %s\n",
			bytes, strerror(errno));
		shared->failed++;
		return;
	}
	copy(va, contents, bytes);
	shared->saved = 0;
	munmap(va, bytes);
	close(fd);
}

static void stores(void)
{
	const unsigned long bytes = m.bytes < STORES ? m.bytes : STORES;
	char type[32] = "not known", *va;
	unsigned long differ = 0;
	double ns[MAX_RUNS];
	int fd;

	section("stores");
	if (!opt.write)
		return;
	/* It uses the memory; and vfio-pci maps it uncached, which excludes another type. */
	if (m.driver[0]) {
		printf("\nskip - stores: %s has the device: unbind it for these\n", m.driver);
		return;
	}
	printf("\nStores of 16 bytes to %s of %s, one after the other, and a read in the end\n",
	       size(bytes), resource(true));
	if (access(resource(true), F_OK)) {
		printf("skip - stores: there is no %s\n", resource(true));
		return;
	}
	fd = open_bar(true, O_RDWR);
	va = map(fd, m.bytes, 0, PROT_READ | PROT_WRITE);
	copy(contents, va, bytes);
	munmap(va, m.bytes);
	shared->saved = bytes;
	for (int leaf = 0; leaf <= m.largest; leaf++) {
		double med;

		set_limit(leaf);
		va = map(fd, m.bytes, 0, PROT_READ | PROT_WRITE);
		pat_says(type, sizeof(type));
		check_leaves("write-combining", va, m.bytes, leaf);
		for (int r = 0; r < opt.runs; r++) {
			const __m128i v = _mm_set1_epi32(0x5a000000 + leaf * MAX_RUNS + r);

			ns[r] = now();
			for (unsigned long o = 0; o < bytes; o += sizeof(v))
				_mm_store_si128((__m128i *)(va + o), v);
			_mm_sfence();
			/* It comes back when all that was stored has arrived. */
			(void)*(volatile unsigned int *)(va + bytes - 4);
			ns[r] = now() - ns[r];
			differ = 0;
			for (unsigned long o = 0; o < bytes; o += SZ_4K)
				differ += *(volatile unsigned int *)(va + o) !=
					  0x5a000000U + leaf * MAX_RUNS + r;
		}
		munmap(va, m.bytes);
		med = median(ns, opt.runs);
		printf("%-4s %8.3f GB/s, at best %8.3f GB/s, type %s%s\n", names[leaf], bytes / med,
		       bytes / ns[0], type, strcmp(type, "write-combining") &&
		       strcmp(type, "not known") ? ": NOT write-combining" : "");
		check(!differ, "stores, limit %s: %lu of %lu pages do not hold what was stored",
		      names[leaf], differ, bytes / SZ_4K);
		object("\"leaf\": \"%s\", \"bytes\": %lu, \"runs\": %d, \"type\": \"%s\", "
		       "\"gb_per_s_median\": %.4f, \"gb_per_s_max\": %.4f",
		       names[leaf], bytes, opt.runs, type, bytes / med, bytes / ns[0]);
		fflush(stdout);
	}
	restore();
	va = map(fd, bytes, 0, PROT_READ);
	differ = 0;
	for (unsigned long o = 0; o < bytes; o += 4)
		differ += *(volatile unsigned int *)(va + o) != *(unsigned int *)(contents + o);
	munmap(va, bytes);
	close(fd);
	check(!differ, "stores: %lu of %lu words are not what was there before", differ, bytes / 4);
}

/* DMA */

/* An IO address that is free and congruent with the BAR; 0 if there is none */
static unsigned long find_iova(unsigned long bytes)
{
	static char buf[4096];
	struct vfio_iommu_type1_info *info = (void *)buf;
	const unsigned long rest = m.start % SZ_1G;
	unsigned int at;

	info->argsz = sizeof(buf);
	if (ioctl(vfio.container, VFIO_IOMMU_GET_INFO, info) ||
	    !(info->flags & VFIO_IOMMU_INFO_CAPS))
		return 0;
	for (at = info->cap_offset; at; at = ((struct vfio_info_cap_header *)(buf + at))->next) {
		struct vfio_iommu_type1_info_cap_iova_range *r = (void *)(buf + at);

		if (r->header.id != VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
			continue;
		for (unsigned int i = 0; i < r->nr_iovas; i++) {
			unsigned long iova = r->iova_ranges[i].start;

			if (iova < 4 * SZ_1G)
				iova = 4 * SZ_1G;
			iova = (iova + SZ_1G - 1) / SZ_1G * SZ_1G + rest;
			if (iova + bytes - 1 <= r->iova_ranges[i].end)
				return iova;
		}
	}
	return 0;
}

static void dma(void)
{
	double ns[2][MAX_RUNS], med[2];
	unsigned long iova;

	section("dma");
	if (vfio.why[0]) {
		printf("skip - DMA: %s\n", vfio.why);
		return;
	}
	iova = find_iova(m.bytes);
	if (!iova) {
		printf("skip - DMA: no range of IO addresses of %s\n", size(m.bytes));
		return;
	}
	printf("\nVFIO_IOMMU_MAP_DMA (type1) of the BAR at IO address %#lx\n", iova);
	for (int leaf = 0; leaf <= m.largest; leaf++) {
		char *va;

		set_limit(leaf);
		va = map(vfio.device, m.bytes, vfio.region, PROT_READ | PROT_WRITE);
		for (int r = 0; r < opt.runs; r++) {
			struct vfio_iommu_type1_dma_map map = {
				.argsz = sizeof(map),
				.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
				.vaddr = (unsigned long)va, .iova = iova, .size = m.bytes,
			};
			struct vfio_iommu_type1_dma_unmap unmap = {
				.argsz = sizeof(unmap), .iova = iova, .size = m.bytes,
			};
			double t[2];

			t[0] = now();
			if (ioctl(vfio.container, VFIO_IOMMU_MAP_DMA, &map)) {
				printf("skip - DMA: VFIO_IOMMU_MAP_DMA: %s\n", strerror(errno));
				munmap(va, m.bytes);
				return;
			}
			t[1] = now();
			ns[0][r] = t[1] - t[0];
			if (ioctl(vfio.container, VFIO_IOMMU_UNMAP_DMA, &unmap))
				die("VFIO_IOMMU_UNMAP_DMA");
			ns[1][r] = now() - t[1];
			if (unmap.size != m.bytes)
				check(false, "DMA: %llu bytes were unmapped", unmap.size);
		}
		/* It has faulted all of it in. */
		check_leaves("DMA", va, m.bytes, leaf);
		munmap(va, m.bytes);
		for (int i = 0; i < 2; i++)
			med[i] = median(ns[i], opt.runs);
		printf("%-8s %-4s map %.0f (%.0f) ns, unmap %.0f (%.0f) ns\n", size(m.bytes),
		       names[leaf], med[0], ns[0][0], med[1], ns[1][0]);
		object("\"bytes\": %lu, \"leaf\": \"%s\", \"runs\": %d, \"map_ns_median\": %.0f, "
		       "\"map_ns_min\": %.0f, \"unmap_ns_median\": %.0f, \"unmap_ns_min\": %.0f",
		       m.bytes, names[leaf], opt.runs, med[0], ns[0][0], med[1], ns[1][0]);
		fflush(stdout);
	}
}

/* In the end */

static void save(const char *path, const char *text)
{
	FILE *f = path ? fopen(path, "w") : NULL;

	if (!path)
		return;
	if (!f || fputs(text, f) < 0 || fclose(f))
		die(path);
	printf("wrote %s\n", path);
}

static void finish_plot(void)
{
	const char *mark = m.emulated ? ", EMULATED: not to be quoted" :
			   m.hypervisor ? ", in a virtual machine" : "";

	for (int graph = 0; graph < (tlb.fd < 0 ? 1 : 2); graph++) {
		if (!graph)
			fprintf(plot, "if (!exists('out')) out = 'hw.svg'\n"
				"set terminal svg size 900,%d background 'white'\nset output out\n"
				"set logscale x 2\n%s"
				"set key top left\nset grid\nset yrange [0:*]\n"
				"set xlabel 'span of the BAR that is read, at random'\n%s",
				tlb.fd < 0 ? 500 : 900, tics,
				tlb.fd < 0 ? "" : "set multiplot layout 2,1\n");
		fprintf(plot, "set title \"%s BAR %d, %s%s\" noenhanced\nset ylabel '%s'\nplot ",
			opt.bdf, opt.bar, m.cpu, mark,
			graph ? "dTLB load misses a read" : "ns a dependent read, median");
		for (int leaf = 0; leaf <= m.largest; leaf++)
			fprintf(plot, "%s$leaf%s using 1:%d with linespoints title '%s leaves'",
				leaf ? ", " : "", names[leaf], graph ? 4 : 2, names[leaf]);
		fputc('\n', plot);
	}
}

static void measure(void)
{
	struct utsname u;
	int fd;

	/* Ctrl-C ends this process; the parent puts back what has to be. */
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == 1)
		_exit(1);
	json = open_memstream(&json_text, &json_len);
	plot = open_memstream(&plot_text, &plot_len);
	if (!json || !plot)
		die("open_memstream");
	open_tlb();
	stay_on_one_cpu();
	uname(&u);
	fprintf(json, "{\n  \"kernel\": \"%s\", \"cpu\": \"%s\",\n"
		"  \"hypervisor\": %s%s%s, \"emulated\": %s, \"tlb\": %s,\n"
		"  \"bdf\": \"%s\", \"vendor\": \"%s\", \"device\": \"%s\", \"driver\": \"%s\",\n"
		"  \"bar\": %d, \"bytes\": %lu, \"start\": %lu, \"prefetchable\": %s,\n",
		u.release, m.cpu, m.hypervisor ? "\"" : "", m.hypervisor ? m.where : "null",
		m.hypervisor ? "\"" : "", m.emulated ? "true" : "false",
		tlb.fd < 0 ? "null" : "\"dTLB-load-misses\"", opt.bdf, m.vendor, m.device, m.driver,
		opt.bar, m.bytes, m.start, m.flags & 0x2000 ? "true" : "false");
	in_section = -1;

	fd = open_bar(false, O_RDONLY);
	printf("\nMedian and, in parentheses, the least of %d runs\n", opt.runs);
	section("mappings");
	mappings("sysfs", fd, 0, false);
	reads(fd);
	close(fd);
	stores();
	section("vfio_mappings");
	if (!vfio.why[0])
		mappings("vfio", vfio.device, vfio.region, true);
	else
		printf("\nskip - mappings by vfio: %s\n", vfio.why);
	dma();
	fprintf(json, "\n  ],\n  \"checks\": %d, \"failed\": %d\n}\n", shared->checks, shared->failed);
	finish_plot();
	fclose(json);
	fclose(plot);
	printf("\n");
	save(opt.json, json_text);
	save(opt.plot, plot_text);
	fflush(stdout);
}

static void run_test(void)
{
	const int bar = first_large_bar();
	char line[512], command[600];
	int passed = 0, failed = 0, skipped = 0, status;
	FILE *f;

	if (!opt.test)
		return;
	printf("\nvfio_leaf_test, a selftest of the kernel\n");
	if (bar != opt.bar) {
		printf(bar < 0 ? "skip - vfio_leaf_test: it takes a BAR of 1 GiB at least\n" :
		       "skip - vfio_leaf_test: it takes the first BAR of 1 GiB, which is %d\n", bar);
		return;
	}
	if (m.driver[0] && !m.vfio) {
		printf("skip - vfio_leaf_test: it would take the device from %s\n", m.driver);
		return;
	}
	if (!m.vfio && access("/sys/bus/pci/drivers/vfio-pci", F_OK)) {
		printf("skip - vfio_leaf_test: vfio-pci is not there: modprobe vfio-pci\n");
		return;
	}
	fflush(stdout);
	setenv("VFIO_SELFTESTS_BDF", opt.bdf, 1);
	/* It does not put back what it writes, so it only reads. */
	setenv("VFIO_LEAF_WRITE", "0", 1);
	snprintf(command, sizeof(command), "'%s' 2>&1", opt.test);
	f = popen(command, "r");
	if (!f)
		die(opt.test);
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "not ok ", 7))
			failed++;
		else if (!strncmp(line, "ok ", 3) && strstr(line, "# SKIP"))
			skipped++;
		else if (!strncmp(line, "ok ", 3))
			passed++;
		if (!strncmp(line, "not ok ", 7) || strstr(line, "Expected") || strstr(line, "SKIP"))
			printf("  %s", line);
	}
	status = pclose(f);
	/* All skipped is a status, too. */
	check(!failed && passed + skipped && WIFEXITED(status),
	      "vfio_leaf_test: %d passed, %d failed, %d skipped", passed, failed, skipped);
}

static void end_child(int sig)
{
	(void)sig;
	if (child > 0)
		kill(child, SIGTERM);
}

static const struct option options[] = {
	{ "write", no_argument, NULL, 'w' }, { "force", no_argument, NULL, 'f' },
	{ "runs", required_argument, NULL, 'r' }, { "plan", no_argument, NULL, 'n' },
	{ "test", required_argument, NULL, 't' }, { "json", required_argument, NULL, 'j' },
	{ "plot", required_argument, NULL, 'p' }, {}
};

static void usage(void)
{
	fprintf(stderr, "usage: hw [--write] [--force] [--runs N] [--plan] [--test FILE]\n"
		"          [--json FILE] [--plot FILE] DDDD:BB:DD.F BAR\n");
	exit(2);
}

int main(int argc, char **argv)
{
	unsigned int dom, bus, slot, fn;
	int o, status, err, n = 0;
	char *end;

	while ((o = getopt_long(argc, argv, "", options, NULL)) >= 0)
		switch (o) {
		case 'w':
			opt.write = true;
			break;
		case 'f':
			opt.force = true;
			break;
		case 'r':
			opt.runs = atoi(optarg);
			break;
		case 'n':
			opt.plan = true;
			break;
		case 't':
			opt.test = optarg;
			break;
		case 'j':
			opt.json = optarg;
			break;
		case 'p':
			opt.plot = optarg;
			break;
		default:
			usage();
		}
	if (argc - optind != 2 || opt.runs < 1 || opt.runs > MAX_RUNS)
		usage();
	opt.bdf = argv[optind];
	opt.bar = strtol(argv[optind + 1], &end, 10);
	if (sscanf(opt.bdf, "%4x:%2x:%2x.%1u%n", &dom, &bus, &slot, &fn, &n) != 4 || opt.bdf[n] ||
	    n != 12)
		refuse("%s is no device: 0000:bb:dd.f", opt.bdf);
	if (*end || end == argv[optind + 1] || opt.bar < 0 || opt.bar > 5)
		refuse("BAR %s is none of 0 to 5", argv[optind + 1]);
	if (geteuid())
		refuse("this is for root");
	if (!read_line(LIMIT, limit, sizeof(limit)))
		refuse("this kernel has no %s: not the series, or CONFIG_HUGE_IOMAP is not set", LIMIT);
	look_at_device();
	look_at_machine();
	if (file_has("/proc/cmdline", "nohugeiomap", (char [4096]) {}, 4096))
		refuse("booted with nohugeiomap: all leaves have 4K");
	if (m.driver[0] && !m.vfio && !opt.force)
		refuse("%s has the driver %s: unbind it, or FORCE=1", opt.bdf, m.driver);
	if (!(m.flags & 0x2000) && !opt.force)
		refuse("BAR %d is not prefetchable: reads may have side effects; FORCE=1 reads it", opt.bar);

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	contents = mmap(NULL, STORES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || contents == MAP_FAILED)
		die("mmap");
	tell_plan();
	if (opt.plan)
		return 0;
	open_vfio();
	is_awake();

	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGTERM, end_child);
	child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		measure();
		exit(0);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	child = 0;
	if (shared->saved) {
		restore();
		printf("what was in the BAR is %s\n", shared->saved ? "LOST" : "restored");
	}
	err = write_limit(limit);
	if (err)
		fprintf(stderr, "error: %s is not set back to %s: %s\n", LIMIT, limit, strerror(err));
	close(vfio.device);
	close(vfio.group);
	close(vfio.container);
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	if (WIFSIGNALED(status))
		fprintf(stderr, "error: ended by signal %d%s\n", WTERMSIG(status),
			WTERMSIG(status) == SIGBUS ? ": the device has gone?" : "");
	if (!WIFEXITED(status) || WEXITSTATUS(status) || err)
		return 1;
	run_test();
	printf("%d checks, %d failed\n", shared->checks, shared->failed);
	return shared->failed ? 1 : 0;
}
