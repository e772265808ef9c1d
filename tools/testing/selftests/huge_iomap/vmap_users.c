// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of this program that the kernel maps for itself with vmap(): regions and
 * rings of io_uring, umems of AF_XDP. The kernel has to see each page where the
 * program sees it, whatever folios are behind it. And dma-bufs made of a memfd.
 *
 * vmap_udmabuf() has no user that a program can drive; its mmap() has.
 */
#include "huge_iomap_uring.h"
#include "huge_iomap_user.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/dma-buf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <linux/ip.h>
#include <linux/udmabuf.h>
#include <linux/udp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "kselftest_harness.h"

#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define THP_128K	THP "hugepages-128kB/enabled"
#define LOCALNET	"/proc/sys/net/ipv4/conf/lo/route_localnet"
#define NR_HUGETLB	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

#define BYTES		(2 * SZ_2M)
#define PAGES		(BYTES / SZ_4K)

/* What is behind each 2 MiB */
enum layout {
	SMALL,		/* pages of 4 KiB */
	WHOLE,		/* one folio */
	PIECES,		/* its ends; folios of 128 KiB in between */
	SWAPPED,	/* one folio, with two pages that have changed places */
};

FIXTURE(vmap_users) {
	char saved[16], thp[64], hugetlb[16], localnet[16];
	char *area, *ring;	/* BYTES each, and a page more */
};

FIXTURE_VARIANT(vmap_users) {
	enum layout layout;
	const char *limit;
};

FIXTURE_VARIANT_ADD(vmap_users, small) { .layout = SMALL, .limit = "1G" };
FIXTURE_VARIANT_ADD(vmap_users, whole_4k) { .layout = WHOLE, .limit = "4K" };
FIXTURE_VARIANT_ADD(vmap_users, whole) { .layout = WHOLE, .limit = "1G" };
FIXTURE_VARIANT_ADD(vmap_users, pieces_4k) { .layout = PIECES, .limit = "4K" };
FIXTURE_VARIANT_ADD(vmap_users, pieces) { .layout = PIECES, .limit = "1G" };
FIXTURE_VARIANT_ADD(vmap_users, swapped) { .layout = SWAPPED, .limit = "1G" };

static __u64 pfn_of(const void *va)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	__u64 entry = 0;

	if (fd < 0)
		return 0;
	if (pread(fd, &entry, 8, (unsigned long)va / SZ_4K * 8) != 8)
		entry = 0;
	close(fd);
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

/* Change places of two pages of a folio. 0 or an errno */
static int swap_pages(char *a, char *b)
{
	char *spare = mmap(NULL, 3 * SZ_4K, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0) + SZ_4K;
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	if (mremap(a, SZ_4K, SZ_4K, flags, spare) == MAP_FAILED ||
	    mremap(b, SZ_4K, SZ_4K, flags, a) == MAP_FAILED ||
	    mremap(spare, SZ_4K, SZ_4K, flags, b) == MAP_FAILED)
		return errno;
	return 0;
}

/*
 * Memory of a layout: BYTES, aligned to 2 MiB, and one page. Each page that is not
 * at the place it has in its folio had @stale written to it, which is what the
 * kernel sees if it takes the folio for whole. NULL if it cannot be had
 */
