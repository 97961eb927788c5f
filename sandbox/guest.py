# SPDX-License-Identifier: Apache-2.0
"""Runs a tiny real guest, and reads which devices the guest sees."""

import dataclasses
import json
import pathlib
import time
import uuid as uuid_module
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Self
from xml.sax import saxutils

import libvirt

from sandbox import guest_image
from sandbox import processes

# These arguments disable both kernel drivers that answer a request to release a PCI device.
DEAF = 'acpiphp.disable=1 pcie_ports=compat'


@dataclasses.dataclass(frozen=True)
class SeenDisk:
    """A disk as the guest's kernel sees it."""

    name: str
    bytes: int
    serial: str  # only the first 20 characters for a virtio disk
    bus: str  # 'virtio' or 'scsi'
    readonly: bool
    slot: str  # PCI address of the disk, or of its controller


@dataclasses.dataclass(frozen=True)
class SeenNic:
    """A network interface as the guest's kernel sees it."""

    name: str
    mac: str
    slot: str  # PCI address
    mtu: int


@dataclasses.dataclass(frozen=True)
class Seen:
    """All devices that the guest sees, by their names in the guest."""

    disks: Mapping[str, SeenDisk]
    nics: Mapping[str, SeenNic]

    def disk(self, serial: str) -> SeenDisk | None:
        """Return the disk with a serial, or None. For virtio disks, compare the first 20 characters."""
        for disk in self.disks.values():
            if disk.serial and disk.serial == (serial[:20] if disk.bus == 'virtio' else serial):
                return disk
        return None

    def nics_with(self, mac: str) -> list[SeenNic]:
        """Return the interfaces with a MAC address, in the order of their names."""
        return sorted((nic for nic in self.nics.values() if nic.mac == mac.lower()), key=lambda nic: nic.name)


