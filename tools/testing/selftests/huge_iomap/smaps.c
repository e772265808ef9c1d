// SPDX-License-Identifier: GPL-2.0
/*
 * What smaps and smaps_rollup say of the leaves of a mapped PCI BAR, against what the
 * page tables have; and that looking changes nothing.
 */
#include "huge_iomap_vfio.h"

#include <sys/wait.h>

#include "kselftest_harness.h"

#define AREA		(8 * SZ_1G)
#define BYTES		(2 * SZ_1G + 3 * SZ_2M + 5 * SZ_4K)

FIXTURE(smaps) {
	char saved[16];
	struct vfio vfio;
	int fd;
	__u64 base;		/* where the BAR begins in the file */
	char *area;
};

FIXTURE_VARIANT(smaps) {
	const char *limit;
	bool vfio;		/* mapped by faults, else by remap_pfn_range() */
};

FIXTURE_VARIANT_ADD(smaps, driver_4k) { .limit = "4K" };
FIXTURE_VARIANT_ADD(smaps, driver_2m) { .limit = "2M" };
FIXTURE_VARIANT_ADD(smaps, driver_1g) { .limit = "1G" };
FIXTURE_VARIANT_ADD(smaps, vfio_4k) { .limit = "4K", .vfio = true };
FIXTURE_VARIANT_ADD(smaps, vfio_2m) { .limit = "2M", .vfio = true };
FIXTURE_VARIANT_ADD(smaps, vfio_1g) { .limit = "1G", .vfio = true };

FIXTURE_SETUP(smaps)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR2_REGION_INDEX,
	};

	self->fd = -1;
	self->vfio.device = -1;
	if (read_line(LIMIT, self->saved, sizeof(self->saved)) &&
	    write_file(LIMIT, variant->limit))
		SKIP(return, "nohugeiomap does not allow %s", variant->limit);
	if (variant->vfio) {
		ASSERT_EQ(0, bind_to("vfio-pci"));
		ASSERT_TRUE(open_group(&self->vfio)) TH_LOG("%s", strerror(errno));
		self->fd = self->vfio.device;
		ASSERT_EQ(0, ioctl(self->fd, VFIO_DEVICE_GET_REGION_INFO, &info));
		self->base = info.offset;
	} else {
		self->fd = open_driver();
		ASSERT_GE(self->fd, 0) TH_LOG(DEVICE ": %s", strerror(errno));
	}
	self->area = reserve(AREA);
	ASSERT_NE(NULL, self->area);
}

FIXTURE_TEARDOWN(smaps)
{
	if (self->saved[0])
		write_file(LIMIT, self->saved);
	if (self->vfio.device < 0) {
		close(self->fd);
		return;
	}
	munmap(self->area, AREA);
	close_vfio(&self->vfio);
	bind_to("\n");
}

/* What a file like smaps says of [va, va + bytes) */
struct said {
	__u64 leaves[THI_NR_LEAF];	/* bytes */
	__u64 anonymous;		/* bytes */
	int lines;			/* of leaves, a mapping has three */
};

static bool read_smaps(const char *path, const void *va, __u64 bytes, struct said *said)
{
	static const char * const keys[] = {
		[THI_4K] = "PfnPteMapped", [THI_2M] = "PfnPmdMapped",
		[THI_1G] = "PfnPudMapped",
	};
	const __u64 from = (unsigned long)va, to = from + bytes;
	FILE *f = fopen(path, "r");
	char *line = NULL;
	size_t len = 0;
	bool in = false;

	*said = (struct said) {};
	if (!f)
		return false;
	while (getline(&line, &len, f) > 0) {
		unsigned long long s, e, kib;
		char key[32];

		if (sscanf(line, "%llx-%llx ", &s, &e) == 2)
			in = s < to && e > from;
		if (!in || sscanf(line, "%31[A-Za-z_]: %llu kB", key, &kib) != 2)
			continue;
		if (!strcmp(key, "Anonymous"))
			said->anonymous += kib * 1024;
		for (int i = 0; i < THI_NR_LEAF; i++) {
			if (strcmp(key, keys[i]))
				continue;
			said->leaves[i] += kib * 1024;
			said->lines++;
		}
	}
	free(line);
	fclose(f);
	return true;
}

