# SPDX-License-Identifier: Apache-2.0
"""From a device's configuration to its XML, for every kind that Nova's configuration classes have, too.

Each contender makes its object, sets the same values and has the XML written. That both wrote the same is looked at
without the blanks, and with sisters in one order, for libvirt minds neither. Nova writes an alias for disks only; the
rest of ours is written without.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from lxml import etree

from aliasagent.devices import disk
from aliasagent.devices.base import Device
from aliasagent.devices.hostdev import Hostdev
from aliasagent.devices.interface import Interface
from benchmarks import harness
from benchmarks.harness import Comparison
from benchmarks.harness import Result
from benchmarks.harness import Sample
from benchmarks.harness import Setting
from benchmarks.nova import Nova

TITLE = "A device's configuration to XML"
_REPEAT = 300
_ID = '7d3c2b9e-54f5-4b1e-8f0f-2a6c1d7e9b10'
_SECRET = '457eb676-33da-42ec-9a8c-9293d545c337'
_MAC = 'fa:16:3e:10:00:01'

Values = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A device, in our words and in Nova's."""

    make: Callable[[], Device]
    ours: Values
    #: Which of the classes of :mod:`benchmarks.nova_side`.
    nova: str
    theirs: Values
    hosts: tuple[disk.Host, ...] = ()


_DISK_OURS: Values = {
    'driver_name': 'qemu', 'driver_type': 'raw', 'cache': 'none', 'serial': _ID, 'alias': f'ua-{_ID}',
}  # fmt: skip
_DISK_NOVA: Values = {
    'driver_name': 'qemu', 'driver_format': 'raw', 'driver_cache': 'none', 'serial': _ID, 'alias': f'ua-{_ID}',
}  # fmt: skip
_TAP_OURS: Values = {'mac': _MAC, 'model': 'virtio', 'target_dev': 'tap7d3c2b9e-54'}
_TAP_NOVA: Values = {'mac_addr': _MAC, 'model': 'virtio', 'target_dev': 'tap7d3c2b9e-54'}

KINDS: dict[str, Kind] = {
    'disk, file': Kind(
        disk.Disk.new,
        {**_DISK_OURS, 'type': 'file', 'source_file': '/mnt/volume', 'target_dev': 'sda', 'bus': 'scsi'},
        'disk',
        {**_DISK_NOVA, 'source_type': 'file', 'source_path': '/mnt/volume', 'target_dev': 'sda', 'target_bus': 'scsi'},
    ),
    'disk, block with limits': Kind(
        disk.Disk.new,
        {
            **_DISK_OURS, 'type': 'block', 'source_block': '/dev/sdk', 'io': 'native', 'discard': 'unmap',
            'target_dev': 'vdb', 'bus': 'virtio', 'read_bytes_sec': 52428800, 'write_bytes_sec': 26214400,
            'read_iops_sec': 500, 'write_iops_sec': 250, 'shareable': True,
        },
        'disk',
        {
            **_DISK_NOVA, 'source_type': 'block', 'source_path': '/dev/sdk', 'driver_io': 'native',
            'driver_discard': 'unmap', 'target_dev': 'vdb', 'target_bus': 'virtio', 'disk_read_bytes_sec': 52428800,
            'disk_write_bytes_sec': 26214400, 'disk_read_iops_sec': 500, 'disk_write_iops_sec': 250, 'shareable': True,
        },
    ),
    'disk, lun': Kind(
        disk.Disk.new,
        {
            'driver_name': 'qemu', 'driver_type': 'raw', 'cache': 'none', 'io': 'native', 'alias': f'ua-{_ID}',
            'type': 'block', 'device': 'lun', 'source_block': '/dev/sdk', 'target_dev': 'sdb', 'bus': 'scsi',
        },
        'disk',
        {
            'driver_name': 'qemu', 'driver_format': 'raw', 'driver_cache': 'none', 'driver_io': 'native',
            'alias': f'ua-{_ID}', 'source_type': 'block', 'source_device': 'lun', 'source_path': '/dev/sdk',
            'target_dev': 'sdb', 'target_bus': 'scsi',
        },
    ),
    'disk, rbd': Kind(
        disk.Disk.new,
        {
            **_DISK_OURS, 'type': 'network', 'source_protocol': 'rbd', 'source_name': f'volumes/volume-{_ID}',
            'target_dev': 'vdb', 'bus': 'virtio',
        },
        'disk',
        {
            **_DISK_NOVA, 'source_type': 'network', 'source_protocol': 'rbd', 'source_name': f'volumes/volume-{_ID}',
            'source_hosts': ['192.0.2.11', '192.0.2.12'], 'source_ports': ['6789', '6789'], 'target_dev': 'vdb',
            'target_bus': 'virtio',
        },
        hosts=(disk.Host('192.0.2.11', '6789'), disk.Host('192.0.2.12', '6789')),
    ),
    'disk, iscsi': Kind(
        disk.Disk.new,
        {
            **_DISK_OURS, 'type': 'network', 'source_protocol': 'iscsi', 'source_name': 'iqn.2010-10.org.openstack/1',
            'target_dev': 'vdb', 'bus': 'virtio',
        },
        'disk',
        {
            **_DISK_NOVA, 'source_type': 'network', 'source_protocol': 'iscsi',
            'source_name': 'iqn.2010-10.org.openstack/1', 'source_hosts': ['192.0.2.11'], 'source_ports': ['3260'],
            'target_dev': 'vdb', 'target_bus': 'virtio',
        },
        hosts=(disk.Host('192.0.2.11', '3260'),),
    ),
    'interface, Open vSwitch': Kind(
        Interface.new,
        {
            **_TAP_OURS, 'type': 'bridge', 'bridge': 'br-int', 'virtualport_type': 'openvswitch', 'interfaceid': _ID,
            'mtu': 1450,
        },
        'interface',
        {
            **_TAP_NOVA, 'net_type': 'bridge', 'source_dev': 'br-int', 'vporttype': 'openvswitch',
            'vportparams': [{'key': 'interfaceid', 'value': _ID}], 'mtu': 1450,
        },
    ),
    'interface, bridge with limits': Kind(
        Interface.new,
        {
            **_TAP_OURS, 'type': 'bridge', 'bridge': 'br0', 'driver_name': 'vhost', 'queues': 4,
            'inbound_average': 1000, 'inbound_peak': 2000, 'inbound_burst': 500, 'outbound_average': 1000,
        },
        'interface',
        {
            **_TAP_NOVA, 'net_type': 'bridge', 'source_dev': 'br0', 'driver_name': 'vhost', 'vhost_queues': 4,
            'vif_inbound_average': 1000, 'vif_inbound_peak': 2000, 'vif_inbound_burst': 500,
            'vif_outbound_average': 1000,
        },
    ),
    'interface, tap': Kind(
        Interface.new,
        {**_TAP_OURS, 'type': 'ethernet', 'mtu': 1450, 'target_managed': False},
        'interface',
        {**_TAP_NOVA, 'net_type': 'ethernet', 'mtu': 1450, 'managed': 'no'},
    ),
    'interface, macvtap': Kind(
        Interface.new,
        {'mac': _MAC, 'model': 'virtio', 'type': 'direct', 'source_dev': 'eth0', 'source_mode': 'passthrough',
         'vlan_tags': (5,)},
        'interface',
        {'mac_addr': _MAC, 'model': 'virtio', 'net_type': 'direct', 'source_dev': 'eth0', 'source_mode': 'passthrough',
         'vlan': 5},
    ),
    'interface, vhost-user': Kind(
        Interface.new,
        {'mac': _MAC, 'model': 'virtio', 'type': 'vhostuser', 'source_type': 'unix', 'source_mode': 'server',
         'source_path': '/run/vhu1'},
        'interface',
        {'mac_addr': _MAC, 'model': 'virtio', 'net_type': 'vhostuser', 'vhostuser_type': 'unix',
         'vhostuser_mode': 'server', 'vhostuser_path': '/run/vhu1'},
    ),
    'interface, SR-IOV': Kind(
        Interface.new,
        {'mac': _MAC, 'type': 'hostdev', 'managed': True, 'host_address': '0000:06:12.5', 'vlan_tags': (5,)},
        'interface',
        {'mac_addr': _MAC, 'net_type': 'hostdev', 'source_dev': '0000:06:12.5', 'vlan': 5},
    ),
    'hostdev, PCI': Kind(
        Hostdev.new,
        {'mode': 'subsystem', 'type': 'pci', 'managed': True, 'host_address': '0000:06:12.5'},
        'pci',
        {'domain': '0000', 'bus': '06', 'slot': '12', 'function': '5'},
    ),
    'hostdev, mdev': Kind(
        Hostdev.new,
        {'mode': 'subsystem', 'type': 'mdev', 'managed': False, 'model': 'vfio-pci', 'mdev_uuid': _ID},
        'mdev',
        {'uuid': _ID},
    ),
}  # fmt: skip