class TestGuest:
    """A guest of a private libvirtd, with free ports for hot-plug, that reports on its serial console.

    :param connection: the libvirt connection that defines the guest
    :param directory: has the file of the console; the hypervisor must be able to write there
    :param image: the image to boot
    :param devices: XML of more devices to boot with
    :param deaf: the guest never releases a PCI device (until it is reset), and does not see new ones
    :param write: the guest writes records to its first virtio disk all the time, see :func:`materials.last_record`
    :param memory: MiB
    :param spare_ports: the number of PCIe ports that stay free for hot-plug
    :param metadata: XML for the domain's ``<metadata>``
    """

    __test__ = False  # not a test case, whatever its name

    def __init__(
        self,
        connection: Any,
        directory: pathlib.Path,
        image: guest_image.GuestImage,
        *,
        name: str | None = None,
        uuid: str | None = None,
        devices: str = '',
        deaf: bool = False,
        write: bool = False,
        memory: int = 128,
        spare_ports: int = 8,
        metadata: str = '',
    ) -> None:
        self.uuid = uuid or str(uuid_module.uuid4())
        self.name = name or f'guest-{self.uuid[:8]}'
        self.connection = connection
        self.directory = directory.resolve()
        self.image = image
        self.devices = devices
        self.deaf = deaf
        self.write = write
        self.memory = memory
        self.spare_ports = spare_ports
        self.metadata = metadata
        self.console = self.directory / f'{self.name}.console'
        self._since = 0  # the offset in the console's file at which this run began

    @property
    def domain(self) -> Any:
        """The libvirt domain, looked up each time: the domain or the connection may have changed."""
        return self.connection.lookupByUUIDString(self.uuid)

    def xml(self) -> str:
        """Return the definition of the guest."""
        # without CPU mitigations the guest boots faster; it has no secrets and no other users
        arguments = ['console=ttyS0', 'quiet', 'loglevel=1', 'panic=1', 'random.trust_cpu=on', 'mitigations=off']
        if self.deaf:
            arguments.append(DEAF)
        if self.write:
            arguments.append('aa.write=1')
        # the SCSI controller and each device at boot need a port besides the spare ones
        ports = self.spare_ports + 1 + self.devices.count('<disk') + self.devices.count('<interface')
        metadata = f'<metadata>{self.metadata}</metadata>' if self.metadata else ''
        return f"""\
<domain type='qemu'>
  <name>{saxutils.escape(self.name)}</name>
  <uuid>{self.uuid}</uuid>
  {metadata}
  <memory unit='MiB'>{self.memory}</memory>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{saxutils.escape(str(self.image.kernel))}</kernel>
    <initrd>{saxutils.escape(str(self.image.initramfs))}</initrd>
    <cmdline>{' '.join(arguments)}</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <controller type='pci' model='pcie-root'/>
    {"<controller type='pci' model='pcie-root-port'/>" * ports}
    <controller type='scsi' index='0' model='virtio-scsi'/>
    {'' if "type='usb'" in self.devices else "<controller type='usb' model='none'/>"}
    <memballoon model='none'/>
    <serial type='file'>
      <source path={saxutils.quoteattr(str(self.console))} append='on'/>
      <target port='0'/>
    </serial>
    {self.devices}
  </devices>
</domain>
"""

    def define(self) -> Self:
        """Define the guest, shut off."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.connection.defineXML(self.xml())
        return self

    def start(self) -> Self:
        """Boot the guest, after defining it if necessary. Returns at once, see :meth:`wait_ready`."""
        if self.uuid not in [domain.UUIDString() for domain in self.connection.listAllDomains()]:
            self.define()
        self._forget()
        self.domain.create()
        return self

    def reset(self) -> Self:
        """Reset the guest. Returns at once, see :meth:`wait_ready`."""
        self._forget()
        self.domain.reset()
        return self

    def _forget(self) -> None:
        """Ignore the console output of earlier runs."""
        self._since = self.console.stat().st_size if self.console.exists() else 0

    def destroy(self) -> None:
        """Stop and undefine the guest; do nothing if it does not exist."""
        found = [domain for domain in self.connection.listAllDomains() if domain.UUIDString() == self.uuid]
        for domain in found:
            persistent = domain.isPersistent()
            if domain.isActive():
                domain.destroy()
            if persistent:
                domain.undefineFlags(
                    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                )

    def events(self) -> list[dict[str, Any]]:
        """Return the events since the last boot, the oldest first; guest_init.sh lists them.

        :raises PartFailed: the console has a line that cannot be parsed
        """
        if not self.console.exists():
            return []
        with self.console.open('rb') as console:
            console.seek(self._since)
            text = console.read().decode(errors='replace')
        events: list[dict[str, Any]] = []
        whole, _, _ = text.rpartition('\n')  # the last line may not be complete
        for line in whole.splitlines():
            start = line.find('{"event":')
            if start < 0:
                continue  # the kernel or the firmware, not the init script
            try:
                event = json.loads(line[start:])
            except ValueError as error:
                raise processes.PartFailed(f'{self.name} printed on its console {line!r}: {error}') from error
            if event['event'] == 'boot':
                events = []
            events.append(event)
        return events

    def ready(self) -> bool:
        """Return whether the guest has booted and reported all its devices."""
        return any(event['event'] == 'ready' for event in self.events())

    def sees(self) -> Seen:
        """Return the disks and interfaces that the guest sees; it checks five times a second."""
        disks: dict[str, SeenDisk] = {}
        nics: dict[str, SeenNic] = {}
        for event in self.events():
            members = {key: value for key, value in event.items() if key != 'event'}
            match event['event']:
                case 'disk-added' | 'disk-changed':
                    disks[members['name']] = SeenDisk(**members)
                case 'disk-removed':
                    del disks[members['name']]
                case 'nic-added':
                    nics[members['name']] = SeenNic(**members)
                case 'nic-removed':
                    del nics[members['name']]
        return Seen(disks, nics)

    def wait_ready(self, timeout: float = 60) -> Self:
        """Wait until the guest has booted.

        :param timeout: seconds; a boot takes about 5 s without KVM, more on a busy host
        :raises PartFailed: the guest has not booted in time; the error includes the end of the console
        """
        try:
            processes.wait_until(self.ready, timeout, f'{self.name} to boot')
        except processes.PartFailed as error:
            raise processes.PartFailed(f'{error}; the end of its console:\n{processes.tail(self.console)}') from error
        return self

    def wait_sees(self, predicate: Callable[[Seen], object], timeout: float = 20, what: str = 'the change') -> Seen:
        """Wait until the devices that the guest sees satisfy ``predicate``, and return them.

        :param timeout: seconds
        :param what: the expected change, for the error
        :raises PartFailed: the timeout has expired; the error lists the devices that the guest sees
        """
        deadline = time.monotonic() + timeout
        while True:
            seen = self.sees()
            if predicate(seen):
                return seen
            if time.monotonic() >= deadline:
                raise processes.PartFailed(
                    f'{self.name} does not see {what} within {timeout:g} s; it sees '
                    f'{sorted(seen.disks.values(), key=lambda disk: disk.name)} and '
                    f'{sorted(seen.nics.values(), key=lambda nic: nic.name)}'
                )
            time.sleep(0.1)
