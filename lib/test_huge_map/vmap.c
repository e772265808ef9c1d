// SPDX-License-Identifier: GPL-2.0
/*
 * Test driver for huge leaves in vmap().
 *
 * It allocates or pins pages, and maps arrays of them on request of a test program.
 * See uapi.h for the ioctls.
 *
 * Locking: thv_lock covers everything here. Parts of a mapping are changed with the
 * lock held for reading: several threads may do that at once.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/xarray.h>

#include <asm/set_memory.h>
#include <asm/timex.h>

#include "test_huge_map.h"

struct thv_block {
	struct file *owner;
	struct page **pages;
	unsigned long nr;	/* of pages */
	unsigned int order;
	bool compound;
	bool pinned;
};

struct thv_mapping {
	struct file *owner;
	void *addr;
	union {
		struct page **pages;
		unsigned long *pfns;
	};
	unsigned long nr;
	u32 how;
};

static DECLARE_RWSEM(thv_lock);
static DEFINE_XARRAY_ALLOC(thv_blocks);
static DEFINE_XARRAY_ALLOC(thv_mappings);

static void thv_free_block(struct thv_block *b)
{
	const unsigned long step = b->compound ? 1UL << b->order : 1;

	if (b->pinned)
		unpin_user_pages(b->pages, b->nr);
	else
		for (unsigned long i = 0; i < b->nr; i += step)
			put_page(b->pages[i]);
	kvfree(b->pages);
	kfree(b);
}

static struct thv_block *thv_new_block(struct file *file, unsigned long max)
{
	struct thv_block *b = kzalloc_obj(*b);

	if (!b)
		return NULL;
	b->owner = file;
	b->pages = kvmalloc_array(max, sizeof(*b->pages), GFP_KERNEL);
	if (!b->pages) {
		kfree(b);
		return NULL;
	}
	return b;
}

static long thv_alloc(struct file *file, void __user *arg)
{
	struct test_huge_vmap_alloc req;
	struct thv_block *b;
	struct page *page;
	gfp_t gfp;
	int err;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (req.order > MAX_PAGE_ORDER || !req.nr ||
	    req.nr > INT_MAX >> req.order || req.flags & ~THV_COMPOUND)
		return -EINVAL;
	b = thv_new_block(file, (unsigned long)req.nr << req.order);
	if (!b)
		return -ENOMEM;
	b->order = req.order;
	b->compound = req.flags & THV_COMPOUND;
	gfp = GFP_KERNEL | __GFP_NOWARN | (b->compound ? __GFP_COMP : 0);

	for (u32 i = 0; i < req.nr; i++) {
		page = alloc_pages(gfp, req.order);
		if (!page) {
			thv_free_block(b);
			return -ENOMEM;
		}
		if (!b->compound)
			split_page(page, req.order);
		for (int k = 0; k < 1 << req.order; k++)
			b->pages[b->nr++] = page + k;
		cond_resched();
	}

	err = xa_alloc(&thv_blocks, &req.block, b, xa_limit_31b, GFP_KERNEL);
	if (err) {
		thv_free_block(b);
		return err;
	}
	return copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
}

static long thv_pin(struct file *file, void __user *arg)
{
	struct test_huge_vmap_pin req;
	struct thv_block *b;
	unsigned long nr;
	int n, err;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	nr = req.bytes >> PAGE_SHIFT;
	if (req.pad || !PAGE_ALIGNED(req.addr | req.bytes) || !nr || nr > INT_MAX)
		return -EINVAL;
	b = thv_new_block(file, nr);
	if (!b)
		return -ENOMEM;
	b->pinned = true;
	while (b->nr < nr) {
		n = pin_user_pages_fast(req.addr + (b->nr << PAGE_SHIFT),
					nr - b->nr, FOLL_WRITE | FOLL_LONGTERM,
					b->pages + b->nr);
		if (n <= 0) {
			thv_free_block(b);
			return n ?: -EFAULT;
		}
		b->nr += n;
	}
	err = xa_alloc(&thv_blocks, &req.block, b, xa_limit_31b, GFP_KERNEL);
	if (err) {
		thv_free_block(b);
		return err;
	}
	return copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
}

/* Blocks that are mapped stay: the test program frees them last. */
static long thv_free(void __user *arg)
{
	struct thv_block *b;
	u32 block;

	if (copy_from_user(&block, arg, sizeof(block)))
		return -EFAULT;
	b = xa_erase(&thv_blocks, block);
	if (!b)
		return -ENOENT;
	thv_free_block(b);
	return 0;
}

