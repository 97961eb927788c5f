# SPDX-License-Identifier: Apache-2.0
"""What of the host a request may give to a guest.

Names only are compared here. Where a path leads, and whether the host itself needs what is there, is looked up by
:mod:`aliasagent.virt.paths`.
"""

import dataclasses
import fnmatch
import posixpath
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import Self

from aliasagent import exception
from aliasagent.devices import host_device
from aliasagent.devices import port as ports
from aliasagent.devices import volume

PATHS = 'paths'


@dataclasses.dataclass(frozen=True)
class Need:
    """Something of the host that a request names."""

    #: The field that names it.
    field: str
    #: What it is: the name of the option that bounds it, and of the member of :class:`Bounds`.
    kind: str
    #: A path, or the device in one word (:attr:`aliasagent.devices.hostdev.Hostdev.source`).
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
    #: Addresses, ``0000:06:12.5``.
    pci: tuple[str, ...] = ()
    #: UUIDs.
    mdevs: tuple[str, ...] = ()
    #: ``1d6b:0002`` (vendor and product) or ``3.14`` (bus and device).
    usb: tuple[str, ...] = ()
    #: ``scsi_host0:0:0:0`` (adapter, bus, target, unit).
    scsi: tuple[str, ...] = ()

    @classmethod
    def everything(cls) -> Self:
        """No bounds."""
        return cls(('/',), *[('*',)] * 4)

    def check(self, needs: Iterable[Need]) -> None:
        """Refuse what is out of bounds by its name alone.

        :raises InvalidInput: something is.
        """
        for need in needs:
            if not self.allows(need):
                raise need.refused(f'{need.name} is not among what the option [allowed] {need.kind} lets pass')

    def allows(self, need: Need) -> bool:
        """Whether a name is in bounds."""
        if need.kind == PATHS:
            return any(_covers(pattern, need.name) for pattern in self.paths)
        patterns: tuple[str, ...] = getattr(self, need.kind)
        return any(fnmatch.fnmatchcase(need.name.lower(), pattern.lower()) for pattern in patterns)

    def led_by(self, resolve: Callable[[str], str]) -> Self:
        """The same bounds for what paths lead to: a directory that is allowed is so by its real name too.

        :param resolve: follows the links in a path.
        """
        return dataclasses.replace(self, paths=(*self.paths, *(_resolved(pattern, resolve) for pattern in self.paths)))


def needs(arguments: dict[str, Any]) -> list[Need]:
    """What of the host an attach asks for; nothing for any other request.

    :param arguments: valid by the contract.
    """
    found = []
    if (connection_info := arguments.get('connection_info')) is not None:
        is_image = volume.is_image(connection_info)
        found += [Need(field, PATHS, path, is_image) for field, path in volume.host_paths(connection_info).items()]
    if (port := arguments.get('port')) is not None:
        found += _of_port(port)
    if (hostdev := arguments.get('hostdev')) is not None:
        found.append(_of_hostdev(hostdev))
    return found


def _of_port(port: dict[str, Any]) -> list[Need]:
    if 'pci_slot' in port:
        address = ports.interface_for_port(port).source
        assert address is not None
        return [Need('port.pci_slot', 'pci', address)]
    if 'vhostuser_socket' in port:
        return [Need('port.vhostuser_socket', PATHS, port['vhostuser_socket'])]
    return []


#: For each type of host device, the option that bounds it, and the field that names it best.
_HOSTDEVS = {
    'pci': ('pci', 'hostdev.address'),
    'mdev': ('mdevs', 'hostdev.uuid'),
    'usb': ('usb', 'hostdev'),
    'scsi': ('scsi', 'hostdev'),
}


def _of_hostdev(hostdev: dict[str, Any]) -> Need:
    kind, field = _HOSTDEVS[hostdev['type']]
    source = host_device.host_device('any', hostdev).source
    assert source is not None
    # The words of USB and SCSI devices begin with their kind, which the option's name says.
    return Need(field, kind, source.removeprefix(f'{hostdev["type"]}:'))


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
