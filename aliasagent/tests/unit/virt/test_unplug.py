# SPDX-License-Identifier: Apache-2.0
"""What is on its way out of a guest, and what ends it."""

import threading

import fixtures

from aliasagent import exception
from aliasagent.tests import base
from aliasagent.tests.ids import GUEST
from aliasagent.tests.ids import OTHER_GUEST
from aliasagent.tests.ids import VOLUME
from aliasagent.tests.unit.virt import stubs
from aliasagent.tests.unit.virt.unplugging import ALIAS
from aliasagent.tests.unit.virt.unplugging import LONG
from aliasagent.tests.unit.virt.unplugging import SHORT
from aliasagent.tests.unit.virt.unplugging import UnplugTestCase
from aliasagent.virt import errors
from aliasagent.virt import events
from aliasagent.virt.leaving import Patience
from aliasagent.virt.unplug import Unplugs


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
            events.DeviceRemoved(OTHER_GUEST, ALIAS),
            events.DeviceRemovalFailed(GUEST, 'ua-other'),
            events.DeviceRemovalFailed(OTHER_GUEST, ALIAS),
            events.LifecycleChanged(OTHER_GUEST, events.Lifecycle.STOPPED),
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

    def test_an_event_alone_proves_nothing(self) -> None:
        """It may be of an earlier device of this alias, or another client may have put the device back."""
        future = self.start()
        for event in (events.DeviceRemoved(GUEST, ALIAS), events.LifecycleChanged(GUEST, events.Lifecycle.STOPPED)):
            looks = self.guest.looks
            self.host.tell(event)
            self.wait_for(lambda: self.guest.looks > looks, 'the guest is looked at')  # noqa: B023
            self.assertFalse(future.done())
        self.guest.persistent.add(ALIAS)
        self.go()
        self.assert_failed(future, exception.DetachFailed, 'put it into the persistent config again')

    def test_asked_twice_it_is_one_unplug(self) -> None:
        first, second = self.start(), self.start()
        self.assertIs(first, second)
        self.assertEqual(1, len(self.guest.detaches))
        self.go()
        self.assert_done(first)

    def test_after_its_end_it_can_be_asked_for_again(self) -> None:
        first = self.start()
        self.host.tell(events.DeviceRemovalFailed(GUEST, ALIAS))
        self.assert_failed(first, exception.DetachFailed)
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
            self.assertIsInstance(future.exception(base.PATIENCE), exception.DetachFailed)


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
        self.useFixture(fixtures.MonkeyPatch('aliasagent.virt.leaving.PAUSE', 0.01))
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
    def wait_late(self) -> None:
        self.wait_for(lambda: self.late, 'it is late')
        self.assertEqual([(GUEST, VOLUME)], self.late)

    def test_a_device_that_goes_after_the_last_deadline(self) -> None:
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)
        self.assertEqual([], self.late)
        self.go()
        self.wait_late()
        self.host.tell(events.DeviceRemoved(GUEST, ALIAS))
        self.assertEqual(1, len(self.late))

    def test_a_device_that_goes_though_the_guest_had_refused(self) -> None:
        future = self.start()
        self.host.tell(events.DeviceRemovalFailed(GUEST, ALIAS))
        self.assert_failed(future, exception.DetachFailed)
        self.go()
        self.wait_late()

    def test_the_guest_that_stops_after_the_last_deadline_takes_the_device_with_it(self) -> None:
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)
        self.stopped(instance=OTHER_GUEST)
        self.assertEqual([], self.late)
        self.guest.running = False
        self.stopped()
        self.wait_late()

    def test_the_guest_that_moves_or_is_saved_does_not(self) -> None:
        for cause in (events.Cause.MIGRATED, events.Cause.SAVED):
            self.assert_failed(self.start(SHORT), exception.DetachTimeout)
            self.guest.running = False
            self.stopped(cause)
            self.guest.running = True
        self.unplugs.close()
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

    def test_one_that_an_earlier_process_gave_up(self) -> None:
        self.unplugs.watch(GUEST, VOLUME, self.found(), True)
        self.wait_for(lambda: self.guest.looks, 'looked at')
        self.assertEqual(([], []), (self.late, self.guest.detaches))
        self.go()
        self.wait_late()

    def test_one_that_went_while_no_process_was_there(self) -> None:
        self.guest.aliases.clear()
        self.unplugs.watch(GUEST, VOLUME, self.found(), True)
        self.wait_for(lambda: self.late, 'seen to be gone')
        self.assertEqual([(GUEST, VOLUME)], self.late)

    def test_one_whose_guest_stopped_while_no_process_was_there(self) -> None:
        self.guest.running = False
        self.unplugs.watch(GUEST, VOLUME, self.found(), True)
        self.wait_for(lambda: self.late, 'seen to be gone')
        self.host.guests[OTHER_GUEST].running = False
        self.host.guests[OTHER_GUEST].cause = events.Cause.SAVED
        self.unplugs.watch(OTHER_GUEST, VOLUME, self.found(OTHER_GUEST), True)
        self.unplugs.watch('nobody', VOLUME, self.found('nobody'), True)
        self.unplugs.close()
        self.assertEqual([(GUEST, VOLUME)], self.late)

    def refuse(self, device_id: str = VOLUME) -> None:
        self.unplugs.refuse_if_leaving(GUEST, device_id, self.guest.live)

    def test_what_may_go_at_any_moment_is_not_attached(self) -> None:
        self.refuse()
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)
        self.assertRaises(exception.GuestBusy, self.refuse)
        self.refuse('another')
        self.go()
        self.refuse()

    def test_nor_is_what_an_earlier_process_asked_for(self) -> None:
        self.unplugs.watch(GUEST, VOLUME, self.found(), True)
        self.assertRaises(exception.GuestBusy, self.refuse)
        self.guest.run = 2
        self.refuse()  # that request has ended with the run that was asked

    def test_what_was_refused_can_be_attached_again_and_is_not_late_then(self) -> None:
        future = self.start()
        self.host.tell(events.DeviceRemovalFailed(GUEST, ALIAS))
        self.assert_failed(future, exception.DetachFailed)
        self.refuse()
        self.unplugs.forget(GUEST, VOLUME)
        self.guest.running = False
        self.stopped()
        self.unplugs.close()
        self.assertEqual([], self.late)

    def test_a_detach_that_was_refused_does_not_answer_an_earlier_one(self) -> None:
        """The guest may still let go of the device, though a later request was refused."""
        self.unplugs.watch(GUEST, VOLUME, self.found(), True)
        self.unplugs.watch(GUEST, VOLUME, self.found(), False)
        self.assertRaises(exception.GuestBusy, self.refuse)

    def test_a_device_that_was_put_back_is_not_gone(self) -> None:
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)
        self.guest.persistent.add(ALIAS)
        self.go()
        self.guest.running = False
        self.stopped()
        self.unplugs.close()
        self.assertEqual([], self.late)

    def test_a_guest_of_which_libvirt_does_not_say_how_it_stopped_may_have_the_device(self) -> None:
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)
        self.guest.running = False
        self.stopped(events.Cause.UNKNOWN)
        self.unplugs.close()
        self.assertEqual([], self.late)

    def test_a_listener_that_fails_keeps_nothing_from_its_end(self) -> None:
        def fail(_instance: str, _device: str) -> None:
            raise ValueError('a defect')

        host = stubs.StubHost()
        host.guests[GUEST] = self.guest
        unplugs = Unplugs(host, on_late=fail)  # type: ignore[arg-type]
        self.addCleanup(unplugs.close)
        self.assert_failed(unplugs.start(GUEST, VOLUME, self.found(), SHORT), exception.DetachTimeout)
        self.guest.aliases.clear()
        host.tell(events.DeviceRemoved(GUEST, ALIAS))
        self.wait_for(lambda: 'could not be followed' in self.log.output, 'the failure is logged')
        self.guest.aliases.add(ALIAS)
        future = unplugs.start(GUEST, VOLUME, self.found(), LONG)
        self.guest.aliases.clear()
        host.tell(events.DeviceRemoved(GUEST, ALIAS))
        self.assert_done(future)
