# SPDX-License-Identifier: Apache-2.0
"""The contract of reconcile for guests that are not like others: each has its own outcome, and the pass goes on."""

import contextlib
import time
from typing import Any

import libvirt

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.operations.queues import GuestQueues
from aliasagent.reconcile import apply
from aliasagent.reconcile import arrivals
from aliasagent.reconcile import passes
from aliasagent.reconcile import plan
from aliasagent.tests.contract import harness
from aliasagent.virt.deadlines import Deadlines
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side

BOTH = Side.LIVE | Side.PERSISTENT
#: Less than libvirt waits for its lock on a guest that is being migrated.
AT_ONCE = 25.0


class SpecialGuestsContract(harness.DriverCase):
    def misname(self, instance: str, alias: str, other: str) -> None:
        """Have one device of a shut-off guest carry another's alias, as only a hypervisor that starts puts up with."""
        raise NotImplementedError

    def migrating(self, instance: str) -> contextlib.AbstractContextManager[None]:
        """While a running guest is on its way to another host; it stays in the end."""
        raise NotImplementedError

    def new_qcow2(self) -> str:
        """The path of a disk image that can hold snapshots."""
        raise NotImplementedError

    def guest(self, instance: str) -> Guest:
        return self.host.guest(instance)

    def domain(self, instance: str) -> Any:
        """The guest as another client has it."""
        connection = self.hypervisor.open(self.hypervisor.uri)
        self.addCleanup(connection.close)
        return connection.lookupByUUIDString(instance)

    def reconciler(self) -> passes.Reconciler:
        """One that also hears events, and has looked at each guest once."""
        self.queues = GuestQueues(2)
        self.addCleanup(self.queues.close)
        reconciler = passes.Reconciler(self.host, self.queues.submit, self.queues.submit_if_idle)
        due = Deadlines()
        self.addCleanup(due.close)
        arrivals.Arrivals(self.host, reconciler.changed, due.call_in)
        self.run_pass(reconciler)
        return reconciler

    def run_pass(self, reconciler: passes.Reconciler) -> None:
        """A pass; a guest that it leaves alone, because an event has told of it, was looked at as well in the end."""
        reconciler.run()
        deadline = time.monotonic() + harness.SOON
        for guest in self.host.guests():
            while (last := self.queues.submit_if_idle(guest.uuid, lambda: None)) is None:
                self.assertLess(time.monotonic(), deadline, 'a look never ended')
                time.sleep(0.01)
            last.result(harness.SOON)

    def test_what_libvirt_refuses_is_told_in_its_words_and_the_rest_goes_on(self) -> None:
        volume, mdev = harness.new_id(), harness.new_id()
        instance = self.hypervisor.new_guest(
            "<hostdev mode='subsystem' type='mdev' model='vfio-pci'>"
            f"<source><address uuid='{mdev}'/></source></hostdev>"
            + harness.disk_xml(self.hypervisor.new_file(), 'sda', alias='ua-one')
            + harness.disk_xml(self.hypervisor.new_file(), 'sdb', alias='ua-two')
            + harness.disk_xml(self.hypervisor.new_file(), 'sdc', serial=volume),
            state='shut off',
        )
        self.misname(instance, 'ua-two', 'ua-one')
        # A host device takes the whole definition, and libvirt does not take one with two devices of one name.
        other = self.hypervisor.new_guest(
            harness.disk_xml(self.hypervisor.new_file(), 'sda', serial=volume), state='shut off'
        )
        reconciler = self.reconciler()
        report = reconciler.statuses()[instance].report
        self.assertEqual([f'ua-{volume}'], report.given)
        (refused,) = [step for step in report.steps if step.outcome is plan.Outcome.REFUSED]
        self.assertEqual(('hostdev', f'ua-{mdev}'), (refused.kind, refused.alias))
        self.assertIn('non unique alias detected: ua-one', refused.reason)
        self.assertEqual((1, 3), (report.aliased, report.remaining))
        self.assertEqual(2, report.count(plan.Outcome.CONFLICT))
        self.assertEqual('', reconciler.statuses()[instance].error)
        self.assertEqual((set(), {volume}), self.ids(other))
        # As long as nothing changes it is not tried again, and when something does, it is.
        self.run_pass(reconciler)
        self.assertTrue(reconciler.statuses()[instance].report is report)
        self.guest(instance).detach('ua-one', Side.PERSISTENT)
        self.run_pass(reconciler)
        self.assertEqual([f'ua-{mdev}'], reconciler.statuses()[instance].report.given)
        self.assertEqual((set(), {'one', volume, mdev}), self.ids(instance))

    def test_one_that_is_being_migrated_is_left_for_later(self) -> None:
        volumes = {harness.new_id() for _number in range(3)}
        instance = self.hypervisor.new_guest(state='started')
        for letter, volume in zip('abc', volumes, strict=True):
            disk = harness.disk_xml(self.hypervisor.new_file(), f'sd{letter}', serial=volume)
            self.guest(instance).attach(disk, BOTH)
        before = self.xml(instance)
        begun = time.monotonic()
        with self.migrating(instance):
            self.assertRaises(exception.GuestBusy, apply.reconcile, self.guest(instance))
            reconciler = self.reconciler()
            self.assertIn('it is being migrated', reconciler.statuses()[instance].error)
            self.assertLess(time.monotonic() - begun, AT_ONCE)
            self.assert_untouched(instance, before)
        self.run_pass(reconciler)
        self.assertEqual('', reconciler.statuses()[instance].error)
        self.assertEqual((set(), volumes), self.ids(instance))

    def test_one_that_is_reverted_to_a_snapshot_has_its_aliases_again(self) -> None:
        self.assert_has_its_aliases_again('shut off')

    def test_a_running_one_that_is_reverted_to_a_snapshot_has_its_aliases_again(self) -> None:
        self.assert_has_its_aliases_again('started')

    def test_one_that_another_client_defines_anew_has_its_aliases_again(self) -> None:
        """Nova does so at a hard reboot; no pass is waited for."""
        volume = harness.new_id()
        disk = harness.disk_xml(self.hypervisor.new_file(), 'sda', serial=volume)
        instance = self.hypervisor.new_guest(disk, state='shut off')
        domain = self.domain(instance)
        before = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        self.reconciler()
        self.assertEqual((set(), {volume}), self.ids(instance))
        domain.connect().defineXML(before)
        self.assertEqual((set(), set()), self.aliased(instance))
        self.wait_aliased(instance, volume)

    def wait_aliased(self, instance: str, device: str) -> None:
        """Wait until the persistent config, and only this, has a device's alias."""
        deadline = time.monotonic() + harness.SOON
        while (found := self.aliased(instance)) != (set(), {device}):
            self.assertLess(time.monotonic(), deadline, f'{found}')
            time.sleep(0.05)

    def aliased(self, instance: str) -> tuple[set[str], set[str]]:
        """The ids in the user aliases of the live and the persistent definition."""
        definitions = self.guest(instance).definitions()
        live, persistent = (
            {device.device_id or '' for device in (side.devices() if side else ()) if alias.is_user(device.alias)}
            for side in (definitions.live, definitions.persistent)
        )
        return live, persistent

    def assert_has_its_aliases_again(self, state: str) -> None:
        """libvirt brings back the aliases of that day, and tells; no pass is waited for."""
        volume = harness.new_id()
        disk = harness.disk_xml(self.new_qcow2(), 'sda', serial=volume).replace("'raw'", "'qcow2'")
        instance = self.hypervisor.new_guest(disk, state=state)
        domain = self.domain(instance)
        snapshot = domain.snapshotCreateXML('<domainsnapshot><name>then</name></domainsnapshot>', 0)
        reconciler = self.reconciler()
        for _time in range(2):
            self.assertEqual((set(), {volume}), self.ids(instance))
            known = reconciler.statuses()[instance]
            domain.revertToSnapshot(snapshot, 0)
            deadline = time.monotonic() + harness.SOON
            while (look := reconciler.statuses()[instance]) is known or not look.report.given:
                self.assertLess(time.monotonic(), deadline, 'it was never seen to have lost its aliases')
                time.sleep(0.05)
            self.assertEqual([f'ua-{volume}'], look.report.given)
            self.assertEqual((set(), {volume}), self.ids(instance))
            self.assertEqual([f'ua-{volume}'] if state == 'started' else [], look.report.pending)
