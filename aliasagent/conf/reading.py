# SPDX-License-Identifier: Apache-2.0
"""Reading the configuration: what cannot be understood is told at once and in one line, not when it is needed."""

import re
from collections.abc import Container
from collections.abc import Sequence
from typing import Any

from oslo_config import cfg
from oslo_log import _options

from aliasagent import conf as options
from aliasagent import version

#: How oslo.config says where a value comes from: in a file, or in a variable of the environment.
_PLACE = re.compile(r"LocationInfo\(.*?detail='(?P<place>.*?)'\)")


def parse(conf: cfg.ConfigOpts, arguments: Sequence[str], **more: Any) -> None:
    """Read the arguments and the configuration files.

    :param more: what else oslo.config is to know.
    :raises cfg.Error: a file cannot be read or understood.
    """
    try:
        conf(list(arguments), project='aliasagent', version=version.version(), **more)
    except cfg.ConfigFileParseError as error:
        # The line itself is left out, and "from None" leaves it out of a traceback, too: it may hold a password.
        line: Any = error.__context__
        raise cfg.Error(f'{error.config_file}:{line.lineno}: {line.msg}') from None
    except (OSError, UnicodeDecodeError) as error:
        raise cfg.Error(f'a configuration file cannot be read: {error}') from error


def check(conf: cfg.ConfigOpts, groups: Container[str] | None = None) -> None:
    """Read each option that is known by now.

    :param groups: those to look at beside DEFAULT; all by default.
    :raises cfg.Error: a value cannot be understood; the words say of which option, and in which file.
    """
    for name in conf:
        found = _read(conf, 'DEFAULT', name)
        if isinstance(found, cfg.ConfigOpts.GroupAttr) and (groups is None or name in groups):
            for option in found:
                _read(found, name, option)


def check_again(conf: cfg.ConfigOpts) -> None:
    """See whether the files that a configuration was read from can be read again. The configuration stays as it is.

    :raises cfg.Error: a file, or the value of an option in it, cannot be understood.
    """
    fresh = cfg.ConfigOpts()
    for module in options.MODULES:
        module.register_opts(fresh)
    for group, found in _options.list_opts():
        # Not as options of a command line: oslo.config ends the process for a bad value of such a one.
        fresh.register_opts(found, group=group)
    parse(fresh, [], default_config_files=conf.config_file, default_config_dirs=conf.config_dir)
    check(fresh)


def words(error: cfg.Error) -> str:
    """What oslo.config says, without how it writes down a place."""
    return _PLACE.sub(lambda found: found['place'], str(error))


def _read(options_of: Any, group: str, name: str) -> Any:
    try:
        return options_of[name]
    except cfg.Error as error:
        raise cfg.Error(f'[{group}] {words(error)}') from error
