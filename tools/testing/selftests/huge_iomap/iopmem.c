// SPDX-License-Identifier: GPL-2.0
/*
 * The driver iopmem: a PCI BAR as block device with DAX, for mmap(), and as memory
 * for peer-to-peer DMA. DMA needs NVMe disks beside the BAR, see p2p.
 */
#include "huge_iomap_iopmem.h"
#include "huge_iomap_uring.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

/* What a transfer gets that the topology does not allow: NVMe has no status for it. */
#define NO_PEER		EINVAL

#define MNT		"/tmp/iopmem"
#define FILE_BYTES	(64 * SZ_1M)

/* <linux/fs.h> does not go together with <sys/mount.h> */
#ifndef FICLONE
#define FICLONE		_IOW(0x94, 9, int)
#endif

static void *page_aligned(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void fill_buffer(char *p, size_t bytes, __u32 seed)
{
	for (size_t o = 0; o < bytes; o += 4)
		store(p + o, seed + o * 2654435761u);
}

static bool same(const char *a, const char *b, size_t bytes)
{
	for (size_t o = 0; o < bytes; o += 4)
		if (load(a + o) != load(b + o))
			return false;
	return true;
}

FIXTURE(iopmem) {
	struct memory bar;
	bool pat;
	char deaf[32];		/* a disk that does not answer */
};

FIXTURE_SETUP(iopmem)
{
	if (!have_iopmem())
		SKIP(return, "no CONFIG_BLK_DEV_IOPMEM");
	if (!find_bar(&self->bar))
		SKIP(return, "no ivshmem device");
	self->pat = !access(PAT_LIST, R_OK);
	mkdir(MNT, 0700);
}

/* A disk whose registers cannot be written, for now. It looks at all requests afterwards. */
static bool disk_answers(const char *disk, bool answers)
{
	char dir[64], path[PATH_MAX], pci[PATH_MAX];
	bool ok;

	snprintf(dir, sizeof(dir), "/sys/block/%s", strrchr(disk, '/') + 1);
	/* Nobody resets it meanwhile. */
	snprintf(path, sizeof(path), "%s/queue/io_timeout", dir);
	ok = !write_file(path, answers ? "30000" : "600000");
	snprintf(path, sizeof(path), "%s/device/device", dir);
	ok &= realpath(path, pci) && decode(strrchr(pci, '/') + 1, answers);
	snprintf(path, sizeof(path), "%s/device/reset_controller", dir);
	return ok && (!answers || !write_file(path, "1"));
}

FIXTURE_TEARDOWN(iopmem)
{
	if (self->deaf[0])
		disk_answers(self->deaf, true);
	umount2(MNT, MNT_DETACH);
	if (!self->bar.size)
		return;
	decode(self->bar.dev, true);
	write_file(PARAM("bar"), "-1");
	write_file(PARAM("wc"), "1");
	write_file(PARAM("mode"), "block");
	bind_device(self->bar.dev, "\n");
}

static int mkfs_mount(struct memory *bar)
{
	char command[160];
	int err;

	/* Large allocations are aligned to 512 blocks: 2 MiB. */
	snprintf(command, sizeof(command),
		 "mkfs.ext4 -q -F -b 4096 -E stride=512,stripe_width=512 %s 256m", bar->node);
	err = run(command);
	if (err)
		return err;
	return mount(bar->node, MNT, "ext4", 0, "dax=always") ? errno : 0;
}

static int check_fs(struct memory *bar, const char *flags)
{
	char command[160];

	snprintf(command, sizeof(command), "e2fsck -f %s %s >/tmp/fsck.log", flags, bar->node);
	return run(command);
}

/* Register a buffer with io_uring, which pins it for as long as it likes. An errno */
static int pin_for_long(void *p, size_t bytes)
{
	struct iovec buffer = { .iov_base = p, .iov_len = bytes };
	struct ring r;
	int error = ring_open(&r, 4, 0, NULL, NULL);

	if (error)
		return error;
	error = ring_register(&r, IORING_REGISTER_BUFFERS, &buffer, 1);
	ring_close(&r);
	return error;
}

/* A file in the file system, allocated at once and written, so that it has blocks */
static int make_file(const char *name, size_t bytes)
{
	int fd = open(name, O_RDWR | O_CREAT, 0600);
	char *zero = page_aligned(SZ_1M);

	if (fd >= 0 && fallocate(fd, 0, 0, bytes)) {
		close(fd);
		fd = -1;
	}
	for (size_t o = 0; fd >= 0 && o < bytes; o += SZ_1M)
		if (pwrite(fd, zero, SZ_1M, o) != SZ_1M) {
			close(fd);
			fd = -1;
		}
	munmap(zero, SZ_1M);
	return fd;
}

TEST_F_TIMEOUT(iopmem, parameters, MINUTES(2))
{
	__u64 start, size;
	char line[64];

	EXPECT_EQ(EINVAL, write_file(PARAM("mode"), "raw"));
	ASSERT_TRUE(read_line(PARAM("mode"), line, sizeof(line)));
	EXPECT_STREQ("block", line);

	/* Not there; too small to be mapped */
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, write_file(PARAM("bar"), i ? "5" : "0"));
		EXPECT_EQ(i == 0, bar_range(self->bar.dev, i ? 5 : 0, &start, &size));
		EXPECT_EQ(-ENODEV, bind_as(&self->bar, "block"));
	}
	ASSERT_EQ(0, write_file(PARAM("bar"), "2"));
	ASSERT_EQ(0, bind_as(&self->bar, "block"));
	release_bar(&self->bar);
	EXPECT_NE(0, access(self->bar.node, F_OK));
}

/* By new_id, with nothing that names the device */
TEST_F_TIMEOUT(iopmem, new_id, MINUTES(2))
{
	char path[96];

	bind_device(self->bar.dev, "\n");
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver/unbind", self->bar.dev);
	write_file(path, self->bar.dev);
	ASSERT_EQ(0, write_file("/sys/bus/pci/drivers/iopmem/new_id", "1af4 1110"));
	EXPECT_EQ(0, write_file("/sys/bus/pci/drivers/iopmem/remove_id", "1af4 1110"));
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/iopmem/%s", self->bar.dev);
	EXPECT_EQ(0, access(path, F_OK));
}

TEST_F_TIMEOUT(iopmem, types, MINUTES(2))
{
	for (int wc = 0; wc < 2; wc++) {
		ASSERT_EQ(0, write_file(PARAM("wc"), wc ? "1" : "0"));
		ASSERT_EQ(0, bind_as(&self->bar, "block"));
		if (self->pat)
			EXPECT_TRUE(pat_has(self->bar.start, self->bar.size,
					    wc ? "write-combining" : "uncached-minus"));
		release_bar(&self->bar);
		EXPECT_EQ(0, pat_entries(self->bar.start, self->bar.size) > 0);
		ASSERT_EQ(0, bind_as(&self->bar, "char"));
		if (self->pat && wc)
			EXPECT_TRUE(pat_has(self->bar.start, self->bar.size, "write-combining"));
		release_bar(&self->bar);
		EXPECT_EQ(0, pat_entries(self->bar.start, self->bar.size) > 0);
	}
}

/* All sizes and alignments, cached and direct; then by mmap() of the BAR */
TEST_F_TIMEOUT(iopmem, block, MINUTES(2))
{
	const size_t bytes = 4 * SZ_1M;
	char *out = page_aligned(bytes), *in = page_aligned(bytes), *p;
	const off_t at = self->bar.size - bytes;
	int fd;

	fill_buffer(out, bytes, 1);
	ASSERT_EQ(0, bind_as(&self->bar, "block"));
	for (int direct = 0; direct < 2; direct++) {
		fd = open(self->bar.node, O_RDWR | (direct ? O_DIRECT : 0));
		ASSERT_GE(fd, 0);
		for (size_t o = 0, n = 512; o < bytes; o += n, n = n * 3 % (64 * 1024 - 512)) {
			n = o + n > bytes ? bytes - o : n;
			ASSERT_EQ(n, pwrite(fd, out + o, n, at + o));
		}
		ASSERT_EQ(0, fsync(fd));
		ASSERT_EQ(bytes, pread(fd, in, bytes, at));
		EXPECT_TRUE(same(out, in, bytes));
		memset(in, 0, bytes);
		/* At the end of the device */
		EXPECT_EQ(0, pread(fd, in, 512, self->bar.size));
		EXPECT_EQ(512, pread(fd, in, 1024, self->bar.size - 512));
		close(fd);
		fill_buffer(out, bytes, 2);
	}
	release_bar(&self->bar);
	fill_buffer(out, bytes, 1);

	ASSERT_EQ(0, bind_as(&self->bar, "char"));
	fd = open(self->bar.node, O_RDWR);
	ASSERT_GE(fd, 0);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
	ASSERT_NE(MAP_FAILED, p);
	fill_buffer(out, bytes, 2);
	EXPECT_TRUE(same(out, p, bytes));
	munmap(p, bytes);
	close(fd);
}

