# SPDX-License-Identifier: GPL-2.0
# Thin: each target calls scripts that do one job. See README.md.

export LINUX_TARBALL ACCEL BAR JOBS T SERIES DEBUG H SEED ARGS
K ?= 6.12
KERNEL ?= plain
# scripts/initramfs has another one.
unexport KERNEL
NAMED := $(if $(filter plain,$(KERNEL)),series,$(KERNEL))

.PHONY: help demo test test-full test-debug test-iommus upstream selfcheck soak proof mutants programs coverage stable bench check check-bisect check-series series tree kernel export shell apply deb hw clean

help:
	@echo "make demo         boot base and series on a 16 GiB PCI BAR, compare, draw (30 minutes)"
	@echo "make test         all tests in the VM (25 minutes after demo); T=a,b: only those"
	@echo "make test-full    the same, and all kselftests where huge leaves are off, too"
	@echo "make test-debug   the same under KASAN, lockdep and page table checks"
	@echo "make test-iommus  DMA tests behind the IOMMU of AMD, and behind virtio-iommu"
	@echo "make upstream     upstream's own selftests on base and series: the same results? T=mm,kvm: only those"
	@echo "make selfcheck    CPA_DEBUG and DEBUG_VM_PGTABLE on base and series; both default MTRR types"
	@echo "make soak         random operations against a model, H=HOURS SEED=N KERNEL=plain|debug|ptcheck|kcsan"
	@echo "make proof        prove the arithmetic of leaves with cbmc (3 minutes)"
	@echo "make mutants M=x  wrong edits of the code, which the tests have to notice (hours; M: a regex)"
	@echo "make programs     memtester, stress-ng, fio, trinity, nvme-cli, DPDK and QEMU on the devices of the VM; P=dpdk,nvme: only those"
	@echo "make coverage     lines of the series' code that its tests reach (30 minutes)"
	@echo "make stable K=6.12   the fixes for 6.12, 6.18 or 6.12.117: fails without, passes with them (25 minutes)"
	@echo "make bench        measure base and series; writes bench/results.json and .svg"
	@echo "make check        export in sync, checkpatch, sparse, kernel-doc, other configurations"
	@echo "make check-bisect build and boot after each patch"
	@echo "make check-series build and boot each series on what it needs; S=NN: only that"
	@echo "make tree         lay out build/linux: the base, one commit a patch"
	@echo "make kernel       build it into build/kernel"
	@echo "make export       write patches/ and the added files from build/linux"
	@echo "make shell        boot it and get a shell"
	@echo "make deb CONFIG=FILE TRIM=1   Debian packages of the kernel, for a machine of yours"
	@echo "make hw DEV=0000:bb:dd.f BAR=n   look at a BAR of this machine, and measure it"
	@echo "make apply LINUX=DIR S=NN   apply a series and what it needs to a tree of yours; all without S="
	@echo "make series S=NN  a series ready to be mailed: cover letter, patches, To and Cc"
	@echo "Options: SERIES=7.3 LINUX_TARBALL=FILE ACCEL=kvm BAR=16G JOBS=N"

tree:
	@scripts/deps
	@scripts/fetch-base
	@scripts/tree

kernel: tree
	@scripts/kernel series

demo: tree
	@scripts/kernel series
	@scripts/kernel base
	@bench/run build/demo.json 2 1024 16384
	@scripts/demo build/demo.json build/demo.svg

test test-full: tree
	@scripts/kernel series
	@$(if $(T),true,scripts/kernel nohuge)
	@$(if $(T),true,scripts/kernel pae)
	@scripts/initramfs
	@scripts/run-tests $(if $(filter test-full,$@),full)

test-debug: tree
	@scripts/kernel debug
	@scripts/kernel ptcheck
	@SLOW=10 scripts/initramfs
	@scripts/run-tests debug

test-iommus: tree
	@scripts/kernel series
	@scripts/kernel upstream
	@scripts/initramfs
	@scripts/run-tests iommus

upstream: tree
	@scripts/kernel upstream
	@scripts/kernel upstream-base
	@scripts/deps upstream
	@scripts/upstream '$(T)'

selfcheck: tree
	@scripts/selfcheck
	@scripts/mtrr-default

soak: tree
	@scripts/kernel $(NAMED)
	@scripts/initramfs
	@soak/run $(KERNEL)

proof: tree
	@scripts/deps
	@proof/run

programs: tree
	@scripts/kernel $(NAMED)
	@scripts/initramfs
	@scripts/programs $(KERNEL) $(P)

coverage: tree
	@scripts/kernel series
	@scripts/kernel coverage
	@scripts/initramfs
	@scripts/coverage

mutants: kernel
	@scripts/initramfs
	@soak/mutants '$(M)'

stable:
	@scripts/deps
	@scripts/stable "$(K)"

bench: tree
	@scripts/kernel series
	@scripts/kernel base
	@bench/run bench/results.json
	@scripts/demo bench/results.json bench/results.svg

check: kernel
	@scripts/deps check
	@scripts/initramfs
	@scripts/check

check-bisect: tree
	@scripts/kernel series
	@scripts/bisect

check-series: tree
	@scripts/check-series $(S)

export:
	@scripts/export

shell: kernel
	@scripts/initramfs
	@scripts/vm shell

apply:
	@scripts/apply "$(LINUX)" $(S)

series: tree
	@scripts/series $(S)

deb: tree
	@scripts/deps deb
	@scripts/deb

hw:
	@scripts/hw

clean:
	rm -rf build
