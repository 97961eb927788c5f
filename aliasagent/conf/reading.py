# SPDX-License-Identifier: Apache-2.0
"""Reads and checks the configuration: a bad value is reported at the start, in one line, not at its first use."""

import re
from collections.abc import Container
from collections.abc import Sequence
from typing import Any

from oslo_config import cfg

from aliasagent import conf as options
from aliasagent import version
from aliasagent.conf import keyring
from aliasagent.conf import openstack

#: How oslo.config says where a value comes from: in a file, or in a variable of the environment.
_PLACE = re.compile(r"LocationInfo\(.*?detail='(?P<place>.*?)'\)")

#: Reports a transport URL without repeating it, because it may hold a password.
BAD_URL = '{option} is not valid: is the port a number, and the password percent-encoded (# is %23)?'


def parse(conf: cfg.ConfigOpts, arguments: Sequence[str], **more: Any) -> None:
    """Read the arguments and the configuration files.

    :param more: further arguments of oslo.config.
    :raises cfg.Error: a file cannot be read or parsed.
    """
    try:
        conf(list(arguments), project='aliasagent', version=version.version(), **more)
    except cfg.ConfigFileParseError as error:
        # Without the line itself, which may hold a password; "from None" keeps it out of a traceback, too.
        line: Any = error.__context__
        raise cfg.Error(f'{error.config_file}:{line.lineno}: {line.msg}') from None
    except (OSError, UnicodeDecodeError) as error:
        raise cfg.Error(f'a configuration file cannot be read: {error}') from error


def check(conf: cfg.ConfigOpts, groups: Container[str] | None = None) -> None:
    """Read each registered option.

    :param groups: the groups to read beside DEFAULT; all by default.
    :raises cfg.Error: a value is not valid; the error names the option and the file.
    """
    for name in conf:
        found = _read(conf, 'DEFAULT', name)
        if isinstance(found, cfg.ConfigOpts.GroupAttr) and (groups is None or name in groups):
            for option in found:
                _read(found, name, option)


def check_again(conf: cfg.ConfigOpts) -> None:
    """Check the files of a configuration again, without changing the configuration.

    :raises cfg.Error: a file, or the value of an option in it, is not valid.
    """
    # Imported here, because the command reads no options of the log.
    from oslo_log import _options

    fresh = cfg.ConfigOpts()
    for module in options.MODULES:
        module.register_opts(fresh)
    for group, found in _options.list_opts():
        # Not as command-line options: oslo.config ends the process for a bad value of such an option.
        fresh.register_opts(found, group=group)
    parse(fresh, [], default_config_files=conf.config_file, default_config_dirs=conf.config_dir)
    openstack.register(fresh)
    check(fresh)
    openstack.check(fresh)
    keyring.login(fresh)


def words(error: cfg.Error) -> str:
    """Return oslo.config's error text with a readable location."""
    return _PLACE.sub(lambda found: found['place'], str(error))


def _read(options_of: Any, group: str, name: str) -> Any:
    try:
        return options_of[name]
    except cfg.Error as error:
        raise cfg.Error(f'[{group}] {words(error)}') from error
