# SPDX-License-Identifier: Apache-2.0
"""Disks (libvirt, formatdomain, "Hard drives, floppy disks, CDROMs")."""

import dataclasses
from typing import Self

from lxml import etree

from aliasagent.devices import base
from aliasagent.devices import pci
from aliasagent.devices import properties
from aliasagent.devices import xml

#: The default ports of libvirt; librbd chooses the port of rbd.
_DEFAULT_PORTS = {
    'ftp': '21', 'ftps': '990', 'gluster': '24007', 'http': '80', 'https': '443', 'iscsi': '3260', 'nbd': '10809',
    'nfs': '2049', 'sheepdog': '7000', 'ssh': '22', 'tftp': '69', 'vxhs': '9999',
}  # fmt: skip


#: Protocols whose source names suffice to identify the data: their monitors and portals can change.
_IDENTIFIED_WITHOUT_HOSTS = frozenset({'iscsi', 'rbd'})

#: Buses whose disks a running guest never releases.
NEVER_UNPLUGGED = frozenset({'fdc', 'ide', 'sata'})


@dataclasses.dataclass(frozen=True)
class Host:
    """A host of a network source."""

    name: str | None = None
    #: The text of the definition; libvirt accepts decimal digits only.
    port: str | None = None
    transport: str | None = None
    #: The path of a unix socket, instead of name and port.
    socket: str | None = None

    def word(self, protocol: str) -> str:
        """Return the host as one text, the same for all equivalent ways to write it."""
        if self.transport == 'unix' or self.socket is not None:
            return f'unix:{self.socket or ""}'
        name = (self.name or '').strip('[]').lower()
        port = self.port if self.port not in (None, '0') else _DEFAULT_PORTS.get(protocol, '')
        address = f'[{name}]:{port}' if ':' in name else f'{name}:{port}'
        return address if self.transport in (None, 'tcp') else f'{self.transport}:{address}'


