# SPDX-License-Identifier: Apache-2.0
"""A pass over all guests, each in its own queue."""

import threading
import time
from collections.abc import Callable
from typing import Any

import libvirt

from aliasagent import exception
from aliasagent.operations.queues import GuestQueues
from aliasagent.reconcile import apply
from aliasagent.reconcile import passes
from aliasagent.reconcile.arrivals import Arrivals
from aliasagent.reconcile.passes import Reconciler
from aliasagent.reconcile.plan import Record
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests import on_fake
from aliasagent.tests.fakes.libvirt import domain_xml
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.guest import FakeGuest

X = ids.VOLUME
Y = ids.OTHER_VOLUME


def disk(source: str = '/disk', serial: str = X) -> str:
    inner = f'<serial>{serial}</serial>' if serial else ''
    return f"<disk type='file'><source file='{source}'/><target dev='vda' bus='virtio'/>{inner}</disk>"


class PassesBase(on_fake.HostTestCase):
    """A reconciler on the fake hypervisor."""

    def setUp(self) -> None:
        super().setUp()
        self.queues = GuestQueues(2)
        self.addCleanup(self.queues.close)
        #: The error that a read of a guest's saved definition raises, or what is called before the read.
        self.answers: dict[str, Exception | Callable[[], None]] = {}
        self.fake.before['XMLDesc'] = self.before_read

    def guest(
        self, devices: str = '', *, running: bool = False, answer: Exception | Callable[[], None] | None = None
    ) -> FakeGuest:
        """Return a guest with one disk that has no alias yet."""
        guest = self.fake.add_guest(devices or disk(), running=running)
        if answer is not None:
            self.answers[guest.uuid] = answer
        return guest

    def transient(self) -> FakeGuest:
        """Return a running guest without a saved definition."""
        return self.fake.create(domain_xml('transient', ids.new_id(), disk()), False)

    def before_read(self, instance: str, flags: int) -> None:
        answer = self.answers.get(instance) if flags & libvirt.VIR_DOMAIN_XML_INACTIVE else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            answer()

    def reconciler(self, **more: Any) -> Reconciler:
        """Return a reconciler that has received no event of the guests so far, and reads a guest at each event."""
        self.wait_events()
        reconciler = Reconciler(self.host, self.queues.submit, self.queues.submit_if_idle, **more)
        Arrivals(self.host, reconciler.changed, lambda _seconds, look: look(), quiet=0.0)
        return reconciler

    def occupy(self, guest: FakeGuest) -> threading.Event:
        """Keep the guest busy until the returned event is set."""
        begun, end = threading.Event(), threading.Event()
        self.addCleanup(end.set)

        def gate() -> None:
            begun.set()
            end.wait(base.PATIENCE)

        self.queues.submit(guest.uuid, gate)
        self.assertTrue(begun.wait(base.PATIENCE))
        return end

    def begin_anew(self) -> None:
        """Remove all guests, and have no earlier reconciler receive events of the next ones."""
        self.fake.guests.clear()
        self.host.close()
        self.host = self.connect()

    def given(self, reconciler: Reconciler) -> int:
        return sum(len(look.report.given) for look in reconciler.statuses().values())

    def reads(self, guest: FakeGuest) -> int:
        """Return how often the saved definition was read."""
        reads = [arguments for method, arguments in self.fake.calls if method == 'XMLDesc']
        inactive = libvirt.VIR_DOMAIN_XML_INACTIVE
        return sum(1 for instance, flags in reads if instance == guest.uuid and int(str(flags)) & inactive)

    def updates(self, guest: FakeGuest) -> list[str]:
        """Return the devices that were written to the saved definition."""
        writes = [arguments for method, arguments in self.fake.calls if method == 'updateDeviceFlags']
        return [str(xml) for instance, xml, _flags in writes if instance == guest.uuid]


