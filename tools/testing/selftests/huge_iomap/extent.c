// SPDX-License-Identifier: GPL-2.0
/*
 * A file that mmap() replaces by another: the mapping is placed by what the file says
 * that was opened, and has leaves as large as any.
 */
#include "huge_iomap_user.h"

#include <sys/wait.h>

#include "kselftest_harness.h"

FIXTURE(extent) {
	struct test_huge_iomap_bar bar;
	int fd;
};

FIXTURE_SETUP(extent)
{
	self->fd = open_driver();
	if (self->fd < 0)
		SKIP(return, "no " DEVICE ", no ivshmem device, or another driver has it");
	ASSERT_EQ(0, ioctl(self->fd, THI_BAR, &self->bar));
}

FIXTURE_TEARDOWN(extent)
{
	close(self->fd);
}

TEST_F_TIMEOUT(extent, replaced, MINUTES(2))
{
	/* At any offset: 1 GiB from the second GiB on, and 2 MiB before and after it */
	const __u64 off = SZ_1G - SZ_2M, bytes = SZ_1G + 2 * SZ_2M;
	const int max = option_off() ? THI_4K : user_max_leaf();
	struct user_leaves l;
	__u32 value;
	char *p;
	int status;
	pid_t pid;

	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, THE_MMAP + off);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_TRUE(file_has("/proc/self/maps", "[test_huge_map]"));
	EXPECT_EQ((self->bar.start + off) % leaf_sizes[max], (unsigned long)p % leaf_sizes[max]);
	for (__u64 at = 0; at < bytes; at += SZ_2M)
		store(p + at, 0x12340000 + at / SZ_2M);
	load(p + bytes - SZ_4K);

	ASSERT_TRUE(user_leaves(p, bytes, &l));
	if (max == THI_1G) {
		EXPECT_EQ(SZ_1G, l.bytes[THI_1G]);
		EXPECT_EQ(2 * SZ_2M, l.bytes[THI_2M]);
	} else if (!option_off()) {
		EXPECT_EQ(bytes, l.bytes[max]);
	}
	EXPECT_EQ(bytes, l.bytes[THI_4K] + l.bytes[THI_2M] + l.bytes[THI_1G]);
	for (__u64 at = 0; at < bytes; at += SZ_2M) {
		ASSERT_EQ(0, thi_peek(self->fd, THI_IOREMAP, off + at, &value));
		ASSERT_EQ(0x12340000 + at / SZ_2M, value);
	}

	/* A child has it, and a part that is cut out takes no more along. */
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(load(p + bytes - SZ_2M) != 0x12340000 + bytes / SZ_2M - 1);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, munmap(p + SZ_2M + SZ_4K, SZ_4K));
	ASSERT_TRUE(user_leaves(p, bytes, &l));
	if (!option_off())
		EXPECT_EQ(bytes - SZ_4K, l.bytes[THI_4K] + l.bytes[THI_2M] + l.bytes[THI_1G]);
	EXPECT_EQ(0x12340001, load(p + SZ_2M));
	munmap(p, bytes);
}

/* A page of a 2 MiB block has another type: that page, and no other. */
TEST_F(extent, mixed_types)
{
	const __u64 off = SZ_1G + 7 * SZ_2M, odd = 5 * SZ_4K;
	int wc = open(PCI_DEVICE "/resource2_wc", O_RDWR);
	int wrong = 0;
	char *p, *q;

	if (access("/sys/kernel/debug/x86/pat_memtype_list", R_OK))
		SKIP(return, "no PAT");
	ASSERT_GE(wc, 0);
	q = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED, wc, off + odd);
	ASSERT_NE(MAP_FAILED, q);
	p = mmap(NULL, 2 * SZ_2M, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, THE_MMAP + off);
	ASSERT_NE(MAP_FAILED, p);
	for (__u64 at = 0; at < SZ_2M; at += SZ_4K)
		store(p + at, 0x23450000 + at / SZ_4K);
	for (__u64 at = 0; at < SZ_2M; at += SZ_4K) {
		struct test_huge_iomap_user req = {
			.addr = (unsigned long)p + at, .bytes = SZ_4K,
		};

		ASSERT_EQ(0, ioctl(self->fd, THI_USER, &req));
		wrong += req.type != (at == odd ? THI_WC : THI_UC_MINUS) ||
			 req.leaf_bytes[THI_4K] != SZ_4K;
	}
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(0x23450000 + odd / SZ_4K, load(q));
	munmap(p, 2 * SZ_2M);
	munmap(q, SZ_4K);
	close(wc);
}

/* What cannot be: beyond the BAR, and private */
TEST_F(extent, refused)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, 2 * SZ_4K, PROT_READ, MAP_SHARED, self->fd,
				   THE_MMAP + self->bar.bytes - SZ_4K));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SZ_4K, PROT_READ, MAP_PRIVATE, self->fd, THE_MMAP));
	EXPECT_EQ(EINVAL, errno);
}

TEST_HARNESS_MAIN
