// SPDX-License-Identifier: GPL-2.0
/*
 * What else programs do while they have a PCI BAR mapped: dump core, use io_uring,
 * call the kernel as 32-bit programs do, ask for NUMA policies, run in a cgroup. The
 * results are those of pages of 4 KiB, and the leaves stay as they are.
 */
#include "huge_iomap_uring.h"
#include "huge_iomap_vfio.h"

#include <linux/elf.h>
#include <linux/if_xdp.h>
#include <linux/mempolicy.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

FIXTURE(users) {
	char saved[16], core_pattern[128], core_limit[16];
	struct user_leaves before;
	__u64 base;		/* where the BAR begins in the file */
	struct vfio vfio;
	char cgroup[64];
	char *area;
	__u64 big, bytes;	/* as much as a leaf, and what is mapped in all */
	int fd, max;		/* max: largest leaf that can be had */
};

enum path { SYSFS, DRIVER, VFIO };

FIXTURE_VARIANT(users) {
	enum path path;
	const char *limit;
};

FIXTURE_VARIANT_ADD(users, sysfs_4k) { .path = SYSFS, .limit = "4K" };
FIXTURE_VARIANT_ADD(users, sysfs_2m) { .path = SYSFS, .limit = "2M" };
FIXTURE_VARIANT_ADD(users, sysfs_1g) { .path = SYSFS, .limit = "1G" };
FIXTURE_VARIANT_ADD(users, driver_1g) { .path = DRIVER, .limit = "1G" };
FIXTURE_VARIANT_ADD(users, vfio_4k) { .path = VFIO, .limit = "4K" };
FIXTURE_VARIANT_ADD(users, vfio_2m) { .path = VFIO, .limit = "2M" };
FIXTURE_VARIANT_ADD(users, vfio_1g) { .path = VFIO, .limit = "1G" };

FIXTURE_SETUP(users)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR2_REGION_INDEX,
	};

	self->vfio.device = -1;
	if (read_line(LIMIT, self->saved, sizeof(self->saved)) &&
	    write_file(LIMIT, variant->limit))
		SKIP(return, "nohugeiomap does not allow %s", variant->limit);
	switch (variant->path) {
	case SYSFS:
		self->fd = open(PCI_DEVICE "/resource2", O_RDWR | O_SYNC);
		break;
	case DRIVER:
		self->fd = open_driver();
		break;
	case VFIO:
		if (option_off())
			SKIP(return, "without the option leaves are dropped, not split");
		/* It maps all of the BAR for itself: not by pages, that takes long. */
		if (self->saved[0])
			ASSERT_EQ(0, write_file(LIMIT, self->saved));
		ASSERT_EQ(0, bind_to("vfio-pci"));
		ASSERT_TRUE(open_cdev(&self->vfio)) TH_LOG("%s", strerror(errno));
		self->fd = self->vfio.device;
		ASSERT_EQ(0, ioctl(self->fd, VFIO_DEVICE_GET_REGION_INFO, &info));
		self->base = info.offset;
		if (self->saved[0])
			ASSERT_EQ(0, write_file(LIMIT, variant->limit));
	}
	if (self->fd < 0 && variant->path == DRIVER)
		SKIP(return, "no test driver");
	ASSERT_GE(self->fd, 0) TH_LOG("%s", strerror(errno));
	self->max = user_max_leaf();
	/* A leaf of each size. With pages only, some will do. */
	self->big = self->max == THI_4K ? 8 * SZ_2M : SZ_1G;
	self->bytes = self->big + SZ_2M + SZ_4K;

	/* Not to be found in a core dump, but for what is mapped there */
	self->area = mmap(NULL, 3 * SZ_1G, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, self->area);
	self->area = (char *)(((unsigned long)self->area + SZ_1G - 1) & ~(SZ_1G - 1));
	ASSERT_EQ(self->area, map_at(self->fd, self->base, self->area, 0, self->bytes));
	fill(self->area, 0, self->bytes);
	ASSERT_TRUE(user_leaves(self->area, self->bytes, &self->before))
		TH_LOG(PAGE_TABLES);
}

/* Processes of the cgroup that have been killed may take a moment. */
static int remove_cgroup(const char *cgroup)
{
	for (int i = 0; i < 100; i++) {
		if (!rmdir(cgroup) || errno == ENOENT)
			return 0;
		usleep(50000);
	}
	return errno;
}

FIXTURE_TEARDOWN(users)
{
	if (self->core_pattern[0])
		write_file("/proc/sys/kernel/core_pattern", self->core_pattern);
	if (self->core_limit[0])
		write_file("/proc/sys/kernel/core_pipe_limit", self->core_limit);
	if (self->cgroup[0])
		remove_cgroup(self->cgroup);
	if (self->saved[0])
		write_file(LIMIT, self->saved);
	if (self->vfio.device < 0)
		return;
	munmap(self->area, self->bytes);
	close_vfio(&self->vfio);
	bind_to("\n");
}

