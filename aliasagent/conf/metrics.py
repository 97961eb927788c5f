# SPDX-License-Identifier: Apache-2.0
"""What the agent tells a Prometheus of its work."""

from oslo_config import cfg

GROUP = 'metrics'

OPTS: list[cfg.Opt] = [
    cfg.PortOpt(
        'port',
        default=0,
        min=0,
        help='The TCP port on which a Prometheus finds the metrics of this agent; 0 for none. Anybody who reaches it '
        'may read them.',
    ),
    cfg.HostAddressOpt(
        'host',
        default='127.0.0.1',
        help='The address of this host on which it listens.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options known to a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options for the sample and the documents."""
    return [(GROUP, OPTS)]
