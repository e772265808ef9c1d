// SPDX-License-Identifier: GPL-2.0
/*
 * System calls on part of a leaf of device memory, with each allocation failing in
 * turn, alone and with all pages after it: the call works, or it returns an error and
 * has changed nothing. A model says which page of the BAR is where; it knows nothing
 * of leaves and tables.
 */
#include "huge_iomap_vfio.h"

#include <asm/mman.h>
#include <linux/fs.h>
#include <linux/mempolicy.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

/* The mapping under test and where parts of it move to, in the area */
#define SRC		SZ_1G
#define DST		(5 * SZ_1G)
#define AREA		(9 * SZ_1G)

#define MAX_SEGS	16

enum path { DRIVER, SYSFS, DEV_MEM, VFIO };

/* Part of the area: a mapping of the BAR, or an anonymous one */
struct seg {
	__u64 start, end;	/* offsets in the area */
	__u64 offset;		/* in the BAR */
	int prot;
	bool anon;
	bool denied;		/* by a protection key */
	bool empty;		/* a VMA that nothing is mapped in */
};

struct model {
	struct seg seg[MAX_SEGS];
	int nr;
};

enum what {
	MOVE, MOVE_ONTO, MOVE_VMAS, MOVE_SHRINK, SHRINK, GROW, GROW_MAYMOVE,
	DUPLICATE, DONTUNMAP, UNMAP, PROTECT, ALLOW, KEY, ADVISE, LOCK, LOCK2, UNLOCK,
	BIND, MAP_ANON_OVER, MAP_BAR_OVER, SEAL, FORK,
};

static const char * const names[] = {
	"move", "move onto", "move VMAs", "move and shrink", "shrink", "grow",
	"grow, may move", "duplicate", "do not unmap", "munmap", "mprotect",
	"mprotect back", "pkey_mprotect", "madvise", "mlock", "mlock2", "munlock",
	"mbind", "mmap anonymous over", "mmap the BAR over", "mseal", "fork",
};

struct call {
	enum what op;
	int arg;		/* protection, advice, or key */
	int err;		/* what it returns when nothing fails */
	__u64 from, to;		/* offsets in the area */
	__u64 dest, new_len;
	__u64 offset;		/* in the BAR */
	const char *flag;	/* in the line VmFlags afterwards */
};

/* What children of a test tell it */
struct report {
	char bad[200];
	int left;
};

struct ctx {
	enum path path;
	int fd, mem;
	__u64 bar;		/* physical address */
	__u64 base, shown;	/* where it begins in the file, and in maps */
	__u64 unit;		/* of a leaf, or some pages if they are all 4K */
	char *area, *view;	/* what the tests change, and what they never do */
	int maps, kmsg;
	int nth, make;		/* of the failing allocations */
	bool all;		/* those after it fail, too */
	struct report *report;
};

/* The model */

static void split_seg(struct model *m, __u64 at)
{
	for (int i = 0; i < m->nr; i++) {
		struct seg *s = &m->seg[i];

		if (s->start >= at || s->end <= at || m->nr == MAX_SEGS)
			continue;
		memmove(s + 1, s, (m->nr - i) * sizeof(*s));
		m->nr++;
		s[0].end = at;
		s[1].offset += at - s[1].start;
		s[1].start = at;
		return;
	}
}

static void cut(struct model *m, __u64 from, __u64 to)
{
	int n = 0;

	split_seg(m, from);
	split_seg(m, to);
	for (int i = 0; i < m->nr; i++)
		if (m->seg[i].start < from || m->seg[i].start >= to)
			m->seg[n++] = m->seg[i];
	m->nr = n;
}

static void put(struct model *m, struct seg s)
{
	int i;

	cut(m, s.start, s.end);
	if (m->nr == MAX_SEGS)
		return;
	for (i = m->nr++; i && m->seg[i - 1].start > s.start; i--)
		m->seg[i] = m->seg[i - 1];
	m->seg[i] = s;
}

static void move(struct model *m, __u64 from, __u64 to, __u64 dest)
{
	struct model old;

	split_seg(m, from);
	split_seg(m, to);
	old = *m;
	cut(m, from, to);
	cut(m, dest, dest + to - from);
	for (int i = 0; i < old.nr; i++) {
		struct seg s = old.seg[i];

		if (s.start < from || s.start >= to)
			continue;
		s.start += dest - from;
		s.end += dest - from;
		put(m, s);
	}
}

static void protect(struct model *m, __u64 from, __u64 to, int prot, bool denied)
{
	split_seg(m, from);
	split_seg(m, to);
	for (int i = 0; i < m->nr; i++) {
		if (m->seg[i].start < from || m->seg[i].start >= to)
			continue;
		m->seg[i].prot = prot;
		m->seg[i].denied = denied;
	}
}

static const struct seg *find(const struct model *m, __u64 at)
{
	for (int i = 0; i < m->nr; i++)
		if (m->seg[i].start <= at && at < m->seg[i].end)
			return &m->seg[i];
	return NULL;
}

/* Whether VMAs are merged or not does not count. */
static void join(struct model *m)
{
	int n = 0;

	for (int i = 0; i < m->nr; i++) {
		struct seg *s = &m->seg[i], *last = &m->seg[n - 1];

		if (n && last->end == s->start && last->prot == s->prot &&
		    last->anon == s->anon && (s->anon ||
		    last->offset + last->end - last->start == s->offset))
			last->end = s->end;
		else
			m->seg[n++] = *s;
	}
	m->nr = n;
}

