// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel mappings, by the test driver: parts of the BAR by ioremap() and its like,
 * arrays of pages and of pfns by vmap() and vmap_pfn(), and struct pages by
 * memremap_pages(). The model: what was asked for, and which pages of it have been
 * unmapped. The driver reads the page tables and compares them with its own copy of the
 * array.
 */
#include "soak.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../build/linux/lib/test_huge_map/uapi.h"

#define UC_FIRST	WC_END

#define IO_SLOTS	12
#define VM_SLOTS	8
#define MAX_PIECES	64

static int driver = -1;
static void *giant = MAP_FAILED;

static struct io_slot {
	bool used;
	u32 handle;
	u64 page, nr;
} io[IO_SLOTS];

static struct vm_slot {
	bool used, cut;
	u8 how;
	u32 handle;
	u64 nr;
	u8 *absent;
} vm[VM_SLOTS];

/* Pages to map: folios and single ones, and one of 1 GiB if there is one */
static struct {
	u32 order, nr, flags, block;
	u64 pages;
} blocks[] = {
	{ .order = 9, .nr = 6, .flags = THV_COMPOUND }, { .order = 9, .nr = 3 },
	{ .order = 10, .nr = 2, .flags = THV_COMPOUND }, { .order = 0, .nr = 1500 },
	{ .order = 3, .nr = 200, .flags = THV_COMPOUND },
	{ .order = 6, .nr = 40, .flags = THV_COMPOUND }, { .order = 9, .nr = 2 }, { .order = 18 },
};
#define GIANT	7

enum kind {
	OP_IOREMAP, OP_IOUNMAP, OP_ACCESS, OP_IO_LEAVES, OP_IO_TYPE, OP_BAD, OP_VMAP,
	OP_VUNMAP, OP_PART, OP_RO, OP_VM_LEAVES, OP_CHECK, OP_PURGE, OP_LIMIT, OP_PAGES,
	OP_MTRR, NR_KIND,
};
static const char * const kind_names[NR_KIND] = {
	"ioremap", "iounmap", "access", "leaves", "set_memory_uc", "bad_ranges", "vmap",
	"vunmap", "vunmap_range", "set_memory_ro", "vmap_leaves", "vmap_check", "purge", "limit",
	"memremap_pages", "mtrr",
};
static u64 done[NR_KIND], refused[NR_KIND], failed_alloc[NR_KIND];

/* The driver has one mapping with struct pages for each file. */
static int pages_file = -1;
static bool have_pages, pages_wc;
static u64 nr_pages;

static bool unmap_pages(void)
{
	struct test_memremap_leaves l;

	have_pages = false;
	if (ioctl(pages_file, TMR_UNMAP))
		return soak_bad("memunmap_pages: %s", strerror(errno));
	if (ioctl(pages_file, TMR_LEAVES, &l))
		return soak_bad("leaves of struct pages: %s", strerror(errno));
	return (!(l.nr[0] + l.nr[1] + l.nr[2]) && l.no_page == nr_pages) ||
	       soak_bad("memunmap_pages leaves leaves, or struct pages");
}

static bool prepare(void)
{
	driver = open("/dev/test_huge_map", O_RDWR | O_CLOEXEC);
	pages_file = open("/dev/test_huge_map", O_RDWR | O_CLOEXEC);
	if (driver < 0 || pages_file < 0)
		return soak_bad("no driver: %s", strerror(errno));
	for (unsigned int i = 0; i < GIANT; i++) {
		struct test_huge_vmap_alloc a = {
			.order = blocks[i].order, .nr = blocks[i].nr, .flags = blocks[i].flags,
		};

		if (ioctl(driver, THV_ALLOC, &a))
			return soak_bad("no pages: %s", strerror(errno));
		blocks[i].block = a.block;
		blocks[i].pages = (u64)a.nr << a.order;
	}
	/* MAP_HUGE_1GB */
	giant = mmap(NULL, PAGES_1G * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS |
			MAP_HUGETLB | 30 << 26, -1, 0);
	if (giant != MAP_FAILED) {
		struct test_huge_vmap_pin pin = {
			.addr = (unsigned long)giant, .bytes = PAGES_1G * PAGE,
		};

		if (!ioctl(driver, THV_PIN, &pin)) {
			blocks[GIANT].block = pin.block;
			blocks[GIANT].pages = PAGES_1G;
		}
	}
	return true;
}

