// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of iopmem's character device and of p2pmem/allocate as dma-bufs: imported by
 * the test driver for QEMU's "edu" device, which writes and reads it, and by iommufd;
 * and taken away, while it is used. p2pdma has to let both devices talk to each other,
 * as it does for all with a CPU of AMD.
 */
#include "huge_iomap_edu.h"
#include "huge_iomap_iommu.h"
#include "huge_iomap_iopmem.h"

#include <linux/p2pmem.h>
#include <pthread.h>

#include "kselftest_harness.h"

#define EDU_VENDOR	"0x1234"
#define EDU_DEVICE	"0x11e8"

/* What is exported, unless it is said otherwise */
#define START		(SZ_2M + SZ_4K)
#define BYTES		(2 * SZ_2M + 2 * SZ_4K)

enum { DEV_IOPMEM, DEV_P2PMEM };

/* What will be exported */
struct mem {
	int dev;
	int file;		/* iopmem's device, or p2pmem/allocate */
	int p2pmem;		/* /dev/p2pmem */
	char *map;		/* BYTES of it */
};

FIXTURE(dmabuf) {
	struct memory bar;
	char edu[32];
	int drv;		/* the test driver */
	struct mem mem;
	__u64 available;	/* of p2p memory, before */
};

FIXTURE_VARIANT(dmabuf) {
	int dev;
};

FIXTURE_VARIANT_ADD(dmabuf, iopmem) { DEV_IOPMEM };
FIXTURE_VARIANT_ADD(dmabuf, p2pmem) { DEV_P2PMEM };

static __u64 free_bytes(struct memory *bar)
{
	char path[96], line[32];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/p2pmem/available", bar->dev);
	return read_line(path, line, sizeof(line)) ? strtoull(line, NULL, 0) : 0;
}

/* -1 and errno, or a dma-buf */
static int export_at(int fd, __u64 start, __u64 bytes, __u32 open_flags, __u32 flags)
{
	struct p2pmem_export req = {
		.start = start, .size = bytes, .open_flags = open_flags, .flags = flags,
	};

	return ioctl(fd, P2PMEM_EXPORT, &req);
}

/* All of these: 0 or an errno */
static int import(int drv, int buf, int how)
{
	struct test_edu_import req = { .fd = buf, .how = how };

	return ioctl(drv, TDB_IMPORT, &req) ? errno : 0;
}

static int map_import(int drv, struct test_edu_import *req)
{
	*req = (struct test_edu_import) { .fd = -1 };
	return ioctl(drv, TDB_MAP, req) ? errno : 0;
}

static int state(int drv, struct test_edu_import *req)
{
	*req = (struct test_edu_import) { .fd = -1 };
	return ioctl(drv, TDB_STATE, req) ? errno : 0;
}

static int drop(int drv)
{
	struct test_edu_import req = { .fd = -1 };

	return ioctl(drv, TDB_DROP, &req) ? errno : 0;
}

static void set_words(char *p, __u32 value)
{
	for (int i = 0; i < TED_WORDS; i++)
		store(p + 4 * i, value + i);
	/* Out of the write-combining buffers, to the device */
	__builtin_ia32_sfence();
	load(p);
}

static int same_words(char *p, __u32 value)
{
	int n = 0;

	for (int i = 0; i < TED_WORDS; i++)
		n += load(p + 4 * i) == value + i;
	return n;
}

/* Bind, and map what will be exported. 0 or an errno */
static int get_memory(struct memory *bar, struct mem *mem)
{
	const bool iopmem = mem->dev == DEV_IOPMEM;
	char path[96];
	int error = bind_as(bar, iopmem ? "char" : "p2pmem");

	if (error)
		return -error;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/p2pmem/allocate", bar->dev);
	mem->file = open(iopmem ? bar->node : path, O_RDWR);
	if (mem->file < 0)
		return errno;
	mem->map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, mem->file,
			iopmem ? START : 0);
	if (mem->map == MAP_FAILED) {
		mem->map = NULL;
		return errno;
	}
	return 0;
}

