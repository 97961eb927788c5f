# SPDX-License-Identifier: Apache-2.0
"""The options of the Prometheus endpoint."""

from oslo_config import cfg

GROUP = 'metrics'

OPTS: list[cfg.Opt] = [
    cfg.PortOpt(
        'port',
        default=0,
        min=0,
        help='The TCP port on which the agent serves metrics for Prometheus, such as 9177. The default, 0, serves '
        'none. The port asks for no password: every client that can reach it can read the metrics, which are numbers '
        'without ids.',
    ),
    cfg.HostAddressOpt(
        'host',
        default='127.0.0.1',
        help='The address on which the agent serves metrics, such as 192.0.2.10. The default is for this host only.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options on a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for the sample and the documents."""
    return [(GROUP, OPTS)]
