// SPDX-License-Identifier: GPL-2.0
/*
 * What a device reaches through the DMA API, and when it no longer does: at once if the
 * IOTLB is flushed strictly, after the flush queue has run if lazily, never without
 * translation. The test driver maps pages for QEMU's "edu" device, which copies.
 */
#include "huge_iomap_edu.h"

#include "kselftest_harness.h"

/* The flush queue of dma-iommu.c runs every 10 ms. A second is long enough for it. */
#define QUEUE_SECONDS	1

enum { PAGE, NEIGHBOUR, OTHER };

FIXTURE(dma_api) {
	int fd;
	char name[32], type[128], was[32];
};

FIXTURE_VARIANT(dma_api) {
	const char *type;
	int seconds;		/* from the unmap to the end of the translation */
	bool translated;
	unsigned int order;
};

FIXTURE_VARIANT_ADD(dma_api, strict) { "DMA", 0, true, 0 };
FIXTURE_VARIANT_ADD(dma_api, strict_2m) { "DMA", 0, true, 9 };
FIXTURE_VARIANT_ADD(dma_api, strict_odd) { "DMA", 0, true, 3 };
FIXTURE_VARIANT_ADD(dma_api, lazy) { "DMA-FQ", QUEUE_SECONDS, true, 0 };
FIXTURE_VARIANT_ADD(dma_api, lazy_2m) { "DMA-FQ", QUEUE_SECONDS, true, 9 };
FIXTURE_VARIANT_ADD(dma_api, passthrough) { "identity", 0, false, 0 };

/* "DMA", "DMA-FQ" or "identity": for the group of the device, whose driver is unbound */
FIXTURE_SETUP(dma_api)
{
	int error;

	self->fd = open("/dev/test_huge_map", O_RDWR);
	if (self->fd < 0)
		SKIP(return, "no CONFIG_TEST_HUGE_MAP");
	if (!find_pci("0x1234", "0x11e8", 0, self->name, sizeof(self->name)))
		SKIP(return, "no edu device");
	snprintf(self->type, sizeof(self->type),
		 "/sys/bus/pci/devices/%s/iommu_group/type", self->name);
	if (!read_line(self->type, self->was, sizeof(self->was)))
		SKIP(return, "no IOMMU");
	unbind_device(self->name);
	error = write_file(self->type, variant->type) ?: bind_device(self->name, "test_edu");
	if (error) {
		write_file(self->type, self->was);
		bind_device(self->name, "\n");
		/* Not all IOMMUs can be lazy. */
		ASSERT_TRUE(variant->seconds);
		SKIP(return, "the IOMMU has no %s", variant->type);
	}
}

FIXTURE_TEARDOWN(dma_api)
{
	if (self->was[0]) {
		unbind_device(self->name);
		write_file(self->type, self->was);
		bind_device(self->name, "\n");
	}
	if (self->fd >= 0)
		close(self->fd);
}

/* All of these: 0 or an errno */
static int map_page(int fd, int slot, int order, __u64 *dma)
{
	struct test_edu_page req = { .slot = slot, .order = order };

	if (ioctl(fd, TED_MAP, &req))
		return errno;
	*dma = req.dma;
	return 0;
}

static int unmap_page(int fd, int slot)
{
	struct test_edu_page req = { .slot = slot };

	return ioctl(fd, TED_UNMAP, &req) ? errno : 0;
}

/* How many words of the page are as a DMA, or set_words(), left them */
static int same_words(int fd, int slot, __u64 offset, __u32 value)
{
	int n = 0;

	for (int i = 0; i < TED_WORDS; i++) {
		struct test_edu_page req = { .slot = slot, .offset = offset + 4 * i };

		n += !ioctl(fd, TED_LOAD, &req) && req.value == value + i;
	}
	return n;
}

static int set_words(int fd, int slot, __u64 offset, __u32 value)
{
	for (int i = 0; i < TED_WORDS; i++) {
		struct test_edu_page req = {
			.slot = slot, .offset = offset + 4 * i, .value = value + i,
		};

		if (ioctl(fd, TED_STORE, &req))
			return errno;
	}
	return 0;
}

