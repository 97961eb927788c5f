# SPDX-License-Identifier: Apache-2.0
"""A stateful fake of libvirt's QEMU driver. What it claims is checked against the real one by the contract suite."""

import threading
import time
import typing
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager

import libvirt
from lxml import etree

from aliasagent.tests.fakes.libvirt import addresses
from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt import definition
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.clock import Clock
from aliasagent.tests.fakes.libvirt.connection import FakeConnect
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.fakes.libvirt.secret import SecretStore

Hook = Callable[..., object]


class FakeHypervisor:
    """A host with its guests. Inject ``hypervisor.open`` where the code calls ``libvirt.open``.

    Call ``stop()`` when done with it (in a test's cleanup).
    """

    URI = 'qemu:///system'

    def __init__(self, hostname: str = 'fake-host') -> None:
        self.hostname = hostname
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        """Notified when a device or a guest is gone, and when connections drop."""
        self.guests: dict[str, FakeGuest] = {}
        self.connections: list[FakeConnect] = []
        self.saved: dict[str, tuple[str, str]] = {}
        """Images of saved guests, by path: UUID and running definition."""
        self.secrets = SecretStore()
        self.saved_paused: set[str] = set()
        """The images of guests that were paused, and are again when they are restored."""
        self.guests_clock = Clock('fake-guests')
        self.event_clock = Clock('fake-libvirt-events')
        self.calls: list[tuple[str, tuple[object, ...]]] = []
        """Every call through a connection, failed ones included: method name and arguments, the guest's UUID first."""
        self.before: dict[str, Hook] = {}
        """Called before a method, without the lock, with its arguments: may block, raise, or change things."""
        self.after: dict[str, Hook] = {}
        self.down = False
        """Nobody answers: open() fails with code 38."""
        self.destinations: set[str] = set()
        """The URIs of other hosts to which guests can be migrated."""
        self.missing_sources: set[str] = set()
        self.source_exists: Callable[[str], bool] = lambda path: path not in self.missing_sources
        self.missing_bridges: set[str] = set()
        self.bridge_exists: Callable[[str], bool] = lambda bridge: bridge not in self.missing_bridges
        self.taps: set[str] = set()
        """The taps that others than libvirt made on the host."""
        self.passthrough = True
        """Whether the host has VFIO."""
        self.xml_detach_wait = 0.2
        """How long detachDeviceFlags waits for a live device to go (libvirt: 5 s). Detach by alias never waits."""
        self._failures: dict[str, list[Exception]] = {}
        self._ids = 0
        self._taps = 0
        self._sources = 0

    # For tests

    def add_guest(
        self,
        devices: str = '',
        *,
        name: str | None = None,
        instance_uuid: str | None = None,
        running: bool = True,
        persistent: bool = True,
        root_ports: int = 8,
        xml: str | None = None,
    ) -> FakeGuest:
        """A guest, with a q35 machine and free root ports unless ``xml`` says all of it."""
        instance_uuid = instance_uuid or str(uuid.uuid4())
        with self.lock:
            text = xml or domain_xml(name or f'guest-{len(self.guests) + 1}', instance_uuid, devices, root_ports)
            guest = self._define(definition.parse_domain(text), persistent)
            if running or not persistent:
                guest.start()
        return guest

    def load_guest(self, xml: str, running: bool = False) -> FakeGuest:
        """A guest as libvirtd finds it on disk at its start: aliases are not checked, duplicates can be there."""
        tree = definition.parse(xml, 'domain_definition')
        addresses.assign_all(tree)
        with self.lock:
            guest = FakeGuest(self, tree)
            self.guests[guest.uuid] = guest
            if running:
                guest.start()
        return guest

    def drop_connections(self, down: bool = False) -> None:
        """libvirtd dies. Guests live on, connections do not; with ``down`` nobody answers until it is unset."""
        with self.lock:
            self.down = self.down or down
            self.secrets.forget_ephemeral()
            dropped, self.connections = self.connections, []
            for connection in dropped:
                connection.drop()
            self.changed.notify_all()

    def fail_next(self, method: str, error: Exception, times: int = 1) -> None:
        """The next calls of a method ('attachDeviceFlags', 'open', ...) raise this and do nothing."""
        with self.lock:
            self._failures.setdefault(method, []).extend([error] * times)

    def count(self, method: str) -> int:
        with self.lock:
            return sum(1 for name, _ in self.calls if name == method)

    @contextmanager
    def counting(self) -> Iterator[list[tuple[str, tuple[object, ...]]]]:
        """The calls made inside the block; complete when it ends."""
        made: list[tuple[str, tuple[object, ...]]] = []
        start = len(self.calls)
        yield made
        made.extend(self.calls[start:])

    def settle(self, timeout: float = 5) -> bool:
        """Wait until guests and events have nothing more under way."""
        return self.guests_clock.idle(timeout) and self.event_clock.idle(timeout)

    def stop(self) -> None:
        self.guests_clock.stop()
        self.event_clock.stop()

    # The functions of the libvirt module

    def open(self, uri: str | None = None) -> FakeConnect:
        self.enter('open', (uri,))
        with self.lock:
            if self.down:
                raise errors.cannot_connect()
            connection = FakeConnect(self, uri or self.URI)
            self.connections.append(connection)
            return connection

    def virEventRegisterDefaultImpl(self) -> int:  # noqa: N802  (libvirt's name)
        return 0

    def virEventRunDefaultImpl(self) -> int:  # noqa: N802  (libvirt's name)
        """Events come from a thread of the fake's own, so that it does not matter who runs this."""
        time.sleep(0.05)
        return 0

    # For the other parts of the fake

    def enter(self, method: str, arguments: tuple[object, ...]) -> None:
        """Write down a call, and let the test interfere."""
        with self.lock:
            self.calls.append((method, arguments))
            failures = self._failures.get(method)
            failure = failures.pop(0) if failures else None
            hook = self.before.get(method)
        if hook is not None:
            hook(*arguments)
        if failure is not None:
            raise failure

    def leave(self, method: str, arguments: tuple[object, ...]) -> None:
        with self.lock:
            hook = self.after.get(method)
        if hook is not None:
            hook(*arguments)

    def define(self, xml: str) -> FakeGuest:
        with self.lock:
            tree = definition.parse_domain(xml)
            if not tree.findtext('uuid'):
                element = etree.Element('uuid')
                element.text = str(uuid.uuid4())
                tree.insert(1, element)
            return self._define(tree, persistent=True)

    def create(self, xml: str, paused: bool) -> FakeGuest:
        """A transient guest."""
        with self.lock:
            guest = self._define(definition.parse_domain(xml), persistent=False)
            try:
                guest.start(paused)
            except libvirt.libvirtError:
                self.forget(guest)
                raise
            return guest

    def _define(self, tree: etree._Element, persistent: bool) -> FakeGuest:
        name, instance_uuid = tree.findtext('name', ''), tree.findtext('uuid', '')
        for other in self.guests.values():
            if other.name == name and other.uuid != instance_uuid:
                raise errors.failed(f"domain '{name}' already exists with uuid {other.uuid}")
        guest = self.guests.get(instance_uuid)
        if guest is None:
            guest = FakeGuest(self, tree, persistent)
            self.guests[instance_uuid] = guest
            detail = libvirt.VIR_DOMAIN_EVENT_DEFINED_ADDED
        else:
            guest.config = tree
            detail = libvirt.VIR_DOMAIN_EVENT_DEFINED_UPDATED
        if persistent:
            self.emit(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, guest, libvirt.VIR_DOMAIN_EVENT_DEFINED, detail)
        return guest

    def restore(self, path: str, xml: str | None, paused: bool = False) -> None:
        """A saved guest runs again; edited XML may give its devices new aliases, except memory."""
        with self.lock:
            if path not in self.saved:
                raise errors.error(38, f"failed to open '{path}': No such file or directory", number=2)
            instance_uuid, image = self.saved[path]
            tree = definition.parse_domain(xml or image)
            old = definition.parse(image, 'domain_definition').findall('devices/memory')
            for before, now in zip(old, tree.findall('devices/memory'), strict=False):
                if aliases.alias_of(before) != aliases.alias_of(now):
                    raise errors.unsupported_config('target memory device alias does not match the source')
            guest = self.guests.get(instance_uuid)
            if guest is None:
                guest = FakeGuest(self, tree, persistent=False)
                self.guests[instance_uuid] = guest
            if guest.active:
                raise errors.invalid_state(f"domain '{guest.name}' is already active")
            try:
                guest.boot(tree, libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED, paused or path in self.saved_paused)
                if guest.state == libvirt.VIR_DOMAIN_PAUSED:
                    guest.reason = libvirt.VIR_DOMAIN_PAUSED_MIGRATION  # so libvirt calls it
            except libvirt.libvirtError:
                if not guest.persistent:
                    self.forget(guest)
                raise

    def forget(self, guest: FakeGuest) -> None:
        self.guests.pop(guest.uuid, None)

    def next_id(self) -> int:
        self._ids += 1
        return self._ids

    def check_source(self, disk: etree._Element) -> None:
        """A local file or block device has to be there when a guest is to use it."""
        path = definition.source_of(disk)
        if disk.get('type') in ('file', 'block') and path and not self.source_exists(path):
            raise errors.source_missing(path)

    def open_disk(self, disk: etree._Element) -> None:
        """What a running guest's disk has more than a defined one."""
        source = disk.find('source')
        if source is not None:
            self._sources += 1
            source.set('index', str(self._sources))
            if disk.find('backingStore') is None:
                source.addnext(etree.Element('backingStore'))

    def plug_tap(self, interface: etree._Element) -> None:
        """Connect a running guest's interface: a bridge must be there, and a nameless tap gets a name."""
        kind, source = interface.get('type'), interface.find('source')
        if kind == 'bridge' and source is not None and not self.bridge_exists(source.get('bridge', '')):
            raise errors.bridge_missing(source.get('bridge', ''))
        if kind in ('hostdev', 'vhostuser', 'user'):
            return
        target = interface.find('target')
        if kind == 'ethernet' and target is not None:
            self._check_tap(target)
        if target is None:
            target = etree.Element('target')
            model = interface.find('model')
            if model is not None:
                model.addprevious(target)
            else:
                interface.append(target)
        if not target.get('dev'):
            target.set('dev', f'{"macvtap" if kind == "direct" else "vnet"}{self._taps}')
            self._taps += 1

    def _check_tap(self, target: etree._Element) -> None:
        """A tap that libvirt is to make must not be there; one that others keep must."""
        name, there = target.get('dev', ''), target.get('dev') in self.taps
        if target.get('managed') == 'no' and not there:
            raise errors.internal("target managed='no' but specified dev doesn't exist", libvirt.VIR_FROM_QEMU)
        if target.get('managed') != 'no' and there:
            raise errors.invalid_state(f'The {name} interface already exists', libvirt.VIR_FROM_NONE)

    def emit(self, event: int, guest: FakeGuest, *arguments: typing.Any, delay: float = 0) -> None:
        """Tell every connection that asked, from the event thread. Who asks later hears nothing of it."""
        with self.lock:
            for connection in self.connections:
                connection.deliver(event, guest, arguments, delay)


def domain_xml(name: str, instance_uuid: str, devices: str = '', root_ports: int = 8) -> str:
    """A definition with a SCSI controller and so many free root ports, fit for real libvirt as well."""
    ports = "<controller type='pci' model='pcie-root-port'/>" * (root_ports + 1)
    return f"""
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{instance_uuid}</uuid>
  <memory unit='KiB'>98304</memory>
  <currentMemory unit='KiB'>98304</currentMemory>
  <vcpu placement='static'>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <controller type='pci' index='0' model='pcie-root'/>{ports}
    <controller type='scsi' index='0' model='virtio-scsi'/>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>{devices}
  </devices>
</domain>"""