#define EXPECT_AS_BEFORE() do {						\
	struct user_leaves now_;					\
	ASSERT_TRUE(user_leaves(self->area, self->bytes, &now_));		\
	EXPECT_EQ(self->before.writable, now_.writable);		\
	for (int l_ = 0; l_ < THI_NR_LEAF; l_++) {			\
		EXPECT_EQ(self->before.bytes[l_], now_.bytes[l_])	\
			TH_LOG("%s", leaf_names[l_]);			\
	}								\
	EXPECT_EQ(0, differ(self->area, 0, 0, self->bytes));			\
} while (0)

/* Core dumps */

#define CORE		"/tmp/huge_iomap_core"
#define CORE_STATUS	"/tmp/huge_iomap_core_status"
#define CORE_SCRIPT	"/tmp/huge_iomap_core.sh"
#define MARK		0x6d61726bu

static void dump_core(const char *filter, long *pte)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_CORE, &all);
	prctl(PR_SET_DUMPABLE, 1);
	write_file("/proc/self/coredump_filter", filter);
	*pte = vm_pte("/proc/self/status");
	*pte = vm_pte("/proc/self/status");
	raise(SIGABRT);
	_exit(0);
}

/* The program header for what is mapped at @va. False if there is none. */
static bool core_phdr(int fd, const void *va, struct elf64_phdr *p)
{
	const __u64 at = (unsigned long)va;
	struct elf64_hdr e;

	if (pread(fd, &e, sizeof(e), 0) != sizeof(e) ||
	    memcmp(e.e_ident, ELFMAG, SELFMAG) || e.e_type != ET_CORE)
		return false;
	for (int i = 0; i < e.e_phnum; i++) {
		if (pread(fd, p, sizeof(*p), e.e_phoff + i * sizeof(*p)) != sizeof(*p))
			return false;
		if (p->p_type == PT_LOAD && at >= p->p_vaddr &&
		    at < p->p_vaddr + p->p_memsz)
			return true;
	}
	return false;
}

/* A core dump names the mapping, has nothing of it, and leaves it alone. */
TEST_F_TIMEOUT(users, core_dump, MINUTES(2))
{
	static const char script[] = "#!/bin/sh\ncat >" CORE
		"\ncat /proc/$1/status >" CORE_STATUS "\n";
	static const char * const filters[] = { "0x33", "0x1ff" };
	long *pte = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	__u32 *mark = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), word;
	FILE *f;

	if (!read_line("/proc/sys/kernel/core_pattern", self->core_pattern,
		       sizeof(self->core_pattern)) ||
	    !read_line("/proc/sys/kernel/core_pipe_limit", self->core_limit,
		       sizeof(self->core_limit)))
		SKIP(return, "no CONFIG_COREDUMP");
	ASSERT_NE(MAP_FAILED, pte);
	ASSERT_NE(MAP_FAILED, mark);
	*mark = MARK;

	/* It cannot be asked for, and what is refused changes nothing. */
	EXPECT_EQ(-1, madvise(self->area, self->bytes, MADV_DODUMP));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, madvise(self->area + SZ_4K, SZ_4K, MADV_DODUMP));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_AS_BEFORE();

	f = fopen(CORE_SCRIPT, "w");
	ASSERT_NE(NULL, f);
	fputs(script, f);
	fclose(f);
	ASSERT_EQ(0, chmod(CORE_SCRIPT, 0755));
	/* The kernel waits for the script to end. */
	ASSERT_EQ(0, write_file("/proc/sys/kernel/core_pipe_limit", "1"));

	for (int i = 0; i < 2 * ARRAY_SIZE(filters); i++) {
		const bool pipe = i % 2;
		struct stat st;
		struct elf64_phdr p;
		int status, fd;
		pid_t pid;

		unlink(CORE);
		unlink(CORE_STATUS);
		ASSERT_EQ(0, write_file("/proc/sys/kernel/core_pattern",
					pipe ? "|" CORE_SCRIPT " %P" : CORE));
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid)
			dump_core(filters[i / 2], pte);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status));
		EXPECT_EQ(SIGABRT, WTERMSIG(status));
		EXPECT_TRUE(WCOREDUMP(status));

		/* With core_uses_pid, the name is another. */
		fd = open(CORE, O_RDONLY);
		ASSERT_GE(fd, 0) TH_LOG("%s: %s", CORE, strerror(errno));
		ASSERT_EQ(0, fstat(fd, &st));
		EXPECT_LT(st.st_size, 64 * SZ_1M);
		EXPECT_LT(st.st_blocks * 512, 16 * SZ_1M);
		ASSERT_TRUE(core_phdr(fd, self->area, &p));
		EXPECT_EQ((unsigned long)self->area, p.p_vaddr);
		EXPECT_EQ(self->bytes, p.p_memsz);
		EXPECT_EQ(0, p.p_filesz);
		EXPECT_EQ(PF_R | PF_W, p.p_flags);
		ASSERT_TRUE(core_phdr(fd, mark, &p));
		ASSERT_EQ(sizeof(word), pread(fd, &word, sizeof(word), p.p_offset +
					      (unsigned long)mark - p.p_vaddr));
		EXPECT_EQ(MARK, word);
		close(fd);
		/* No leaf of the process was split. */
		if (pipe)
			EXPECT_EQ(*pte, vm_pte(CORE_STATUS));
	}
	unlink(CORE);
	unlink(CORE_STATUS);
	unlink(CORE_SCRIPT);
	EXPECT_AS_BEFORE();
}

