# SPDX-License-Identifier: Apache-2.0
"""libvirtd was killed in the middle of an attach: QEMU has something that libvirt does not know of."""

import json
from typing import Any

import libvirt_qemu  # type: ignore[import-untyped]

from aliasagent import exception
from aliasagent.devices import drives
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base


class LeftInQemuTest(base.OnLibvirt):
    @classmethod
    def make_side(cls) -> base.RealSide:
        return base.RealSide(base.own_daemon(cls).uri)

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.side.new_guest(state='started')

    def qemu(self, command: str, **arguments: Any) -> None:
        """Tell QEMU something that libvirt does not see."""
        domain = self.side.connection.lookupByUUIDString(self.guest)
        said = libvirt_qemu.qemuMonitorCommand(domain, json.dumps({'execute': command, 'arguments': arguments}), 0)
        assert 'error' not in json.loads(said), said

    def leave_node(self, name: str) -> None:
        self.qemu('blockdev-add', **{'driver': 'null-co', 'node-name': name, 'size': 1048576})

    def leave_disk(self, alias: str, lun: int) -> None:
        self.leave_node(f'node-{lun}')
        place = {'bus': 'scsi0.0', 'channel': 0, 'scsi-id': 0, 'lun': lun}
        self.qemu('device_add', driver='scsi-hd', id=alias, drive=f'node-{lun}', **place)

    def test_a_node_has_the_name_that_libvirt_chooses(self) -> None:
        self.leave_node('libvirt-1-storage')
        self.leave_node('libvirt-2-format')
        self.assert_on_both(self.guest, self.attach(self.guest))

    def test_a_disk_is_where_the_next_one_would_go(self) -> None:
        for lun in range(3):
            self.leave_disk(f'ua-{harness.new_id()}', lun)
        volume = self.attach(self.guest)
        self.assert_on_both(self.guest, volume)
        self.detach(self.guest, volume)
        self.assert_on_both(self.guest)

    def test_a_disk_is_where_the_name_of_this_one_leads(self) -> None:
        self.leave_disk(f'ua-{harness.new_id()}', 0)
        volume = self.attach(self.guest, device_name='/dev/sda')
        self.assert_on_both(self.guest, volume)
        for domain in (self.live(self.guest), self.persistent(self.guest)):
            (disk,) = domain.by_alias(f'ua-{volume}')
            self.assertEqual(('sda', drives.Place(0, 7)), (disk.target, drives.place_of(disk)))

    def test_it_is_this_disk_itself(self) -> None:
        volume = harness.new_id()
        self.leave_disk(f'ua-{volume}', 0)
        before = self.xml(self.guest)
        error = self.assertRaises(exception.AttachFailed, self.attach, self.guest, volume)
        self.assertIn('to remove it, switch the guest off', str(error))
        self.assert_untouched(self.guest, before)
        domain = self.side.connection.lookupByUUIDString(self.guest)
        domain.destroy()
        domain.create()
        self.assert_on_both(self.guest, self.attach(self.guest, volume))
