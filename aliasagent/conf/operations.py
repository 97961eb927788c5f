# SPDX-License-Identifier: Apache-2.0
"""The options of the operations: their journal, their limits, and how many run at the same time."""

from oslo_config import cfg

GROUP = 'operations'

OPTS: list[cfg.Opt] = [
    cfg.IntOpt(
        'workers',
        default=16,
        min=1,
        help='Maximum number of guests whose operations run at the same time. The operations of one guest always run '
        'one after the other. An operation that hangs in libvirt for more than 10 seconds does not count.',
    ),
    cfg.IntOpt(
        'moves',
        default=2,
        min=1,
        help='Maximum number of guests that are migrated, or saved and restored (reconcile_live), at the same time. '
        'Further moves wait. A move keeps network or disk busy for minutes or hours, so it does not count as one of '
        'the workers. libvirtd answers max_client_requests (5) calls of one client at the same time, and each move is '
        'one call: raise that limit before this one.',
    ),
    cfg.StrOpt(
        'journal',
        default='/var/lib/aliasagent/journal.sqlite',
        help='The file in which the agent keeps accepted requests and their outcomes (SQLite). Its directory must '
        'exist. No two agents may use the same file.',
    ),
    cfg.IntOpt(
        'max_waiting',
        default=4096,
        min=1,
        mutable=True,
        help='Maximum number of accepted operations that wait to run. At this limit the agent refuses the call submit '
        'as busy, and does not acknowledge casts: the message broker keeps them.',
    ),
    cfg.FloatOpt(
        'keep_days',
        default=30.0,
        min=0.0,
        mutable=True,
        help='Days for which the journal keeps a finished operation, such as 0.5.',
    ),
    cfg.IntOpt(
        'keep_count',
        default=100000,
        min=0,
        mutable=True,
        help='Maximum number of finished operations kept in the journal.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options on a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for the sample and the documents."""
    return [(GROUP, OPTS)]
