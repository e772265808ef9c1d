// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI device is removed while its BAR is mapped. Another device may get the addresses:
 * what is mapped has to go with the device.
 *
 * PCI_REMOVE_DEVICE in the environment names the device, such as 0000:00:02.0. No driver
 * may have it, and its BAR has to bear writes of what was read, as that of QEMU's ivshmem.
 */
#include <fcntl.h>
#include <linux/pci.h>
#include <setjmp.h>
#include <sys/ioctl.h>

#include "kselftest_harness.h"

#define IORESOURCE_MEM	0x200

struct bar {
	bool procfs, wc;	/* of the variant */
	char name[16];		/* its file in sysfs */
	off_t offset;		/* where it is in the file that is mapped */
	size_t size;		/* what of it is mapped */
	char *map, *moved;
	pid_t child;
	int in_child[2];	/* what the child finds of @map and @moved */
};

FIXTURE(pci_remove) {
	struct bar bar;
	int fd;
};

FIXTURE_VARIANT(pci_remove) {
	bool procfs, wc;
};

FIXTURE_VARIANT_ADD(pci_remove, sysfs) { };
FIXTURE_VARIANT_ADD(pci_remove, sysfs_wc) { .wc = true };
FIXTURE_VARIANT_ADD(pci_remove, procfs) { .procfs = true };
FIXTURE_VARIANT_ADD(pci_remove, procfs_wc) { .procfs = true, .wc = true };

static sigjmp_buf fault;

static void on_sigbus(int sig)
{
	siglongjmp(fault, sig);
}

