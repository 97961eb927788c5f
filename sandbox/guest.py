# SPDX-License-Identifier: Apache-2.0
"""A tiny real guest, and what it says it sees; disks and bridges to give it."""

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

# A kernel with these has neither of the two drivers that answer a request to release a PCI device.
DEAF = 'acpiphp.disable=1 pcie_ports=compat'


@dataclasses.dataclass(frozen=True)
class SeenDisk:
    """A disk as the guest's kernel has it."""

    name: str
    bytes: int
    serial: str  # of a virtio disk the first 20 characters only
    bus: str  # 'virtio' or 'scsi'
    readonly: bool
    slot: str  # PCI address of the disk, or of the controller it hangs on


@dataclasses.dataclass(frozen=True)
class SeenNic:
    """A network interface as the guest's kernel has it."""

    name: str
    mac: str
    slot: str  # PCI address
    mtu: int


@dataclasses.dataclass(frozen=True)
class Seen:
    """All that the guest sees, by its own names for it."""

    disks: Mapping[str, SeenDisk]
    nics: Mapping[str, SeenNic]

    def disk(self, serial: str) -> SeenDisk | None:
        """The disk with this serial (of which a virtio disk knows 20 characters), or None."""
        for disk in self.disks.values():
            if disk.serial and disk.serial == (serial[:20] if disk.bus == 'virtio' else serial):
                return disk
        return None

    def nics_with(self, mac: str) -> list[SeenNic]:
        """The interfaces with this address, in the order of their names."""
        return sorted((nic for nic in self.nics.values() if nic.mac == mac.lower()), key=lambda nic: nic.name)


class TestGuest:
    """A guest of a private libvirtd, with room for hot-plug, that speaks through its serial console.

    :param connection: the hypervisor that it is defined on
    :param directory: its console's file goes there; the hypervisor must be able to write to it
    :param image: what it boots
    :param devices: XML of further devices it starts with
    :param deaf: it never answers a request to release a PCI device (until it is reset); it sees none come, either
    :param write: it writes records to its first virtio disk all the time, see :func:`materials.last_record`
    :param memory: MiB
    :param spare_ports: PCIe ports that stay free for hot-plug
    :param metadata: XML put into the domain's ``<metadata>``
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
        self._since = 0  # where in the console's file this run began

    @property
    def domain(self) -> Any:
        """The libvirt domain, looked up anew: it may have changed, and so may the connection."""
        return self.connection.lookupByUUIDString(self.uuid)

    def xml(self) -> str:
        """The definition it is made from."""
        # it has no secrets, and nobody beside it: what would guard them makes its boot longer
        arguments = ['console=ttyS0', 'quiet', 'loglevel=1', 'panic=1', 'random.trust_cpu=on', 'mitigations=off']
        if self.deaf:
            arguments.append(DEAF)
        if self.write:
            arguments.append('aa.write=1')
        # beside the spare ones: the SCSI controller, and each device it starts with takes one
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
        """Make it known to the hypervisor, shut off."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.connection.defineXML(self.xml())
        return self

    def start(self) -> Self:
        """Boot it, defining it first if need be; returns at once, see :meth:`wait_ready`."""
        if self.uuid not in [domain.UUIDString() for domain in self.connection.listAllDomains()]:
            self.define()
        self._forget()
        self.domain.create()
        return self

    def reset(self) -> Self:
        """Press the reset button; returns at once, see :meth:`wait_ready`."""
        self._forget()
        self.domain.reset()
        return self

    def _forget(self) -> None:
        """Take what was said until now as said in an earlier life."""
        self._since = self.console.stat().st_size if self.console.exists() else 0

    def destroy(self) -> None:
        """Switch it off, if it runs, and make it unknown to the hypervisor; nothing to do if it is gone."""
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
        """What it said since its last boot began, oldest first; guest_init.sh lists what there is to say.

        :raises PartFailed: it said something that cannot be read
        """
        if not self.console.exists():
            return []
        with self.console.open('rb') as console:
            console.seek(self._since)
            text = console.read().decode(errors='replace')
        events: list[dict[str, Any]] = []
        whole, _, _ = text.rpartition('\n')  # the last line may still be on its way
        for line in whole.splitlines():
            start = line.find('{"event":')
            if start < 0:
                continue  # the kernel or the firmware, not the init script
            try:
                event = json.loads(line[start:])
            except ValueError as error:
                raise processes.PartFailed(f'{self.name} said on its console {line!r}: {error}') from error
            if event['event'] == 'boot':
                events = []
            events.append(event)
        return events

    def ready(self) -> bool:
        """Whether it has booted and named all that was there."""
        return any(event['event'] == 'ready' for event in self.events())

    def sees(self) -> Seen:
        """The disks and interfaces that it sees now (it looks five times a second)."""
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
        """Wait until it has booted.

        :param timeout: seconds; a boot takes about 5 of them without KVM, more on a busy host
        :raises PartFailed: it has not; the message carries the end of its console
        """
        try:
            processes.wait_until(self.ready, timeout, f'{self.name} to boot')
        except processes.PartFailed as error:
            raise processes.PartFailed(f'{error}; the end of its console:\n{processes.tail(self.console)}') from error
        return self

    def wait_sees(self, predicate: Callable[[Seen], object], timeout: float = 20, what: str = 'the change') -> Seen:
        """Wait until what the guest sees satisfies ``predicate``, and return it.

        :param timeout: seconds
        :param what: what is waited for, as it shall read in the error
        :raises PartFailed: it never did; the message carries what the guest sees instead
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