/* What pins pages cannot have these, wherever they lie. What copies can. */
TEST_F_TIMEOUT(users, io_uring, MINUTES(2))
{
	const struct { __u64 offset, bytes; } range[] = {
		{ 0, SZ_4K }, { SZ_2M - SZ_4K, 2 * SZ_4K }, { 0, SZ_2M },
		{ 3 * SZ_2M, 4 * SZ_2M }, { self->big - SZ_4K, 2 * SZ_4K },
		{ self->big + SZ_2M, SZ_4K }, { 0, self->bytes },
	};
	char *va = self->area, *page = va + 5 * SZ_2M + 3 * SZ_4K, *anon;
	int file, xsk;
	struct ring r, in_bar;
	__u32 word;

	if (!has_io_uring())
		SKIP(return, "no CONFIG_IO_URING");
	ASSERT_EQ(0, ring_open(&r, 4, 0, NULL, NULL));
	xsk = socket(AF_XDP, SOCK_RAW, 0);

	/* The page of anonymous memory before the mapping is not to be pinned alone. */
	anon = mmap(va - SZ_4K, SZ_4K, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ASSERT_EQ(va - SZ_4K, anon);
	*anon = 1;
	for (int i = 0; i < ARRAY_SIZE(range); i++) {
		for (int before = 0; before <= !range[i].offset; before++) {
			char *from = va + range[i].offset - before * SZ_4K;
			const __u64 bytes = range[i].bytes + before * SZ_4K;
			struct iovec iov = { from, bytes };
			struct io_uring_region_desc desc = {
				.user_addr = (unsigned long)from, .size = bytes,
				.flags = IORING_MEM_REGION_TYPE_USER,
			};
			struct io_uring_mem_region_reg reg = {
				.region_uptr = (unsigned long)&desc,
			};
			struct xdp_umem_reg umem = {
				.addr = (unsigned long)from, .len = bytes,
				.chunk_size = SZ_4K,
			};

			EXPECT_EQ(EFAULT, ring_register(&r, IORING_REGISTER_BUFFERS,
							&iov, 1));
			EXPECT_EQ(EFAULT, ring_register(&r, IORING_REGISTER_MEM_REGION,
							&reg, 1));
			EXPECT_EQ(EFAULT, ring_open(&in_bar, 4, 0, va + range[i].offset,
						    va));
			if (xsk >= 0) {
				/* Half of a umem is no umem. */
				EXPECT_EQ(-1, setsockopt(xsk, SOL_XDP, XDP_UMEM_REG,
							 &umem, sizeof(umem)));
				EXPECT_EQ(before ? ENOMEM : EFAULT, errno);
			}
		}
	}
	EXPECT_AS_BEFORE();

	file = memfd_create("file", 0);
	ASSERT_GE(file, 0);
	word = 0x12345678;
	ASSERT_EQ(sizeof(word), pwrite(file, &word, sizeof(word), 0));
	for (int write = 0; write < 2; write++) {
		struct io_uring_sqe *sqe = ring_sqe(&r, 0);

		sqe->opcode = write ? IORING_OP_WRITE : IORING_OP_READ;
		sqe->fd = file;
		sqe->addr = (unsigned long)page;
		sqe->len = sizeof(word);
		sqe->off = write * SZ_4K;
		ASSERT_EQ(1, ring_submit(&r, 1));
		ASSERT_EQ(1, ring_ready(&r));
		EXPECT_EQ(sizeof(word), ring_cqe(&r, 0)->res);
		ring_seen(&r, 1);
		EXPECT_EQ(0x12345678, load(page));
	}
	ASSERT_EQ(sizeof(word), pread(file, &word, sizeof(word), SZ_4K));
	EXPECT_EQ(0x12345678, word);
	store(page, pattern(page - va));
	EXPECT_AS_BEFORE();
	ring_close(&r);
	close(file);
	if (xsk >= 0)
		close(xsk);
}

/* System calls of 32-bit programs. A program of 64 bits can make them, too. */

#define NR32_getpid	20
#define NR32_munmap	91
#define NR32_mprotect	125
#define NR32_mremap	163
#define NR32_mmap2	192

#ifdef __x86_64__
static long call32(unsigned int nr, __u32 b, __u32 c, __u32 d, __u32 si, __u32 di,
		   __u32 bp)
{
	long ret;

	asm volatile("movq %%rbp, %%r12\n\tmovl %[bp], %%ebp\n\tint $0x80\n\t"
		     "movq %%r12, %%rbp"
		     : "=a" (ret)
		     : "0" ((long)nr), "b" ((long)b), "c" ((long)c), "d" ((long)d),
		       "S" ((long)si), "D" ((long)di), [bp] "rm" (bp)
		     : "memory", "cc", "r8", "r9", "r10", "r11", "r12");
	return ret;
}
#else
static long call32(unsigned int nr, __u32 b, __u32 c, __u32 d, __u32 si, __u32 di,
		   __u32 bp)
{
	raise(SIGSEGV);
	return -1;
}
#endif

static bool has_call32(void)
{
	struct sigaction sa = { .sa_handler = access_handler, .sa_flags = SA_NODEFER };
	struct sigaction old;
	static bool ok;

	sigaction(SIGSEGV, &sa, &old);
	if (!sigsetjmp(access_env, 1))
		ok = call32(NR32_getpid, 0, 0, 0, 0, 0, 0) == getpid();
	sigaction(SIGSEGV, &old, NULL);
	return ok;
}

/* The largest leaves that @va and @pa allow */
static int congruent_leaf(__u64 va, __u64 pa, int max)
{
	if (max == THI_1G && (va - pa) % SZ_1G)
		max = THI_2M;
	return max == THI_2M && (va - pa) % SZ_2M ? THI_4K : max;
}

/* They place nothing for leaves. What is mapped at an address that fits gets them. */
TEST_F_TIMEOUT(users, calls_of_32_bits, MINUTES(2))
{
	const __u64 bytes = self->bytes, page = SZ_2M + 5 * SZ_4K;
	const __u32 prot = PROT_READ | PROT_WRITE, base = self->base / SZ_4K;
	long at, to, room = 0;
	__u32 v;

	if (!has_call32())
		SKIP(return, "no CONFIG_IA32_EMULATION");
	for (int fixed = 0; fixed < 2; fixed++) {
		/* The offset is in pages. */
		const __u64 skew = fixed ? 0 : SZ_4K;
		struct ideal ideal;
		char *va;

		if (fixed) {
			room = call32(NR32_mmap2, 0, self->big + SZ_1G + 2 * SZ_2M,
				      PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
				      MAP_NORESERVE, -1, 0);
			ASSERT_GT(room, 0) TH_LOG("%s", strerror(-room));
			room = (room + SZ_1G - 1) & ~(SZ_1G - 1);
		}
		at = call32(NR32_mmap2, fixed ? room : 0, bytes, prot,
			    MAP_SHARED | (fixed ? MAP_FIXED : 0), self->fd,
			    base + skew / SZ_4K);
		ASSERT_GT(at, 0) TH_LOG("%s", strerror(-at));
		ASSERT_LE(at + bytes, 1ULL << 32);
		va = (char *)at;
		fill(va, skew, bytes);
		EXPECT_EQ(0, differ(va, skew, 0, bytes));
		/* The same through an address above 4 GiB */
		EXPECT_EQ(0, differ(self->area + skew, skew, 0, bytes - skew));
		ideal = ideal_leaves(at, bar_start() + skew, bytes,
				     congruent_leaf(at, bar_start() + skew, self->max));
		if (self->saved[0])
			EXPECT_LEAVES(va, bytes, ideal.nr[THI_4K], ideal.nr[THI_2M],
				      ideal.nr[THI_1G]);

		ASSERT_EQ(0, call32(NR32_munmap, at + page, SZ_4K, 0, 0, 0, 0));
		ASSERT_EQ(0, call32(NR32_mprotect, at + page + SZ_4K, SZ_4K, PROT_READ,
				    0, 0, 0));
		to = call32(NR32_mremap, at + page + 3 * SZ_2M, SZ_4K, SZ_4K,
			    MREMAP_MAYMOVE | MREMAP_FIXED, at + page, 0);
		ASSERT_EQ(at + page, to);
		EXPECT_EQ(SIGSEGV, try_write(va + page + SZ_4K, 1));
		EXPECT_EQ(SIGSEGV, try_read(va + page + 3 * SZ_2M, &v));
		/* It may have been one that fill() leaves out. */
		store(va + page, pattern(skew + page + 3 * SZ_2M));
		EXPECT_EQ(pattern(skew + page + 3 * SZ_2M),
			  load(self->area + skew + page + 3 * SZ_2M));

		/* It shrinks in place, and cannot grow. */
		ASSERT_EQ(at + page + 4 * SZ_2M,
			  call32(NR32_mremap, at + page + 4 * SZ_2M,
				 bytes - page - 4 * SZ_2M, SZ_2M, 0, 0, 0));
		EXPECT_EQ(-EFAULT, call32(NR32_mremap, at + page + 4 * SZ_2M, SZ_2M,
					  2 * SZ_2M, MREMAP_MAYMOVE, 0, 0));
		EXPECT_EQ(SIGSEGV, try_read(va + page + 5 * SZ_2M, &v));
		EXPECT_EQ(0, differ(va, skew, 0, page));
		EXPECT_EQ(0, differ(va, skew, page + SZ_4K, page + 3 * SZ_2M));
		EXPECT_EQ(0, differ(va, skew, page + 3 * SZ_2M + SZ_4K,
				    page + 5 * SZ_2M));
		ASSERT_EQ(0, call32(NR32_munmap, at, bytes, 0, 0, 0, 0));
	}
	/* More than there is */
	EXPECT_EQ(-ENOMEM, call32(NR32_mmap2, 0, (1ULL << 32) - SZ_1M, prot, MAP_SHARED,
				  self->fd, base));
	EXPECT_AS_BEFORE();
}

/* A program of 32 bits, whose address space ends at 4 GiB */
TEST_F_TIMEOUT(users, program_of_32_bits, MINUTES(2))
{
	char base[24], big[24], *va = self->area;
	long wrong = 0;
	int status;
	pid_t pid;

	if (access("users_32", X_OK))
		SKIP(return, "users_32 has not been built");
	if (!has_call32())
		SKIP(return, "no CONFIG_IA32_EMULATION");
	snprintf(base, sizeof(base), "%llu", self->base / SZ_4K);
	snprintf(big, sizeof(big), "%llu", self->big / SZ_4K);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		if (dup2(self->fd, 3) == 3)
			execl("users_32", "users_32", base, big, NULL);
		_exit(126);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status)) TH_LOG("status %#x", status);
	for (__u64 o = SZ_4K; o < self->big; o += SZ_2M)
		wrong += load(va + o) != ~pattern(o);
	EXPECT_EQ(0, wrong);
	kill(pid, SIGCONT);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	fill(va, 0, self->bytes);
	EXPECT_AS_BEFORE();
}