TEST_F_TIMEOUT(iopmem, dax, MINUTES(2))
{
	char *p, *in = page_aligned(FILE_BYTES);
	struct user_leaves l;
	struct iovec to = { .iov_base = in, .iov_len = SZ_4K }, from = { .iov_len = SZ_4K };
	int fd;

	ASSERT_EQ(0, bind_as(&self->bar, "block"));
	if (run("command -v mkfs.ext4 >/dev/null"))
		SKIP(return, "no mkfs.ext4");
	ASSERT_EQ(0, mkfs_mount(&self->bar)) TH_LOG("%s", strerror(errno));
	fd = make_file(MNT "/f", FILE_BYTES);
	ASSERT_GE(fd, 0);
	p = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	fill_buffer(p, FILE_BYTES, 3);
	ASSERT_EQ(0, msync(p, FILE_BYTES, MS_SYNC));
	ASSERT_EQ(FILE_BYTES, pread(fd, in, FILE_BYTES, 0));
	EXPECT_TRUE(same(p, in, FILE_BYTES));

	/* As the kernel maps it, in large leaves where the file's blocks allow it */
	ASSERT_TRUE(dump_leaves(p, FILE_BYTES, &l));
	EXPECT_GT(l.bytes[THI_2M], FILE_BYTES / 2);
	EXPECT_EQ(FILE_BYTES, l.bytes[THI_2M] + l.bytes[THI_4K]);
	EXPECT_EQ(self->pat ? THI_WC : THI_UC_MINUS, dump_type(p, FILE_BYTES));

	/* It stays so. */
	ASSERT_EQ(0, mprotect(p, FILE_BYTES, PROT_READ));
	ASSERT_EQ(0, mprotect(p + SZ_4K, SZ_4K, PROT_READ | PROT_WRITE));
	p[SZ_4K] = 1;
	in[SZ_4K] = 1;
	EXPECT_EQ(self->pat ? THI_WC : THI_UC_MINUS, dump_type(p, FILE_BYTES));
	ASSERT_EQ(0, madvise(p, FILE_BYTES, MADV_DONTNEED));
	EXPECT_TRUE(same(p, in, FILE_BYTES));
	EXPECT_EQ(self->pat ? THI_WC : THI_UC_MINUS, dump_type(p, FILE_BYTES));
	munmap(p, FILE_BYTES);

	/* A private copy is normal memory, what it is a copy of is not. */
	p = mmap(NULL, 16 * SZ_4K, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_TRUE(same(p, in, 16 * SZ_4K));
	store(p + 3 * SZ_4K, 5);
	store(p + 4 * SZ_4K, 5);
	EXPECT_EQ(THI_WB, dump_type(p + 3 * SZ_4K, 2 * SZ_4K));
	EXPECT_EQ(self->pat ? THI_WC : THI_UC_MINUS, dump_type(p + 5 * SZ_4K, 11 * SZ_4K));
	ASSERT_EQ(SZ_4K, pread(fd, in, SZ_4K, 3 * SZ_4K));
	EXPECT_NE(5, load(in));
	munmap(p, 16 * SZ_4K);

	/* Who has not said that it can do with MMIO does not get the pages. */
	p = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	store(p, 1);
	from.iov_base = p;
	EXPECT_EQ(-1, process_vm_readv(getpid(), &to, 1, &from, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	if (has_io_uring())
		EXPECT_EQ(EOPNOTSUPP, pin_for_long(p, SZ_4K));
	munmap(p, SZ_4K);
	close(fd);

	/* Mounted once more it is all there. */
	ASSERT_EQ(0, umount(MNT));
	EXPECT_EQ(0, check_fs(&self->bar, "-n"));
	ASSERT_EQ(0, mount(self->bar.node, MNT, "ext4", 0, "dax=never"));
	fd = open(MNT "/f", O_RDONLY);
	ASSERT_EQ(SZ_1M, pread(fd, in + SZ_2M, SZ_1M, SZ_1M));
	fill_buffer(in, FILE_BYTES, 3);
	p = page_aligned(SZ_1M);
	ASSERT_EQ(SZ_1M, pread(fd, p, SZ_1M, SZ_1M));
	EXPECT_TRUE(same(p, in + SZ_1M, SZ_1M));
	close(fd);
	ASSERT_EQ(0, umount(MNT));
}

/* Bytes that p2p memory has free */
static __u64 free_bytes(struct memory *bar)
{
	char path[96], line[32];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/p2pmem/available", bar->dev);
	return read_line(path, line, sizeof(line)) ? strtoull(line, NULL, 10) : -1ULL;
}

/* A number of kB in smaps of the mapping that begins at @p; -1 if there is none */
static long smaps_kib(const void *p, const char *key)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	bool mine = false;
	char line[256];
	long kib = -1;

	while (f && kib < 0 && fgets(line, sizeof(line), f)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			mine = start == (unsigned long)p;
		else if (mine && !strncmp(line, key, strlen(key)))
			kib = atol(line + strlen(key));
	}
	if (f)
		fclose(f);
	return kib;
}

/* A child that has mapped the file, until @tell is closed */
static pid_t map_in_child(int fd, size_t bytes, int *tell)
{
	int go[2], ready[2];
	pid_t pid;
	char c;

	if (pipe(go) || pipe(ready))
		return -1;
	pid = fork();
	if (!pid) {
		close(go[1]);
		if (mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0) !=
		    MAP_FAILED && write(ready[1], "", 1) == 1)
			read(go[0], &c, 1);
		_exit(0);
	}
	close(go[0]);
	close(ready[1]);
	if (pid > 0 && read(ready[0], &c, 1) != 1)
		pid = -1;
	close(ready[0]);
	*tell = go[1];
	return pid;
}

/* To read what a mapping is does not change it. */
TEST_F_TIMEOUT(iopmem, looked_at, MINUTES(2))
{
	const __u64 bytes = user_max_leaf() == THI_4K ? SZ_2M : SZ_1G;
	const __u64 at[] = { 0, SZ_4K, bytes / 2 + SZ_4K, bytes - SZ_4K };
	struct user_leaves before, after;
	int fd, map = open("/proc/self/pagemap", O_RDONLY);
	__u64 entry;
	pid_t pid;
	int tell;
	char *p;

	ASSERT_GE(map, 0);
	ASSERT_EQ(0, bind_as(&self->bar, "char"));
	fd = open(self->bar.node, O_RDWR);
	ASSERT_GE(fd, 0);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_TRUE(dump_leaves(p, bytes, &before));
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		ASSERT_EQ(8, pread(map, &entry, 8, (unsigned long)(p + at[i]) / SZ_4K * 8));
		EXPECT_EQ(1, entry >> 63);
		EXPECT_EQ((self->bar.start + at[i]) / SZ_4K, entry & ((1ULL << 55) - 1));
	}
	EXPECT_EQ(bytes / 1024, smaps_kib(p, "Rss:"));
	EXPECT_EQ(bytes / 1024, smaps_kib(p, "Pss:"));
	/* Another process shares it. */
	pid = map_in_child(fd, bytes, &tell);
	ASSERT_GT(pid, 0);
	EXPECT_EQ(bytes / 2048, smaps_kib(p, "Pss:"));
	EXPECT_EQ(bytes / 1024, smaps_kib(p, "Shared_Clean:") + smaps_kib(p, "Shared_Dirty:"));
	close(tell);
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_EQ(bytes / 1024, smaps_kib(p, "Referenced:"));
	ASSERT_EQ(0, write_file("/proc/self/clear_refs", "1"));
	EXPECT_EQ(0, smaps_kib(p, "Referenced:"));
	ASSERT_TRUE(dump_leaves(p, bytes, &after));
	for (int i = 0; i < ARRAY_SIZE(before.bytes); i++)
		EXPECT_EQ(before.bytes[i], after.bytes[i]);
	munmap(p, bytes);
	close(fd);
	close(map);
}

TEST_F_TIMEOUT(iopmem, character, MINUTES(2))
{
	const __u64 bytes = self->bar.size > 2 * SZ_1G ? 2 * SZ_1G : self->bar.size;
	struct rusage before, after;
	int fd, max = user_max_leaf();
	struct user_leaves l;
	long want;
	char *p;

	ASSERT_EQ(0, bind_as(&self->bar, "char"));
	fd = open(self->bar.node, O_RDWR);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SZ_4K, PROT_READ, MAP_PRIVATE, fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, 2 * SZ_4K, PROT_READ, MAP_SHARED, fd,
				   self->bar.size - SZ_4K));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, fd, 1ULL << 60));
	EXPECT_EQ(EINVAL, errno);

	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	getrusage(RUSAGE_SELF, &before);
	for (__u64 o = 0; o < bytes; o += SZ_2M)
		store(p + o, pattern(o));
	getrusage(RUSAGE_SELF, &after);
	/* The program's own pages take a fault now and then. */
	want = max == THI_1G ? bytes / SZ_1G : bytes / SZ_2M;
	EXPECT_LE(want, after.ru_minflt - before.ru_minflt);
	EXPECT_GE(want + 4, after.ru_minflt - before.ru_minflt);
	if (max > THI_4K) {
		ASSERT_TRUE(dump_leaves(p, bytes, &l));
		EXPECT_EQ(bytes, l.bytes[max]);
	}
	if (self->pat)
		EXPECT_EQ(THI_WC, dump_type(p, bytes));
	for (__u64 o = 0; o < bytes; o += SZ_2M)
		ASSERT_EQ(pattern(o), load(p + o));
	EXPECT_EQ(self->bar.size - (max > THI_4K ? bytes : bytes / SZ_2M * SZ_4K),
		  free_bytes(&self->bar));
	if (has_io_uring())
		EXPECT_EQ(EREMOTEIO, pin_for_long(p, SZ_4K));

	/* Unmapping a part of a leaf leaves the rest, and what is in it. */
	ASSERT_EQ(0, munmap(p + SZ_2M, SZ_4K));
	for (__u64 o = 0; o < bytes; o += o ? SZ_2M : 2 * SZ_2M)
		ASSERT_EQ(pattern(o), load(p + o));
	ASSERT_EQ(0, munmap(p, bytes));
	EXPECT_EQ(self->bar.size, free_bytes(&self->bar));
	close(fd);

	/* A file that cannot be written */
	fd = open(self->bar.node, O_RDONLY);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	EXPECT_EQ(EACCES, errno);
	p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	for (__u64 o = 0; o < bytes; o += SZ_2M)
		ASSERT_EQ(pattern(o), load(p + o));
	if (max > THI_4K) {
		ASSERT_TRUE(dump_leaves(p, bytes, &l));
		EXPECT_EQ(bytes, l.bytes[max]);
	}
	ASSERT_EQ(0, munmap(p, bytes));
	close(fd);
}

