# SPDX-License-Identifier: Apache-2.0
"""The options of the unplug: how long a guest may take to release a device."""

from oslo_config import cfg

GROUP = 'unplug'

OPTS: list[cfg.Opt] = [
    cfg.FloatOpt(
        'timeout',
        default=20.0,
        min=0.1,
        mutable=True,
        help='Time that a running guest has to release a device before the agent asks it again, in seconds. The '
        "default is that of Nova's device_detach_timeout.",
    ),
    cfg.IntOpt(
        'attempts',
        default=8,
        min=1,
        mutable=True,
        help='Maximum number of times that the agent asks a running guest to release a device. After the last one the '
        "detach fails. The default is that of Nova's device_detach_attempts; with the default timeout a guest has 160 "
        'seconds.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options on a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for the sample and the documents."""
    return [(GROUP, OPTS)]
