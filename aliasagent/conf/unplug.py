# SPDX-License-Identifier: Apache-2.0
"""How long a guest may take to let go of a device."""

from oslo_config import cfg

GROUP = 'unplug'

OPTS: list[cfg.Opt] = [
    cfg.FloatOpt(
        'timeout',
        default=20.0,
        min=0.1,
        mutable=True,
        help='Seconds to wait for a running guest to release a device before it is asked again.',
    ),
    cfg.IntOpt(
        'attempts',
        default=8,
        min=1,
        mutable=True,
        help='How often a running guest is asked to release a device before the detach has failed.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options known to a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options for the sample and the documents."""
    return [(GROUP, OPTS)]