static bool same_maps(struct model a, struct model b)
{
	join(&a);
	join(&b);
	if (a.nr != b.nr)
		return false;
	for (int i = 0; i < a.nr; i++) {
		const struct seg *p = &a.seg[i], *q = &b.seg[i];

		if (p->start != q->start || p->end != q->end || p->prot != q->prot ||
		    p->anon != q->anon || (!p->anon && p->offset != q->offset))
			return false;
	}
	return true;
}

static bool read_maps(struct ctx *c, struct model *m)
{
	const __u64 area = (unsigned long)c->area;
	__u64 at = area;

	*m = (struct model) {};
	while (at < area + AREA) {
		struct procmap_query q = {
			.size = sizeof(q), .query_addr = at,
			.query_flags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA,
		};

		if (ioctl(c->maps, PROCMAP_QUERY, &q))
			return errno == ENOENT;
		if (q.vma_start >= area + AREA)
			break;
		if (m->nr == MAX_SEGS)
			return false;
		at = q.vma_end;
		m->seg[m->nr++] = (struct seg) {
			.start = q.vma_start - area,
			.end = q.vma_end - area,
			.offset = q.inode ? q.vma_offset - c->shown : 0,
			.anon = !q.inode,
			.prot = (q.vma_flags & PROCMAP_QUERY_VMA_READABLE ? PROT_READ : 0) |
				(q.vma_flags & PROCMAP_QUERY_VMA_WRITABLE ? PROT_WRITE : 0),
		};
	}
	return true;
}

/* What the mapping really is */

static __printf(2, 3)
const char *bad_is(struct ctx *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->report->bad, sizeof(c->report->bad), fmt, ap);
	va_end(ap);
	return c->report->bad;
}

static void catch_faults(void)
{
	struct sigaction sa = { .sa_handler = access_handler, .sa_flags = SA_NODEFER };

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
}

/* As try_read() and try_write(), without system calls */
static bool can_access(void *p, __u32 *get, const __u32 *set)
{
	access_signal = 0;
	if (!sigsetjmp(access_env, 0)) {
		if (set)
			store(p, *set);
		else
			*get = load(p);
	}
	return !access_signal;
}

static const char *check_page(struct ctx *c, const struct model *m, __u64 at)
{
	const struct seg *s = find(m, at);
	bool ok, access = s && !s->anon && !s->denied &&
			  (!s->empty || c->path == VFIO);
	__u64 offset = s ? s->offset + at - s->start : 0;
	const __u32 want = pattern(offset), other = ~want;
	__u32 v;

	if (s && !s->anon)
		store(c->view + offset, want);
	ok = can_access(c->area + at, &v, NULL);
	if (ok != (access && (s->prot & PROT_READ)))
		return bad_is(c, "%#llx is %sreadable", at, ok ? "" : "not ");
	if (ok && v != want)
		return bad_is(c, "%#llx is of another page than %#llx", at, offset);
	if (!s)
		return NULL;
	ok = can_access(c->area + at, NULL, &other);
	if (ok != (access && (s->prot & PROT_WRITE)))
		return bad_is(c, "%#llx is %swritable", at, ok ? "" : "not ");
	if (s->anon)
		return NULL;
	v = load(c->view + offset);
	store(c->view + offset, want);
	if (v != (ok ? other : want))
		return bad_is(c, "a write at %#llx is %sseen", at, ok ? "not " : "");
	return NULL;
}

/* The pages on both sides of all the places where something begins or ends */
static const char *check_pages(struct ctx *c, const struct call *call,
			       const struct model *m)
{
	const __u64 len = call->to - call->from;
	const __u64 starts[] = { call->from, call->dest };
	const char *bad = NULL;
	__u64 at[64];
	int nr = 0;

	for (int i = 0; i < (call->dest ? 2 : 1); i++) {
		const __u64 from = starts[i], to = from + len;

		for (int j = 0; j <= 3; j++)
			at[nr++] = (i ? DST : SRC) + j * c->unit;
		at[nr++] = from;
		at[nr++] = to;
		at[nr++] = from + call->new_len;
		at[nr++] = (from + len / 2) & ~(SZ_4K - 1);
		at[nr++] = from & ~(SZ_2M - 1);
		at[nr++] = (from + SZ_2M) & ~(SZ_2M - 1);
		at[nr++] = to & ~(SZ_2M - 1);
		at[nr++] = (to + SZ_2M) & ~(SZ_2M - 1);
	}
	for (int i = 0; !bad && i < nr; i++) {
		bool seen = false;

		for (int j = 0; j < i; j++)
			seen = seen || at[i] == at[j];
		if (seen)
			continue;
		bad = check_page(c, m, at[i]);
		if (!bad)
			bad = check_page(c, m, at[i] - SZ_4K);
	}
	return bad;
}

/* No page less than there should be, those that nobody looks at included */
static const char *check_leaves(struct ctx *c, const struct model *m)
{
	struct user_leaves l;
	__u64 bytes = 0;

	/* Faults bring back what is missing there. */
	if (c->path == VFIO)
		return NULL;
	for (int i = 0; i < m->nr; i++)
		if (m->seg[i].prot && !m->seg[i].anon && !m->seg[i].empty)
			bytes += m->seg[i].end - m->seg[i].start;
	if (!user_leaves(c->area, AREA, &l))
		return bad_is(c, "page tables cannot be read");
	l.bytes[0] += l.bytes[1] + l.bytes[2];
	if (l.bytes[0] != bytes)
		return bad_is(c, "%lld KiB are mapped that should not",
			   ((long long)l.bytes[0] - (long long)bytes) / 1024);
	return NULL;
}