static struct said read_leaves(const void *va, __u64 bytes)
{
	struct said said;

	if (!read_smaps("/proc/self/smaps", va, bytes, &said))
		said.lines = -1;
	return said;
}

/* Does it say what the page tables have? */
static bool is_so(void *va, __u64 bytes, const struct said *said)
{
	struct user_leaves l;

	if (!user_leaves(va, bytes, &l))
		return false;
	for (int i = 0; i < THI_NR_LEAF; i++) {
		if (l.bytes[i] == said->leaves[i])
			continue;
		ksft_print_msg("%s: %llu bytes, not %llu\n", leaf_names[i],
			       l.bytes[i], said->leaves[i]);
		return false;
	}
	return true;
}

static bool smaps_by_other(const void *va, __u64 bytes, struct said *said)
{
	const pid_t parent = getpid();
	int pipes[2], status;
	char path[64];
	pid_t pid;
	bool good;

	if (pipe(pipes))
		return false;
	pid = fork();
	if (!pid) {
		snprintf(path, sizeof(path), "/proc/%d/smaps", parent);
		_exit(!read_smaps(path, va, bytes, said) ||
		      write(pipes[1], said, sizeof(*said)) != sizeof(*said));
	}
	close(pipes[1]);
	good = read(pipes[0], said, sizeof(*said)) == sizeof(*said);
	close(pipes[0]);
	return waitpid(pid, &status, 0) == pid && !status && good;
}

/* All that looks at page tables */
static bool look(void)
{
	static const char * const files[] = {
		"/proc/self/smaps", "/proc/self/smaps_rollup", "/proc/self/numa_maps",
		"/proc/self/maps",
	};
	char buf[4096];

	for (int i = 0; i < ARRAY_SIZE(files); i++) {
		int fd = open(files[i], O_RDONLY);

		if (fd < 0 && errno == ENOENT)
			continue;
		while (read(fd, buf, sizeof(buf)) > 0)
			;
		if (close(fd))
			return false;
	}
	return true;
}

/* By the process itself and by another one, and after all have looked */
static bool smaps_are_right(void *va, __u64 bytes)
{
	struct said said, other;

	return read_smaps("/proc/self/smaps", va, bytes, &said) &&
	       is_so(va, bytes, &said) && smaps_by_other(va, bytes, &other) &&
	       !memcmp(&said, &other, sizeof(said)) && look() && is_so(va, bytes, &said);
}

