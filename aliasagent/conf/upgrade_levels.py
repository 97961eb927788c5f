# SPDX-License-Identifier: Apache-2.0
"""What older agents are spoken to in, while hosts are upgraded one after the other."""

from oslo_config import cfg

GROUP = 'upgrade_levels'

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'compute',
        regex=r'^1\.[0-9]{1,3}$',
        help='For the command: the latest version of the contract that the agents understand, such as 1.2, that of the '
        'oldest among them. What needs a later one is then refused before anything is sent. Without it nothing is '
        'held back; each message asks for the oldest version that has what it needs, so that agents of all versions '
        'do what they can.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options known to a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options for the sample and the documents."""
    return [(GROUP, OPTS)]