static char *make_memory(enum layout layout, void (*stale)(char *, __u64))
{
	char *p = mmap(NULL, BYTES + 2 * SZ_2M, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	__u64 pfn;

	if (p == MAP_FAILED)
		return NULL;
	p = (char *)(((unsigned long)p + SZ_2M - 1) & ~(SZ_2M - 1));
	if (madvise(p, BYTES, layout == SMALL ? MADV_NOHUGEPAGE : MADV_HUGEPAGE))
		return NULL;
	for (__u64 o = 0; o < BYTES + SZ_4K; o += SZ_4K) {
		p[o] = 0;
		if (stale && o < BYTES)
			stale(p + o, o / SZ_4K);
	}
	for (char *b = p; b < p + BYTES && layout != SMALL; b += SZ_2M) {
		pfn = pfn_of(b);
		if (!pfn || pfn % 512 || pfn_of(b + SZ_2M - SZ_4K) != pfn + 511)
			return NULL;
		switch (layout) {
		case PIECES:
			if (madvise(b + SZ_1M / 4, 3 * SZ_1M / 2, MADV_DONTNEED))
				return NULL;
			for (__u64 o = SZ_1M / 4; o < 7 * SZ_1M / 4; o += SZ_4K)
				b[o] = 0;
			/* In 128 KiB, in order, but not of the folio around them */
			for (__u64 o = SZ_1M / 4; o < 7 * SZ_1M / 4; o += SZ_1M / 8)
				if (pfn_of(b + o) % 32 ||
				    pfn_of(b + o) - pfn_of(b) == o / SZ_4K ||
				    pfn_of(b + o + SZ_1M / 8 - SZ_4K) -
				    pfn_of(b + o) != 31)
					return NULL;
			break;
		case SWAPPED:
			if (swap_pages(b + 17 * SZ_4K, b + 33 * SZ_4K) ||
			    pfn_of(b + 17 * SZ_4K) != pfn + 33)
				return NULL;
			break;
		default:
			break;
		}
	}
	return p;
}

FIXTURE_SETUP(vmap_users)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	char *from;

	if (read_line(LIMIT, self->saved, sizeof(self->saved)) &&
	    write_file(LIMIT, variant->limit))
		SKIP(return, "nohugeiomap does not allow %s", variant->limit);
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &all));
	if (variant->layout != PIECES)
		return;
	/* The word in brackets is what is set. */
	if (!read_line(THP_128K, self->thp, sizeof(self->thp)))
		SKIP(return, "no folios of 128 KiB");
	from = strchr(self->thp, '[');
	ASSERT_NE(NULL, from);
	memmove(self->thp, from + 1, strlen(from));
	self->thp[strcspn(self->thp, "]")] = 0;
	ASSERT_EQ(0, write_file(THP_128K, "always"));
}

FIXTURE_TEARDOWN(vmap_users)
{
	if (self->thp[0])
		write_file(THP_128K, self->thp);
	if (self->localnet[0])
		write_file(LOCALNET, self->localnet);
	if (self->hugetlb[0])
		write_file(NR_HUGETLB, self->hugetlb);
	if (self->saved[0])
		write_file(LIMIT, self->saved);
}

/* A ring in such memory: 64 bytes a request, 32 a completion */
TEST_F_TIMEOUT(vmap_users, io_uring_ring, MINUTES(2))
{
	const unsigned int entries = SZ_2M / sizeof(struct io_uring_sqe);
	struct ring r;

	if (!has_io_uring())
		SKIP(return, "no CONFIG_IO_URING");
	self->area = make_memory(variant->layout, NULL);
	self->ring = make_memory(variant->layout, NULL);
	if (!self->area || !self->ring)
		SKIP(return, "no memory of this layout");
	ASSERT_EQ(0, ring_open(&r, entries, IORING_SETUP_CQE32, self->ring, self->area));
	ASSERT_EQ(entries, r.p.sq_entries);
	ASSERT_EQ(2 * entries, r.p.cq_entries);
	/* Twice around the requests, once around the completions */
	for (__u64 round = 1; round <= 2; round++) {
		long requests = 0, wrong = 0;

		for (unsigned int i = 0; i < entries; i++) {
			struct io_uring_sqe *sqe = ring_sqe(&r, i);

			sqe->opcode = IORING_OP_NOP;
			sqe->user_data = round << 32 | i;
		}
		ASSERT_EQ(entries, ring_submit(&r, entries));
		ASSERT_EQ(entries, ring_ready(&r));
		for (unsigned int i = 0; i < entries; i++) {
			const struct io_uring_cqe *cqe = ring_cqe(&r, i);

			wrong += cqe->user_data != (round << 32 | i) || cqe->res;
			requests += cqe->user_data >> 32 == round;
		}
		EXPECT_EQ(0, wrong)
			TH_LOG("round %lld: %ld of %u completions are of a request",
			       round, requests, entries);
		ring_seen(&r, entries);
	}
	ring_close(&r);
}

