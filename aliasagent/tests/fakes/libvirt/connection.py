# SPDX-License-Identifier: Apache-2.0
"""virConnect, as far as the agent may want it."""

import functools
import typing
from collections.abc import Callable

import libvirt

from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.domain import FakeDomain
from aliasagent.tests.fakes.libvirt.secret import FakeSecret

if typing.TYPE_CHECKING:
    from aliasagent.tests.fakes.libvirt.guest import FakeGuest
    from aliasagent.tests.fakes.libvirt.hypervisor import FakeHypervisor

_P = typing.ParamSpec('_P')
_R = typing.TypeVar('_R')
_VERSION = 9_000_000
_QEMU_VERSION = 7_002_022
_STATES = {
    libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING: libvirt.VIR_DOMAIN_RUNNING,
    libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED: libvirt.VIR_DOMAIN_PAUSED,
    libvirt.VIR_CONNECT_LIST_DOMAINS_SHUTOFF: libvirt.VIR_DOMAIN_SHUTOFF,
}


def remote(
    method: 'Callable[typing.Concatenate[FakeConnect, _P], _R]',
) -> 'Callable[typing.Concatenate[FakeConnect, _P], _R]':
    """A method that talks to the daemon: written down, made to fail, and cut off with the connection."""

    @functools.wraps(method)
    def call(self: 'FakeConnect', *args: _P.args, **kwargs: _P.kwargs) -> _R:
        arguments = (*args, *kwargs.values())
        self.enter(method.__name__, arguments)
        with self.hypervisor.lock:
            self.still_there()
            result = method(self, *args, **kwargs)
        self.hypervisor.leave(method.__name__, arguments)
        return result

    return typing.cast('Callable[typing.Concatenate[FakeConnect, _P], _R]', call)


class _Registration(typing.NamedTuple):
    uuid: str | None
    event: int
    callback: Callable[..., object]
    opaque: object


class _Told(FakeDomain):
    """The handle that comes with an event: it has the guest's id of that moment."""

    def ID(self) -> int:  # noqa: N802  (libvirt's name)
        return self._id


