# SPDX-License-Identifier: Apache-2.0
"""What is on its way out, and what ends it."""

import threading
from concurrent import futures

from aliasagent import exception
from aliasagent.tests import base
from aliasagent.tests.unit.virt import stubs
from aliasagent.virt import errors
from aliasagent.virt import events
from aliasagent.virt.unplug import Patience
from aliasagent.virt.unplug import Unplugs

GUEST = '5a7fd1f2-61c5-4a3e-9d6f-0f7a4f1b2c01'
OTHER = '5a7fd1f2-61c5-4a3e-9d6f-0f7a4f1b2c02'
VOLUME = '7d3c2b9e-54f5-4b1e-8f0f-2a6c1d7e9b10'
ALIAS = f'ua-{VOLUME}'

#: A guest that is asked once, and has all the time.
LONG = Patience(timeout=3600, attempts=8)
SHORT = Patience(timeout=0.02, attempts=3)

_UNREADABLE = exception.GuestUnreadable(instance=GUEST, reason='x')
_REFUSED = exception.HypervisorError(action='detach', reason='no device found with alias x')
_AWAY = exception.HypervisorUnavailable(reason='gone')


class UnplugTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = stubs.StubHost()
        for uuid in (GUEST, OTHER):
            self.host.guests[uuid] = stubs.StubGuest(uuid)
            self.host.guests[uuid].aliases.add(ALIAS)
        self.guest = self.host.guests[GUEST]
        self.late: list[tuple[str, str]] = []
        self.unplugs = Unplugs(self.host, on_late=lambda *who: self.late.append(who))  # type: ignore[arg-type]
        self.addCleanup(self.unplugs.close)

    def start(self, patience: Patience = LONG, alias: str = ALIAS, instance: str = GUEST) -> 'futures.Future[None]':
        return self.unplugs.start(instance, alias, VOLUME, patience)

    def go(self, alias: str = ALIAS) -> None:
        """The guest lets go of a device."""
        self.guest.aliases.discard(alias)
        self.host.tell(events.DeviceRemoved(GUEST, alias))

    def assert_done(self, future: 'futures.Future[None]') -> None:
        self.assertIsNone(future.result(base.PATIENCE))

    def assert_failed(
        self, future: 'futures.Future[None]', kind: type[exception.AliasAgentError], *words: str
    ) -> exception.AliasAgentError:
        error = future.exception(base.PATIENCE)
        self.assertIs(kind, type(error), error)
        for word in words:
            self.assertIn(word, str(error))
        assert isinstance(error, exception.AliasAgentError)
        return error

    def stopped(self, cause: events.Cause = events.Cause.OTHER, instance: str = GUEST) -> None:
        self.host.tell(events.LifecycleChanged(instance, events.Lifecycle.STOPPED, cause))