/* Fill in one piece from @at on. */
static int thv_add_piece(struct thv_mapping *m, unsigned long at,
			 const struct test_huge_vmap_piece *p)
{
	s64 last = (s64)p->first + ((s64)p->nr - 1) * p->step;
	struct thv_block *b;

	if (m->how == THV_VMAP_PFN) {
		if (p->block != THV_PFN)
			return -EINVAL;
		for (u32 i = 0; i < p->nr; i++)
			m->pfns[at + i] = p->first + (s64)i * p->step;
		return 0;
	}

	b = xa_load(&thv_blocks, p->block);
	if (!b || p->first >= b->nr || last < 0 || last >= b->nr)
		return -EINVAL;
	/* vfree() takes them for pages of order 0. */
	if (m->how == THV_VMAP_PUT && (b->compound || b->pinned))
		return -EINVAL;
	for (u32 i = 0; i < p->nr; i++) {
		m->pages[at + i] = b->pages[p->first + (s64)i * p->step];
		if (m->how == THV_VMAP_PUT)
			get_page(m->pages[at + i]);
	}
	return 0;
}

static void thv_do_unmap(struct thv_mapping *m)
{
	switch (m->how) {
	case THV_VMAP_PUT:
		/* Frees the array, too. */
		vfree(m->addr);
		break;
	case THV_VM_MAP_RAM:
		vm_unmap_ram(m->addr, m->nr);
		break;
	default:
		vunmap(m->addr);
	}
}

static void thv_free_mapping(struct thv_mapping *m)
{
	if (m->how != THV_VMAP_PUT)
		kvfree(m->pages);
	kfree(m);
}

static void *thv_do_map(struct thv_mapping *m, pgprot_t prot)
{
	switch (m->how) {
	case THV_VMAP:
		return vmap(m->pages, m->nr, VM_MAP | VM_USERMAP, prot);
	case THV_VMAP_PUT:
		return vmap(m->pages, m->nr, VM_MAP | VM_MAP_PUT_PAGES, prot);
	case THV_VM_MAP_RAM:
		return vm_map_ram(m->pages, m->nr, NUMA_NO_NODE);
	case THV_VMAP_PFN:
		return vmap_pfn(m->pfns, m->nr, pgprot_noncached(prot));
	}
	return NULL;
}

static long thv_map(struct file *file, void __user *arg)
{
	struct test_huge_vmap_piece *pieces;
	struct test_huge_vmap_map req;
	struct thv_mapping *m;
	unsigned long at = 0;
	cycles_t start;
	int err;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (!req.nr || req.how >= THV_NR_HOW)
		return -EINVAL;
	pieces = vmemdup_array_user(u64_to_user_ptr(req.pieces), req.nr,
				    sizeof(*pieces));
	if (IS_ERR(pieces))
		return PTR_ERR(pieces);
	m = kzalloc_obj(*m);
	err = m ? 0 : -ENOMEM;
	for (u32 i = 0; !err && i < req.nr; i++) {
		m->nr += pieces[i].nr;
		if (!pieces[i].nr || pieces[i].pad || m->nr > INT_MAX)
			err = -EINVAL;
	}
	if (err)
		goto out;
	m->owner = file;
	m->how = req.how;
	m->pages = kvmalloc_array(m->nr, sizeof(*m->pages), GFP_KERNEL);
	err = m->pages ? 0 : -ENOMEM;
	for (u32 i = 0; !err && i < req.nr; i++) {
		err = thv_add_piece(m, at, &pieces[i]);
		if (!err)
			at += pieces[i].nr;
	}
	if (err)
		goto put;

	err = -ENOMEM;
	start = get_cycles();
	m->addr = thv_do_map(m, req.prot_ro ? PAGE_KERNEL_RO : PAGE_KERNEL);
	req.ticks = get_cycles() - start;
	if (!m->addr)
		goto put;
	req.va = (unsigned long)m->addr;
	err = xa_alloc(&thv_mappings, &req.handle, m, xa_limit_31b, GFP_KERNEL);
	if (err) {
		thv_do_unmap(m);
		thv_free_mapping(m);
		m = NULL;
		goto out;
	}
	kvfree(pieces);
	return copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
put:
	if (m->how == THV_VMAP_PUT)
		while (at)
			put_page(m->pages[--at]);
	kvfree(m->pages);
out:
	kfree(m);
	kvfree(pieces);
	return err;
}

static long thv_unmap(void __user *arg)
{
	struct test_huge_vmap_unmap req;
	struct thv_mapping *m;
	struct thm_leaf l;
	cycles_t start;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (req.pad)
		return -EINVAL;
	m = xa_erase(&thv_mappings, req.handle);
	if (!m)
		return -ENOENT;
	start = get_cycles();
	thv_do_unmap(m);
	req.ticks = get_cycles() - start;

	req.left = 0;
	for (unsigned long i = 0; i < m->nr; i++) {
		thm_read_leaf(NULL, (unsigned long)m->addr + (i << PAGE_SHIFT), &l);
		req.left += l.present;
	}
	thv_free_mapping(m);
	return copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
}