/* False after SIGBUS */
static bool copy(__u32 *to, __u32 *from)
{
	if (sigsetjmp(fault, 0))
		return false;
	__atomic_store_n(to, __atomic_load_n(from, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
	return true;
}

/* The reads and the writes that get no SIGBUS: two for each page that is mapped */
static int accessible(char *va, size_t size)
{
	__u32 value = 0;
	int n = 0;

	for (size_t at = 0; at < size; at += getpagesize()) {
		n += copy(&value, (__u32 *)(va + at));
		n += copy((__u32 *)(va + at), &value);
	}
	return n;
}

static const char *sysfs(const char *file)
{
	static char path[128];

	sprintf(path, "/sys/bus/pci/devices/%.16s/%s", getenv("PCI_REMOVE_DEVICE"), file);
	return path;
}

static bool write_digit(const char *path, const char *digit)
{
	int fd = open(path, O_WRONLY);
	bool ok = write(fd, digit, 1) == 1;

	close(fd);
	return ok;
}

/* The largest memory BAR. What is mapped of it takes more than one page of page tables. */
static bool find_bar(struct bar *bar)
{
	unsigned long long start, end, flags, max = 0x400000 + getpagesize();
	FILE *f = fopen(sysfs("resource"), "r");

	bar->size = 0;
	for (int i = 0; f && i < 6 && fscanf(f, "%llx%llx%llx", &start, &end, &flags) == 3; i++) {
		if (!(flags & IORESOURCE_MEM) || end - start < bar->size)
			continue;
		snprintf(bar->name, sizeof(bar->name), "resource%d%s", i, bar->wc ? "_wc" : "");
		bar->offset = bar->procfs ? start : 0;
		bar->size = end - start + 1;
	}
	if (f)
		fclose(f);
	bar->size = bar->size < max ? bar->size : max;
	return bar->size >= (size_t)getpagesize();
}

static int open_bar(const struct bar *bar)
{
	const char *device = getenv("PCI_REMOVE_DEVICE");
	char path[64];
	int fd;

	/* A BAR that is not enabled does not answer: some machines have a fault for that. */
	if (access(sysfs(bar->name), F_OK) || !write_digit(sysfs("enable"), "1"))
		return -1;
	if (!bar->procfs)
		return open(sysfs(bar->name), O_RDWR | O_SYNC);
	/* 0000:00:02.0 is 00/02.0 there. */
	if (!strncmp(device, "0000:", 5))
		device += 5;
	snprintf(path, sizeof(path), "/proc/bus/pci/%s", device);
	*strrchr(path, ':') = '/';
	fd = open(path, O_RDWR | O_SYNC);
	if (fd >= 0 && (ioctl(fd, PCIIOC_MMAP_IS_MEM) ||
			(bar->wc && ioctl(fd, PCIIOC_WRITE_COMBINE, 1))))
		return -1;
	return fd;
}

static char *map_bar(int fd, const struct bar *bar)
{
	return mmap(NULL, bar->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, bar->offset);
}

/* It inherits the mappings, looks at them, and stops until it is to look again. */
static void start_child(struct bar *bar)
{
	pid_t pid = fork();

	while (!pid) {
		bar->in_child[0] = accessible(bar->map, bar->size);
		bar->in_child[1] = accessible(bar->moved, bar->size);
		raise(SIGSTOP);
	}
	bar->child = pid;
}

static void expect_accessible(struct __test_metadata *_metadata, const struct bar *bar, int n)
{
	int status;

	EXPECT_EQ(n, accessible(bar->map, bar->size));
	EXPECT_EQ(n, accessible(bar->moved, bar->size));
	kill(bar->child, SIGCONT);
	ASSERT_TRUE(waitpid(bar->child, &status, WUNTRACED) > 0 && WIFSTOPPED(status));
	EXPECT_EQ(n, bar->in_child[0]);
	EXPECT_EQ(n, bar->in_child[1]);
}

FIXTURE_SETUP(pci_remove)
{
	struct sigaction sa = { .sa_handler = on_sigbus, .sa_flags = SA_NODEFER };
	struct bar *bar = &self->bar;

	*bar = (struct bar) { .procfs = variant->procfs, .wc = variant->wc };
	if (!getenv("PCI_REMOVE_DEVICE"))
		SKIP(return, "PCI_REMOVE_DEVICE names no device that may be removed");
	if (!access(sysfs("driver"), F_OK))
		SKIP(return, "the device has a driver");
	if (!find_bar(bar))
		SKIP(return, "no such device, or it has no memory BAR");
	self->fd = open_bar(bar);
	if (self->fd < 0)
		SKIP(return, "%s cannot be used: %s", bar->name, strerror(errno));

	bar->moved = mmap(NULL, bar->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bar->map = map_bar(self->fd, bar);
	if (bar->map == MAP_FAILED)	/* by lockdown, for example */
		SKIP(return, "%s cannot be mapped: %s", bar->name, strerror(errno));
	ASSERT_NE(MAP_FAILED, mremap(bar->map, bar->size, bar->size,
				     MREMAP_MAYMOVE | MREMAP_FIXED, bar->moved));
	bar->map = map_bar(self->fd, bar);
	ASSERT_NE(MAP_FAILED, bar->map);
	ASSERT_EQ(0, sigaction(SIGBUS, &sa, NULL));
	start_child(bar);
	ASSERT_GT(bar->child, 0);
}

/* In the parent, in case a signal ends the test. With that, the child shares @self, too. */
FIXTURE_TEARDOWN_PARENT(pci_remove)
{
	kill(self->bar.child, SIGKILL);
	if (access(sysfs("remove"), F_OK))
		write_digit("/sys/bus/pci/rescan", "1");
	write_digit(sysfs("enable"), "0");
}

TEST_F(pci_remove, mappings_go)
{
	struct bar *bar = &self->bar;
	int n = 2 * (bar->size / getpagesize());

	expect_accessible(_metadata, bar, n);
	ASSERT_TRUE(write_digit(sysfs("remove"), "1"));
	ASSERT_NE(0, access(sysfs("remove"), F_OK));
	expect_accessible(_metadata, bar, 0);
	EXPECT_EQ(MAP_FAILED, map_bar(self->fd, bar));
	EXPECT_EQ(bar->procfs ? EIO : ENODEV, errno);

	/* The device comes back, what was mapped of it does not. */
	ASSERT_TRUE(write_digit("/sys/bus/pci/rescan", "1"));
	ASSERT_TRUE(find_bar(bar));
	self->fd = open_bar(bar);
	expect_accessible(_metadata, bar, 0);
	bar->map = map_bar(self->fd, bar);
	ASSERT_NE(MAP_FAILED, bar->map);
	EXPECT_EQ(n, accessible(bar->map, bar->size));
}

TEST_HARNESS_MAIN
