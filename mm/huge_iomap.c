// SPDX-License-Identifier: GPL-2.0
/*
 * Policy for huge leaves in mappings of device memory: the one place that knows
 * the largest leaf that is allowed now. See include/linux/huge_iomap.h for the
 * terms.
 */
#define pr_fmt(fmt) "huge_iomap: " fmt

#include <linux/array_size.h>
#include <linux/cache.h>
#include <linux/huge_iomap.h>
#include <linux/init.h>
#include <linux/kobject.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/vmalloc.h>

/*
 * Written by root at any time, read without a lock: a mapping that is being made
 * uses the old or the new limit. No limit at first: not every architecture has a
 * PUD_SHIFT that is constant.
 */
static unsigned int huge_iomap_limit __read_mostly = UINT_MAX;
static bool huge_iomap_disabled __ro_after_init;

static int __init set_nohugeiomap(char *str)
{
	huge_iomap_limit = PAGE_SHIFT;
	huge_iomap_disabled = true;
	return 0;
}
early_param("nohugeiomap", set_nohugeiomap);

/**
 * huge_iomap_limit_shift - the largest leaf that the administrator allows
 *
 * The page table code has to check what the hardware can do besides. Architectures
 * with leaves between the PTE and the PMD level compare those with it too.
 *
 * Context: Any.
 * Return: PUD_SHIFT, PMD_SHIFT or PAGE_SHIFT.
 */
unsigned int huge_iomap_limit_shift(void)
{
	return min_t(unsigned int, READ_ONCE(huge_iomap_limit), PUD_SHIFT);
}

/**
 * huge_iomap_max_shift - the largest leaf for device memory in the kernel now
 * @prot: protection of the mapping
 *
 * The smaller of the limit and of what the CPU can map with @prot. Whether a leaf
 * of that size fits an address is for huge_iomap_leaf_shift().
 *
 * Context: Any.
 * Return: PUD_SHIFT, PMD_SHIFT or PAGE_SHIFT.
 */
unsigned int huge_iomap_max_shift(pgprot_t prot)
{
	return huge_iomap_cap_shift(huge_iomap_limit_shift(),
				    arch_vmap_pmd_supported(prot),
				    arch_vmap_pud_supported(prot));
}

/**
 * huge_iomap_cpu_shift - the largest leaf that device memory can ever get
 *
 * What the CPU can map, whatever the limit is now and was before.
 *
 * Context: Any.
 * Return: PUD_SHIFT, PMD_SHIFT or PAGE_SHIFT. PAGE_SHIFT after nohugeiomap, which
 * lasts until the next boot.
 */
unsigned int huge_iomap_cpu_shift(void)
{
	return huge_iomap_cap_shift(huge_iomap_disabled ? PAGE_SHIFT : PUD_SHIFT,
				    arch_vmap_pmd_supported(PAGE_KERNEL),
				    arch_vmap_pud_supported(PAGE_KERNEL));
}

#ifdef CONFIG_SYSFS
static ssize_t limit_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	char name[HUGE_IOMAP_LEAF_NAME_LEN];

	return sysfs_emit(buf, "%s\n",
			  huge_iomap_leaf_name(huge_iomap_limit_shift(), name));
}

static ssize_t limit_store(struct kobject *kobj, struct kobj_attribute *attr,
			   const char *buf, size_t count)
{
	const unsigned int shifts[] = { PAGE_SHIFT, PMD_SHIFT, PUD_SHIFT };
	char name[HUGE_IOMAP_LEAF_NAME_LEN];

	for (int i = 0; i < ARRAY_SIZE(shifts); i++) {
		if (!sysfs_streq(buf, huge_iomap_leaf_name(shifts[i], name)))
			continue;
		if (huge_iomap_disabled && shifts[i] > PAGE_SHIFT)
			return -EPERM;
		WRITE_ONCE(huge_iomap_limit, shifts[i]);
		return count;
	}
	return -EINVAL;
}

static struct kobj_attribute limit_attr = __ATTR_RW_MODE(limit, 0600);

static struct attribute *huge_iomap_attrs[] = {
	&limit_attr.attr,
	NULL,
};

static const struct attribute_group huge_iomap_attr_group = {
	.name = "huge_iomap",
	.attrs = huge_iomap_attrs,
};

static int __init huge_iomap_sysfs_init(void)
{
	int err = sysfs_create_group(mm_kobj, &huge_iomap_attr_group);

	if (err)
		pr_err("cannot create the sysfs group: %d\n", err);
	return err;
}
subsys_initcall(huge_iomap_sysfs_init);
#endif /* CONFIG_SYSFS */
