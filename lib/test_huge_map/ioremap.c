// SPDX-License-Identifier: GPL-2.0
/*
 * Test driver for huge I/O mappings.
 *
 * It binds to QEMU's ivshmem-plain, a PCI device whose BAR 2 is plain memory of
 * any size, and maps parts of that BAR into the kernel on request of a test
 * program. See uapi.h for the ioctls.
 *
 * Locking: thi_lock covers everything here. The ioctls hold it for their whole
 * length, so a mapping cannot go away under them.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/file.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/ioremap.h>
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

#include "test_huge_map.h"

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

/* Where the BAR was found last; read without a lock */
static unsigned long thi_bar_pfn, thi_bar_nr;

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

/**
 * thi_bar_pfns - the pfns of the BAR
 * @pfn: the first
 * @nr: how many
 *
 * Context: Any. The device may have gone.
 * Return: false if no device has been found.
 */
bool thi_bar_pfns(unsigned long *pfn, unsigned long *nr)
{
	*pfn = READ_ONCE(thi_bar_pfn);
	*nr = READ_ONCE(thi_bar_nr);
	return *nr;
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
	struct thm_leaf e;
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
		thm_read_leaf(NULL, va, &e);
		req.left += e.present ? (e.next - va) >> PAGE_SHIFT : 0;
		req.tables += thm_tables(&e, va, start);
	}
	kfree(m);
	return copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
}

static long thi_leaves(void __user *arg)
{
	struct test_huge_iomap_leaves req;
	unsigned long start, end, va;
	struct thi_mapping *m;
	struct thm_leaf e;

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
		thm_read_leaf(NULL, va, &e);
		req.tables += thm_tables(&e, va, start);
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
	thm_read_leaf(NULL, end, &e);
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
	struct thm_leaf e;
	unsigned long va;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	m = xa_load(&thi_mappings, req.handle);
	if (!m)
		return -ENOENT;
	if (req.pad || req.offset >= m->bytes)
		return -EINVAL;
	va = ((unsigned long)m->addr + req.offset) & PAGE_MASK;
	thm_read_leaf(NULL, va, &e);
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
		struct thm_leaf e;

		thm_read_leaf(NULL, addr, &e);
		if (!e.present || e.type != type)
			return false;
		/* The direct map follows. */
		thm_read_leaf(NULL, (unsigned long)page_address(vmalloc_to_page((void *)addr)),
			      &e);
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

int thi_mmap(struct file *file, struct vm_area_struct *vma)
{
	const unsigned long bytes = vma->vm_end - vma->vm_start;
	u64 at, end, offset = (u64)vma->vm_pgoff << PAGE_SHIFT;
	const bool pieces = offset >= THI_PIECES && offset < THI_OVER;
	const bool over = offset >= THI_OVER && offset < THI_FAR;
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
	if (over)
		offset -= THI_OVER;
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
	if (over) {
		at = ALIGN_DOWN(vma->vm_start, SZ_2M);
		end = ALIGN(vma->vm_end, SZ_2M);
		return io_remap_pfn_range(vma, at,
					  PHYS_PFN(offset - (vma->vm_start - at)),
					  end - at, vma->vm_page_prot);
	}
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

static long thi_user(void __user *arg)
{
	struct test_huge_iomap_user req;
	unsigned long addr, end;
	struct thm_leaf l;
	bool any = false;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	memset(req.leaf_bytes, 0, sizeof(req.leaf_bytes));
	req.writable = 0;
	req.type = 0;
	/* The tests leave their own mappings alone while they ask. */
	mmap_read_lock(current->mm);
	for (addr = req.addr; addr < req.addr + req.bytes; addr = end) {
		thm_read_leaf(current->mm, addr, &l);
		end = min(l.next, req.addr + req.bytes);
		if (!l.present)
			continue;
		req.leaf_bytes[l.leaf] += end - addr;
		req.writable += l.writable ? end - addr : 0;
		if (!any)
			req.type = l.type;
		else if (req.type != l.type)
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
		req.type = thm_pat_index(pgprot_val(args.pgprot));
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
	struct thm_leaf l;
	long err = -EINVAL;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	mmap_write_lock(current->mm);
	thm_read_leaf(current->mm, req.addr, &l);
	vma = vma_lookup(current->mm, req.addr);
	if (vma && vma->vm_file == file && PAGE_ALIGNED(req.addr | req.bytes) &&
	    req.bytes && req.bytes <= vma->vm_end - req.addr && l.present &&
	    l.leaf != THI_4K)
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

long thi_ioctl(struct file *file, unsigned int cmd, unsigned long val)
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

void thi_release(struct file *file)
{
	guard(mutex)(&thi_lock);
	thi_unmap_all(file);
}

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
	thi_pdev = pdev;
	WRITE_ONCE(thi_bar_pfn, PHYS_PFN(pci_resource_start(pdev, THI_BAR_NR)));
	WRITE_ONCE(thi_bar_nr, PHYS_PFN(pci_resource_len(pdev, THI_BAR_NR)));
	return 0;
}

static void thi_remove(struct pci_dev *pdev)
{
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

int thi_init(void)
{
	return pci_register_driver(&thi_driver);
}

void thi_exit(void)
{
	pci_unregister_driver(&thi_driver);
}
