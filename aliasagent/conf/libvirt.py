# SPDX-License-Identifier: Apache-2.0
"""The connection to the hypervisor."""

from oslo_config import cfg

GROUP = 'libvirt'

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'uri',
        default='qemu:///system',
        help='The libvirt URI of the hypervisor whose guests this agent serves, such as qemu+tls://compute-1/system. '
        "The default is the QEMU driver of this host's libvirtd.",
    ),
    cfg.FloatOpt(
        'reconnect_interval',
        default=2.0,
        min=0.1,
        help='Time between two attempts to connect to a hypervisor that is down, in seconds. The default reconnects '
        'soon after a restart of libvirtd.',
    ),
    cfg.FloatOpt(
        'reconnect_timeout',
        default=60.0,
        min=0.0,
        mutable=True,
        help='Time that a running operation waits for a lost connection to the hypervisor, in seconds. After that the '
        'operation fails. The default is enough for a restart of libvirtd.',
    ),
    cfg.IntOpt(
        'max_calls',
        default=16,
        min=4,
        help='Maximum number of concurrent calls to libvirt. A migration, a save, or a call about a guest whose QEMU '
        'does not answer is one call for as long as it lasts; the agent opens further connections for other calls '
        'meanwhile. libvirtd has 20 threads for the calls of all its clients (max_workers in libvirtd.conf), and the '
        'default leaves some of them to others. Raise max_workers first, and keep this option below it.',
    ),
    cfg.BoolOpt(
        'ovs_dead_vlan',
        default=True,
        mutable=True,
        help='Whether an Open vSwitch port gets tag 4095 if its request names no VLAN. Without a tag, the guest could '
        'send and receive in all VLANs of the switch until the port is tagged. The Neutron agent drops traffic of VLAN '
        "4095, and sets the network's tag when it finds the port. Disable this option only where nothing tags ports, "
        'such as on a switch without Neutron; a request can also name VLAN 0 for an untagged port.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options on a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for the sample and the documents."""
    return [(GROUP, OPTS)]
