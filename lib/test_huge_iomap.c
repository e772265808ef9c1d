// SPDX-License-Identifier: GPL-2.0
/*
 * Test driver for huge I/O mappings.
 *
 * It binds to QEMU's ivshmem-plain, a PCI device whose BAR 2 is plain memory of
 * any size, and maps parts of that BAR into the kernel on request of a test
 * program. See test_huge_iomap_uapi.h for the ioctls.
 *
 * The page tables are read with lookup_address(), which knows nothing of the code
 * under test.
 *
 * Locking: thi_lock covers everything here. The ioctls hold it for their whole
 * length, so a mapping cannot go away under them.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/file.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/ioremap.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/pgtable.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/xarray.h>

#include <asm/memtype.h>
#include <asm/set_memory.h>
#include <asm/timex.h>

#include "test_huge_iomap_uapi.h"

#define THI_BAR_NR	2

struct thi_mapping {
	struct file *owner;
	void __iomem *addr;
	phys_addr_t phys;
	u64 bytes;
	u32 how;
};

static DEFINE_MUTEX(thi_lock);
static DEFINE_XARRAY_ALLOC(thi_mappings);
static struct pci_dev *thi_pdev;

/* Two pages of RAM, and whose they are */
static unsigned long thi_ram;
static struct file *thi_ram_owner;

static void __iomem *thi_do_map(u64 offset, u64 bytes, u32 how)
{
	struct device *dev = &thi_pdev->dev;
	resource_size_t phys = pci_resource_start(thi_pdev, THI_BAR_NR) + offset;

	switch (how) {
	case THI_IOREMAP:
		return ioremap(phys, bytes);
	case THI_IOREMAP_UC:
		return ioremap_uc(phys, bytes);
	case THI_IOREMAP_WC:
		return ioremap_wc(phys, bytes);
	case THI_IOREMAP_WT:
		return ioremap_wt(phys, bytes);
	case THI_IOREMAP_CACHE:
		return ioremap_cache(phys, bytes);
	case THI_IOREMAP_PROT:
		return ioremap_prot(phys, bytes, pgprot_writecombine(PAGE_KERNEL));
	case THI_MEMREMAP_WB:
		return (void __iomem *)memremap(phys, bytes, MEMREMAP_WB);
	case THI_MEMREMAP_WT:
		return (void __iomem *)memremap(phys, bytes, MEMREMAP_WT);
	case THI_MEMREMAP_WC:
		return (void __iomem *)memremap(phys, bytes, MEMREMAP_WC);
	case THI_PCI_IOMAP_RANGE:
		return pci_iomap_range(thi_pdev, THI_BAR_NR, offset, bytes);
	case THI_PCI_IOMAP_WC_RANGE:
		return pci_iomap_wc_range(thi_pdev, THI_BAR_NR, offset, bytes);
	case THI_DEVM_IOREMAP:
		return devm_ioremap(dev, phys, bytes);
	case THI_DEVM_IOREMAP_WC:
		return devm_ioremap_wc(dev, phys, bytes);
	case THI_DEVM_MEMREMAP_WC: {
		void *addr = devm_memremap(dev, phys, bytes, MEMREMAP_WC);

		return IS_ERR(addr) ? NULL : (void __iomem *)addr;
	}
	}
	return NULL;
}

static void thi_do_unmap(void __iomem *addr, u32 how)
{
	switch (how) {
	case THI_MEMREMAP_WB:
	case THI_MEMREMAP_WT:
	case THI_MEMREMAP_WC:
		memunmap((void __force *)addr);
		break;
	case THI_PCI_IOMAP_RANGE:
	case THI_PCI_IOMAP_WC_RANGE:
		pci_iounmap(thi_pdev, addr);
		break;
	case THI_DEVM_IOREMAP:
	case THI_DEVM_IOREMAP_WC:
		devm_iounmap(&thi_pdev->dev, addr);
		break;
	case THI_DEVM_MEMREMAP_WC:
		devm_memunmap(&thi_pdev->dev, (void __force *)addr);
		break;
	default:
		iounmap(addr);
	}
}