/* Mappings of the same memory that want different leaves, and a child */
TEST_F_TIMEOUT(iopmem, character_shared, MINUTES(2))
{
	const int type = self->pat ? THI_WC : THI_UC_MINUS;
	const __u64 bytes = SZ_1G;
	char *area = reserve(2 * SZ_1G), *large, *small, *skewed;
	struct user_leaves l;
	int fd, status;
	__u32 value;
	pid_t pid;

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, bind_as(&self->bar, "char"));
	fd = open(self->bar.node, O_RDWR);
	ASSERT_GE(fd, 0);
	/* A page first: its 2 MiB cannot be a large folio, nor its GiB. */
	small = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 5 * SZ_2M + SZ_4K);
	ASSERT_NE(MAP_FAILED, small);
	store(small, 0x11);
	large = mmap(area, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	ASSERT_EQ(area, large);
	for (__u64 o = 0; o < bytes; o += SZ_2M)
		store(large + o + SZ_4K, pattern(o));
	EXPECT_EQ(pattern(5 * SZ_2M), load(small));
	store(small, 0x12);
	EXPECT_EQ(0x12, load(large + 5 * SZ_2M + SZ_4K));
	ASSERT_TRUE(dump_leaves(large, bytes, &l));
	EXPECT_EQ(0, l.bytes[THI_1G]);
	EXPECT_EQ(user_max_leaf() > THI_4K ? bytes - SZ_2M : 0, l.bytes[THI_2M]);
	EXPECT_EQ(type, dump_type(large, bytes));

	/* Not congruent: pages of large folios */
	skewed = mmap(area + bytes + SZ_4K, SZ_2M, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_FIXED, fd, 0);
	ASSERT_EQ(area + bytes + SZ_4K, skewed);
	EXPECT_EQ(pattern(0), load(skewed + SZ_4K));
	store(skewed + SZ_4K, 0x13);
	EXPECT_EQ(0x13, load(large + SZ_4K));
	EXPECT_EQ(type, dump_type(skewed, SZ_2M));
	/* More than a leaf of them, each where it should be */
	ASSERT_EQ(skewed, mmap(skewed, 3 * SZ_2M, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			       fd, 4 * SZ_2M));
	for (__u64 o = 0; o < 3 * SZ_2M; o += SZ_4K)
		store(skewed + o, pattern(SZ_1G + o));
	for (__u64 o = 0; o < 3 * SZ_2M; o += SZ_4K)
		ASSERT_EQ(pattern(SZ_1G + o), load(large + 4 * SZ_2M + o));
	store(small, 0x12);

	/* A child has it too, and what is left when the parent has gone. */
	pid = fork();
	if (!pid) {
		store(large + 2 * SZ_2M, 0x14);
		_exit(load(large + SZ_4K) == 0x13 && load(small) == 0x12 ? 0 : 1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0x14, load(large + 2 * SZ_2M));

	/* Protection, moving, dropping */
	ASSERT_EQ(0, mprotect(large, bytes, PROT_READ));
	EXPECT_EQ(SIGSEGV, try_write(large + SZ_4K, 1));
	EXPECT_EQ(0x13, load(large + SZ_4K));
	ASSERT_EQ(0, mprotect(large, bytes, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, munmap(small, SZ_4K));
	ASSERT_EQ(0, munmap(skewed, 3 * SZ_2M));
	ASSERT_EQ(0, madvise(large, bytes, MADV_DONTNEED));
	EXPECT_EQ(self->bar.size, free_bytes(&self->bar));
	EXPECT_EQ(0x13, load(large + SZ_4K));
	ASSERT_EQ(0, munmap(large, bytes));
	/* Nobody is in the way any more. */
	large = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, large);
	EXPECT_EQ(0x13, load(large + SZ_4K));
	ASSERT_TRUE(dump_leaves(large, bytes, &l));
	EXPECT_EQ(user_max_leaf() == THI_4K ? SZ_4K : user_max_leaf() == THI_2M ? SZ_2M : SZ_1G,
		  l.bytes[user_max_leaf()]);
	/*
	 * A part of the leaf moves, and shows what it did; so does the rest. Were it
	 * taken for a table, this would be a bad entry for that part, to be cleared.
	 */
	store(large + 8 * 8, 0x5a5a5a01);
	ASSERT_EQ(area + SZ_1M, mremap(large + 8 * SZ_2M, SZ_2M, SZ_2M,
				       MREMAP_MAYMOVE | MREMAP_FIXED, area + SZ_1M));
	EXPECT_EQ(0x5a5a5a01, load(large + 8 * 8));
	EXPECT_EQ(pattern(8 * SZ_2M), load(area + SZ_1M + SZ_4K));
	EXPECT_EQ(SIGSEGV, try_read(large + 8 * SZ_2M, &value));
	EXPECT_EQ(pattern(7 * SZ_2M), load(large + 7 * SZ_2M + SZ_4K));
	EXPECT_EQ(pattern(bytes - SZ_2M), load(large + bytes - SZ_2M + SZ_4K));
	ASSERT_EQ(0, munmap(area + SZ_1M, SZ_2M));
	ASSERT_EQ(0, munmap(large, bytes));
	EXPECT_EQ(self->bar.size, free_bytes(&self->bar));
	close(fd);
}

/* Several first touch the same GiB at once, as threads or as processes. */

#define MAX_TOUCHERS	4

struct touch {
	char *va;
	int *start;		/* shared with processes */
};

static void *touch_first(void *arg)
{
	struct touch *t = arg;

	/* An emulator that runs one CPU at a time goes on to the next there. */
	while (!__atomic_load_n(t->start, __ATOMIC_ACQUIRE))
		__builtin_ia32_pause();
	store(t->va, 1);
	return NULL;
}

/* Page tables that a GiB takes with the largest leaves, in KiB */
static long tables_of_gib(void)
{
	return user_max_leaf() == THI_1G ? 0 : 4;
}

/* One round: how many of those who should have the leaf have it; -1 on error */
static int touch_round(int fd, char *area, int nr, bool threads)
{
	int *start = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const long before = vm_pte("/proc/self/status");
	struct touch t[MAX_TOUCHERS];
	pthread_t thread[MAX_TOUCHERS];
	int status, good = 0;
	pid_t pid[MAX_TOUCHERS];

	if (mmap(area, SZ_1G, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != area)
		return -1;
	for (int i = 0; i < nr; i++) {
		t[i] = (struct touch) { .va = area + i * 3 * SZ_2M, .start = start };
		if (threads) {
			if (pthread_create(&thread[i], NULL, touch_first, &t[i]))
				return -1;
			continue;
		}
		pid[i] = fork();
		if (!pid[i]) {
			long mine;

			/* A child has to fault in its program and @start first. */
			load(start);
			vm_pte("/proc/self/status");
			mine = vm_pte("/proc/self/status");
			touch_first(&t[i]);
			_exit(vm_pte("/proc/self/status") - mine != tables_of_gib());
		}
	}
	__atomic_store_n(start, 1, __ATOMIC_RELEASE);
	for (int i = 0; i < nr; i++) {
		if (threads)
			pthread_join(thread[i], NULL);
		else if (waitpid(pid[i], &status, 0) == pid[i])
			good += !status;
	}
	/* Stacks of threads stay, and with them page tables: not in the first round. */
	if (threads && vm_pte("/proc/self/status") - before == tables_of_gib())
		good = nr;
	munmap(area, SZ_1G);
	munmap(start, SZ_4K);
	return good;
}

TEST_F_TIMEOUT(iopmem, first_touchers, MINUTES(8))
{
	char *area = reserve(SZ_1G);
	int fd;

	if (user_max_leaf() == THI_4K)
		SKIP(return, "no huge leaves");
	if (self->bar.size < SZ_1G)
		SKIP(return, "the BAR is smaller than 1 GiB");
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, bind_as(&self->bar, "char"));
	fd = open(self->bar.node, O_RDWR);
	ASSERT_GE(fd, 0);
	for (int nr = 2; nr <= MAX_TOUCHERS; nr += 2) {
		for (int threads = 0; threads < 2; threads++) {
			const time_t end = time(NULL) + 30;

			touch_round(fd, area, nr, threads);
			/* An emulator takes a second or more for a folio of 1 GiB. */
			for (int round = 0; round < 50 && (round < 5 || time(NULL) < end);
			     round++) {
				ASSERT_EQ(nr, touch_round(fd, area, nr, threads)) {
					TH_LOG("round %d, %s", round,
					       threads ? "threads" : "processes");
				}
			}
			ASSERT_EQ(self->bar.size, free_bytes(&self->bar));
		}
	}
	close(fd);
}

static char *map_p2pmem(struct memory *bar, void *at, __u64 bytes)
{
	char path[96], *p;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/p2pmem/allocate", bar->dev);
	fd = open(path, O_RDWR);
	p = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (at ? MAP_FIXED : 0), fd, 0);
	close(fd);
	return p == MAP_FAILED ? NULL : p;
}

/* MADV_POPULATE_*, MAP_POPULATE and mlock() take no reference. */
TEST_F_TIMEOUT(iopmem, populate, MINUTES(2))
{
	const __u64 bytes = SZ_1G;
	const int max = user_max_leaf();
	char *area = reserve(bytes), *p;
	struct user_leaves l;
	int fd;

	if (self->bar.size < bytes)
		SKIP(return, "the BAR is smaller than 1 GiB");
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, bind_as(&self->bar, "char"));
	fd = open(self->bar.node, O_RDWR);
	ASSERT_GE(fd, 0);
	for (int how = 0; how < 4; how++) {
		p = mmap(area, bytes, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | (how ? 0 : MAP_POPULATE), fd, 0);
		ASSERT_EQ(area, p);
		if (how == 1)
			ASSERT_EQ(0, madvise(p, bytes, MADV_POPULATE_READ));
		if (how == 2)
			ASSERT_EQ(0, madvise(p, bytes, MADV_POPULATE_WRITE));
		if (how == 3)
			ASSERT_EQ(0, mlock(p, bytes)) TH_LOG("%s", strerror(errno));
		ASSERT_TRUE(dump_leaves(p, bytes, &l));
		EXPECT_EQ(bytes, l.bytes[max]) TH_LOG("%d", how);
		ASSERT_EQ(0, munmap(p, bytes));
	}
	close(fd);
	release_bar(&self->bar);

	ASSERT_EQ(0, bind_as(&self->bar, "p2pmem"));
	p = map_p2pmem(&self->bar, area, SZ_2M);
	ASSERT_EQ(area, p);
	EXPECT_EQ(0, madvise(p, SZ_2M, MADV_POPULATE_WRITE));
	EXPECT_EQ(0, mlock(p, SZ_2M));
	EXPECT_EQ(0, msync(p, SZ_2M, MS_SYNC)) TH_LOG("%s", strerror(errno));
	munmap(p, SZ_2M);
}

/* A folio whose memory has two MTRR types is mapped page by page. */
TEST_F_TIMEOUT(iopmem, p2pmem_mtrr, MINUTES(2))
{
	static const char * const types[] = { "uncachable", "write-combining" };
	const __u64 bytes = 32 * SZ_2M, base = self->bar.start + 5 * SZ_2M + SZ_4K;
	const int max = user_max_leaf();
	struct user_leaves l;
	int small = 0;

	for (int i = 0; i < 2; i++) {
		const int err = set_mtrr(base, SZ_4K, types[i]);
		char *p;

		if (err)
			SKIP(return, "no MTRR to set: %s", strerror(err));
		/* One of them may be what is around it. */
		EXPECT_EQ(0, bind_as(&self->bar, "p2pmem"));
		p = map_p2pmem(&self->bar, NULL, bytes);
		EXPECT_NE(NULL, p);
		if (p) {
			for (__u64 o = 0; o < bytes; o += SZ_4K)
				store(p + o, pattern(o));
			for (__u64 o = 0; o < bytes; o += SZ_4K)
				EXPECT_EQ(pattern(o), load(p + o));
			EXPECT_TRUE(dump_leaves(p, bytes, &l));
			small += l.bytes[THI_4K] == SZ_2M && l.bytes[THI_2M] == bytes - SZ_2M;
			EXPECT_EQ(bytes, l.bytes[THI_4K] + l.bytes[THI_2M]);
			EXPECT_EQ(0, munmap(p, bytes));
		}
		release_bar(&self->bar);
		EXPECT_EQ(0, clear_mtrr(base));
	}
	EXPECT_EQ(max > THI_4K, small >= 1);
}