TEST_F_TIMEOUT(smaps, layouts, MINUTES(4))
{
	/* What faults map comes back by faults where it is cut, as on 7.3. */
	const bool dropped = variant->vfio && option_off();
	char *va = self->area + SZ_2M;
	struct said said;

	ASSERT_EQ(va, map_at(self->fd, self->base, va, SZ_2M, BYTES));
	if (variant->vfio) {
		/* Nobody has accessed it. */
		ASSERT_TRUE(read_smaps("/proc/self/smaps", va, BYTES, &said));
		EXPECT_EQ(3, said.lines);
		EXPECT_EQ(0, said.leaves[0] + said.leaves[1] + said.leaves[2]);
		load(va + SZ_1G);
		EXPECT_TRUE(smaps_are_right(va, BYTES));
		for (__u64 o = 0; o < BYTES; o += SZ_4K)
			load(va + o);
	}
	ASSERT_TRUE(read_smaps("/proc/self/smaps", va, BYTES, &said));
	EXPECT_EQ(3, said.lines);
	EXPECT_EQ(BYTES, said.leaves[0] + said.leaves[1] + said.leaves[2]);
	EXPECT_TRUE(smaps_are_right(va, BYTES));

	/* Not accessible is mapped all the same: whole leaves, and a part */
	ASSERT_EQ(0, mprotect(va, BYTES, PROT_NONE));
	EXPECT_EQ(0, memcmp(said.leaves, read_leaves(va, BYTES).leaves, sizeof(said.leaves)));
	ASSERT_EQ(0, mprotect(va, BYTES, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, mprotect(va + SZ_1G, SZ_2M, PROT_NONE));
	ASSERT_TRUE(read_smaps("/proc/self/smaps", va, BYTES, &said));
	EXPECT_EQ(9, said.lines);
	if (!dropped)
		EXPECT_EQ(BYTES, said.leaves[0] + said.leaves[1] + said.leaves[2]);
	ASSERT_EQ(0, mprotect(va + SZ_1G, SZ_2M, PROT_READ | PROT_WRITE));
	EXPECT_TRUE(smaps_are_right(va, BYTES));

	ASSERT_EQ(0, munmap(va + SZ_2M + SZ_4K, SZ_4K));
	ASSERT_TRUE(read_smaps("/proc/self/smaps", va, BYTES, &said));
	if (!dropped)
		EXPECT_EQ(BYTES - SZ_4K, said.leaves[0] + said.leaves[1] + said.leaves[2]);
	EXPECT_TRUE(smaps_are_right(va, BYTES));
	ASSERT_EQ(0, munmap(va, BYTES));
}

/* The sum of all mappings */
TEST_F_TIMEOUT(smaps, rollup, MINUTES(2))
{
	struct said sum, all, own;
	char *va = self->area + SZ_4K;
	struct timespec now;

	/* [vvar_vclock] is one, too: after that, its page is there if it ever is. */
	clock_gettime(CLOCK_MONOTONIC, &now);
	ASSERT_TRUE(read_smaps("/proc/self/smaps", NULL, -1ull, &own));
	ASSERT_EQ(va, map_at(self->fd, self->base, va, SZ_4K, 4 * SZ_2M));
	ASSERT_EQ(va + SZ_1G, map_at(self->fd, self->base, va + SZ_1G, 2 * SZ_4K, SZ_4K));
	for (__u64 o = 0; o < 4 * SZ_2M; o += SZ_4K)
		load(va + o);
	load(va + SZ_1G);
	ASSERT_TRUE(read_smaps("/proc/self/smaps", NULL, -1ull, &sum));
	ASSERT_TRUE(read_smaps("/proc/self/smaps_rollup", NULL, -1ull, &all));
	EXPECT_EQ(3, all.lines);
	EXPECT_EQ(own.leaves[THI_4K] + 4 * SZ_2M + SZ_4K,
		  all.leaves[THI_4K] + all.leaves[THI_2M] + all.leaves[THI_1G]);
	EXPECT_EQ(0, memcmp(sum.leaves, all.leaves, sizeof(sum.leaves)));
	munmap(va, 4 * SZ_2M);
	munmap(va + SZ_1G, SZ_4K);
}

/* Pages that a private mapping has copied are RAM. */
TEST_F_TIMEOUT(smaps, copied, MINUTES(2))
{
	const __u64 bytes = 2 * SZ_2M;
	int mem = open("/dev/mem", O_RDWR | O_SYNC);
	struct said said;
	char *va;

	ASSERT_GE(mem, 0);
	va = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, mem, bar_start());
	ASSERT_NE(MAP_FAILED, va);
	EXPECT_TRUE(smaps_are_right(va, bytes));
	store(va + SZ_2M + SZ_4K, 1);
	ASSERT_TRUE(read_smaps("/proc/self/smaps", va, bytes, &said));
	EXPECT_EQ(SZ_4K, said.anonymous);
	EXPECT_EQ(bytes - SZ_4K, said.leaves[0] + said.leaves[1] + said.leaves[2]);
	munmap(va, bytes);
	close(mem);
}