static struct thv_mapping *thv_part(u32 handle, u32 pad, u64 first, u64 nr)
{
	struct thv_mapping *m = xa_load(&thv_mappings, handle);

	if (!m)
		return ERR_PTR(-ENOENT);
	if (pad || !nr || first >= m->nr || nr > m->nr - first)
		return ERR_PTR(-EINVAL);
	return m;
}

static long thv_leaves(void __user *arg)
{
	struct test_huge_vmap_leaves req;
	unsigned long va, end, start, pfn, i;
	struct thv_mapping *m;
	struct thm_leaf l;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	m = thv_part(req.handle, req.pad, req.first, req.nr);
	if (IS_ERR(m))
		return PTR_ERR(m);
	memset(req.leaf, 0, sizeof(req.leaf));
	req.tables = 0;
	req.absent = 0;
	req.wrong = 0;
	req.readonly = 0;
	start = (unsigned long)m->addr + (req.first << PAGE_SHIFT);
	end = start + (req.nr << PAGE_SHIFT);
	for (va = start; va < end;) {
		thm_read_leaf(NULL, va, &l);
		req.tables += thm_tables(&l, va, start);
		if (l.present)
			req.leaf[l.leaf]++;
		pfn = PHYS_PFN(l.phys);
		for (; va < min(l.next, end); va += PAGE_SIZE, pfn++) {
			i = (va - (unsigned long)m->addr) >> PAGE_SHIFT;
			if (!l.present)
				req.absent++;
			else if (m->how == THV_VMAP_PFN)
				req.wrong += m->pfns[i] != pfn;
			else
				req.wrong += page_to_pfn(m->pages[i]) != pfn ||
					vmalloc_to_page((void *)va) != m->pages[i];
			req.readonly += l.present && !l.writable;
		}
		cond_resched();
	}
	return copy_to_user(arg, &req, sizeof(req)) ? -EFAULT : 0;
}

static long thv_pfns(void __user *arg)
{
	struct test_huge_vmap_pfns req;
	struct thv_mapping *m;
	u64 __user *to;
	u64 pfn;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	m = thv_part(req.handle, req.pad, req.first, req.nr);
	if (IS_ERR(m))
		return PTR_ERR(m);
	to = u64_to_user_ptr(req.addr);
	for (u64 i = req.first; i < req.first + req.nr; i++) {
		pfn = m->how == THV_VMAP_PFN ? m->pfns[i] : page_to_pfn(m->pages[i]);
		if (put_user(pfn, to++))
			return -EFAULT;
	}
	return 0;
}

static long thv_types(void __user *arg)
{
	struct test_huge_vmap_pfns req;
	struct thv_mapping *m;
	u8 __user *to;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	m = thv_part(req.handle, req.pad, req.first, req.nr);
	if (IS_ERR(m))
		return PTR_ERR(m);
	if (m->how == THV_VMAP_PFN)
		return -EOPNOTSUPP;
	to = u64_to_user_ptr(req.addr);
	for (u64 i = req.first; i < req.first + req.nr; i++) {
		struct thm_leaf mapped, direct;

		thm_read_leaf(NULL, (unsigned long)m->addr + (i << PAGE_SHIFT), &mapped);
		thm_read_leaf(NULL, (unsigned long)page_address(m->pages[i]), &direct);
		if (put_user((u8)mapped.type, to++) || put_user((u8)direct.type, to++))
			return -EFAULT;
	}
	return 0;
}

static u64 thv_pattern(const void *page)
{
	return (u64)page * 0x9e3779b97f4a7c15ULL;
}

/* Two words of a page; a page that is in the array twice has them once. */
static long thv_check(void __user *arg)
{
	struct test_huge_vmap_part req;
	struct thv_mapping *m;
	u64 *mapped, *direct;
	unsigned long i;
	long differ = 0;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	m = thv_part(req.handle, req.direct, req.first, req.nr);
	if (IS_ERR(m))
		return PTR_ERR(m);
	if (m->how == THV_VMAP_PFN)
		return -EOPNOTSUPP;

	for (int pass = 0; pass < 2; pass++) {
		for (i = req.first; i < req.first + req.nr; i++) {
			mapped = m->addr + (i << PAGE_SHIFT);
			direct = kmap_local_page(m->pages[i]);
			if (pass)
				direct[1] = ~thv_pattern(direct);
			else
				mapped[PAGE_SIZE / 8 - 1] = thv_pattern(direct);
			kunmap_local(direct);
		}
		for (i = req.first; i < req.first + req.nr; i++) {
			mapped = m->addr + (i << PAGE_SHIFT);
			direct = kmap_local_page(m->pages[i]);
			if (pass)
				differ += mapped[1] != ~thv_pattern(direct);
			else
				differ += direct[PAGE_SIZE / 8 - 1] !=
					  thv_pattern(direct);
			kunmap_local(direct);
		}
		cond_resched();
	}
	return differ;
}