/* Where a page of this process is; 0 if that is not known */
static __u64 phys_of(const char *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	__u64 entry = 0;

	load(p);
	if (pread(fd, &entry, 8, (unsigned long)p / SZ_4K * 8) != 8)
		entry = 0;
	close(fd);
	return (entry & ((1ULL << 55) - 1)) * SZ_4K;
}

/* So is the 2 MiB of a file in which the type changes. */
TEST_F_TIMEOUT(iopmem, dax_mtrr, MINUTES(2))
{
	static const char * const types[] = { "uncachable", "write-combining" };
	__u64 page = 0, block = 0;
	char *p, *in = page_aligned(FILE_BYTES);
	struct user_leaves l, before;
	int fd, small = 0;

	ASSERT_EQ(0, bind_as(&self->bar, "block"));
	ASSERT_EQ(0, mkfs_mount(&self->bar)) TH_LOG("%s", strerror(errno));
	fd = make_file(MNT "/f", FILE_BYTES);
	ASSERT_GE(fd, 0);
	p = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	fill_buffer(p, FILE_BYTES, 7);
	memcpy(in, p, FILE_BYTES);
	ASSERT_TRUE(dump_leaves(p, FILE_BYTES, &before));
	for (; block < FILE_BYTES && !page; block += SZ_2M) {
		const char *at = p + block;

		ASSERT_TRUE(dump_leaves((char *)at, SZ_2M, &l));
		if (l.bytes[THI_2M] == SZ_2M)
			page = phys_of(at + 7 * SZ_4K);
	}
	munmap(p, FILE_BYTES);
	close(fd);
	ASSERT_EQ(0, umount(MNT));
	release_bar(&self->bar);
	if (!page)
		SKIP(return, "no leaf of 2 MiB, or no pfn in pagemap");
	ASSERT_GE(page, self->bar.start);
	ASSERT_LT(page, self->bar.start + self->bar.size);

	for (int i = 0; i < 2; i++) {
		const int err = set_mtrr(page, SZ_4K, types[i]);

		if (err)
			SKIP(return, "no MTRR to set: %s", strerror(err));
		/* One of them may be what is around it. */
		EXPECT_EQ(0, bind_as(&self->bar, "block"));
		EXPECT_EQ(0, mount(self->bar.node, MNT, "ext4", 0, "dax=always"));
		fd = open(MNT "/f", O_RDWR);
		p = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		EXPECT_NE(MAP_FAILED, p);
		if (p != MAP_FAILED) {
			EXPECT_TRUE(same(p, in, FILE_BYTES));
			fill_buffer(p, FILE_BYTES, 8 + i);
			memcpy(in, p, FILE_BYTES);
			EXPECT_TRUE(dump_leaves(p, FILE_BYTES, &l));
			EXPECT_EQ(FILE_BYTES, l.bytes[THI_4K] + l.bytes[THI_2M]);
			small += l.bytes[THI_2M] == before.bytes[THI_2M] - SZ_2M;
			EXPECT_EQ(0, munmap(p, FILE_BYTES));
		}
		close(fd);
		EXPECT_EQ(0, umount(MNT));
		release_bar(&self->bar);
		EXPECT_EQ(0, clear_mtrr(page));
	}
	EXPECT_GE(small, 1);
}

/* p2pmem/allocate: leaves, parts, a child, and the memory that is left */
TEST_F_TIMEOUT(iopmem, p2pmem, MINUTES(2))
{
	const int max = user_max_leaf(), type = self->pat ? THI_WC : THI_UC_MINUS;
	const __u64 bytes = self->bar.size / 2 > SZ_1G ? SZ_1G + SZ_2M + SZ_4K :
							 32 * SZ_2M + SZ_4K;
	char *p, *other, *odd, *area = reserve(2 * SZ_1G);
	struct user_leaves l;
	int status;
	__u32 v;
	pid_t pid;

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, bind_as(&self->bar, "p2pmem"));
	EXPECT_EQ(NULL, map_p2pmem(&self->bar, NULL, 2 * self->bar.size));
	EXPECT_EQ(ENOMEM, errno);
	p = map_p2pmem(&self->bar, NULL, bytes);
	other = map_p2pmem(&self->bar, NULL, SZ_2M);
	odd = map_p2pmem(&self->bar, area + SZ_4K, SZ_2M);
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, other);
	ASSERT_EQ(area + SZ_4K, odd);
	EXPECT_EQ(self->bar.size - bytes - 2 * SZ_2M, free_bytes(&self->bar));
	for (__u64 o = 0; o < bytes; o += SZ_4K)
		store(p + o, pattern(o));
	for (__u64 o = 0; o < SZ_2M; o += SZ_4K) {
		store(other + o, 1);
		store(odd + o, 2);
	}
	for (__u64 o = 0; o < bytes; o += SZ_4K)
		ASSERT_EQ(pattern(o), load(p + o));
	ASSERT_TRUE(dump_leaves(p, bytes, &l));
	EXPECT_EQ(max == THI_1G ? bytes / SZ_1G : 0, l.bytes[THI_1G] / SZ_1G);
	if (max > THI_4K)
		EXPECT_EQ(SZ_4K, l.bytes[THI_4K]);
	EXPECT_EQ(type, dump_type(p, bytes));
	EXPECT_EQ(type, dump_type(odd, SZ_2M));

	/* What is left of a leaf is there, and nobody else gets the rest. */
	ASSERT_EQ(0, munmap(p + 3 * SZ_4K, SZ_4K));
	ASSERT_EQ(0, madvise(p + SZ_2M + SZ_4K, SZ_4K, MADV_DONTNEED));
	for (__u64 o = 0; o < bytes; o += SZ_4K)
		if (o != 3 * SZ_4K)
			ASSERT_EQ(pattern(o), load(p + o));
	EXPECT_EQ(self->bar.size - bytes - 2 * SZ_2M, free_bytes(&self->bar));

	pid = fork();
	if (!pid) {
		munmap(p, bytes);
		store(other + SZ_4K, 3);
		_exit(load(odd) != 2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(3, load(other + SZ_4K));
	EXPECT_EQ(pattern(0), load(p));

	ASSERT_EQ(0, munmap(p, bytes));
	EXPECT_EQ(self->bar.size - 2 * SZ_2M, free_bytes(&self->bar));
	ASSERT_EQ(0, munmap(odd, SZ_2M));

	/* The driver goes, and other comes back with another one. */
	release_bar(&self->bar);
	EXPECT_EQ(SIGBUS, try_read(other, &v));
	ASSERT_EQ(0, bind_as(&self->bar, "p2pmem"));
	EXPECT_EQ(SIGBUS, try_read(other, &v));
	EXPECT_EQ(self->bar.size, free_bytes(&self->bar));
	ASSERT_EQ(0, munmap(other, SZ_2M));
	EXPECT_EQ(self->bar.size, free_bytes(&self->bar));
}

/* One of the threads that read a leaf, or zap a page of it */
struct churn {
	char *p;
	bool zap;
	int stop;
};

static void *churn(void *arg)
{
	struct churn *c = arg;

	for (unsigned long i = 0; !__atomic_load_n(&c->stop, __ATOMIC_RELAXED); i++) {
		char *p = c->p + i * 7 % (SZ_1G / SZ_4K) * SZ_4K;

		if (!c->zap)
			load(p);
		else if (madvise(p, SZ_4K, MADV_DONTNEED))
			return arg;
	}
	return NULL;
}

/* A leaf that comes back while a part of it is zapped is no bad entry. */
TEST_F_TIMEOUT(iopmem, p2pmem_churn, MINUTES(2))
{
	struct churn c[4] = {};
	pthread_t thread[4];
	void *failed;
	char *p;

	ASSERT_EQ(0, bind_as(&self->bar, "p2pmem"));
	p = map_p2pmem(&self->bar, NULL, SZ_1G);
	ASSERT_NE(NULL, p);
	for (int i = 0; i < 4; i++) {
		c[i] = (struct churn) { .p = p, .zap = i & 1 };
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, churn, &c[i]));
	}
	sleep(5);
	for (int i = 0; i < 4; i++)
		__atomic_store_n(&c[i].stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(0, pthread_join(thread[i], &failed));
		EXPECT_EQ(NULL, failed);
	}
	EXPECT_EQ(0, messages("bad pud"));
	ASSERT_EQ(0, munmap(p, SZ_1G));
	EXPECT_EQ(self->bar.size, free_bytes(&self->bar));
}

