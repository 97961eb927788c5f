# SPDX-License-Identifier: Apache-2.0
"""Check the URIs of migrations, and shorten them for the log.

A query of a connection URI can name programs that libvirt runs as root, files to read, or another URI for the
destination. So the agent allows only harmless parameters, and only URIs that all parsers read alike.
"""

import re
from collections.abc import Iterator
from urllib import parse

from aliasagent import exception
from aliasagent.allowed import rules

_MAX_URI = 1024
_HOST = r'(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?'
_PATH = r'/(?:[A-Za-z0-9._@+,=/-]*)'
#: Not ``ext``, which names a command to run on this host. Not ``/embed``, which is not a daemon.
_DEST = re.compile(
    r'qemu(?:\+(?P<transport>tls|tcp|ssh|unix|libssh|libssh2))?://'
    rf'(?:(?:(?P<user>[A-Za-z0-9._][A-Za-z0-9._-]*)@)?{_HOST})?'
    r'/(?:system|session)(?:\?(?P<query>[!"$-~]*))?'
)
#: The connection for a guest's memory (libvirt, virDomainMigrateToURI3).
_MIGRATE = re.compile(rf'(?:tcp|rdma)://{_HOST}/?')
_MIGRATE_UNIX = re.compile(rf'unix://(?P<path>{_PATH})')
_FORM = 'it does not have the form qemu+TRANSPORT://[USER@]HOST[:PORT]/system with transport tls, tcp, ssh or libssh2'
_MIGRATE_FORM = 'it does not have the form tcp://HOST[:PORT], rdma://HOST[:PORT] or unix:///PATH'
#: The allowed values of parameters. They only select how libvirt uses SSH.
_VALUES = {
    'no_tty': frozenset({'0', '1'}),
    'mode': frozenset({'auto', 'direct', 'legacy'}),
    'proxy': frozenset({'auto', 'netcat', 'native'}),
}
_SSH = frozenset({'ssh', 'libssh', 'libssh2'})


def needs(dest_uri: str, migrate_uri: str | None = None) -> list[rules.Need]:
    """List the hosts, sockets and keys that a migration names.

    :raises InvalidInput: a URI is malformed, or has a part that is not allowed.
    """
    return [*_of_destination(dest_uri), *([] if migrate_uri is None else [_of_data(migrate_uri)])]


def shown(uri: str) -> str:
    """Return a URI for the log, without user, password and query; a fixed text for a malformed URI."""
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
            raise _refused('dest_uri', 'with transport unix, it must have the form qemu+unix:///system?socket=PATH')
        yield rules.Need('dest_uri', rules.MIGRATION_SOCKETS, _path(parameters[0][1]))
        return
    if host is None:
        raise _refused('dest_uri', 'it names no host')
    yield rules.Need('dest_uri', rules.MIGRATION_HOSTS, host.strip('[]'))
    for name, value in parameters:
        if name == 'keyfile' and transport in _SSH:
            yield rules.Need('dest_uri', rules.MIGRATION_KEYS, _path(value))
        elif transport not in _SSH or value not in _VALUES.get(name, ()):
            # The error repeats neither name nor value: either may be a misplaced password.
            allowed = 'keyfile, mode, no_tty and proxy with SSH, and socket with unix'
            raise _refused('dest_uri', f'it has a parameter or a value that is not allowed (allowed are {allowed})')


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
    """Split a query as libvirt does (virURIParseParams); yield names in lower case, and values."""
    # A section ends at the next ``&``, or, after the last ``&``, at the next ``;``. Names and values are
    # percent-decoded; a plus sign is not a blank. libvirt ignores a section that begins with ``=``; the caller refuses
    # its empty name.
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
    """Check a path in a URI, without its links, and return it."""
    if not re.fullmatch(_PATH, path) or {'.', '..'} & set(path.split('/')):
        raise _refused(field, 'a path in it is not absolute, or has characters or parts that are not allowed')
    return path


def _refused(field: str, reason: str) -> exception.InvalidInput:
    return exception.InvalidInput(field=field, reason=reason)