static long thv_change_array(unsigned int cmd, struct page **pages, int nr)
{
	switch (cmd) {
	case THV_SET_UC:
		return set_pages_array_uc(pages, nr);
	case THV_SET_WC:
		return set_pages_array_wc(pages, nr);
	case THV_SET_WB:
		return set_pages_array_wb(pages, nr);
	}
	return -EINVAL;
}

static long thv_change(unsigned int cmd, void __user *arg)
{
	struct test_huge_vmap_part req;
	struct thv_mapping *m;
	unsigned long start, end;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	m = thv_part(req.handle, 0, req.first, req.nr);
	if (IS_ERR(m))
		return PTR_ERR(m);
	start = (unsigned long)m->addr + (req.first << PAGE_SHIFT);
	if (req.direct) {
		if (cmd == THV_VUNMAP || m->how == THV_VMAP_PFN)
			return -EINVAL;
		if (req.direct == 2)
			return thv_change_array(cmd, m->pages + req.first, req.nr);
		start = (unsigned long)page_address(m->pages[req.first]);
	}
	end = start + (req.nr << PAGE_SHIFT);
	switch (cmd) {
	case THV_SET_RO:
		return set_memory_ro(start, req.nr);
	case THV_SET_RW:
		return set_memory_rw(start, req.nr);
	case THV_SET_UC:
		return set_memory_uc(start, req.nr);
	case THV_SET_WC:
		return set_memory_wc(start, req.nr);
	case THV_SET_WB:
		return set_memory_wb(start, req.nr);
	}
	vunmap_range(start, end);
	return 0;
}

static long thv_copy(void __user *arg)
{
	struct test_huge_vmap_copy req;
	struct thv_mapping *m;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	m = xa_load(&thv_mappings, req.handle);
	if (!m)
		return -ENOENT;
	if (req.pad || req.bytes > INT_MAX ||
	    req.offset + req.bytes > m->nr << PAGE_SHIFT)
		return -EINVAL;
	return copy_to_user(u64_to_user_ptr(req.addr), m->addr + req.offset,
			    req.bytes) ? -EFAULT : 0;
}

long thv_ioctl(struct file *file, unsigned int cmd, unsigned long val)
{
	void __user *arg = (void __user *)val;

	switch (cmd) {
	case THV_VUNMAP:
	case THV_SET_RO:
	case THV_SET_RW:
	case THV_SET_UC:
	case THV_SET_WC:
	case THV_SET_WB: {
		guard(rwsem_read)(&thv_lock);
		return thv_change(cmd, arg);
	}
	}
	guard(rwsem_write)(&thv_lock);
	switch (cmd) {
	case THV_ALLOC:
		return thv_alloc(file, arg);
	case THV_PIN:
		return thv_pin(file, arg);
	case THV_FREE:
		return thv_free(arg);
	case THV_MAP:
		return thv_map(file, arg);
	case THV_UNMAP:
		return thv_unmap(arg);
	case THV_LEAVES:
		return thv_leaves(arg);
	case THV_CHECK:
		return thv_check(arg);
	case THV_TYPES:
		return thv_types(arg);
	case THV_PFNS:
		return thv_pfns(arg);
	case THV_COPY:
		return thv_copy(arg);
	case THV_PURGE:
		vm_unmap_aliases();
		return 0;
	}
	return -ENOTTY;
}

int thv_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct thv_mapping *m;
	int err = -ENOENT;

	/* The mmap lock is held, and the ioctls take it inside of thv_lock. */
	if (!down_write_trylock(&thv_lock))
		return -EAGAIN;
	m = xa_load(&thv_mappings, vma->vm_pgoff - PHYS_PFN(THV_MMAP));
	if (m)
		err = remap_vmalloc_range(vma, m->addr, 0);
	up_write(&thv_lock);
	return err;
}

void thv_release(struct file *file)
{
	struct thv_mapping *m;
	struct thv_block *b;
	unsigned long i;

	guard(rwsem_write)(&thv_lock);
	xa_for_each(&thv_mappings, i, m) {
		if (m->owner != file)
			continue;
		xa_erase(&thv_mappings, i);
		thv_do_unmap(m);
		thv_free_mapping(m);
	}
	xa_for_each(&thv_blocks, i, b) {
		if (b->owner != file)
			continue;
		xa_erase(&thv_blocks, i);
		thv_free_block(b);
	}
}