class EventTestCase(UnplugTestCase):
    def test_removed(self) -> None:
        future = self.start()
        self.assertFalse(future.done())
        self.go()
        self.assert_done(future)
        self.assertEqual([ALIAS], self.guest.detaches)

    def test_removed_before_the_call_returns(self) -> None:
        self.guest.on_detach = [self.go]
        self.assert_done(self.start())

    def test_another_devices_or_guests_event_is_not_ours(self) -> None:
        future = self.start()
        for event in (
            events.DeviceRemoved(GUEST, 'ua-other'),
            events.DeviceRemoved(OTHER, ALIAS),
            events.DeviceRemovalFailed(GUEST, 'ua-other'),
            events.DeviceRemovalFailed(OTHER, ALIAS),
            events.LifecycleChanged(OTHER, events.Lifecycle.STOPPED),
            events.LifecycleChanged(GUEST, events.Lifecycle.SUSPENDED),
            events.LifecycleChanged(GUEST, events.Lifecycle.RESUMED),
            events.LifecycleChanged(GUEST, events.Lifecycle.DEFINED),
        ):
            self.host.tell(event)
        self.assertFalse(future.done())
        self.go()
        self.assert_done(future)

    def test_refused_is_final(self) -> None:
        future = self.start()
        self.host.tell(events.DeviceRemovalFailed(GUEST, ALIAS))
        self.assert_failed(future, exception.DetachFailed, 'refused', VOLUME, 'still in the running guest')
        self.assertEqual(1, len(self.guest.detaches))

    def test_refused_before_the_call_returns(self) -> None:
        self.guest.on_detach = [lambda: self.host.tell(events.DeviceRemovalFailed(GUEST, ALIAS))]
        self.assert_failed(self.start(), exception.DetachFailed)

    def test_asked_twice_it_is_one_unplug(self) -> None:
        first, second = self.start(), self.start()
        self.assertIs(first, second)
        self.assertEqual(1, len(self.guest.detaches))
        self.go()
        self.assert_done(first)

    def test_after_its_end_it_can_be_asked_for_again(self) -> None:
        first = self.start()
        self.host.tell(events.DeviceRemovalFailed(GUEST, ALIAS))
        second = self.start()
        self.assertIsNot(first, second)
        self.go()
        self.assert_done(second)

    def test_two_devices_of_one_guest(self) -> None:
        self.guest.aliases.add('ua-other')
        one, other = self.start(), self.start(alias='ua-other')
        self.go('ua-other')
        self.assert_done(other)
        self.assertFalse(one.done())

    def test_events_from_many_threads_end_it_once(self) -> None:
        for _round in range(20):
            future = self.start()
            threads = [
                threading.Thread(target=self.host.tell, args=(event(GUEST, ALIAS),))
                for event in (events.DeviceRemoved, events.DeviceRemovalFailed) * 2
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertTrue(future.done())


class DeadlineTestCase(UnplugTestCase):
    def test_a_guest_that_never_answers(self) -> None:
        error = self.assert_failed(self.start(SHORT), exception.DetachTimeout, VOLUME, '3 attempts', '0.02 s')
        self.assertTrue(error.retryable)
        self.assertEqual(3, len(self.guest.detaches))

    def test_a_single_attempt(self) -> None:
        self.assert_failed(self.start(Patience(0.02, 1)), exception.DetachTimeout)
        self.assertEqual(1, len(self.guest.detaches))

    def test_an_event_that_was_lost_is_made_up_for_by_looking(self) -> None:
        future = self.start(SHORT)
        self.guest.aliases.clear()
        self.assert_done(future)

    def test_asked_again_it_goes(self) -> None:
        def second() -> None:
            if len(self.guest.detaches) == 2:
                self.go()

        self.guest.on_detach = [second]
        self.assert_done(self.start(Patience(0.02, 50)))
        self.assertEqual(2, len(self.guest.detaches))

    def test_already_on_its_way_is_waited_for(self) -> None:
        self.guest.on_detach = [errors.UnplugPending(action='detach', reason='already in the process of unplug')]
        future = self.start(LONG)
        self.assertFalse(future.done())
        self.go()
        self.assert_done(future)
        again = self.start(SHORT)
        self.guest.aliases.add(ALIAS)
        self.assert_failed(again, exception.DetachTimeout)

    def test_a_busy_guest_is_asked_again_soon(self) -> None:
        busy = errors.UnplugBusy(action='detach', reason='guest is busy')
        self.guest.on_detach = [busy, busy, self.go]
        # Within one attempt: the guest was not asked yet.
        self.assert_done(self.start(Patience(timeout=3600, attempts=1)))
        self.assertEqual(3, len(self.guest.detaches))

    def test_a_guest_that_is_busy_for_ever(self) -> None:
        self.guest.on_detach = [errors.UnplugBusy(action='detach', reason='guest is busy')]
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)

    def test_an_unplug_that_has_ended_leaves_no_deadline(self) -> None:
        future = self.start(SHORT)
        self.go()
        self.assert_done(future)
        threading.Event().wait(0.1)
        self.assertEqual(1, len(self.guest.detaches))

    def test_a_slow_guest_holds_up_nobody(self) -> None:
        threads = threading.active_count()
        slow = [f'{GUEST[:-2]}{number}' for number in range(10, 74)]
        for uuid in slow:
            self.host.guests[uuid] = stubs.StubGuest(uuid)
            self.host.guests[uuid].aliases.add(ALIAS)
        waiting = [self.start(instance=uuid) for uuid in slow]
        self.assertLess(threading.active_count(), threads + 10)
        future = self.start()
        self.go()
        self.assert_done(future)
        self.assertFalse(any(each.done() for each in waiting))