/* Arguments of a wait: valid in every other run of 16 pages, and the reverse */

static void write_wait(char *page, bool valid)
{
	struct io_uring_reg_wait *w = (void *)page;

	memset(w, 0, sizeof(*w));
	w->ts.tv_nsec = 1;
	w->flags = valid ? IORING_REG_WAIT_TS : ~0u;
}

static bool is_valid(__u64 page)
{
	return page / 16 % 2;
}

static void stale_wait(char *page, __u64 i)
{
	write_wait(page, !is_valid(i));
}

TEST_F_TIMEOUT(vmap_users, io_uring_region, MINUTES(2))
{
	struct io_uring_region_desc desc = {
		.size = BYTES, .flags = IORING_MEM_REGION_TYPE_USER,
	};
	struct io_uring_mem_region_reg reg = {
		.region_uptr = (unsigned long)&desc,
		.flags = IORING_MEM_REGION_REG_WAIT_ARG,
	};
	long wrong = 0;
	struct ring r;

	if (!has_io_uring())
		SKIP(return, "no CONFIG_IO_URING");
	self->area = make_memory(variant->layout, stale_wait);
	if (!self->area)
		SKIP(return, "no memory of this layout");
	desc.user_addr = (unsigned long)self->area;
	ASSERT_EQ(0, ring_open(&r, 4, IORING_SETUP_R_DISABLED, NULL, NULL));
	ASSERT_EQ(0, ring_register(&r, IORING_REGISTER_MEM_REGION, &reg, 1));
	ASSERT_EQ(0, ring_register(&r, IORING_REGISTER_ENABLE_RINGS, NULL, 0));
	for (__u64 i = 0; i < PAGES; i++)
		write_wait(self->area + i * SZ_4K, is_valid(i));
	/* Some in each run: a wait takes a tick. */
	for (__u64 i = 0; i < PAGES; i += i % 16 < 2 ? 1 : 14) {
		long ret = syscall(__NR_io_uring_enter, r.fd, 0, 1,
				   IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG |
				   IORING_ENTER_EXT_ARG_REG, i * SZ_4K,
				   sizeof(struct io_uring_reg_wait));

		ASSERT_EQ(-1, ret);
		if (errno != ETIME)
			ASSERT_EQ(EINVAL, errno);
		wrong += (errno == ETIME) != is_valid(i);
	}
	EXPECT_EQ(0, wrong);
	ring_close(&r);
}

/* Registered buffers: not mapped by vmap(), but made of runs of folios, too */
TEST_F_TIMEOUT(vmap_users, io_uring_buffers, MINUTES(2))
{
	struct iovec iov = { .iov_len = BYTES };
	long wrong = 0;
	struct ring r;
	int file;
	__u32 v;

	if (!has_io_uring())
		SKIP(return, "no CONFIG_IO_URING");
	self->area = make_memory(variant->layout, NULL);
	if (!self->area)
		SKIP(return, "no memory of this layout");
	iov.iov_base = self->area;
	ASSERT_EQ(0, ring_open(&r, 4, 0, NULL, NULL));
	file = memfd_create("file", 0);
	ASSERT_GE(file, 0);
	ASSERT_EQ(0, ftruncate(file, 2 * BYTES));
	for (__u64 o = 0; o < BYTES; o += SZ_4K) {
		v = pattern(o);
		ASSERT_EQ(sizeof(v), pwrite(file, &v, sizeof(v), o));
	}
	ASSERT_EQ(0, ring_register(&r, IORING_REGISTER_BUFFERS, &iov, 1));
	for (int write = 0; write < 2; write++) {
		struct io_uring_sqe *sqe = ring_sqe(&r, 0);

		sqe->opcode = write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
		sqe->fd = file;
		sqe->addr = (unsigned long)self->area;
		sqe->len = BYTES;
		sqe->off = write * BYTES;
		ASSERT_EQ(1, ring_submit(&r, 1));
		ASSERT_EQ(1, ring_ready(&r));
		ASSERT_EQ(BYTES, ring_cqe(&r, 0)->res);
		ring_seen(&r, 1);
		for (__u64 o = 0; o < BYTES; o += SZ_4K) {
			if (write) {
				ASSERT_EQ(sizeof(v), pread(file, &v, sizeof(v), BYTES + o));
				wrong += v != ~pattern(o);
			} else {
				wrong += load(self->area + o) != pattern(o);
				store(self->area + o, ~pattern(o));
			}
		}
		EXPECT_EQ(0, wrong)
			TH_LOG("%s", write ? "write" : "read");
	}
	ring_close(&r);
	close(file);
}

