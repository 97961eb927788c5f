# SPDX-License-Identifier: Apache-2.0
"""What of this host may be given to a guest."""

from oslo_config import cfg
from oslo_config import types

GROUP = 'allowed'

#: Where os-brick, Nova, Neutron and libvirt put what is attached.
_PATHS = [
    '/dev/disk',
    '/dev/mapper',
    '/dev/dm-*',
    '/dev/sd*',
    '/dev/nvme*n*',
    '/dev/rbd*',
    '/dev/drbd*',
    '/dev/zvol',
    '/dev/zd*',
    '/dev/storpool',
    '/dev/cinder-volumes',
    '/var/lib/nova/mnt',
    '/var/lib/libvirt/images',
    '/run/openvswitch/vhu*',
    '/var/run/openvswitch/vhu*',
    '/var/lib/vhost_sockets',
]

_PATTERNS = 'Patterns as in a shell, or * for any. Without a value, none'

OPTS: list[cfg.Opt] = [
    cfg.ListOpt(
        'paths',
        item_type=types.String(regex=r'^/'),
        default=_PATHS,
        mutable=True,
        help='The files, block devices and sockets that a request may name: each of these and all below it, where * '
        'stands for any part of one name. The path that is named, what its links lead to, and the files that a qcow2 '
        'image there is based on must be among them. '
        'A device that this host has mounted or swaps to, or has made something of that it has, is refused '
        'nevertheless. Who may write in one of these directories decides what a guest gets from it: that should be '
        'root and the storage services only. What a request may not name is refused as bad input.',
    ),
    cfg.ListOpt(
        'pci',
        default=[],
        mutable=True,
        sample_default='',
        help='The addresses of the PCI devices of this host that a request may name, those of SR-IOV ports among them, '
        f'such as 0000:06:1?.*. {_PATTERNS}.',
    ),
    cfg.ListOpt(
        'mdevs',
        default=[],
        mutable=True,
        sample_default='',
        help=f'The UUIDs of the mediated devices that a request may name. {_PATTERNS}.',
    ),
    cfg.ListOpt(
        'usb',
        default=[],
        mutable=True,
        sample_default='',
        help='The USB devices of this host that a request may name, as it names them: by vendor and product, such as '
        f'1d6b:0002, or by bus and device, such as 3.14. {_PATTERNS}.',
    ),
    cfg.ListOpt(
        'scsi',
        default=[],
        mutable=True,
        sample_default='',
        help='The SCSI devices of this host that a request may name, by adapter, bus, target and unit, such as '
        f'scsi_host2:0:*:*. {_PATTERNS}.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options known to a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options for the sample and the documents."""
    return [(GROUP, OPTS)]
