# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by the other scripts: where things are, and how to speak.

set -euo pipefail
shopt -s inherit_errexit

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
BUILD=$ROOT/build
BASE=$BUILD/base
LINUX=$BUILD/linux
PATCHES=$ROOT/patches
JOBS=${JOBS:-$(nproc)}
# The base kernel. SERIES=7.4 tries the patches on that one.
SERIES=${SERIES:-7.3}
export BASE LINUX PATCHES JOBS SERIES

# One identity and one date for what the scripts commit: the same input gives
# the same commits on every machine.
export GIT_AUTHOR_NAME=huge-iomap GIT_AUTHOR_EMAIL=huge-iomap@example.org
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL
BASE_DATE='2026-01-01T00:00:00Z'
export BASE_DATE

say() { printf '==> %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# ccache sees all trees and output directories from build/.
export CCACHE_DIR=${CCACHE_DIR:-$BUILD/ccache} CCACHE_BASEDIR=$BUILD CCACHE_NOHASHDIR=1
export CCACHE_SLOPPINESS=time_macros CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-4G}
# From nothing, a fifth less time: without a run of the preprocessor for each object.
export CCACHE_DEPEND=1
# See scripts/bin/ccache.
export PATH=$ROOT/scripts/bin:$PATH

# copy_in DIR: the files whose names it reads, to the same places in it
copy_in() {
	local file
	while read -r file; do
		mkdir -p "$1/$(dirname "$file")"
		cp -L "$file" "$1/$file"
	done
}
# libraries FILE...: what they are linked with. Some are not.
libraries() {
	local file
	for file; do
		ldd "$file" 2>/dev/null || true
	done | sed -n 's/^\(.*=>\)\{0,1\}[[:space:]]*\(\/[^ ]*\) (0x.*/\2/p' | sort -u
}

# pack DIR: an archive of it for the kernel, which unpacks several one after the other
pack() {
	(cd "$1" && find . -print0 | sort -z |
		cpio --null -o -H newc --quiet --reproducible --owner 0:0) | gzip -1n
}

# need_space DIR MIB: stop early instead of in the middle of a write.
need_space() {
	local free
	free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
	[ "$free" -ge "$2" ] || die "$1 has $free MiB free, $2 MiB are needed"
}

# patches/series: which series there are.
# Their folders, in order; with an argument that of this one: 01 or 01-pud-leaf-fixes
series_names() {
	local all name
	all=$(sed -n 's/^\([0-9][^ |]*\) *|.*/\1/p' "$PATCHES/series")
	[ -n "${1:-}" ] || { echo "$all"; return; }
	for name in $all; do
		[ "$name" = "$1" ] || [ "${name%%-*}" = "$1" ] || continue
		echo "$name"
		return
	done
	die "patches/series has no series $1"
}
# series_field NAME N: 2 the trees, 3 what it needs, 4 the subject of its first patch
series_field() {
	sed -n "s/^$1 *| *//p" "$PATCHES/series" | cut -d'|' -f$(($2 - 1)) | sed 's/^ *//; s/ *$//'
}
# What a series needs, and what that needs, in order, and the series itself
series_with_needs() {
	local n need needs
	needs=$(series_field "$1" 3)
	{
		for n in $needs; do
			need=$(series_names "$n") || exit 1
			[[ $need < $1 ]] || die "patches/series: $1 needs $n, which comes later"
			series_with_needs "$need"
		done
		echo "$1"
	} | sort -u
}
# Its commits in build/linux, oldest first
series_commits() {
	local name subject base first='' next=''
	base=$(git -C "$LINUX" rev-list --max-parents=0 HEAD)
	for name in $(series_names); do
		[ "$name" = "$1" ] || [ -n "$first" ] || continue
		subject=$(series_field "$name" 4)
		next=$(git -C "$LINUX" log --reverse --format='%H %s' "$base..HEAD" |
			awk -v s="$subject" 'substr($0, 42) == s { print $1; n++ } END { exit n != 1 }') ||
			die "patches/series: build/linux has not one patch \"$subject\""
		[ -n "$first" ] && break
		first=$next next=''
	done
	git -C "$LINUX" rev-list --reverse "$first^..${next:+$next^}"
}
# Patch files, in order: patch_files "NAME NAME"
patch_files() {
	local name
	for name in $1; do
		[ -r "$PATCHES/$name/cover-letter.txt" ] || die "no patches/$name"
		find "$PATCHES/$name" -name '[0-9]*.patch' | sort | grep . || die "no patches in patches/$name"
	done
}

