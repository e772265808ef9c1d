// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI device is removed while its BAR is mapped through sysfs and procfs. Another
 * device may get the addresses: what is mapped has to go with the device.
 */
#include "huge_iomap_vfio.h"

#include <linux/pci.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#define AREA		(4 * SZ_1G)
#define BYTES		(SZ_1G + SZ_2M + SZ_4K)	/* leaves of all sizes */
#define RESCAN		"/sys/bus/pci/rescan"
#define PROC_FILE	"/proc/bus/pci/00/02.0"

FIXTURE(hotremove) {
	char saved[16];
	int fd, mem;
	__u64 bar, base;	/* physical address, file offset of the BAR */
	char *area;
};

FIXTURE_VARIANT(hotremove) {
	const char *file;
	const char *limit;
	int gone;		/* errno of mmap() of a file without its device */
};

FIXTURE_VARIANT_ADD(hotremove, sysfs_4k) {
	.file = PCI_DEVICE "/resource2", .limit = "4K", .gone = ENODEV,
};

FIXTURE_VARIANT_ADD(hotremove, sysfs_2m) {
	.file = PCI_DEVICE "/resource2", .limit = "2M", .gone = ENODEV,
};

FIXTURE_VARIANT_ADD(hotremove, sysfs_1g) {
	.file = PCI_DEVICE "/resource2", .limit = "1G", .gone = ENODEV,
};

FIXTURE_VARIANT_ADD(hotremove, sysfs_wc_1g) {
	.file = PCI_DEVICE "/resource2_wc", .limit = "1G", .gone = ENODEV,
};

FIXTURE_VARIANT_ADD(hotremove, procfs_4k) {
	.file = PROC_FILE, .limit = "4K", .gone = EIO,
};

FIXTURE_VARIANT_ADD(hotremove, procfs_1g) {
	.file = PROC_FILE, .limit = "1G", .gone = EIO,
};

static int open_bar(const char *file, __u64 *base)
{
	int fd = open(file, O_RDWR | O_SYNC);

	*base = 0;
	if (fd < 0 || strcmp(file, PROC_FILE))
		return fd;
	*base = bar_start();
	if (!ioctl(fd, PCIIOC_MMAP_IS_MEM))
		return fd;
	close(fd);
	return -1;
}

FIXTURE_SETUP(hotremove)
{
	if (read_line(LIMIT, self->saved, sizeof(self->saved)) &&
	    write_file(LIMIT, variant->limit))
		SKIP(return, "nohugeiomap does not allow %s", variant->limit);
	self->bar = bar_start();
	ASSERT_NE(0, self->bar);
	self->fd = open_bar(variant->file, &self->base);
	ASSERT_GE(self->fd, 0) TH_LOG("%s: %s", variant->file, strerror(errno));
	self->mem = open("/dev/mem", O_RDWR | O_SYNC);
	ASSERT_GE(self->mem, 0);
	self->area = reserve(AREA);
	ASSERT_NE(NULL, self->area);
}

/* The tests that come after need the device. */
FIXTURE_TEARDOWN(hotremove)
{
	if (self->saved[0])
		write_file(LIMIT, self->saved);
	if (access(PCI_DEVICE, F_OK))
		write_file(RESCAN, "1");
}

/* Pages of a mapping that can be accessed; those of each leaf size are looked at. */
static int accessible(char *va)
{
	static const __u64 at[] = { 0, SZ_2M + SZ_4K, SZ_1G - SZ_4K, SZ_1G,
				    SZ_1G + SZ_2M };
	__u32 v;
	int n = 0;

	for (int i = 0; i < ARRAY_SIZE(at); i++)
		n += !try_read(va + at[i], &v) + !try_write(va + at[i], at[i]);
	return n;
}

TEST_F_TIMEOUT(hotremove, mappings_go, MINUTES(2))
{
	char *va = self->area, *moved = va + 2 * SZ_1G;
	int fds[2], status, fd;
	__u32 *page, v;
	struct stat st;
	__u64 base;
	pid_t pid;
	char c;

	/* One that has been moved, one that has not, and those of a child */
	ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, BYTES));
	ASSERT_EQ(moved, mremap(va, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, moved));
	ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, BYTES));
	ASSERT_EQ(10, accessible(va));
	ASSERT_EQ(10, accessible(moved));
	ASSERT_EQ(0, pipe(fds));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		close(fds[1]);
		if (read(fds[0], &c, 1) != 1)
			_exit(100);
		_exit(accessible(va) + accessible(moved));
	}
	/* A mapping of physical memory, not of the device */
	page = page_of(self->mem, self->bar);
	ASSERT_NE(NULL, page);
	store(page, 0x11);

	ASSERT_EQ(0, write_file(PCI_DEVICE "/remove", "1"));
	EXPECT_EQ(-1, stat(PCI_DEVICE, &st));
	EXPECT_EQ(0, accessible(va));
	EXPECT_EQ(0, accessible(moved));
	EXPECT_EQ(SIGBUS, try_read(va, &v));
	ASSERT_EQ(1, write(fds[1], "x", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status) TH_LOG("the child has access");
	EXPECT_EQ(0, try_read(page, &v));
	EXPECT_EQ(0x11, v);
	/* There is no way back. */
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, self->fd,
				   self->base));
	EXPECT_EQ(variant->gone, errno);
	ASSERT_EQ(0, mprotect(va, SZ_2M, PROT_READ));
	EXPECT_EQ(SIGBUS, try_read(va, &v));
	fd = open("/proc/self/mem", O_RDONLY);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(-1, pread(fd, &v, 4, (unsigned long)va));
	close(fd);

	/* The device comes back. Files and mappings of the old one do not. */
	ASSERT_EQ(0, write_file(RESCAN, "1"));
	EXPECT_EQ(0, accessible(moved));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, self->fd,
				   self->base));
	fd = open_bar(variant->file, &base);
	ASSERT_GE(fd, 0) TH_LOG("%s: %s", variant->file, strerror(errno));
	ASSERT_EQ(va, map_at(fd, base, va, 0, BYTES));
	EXPECT_EQ(0x11, load(va));
	EXPECT_EQ(10, accessible(va));
	/* Its driver has it again. */
	EXPECT_GE(open_driver(), 0);
}

/* The files of a device that is still there lose nothing. */
TEST_F_TIMEOUT(hotremove, close_is_no_removal, MINUTES(2))
{
	char *va = self->area, *other = va + 2 * SZ_1G;
	__u64 base;
	int fd;

	fd = open_bar(variant->file, &base);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(va, map_at(self->fd, self->base, va, 0, BYTES));
	ASSERT_EQ(other, map_at(fd, base, other, 0, BYTES));
	close(fd);
	ASSERT_EQ(0, munmap(other, BYTES));
	EXPECT_EQ(10, accessible(va));
}

TEST_HARNESS_MAIN