static void put_memory(struct mem *mem)
{
	if (mem->map)
		munmap(mem->map, BYTES);
	if (mem->file >= 0)
		close(mem->file);
	mem->map = NULL;
	mem->file = -1;
}

/* A dma-buf of the first bytes of what is mapped; -1 and errno */
static int export_part(const struct mem *mem, __u64 bytes)
{
	return mem->dev == DEV_IOPMEM ?
	       export_at(mem->file, START, bytes, O_RDWR | O_CLOEXEC, 0) :
	       export_at(mem->p2pmem, (__u64)mem->map, bytes, O_RDWR | O_CLOEXEC, 0);
}

/* Import it and map it. 0 or an errno */
static int attach(int drv, int buf, int how, struct test_edu_import *req)
{
	return import(drv, buf, how) ?: map_import(drv, req);
}

/* Also for a setup that skips, after which there is no teardown */
static void clean_up(struct memory *bar, struct mem *mem, int drv, const char *edu)
{
	if (drv >= 0) {
		drop(drv);
		close(drv);
	}
	put_memory(mem);
	if (mem->p2pmem >= 0)
		close(mem->p2pmem);
	if (edu[0])
		bind_device(edu, "\n");
	if (!bar->size)
		return;
	decode(bar->dev, true);
	write_file(PARAM("mode"), "block");
	bind_device(bar->dev, "\n");
}

FIXTURE_SETUP(dmabuf)
{
	struct test_edu_import req;
	int buf, error = ENODEV;

	self->mem = (struct mem) {
		.dev = variant->dev, .file = -1, .p2pmem = open("/dev/p2pmem", O_RDWR),
	};
	self->drv = open("/dev/test_huge_map", O_RDWR);
	if (self->drv < 0)
		SKIP(return, "no CONFIG_TEST_HUGE_MAP");
	if (self->mem.p2pmem < 0)
		SKIP(return, "no CONFIG_PCI_P2PDMA_DMABUF");
	if (!have_iopmem())
		SKIP(return, "no CONFIG_BLK_DEV_IOPMEM");
	if (!find_bar(&self->bar))
		SKIP(return, "no ivshmem device");
	ASSERT_EQ(0, get_memory(&self->bar, &self->mem));
	self->available = free_bytes(&self->bar);

	buf = export_part(&self->mem, SZ_4K);
	ASSERT_LE(0, buf);
	/* One that can reach the other device */
	for (int i = 0; error; i++) {
		char name[32];

		if (!find_pci(EDU_VENDOR, EDU_DEVICE, i, name, sizeof(name)))
			break;
		if (self->edu[0])
			bind_device(self->edu, "\n");
		strcpy(self->edu, name);
		ASSERT_EQ(0, bind_device(self->edu, "test_edu"));
		error = attach(self->drv, buf, TDB_NOW, &req);
		drop(self->drv);
	}
	close(buf);
	if (!error)
		return;
	clean_up(&self->bar, &self->mem, self->drv, self->edu);
	if (!self->edu[0])
		SKIP(return, "no edu device");
	ASSERT_EQ(EINVAL, error);
	SKIP(return, "p2pdma has no way between the devices: a CPU of AMD, or a switch");
}

FIXTURE_TEARDOWN(dmabuf)
{
	clean_up(&self->bar, &self->mem, self->drv, self->edu);
}

#define EXPECT_REACHES(offset) do {					\
	const __u32 to_ = fresh(), from_ = fresh();			\
	const __u64 at_ = offset;					\
	struct test_edu_dma req_;					\
									\
	ASSERT_EQ(0, push(self->drv, TDB_DMA, at_, to_));		\
	EXPECT_EQ(TED_WORDS, same_words(self->mem.map + at_, to_));	\
	set_words(self->mem.map + at_, from_);				\
	ASSERT_EQ(0, pull(self->drv, TDB_DMA, at_, &req_));		\
	EXPECT_EQ(TED_WORDS, same(&req_, from_));			\
} while (0)

