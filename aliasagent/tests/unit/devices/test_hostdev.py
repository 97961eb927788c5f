# SPDX-License-Identifier: Apache-2.0

from aliasagent.devices import hostdev
from aliasagent.devices import xml
from aliasagent.tests import base


def read(kind: str, source: str) -> hostdev.Hostdev:
    return hostdev.Hostdev(xml.parse(f"<hostdev mode='subsystem' type='{kind}'><source>{source}</source></hostdev>"))


class SourceTestCase(base.TestCase):
    """A device of the host has one source, however its definition writes it."""

    def check(self, expected: str | None, kind: str, *sources: str) -> None:
        for source in sources:
            self.assertEqual(expected, read(kind, source).source, source)

    def test_pci(self) -> None:
        self.check(
            '0000:06:12.5',
            'pci',
            "<address domain='0x0000' bus='0x06' slot='0x12' function='0x5'/>",
            "<address domain='0' bus='6' slot='18' function='5'/>",
            "<address type='pci' bus='0x6' slot='0x12' function='0x5'/>",
        )
        self.check(None, 'pci', '', "<address bus='what'/>")

    def test_mdev(self) -> None:
        self.check(
            'c2177883-f1bb-47f0-914d-32a22e3a8804',
            'mdev',
            "<address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/>",
            "<address uuid='C2177883-F1BB-47F0-914D-32A22E3A8804'/>",
        )
        self.check(None, 'mdev', '', '<address/>')

    def test_usb(self) -> None:
        ids = "<vendor id='0x1d6b'/><product id='0x0002'/>"
        # The address is what libvirt found when the guest was started.
        self.check('usb:1d6b:0002', 'usb', ids, f"{ids}<address bus='3' device='14'/>", ids.replace('d6b', 'D6B'))
        self.check('usb:3.14', 'usb', "<address bus='3' device='14'/>", "<address bus='03' device='014'/>")
        self.check(None, 'usb', '', "<vendor id='0x1d6b'/>")
        self.check('usb:what:0002', 'usb', "<vendor id='what'/><product id='2'/>")

    def test_scsi(self) -> None:
        address = "<address bus='0' target='2' unit='3'/>"
        self.check('scsi:scsi_host0:0:2:3', 'scsi', f"<adapter name='scsi_host0'/>{address}")
        self.check(None, 'scsi', '', address, "<adapter name='scsi_host0'/>")
        device = hostdev.Hostdev(
            xml.parse(
                "<hostdev mode='subsystem' type='scsi'><source protocol='iscsi' name='iqn.2001-04.com.example:a/1'>"
                "<host name='a'/></source></hostdev>"
            )
        )
        self.assertEqual('iscsi:iqn.2001-04.com.example:a/1', device.source)

    def test_of_other_types_nothing_is_said(self) -> None:
        self.check(None, 'scsi_host', "<address bus='0'/>")
        self.assertIsNone(hostdev.Hostdev(xml.parse('<hostdev/>')).source)

    def test_the_host_address_is_a_pci_devices(self) -> None:
        self.assertIsNone(read('usb', "<address bus='3' device='14'/>").host_address)
        device = hostdev.Hostdev.new()
        device.type = 'pci'
        device.host_address = '0000:06:12.5'
        self.assertEqual('0000:06:12.5', device.host_address)