/* AF_XDP on lo, in copy mode: the kernel reads and writes frames through vmap(). */

#define PORT		47123
#define RING_SIZE	PAGES

struct xsk_ring {
	__u32 *producer, *consumer;
	void *desc;
};

struct payload {
	__u32 page, check;
};

/* The frame begins with its Ethernet header. */
struct frame {
	__u16 pad;
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	struct payload payload;
};

#define FRAME_LEN	(sizeof(struct frame) - offsetof(struct frame, eth))
#define PAYLOAD		(FRAME_LEN - sizeof(struct payload))

/* A datagram to this machine. One from it would not be taken from a network device. */
static void write_frame(char *at, __u64 page, __u32 check)
{
	struct frame f = {
		.eth.h_proto = htons(ETH_P_IP),
		.ip = {
			.version = 4, .ihl = 5, .ttl = 1, .protocol = IPPROTO_UDP,
			.tot_len = htons(FRAME_LEN - sizeof(f.eth)),
			.saddr = htonl(0x0a090909), .daddr = htonl(INADDR_LOOPBACK),
		},
		.udp = {
			.source = htons(PORT), .dest = htons(PORT),
			.len = htons(sizeof(f.udp) + sizeof(f.payload)),
		},
		.payload = { .page = page, .check = check },
	};
	__u16 words[sizeof(f.ip) / 2];
	__u32 sum = 0;

	memcpy(words, &f.ip, sizeof(f.ip));
	for (int i = 0; i < ARRAY_SIZE(words); i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	f.ip.check = ~(sum + (sum >> 16));
	memcpy(at, &f.eth, FRAME_LEN);
}

static void stale_frame(char *page, __u64 i)
{
	write_frame(page, i, 0xbad);
}

static bool map_ring(int fd, struct xsk_ring *ring, const struct xdp_ring_offset *off,
		     size_t entry, __u64 pgoff)
{
	char *p = mmap(NULL, off->desc + RING_SIZE * entry, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_POPULATE, fd, pgoff);

	if (p == MAP_FAILED)
		return false;
	ring->producer = (__u32 *)(p + off->producer);
	ring->consumer = (__u32 *)(p + off->consumer);
	ring->desc = p + off->desc;
	return true;
}

struct xsk {
	int fd, udp;		/* udp: what takes and sends the datagrams */
	struct xsk_ring rx, tx, fill, done;
};

static const struct sockaddr_in here = {
	.sin_family = AF_INET, .sin_port = __builtin_bswap16(PORT),
	.sin_addr.s_addr = __builtin_bswap32(INADDR_LOOPBACK),
};

/* 0, or an errno: EAFNOSUPPORT without CONFIG_XDP_SOCKETS or CONFIG_INET */
static int open_xsk(struct xsk *x, char *umem)
{
	const int nr = RING_SIZE;
	struct xdp_umem_reg reg = {
		.addr = (unsigned long)umem, .len = BYTES, .chunk_size = SZ_4K,
	};
	struct sockaddr_xdp sxdp = {
		.sxdp_family = AF_XDP, .sxdp_flags = XDP_COPY,
		.sxdp_ifindex = if_nametoindex("lo"),
	};
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	struct xdp_mmap_offsets off;
	socklen_t len = sizeof(off);

	x->fd = socket(AF_XDP, SOCK_RAW, 0);
	if (x->fd < 0)
		return errno;
	x->udp = socket(AF_INET, SOCK_DGRAM, 0);
	if (x->udp < 0)
		return errno;
	if (ioctl(x->udp, SIOCSIFFLAGS, &ifr) ||
	    bind(x->udp, (struct sockaddr *)&here, sizeof(here)) ||
	    setsockopt(x->fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof(reg)) ||
	    setsockopt(x->fd, SOL_XDP, XDP_UMEM_FILL_RING, &nr, sizeof(nr)) ||
	    setsockopt(x->fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &nr, sizeof(nr)) ||
	    setsockopt(x->fd, SOL_XDP, XDP_RX_RING, &nr, sizeof(nr)) ||
	    setsockopt(x->fd, SOL_XDP, XDP_TX_RING, &nr, sizeof(nr)) ||
	    getsockopt(x->fd, SOL_XDP, XDP_MMAP_OFFSETS, &off, &len) ||
	    !map_ring(x->fd, &x->rx, &off.rx, sizeof(struct xdp_desc),
		      XDP_PGOFF_RX_RING) ||
	    !map_ring(x->fd, &x->tx, &off.tx, sizeof(struct xdp_desc),
		      XDP_PGOFF_TX_RING) ||
	    !map_ring(x->fd, &x->fill, &off.fr, sizeof(__u64),
		      XDP_UMEM_PGOFF_FILL_RING) ||
	    !map_ring(x->fd, &x->done, &off.cr, sizeof(__u64),
		      XDP_UMEM_PGOFF_COMPLETION_RING))
		return errno;
	/* A socket that was closed gives back its queue a little later. */
	for (int i = 0; bind(x->fd, (struct sockaddr *)&sxdp, sizeof(sxdp)); i++) {
		if (errno != EBUSY || i == 100)
			return errno;
		usleep(20000);
	}
	return 0;
}

static void close_xsk(struct xsk *x)
{
	close(x->fd);
	close(x->udp);
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 2000) == 1;
}

