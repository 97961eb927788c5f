# SPDX-License-Identifier: Apache-2.0
"""LUN passthrough for real: a booted guest, and QEMU's own initiator logged in to a target on the loopback address."""

import copy
from typing import ClassVar

from lxml import etree

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.devices.identity import Evidence
from aliasagent.devices.identity import Record
from aliasagent.reconcile import apply
from aliasagent.tests.contract import harness
from aliasagent.tests.contract import requests
from aliasagent.tests.integration import base
from aliasagent.virt.guest import Side
from sandbox import guest as guests
from sandbox import iscsi
from sandbox import processes

SIZE = 24 * 1024 * 1024
BOTH = Side.LIVE | Side.PERSISTENT


class LunTest(base.OnLibvirt):
    target_daemon: ClassVar[iscsi.Iscsi]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.target_daemon = iscsi.Iscsi(cls.side.directory / 'iscsi')
        cls.addClassCleanup(cls.target_daemon.stop)
        cls.target_daemon.start()

    def setUp(self) -> None:
        super().setUp()
        self.volume = harness.new_id()
        self.uuid = self.side.new_guest()
        self.guest = next(made for made in self.side.made if made.uuid == self.uuid)

    def target(self, chap: iscsi.Chap | None = None) -> iscsi.Target:
        """A target as Cinder names it. A LUN answers for its serial itself: the volume's id, as with real arrays."""
        iqn = f'iqn.2010-10.org.openstack:volume-{self.volume}'
        return self.target_daemon.add_target(iqn, SIZE, serial=self.volume, chap=chap)

    def attach_lun(self, target: iscsi.Target, secret: str | None = None) -> None:
        info = target.connection_info(secret)
        self.driver.attach(self.uuid, requests.volume(self.volume, info, disk_bus='scsi', device_type='lun'))

    def secret(self, password: str) -> str:
        """Have libvirt hold a password; its UUID there."""
        usage = f'<usage type="iscsi"><target>{self.volume}</target></usage>'
        made = self.side.connection.secretDefineXML(f'<secret ephemeral="yes" private="yes">{usage}</secret>')
        self.addCleanup(made.undefine)
        made.setValue(password.encode())
        uuid: str = made.UUIDString()
        return uuid

    def xml_of_old(self, target: iscsi.Target, serial: str = '') -> str:
        """The LUN as somebody else would have made it, with all that libvirt takes and our requests do not name."""
        name, _, port = target.portal.partition(':')
        return f"""
<disk type='network' device='lun' rawio='yes' sgio='filtered'>
  <driver name='qemu' type='raw' cache='none' error_policy='report'/>
  <source protocol='iscsi' name='{target.iqn}/{iscsi.LUN}'>
    <host name='{name}' port='{port}'/>
    <reservations managed='yes'/>
    <initiator><iqn name='iqn.2020-01.org.example:{self.volume}'/></initiator>
  </source>
  <target dev='sdc' bus='scsi'/>
  {serial and f'<serial>{serial}</serial>'}
</disk>"""

    def assert_seen(self) -> None:
        def has_it(seen: guests.Seen) -> bool:
            disk = seen.disk(self.volume)
            return disk is not None and (disk.bus, disk.bytes, disk.readonly) == ('scsi', SIZE, False)

        self.guest.wait_sees(has_it, what=f'a SCSI disk of {SIZE} bytes that calls itself {self.volume}')

    def assert_gone(self, target: iscsi.Target) -> None:
        """Neither the guest nor either definition has the disk, and QEMU has logged out."""
        self.guest.wait_sees(lambda seen: not seen.disks, what='that the disk is gone')
        for domain in (self.live(self.uuid), self.persistent(self.uuid)):
            self.assertEqual(set(), domain.disk_targets())
        processes.wait_until(lambda: not self.target_daemon.sessions(target), 10, 'QEMU to log out')

    def test_the_guest_has_it_until_it_is_detached_by_the_volumes_id(self) -> None:
        target = self.target()
        self.attach_lun(target)
        self.assert_seen()
        self.assertEqual(1, len(self.target_daemon.sessions(target)))
        for domain in (self.live(self.uuid), self.persistent(self.uuid)):
            (disk,) = domain.by_alias(f'ua-{self.volume}')
            element = disk.element
            self.assertEqual(('network', 'lun'), (element.get('type'), element.get('device')))
            self.assertIsNone(element.find('serial'))
        before = self.xml(self.uuid)
        self.attach_lun(target)
        self.assert_untouched(self.uuid, before)
        self.detach(self.uuid, self.volume, 'disk')
        self.assert_gone(target)

    def test_of_two_the_right_one_goes(self) -> None:
        other = self.volume
        self.attach_lun(self.target())
        self.assert_seen()
        self.volume = harness.new_id()
        self.attach_lun(self.target())
        self.assert_seen()
        self.detach(self.uuid, other)
        self.guest.wait_sees(lambda seen: not seen.disk(other), what='that the first disk is gone')
        self.assert_on_both(self.uuid, self.volume)
        self.assertIsNotNone(self.guest.sees().disk(self.volume))
        self.detach(self.uuid, self.volume)

    def test_libvirt_refuses_one_with_a_serial(self) -> None:
        xml, before = self.xml_of_old(self.target(), serial=self.volume), self.xml(self.uuid)
        for side in (Side.LIVE, Side.PERSISTENT, BOTH):
            error = self.assertRaises(exception.HypervisorError, self.host.guest(self.uuid).attach, xml, side)
            self.assertIn("scsi-block 'lun' devices do not support the serial property", str(error))
            self.assert_untouched(self.uuid, before)

    def test_one_without_alias_keeps_what_we_do_not_know_and_gets_its_alias_by_an_inventory(self) -> None:
        target = self.target()
        self.host.guest(self.uuid).attach(self.xml_of_old(target), BOTH)
        self.assert_seen()
        before = self.xml(self.uuid)
        # The name of its target is no proof that it is the volume: somebody who knows has to say so.
        for ask in (self.attach_lun, lambda _target: self.detach(self.uuid, self.volume, 'disk')):
            self.assertRaises(exception.DeviceConflict, ask, target)
        self.assertEqual([], apply.reconcile(self.host.guest(self.uuid)).given)
        self.assert_untouched(self.uuid, before)
        live, saved = (_lun(Domain.parse(text)) for text in before)
        for text in (live, saved):
            for words in ('rawio="yes"', 'sgio="filtered"', 'error_policy="report"', '<reservations managed="yes">',
                          f'<iqn name="iqn.2020-01.org.example:{self.volume}">'):  # fmt: skip
                self.assertIn(words, text)

        told = Record(self.volume, 'disk', Evidence.INVENTORY, target='sdc')
        self.assertEqual(1, len(apply.reconcile(self.host.guest(self.uuid), [told]).given))
        self.assertEqual((set(), {self.volume}), self.ids(self.uuid))
        file_volume = self.attach(self.uuid)
        self.assertEqual((live, saved), (_lun(self.live(self.uuid)), _lun(self.persistent(self.uuid))))
        self.detach(self.uuid, file_volume)
        self.assertEqual((live, saved), (_lun(self.live(self.uuid)), _lun(self.persistent(self.uuid))))

        self.detach(self.uuid, self.volume, 'disk')
        self.assert_gone(target)

    def test_one_that_needs_a_password_gets_it_from_libvirt(self) -> None:
        target = self.target(iscsi.Chap(f'user-{self.volume[:8]}', 'the right one'))
        self.attach_lun(target, self.secret('the right one'))
        self.assert_seen()
        for text in self.xml(self.uuid):
            self.assertNotIn('the right one', text)
        self.detach(self.uuid, self.volume)
        self.assert_gone(target)

    def test_a_wrong_password_leaves_nothing(self) -> None:
        target = self.target(iscsi.Chap(f'user-{self.volume[:8]}', 'the right one'))
        before = self.xml(self.uuid)
        error = self.assertRaises(exception.AttachFailed, self.attach_lun, target, self.secret('a wrong one'))
        self.assertIn('Authentication failure', str(error))
        self.assert_untouched(self.uuid, before)

    def test_a_target_that_is_not_there_leaves_nothing(self) -> None:
        target, before = self.target(), self.xml(self.uuid)
        info = target.connection_info()
        info['data']['target_iqn'] += '-of-nobody'
        request = requests.volume(self.volume, info, disk_bus='scsi', device_type='lun')
        error = self.assertRaises(exception.AttachFailed, self.driver.attach, self.uuid, request)
        self.assertIn('log in to target', str(error))
        self.assert_untouched(self.uuid, before)

    def test_a_guest_that_is_shut_off_has_it_when_it_starts(self) -> None:
        guest = guests.TestGuest(self.side.connection, self.side.directory, self.side.parts.guest_image)
        self.addCleanup(guest.destroy)
        self.uuid, self.guest = guest.uuid, guest.define()
        target = self.target()
        self.attach_lun(target)
        self.assertEqual([], self.target_daemon.sessions(target))
        guest.start().wait_ready()
        self.assert_seen()
        self.assert_on_both(self.uuid, self.volume)
        self.detach(self.uuid, self.volume)
        self.assert_gone(target)


def _lun(domain: Domain) -> str:
    """The text of the guest's one LUN, but for its alias."""
    (found,) = (device.element for device in domain.devices() if device.element.get('device') == 'lun')
    element = copy.deepcopy(found)
    for alias in element.findall('alias'):
        element.remove(alias)
    return str(etree.canonicalize(etree.tostring(element, encoding='unicode'), strip_text=True))
