// SPDX-License-Identifier: GPL-2.0
/*
 * The BAR and who has it: no driver, vfio-pci, or iopmem as a file, as a disk with a
 * file system, or as p2pmem. And the mirror, which shows what it has.
 */
#include "soak.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIRROR		0x300000000000UL
/* With the pages of the kernel workers */
#define MIRROR_BYTES	((BAR_PAGES + PAGES_1G) * PAGE)
#define DAX_DIR		"/tmp/dax"

#define RAW		0x500000000000UL

enum owner owner;
const char *bar_device;
u64 bar_phys;
volatile u32 *mirror, *raw_bar;
u64 raw_pages;

bool find_bar(void)
{
	static char dir[64];
	unsigned long long start = 0, end = 0;
	char path[128], line[128];
	FILE *f;

	snprintf(dir, sizeof(dir), "/sys/bus/pci/devices/%s", getenv("VFIO_SELFTESTS_BDF") ?: "");
	bar_device = dir;
	snprintf(path, sizeof(path), "%s/resource", dir);
	f = fopen(path, "re");
	if (!f)
		return false;
	for (int i = 0; i <= 2 && fgets(line, sizeof(line), f); i++)
		if (i == 2 && sscanf(line, "%llx %llx", &start, &end) != 2)
			start = 0;
	fclose(f);
	bar_phys = start;
	raw_pages = (end + 1 - start) / PAGE;
	return start;
}

static bool bind_bar(const char *driver)
{
	const char *name = strrchr(bar_device, '/') + 1;
	char path[128];

	snprintf(path, sizeof(path), "%s/driver/unbind", bar_device);
	write_text(path, name);
	snprintf(path, sizeof(path), "%s/driver_override", bar_device);
	return write_text(path, driver) && write_text("/sys/bus/pci/drivers_probe", name);
}

/* The device node of the only match: its name has a number. */
static bool find_node(const char *pattern, const char *dir, char *node, size_t size)
{
	glob_t g;
	bool found;

	found = !glob(pattern, 0, NULL, &g) && g.gl_pathc == 1;
	if (found)
		snprintf(node, size, "%s/%s", dir, strrchr(g.gl_pathv[0], '/') + 1);
	globfree(&g);
	return found;
}

/* A file system on it, with a file that has the stamps */
static bool make_file(void)
{
	static u32 buf[(1 << 20) / 4];
	char command[400], node[300];
	bool ok = false;
	int fd = -1;

	mkdir(DAX_DIR, 0700);
	if (find_node("/sys/block/iopmem*", "/dev", node, sizeof(node))) {
		/* Large allocations are aligned to 512 blocks: 2 MiB. */
		snprintf(command, sizeof(command),
			 "mkfs.ext4 -q -F -b 4096 -E stride=512,stripe_width=512 %s 10g", node);
		ok = !system(command) && !mount(node, DAX_DIR, "ext4", 0, "dax=always");
	}
	if (ok)
		fd = open_dax();
	ok = fd >= 0 && !fallocate(fd, 0, 0, BAR_PAGES * PAGE);
	for (u64 page = 0; ok && page < BAR_PAGES; page += sizeof(buf) / PAGE) {
		for (u64 i = 0; i < sizeof(buf) / PAGE; i++)
			buf[i * (PAGE / 4)] = stamp(page + i);
		ok = pwrite(fd, buf, sizeof(buf), page * PAGE) == sizeof(buf);
	}
	if (fd >= 0)
		close(fd);
	return ok;
}

/**
 * own_bar - give the BAR to the driver that the options ask for
 *
 * Return: false, with errno, if that fails
 */
bool own_bar(void)
{
	static const char * const modes[] = {
		[OWNER_IOPMEM] = "char", [OWNER_DAX] = "block", [OWNER_P2P] = "p2pmem",
	};

	if (owner == OWNER_NONE)
		return true;
	if (owner == OWNER_VFIO || owner == OWNER_CDEV)
		return bind_bar("vfio-pci");
	return write_text("/sys/module/iopmem/parameters/mode", modes[owner]) &&
	       bind_bar("iopmem");
}

int open_dax(void)
{
	return open(DAX_DIR "/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

int open_iopmem(void)
{
	char node[300];

	if (!find_node("/sys/class/misc/iopmem*", "/dev", node, sizeof(node)))
		return -1;
	return open(node, O_RDWR | O_CLOEXEC);
}

int open_p2p(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/p2pmem/allocate", bar_device);
	return open(path, O_RDWR | O_CLOEXEC);
}

/* Bytes of p2pmem that somebody has; -1 if there is no p2pmem */
long p2p_used(void)
{
	char path[128];
	long size, free;

	snprintf(path, sizeof(path), "%s/p2pmem/size", bar_device);
	size = read_number(path, "");
	snprintf(path, sizeof(path), "%s/p2pmem/available", bar_device);
	free = read_number(path, "");
	return size < 0 || free < 0 ? -1 : size - free;
}

/* By its own file and an iommufd */
static int open_cdev(void)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	char path[128], node[300];
	int fd;

	snprintf(path, sizeof(path), "%s/vfio-dev/vfio*", bar_device);
	if (!find_node(path, "/dev/vfio/devices", node, sizeof(node)))
		return -1;
	fd = open(node, O_RDWR | O_CLOEXEC);
	bind.iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	return ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind) ? -1 : fd;
}