def ours(kind: Kind) -> str:
    """Make the device and write its XML."""
    device = kind.make()
    for name, value in kind.ours.items():
        setattr(device, name, value)
    for host in kind.hosts:
        assert isinstance(device, disk.Disk)
        device.add_host(host)
    return device.to_xml()


def canonical(text: str) -> str:
    """A device's XML without what libvirt does not mind: blanks, and the order of sisters."""

    def written(element: Any) -> str:
        attributes = ''.join(f' {name}={value!r}' for name, value in sorted(element.attrib.items()))
        inner = (element.text or '').strip() + ''.join(sorted(written(child) for child in element))
        return f'<{element.tag}{attributes}>{inner}</{element.tag}>'

    return written(etree.fromstring(text))


def run(setting: Setting) -> Result:
    result = Result([], [])
    with harness.one_processor(), setting.nova() or contextlib.nullcontext() as nova:
        _run(setting, nova, result)
    return result


def _run(setting: Setting, nova: Nova | None, result: Result) -> None:
    repeat = setting.repeat(_REPEAT)
    for name, kind in KINDS.items():

        def our_turn(kind: Kind = kind) -> Sample:
            seconds, text = harness.cpu_seconds(functools.partial(ours, kind), repeat)
            return Sample(seconds, canonical(text))

        def nova_turn(kind: Kind = kind) -> Sample:
            assert nova is not None
            answer = nova.ask('build', kind=kind.nova, values=kind.theirs, repeat=repeat)
            return Sample(answer['seconds'], canonical(answer['text']))

        contenders: dict[str, harness.Turn] = {harness.OURS: our_turn}
        if nova is not None:
            contenders['nova'] = nova_turn
        comparison = Comparison(name, 's', harness.take_turns(setting.rounds, contenders))
        result.comparisons.append(comparison)
        if nova is not None:
            ratio = comparison.ratio('nova')
            result.aims.append(harness.aim(f'{name}: at most as long as Nova', ratio, 1.0))
    result.profile = harness.profiled(lambda: [ours(kind) for kind in KINDS.values()], repeat)
