// SPDX-License-Identifier: GPL-2.0
/*
 * Access to a user mapping of a PCI BAR from outside: by ptrace() and
 * /proc/PID/mem, and by what KVM and VFIO learn of it. The leaf size makes no
 * difference, and neither does PROT_NONE for a debugger that reads.
 */
#include "huge_iomap_vfio.h"

#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#define AREA		SZ_1G

enum path { SYSFS, SYSFS_WC, DEV_MEM, VFIO };

FIXTURE(access) {
	char saved[16];
	int fd, thi, mem;
	__u64 bar, base;	/* physical address, file offset of the BAR */
	struct vfio vfio;
	char *area;
	int max;		/* largest leaf that can be had */
};

FIXTURE_VARIANT(access) {
	enum path path;
	const char *limit;
};

FIXTURE_VARIANT_ADD(access, sysfs_4k) { .path = SYSFS, .limit = "4K" };
FIXTURE_VARIANT_ADD(access, sysfs_2m) { .path = SYSFS, .limit = "2M" };
FIXTURE_VARIANT_ADD(access, sysfs_1g) { .path = SYSFS, .limit = "1G" };
FIXTURE_VARIANT_ADD(access, sysfs_wc_4k) { .path = SYSFS_WC, .limit = "4K" };
FIXTURE_VARIANT_ADD(access, sysfs_wc_2m) { .path = SYSFS_WC, .limit = "2M" };
FIXTURE_VARIANT_ADD(access, sysfs_wc_1g) { .path = SYSFS_WC, .limit = "1G" };
FIXTURE_VARIANT_ADD(access, devmem_4k) { .path = DEV_MEM, .limit = "4K" };
FIXTURE_VARIANT_ADD(access, devmem_2m) { .path = DEV_MEM, .limit = "2M" };
FIXTURE_VARIANT_ADD(access, devmem_1g) { .path = DEV_MEM, .limit = "1G" };
FIXTURE_VARIANT_ADD(access, vfio_4k) { .path = VFIO, .limit = "4K" };
FIXTURE_VARIANT_ADD(access, vfio_2m) { .path = VFIO, .limit = "2M" };
FIXTURE_VARIANT_ADD(access, vfio_1g) { .path = VFIO, .limit = "1G" };

FIXTURE_SETUP(access)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR2_REGION_INDEX,
	};

	self->vfio.device = -1;
	if (read_line(LIMIT, self->saved, sizeof(self->saved)) &&
	    write_file(LIMIT, variant->limit))
		SKIP(return, "nohugeiomap does not allow %s", variant->limit);
	self->max = variant->path == VFIO ? fault_max_leaf() : user_max_leaf();
	self->thi = open_driver();
	ASSERT_GE(self->thi, 0) TH_LOG(DEVICE ": %s", strerror(errno));
	self->mem = open("/dev/mem", O_RDWR | O_SYNC);
	ASSERT_GE(self->mem, 0);
	self->bar = bar_start();
	ASSERT_NE(0, self->bar);

	switch (variant->path) {
	case SYSFS:
		self->fd = open(PCI_DEVICE "/resource2", O_RDWR | O_SYNC);
		break;
	case SYSFS_WC:
		self->fd = open(PCI_DEVICE "/resource2_wc", O_RDWR | O_SYNC);
		break;
	case DEV_MEM:
		self->fd = self->mem;
		self->base = self->bar;
		break;
	case VFIO:
		ASSERT_EQ(0, bind_to("vfio-pci"));
		ASSERT_TRUE(open_cdev(&self->vfio)) TH_LOG("%s", strerror(errno));
		self->fd = self->vfio.device;
		ASSERT_EQ(0, ioctl(self->fd, VFIO_DEVICE_GET_REGION_INFO, &info));
		self->base = info.offset;
		break;
	}
	ASSERT_GE(self->fd, 0) TH_LOG("%s", strerror(errno));
	self->area = reserve(AREA);
	ASSERT_NE(NULL, self->area);
	ASSERT_EQ(self->area, map_at(self->fd, self->base, self->area, 0, AREA));
	fill(self->area, 0, AREA);
}

