/* SPDX-License-Identifier: GPL-2.0 */
/* A BAR that the driver iopmem gets */
#ifndef __SELFTEST_HUGE_IOMAP_IOPMEM_H
#define __SELFTEST_HUGE_IOMAP_IOPMEM_H

#include "huge_iomap_vfio.h"

#include <limits.h>
#include <stdlib.h>

#define PARAM(name)	"/sys/module/iopmem/parameters/" name

/* Exit status of a command; -1 if there is none */
static inline int run(const char *command)
{
	int status = system(command);

	return WIFEXITED(status) && WEXITSTATUS(status) != 127 ? WEXITSTATUS(status) : -1;
}

struct memory {
	char dev[32];			/* PCI name of the device with the BAR */
	char node[64];			/* what was bound has this device file */
	__u64 start, size;		/* of the BAR */
};

/* Bind in a mode: 0 if there is a device file then, or p2p memory, or a negative errno */
static inline int bind_as(struct memory *bar, const char *mode)
{
	const char *class = !strcmp(mode, "block") ? "block" : "misc";
	struct dirent *entry;
	char path[128];
	DIR *dir;
	int err;

	bar->node[0] = 0;
	if (write_file(PARAM("mode"), mode))
		return -EINVAL;
	err = bind_device(bar->dev, "iopmem");
	if (err)
		return -err;
	if (!strcmp(mode, "p2pmem")) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/p2pmem/allocate",
			 bar->dev);
		return access(path, R_OK) ? -errno : 0;
	}
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bar->dev, class);
	dir = opendir(path);
	if (!dir)
		return -ENODEV;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			snprintf(bar->node, sizeof(bar->node), "/dev/%.40s", entry->d_name);
	closedir(dir);
	return bar->node[0] ? 0 : -ENODEV;
}

static inline int release_bar(struct memory *bar)
{
	return write_file("/sys/bus/pci/drivers/iopmem/unbind", bar->dev);
}

/* Memory decode, as a surprise. True if it has been set */
static inline bool decode(const char *dev, bool enable)
{
	char path[96];
	__u16 command;
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", dev);
	fd = open(path, O_RDWR);
	if (fd < 0)
		return false;
	ok = pread(fd, &command, 2, 4) == 2;
	command = enable ? command | 2 : command & ~2;
	ok = ok && pwrite(fd, &command, 2, 4) == 2;
	close(fd);
	return ok;
}

static inline bool bar_range(const char *dev, int bar, __u64 *start, __u64 *size)
{
	unsigned long long s = 0, e = 0;
	char path[96], line[128];
	bool ok = false;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", dev);
	f = fopen(path, "r");
	if (!f)
		return false;
	for (int i = 0; i <= bar; i++)
		ok = fgets(line, sizeof(line), f);
	fclose(f);
	if (!ok || sscanf(line, "0x%llx 0x%llx", &s, &e) != 2 || !s)
		return false;
	*start = s;
	*size = e - s + 1;
	return true;
}

/* The first bridge above a PCI device, as a path; false if it is on the root bus */
static inline bool root_port(const char *sysfs, char *port)
{
	char path[PATH_MAX], *p, *end;

	if (!realpath(sysfs, path))
		return false;
	p = strstr(path, "/pci0000:00/");
	if (!p)
		return false;
	end = strchr(p + strlen("/pci0000:00/"), '/');
	/* There has to be another device behind it. */
	if (!end || strlen(end) < 13 || end[5] != ':')
		return false;
	*end = 0;
	strcpy(port, path);
	return true;
}

static inline bool have_iopmem(void)
{
	if (access(PARAM("mode"), W_OK))
		run("modprobe -q iopmem 2>/dev/null");
	return !access(PARAM("mode"), W_OK);
}

/* A device whose BAR is memory, rather one behind a switch */
static inline bool find_bar(struct memory *bar)
{
	DIR *dir = opendir("/sys/bus/pci/devices");
	struct dirent *entry;

	strcpy(bar->dev, PCI_NAME);
	while (dir && (entry = readdir(dir))) {
		char path[300], port[PATH_MAX];

		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.200s", entry->d_name);
		if (entry->d_name[0] != '.' && root_port(path, port)) {
			strcat(path, "/device");
			if (file_has(path, "0x1110"))
				snprintf(bar->dev, sizeof(bar->dev), "%.31s", entry->d_name);
		}
	}
	if (dir)
		closedir(dir);
	return bar_range(bar->dev, 2, &bar->start, &bar->size);
}

#endif /* __SELFTEST_HUGE_IOMAP_IOPMEM_H */