class FakeConnect:
    """One client's connection. It ends by close() or with the daemon, and never comes back."""

    def __init__(self, hypervisor: 'FakeHypervisor', uri: str) -> None:
        self.hypervisor = hypervisor
        self.dead = False
        self.closed = False
        self._uri = uri
        self._registrations: dict[int, _Registration] = {}
        self._next = 0
        self._close_callback: tuple[Callable[..., object], object] | None = None

    # For the fake itself

    def enter(self, method: str, arguments: tuple[object, ...]) -> None:
        self._usable(method)
        self.hypervisor.enter(method, arguments)

    def still_there(self) -> None:
        """After a test's hook, or a wait: a daemon that died meanwhile cuts the call off."""
        if self.dead:
            raise errors.cut_off()

    def _usable(self, method: str) -> None:
        if self.closed:
            raise errors.closed_connection(f'virConnect{method[0].upper()}{method[1:]}')
        if self.dead:
            raise errors.socket_closed()

    def drop(self) -> None:
        self.dead = True
        self._registrations.clear()
        if self._close_callback is not None:
            callback, opaque = self._close_callback
            self.hypervisor.event_clock.later(0, lambda: callback(self, libvirt.VIR_CONNECT_CLOSE_REASON_EOF, opaque))

    def deliver(self, event: int, guest: 'FakeGuest', arguments: tuple[object, ...], delay: float) -> None:
        """Registered now, delivered later unless deregistered or dropped in between."""
        for number, registration in list(self._registrations.items()):
            if registration.event == event and registration.uuid in (None, guest.uuid):
                self.hypervisor.event_clock.later(
                    delay, functools.partial(self._deliver, number, registration, _Told(self, guest), arguments)
                )

    def _deliver(
        self, number: int, registration: _Registration, domain: FakeDomain, arguments: tuple[object, ...]
    ) -> None:
        if number in self._registrations:
            registration.callback(self, domain, *arguments, registration.opaque)

    # Itself

    def close(self) -> int:
        if self.closed:
            raise errors.error(libvirt.VIR_ERR_INVALID_CONN, 'invalid connection pointer in virConnectClose', 0)
        with self.hypervisor.lock:
            self.closed = True
            self._registrations.clear()
            if self in self.hypervisor.connections:
                self.hypervisor.connections.remove(self)
        return 0

    def isAlive(self) -> int:  # noqa: N802  (libvirt's names, here and below)
        if self.closed:
            raise errors.closed_connection('virConnectIsAlive')
        return 0 if self.dead else 1

    def getURI(self) -> str:  # noqa: N802
        return self._uri

    def getType(self) -> str:  # noqa: N802
        return 'QEMU'

    @remote
    def getLibVersion(self) -> int:  # noqa: N802
        return _VERSION

    @remote
    def getVersion(self) -> int:  # noqa: N802
        return _QEMU_VERSION

    @remote
    def getHostname(self) -> str:  # noqa: N802
        return self.hypervisor.hostname

    @remote
    def setKeepAlive(self, interval: int, count: int) -> int:  # noqa: N802
        return 0

    @remote
    def registerCloseCallback(self, cb: Callable[..., object], opaque: object) -> int:  # noqa: N802
        if self._close_callback is not None:
            raise errors.invalid_state('A close callback is already registered', libvirt.VIR_FROM_REMOTE)
        self._close_callback = (cb, opaque)
        return 0

    @remote
    def unregisterCloseCallback(self) -> int:  # noqa: N802
        self._close_callback = None
        return 0

    # Events

    @remote
    def domainEventRegisterAny(  # noqa: N802
        self,
        dom: FakeDomain | None,
        eventID: int,  # noqa: N803
        cb: Callable[..., object],
        opaque: object,
    ) -> int:
        uuid = None if dom is None else dom.UUIDString()
        if any(known[:2] == (uuid, eventID) for known in self._registrations.values()):
            raise errors.bad_argument('event callback already tracked', libvirt.VIR_FROM_NONE)
        number = self._next
        self._next += 1
        self._registrations[number] = _Registration(uuid, eventID, cb, opaque)
        return number

    @remote
    def domainEventDeregisterAny(self, callbackID: int) -> int:  # noqa: N802, N803
        if callbackID not in self._registrations:
            raise errors.bad_argument(f'event callback id {callbackID} not registered', libvirt.VIR_FROM_NONE)
        del self._registrations[callbackID]
        return 0

    # Guests

    @remote
    def listAllDomains(self, flags: int = 0) -> list[FakeDomain]:  # noqa: N802
        return [FakeDomain(self, guest) for guest in self.hypervisor.guests.values() if _listed(guest, flags)]

    @remote
    def lookupByUUIDString(self, uuidstr: str) -> FakeDomain:  # noqa: N802
        if len(uuidstr.replace('-', '')) != 32 or set(uuidstr.lower()) - set('0123456789abcdef-'):
            raise errors.bad_uuid()
        guest = self.hypervisor.guests.get(uuidstr.lower())
        if guest is None:
            raise errors.no_domain(f"no domain with matching uuid '{uuidstr}'")
        return FakeDomain(self, guest)

    @remote
    def lookupByName(self, name: str) -> FakeDomain:  # noqa: N802
        for guest in self.hypervisor.guests.values():
            if guest.name == name:
                return FakeDomain(self, guest)
        raise errors.no_domain(f"no domain with matching name '{name}'")

    @remote
    def lookupByID(self, id: int) -> FakeDomain:  # noqa: N802
        for guest in self.hypervisor.guests.values():
            if guest.active and guest.id == id:
                return FakeDomain(self, guest)
        raise errors.no_domain(f'no domain with matching id {id}')

    @remote
    def defineXML(self, xml: str) -> FakeDomain:  # noqa: N802
        return FakeDomain(self, self.hypervisor.define(xml))

    @remote
    def defineXMLFlags(self, xml: str, flags: int = 0) -> FakeDomain:  # noqa: N802
        return FakeDomain(self, self.hypervisor.define(xml))

    @remote
    def createXML(self, xmlDesc: str, flags: int = 0) -> FakeDomain:  # noqa: N802, N803
        return FakeDomain(self, self.hypervisor.create(xmlDesc, bool(flags & libvirt.VIR_DOMAIN_START_PAUSED)))

    @remote
    def restore(self, frm: str) -> int:
        self.hypervisor.restore(frm, None)
        return 0

    @remote
    def restoreFlags(self, frm: str, dxml: str | None = None, flags: int = 0) -> int:  # noqa: N802
        self.hypervisor.restore(frm, dxml, bool(flags & libvirt.VIR_DOMAIN_SAVE_PAUSED))
        return 0

    @remote
    def saveImageGetXMLDesc(self, file: str, flags: int = 0) -> str:  # noqa: N802
        return self.hypervisor.saved[file][1]

    # Secrets

    @remote
    def secretDefineXML(self, xml: str, flags: int = 0) -> FakeSecret:  # noqa: N802
        return FakeSecret(self, self.hypervisor.secrets.define(xml))

    @remote
    def secretLookupByUUIDString(self, uuidstr: str) -> FakeSecret:  # noqa: N802
        return FakeSecret(self, self.hypervisor.secrets.find(uuidstr))

    @remote
    def listAllSecrets(self, flags: int = 0) -> list[FakeSecret]:  # noqa: N802
        return [FakeSecret(self, stored) for stored in self.hypervisor.secrets.stored.values()]


def _listed(guest: 'FakeGuest', flags: int) -> bool:
    """Flags of one group widen the choice, several groups narrow it."""
    groups = [
        {
            libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE: guest.active,
            libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE: not guest.active,
        },
        {
            libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT: guest.persistent,
            libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT: not guest.persistent,
        },
        {flag: guest.state == state for flag, state in _STATES.items()},
    ]
    return all(
        any(holds for flag, holds in group.items() if flags & flag) for group in groups if any(flags & f for f in group)
    )
