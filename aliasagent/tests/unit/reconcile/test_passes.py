# SPDX-License-Identifier: Apache-2.0
"""A pass over all guests, each in its own lane."""

import threading
from collections.abc import Callable

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.operations.lanes import Lanes
from aliasagent.reconcile.apply import Report
from aliasagent.reconcile.passes import Reconciler
from aliasagent.tests import base

X = '7d3c2b9e-54f5-4b1e-8f0f-2a6c1d7e9b10'


class StubGuest:
    """A guest with one disk that has no alias yet."""

    def __init__(self, uuid: str, answer: Exception | Callable[[], None] | None = None) -> None:
        self.uuid = uuid
        self.answer = answer
        self.updates: list[str] = []

    def persistent_definition(self) -> Domain | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            self.answer()
        disk = self.updates[-1] if self.updates else f'<disk><serial>{X}</serial></disk>'
        return Domain.parse(f'<domain><devices>{disk}</devices></domain>')

    def update_persistent(self, xml: str) -> None:
        self.updates.append(xml)


class StubHost:
    def __init__(self, *guests: StubGuest) -> None:
        self.all = list(guests)
        self.down: Exception | None = None

    def guests(self) -> list[StubGuest]:
        if self.down is not None:
            raise self.down
        return self.all


class PassesTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.lanes = Lanes(2)
        self.addCleanup(self.lanes.close)

    def run_pass(self, *guests: StubGuest) -> Report:
        return Reconciler(StubHost(*guests), self.lanes.submit_if_idle).run()  # type: ignore[arg-type]

    def test_each_guest_once_and_a_second_pass_changes_nothing(self) -> None:
        guests = [StubGuest(str(number)) for number in range(20)]
        self.assertEqual(Report(aliased=0, given=20, remaining=0), self.run_pass(*guests))
        self.assertEqual(Report(aliased=20, given=0, remaining=0), self.run_pass(*guests))
        for guest in guests:
            (update,) = guest.updates
            self.assertIn(f'name="ua-{X}"', update)

    def test_no_guests(self) -> None:
        self.assertEqual(Report(), self.run_pass())

    def test_one_that_cannot_be_looked_at_keeps_nothing_from_the_others(self) -> None:
        guests = [
            StubGuest('gone', exception.InstanceNotFound(instance='gone')),
            StubGuest('unreadable', exception.GuestUnreadable(instance='x', reason='x')),
            StubGuest('defect', KeyError('x')),
            StubGuest('good'),
        ]
        self.assertEqual(1, self.run_pass(*guests).given)

    def test_one_on_which_something_is_under_way_is_left_alone(self) -> None:
        begun, end = threading.Event(), threading.Event()
        self.addCleanup(end.set)

        def gate() -> None:
            begun.set()
            end.wait(base.PATIENCE)

        self.lanes.submit('busy', gate)
        self.assertTrue(begun.wait(base.PATIENCE))
        busy = StubGuest('busy')
        self.assertEqual(1, self.run_pass(busy, StubGuest('idle')).given)
        self.assertEqual([], busy.updates)

    def test_the_hypervisor_is_not_there(self) -> None:
        host = StubHost()
        host.down = exception.HypervisorUnavailable(reason='x')
        reconciler = Reconciler(host, self.lanes.submit_if_idle)  # type: ignore[arg-type]
        self.assertRaises(exception.HypervisorUnavailable, reconciler.run)

    def test_a_pass_ends_when_the_agent_stops(self) -> None:
        begun, end = threading.Semaphore(0), threading.Event()
        self.addCleanup(end.set)

        def gate() -> None:
            begun.release()
            end.wait(base.PATIENCE)

        guests = [StubGuest(str(number), gate) for number in range(8)]
        running = threading.Thread(target=self.run_pass, args=guests, daemon=True)
        running.start()
        for _worker in range(2):
            self.assertTrue(begun.acquire(timeout=base.PATIENCE))
        closing = threading.Thread(target=self.lanes.close, daemon=True)
        closing.start()
        self.wait_for(lambda: self.lanes.submit_if_idle('probe', lambda: None) is None, 'closing')
        end.set()
        closing.join(base.PATIENCE)
        running.join(base.PATIENCE)
        self.assertFalse(running.is_alive())