static int open_group(void)
{
	char path[64], link[256] = "", dir[128];
	int container, group;

	snprintf(dir, sizeof(dir), "%s/iommu_group", bar_device);
	if (readlink(dir, link, sizeof(link) - 1) < 0)
		return -1;
	snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(link, '/') + 1);
	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	group = open(path, O_RDWR | O_CLOEXEC);
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) ||
	    ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		return -1;
	return ioctl(group, VFIO_GROUP_GET_DEVICE_FD, strrchr(bar_device, '/') + 1);
}

/**
 * open_vfio - open the BAR as a vfio device
 * @bar: becomes the offset of the BAR in the file, in bytes
 * @config: becomes that of the configuration space
 *
 * Return: the file, or -1
 */
int open_vfio(u64 *bar, u64 *config)
{
	struct vfio_region_info info = { .argsz = sizeof(info) };
	int device = owner == OWNER_CDEV ? open_cdev() : open_group();

	info.index = VFIO_PCI_CONFIG_REGION_INDEX;
	if (device < 0 || ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info))
		return -1;
	*config = info.offset;
	info.index = VFIO_PCI_BAR2_REGION_INDEX;
	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info))
		return -1;
	*bar = info.offset;
	return device;
}

/* Two memory types: of what user space maps, and of what the kernel maps */
static char *map_bar(char *at)
{
	static const struct { const char *file; u64 from, to; } parts[] = {
		{ "resource2", 0, UC_END }, { "resource2_wc", UC_END, WC_END },
		{ "resource2", WC_END, WC_FIRST }, { "resource2_wc", WC_FIRST, BAR_PAGES },
	};
	char path[128];
	bool ok = true;

	for (int i = 0; ok && i < 4; i++) {
		int fd;

		/* vfio-pci maps all of the BAR uncached, iopmem write-combining. */
		snprintf(path, sizeof(path), "%s/%s", bar_device,
			 owner == OWNER_VFIO || owner == OWNER_CDEV ? "resource2" :
			 owner == OWNER_IOPMEM ? "resource2_wc" : parts[i].file);
		fd = owner == OWNER_DAX ? open_dax() : open(path, O_RDWR | O_CLOEXEC);
		ok = fd >= 0 && mmap(at + parts[i].from * PAGE,
				     (parts[i].to - parts[i].from) * PAGE, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_FIXED, fd, parts[i].from * PAGE) != MAP_FAILED;
		if (fd >= 0)
			close(fd);
	}
	return ok ? at : NULL;
}

static bool map_raw(void)
{
	char path[128];
	void *at;
	int fd;

	snprintf(path, sizeof(path), "%s/resource2_wc", bar_device);
	fd = open(path, O_RDWR | O_CLOEXEC);
	at = mmap((void *)RAW, raw_pages * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
	close(fd);
	raw_bar = at == MAP_FAILED ? NULL : at;
	return raw_bar;
}

/**
 * map_mirror - map all of the BAR, for good, and see that each page has its stamp
 * @first: stamp the pages
 *
 * The mirror is at an address where its leaves are large: fork() copies it. What it
 * shows is what pages show that have a PTE each, at an address congruent to nothing.
 * There is none of p2pmem, which has other memory for each that asks. Of that, and of a
 * file, what is in the BAR itself can be seen, too.
 *
 * Return: false if it cannot be mapped, or shows something else
 */
bool map_mirror(bool first)
{
	bool ok = true;

	if (first && owner >= OWNER_DAX && !map_raw())
		return false;
	if (owner == OWNER_P2P)
		return true;
	if (first && owner == OWNER_DAX && !make_file())
		return false;
	if (first && owner != OWNER_DAX) {
		char *by_pte = map_bar((char *)0x200000000000UL + PAGE);

		for (u64 p = 0; by_pte && p < BAR_PAGES; p++)
			*(volatile u32 *)(by_pte + p * PAGE) = stamp(p);
		if (!by_pte || munmap(by_pte, MIRROR_BYTES))
			return false;
	}
	unmap_mirror();
	mirror = (volatile u32 *)map_bar((char *)MIRROR);
	for (u64 p = 0; mirror && p < BAR_PAGES; p++)
		ok &= *mirror_of(p) == stamp(p);
	return mirror && ok;
}

void unmap_mirror(void)
{
	if (mirror)
		munmap((void *)mirror, MIRROR_BYTES);
	mirror = NULL;
}

/* A mirror of a file takes page tables when it is looked at: give them back. */
bool drop_faulted_mirror(void)
{
	if (owner != OWNER_DAX)
		return true;
	unmap_mirror();
	mirror = (volatile u32 *)map_bar((char *)MIRROR);
	return mirror;
}

/* Take the device from the bus, or only the driver from the device */
bool take_bar(bool device)
{
	char path[128];

	snprintf(path, sizeof(path), device ? "%s/remove" : "%s/driver/unbind", bar_device);
	return write_text(path, device ? "1" : strrchr(bar_device, '/') + 1);
}

/* Have it again, with the mirror */
bool return_bar(bool device)
{
	if (device) {
		if (!write_text("/sys/bus/pci/rescan", "1") || !find_bar())
			return false;
	}
	return own_bar() && (!device || map_mirror(false));
}
