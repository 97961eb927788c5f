# SPDX-License-Identifier: Apache-2.0
"""What is known of a device from an attach or an inventory ends when it is no longer true."""

from aliasagent.actions import Action
from aliasagent.reconcile.apply import Draft
from aliasagent.tests.contract import harness
from aliasagent.tests.functional.rig import RigCase

_LUN = """
<disk type='network' device='lun'>
  <driver name='qemu' type='raw'/>
  <source protocol='iscsi' name='iqn.2010-01.com.array:one/1'><host name='10.0.0.5' port='3260'/></source>
  <target dev='sdb' bus='scsi'/>
</disk>"""


def _block(path: str, target: str) -> str:
    return f"""
<disk type='block' device='disk'>
  <driver name='qemu' type='raw'/>
  <source dev='{path}'/>
  <target dev='{target}' bus='virtio'/>
  <serial>DATA</serial>
</disk>"""


class StaleHintsTest(RigCase):
    def test_a_lun_number_is_another_volumes_tomorrow(self) -> None:
        guest, volume = self.side.new_guest(), harness.new_id()
        target = {'target_portal': '10.0.0.5:3260', 'target_iqn': 'iqn.2010-01.com.array:one', 'target_lun': 1}
        attach = self.ask(
            Action.ATTACH_VOLUME,
            guest,
            volume,
            volume_id=volume,
            connection_info={'driver_volume_type': 'iscsi', 'data': target},
            disk_bus='scsi',
            device_type='lun',
        )
        self.assert_outcome(attach, None)
        domain = self.side.fake.open().lookupByUUIDString(guest)
        domain.detachDeviceAlias(f'ua-{volume}', 3)
        self.assertTrue(self.side.fake.settle())
        domain.attachDeviceFlags(_LUN, 3)  # another volume, to which the array gave the number
        self.reconciler.run()
        self.assertEqual([], self.inside(guest).aliases(live=False))
        self.assertIsNotNone(self.wait(self.detach(guest, volume)).error_class)
        self.assertEqual((1, 1), (self.live_count(guest, 'disk'), self.persistent_count(guest, 'disk')))

    def test_a_serial_that_is_no_id_is_another_volumes_tomorrow(self) -> None:
        guest, volume = self.side.new_guest(_block('/dev/sdb', 'vdb')), harness.new_id()
        inventory = {'volumes': [{'id': volume, 'target': 'vdb'}]}
        self.assert_outcome(self.ask(Action.RECONCILE_INSTANCE, guest, '', inventory=inventory), None)
        domain = self.side.fake.open().lookupByUUIDString(guest)
        domain.detachDeviceFlags(_block('/dev/sdb', 'vdb'), 3)
        self.assertTrue(self.side.fake.settle())
        domain.attachDeviceFlags(_block('/dev/sdc', 'vdc'), 3)
        self.assertIsNotNone(self.wait(self.detach(guest, volume)).error_class)
        self.assertEqual((1, 1), (self.live_count(guest, 'disk'), self.persistent_count(guest, 'disk')))

    def test_a_pass_goes_by_what_is_known_when_it_writes(self) -> None:
        guest, volume, path = self.side.new_guest(), harness.new_id(), self.side.new_file()
        self.assert_outcome(self.attach_disk(guest, volume, path), None)
        domain = self.side.fake.open().lookupByUUIDString(guest)
        domain.attachDeviceFlags(harness.disk_xml(self.side.new_file(), 'vdc', serial=harness.new_id()), 3)
        begun: list[Draft] = []
        self.reconciler._statuses.clear()
        self.reconciler._begin(self.host.guest(guest), begun)
        self.assert_outcome(self.detach(guest, volume), None)
        domain.attachDeviceFlags(harness.disk_xml(path, 'vda'), 3)
        for draft in begun:
            self.reconciler._finish(draft, [])
        self.assertNotIn(f'ua-{volume}', self.inside(guest).aliases(live=False))

    def test_an_inventory_settles_an_attach_too(self) -> None:
        owner, named = harness.new_id(), harness.new_id()
        guest = self.side.new_guest(harness.disk_xml(f'/srv/volume-{named}', 'vdb'))
        inventory = {'volumes': [{'id': owner, 'target': 'vdb'}]}
        self.assert_outcome(self.ask(Action.RECONCILE_INSTANCE, guest, '', inventory=inventory), None)
        self.assert_outcome(self.attach_disk(guest, named, self.side.new_file()), None)

    def test_what_an_inventory_alone_vouches_for_is_not_taken_for_attached(self) -> None:
        """What it said ends with an attach, and a detach would find nothing any more."""
        volume, path = harness.new_id(), self.side.new_file()
        guest = self.side.new_guest(harness.disk_xml(path, 'vdb'), state='transient')
        inventory = {'volumes': [{'id': volume, 'target': 'vdb'}]}
        self.assert_outcome(self.ask(Action.RECONCILE_INSTANCE, guest, '', inventory=inventory), None)
        words = 'is this device, as the earlier inventory says, but has no user alias'
        self.assert_outcome(self.attach_disk(guest, volume, path), 'DeviceConflict', words)
        self.assert_outcome(self.detach(guest, volume), None)
        self.assertEqual(0, self.live_count(guest, 'disk'))