/* Others look while a VMM maps its BAR for DMA, again and again. */
TEST_F_TIMEOUT(smaps, while_dma_maps, MINUTES(2))
{
	const __u64 bytes = 2 * SZ_1G;
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .size = bytes, .iova = 8 * SZ_1G,
		.vaddr = (unsigned long)self->area,
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
	};
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .size = bytes, .iova = map.iova,
	};
	static const char * const files[] = { "smaps", "numa_maps", "smaps_rollup" };
	const pid_t parent = getpid();
	struct said before, after;
	char path[64], buf[4096];
	int status, pipes[2];
	pid_t pid;

	if (!variant->vfio)
		SKIP(return, "not a device of vfio");
	ASSERT_EQ(self->area, map_at(self->fd, self->base, self->area, 0, bytes));
	for (__u64 o = 0; o < bytes; o += SZ_4K)
		load(self->area + o);
	ASSERT_TRUE(read_smaps("/proc/self/smaps", self->area, bytes, &before));
	ASSERT_EQ(0, pipe(pipes));
	fcntl(pipes[0], F_SETFL, O_NONBLOCK);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		while (getppid() == parent) {
			for (int i = 0; i < ARRAY_SIZE(files); i++) {
				int fd;

				snprintf(path, sizeof(path), "/proc/%d/%s", parent, files[i]);
				fd = open(path, O_RDONLY);
				while (fd >= 0 && read(fd, buf, sizeof(buf)) > 0)
					;
				if (fd < 0 && i != 1)
					_exit(1);
				close(fd);
			}
			if (write(pipes[1], buf, 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	/* Until it has looked at all three times, and 20 times at least */
	for (int i = 0, looked = 0; i < 20 || looked < 3; i++) {
		ASSERT_LT(i, 100000);
		ASSERT_EQ(0, waitpid(pid, &status, WNOHANG));
		looked += read(pipes[0], buf, 1) == 1;
		EXPECT_EQ(0, ioctl(self->vfio.container, VFIO_IOMMU_MAP_DMA, &map));
		unmap.size = bytes;
		EXPECT_EQ(0, ioctl(self->vfio.container, VFIO_IOMMU_UNMAP_DMA, &unmap));
		EXPECT_EQ(bytes, unmap.size);
	}
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(read_smaps("/proc/self/smaps", self->area, bytes, &after));
	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
}

/*
 * What tools/mm/pfnmaps prints of this process, and its exit status; 127 if it, or
 * Python, is not there
 */
static int run_pfnmaps(const char *options, char *text, size_t len)
{
	char command[160];
	int status;
	size_t n;
	FILE *f;

	snprintf(command, sizeof(command),
		 "p=../../../mm/pfnmaps; [ -x $p ] || p=pfnmaps; $p %s %d 2>&1", options,
		 getpid());
	f = popen(command, "r");
	if (!f)
		return 127;
	n = fread(text, 1, len - 1, f);
	text[n] = 0;
	status = pclose(f);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* The line of a mapping, and the sentence that follows it, in one; NULL: there is none */
static const char *said_of(char *text, const void *va, char *out, size_t len)
{
	char want[32], *line, *save;
	bool in = false;

	snprintf(want, sizeof(want), "  %lx ", (unsigned long)va);
	*out = 0;
	text = strdup(text);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (in && strncmp(line, "    ", 4))
			break;
		in = in || !strncmp(line, want, strlen(want));
		/* It is folded: one blank for the beginning of a line */
		if (in)
			snprintf(out + strlen(out), len - strlen(out), " %s",
				 line + strspn(line, " "));
	}
	free(text);
	return *out ? out : NULL;
}

static bool has_word(const char *line, const char *word)
{
	if (line && strstr(line, word))
		return true;
	ksft_print_msg("no \"%s\" in: %s\n", word, line);
	return false;
}

/* A VMM maps two areas around a page for MSI-X, where it likes, and more. */
TEST_F_TIMEOUT(smaps, pfnmaps, MINUTES(4))
{
	const __u64 hole = SZ_1G + 17 * SZ_4K, bytes = 3 * SZ_1G;
	char text[8192], line[1024], word[96], *va[4];
	const int max = variant->vfio ? fault_max_leaf() : user_max_leaf();
	const int cpu = file_has("/proc/cpuinfo", " pdpe1gb") ? THI_1G : THI_2M;
	struct said said;
	int status;

	status = run_pfnmaps("", text, sizeof(text));
	if (status == 127)
		SKIP(return, "no tools/mm/pfnmaps, or no python3");
	ASSERT_EQ(0, status) TH_LOG("%s", text);
	EXPECT_EQ(NULL, said_of(text, self->area, line, sizeof(line)));
	/* At a congruent address, at one that is not, too small, and in pieces */
	va[0] = self->area;
	ASSERT_EQ(va[0], map_at(self->fd, self->base, va[0], 0, hole));
	va[1] = self->area + bytes;
	ASSERT_EQ(va[1], map_at(self->fd, self->base, va[1], hole + SZ_4K,
				bytes - hole - SZ_4K));
	va[2] = va[1] + bytes - SZ_1M;
	ASSERT_EQ(va[2], map_at(self->fd, self->base, va[2], SZ_4K, SZ_1M / 2));
	for (__u64 o = 0; o < hole; o += SZ_4K)
		load(va[0] + o);
	for (__u64 o = 0; o < bytes - hole - SZ_4K; o += SZ_4K)
		load(va[1] + o);
	for (__u64 o = 0; o < SZ_1M / 2; o += SZ_4K)
		load(va[2] + o);
	ASSERT_EQ(0, run_pfnmaps("", text, sizeof(text)));

	for (int i = 0; i < 3; i++) {
		const __u64 length = i == 0 ? hole : i == 1 ? bytes - hole - SZ_4K : SZ_1M / 2;

		ASSERT_TRUE(read_smaps("/proc/self/smaps", va[i], length, &said));
		ASSERT_NE(NULL, said_of(text, va[i], line, sizeof(line)));
		snprintf(word, sizeof(word), " %12llu %12llu %12llu ", said.leaves[THI_4K] / 1024,
			 said.leaves[THI_2M] / 1024, said.leaves[THI_1G] / 1024);
		EXPECT_TRUE(has_word(line, word));
		EXPECT_TRUE(has_word(line, variant->vfio ? "0000:00:02.0 at 0x" : "test_huge_map"));
	}
	said_of(text, va[1], line, sizeof(line));
	if (file_has("/proc/cmdline", "nohugeiomap")) {
		EXPECT_TRUE(has_word(line, "nohugeiomap"));
	} else if (!option_off() && max < cpu) {
		/* That comes first. */
		EXPECT_TRUE(has_word(line, "the limit is "));
	} else if (variant->vfio) {
		EXPECT_TRUE(has_word(line, "past one that is congruent with the physical address"));
	}
	/* As large as this CPU has them */
	if (variant->vfio && max == cpu) {
		said_of(text, va[0], line, sizeof(line));
		EXPECT_EQ(NULL, strstr(line, "could be mapped")) TH_LOG("%s", line);
	}
	if (variant->vfio)
		EXPECT_TRUE(has_word(said_of(text, va[2], line, sizeof(line)),
				     "begins 4 KiB past a multiple of 2 MiB and no whole one"));

	/* What nobody has accessed */
	if (variant->vfio) {
		va[3] = va[1] + bytes;
		ASSERT_EQ(va[3], map_at(self->fd, self->base, va[3], SZ_2M, SZ_2M));
		ASSERT_EQ(0, run_pfnmaps("", text, sizeof(text)));
		EXPECT_TRUE(has_word(said_of(text, va[3], line, sizeof(line)),
				     "2 MiB of it are not mapped now"));
		munmap(va[3], SZ_2M);
	}
	ASSERT_EQ(0, run_pfnmaps("--json", text, sizeof(text)));
	snprintf(word, sizeof(word), "\"start\": %llu,", (__u64)(unsigned long)va[0]);
	EXPECT_TRUE(has_word(text, word));
	ASSERT_TRUE(read_smaps("/proc/self/smaps", va[0], hole, &said));
	snprintf(word, sizeof(word), "\"pte\": %llu,", said.leaves[THI_4K]);
	EXPECT_TRUE(has_word(text, word));
}

/* Programs that read smaps take the lines of the first mapping for those of all. */
TEST(same_lines)
{
	char first[2048] = "", keys[2048] = "", *line = NULL;
	FILE *f = fopen("/proc/self/smaps", "r");
	size_t len = 0;
	int nr = 0;

	ASSERT_NE(NULL, f);
	while (getline(&line, &len, f) > 0) {
		char key[32];

		if (sscanf(line, "%31[A-Za-z_]:", key) != 1 || !strchr(line, ':') ||
		    line[strlen(key)] != ':')
			continue;
		snprintf(keys + strlen(keys), sizeof(keys) - strlen(keys), "%s ", key);
		if (strcmp(key, "VmFlags"))
			continue;
		if (!nr++)
			strcpy(first, keys);
		EXPECT_STREQ(first, keys);
		*keys = 0;
	}
	EXPECT_GT(nr, 3);
	EXPECT_NE(NULL, strstr(first, "PfnPteMapped PfnPmdMapped PfnPudMapped "));
	free(line);
	fclose(f);
}

TEST_HARNESS_MAIN
