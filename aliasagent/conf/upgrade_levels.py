# SPDX-License-Identifier: Apache-2.0
"""The version of the RPC contract that the command may use while hosts are upgraded one after the other."""

from oslo_config import cfg

GROUP = 'upgrade_levels'

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'compute',
        regex=r'^1\.[0-9]{1,3}$',
        help='The latest version of the RPC contract that the command "aliasagent" may use, such as 1.2: the version '
        'of the oldest agent. The command refuses a request that needs a later version before it sends anything. '
        'Without a value there is no limit; each message asks for the oldest version that supports it, so that agents '
        'of different versions can be used together.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options on a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for the sample and the documents."""
    return [(GROUP, OPTS)]