/* Frames sent from such memory are what the program has written there. */
TEST_F_TIMEOUT(vmap_users, xdp_send, MINUTES(2))
{
	const unsigned int batch = 16;
	long wrong = 0;
	struct xsk x;
	int err;

	self->area = make_memory(variant->layout, stale_frame);
	if (!self->area)
		SKIP(return, "no memory of this layout");
	err = open_xsk(&x, self->area);
	if (err == EAFNOSUPPORT)
		SKIP(return, "no CONFIG_XDP_SOCKETS or CONFIG_INET");
	ASSERT_EQ(0, err);
	ASSERT_TRUE(read_line(LOCALNET, self->localnet, sizeof(self->localnet)));
	ASSERT_EQ(0, write_file(LOCALNET, "1"));
	for (__u64 i = 0; i < PAGES; i++)
		write_frame(self->area + i * SZ_4K, i, pattern(i * SZ_4K));
	for (__u64 i = 0; i < PAGES; i += batch) {
		struct xdp_desc *desc = x.tx.desc;

		for (__u64 k = i; k < i + batch; k++)
			desc[k] = (struct xdp_desc) {
				.addr = k * SZ_4K, .len = FRAME_LEN,
			};
		__atomic_store_n(x.tx.producer, i + batch, __ATOMIC_RELEASE);
		ASSERT_EQ(0, sendto(x.fd, NULL, 0, MSG_DONTWAIT, NULL, 0));
		for (__u64 k = i; k < i + batch; k++) {
			struct payload got;

			ASSERT_TRUE(readable(x.udp)) TH_LOG("frame %llu", k);
			ASSERT_EQ(sizeof(got), recv(x.udp, &got, sizeof(got), 0));
			wrong += got.page != k || got.check != pattern(k * SZ_4K);
		}
		ASSERT_EQ(i + batch, __atomic_load_n(x.done.producer, __ATOMIC_ACQUIRE));
		__atomic_store_n(x.done.consumer, i + batch, __ATOMIC_RELEASE);
	}
	EXPECT_EQ(0, wrong);
	close_xsk(&x);
}