/* MADV_REMOVE gives p2p memory back, MADV_DONTNEED does not. */
TEST_F_TIMEOUT(iopmem, p2pmem_give_back, MINUTES(2))
{
	const int max = user_max_leaf();
	const __u64 bytes = 2 * SZ_2M + SZ_1M;
	char *p, *next, *area = reserve(SZ_1G);
	__u64 all = self->bar.size;
	__u32 v;

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, bind_as(&self->bar, "p2pmem"));
	p = map_p2pmem(&self->bar, area, bytes);
	ASSERT_EQ(area, p);
	fill(p, 0, bytes);
	EXPECT_EQ(all - bytes, free_bytes(&self->bar));
	EXPECT_EQ(0, madvise(p, bytes, MADV_DONTNEED));
	EXPECT_EQ(all - bytes, free_bytes(&self->bar));

	/* Part of a leaf is out of reach, and free when the rest has gone, too. */
	if (max > THI_4K) {
		char *q = map_p2pmem(&self->bar, area + 32 * SZ_2M, SZ_2M);

		ASSERT_EQ(area + 32 * SZ_2M, q);
		fill(q, 0, SZ_2M);
		ASSERT_EQ(0, madvise(q, SZ_4K, MADV_REMOVE));
		ASSERT_EQ(0, madvise(q + SZ_1M, SZ_4K, MADV_REMOVE));
		EXPECT_EQ(SIGBUS, try_read(q, &v));
		EXPECT_EQ(SIGBUS, try_read(q + SZ_1M, &v));
		EXPECT_EQ(0, differ(q, 0, SZ_4K, SZ_1M));
		/* Not by a leaf over it, when what is beside it is mapped */
		EXPECT_EQ(SIGBUS, try_read(q, &v));
		EXPECT_EQ(SIGBUS, try_read(q + SZ_1M, &v));
		EXPECT_EQ(all - bytes - SZ_2M, free_bytes(&self->bar));
		/* By several VMAs */
		ASSERT_EQ(0, mprotect(q + SZ_1M + SZ_4K, SZ_4K, PROT_READ));
		ASSERT_EQ(0, mprotect(q + SZ_1M + SZ_4K, SZ_4K, PROT_READ | PROT_WRITE));
		ASSERT_EQ(0, mprotect(q + SZ_4K, SZ_4K, PROT_READ));
		ASSERT_EQ(0, madvise(q, SZ_1M, MADV_REMOVE));
		EXPECT_EQ(all - bytes - SZ_2M, free_bytes(&self->bar));
		EXPECT_EQ(0, differ(q, 0, SZ_1M + SZ_4K, SZ_2M));
		ASSERT_EQ(0, madvise(q, SZ_2M, MADV_REMOVE));
		EXPECT_EQ(all - bytes, free_bytes(&self->bar));
		ASSERT_EQ(0, munmap(q, SZ_2M));

		/* Part of it is gone at the end. */
		q = map_p2pmem(&self->bar, area + 32 * SZ_2M, SZ_2M);
		ASSERT_EQ(area + 32 * SZ_2M, q);
		ASSERT_EQ(0, madvise(q, SZ_1M, MADV_REMOVE));
		ASSERT_EQ(0, munmap(q, SZ_2M));
		EXPECT_EQ(all - bytes, free_bytes(&self->bar));
		EXPECT_EQ(0, differ(p, 0, 0, bytes));

		/* The head of a folio, and something of another size after it */
		q = map_p2pmem(&self->bar, area + 32 * SZ_2M, SZ_2M + SZ_4K);
		ASSERT_EQ(area + 32 * SZ_2M, q);
		ASSERT_EQ(0, madvise(q, SZ_4K, MADV_REMOVE));
		ASSERT_EQ(0, munmap(q, SZ_2M + SZ_4K));
		EXPECT_EQ(all - bytes, free_bytes(&self->bar));
		q = map_p2pmem(&self->bar, area + 32 * SZ_2M, 2 * SZ_2M);
		ASSERT_EQ(area + 32 * SZ_2M, q);
		ASSERT_EQ(0, madvise(q, SZ_4K, MADV_REMOVE));
		ASSERT_EQ(0, madvise(q + SZ_2M + SZ_4K, SZ_2M - SZ_4K, MADV_REMOVE));
		ASSERT_EQ(0, munmap(q, 2 * SZ_2M));
		EXPECT_EQ(all - bytes, free_bytes(&self->bar));
	}

	/* A leaf, a page, and the same again */
	for (int again = 0; again < 2; again++) {
		ASSERT_EQ(0, madvise(p + SZ_2M, SZ_2M, MADV_REMOVE)) TH_LOG("%s", strerror(errno));
		ASSERT_EQ(0, madvise(p + 2 * SZ_2M + SZ_4K, SZ_4K, MADV_REMOVE));
		EXPECT_EQ(all - bytes + SZ_2M + SZ_4K, free_bytes(&self->bar));
		EXPECT_EQ(SIGBUS, try_read(p + SZ_2M, &v));
		EXPECT_EQ(SIGBUS, try_write(p + 2 * SZ_2M - SZ_4K, 1));
		EXPECT_EQ(SIGBUS, try_read(p + 2 * SZ_2M + SZ_4K, &v));
	}
	EXPECT_EQ(0, differ(p, 0, 0, SZ_2M));
	EXPECT_EQ(0, differ(p, 0, 2 * SZ_2M, 2 * SZ_2M + SZ_4K));
	EXPECT_EQ(0, differ(p, 0, 2 * SZ_2M + 2 * SZ_4K, bytes));

	/* Somebody else gets it, and the end of the first mapping does not free it. */
	next = map_p2pmem(&self->bar, area + 64 * SZ_2M, 32 * SZ_2M);
	ASSERT_NE(NULL, next);
	fill(next, 0, SZ_2M);
	ASSERT_EQ(0, munmap(p, bytes));
	EXPECT_EQ(0, differ(next, 0, 0, SZ_2M));
	/* All of a mapping, over its holes */
	p = map_p2pmem(&self->bar, area, bytes);
	ASSERT_EQ(area, p);
	ASSERT_EQ(0, madvise(p + 2 * SZ_2M, SZ_4K, MADV_REMOVE));
	ASSERT_EQ(0, madvise(p, bytes, MADV_REMOVE));
	EXPECT_EQ(SIGBUS, try_read(p, &v));
	ASSERT_EQ(0, munmap(next, 32 * SZ_2M));
	EXPECT_EQ(all, free_bytes(&self->bar));
	ASSERT_EQ(0, munmap(p, bytes));
	EXPECT_EQ(all, free_bytes(&self->bar));

	/* The driver goes meanwhile. */
	p = map_p2pmem(&self->bar, area, bytes);
	ASSERT_EQ(area, p);
	ASSERT_EQ(0, madvise(p, SZ_2M, MADV_REMOVE));
	release_bar(&self->bar);
	EXPECT_EQ(-1, madvise(p + SZ_2M, SZ_2M, MADV_REMOVE));
	EXPECT_EQ(SIGBUS, try_read(p + SZ_2M, &v));
}

/* Pages where a large folio was, by p2pmem/allocate and by the character device */
TEST_F_TIMEOUT(iopmem, p2pmem_again, MINUTES(2))
{
	char *area = reserve(SZ_1G), *p, *a[4];
	int fd;

	ASSERT_NE(NULL, area);
	for (int chr = 0; chr < 2; chr++) {
		ASSERT_EQ(0, bind_as(&self->bar, chr ? "char" : "p2pmem"));
		if (chr) {
			fd = open(self->bar.node, O_RDWR);
			ASSERT_GE(fd, 0);
			p = mmap(area, SZ_2M, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_FIXED, fd, 0);
			ASSERT_EQ(area, p);
		} else {
			fd = -1;
			p = map_p2pmem(&self->bar, area, SZ_2M);
			ASSERT_EQ(area, p);
		}
		store(p, 1);
		ASSERT_EQ(0, munmap(p, SZ_2M));
		ASSERT_EQ(self->bar.size, free_bytes(&self->bar));
		/* Several pages in one, and one page each */
		p = map_p2pmem(&self->bar, NULL, SZ_1M);
		ASSERT_NE(NULL, p);
		fill(p, 0, SZ_1M);
		EXPECT_EQ(0, differ(p, 0, 0, SZ_1M));
		ASSERT_EQ(0, munmap(p, SZ_1M));
		EXPECT_EQ(self->bar.size, free_bytes(&self->bar));
		for (int i = 0; i < 4; i++) {
			a[i] = map_p2pmem(&self->bar, NULL, SZ_4K);
			ASSERT_NE(NULL, a[i]);
			store(a[i], i);
		}
		ASSERT_EQ(0, munmap(a[0], SZ_4K));
		a[0] = map_p2pmem(&self->bar, NULL, SZ_4K);
		ASSERT_NE(NULL, a[0]);
		store(a[0], 9);
		for (int i = 1; i < 4; i++)
			EXPECT_EQ(i, load(a[i]));
		for (int i = 0; i < 4; i++)
			ASSERT_EQ(0, munmap(a[i], SZ_4K));
		EXPECT_EQ(self->bar.size, free_bytes(&self->bar));
		if (fd >= 0)
			close(fd);
		release_bar(&self->bar);
	}
}

/* The driver goes while files are open and mapped. */
TEST_F_TIMEOUT(iopmem, character_unbind, MINUTES(2))
{
	__u32 value;
	char *p;
	int fd;

	ASSERT_EQ(0, bind_as(&self->bar, "char"));
	fd = open(self->bar.node, O_RDWR);
	ASSERT_GE(fd, 0);
	p = mmap(NULL, self->bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, try_write(p, 1));
	EXPECT_EQ(0, fsync(fd));
	EXPECT_EQ(0, msync(p, SZ_4K, MS_SYNC));
	release_bar(&self->bar);
	EXPECT_EQ(SIGBUS, try_read(p, &value));
	EXPECT_EQ(SIGBUS, try_read(p + SZ_2M, &value));
	EXPECT_EQ(-1, fsync(fd));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, fd, 0));
	EXPECT_EQ(ENODEV, errno);
	/* Another one has nothing to do with it. */
	ASSERT_EQ(0, bind_as(&self->bar, "char"));
	EXPECT_EQ(SIGBUS, try_read(p, &value));
	munmap(p, self->bar.size);
	close(fd);
	fd = open(self->bar.node, O_RDWR);
	EXPECT_GE(fd, 0);
	close(fd);
}

