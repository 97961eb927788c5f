# SPDX-License-Identifier: Apache-2.0
"""What of this host may be given to a guest."""

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

_PATTERNS = 'Patterns as in a shell, or * for any. Without a value, none'
_HOSTS = (
    'Each entry is a network (192.0.2.0/24), an address, a name as in a shell (ceph-?.example.org), or * for any; one '
    'that begins with ! excludes, whatever the others allow. A name is allowed if an entry for names matches it, or if '
    'all its addresses are in allowed networks, and never if one of its addresses is excluded'
)


class _Host(types.String):
    """A pattern for hosts; what looks like a network has to be one."""

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
        'The files and block devices that a request may name: each of these and all below it, where * '
        'stands for any part of one name. The path that is named, what its links lead to, and the files that a qcow2 '
        'image there is based on must be among them. A block device that is mounted or used as swap by this host, '
        'directly or through partitions, LVM, RAID or dm-crypt, is always refused. Who may write in one of these '
        'directories decides what a guest gets from it: that should be '
        'root and the storage services only. What a request may not name is refused as bad input.',
    ),
    _paths(
        'sockets',
        _SOCKETS,
        'The Unix sockets that a request may name: the vhostuser_socket of a port and the socket of an NBD volume. '
        'Each of these and all below it, as in paths. What is there must be a socket or nothing, because QEMU removes '
        'whatever is at the path of a vhost-user socket of mode server. Only root and the switch should be able to '
        'write in these directories.',
    ),
    _list(
        'pci',
        [],
        'The addresses of the PCI devices of this host that a request may name, those of SR-IOV ports among them, '
        f'such as 0000:06:1?.*. {_PATTERNS}.',
    ),
    _list('mdevs', [], f'The UUIDs of the mediated devices that a request may name. {_PATTERNS}.'),
    _list(
        'usb',
        [],
        'The USB devices of this host that a request may name, as it names them: by vendor and product, such as '
        f'1d6b:0002, or by bus and device, such as 3.14. {_PATTERNS}.',
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
        'The bridges that a port may be plugged into, those of Open vSwitch among them. By default the ones of Neutron '
        'and os-vif; add yours, such as br0. A guest on a bridge that this host has an address on, or br-ex, reaches '
        f'what this host reaches there. {_PATTERNS}.',
    ),
    _list('networks', [], f'The networks of libvirt that a port may be plugged into, such as default. {_PATTERNS}.'),
    _list(
        'interfaces',
        [],
        'The network interfaces of this host that a port may be a macvtap of, such as eth1 or eth1.10?: with mode '
        f'passthrough the guest has the interface for itself. {_PATTERNS}.',
    ),
    _list(
        'taps',
        _TAPS,
        'The names that a port may have on this host (devname). Other interfaces of the host must not match. '
        f'By default the ones of Neutron and Nova. {_PATTERNS}.',
    ),
    _list(
        'storage_hosts',
        _STORAGE_HOSTS,
        'The hosts that QEMU may be sent to for a volume: iSCSI portals, NBD servers and Ceph monitors. '
        f'{_HOSTS}. By default any but loopback and link-local addresses; better name your storage networks.',
        _Host(),
    ),
    _list(
        'migration_hosts',
        _MIGRATION_HOSTS,
        'The hosts that a guest may be sent to by live_migrate, in dest_uri and in migrate_uri: its memory goes there. '
        f'{_HOSTS}. By default those with private addresses, whichever name they are called by; better name your '
        'compute hosts or the network for migration.',
        _Host(),
    ),
    _paths(
        'migration_keys',
        _MIGRATION_KEYS,
        'The private keys that a dest_uri may name with keyfile=, as in paths. A key that SSH takes by itself needs no '
        'naming.',
    ),
    _paths(
        'migration_sockets',
        [],
        'The Unix sockets that a guest may be migrated through: the socket= of a qemu+unix dest_uri, and the path of a '
        'migrate_uri of scheme unix. As in sockets; by default none.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options known to a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options for the sample and the documents."""
    return [(GROUP, OPTS)]
