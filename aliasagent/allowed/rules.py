# SPDX-License-Identifier: Apache-2.0
"""The rules for what of the host a request may give to a guest.

This module compares names only. :mod:`aliasagent.allowed.paths` checks where a path leads and whether the host itself
uses what is there, and :mod:`aliasagent.allowed.addresses` checks the addresses of a host.
"""

import dataclasses
import fnmatch
import posixpath
from collections.abc import Callable
from collections.abc import Iterable
from typing import Self

from aliasagent import exception
from aliasagent.allowed import hosts

PATHS = 'paths'
SOCKETS = 'sockets'
STORAGE_HOSTS = 'storage_hosts'
MIGRATION_HOSTS = 'migration_hosts'
MIGRATION_KEYS = 'migration_keys'
MIGRATION_SOCKETS = 'migration_sockets'
#: The kinds that are paths of this host, those of them that are sockets, and the kinds that are hosts.
OF_PATHS = frozenset({PATHS, SOCKETS, MIGRATION_KEYS, MIGRATION_SOCKETS})
OF_SOCKETS = frozenset({SOCKETS, MIGRATION_SOCKETS})
OF_HOSTS = frozenset({STORAGE_HOSTS, MIGRATION_HOSTS})
#: The kinds whose names are case-sensitive.
_EXACT = frozenset({'bridges', 'networks', 'interfaces', 'taps'})


@dataclasses.dataclass(frozen=True)
class Need:
    """Something of the host that a request names."""

    #: The field that names it.
    field: str
    #: Its kind: the name of the option that limits it, and of the member of :class:`Bounds`.
    kind: str
    #: A path, a host, a name, or the device in one word (:attr:`aliasagent.devices.hostdev.Hostdev.source`).
    name: str
    #: Whether the file can name further files, which QEMU opens with it.
    is_image: bool = False

    def refused(self, reason: str) -> exception.InvalidInput:
        """Build the error that says that this is not given to a guest."""
        return exception.InvalidInput(field=self.field, reason=reason)


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What may be given to a guest: patterns as in a shell. A name that no pattern matches is refused.

    A pattern for paths matches the path and everything below it; ``*`` does not match a ``/``.
    """

    paths: tuple[str, ...] = ()
    #: Unix sockets that QEMU connects to, or creates.
    sockets: tuple[str, ...] = ()
    #: Addresses, ``0000:06:12.5``.
    pci: tuple[str, ...] = ()
    #: UUIDs.
    mdevs: tuple[str, ...] = ()
    #: ``1d6b:0002`` (vendor and product) or ``3.14`` (bus and device).
    usb: tuple[str, ...] = ()
    #: ``scsi_host0:0:0:0`` (adapter, bus, target, unit).
    scsi: tuple[str, ...] = ()
    bridges: tuple[str, ...] = ()
    #: libvirt's networks.
    networks: tuple[str, ...] = ()
    #: Network interfaces of the host that a macvtap is created on.
    interfaces: tuple[str, ...] = ()
    #: Names of a port's interface on the host.
    taps: tuple[str, ...] = ()
    #: Hosts that QEMU connects to for a volume (:mod:`aliasagent.allowed.hosts`).
    storage_hosts: tuple[str, ...] = ()
    #: Hosts that a guest may be migrated to.
    migration_hosts: tuple[str, ...] = ()
    #: Private keys that libvirt may log in with at such a host.
    migration_keys: tuple[str, ...] = ()
    #: Unix sockets that a guest may be migrated through.
    migration_sockets: tuple[str, ...] = ()

    @classmethod
    def everything(cls) -> Self:
        """Return bounds that allow everything."""
        return cls(**{kind.name: ('/',) if kind.name in OF_PATHS else ('*',) for kind in dataclasses.fields(cls)})

    def check(self, needs: Iterable[Need]) -> None:
        """Refuse what is not allowed by its name alone.

        :raises InvalidInput: a name is not allowed.
        """
        for need in needs:
            if not self.allows(need):
                raise need.refused(f'{need.name} is not among what the option [allowed] {need.kind} lets pass')

    def allows(self, need: Need) -> bool:
        """Return whether a name is allowed; for a host, whether it may be allowed before its addresses are checked."""
        patterns = self.of(need.kind)
        if need.kind in OF_PATHS:
            return any(_covers(pattern, need.name) for pattern in patterns)
        if need.kind in OF_HOSTS:
            return hosts.may_be_allowed(need.name, patterns)
        if need.kind in _EXACT:
            return any(fnmatch.fnmatchcase(need.name, pattern) for pattern in patterns)
        return any(fnmatch.fnmatchcase(need.name.lower(), pattern.lower()) for pattern in patterns)

    def of(self, kind: str) -> tuple[str, ...]:
        """Return the patterns of one kind."""
        patterns: tuple[str, ...] = getattr(self, kind)
        return patterns

    def led_by(self, resolve: Callable[[str], str]) -> Self:
        """Return the same bounds with the real names of the allowed paths added.

        :param resolve: follows the links in a path.
        """
        given = {kind: self.of(kind) for kind in OF_PATHS}
        real = {kind: (*own, *(_resolved(pattern, resolve) for pattern in own)) for kind, own in given.items()}
        return dataclasses.replace(self, **real)


def _parts(path: str) -> list[str]:
    return [part for part in path.split('/') if part]


def _covers(pattern: str, path: str) -> bool:
    wanted, given = _parts(pattern), _parts(path)
    return len(wanted) <= len(given) and all(map(fnmatch.fnmatchcase, given, wanted))


def _resolved(pattern: str, resolve: Callable[[str], str]) -> str:
    """Return a pattern with the links followed in its leading part, up to the first wildcard."""
    literal = _parts(pattern)
    rest: list[str] = []
    while any(character in part for part in literal for character in '*?['):
        rest.insert(0, literal.pop())
    return posixpath.join(resolve('/' + '/'.join(literal)), *rest)
