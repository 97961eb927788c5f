# SPDX-License-Identifier: Apache-2.0
"""Each kind of device, on real libvirt: into a shut-off guest's definition, read there as it was written, and out."""

import pathlib
import tempfile

import libvirt

from aliasagent.devices import base as devices_base
from aliasagent.devices.disk import Disk
from aliasagent.devices.domain import Domain
from aliasagent.tests import base
from aliasagent.tests.unit.devices import golden
from aliasagent.tests.unit.devices import test_golden
from aliasagent.virt import host
from sandbox import environment
from sandbox import guest as guests

#: What the devices need beside what every test guest has: an I/O thread, USB and SATA. The disk with a boot order keeps
#: libvirt from writing <boot dev='hd'/>, beside which no device may have one.
_ROOT = """
<disk type='file' device='disk'>
  <source file='/nonexistent/root.img'/>
  <target dev='vda' bus='virtio'/>
  <boot order='2'/>
</disk>
<controller type='sata' index='0'/>
"""


class RoomyGuest(guests.TestGuest):
    """A guest that every kind of device fits into."""

    def xml(self) -> str:
        text = super().xml()
        for old, new in (
            ('<vcpu>1</vcpu>', '<vcpu>1</vcpu><iothreads>1</iothreads>'),
            ("<controller type='usb' model='none'/>", "<controller type='usb' model='qemu-xhci'/>"),
        ):
            assert old in text
            text = text.replace(old, new)
        return text


class DeviceKindsTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        parts = environment.read()
        connection = host.open_libvirt(parts.libvirt_uri)
        self.addCleanup(connection.close)
        directory = pathlib.Path(tempfile.mkdtemp(dir=parts.directory))
        self.guest = RoomyGuest(connection, directory, parts.guest_image, devices=_ROOT).define()
        self.addCleanup(self.guest.destroy)

    def definition(self) -> Domain:
        return Domain.parse(self.guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))

    def check(self, name: str, device: devices_base.Device) -> None:
        """Attach it, compare what libvirt made of it with what was asked for, and detach it by its alias."""
        before = self.definition()
        alias = device.alias
        assert alias is not None
        self.guest.domain.attachDeviceFlags(device.to_xml(), libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        (found,) = self.definition().by_alias(alias)
        values = test_golden.declared(found)
        wanted = test_golden.declared(device)
        lost = {key: value for key, value in wanted.items() if value not in (None, False, values[key])}
        self.assertEqual({}, lost, name)
        self.assertEqual(device.source, found.source, name)
        self.guest.domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        self.assertEqual([], self.definition().by_alias(alias), name)
        self.assertEqual(before.disk_targets(), self.definition().disk_targets(), name)

    def test_disks(self) -> None:
        for name in golden.VOLUMES:
            self.check(name, golden.build(name))

    def test_interfaces(self) -> None:
        for name in golden.PORTS:
            self.check(name, golden.build(name))

    def test_host_devices(self) -> None:
        for name in golden.HOSTDEVS:
            self.check(name, golden.build(name))

    def test_all_at_once(self) -> None:
        """One definition with everything in it: each device is found by its own alias."""
        devices = []
        for number, name in enumerate(golden.NAMES):
            device = golden.build(name)
            device.alias = f'ua-{name}'
            if isinstance(device, Disk):
                device.target_dev = f'{str(device.target_dev)[:2]}{"bcdefghijklmnopqrstuvwxyz"[number]}'
            devices.append(device)
            self.guest.domain.attachDeviceFlags(device.to_xml(), libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        definition = self.definition()
        for device in devices:
            (found,) = definition.by_alias(str(device.alias))
            self.assertEqual((device.kind, device.source), (found.kind, found.source))
