# SPDX-License-Identifier: Apache-2.0
"""The connection to the hypervisor."""

from oslo_config import cfg

GROUP = 'libvirt'

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'uri',
        default='qemu:///system',
        help='The libvirt URI of the hypervisor whose guests this agent serves.',
    ),
    cfg.FloatOpt(
        'reconnect_interval',
        default=2.0,
        min=0.1,
        help='Seconds between two attempts to reach a hypervisor that is down.',
    ),
    cfg.FloatOpt(
        'reconnect_timeout',
        default=60.0,
        min=0.0,
        mutable=True,
        help='Seconds for which an operation waits for a hypervisor that went away while the operation was under way, '
        'before it fails.',
    ),
    cfg.IntOpt(
        'max_calls',
        default=16,
        min=4,
        help='Maximum number of calls to libvirt that are under way at the same time. A call about a guest whose QEMU '
        'does not answer is under way for as long as that lasts, and so is a migration or a save. The agent opens '
        'further connections for other calls meanwhile. The default leaves some of the 20 threads that libvirtd has '
        'for the calls of all its clients ("max_workers" in libvirtd.conf): raise that first, and keep this below it.',
    ),
    cfg.BoolOpt(
        'ovs_dead_vlan',
        default=True,
        mutable=True,
        help='Whether an Open vSwitch port is plugged with tag 4095 if its request names no VLAN. Without a tag, the '
        'guest could receive and send in all VLANs of the switch until the port is tagged. The Neutron agent drops '
        'what comes from VLAN 4095, and sets the tag of the network when it has found the port. Switch this off only '
        'where nothing tags ports, such as on a switch without Neutron; there, a request can also name VLAN 0 for an '
        'untagged port.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options known to a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options for the sample and the documents."""
    return [(GROUP, OPTS)]