/* NUMA: policies are kept, nothing is moved. */

static long mbind(void *at, __u64 bytes, int mode, unsigned long nodes, int flags)
{
	return syscall(__NR_mbind, at, bytes, mode, &nodes, 64, flags) ? errno : 0;
}

/* The line of a mapping in a file of procfs; false if there is none */
static bool line_of(const char *path, const void *va, char *buf, size_t len)
{
	FILE *f = fopen(path, "r");
	char key[32];
	bool found = false;

	if (!f)
		return false;
	snprintf(key, sizeof(key), "%lx", (unsigned long)va);
	while (!found && fgets(buf, len, f))
		found = !strncmp(buf, key, strlen(key));
	fclose(f);
	return found;
}

TEST_F_TIMEOUT(users, numa, MINUTES(2))
{
	const __u64 pages[] = { 0, SZ_2M + SZ_4K, self->big - SZ_4K, self->big,
				self->big + SZ_2M };
	const unsigned long one = 1, all = file_has("/sys/devices/system/node/online",
						    "0-1") ? 3 : 1;
	void *at[ARRAY_SIZE(pages)];
	int status[ARRAY_SIZE(pages)], nodes[ARRAY_SIZE(pages)];
	char line[512], *va = self->area, *page = va + 3 * SZ_2M + 9 * SZ_4K;
	int pagemap;

	if (access("/proc/self/numa_maps", R_OK))
		SKIP(return, "no CONFIG_NUMA");
	for (int i = 0; i < ARRAY_SIZE(pages); i++) {
		at[i] = va + pages[i];
		nodes[i] = all == 3;
	}
	/* As with pages of 4 KiB: there is no folio to move, or on a wrong node. */
	EXPECT_EQ(0, mbind(va, self->bytes, MPOL_BIND, one, 0));
	EXPECT_EQ(0, mbind(va, self->bytes, MPOL_BIND, one, MPOL_MF_STRICT));
	EXPECT_EQ(0, mbind(va, self->bytes, MPOL_BIND, one, MPOL_MF_MOVE));
	EXPECT_EQ(0, mbind(va, self->bytes, MPOL_INTERLEAVE, all,
			   MPOL_MF_STRICT | MPOL_MF_MOVE));
	EXPECT_EQ(0, mbind(va, self->bytes, MPOL_BIND, all,
			   MPOL_MF_STRICT | MPOL_MF_MOVE_ALL));
	EXPECT_EQ(EINVAL, mbind(va, self->bytes, MPOL_BIND, 0, 0));
	EXPECT_AS_BEFORE();
	ASSERT_TRUE(line_of("/proc/self/numa_maps", va, line, sizeof(line)));
	EXPECT_NE(NULL, strstr(line, all == 3 ? "bind:0-1" : "bind:0")) TH_LOG("%s", line);
	/* No page of memory */
	EXPECT_EQ(NULL, strstr(line, " N0=")) TH_LOG("%s", line);

	EXPECT_EQ(0, syscall(__NR_set_mempolicy, MPOL_BIND, &one, 64));
	EXPECT_EQ(0, differ(va, 0, 0, self->bytes));
	EXPECT_EQ(0, syscall(__NR_set_mempolicy, MPOL_DEFAULT, NULL, 0));
	/* CONFIG_NUMA_MIGRATION */
	if (!syscall(__NR_move_pages, 0, 0, NULL, NULL, NULL, 0)) {
		EXPECT_EQ(0, syscall(__NR_migrate_pages, 0, 64, &one, &all));
		EXPECT_EQ(0, syscall(__NR_move_pages, 0, ARRAY_SIZE(pages), at, NULL,
				     status, 0));
		for (int i = 0; i < ARRAY_SIZE(pages); i++)
			EXPECT_EQ(-ENOENT, status[i]);
		EXPECT_EQ(0, syscall(__NR_move_pages, 0, ARRAY_SIZE(pages), at, nodes,
				     status, MPOL_MF_MOVE));
		for (int i = 0; i < ARRAY_SIZE(pages); i++)
			EXPECT_EQ(-EFAULT, status[i]);
	}
	EXPECT_AS_BEFORE();

	/* For these files, there is nothing in a mapping without struct pages. */
	pagemap = open("/proc/self/pagemap", O_RDONLY);
	ASSERT_GE(pagemap, 0);
	for (int round = 0; round < 8; round++) {
		long present = 0;
		__u64 entry;

		ASSERT_TRUE(line_of("/proc/self/numa_maps", va, line, sizeof(line)));
		ASSERT_TRUE(line_of("/proc/self/smaps", va, line, sizeof(line)));
		for (__u64 o = 0; o < self->bytes; o += SZ_2M) {
			const __u64 pos = ((unsigned long)va + o) / SZ_4K * sizeof(entry);

			ASSERT_EQ(sizeof(entry),
				  pread(pagemap, &entry, sizeof(entry), pos));
			present += !!(entry >> 62);
		}
		EXPECT_EQ(0, present);
	}
	close(pagemap);
	EXPECT_AS_BEFORE();

	/* A policy for one page is one more VMA: no page is lost then, either. */
	EXPECT_EQ(0, mbind(page, SZ_4K, MPOL_PREFERRED, one, MPOL_MF_MOVE));
	EXPECT_EQ(0, differ(va, 0, 0, self->bytes));
	ASSERT_TRUE(line_of("/proc/self/numa_maps", page, line, sizeof(line)));
	EXPECT_NE(NULL, strstr(line, "prefer:0")) TH_LOG("%s", line);
	EXPECT_EQ(0, mbind(va, self->bytes, MPOL_DEFAULT, 0, 0));
	EXPECT_EQ(0, differ(va, 0, 0, self->bytes));
}