/* The first and last bytes, and nothing beside them */
TEST_F_TIMEOUT(dmabuf, dma, MINUTES(2))
{
	const __u64 bytes = SZ_2M + SZ_4K, end = bytes - TED_BYTES;
	struct test_edu_import req;
	const __u32 guard = fresh();
	int buf = export_part(&self->mem, bytes);

	ASSERT_LE(0, buf) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(bytes, lseek(buf, 0, SEEK_END));
	EXPECT_EQ(FD_CLOEXEC, fcntl(buf, F_GETFD));
	ASSERT_EQ(0, attach(self->drv, buf, TDB_NOW, &req));
	EXPECT_EQ(bytes, req.bytes);
	set_words(self->mem.map + bytes, guard);
	EXPECT_REACHES(0);
	EXPECT_REACHES(SZ_2M - TED_BYTES / 2);
	EXPECT_REACHES(end);
	EXPECT_EQ(TED_WORDS, same_words(self->mem.map + bytes, guard));
	/* The importer keeps the dma-buf, another import takes its place. */
	close(buf);
	EXPECT_REACHES(0);
	buf = export_part(&self->mem, SZ_4K);
	ASSERT_LE(0, buf);
	ASSERT_EQ(0, attach(self->drv, buf, TDB_NOW, &req));
	EXPECT_EQ(SZ_4K, req.bytes);
	EXPECT_REACHES(SZ_4K - TED_BYTES);
	EXPECT_EQ(EINVAL, push(self->drv, TDB_DMA, SZ_4K, 0));
	close(buf);
}

TEST_F(dmabuf, refused)
{
	const bool iopmem = variant->dev == DEV_IOPMEM;
	const int fd = iopmem ? self->mem.file : self->mem.p2pmem;
	const __u64 start = iopmem ? START : (__u64)self->mem.map;
	const __u64 last = iopmem ? self->bar.size - SZ_4K : start + BYTES - SZ_4K;
	const struct { __u64 start, bytes; int open_flags, flags, error; } bad[] = {
		{ start, 0, O_RDWR, 0, EINVAL },
		{ start + 1, SZ_4K, O_RDWR, 0, EINVAL },
		{ start, SZ_4K + 1, O_RDWR, 0, EINVAL },
		{ start, SZ_4K - 1, O_RDWR, 0, EINVAL },
		{ last, 2 * SZ_4K, O_RDWR, 0, EINVAL },
		{ last + SZ_4K, SZ_4K, O_RDWR, 0, EINVAL },
		{ start, -SZ_4K, O_RDWR, 0, EINVAL },
		{ -SZ_4K, 2 * SZ_4K, O_RDWR, 0, EINVAL },
		{ start, SZ_4K, O_RDWR | O_TRUNC, 0, EINVAL },
		{ start, SZ_4K, O_RDWR, 1, EINVAL },
	};
	int buf, ro;

	for (int i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-1, export_at(fd, bad[i].start, bad[i].bytes, bad[i].open_flags,
					bad[i].flags)) TH_LOG("%d", i);
		EXPECT_EQ(bad[i].error, errno) TH_LOG("%d", i);
	}
	buf = export_at(fd, last, SZ_4K, O_RDWR, 0);
	ASSERT_LE(0, buf);
	EXPECT_EQ(0, fcntl(buf, F_GETFD));
	/* Importers that cannot let go of it, or cannot reach it */
	EXPECT_EQ(EOPNOTSUPP, import(self->drv, buf, TDB_DEAF));
	EXPECT_EQ(EOPNOTSUPP, import(self->drv, buf, TDB_LOCAL));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, buf, 0));
	/* While the device does not decode its memory */
	ASSERT_EQ(0, import(self->drv, buf, TDB_NOW));
	ASSERT_TRUE(decode(self->bar.dev, false));
	EXPECT_EQ(-1, export_at(fd, start, SZ_4K, O_RDWR, 0));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(ENODEV, map_import(self->drv, &(struct test_edu_import) {}));
	ASSERT_TRUE(decode(self->bar.dev, true));
	close(buf);

	if (iopmem) {
		ro = open(self->bar.node, O_RDONLY);
		EXPECT_EQ(-1, export_at(ro, start, SZ_4K, O_RDWR, 0));
		EXPECT_EQ(EBADF, errno);
		EXPECT_EQ(-1, ioctl(self->mem.file, P2PMEM_EXPORT, NULL));
		EXPECT_EQ(EFAULT, errno);
		close(ro);
	} else {
		char *anon = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		EXPECT_EQ(-1, export_at(fd, (__u64)anon, SZ_4K, O_RDWR, 0));
		EXPECT_EQ(EINVAL, errno);
		munmap(anon, SZ_4K);
	}
}