/* @offset and @bytes lie within the BAR whole. */
static int thi_check_range(u64 offset, u64 bytes, u32 how)
{
	u64 len = pci_resource_len(thi_pdev, THI_BAR_NR);

	if (how >= THI_NR_HOW || !bytes || bytes > len || offset > len - bytes)
		return -EINVAL;
	return 0;
}

/* One step of a walk: a page table entry at any level, present or not. */
struct thi_entry {
	unsigned long next;	/* first address behind it */
	enum test_huge_iomap_leaf leaf;
	unsigned int tables;	/* PMD and PTE tables that the walk meets here first */
	bool present, writable;
	phys_addr_t phys;
	unsigned int type;
};

/* Which entry of the PAT the bits of a 4 KiB entry mean */
static unsigned int thi_pat_index(pgprotval_t prot)
{
	return (prot & _PAGE_PWT ? 1 : 0) | (prot & _PAGE_PCD ? 2 : 0) |
	       (prot & _PAGE_PAT ? 4 : 0);
}

/* Read the entry for @va in a walk that began at @start. */
static void thi_read_entry(struct thi_entry *e, unsigned long va,
			   unsigned long start)
{
	bool first_in_pud = va == start || IS_ALIGNED(va, PUD_SIZE);
	bool first_in_pmd = va == start || IS_ALIGNED(va, PMD_SIZE);
	unsigned int level;
	pte_t *pte = lookup_address(va, &level);
	pgprotval_t prot;
	unsigned long size;

	if (level == PG_LEVEL_4K) {
		e->leaf = THI_4K;
		size = PAGE_SIZE;
		e->tables = first_in_pud + first_in_pmd;
	} else if (level == PG_LEVEL_2M) {
		e->leaf = THI_2M;
		size = PMD_SIZE;
		e->tables = first_in_pud;
	} else {
		e->leaf = THI_1G;
		size = PUD_SIZE;
		e->tables = 0;
	}
	e->next = ALIGN_DOWN(va, size) + size;
	e->present = pte && (pte_flags(*pte) & _PAGE_PRESENT);
	if (!e->present)
		return;

	e->writable = pte_flags(*pte) & _PAGE_RW;
	if (size == PAGE_SIZE) {
		prot = pte_flags(*pte);
		e->phys = PFN_PHYS(pte_pfn(*pte));
	} else {
		/* The PAT bit of a large leaf is among the address bits. */
		prot = protval_large_2_4k(pte_val(*pte));
		e->phys = (pte_val(*pte) & PTE_PFN_MASK & ~(size - 1)) +
			  (va & (size - 1));
	}
	e->type = thi_pat_index(prot);
}

static long thi_bar(void __user *arg)
{
	struct test_huge_iomap_bar bar = {
		.start = pci_resource_start(thi_pdev, THI_BAR_NR),
		.bytes = pci_resource_len(thi_pdev, THI_BAR_NR),
	};

	return copy_to_user(arg, &bar, sizeof(bar)) ? -EFAULT : 0;
}

static long thi_map(struct file *file, void __user *arg)
{
	struct test_huge_iomap_map req;
	struct thi_mapping *m;
	cycles_t start;
	int err;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	err = thi_check_range(req.offset, req.bytes, req.how);
	if (err)
		return err;

	m = kzalloc_obj(*m);
	if (!m)
		return -ENOMEM;
	start = get_cycles();
	m->addr = thi_do_map(req.offset, req.bytes, req.how);
	req.ticks = get_cycles() - start;
	if (!m->addr) {
		kfree(m);
		return -ENOMEM;
	}
	m->owner = file;
	m->phys = pci_resource_start(thi_pdev, THI_BAR_NR) + req.offset;
	m->bytes = req.bytes;
	m->how = req.how;

	err = xa_alloc(&thi_mappings, &req.handle, m, xa_limit_31b, GFP_KERNEL);
	if (err)
		goto unmap;
	req.va = (unsigned long)m->addr;
	if (!copy_to_user(arg, &req, sizeof(req)))
		return 0;
	err = -EFAULT;
	xa_erase(&thi_mappings, req.handle);
unmap:
	thi_do_unmap(m->addr, m->how);
	kfree(m);
	return err;
}

