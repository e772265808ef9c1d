/* SPDX-License-Identifier: GPL-2.0 */
/* The device with the BAR as a vfio device */
#ifndef __SELFTEST_HUGE_IOMAP_VFIO_H
#define __SELFTEST_HUGE_IOMAP_VFIO_H

#include "huge_iomap_user.h"

#include <dirent.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>

#define PCI_NAME	"0000:00:02.0"

/* Bind the device with the BAR to a driver; "\n": to the one that claims it */
static inline int bind_to(const char *driver)
{
	write_file(PCI_DEVICE "/driver/unbind", PCI_NAME);
	if (write_file(PCI_DEVICE "/driver_override", driver))
		return errno;
	return write_file("/sys/bus/pci/drivers_probe", PCI_NAME);
}

/* The device as a vfio device of an iommufd of its own; -1 on error */
static inline int open_cdev(void)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct dirent *entry;
	char path[300];
	int fd = -1;
	DIR *dir;

	bind.iommufd = open("/dev/iommu", O_RDWR);
	dir = opendir(PCI_DEVICE "/vfio-dev");
	if (!dir || bind.iommufd < 0)
		return -1;
	while (fd < 0 && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/dev/vfio/devices/%s", entry->d_name);
		if (entry->d_name[0] != '.')
			fd = open(path, O_RDWR);
	}
	closedir(dir);
	if (fd >= 0 && ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		return -1;
	return fd;
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
