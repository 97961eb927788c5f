# SPDX-License-Identifier: Apache-2.0
"""The options that bound what a request may name: files, devices and networks of this host, and other hosts."""

import ipaddress

from oslo_config import cfg
from oslo_config import types

GROUP = 'allowed'

#: Where os-brick, Nova and libvirt put what is attached, and the devices that their links lead to.
_PATHS = [
    '/dev/disk',
    '/dev/mapper',
    '/dev/dm-*',
    '/dev/sd*',
    '/dev/nvme*n*',
    '/dev/md',
    '/dev/md[0-9]*',
    '/dev/cas[0-9]*',
    '/dev/rbd*',
    '/dev/drbd*',
    '/dev/zvol',
    '/dev/zd*',
    '/dev/storpool',
    '/dev/storpool-byid',
    '/dev/sp-*',
    '/dev/scini*',
    '/dev/cinder-volumes',
    '/var/lib/nova/mnt',
    '/var/lib/libvirt/images',
]
#: Where Open vSwitch and DPDK have the sockets of vhost-user ports.
_SOCKETS = [
    '/run/openvswitch/vhu*',
    '/var/run/openvswitch/vhu*',
    '/var/lib/vhost_sockets',
]
#: Open vSwitch's integration bridge, and the bridges that Neutron and os-vif make for a network, a port and a trunk.
_BRIDGES = ['br-int', 'brq*', 'qbr*', 'tbr-*']
#: The names that Neutron and Nova give.
_TAPS = ['tap*', 'nic*', 'vhu*']
#: What listens on this host for this host only, and at link-local addresses: a cloud's metadata service, for one.
_EXCLUDED = ['!localhost*', '!0.0.0.0/8', '!127.0.0.0/8', '!169.254.0.0/16', '!::/128', '!::1/128', '!fe80::/10']
_STORAGE_HOSTS = ['*', *_EXCLUDED]
#: The addresses that are not routed in the Internet.
_MIGRATION_HOSTS = ['10.0.0.0/8', '100.64.0.0/10', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7']
#: Where Nova's user has its key, as clouds are set up that migrate by SSH.
_MIGRATION_KEYS = ['/etc/nova/migration/identity', '/var/lib/nova/.ssh/id_*']

_PATTERNS = 'Shell patterns, or * for any; an empty value allows none'
_HOSTS = (
    'Each entry is a network (192.0.2.0/24), an address, a shell pattern for names (ceph-?.example.org), or * for any. '
    'An entry that begins with ! excludes, and wins over the others. A name is allowed if a pattern matches it, or if '
    'all its addresses are in allowed networks, and never if one of its addresses is excluded'
)


class _Host(types.String):
    """A pattern for hosts; a value with a slash must be a network."""

    def __call__(self, value: object) -> str:
        text: str = super().__call__(value)
        if '/' in text:
            ipaddress.ip_network(text.removeprefix('!').strip(), strict=False)
        return text


def _list(name: str, default: list[str], help_text: str, item_type: types.ConfigType | None = None) -> cfg.Opt:
    # Without a default, the sample shows an empty value and not its own placeholder.
    sample = None if default else ''
    return cfg.ListOpt(
        name, item_type=item_type, default=default, sample_default=sample, mutable=True, help=help_text
    )


def _paths(name: str, default: list[str], help_text: str) -> cfg.Opt:
    return _list(name, default, help_text, types.String(regex=r'^/'))


OPTS: list[cfg.Opt] = [
    _paths(
        'paths',
        _PATHS,
        'The files and block devices that a request may name, such as /srv/volumes: each path allows everything below '
        'it, and * stands for any part of one name. The named path, the target of its links, and the backing files of '
        'a qcow2 image must all be allowed. A block device that this host has mounted or uses as swap, directly or '
        'through partitions, LVM, RAID or dm-crypt, is always refused. Only root and the storage services should be '
        'able to write in these directories, because their content reaches guests. The default has the directories of '
        'os-brick, Nova and libvirt. For vDPA ports, add /dev/vhost-vdpa-?.',
    ),
    _paths(
        'sockets',
        _SOCKETS,
        'The Unix sockets that a request may name, as in paths: the vhostuser_socket of a port and the socket of an '
        'NBD volume. A file at such a path must be a socket, because QEMU removes the file at the path of a '
        'vhost-user socket of mode server. Only root and the switch should be able to write in these directories.',
    ),
    _list(
        'pci',
        [],
        'The PCI addresses of host devices that a request may name, including SR-IOV ports, such as 0000:06:1?.*. '
        f'{_PATTERNS}.',
    ),
    _list('mdevs', [], f'The UUIDs of the mediated devices that a request may name. {_PATTERNS}.'),
    _list(
        'usb',
        [],
        'The USB devices of this host that a request may name, in the form that the request uses: vendor and product, '
        f'such as 1d6b:0002, or bus and device, such as 3.14. {_PATTERNS}.',
    ),
    _list(
        'scsi',
        [],
        'The SCSI devices of this host that a request may name, by adapter, bus, target and unit, such as '
        f'scsi_host2:0:*:*. {_PATTERNS}.',
    ),
    _list(
        'bridges',
        _BRIDGES,
        'The Linux and Open vSwitch bridges that a port may be plugged into. The default has those of Neutron and '
        'os-vif; add yours, such as br0. On br-ex, or on a bridge on which this host has an address, a guest reaches '
        f'everything that this host reaches there. {_PATTERNS}.',
    ),
    _list('networks', [], f'The networks of libvirt that a port may be plugged into, such as default. {_PATTERNS}.'),
    _list(
        'interfaces',
        [],
        'The network interfaces of this host on which a port may be a macvtap, such as eth1 or eth1.10?; for SR-IOV '
        'ports of vnic_type macvtap, the interfaces of the virtual functions. In mode passthrough the guest has the '
        f'interface for itself. {_PATTERNS}.',
    ),
    _list(
        'taps',
        _TAPS,
        'The interface names that a port may have on this host (devname), such as tap*. Other interfaces of the host '
        f'must not match. The default has the names of Neutron and Nova. {_PATTERNS}.',
    ),
    _list(
        'storage_hosts',
        _STORAGE_HOSTS,
        'The hosts that QEMU may connect to for a volume: iSCSI portals, NBD servers and Ceph monitors. '
        f'{_HOSTS}. The default allows all but loopback and link-local addresses; name your storage networks instead.',
        _Host(),
    ),
    _list(
        'migration_hosts',
        _MIGRATION_HOSTS,
        "The hosts that live_migrate may send a guest's memory to, in dest_uri and in migrate_uri. "
        f'{_HOSTS}. The default allows hosts with private addresses, under any name; name your compute hosts or the '
        'migration network instead.',
        _Host(),
    ),
    _paths(
        'migration_keys',
        _MIGRATION_KEYS,
        'The private keys that a dest_uri may name with keyfile=, as in paths. A key that SSH uses by default needs no '
        "entry. The default has Nova's keys.",
    ),
    _paths(
        'migration_sockets',
        [],
        'The Unix sockets that a guest may be migrated through, as in sockets: the socket= of a qemu+unix dest_uri, '
        'and the path of a migrate_uri of scheme unix. The default allows none.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options on a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for the sample and the documents."""
    return [(GROUP, OPTS)]