class LateTestCase(UnplugTestCase):
    def test_a_device_that_goes_after_the_last_deadline(self) -> None:
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)
        self.assertEqual([], self.late)
        self.go()
        self.assertEqual([(GUEST, VOLUME)], self.late)
        self.host.tell(events.DeviceRemoved(GUEST, ALIAS))
        self.assertEqual(1, len(self.late))

    def test_a_device_that_goes_though_the_guest_had_refused(self) -> None:
        future = self.start()
        self.host.tell(events.DeviceRemovalFailed(GUEST, ALIAS))
        self.assert_failed(future, exception.DetachFailed)
        self.go()
        self.assertEqual([(GUEST, VOLUME)], self.late)

    def test_the_guest_that_stops_after_the_last_deadline_takes_the_device_with_it(self) -> None:
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)
        self.stopped(instance=OTHER)
        self.assertEqual([], self.late)
        self.stopped()
        self.assertEqual([(GUEST, VOLUME)], self.late)

    def test_the_guest_that_moves_or_is_saved_does_not(self) -> None:
        for cause in (events.Cause.MIGRATED, events.Cause.SAVED):
            self.assert_failed(self.start(SHORT), exception.DetachTimeout)
            self.stopped(cause)
            self.stopped()
        self.assertEqual([], self.late)

    def test_what_went_in_time_is_not_late(self) -> None:
        self.assert_done_by_event()
        self.host.tell(events.DeviceRemoved(GUEST, ALIAS))
        self.stopped()
        self.assertEqual([], self.late)

    def assert_done_by_event(self) -> None:
        future = self.start()
        self.go()
        self.assert_done(future)

    def test_asked_for_again_it_is_no_longer_late(self) -> None:
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)
        self.assert_done_by_event()
        self.assertEqual([], self.late)

    def test_a_listener_that_fails_keeps_nothing_from_its_end(self) -> None:
        def fail(_instance: str, _device: str) -> None:
            raise ValueError('a defect')

        host = stubs.StubHost()
        host.guests[GUEST] = self.guest
        unplugs = Unplugs(host, on_late=fail)  # type: ignore[arg-type]
        self.addCleanup(unplugs.close)
        self.assert_failed(unplugs.start(GUEST, ALIAS, VOLUME, SHORT), exception.DetachTimeout)
        self.assertRaises(ValueError, host.tell, events.DeviceRemoved(GUEST, ALIAS))
        future = unplugs.start(GUEST, ALIAS, VOLUME, LONG)
        host.tell(events.DeviceRemoved(GUEST, ALIAS))
        self.assert_done(future)


class GuestTestCase(UnplugTestCase):
    """What becomes of the guest meanwhile."""

    def test_stopped(self) -> None:
        future = self.start()
        self.stopped()
        self.assert_done(future)

    def test_stopped_between_the_look_and_the_call(self) -> None:
        self.guest.running = False
        self.guest.on_detach = [errors.InvalidOperation(action='detach', reason='domain is not running')]
        self.assert_done(self.start())

    def test_moved_to_another_host(self) -> None:
        future = self.start()
        self.stopped(events.Cause.MIGRATED)
        self.assert_failed(future, exception.DetachFailed, 'another host')

    def test_saved(self) -> None:
        future = self.start()
        self.stopped(events.Cause.SAVED)
        self.assert_failed(future, exception.DetachFailed, 'saved')

    def test_rebooted_without_it(self) -> None:
        future = self.start()
        self.guest.aliases.clear()
        self.host.tell(events.LifecycleChanged(GUEST, events.Lifecycle.REBOOTED))
        self.assert_done(future)

    def test_rebooted_with_it_the_guest_is_asked_again(self) -> None:
        future = self.start(Patience(timeout=3600, attempts=1))
        self.host.tell(events.LifecycleChanged(GUEST, events.Lifecycle.REBOOTED))
        self.wait_for(lambda: len(self.guest.detaches) == 2, 'asked again')
        self.assertFalse(future.done())
        self.go()
        self.assert_done(future)

    def test_started_anew_it_is_asked_again(self) -> None:
        future = self.start()
        self.host.tell(events.LifecycleChanged(GUEST, events.Lifecycle.STARTED))
        self.wait_for(lambda: len(self.guest.detaches) == 2, 'asked again')
        self.go()
        self.assert_done(future)

    def test_it_is_not_there(self) -> None:
        del self.host.guests[GUEST]
        self.assert_failed(self.start(), exception.InstanceNotFound)

    def test_it_goes_away_before_the_next_look(self) -> None:
        future = self.start(SHORT)
        del self.host.guests[GUEST]
        self.assert_failed(future, exception.InstanceNotFound)