/* Is one of the models what there is? Which one it is in @which. */
static const char *check(struct ctx *c, const struct call *call,
			 const struct model *m, int nr, int *which)
{
	struct model now;
	const char *bad;

	if (!read_maps(c, &now))
		return bad_is(c, "maps cannot be read");
	for (*which = 0; *which < nr; ++*which)
		if (same_maps(now, m[*which]))
			break;
	if (*which == nr) {
		char text[160] = "";
		int len = 0;

		join(&now);
		for (int i = 0; i < now.nr && len < sizeof(text); i++)
			len += snprintf(text + len, sizeof(text) - len, " %llx-%llx %d",
					now.seg[i].start, now.seg[i].end,
					now.seg[i].prot);
		return bad_is(c, "other VMAs:%s", text);
	}
	bad = check_pages(c, call, &m[*which]);
	return bad ?: check_leaves(c, &m[*which]);
}

/* What the call does, and what else it may leave behind */

static void apply(struct model *m, const struct call *call)
{
	const __u64 from = call->from, to = call->to;

	if (call->err)
		return;
	switch (call->op) {
	case MOVE_SHRINK:
		move(m, from, from + call->new_len, call->dest);
		cut(m, from, to);
		break;
	case MOVE:
	case MOVE_ONTO:
	case MOVE_VMAS:
		move(m, from, to, call->dest);
		break;
	case SHRINK:
		cut(m, from + call->new_len, to);
		break;
	case UNMAP:
		cut(m, from, to);
		break;
	case PROTECT:
		protect(m, from, to, call->arg, false);
		break;
	case ALLOW:
		protect(m, from, to, PROT_READ | PROT_WRITE, false);
		break;
	case KEY:
		protect(m, from, to, PROT_READ | PROT_WRITE, true);
		break;
	case MAP_ANON_OVER:
		put(m, (struct seg) { .start = from, .end = to, .anon = true });
		break;
	case MAP_BAR_OVER:
		put(m, (struct seg) {
			.start = from, .end = to, .offset = call->offset,
			.prot = PROT_READ | PROT_WRITE,
		});
		break;
	default:
		break;
	}
}

/*
 * The first @nr VMAs of a range have moved. mremap() that finds no memory to unmap the
 * old place of one has worked, for any mapping: see unmap_source_vma(). The VMA stays,
 * with nothing in it. So there is a model for each set of VMAs that stay; that of none
 * is the first.
 */
static int after_moves(const struct model *before, const struct call *call, __u64 to,
		       int nr, struct model *m)
{
	struct model vmas = *before;
	int first = 0;

	split_seg(&vmas, call->from);
	split_seg(&vmas, to);
	while (first < vmas.nr && vmas.seg[first].start < call->from)
		first++;
	for (int stay = 0; stay < 1 << nr; stay++, m++) {
		*m = *before;
		for (int i = 0; i < nr; i++) {
			struct seg s = vmas.seg[first + i];

			move(m, s.start, s.end, s.start - call->from + call->dest);
			s.empty = true;
			if (stay & 1 << i)
				put(m, s);
		}
	}
	return 1 << nr;
}

static int count_vmas(const struct model *before, __u64 from, __u64 to)
{
	int nr = 0;

	for (int i = 0; i < before->nr; i++)
		nr += before->seg[i].end > from && before->seg[i].start < to;
	return nr;
}

static int after_success(const struct model *before, const struct call *call,
			 struct model *m)
{
	struct model start = *before;
	__u64 to = call->to;

	if (call->err || call->op > MOVE_SHRINK) {
		*m = *before;
		apply(m, call);
		return 1;
	}
	if (call->op == MOVE_SHRINK) {
		to = call->from + call->new_len;
		cut(&start, to, call->to);
	}
	return after_moves(&start, call, to, count_vmas(&start, call->from, to), m);
}

/*
 * Some calls are made of several, for any mapping: MAP_FIXED and MREMAP_FIXED unmap
 * what is in their way before they do anything that can fail, mremap() cuts off
 * what it does not move, and moves one VMA after the other.
 */
static int after_error(const struct model *before, const struct call *call,
		       struct model *m)
{
	int nr = 0;

	m[nr++] = *before;
	switch (call->op) {
	case MOVE_ONTO:
		m[nr] = *before;
		cut(&m[nr++], call->dest, call->dest + call->to - call->from);
		break;
	case MOVE_SHRINK:
		m[nr] = *before;
		cut(&m[nr++], call->from + call->new_len, call->to);
		break;
	case MOVE_VMAS:
		for (int i = 1; i < count_vmas(before, call->from, call->to); i++)
			nr += after_moves(before, call, call->to, i, m + nr);
		break;
	case MAP_BAR_OVER:
	case MAP_ANON_OVER:
		m[nr] = *before;
		cut(&m[nr++], call->from, call->to);
		break;
	default:
		break;
	}
	return nr;
}

/* Failing allocations: the n-th, or all pages from the n-th on; none if it is 0 */

static bool open_failing(struct ctx *c)
{
	c->nth = open("/proc/self/fail-nth", O_RDWR);
	c->make = open("/proc/self/make-it-fail", O_RDWR);
	return c->nth >= 0 && c->make >= 0;
}

static bool start_failing(struct ctx *c, int n)
{
	char text[16];

	if (!c->all)
		return set_fail_nth(c->nth, n);
	snprintf(text, sizeof(text), "%d", n);
	return !write_file(FAIL_PAGES "/space", text) &&
	       (!n || pwrite(c->make, "1", 1, 0) == 1);
}

