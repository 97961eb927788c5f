#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# The first process of a machine that machine.py boots. It makes the host's files the machine's own: what is written goes to
# memory. The kernel's command line has run=DIRECTORY, with the script "guest" that continues.
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
while read -r module; do $B insmod "/modules/$module"; done </modules/order
$B mount -t virtiofs root /ro &&
    $B mount -t tmpfs -o size=400m tmpfs /rw &&
    $B mkdir /rw/up /rw/work &&
    $B mount -t overlay -o lowerdir=/ro,upperdir=/rw/up,workdir=/rw/work overlay /newroot || $B poweroff -f
for word in $($B cat /proc/cmdline); do
    case $word in run=*) run=${word#run=} ;; esac
done
# The host's own files cannot be reached any more but through the overlay.
$B mount -o remount,bind,ro /ro
for directory in proc sys dev; do $B mount -o move "/$directory" "/newroot/$directory"; done
exec $B switch_root /newroot /bin/bash "$run/guest"