class ErrorTestCase(UnplugTestCase):
    """What libvirt says to the call, and to the look after it."""

    def test_unsupported(self) -> None:
        self.guest.on_detach = [exception.Unsupported(what='detach', reason='x')]
        self.assert_failed(self.start(), exception.Unsupported)
        self.assertEqual(1, len(self.guest.detaches))

    def test_refused_and_the_device_is_there(self) -> None:
        self.guest.on_detach = [_REFUSED]
        self.assert_failed(self.start(), exception.DetachFailed, 'no device found')

    def test_refused_and_the_device_is_gone(self) -> None:
        self.guest.on_detach = [_REFUSED]
        self.guest.aliases.clear()
        self.assert_done(self.start())

    def test_refused_and_the_guest_is_gone(self) -> None:
        def refuse() -> None:
            del self.host.guests[GUEST]
            raise _REFUSED

        self.guest.on_detach = [refuse]
        self.assert_failed(self.start(), exception.InstanceNotFound)

    def test_refused_and_the_guest_cannot_be_read_at_first(self) -> None:
        self.guest.on_detach = [_REFUSED]
        self.guest.on_look = [_UNREADABLE, None]
        self.assert_failed(self.start(SHORT), exception.DetachFailed, 'no device found')

    def test_refused_and_the_guest_cannot_be_read_at_first_and_it_is_gone(self) -> None:
        self.guest.on_detach = [_REFUSED]
        self.guest.on_look = [_UNREADABLE, None]
        self.guest.aliases.clear()
        self.assert_done(self.start(SHORT))

    def test_refused_and_the_hypervisor_goes_away(self) -> None:
        self.guest.on_detach = [_REFUSED]
        self.guest.on_look = [_AWAY]
        self.assert_failed(self.start(SHORT), exception.HypervisorUnavailable)

    def test_it_can_never_be_read(self) -> None:
        self.guest.on_look = [_UNREADABLE]
        self.assert_failed(self.start(SHORT), exception.GuestUnreadable)

    def test_it_cannot_be_read_for_a_while(self) -> None:
        self.guest.on_look = [_UNREADABLE, None]
        self.guest.aliases.clear()
        self.assert_done(self.start(SHORT))

    def test_a_defect_ends_it(self) -> None:
        self.guest.on_look = [KeyError('x')]
        self.assert_failed(self.start(SHORT), exception.DetachFailed)

    def test_a_defect_at_the_start_leaves_nothing_behind(self) -> None:
        self.guest.on_detach = [KeyError('x')]
        self.assert_failed(self.start(), exception.DetachFailed)
        self.guest.on_detach = []
        future = self.start()
        self.assertEqual(2, len(self.guest.detaches))
        self.go()
        self.assert_done(future)


class HypervisorTestCase(UnplugTestCase):
    def test_away_at_the_start_and_back(self) -> None:
        self.host.down = _AWAY
        future = self.start()
        self.assertFalse(future.done())
        self.host.down = None
        self.host.tell(events.Reconnected())
        self.wait_for(lambda: self.guest.detaches, 'asked once it is back')
        self.go()
        self.assert_done(future)

    def test_the_device_went_while_nobody_was_connected(self) -> None:
        future = self.start()
        self.guest.aliases.clear()
        self.host.tell(events.Reconnected())
        self.assert_done(future)

    def test_the_guest_went_while_nobody_was_connected(self) -> None:
        future = self.start()
        self.guest.running = False
        self.host.tell(events.Reconnected())
        self.assert_done(future)

    def test_never_back(self) -> None:
        self.host.down = _AWAY
        self.assert_failed(self.start(SHORT), exception.HypervisorUnavailable)

    def test_the_device_is_asked_for_again_after_a_reconnect(self) -> None:
        future = self.start(Patience(timeout=3600, attempts=1))
        self.host.tell(events.Reconnected())
        self.wait_for(lambda: len(self.guest.detaches) == 2, 'asked again')
        self.assertFalse(future.done())


class CloseTestCase(UnplugTestCase):
    def test_what_is_pending_stays_so(self) -> None:
        """Its end is not known; after the restart it is taken up again."""
        future = self.start(SHORT)
        self.unplugs.close()
        self.go()
        self.stopped()
        self.host.tell(events.Reconnected())
        threading.Event().wait(0.1)
        self.assertFalse(future.done())

    def test_twice(self) -> None:
        self.unplugs.close()
        self.unplugs.close()