static bool io_unmap(struct io_slot *s)
{
	struct test_huge_iomap_unmap u = { .handle = s->handle };

	s->used = false;
	if (ioctl(driver, THI_UNMAP, &u))
		return soak_bad("iounmap: %s", strerror(errno));
	return !u.left || soak_bad("iounmap leaves %llu pages", (long long)u.left);
}

static bool vm_unmap(struct vm_slot *s)
{
	struct test_huge_vmap_unmap u = { .handle = s->handle };

	s->used = false;
	free(s->absent);
	s->absent = NULL;
	if (ioctl(driver, THV_UNMAP, &u))
		return soak_bad("vunmap: %s", strerror(errno));
	/*
	 * vm_unmap_ram() of less than 64 pages, and vunmap(), clear at once. When another
	 * worker purges, a third one can have the addresses then.
	 */
	return !u.left || !opt_alone || soak_bad("vunmap leaves %llu pages", (long long)u.left);
}

static bool kernel_reset(bool first)
{
	fail_nth(0);
	if (driver < 0 && !prepare())
		return false;
	drop_mtrr();
	if (have_pages && !unmap_pages())
		return false;
	for (int i = 0; i < IO_SLOTS; i++)
		if (io[i].used && !io_unmap(&io[i]))
			return false;
	for (int i = 0; i < VM_SLOTS; i++)
		if (vm[i].used && !vm_unmap(&vm[i]))
			return false;
	return same_types(first);
}

static void kernel_choose(struct op *op)
{
	static const u8 often[] = {
		OP_IOREMAP, OP_IOREMAP, OP_IOREMAP, OP_IOUNMAP, OP_IOUNMAP, OP_ACCESS, OP_ACCESS,
		OP_ACCESS, OP_IO_LEAVES, OP_IO_TYPE, OP_VMAP, OP_VMAP, OP_VMAP, OP_VUNMAP,
		OP_VUNMAP, OP_PART, OP_PART, OP_RO, OP_VM_LEAVES, OP_CHECK,
	};
	static const u8 uc[] = {
		THI_IOREMAP, THI_IOREMAP, THI_PCI_IOMAP_RANGE, THI_DEVM_IOREMAP, THI_IOREMAP_UC,
	};
	static const u8 wc[] = {
		THI_IOREMAP_WC, THI_IOREMAP_WC, THI_IOREMAP_PROT, THI_MEMREMAP_WC,
		THI_PCI_IOMAP_WC_RANGE, THI_DEVM_IOREMAP_WC, THI_DEVM_MEMREMAP_WC,
	};
	struct rnd *r = &rnd;

	op->kind = often[below(r, sizeof(often))];
	if (!below(r, 200))
		op->kind = OP_PURGE;
	else if (!below(r, 60))
		op->kind = OP_LIMIT;
	else if (!below(r, 500))
		op->kind = OP_BAD;
	op->c = next(r);
	op->d = next(r);
	op->flags = below(r, op->kind <= OP_IO_TYPE ? IO_SLOTS : VM_SLOTS);
	if (op->kind == OP_IOREMAP) {
		const bool is_wc = below(r, 2);
		u64 from = is_wc ? WC_FIRST : UC_FIRST, to = is_wc ? BAR_PAGES : WC_FIRST;

		op->src = is_wc ? wc[below(r, sizeof(wc))] : uc[below(r, sizeof(uc))];
		op->a = near_leaf(r, from, to);
		op->b = some_length(r, to - op->a);
	} else if (op->kind == OP_VMAP) {
		op->src = below(r, THV_NR_HOW);
		op->prot = 1 + below(r, 12);		/* pieces */
		op->advice = below(r, 40) == 0;		/* with the page of 1 GiB */
	}
	if (!below(r, 120))
		op->kind = OP_PAGES;
	else if (!below(r, 400))
		op->kind = OP_MTRR;
	if (opt_fail && !below(r, 6) && op->kind != OP_PART)
		op->fail_nth = 1 + below(r, 10);
}

static u64 offset_of(const struct op *op, u64 nr)
{
	struct rnd r = { op->c };

	return near_leaf(&r, 0, nr);
}

