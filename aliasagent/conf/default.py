# SPDX-License-Identifier: Apache-2.0
"""The host's own options."""

import socket

from oslo_config import cfg

GROUP = 'DEFAULT'

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'host',
        regex=r'^[\w.:-]{1,200}$',
        default=socket.gethostname(),
        sample_default="<this host's name>",
        help='The name under which this agent is addressed on the message bus. One agent per name.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options known to a configuration."""
    conf.register_opts(OPTS)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options for the sample and the documents."""
    return [(GROUP, OPTS)]
