// SPDX-License-Identifier: GPL-2.0
/*
 * The policy for huge I/O mappings: /sys/kernel/mm/huge_iomap/limit and the boot
 * option nohugeiomap.
 */
#include "huge_iomap_util.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

FIXTURE(limit) {
	char saved[16];
	bool disabled;
	int fd;
};

FIXTURE_SETUP(limit)
{
	self->fd = -1;
	if (!read_line(LIMIT, self->saved, sizeof(self->saved)))
		SKIP(return, LIMIT " is not there: CONFIG_HUGE_IOMAP is not set");
	self->disabled = file_has("/proc/cmdline", "nohugeiomap");
	self->fd = open_driver();
	ASSERT_GE(self->fd, 0) TH_LOG(DEVICE ": %s", strerror(errno));
}

FIXTURE_TEARDOWN(limit)
{
	if (self->fd < 0)
		return;
	close(self->fd);
	write_file(LIMIT, self->saved);
}

TEST_F_TIMEOUT(limit, mode, MINUTES(2))
{
	struct stat st;

	ASSERT_EQ(0, stat(LIMIT, &st));
	EXPECT_EQ(0600, st.st_mode & 07777);
	EXPECT_EQ(0, st.st_uid);
}

TEST_F_TIMEOUT(limit, default_value, MINUTES(2))
{
	EXPECT_STREQ(self->disabled ? "4K" : "1G", self->saved);
}

TEST_F_TIMEOUT(limit, not_root, MINUTES(2))
{
	int status;
	pid_t pid = fork();

	ASSERT_GE(pid, 0);
	if (!pid) {
		if (setresuid(65534, 65534, 65534))
			_exit(1);
		_exit(open(LIMIT, O_RDONLY) < 0 && errno == EACCES &&
		      open(LIMIT, O_WRONLY) < 0 && errno == EACCES ? 0 : 2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F_TIMEOUT(limit, wrong_input, MINUTES(2))
{
	static const char * const wrong[] = {
		"", "\n", " ", "0", "1", "4096", "4k", "2m", "1g", "3M", "4M", "64K",
		"512G", "1T", "4K 2M", "2MB", " 2M", "2M ", "-1", "always", "2M\n\n",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	};
	const char *before = self->disabled ? "4K" : "2M";
	char now[16];

	ASSERT_EQ(0, write_file(LIMIT, before));
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		/* A write of nothing does not reach the file. */
		if (wrong[i][0]) {
			EXPECT_EQ(EINVAL, write_file(LIMIT, wrong[i]))
				TH_LOG("input '%s'", wrong[i]);
		}
		ASSERT_TRUE(read_line(LIMIT, now, sizeof(now)));
		EXPECT_STREQ(before, now) TH_LOG("input '%s'", wrong[i]);
	}
}

TEST_F_TIMEOUT(limit, read_back, MINUTES(2))
{
	char text[16], now[16];

	for (int i = 0; i < THI_NR_LEAF; i++) {
		int want = self->disabled && i > THI_4K ? EPERM : 0;

		EXPECT_EQ(want, write_file(LIMIT, leaf_names[i]));
		ASSERT_TRUE(read_line(LIMIT, now, sizeof(now)));
		EXPECT_STREQ(want ? "4K" : leaf_names[i], now);

		/* As echo writes it */
		snprintf(text, sizeof(text), "%s\n", leaf_names[i]);
		EXPECT_EQ(want, write_file(LIMIT, text));
	}
}

/* Each limit gives leaves up to its size, and live mappings stay as they are. */
TEST_F_TIMEOUT(limit, bounds_new_mappings, MINUTES(2))
{
	struct test_huge_iomap_map map[THI_NR_LEAF];
	struct test_huge_iomap_leaves before[THI_NR_LEAF], now;
	struct test_huge_iomap_unmap unmap;
	int nr = self->disabled ? 1 : THI_NR_LEAF;

	for (int i = 0; i < nr; i++) {
		struct ideal ideal;

		ASSERT_EQ(0, write_file(LIMIT, leaf_names[i]));
		ASSERT_EQ(0, thi_map(self->fd, THI_IOREMAP, SZ_1M, 2 * SZ_1G,
				     &map[i]));
		ASSERT_EQ(0, thi_leaves(self->fd, map[i].handle, &before[i]));
		ideal = ideal_leaves(map[i].va, SZ_1M, 2 * SZ_1G, max_leaf());
		EXPECT_LE(max_leaf(), i);
		for (int k = 0; k < THI_NR_LEAF; k++) {
			EXPECT_EQ(ideal.nr[k], before[i].nr[k])
				TH_LOG("limit %s: %s leaves", leaf_names[i],
				       leaf_names[k]);
		}
	}
	for (int i = 0; i < nr; i++) {
		ASSERT_EQ(0, thi_leaves(self->fd, map[i].handle, &now));
		EXPECT_EQ(0, memcmp(&now, &before[i], sizeof(now)));
		ASSERT_EQ(0, thi_unmap(self->fd, map[i].handle, &unmap));
		EXPECT_EQ(0, unmap.left);
	}
}

TEST_HARNESS_MAIN