static int bpf(int cmd, union bpf_attr *attr)
{
	return syscall(__NR_bpf, cmd, attr, sizeof(*attr));
}

/*
 * An XDP program for lo that gives all frames to the socket, until the file that is
 * returned is closed. -1: see errno
 */
static int redirect_to(int xsk)
{
	union bpf_attr map = {
		.map_type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4,
		.max_entries = 1,
	}, update, prog, link;
	struct bpf_insn insns[] = {
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_1,
		  .src_reg = BPF_PSEUDO_MAP_FD },
		{ },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3,
		  .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	const __u32 key = 0;
	int map_fd, prog_fd, link_fd;

	map_fd = bpf(BPF_MAP_CREATE, &map);
	if (map_fd < 0)
		return -1;
	memset(&update, 0, sizeof(update));
	update.map_fd = map_fd;
	update.key = (unsigned long)&key;
	update.value = (unsigned long)&xsk;
	if (bpf(BPF_MAP_UPDATE_ELEM, &update))
		return -1;
	insns[0].imm = map_fd;
	memset(&prog, 0, sizeof(prog));
	prog.prog_type = BPF_PROG_TYPE_XDP;
	prog.insns = (unsigned long)insns;
	prog.insn_cnt = ARRAY_SIZE(insns);
	prog.license = (unsigned long)"GPL";
	prog_fd = bpf(BPF_PROG_LOAD, &prog);
	if (prog_fd < 0)
		return -1;
	memset(&link, 0, sizeof(link));
	link.link_create.prog_fd = prog_fd;
	link.link_create.target_ifindex = if_nametoindex("lo");
	link.link_create.attach_type = BPF_XDP;
	link.link_create.flags = XDP_FLAGS_SKB_MODE;
	link_fd = bpf(BPF_LINK_CREATE, &link);
	close(prog_fd);
	close(map_fd);
	return link_fd;
}

/* Frames that are received are where the program looks for them. */
TEST_F_TIMEOUT(vmap_users, xdp_receive, MINUTES(2))
{
	long wrong = 0;
	struct xsk x;
	int err, link;

	self->area = make_memory(variant->layout, NULL);
	if (!self->area)
		SKIP(return, "no memory of this layout");
	err = open_xsk(&x, self->area);
	if (err == EAFNOSUPPORT)
		SKIP(return, "no CONFIG_XDP_SOCKETS or CONFIG_INET");
	ASSERT_EQ(0, err);
	if (access("/proc/sys/kernel/unprivileged_bpf_disabled", F_OK))
		SKIP(return, "no CONFIG_BPF_SYSCALL");
	link = redirect_to(x.fd);
	ASSERT_GE(link, 0) TH_LOG("%s", strerror(errno));
	/* From the last page to the first */
	for (__u64 i = 0; i < PAGES; i++)
		((__u64 *)x.fill.desc)[i] = (PAGES - 1 - i) * SZ_4K;
	__atomic_store_n(x.fill.producer, PAGES, __ATOMIC_RELEASE);
	for (__u64 i = 0; i < PAGES; i++) {
		struct xdp_desc *desc = (struct xdp_desc *)x.rx.desc + i;
		struct payload sent = { .page = i, .check = pattern(i * SZ_4K) }, got;

		ASSERT_EQ(sizeof(sent), sendto(x.udp, &sent, sizeof(sent), 0,
					       (void *)&here, sizeof(here)));
		ASSERT_TRUE(readable(x.fd)) TH_LOG("frame %llu", i);
		ASSERT_EQ(i + 1, __atomic_load_n(x.rx.producer, __ATOMIC_ACQUIRE));
		ASSERT_EQ(PAGES - 1 - i, desc->addr / SZ_4K);
		ASSERT_EQ(FRAME_LEN, desc->len);
		memcpy(&got, self->area + desc->addr + PAYLOAD, sizeof(got));
		wrong += got.page != i || got.check != sent.check;
		__atomic_store_n(x.rx.consumer, i + 1, __ATOMIC_RELEASE);
	}
	EXPECT_EQ(0, wrong);
	close(link);
	close_xsk(&x);
}