/* Keeps how many were left until one would have failed. */
static void stop_failing(struct ctx *c)
{
	char text[16] = "";

	if (!c->all) {
		c->report->left = get_fail_nth(c->nth);
		set_fail_nth(c->nth, 0);
		return;
	}
	pwrite(c->make, "0", 1, 0);
	/* 1: the next one fails, and maybe some have. */
	c->report->left = read_line(FAIL_PAGES "/space", text, sizeof(text)) ? atoi(text) : -1;
	if (c->report->left > 0)
		c->report->left--;
}

/* The calls */

static int do_fork(struct ctx *c, const struct call *call)
{
	pid_t pid = fork();
	int status;

	if (pid) {
		int err = errno;

		/* Copies on write take memory too. */
		stop_failing(c);
		if (pid < 0)
			return err;
	}
	if (!pid) {
		struct model m;
		int which;

		/* The parent's is as it was, and so is this one. */
		if (!read_maps(c, &m))
			_exit(1);
		c->maps = open("/proc/self/maps", O_RDONLY);
		_exit(c->maps < 0 || check(c, call, &m, 1, &which));
	}
	return waitpid(pid, &status, 0) == pid && !status ? 0 : ECHILD;
}

static int do_call(struct ctx *c, const struct call *call)
{
	const __u64 len = call->to - call->from;
	char *va = c->area + call->from, *dest = c->area + call->dest;
	unsigned long nodes = 1;
	void *p = NULL;
	long ret = 0;

	switch (call->op) {
	case MOVE:
	case MOVE_ONTO:
	case MOVE_VMAS:
		p = mremap(va, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, dest);
		break;
	case MOVE_SHRINK:
		p = mremap(va, len, call->new_len, MREMAP_MAYMOVE | MREMAP_FIXED, dest);
		break;
	case SHRINK:
	case GROW:
		p = mremap(va, len, call->new_len, 0);
		break;
	case GROW_MAYMOVE:
		p = mremap(va, len, call->new_len, MREMAP_MAYMOVE);
		break;
	case DUPLICATE:
		p = mremap(va, 0, len, MREMAP_MAYMOVE | MREMAP_FIXED, dest);
		break;
	case DONTUNMAP:
		p = mremap(va, len, len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP |
			   MREMAP_FIXED, dest);
		break;
	case UNMAP:
		ret = munmap(va, len);
		break;
	case PROTECT:
		ret = mprotect(va, len, call->arg);
		break;
	case ALLOW:
		ret = mprotect(va, len, PROT_READ | PROT_WRITE);
		break;
	case KEY:
		ret = pkey_mprotect(va, len, PROT_READ | PROT_WRITE, call->arg);
		break;
	case ADVISE:
		ret = madvise(va, len, call->arg);
		break;
	case LOCK:
		ret = mlock(va, len);
		break;
	case LOCK2:
		ret = mlock2(va, len, MLOCK_ONFAULT);
		break;
	case UNLOCK:
		ret = munlock(va, len);
		break;
	case BIND:
		ret = syscall(SYS_mbind, va, len, MPOL_BIND, &nodes, 8 * sizeof(nodes), 0);
		break;
	case MAP_ANON_OVER:
		p = mmap(va, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_NORESERVE | MAP_FIXED, -1, 0);
		break;
	case MAP_BAR_OVER:
		p = map_at(c->fd, c->base, va, call->offset, len);
		break;
	case SEAL:
		ret = syscall(__NR_mseal, va, len, 0);
		break;
	case FORK:
		return do_fork(c, call);
	}
	return ret || p == MAP_FAILED ? errno : 0;
}

/* What maps does not show */

struct extra {
	char flags[4][96];	/* before, in, and after the range */
	int policy[4];
};

static bool read_extra(struct ctx *c, const struct call *call, struct extra *x)
{
	const __u64 at[] = { call->from - SZ_4K, call->from, call->to - SZ_4K, call->to };
	unsigned long long start = 0, end = 0;
	char *line = NULL;
	size_t len = 0;
	FILE *f;

	memset(x, 0, sizeof(*x));
	for (int i = 0; i < 4 && call->op == BIND; i++)
		syscall(SYS_get_mempolicy, &x->policy[i], NULL, 0, c->area + at[i],
			MPOL_F_ADDR);
	if (call->op != ADVISE && call->op != SEAL && call->op != LOCK)
		return true;
	f = fopen("/proc/self/smaps", "r");
	if (!f)
		return false;
	while (getline(&line, &len, f) > 0) {
		if (strchr("0123456789abcdef", line[0]))
			sscanf(line, "%llx-%llx ", &start, &end);
		for (int i = 0; i < 4 && line[0] == 'V'; i++) {
			const __u64 va = (unsigned long)c->area + at[i];

			if (va >= start && va < end)
				sscanf(line, "VmFlags: %95[^\n]", x->flags[i]);
		}
	}
	free(line);
	fclose(f);
	return true;
}

static const char *check_extra(struct ctx *c, const struct call *call,
			       const struct extra *before, bool done)
{
	struct extra now;

	if (!read_extra(c, call, &now))
		return bad_is(c, "smaps cannot be read");
	for (int i = 0; i < 4; i++) {
		const bool in = i == 1 || i == 2;

		if (done && in && call->flag ?
		    !strstr(now.flags[i], call->flag) :
		    strcmp(now.flags[i], before->flags[i]))
			return bad_is(c, "flags '%s', before '%s'", now.flags[i],
				   before->flags[i]);
		if (call->op == BIND &&
		    now.policy[i] != (done && in ? MPOL_BIND : before->policy[i]))
			return bad_is(c, "policy %d", now.policy[i]);
	}
	return NULL;
}