TEST_F_TIMEOUT(iopmem, decode, MINUTES(2))
{
	char *in = page_aligned(SZ_4K), *p;
	__u32 value;
	int fd;

	ASSERT_EQ(0, bind_as(&self->bar, "char"));
	fd = open(self->bar.node, O_RDWR);
	p = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_TRUE(decode(self->bar.dev, false));
	EXPECT_EQ(SIGBUS, try_read(p, &value));
	ASSERT_TRUE(decode(self->bar.dev, true));
	EXPECT_EQ(0, try_read(p, &value));
	munmap(p, SZ_4K);
	close(fd);

	ASSERT_EQ(0, bind_as(&self->bar, "block"));
	fd = open(self->bar.node, O_RDWR | O_DIRECT);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(SZ_4K, pread(fd, in, SZ_4K, 0));
	ASSERT_TRUE(decode(self->bar.dev, false));
	EXPECT_EQ(-1, pread(fd, in, SZ_4K, 0));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(-1, pwrite(fd, in, SZ_4K, 0));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(-1, fsync(fd));
	EXPECT_EQ(EIO, errno);
	ASSERT_TRUE(decode(self->bar.dev, true));
	EXPECT_EQ(SZ_4K, pread(fd, in, SZ_4K, 0));
	EXPECT_EQ(0, fsync(fd));
	close(fd);

	if (run("command -v mkfs.ext4 >/dev/null"))
		SKIP(return, "no mkfs.ext4");
	ASSERT_EQ(0, mkfs_mount(&self->bar));
	fd = make_file(MNT "/f", SZ_2M);
	ASSERT_GE(fd, 0);
	p = mmap(NULL, SZ_1M, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_TRUE(decode(self->bar.dev, false));
	EXPECT_EQ(SIGBUS, try_read(p, &value));
	EXPECT_EQ(-1, pread(fd, in, SZ_4K, SZ_1M));
	EXPECT_EQ(EIO, errno);
	ASSERT_TRUE(decode(self->bar.dev, true));
	EXPECT_EQ(0, try_read(p, &value));
	munmap(p, SZ_1M);
	close(fd);
	umount(MNT);
}

/* Stores to a mapped file until they fault */
static int store_loop(void)
{
	int fd = open(MNT "/f", O_RDWR), err = 0;
	char *p = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return 1;
	for (int n = 0; !err; n++)
		err = try_write(p + n % (FILE_BYTES / SZ_4K) * SZ_4K, n);
	return err == SIGBUS ? 0 : 2;
}

/* Writes and reads a file until that fails */
static int rw_loop(void)
{
	int fd = open(MNT "/g", O_RDWR | O_CREAT, 0600);
	char *p = page_aligned(SZ_1M);

	if (fd < 0)
		return 1;
	for (int n = 0; ; n++) {
		off_t o = n % 16 * SZ_1M;

		if (pwrite(fd, p, SZ_1M, o) != SZ_1M || pread(fd, p, SZ_1M, o) != SZ_1M)
			return 0;
		if (n % 16 == 15 && fsync(fd))
			return 0;
	}
}

/* Reads the device until that fails */
static int device_loop(const char *node)
{
	int fd = open(node, O_RDONLY | O_DIRECT);
	char *p = page_aligned(SZ_1M);

	if (fd < 0)
		return 1;
	for (int n = 0; ; n++)
		if (pread(fd, p, SZ_1M, n % 16 * SZ_1M) != SZ_1M)
			return 0;
}

/* Maps and unmaps, so that there is always a fault on its way */
static int fault_loop(void)
{
	int fd = open(MNT "/f", O_RDWR);
	__u32 value;

	for (int n = 0; ; n++) {
		off_t o = n % 8 * SZ_4K;
		char *p = mmap(NULL, FILE_BYTES - o, PROT_READ | PROT_WRITE, MAP_SHARED, fd, o);

		/* The file system is shut down. */
		if (p == MAP_FAILED)
			return errno == EIO ? 0 : 1;
		if (try_read(p + n % 61 * SZ_1M, &value) || try_write(p + SZ_1M, 1))
			return 0;
		munmap(p, FILE_BYTES - o);
	}
}

TEST_F_TIMEOUT(iopmem, unbind_under_load, MINUTES(2))
{
	int status, fd;
	pid_t pid[4];
	char *p;
	__u32 value;

	if (run("command -v mkfs.ext4 >/dev/null"))
		SKIP(return, "no mkfs.ext4");
	for (int round = 0; round < 3; round++) {
		ASSERT_EQ(0, bind_as(&self->bar, "block"));
		ASSERT_EQ(0, mkfs_mount(&self->bar));
		fd = make_file(MNT "/f", FILE_BYTES);
		ASSERT_GE(fd, 0);
		/* A mapping that nobody looks at meanwhile */
		p = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		ASSERT_NE(MAP_FAILED, p);
		fill(p, 0, FILE_BYTES);
		for (int i = 0; i < 4; i++) {
			pid[i] = fork();
			if (!pid[i])
				_exit(i == 0 ? store_loop() : i == 1 ? fault_loop() :
				      i == 2 ? rw_loop() : device_loop(self->bar.node));
			ASSERT_GT(pid[i], 0);
		}
		usleep(300000 + round * 100000);
		release_bar(&self->bar);
		for (int i = 0; i < 4; i++) {
			ASSERT_EQ(pid[i], waitpid(pid[i], &status, 0));
			EXPECT_EQ(0, status) TH_LOG("%d", i);
		}
		EXPECT_EQ(SIGBUS, try_read(p, &value));
		EXPECT_EQ(SIGBUS, try_write(p + SZ_2M, 1));
		EXPECT_EQ(-1, pread(fd, &value, sizeof(value), 0));
		munmap(p, FILE_BYTES);
		close(fd);
		EXPECT_EQ(0, umount(MNT));
		EXPECT_LE(pat_entries(self->bar.start, self->bar.size), 0);

		ASSERT_EQ(0, bind_as(&self->bar, "block"));
		/* 1: there was something to replay or to mend. */
		EXPECT_LE(check_fs(&self->bar, "-p"), 1);
		EXPECT_EQ(0, check_fs(&self->bar, "-n"));
		release_bar(&self->bar);
	}
}

/* While the device is reset, stores are lost: a file system on it does not go on. */
TEST_F_TIMEOUT(iopmem, reset_mounted, MINUTES(2))
{
	char path[96], *p, c;
	__u32 value;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", self->bar.dev);
	if (access(path, W_OK))
		SKIP(return, "the device has no reset");
	if (run("command -v mkfs.ext4 >/dev/null"))
		SKIP(return, "no mkfs.ext4");
	ASSERT_EQ(0, bind_as(&self->bar, "block"));
	ASSERT_EQ(0, mkfs_mount(&self->bar));
	fd = make_file(MNT "/f", SZ_2M);
	ASSERT_GE(fd, 0);
	p = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	store(p, 0x1234);
	ASSERT_EQ(0, fsync(fd));
	ASSERT_EQ(0, write_file(path, "1"));
	EXPECT_EQ(SIGBUS, try_read(p, &value));
	EXPECT_EQ(SIGBUS, try_write(p + SZ_1M, 1));
	EXPECT_EQ(-1, pread(fd, &c, 1, 0));
	EXPECT_EQ(-1, open(MNT "/g", O_RDWR | O_CREAT, 0600));
	munmap(p, SZ_2M);
	close(fd);
	EXPECT_EQ(0, umount(MNT));

	/* Bound anew, it is as it was. */
	release_bar(&self->bar);
	ASSERT_EQ(0, bind_as(&self->bar, "block"));
	EXPECT_LE(check_fs(&self->bar, "-p"), 1);
	ASSERT_EQ(0, mount(self->bar.node, MNT, "ext4", 0, "dax=always"));
	fd = open(MNT "/f", O_RDONLY);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(4, pread(fd, &value, 4, 0));
	EXPECT_EQ(0x1234, value);
	close(fd);
	EXPECT_EQ(0, umount(MNT));
}

#define BYTES_READ	(16 * SZ_1M)

/* Reads the device until that fails. 2: what was read is not what is there */
static int right_reads(int fd, __u32 value, int started)
{
	__u32 *p = page_aligned(BYTES_READ);
	bool first = true;
	ssize_t n;

	if (!p)
		return 1;
	do {
		memset(p, 0, BYTES_READ);
		n = pread(fd, p, BYTES_READ, 0);
		for (ssize_t i = 0; i < n / 4; i++)
			if (p[i] != value)
				return 2;
		if (first && (n != BYTES_READ || write(started, "", 1) != 1))
			return 3;
		first = false;
	} while (n == BYTES_READ);
	return 0;
}

/* All that is read is right, or fails: not what a device says that is being reset. */
TEST_F_TIMEOUT(iopmem, reset_under_load, MINUTES(2))
{
	const __u32 value = 0x5a5aa5a5;
	int fd, status, started[2];
	char path[96], c;
	pid_t pid;
	__u32 *p;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", self->bar.dev);
	if (access(path, W_OK))
		SKIP(return, "the device has no reset");
	p = page_aligned(BYTES_READ);
	ASSERT_NE(NULL, p);
	for (size_t i = 0; i < BYTES_READ / 4; i++)
		p[i] = value;
	for (int round = 0; round < 8; round++) {
		ASSERT_EQ(0, bind_as(&self->bar, "block"));
		fd = open(self->bar.node, O_RDWR | O_DIRECT);
		ASSERT_GE(fd, 0);
		ASSERT_EQ(BYTES_READ, pwrite(fd, p, BYTES_READ, 0));
		ASSERT_EQ(0, pipe(started));
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid)
			_exit(right_reads(fd, value, started[1]));
		close(started[1]);
		EXPECT_EQ(1, read(started[0], &c, 1));
		close(started[0]);
		usleep(round * 7000);
		ASSERT_EQ(0, write_file(path, "1"));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status) TH_LOG("round %d", round);
		close(fd);
		/* It is to be bound anew. */
		EXPECT_EQ(-1, open(self->bar.node, O_RDONLY));
		ASSERT_EQ(0, release_bar(&self->bar));
	}
}

/* XFS whose files can share extents, mounted with DAX; 0 or an errno */
static int mkfs_xfs_mount(struct memory *bar, int rmapbt)
{
	char command[128];
	int err;

	snprintf(command, sizeof(command),
		 "mkfs.xfs -q -f -m reflink=1,rmapbt=%d -d size=512m %s", rmapbt, bar->node);
	err = run(command);
	if (err)
		return err;
	return mount(bar->node, MNT, "xfs", 0, "dax=always") ? errno : 0;
}

/* Why there is none, or NULL */
static const char *no_reflink(const struct memory *bar)
{
	if (run("command -v mkfs.xfs >/dev/null"))
		return "no mkfs.xfs";
	if (!file_has("/proc/filesystems", "xfs"))
		return "no XFS";
	return bar->size < SZ_1G ? "the BAR is smaller than 1 GiB" : NULL;
}

/* Two files of XFS share extents, both are mapped, here and elsewhere: unbind. */
static void reflink_round(struct __test_metadata *_metadata, struct memory *bar, int rmapbt)
{
	const size_t bytes = 4 * SZ_1M;
	char *p[2], *copy = page_aligned(bytes);
	int fd[2], status, ready[2];
	__u32 value;
	pid_t pid;
	char c;

	ASSERT_NE(NULL, copy);
	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, bind_as(bar, "block"));
	ASSERT_EQ(0, mkfs_xfs_mount(bar, rmapbt));
	fd[0] = make_file(MNT "/f", bytes);
	ASSERT_GE(fd[0], 0);
	fill_buffer(copy, bytes, rmapbt);
	ASSERT_EQ(bytes, pwrite(fd[0], copy, bytes, 0));
	ASSERT_EQ(0, fsync(fd[0]));
	fd[1] = open(MNT "/g", O_RDWR | O_CREAT, 0600);
	ASSERT_GE(fd[1], 0);
	ASSERT_EQ(0, ioctl(fd[1], FICLONE, fd[0])) TH_LOG("%s", strerror(errno));
	for (int i = 0; i < 2; i++) {
		p[i] = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd[i], 0);
		ASSERT_NE(MAP_FAILED, p[i]);
		EXPECT_TRUE(same(copy, p[i], bytes));
	}
	/* Written: no longer shared */
	store(p[1] + SZ_1M, 1);
	pid = fork();
	if (!pid) {
		p[1] = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd[1], 0);
		if (p[1] == MAP_FAILED || try_read(p[1], &value) ||
		    write(ready[1], "r", 1) != 1)
			_exit(1);
		while (!try_read(p[1] + SZ_2M, &value))
			;
		_exit(0);
	}
	ASSERT_EQ(1, read(ready[0], &c, 1));

	release_bar(bar);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	/* A file system may kill those that have the page mapped. */
	EXPECT_TRUE(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS))
		TH_LOG("%d", status);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(SIGBUS, try_read(p[i], &value));
		EXPECT_EQ(SIGBUS, try_write(p[i] + SZ_2M, 1));
		munmap(p[i], bytes);
		close(fd[i]);
	}
	EXPECT_EQ(0, umount(MNT));
	EXPECT_LE(pat_entries(bar->start, bar->size), 0);

	/* What was synced is there. */
	ASSERT_EQ(0, bind_as(bar, "block"));
	ASSERT_EQ(0, mount(bar->node, MNT, "xfs", 0, "dax=always"));
	fd[0] = open(MNT "/f", O_RDONLY);
	p[0] = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd[0], 0);
	ASSERT_NE(MAP_FAILED, p[0]);
	EXPECT_TRUE(same(copy, p[0], bytes));
	munmap(p[0], bytes);
	munmap(copy, bytes);
	close(fd[0]);
	close(ready[0]);
	close(ready[1]);
	ASSERT_EQ(0, umount(MNT));
	release_bar(bar);
}