static long thi_unmap(void __user *arg)
{
	struct test_huge_iomap_unmap req;
	unsigned long start, va;
	struct thi_mapping *m;
	struct thi_entry e;
	cycles_t t;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	m = xa_load(&thi_mappings, req.handle);
	if (!m)
		return -ENOENT;
	if (req.page && (m->how > THI_IOREMAP_PROT || req.page >= m->bytes >> PAGE_SHIFT))
		return -EINVAL;
	xa_erase(&thi_mappings, req.handle);

	t = get_cycles();
	thi_do_unmap(m->addr + ((unsigned long)req.page << PAGE_SHIFT), m->how);
	req.ticks = get_cycles() - t;

	req.left = 0;
	req.tables = 0;
	start = (unsigned long)m->addr & PAGE_MASK;
	for (va = start; va < (unsigned long)m->addr + m->bytes; va = e.next) {
		thi_read_entry(&e, va, start);
		req.left += e.present ? (e.next - va) >> PAGE_SHIFT : 0;
		req.tables += e.tables;
	}
	kfree(m);
	return copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
}

static long thi_leaves(void __user *arg)
{
	struct test_huge_iomap_leaves req;
	unsigned long start, end, va;
	struct thi_mapping *m;
	struct thi_entry e;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (req.pad)
		return -EINVAL;
	m = xa_load(&thi_mappings, req.handle);
	if (!m)
		return -ENOENT;

	memset(req.nr, 0, sizeof(req.nr));
	req.tables = 0;
	req.wrong = 0;
	start = (unsigned long)m->addr & PAGE_MASK;
	end = PAGE_ALIGN((unsigned long)m->addr + m->bytes);
	for (va = start; va < end; va = e.next) {
		thi_read_entry(&e, va, start);
		req.tables += e.tables;
		/* A leaf that reaches beyond the range maps what was not asked for. */
		if (!e.present || e.next > end ||
		    e.phys != (m->phys & PAGE_MASK) + (va - start)) {
			req.wrong += (min(e.next, end) - va) >> PAGE_SHIFT;
			continue;
		}
		req.nr[e.leaf]++;
		if (va == start)
			req.type = e.type;
		else if (e.type != req.type)
			req.type = THI_MIXED;
	}
	thi_read_entry(&e, end, end);
	req.guarded = !e.present && is_ioremap_addr((void *)start) &&
		      is_ioremap_addr((void *)end - 1);
	return copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
}

static long thi_access(unsigned int cmd, void __user *arg)
{
	bool write = cmd == THI_WRITE || cmd == THI_POKE;
	struct test_huge_iomap_access req;
	void __iomem *addr, *page = NULL;
	struct thi_mapping *m;
	int err;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (req.pad || !IS_ALIGNED(req.offset, sizeof(u32)))
		return -EINVAL;

	if (cmd == THI_READ || cmd == THI_WRITE) {
		m = xa_load(&thi_mappings, req.handle);
		if (!m)
			return -ENOENT;
		if (m->bytes < sizeof(u32) ||
		    req.offset > m->bytes - sizeof(u32))
			return -EINVAL;
		addr = m->addr + req.offset;
	} else {
		err = thi_check_range(req.offset, sizeof(u32), req.how);
		if (err)
			return err;
		page = thi_do_map(req.offset, sizeof(u32), req.how);
		if (!page)
			return -ENOMEM;
		addr = page;
	}

	if (write) {
		iowrite32(req.value, addr);
		/* Out of the write-combining buffers before anyone else looks. */
		wmb();
	} else {
		req.value = ioread32(addr);
	}
	if (page)
		thi_do_unmap(page, req.how);
	if (!write && copy_to_user(arg, &req, sizeof(req)))
		return -EFAULT;
	return 0;
}

static int thi_set_type(unsigned long addr, int nr, u32 what)
{
	switch (what) {
	case THI_SET_UC:
		return set_memory_uc(addr, nr);
	case THI_SET_WC:
		return set_memory_wc(addr, nr);
	case THI_SET_WB:
		return set_memory_wb(addr, nr);
	}
	return -EINVAL;
}