static bool was_lost(struct ctx *c)
{
	char record[1024];
	bool lost = false;
	ssize_t n;

	while ((n = read(c->kmsg, record, sizeof(record) - 1)) > 0 || errno == EPIPE) {
		record[n > 0 ? n : 0] = 0;
		lost = lost || strstr(record, "it is unmapped");
	}
	return lost;
}

/* Fresh mappings for a call, and the model of them */
static const char *prepare(struct ctx *c, const struct call *call, struct model *m)
{
	const __u64 u = c->unit, mid = (call->from + call->to) / 2 & ~(SZ_4K - 1);
	const __u64 step = u < SZ_2M ? SZ_4K : u;
	struct seg s = {
		.start = SRC, .end = SRC + 3 * u, .prot = PROT_READ | PROT_WRITE,
	};
	int prot = -1;
	__u32 v;

	*m = (struct model) {};
	for (int i = 0; i < 1 + (call->op == MOVE_ONTO); i++) {
		char *va = c->area + s.start;

		if (map_at(c->fd, c->base, va, s.offset, 3 * u) != va)
			return bad_is(c, "no mapping: %s", strerror(errno));
		for (__u64 o = 0; o < 3 * u; o += step)
			if (!can_access(va + o, &v, NULL))
				return bad_is(c, "no access at %#llx", o);
		put(m, s);
		s.start = DST;
		s.end = DST + 3 * u;
		s.offset = 4 * u;
	}
	if (call->op == ALLOW)
		prot = call->arg;
	if (call->op == MOVE_VMAS || call->op == FORK)
		prot = PROT_READ;
	if (prot >= 0) {
		__u64 from = call->op == ALLOW ? call->from : mid;
		__u64 to = call->op == ALLOW ? call->to : mid + SZ_4K;

		if (mprotect(c->area + from, to - from, prot))
			return bad_is(c, "mprotect: %s", strerror(errno));
		protect(m, from, to, prot, false);
	}
	return NULL;
}

/* One call with the n-th allocation failing, or all from that on */
static const char *one_failure(struct ctx *c, const struct call *call, int n)
{
	struct model before, m[MAX_SEGS];
	struct extra extra;
	const char *bad;
	int err, which;

	bad = prepare(c, call, &before);
	if (bad)
		return bad;
	if (!read_extra(c, call, &extra))
		return bad_is(c, "smaps cannot be read");
	if (!start_failing(c, n))
		return bad_is(c, "allocations cannot be made to fail");
	err = do_call(c, call);
	if (call->op != FORK)
		stop_failing(c);
	/* The child has said what it found. */
	if (err == ECHILD)
		return c->report->bad;
	if (err == call->err) {
		const int nr = after_success(&before, call, m);

		/* If nothing has failed there is one way to end. */
		bad = check(c, call, m, c->report->left ? 1 : nr, &which);
		if (!bad && !which)
			bad = check_extra(c, call, &extra, !err);
		return bad;
	}
	/* Without memory to track it, a mapping is invalid. */
	if (c->report->left > 0 || (err != ENOMEM && err != EAGAIN &&
				    (err != EINVAL || call->op != MAP_BAR_OVER)))
		return bad_is(c, "%s", strerror(err));
	bad = check(c, call, m, after_error(&before, call, m), &which);
	if (bad || which)
		return bad;
	bad = check_extra(c, call, &extra, false);
	if (bad)
		return bad;
	err = do_call(c, call);
	if (err != call->err)
		return bad_is(c, "again: %s", strerror(err));
	apply(&before, call);
	bad = check(c, call, &before, 1, &which);
	return bad ?: check_extra(c, call, &extra, !err);
}

/* What is sealed stays: each try has a process of its own. */
static const char *one_failure_in_child(struct ctx *c, const struct call *call, int n)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return bad_is(c, "fork: %s", strerror(errno));
	if (!pid) {
		c->maps = open("/proc/self/maps", O_RDONLY);
		if (!open_failing(c))
			_exit(!!bad_is(c, "open: %s", strerror(errno)));
		_exit(!!one_failure(c, call, n));
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return bad_is(c, "the child died");
	return WEXITSTATUS(status) ? c->report->bad : NULL;
}

struct status {
	long pte, size, locked;
};