/* Memory cgroups */

/* What a process in the cgroup has seen. Bytes, but for pte: KiB of page tables */
struct report {
	long stat[3], pte[3];
	int done, err[3];
	long wrong;
	char *va;
};

static bool make_cgroup(char *path, size_t len)
{
	static const char * const roots[] = { "/sys/fs/cgroup", "/tmp/huge_iomap_cgroup" };
	char file[96];

	for (int i = 0; i < ARRAY_SIZE(roots); i++) {
		if (i) {
			mkdir(roots[i], 0755);
			if (mount("none", roots[i], "cgroup2", 0, NULL) &&
			    errno != EBUSY)
				return false;
		}
		snprintf(file, sizeof(file), "%s/cgroup.subtree_control", roots[i]);
		if (write_file(file, "+memory"))
			continue;
		snprintf(path, len, "%s/test", roots[i]);
		return !mkdir(path, 0755);
	}
	return false;
}

static int cgroup_write(const char *cgroup, const char *name, const char *text)
{
	char file[96];

	snprintf(file, sizeof(file), "%s/%s", cgroup, name);
	return write_file(file, text);
}

/* The number after a key, or with NULL the only one; -1 on error */
static long cgroup_read(const char *cgroup, const char *name, const char *key)
{
	char file[96], line[128];
	long value = -1;
	FILE *f;

	snprintf(file, sizeof(file), "%s/%s", cgroup, name);
	f = fopen(file, "r");
	if (!f)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), f)) {
		if (!key)
			value = atol(line);
		else if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ' ')
			value = atol(line + strlen(key));
	}
	fclose(f);
	return value;
}

