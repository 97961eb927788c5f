# SPDX-License-Identifier: Apache-2.0
"""How requests are kept and worked off."""

from oslo_config import cfg

GROUP = 'operations'

OPTS: list[cfg.Opt] = [
    cfg.IntOpt(
        'workers',
        default=16,
        min=1,
        help='How many guests are worked on side by side. The operations of one guest are never done side by side. '
        'Work that hangs in libvirt for more than 10 seconds does not count.',
    ),
    cfg.IntOpt(
        'moves',
        default=2,
        min=1,
        help='Maximum number of guests that are migrated, or saved and restored (reconcile_live), at the same time. '
        'Further ones wait for their turn. A move takes minutes or hours of network or disk, so it has a limit of its '
        'own, and does not count as one of the workers. libvirtd answers max_client_requests (5) calls of one client '
        'at the same time, and each move is one of these calls: raise that limit before this one.',
    ),
    cfg.StrOpt(
        'journal',
        default='/var/lib/aliasagent/journal.sqlite',
        help='The file in which requests and their outcomes are kept. Its directory must exist.',
    ),
    cfg.IntOpt(
        'max_waiting',
        default=4096,
        min=1,
        mutable=True,
        help='How many requests may wait to be done. Past that the call submit is refused as busy, and casts are left '
        'with the message broker.',
    ),
    cfg.FloatOpt(
        'keep_days',
        default=30.0,
        min=0.0,
        mutable=True,
        help='For how many days the outcome of a request can be asked for.',
    ),
    cfg.IntOpt(
        'keep_count',
        default=100000,
        min=0,
        mutable=True,
        help='Of how many requests at most the outcome can be asked for.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options known to a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options for the sample and the documents."""
    return [(GROUP, OPTS)]