static struct status read_status(void)
{
	struct status status = { -1, -1, -1 };
	char text[4096];
	int fd = open("/proc/self/status", O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	const char *p;

	close(fd);
	text[n > 0 ? n : 0] = 0;
	p = strstr(text, "VmSize:");
	if (p)
		sscanf(p, "VmSize: %ld", &status.size);
	p = strstr(text, "VmLck:");
	if (p)
		sscanf(p, "VmLck: %ld", &status.locked);
	p = strstr(text, "VmPTE:");
	if (p)
		sscanf(p, "VmPTE: %ld", &status.pte);
	return status;
}

static const char *check_status(struct ctx *c, const struct status *old)
{
	const struct status now = read_status();

	if (now.pte != old->pte || now.size != old->size || now.locked != old->locked)
		return bad_is(c, "%+ld KiB of page tables, size %+ld KiB, locked %+ld KiB",
			   now.pte - old->pte, now.size - old->size,
			   now.locked - old->locked);
	return NULL;
}

#define MAX_NTH		4000

/*
 * All allocations, and of many some. 0: all is well
 * First none: page tables that the area shares with its neighbours stay.
 */
static int each_failure_of(struct ctx *c, const struct call *call, bool all)
{
	const char *bad = NULL;
	int n;

	c->all = all;
	for (n = 0; n < MAX_NTH; n += n < 16 ? 1 : n / 3) {
		struct status status = read_status();

		bad = call->op == SEAL ? one_failure_in_child(c, call, n) :
					  one_failure(c, call, n);
		if (!bad && was_lost(c))
			bad = bad_is(c, "a leaf is lost");
		if (munmap(c->area, AREA))
			bad = bad ?: bad_is(c, "munmap: %s", strerror(errno));
		if (!bad && n)
			bad = check_status(c, &status);
		/* The count has not run out: no more allocations to fail. */
		if (bad || c->report->left)
			break;
	}
	if (!bad && n >= MAX_NTH)
		bad = bad_is(c, "more than %d allocations", MAX_NTH);
	if (!bad)
		return 0;
	ksft_print_msg("%s (%d) of %#llx-%#llx to %#llx, allocation %d%s: %s\n",
		       names[call->op], call->arg, call->from, call->to, call->dest, n,
		       all ? " and on" : "", bad);
	/* Nothing left of it for the next one */
	was_lost(c);
	return 1;
}

static int each_failure(struct ctx *c, struct call call)
{
	int bad = each_failure_of(c, &call, false);

	/* The child of a fork inherits it, and its stack needs pages. */
	return call.op == FORK ? bad : bad + each_failure_of(c, &call, true);
}

/* Which part of the mapping */

enum part { HEAD, MIDDLE, TAIL, QUARTER, WHOLE, ACROSS, SEVERAL, NR_PARTS };

static struct call call_on(struct ctx *c, enum what op, enum part part)
{
	const __u64 u = c->unit, mid = u / 2 + 3 * SZ_4K;
	const struct { __u64 from, to; } parts[] = {
		[HEAD] = { u, u + 3 * SZ_4K },
		[MIDDLE] = { u + mid, u + mid + 2 * SZ_4K },
		[TAIL] = { 2 * u - 3 * SZ_4K, 2 * u },
		[QUARTER] = { u + u / 4, u + u / 2 },
		[WHOLE] = { u, 2 * u },
		[ACROSS] = { 2 * u - 3 * SZ_4K, 2 * u + 5 * SZ_4K },
		[SEVERAL] = { mid, 2 * u + 5 * SZ_4K },
	};

	return (struct call) {
		.op = op, .from = SRC + parts[part].from, .to = SRC + parts[part].to,
	};
}

FIXTURE(failures) {
	char saved[16];
	struct vfio vfio;
	struct ctx c;
};

FIXTURE_VARIANT(failures) {
	enum path path;
	const char *limit;
	__u64 unit;
};

FIXTURE_VARIANT_ADD(failures, driver_4k) {
	.path = DRIVER, .limit = "4K", .unit = 16 * SZ_4K,
};

FIXTURE_VARIANT_ADD(failures, driver_2m) {
	.path = DRIVER, .limit = "2M", .unit = SZ_2M,
};

FIXTURE_VARIANT_ADD(failures, driver_1g) {
	.path = DRIVER, .limit = "1G", .unit = SZ_1G,
};

FIXTURE_VARIANT_ADD(failures, sysfs_2m) {
	.path = SYSFS, .limit = "2M", .unit = SZ_2M,
};

FIXTURE_VARIANT_ADD(failures, sysfs_1g) {
	.path = SYSFS, .limit = "1G", .unit = SZ_1G,
};

FIXTURE_VARIANT_ADD(failures, devmem_2m) {
	.path = DEV_MEM, .limit = "2M", .unit = SZ_2M,
};

FIXTURE_VARIANT_ADD(failures, devmem_1g) {
	.path = DEV_MEM, .limit = "1G", .unit = SZ_1G,
};

FIXTURE_VARIANT_ADD(failures, vfio_4k) {
	.path = VFIO, .limit = "4K", .unit = 16 * SZ_4K,
};

FIXTURE_VARIANT_ADD(failures, vfio_2m) {
	.path = VFIO, .limit = "2M", .unit = SZ_2M,
};

FIXTURE_VARIANT_ADD(failures, vfio_1g) {
	.path = VFIO, .limit = "1G", .unit = SZ_1G,
};

FIXTURE_SETUP(failures)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR2_REGION_INDEX,
	};
	struct ctx *c = &self->c;
	struct model now;
	bool limited;

	self->vfio.device = -1;
	c->path = variant->path;
	c->unit = variant->unit;
	if (!can_fail_nth() || !can_fail_pages() || !open_failing(c))
		SKIP(return, "no CONFIG_FAIL_PAGE_ALLOC or CONFIG_FAILSLAB");
	limited = read_line(LIMIT, self->saved, sizeof(self->saved));
	if (limited && write_file(LIMIT, variant->limit))
		SKIP(return, "nohugeiomap does not allow %s", variant->limit);
	/* vfio-pci has huge leaves without CONFIG_HUGE_IOMAP too. */
	if (c->path != VFIO && c->unit == SZ_1G && user_max_leaf() < THI_1G)
		SKIP(return, "no 1 GiB leaves");
	if (c->path != VFIO && c->unit >= SZ_2M && user_max_leaf() < THI_2M)
		SKIP(return, "no 2 MiB leaves");

	c->bar = bar_start();
	c->mem = open("/dev/mem", O_RDWR | O_SYNC);
	ASSERT_GE(c->mem, 0);
	switch (c->path) {
	case DRIVER:
		c->fd = open_driver();
		break;
	case SYSFS:
		c->fd = open(PCI_DEVICE "/resource2", O_RDWR | O_SYNC);
		break;
	case DEV_MEM:
		c->fd = c->mem;
		c->base = c->bar;
		break;
	case VFIO:
		ASSERT_EQ(0, bind_to("vfio-pci"));
		ASSERT_TRUE(open_cdev(&self->vfio)) TH_LOG("%s", strerror(errno));
		c->fd = self->vfio.device;
		ASSERT_EQ(0, ioctl(c->fd, VFIO_DEVICE_GET_REGION_INFO, &info));
		c->base = info.offset;
	}
	ASSERT_GE(c->fd, 0) TH_LOG("%s", strerror(errno));
	c->view = mmap(NULL, 8 * c->unit, PROT_READ | PROT_WRITE, MAP_SHARED, c->mem,
		       c->bar);
	ASSERT_NE(MAP_FAILED, c->view);
	c->report = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, c->report);
	c->area = reserve(AREA);
	ASSERT_NE(NULL, c->area);
	ASSERT_EQ(0, munmap(c->area, AREA));
	c->maps = open("/proc/self/maps", O_RDONLY);
	ASSERT_GE(c->maps, 0);
	/* Some drivers show the physical address. */
	ASSERT_EQ(c->area, map_at(c->fd, c->base, c->area, 0, SZ_4K));
	ASSERT_TRUE(read_maps(c, &now));
	ASSERT_EQ(0, munmap(c->area, SZ_4K));
	c->shown = now.seg[0].offset;
	catch_faults();
	c->kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	ASSERT_GE(c->kmsg, 0);
	lseek(c->kmsg, 0, SEEK_END);
	/* What the helpers need has its page tables then. */
	for (int i = 0; i < 2; i++)
		read_status();
}

