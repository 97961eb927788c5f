# SPDX-License-Identifier: Apache-2.0
"""Guests' definitions, as libvirt writes them (9.0; a test compares), with as many devices as one likes."""

import dataclasses
import uuid

_DISK = """\
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none' discard='unmap'/>
      <source file='/var/lib/nova/mnt/volume-{id}'{index}/>
{backing}      <target dev='{target}' bus='scsi'/>
      <serial>{id}</serial>
      <alias name='ua-{id}'/>
      <address type='drive' controller='{controller}' bus='0' target='0' unit='{unit}'/>
    </disk>
"""
_INTERFACE = """\
    <interface type='bridge'>
      <mac address='{mac}'/>
      <source bridge='br-int'/>
      <virtualport type='openvswitch'>
        <parameters interfaceid='{id}'/>
      </virtualport>
      <target dev='tap{short}'/>
      <model type='virtio'/>
      <mtu size='1450'/>
      <alias name='ua-{id}'/>
      <address type='pci' domain='0x0000' bus='0x{bus:02x}' slot='0x00' function='0x0'/>
    </interface>
"""
_HEAD = """\
<domain type='kvm'{runtime_id}>
  <name>instance-0000002a</name>
  <uuid>{instance}</uuid>
  <memory unit='KiB'>4194304</memory>
  <currentMemory unit='KiB'>4194304</currentMemory>
  <vcpu placement='static'>4</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <boot dev='hd'/>
  </os>
  <features>
    <acpi/>
  </features>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
"""
_TAIL = """\
    <memballoon model='virtio'>
      <stats period='10'/>
{balloon}    </memballoon>
  </devices>
{label}</domain>
"""
_LABEL = """\
  <seclabel type='dynamic' model='dac' relabel='yes'>
    <label>+64055:+109</label>
    <imagelabel>+64055:+109</imagelabel>
  </seclabel>
"""


@dataclasses.dataclass(frozen=True)
class Made:
    """A guest: three of four devices are disks, the rest interfaces, each with its user alias."""

    instance: str
    disks: list[str]
    interfaces: list[str]

    def text(self, *, live: bool, without: str | None = None) -> str:
        """The definition, live or persistent, without the device of an id."""
        devices = [
            _DISK.format(
                id=disk,
                index=f" index='{number + 1}'" if live else '',
                backing='      <backingStore/>\n' if live else '',
                target=target(number),
                controller=number // 7,
                unit=number % 7,
            )
            for number, disk in enumerate(self.disks)
            if disk != without
        ]
        devices += [
            _INTERFACE.format(
                id=port, short=port[:11], mac=f'fa:16:3e:00:{number >> 8:02x}:{number & 255:02x}', bus=number % 256
            )
            for number, port in enumerate(self.interfaces)
            if port != without
        ]
        head = _HEAD.format(instance=self.instance, runtime_id=" id='7'" if live else '')
        tail = _TAIL.format(
            balloon="      <alias name='balloon0'/>\n" if live else '', label=_LABEL if live else ''
        )
        return head + ''.join(devices) + tail


def make(devices: int) -> Made:
    """A guest with so many devices."""
    disks = devices * 3 // 4
    ids = [str(uuid.uuid4()) for _ in range(devices)]
    return Made(str(uuid.uuid4()), ids[:disks], ids[disks:])


def target(number: int) -> str:
    """The name of the disk with this number, counted from 0: sda, ..., sdz, sdaa, ..."""
    name = ''
    number += 1
    while number:
        number, letter = divmod(number - 1, 26)
        name = chr(97 + letter) + name
    return f'sd{name}'