FIXTURE_TEARDOWN(access)
{
	if (self->saved[0])
		write_file(LIMIT, self->saved);
	if (self->vfio.device < 0)
		return;
	munmap(self->area, AREA);
	close_vfio(&self->vfio);
	bind_to("\n");
}

static const int prots[] = { PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE };

/* Places at the ends of leaves, and in them */
static const __u64 places[] = { 0, SZ_4K, SZ_2M, 100 * SZ_2M + SZ_4K, SZ_1G - SZ_4K };

/* A child with all mappings, that waits for its tracer. */
static pid_t stopped_child(void)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	if (pid > 0 && (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)))
		return -1;
	return pid;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

TEST_F_TIMEOUT(access, ptrace, MINUTES(2))
{
	/* There is no vm_ops->access(): a debugger sees nothing, as on 4 KiB pages. */
	const bool any = variant->path != VFIO;

	for (int i = 0; i < ARRAY_SIZE(prots); i++) {
		const bool write = any && (prots[i] & PROT_WRITE);
		char path[32];
		pid_t pid;
		int fd;

		ASSERT_EQ(0, mprotect(self->area, AREA, prots[i]));
		pid = stopped_child();
		ASSERT_GT(pid, 0);
		snprintf(path, sizeof(path), "/proc/%d/mem", pid);
		fd = open(path, O_RDWR);
		ASSERT_GE(fd, 0);
		for (int p = 0; p < ARRAY_SIZE(places); p++) {
			char *va = self->area + places[p];
			__u32 want = pattern(places[p]), v = 0;
			__u64 new = want ^ ~0U;
			__u32 *page = page_of(self->mem, self->bar + places[p]);
			long word;

			ASSERT_NE(NULL, page);
			page[1] = 0;
			errno = 0;
			word = ptrace(PTRACE_PEEKDATA, pid, va, NULL);
			EXPECT_EQ(any ? 0 : EIO, errno)
				TH_LOG("peek, prot %d, %#llx", prots[i], places[p]);
			if (any)
				EXPECT_EQ(want, word);
			EXPECT_EQ(any ? 4 : -1, pread(fd, &v, 4, (unsigned long)va))
				TH_LOG("read, prot %d, %#llx", prots[i], places[p]);
			if (any)
				EXPECT_EQ(want, v);

			EXPECT_EQ(write ? 0 : -1, ptrace(PTRACE_POKEDATA, pid, va, new))
				TH_LOG("poke, prot %d, %#llx", prots[i], places[p]);
			EXPECT_EQ(write ? (__u32)new : want, load(page));
			EXPECT_EQ(write ? 4 : -1,
				  pwrite(fd, &want, 4, (unsigned long)va))
				TH_LOG("write, prot %d, %#llx", prots[i], places[p]);
			EXPECT_EQ(want, load(page));
			munmap(page, SZ_4K);
		}
		close(fd);
		end_child(pid);
	}
	ASSERT_EQ(0, mprotect(self->area, AREA, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, differ(self->area, 0, 0, AREA));
	EXPECT_LEAVES(self->area, AREA, self->max == THI_4K ? AREA / SZ_4K : 0,
		      self->max == THI_2M ? AREA / SZ_2M : 0, self->max == THI_1G);
}

/* follow_pfnmap_start() says the same of a page, whichever leaf maps it. */
TEST_F_TIMEOUT(access, follow, MINUTES(2))
{
	struct test_huge_iomap_user user = { .bytes = SZ_4K };
	struct test_huge_iomap_follow follow;

	if (variant->path == VFIO)
		SKIP(return, "the test driver does not have the device");
	user.addr = (unsigned long)self->area;
	ASSERT_EQ(0, ioctl(self->thi, THI_USER, &user));
	for (int i = 0; i < ARRAY_SIZE(prots); i++) {
		ASSERT_EQ(0, mprotect(self->area, AREA, prots[i]));
		for (int p = 0; p < ARRAY_SIZE(places); p++) {
			follow.addr = (unsigned long)self->area + places[p];
			ASSERT_EQ(0, ioctl(self->thi, THI_FOLLOW, &follow))
				TH_LOG("prot %d, %#llx", prots[i], places[p]);
			EXPECT_EQ(self->bar + places[p], follow.phys);
			EXPECT_EQ(leaf_sizes[self->max], follow.size);
			EXPECT_EQ(user.type, follow.type);
			EXPECT_EQ(!!(prots[i] & PROT_WRITE), follow.writable);
		}
	}
}

/* The same of memory: this once looped until somebody killed the debugger. */
TEST(prot_none_hugetlb)
{
	char *va = mmap(NULL, SZ_1G, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | (30 << MAP_HUGE_SHIFT),
			-1, 0);
	int status, fd;
	char path[32];
	__u32 v = 0;
	pid_t pid;

	if (va == MAP_FAILED)
		SKIP(return, "no hugetlb page of 1 GiB: %s", strerror(errno));
	store(va + SZ_4K, 0x600d);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		if (load(va + SZ_4K) != 0x600d || mprotect(va, SZ_1G, PROT_NONE))
			_exit(1);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSTOPPED(status));
	errno = 0;
	EXPECT_EQ(0x600d, (__u32)ptrace(PTRACE_PEEKDATA, pid, va + SZ_4K, NULL));
	EXPECT_EQ(0, errno);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDONLY);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(4, pread(fd, &v, 4, (unsigned long)va + SZ_4K));
	EXPECT_EQ(0x600d, v);
	close(fd);
	end_child(pid);
	munmap(va, SZ_1G);
}