FIXTURE_TEARDOWN(failures)
{
	if (self->saved[0])
		write_file(LIMIT, self->saved);
	if (self->vfio.device < 0)
		return;
	munmap(self->c.area, AREA);
	close_vfio(&self->vfio);
	bind_to("\n");
}

/* Congruent modulo all leaves, modulo 2 MiB, and modulo 4 KiB */
static const __u64 skews[] = { 0, SZ_2M, SZ_4K };

TEST_F_TIMEOUT(failures, move, MINUTES(2))
{
	struct ctx *c = &self->c;

	for (int i = 0; i < ARRAY_SIZE(skews); i++) {
		if (skews[i] && skews[i] >= c->unit)
			continue;
		for (int part = 0; part < NR_PARTS; part++) {
			struct call call = call_on(c, MOVE, part);

			call.dest = call.from - SRC + DST + skews[i];
			/* That would be as many pages to move one by one. */
			if (c->unit == SZ_1G && skews[i] == SZ_4K &&
			    call.to - call.from > SZ_1G / 4)
				continue;
			EXPECT_EQ(0, each_failure(c, call));
		}
	}
}

TEST_F_TIMEOUT(failures, move_onto_leaves, MINUTES(2))
{
	static const enum part parts[] = { HEAD, MIDDLE, WHOLE, ACROSS };
	struct ctx *c = &self->c;

	for (int i = 0; i < ARRAY_SIZE(skews); i++) {
		for (int p = 0; p < ARRAY_SIZE(parts); p++) {
			struct call call = call_on(c, MOVE_ONTO, parts[p]);

			call.dest = call.from - SRC + DST + skews[i];
			if (skews[i] >= c->unit ||
			    (c->unit == SZ_1G && skews[i] == SZ_4K && parts[p] == WHOLE))
				continue;
			EXPECT_EQ(0, each_failure(c, call));
		}
	}
}

TEST_F_TIMEOUT(failures, move_vmas, MINUTES(2))
{
	static const enum part parts[] = { QUARTER, WHOLE, SEVERAL };
	struct ctx *c = &self->c;

	for (int p = 0; p < ARRAY_SIZE(parts); p++) {
		struct call call = call_on(c, MOVE_VMAS, parts[p]);

		call.dest = call.from - SRC + DST;
		EXPECT_EQ(0, each_failure(c, call));
	}
}

TEST_F_TIMEOUT(failures, resize, MINUTES(2))
{
	struct ctx *c = &self->c;
	const __u64 u = c->unit, len[] = { SZ_4K, u, u + u / 2 + 3 * SZ_4K };
	struct call call;

	for (int i = 0; i < ARRAY_SIZE(len); i++) {
		call = (struct call) {
			.op = SHRINK, .from = SRC, .to = SRC + 3 * u, .new_len = len[i],
		};
		EXPECT_EQ(0, each_failure(c, call));
	}
	for (int i = 0; i < ARRAY_SIZE(skews); i++) {
		call = call_on(c, MOVE_SHRINK, SEVERAL);
		call.new_len = u < SZ_1G ? u / 2 : 3 * SZ_2M + SZ_4K;
		call.dest = call.from - SRC + DST + skews[i];
		if (skews[i] >= u)
			continue;
		EXPECT_EQ(0, each_failure(c, call));
	}
	/* VM_DONTEXPAND and VM_PFNMAP: these are refused. */
	for (int part = 0; part < NR_PARTS; part++) {
		call = call_on(c, GROW, part);
		call.new_len = 4 * u;
		call.err = EFAULT;
		EXPECT_EQ(0, each_failure(c, call));
		call.op = GROW_MAYMOVE;
		EXPECT_EQ(0, each_failure(c, call));
		call.op = DUPLICATE;
		call.new_len = 0;
		call.dest = DST;
		EXPECT_EQ(0, each_failure(c, call));
		call.op = DONTUNMAP;
		call.err = EINVAL;
		EXPECT_EQ(0, each_failure(c, call));
	}
}

