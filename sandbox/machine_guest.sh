# SPDX-License-Identifier: Apache-2.0
#
# Continues machine_init.sh: makes a host without systemd, runs the command, and switches the machine off. Before these lines
# machine.py sets run, modules and directory.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
kernel=$(uname -r)
mkdir -p "/lib/modules/$kernel"
mount --bind "$modules/$kernel" "/lib/modules/$kernel"
ip link set lo up
hostname machine
stty -F /dev/ttyS1 raw -echo
(cd "$directory" && exec bash "$run/command") </dev/null >/dev/ttyS1 2>&1
echo $? >/dev/ttyS2
sync
echo o >/proc/sysrq-trigger
sleep 60
