# SPDX-License-Identifier: Apache-2.0
"""Guests from before aliases."""

from oslo_config import cfg

GROUP = 'reconcile'

OPTS: list[cfg.Opt] = [
    cfg.IntOpt(
        'interval',
        default=300,
        min=1,
        help='Seconds between two passes that give aliases to the devices of guests that were made without.',
    ),
    cfg.FloatOpt(
        'startup_timeout',
        default=30.0,
        min=0.0,
        help='Seconds for which the first pass may hold up the start; what is left is done while the agent serves.',
    ),
    cfg.StrOpt(
        'save_directory',
        default='/var/lib/aliasagent/save',
        help='Where the memory of a guest is kept between save and restore, when a running guest is given its aliases '
        'on the word of the operator. It needs room for the memory, and only root should be able to read there. Made, '
        'for root alone, when it is needed and missing; the directory that it is in must exist.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options known to a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options for the sample and the documents."""
    return [(GROUP, OPTS)]
