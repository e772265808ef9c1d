// SPDX-License-Identifier: GPL-2.0
/*
 * To be preloaded: mmap() of one page of a file maps $WIDE bytes, so that leaves fit.
 * trinity asks for one page of its test files, and makes random system calls on that.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	const char *wide = getenv("WIDE");

	if (wide && fd >= 0 && length == 4096)
		length = strtoul(wide, NULL, 0);
	return (void *)syscall(SYS_mmap, addr, length, prot, flags, fd, offset);
}
