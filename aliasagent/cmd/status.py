# SPDX-License-Identifier: Apache-2.0
"""The entry point of ``aliasagent-status``."""

import argparse
import json
import logging
import sys
from typing import Any

from oslo_config import cfg
from oslo_upgradecheck import upgradecheck

from aliasagent import conf
from aliasagent.conf import messaging
from aliasagent.conf import openstack
from aliasagent.conf import reading
from aliasagent.status import checks
from aliasagent.status import health

UPGRADE_CODES = (
    '0: every check passed; 1: read the warnings first; 2: do not upgrade, or the configuration is not valid; '
    '255: internal error, a check could not be made'
)
HEALTH_CODES = (
    '0: healthy; 1: not healthy, and the output says why; '
    '2: wrong usage, or the configuration is not valid'
)


def _health() -> int:
    command = conf.CONF.command
    found = health.Health(conf.CONF, timeout=command.timeout, oldest=command.oldest).check()
    if command.format == 'json':
        print(json.dumps({it.what: {'well': it.is_healthy, 'trouble': it.trouble or None} for it in found}))
    else:
        for it in found:
            print(f'{it.what:12}{it.trouble or "healthy"}')
        if conf.CONF.manage != 'all':
            print(f'{"manage":12}{conf.CONF.manage}: in guests of Nova, attaches, saves and migrations need --force')
    return 0 if all(it.is_healthy for it in found) else 1


def _add_commands(subparsers: Any) -> None:
    upgrade = subparsers.add_parser(
        'upgrade', help='check this host before an agent of this release is started', epilog=UPGRADE_CODES
    )
    upgrade.add_argument('check', choices=['check'])
    # NOTE: oslo.upgradecheck reads the option "json".
    upgrade.add_argument('--json', action='store_true', help='the same as -f json')
    upgrade.add_argument('-f', '--format', dest='json', type=_is_json, metavar='{table,json}')
    upgrade.add_argument(
        '--timeout', type=_seconds, default=10.0, help='seconds to wait for libvirt and each broker (10)'
    )
    upgrade.set_defaults(action_fn=_upgrade_check)
    probe = subparsers.add_parser('health', help='check the agent of this host', epilog=HEALTH_CODES)
    probe.add_argument('-f', '--format', choices=['text', 'json'], default='text')
    probe.add_argument(
        '--timeout', type=_seconds, default=5.0, help='seconds to wait for libvirt, each broker, and the agent (5)'
    )
    probe.add_argument(
        '--oldest', type=_seconds, default=600.0, help='seconds that an operation may wait before it starts (600)'
    )
    probe.set_defaults(action_fn=_health)


def _upgrade_check() -> int:
    # NOTE: oslo.upgradecheck reads its options from here; its own main() would have set this.
    upgradecheck.CONF = conf.CONF
    return int(checks.Checks(conf.CONF, lambda: float(conf.CONF.command.timeout)).check())


def _is_json(text: str) -> bool:
    if text not in ('table', 'json'):
        raise argparse.ArgumentTypeError(f'{text!r} is neither table nor json')
    return text == 'json'


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number of seconds above 0')
    return seconds


def main(argv: list[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    command = cfg.SubCommandOpt('command', title='commands', handler=_add_commands)
    conf.CONF.register_cli_opt(command)
    # The output is the answer alone, without the libraries' log.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        reading.parse(conf.CONF, sys.argv[1:] if argv is None else argv, prog='aliasagent-status')
        messaging.check(conf.CONF)
        openstack.register(conf.CONF)
        # Last, because the libraries' options are registered by now.
        reading.check(conf.CONF)
        openstack.check(conf.CONF)
        return int(upgradecheck.run(conf.CONF))
    except cfg.Error as error:
        print(f'aliasagent-status: {error}', file=sys.stderr)
        return 2
    finally:
        conf.CONF.reset()
        conf.CONF.unregister_opt(command)


if __name__ == '__main__':
    sys.exit(main())