TEST_F_TIMEOUT(failures, unmap, MINUTES(2))
{
	for (int part = 0; part < NR_PARTS; part++)
		EXPECT_EQ(0, each_failure(&self->c, call_on(&self->c, UNMAP, part)));
}

TEST_F_TIMEOUT(failures, protect, MINUTES(2))
{
	static const int prots[] = { PROT_READ, PROT_NONE };

	for (int part = 0; part < NR_PARTS; part++) {
		struct call call = call_on(&self->c, PROTECT, part);

		for (int i = 0; i < ARRAY_SIZE(prots); i++) {
			call.arg = prots[i];
			call.op = PROTECT;
			EXPECT_EQ(0, each_failure(&self->c, call));
			call.op = ALLOW;
			EXPECT_EQ(0, each_failure(&self->c, call));
		}
	}
}

TEST_F_TIMEOUT(failures, protect_by_key, MINUTES(2))
{
	int key = pkey_alloc(0, PKEY_DISABLE_ACCESS);

	if (key < 0)
		SKIP(return, "no protection keys: %m");
	for (int part = 0; part < NR_PARTS; part++) {
		struct call call = call_on(&self->c, KEY, part);

		call.arg = key;
		EXPECT_EQ(0, each_failure(&self->c, call));
	}
	pkey_free(key);
}

/* What the kernel says to it when nothing fails */
static int usual_error(struct ctx *c, const struct call *call)
{
	struct model m;
	int status, err;
	pid_t pid = fork();

	if (pid < 0)
		return errno;
	if (!pid)
		_exit(prepare(c, call, &m) ? ECHILD : do_call(c, call));
	err = waitpid(pid, &status, 0) == pid ? status : ECHILD;
	return WEXITSTATUS(err);
}

TEST_F_TIMEOUT(failures, advise, MINUTES(2))
{
	static const struct { int advice; const char *flag; } advices[] = {
		{ MADV_DONTFORK, "dc" }, { MADV_DONTDUMP, "dd" },
		{ MADV_NOHUGEPAGE, "nh" }, { MADV_HUGEPAGE, "hg" },
		{ MADV_SEQUENTIAL, "sr" }, { MADV_MERGEABLE, "mg" },
		{ MADV_NORMAL, NULL }, { MADV_DOFORK, NULL }, { MADV_DODUMP, NULL },
		{ MADV_DONTNEED, NULL }, { MADV_FREE, NULL }, { MADV_WILLNEED, NULL },
		{ MADV_COLD, NULL }, { MADV_PAGEOUT, NULL }, { MADV_REMOVE, NULL },
		{ MADV_UNMERGEABLE, NULL }, { MADV_WIPEONFORK, NULL },
		{ MADV_POPULATE_READ, NULL }, { MADV_COLLAPSE, NULL },
		{ MADV_GUARD_INSTALL, NULL },
	};
	static const enum part parts[] = { MIDDLE, QUARTER, SEVERAL };

	for (int i = 0; i < ARRAY_SIZE(advices); i++) {
		struct call call = call_on(&self->c, ADVISE, MIDDLE);
		int err;

		call.arg = advices[i].advice;
		err = usual_error(&self->c, &call);
		for (int p = 0; p < ARRAY_SIZE(parts); p++) {
			call = call_on(&self->c, ADVISE, parts[p]);
			call.arg = advices[i].advice;
			call.flag = advices[i].flag;
			call.err = err;
			EXPECT_EQ(0, each_failure(&self->c, call));
			/* Those without a flag do not look at the range. */
			if (!call.flag)
				break;
		}
	}
}

TEST_F_TIMEOUT(failures, lock_and_bind, MINUTES(2))
{
	static const enum what ops[] = { LOCK, LOCK2, UNLOCK, BIND };

	for (int i = 0; i < ARRAY_SIZE(ops); i++) {
		struct call call = call_on(&self->c, ops[i], MIDDLE);
		const int err = usual_error(&self->c, &call);

		for (int part = 0; part < NR_PARTS; part++) {
			call = call_on(&self->c, ops[i], part);
			call.err = err;
			EXPECT_EQ(0, each_failure(&self->c, call));
		}
	}
}

TEST_F_TIMEOUT(failures, map_over, MINUTES(2))
{
	for (int part = 0; part < NR_PARTS; part++) {
		struct call call = call_on(&self->c, MAP_ANON_OVER, part);

		EXPECT_EQ(0, each_failure(&self->c, call));
		call.op = MAP_BAR_OVER;
		/* Congruent to the old one, and not so */
		call.offset = call.from - SRC + 4 * self->c.unit;
		EXPECT_EQ(0, each_failure(&self->c, call));
		call.offset += SZ_4K;
		if (self->c.unit == SZ_1G && call.to - call.from > SZ_2M)
			continue;
		EXPECT_EQ(0, each_failure(&self->c, call));
	}
}

TEST_F_TIMEOUT(failures, seal, MINUTES(2))
{
	static const enum part parts[] = { MIDDLE, QUARTER, SEVERAL };

	for (int p = 0; p < ARRAY_SIZE(parts); p++) {
		struct call call = call_on(&self->c, SEAL, parts[p]);

		call.flag = "sl";
		call.err = usual_error(&self->c, &call);
		EXPECT_EQ(0, each_failure(&self->c, call));
	}
}

TEST_F_TIMEOUT(failures, fork, MINUTES(2))
{
	if (option_off())
		SKIP(return, "other mappings of the BAR have thousands of page tables");
	EXPECT_EQ(0, each_failure(&self->c, call_on(&self->c, FORK, MIDDLE)));
}

TEST_HARNESS_MAIN