# check_config CONFIGFILE FRAGMENT KERNELSRC [PRESENT]: die if a CONFIG_ line of FRAGMENT did not
# take effect. The last line for a symbol counts. A symbol that the tree does not have,
# one of another version, is passed by; with PRESENT, also one whose dependencies the
# fragment switches off.
check_config() {
	local config=$1 fragment=$2 src=$3 line sym bad='' defined=''
	while IFS= read -r line; do
		sym=${line%%=*}
		grep -qxF "$line" "$config" && continue
		[ "$(grep "^$sym=\|^# $sym is not set" "$fragment" | tail -n 1)" = "$line" ] || continue
		[ "$line" != "$sym=n" ] || grep -q "^$sym=" "$config" || continue
		if ! grep -q "^$sym=\|^# $sym is not set" "$config"; then
			# What it depends on is not there, or the symbol is not.
			[ -z "${4:-}" ] || continue
			[ -n "$defined" ] ||
				defined=$(find "$src" -path "$src/arch/*/*" ! -path "$src/arch/${SRCARCH:-x86}*" -prune \
					-o -name 'Kconfig*' -type f -print0 |
					xargs -0 sed -n 's/^[[:space:]]*\(menu\)\{0,1\}config[[:space:]]\{1,\}\([A-Z0-9_a-z]*\).*/CONFIG_\2/p')
			grep -qxF "$sym" <<<"$defined" || continue
		fi
		bad+=" $line"
	done < <(grep '^CONFIG_' "$fragment")
	[ -z "$bad" ] || die "did not take effect:$bad; see $config"
}

# What build/linux was last made from or exported to: the commit, and the base and
# the patches as a checksum.
TREE_STAMP=$LINUX/.git/huge-iomap-tree
series_id() {
	local names list f
	names=$(series_names)
	list=$(patch_files "$names")
	{
		cat "$BUILD/base.stamp"
		while read -r f; do cat "$f"; done <<<"$list"
	} | sha256sum | cut -d' ' -f1
}
stamp_tree() { printf '%s\n%s\n' "$(git -C "$LINUX" rev-parse HEAD)" "$(series_id)" >"$TREE_STAMP"; }

# kunit_generic_pt TREE LOG: KUnit of the IO page tables, the generic ones and LPAE, in user
# mode Linux: it compares counters of the system, in which other CPUs and an IOMMU of its
# own would show. Prints the counts; false if a test fails.
kunit_generic_pt() {
	local counts
	(cd "$1" && python3 tools/testing/kunit/kunit.py run --build_dir="$BUILD/uml" \
		--kunitconfig drivers/iommu/generic_pt/.kunitconfig \
		--kconfig_add CONFIG_IOMMU_IO_PGTABLE_LPAE=y \
		--kconfig_add CONFIG_IOMMU_IO_PGTABLE_LPAE_KUNIT_TEST=y --jobs "$JOBS" \
		--make_options CC="ccache gcc") >"$2" 2>&1 || true
	counts=$(sed -n 's/.*Testing complete\. *//p' "$2")
	case $counts in
	"" | *failed* | *crashed* | *errors*) return 1 ;;
	esac
	echo "$counts"
}

# split_args ARGS: into $vm_args what stands before --, options of scripts/vm, into
# $cmdline what stands behind it.
# shellcheck disable=SC2034 # for the caller
split_args() {
	vm_args=()
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		vm_args+=("$1")
		shift
	done
	cmdline=("${@:2}")
}

# What the kernel's make prints, as a line for each 250 objects
progress() {
	awk '/^ *(CC|AS|LD|AR) / && ++n % 250 == 0 { printf "    %d objects\n", n; fflush() }'
}

mkdir -p "$BUILD"
