// SPDX-License-Identifier: GPL-2.0
/*
 * Runs in the guest: map and unmap parts of the BAR twice, in the kernel and by
 * mmap(), and print one JSON object a line. Under QEMU's -icount shift=0 the TSC
 * counts guest instructions.
 *
 *   bench KERNEL [sizes in MiB...]
 */
#include "../build/linux/tools/testing/selftests/huge_iomap/huge_iomap_user.h"

#include <x86intrin.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void one(int fd, const char *kernel, __u64 offset, __u64 bytes,
		const char *place)
{
	struct test_huge_iomap_leaves leaves;
	struct test_huge_iomap_unmap unmap;
	struct test_huge_iomap_map map;
	__u64 first_map = 0, first_unmap = 0;

	/* The first round allocates page tables, which stay for the second. */
	for (int round = 0; round < 2; round++) {
		if (ioctl(fd, THI_PURGE))
			die("purge");
		if (thi_map(fd, THI_IOREMAP, offset, bytes, &map) ||
		    thi_leaves(fd, map.handle, &leaves) ||
		    thi_unmap(fd, map.handle, &unmap))
			die("map");
		if (leaves.wrong || unmap.left) {
			fprintf(stderr, "a wrong mapping\n");
			exit(1);
		}
		if (!round) {
			first_map = map.ticks;
			first_unmap = unmap.ticks;
		}
	}
	/* The PUD table is shared with other areas, and counted here. */
	printf("{\"path\": \"ioremap\", \"kernel\": \"%s\", \"place\": \"%s\", "
	       "\"offset\": %llu, \"bytes\": %llu, "
	       "\"first_map_instructions\": %llu, \"first_unmap_instructions\": %llu, "
	       "\"map_instructions\": %llu, \"unmap_instructions\": %llu, "
	       "\"leaves_4k\": %llu, \"leaves_2m\": %llu, \"leaves_1g\": %llu, "
	       "\"table_kib\": %llu}\n",
	       kernel, place, offset, bytes, first_map, first_unmap, map.ticks,
	       unmap.ticks, leaves.nr[THI_4K], leaves.nr[THI_2M],
	       leaves.nr[THI_1G], (leaves.tables + 1) * 4);
	fflush(stdout);
}

/*
 * mmap() of a file, at an address of the kernel's choice, or at one that is a
 * multiple of 1 GiB
 */
static void user(const char *kernel, const char *path, const char *place, int fd,
		 __u64 offset, __u64 bytes)
{
	const bool any = !strcmp(place, "any");
	struct user_leaves leaves;
	__u64 ticks[2][3];
	long before, after;
	char *va;

	char *at = any ? NULL : reserve(bytes);

	for (int round = 0; round < 2; round++) {
		before = vm_pte("/proc/self/status");
		ticks[round][0] = __rdtsc();
		va = mmap(at, bytes, PROT_READ | PROT_WRITE,
			  MAP_SHARED | (any ? 0 : MAP_FIXED), fd, offset);
		ticks[round][1] = __rdtsc();
		if (va == MAP_FAILED || !user_leaves(va, bytes, &leaves))
			die("mmap");
		after = vm_pte("/proc/self/status");
		ticks[round][0] = ticks[round][1] - ticks[round][0];
		ticks[round][1] = __rdtsc();
		munmap(va, bytes);
		ticks[round][2] = __rdtsc() - ticks[round][1];
	}
	if (at)
		munmap(at, bytes);
	printf("{\"path\": \"%s\", \"kernel\": \"%s\", \"place\": \"%s\", "
	       "\"offset\": %llu, \"bytes\": %llu, "
	       "\"first_map_instructions\": %llu, \"first_unmap_instructions\": %llu, "
	       "\"map_instructions\": %llu, \"unmap_instructions\": %llu, "
	       "\"leaves_4k\": %llu, \"leaves_2m\": %llu, \"leaves_1g\": %llu, "
	       "\"table_kib\": %ld}\n",
	       path, kernel, place, offset, bytes, ticks[0][0], ticks[0][2], ticks[1][0], ticks[1][2],
	       leaves.bytes[THI_4K] / SZ_4K, leaves.bytes[THI_2M] / SZ_2M,
	       leaves.bytes[THI_1G] / SZ_1G, after - before);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	int fd = open(DEVICE, O_RDWR);
	int res = open(PCI_DEVICE "/resource2", O_RDWR);
	static const int gib[] = { 1, 16, 256, 1024 };
	struct test_huge_iomap_bar bar;

	if (argc < 2)
		return 2;
	if (res < 0)
		die("resource2");
	if (fd < 0 || ioctl(fd, THI_BAR, &bar))
		die(DEVICE);
	for (int i = 2; i < argc; i++) {
		__u64 bytes = strtoull(argv[i], NULL, 0) * SZ_1M;

		if (bytes > bar.bytes)
			continue;
		one(fd, argv[1], 0, bytes, "aligned");
		/* Odd by 1 MiB; the full size loses that at its start. */
		one(fd, argv[1], SZ_1M,
		    bytes == bar.bytes ? bytes - SZ_1M : bytes, "odd");
		user(argv[1], "mmap", "any", res, 0, bytes);
	}
	/* Page tables for 1 TiB of pages do not fit in the guest. */
	for (int i = 0; i < (strcmp(argv[1], "base") ? 4 : 3); i++)
		user(argv[1], "range", "aligned", fd, THI_FAR, gib[i] * SZ_1G);
	return 0;
}
