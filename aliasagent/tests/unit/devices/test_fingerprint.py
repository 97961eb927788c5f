# SPDX-License-Identifier: Apache-2.0
"""The device that a detach began with, recognised later."""

import dataclasses
import json

from hypothesis import given
from hypothesis import strategies as st

from aliasagent import exception
from aliasagent.devices import identity
from aliasagent.devices.domain import Domain
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.ids import VOLUME

OTHER = ids.OTHER_VOLUME
RUN, NEXT_RUN = 'boot/7', 'boot/8'


def disk(source: str = '/a', alias: str | None = None, serial: str | None = None, target: str = 'vdb') -> str:
    name = '' if alias is None else f"<alias name='{alias}'/>"
    says = '' if serial is None else f'<serial>{serial}</serial>'
    return (
        f"<disk type='file' device='disk'><source file='{source}'/><target dev='{target}' bus='virtio'/>"
        f'{says}{name}</disk>'
    )


def nic(mac: str = '52:54:00:00:00:01', alias: str | None = None, target: str = 'vnet0') -> str:
    name = '' if alias is None else f"<alias name='{alias}'/>"
    return (
        f"<interface type='bridge'><mac address='{mac}'/><source bridge='br0'/><target dev='{target}'/>"
        f'{name}</interface>'
    )


def domain(*devices: str) -> Domain:
    return Domain.parse(f'<domain><devices>{"".join(devices)}</devices></domain>')


def found(live: str, persistent: str | None = None, run: str = RUN) -> DeviceFingerprint:
    (device,) = domain(live).devices()
    (other,) = (None,) if persistent is None else domain(persistent).devices()
    return DeviceFingerprint.of(run, device, other)


class SameRunTestCase(base.TestCase):
    def assert_found(self, target: str | None, fingerprint: DeviceFingerprint, *live: str) -> None:
        device = fingerprint.find_live(VOLUME, domain(*live), RUN)
        self.assertEqual(target, None if device is None else device.target)

    def test_a_user_alias_says_it_all(self) -> None:
        fingerprint = found(disk(alias=f'ua-{VOLUME}'))
        self.assert_found('vdb', fingerprint, disk('/snapshot', alias=f'ua-{VOLUME}'))
        self.assert_found(None, fingerprint, disk('/b', alias='virtio-disk1'))

    def test_what_another_client_may_have_plugged_in_again_is_not_said_to_be_gone(self) -> None:
        fingerprint = found(disk(alias=f'ua-{VOLUME}'))
        for again in (disk(alias='virtio-disk1'), disk(alias='virtio-disk2', target='vdc')):
            self.assertRaises(exception.DeviceConflict, fingerprint.find_live, VOLUME, domain(again), RUN)
        self.assert_found(None, fingerprint, disk(alias='virtio-disk1', serial=OTHER))

    def test_an_alias_of_libvirt_counts_with_what_the_device_looks_like(self) -> None:
        for live, another in (
            (disk(alias='virtio-disk1', serial=OTHER), disk(alias='virtio-disk1', serial=VOLUME[:-1] + '1')),
            (nic(alias='net0'), nic('52:54:00:00:00:02', alias='net0')),
        ):
            fingerprint = found(live)
            self.assert_found(fingerprint.target, fingerprint, live)
            self.assert_found(None, fingerprint, another)
            self.assert_found(None, fingerprint)

    def test_two_interfaces_of_one_mac_are_told_apart_by_their_taps(self) -> None:
        self.assert_found(None, found(nic(alias='net0')), nic(alias='net0', target='vnet1'))

    def test_another_source_may_be_a_snapshot_or_the_next_disk(self) -> None:
        fingerprint = found(disk(alias='virtio-disk1'))
        self.assertRaises(
            exception.DeviceConflict, fingerprint.find_live, VOLUME, domain(disk('/b', alias='virtio-disk1')), RUN
        )

    def test_a_disk_keeps_its_serial_while_it_is_plugged_in(self) -> None:
        fingerprint = found(disk(alias='virtio-disk1', serial=VOLUME))
        self.assert_found(None, fingerprint, disk('/b', alias='virtio-disk1'))
        self.assert_found(None, found(disk(alias='virtio-disk1')), disk('/b', alias='virtio-disk1', serial=OTHER))

    def test_a_disk_that_says_that_it_is_the_volume_is_it(self) -> None:
        fingerprint = found(disk(alias='virtio-disk1', serial=VOLUME))
        self.assert_found('vdb', fingerprint, disk('/b', alias='virtio-disk1', serial=VOLUME))
        self.assert_found('vdc', fingerprint, disk('/a', alias='virtio-disk2', serial=VOLUME, target='vdc'))

    def test_another_device_that_is_doubtful_is_not_it(self) -> None:
        """Its serial says that it is the volume, its source that it is another one: it was there before, too."""
        swapped = disk(f'/v/volume-{OTHER}', alias='virtio-disk2', serial=VOLUME, target='vdc')
        self.assert_found(None, found(disk(alias=f'ua-{VOLUME}')), swapped)