/* Unbinding takes it away, from an importer that needs a while for it, too. */
TEST_F_TIMEOUT(dmabuf, unbind, MINUTES(3))
{
	const __u64 from = variant->dev == DEV_IOPMEM ? START : 0;
	struct timespec begin;
	char path[96], *bar;
	int fd;

	for (int how = TDB_NOW; how <= TDB_LATE; how++) {
		struct test_edu_import req, now;
		const __u32 old = fresh();
		int buf = export_part(&self->mem, BYTES);
		int other = export_part(&self->mem, SZ_4K);
		long ms;

		ASSERT_LE(0, buf);
		ASSERT_LE(0, other);
		ASSERT_EQ(0, attach(self->drv, buf, how, &req));
		EXPECT_REACHES(2 * SZ_2M);
		clock_gettime(CLOCK_MONOTONIC, &begin);
		release_bar(&self->bar);
		ms = ns_since(&begin) / 1000000;
		if (how == TDB_LATE)
			EXPECT_LE(TDB_LATE_MS * 9 / 10, ms);
		ASSERT_EQ(0, state(self->drv, &now));
		EXPECT_EQ(0, now.mapped);
		EXPECT_EQ(1, now.notified);
		EXPECT_EQ(ENODEV, push(self->drv, TDB_DMA, 0, fresh()));
		EXPECT_EQ(ENODEV, map_import(self->drv, &now));
		EXPECT_EQ(ENODEV, import(self->drv, other, TDB_NOW));
		EXPECT_EQ(-1, export_part(&self->mem, SZ_4K));

		/* With an IOMMU, the address leads nowhere. */
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource2", self->bar.dev);
		fd = open(path, O_RDWR);
		bar = mmap(NULL, from + BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		ASSERT_NE(MAP_FAILED, bar);
		close(fd);
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", self->edu);
		if (!access(path, F_OK)) {
			set_words(bar + from, old);
			EXPECT_EQ(0, push(self->drv, TED_DMA, req.dma, fresh()));
			EXPECT_EQ(TED_WORDS, same_words(bar + from, old));
		}
		munmap(bar, from + BYTES);
		close(other);
		close(buf);
		put_memory(&self->mem);
		ASSERT_EQ(0, get_memory(&self->bar, &self->mem));
	}
	EXPECT_EQ(self->available, free_bytes(&self->bar));
}

struct load {
	int drv, pushes, error;
};

static void *push_on(void *arg)
{
	struct load *load = arg;

	while (!load->error) {
		load->error = push(load->drv, TDB_DMA, load->pushes % 4 * SZ_1M, fresh());
		load->pushes += !load->error;
	}
	return NULL;
}

/* While the device writes it without a pause */
TEST_F_TIMEOUT(dmabuf, unbind_under_load, MINUTES(3))
{
	for (int i = 0; i < 3; i++) {
		struct load load = { .drv = self->drv };
		struct test_edu_import req;
		int buf = export_part(&self->mem, BYTES);
		pthread_t thread;

		ASSERT_LE(0, buf);
		ASSERT_EQ(0, attach(self->drv, buf, i % 2 ? TDB_LATE : TDB_NOW, &req));
		ASSERT_EQ(0, pthread_create(&thread, NULL, push_on, &load));
		usleep(700000 + i * 130000);
		release_bar(&self->bar);
		pthread_join(thread, NULL);
		EXPECT_EQ(ENODEV, load.error);
		EXPECT_LT(0, load.pushes);
		close(buf);
		put_memory(&self->mem);
		ASSERT_EQ(0, get_memory(&self->bar, &self->mem));
	}
}

/* A reset of the device does, for iopmem: mappings and dma-bufs; both can be had anew. */
TEST_F_TIMEOUT(dmabuf, reset, MINUTES(2))
{
	struct test_edu_import req, now;
	char path[96];
	int buf;

	if (variant->dev != DEV_IOPMEM)
		SKIP(return, "what is allocated belongs to the driver");
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", self->bar.dev);
	if (access(path, W_OK))
		SKIP(return, "the device has no reset");
	buf = export_part(&self->mem, BYTES);
	ASSERT_LE(0, buf);
	ASSERT_EQ(0, attach(self->drv, buf, TDB_NOW, &req));
	EXPECT_REACHES(0);
	ASSERT_EQ(0, write_file(path, "1"));
	ASSERT_EQ(0, state(self->drv, &now));
	EXPECT_EQ(0, now.mapped);
	EXPECT_EQ(1, now.notified);
	EXPECT_EQ(ENODEV, map_import(self->drv, &now));
	close(buf);
	buf = export_part(&self->mem, BYTES);
	ASSERT_LE(0, buf);
	ASSERT_EQ(0, attach(self->drv, buf, TDB_NOW, &req));
	EXPECT_REACHES(2 * SZ_2M);
	close(buf);
}

/* What was allocated stays so, for as long as the mapping or the dma-buf is there. */
TEST_F_TIMEOUT(dmabuf, lifetime, MINUTES(2))
{
	struct test_edu_import req;
	char *part;
	int buf;

	if (variant->dev != DEV_P2PMEM)
		SKIP(return, "nothing is allocated");
	/* A folio of which the dma-buf has one page only */
	buf = export_at(self->mem.p2pmem, (__u64)self->mem.map + SZ_2M, SZ_4K, O_RDWR, 0);
	ASSERT_LE(0, buf);
	ASSERT_EQ(0, attach(self->drv, buf, TDB_NOW, &req));
	part = self->mem.map + SZ_2M;
	set_words(part, 0x1234);
	EXPECT_EQ(0, madvise(self->mem.map, BYTES, MADV_REMOVE));
	EXPECT_GT(self->available + BYTES, free_bytes(&self->bar));
	EXPECT_EQ(-1, export_at(self->mem.p2pmem, (__u64)part, SZ_4K, O_RDWR, 0));
	EXPECT_EQ(EFAULT, errno);
	put_memory(&self->mem);
	EXPECT_GT(self->available + BYTES, free_bytes(&self->bar));
	EXPECT_LE(self->available + SZ_2M, free_bytes(&self->bar));
	EXPECT_EQ(0, push(self->drv, TDB_DMA, 0, fresh()));
	close(buf);
	EXPECT_EQ(0, push(self->drv, TDB_DMA, 0, fresh()));
	EXPECT_EQ(0, drop(self->drv));
	/* The file of the dma-buf is released by a task work. */
	for (int i = 0; i < 100 && free_bytes(&self->bar) != self->available + BYTES; i++)
		usleep(10000);
	EXPECT_EQ(self->available + BYTES, free_bytes(&self->bar));
}

/*
 * A dma-buf whose last file is closed, but which is kept by O_PATH: unbinding does not
 * wait for it, nor look at the file, whose memory may be another's by then.
 */
TEST_F_TIMEOUT(dmabuf, path_only, MINUTES(2))
{
	for (int others = 0; others <= 64; others += 64) {
		int unbind = open("/sys/bus/pci/drivers/iopmem/unbind", O_WRONLY);
		int buf = export_part(&self->mem, BYTES), path, other[64];
		char name[32];

		ASSERT_LE(0, unbind);
		ASSERT_LE(0, buf);
		snprintf(name, sizeof(name), "/proc/self/fd/%d", buf);
		path = open(name, O_PATH);
		ASSERT_LE(0, path);
		close(buf);
		for (int i = 0; i < others; i++)
			other[i] = open("/dev/null", O_RDONLY);
		EXPECT_LT(0, write(unbind, self->bar.dev, strlen(self->bar.dev)));
		close(unbind);
		for (int i = 0; i < others; i++)
			EXPECT_EQ(0, close(other[i]));
		EXPECT_EQ(-1, export_part(&self->mem, SZ_4K));
		close(path);
		put_memory(&self->mem);
		ASSERT_EQ(0, get_memory(&self->bar, &self->mem));
		EXPECT_EQ(self->available, free_bytes(&self->bar));
	}
}

/* Who may not write the memory does not get it. */
TEST_F(dmabuf, read_only)
{
	char path[96], *map;
	int fd;

	if (variant->dev != DEV_P2PMEM)
		SKIP(return, "see refused");
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/p2pmem/allocate", self->bar.dev);
	fd = open(path, O_RDONLY);
	ASSERT_LE(0, fd);
	map = mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(-1, export_at(self->mem.p2pmem, (__u64)map, SZ_4K, O_RDWR, 0));
	EXPECT_EQ(EACCES, errno);
	munmap(map, SZ_4K);
	close(fd);
}

/* In an IOAS, by leaves as large as fit; gone when it is taken away */
TEST_F_TIMEOUT(dmabuf, iommufd, MINUTES(2))
{
	const __u64 bytes = variant->dev == DEV_IOPMEM ? SZ_1G + SZ_4K : BYTES;
	struct vfio fd = { .device = -1, .container = -1, .group = -1 };
	struct io_table table = {};
	__u64 iova = 0, pa = 0;
	__u32 ioas = 0;
	int buf;

	if (variant->dev == DEV_IOPMEM) {
		pa = self->bar.start + SZ_4K;
		buf = export_at(self->mem.file, SZ_4K, bytes, O_RDWR, 0);
		if (self->bar.size < bytes + SZ_4K)
			SKIP(return, "the BAR is too small");
	} else {
		buf = export_part(&self->mem, bytes);
	}
	ASSERT_LE(0, buf);
	ASSERT_EQ(0, bind_device(self->edu, "vfio-pci"));
	if (!open_cdev_of(self->edu, &fd) || attach_ioas(&fd, &ioas)) {
		close_vfio(&fd);
		SKIP(return, "no IOMMU, or no iommufd");
	}
	ASSERT_EQ(0, ioas_map_file(&fd, ioas, buf, 0, bytes, &iova));
	if (read_io_table_of(self->edu, &table)) {
		EXPECT_EQ(bytes, io_mapped(&table));
		if (pa) {
			EXPECT_TRUE(is_mapped(&table, iova, bytes, pa));
			EXPECT_EQ(pa % SZ_2M, iova % SZ_2M);
		}
	}
	release_bar(&self->bar);
	if (table.nr) {
		ASSERT_TRUE(read_io_table_of(self->edu, &table));
		EXPECT_EQ(0, io_mapped(&table));
	}
	EXPECT_EQ(ENODEV, ioas_map_file(&fd, ioas, buf, 0, bytes, &iova));
	free(table.entry);
	close_vfio(&fd);
	close(buf);
}

TEST_HARNESS_MAIN