/* dma-bufs */

static int sync_buf(int buf, __u64 flags)
{
	struct dma_buf_sync sync = { .flags = flags };

	return ioctl(buf, DMA_BUF_IOCTL_SYNC, &sync) ? errno : 0;
}

TEST_F_TIMEOUT(vmap_users, udmabuf, MINUTES(2))
{
	const bool huge = variant->layout == WHOLE;
	struct udmabuf_create create = { .size = BYTES };
	int dev, memfd, buf;
	char *mem, *va;
	long wrong = 0;

	if (variant->layout > WHOLE)
		SKIP(return, "a memfd has no such layout");
	dev = open("/dev/udmabuf", O_RDWR);
	if (dev < 0)
		SKIP(return, "no CONFIG_UDMABUF");
	if (huge) {
		if (!read_line(NR_HUGETLB, self->hugetlb, sizeof(self->hugetlb)))
			SKIP(return, "no hugetlb pages of 2 MiB");
		ASSERT_EQ(0, write_file(NR_HUGETLB, "2"));
	}
	memfd = memfd_create("buf", MFD_ALLOW_SEALING |
			     (huge ? MFD_HUGETLB | 21U << 26 : 0));
	ASSERT_GE(memfd, 0);
	ASSERT_EQ(0, ftruncate(memfd, BYTES));
	ASSERT_EQ(0, fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK));
	mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (mem == MAP_FAILED && huge)
		SKIP(return, "no memory for hugetlb pages");
	ASSERT_NE(MAP_FAILED, mem);
	for (__u64 o = 0; o < BYTES; o += SZ_4K)
		store(mem + o, pattern(o));
	create.memfd = memfd;
	buf = ioctl(dev, UDMABUF_CREATE, &create);
	ASSERT_GE(buf, 0) TH_LOG("%s", strerror(errno));

	va = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, buf, 0);
	ASSERT_NE(MAP_FAILED, va);
	ASSERT_EQ(0, sync_buf(buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW));
	for (__u64 o = 0; o < BYTES; o += SZ_4K) {
		ASSERT_EQ(pattern(o), load(va + o)) TH_LOG("%#llx", o);
		store(va + o, ~pattern(o));
	}
	ASSERT_EQ(0, sync_buf(buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW));
	for (__u64 o = 0; o < BYTES; o += SZ_4K)
		wrong += load(mem + o) != ~pattern(o);
	EXPECT_EQ(0, wrong);
	/* By pages, as on any kernel, and cut as such */
	EXPECT_LEAVES(va, BYTES, PAGES, 0, 0);
	ASSERT_EQ(0, munmap(va + SZ_2M + SZ_4K, SZ_4K));
	ASSERT_EQ(0, mprotect(va + 5 * SZ_4K, SZ_4K, PROT_READ));
	EXPECT_EQ(SIGSEGV, try_write(va + 5 * SZ_4K, 1));
	EXPECT_EQ(SIGSEGV, try_write(va + SZ_2M + SZ_4K, 1));
	EXPECT_EQ(~pattern(SZ_2M), load(va + SZ_2M));
	EXPECT_EQ(~pattern(SZ_2M + 2 * SZ_4K), load(va + SZ_2M + 2 * SZ_4K));
	munmap(va, BYTES);
	munmap(mem, BYTES);
	close(buf);
	close(memfd);
	close(dev);
}

TEST_HARNESS_MAIN
