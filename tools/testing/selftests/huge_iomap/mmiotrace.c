// SPDX-License-Identifier: GPL-2.0
/*
 * mmiotrace sees accesses to an ioremap area through leaves of every size.
 */
#include "huge_iomap_util.h"

#include "kselftest_harness.h"

#define TRACING		"/sys/kernel/tracing/"

FIXTURE(mmiotrace) {
	int fd;
	struct test_huge_iomap_bar bar;
	/* A probe of n pages takes n * n / 16 steps, with interrupts disabled. */
	bool small_pages;
};

FIXTURE_SETUP(mmiotrace)
{
	self->fd = open_driver();
	if (self->fd < 0 && errno == ENOENT)
		SKIP(return, "no " DEVICE ", no ivshmem device, or another driver has it");
	ASSERT_GE(self->fd, 0) TH_LOG(DEVICE ": %s", strerror(errno));
	ASSERT_EQ(0, ioctl(self->fd, THI_BAR, &self->bar));
	self->small_pages = max_leaf() == THI_4K;
	if (!file_has(TRACING "available_tracers", "mmiotrace"))
		SKIP(return, "no mmiotrace in this kernel");
	ASSERT_EQ(0, write_file(TRACING "current_tracer", "mmiotrace"));
}

FIXTURE_TEARDOWN(mmiotrace)
{
	write_file(TRACING "current_tracer", "nop");
	if (self->fd >= 0)
		close(self->fd);
}

/* One line "W 4 <time> <id> <physical address> <value> ..." in the trace */
static bool traced(char rw, __u64 phys, __u32 value)
{
	char width, want[64];
	FILE *f = fopen(TRACING "trace", "r");
	bool found = false;
	char *line = NULL;
	size_t len = 0;

	snprintf(want, sizeof(want), " 0x%llx 0x%x ", phys, value);
	while (f && !found && getline(&line, &len, f) > 0)
		found = line[0] == rw && sscanf(line + 1, " %c", &width) == 1 &&
			width == '4' && strstr(line, want);
	free(line);
	if (f)
		fclose(f);
	return found;
}

TEST_F_TIMEOUT(mmiotrace, small_pages, MINUTES(2))
{
	const __u64 at[] = { 0, SZ_4K - 4, SZ_4K, 2 * SZ_4K, 3 * SZ_4K - 4 };
	struct test_huge_iomap_map map;
	struct test_huge_iomap_unmap unmap;

	ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, SZ_1M, 3 * SZ_4K, &map));
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		ASSERT_EQ(0, thi_write(self->fd, map.handle, at[i], 0xabc00 + i));
		EXPECT_TRUE(traced('W', self->bar.start + SZ_1M + at[i], 0xabc00 + i))
			TH_LOG("write at %#llx", at[i]);
	}
	ASSERT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));
	EXPECT_EQ(0, unmap.left);
}

TEST_F_TIMEOUT(mmiotrace, leaves_of_every_size, MINUTES(2))
{
	/* Head of 4K pages, 2M blocks, then one 1G block, and a tail of both */
	__u64 offset = SZ_1G - SZ_2M - SZ_4K, bytes = SZ_1G + 2 * SZ_2M + 3 * SZ_4K;
	const __u64 at[] = {
		0, SZ_4K, SZ_4K + SZ_1M, SZ_4K + SZ_2M, SZ_4K + SZ_2M + SZ_1G / 2,
		SZ_4K + SZ_2M + SZ_1G, SZ_4K + 2 * SZ_2M + SZ_1G, bytes - 4,
	};
	struct test_huge_iomap_map map;
	struct test_huge_iomap_unmap unmap;
	__u32 value;

	if (self->small_pages)
		SKIP(return, "4 KiB leaves only: a probe of a GiB takes too long");

	ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, offset, bytes, &map));
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		ASSERT_EQ(0, thi_write(self->fd, map.handle, at[i], 0xabc00 + i));
		ASSERT_EQ(0, thi_read(self->fd, map.handle, at[i], &value));
		EXPECT_EQ(0xabc00 + i, value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		__u64 phys = self->bar.start + offset + at[i];

		EXPECT_TRUE(traced('W', phys, 0xabc00 + i))
			TH_LOG("write at %#llx", at[i]);
		EXPECT_TRUE(traced('R', phys, 0xabc00 + i))
			TH_LOG("read at %#llx", at[i]);
	}
	ASSERT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));
	EXPECT_EQ(0, unmap.left);
}

TEST_F_TIMEOUT(mmiotrace, aligned_gigabyte, MINUTES(2))
{
	struct test_huge_iomap_map map;
	struct test_huge_iomap_unmap unmap;

	if (self->small_pages)
		SKIP(return, "4 KiB leaves only: a probe of a GiB takes too long");

	/* The first leaf is the largest one; the tail has smaller ones. */
	ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, 0, SZ_1G + SZ_2M + SZ_4K, &map));
	ASSERT_EQ(0, thi_write(self->fd, map.handle, SZ_1G / 2, 0x1111));
	ASSERT_EQ(0, thi_write(self->fd, map.handle, SZ_1G + SZ_1M, 0x2222));
	ASSERT_EQ(0, thi_write(self->fd, map.handle, SZ_1G + SZ_2M, 0x3333));
	EXPECT_TRUE(traced('W', self->bar.start + SZ_1G / 2, 0x1111));
	EXPECT_TRUE(traced('W', self->bar.start + SZ_1G + SZ_1M, 0x2222));
	EXPECT_TRUE(traced('W', self->bar.start + SZ_1G + SZ_2M, 0x3333));
	ASSERT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));
	EXPECT_EQ(0, unmap.left);
}

/* An area that begins inside of its first leaf */
TEST_F_TIMEOUT(mmiotrace, begins_inside, MINUTES(2))
{
	const __u64 bytes = self->small_pages ? SZ_4K : SZ_1G + SZ_2M;
	struct test_huge_iomap_map map;
	struct test_huge_iomap_unmap unmap;

	ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, 16, bytes, &map));
	ASSERT_EQ(0, thi_write(self->fd, map.handle, 0, 0x4444));
	ASSERT_EQ(0, thi_write(self->fd, map.handle, bytes / 2, 0x5555));
	EXPECT_TRUE(traced('W', self->bar.start + 16, 0x4444));
	EXPECT_TRUE(traced('W', self->bar.start + 16 + bytes / 2, 0x5555));
	ASSERT_EQ(0, thi_unmap(self->fd, map.handle, &unmap));
	EXPECT_EQ(0, unmap.left);
}

TEST_HARNESS_MAIN
