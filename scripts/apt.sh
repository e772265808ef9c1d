# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced, after lib.sh, by the scripts that fetch Debian packages of other suites.
# apt runs with a state directory of its own under build/: the machine's apt is not
# touched, and signatures are checked against the archive's keyring.

APT_DIR=$BUILD/apt

apt_private() {
	local tool=$1
	shift
	"$tool" -o Dir::Etc="$APT_DIR/etc" -o Dir::Etc::Parts="$APT_DIR/etc/none" \
		-o Dir::State="$APT_DIR/state" -o Dir::State::status="$APT_DIR/status" \
		-o Dir::Cache="$APT_DIR/cache" -o APT::Sandbox::User=root \
		-o Acquire::Retries=3 "$@"
}

# apt_mirrors SUITE: the mirrors that this machine uses for it, as its own apt knows them.
apt_mirrors() {
	local sort=-v
	case $1 in *-security) sort=-e ;; esac
	# shellcheck disable=SC2016 # apt expands it
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
		grep "$sort" security | sort -u
}

# apt_find TYPE PACKAGE SUITE...: make the private apt look at the first suite that
# has the package, in a version that matches $APT_VERSION (an ERE, any if it is empty).
# TYPE is deb or deb-src.
apt_find() {
	local type=$1 package=$2 suite uri keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	local show=show others='' newest
	shift 2
	[ "$type" = deb ] || show=showsrc

	[ -r "$keyring" ] || die "no $keyring: install debian-archive-keyring"
	mkdir -p "$APT_DIR"/{etc/{apt.conf.d,preferences.d,sources.list.d,none},state/lists/partial,cache/archives/partial}
	: >"$APT_DIR/status"
	for suite; do
		for uri in $(apt_mirrors "$suite"); do
			echo "$type [signed-by=$keyring] $uri $suite main" >"$APT_DIR/etc/sources.list"
			say "looking for $package in $suite (10 seconds)"
			apt_private apt-get update >"$APT_DIR/update.log" 2>&1 || continue
			! grep -q '^[EW]:' "$APT_DIR/update.log" || continue
			apt_private apt-cache "$show" "$package" 2>/dev/null |
				grep -E "^Version: ${APT_VERSION:-}" >/dev/null && return
			others+=" $(apt_private apt-cache pkgnames "${package%-*}-" | paste -sd' ')"
		done
	done
	newest=$(tr ' ' '\n' <<<"$others" | grep -E "^${package%-*}-[0-9.]+\$" | sort -V | tail -n 1 || true)
	die "no mirror of this machine's apt has $package ${APT_VERSION:+of this version }with a valid signature; see $APT_DIR/update.log${newest:+; the newest that there is: $newest}"
}
