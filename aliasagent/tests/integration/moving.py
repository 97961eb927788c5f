# SPDX-License-Identifier: Apache-2.0
"""A guest from before aliases that writes to its disk all the time, and what must be so after it was moved."""

import dataclasses
import json
import pathlib

from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base
from sandbox import guest as guests
from sandbox import materials
from sandbox import processes

DISK_SIZE = materials.RECORDS * materials.SECTOR


@dataclasses.dataclass
class OldGuest:
    """A booted guest with a virtio disk, a SCSI disk and a NIC, each identifiable, none with an alias of ours."""

    guest: guests.TestGuest
    disk: pathlib.Path
    volume: str
    scsi_volume: str
    port: str
    mac: str

    @property
    def uuid(self) -> str:
        return self.guest.uuid

    @property
    def ids(self) -> set[str]:
        return {self.volume, self.scsi_volume, self.port}

    def written(self) -> int:
        """The newest record on the disk; all before it are there.

        :raises PartFailed: one is missing or wrong
        """
        return materials.last_record(self.disk)

    def said(self) -> list[int]:
        """The numbers of the records that the guest said it had written, in all its life."""
        numbers = []
        for line in self.guest.console.read_text(errors='replace').splitlines():
            start = line.find('{"event":"write","seq":')
            if start >= 0 and line.endswith('}'):
                numbers.append(int(json.loads(line[start:])['seq']))
        return numbers

    def boots(self) -> int:
        return self.guest.console.read_text(errors='replace').count('{"event":"boot"}')


class MovingCase(harness.DriverCase):
    """Guests from before aliases, for tests that make new guests of them."""

    def old_guest(self, side: base.RealSide, bridge: str, *, state: str = 'running', alias: str = '') -> OldGuest:
        """Boot one, and wait until it writes.

        :param state: ``running`` or ``transient``
        :param alias: XML of the virtio disk's alias
        """
        volume, scsi_volume, port = harness.new_id(), harness.new_id(), harness.new_id()
        disk = materials.make_disk(side.directory / f'{volume}.img', DISK_SIZE)
        scsi_disk = materials.make_disk(side.directory / f'volume-{scsi_volume}')
        mac = harness.new_mac()
        guest = guests.TestGuest(
            side.connection,
            side.directory,
            side.parts.guest_image,
            devices=harness.disk_xml(str(disk), 'vda', serial=volume)
            + harness.disk_xml(str(scsi_disk), 'sda', serial=scsi_volume)
            + harness.interface_xml(bridge, mac, target=f'tap{port[:11]}'),
            metadata='<nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"><nova:ports>'
            f'<nova:port uuid="{port}"/></nova:ports></nova:instance>',
            write=True,
            spare_ports=2,
        )
        side.made.append(guest)
        if state == 'transient':
            side.connection.createXML(guest.xml(), 0)
        else:
            guest.start()
        guest.wait_ready(120)
        old = OldGuest(guest, disk, volume, scsi_volume, port, mac)
        processes.wait_until(old.said, 60, 'the guest to write')
        return old

    def assert_went_on(self, old: OldGuest, before: int) -> None:
        """The guest goes on writing, was never booted anew, and no record is missing.

        :param before: the newest record at an earlier time
        """
        said = old.said()[-1]
        processes.wait_until(lambda: len(old.said()) > 2 and old.said()[-1] > max(said, before), 60, 'more records')
        said = old.said()[-1]
        newest = old.written()
        self.assertTrue(newest >= said > before, f'{before} before, {said} said, {newest} written')
        numbers = old.said()
        self.assertEqual(sorted(numbers), numbers)
        self.assertEqual(1, old.boots())
        self.assertNotIn('write-failed', old.guest.console.read_text(errors='replace'))

    def assert_detaches_by_id(self, old: OldGuest) -> None:
        """The driver takes the devices out by the ids of volume and port, on both sides, and the guest sees it."""
        seen = old.guest.sees()
        self.assertTrue(seen.disk(old.volume) and seen.nics_with(old.mac) and len(seen.disks) == 2, str(seen))
        self.detach(old.uuid, old.scsi_volume, 'disk')
        self.detach(old.uuid, old.port, 'interface')
        old.guest.wait_sees(lambda seen: len(seen.disks) == 1 and not seen.nics, what='that two devices are gone')
        for ids in self.ids(old.uuid):
            self.assertTrue(ids <= {old.volume}, str(ids))
        self.detach(old.uuid, old.volume, 'disk')
        old.guest.wait_sees(lambda seen: not seen.disks, what='that the last disk is gone')