TEST_F_TIMEOUT(iopmem, reflink, MINUTES(4))
{
	const char *why = no_reflink(&self->bar);

	if (why)
		SKIP(return, "%s", why);
	for (int rmapbt = 0; rmapbt < 2; rmapbt++)
		reflink_round(_metadata, &self->bar, rmapbt);
}

/* The system sleeps, as far as devices go; 0 or an errno */
static int suspend(void)
{
	return write_file("/sys/power/state", "freeze");
}

TEST_F_TIMEOUT(iopmem, sleep, MINUTES(2))
{
	__u32 value;
	int fd, err;
	char *p;

	if (write_file("/sys/power/pm_test", "devices"))
		SKIP(return, "no CONFIG_PM_SLEEP_DEBUG");
	write_file("/sys/module/suspend/parameters/pm_test_delay", "1");
	err = suspend();
	if (err) {
		write_file("/sys/power/pm_test", "none");
		SKIP(return, "this machine does not sleep: %s", strerror(err));
	}

	/* Nobody uses it: it may lose what it has. */
	ASSERT_EQ(0, bind_as(&self->bar, "block"));
	EXPECT_EQ(0, suspend());
	ASSERT_EQ(0, mkfs_mount(&self->bar));
	EXPECT_EQ(EBUSY, suspend());
	fd = make_file(MNT "/f", SZ_2M);
	ASSERT_GE(fd, 0);
	p = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	store(p, 5);
	EXPECT_EQ(EBUSY, suspend());
	EXPECT_EQ(5, load(p));
	close(fd);
	munmap(p, SZ_2M);
	ASSERT_EQ(0, umount(MNT));
	EXPECT_EQ(0, suspend());
	EXPECT_EQ(0, check_fs(&self->bar, "-n"));
	release_bar(&self->bar);

	ASSERT_EQ(0, bind_as(&self->bar, "char"));
	EXPECT_EQ(0, suspend());
	fd = open(self->bar.node, O_RDWR);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(EBUSY, suspend());
	p = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	close(fd);
	EXPECT_EQ(EBUSY, suspend());
	EXPECT_EQ(0, try_read(p, &value));
	munmap(p, SZ_2M);
	EXPECT_EQ(0, suspend());
	write_file("/sys/power/pm_test", "none");
}

TEST_F_TIMEOUT(iopmem, rounds, MINUTES(2))
{
	static const char * const modes[] = { "block", "char", "p2pmem" };
	long tables = 0;

	for (int n = 0; n < 15; n++) {
		ASSERT_EQ(0, bind_as(&self->bar, modes[n % 3]));
		release_bar(&self->bar);
		/* Tables that the first rounds made stay. */
		if (n == 2)
			tables = page_table_bytes();
	}
	/* Less than one a round of any mode: others have page tables, too. */
	EXPECT_LT(page_table_bytes() - tables, 4 * 4096);
	EXPECT_LE(pat_entries(self->bar.start, self->bar.size), 0);
}

/* Peer-to-peer DMA */

/* The n-th NVMe disk that is behind the same root port as @dev, or that is not */
static bool find_disk(const char *dev, bool peer, int n, char *disk, char *pci)
{
	char path[300], mine[PATH_MAX] = "", port[PATH_MAX];
	bool found = false;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", dev);
	root_port(path, mine);
	for (int i = 0; !found && i < 8; i++) {
		snprintf(path, sizeof(path), "/sys/block/nvme%dn1/device/device", i);
		if (access(path, F_OK) || !root_port(path, port) ||
		    !strcmp(port, mine) != peer || n--)
			continue;
		snprintf(disk, 32, "/dev/nvme%dn1", i);
		if (realpath(path, port))
			snprintf(pci, 32, "%.31s", strrchr(port, '/') + 1);
		found = true;
	}
	return found;
}

/* O_DIRECT between a disk and memory of a peer: both ways, by parts. Errno or 0 */
static int transfer(const char *disk, char *mem, size_t bytes, bool *equal)
{
	char *buf = page_aligned(bytes);
	int fd = open(disk, O_RDWR | O_DIRECT), err = 0;

	*equal = false;
	if (fd < 0 || !buf)
		return errno;
	/* To the disk */
	fill_buffer(mem, bytes, getpid());
	__sync_synchronize();
	load(mem + bytes - 4);
	if (pwrite(fd, mem, bytes, 0) != bytes ||
	    pread(fd, buf, bytes, 0) != bytes)
		err = errno;
	*equal = !err && same(mem, buf, bytes);
	/* And from it: other data, elsewhere */
	if (!err) {
		fill_buffer(buf, bytes, 77);
		if (pwrite(fd, buf, bytes, SZ_2M) != bytes ||
		    pread(fd, mem, bytes, SZ_2M) != bytes)
			err = errno;
		*equal = *equal && !err && same(mem, buf, bytes);
	}
	/* Not aligned to pages */
	if (!err && pread(fd, mem + 512, SZ_4K, SZ_2M + SZ_4K) != SZ_4K)
		err = errno;
	*equal = *equal && !err && same(mem + 512, buf + SZ_4K, SZ_4K);
	close(fd);
	munmap(buf, bytes);
	return err;
}

TEST_F_TIMEOUT(iopmem, p2p_dax, MINUTES(2))
{
	char peer[32], other[32], pci[32], *p;
	bool equal;
	int fd;

	if (!find_disk(self->bar.dev, true, 0, peer, pci))
		SKIP(return, "no NVMe disk behind the same switch");
	ASSERT_EQ(0, bind_as(&self->bar, "block"));
	if (run("command -v mkfs.ext4 >/dev/null"))
		SKIP(return, "no mkfs.ext4");
	ASSERT_EQ(0, mkfs_mount(&self->bar));
	fd = make_file(MNT "/f", 8 * SZ_1M);
	ASSERT_GE(fd, 0);
	p = mmap(NULL, 8 * SZ_1M, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(0, transfer(peer, p, SZ_1M, &equal));
	EXPECT_TRUE(equal);
	EXPECT_EQ(0, transfer(peer, p + 5 * SZ_1M + SZ_4K, SZ_2M, &equal));
	EXPECT_TRUE(equal);

	/* Behind another root port */
	ASSERT_TRUE(find_disk(self->bar.dev, false, 0, other, pci));
	EXPECT_EQ(NO_PEER, transfer(other, p, SZ_1M, &equal));
	munmap(p, 8 * SZ_1M);
	close(fd);
	ASSERT_EQ(0, umount(MNT));
	EXPECT_EQ(0, check_fs(&self->bar, "-n"));
}

/*
 * Writes a mapped file to a disk, again and again, until that fails. Only the first
 * page is mapped: it is pinned while the others are faulted in, one by one, for the
 * mapping is not congruent.
 */
static int pin_loop(const char *disk, int nr)
{
	int fd = open(MNT "/f", O_RDWR), out = open(disk, O_RDWR | O_DIRECT);
	char *area = reserve(SZ_1G), *p;

	if (fd < 0 || out < 0 || !area)
		return 1;
	p = mmap(area + SZ_4K, SZ_2M, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
		 nr * SZ_2M);
	if (p == MAP_FAILED)
		return 1;
	do {
		if (madvise(p + SZ_4K, SZ_2M - SZ_4K, MADV_DONTNEED))
			return 2;
	} while (pwrite(out, p, SZ_2M, nr * SZ_2M) == SZ_2M);
	return errno == EFAULT ? 0 : 3;
}

/* The driver goes while pages of a file are pinned, and others are being faulted in. */
static void unbind_pinned(struct __test_metadata *_metadata, struct memory *bar,
			  const char *peer, int rounds)
{
	pid_t pid[3];
	int fd, status;

	for (int round = 0; round < rounds; round++) {
		ASSERT_EQ(0, bind_as(bar, "block"));
		ASSERT_EQ(0, mkfs_mount(bar));
		fd = make_file(MNT "/f", 3 * SZ_2M);
		ASSERT_GE(fd, 0);
		for (int i = 0; i < 3; i++) {
			pid[i] = fork();
			if (!pid[i])
				_exit(pin_loop(peer, i));
			ASSERT_GT(pid[i], 0);
		}
		usleep(100000 + round * 10000);
		release_bar(bar);
		for (int i = 0; i < 3; i++) {
			ASSERT_EQ(pid[i], waitpid(pid[i], &status, 0));
			EXPECT_EQ(0, status) TH_LOG("round %d, process %d", round, i);
		}
		close(fd);
		EXPECT_EQ(0, umount(MNT));
	}
}

TEST_F_TIMEOUT(iopmem, p2p_unbind_pinned, MINUTES(2))
{
	char peer[32], pci[32];

	if (!find_disk(self->bar.dev, true, 0, peer, pci))
		SKIP(return, "no NVMe disk behind the same switch");
	if (run("command -v mkfs.ext4 >/dev/null"))
		SKIP(return, "no mkfs.ext4");
	unbind_pinned(_metadata, &self->bar, peer, 12);
}

/* A second file, "g", gets all extents of one. */
static int share_file(int fd)
{
	int copy = open(MNT "/g", O_RDWR | O_CREAT, 0600), err = 0;

	if (copy < 0 || fsync(fd) || ioctl(copy, FICLONE, fd))
		err = errno;
	close(copy);
	return err;
}

/* Requests that a disk has not answered */
static int in_flight(const char *disk)
{
	int reads = 0, writes = 0;
	char path[96], line[64];

	snprintf(path, sizeof(path), "/sys/block/%s/inflight", strrchr(disk, '/') + 1);
	if (!read_line(path, line, sizeof(line)) ||
	    sscanf(line, "%d %d", &reads, &writes) != 2)
		return -1;
	return reads + writes;
}

static long milliseconds(const struct timeval *t)
{
	return t->tv_sec * 1000 + t->tv_usec / 1000;
}

/*
 * The driver goes while a disk has yet to read a page of a file: it waits for that page,
 * asleep, but none is mapped any more. If the page is of two files, both lose it.
 */
static void unbind_waits(struct __test_metadata *_metadata, struct memory *bar,
			 const char *peer, bool shared, char *deaf)
{
	const size_t bytes = 3 * SZ_2M, at = SZ_2M + 5 * SZ_4K;
	char *p[2], *copy = page_aligned(bytes), *page = page_aligned(SZ_4K);
	pid_t writer, unbinder;
	struct rusage usage;
	int fd[2], disk, status;
	__u32 value;

	disk = open(peer, O_RDWR | O_DIRECT);
	ASSERT_GE(disk, 0);
	ASSERT_NE(NULL, copy);
	ASSERT_NE(NULL, page);
	ASSERT_EQ(SZ_4K, pwrite(disk, page, SZ_4K, 0));
	ASSERT_EQ(0, bind_as(bar, "block"));
	ASSERT_EQ(0, shared ? mkfs_xfs_mount(bar, 0) : mkfs_mount(bar));
	fd[0] = make_file(MNT "/f", bytes);
	ASSERT_GE(fd[0], 0);
	fill_buffer(copy, bytes, getpid());
	ASSERT_EQ(bytes, pwrite(fd[0], copy, bytes, 0));
	if (shared)
		ASSERT_EQ(0, share_file(fd[0]));
	fd[1] = open(shared ? MNT "/g" : MNT "/f", O_RDWR);
	for (int i = 0; i < 2; i++) {
		p[i] = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd[i], 0);
		ASSERT_NE(MAP_FAILED, p[i]);
		EXPECT_TRUE(same(copy, p[i], bytes));
	}
	strcpy(deaf, peer);
	ASSERT_TRUE(disk_answers(peer, false));
	writer = fork();
	if (!writer)
		_exit(pwrite(disk, p[0] + at, SZ_4K, 0) != SZ_4K);
	ASSERT_GT(writer, 0);
	for (int i = 0; i < 100 * SLOW && in_flight(peer) != 1; i++)
		usleep(50000);
	EXPECT_EQ(1, in_flight(peer));
	unbinder = fork();
	if (!unbinder)
		_exit(release_bar(bar));

	for (int i = 0; i < 100 * SLOW && !(try_read(p[0], &value) && try_read(p[1], &value)); i++)
		usleep(50000);
	sleep(2);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(SIGBUS, try_read(p[i], &value));
		EXPECT_EQ(SIGBUS, try_read(p[i] + at, &value));
	}
	status = 0;
	EXPECT_EQ(0, waitpid(unbinder, &status, WNOHANG)) {
		unbinder = 0;
	}
	EXPECT_TRUE(disk_answers(peer, true));
	deaf[0] = 0;
	ASSERT_EQ(writer, waitpid(writer, &status, 0));
	EXPECT_EQ(0, status);
	if (unbinder > 0) {
		ASSERT_EQ(unbinder, wait4(unbinder, &status, 0, &usage));
		EXPECT_GT(1000 * SLOW, milliseconds(&usage.ru_stime));
	}
	EXPECT_EQ(0, status);
	/* What the disk has read is as it was. */
	EXPECT_EQ(SZ_4K, pread(disk, page, SZ_4K, 0));
	EXPECT_TRUE(same(page, copy + at, SZ_4K));
	for (int i = 0; i < 2; i++) {
		munmap(p[i], bytes);
		close(fd[i]);
	}
	munmap(copy, bytes);
	munmap(page, SZ_4K);
	close(disk);
	EXPECT_EQ(0, umount(MNT));
}

