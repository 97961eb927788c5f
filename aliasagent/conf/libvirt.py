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
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options known to a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options for the sample and the documents."""
    return [(GROUP, OPTS)]
