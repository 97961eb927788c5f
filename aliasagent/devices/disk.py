# SPDX-License-Identifier: Apache-2.0
"""Disks (libvirt, formatdomain, "Hard drives, floppy disks, CDROMs")."""

from typing import Self

from lxml import etree

from aliasagent.devices import base
from aliasagent.devices import properties
from aliasagent.devices import xml


class Disk(base.Device):
    """A disk of any source type, as ``disk``, ``lun`` or ``cdrom``."""

    tag = 'disk'

    type = properties.text('@type')
    device = properties.text('@device')
    sgio = properties.text('@sgio')
    rawio = properties.yes_no('@rawio')

    driver_name = properties.text('driver/@name')
    driver_type = properties.text('driver/@type')
    cache = properties.text('driver/@cache')
    io = properties.text('driver/@io')
    discard = properties.text('driver/@discard')
    iothread = properties.integer('driver/@iothread')

    source_file = properties.text('source/@file')
    source_block = properties.text('source/@dev')
    source_protocol = properties.text('source/@protocol')
    source_name = properties.text('source/@name')

    target_dev = properties.text('target/@dev')
    bus = properties.text('target/@bus')
    serial = properties.text('serial')
    readonly = properties.Presence('readonly')
    shareable = properties.Presence('shareable')
    boot_order = properties.integer('boot/@order')
    logical_block_size = properties.integer('blockio/@logical_block_size')
    physical_block_size = properties.integer('blockio/@physical_block_size')

    read_bytes_sec = properties.integer('iotune/read_bytes_sec')
    write_bytes_sec = properties.integer('iotune/write_bytes_sec')
    total_bytes_sec = properties.integer('iotune/total_bytes_sec')
    read_iops_sec = properties.integer('iotune/read_iops_sec')
    write_iops_sec = properties.integer('iotune/write_iops_sec')
    total_iops_sec = properties.integer('iotune/total_iops_sec')

    @classmethod
    def new(cls) -> Self:
        disk = super().new()
        disk.device = 'disk'
        return disk

    @property
    def target(self) -> str | None:
        return self.target_dev

    @property
    def source(self) -> str | None:
        """Where the data is, in one word: a path, or ``protocol:name`` and the hosts; None for an empty drive."""
        if self.source_protocol is not None:
            hosts = sorted(
                ':'.join(filter(None, (host.get('name'), host.get('port'), host.get('socket'))))
                for host in self.element.iterfind('source/host')
            )
            return f'{self.source_protocol}:{self.source_name or ""}@{",".join(hosts)}'
        return self.source_file or self.source_block

    @property
    def source_texts(self) -> list[str]:
        """The places in which a source may name its volume."""
        source = self.element.find('source')
        if source is None:
            return []
        return [value for name in ('file', 'dev', 'name', 'volume') if (value := source.get(name)) is not None]

    def add_host(self, name: str, port: int | None = None) -> None:
        """Add one more host from which a network source can be had."""
        source = self.element.find('source')
        if source is None:
            source = etree.SubElement(self.element, 'source')
        host = etree.SubElement(source, 'host', name=name)
        if port is not None:
            host.set('port', str(port))

    def authenticate(self, *, username: str, secret_type: str, secret_uuid: str) -> None:
        """Say under which libvirt secret the network source is opened."""
        source = self.element.find('source')
        if source is None:
            source = etree.SubElement(self.element, 'source')
        auth = etree.SubElement(source, 'auth', username=username)
        etree.SubElement(auth, 'secret', type=secret_type, uuid=secret_uuid)

    @property
    def hosts(self) -> list[xml.Element]:
        return self.element.findall('source/host')
