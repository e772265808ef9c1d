// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI BAR mapped through vfio-pci: one page is cut out of a large leaf, and leaves
 * are no larger than the CPU and the MTRRs allow.
 */
#include "huge_iomap_vfio.h"

#include "kselftest_harness.h"

FIXTURE(vfio_leaf) {
	struct vfio fd;
	char *area;
	__u64 offset;		/* of the region in the file */
	int max;
};

FIXTURE_SETUP(vfio_leaf)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_BAR2_REGION_INDEX,
	};

	self->fd.device = -1;
	if (access("/sys/bus/pci/drivers/vfio-pci", F_OK))
		SKIP(return, "no vfio-pci: CONFIG_VFIO_PCI is not set");
	ASSERT_EQ(0, bind_to("vfio-pci"));
	ASSERT_TRUE(open_cdev(&self->fd)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, ioctl(self->fd.device, VFIO_DEVICE_GET_REGION_INFO, &info));
	self->offset = info.offset;
	self->max = fault_max_leaf();
	self->area = reserve(4 * SZ_1G);
	ASSERT_NE(NULL, self->area);
}

FIXTURE_TEARDOWN(vfio_leaf)
{
	if (self->fd.device < 0)
		return;
	munmap(self->area, 4 * SZ_1G);
	close_vfio(&self->fd);
	bind_to("\n");
}

#define map_region(at, bytes, from)					\
	mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,	\
	     self->fd.device, self->offset + (from))

enum cut { UNMAP, PROTECT, DONTFORK, LOCK, MOVE, MOVE_ALL, UNMAP_2M };

FIXTURE_VARIANT(vfio_leaf) { enum cut cut; };
FIXTURE_VARIANT_ADD(vfio_leaf, munmap) { .cut = UNMAP };
FIXTURE_VARIANT_ADD(vfio_leaf, munmap_2m) { .cut = UNMAP_2M };
FIXTURE_VARIANT_ADD(vfio_leaf, mprotect) { .cut = PROTECT };
FIXTURE_VARIANT_ADD(vfio_leaf, madvise) { .cut = DONTFORK };
FIXTURE_VARIANT_ADD(vfio_leaf, mlock) { .cut = LOCK };
FIXTURE_VARIANT_ADD(vfio_leaf, mremap) { .cut = MOVE };
FIXTURE_VARIANT_ADD(vfio_leaf, mremap_all) { .cut = MOVE_ALL };

TEST_F(vfio_leaf, cut)
{
	char *va = self->area, *page = va + 77 * SZ_2M + 5 * SZ_4K;
	char *to = self->area + 2 * SZ_1G + SZ_4K;
	struct user_leaves leaves;
	__u32 v;

	ASSERT_EQ(va, map_region(va, SZ_1G, 0));
	fill(va, 0, SZ_1G);
	*(__u32 *)page = 0x9a9e;
	ASSERT_TRUE(user_leaves(va, SZ_1G, &leaves));
	EXPECT_EQ(SZ_1G, leaves.bytes[self->max]);

	switch (variant->cut) {
	case UNMAP:
		ASSERT_EQ(0, munmap(page, SZ_4K));
		EXPECT_EQ(SIGSEGV, try_read(page, &v));
		break;
	case UNMAP_2M:
		ASSERT_EQ(0, munmap(va + SZ_1G - SZ_2M, SZ_2M));
		EXPECT_EQ(SIGSEGV, try_read(va + SZ_1G - SZ_4K, &v));
		EXPECT_EQ(0, differ(va, 0, 0, SZ_1G - SZ_2M));
		return;
	case PROTECT:
		ASSERT_EQ(0, mprotect(page, SZ_4K, PROT_READ));
		EXPECT_EQ(SIGSEGV, try_write(page, 1));
		EXPECT_EQ(0x9a9e, *(__u32 *)page);
		break;
	case DONTFORK:
		ASSERT_EQ(0, madvise(page, SZ_4K, MADV_DONTFORK));
		EXPECT_EQ(0x9a9e, *(__u32 *)page);
		break;
	case LOCK:
		ASSERT_EQ(0, mlock(page, SZ_4K));
		EXPECT_EQ(0x9a9e, *(__u32 *)page);
		break;
	case MOVE:
		ASSERT_EQ(to, mremap(page, SZ_4K, SZ_4K,
				     MREMAP_MAYMOVE | MREMAP_FIXED, to));
		EXPECT_EQ(SIGSEGV, try_read(page, &v));
		EXPECT_EQ(0x9a9e, *(__u32 *)to);
		break;
	case MOVE_ALL:
		ASSERT_EQ(to, mremap(va, SZ_1G, SZ_1G,
				     MREMAP_MAYMOVE | MREMAP_FIXED, to));
		EXPECT_EQ(SIGSEGV, try_read(page, &v));
		EXPECT_EQ(0x9a9e, *(__u32 *)(to + (page - va)));
		va = to;
	}
	EXPECT_EQ(0, differ(va, 0, 0, SZ_1G));
}

FIXTURE(vfio_type) {
	__u64 mtrr;		/* its base, or 0 */
};

FIXTURE_SETUP(vfio_type)
{
	__u64 base = bar_start() + SZ_1G + SZ_1G / 2;
	int err;

	if (access("/sys/bus/pci/drivers/vfio-pci", F_OK))
		SKIP(return, "no vfio-pci: CONFIG_VFIO_PCI is not set");
	err = set_mtrr(base, SZ_2M, "write-combining");
	if (err)
		SKIP(return, "no MTRR to set: %s", strerror(err));
	self->mtrr = base;
	ASSERT_EQ(0, bind_to("vfio-pci"));
}

FIXTURE_TEARDOWN(vfio_type)
{
	if (!self->mtrr)
		return;
	clear_mtrr(self->mtrr);
	bind_to("\n");
}

/* An MTRR for 2 MiB in the second GiB of the BAR, at 512 MiB */
TEST_F(vfio_type, mtrr_inside)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_BAR2_REGION_INDEX,
	};
	struct user_leaves leaves;
	char *va = reserve(2 * SZ_1G);
	struct vfio fd;

	ASSERT_TRUE(open_cdev(&fd));
	ASSERT_NE(NULL, va);
	ASSERT_EQ(0, ioctl(fd.device, VFIO_DEVICE_GET_REGION_INFO, &info));
	ASSERT_EQ(va, mmap(va, 2 * SZ_1G, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_FIXED, fd.device, info.offset + SZ_1G));
	fill(va, SZ_1G, 2 * SZ_1G);
	ASSERT_TRUE(user_leaves(va, SZ_1G, &leaves));
	EXPECT_EQ(0, leaves.bytes[THI_1G]);
	EXPECT_EQ(SZ_1G, leaves.bytes[fault_max_leaf() == THI_4K ? THI_4K : THI_2M]);
	EXPECT_EQ(0, differ(va, SZ_1G, 0, 2 * SZ_1G));
	munmap(va, 2 * SZ_1G);
	close_vfio(&fd);
}

TEST_HARNESS_MAIN
