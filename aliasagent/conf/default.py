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
    cfg.StrOpt(
        'manage',
        default='all',
        choices=[
            ('all', 'every request, in all guests'),
            ('aliases', 'in guests that Nova made, only requests that Nova need not know of'),
        ],
        mutable=True,
        help='What this agent does in guests. With aliases, it still reconciles, lists and detaches in guests that '
        'Nova made, and refuses to attach a device, to save and restore the guest (reconcile_live) and to migrate it '
        '(live_migrate), unless the request says force. The metadata of a guest say whether Nova made the guest. Use '
        'aliases on hosts with a nova-compute; the default is for hosts without.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options on a configuration."""
    conf.register_opts(OPTS)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for the sample and the documents."""
    return [(GROUP, OPTS)]
