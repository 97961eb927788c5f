# SPDX-License-Identifier: Apache-2.0
"""The options of group DEFAULT."""

import socket

from oslo_config import cfg

GROUP = 'DEFAULT'

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'host',
        regex=r'^[\w.:-]{1,200}$',
        default=socket.gethostname(),
        sample_default="<this host's name>",
        help="The agent's name on the message bus, such as compute-1. Clients address the agent by it, so no two "
        "agents may have the same. The default is this host's name.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options on a configuration."""
    conf.register_opts(OPTS)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for the sample and the documents."""
    return [(GROUP, OPTS)]