static long thi_change(void __user *arg)
{
	struct test_huge_iomap_change req;
	struct thi_mapping *m;
	unsigned long start;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (req.pad || !PAGE_ALIGNED(req.offset))
		return -EINVAL;
	m = xa_load(&thi_mappings, req.handle);
	if (!m)
		return -ENOENT;
	if (!req.nr || req.offset > m->bytes ||
	    req.nr > (m->bytes - req.offset) >> PAGE_SHIFT)
		return -EINVAL;

	start = (unsigned long)m->addr + req.offset;
	switch (req.what) {
	case THI_SET_RO:
		return set_memory_ro(start, req.nr);
	case THI_SET_RW:
		return set_memory_rw(start, req.nr);
	case THI_VUNMAP:
		vunmap_range(start, start + ((unsigned long)req.nr << PAGE_SHIFT));
		return 0;
	}
	return thi_set_type(start, req.nr, req.what);
}

static long thi_page(void __user *arg)
{
	struct test_huge_iomap_page req;
	struct thi_mapping *m;
	struct thi_entry e;
	unsigned long va;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	m = xa_load(&thi_mappings, req.handle);
	if (!m)
		return -ENOENT;
	if (req.pad || req.offset >= m->bytes)
		return -EINVAL;
	va = ((unsigned long)m->addr + req.offset) & PAGE_MASK;
	thi_read_entry(&e, va, va);
	req.leaf = e.leaf;
	req.present = e.present;
	req.type = e.present ? e.type : 0;
	req.writable = e.present && e.writable;
	req.wrong = e.present && e.phys != ((m->phys + req.offset) & PAGE_MASK);
	return copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
}

static bool thi_has_type(unsigned long va, int nr, unsigned int type)
{
	for (int i = 0; i < nr; i++) {
		const unsigned long addr = va + i * PAGE_SIZE;
		struct thi_entry e;

		thi_read_entry(&e, addr, addr);
		if (!e.present || e.type != type)
			return false;
		/* The direct map follows. */
		thi_read_entry(&e, (unsigned long)page_address(vmalloc_to_page((void *)addr)),
			       addr);
		if (!e.present || e.type != type)
			return false;
	}
	return true;
}

static long thi_vmalloc(void)
{
	const unsigned int wc = pat_enabled() ? THI_WC : THI_UC_MINUS;
	const int nr = 8;
	unsigned long va = (unsigned long)vmalloc(nr * PAGE_SIZE);
	long err = -EBADE;

	if (!va)
		return -ENOMEM;
	if (set_memory_wc(va + 2 * PAGE_SIZE, 3) ||
	    !thi_has_type(va, 2, THI_WB) ||
	    !thi_has_type(va + 2 * PAGE_SIZE, 3, wc) ||
	    !thi_has_type(va + 5 * PAGE_SIZE, 3, THI_WB))
		goto out;
	/* These have a type already; beyond the area */
	if (pat_enabled() && set_memory_uc(va + PAGE_SIZE, 2) != -EBUSY)
		goto out;
	if (!thi_has_type(va, 2, THI_WB) ||
	    set_memory_uc(va, nr + 1) != -EINVAL)
		goto out;
	if (!set_memory_wb(va + 2 * PAGE_SIZE, 3) && thi_has_type(va, nr, THI_WB))
		err = 0;
out:
	if (err)
		set_memory_wb(va, nr);
	vfree((void *)va);
	return err;
}

static long thi_bad_ranges(void)
{
	resource_size_t phys = pci_resource_start(thi_pdev, THI_BAR_NR);
	const struct { resource_size_t phys; unsigned long bytes; } bad[] = {
		{ phys, 0 },
		{ phys, -phys + PAGE_SIZE },
		{ phys, -PAGE_SIZE },
		{ phys + PAGE_SIZE, -PAGE_SIZE },
	};

	for (int i = 0; i < ARRAY_SIZE(bad); i++) {
		void __iomem *addr;

		/* Not a wrap-around on this machine. */
		if (bad[i].bytes && bad[i].phys + bad[i].bytes - 1 >= bad[i].phys)
			continue;
		addr = ioremap(bad[i].phys, bad[i].bytes);
		if (addr) {
			iounmap(addr);
			return -EBADE;
		}
	}
	return 0;
}

