// SPDX-License-Identifier: GPL-2.0
/*
 * Init of the 32-bit guest, which has no user space but this: KUnit ran before, so
 * tell QEMU's isa-debug-exit device that all is well. See guest-init.
 */
static long syscall1(long nr, long arg)
{
	long ret;

	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(nr), "b"(arg) : "memory");
	return ret;
}

void _start(void)
{
	/* iopl */
	if (!syscall1(110, 3))
		__asm__ volatile("outb %0, %1" : : "a"((unsigned char)16),
				 "Nd"((unsigned short)0xf4));
	/* Not reached. The kernel panics when init exits, and that fails the run. */
	syscall1(1, 1);
	for (;;)
		;
}
