// SPDX-License-Identifier: GPL-2.0
/*
 * Test driver for huge mappings: parts of a PCI BAR, arrays of pages
 * and struct pages of a BAR,
 * as a test program asks for them by ioctl(), and the page table entries that map
 * them. It serves tools/testing/selftests/huge_iomap.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>

#include "test_huge_map.h"

static int thm_open(struct inode *inode, struct file *file)
{
	return IS_ENABLED(CONFIG_ZONE_DEVICE) ? tmr_open(file) : 0;
}

static long thm_ioctl(struct file *file, unsigned int cmd, unsigned long val)
{
	if (_IOC_TYPE(cmd) != THM_MAGIC)
		return -ENOTTY;
	switch (_IOC_NR(cmd) & THM_PARTS) {
	case THM_IOREMAP:
		return thi_ioctl(file, cmd, val);
	case THM_VMAP:
		return thv_ioctl(file, cmd, val);
	case THM_MEMREMAP:
		if (IS_ENABLED(CONFIG_ZONE_DEVICE))
			return tmr_ioctl(file, cmd, val);
		break;
	case THM_EDU:
		return ted_ioctl(file, cmd, val);
	}
	return -ENOTTY;
}

static int thm_mmap(struct file *file, struct vm_area_struct *vma)
{
	const u64 offset = (u64)vma->vm_pgoff << PAGE_SHIFT;

	if (offset >= THV_MMAP && offset < THV_MMAP_END)
		return thv_mmap(file, vma);
	if (offset >= THE_MMAP && offset < THE_MMAP_END)
		return the_mmap(file, vma);
	return thi_mmap(file, vma);
}

static int thm_release(struct inode *inode, struct file *file)
{
	if (IS_ENABLED(CONFIG_ZONE_DEVICE))
		tmr_release(file);
	thv_release(file);
	thi_release(file);
	return 0;
}

static const struct file_operations thm_fops = {
	.owner = THIS_MODULE,
	.open = thm_open,
	.mmap = thm_mmap,
	.pfn_extent = the_pfn_extent,
	.release = thm_release,
	.unlocked_ioctl = thm_ioctl,
};

static struct miscdevice thm_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "test_huge_map",
	.mode = 0600,
	.fops = &thm_fops,
};

static int __init thm_init(void)
{
	int err = thi_init();

	if (err)
		return err;
	err = ted_init();
	if (err)
		goto err_thi;
	err = misc_register(&thm_misc);
	if (err)
		goto err_ted;
	return 0;

err_ted:
	ted_exit();
err_thi:
	thi_exit();
	return err;
}

static void __exit thm_exit(void)
{
	misc_deregister(&thm_misc);
	ted_exit();
	thi_exit();
}

module_init(thm_init);
module_exit(thm_exit);

MODULE_DESCRIPTION("Test driver for huge mappings");
MODULE_LICENSE("GPL");
