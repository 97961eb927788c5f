# SPDX-License-Identifier: Apache-2.0
"""How requests are kept and worked off."""

from oslo_config import cfg

GROUP = 'operations'

OPTS: list[cfg.Opt] = [
    cfg.IntOpt(
        'workers',
        default=16,
        min=1,
        help='How many guests are worked on side by side. The operations of one guest are never done side by side.',
    ),
    cfg.StrOpt(
        'journal',
        default='/var/lib/aliasagent/journal.sqlite',
        help='The file in which requests and their outcomes are kept. Its directory must exist.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options known to a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options for the sample and the documents."""
    return [(GROUP, OPTS)]
