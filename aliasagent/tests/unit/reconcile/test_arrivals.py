# SPDX-License-Identifier: Apache-2.0
"""When a guest is reconciled after its events."""

from collections.abc import Callable

from aliasagent.reconcile import arrivals
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.virt import events
from aliasagent.virt.events import Lifecycle

GUEST = ids.GUEST
OTHER = ids.OTHER_GUEST
QUIET = 0.3


class ArrivalsTestCase(base.TestCase):
    """Time passes when a test says so."""

    def setUp(self) -> None:
        super().setUp()
        self.now = 100.0
        self.patch(arrivals, '_now', lambda: self.now)
        self.due: list[tuple[float, Callable[[], None]]] = []
        #: The reconciled guests, each with the time.
        self.reconciled: list[tuple[str, float]] = []
        #: The guests on which Nova is at work.
        self.busy: set[str] = set()
        self.arrivals = arrivals.Arrivals(self, self.note, self.call_in, QUIET)  # type: ignore[arg-type]

    def subscribe(self, listener: Callable[[events.Event], None]) -> None:
        self.emit = listener

    def note(self, instance: str, left: Callable[[], None]) -> None:
        if instance in self.busy:
            left()
        self.reconciled.append((instance, round(self.now - 100.0, 3)))

    def call_in(self, seconds: float, function: Callable[[], None]) -> None:
        self.due.append((self.now + seconds, function))

    def wait(self, seconds: float) -> None:
        """Let time pass, and make the calls that become due."""
        end = self.now + seconds
        while self.due and min(self.due, key=lambda entry: entry[0])[0] <= end:
            entry = min(self.due, key=lambda entry: entry[0])
            self.due.remove(entry)
            self.now = max(self.now, entry[0])
            entry[1]()
        self.now = end

    def lifecycle(self, *lifecycles: Lifecycle, instance: str = GUEST) -> None:
        for lifecycle in lifecycles:
            self.emit(events.LifecycleChanged(instance, lifecycle))

    def test_a_guest_that_arrives_once_it_is_quiet(self) -> None:
        for lifecycle in (Lifecycle.DEFINED, Lifecycle.STARTED, Lifecycle.RESUMED):
            self.reconciled.clear()
            self.now = 100.0
            self.lifecycle(lifecycle)
            self.wait(0.29)
            self.assertEqual([], self.reconciled)
            self.wait(5)
            self.assertEqual([(GUEST, 0.3)], self.reconciled)

    def test_no_other_event_of_a_guest(self) -> None:
        self.lifecycle(*set(Lifecycle) - {Lifecycle.DEFINED, Lifecycle.STARTED, Lifecycle.RESUMED})
        self.emit(events.DeviceRemoved(GUEST, 'net0'))
        self.emit(events.DeviceRemovalFailed(GUEST, 'net0'))
        self.emit(events.Reconnected())
        self.wait(5)
        self.assertEqual(([], []), (self.reconciled, self.due))

    def test_a_hard_reboot_of_nova_is_left_alone_until_its_end(self) -> None:
        """The steps of a hard reboot that takes two seconds, at most 0.25 s apart."""
        self.lifecycle(Lifecycle.STOPPED, Lifecycle.UNDEFINED, Lifecycle.DEFINED)
        for lifecycle in (Lifecycle.STARTED, Lifecycle.SUSPENDED, Lifecycle.REBOOTED, Lifecycle.RESUMED) * 2:
            self.wait(0.25)
            self.lifecycle(lifecycle)
        self.wait(5)
        self.assertEqual([(GUEST, 2.3)], self.reconciled)

    def test_also_by_events_that_are_no_arrival(self) -> None:
        self.lifecycle(Lifecycle.DEFINED)
        self.wait(0.2)
        self.emit(events.DeviceRemoved(GUEST, 'net0'))
        self.wait(5)
        self.assertEqual([(GUEST, 0.5)], self.reconciled)

    def test_each_guest_for_itself(self) -> None:
        self.lifecycle(Lifecycle.DEFINED)
        self.wait(0.2)
        self.lifecycle(Lifecycle.DEFINED, instance=OTHER)
        self.wait(5)
        self.assertEqual([(GUEST, 0.3), (OTHER, 0.5)], self.reconciled)

    def test_again_after_the_next_arrival(self) -> None:
        for _time in range(2):
            self.lifecycle(Lifecycle.DEFINED)
            self.wait(1)
        self.assertEqual([(GUEST, 0.3), (GUEST, 1.3)], self.reconciled)

    def test_whoever_keeps_writing_is_not_fought(self) -> None:
        for _time in range(40):
            self.lifecycle(Lifecycle.DEFINED)
            self.lifecycle(Lifecycle.DEFINED, instance=OTHER)
            self.wait(0.7)
        for guest in (GUEST, OTHER):
            self.assertEqual(20, [instance for instance, _at in self.reconciled].count(guest))
        self.wait(60)
        self.lifecycle(Lifecycle.DEFINED)
        self.wait(1)
        self.assertEqual(41, len(self.reconciled))

    def test_one_that_nova_is_at_work_on_is_looked_at_ever_more_rarely(self) -> None:
        self.busy.add(GUEST)
        self.lifecycle(Lifecycle.DEFINED)
        self.lifecycle(Lifecycle.DEFINED, instance=OTHER)
        self.wait(60)
        at = [time for instance, time in self.reconciled if instance == GUEST]
        self.assertEqual([0.3, 1.3, 3.3, 7.3, 15.3, 31.3], at)
        self.assertEqual(1, len(self.reconciled) - len(at))
        self.busy.clear()
        self.wait(60)
        self.assertEqual((GUEST, 61.3), self.reconciled[-1])
        self.wait(60)
        self.assertEqual((8, []), (len(self.reconciled), self.due))

    def test_its_next_arrival_is_not_waited_for(self) -> None:
        self.busy.add(GUEST)
        self.lifecycle(Lifecycle.DEFINED)
        self.wait(20)
        self.busy.clear()
        self.lifecycle(Lifecycle.SUSPENDED, Lifecycle.RESUMED)
        self.wait(60)
        self.assertEqual([0.3, 1.3, 3.3, 7.3, 15.3, 20.3], [time for _instance, time in self.reconciled])
        self.assertEqual([], self.due)

    def test_events_while_it_is_left_alone_do_not_pile_up(self) -> None:
        self.busy.add(GUEST)
        for _time in range(15):
            self.lifecycle(Lifecycle.RESUMED)
            self.wait(1.5)
        self.reconciled.clear()
        self.wait(600)
        self.assertLess(len(self.reconciled), 25)
        self.assertEqual(1, len(self.due))

    def test_one_that_is_expected(self) -> None:
        self.arrivals.expect(GUEST)
        self.wait(5)
        self.assertEqual([(GUEST, 0.3)], self.reconciled)
