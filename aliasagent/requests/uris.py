# SPDX-License-Identifier: Apache-2.0
"""The addresses that a guest is migrated to: what is let pass in them, and what is shown of them.

libvirt takes much from the query of a connection URI: programs to run as root, files to read, another URI for the other
side. So what is not known to be harmless is refused, and a URI is let pass only in a form in which every parser reads
the same.
"""

import re
from collections.abc import Iterator
from urllib import parse

from aliasagent import exception
from aliasagent.allowed import rules

_MAX_URI = 1024
_HOST = r'(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?'
_PATH = r'/(?:[A-Za-z0-9._@+,=/-]*)'
#: Not ``ext``: it names a command to run on this host. Not ``/embed``: it is no daemon.
_DEST = re.compile(
    r'qemu(?:\+(?P<transport>tls|tcp|ssh|unix|libssh|libssh2))?://'
    rf'(?:(?:(?P<user>[A-Za-z0-9._][A-Za-z0-9._-]*)@)?{_HOST})?'
    r'/(?:system|session)(?:\?(?P<query>[!"$-~]*))?'
)
#: What carries a guest's memory (libvirt, virDomainMigrateToURI3).
_MIGRATE = re.compile(rf'(?:tcp|rdma)://{_HOST}/?')
_MIGRATE_UNIX = re.compile(rf'unix://(?P<path>{_PATH})')
_FORM = 'it does not have the form qemu+TRANSPORT://[USER@]HOST[:PORT]/system with transport tls, tcp, ssh or libssh2'
_MIGRATE_FORM = 'it does not have the form tcp://HOST[:PORT], rdma://HOST[:PORT] or unix:///PATH'
#: The parameters that have one of these values. What they do is how SSH is spoken to the other side.
_VALUES = {
    'no_tty': frozenset({'0', '1'}),
    'mode': frozenset({'auto', 'direct', 'legacy'}),
    'proxy': frozenset({'auto', 'netcat', 'native'}),
}
_SSH = frozenset({'ssh', 'libssh', 'libssh2'})


def needs(dest_uri: str, migrate_uri: str | None = None) -> list[rules.Need]:
    """List what of the host a migration asks for.

    :raises InvalidInput: an address is none, or holds what is not let pass in one.
    """
    return [*_of_destination(dest_uri), *([] if migrate_uri is None else [_of_data(migrate_uri)])]


def shown(uri: str) -> str:
    """Return a URI as it may be logged: without user, password and query; nothing of one that cannot be read."""
    found = _DEST.fullmatch(uri) or _MIGRATE.fullmatch(uri)
    if found is None:
        return uri if _MIGRATE_UNIX.fullmatch(uri) else '(a malformed URI)'
    scheme, rest = uri.split('://', 1)
    return f'{scheme}://{rest.partition("?")[0].rpartition("@")[2]}'


def _of_destination(uri: str) -> Iterator[rules.Need]:
    found = _DEST.fullmatch(uri) if len(uri) <= _MAX_URI else None
    if found is None or not _is_port(found['port']):
        raise _refused('dest_uri', _FORM)
    transport, host = found['transport'] or 'tls', found['host']
    parameters = list(_parameters(found['query'] or ''))
    if transport == 'unix':
        if host is not None or [name for name, _value in parameters] != ['socket']:
            raise _refused('dest_uri', 'of transport unix it has the form qemu+unix:///system?socket=PATH')
        yield rules.Need('dest_uri', rules.MIGRATION_SOCKETS, _path(parameters[0][1]))
        return
    if host is None:
        raise _refused('dest_uri', 'it names no host')
    yield rules.Need('dest_uri', rules.MIGRATION_HOSTS, host.strip('[]'))
    for name, value in parameters:
        if name == 'keyfile' and transport in _SSH:
            yield rules.Need('dest_uri', rules.MIGRATION_KEYS, _path(value))
        elif transport not in _SSH or value not in _VALUES.get(name, ()):
            # Neither name nor value are repeated: either may be a password that was put in the wrong place.
            allowed = 'keyfile, mode, no_tty and proxy with SSH, and socket with unix'
            raise _refused('dest_uri', f'it has a parameter, or a value of one, that is not let pass ({allowed})')


def _of_data(uri: str) -> rules.Need:
    fits = len(uri) <= _MAX_URI
    if fits and (found := _MIGRATE_UNIX.fullmatch(uri)) is not None:
        return rules.Need('migrate_uri', rules.MIGRATION_SOCKETS, _path(found['path'], 'migrate_uri'))
    if fits and (found := _MIGRATE.fullmatch(uri)) is not None and _is_port(found['port']):
        return rules.Need('migrate_uri', rules.MIGRATION_HOSTS, found['host'].strip('[]'))
    raise _refused('migrate_uri', _MIGRATE_FORM)


def _is_port(port: str | None) -> bool:
    return port is None or 0 < int(port) <= 65535


def _parameters(query: str) -> Iterator[tuple[str, str]]:
    """Split a query as libvirt does (virURIParseParams), with the names in small letters.

    Up to the next ``&``; where none is left, up to the next ``;``. Names and values are percent-decoded, and no plus
    sign is a blank. What begins with ``=`` is dropped there; here it is refused with all other names.
    """
    while query:
        for separator in '&;':
            if separator in query:
                section, _, query = query.partition(separator)
                break
        else:
            section, query = query, ''
        if section:
            name, _, value = section.partition('=')
            yield parse.unquote(name).lower(), parse.unquote(value)


def _path(path: str, field: str = 'dest_uri') -> str:
    """A path in a URI; the links in it are looked up later."""
    if not re.fullmatch(_PATH, path) or {'.', '..'} & set(path.split('/')):
        raise _refused(field, 'a path in it is not absolute, or has characters or parts that are not let pass')
    return path


def _refused(field: str, reason: str) -> exception.InvalidInput:
    return exception.InvalidInput(field=field, reason=reason)
