# SPDX-License-Identifier: Apache-2.0
"""The host loses power while the agent works: guests are off, and journal and definitions may lack what was last."""

import contextlib
import copy
from typing import Any

import fixtures
from lxml import etree

from aliasagent.operations.journal import Journal
from aliasagent.operations.model import State
from aliasagent.tests import power_loss
from aliasagent.tests.contract import harness
from aliasagent.tests.functional.rig import RigCase
from aliasagent.virt import guest as guests
from aliasagent.virt.leaving import RetryPolicy


class PowerLossTest(RigCase):
    def setUp(self) -> None:
        super().setUp()
        self.power = power_loss.PowerLoss(self)
        self.before: etree._Element | None = None
        self.lost: list[int] = []

    def lose_power_after(self, call: str, guest: str) -> None:
        """Keep what a power loss would leave right after a call to libvirt."""
        method = getattr(guests.Guest, call)

        def do(*what: Any) -> Any:
            before = copy.deepcopy(self.inside(guest).config)
            result = method(*what)
            if not self.lost:
                self.before = before
                self.lost.append(self.power.copy(self.journal.path, f'{self.journal.path}-left'))
            return result

        self.useFixture(fixtures.MonkeyPatch(f'aliasagent.virt.guest.Guest.{call}', do))

    def start_again(self, guest: str, operation: str, *, with_definition: bool = True) -> State:
        """Start the host again; return the state in which its agent finds an operation.

        :param with_definition: whether the change of the definition has reached the disk.
        """
        self.kill_agent()
        inside = self.inside(guest)
        if inside.active:
            inside.destroy()
        if not with_definition:
            inside.config = self.before
        for suffix in ('', '-wal'):
            (self.directory / f'journal.sqlite-left{suffix}').rename(self.directory / f'journal.sqlite{suffix}')
        with contextlib.closing(Journal(self.journal.path)) as left:
            found = left.get(operation).state
        self.start_agent()
        return found

    def new_attach(self, guest: str) -> tuple[str, str]:
        volume = harness.new_id()
        return volume, self.attach_disk(guest, volume, self.side.new_file())

    def test_an_attach_whose_start_is_lost_ends_with_its_device(self) -> None:
        for with_definition in (True, False):
            self.lost.clear()
            guest = self.side.new_guest()
            self.lose_power_after('attach', guest)
            volume, attach = self.new_attach(guest)
            self.assert_outcome(attach, None)
            self.assertGreater(self.lost[0], 0)
            found = self.start_again(guest, attach, with_definition=with_definition)
            self.assertEqual(State.ACCEPTED, found)
            self.assert_outcome(attach, None)
            self.assertEqual(1, self.persistent_count(guest, 'disk'))
            self.assert_outcome(self.detach(guest, volume), None)
            self.assertEqual(0, self.persistent_count(guest, 'disk'))

    def test_a_detach_is_done_and_says_so(self) -> None:
        """Without its device in the journal it would fail: nothing would prove that there was one."""
        for with_definition in (True, False):
            self.lost.clear()
            guest = self.side.new_guest()
            volume, attach = self.new_attach(guest)
            self.assert_outcome(attach, None)
            self.lose_power_after('detach', guest)
            detach = self.detach(guest, volume)
            self.assert_outcome(detach, None)
            found = self.start_again(guest, detach, with_definition=with_definition)
            self.assertEqual(State.RUNNING, found)
            self.assert_outcome(detach, None)
            self.assertEqual(0, self.persistent_count(guest, 'disk'))

    def test_a_device_that_is_attached_again_is_not_released(self) -> None:
        """The journal has lost that the attach had begun, by which it knows that the guest may have the device."""
        guest = self.side.new_guest()
        volume, path = harness.new_id(), self.side.new_file()
        self.assert_outcome(self.attach_disk(guest, volume, path), None)
        self.retry_policy = RetryPolicy(timeout=0.3, attempts=1)
        self.inside(guest).unplug.refuse = 1
        refused = self.detach(guest, volume)
        self.assert_outcome(refused, 'DetachFailed', 'refused')
        self.lose_power_after('attach', guest)
        again = self.attach_disk(guest, volume, path)
        self.assert_outcome(again, None)
        self.assertGreater(self.lost[0], 0)
        self.assertEqual(State.ACCEPTED, self.start_again(guest, again))
        self.assert_outcome(again, None)
        self.assertTrue(self.side.fake.settle())
        self.assertEqual(1, self.persistent_count(guest, 'disk'))
        self.assertIsNone(self.journal.get(refused).released_at)