static bool do_ioremap(const struct op *op, bool *failed)
{
	struct io_slot *s = &io[op->flags];
	struct test_huge_iomap_map m = {
		.how = op->src, .offset = op->a * PAGE, .bytes = op->b * PAGE,
	};
	int err;

	if (s->used && !io_unmap(s))
		return false;
	fail_nth(op->fail_nth);
	err = ioctl(driver, THI_MAP, &m) ? errno : 0;
	*failed = op->fail_nth && fail_end();
	if (err) {
		refused[OP_IOREMAP]++;
		/* Strongly uncached is not what others have. */
		return *failed || op->src == THI_IOREMAP_UC ||
		       soak_bad("ioremap: %s", strerror(err));
	}
	*s = (struct io_slot) { true, m.handle, op->a, op->b };
	return true;
}

static bool io_leaves(struct io_slot *s)
{
	struct test_huge_iomap_leaves l = { .handle = s->handle };

	if (ioctl(driver, THI_LEAVES, &l))
		return soak_bad("leaves: %s", strerror(errno));
	if (l.wrong || l.nr[0] + l.nr[1] * PAGES_2M + l.nr[2] * PAGES_1G != s->nr)
		return soak_bad("ioremap: %llu of %llu pages are wrong; %llu + %llu + %llu leaves",
				(long long)l.wrong, (long long)s->nr, (long long)l.nr[0],
				(long long)l.nr[1], (long long)l.nr[2]);
	return l.guarded || soak_bad("ioremap: no guard page");
}

static bool io_access(struct io_slot *s, u64 page)
{
	struct test_huge_iomap_access a = { .handle = s->handle, .offset = page * PAGE };
	static u32 writes;
	const u64 bar = s->page + page, word = 1 + worker_nr;

	if (ioctl(driver, THI_READ, &a))
		return soak_bad("read: %s", strerror(errno));
	if (a.value != stamp(bar))
		return soak_bad("ioremap: page %#lx shows %#x, not page %#lx of the BAR",
				(long)page, a.value, (long)bar);
	a.offset += word * 4;
	a.value = ++writes;
	if (ioctl(driver, THI_WRITE, &a))
		return soak_bad("write: %s", strerror(errno));
	return mirror_of(bar)[word] == a.value ||
	       soak_bad("ioremap: a write to page %#lx is not in page %#lx of the BAR",
			(long)page, (long)bar);
}

static bool io_type(struct io_slot *s, const struct op *op, bool *failed)
{
	struct test_huge_iomap_change c = {
		.handle = s->handle, .what = op->d % 3, .offset = offset_of(op, s->nr) * PAGE, .nr = 1,
	};
	int err;

	fail_nth(op->fail_nth);
	err = ioctl(driver, THI_CHANGE, &c) ? errno : 0;
	*failed = op->fail_nth && fail_end();
	if (err)
		refused[OP_IO_TYPE]++;
	return err || soak_bad("set_memory_*() of device memory");
}

/*
 * Parts of the BAR by their pfns, forwards and backwards, often ones that a leaf could
 * map
 */
static u32 choose_pfns(const struct op *op, struct test_huge_vmap_piece *p, u64 *nr)
{
	const u64 bar = bar_phys / PAGE;
	struct rnd r = { op->c };
	u32 n = 0;

	*nr = 0;
	while (n < op->prot) {
		const u64 first = near_leaf(&r, WC_FIRST, BAR_PAGES);
		const bool back = !below(&r, 4);
		u64 len = some_length(&r, back ? first - WC_FIRST + 1 : BAR_PAGES - first);

		if (len > 3 * PAGES_2M)
			len = 1 + len % (3 * PAGES_2M);
		p[n++] = (struct test_huge_vmap_piece) {
			.block = THV_PFN, .first = bar + first, .nr = len, .step = back ? -1 : 1 };
		*nr += len;
	}
	return n;
}

