# SPDX-License-Identifier: Apache-2.0
"""What a history is made of: guests with their devices, and steps. All of it is plain data, drawn from a seed."""

import dataclasses
import os
import pathlib
import tempfile
from typing import Any

from aliasagent.tests.history import chronicle

#: Where the files of the volumes, the journal and the saved guests are. In memory, where there is such a place.
SHM = pathlib.Path('/dev/shm')  # nosec B108
_BASE = SHM if SHM.is_dir() and os.access(SHM, os.W_OK) else pathlib.Path(tempfile.gettempdir())
#: The same path in each process, for it is in what is drawn, and two processes share the files of volumes only.
DISKS = _BASE / f'aliasagent-history-{os.getuid()}'

VOLUMES, PORTS, HOSTDEVS, GUESTS = 8, 6, 3, 3


@dataclasses.dataclass(frozen=True)
class Thing:
    """A volume, a port or a host device."""

    id: str
    kind: str
    #: How a device of it that has no alias can be told: ``serial``, ``name``, ``source``; ``ovs``, ``tap``, ``mac``;
    #: ``mdev``, ``pci``.
    form: str
    number: int
    source: str = ''
    mac: str = ''

    @property
    def alias(self) -> str:
        return f'ua-{self.id}'

    @property
    def mtu(self) -> int:
        return 1400 + self.number

    def xml(self, alias: bool, target: str, slot: int | None, serial: bool = True) -> str:
        """A device of it in a guest."""
        name = f"<alias name='{self.alias}'/>" if alias else ''
        where = ''
        if slot is not None:
            where = f"<address type='pci' domain='0x0000' bus='0x{slot:02x}' slot='0x00' function='0x0'/>"
        match self.kind:
            case 'disk':
                number = f'<serial>{self.id}</serial>' if serial and self.form == 'serial' else ''
                bus = 'scsi' if target.startswith('sd') else 'virtio'
                return (
                    f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{self.source}'/>"
                    f"<target dev='{target}' bus='{bus}'/>{number}{name}{where if bus == 'virtio' else ''}</disk>"
                )
            case 'interface':
                ovs = f"<virtualport type='openvswitch'><parameters interfaceid='{self.id}'/></virtualport>"
                tap = f"<target dev='tap{self.id[:11]}'/>"
                return (
                    f"<interface type='bridge'><mac address='{self.mac}'/><source bridge='br0'/>"
                    f'{ovs if self.form == "ovs" else ""}{tap if self.form == "tap" else ""}'
                    f"<model type='virtio'/><mtu size='{self.mtu}'/>{name}{where}</interface>"
                )
            case _:
                if self.form == 'mdev':
                    kind, source = "type='mdev' model='vfio-pci'", f"<address uuid='{self.id}'/>"
                else:
                    kind = "type='pci' managed='yes'"
                    source = f"<address domain='0x0000' bus='0x06' slot='0x12' function='0x{self.number}'/>"
                return f"<hostdev mode='subsystem' {kind}><source>{source}</source>{name}{where}</hostdev>"

    def arguments(self) -> dict[str, Any]:
        """What a request to attach it says."""
        match self.kind:
            case 'disk':
                connection = {'driver_volume_type': 'file', 'data': {'device_path': self.source, 'format': 'raw'}}
                bus = 'scsi' if self.number == VOLUMES - 1 else 'virtio'
                return {'volume_id': self.id, 'connection_info': connection, 'disk_bus': bus}
            case 'interface':
                port = {'id': self.id, 'address': self.mac, 'vif_type': 'bridge', 'bridge': 'br0', 'mtu': self.mtu}
                if self.form == 'ovs':
                    port |= {'vif_type': 'ovs', 'ovs_interfaceid': self.id}
                if self.form == 'tap':
                    port |= {'devname': f'tap{self.id[:11]}'}
                return {'port': port}
            case _:
                hostdev = {'type': 'pci', 'address': f'0000:06:12.{self.number}'}
                if self.form == 'mdev':
                    hostdev = {'type': 'mdev', 'uuid': self.id}
                return {'device_id': self.id, 'hostdev': hostdev}


def _volume(number: int) -> Thing:
    device_id = f'd{number:07x}-0a0a-4a0a-8a0a-{number:012x}'
    form = ('serial', 'serial', 'serial', 'source', 'source', 'name', 'serial', 'serial')[number]
    name = f'volume-{device_id}' if form == 'name' else f'disk-{number}.raw'
    return Thing(device_id, 'disk', form, number, source=str(DISKS / name))