class OtherRunTestCase(base.TestCase):
    def test_the_alias_of_another_run_says_nothing(self) -> None:
        fingerprint = found(disk(alias='virtio-disk1'))
        elsewhere = disk('/b', alias='virtio-disk1', target='vdx')
        self.assertIsNone(fingerprint.find_live(VOLUME, domain(elsewhere), NEXT_RUN))

    def test_what_is_in_its_place_may_be_it_with_a_snapshot(self) -> None:
        """A guest that was saved and restored has its devices in their places."""
        fingerprint = found(disk(alias='virtio-disk1'))
        there = disk('/snapshot', alias='virtio-disk1')
        self.assertRaises(exception.DeviceConflict, fingerprint.find_live, VOLUME, domain(there), NEXT_RUN)

    def test_what_looks_like_it_may_be_it(self) -> None:
        for live in (disk(alias='virtio-disk1'), nic(alias='net0')):
            fingerprint = found(live)
            self.assertRaises(exception.DeviceConflict, fingerprint.find_live, VOLUME, domain(live), NEXT_RUN)

    def test_what_says_that_it_is_and_that_it_is_not_may_be_it(self) -> None:
        swapped = disk(f'/v/volume-{OTHER}', serial=VOLUME)
        fingerprint = found(disk(alias='virtio-disk1'))
        error = self.assertRaises(
            exception.DeviceConflict, fingerprint.find_live, VOLUME, domain(swapped), NEXT_RUN
        )
        self.assertNotIn('nothing was changed', str(error))

    def test_what_says_that_it_is_the_device_is_it(self) -> None:
        fingerprint = found(disk(alias='virtio-disk1'))
        for there in (disk(alias=f'ua-{VOLUME}'), disk('/b', serial=VOLUME)):
            self.assertIsNotNone(fingerprint.find_live(VOLUME, domain(there), NEXT_RUN))

    def test_what_is_said_to_be_another_is_not_it(self) -> None:
        fingerprint = found(nic(alias='net0'))
        self.assertIsNone(fingerprint.find_live(VOLUME, domain(nic(alias=f'ua-{OTHER}')), NEXT_RUN))


class PersistentTestCase(base.TestCase):
    def test_as_it_was(self) -> None:
        fingerprint = found(disk(alias=f'ua-{VOLUME}'), disk())
        self.assertIsNotNone(fingerprint.find_persistent(VOLUME, domain(disk())))
        self.assertIsNone(fingerprint.find_persistent(VOLUME, domain(disk('/b', target='vdx'))))
        self.assertIsNone(fingerprint.find_persistent(VOLUME, domain()))

    def test_what_is_in_its_place_may_be_it_unless_it_was_removed(self) -> None:
        fingerprint = found(disk(alias=f'ua-{VOLUME}'), disk())
        other = domain(disk('/b'))
        self.assertRaises(exception.DeviceConflict, fingerprint.find_persistent, VOLUME, other)
        self.assertIsNone(fingerprint.find_persistent(VOLUME, other, was_removed=True))

    def test_what_changed_may_be_another(self) -> None:
        fingerprint = dataclasses.replace(
            found(nic(alias=f'ua-{VOLUME}'), nic()),
            persistent=identity.Claim('interface', mac='52:54:00:00:00:01', host_address='0000:06:12.5'),
        )
        self.assertRaises(exception.DeviceConflict, fingerprint.find_persistent, VOLUME, domain(nic()))

    def test_the_next_one_may_look_the_same(self) -> None:
        """Found by the history machine: a port that was made anew has the MAC and the place of the one before."""
        for saved in (nic(), disk('/dev/sdb')):
            fingerprint = found(saved, saved)
            self.assertRaises(exception.DeviceConflict, fingerprint.find_persistent, VOLUME, domain(saved))

    def test_where_it_was_not_what_looks_like_it_may_be_it(self) -> None:
        fingerprint = found(disk(alias=f'ua-{VOLUME}'))
        self.assertRaises(exception.DeviceConflict, fingerprint.find_persistent, VOLUME, domain(disk()))
        others = domain(disk('/b', target='vdx'), disk(serial=OTHER))
        self.assertIsNone(fingerprint.find_persistent(VOLUME, others))
        self.assertIsNotNone(fingerprint.find_persistent(VOLUME, domain(disk(serial=VOLUME))))


_TEXTS = st.none() | st.text(max_size=8)
_OPTIONAL = [field.name for field in dataclasses.fields(identity.Claim) if field.default is None]
_CLAIMS = st.none() | st.builds(
    identity.Claim, st.sampled_from(['disk', 'interface']), **dict.fromkeys(_OPTIONAL, _TEXTS)
)


class RecordTestCase(base.TestCase):
    @given(st.builds(DeviceFingerprint, _TEXTS, _TEXTS, _TEXTS, _CLAIMS, _CLAIMS))
    def test_it_is_read_as_it_was_written(self, fingerprint: DeviceFingerprint) -> None:
        record = json.loads(json.dumps(fingerprint.to_dict()))
        self.assertEqual(fingerprint, DeviceFingerprint.from_dict(record))

    def test_what_another_release_wrote_is_read_as_far_as_it_is_known(self) -> None:
        record = {'run': RUN, 'colour': 'blue', 'live': {'kind': 'disk', 'serial': 'x', 'colour': 'blue'}}
        expected = DeviceFingerprint(run=RUN, live=identity.Claim('disk', serial='x'))
        self.assertEqual(expected, DeviceFingerprint.from_dict(record))

    def test_what_is_gone_from_a_side_is_remembered(self) -> None:
        whole = found(disk(alias='virtio-disk1'), disk())
        (device,) = domain(disk(alias='virtio-disk1')).devices()
        self.assertEqual(whole, DeviceFingerprint.of(RUN, device, None).completed_by(whole))
        self.assertEqual(whole, DeviceFingerprint.of(None, None, device).completed_by(whole))
        later = DeviceFingerprint.of(NEXT_RUN, device, None).completed_by(whole)
        self.assertEqual((NEXT_RUN, whole.persistent), (later.run, later.persistent))
