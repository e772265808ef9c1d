// SPDX-License-Identifier: GPL-2.0
/*
 * The sample driver of Documentation/driver-api/pfnmap.rst: the leaves and the type of
 * its mappings, what mmap() refuses, and what is left when the driver goes.
 */
#include "huge_iomap_vfio.h"

#include <sys/stat.h>

#include "kselftest_harness.h"

#define NODE	"/dev/pfnmap_bar-" PCI_NAME
#define PARAM(name)	"/sys/module/pfnmap_bar/parameters/" name

FIXTURE(sample) {
	char *area;
	__u64 bytes;		/* of the BAR */
	int fd;
};

FIXTURE_SETUP(sample)
{
	struct stat st;

	if (access("/sys/bus/pci/drivers/pfnmap_bar", F_OK))
		SKIP(return, "no CONFIG_SAMPLE_PFNMAP");
	ASSERT_EQ(0, stat(PCI_DEVICE "/resource2", &st));
	self->bytes = st.st_size;
	self->area = reserve(2 * SZ_1G);
	ASSERT_NE(NULL, self->area);
	ASSERT_EQ(0, bind_to("pfnmap_bar"));
	self->fd = open(NODE, O_RDWR);
	ASSERT_GE(self->fd, 0) TH_LOG(NODE ": %s", strerror(errno));
}

FIXTURE_TEARDOWN(sample)
{
	close(self->fd);
	write_file(PARAM("own"), "0");
	write_file(PARAM("p2p"), "0");
	bind_to("\n");
}

/* The kernel chooses an address for the largest leaf, and a fault installs it. */
TEST_F_TIMEOUT(sample, leaves, MINUTES(2))
{
	const int max = user_max_leaf();
	struct user_leaves l;
	char *p;

	p = mmap(NULL, SZ_1G, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(0, (unsigned long)p % leaf_sizes[max]);
	store(p + SZ_2M, 0x5a);
	EXPECT_EQ(0x5a, load(p + SZ_2M));
	ASSERT_TRUE(dump_leaves(p, SZ_1G, &l));
	/* A fault installs one leaf, or the missing pages of one page table. */
	EXPECT_EQ(max == THI_1G ? SZ_1G : SZ_2M, l.bytes[max]);
	EXPECT_EQ(THI_WC, dump_type(p, SZ_1G));
	munmap(p, SZ_1G);
}

TEST_F(sample, refused)
{
	int ro = open(NODE, O_RDONLY);
	char *p;

	/* A shared mapping that cannot be written to is shared. */
	ASSERT_GE(ro, 0);
	p = mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, ro, 0);
	EXPECT_NE(MAP_FAILED, p);
	munmap(p, SZ_4K);
	close(ro);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_PRIVATE,
				   self->fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, self->fd,
				   self->bytes));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, 2 * SZ_4K, PROT_READ, MAP_SHARED, self->fd,
				   self->bytes - SZ_4K));
	EXPECT_EQ(EINVAL, errno);
}

/* Unbinding takes the mapping back, and no fault brings it back. */
TEST_F_TIMEOUT(sample, revoke, MINUTES(2))
{
	char *p = self->area, *q = p + SZ_1G;
	__u32 v;

	ASSERT_EQ(p, map_at(self->fd, 0, p, 0, SZ_1G));
	ASSERT_EQ(q, map_at(self->fd, 0, q, SZ_2M, SZ_2M));
	store(p, 1);
	store(q, 2);
	ASSERT_EQ(0, bind_to("\n"));
	EXPECT_EQ(SIGBUS, try_read(p, &v));
	EXPECT_EQ(SIGBUS, try_write(p + SZ_2M, 1));
	EXPECT_EQ(SIGBUS, try_read(q, &v));
	EXPECT_EQ(-1, open(NODE, O_RDWR));
	/* Who has the device next is not disturbed by the mappings that are left. */
	ASSERT_EQ(0, bind_to("pfnmap_bar"));
	EXPECT_EQ(SIGBUS, try_read(p, &v));
	munmap(p, SZ_1G);
	munmap(q, SZ_2M);
}

/* struct pages are write-combining, and go with the driver. */
TEST_F_TIMEOUT(sample, pages, MINUTES(2))
{
	static const char * const param[] = { PARAM("own"), PARAM("p2p") };
	const __u64 start = bar_start();

	for (int i = 0; i < ARRAY_SIZE(param); i++) {
		ASSERT_EQ(0, write_file(param[i], "1"));
		ASSERT_EQ(0, bind_to("pfnmap_bar"));
		EXPECT_NE(0, access(NODE, F_OK));
		EXPECT_EQ(i, !access(PCI_DEVICE "/p2pmem/allocate", F_OK));
		if (file_has("/proc/cpuinfo", " pat "))
			EXPECT_TRUE(pat_has(start, self->bytes, "write-combining"));
		ASSERT_EQ(0, bind_to("\n"));
		EXPECT_FALSE(pat_has(start, self->bytes, "write-combining"));
		ASSERT_EQ(0, write_file(param[i], "0"));
	}
}

TEST_HARNESS_MAIN
