// SPDX-License-Identifier: GPL-2.0
/*
 * A program of 32 bits that has a PCI BAR mapped, for users.c. There may be no 32-bit
 * C library, so it does without. The file is at descriptor 3. The arguments say where
 * in it the BAR begins, and how much as much as a leaf is, in pages. The status is 0,
 * or says which step failed.
 */
#define SZ_4K		0x1000u
#define SZ_2M		0x200000u

#define NR_exit		1
#define NR_getpid	20
#define NR_kill		37
#define NR_munmap	91
#define NR_mprotect	125
#define NR_mremap	163
#define NR_mmap2	192

#define PROT_READ	1
#define PROT_WRITE	2
#define MAP_SHARED	1
#define MREMAP_FIXED	3	/* with MREMAP_MAYMOVE */
#define SIGSTOP		19

#define IS_ERR(p)	((unsigned long)(p) >= -4095UL)

static long call(long nr, long b, long c, long d, long si, long di, long bp)
{
	struct { long nr, bp; } in = { nr, bp };
	long ret;

	/* %ebp may be what the operands are found by. */
	asm volatile("pushl %%ebp\n\tmovl 4(%%eax), %%ebp\n\tmovl (%%eax), %%eax\n\t"
		     "int $0x80\n\tpopl %%ebp"
		     : "=a" (ret)
		     : "0" (&in), "b" (b), "c" (c), "d" (d), "S" (si), "D" (di)
		     : "memory", "cc");
	return ret;
}

/* As in huge_iomap_user.h */
static unsigned int pattern(unsigned long offset)
{
	return 0x5eed0000u ^ (offset >> 12) * 2654435761u;
}

static unsigned int load(const char *p)
{
	return __atomic_load_n((const unsigned int *)p, __ATOMIC_RELAXED);
}

static void store(char *p, unsigned int value)
{
	__atomic_store_n((unsigned int *)p, value, __ATOMIC_RELAXED);
}

static int run(unsigned long base, unsigned long big)
{
	const unsigned long bytes = big + SZ_2M + SZ_4K;
	const long prot = PROT_READ | PROT_WRITE;
	char *va, *page, *other;

	va = (char *)call(NR_mmap2, 0, bytes, prot, MAP_SHARED, 3, base);
	if (IS_ERR(va))
		return 1;
	for (unsigned long o = 0; o < bytes; o += SZ_2M) {
		if (load(va + o) != pattern(o))
			return 2;
		if (o < big)
			store(va + o + SZ_4K, ~pattern(o + SZ_4K));
	}
	/* The parent looks at what was written. */
	call(NR_kill, call(NR_getpid, 0, 0, 0, 0, 0, 0), SIGSTOP, 0, 0, 0, 0);

	page = va + SZ_2M + SZ_4K;
	other = va + 5 * SZ_2M + SZ_4K;
	if (call(NR_munmap, (long)page, SZ_4K, 0, 0, 0, 0))
		return 3;
	if (call(NR_mprotect, (long)page + SZ_4K, SZ_4K, PROT_READ, 0, 0, 0))
		return 4;
	if (call(NR_mremap, (long)other, SZ_4K, SZ_4K, MREMAP_FIXED, (long)page,
		 0) != (long)page)
		return 5;
	if (load(page) != ~pattern(other - va))
		return 6;
	for (unsigned long o = 0; o < big; o += SZ_2M) {
		if (load(va + o) != pattern(o))
			return 7;
		if (va + o + SZ_4K != page && va + o + SZ_4K != other &&
		    load(va + o + SZ_4K) != ~pattern(o + SZ_4K))
			return 8;
	}
	if (call(NR_munmap, (long)va, bytes, 0, 0, 0, 0))
		return 9;
	/* There is less than that below 4 GiB. */
	if (call(NR_mmap2, 0, 0u - SZ_2M, prot, MAP_SHARED, 3, base) != -12)
		return 10;
	return 0;
}

static unsigned long number(const char *arg)
{
	unsigned long n = 0;

	while (*arg)
		n = n * 10 + (*arg++ - '0');
	return n;
}

void start(const long *sp);

/* @sp: number of arguments, then the arguments */
void start(const long *sp)
{
	int status = 11;

	if (sp[0] == 3)
		status = run(number((const char *)sp[2]),
			     number((const char *)sp[3]) * SZ_4K);
	for (;;)
		call(NR_exit, status, 0, 0, 0, 0, 0);
}

asm(".globl _start\n"
	"_start: movl %esp, %eax\n\t"
	"andl $-16, %esp\n\t"
	"subl $12, %esp\n\t"
	"pushl %eax\n\t"
	"call start");