/* DMA in both directions at an offset of what is mapped at @dma */
#define EXPECT_REACHES(slot, dma, offset) do {				\
	const __u32 to_ = fresh(), from_ = fresh();			\
	const __u64 at_ = offset, dma_ = (dma) + at_;			\
	const int slot_ = slot;						\
	struct test_edu_dma req_;					\
									\
	ASSERT_EQ(0, push(self->fd, TED_DMA, dma_, to_));		\
	EXPECT_EQ(TED_WORDS, same_words(self->fd, slot_, at_, to_));	\
	ASSERT_EQ(0, set_words(self->fd, slot_, at_, from_));		\
	ASSERT_EQ(0, pull(self->fd, TED_DMA, dma_, &req_));		\
	EXPECT_EQ(TED_WORDS, same(&req_, from_));				\
} while (0)

#define EXPECT_BLOCKED(slot, dma, offset) do {				\
	const __u64 at_ = offset, dma_ = (dma) + at_;			\
	const __u32 old_ = fresh();					\
	const int slot_ = slot;						\
	struct test_edu_dma req_;					\
									\
	ASSERT_EQ(0, set_words(self->fd, slot_, at_, old_));		\
	ASSERT_EQ(0, push(self->fd, TED_DMA, dma_, fresh()));	\
	EXPECT_EQ(TED_WORDS, same_words(self->fd, slot_, at_, old_));	\
	ASSERT_EQ(0, pull(self->fd, TED_DMA, dma_, &req_));		\
	EXPECT_EQ(0, same(&req_, old_));				\
} while (0)

/* Both ends of what was unmapped; what lies beside it is not touched. */
TEST_F_TIMEOUT(dma_api, unmap, MINUTES(3))
{
	const __u64 end = (SZ_4K << variant->order) - TED_BYTES;
	__u64 dma = 0, neighbour = 0;

	ASSERT_EQ(0, map_page(self->fd, PAGE, variant->order, &dma));
	ASSERT_EQ(0, map_page(self->fd, NEIGHBOUR, variant->order, &neighbour));
	EXPECT_REACHES(PAGE, dma, 0);
	EXPECT_REACHES(PAGE, dma, end);
	EXPECT_REACHES(NEIGHBOUR, neighbour, 0);
	EXPECT_REACHES(NEIGHBOUR, neighbour, end);

	ASSERT_EQ(0, unmap_page(self->fd, PAGE));
	sleep(variant->seconds);
	if (variant->translated) {
		EXPECT_BLOCKED(PAGE, dma, end);
		EXPECT_BLOCKED(PAGE, dma, 0);
	} else {
		EXPECT_REACHES(PAGE, dma, end);
		EXPECT_REACHES(PAGE, dma, 0);
	}
	EXPECT_REACHES(NEIGHBOUR, neighbour, 0);
	EXPECT_REACHES(NEIGHBOUR, neighbour, end);
}

/*
 * An address that is used again leads to the new page. Strictly, that is the next
 * mapping.
 */
TEST_F_TIMEOUT(dma_api, remap, MINUTES(5))
{
	int again = 0;

	if (!variant->translated)
		SKIP(return, "the address is the page's own");
	for (int i = 0; i < 4; i++) {
		__u64 old = 0, dma = 0;
		__u32 value;

		ASSERT_EQ(0, map_page(self->fd, PAGE, variant->order, &old));
		EXPECT_REACHES(PAGE, old, 0);
		value = fresh();
		ASSERT_EQ(0, set_words(self->fd, PAGE, 0, value));
		ASSERT_EQ(0, unmap_page(self->fd, PAGE));
		ASSERT_EQ(0, map_page(self->fd, OTHER, variant->order, &dma));
		again += dma == old;
		EXPECT_REACHES(OTHER, dma, 0);
		/* What is still in the queue may be reached by its old address only. */
		EXPECT_EQ(TED_WORDS, same_words(self->fd, PAGE, 0, value));
		ASSERT_EQ(0, unmap_page(self->fd, OTHER));
	}
	/* The queue may run between the two calls. */
	if (!variant->seconds)
		EXPECT_LT(0, again);
}

/* All at once; what is left is for unbinding to unmap. */
TEST_F_TIMEOUT(dma_api, many, MINUTES(3))
{
	__u64 dma[TED_NR_SLOT];

	for (int i = 0; i < TED_NR_SLOT; i++) {
		ASSERT_EQ(0, map_page(self->fd, i, variant->order, &dma[i]));
		for (int j = 0; j < i; j++)
			EXPECT_NE(dma[i], dma[j]);
	}
	for (int i = 0; i < TED_NR_SLOT; i++)
		EXPECT_REACHES(i, dma[i], 0);
}

TEST_HARNESS_MAIN