/* Pieces that look right at the ends and are not in the middle, and others */
static u32 choose_pieces(const struct op *op, struct test_huge_vmap_piece *p, u64 *nr)
{
	struct rnd r = { op->c };
	u32 n = 0;

	*nr = 0;
	if (op->advice && blocks[GIANT].pages) {
		const bool spoilt = below(&r, 2);
		u64 at = spoilt ? near_leaf(&r, 1, PAGES_1G - 1) : 0;

		if (spoilt) {
			p[n++] = (struct test_huge_vmap_piece) {
				.block = blocks[GIANT].block, .nr = at, .step = 1 };
			p[n++] = (struct test_huge_vmap_piece) {
				.block = blocks[GIANT].block, .first = below(&r, PAGES_1G), .nr = 1,
				.step = 1 };
			at++;
		}
		p[n++] = (struct test_huge_vmap_piece) {
			.block = blocks[GIANT].block, .first = at, .nr = PAGES_1G - at, .step = 1 };
		*nr = PAGES_1G;
	}
	for (int i = 0; i < op->prot && n + 4 < MAX_PIECES; i++) {
		const u32 b = below(&r, GIANT);
		const u64 pages = blocks[b].pages, block = blocks[b].block;
		u64 first, len, hole;

		/* An array of pages that vfree() gives back: no folios */
		if (op->src == THV_VMAP_PUT && blocks[b].flags)
			continue;
		switch (below(&r, 4)) {
		case 0:			/* any */
			first = below(&r, pages);
			len = 1 + below(&r, pages - first);
			if (len > 700)
				len = 700;
			p[n++] = (struct test_huge_vmap_piece) {
				.block = block, .first = first, .nr = len, .step = 1 };
			*nr += len;
			break;
		case 1:			/* backwards, or every other */
			first = below(&r, pages);
			len = 1 + below(&r, first / 2 + 1);
			if (len > 300)
				len = 300;
			p[n++] = (struct test_huge_vmap_piece) {
				.block = block, .first = first, .nr = len,
				.step = below(&r, 2) ? -1 : -2 };
			*nr += len;
			break;
		default:		/* 2 MiB with some pages from elsewhere in it */
			if (pages < PAGES_2M)
				break;
			first = below(&r, pages / PAGES_2M) * PAGES_2M;
			hole = below(&r, PAGES_2M);
			len = below(&r, 3) ? 1 + below(&r, PAGES_2M - hole) : 0;
			if (len > 64)
				len = 64;
			if (hole)
				p[n++] = (struct test_huge_vmap_piece) {
					.block = block, .first = first, .nr = hole, .step = 1 };
			if (len)
				p[n++] = (struct test_huge_vmap_piece) {
					.block = block, .nr = len, .step = below(&r, 2),
					.first = below(&r, pages - len) };
			if (hole + len < PAGES_2M)
				p[n++] = (struct test_huge_vmap_piece) {
					.block = block, .first = first + hole + len,
					.nr = PAGES_2M - hole - len, .step = 1 };
			*nr += PAGES_2M;
		}
	}
	if (!n) {
		p[n++] = (struct test_huge_vmap_piece) {
			.block = blocks[1].block, .nr = PAGES_2M, .step = 1 };
		*nr = PAGES_2M;
	}
	return n;
}

static bool vm_leaves(struct vm_slot *s, u64 first, u64 nr, bool readonly)
{
	struct test_huge_vmap_leaves l = { .handle = s->handle, .first = first, .nr = nr };
	u64 absent = 0;

	if (ioctl(driver, THV_LEAVES, &l))
		return soak_bad("vmap leaves: %s", strerror(errno));
	for (u64 i = first; i < first + nr; i++)
		absent += s->absent[i];
	if (l.wrong || l.absent != absent || l.readonly != (readonly ? nr - absent : 0))
		return soak_bad("vmap: pages %#llx +%#llx: %llu wrong, %llu absent, not %llu, %llu read-only",
				(long long)first, (long long)nr, (long long)l.wrong,
				(long long)l.absent, (long long)absent, (long long)l.readonly);
	return true;
}

static bool do_vmap(const struct op *op, bool *failed)
{
	static struct test_huge_vmap_piece p[MAX_PIECES];
	struct vm_slot *s = &vm[op->flags];
	struct test_huge_vmap_map m = { .how = op->src, .pieces = (unsigned long)p };
	u64 nr;
	int err;

	if (s->used && !vm_unmap(s))
		return false;
	if (op->advice && op->src != THV_VMAP)
		return true;
	m.nr = op->src == THV_VMAP_PFN ? choose_pfns(op, p, &nr) : choose_pieces(op, p, &nr);
	fail_nth(op->fail_nth);
	err = ioctl(driver, THV_MAP, &m) ? errno : 0;
	*failed = op->fail_nth && fail_end();
	if (err) {
		refused[OP_VMAP]++;
		return *failed || soak_bad("vmap of %llu: %s", (long long)nr, strerror(err));
	}
	*s = (struct vm_slot) {
		.used = true, .how = op->src, .handle = m.handle, .nr = nr, .absent = calloc(nr, 1),
	};
	return s->absent && vm_leaves(s, 0, nr, false);
}