/* Map the RAM of @file, which keeps it as long as it is mapped. */
static int thi_mmap_ram(struct file *file, struct vm_area_struct *vma, bool pages)
{
	const unsigned long bytes = vma->vm_end - vma->vm_start;
	int err = 0;

	if (!thi_ram || thi_ram_owner != file || bytes > 2 * PAGE_SIZE)
		return -EINVAL;
	if (!pages)
		return remap_pfn_range(vma, vma->vm_start, PHYS_PFN(__pa(thi_ram)), bytes,
				       vma->vm_page_prot);
	for (unsigned long at = 0; !err && at < bytes; at += PAGE_SIZE)
		err = vm_insert_page(vma, vma->vm_start + at, virt_to_page(thi_ram + at));
	return err;
}

static int thi_mmap(struct file *file, struct vm_area_struct *vma)
{
	const unsigned long bytes = vma->vm_end - vma->vm_start;
	u64 at, end, offset = (u64)vma->vm_pgoff << PAGE_SHIFT;
	const bool pieces = offset >= THI_PIECES && offset < THI_FAR;
	int err = -EINVAL;

	/* The mmap lock is held, and the ioctls take it inside of thi_lock. */
	if (!mutex_trylock(&thi_lock))
		return -EAGAIN;
	if (offset == THI_RAM_PAGES || offset == THI_RAM_PFNS) {
		err = thi_mmap_ram(file, vma, offset == THI_RAM_PAGES);
		mutex_unlock(&thi_lock);
		return err;
	}
	if (pieces)
		offset -= THI_PIECES;
	if (!thi_pdev)
		err = -ENODEV;
	else if (offset >= THI_FAR)
		err = 0;
	else if (offset + bytes <= pci_resource_len(thi_pdev, THI_BAR_NR))
		err = 0;
	if (!err && offset < THI_FAR)
		offset += pci_resource_start(thi_pdev, THI_BAR_NR);
	mutex_unlock(&thi_lock);
	if (err)
		return err;

	if (!(vma->vm_flags & (VM_MAYSHARE | VM_WRITE)))
		vm_flags_clear(vma, VM_MAYWRITE);
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	for (at = 0; !err && at < bytes; at = end) {
		end = bytes;
		if (pieces && at < THI_CUT1)
			end = min(end, THI_CUT1);
		else if (pieces && at < THI_CUT2)
			end = min(end, THI_CUT2);
		err = io_remap_pfn_range(vma, vma->vm_start + at,
					 PHYS_PFN(offset + at), end - at,
					 vma->vm_page_prot);
	}
	return err;
}

static long thi_ram_type(struct file *file, void __user *arg)
{
	struct test_huge_iomap_ram req;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (req.pad || req.first > 2 || req.nr > 2 - req.first)
		return -EINVAL;
	if (!thi_ram) {
		thi_ram = (unsigned long)alloc_pages_exact(2 * PAGE_SIZE,
							   GFP_KERNEL | __GFP_ZERO);
		if (!thi_ram)
			return -ENOMEM;
		thi_ram_owner = file;
	}
	if (thi_ram_owner != file)
		return -EBUSY;
	req.phys = __pa(thi_ram);
	if (copy_to_user(arg, &req, sizeof(req)))
		return -EFAULT;
	if (!req.nr)
		return 0;
	return thi_set_type(thi_ram + req.first * PAGE_SIZE, req.nr, req.what);
}

/* The leaf at @addr: its size index, if it is present and writable, and its bits */
static unsigned long thi_user_leaf(struct mm_struct *mm, unsigned long addr,
				   int *leaf, bool *present, bool *write,
				   pgprot_t *prot)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;
	pte_t *pte;

	*present = false;
	if (pgd_none(*pgd))
		return PGDIR_SIZE;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(*p4d))
		return P4D_SIZE;
	pud = pud_offset(p4d, addr);
	if (pud_none(*pud) || pud_leaf(*pud)) {
		*leaf = THI_1G;
		*present = pud_val(*pud) & _PAGE_PRESENT;
		*write = pud_write(*pud);
		*prot = pud_pgprot(*pud);
		return PUD_SIZE;
	}
	pmd = pmd_offset(pud, addr);
	if (pmd_none(*pmd) || pmd_leaf(*pmd)) {
		*leaf = THI_2M;
		*present = pmd_val(*pmd) & _PAGE_PRESENT;
		*write = pmd_write(*pmd);
		*prot = pmd_pgprot(*pmd);
		return PMD_SIZE;
	}
	pte = pte_offset_kernel(pmd, addr);
	*leaf = THI_4K;
	*present = pte_val(*pte) & _PAGE_PRESENT;
	*write = pte_write(*pte);
	*prot = __pgprot(pte_flags(*pte));
	return PAGE_SIZE;
}

