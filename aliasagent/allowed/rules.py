# SPDX-License-Identifier: Apache-2.0
"""What of the host a request may give to a guest.

Names only are compared here. Where a path leads, whether the host itself needs what is there, and which addresses a
host has, is looked up by :mod:`aliasagent.allowed.paths` and :mod:`aliasagent.allowed.addresses`.
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
#: What is a path of this host, of these the sockets, and what is a host.
OF_PATHS = frozenset({PATHS, SOCKETS, MIGRATION_KEYS, MIGRATION_SOCKETS})
OF_SOCKETS = frozenset({SOCKETS, MIGRATION_SOCKETS})
OF_HOSTS = frozenset({STORAGE_HOSTS, MIGRATION_HOSTS})
#: Of these, capital letters are other names.
_EXACT = frozenset({'bridges', 'networks', 'interfaces', 'taps'})


@dataclasses.dataclass(frozen=True)
class Need:
    """Something of the host that a request names."""

    #: The field that names it.
    field: str
    #: What it is: the name of the option that bounds it, and of the member of :class:`Bounds`.
    kind: str
    #: A path, a host, a name, or the device in one word (:attr:`aliasagent.devices.hostdev.Hostdev.source`).
    name: str
    #: Whether what is there can name further files that are opened with it.
    is_image: bool = False

    def refused(self, reason: str) -> exception.InvalidInput:
        """The error that says that this is not given to a guest."""
        return exception.InvalidInput(field=self.field, reason=reason)


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What may be given: patterns as in a shell. What none of them matches is refused.

    A pattern for paths matches what it names and all below it; ``*`` does not go past a ``/``.
    """

    paths: tuple[str, ...] = ()
    #: Unix sockets that QEMU connects to, or makes.
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
    #: Network interfaces of the host that a macvtap is made on.
    interfaces: tuple[str, ...] = ()
    #: Names of the interfaces that a port is given on the host.
    taps: tuple[str, ...] = ()
    #: Hosts that QEMU connects to for a volume (:mod:`aliasagent.allowed.hosts`).
    storage_hosts: tuple[str, ...] = ()
    #: Hosts that a guest may be sent to.
    migration_hosts: tuple[str, ...] = ()
    #: Private keys that libvirt may log in with at such a host.
    migration_keys: tuple[str, ...] = ()
    #: Unix sockets that a guest may be sent through.
    migration_sockets: tuple[str, ...] = ()

    @classmethod
    def everything(cls) -> Self:
        """No bounds."""
        return cls(**{kind.name: ('/',) if kind.name in OF_PATHS else ('*',) for kind in dataclasses.fields(cls)})

    def check(self, needs: Iterable[Need]) -> None:
        """Refuse what is out of bounds by its name alone.

        :raises InvalidInput: something is.
        """
        for need in needs:
            if not self.allows(need):
                raise need.refused(f'{need.name} is not among what the option [allowed] {need.kind} lets pass')

    def allows(self, need: Need) -> bool:
        """Whether a name is in bounds; that of a host as far as it can be told without its addresses."""
        patterns = self.of(need.kind)
        if need.kind in OF_PATHS:
            return any(_covers(pattern, need.name) for pattern in patterns)
        if need.kind in OF_HOSTS:
            return hosts.may_be_allowed(need.name, patterns)
        if need.kind in _EXACT:
            return any(fnmatch.fnmatchcase(need.name, pattern) for pattern in patterns)
        return any(fnmatch.fnmatchcase(need.name.lower(), pattern.lower()) for pattern in patterns)

    def of(self, kind: str) -> tuple[str, ...]:
        """The patterns of one kind."""
        patterns: tuple[str, ...] = getattr(self, kind)
        return patterns

    def led_by(self, resolve: Callable[[str], str]) -> Self:
        """The same bounds for what paths lead to: a directory that is allowed is so by its real name too.

        :param resolve: follows the links in a path.
        """
        given = {kind: self.of(kind) for kind in OF_PATHS}
        real = {kind: (*known, *(_resolved(pattern, resolve) for pattern in known)) for kind, known in given.items()}
        return dataclasses.replace(self, **real)


def _parts(path: str) -> list[str]:
    return [part for part in path.split('/') if part]


def _covers(pattern: str, path: str) -> bool:
    wanted, given = _parts(pattern), _parts(path)
    return len(wanted) <= len(given) and all(map(fnmatch.fnmatchcase, given, wanted))


def _resolved(pattern: str, resolve: Callable[[str], str]) -> str:
    """A pattern in which the links are followed, as far as it is a path and no pattern."""
    literal = _parts(pattern)
    rest: list[str] = []
    while any(character in part for part in literal for character in '*?['):
        rest.insert(0, literal.pop())
    return posixpath.join(resolve('/' + '/'.join(literal)), *rest)
