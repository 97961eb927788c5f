# SPDX-License-Identifier: Apache-2.0
"""A pass over all guests, each in its own lane."""

import threading
import time
from collections.abc import Callable

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.operations.lanes import Lanes
from aliasagent.reconcile import apply
from aliasagent.reconcile import passes
from aliasagent.reconcile.passes import Reconciler
from aliasagent.reconcile.plan import Record
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.virt import events

X = ids.VOLUME
Y = ids.OTHER_VOLUME


class StubGuest:
    """A guest with one disk that has no alias yet."""

    disk = f'<disk><serial>{X}</serial></disk>'

    def __init__(self, uuid: str, answer: Exception | Callable[[], None] | None = None) -> None:
        self.uuid = self.name = uuid
        self.answer = answer
        self.updates: list[str] = []
        self.reads = 0
        self.live: str | None = None
        self.migrating = False

    def persistent_text(self) -> str:
        self.reads += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            self.answer()
        disk = self.updates[-1] if self.updates else self.disk
        return f'<domain><devices>{disk}</devices></domain>'

    saved_text = persistent_text

    def is_active(self) -> bool:
        return self.live is not None

    def refuse_if_migrating(self) -> None:
        if self.migrating:
            raise exception.GuestBusy(instance=self.uuid, reason='it is being migrated')

    def live_text(self) -> str | None:
        return self.live

    def live_definition(self) -> Domain | None:
        return None if self.live is None else Domain.parse(self.live)

    def update_persistent(self, xml: str) -> None:
        self.updates.append(xml)


class StubHost:
    def __init__(self, *guests: StubGuest) -> None:
        self.all = list(guests)
        self.down: Exception | None = None
        self.listeners: list[Callable[[events.Event], None]] = []

    def guests(self) -> list[StubGuest]:
        if self.down is not None:
            raise self.down
        return self.all

    def guest(self, uuid: str) -> StubGuest:
        return next(guest for guest in self.all if guest.uuid == uuid)

    def subscribe(self, listener: Callable[[events.Event], None]) -> None:
        self.listeners.append(listener)


class PassesTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.lanes = Lanes(2)
        self.addCleanup(self.lanes.close)

    def reconciler(self, *guests: StubGuest) -> Reconciler:
        self.host = StubHost(*guests)
        return Reconciler(self.host, self.lanes.submit, self.lanes.submit_if_idle)  # type: ignore[arg-type]

    def given(self, reconciler: Reconciler) -> int:
        return sum(len(look.report.given) for look in reconciler.looks().values())

    def test_each_guest_once_and_a_second_pass_changes_nothing(self) -> None:
        guests = [StubGuest(str(number)) for number in range(20)]
        reconciler = self.reconciler(*guests)
        reconciler.run()
        self.assertEqual(20, self.given(reconciler))
        reads = [guest.reads for guest in guests]
        reconciler.run()
        # One look each, to see that nothing has changed.
        self.assertEqual([count + 1 for count in reads], [guest.reads for guest in guests])
        for guest in guests:
            (update,) = guest.updates
            self.assertIn(f'name="ua-{X}"', update)

    def test_what_an_inventory_says_is_kept_before_anything_is_written(self) -> None:
        """An alias that only the inventory vouches for is doubtful without it."""
        guest = StubGuest('one')
        guest.disk = f"<disk><source file='/srv/volume-{X}'/><target dev='vda'/></disk>"
        kept: list[tuple[str, list[Record], int]] = []

        def keep(instance: str, records: list[Record]) -> None:
            kept.append((instance, records, len(guest.updates)))

        host = StubHost(guest)
        reconciler = Reconciler(
            host,  # type: ignore[arg-type]
            self.lanes.submit,
            self.lanes.submit_if_idle,
            keep=keep,
        )
        told = [Record(Y, 'disk', 'inventory', target='vda')]
        self.assertEqual([f'ua-{Y}'], reconciler.reconcile('one', told).report.given)
        self.assertEqual([('one', [Record(Y, 'disk', 'earlier inventory', source=f'/srv/volume-{X}')], 0)], kept)
        reconciler.reconcile('one')
        reconciler.look('one', told)
        self.assertEqual(1, len(kept))

    def test_an_inventory_that_cannot_be_kept_changes_nothing(self) -> None:
        guest = StubGuest('one')
        guest.disk = f"<disk><source file='/srv/volume-{X}'/><target dev='vda'/></disk>"

        def keep(_instance: str, _records: list[Record]) -> None:
            raise exception.JournalError(path='journal', reason='disk full')

        host = StubHost(guest)
        reconciler = Reconciler(
            host,  # type: ignore[arg-type]
            self.lanes.submit,
            self.lanes.submit_if_idle,
            keep=keep,
        )
        told = [Record(Y, 'disk', 'inventory', target='vda')]
        self.assertRaises(exception.JournalError, reconciler.reconcile, 'one', told)
        self.assertEqual([], guest.updates)

    def test_none_is_left_out_where_batches_meet(self) -> None:
        for count in (0, 1, 16, 17, 32):
            guests = [StubGuest(str(number)) for number in range(count)]
            self.reconciler(*guests).run()
            self.assertEqual([1] * count, [len(guest.updates) for guest in guests])

    def test_the_pass_waits_for_the_last_guests_only(self) -> None:
        waits: list[float] = []
        self.patch(apply, '_sleep', waits.append)
        self.patch(apply, '_QUIET', 0.05)
        guests = [StubGuest(str(number), lambda: time.sleep(0.005)) for number in range(64)]
        self.reconciler(*guests).run()
        self.assertEqual(64, len(waits))
        self.assertGreaterEqual(waits.count(0.0), 32)

    def test_what_has_changed_is_looked_at_again(self) -> None:
        guest = StubGuest('one')
        reconciler = self.reconciler(guest)
        reconciler.run()
        guest.updates.clear()
        reconciler.run()
        self.assertEqual(1, len(guest.updates))

    def test_a_guest_that_is_defined_or_starts_is_looked_at_without_a_pass(self) -> None:
        for lifecycle in (events.Lifecycle.DEFINED, events.Lifecycle.STARTED):
            guest = StubGuest(lifecycle.name)
            self.reconciler(guest)
            for listener in self.host.listeners:
                listener(events.LifecycleChanged(guest.uuid, lifecycle))
            self.wait_for(lambda guest=guest: guest.updates, 'an alias')  # type: ignore[misc]

    def test_an_event_while_something_is_under_way_is_not_lost(self) -> None:
        alone = StubGuest('alone')
        self.reconciler(alone).run()
        begun, end = threading.Event(), threading.Event()
        self.addCleanup(end.set)

        def gate() -> None:
            begun.set()
            end.wait(base.PATIENCE)

        self.lanes.submit('one', gate)
        self.assertTrue(begun.wait(base.PATIENCE))
        guest = StubGuest('one')
        self.reconciler(guest)
        (tell,) = self.host.listeners
        for _time in range(3):
            tell(events.LifecycleChanged('one', events.Lifecycle.DEFINED))
        self.assertEqual(0, guest.reads)
        end.set()
        self.wait_for(lambda: self.lanes.submit_if_idle('one', lambda: None) is not None, 'the last look')
        # One look tells all that three events have told of.
        self.assertEqual((1, alone.reads), (len(guest.updates), guest.reads))

    def test_one_that_is_being_migrated_is_left_for_the_next_pass(self) -> None:
        guest = StubGuest('one')
        guest.live, guest.migrating = '<domain id="1"/>', True
        reconciler = self.reconciler(guest)
        reconciler.run()
        self.assertIn('it is being migrated', reconciler.looks()['one'].error)
        self.assertEqual([], guest.updates)
        guest.migrating = False
        reconciler.run()
        self.assertEqual(('', 1), (reconciler.looks()['one'].error, len(guest.updates)))

    def test_what_the_running_guest_lacks_is_pending(self) -> None:
        guest = StubGuest('one')
        guest.live = f'<domain id="1"><devices><disk><serial>{X}</serial></disk></devices></domain>'
        reconciler = self.reconciler(guest)
        reconciler.run()
        self.assertEqual([f'ua-{X}'], reconciler.looks()['one'].report.pending)

    def test_no_guests(self) -> None:
        reconciler = self.reconciler()
        reconciler.run()
        self.assertEqual({}, reconciler.looks())

    def test_a_guest_that_is_gone_is_forgotten(self) -> None:
        reconciler = self.reconciler(StubGuest('one'), StubGuest('two'))
        reconciler.run()
        self.host.all.pop()
        reconciler.run()
        self.assertEqual(['one'], list(reconciler.looks()))

    def test_one_that_cannot_be_looked_at_keeps_nothing_from_the_others(self) -> None:
        reconciler = self.reconciler(
            StubGuest('gone', exception.InstanceNotFound(instance='gone')),
            StubGuest('unreadable', exception.GuestUnreadable(instance='x', reason='why')),
            StubGuest('defect', KeyError('x')),
            StubGuest('good'),
        )
        reconciler.run()
        self.assertEqual(1, self.given(reconciler))
        self.assertIn('why', reconciler.looks()['unreadable'].error)

    def test_one_on_which_something_is_under_way_is_left_alone(self) -> None:
        begun, end = threading.Event(), threading.Event()
        self.addCleanup(end.set)

        def gate() -> None:
            begun.set()
            end.wait(base.PATIENCE)

        self.lanes.submit('busy', gate)
        self.assertTrue(begun.wait(base.PATIENCE))
        busy = StubGuest('busy')
        reconciler = self.reconciler(busy, StubGuest('idle'))
        reconciler.run()
        self.assertEqual(1, self.given(reconciler))
        self.assertEqual([], busy.updates)

    def test_those_that_do_not_answer_hold_up_no_pass(self) -> None:
        self.patch(passes, '_PATIENCE', 0.2)
        begun, end = threading.Semaphore(0), threading.Event()
        self.addCleanup(end.set)

        def hang() -> None:
            begun.release()
            end.wait(base.PATIENCE)

        # One of two workers only: what takes the place of a stuck one is the lanes' affair.
        hung, good = StubGuest('hung', hang), [StubGuest(f'good {number}') for number in range(20)]
        reconciler = self.reconciler(hung, *good)
        reconciler.run()
        self.assertTrue(begun.acquire(timeout=0))
        self.assertEqual(20, self.given(reconciler))
        self.assertEqual('no answer within 0 s', reconciler.looks()['hung'].error)
        reconciler.run()
        self.assertEqual([], hung.updates)
        end.set()

        def is_reconciled() -> bool:
            reconciler.run()
            return bool(hung.updates)

        self.wait_for(is_reconciled, 'a later pass')
        self.assertEqual(('', 1), (reconciler.looks()['hung'].error, len(hung.updates)))

    def test_the_hypervisor_is_not_there(self) -> None:
        reconciler = self.reconciler()
        self.host.down = exception.HypervisorUnavailable(reason='x')
        self.assertRaises(exception.HypervisorUnavailable, reconciler.run)

    def test_a_pass_ends_when_the_agent_stops(self) -> None:
        begun, end = threading.Semaphore(0), threading.Event()
        self.addCleanup(end.set)

        def gate() -> None:
            begun.release()
            end.wait(base.PATIENCE)

        guests = [StubGuest(str(number), gate) for number in range(8)]
        running = threading.Thread(target=self.reconciler(*guests).run, daemon=True)
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