class PassesTestCase(PassesBase):
    def test_each_guest_once_and_a_second_pass_changes_nothing(self) -> None:
        guests = [self.guest() for _ in range(20)]
        reconciler = self.reconciler()
        reconciler.run()
        self.assertEqual(20, self.given(reconciler))
        reads = [self.reads(guest) for guest in guests]
        reconciler.run()
        # One look each, to see that nothing has changed.
        self.assertEqual([count + 1 for count in reads], [self.reads(guest) for guest in guests])
        for guest in guests:
            (update,) = self.updates(guest)
            self.assertIn(f'name="ua-{X}"', update)

    def test_what_an_inventory_says_is_kept_before_anything_is_written(self) -> None:
        """An alias that only the inventory vouches for is doubtful without it."""
        guest = self.guest(disk(f'/srv/volume-{X}', serial=''))
        kept: list[tuple[str, list[Record], int]] = []

        def keep(instance: str, records: list[Record]) -> None:
            kept.append((instance, records, len(self.updates(guest))))

        reconciler = self.reconciler(keep=keep)
        told = [Record(Y, 'disk', 'inventory', target='vda')]
        self.assertEqual([f'ua-{Y}'], reconciler.reconcile(guest.uuid, told).report.given)
        settled = [Record(Y, 'disk', 'earlier inventory', source=f'/srv/volume-{X}')]
        self.assertEqual([(guest.uuid, settled, 0)], kept)
        reconciler.reconcile(guest.uuid)
        reconciler.status(guest.uuid, told)
        self.assertEqual(1, len(kept))

    def test_an_inventory_that_cannot_be_kept_changes_nothing(self) -> None:
        guest = self.guest(disk(f'/srv/volume-{X}', serial=''))

        def keep(_instance: str, _records: list[Record]) -> None:
            raise exception.JournalError(path='journal', reason='disk full')

        reconciler = self.reconciler(keep=keep)
        told = [Record(Y, 'disk', 'inventory', target='vda')]
        self.assertRaises(exception.JournalError, reconciler.reconcile, guest.uuid, told)
        self.assertEqual([], self.updates(guest))

    def test_none_is_left_out_where_batches_meet(self) -> None:
        for count in (0, 1, 16, 17, 32):
            self.begin_anew()
            guests = [self.guest() for _ in range(count)]
            self.reconciler().run()
            self.assertEqual([1] * count, [len(self.updates(guest)) for guest in guests])

    def test_the_pass_waits_for_the_last_guests_only(self) -> None:
        waits: list[float] = []
        self.patch(apply, '_sleep', waits.append)
        self.patch(apply, '_QUIET', 0.05)
        for _guest in range(64):
            self.guest(answer=lambda: time.sleep(0.005))
        self.reconciler().run()
        self.assertEqual(64, len(waits))
        self.assertGreaterEqual(waits.count(0.0), 32)

    def test_what_has_changed_is_looked_at_again(self) -> None:
        guest = self.guest()
        reconciler = self.reconciler()
        reconciler.run()
        self.host.guest(guest.uuid).update_persistent(disk())
        self.fake.calls.clear()
        reconciler.run()
        self.assertEqual(1, len(self.updates(guest)))

    def test_an_idle_pass_reads_each_definition_once_and_nothing_else(self) -> None:
        stopped, running, transient = self.guest(), self.guest(running=True), self.transient()
        reconciler = self.reconciler()
        reconciler.run()
        self.wait_events()
        self.fake.calls.clear()
        reconciler.run()
        saved = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        expected: list[tuple[str, tuple[object, ...]]] = [
            ('XMLDesc', (stopped.uuid, saved)),
            ('XMLDesc', (running.uuid, saved)),
            ('XMLDesc', (running.uuid, 0)),
            ('XMLDesc', (transient.uuid, 0)),
            ('listAllDomains', (libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT,)),
            # Once over each connection that a guest is read over, or the guest would have to be looked up there.
            *[('listAllDomains', (0,))] * 4,
        ]
        self.assertEqual(sorted(expected, key=repr), sorted(self.fake.calls, key=repr))

    def test_after_a_lost_connection_all_are_read_again(self) -> None:
        guests = [self.guest() for _ in range(20)]
        reconciler = self.reconciler()
        reconciler.run()
        self.fake.drop_connections(down=True)
        self.wait_for(lambda: not self.host.is_connected, 'the loss')
        # The agent gets no event of this.
        changed = guests[7]
        self.fake.down = False
        other = self.fake.open()
        other.lookupByUUIDString(changed.uuid).updateDeviceFlags(disk(), libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        self.assertTrue(self.host.wait_connected(base.PATIENCE))
        self.fake.calls.clear()
        reconciler.run()
        self.assertEqual([], [guest.uuid for guest in guests if not self.reads(guest)])
        self.assertEqual([changed.uuid], [guest.uuid for guest in guests if self.updates(guest)])

    def test_a_guest_that_is_defined_anew_is_looked_at_without_a_pass(self) -> None:
        guest = self.guest()
        self.reconciler().run()
        self.wait_events()
        self.fake.calls.clear()
        self.fake.open().defineXML(domain_xml(guest.name, guest.uuid, disk()))
        self.wait_for(lambda: self.updates(guest), 'an alias')

    def test_a_guest_that_is_defined_or_starts_is_looked_at_without_a_pass(self) -> None:
        started = self.guest()
        self.reconciler()
        started.start()
        defined = self.guest()
        for guest in (started, defined):
            self.wait_for(lambda guest=guest: self.updates(guest), 'an alias')  # type: ignore[misc]

    def test_an_event_while_something_is_under_way_is_not_lost(self) -> None:
        alone = self.guest()
        self.reconciler().run()
        self.begin_anew()
        guest = self.guest()
        end = self.occupy(guest)
        self.reconciler()
        for _time in range(3):
            self.fake.emit(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, guest, libvirt.VIR_DOMAIN_EVENT_DEFINED, 0)
        self.wait_events()
        self.assertEqual(0, self.reads(guest))
        end.set()
        self.wait_for(lambda: self.queues.submit_if_idle(guest.uuid, lambda: None) is not None, 'the last look')
        # One look tells all that three events have told of.
        self.assertEqual((1, self.reads(alone)), (len(self.updates(guest)), self.reads(guest)))

    def test_one_that_nova_is_at_work_on_is_left_as_it_is(self) -> None:
        guest = self.guest()
        busy, left = {guest.uuid}, list[bool]()
        reconciler = self.reconciler(is_busy=busy.__contains__)
        reconciler.changed(guest.uuid, lambda: left.append(True))
        self.wait_for(lambda: left, 'it is left')
        self.assertEqual([], self.updates(guest))
        busy.clear()
        reconciler.changed(guest.uuid)
        self.wait_for(lambda: self.updates(guest), 'an alias')

    def test_one_that_is_being_migrated_is_left_for_the_next_pass(self) -> None:
        guest = self.guest(running=True)
        guest.migrating = True
        reconciler = self.reconciler()
        reconciler.run()
        self.assertIn('it is being migrated', reconciler.statuses()[guest.uuid].error)
        self.assertEqual([], self.updates(guest))
        guest.migrating = False
        reconciler.run()
        self.assertEqual(('', 1), (reconciler.statuses()[guest.uuid].error, len(self.updates(guest))))

    def test_what_the_running_guest_lacks_is_pending(self) -> None:
        guest = self.guest(running=True)
        reconciler = self.reconciler()
        reconciler.run()
        self.assertEqual([f'ua-{X}'], reconciler.statuses()[guest.uuid].report.pending)

    def test_no_guests(self) -> None:
        reconciler = self.reconciler()
        reconciler.run()
        self.assertEqual({}, reconciler.statuses())

    def test_a_guest_that_is_gone_is_forgotten(self) -> None:
        one, two = self.guest(), self.guest()
        reconciler = self.reconciler()
        reconciler.run()
        self.assertEqual({one.uuid, two.uuid}, set(reconciler.statuses()))
        self.fake.forget(two)
        reconciler.run()
        self.assertEqual([one.uuid], list(reconciler.statuses()))

    def test_one_that_cannot_be_looked_at_keeps_nothing_from_the_others(self) -> None:
        gone = self.guest(answer=errors.no_domain('gone'))
        unreadable = self.guest(answer=errors.internal('why'))
        self.guest(answer=KeyError('x'))
        self.guest()
        reconciler = self.reconciler()
        reconciler.run()
        self.assertEqual(1, self.given(reconciler))
        self.assertIn('why', reconciler.statuses()[unreadable.uuid].error)
        self.assertNotIn(gone.uuid, reconciler.statuses())

    def test_one_on_which_something_is_under_way_is_left_alone(self) -> None:
        busy, _idle = self.guest(), self.guest()
        self.occupy(busy)
        reconciler = self.reconciler()
        reconciler.run()
        self.assertEqual(1, self.given(reconciler))
        self.assertEqual([], self.updates(busy))

    def test_those_that_do_not_answer_hold_up_no_pass(self) -> None:
        self.patch(passes, '_GUEST_TIMEOUT', 0.2)
        begun, end = threading.Semaphore(0), threading.Event()
        self.addCleanup(end.set)

        def hang() -> None:
            begun.release()
            end.wait(base.PATIENCE)

        # One of two workers only: what takes the place of a stuck one is the queues' affair.
        hung = self.guest(answer=hang)
        for _good in range(20):
            self.guest()
        reconciler = self.reconciler()
        reconciler.run()
        self.assertTrue(begun.acquire(timeout=0))
        self.assertEqual(20, self.given(reconciler))
        self.assertEqual('no answer within 0 s', reconciler.statuses()[hung.uuid].error)
        reconciler.run()
        self.assertEqual([], self.updates(hung))
        end.set()

        def is_reconciled() -> bool:
            reconciler.run()
            return bool(self.updates(hung))

        self.wait_for(is_reconciled, 'a later pass')
        self.assertEqual(('', 1), (reconciler.statuses()[hung.uuid].error, len(self.updates(hung))))

    def test_the_hypervisor_is_not_there(self) -> None:
        reconciler = self.reconciler()
        self.fake.drop_connections(down=True)
        self.assertRaises(exception.HypervisorUnavailable, reconciler.run)

    def test_a_pass_ends_when_the_agent_stops(self) -> None:
        begun, end = threading.Semaphore(0), threading.Event()
        self.addCleanup(end.set)

        def gate() -> None:
            begun.release()
            end.wait(base.PATIENCE)

        for _guest in range(8):
            self.guest(answer=gate)
        running = threading.Thread(target=self.reconciler().run, daemon=True)
        running.start()
        for _worker in range(2):
            self.assertTrue(begun.acquire(timeout=base.PATIENCE))
        closing = threading.Thread(target=self.queues.close, daemon=True)
        closing.start()
        self.wait_for(lambda: self.queues.submit_if_idle('probe', lambda: None) is None, 'closing')
        end.set()
        closing.join(base.PATIENCE)
        running.join(base.PATIENCE)
        self.assertFalse(running.is_alive())