class Disk(base.Device):
    """A disk of any source type, as ``disk``, ``lun`` or ``cdrom``."""

    tag = 'disk'

    type = properties.text('@type')
    device = properties.text('@device')
    sgio = properties.text('@sgio')
    rawio = properties.yes_no('@rawio')

    driver_name = properties.text('driver/@name')
    queues = properties.integer('driver/@queues')
    #: Whether the device's reads and writes go through the guest's IOMMU.
    iommu = properties.on_off('driver/@iommu')
    driver_type = properties.text('driver/@type')
    cache = properties.text('driver/@cache')
    io = properties.text('driver/@io')
    discard = properties.text('driver/@discard')
    iothread = properties.integer('driver/@iothread')

    source_file = properties.text('source/@file')
    source_block = properties.text('source/@dev')
    source_protocol = properties.text('source/@protocol')
    source_name = properties.text('source/@name')
    source_pool = properties.text('source/@pool')
    source_volume = properties.text('source/@volume')
    auth_username = properties.text('source/auth/@username')
    auth_secret_type = properties.text('source/auth/secret/@type')
    auth_secret_uuid = properties.text('source/auth/secret/@uuid')
    encryption_format = properties.text('source/encryption/@format')
    encryption_secret_type = properties.text('source/encryption/secret/@type')
    encryption_secret_uuid = properties.text('source/encryption/secret/@uuid')

    target_dev = properties.text('target/@dev')
    bus = properties.text('target/@bus')
    serial = properties.text('serial')
    readonly = properties.Presence('readonly')
    shareable = properties.Presence('shareable')
    boot_order = properties.integer('boot/@order')
    #: In bytes.
    logical_block_size = properties.integer('blockio/@logical_block_size')
    physical_block_size = properties.integer('blockio/@physical_block_size')

    #: Bytes or requests per second; _max is the burst, _max_length its maximum duration in seconds.
    total_bytes_sec = properties.integer('iotune/total_bytes_sec')
    read_bytes_sec = properties.integer('iotune/read_bytes_sec')
    write_bytes_sec = properties.integer('iotune/write_bytes_sec')
    total_iops_sec = properties.integer('iotune/total_iops_sec')
    read_iops_sec = properties.integer('iotune/read_iops_sec')
    write_iops_sec = properties.integer('iotune/write_iops_sec')
    total_bytes_sec_max = properties.integer('iotune/total_bytes_sec_max')
    read_bytes_sec_max = properties.integer('iotune/read_bytes_sec_max')
    write_bytes_sec_max = properties.integer('iotune/write_bytes_sec_max')
    total_iops_sec_max = properties.integer('iotune/total_iops_sec_max')
    read_iops_sec_max = properties.integer('iotune/read_iops_sec_max')
    write_iops_sec_max = properties.integer('iotune/write_iops_sec_max')
    total_bytes_sec_max_length = properties.integer('iotune/total_bytes_sec_max_length')
    read_bytes_sec_max_length = properties.integer('iotune/read_bytes_sec_max_length')
    write_bytes_sec_max_length = properties.integer('iotune/write_bytes_sec_max_length')
    total_iops_sec_max_length = properties.integer('iotune/total_iops_sec_max_length')
    read_iops_sec_max_length = properties.integer('iotune/read_iops_sec_max_length')
    write_iops_sec_max_length = properties.integer('iotune/write_iops_sec_max_length')
    #: Bytes up to which a request counts as one.
    size_iops_sec = properties.integer('iotune/size_iops_sec')

    @classmethod
    def new(cls) -> Self:
        disk = super().new()
        disk.device = 'disk'
        return disk

    @property
    def target(self) -> str | None:
        return self.target_dev

    @property
    def can_be_unplugged(self) -> bool:
        return self.bus not in NEVER_UNPLUGGED

    @property
    def drive_bus(self) -> str | None:
        return self.bus

    @property
    def source(self) -> str | None:
        """Return the location of the data as one text, which is the same in each of the disk's definitions.

        The text is a path; ``rbd:pool/image`` or ``iscsi:target/lun``, without hosts; ``protocol:name@hosts`` of other
        protocols, with sorted hosts and default ports; or ``volume:pool/name``. It is None for an empty drive.
        """
        source = self.child('source')
        if source is None:
            return None
        if (protocol := source.get('protocol')) is not None:
            return self._network_source(source, protocol)
        if (pool := source.get('pool')) is not None:
            return f'volume:{pool}/{source.get("volume", "")}'
        if self.type == 'nvme':
            return f'nvme:{pci.read(source.find("address"))}/{source.get("namespace")}'
        if self.type == 'vhostuser':
            return f'unix:{source.get("path")}'
        return source.get('file') or source.get('dev') or source.get('dir')

    def _network_source(self, source: xml.Element, protocol: str) -> str:
        name = source.get('name', '')
        if protocol == 'iscsi' and '/' not in name:
            name += '/0'  # libvirt's default LUN
        if (query := source.get('query')) is not None:
            name += f'?{query}'
        if (snapshot := source.find('snapshot')) is not None:
            name += f'#{snapshot.get("name")}'
        if protocol in _IDENTIFIED_WITHOUT_HOSTS:
            return f'{protocol}:{name}'
        return f'{protocol}:{name}@{",".join(sorted(host.word(protocol) for host in self.hosts))}'

    @property
    def path(self) -> str | None:
        """Return the file or block device of this host that has the data; None for a network source."""
        source = self.child('source')
        return None if source is None or source.get('protocol') is not None else source.get('file') or source.get('dev')

    @property
    def other_paths(self) -> list[str]:
        """Return the disk's backing files and copy targets that are files or block devices of this host."""
        parents = [*self.element.iter('backingStore')]
        if (mirror := self.child('mirror')) is not None:
            parents.append(mirror)
        found = (xml.child(parent, 'source') for parent in parents)
        return [path for it in found if it is not None and (path := it.get('file') or it.get('dev')) is not None]

    @property
    def encryption(self) -> tuple[str, ...]:
        """Return the encryption's format and secret; empty without encryption. Nova writes them beside the source."""
        found = self.element.find('source/encryption')
        if found is None:
            found = self.element.find('encryption')
        if found is None:
            return ()
        secret = found.find('secret')
        return (found.get('format', ''), '' if secret is None else secret.get('uuid', '').lower())

    @property
    def source_texts(self) -> list[str]:
        """Return the texts of the source that can contain the name of a volume."""
        source = self.child('source')
        if source is None:
            return []
        return [value for name in ('file', 'dev', 'name', 'volume') if (value := source.get(name)) is not None]

    @property
    def hosts(self) -> list[Host]:
        """Return the hosts of a network source, as in the definition."""
        return [
            Host(host.get('name'), host.get('port'), host.get('transport'), host.get('socket'))
            for host in self.element.iterfind('source/host')
        ]

    def add_host(self, host: Host) -> None:
        """Add a host to a network source."""
        element = etree.SubElement(self.child_made('source'), 'host')
        for name, value in (
            ('name', host.name), ('port', host.port), ('transport', host.transport), ('socket', host.socket)
        ):  # fmt: skip
            if value is not None:
                element.set(name, value)