/*
 * Bytes of page tables that are charged. Much else has to change, or the kernel does
 * not add up: pages of @churn, which has 1 MiB and one page with its table.
 */
static long charged_tables(const char *cgroup, char *churn)
{
	for (int i = 0; i < 2; i++) {
		memset(churn, 1, SZ_1M);
		madvise(churn, SZ_1M, MADV_DONTNEED);
	}
	return cgroup_read(cgroup, "memory.stat", "pagetables");
}

static pid_t fork_into(const char *cgroup, const char *oom_score_adj)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	alarm(60);
	if (cgroup_write(cgroup, "cgroup.procs", "0") ||
	    write_file("/proc/self/oom_score_adj", oom_score_adj))
		_exit(100);
	return 0;
}

static struct report *new_report(void)
{
	struct report *r = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return r == MAP_FAILED ? NULL : r;
}

/* Page tables are charged to the cgroup: none for leaves, those of a split. */
TEST_F_TIMEOUT(users, memcg_charge, MINUTES(2))
{
	struct report *r = new_report();
	struct ideal ideal;
	int status;
	pid_t pid;

	if (!make_cgroup(self->cgroup, sizeof(self->cgroup)))
		SKIP(return, "no CONFIG_MEMCG");
	ASSERT_NE(NULL, r);
	pid = fork_into(self->cgroup, "0");
	ASSERT_GE(pid, 0);
	if (!pid) {
		char *va = reserve(2 * SZ_1G), *churn = va + 2 * SZ_1G + SZ_2M;

		madvise(churn, SZ_2M, MADV_NOHUGEPAGE);
		churn[SZ_1M] = 1;
		for (int i = -1; i < 3; i++) {
			if (i == 1) {
				if (map_at(self->fd, self->base, va, 0, self->bytes) != va)
					_exit(1);
				fill(va, 0, self->bytes);
			} else if (i == 2 && munmap(va + 3 * SZ_2M + SZ_4K, SZ_4K)) {
				_exit(2);
			}
			/* Once for the tables of what they do, too */
			r->stat[i < 0 ? 0 : i] = charged_tables(self->cgroup, churn);
			r->pte[i < 0 ? 0 : i] = vm_pte("/proc/self/status");
		}
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	ASSERT_LT(0, r->stat[0]);
	EXPECT_EQ(r->pte[1] - r->pte[0], (r->stat[1] - r->stat[0]) / 1024);
	EXPECT_EQ(r->pte[2] - r->pte[1], (r->stat[2] - r->stat[1]) / 1024);
	if (variant->path != VFIO || self->saved[0]) {
		ideal = ideal_leaves(0, bar_start(), self->bytes, self->max);
		EXPECT_EQ(ideal.tables * 4, r->pte[1] - r->pte[0]);
		EXPECT_EQ(4 * tables_of_cut(self->max), r->pte[2] - r->pte[1]);
	}
	EXPECT_AS_BEFORE();
	EXPECT_EQ(0, remove_cgroup(self->cgroup));
}

/* Where the n-th cut is made: one in each 2 MiB, at places that vary */
static __u64 cut_at(int n)
{
	return n * SZ_2M + (n * 7 % 509 + 1) * SZ_4K;
}

/*
 * Cut pages out of the leaf until there is no memory in the cgroup: the calls fail,
 * or the OOM killer acts. How many were cut
 */
static int cut_until_full(int fd, __u64 base, __u64 bytes, const char *cgroup,
			  struct report *r)
{
	char file[96], text[32], *page, *va = reserve(bytes);
	int max;

	if (map_at(fd, base, va, 0, bytes) != va)
		_exit(1);
	fill(va, 0, bytes);
	snprintf(file, sizeof(file), "%s/memory.max", cgroup);
	max = open(file, O_WRONLY);
	snprintf(text, sizeof(text), "%ld",
		 cgroup_read(cgroup, "memory.current", NULL) + 64 * 1024);
	if (max < 0 || write(max, text, strlen(text)) < 0)
		_exit(2);
	for (r->done = 0; r->done < bytes / SZ_2M && !r->err[0]; r->done += !r->err[0])
		if (munmap(va + cut_at(r->done), SZ_4K))
			r->err[0] = errno;
	/* Others fail as well, if they need tables. */
	if (r->err[0]) {
		page = va + cut_at(r->done + 1);
		if (mprotect(page, SZ_4K, PROT_READ))
			r->err[1] = errno;
		else if (mprotect(page, SZ_4K, PROT_READ | PROT_WRITE))
			_exit(3);
		page = va + cut_at(r->done + 2);
		if (madvise(page, SZ_4K, MADV_DONTFORK))
			r->err[2] = errno;
	}
	if (pwrite(max, "max", 3, 0) != 3)
		_exit(4);
	close(max);
	r->va = va;
	return r->done;
}

/* Without memory, a cut fails with -ENOMEM, and each page is as it was. */
TEST_F_TIMEOUT(users, memcg_full, MINUTES(2))
{
	const int nr = self->big / SZ_2M;
	struct report *r = new_report();
	pid_t pid, victim;
	int status;

	if (!make_cgroup(self->cgroup, sizeof(self->cgroup)))
		SKIP(return, "no CONFIG_MEMCG");
	ASSERT_NE(NULL, r);
	/* One that can be killed, and one that cannot */
	victim = fork_into(self->cgroup, "1000");
	ASSERT_GE(victim, 0);
	if (!victim)
		for (;;)
			pause();
	pid = fork_into(self->cgroup, "-1000");
	ASSERT_GE(pid, 0);
	if (!pid) {
		int cut = cut_until_full(self->fd, self->base, self->big,
					 self->cgroup, r);
		char *va = r->va;
		__u32 v;

		for (int i = 0; i < cut; i++)
			r->wrong += try_read(va + cut_at(i), &v) != SIGSEGV;
		for (__u64 o = 0; o < self->big; o = next_page(o)) {
			if (o / SZ_2M < cut && cut_at(o / SZ_2M) == o)
				continue;
			r->wrong += try_read(va + o, &v) || v != pattern(o);
			r->wrong += !!try_write(va + o, pattern(o));
		}
		/* With memory, it works. */
		for (int i = cut; i < nr; i++)
			r->wrong += !!munmap(va + cut_at(i), SZ_4K);
		r->pte[0] = vm_pte("/proc/self/status");
		munmap(va, self->big);
		r->pte[1] = vm_pte("/proc/self/status");
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	kill(victim, SIGKILL);
	ASSERT_EQ(victim, waitpid(victim, &status, 0));
	EXPECT_EQ(0, r->wrong);
	if (self->max > THI_4K) {
		/* It takes 2 MiB of page tables to cut all. */
		EXPECT_GT(nr, r->done);
		EXPECT_EQ(ENOMEM, r->err[0]);
		/* There may be just enough for another. madvise() has its own error. */
		if (r->err[1])
			EXPECT_EQ(ENOMEM, r->err[1]);
		if (r->err[2])
			EXPECT_EQ(EAGAIN, r->err[2]);
		EXPECT_LE(1, cgroup_read(self->cgroup, "memory.events", "oom"));
	}
	EXPECT_LE(nr * 4, r->pte[0] - r->pte[1]);
	EXPECT_AS_BEFORE();
	EXPECT_EQ(0, remove_cgroup(self->cgroup));
}

/* One that is killed while it splits a leaf leaves nothing behind. */
TEST_F_TIMEOUT(users, memcg_kill, MINUTES(2))
{
	const int nr = self->big / SZ_2M;
	struct report *r = new_report();
	const long slack = 16 * SZ_4K;
	long before = 0, after = 0;
	int status;
	pid_t pid;

	if (!make_cgroup(self->cgroup, sizeof(self->cgroup)))
		SKIP(return, "no CONFIG_MEMCG");
	ASSERT_NE(NULL, r);
	for (int round = 0; round < 3; round++) {
		pid = fork_into(self->cgroup, "0");
		ASSERT_GE(pid, 0);
		if (!pid) {
			cut_until_full(self->fd, self->base, self->big, self->cgroup,
				       r);
			_exit(0);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, cgroup_write(self->cgroup, "memory.max", "max"));
		if (self->max > THI_4K) {
			ASSERT_TRUE(WIFSIGNALED(status));
			EXPECT_EQ(SIGKILL, WTERMSIG(status));
			EXPECT_LT(0, r->done);
			EXPECT_GT(nr, r->done);
			EXPECT_EQ(round + 1, cgroup_read(self->cgroup, "memory.events",
							 "oom_kill"));
		}
		/* Processes that have ended are cleaned up in the background. */
		for (int i = 0; i < 20; i++) {
			after = page_table_bytes();
			if (!round || after - before < slack)
				break;
			usleep(100000);
		}
		if (!round)
			before = after;
	}
	EXPECT_GT(slack, after - before)
		TH_LOG("%ld bytes before, %ld after", before, after);
	EXPECT_AS_BEFORE();
	EXPECT_EQ(0, remove_cgroup(self->cgroup));
}

TEST_HARNESS_MAIN