static bool do_part(struct vm_slot *s, const struct op *op, bool *failed)
{
	struct rnd r = { op->d };
	struct test_huge_vmap_part part = { .handle = s->handle };
	int err;

	part.first = offset_of(op, s->nr);
	part.nr = some_length(&r, s->nr - part.first);
	/* Of an area with a struct vm_struct */
	if (s->how == THV_VM_MAP_RAM)
		return true;
	if (op->kind == OP_PART) {
		if (ioctl(driver, THV_VUNMAP, &part))
			return soak_bad("vunmap_range: %s", strerror(errno));
		memset(s->absent + part.first, 1, part.nr);
		s->cut = true;
		return vm_leaves(s, 0, s->nr, false);
	}
	/* What is not there cannot be changed. */
	if (s->cut || part.nr > 4096 || s->how == THV_VMAP_PFN)
		return true;
	fail_nth(op->fail_nth);
	err = ioctl(driver, THV_SET_RO, &part) ? errno : 0;
	*failed = op->fail_nth && fail_end();
	if (err) {
		refused[OP_RO]++;
		if (!*failed)
			return soak_bad("set_memory_ro: %s", strerror(err));
	} else if (!vm_leaves(s, part.first, part.nr, true)) {
		return false;
	}
	if (ioctl(driver, THV_SET_RW, &part))
		return soak_bad("set_memory_rw: %s", strerror(errno));
	return vm_leaves(s, 0, s->nr, false);
}

static bool vm_check(struct vm_slot *s, const struct op *op)
{
	struct rnd r = { op->d };
	struct test_huge_vmap_part part = { .handle = s->handle };
	long n;

	if (s->cut || s->how == THV_VMAP_PFN)
		return true;
	part.first = offset_of(op, s->nr);
	part.nr = some_length(&r, s->nr - part.first);
	n = ioctl(driver, THV_CHECK, &part);
	return !n || soak_bad("vmap: %ld pages have other contents", n);
}

static bool do_pages(const struct op *op, bool *failed)
{
	static const u32 types[] = { TMR_GENERIC, TMR_FS_DAX, TMR_P2PDMA };
	struct rnd r = { op->c };
	struct test_memremap_map m = {
		.type = types[below(&r, 3)], .flags = below(&r, 2) ? TMR_WC : 0,
	};
	struct test_memremap_access a = {};
	/* By another mapping, of that page alone */
	struct test_huge_iomap_access peek = {};
	static u64 bar_offset;
	struct test_memremap_leaves l;
	int err;

	if (!have_pages) {
		u64 first = near_leaf(&r, 0, PAGES_1G - 64 * PAGES_2M) / PAGES_2M * PAGES_2M;

		nr_pages = (1 + below(&r, 64)) * PAGES_2M;
		m.offset = (PAGES_FIRST + worker_nr * PAGES_1G + first) * PAGE;
		m.bytes = nr_pages * PAGE;
		fail_nth(op->fail_nth);
		err = ioctl(pages_file, TMR_MAP, &m) ? errno : 0;
		*failed = op->fail_nth && fail_end();
		if (err) {
			refused[OP_PAGES]++;
			return *failed || soak_bad("memremap_pages of %#llx, type %d %lld: %s",
						   (long long)m.offset, m.type,
						   (long long)m.flags, strerror(err));
		}
		have_pages = true;
		pages_wc = m.flags;
		bar_offset = m.offset;
	}
	if (ioctl(pages_file, TMR_LEAVES, &l))
		return soak_bad("leaves of struct pages: %s", strerror(errno));
	if (l.wrong || l.no_page ||
	    l.nr[0] + l.nr[1] * PAGES_2M + l.nr[2] * PAGES_1G != nr_pages)
		return soak_bad("memremap_pages: of %llu pages %llu are wrong, %llu have none",
				(long long)nr_pages, (long long)l.wrong, (long long)l.no_page);
	if (l.type == THI_MIXED || (l.type == THI_WC) != pages_wc)
		return soak_bad("memremap_pages: type %u", l.type);
	a.offset = below(&r, nr_pages) * PAGE + 4 * (1 + worker_nr);
	a.value = op->c;
	a.write = 1;
	a.kmap = below(&r, 2);
	peek.offset = bar_offset + a.offset;
	peek.how = pages_wc ? THI_IOREMAP_WC : THI_IOREMAP_CACHE;
	if (ioctl(pages_file, TMR_ACCESS, &a) || ioctl(driver, THI_PEEK, &peek))
		return soak_bad("access to struct pages: %s", strerror(errno));
	if (peek.value != a.value)
		return soak_bad("memremap_pages: %#x written, %#x in the BAR", a.value, peek.value);
	return below(&r, 3) || unmap_pages();
}

