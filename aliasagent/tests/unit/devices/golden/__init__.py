# SPDX-License-Identifier: Apache-2.0
"""A request for each kind of device, and beside it what we make of it and what libvirt makes of that.

``NAME-out.xml`` is the device as we hand it to libvirt; ``NAME-in.xml`` the same as libvirt 9.0 had it in a shut-off
guest's definition afterwards.
"""

import pathlib
from typing import Any

from aliasagent.devices import base
from aliasagent.devices.disk import Disk
from aliasagent.requests.hostdev import AttachHostdev
from aliasagent.requests.port import AttachInterface
from aliasagent.requests.volume import AttachVolume
from aliasagent.tests import ids

Json = dict[str, Any]

VOLUME = ids.VOLUME
PORT = ids.PORT
DEVICE = 'c0ffee00-2b1d-4d7e-9a41-6f0b5e3d8c77'
SECRET = '5b1f0e5c-95a0-4b0d-8bb7-36a1c1b1f0aa'
PASSPHRASE = '0d7a3c5e-0b56-4a07-b2fd-a3a9c9a9c0bb'
#: In the requests where Cinder sends a secret; it must never be seen again.
PLAINTEXT = 'Pl4intext'

_DIRECTORY = pathlib.Path(__file__).parent


def _volume(
    kind: str, data: Json, *, target: str = 'vdb', bus: str = 'virtio', device_type: str = 'disk', **more: Any
) -> Json:
    return {
        'connection_info': {'driver_volume_type': kind, 'data': data, 'serial': VOLUME, **more},
        'target': target,
        'bus': bus,
        'device_type': device_type,
    }


_ISCSI = {
    'target_discovered': False,
    'target_portal': '192.0.2.10:3260',
    'target_iqn': f'iqn.2010-10.org.openstack:volume-{VOLUME}',
    'target_lun': 1,
    'volume_id': VOLUME,
    'encrypted': False,
    'qos_specs': None,
    'access_mode': 'rw',
}
_CHAP = {
    'auth_method': 'CHAP',
    'auth_username': 'alice',
    'auth_password': PLAINTEXT,
    'secret_uuid': SECRET.upper(),
}

#: What :func:`disk` is given.
VOLUMES: dict[str, Json] = {
    'disk-file': _volume('file', {'device_path': '/srv/volumes/data.raw'}),
    'disk-file-qcow2-encrypted': _volume(
        'file',
        {
            'device_path': '/srv/volumes/data.qcow2',
            'format': 'qcow2',
            'discard': True,
            'encrypted': True,
            'encryption': {
                'provider': 'luks',
                'control_location': 'front-end',
                'key_size': 256,
                'secret_uuid': PASSPHRASE,
            },
        },
        target='sdb',
        bus='sata',
        disk={'cache': 'writeback', 'io': 'threads'},
    ),
    'disk-block': _volume(
        'local',
        {
            'device_path': '/dev/stack-volumes/volume-1',
            'logical_block_size': 4096,
            'physical_block_size': 4096,
            'access_mode': 'ro',
        },
        disk={'iothread': 1, 'boot_order': 1, 'queues': 4},
    ),
    'disk-block-limits-total': _volume(
        'fibre_channel',
        {
            'device_path': '/dev/dm-4',
            'multipath_id': '3600a098000d8a1f5000017e15d3c6a19',
            'target_wwn': ['50014380186b3f65'],
            'qos_specs': {
                'total_bytes_sec': '10485760',
                'total_bytes_sec_max': '20971520',
                'total_bytes_sec_max_length': '60',
                'total_iops_sec': '500',
                'total_iops_sec_max': 1000,
                'total_iops_sec_max_length': 30,
                'size_iops_sec': 4096,
                'back_end_only': 'yes',
            },
        },
    ),
    'disk-block-limits': _volume(
        'iscsi',
        {
            **_ISCSI,
            **_CHAP,
            'device_path': '/dev/sdf',
            'qos_specs': {
                'read_bytes_sec': '10485760',
                'read_bytes_sec_max': '20971520',
                'read_bytes_sec_max_length': '60',
                'write_bytes_sec': '5242880',
                'write_bytes_sec_max': '10485760',
                'write_bytes_sec_max_length': '61',
                'read_iops_sec': '500',
                'read_iops_sec_max': '1000',
                'read_iops_sec_max_length': '62',
                'write_iops_sec': '250',
                'write_iops_sec_max': '500',
                'write_iops_sec_max_length': '63',
                'total_iops_sec': '0',
            },
        },
    ),
    'disk-block-shared': _volume('local', {'device_path': '/dev/sdg'}, target='sdc', bus='scsi', multiattach=True),
    'disk-nfs': _volume(
        'nfs',
        {'export': '192.0.2.20:/srv/volumes', 'name': f'volume-{VOLUME}', 'options': None, 'format': 'raw'},
        target='sda',
        bus='usb',
        mount_point_base='/var/lib/nova/mnt',
    ),
    'disk-iscsi': _volume('iscsi', {**_ISCSI, **_CHAP}),
    'disk-rbd': _volume(
        'rbd',
        {
            'name': f'volumes/volume-{VOLUME}',
            'hosts': ['192.0.2.33', '192.0.2.31', '2001:db8::32'],
            'ports': ['6789', 6789, '6790'],
            'cluster_name': 'ceph',
            'auth_enabled': True,
            'auth_username': 'cinder',
            'secret_type': 'ceph',
            'secret_uuid': SECRET,
            'keyring': PLAINTEXT,
            'discard': True,
        },
        target='sdd',
        bus='scsi',
    ),
    'disk-nbd': _volume('nbd', {'host': 'nbd.example.org', 'port': 10810, 'export': 'data'}),
    'disk-nbd-socket': _volume('nbd', {'socket': '/run/nbd.sock'}),
    'cdrom': _volume('file', {'device_path': '/srv/images/cd.iso'}, target='sde', bus='scsi', device_type='cdrom'),
    'lun-block': _volume(
        'iscsi', {**_ISCSI, 'device_path': '/dev/sdh'}, target='sdf', bus='scsi', device_type='lun'
    ),
    'lun-iscsi': _volume('iscsi', dict(_ISCSI), target='sdg', bus='scsi', device_type='lun'),
}  # fmt: skip


