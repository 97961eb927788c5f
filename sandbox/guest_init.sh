#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# The whole operating system of the test guest: loads the drivers, then says on the serial console what it sees, one
# JSON object per line, each time something changes:
#
#   {"event":"boot"}                        a new run of this guest: whatever was seen before is no longer true
#   {"event":"disk-added","name":"vda","bytes":1048576,"serial":"...","bus":"virtio","readonly":false,"slot":"0000:..."}
#   {"event":"disk-changed", ...}           the same members; its size is another now
#   {"event":"disk-removed","name":"vda"}
#   {"event":"nic-added","name":"eth0","mac":"52:54:00:...","slot":"0000:05:00.0","mtu":1500}
#   {"event":"nic-removed","name":"eth0"}
#   {"event":"ready","uptime":3.21}         everything that was there at the start was named
#   {"event":"write","seq":17}              once a second, with aa.write=1: record 17 is on the first virtio disk
#   {"event":"write-failed","seq":18}       it could not be written
#   {"event":"read","seq":17}               after each "write": the guest has read record 17 back from the disk
#   {"event":"read-failed","seq":17}        the disk has something else there
#   {"event":"poweroff"}                    the power button was pressed
#
# A virtio disk reports the first 20 characters of its serial: the device has no room for more.
# Kernel command line: aa.write=1 writes records to the first virtio disk. What makes a guest deaf to hot-unplug is
# the kernel's own options, and nothing here.

export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /run/disk /run/nic
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

say() { echo "{\"event\":$1}"; }

say '"boot"'
while read -r module; do
    insmod "/modules/$module" || echo "cannot load $module"
done </modules/order
read -r arguments </proc/cmdline

# The slot is the PCI address nearest to the device in its path under /sys.
slot_of() { readlink -f "$1" | grep -oE '[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]' | tail -n 1; }

disk_line() { # event name size readonly
    case $2 in
    vd*) bus=virtio serial=$(cat "/sys/block/$2/serial" 2>/dev/null) ;;
    *) bus=scsi serial=$(tail -c +5 "/sys/block/$2/device/vpd_pg80" 2>/dev/null | tr -d '\0') ;;
    esac
    [ "$4" = 1 ] && readonly=true || readonly=false
    say "\"$1\",\"name\":\"$2\",\"bytes\":$(($3 * 512)),\"serial\":\"$serial\",\"bus\":\"$bus\",\"readonly\":$readonly,\"slot\":\"$(slot_of "/sys/block/$2")\""
}

# A name can go and come back between two looks: diskseq and ifindex are never used twice.
scan_disks() {
    for path in /run/disk/*; do
        name=${path##*/}
        [ "$name" = '*' ] && continue
        read -r old_sequence old_size old_readonly <"$path"
        if ! { read -r sequence <"/sys/block/$name/diskseq"; } 2>/dev/null || [ "$sequence" != "$old_sequence" ]; then
            rm "$path"
            say "\"disk-removed\",\"name\":\"$name\""
        fi
    done
    for path in /sys/block/vd* /sys/block/sd*; do
        name=${path##*/}
        { read -r sequence <"$path/diskseq" && read -r size <"$path/size" && read -r ro <"$path/ro"; } 2>/dev/null || continue
        event=disk-added
        if [ -e "/run/disk/$name" ]; then
            read -r old_sequence old_size old_readonly <"/run/disk/$name"
            [ "$size $ro" = "$old_size $old_readonly" ] && continue
            # the kernel empties a disk before it takes it away
            [ "$size" = 0 ] && continue
            event=disk-changed
        fi
        echo "$sequence $size $ro" >"/run/disk/$name"
        disk_line $event "$name" "$size" "$ro"
    done
}

scan_nics() {
    for path in /run/nic/*; do
        name=${path##*/}
        [ "$name" = '*' ] && continue
        read -r old_index <"$path"
        if ! { read -r index <"/sys/class/net/$name/ifindex"; } 2>/dev/null || [ "$index" != "$old_index" ]; then
            rm "$path"
            say "\"nic-removed\",\"name\":\"$name\""
        fi
    done
    for path in /sys/class/net/*; do
        name=${path##*/}
        [ -e "/run/nic/$name" ] || [ ! -e "$path/device" ] && continue
        { read -r index <"$path/ifindex" && read -r mac <"$path/address" && read -r mtu <"$path/mtu"; } 2>/dev/null || continue
        echo "$index" >"/run/nic/$name"
        say "\"nic-added\",\"name\":\"$name\",\"mac\":\"$mac\",\"slot\":\"$(slot_of "$path")\",\"mtu\":$mtu"
    done
}

power_button() {
    for path in /sys/class/input/event*; do
        grep -q 'Power Button' "$path/device/name" 2>/dev/null || continue
        # blocks until the button is pressed: one input event is 24 bytes
        { dd if="/dev/input/${path##*/}" of=/dev/null bs=24 count=1 2>/dev/null && say '"poweroff"' && poweroff -f; } &
    done
}

# Record N lies in sector N modulo 2048: 'N', a blank, the MD5 of 'N' in hexadecimal, a newline, padded with zeros.
write_records() {
    seq=0 said=0
    while :; do
        while [ ! -b /dev/vda ]; do
            # when a disk was just removed, dd may have made a file of its name, and the next disk has no place then
            [ -f /dev/vda ] && rm /dev/vda
            sleep 0.2
        done
        seq=$((seq + 1))
        sum=$(printf %s "$seq" | md5sum)
        if ! printf '%s %s\n' "$seq" "${sum%% *}" |
            dd of=/dev/vda bs=512 seek=$((seq % 2048)) conv=sync,notrunc,fsync 2>/dev/null; then
            say "\"write-failed\",\"seq\":$seq"
            sleep 1
            continue
        fi
        read -r uptime _ </proc/uptime
        [ "${uptime%.*}" = "$said" ] && continue
        said=${uptime%.*}
        say "\"write\",\"seq\":$seq"
        # not what the kernel remembers of it
        blockdev --flushbufs /dev/vda 2>/dev/null
        if [ "$(dd if=/dev/vda bs=512 skip=$((seq % 2048)) count=1 2>/dev/null | tr -d '\0')" = "$seq ${sum%% *}" ]; then
            say "\"read\",\"seq\":$seq"
        else
            say "\"read-failed\",\"seq\":$seq"
        fi
    done
}

power_button
scan_disks
scan_nics
read -r uptime _ </proc/uptime
say "\"ready\",\"uptime\":$uptime"
case " $arguments " in *' aa.write=1 '*) write_records & ;; esac
while :; do
    sleep 0.2
    scan_disks
    scan_nics
done