static bool kernel_apply(const struct op *op)
{
	static const char * const limits[] = { "4K", "2M", "1G", "1G" };
	struct io_slot *i = &io[op->flags % IO_SLOTS];
	struct vm_slot *v = &vm[op->flags % VM_SLOTS];
	bool failed = false, ok = true;

	done[op->kind]++;
	switch (op->kind) {
	case OP_IOREMAP:
		ok = do_ioremap(op, &failed) && (!i->used || io_access(i, offset_of(op, i->nr)));
		break;
	case OP_IOUNMAP:
		ok = !i->used || io_unmap(i);
		break;
	case OP_ACCESS:
		ok = !i->used || (io_access(i, offset_of(op, i->nr)) && io_access(i, i->nr - 1));
		break;
	case OP_IO_LEAVES:
		ok = !i->used || io_leaves(i);
		break;
	case OP_IO_TYPE:
		ok = !i->used || (io_type(i, op, &failed) && io_leaves(i));
		break;
	case OP_BAD:
		ok = !ioctl(driver, THI_BAD_RANGES) || soak_bad("bad ranges: %s", strerror(errno));
		break;
	case OP_VMAP:
		ok = do_vmap(op, &failed);
		break;
	case OP_VUNMAP:
		ok = !v->used || vm_unmap(v);
		break;
	case OP_PART:
	case OP_RO:
		ok = !v->used || do_part(v, op, &failed);
		break;
	case OP_VM_LEAVES:
		ok = !v->used || vm_leaves(v, 0, v->nr, false);
		break;
	case OP_CHECK:
		ok = !v->used || vm_check(v, op);
		break;
	case OP_PURGE:
		ok = !ioctl(driver, op->c % 2 ? THI_PURGE : THV_PURGE) ||
		     soak_bad("purge: %s", strerror(errno));
		break;
	case OP_LIMIT:
		write_text("/sys/kernel/mm/huge_iomap/limit", limits[op->c % 4]);
		break;
	case OP_PAGES:
		ok = do_pages(op, &failed);
		break;
	case OP_MTRR:
		/* Of its mappings, or of its struct pages */
		ok = toggle_mtrr(op->c % 2 ? WC_END + op->c / 2 % (BAR_PAGES - WC_END) :
				 PAGES_FIRST + worker_nr * PAGES_1G + op->c / 2 % PAGES_1G,
				 1ULL << op->d / 2 % 19, op->d % 2);
		break;
	}
	failed_alloc[op->kind] += failed;
	return ok;
}

static void kernel_print(const struct op *op, char *text, int len)
{
	snprintf(text, len, "%s slot %d how %d %#llx +%#llx %#llx %#llx, allocation %d fails",
		 kind_names[op->kind], op->flags, op->src, (long long)op->a, (long long)op->b,
		 (long long)op->c, (long long)op->d, op->fail_nth);
}

static void kernel_report(FILE *to)
{
	for (int i = 0; i < NR_KIND; i++)
		fprintf(to, "#   %s: %llu, refused %llu, an allocation failed %llu\n",
			kind_names[i], (long long)done[i], (long long)refused[i],
			(long long)failed_alloc[i]);
	fprintf(to, "#   MTRRs that were set: %llu\n", (long long)mtrrs_set);
}

/* What is mapped goes with the file: a child opens its own. */
static void kernel_leave(void)
{
	close(driver);
	driver = -1;
	drop_mtrr();
	close(pages_file);
	pages_file = -1;
	have_pages = false;
	memset(io, 0, sizeof(io));
	memset(vm, 0, sizeof(vm));
	if (giant != MAP_FAILED)
		munmap(giant, PAGES_1G * PAGE);
	giant = MAP_FAILED;
	blocks[GIANT].pages = 0;
}

const struct worker_ops kernel_worker = {
	.name = "kernel", .reset = kernel_reset, .choose = kernel_choose, .apply = kernel_apply,
	.print = kernel_print, .report = kernel_report, .leave = kernel_leave,
};
