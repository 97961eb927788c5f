# SPDX-License-Identifier: Apache-2.0
"""A plan that is carried out on the fake while libvirt refuses, or somebody else interferes."""

import dataclasses
import functools
from collections.abc import Callable

import libvirt

from aliasagent import exception
from aliasagent.reconcile import apply
from aliasagent.reconcile import plan
from aliasagent.tests import base
from aliasagent.tests.fakes.libvirt import FakeHypervisor
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.virt.guest import Guest

VOLUMES = [f'7d3c2b9e-54f5-4b1e-8f0f-2a6c1d7e9b1{number}' for number in range(3)]
MDEV = '1f0c6f5e-0f2d-4c55-9d7b-0d6a0f3a7c11'
HOSTDEV = (
    f"<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='{MDEV}'/></source></hostdev>"
)
OTHER = "<disk type='file' device='disk'><source file='/other'/><target dev='sdx' bus='scsi'/></disk>"


def disk(number: int) -> str:
    return (
        f"<disk type='file' device='disk'><source file='/{number}'/><target dev='sd{'abc'[number]}' bus='scsi'/>"
        f'<serial>{VOLUMES[number]}</serial></disk>'
    )


DISKS = ''.join(disk(number) for number in range(3))


class ApplyTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.fake = FakeHypervisor()
        self.addCleanup(self.fake.stop)
        self.patch(apply, '_QUIET', 0.0)

    def guest(self, devices: str = DISKS, *, running: bool = False) -> Guest:
        self.inside: FakeGuest = self.fake.add_guest(devices, running=running)
        return Guest(self.fake.open().lookupByUUIDString(self.inside.uuid), lambda: True)

    def outcomes(self, report: apply.Report) -> list[str]:
        return [step.outcome.name for step in report.steps]

    def once(self, method: str) -> None:
        """Another client attaches a disk right before the next call of a method."""

        def attach(*_arguments: object) -> None:
            del self.fake.before[method]
            domain = self.fake.open().lookupByUUIDString(self.inside.uuid)
            domain.attachDeviceFlags(OTHER, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

        self.fake.before[method] = attach


class RefusedTestCase(ApplyTestCase):
    def test_one_that_libvirt_refuses_keeps_nothing_from_the_others(self) -> None:
        for error in (errors.unsupported_config('not this one'), errors.unsupported('not this one')):
            guest = self.guest()
            self.fake.fail_next('updateDeviceFlags', error)
            report = apply.reconcile(guest)
            self.assertEqual(['REFUSED', 'ALIASED', 'ALIASED'], self.outcomes(report))
            self.assertIn('not this one', report.steps[0].reason)
            self.assertEqual(f'ua-{VOLUMES[0]}', report.steps[0].alias)
            self.assertEqual([f'ua-{volume}' for volume in VOLUMES[1:]], report.given)
            self.assertEqual((2, 1), (report.aliased, report.remaining))
            # There is nothing new to say, until something changes.
            self.assertEqual(apply.digest(guest), report.seen)
            self.assertEqual(['ALIASED'] * 3, self.outcomes(apply.reconcile(guest)))

    def test_a_definition_that_is_refused(self) -> None:
        guest = self.guest(HOSTDEV + disk(0))
        self.fake.fail_next('defineXML', errors.duplicate_alias('ua-x'))
        report = apply.reconcile(guest)
        self.assertEqual({'hostdev': 'REFUSED', 'disk': 'ALIASED'}, self.by_kind(report))
        self.assertIn('non unique alias detected: ua-x', ''.join(step.reason for step in report.steps))
        self.assertEqual([f'ua-{VOLUMES[0]}'], self.inside.aliases(live=False))

    def by_kind(self, report: apply.Report) -> dict[str, str]:
        return {step.kind: step.outcome.name for step in report.steps}

    def test_what_was_refused_in_a_definition_that_is_another_now_is_tried_again(self) -> None:
        guest = self.guest(HOSTDEV)
        self.fake.fail_next('defineXML', errors.duplicate_alias('ua-x'))
        self.once('defineXML')
        report = apply.reconcile(guest)
        self.assertEqual({'hostdev': 'ALIASED', 'disk': 'UNIDENTIFIED'}, self.by_kind(report))
        self.assertEqual(apply.digest(guest), report.seen)

    def test_what_is_refused_each_time_ends(self) -> None:
        guest = self.guest(HOSTDEV)
        self.fake.fail_next('defineXML', errors.duplicate_alias('ua-x'), times=1000)
        count = 0

        def change(*_arguments: object) -> None:
            nonlocal count
            count += 1
            xml = OTHER.replace('sdx', f'vd{chr(97 + count)}').replace('scsi', 'virtio')
            domain = self.fake.open().lookupByUUIDString(self.inside.uuid)
            domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

        self.fake.before['defineXML'] = change
        report = apply.reconcile(guest)
        self.assertEqual('GETS_ALIAS', self.by_kind(report)['hostdev'])
        self.assertEqual(b'', report.seen)

    def test_the_hypervisor_goes_away(self) -> None:
        guest = self.guest()
        self.fake.fail_next('updateDeviceFlags', errors.error(libvirt.VIR_ERR_NO_CONNECT, 'gone'))
        self.assertRaises(exception.HypervisorUnavailable, apply.reconcile, guest)


class BusyTestCase(ApplyTestCase):
    def test_a_guest_whose_lock_is_taken_is_left_at_once(self) -> None:
        guest = self.guest(running=True)
        self.fake.fail_next('updateDeviceFlags', errors.lock_timeout(), times=3)
        self.assertRaises(exception.GuestBusy, apply.reconcile, guest)
        self.assertEqual(1, self.fake.count('updateDeviceFlags'))

    def test_one_that_is_undefined_meanwhile_is_not_defined_again(self) -> None:
        for devices in (HOSTDEV, disk(0) + HOSTDEV):
            guest = self.guest(devices, running=True)

            def undefine(_seconds: float) -> None:
                self.inside.config = None

            self.patch(apply, '_sleep', undefine)
            report = apply.reconcile(guest)
            self.assertEqual((False, 0), (self.inside.persistent, self.fake.count('defineXML')))
            self.assertEqual({'TRANSIENT'}, set(self.outcomes(report)))

    def undefine_at(self, number: int) -> Callable[..., None]:
        """Return a hook for a call of the fake that undefines the guest at the call of this number."""
        calls: list[object] = []

        def undefine(*_arguments: object) -> None:
            calls.append(None)
            if len(calls) == number:
                self.inside.config = None

        return undefine

    def test_one_that_is_undefined_between_two_writes_is_transient(self) -> None:
        for devices, writes in ((DISKS, 1), (DISKS, 2), (disk(0) + HOSTDEV, 1)):
            for moment in ('before', 'after'):
                guest = self.guest(devices, running=True)
                self.fake.calls.clear()
                self.patch(self.fake, moment, {'updateDeviceFlags': self.undefine_at(writes)})
                report = apply.reconcile(guest)
                self.assertEqual((False, 0), (self.inside.persistent, self.fake.count('defineXML')), moment)
                self.assertEqual({'TRANSIENT'}, set(self.outcomes(report)))
                # After the first write that libvirt refuses there is no other.
                self.assertLessEqual(self.fake.count('updateDeviceFlags'), writes + 1)

    def test_one_that_is_undefined_right_before_the_definition_is_written_is_not_defined_again(self) -> None:
        guest = self.guest(HOSTDEV, running=True)

        def undefine(*_arguments: object) -> None:
            if self.fake.count('XMLDesc') == 2:  # the draft, and the read right before the write
                self.inside.config = None

        self.fake.after['XMLDesc'] = undefine
        self.assertEqual(['TRANSIENT'], self.outcomes(apply.reconcile(guest)))
        self.assertEqual((False, 0), (self.inside.persistent, self.fake.count('defineXML')))

    def test_one_that_is_undefined_after_the_last_write_is_transient(self) -> None:
        for method, devices in (('updateDeviceFlags', disk(0)), ('defineXML', HOSTDEV)):
            guest = self.guest(devices, running=True)
            self.fake.after[method] = lambda *_arguments: setattr(self.inside, 'config', None)
            self.assertEqual(['TRANSIENT'], self.outcomes(apply.reconcile(guest)))
            self.assertFalse(self.inside.persistent)

    def test_one_is_not_asked_with_each_device_whether_it_is_persistent(self) -> None:
        counts = []
        for devices in (disk(0), DISKS):
            self.fake.calls.clear()
            apply.reconcile(self.guest(devices))
            counts.append(self.fake.count('isPersistent'))
        self.assertEqual(counts[0], counts[1])

    def test_one_that_is_being_migrated_is_not_written_to(self) -> None:
        guest = self.guest(HOSTDEV, running=True)
        self.inside.migrating = True
        self.assertRaises(exception.GuestBusy, apply.reconcile, guest)
        self.assertEqual((0, 0), (self.fake.count('updateDeviceFlags'), self.fake.count('defineXML')))

    def test_it_is_asked_only_when_there_is_something_to_write(self) -> None:
        guest = self.guest(running=True)
        apply.reconcile(guest)
        self.assertEqual(1, self.fake.count('jobStats'))
        self.inside.migrating = True
        self.assertEqual(['ALIASED'] * 3, self.outcomes(apply.reconcile(guest)))
        self.assertEqual(1, self.fake.count('jobStats'))


class QuietTestCase(ApplyTestCase):
    """Nothing is written to a definition that has not stayed the same for a moment."""

    def setUp(self) -> None:
        super().setUp()
        # Nobody waits for it.
        self.patch(apply, '_QUIET', 20.0)
        self.waits: list[float] = []
        self.writes_before: list[int] = []
        self.patch(apply, '_sleep', self.wait)
        self.meanwhile: list[Callable[[], object]] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.writes_before.append(self.fake.count('updateDeviceFlags'))
        if self.meanwhile:
            self.meanwhile.pop()()

    def attach(self, target: str) -> None:
        domain = self.fake.open().lookupByUUIDString(self.inside.uuid)
        domain.attachDeviceFlags(OTHER.replace('sdx', target), libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    def test_it_is_watched_before_the_first_write_and_no_longer_than_that(self) -> None:
        guest = self.guest()
        self.assertEqual(3, apply.reconcile(guest).aliased)
        (wait,) = self.waits
        self.assertTrue(10.0 < wait <= 20.0, wait)
        self.assertEqual([0], self.writes_before)
        apply.reconcile(guest)
        self.assertEqual(1, len(self.waits))

    def test_what_was_read_before_is_not_waited_for(self) -> None:
        begun = apply.draft(self.guest())
        report = apply.finish(dataclasses.replace(begun, at=begun.at - 20))
        self.assertEqual(3, report.aliased)
        self.assertEqual([0.0], self.waits)

    def test_as_long_as_others_change_it_nothing_is_written(self) -> None:
        guest = self.guest()
        self.meanwhile = [functools.partial(self.attach, target) for target in ('sdx', 'sdy', 'sdz')]
        self.assertEqual(3, apply.reconcile(guest).aliased)
        # each time anew, for the whole moment
        self.assertEqual([0, 0, 0, 0], self.writes_before)
        self.assertTrue(all(wait > 10.0 for wait in self.waits), self.waits)


class LeftTestCase(ApplyTestCase):
    def test_what_is_left_because_somebody_interferes_is_not_taken_as_settled(self) -> None:
        self.patch(apply, '_MAX_DISTURBANCES', 0)
        guest = self.guest()
        self.once('updateDeviceFlags')
        report = apply.reconcile(guest)
        self.assertEqual(['ALIASED', 'GETS_ALIAS', 'GETS_ALIAS', 'UNIDENTIFIED'], self.outcomes(report))
        self.assertEqual(b'', report.seen)
        report = apply.reconcile(guest)
        self.assertEqual(3, report.count(plan.Outcome.ALIASED))
        self.assertEqual(apply.digest(guest), report.seen)

    def test_so_is_an_alias_that_somebody_has_overwritten(self) -> None:
        guest = self.guest(disk(0))
        before = guest.saved_text()

        def overwrite(*_arguments: object) -> None:
            del self.fake.after['updateDeviceFlags']
            self.fake.open().defineXML(before)

        self.fake.after['updateDeviceFlags'] = overwrite
        report = apply.reconcile(guest)
        self.assertEqual((['GETS_ALIAS'], [], b''), (self.outcomes(report), report.given, report.seen))
        self.assertEqual([f'ua-{VOLUMES[0]}'], apply.reconcile(guest).given)


class TransientTestCase(ApplyTestCase):
    def test_one_that_ends_while_it_is_looked_at(self) -> None:
        self.inside = self.fake.add_guest(DISKS, persistent=False)
        guest = Guest(self.fake.open().lookupByUUIDString(self.inside.uuid), lambda: True)
        self.fake.after['isPersistent'] = lambda *_arguments: self.inside.destroy()
        self.assertRaises(exception.InstanceNotFound, apply.reconcile, guest)


class OrderTestCase(ApplyTestCase):
    def test_that_libvirt_sorts_the_devices_anew_is_nobodys_interference(self) -> None:
        self.patch(apply, '_MAX_DISTURBANCES', 0)
        guest = self.guest()
        writes: list[int] = []

        def sort(*_arguments: object) -> None:
            writes.append(len(writes))
            config = self.inside.need_config()
            devices = config.find('devices')
            if len(writes) == 2 and devices is not None:
                devices[:] = list(reversed(devices))

        self.fake.before['updateDeviceFlags'] = sort
        report = apply.reconcile(guest)
        self.assertEqual(['ALIASED'] * 3, self.outcomes(report))
        self.assertEqual(3, len(writes))
