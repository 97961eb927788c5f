# SPDX-License-Identifier: Apache-2.0
"""What libvirt does, as tests that hold for the fake hypervisor and for the real one alike.

This is what they share; the facts themselves are in the modules beside it. Every number in them was seen on libvirt
9.0.0 with QEMU 7.2 before it was written down.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import libvirt
import testtools
from lxml import etree

LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
CURRENT = libvirt.VIR_DOMAIN_AFFECT_CURRENT
BOTH = LIVE | CONFIG

MISSING_BRIDGE = 'aa-no-bridge'
MISSING_FILE = '/aliasagent-no-such-directory/disk.img'

MAC = '52:54:00:aa:00:01'
OTHER_MAC = '52:54:00:aa:00:02'

_EVENTS = {
    'lifecycle': libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
    'reboot': libvirt.VIR_DOMAIN_EVENT_ID_REBOOT,
    'added': libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
    'removed': libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
    'removal failed': libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
}


def disk(
    path: str,
    target: str,
    alias: str | None = None,
    *,
    bus: str = 'scsi',
    device: str = 'disk',
    kind: str = 'file',
    serial: str | None = None,
    unit: int | None = None,
) -> str:
    """A disk; with a unit, in that place of the first controller, wherever its name leads."""
    return (
        f"<disk type='{kind}' device='{device}'><driver name='qemu' type='raw'/>"
        f"<source {'file' if kind == 'file' else 'dev'}='{path}'/><target dev='{target}' bus='{bus}'/>"
        f'{f"<serial>{serial}</serial>" if serial else ""}{_alias(alias)}{_drive(unit)}</disk>'
    )


def interface(bridge: str, alias: str | None = None, mac: str | None = MAC) -> str:
    return (
        f"<interface type='bridge'>{f'<mac address={mac!r}/>' if mac else ''}<source bridge='{bridge}'/>"
        f"<model type='virtio'/>{_alias(alias)}</interface>"
    )


def tap(name: str, alias: str, managed: str = '') -> str:
    kept = f" managed='{managed}'" if managed else ''
    return (
        f"<interface type='ethernet'><mac address='{MAC}'/><target dev='{name}'{kept}/>"
        f"<model type='virtio'/>{_alias(alias)}</interface>"
    )


def pci_hostdev(alias: str | None = None, slot: str = '0x1e') -> str:
    return (
        "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
        f"<address domain='0x0000' bus='0x00' slot='{slot}' function='0x0'/></source>{_alias(alias)}</hostdev>"
    )


def mdev(alias: str | None = None, uuid: str = 'c2177883-f1bb-47f0-914d-32a22e3a8804') -> str:
    return (
        "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
        f"<address uuid='{uuid}'/></source>{_alias(alias)}</hostdev>"
    )


def scsi_hostdev(alias: str | None = None, *, lun: int = 0, unit: int | None = None) -> str:
    return (
        "<hostdev mode='subsystem' type='scsi' managed='no'><source><adapter name='scsi_host0'/>"
        f"<address bus='0' target='0' unit='{lun}'/></source>{_alias(alias)}{_drive(unit)}</hostdev>"
    )


def rng(alias: str | None = None) -> str:
    return f"<rng model='virtio'><backend model='random'>/dev/urandom</backend>{_alias(alias)}</rng>"


def _alias(name: str | None) -> str:
    return f'<alias name="{name}"/>' if name else ''


def _drive(unit: int | None) -> str:
    return '' if unit is None else f"<address type='drive' controller='0' bus='0' target='0' unit='{unit}'/>"


def devices(domain: Any, inactive: bool = False) -> list[etree._Element]:
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
    return etree.fromstring(domain.XMLDesc(flags)).findall('devices/*')


def alias_of(device: etree._Element) -> str | None:
    alias = device.find('alias')
    return None if alias is None else alias.get('name')


def find(domain: Any, alias: str, inactive: bool = False) -> etree._Element | None:
    return next((device for device in devices(domain, inactive) if alias_of(device) == alias), None)


def user_aliases(domain: Any, inactive: bool = False) -> list[str]:
    return sorted(
        alias for device in devices(domain, inactive) if (alias := alias_of(device)) and alias.startswith('ua-')
    )


class Events:
    """What a connection is told, as (kind, guest's UUID, arguments)."""

    def __init__(self, connection: Any, domain: Any = None) -> None:
        self.seen: list[tuple[str, str, tuple[object, ...]]] = []
        self._starts: list[tuple[str, int]] = []
        self._changed = threading.Condition()
        self._connection = connection
        self._ids = [
            connection.domainEventRegisterAny(domain, number, self._told, kind) for kind, number in _EVENTS.items()
        ]

    def _told(self, _connection: Any, domain: Any, *rest: Any) -> None:
        with self._changed:
            self.seen.append((rest[-1], domain.UUIDString(), rest[:-1]))
            if rest[-1] == 'lifecycle' and rest[0] == libvirt.VIR_DOMAIN_EVENT_STARTED:
                self._starts.append((domain.UUIDString(), domain.ID()))
            self._changed.notify_all()

    def stop(self) -> None:
        for number in self._ids:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.domainEventDeregisterAny(number)

    def of(self, domain: Any, kind: str) -> list[tuple[object, ...]]:
        with self._changed:
            return [rest for told, uuid, rest in self.seen if told == kind and uuid == domain.UUIDString()]

    def numbers(self, domain: Any) -> list[int]:
        """libvirt's numbers of the runs of a guest that began."""
        with self._changed:
            return [number for uuid, number in self._starts if uuid == domain.UUIDString()]

    def wait(self, domain: Any, kind: str, *arguments: object, timeout: float = 15) -> bool:
        with self._changed:
            return self._changed.wait_for(
                lambda: any(rest[: len(arguments)] == arguments for rest in self.of(domain, kind)), timeout
            )


class HypervisorContract(testtools.TestCase):
    """The hooks that tell the fake from the real thing, and what the facts need to be read."""

    def connection(self) -> Any:
        """An open connection, the same for all of a test."""
        raise NotImplementedError

    def new_connection(self) -> Any:
        raise NotImplementedError

    def new_guest(
        self, running: bool = True, devices: str = '', *, root_ports: int = 4, persistent: bool = True
    ) -> Any:
        """A guest of this test's own, without an operating system: it never answers a request to release a device."""
        raise NotImplementedError

    def booted_guest(self) -> Any:
        """A running guest that answers such requests; shared by the tests, who leave it as it was."""
        raise NotImplementedError

    def disk_file(self, name: str) -> str:
        """The path of a small raw disk image of that name that is there."""
        raise NotImplementedError

    def save_path(self) -> str:
        """A path to save a guest to."""
        raise NotImplementedError

    def bridge(self) -> str:
        """The name of a bridge that is there."""
        raise NotImplementedError

    def tap(self) -> str:
        """The name of a tap that others than libvirt made."""
        raise NotImplementedError

    # What the tests use

    def one_of_each(self) -> dict[str, str]:
        """Devices that a guest can get and give back in its own way each, by their aliases."""
        return {
            'ua-scsi': disk(self.disk_file('a'), 'sda', 'ua-scsi'),
            'ua-virtio': disk(self.disk_file('b'), 'vda', 'ua-virtio', bus='virtio'),
            'ua-net': interface(self.bridge(), 'ua-net'),
            'ua-rng': rng('ua-rng'),
        }

    def events(self, domain: Any = None) -> Events:
        events = Events(self.connection(), domain)
        self.addCleanup(events.stop)
        return events

    def clean_guest(self) -> Any:
        """The shared guest, and nothing is left on it afterwards."""
        domain = self.booted_guest()
        self.addCleanup(self._clean, domain)
        return domain

    def _clean(self, domain: Any) -> None:
        if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
            domain.resume()
        for flags in (CONFIG, LIVE):
            for alias in user_aliases(domain, inactive=flags == CONFIG):
                with contextlib.suppress(libvirt.libvirtError):
                    domain.detachDeviceAlias(alias, flags)
        self.assertEqual([], self.soon(lambda: user_aliases(domain), lambda left: not left))

    def soon(self, read: Callable[[], Any], good: Callable[[Any], object] = bool, timeout: float = 15) -> Any:
        """Read until it is good or the time is over; the last reading."""
        deadline = time.monotonic() + timeout
        while not good(found := read()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    @contextlib.contextmanager
    def refused(
        self, code: int | tuple[int, ...], text: str | tuple[str, ...], error_domain: int | None = None
    ) -> Iterator[None]:
        """What is done inside raises libvirt's error with this code, and a message that contains the text.

        Several of either where versions of libvirt differ.
        """
        codes = (code,) if isinstance(code, int) else code
        texts = (text,) if isinstance(text, str) else text
        try:
            yield
        except libvirt.libvirtError as error:
            self.assertIn(error.get_error_code(), codes, str(error))
            self.assertTrue(any(it in error.get_error_message() for it in texts), str(error))
            if error_domain is not None:
                self.assertEqual(error_domain, error.get_error_domain())
        else:
            self.fail(f'no error, where code {code} with {text!r} was expected')

    @contextlib.contextmanager
    def unchanged(self, domain: Any) -> Iterator[None]:
        """What is done inside changes neither the running nor the saved definition."""

        def dump(flags: int) -> str:
            text: str = domain.XMLDesc(flags | libvirt.VIR_DOMAIN_XML_SECURE)
            return text

        before = [dump(0), dump(libvirt.VIR_DOMAIN_XML_INACTIVE)]
        yield
        self.assertEqual(before, [dump(0), dump(libvirt.VIR_DOMAIN_XML_INACTIVE)])
