/* SPDX-License-Identifier: GPL-2.0 */
/* The device with the BAR as a vfio device */
#ifndef __SELFTEST_HUGE_IOMAP_VFIO_H
#define __SELFTEST_HUGE_IOMAP_VFIO_H

#include "huge_iomap_user.h"

#include <dirent.h>
#include <time.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>

#define PCI_NAME	"0000:00:02.0"
#define PCI_DEVICES	"/sys/bus/pci/devices"

/*
 * The name of a PCI device with these IDs, as sysfs has them, behind @skip others; false
 * if there is none
 */
static inline bool find_pci(const char *vendor, const char *device, int skip, char *name,
			    size_t len)
{
	char path[300], has_vendor[16], has_device[16];
	DIR *dir = opendir(PCI_DEVICES);
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), PCI_DEVICES "/%s/vendor", entry->d_name);
		if (!read_line(path, has_vendor, sizeof(has_vendor)))
			continue;
		snprintf(path, sizeof(path), PCI_DEVICES "/%s/device", entry->d_name);
		found = read_line(path, has_device, sizeof(has_device)) &&
			!strcmp(has_vendor, vendor) && !strcmp(has_device, device) && !skip--;
		snprintf(name, len, "%.31s", entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

static inline void unbind_device(const char *name)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver/unbind", name);
	write_file(path, name);
}

/*
 * Bind a PCI device to a driver; "\n": to the one that claims it. 0 or an errno; a
 * driver that refuses the device is no error here.
 */
static inline int bind_device(const char *name, const char *driver)
{
	char path[96];

	unbind_device(name);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", name);
	if (write_file(path, driver))
		return errno;
	return write_file("/sys/bus/pci/drivers_probe", name);
}

/* The same with the device with the BAR */
static inline int bind_to(const char *driver)
{
	return bind_device(PCI_NAME, driver);
}

/* A vfio device, and what it was opened by */
struct vfio {
	int device;
	int container;		/* or iommufd */
	int group;
};

/* By its own file and an iommufd. False: see errno */
static inline bool open_cdev_of(const char *name, struct vfio *fd)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct dirent *entry;
	char path[300];
	DIR *dir;

	*fd = (struct vfio) { .device = -1, .group = -1 };
	fd->container = open("/dev/iommu", O_RDWR);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", name);
	dir = opendir(path);
	if (!dir || fd->container < 0)
		return false;
	while (fd->device < 0 && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/dev/vfio/devices/%s", entry->d_name);
		if (entry->d_name[0] != '.')
			fd->device = open(path, O_RDWR);
	}
	closedir(dir);
	bind.iommufd = fd->container;
	return fd->device >= 0 && !ioctl(fd->device, VFIO_DEVICE_BIND_IOMMUFD, &bind);
}

static inline bool open_cdev(struct vfio *fd)
{
	return open_cdev_of(PCI_NAME, fd);
}

/* An address space for what open_cdev() opened. 0 or an errno */
static inline int attach_ioas(struct vfio *fd, __u32 *ioas)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };

	if (ioctl(fd->container, IOMMU_IOAS_ALLOC, &alloc))
		return errno;
	*ioas = attach.pt_id = alloc.out_ioas_id;
	return ioctl(fd->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) ? errno : 0;
}

/* A dma-buf of part of the BAR; -1 on error */
static inline int bar_dmabuf(struct vfio *fd, __u64 from, __u64 bytes)
{
	struct {
		struct vfio_device_feature feature;
		struct vfio_device_feature_dma_buf get;
		struct vfio_region_dma_range range;
	} buf = {
		.feature.argsz = sizeof(buf),
		.feature.flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF,
		.get.region_index = VFIO_PCI_BAR2_REGION_INDEX,
		.get.open_flags = O_RDWR | O_CLOEXEC, .get.nr_ranges = 1,
		.range.offset = from, .range.length = bytes,
	};

	return ioctl(fd->device, VFIO_DEVICE_FEATURE, &buf);
}

/* The file of the group of a device, which is a directory in sysfs. -1: see errno */
static inline int open_group_file(const char *device)
{
	char path[300], link[256] = {};

	snprintf(path, sizeof(path), "%s/iommu_group", device);
	if (readlink(path, link, sizeof(link) - 1) < 0)
		return -1;
	snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(link, '/') + 1);
	return open(path, O_RDWR);
}

/* By its group and a container of @type. False: see errno */
static inline bool open_group_of(const char *name, int type, struct vfio *fd)
{
	char path[96];

	*fd = (struct vfio) { .device = -1, .container = -1, .group = -1 };
	snprintf(path, sizeof(path), PCI_DEVICES "/%s", name);
	fd->container = open("/dev/vfio/vfio", O_RDWR);
	fd->group = open_group_file(path);
	if (fd->container < 0 || fd->group < 0 ||
	    ioctl(fd->group, VFIO_GROUP_SET_CONTAINER, &fd->container) ||
	    ioctl(fd->container, VFIO_SET_IOMMU, type))
		return false;
	fd->device = ioctl(fd->group, VFIO_GROUP_GET_DEVICE_FD, name);
	return fd->device >= 0;
}

static inline bool open_group(struct vfio *fd)
{
	return open_group_of(PCI_NAME, VFIO_TYPE1v2_IOMMU, fd);
}

static inline void close_vfio(struct vfio *fd)
{
	close(fd->device);
	close(fd->group);
	close(fd->container);
}

/* Where config space is in the device's file; 0 on error */
static inline __u64 config_offset(struct vfio *fd)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_CONFIG_REGION_INDEX,
	};

	return ioctl(fd->device, VFIO_DEVICE_GET_REGION_INFO, &info) ? 0 : info.offset;
}

/*
 * Where a BAR comes and goes: QEMU 7.2 without KVM loses an interrupt now and then when
 * another CPU sets a timer or ends an interrupt just then.
 */
static inline void busy_wait(unsigned int usec)
{
	struct timespec begin;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	while (ns_since(&begin) / 1000 < usec)
		;
}

/* Memory decode of the device, by config space. 0, or an errno */
static inline int memory_enable(struct vfio *fd, __u64 config, bool enable)
{
	__u16 command;

	if (pread(fd->device, &command, 2, config + 4) != 2)
		return errno;
	command = enable ? command | 2 : command & ~2;
	return pwrite(fd->device, &command, 2, config + 4) == 2 ? 0 : errno;
}

/* The physical address of BAR 2; 0 on error */
static inline __u64 bar_start(void)
{
	FILE *f = fopen(PCI_DEVICE "/resource", "r");
	unsigned long long start = 0;
	char line[128];

	if (!f)
		return 0;
	for (int i = 0; i <= 2 && fgets(line, sizeof(line), f); i++)
		start = i < 2 ? 0 : strtoull(line, NULL, 0);
	fclose(f);
	return start;
}

#endif /* __SELFTEST_HUGE_IOMAP_VFIO_H */
