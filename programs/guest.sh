# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# At the head of each script that scripts/programs runs in the guest.
# What a program says is in /tmp/NAME.log; of one that fails the end is printed.
echo 1 4 1 7 >/proc/sys/kernel/printk
failed=0 tried=0

# verdict NAME STATUS
verdict() {
	tried=$((tried + 1))
	if [ "$2" -eq 0 ]; then
		echo "ok - $1"
		return
	fi
	echo "not ok - $1: status $2"
	{ grep -aiE -m 5 'error|fail|bad' "/tmp/$1.log"; tail -n 10 "/tmp/$1.log"; } 2>/dev/null |
		sed 's/^/# /'
	failed=$((failed + 1))
}

# call NAME FUNCTION ARGUMENT...: of the shell
call() {
	name=$1
	shift
	status=0
	"$@" >"/tmp/$name.log" 2>&1 || status=$?
	verdict "$name" $status
}

# try NAME COMMAND...
try() {
	name=$1
	shift
	call "$name" timeout $((SLOW * 180)) "$@"
}

# refused NAME REGEX COMMAND...: it fails, and says why
refused() {
	name=$1 regex=$2
	shift 2
	status=0
	if timeout $((SLOW * 180)) "$@" >"/tmp/$name.log" 2>&1; then
		status=100
	else
		grep -Eq "$regex" "/tmp/$name.log" || status=101
	fi
	verdict "$name" $status
}

# The BAR of 16 GiB, and that of 1 GiB beside the disks
dev=$VFIO_SELFTESTS_BDF sysfs=/sys/bus/pci/devices/$VFIO_SELFTESTS_BDF
for d in /sys/bus/pci/devices/*; do
	[ "$(cat "$d/device")" != 0x1110 ] || [ "${d##*/}" = "$dev" ] || peer=${d##*/}
done

# pattern NAME OPTION...: 64 MiB here and there in 4 GiB of /tmp/bar, a link to a file of
# the BAR: fio takes ":" for more than one file.
pattern() {
	name=$1
	shift
	try "$name" fio --name=p --rw=randwrite --bs=64k --verify=crc32c --randrepeat=0 --ioengine=mmap \
		--filename=/tmp/bar --size=4g --io_size=64m "$@"
}

# bind DEVICE DRIVER: one that fails is told, one that does not is no program.
bind() {
	echo "$1" >"/sys/bus/pci/devices/$1/driver/unbind" 2>/dev/null
	echo "$2" >"/sys/bus/pci/devices/$1/driver_override"
	echo "$1" >/sys/bus/pci/drivers_probe
	case $(readlink "/sys/bus/pci/devices/$1/driver") in
	*/"$2") ;;
	*) verdict "bind_$2" 110 ;;
	esac
}

# bind_iopmem MODE: the BAR of 1 GiB
bind_iopmem() {
	echo "$1" >/sys/module/iopmem/parameters/mode
	bind "$peer" iopmem
}

# p2pmem_is_free NAME: all of the p2p memory of that BAR, and there is some
p2pmem_is_free() {
	size=$(cat /sys/bus/pci/devices/$peer/p2pmem/size)
	[ "${size:-0}" -gt 0 ] &&
	[ "$size" = "$(cat /sys/bus/pci/devices/$peer/p2pmem/available)" ]
	verdict "$1" $?
}

# The end of each
finish() {
	echo "# $tried programs"
	[ $failed -eq 0 ]
}