struct peek {
	char *va;
	__u32 value;
	ssize_t n;
};

static void *peek_thread(void *arg)
{
	struct peek *p = arg;
	struct iovec to = { .iov_base = &p->value, .iov_len = sizeof(p->value) };
	struct iovec from = { .iov_base = p->va, .iov_len = sizeof(p->value) };

	p->n = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
	return NULL;
}

/* userfaultfd marks pages PROT_NONE to be told of each access: also of one by GUP. */
TEST(rwp_hugetlb)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_RWP };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_RWP };
	struct uffdio_rwprotect rwp = { .mode = UFFDIO_RWPROTECT_MODE_RWP };
	struct peek peek = {};
	struct uffd_msg msg;
	struct pollfd poll_fd = { .events = POLLIN };
	pthread_t thread;
	char *va;

	poll_fd.fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (poll_fd.fd < 0 || ioctl(poll_fd.fd, UFFDIO_API, &api))
		SKIP(return, "no userfaultfd with RWP: %s", strerror(errno));
	va = mmap(NULL, SZ_1G, PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | (30 << MAP_HUGE_SHIFT), -1, 0);
	if (va == MAP_FAILED)
		SKIP(return, "no hugetlb page of 1 GiB: %s", strerror(errno));
	store(va + SZ_4K, 0x600d);
	reg.range.start = (unsigned long)va;
	reg.range.len = SZ_1G;
	rwp.range = reg.range;
	ASSERT_EQ(0, ioctl(poll_fd.fd, UFFDIO_REGISTER, &reg)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, ioctl(poll_fd.fd, UFFDIO_RWPROTECT, &rwp)) TH_LOG("%s", strerror(errno));

	peek.va = va + SZ_4K;
	ASSERT_EQ(0, pthread_create(&thread, NULL, peek_thread, &peek));
	EXPECT_EQ(1, poll(&poll_fd, 1, 10000 * SLOW));
	if (poll_fd.revents & POLLIN) {
		EXPECT_EQ(sizeof(msg), read(poll_fd.fd, &msg, sizeof(msg)));
		EXPECT_EQ(UFFD_EVENT_PAGEFAULT, msg.event);
		EXPECT_TRUE(msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_RWP);
	}
	rwp.mode = 0;
	EXPECT_EQ(0, ioctl(poll_fd.fd, UFFDIO_RWPROTECT, &rwp));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(4, peek.n);
	EXPECT_EQ(0x600d, peek.value);
	munmap(va, SZ_1G);
	close(poll_fd.fd);
}

TEST_HARNESS_MAIN
