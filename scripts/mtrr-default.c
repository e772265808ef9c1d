// SPDX-License-Identifier: GPL-2.0
/*
 * In the guest: give the MTRRs another default type, and start a kernel that finds it.
 *   mtrr-default BZIMAGE INITRAMFS COMMAND-LINE
 * WB becomes UC, and anything else WB. There has to be one CPU.
 */
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MSR_MTRRDEFTYPE	0x2ff
#define UC		0
#define WB		6

int main(int argc, char **argv)
{
	int msr = open("/dev/cpu/0/msr", O_RDWR);
	uint64_t value;

	if (argc != 4 || pread(msr, &value, 8, MSR_MTRRDEFTYPE) != 8) {
		perror("MSR");
		return 1;
	}
	printf("default type: %d\n", (int)(value & 0xff));
	value = (value & ~0xffULL) | ((value & 0xff) == WB ? UC : WB);
	if (pwrite(msr, &value, 8, MSR_MTRRDEFTYPE) != 8 ||
	    pread(msr, &value, 8, MSR_MTRRDEFTYPE) != 8) {
		perror("MSR");
		return 1;
	}
	printf("now: %d\n", (int)(value & 0xff));
	if (syscall(SYS_kexec_file_load, open(argv[1], O_RDONLY), open(argv[2], O_RDONLY),
		    strlen(argv[3]) + 1, argv[3], 0)) {
		perror("kexec_file_load");
		return 1;
	}
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
		LINUX_REBOOT_CMD_KEXEC, 0);
	perror("reboot");
	return 1;
}