def _port(number: int) -> Thing:
    device_id = f'c{number:07x}-0b0b-4b0b-8b0b-{number:012x}'
    form = ('mac', 'mac', 'ovs', 'tap', 'mac', 'mac')[number]
    # The last two share one.
    return Thing(device_id, 'interface', form, number, mac=f'52:54:00:00:00:{min(number, 4):02x}')


def _hostdev(number: int) -> Thing:
    device_id = f'b{number:07x}-0c0c-4c0c-8c0c-{number:012x}'
    return Thing(device_id, 'hostdev', ('pci', 'mdev', 'pci')[number], number)


THINGS: dict[str, Thing] = {
    thing.id: thing
    for thing in (
        *map(_volume, range(VOLUMES)),
        *map(_port, range(PORTS)),
        *map(_hostdev, range(HOSTDEVS)),
    )
}
for _thing in THINGS.values():
    _key = {
        'disk': _thing.source,
        'interface': f'mtu {_thing.mtu}',
        'hostdev': f'mdev {_thing.id}' if _thing.form == 'mdev' else f'pci 0000:06:12.{_thing.number}',
    }[_thing.kind]
    chronicle.DEVICES[_key] = _thing.id


@dataclasses.dataclass(frozen=True)
class Device:
    """A device that a guest has at the begin: with its alias, without, or not at all in each definition."""

    thing: str
    #: True with its alias, False without, None not there.
    live: bool | None
    config: bool | None
    target: str = ''


@dataclasses.dataclass(frozen=True)
class Guest:
    uuid: str
    running: bool
    persistent: bool
    devices: tuple[Device, ...]


@dataclasses.dataclass(frozen=True)
class Step:
    """Something that happens, and when."""

    what: str
    #: Which guest, by its number.
    guest: int = 0
    #: Which device, by the id of what it is.
    thing: str = ''
    #: A number of seconds, or what the step wants to know beside.
    value: float = 0.0
    word: str = ''
    #: Seconds after the step before it.
    after: float = 0.0
    #: At which point of the agent's work instead, and at its how manyth time. The step comes anyway after a while.
    point: str = ''
    times: int = 1

    def words(self) -> str:
        when = f'at the {self.times}. {self.point}' if self.point else f'{self.after:g} s later'
        about = ' '.join(
            str(word)
            for word in (self.thing and f'{THINGS[self.thing].kind} {self.thing[:8]}', self.word, self.value or '')
            if word
        )
        return f'{when}: {self.what} guest {self.guest} {about}'


@dataclasses.dataclass(frozen=True)
class History:
    """All of it."""

    seed: int
    guests: tuple[Guest, ...]
    steps: tuple[Step, ...]


def guest_uuid(number: int) -> str:
    return f'a{number:07x}-0000-4000-8000-{number:012x}'


def root_source(number: int) -> str:
    """What a guest's first disk is on: that is nobody's volume."""
    return str(DISKS / f'root-{number}.raw')


def guest_xml(guest: Guest, number: int, live: bool) -> str:
    """One of a guest's definitions at the begin."""
    devices = []
    ports = []
    for place, device in enumerate(guest.devices):
        alias = device.live if live else device.config
        thing = THINGS[device.thing]
        if thing.form == 'tap':
            ports.append(f"<nova:port uuid='{thing.id}'/>")
        if alias is not None:
            devices.append(thing.xml(alias, device.target, place + 1))
    metadata = ''
    if ports:
        metadata = (
            "<metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'><nova:ports>"
            f'{"".join(ports)}</nova:ports></nova:instance></metadata>'
        )
    return f"""<domain type='qemu'><name>guest-{number}</name><uuid>{guest.uuid}</uuid>{metadata}
<memory unit='KiB'>98304</memory><currentMemory unit='KiB'>98304</currentMemory><vcpu placement='static'>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<controller type='pci' index='0' model='pcie-root'/>{_ROOT_PORTS}<controller type='usb' model='none'/>
<controller type='scsi' index='0' model='virtio-scsi'/><memballoon model='none'/>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{root_source(number)}'/>
<target dev='vda' bus='virtio'/>{_ROOT_ADDRESS}</disk>
{''.join(devices)}</devices></domain>"""


_ROOT_ADDRESS = "<address type='pci' domain='0x0000' bus='0x09' slot='0x00' function='0x0'/>"
_ROOT_PORTS = ''.join(f"<controller type='pci' index='{number}' model='pcie-root-port'/>" for number in range(1, 10))


def make_files() -> None:
    """Make the files of the volumes, if they are not there."""
    DISKS.mkdir(mode=0o700, exist_ok=True)
    for source in (*(thing.source for thing in THINGS.values()), *map(root_source, range(GUESTS))):
        if source:
            pathlib.Path(source).touch()