def _port(vif_type: str, **more: Any) -> Json:
    return {'id': PORT, 'address': '52:54:00:12:34:56', 'vif_type': vif_type, **more}


PORTS: dict[str, Json] = {
    'interface-bridge': _port('bridge', bridge='br0', devname='tap91f04c6a-7c', mtu=1450, model='e1000e'),
    'interface-ovs': _port(
        'ovs',
        bridge='br-int',
        devname='tap91f04c6a-7c',
        mtu=9000,
        queues=4,
        vlan=100,
        bandwidth={
            'inbound': {'average': 1000, 'peak': 5000, 'burst': 1024},
            'outbound': {'average': 128, 'peak': 256, 'burst': 256},
        },
    ),
    'interface-ovs-trunk': _port('ovs', bridge='br-int', vlan=[10, 20], link_state='down'),
    'interface-tap': _port('tap', devname='tap91f04c6a-7c', mtu=1500),
    'interface-macvtap': _port('macvtap', macvtap_source='eth0', macvtap_mode='passthrough', vlan=101),
    'interface-hostdev': _port('hw_veb', pci_slot='0000:06:12.5', vlan=42),
    'interface-vhostuser': _port(
        'vhostuser', vhostuser_socket='/run/vhost/vhu91f04c6a-7c', vhostuser_mode='client', queues=2, mtu=1500
    ),
    'interface-vdpa': _port('vdpa', vdpa_device='/dev/vhost-vdpa-0', queues=2, link_state='up'),
    'interface-card': _port('hostdev_physical', pci_slot='0000:81:00.1', managed=False),
    'interface-network': _port('network', network='default'),
}

HOSTDEVS: dict[str, Json] = {
    'hostdev-pci': {'type': 'pci', 'address': '0000:81:00.0', 'driver': 'vfio'},
    'hostdev-mdev': {'type': 'mdev', 'uuid': 'C2177883-F1BB-47F0-914D-32A22E3A8804', 'model': 'vfio-pci'},
    'hostdev-usb': {'type': 'usb', 'vendor': '1D6B', 'product': '0x0002'},
    'hostdev-usb-place': {'type': 'usb', 'bus': 3, 'device': 14},
    'hostdev-scsi': {'type': 'scsi', 'adapter': 'scsi_host0', 'bus': 0, 'target': 2, 'unit': 3},
}

NAMES = (*VOLUMES, *PORTS, *HOSTDEVS)


def build(name: str) -> base.Device:
    """The device that is made of a request."""
    if name in VOLUMES:
        return disk(**VOLUMES[name])
    if name in PORTS:
        return AttachInterface.from_dict({'port': PORTS[name]}).device()
    return AttachHostdev.from_dict({'device_id': DEVICE, 'hostdev': HOSTDEVS[name]}).device()


def request(connection_info: Json, device_type: str = 'disk') -> AttachVolume:
    """The request for a volume."""
    return AttachVolume.from_dict(
        {'volume_id': VOLUME, 'connection_info': connection_info, 'device_type': device_type}
    )


def disk(connection_info: Json, *, target: str, bus: str, device_type: str = 'disk') -> Disk:
    """The disk of a volume."""
    return request(connection_info, device_type).disk(target=target, bus=bus)


def text(name: str, way: str) -> str:
    """A golden file's text.

    :param way: ``out`` or ``in``.
    """
    return (_DIRECTORY / f'{name}-{way}.xml').read_text()