TEST_F_TIMEOUT(iopmem, p2p_unbind_waits, MINUTES(2))
{
	char peer[32], pci[32];

	if (!find_disk(self->bar.dev, true, 0, peer, pci))
		SKIP(return, "no NVMe disk behind the same switch");
	if (run("command -v mkfs.ext4 >/dev/null"))
		SKIP(return, "no mkfs.ext4");
	unbind_waits(_metadata, &self->bar, peer, false, self->deaf);
}

TEST_F_TIMEOUT(iopmem, p2p_unbind_waits_shared, MINUTES(2))
{
	const char *why = no_reflink(&self->bar);
	char peer[32], pci[32];

	if (!find_disk(self->bar.dev, true, 0, peer, pci))
		SKIP(return, "no NVMe disk behind the same switch");
	if (why)
		SKIP(return, "%s", why);
	unbind_waits(_metadata, &self->bar, peer, true, self->deaf);
}

/* What a transfer does not take, for it is no whole block, does not stay pinned. */
TEST_F_TIMEOUT(iopmem, p2p_part_of_a_block, MINUTES(2))
{
	char peer[32], pci[32], *p, *none;
	struct iovec iov[2];
	int fd, disk, status;
	pid_t pid;

	if (!find_disk(self->bar.dev, true, 0, peer, pci))
		SKIP(return, "no NVMe disk behind the same switch");
	disk = open(peer, O_RDWR | O_DIRECT);
	ASSERT_GE(disk, 0);
	ASSERT_EQ(0, bind_as(&self->bar, "char"));
	fd = open(self->bar.node, O_RDWR);
	ASSERT_GE(fd, 0);
	p = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	none = mmap(NULL, SZ_4K, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, none);
	iov[0] = (struct iovec) { p, SZ_4K + 4 };
	iov[1] = (struct iovec) { none, 508 };
	/* 4 bytes more go by the page cache. */
	EXPECT_LE(SZ_4K, pwritev(disk, iov, 2, 0)) TH_LOG("%s", strerror(errno));
	/* And a bvec that goes as a whole: of two pages, none is needed. */
	iov[0] = (struct iovec) { p + SZ_4K - 4, 8 };
	iov[1] = (struct iovec) { none, 504 };
	EXPECT_EQ(-1, pwritev(disk, iov, 2, 0));
	EXPECT_EQ(EFAULT, errno);
	munmap(p, SZ_2M);
	munmap(none, SZ_4K);
	close(fd);
	close(disk);
	pid = fork();
	if (!pid)
		_exit(release_bar(&self->bar));
	ASSERT_GT(pid, 0);
	for (int i = 0; i < 100 * SLOW && !waitpid(pid, &status, WNOHANG); i++)
		usleep(100000);
	EXPECT_EQ(-1, waitpid(pid, &status, WNOHANG)) {
		TH_LOG("the driver cannot be unbound");
	}
}

/* A whole GiB, a large leaf, and a page between two of them. Then unbind while pinned */
TEST_F_TIMEOUT(iopmem, p2p_char, MINUTES(2))
{
	char peer[32], other[32], pci[32], *p;
	struct user_leaves l;
	bool equal;
	int fd;

	if (!find_disk(self->bar.dev, true, 0, peer, pci))
		SKIP(return, "no NVMe disk behind the same switch");
	ASSERT_TRUE(find_disk(self->bar.dev, false, 0, other, pci));
	ASSERT_EQ(0, bind_as(&self->bar, "char"));
	fd = open(self->bar.node, O_RDWR);
	ASSERT_GE(fd, 0);
	p = mmap(NULL, self->bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(0, transfer(peer, p, SZ_1M, &equal));
	EXPECT_TRUE(equal);
	EXPECT_EQ(0, transfer(peer, p + 5 * SZ_2M - SZ_4K, SZ_2M, &equal));
	EXPECT_TRUE(equal);
	EXPECT_EQ(NO_PEER, transfer(other, p, SZ_1M, &equal));
	ASSERT_TRUE(dump_leaves(p, self->bar.size, &l));
	if (user_max_leaf() > THI_4K)
		EXPECT_LT(0, l.bytes[user_max_leaf()]);
	munmap(p, self->bar.size);
	close(fd);
}

/* What @dev gives away, used by @disk */
static int transfer_p2pmem(const char *dev, const char *disk, bool *equal)
{
	char path[96], *p;
	int fd, err;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/p2pmem/allocate", dev);
	fd = open(path, O_RDWR);
	if (fd < 0)
		return errno;
	p = mmap(NULL, SZ_1M, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	err = p == MAP_FAILED ? errno : 0;
	close(fd);
	if (err)
		return err;
	err = transfer(disk, p, SZ_1M, equal);
	munmap(p, SZ_1M);
	return err;
}

TEST_F_TIMEOUT(iopmem, p2p_p2pmem, MINUTES(2))
{
	char peer[32], other[32], pci[32];
	bool equal;

	if (!find_disk(self->bar.dev, true, 0, peer, pci))
		SKIP(return, "no NVMe disk behind the same switch");
	ASSERT_TRUE(find_disk(self->bar.dev, false, 0, other, pci));
	for (int wc = 0; wc < 2; wc++) {
		ASSERT_EQ(0, write_file(PARAM("wc"), wc ? "1" : "0"));
		ASSERT_EQ(0, bind_as(&self->bar, "p2pmem"));
		EXPECT_EQ(0, transfer_p2pmem(self->bar.dev, peer, &equal));
		EXPECT_TRUE(equal);
		EXPECT_EQ(NO_PEER, transfer_p2pmem(self->bar.dev, other, &equal));
		release_bar(&self->bar);
	}
}

/* The memory buffer of one controller, used by another */
TEST_F_TIMEOUT(iopmem, p2p_cmb, MINUTES(2))
{
	char disk[32], pci[32], path[96], cmb[32] = "", own[32] = "", peer[32] = "";
	__u64 start, size;
	bool equal;

	for (int n = 0; find_disk(self->bar.dev, true, n, disk, pci); n++) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/p2pmem/allocate", pci);
		if (access(path, R_OK)) {
			strcpy(peer, disk);
		} else {
			strcpy(cmb, pci);
			strcpy(own, disk);
		}
	}
	if (!cmb[0] || !peer[0])
		SKIP(return, "no NVMe controller with a memory buffer beside another");
	ASSERT_TRUE(bar_range(cmb, 2, &start, &size));
	if (self->pat)
		EXPECT_TRUE(pat_has(start, size, "write-combining"));
	EXPECT_EQ(0, transfer_p2pmem(cmb, peer, &equal));
	EXPECT_TRUE(equal);
	/* The disk itself has its submission queues there. */
	EXPECT_EQ(0, transfer_p2pmem(cmb, own, &equal));
	EXPECT_TRUE(equal);
	ASSERT_TRUE(find_disk(self->bar.dev, false, 0, disk, pci));
	EXPECT_EQ(NO_PEER, transfer_p2pmem(cmb, disk, &equal));
}

TEST_HARNESS_MAIN
