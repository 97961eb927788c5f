# SPDX-License-Identifier: Apache-2.0
"""The options of the reconcile, which gives legacy guests their aliases."""

from oslo_config import cfg

GROUP = 'reconcile'

OPTS: list[cfg.Opt] = [
    cfg.IntOpt(
        'interval',
        default=300,
        min=1,
        help='Time between two reconcile runs over all guests, in seconds. A run gives devices without user alias '
        'theirs, and only reads a guest on which nothing has changed.',
    ),
    cfg.FloatOpt(
        'startup_timeout',
        default=30.0,
        min=0.0,
        help="Maximum time that the first reconcile run may delay the agent's start, in seconds. The agent reconciles "
        'the remaining guests while it serves requests.',
    ),
    cfg.IntOpt(
        'asked_guests',
        default=20,
        min=1,
        help='Maximum number of guests about which the agent asks Nova and Neutron within a minute, if there are '
        'sections [nova] and [neutron]. Each guest takes up to twelve requests. The default keeps a host with many '
        'unidentified devices from loading the services; the other guests wait for the next reconcile run.',
    ),
    cfg.StrOpt(
        'save_directory',
        default='/var/lib/aliasagent/save',
        help='The directory for the memory of a guest that is saved and restored to get its aliases live ("aliasagent '
        'reconcile --live"). It needs room for the memory of the guest, and only root should be able to read it. The '
        'agent creates the directory for root alone if it does not exist; its parent directory must exist.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options on a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for the sample and the documents."""
    return [(GROUP, OPTS)]
