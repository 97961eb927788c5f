# SPDX-License-Identifier: Apache-2.0
"""How os-brick connects volumes to this host."""

from oslo_config import cfg

GROUP = 'brick'

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'my_ip',
        help="This host's IP address in the storage network, which Cinder gives to storage that exports volumes to "
        'addresses, such as 192.0.2.11. The default is the address that the host uses for its default route.',
    ),
    cfg.BoolOpt(
        'use_multipath',
        default=False,
        help='Connect iSCSI, Fibre Channel and NVMe volumes by all paths that the storage has. iSCSI and Fibre Channel '
        'need a running multipathd. By default the agent uses one path.',
    ),
    cfg.BoolOpt(
        'enforce_multipath',
        default=False,
        help='With use_multipath, refuse to connect a volume while multipathd does not run. By default the agent '
        'continues with one path.',
    ),
    cfg.StrOpt(
        'lock_path',
        help='The directory of the lock files by which programs that use os-brick on this host exclude each other. '
        "Beside a nova-compute or a cinder-volume, it must be their directory: the value of lock_path in Nova's group "
        '[oslo_concurrency], such as /var/lib/nova/tmp. The default is lock_path of the group [oslo_concurrency].',
    ),
    cfg.StrOpt(
        'nfs_mount_point_base',
        default='/var/lib/aliasagent/mnt',
        help='The directory below which the agent mounts NFS shares, and unmounts them after their last volume. No '
        'other program may use it: it must not be nfs_mount_point_base of Nova. The default is a directory of the '
        'agent.',
    ),
    cfg.StrOpt(
        'nfs_mount_options',
        help='Options of the mounts of NFS shares, separated by commas, such as vers=4.2,nconnect=4. By default '
        'os-brick tries version 4.2, version 4.1 and then what mount.nfs chooses.',
    ),
    cfg.IntOpt(
        'timeout',
        default=180,
        min=1,
        help='Seconds that an operation waits for os-brick to connect or disconnect a volume. os-brick cannot be '
        'aborted: a call that takes longer continues in the background, and the next operation on the same volume or '
        'share waits for it. The default is more than the 126 s that a mount from an NFS server that is down takes.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options on a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for the sample and the documents."""
    return [(GROUP, OPTS)]