static long thi_user(void __user *arg)
{
	struct test_huge_iomap_user req;
	unsigned long addr, end, size;
	bool present, write, any = false;
	pgprot_t prot;
	int leaf;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	memset(req.leaf_bytes, 0, sizeof(req.leaf_bytes));
	req.writable = 0;
	req.type = 0;
	/* The tests leave their own mappings alone while they ask. */
	mmap_read_lock(current->mm);
	for (addr = req.addr; addr < req.addr + req.bytes; addr = end) {
		size = thi_user_leaf(current->mm, addr, &leaf, &present, &write,
				     &prot);
		end = min(ALIGN_DOWN(addr, size) + size, req.addr + req.bytes);
		if (!present)
			continue;
		req.leaf_bytes[leaf] += end - addr;
		req.writable += write ? end - addr : 0;
		if (!any)
			req.type = thi_pat_index(pgprot_val(prot));
		else if (req.type != thi_pat_index(pgprot_val(prot)))
			req.type = THI_MIXED;
		any = true;
	}
	mmap_read_unlock(current->mm);
	return copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
}

/* What KVM, VFIO and ptrace learn of a user mapping */
static long thi_follow(void __user *arg)
{
	struct follow_pfnmap_args args = {};
	struct test_huge_iomap_follow req;
	long err = -EFAULT;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	mmap_read_lock(current->mm);
	args.vma = vma_lookup(current->mm, req.addr);
	args.address = req.addr;
	if (args.vma)
		err = follow_pfnmap_start(&args);
	if (!err) {
		req.phys = PFN_PHYS(args.pfn);
		req.size = ~args.addr_mask + 1;
		req.type = thi_pat_index(pgprot_val(args.pgprot));
		req.writable = args.writable;
		follow_pfnmap_end(&args);
	}
	mmap_read_unlock(current->mm);
	return err ?: copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
}

/* What a driver does that takes part of a user mapping back */
static long thi_zap(struct file *file, void __user *arg)
{
	struct test_huge_iomap_zap zap;
	struct vm_area_struct *vma;
	long err = -EINVAL;

	if (copy_from_user(&zap, arg, sizeof(zap)))
		return -EFAULT;
	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, zap.addr);
	if (vma && vma->vm_file == file && PAGE_ALIGNED(zap.addr | zap.bytes) &&
	    zap.bytes && zap.bytes <= vma->vm_end - zap.addr) {
		zap_special_vma_range(vma, zap.addr, zap.bytes);
		err = 0;
	}
	mmap_read_unlock(current->mm);
	return err;
}

/* What no driver does: map what is mapped. Over a PTE that is a BUG(). */
static long thi_remap(struct file *file, void __user *arg)
{
	struct test_huge_iomap_zap req;
	struct vm_area_struct *vma;
	bool present, write;
	pgprot_t prot;
	long err = -EINVAL;
	int leaf;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	mmap_write_lock(current->mm);
	vma = vma_lookup(current->mm, req.addr);
	if (vma && vma->vm_file == file && PAGE_ALIGNED(req.addr | req.bytes) &&
	    req.bytes && req.bytes <= vma->vm_end - req.addr &&
	    thi_user_leaf(current->mm, req.addr, &leaf, &present, &write,
			  &prot) != PAGE_SIZE && present)
		err = io_remap_pfn_range(vma, req.addr,
					 PHYS_PFN(pci_resource_start(thi_pdev, THI_BAR_NR)),
					 req.bytes, vma->vm_page_prot);
	mmap_write_unlock(current->mm);
	return err;
}

static long thi_revoke(void __user *arg)
{
	struct test_huge_iomap_revoke req;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (req.pad || !req.bytes)
		return -EINVAL;

	CLASS(fd, f)(req.fd);
	if (fd_empty(f))
		return -EBADF;
	unmap_mapping_range(fd_file(f)->f_mapping, req.offset, req.bytes, 1);
	return 0;
}

static long thi_ioctl(struct file *file, unsigned int cmd, unsigned long val)
{
	void __user *arg = (void __user *)val;

	/* Of any file: another driver may have the device. */
	if (cmd == THI_REVOKE)
		return thi_revoke(arg);

	guard(mutex)(&thi_lock);
	if (!thi_pdev)
		return -ENODEV;

	switch (cmd) {
	case THI_BAR:
		return thi_bar(arg);
	case THI_MAP:
		return thi_map(file, arg);
	case THI_UNMAP:
		return thi_unmap(arg);
	case THI_LEAVES:
		return thi_leaves(arg);
	case THI_READ:
	case THI_WRITE:
	case THI_PEEK:
	case THI_POKE:
		return thi_access(cmd, arg);
	case THI_PURGE:
		vm_unmap_aliases();
		return 0;
	case THI_USER:
		return thi_user(arg);
	case THI_FOLLOW:
		return thi_follow(arg);
	case THI_ZAP:
		return thi_zap(file, arg);
	case THI_REMAP:
		return thi_remap(file, arg);
	case THI_CHANGE:
		return thi_change(arg);
	case THI_PAGE:
		return thi_page(arg);
	case THI_VMALLOC:
		return thi_vmalloc();
	case THI_RAM:
		return thi_ram_type(file, arg);
	case THI_BAD_RANGES:
		return thi_bad_ranges();
	}
	return -ENOTTY;
}

/* Unmap what @owner mapped, or everything if it is NULL. */
static void thi_unmap_all(struct file *owner)
{
	struct thi_mapping *m;
	unsigned long i;

	xa_for_each(&thi_mappings, i, m) {
		if (owner && m->owner != owner)
			continue;
		xa_erase(&thi_mappings, i);
		thi_do_unmap(m->addr, m->how);
		kfree(m);
	}
	if (!thi_ram || (owner && owner != thi_ram_owner))
		return;
	/* What is WB already stays. */
	set_memory_wb(thi_ram, 2);
	free_pages_exact((void *)thi_ram, 2 * PAGE_SIZE);
	thi_ram = 0;
}

static int thi_release(struct inode *inode, struct file *file)
{
	guard(mutex)(&thi_lock);
	thi_unmap_all(file);
	return 0;
}

static const struct file_operations thi_fops = {
	.owner = THIS_MODULE,
	.mmap = thi_mmap,
	.release = thi_release,
	.unlocked_ioctl = thi_ioctl,
};

static struct miscdevice thi_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "test_huge_iomap",
	.mode = 0600,
	.fops = &thi_fops,
};

static int thi_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int err;

	guard(mutex)(&thi_lock);
	if (thi_pdev)
		return -EBUSY;
	err = pcim_enable_device(pdev);
	if (err)
		return err;
	if (!pci_resource_len(pdev, THI_BAR_NR))
		return -ENODEV;
	err = pcim_request_region(pdev, THI_BAR_NR, KBUILD_MODNAME);
	if (err)
		return err;
	err = misc_register(&thi_misc);
	if (err)
		return err;
	thi_pdev = pdev;
	return 0;
}

static void thi_remove(struct pci_dev *pdev)
{
	misc_deregister(&thi_misc);
	guard(mutex)(&thi_lock);
	thi_unmap_all(NULL);
	thi_pdev = NULL;
}

static const struct pci_device_id thi_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT_QUMRANET, 0x1110) },	/* ivshmem */
	{}
};
MODULE_DEVICE_TABLE(pci, thi_ids);

static struct pci_driver thi_driver = {
	.name = KBUILD_MODNAME,
	.id_table = thi_ids,
	.probe = thi_probe,
	.remove = thi_remove,
};
module_pci_driver(thi_driver);

MODULE_DESCRIPTION("Test driver for huge I/O mappings");
MODULE_LICENSE("GPL");
