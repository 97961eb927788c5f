# SPDX-License-Identifier: Apache-2.0
"""What is on its way out of a guest, and what ends it."""

import threading

import fixtures
import libvirt

from aliasagent import exception
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.fakes.libvirt import Unplug
from aliasagent.tests.ids import GUEST
from aliasagent.tests.ids import OTHER_GUEST
from aliasagent.tests.ids import VOLUME
from aliasagent.tests.unit.virt.unplugging import ALIAS
from aliasagent.tests.unit.virt.unplugging import LONG
from aliasagent.tests.unit.virt.unplugging import PATIENT
from aliasagent.tests.unit.virt.unplugging import SHORT
from aliasagent.tests.unit.virt.unplugging import UnplugTestCase
from aliasagent.virt import events
from aliasagent.virt.guest import Side
from aliasagent.virt.leaving import RetryPolicy
from aliasagent.virt.unplug import Unplugs


class EventTestCase(UnplugTestCase):
    def test_removed(self) -> None:
        future = self.start()
        self.assertFalse(future.done())
        self.go()
        self.assert_done(future)
        self.assertEqual([ALIAS], self.asked())

    def test_removed_before_the_call_returns(self) -> None:
        def go(*_arguments: object) -> None:
            self.go()
            self.wait_events()

        self.fake.after['detachDeviceAlias'] = go
        self.assert_done(self.start())

    def test_another_devices_or_guests_event_is_not_ours(self) -> None:
        future = self.start()
        self.tell_removed('ua-other')
        self.tell_removed(guest=self.other_guest)
        self.tell_refused('ua-other')
        self.tell_refused(guest=self.other_guest)
        self.tell_stopped(self.other_guest)
        for event in (
            libvirt.VIR_DOMAIN_EVENT_SUSPENDED,
            libvirt.VIR_DOMAIN_EVENT_RESUMED,
            libvirt.VIR_DOMAIN_EVENT_DEFINED,
        ):
            self.tell_lifecycle(event)
        self.assertFalse(future.done())
        self.go()
        self.assert_done(future)

    def test_refused_is_final(self) -> None:
        future = self.start()
        self.tell_refused()
        self.assert_failed(future, exception.DetachFailed, 'refused', VOLUME, 'still in the running guest')
        self.assertEqual(1, len(self.asked()))

    def test_refused_before_the_call_returns(self) -> None:
        self.fake.after['detachDeviceAlias'] = lambda *_arguments: self.tell_refused()
        self.assert_failed(self.start(), exception.DetachFailed)

    def test_an_event_alone_proves_nothing(self) -> None:
        """It may be of an earlier device of this alias, or another client may have put the device back."""
        future = self.start()
        for tell in (self.tell_removed, self.tell_stopped):
            reads = self.fake.count('XMLDesc')
            tell()
            self.wait_for(lambda: self.fake.count('XMLDesc') > reads, 'the guest is read')  # noqa: B023
            self.assertFalse(future.done())
        self.plug(self.guest, side=Side.PERSISTENT)
        self.go()
        self.assert_failed(future, exception.DetachFailed, 'put it into the persistent config again')

    def test_asked_twice_it_is_one_unplug(self) -> None:
        first, second = self.start(), self.start()
        self.assertIs(first, second)
        self.assertEqual(1, len(self.asked()))
        self.go()
        self.assert_done(first)

    def test_after_its_end_it_can_be_asked_for_again(self) -> None:
        first = self.start()
        self.tell_refused()
        self.assert_failed(first, exception.DetachFailed)
        second = self.start()
        self.assertIsNot(first, second)
        self.go()
        self.assert_done(second)

    def test_two_devices_of_one_guest(self) -> None:
        self.plug(self.guest, 'ua-other')
        one, other = self.start(), self.start(alias='ua-other')
        self.go('ua-other')
        self.assert_done(other)
        self.assertFalse(one.done())

    def test_events_from_many_threads_end_it_once(self) -> None:
        for _round in range(20):
            future = self.start()
            threads = [
                threading.Thread(target=self.unplugs._on_event, args=(event(GUEST, ALIAS),))
                for event in (events.DeviceRemoved, events.DeviceRemovalFailed) * 2
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertIsInstance(future.exception(base.PATIENCE), exception.DetachFailed)


class DeadlineTestCase(UnplugTestCase):
    def test_a_guest_that_never_answers(self) -> None:
        error = self.assert_failed(self.start(SHORT), exception.DetachTimeout, VOLUME, '3 attempts', '0.1 s')
        self.assertTrue(error.retryable)
        self.assertEqual(3, len(self.asked()))

    def test_a_single_attempt(self) -> None:
        self.assert_failed(self.start(RetryPolicy(SHORT.timeout, 1)), exception.DetachTimeout)
        self.assertEqual(1, len(self.asked()))

    def test_an_event_that_was_lost_is_made_up_for_by_looking(self) -> None:
        future = self.start(SHORT)
        self.vanish()
        self.assert_done(future)

    def test_asked_again_it_goes(self) -> None:
        self.guest.unplug = Unplug(lost=1)
        self.assert_done(self.start(PATIENT))
        self.assertEqual(2, len(self.asked()))

    def test_already_on_its_way_is_waited_for(self) -> None:
        self.guest.unplug.already = True
        by_another_client = self.host.guest(GUEST)
        by_another_client.detach(ALIAS, Side.LIVE)
        future = self.start(LONG)
        self.assertFalse(future.done())
        self.go()
        self.assert_done(future)
        self.plug(self.guest)
        by_another_client.detach(ALIAS, Side.LIVE)
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)

    def test_a_busy_guest_is_asked_again_soon(self) -> None:
        self.useFixture(fixtures.MonkeyPatch('aliasagent.virt.leaving.PAUSE', 0.01))
        self.guest.unplug = Unplug(busy=2)
        # Within one attempt: the guest was not asked yet.
        self.assert_done(self.start(RetryPolicy(timeout=3600, attempts=1)))
        self.assertEqual(3, len(self.asked()))

    def test_a_guest_that_is_busy_for_ever(self) -> None:
        self.guest.unplug.busy = 1000
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)

    def test_an_unplug_that_has_ended_leaves_no_deadline(self) -> None:
        future = self.start(SHORT)
        self.go()
        self.assert_done(future)
        threading.Event().wait(SHORT.timeout * 2)
        self.assertEqual(1, len(self.asked()))

    def test_a_slow_guest_holds_up_nobody(self) -> None:
        threads = threading.active_count()
        slow = [f'{GUEST[:-2]}{number}' for number in range(10, 74)]
        for uuid in slow:
            self.add_guest(uuid)
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
        self.tell_removed()
        self.assertEqual(1, len(self.late))

    def test_a_device_that_goes_though_the_guest_had_refused(self) -> None:
        future = self.start()
        self.tell_refused()
        self.assert_failed(future, exception.DetachFailed)
        self.go()
        self.wait_late()

    def test_the_guest_that_stops_after_the_last_deadline_takes_the_device_with_it(self) -> None:
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)
        self.other_guest.power_off()
        self.wait_events()
        self.assertEqual([], self.late)
        self.guest.power_off()
        self.wait_late()

    def test_the_guest_that_moves_or_is_saved_does_not(self) -> None:
        for stop in (self.move, lambda: self.save(self.guest)):
            self.assert_failed(self.start(SHORT), exception.DetachTimeout)
            stop()
            self.wait_events()
            self.guest.start()
            self.plug(self.guest)
        self.unplugs.close()
        self.assertEqual([], self.late)

    def test_what_went_in_time_is_not_late(self) -> None:
        self.assert_done_by_event()
        self.tell_removed()
        self.guest.power_off()
        self.wait_events()
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
        self.wait_for(lambda: self.fake.count('XMLDesc'), 'the guest is read')
        self.assertEqual(([], []), (self.late, self.asked()))
        self.go()
        self.wait_late()

    def test_one_that_went_while_no_process_was_there(self) -> None:
        self.vanish()
        self.unplugs.watch(GUEST, VOLUME, self.found(), True)
        self.wait_for(lambda: self.late, 'seen to be gone')
        self.assertEqual([(GUEST, VOLUME)], self.late)

    def test_one_whose_guest_stopped_while_no_process_was_there(self) -> None:
        self.guest.power_off()
        self.save(self.other_guest)
        self.wait_events()
        self.unplugs.watch(GUEST, VOLUME, self.found(), True)
        self.wait_for(lambda: self.late, 'seen to be gone')
        self.unplugs.watch(OTHER_GUEST, VOLUME, self.found(OTHER_GUEST), True)
        self.unplugs.watch(ids.new_id(), VOLUME, self.found(), True)
        self.wait_for(lambda: ('state', (OTHER_GUEST,)) in self.fake.calls, 'the saved guest is read')
        self.unplugs.close()
        self.assertEqual([(GUEST, VOLUME)], self.late)

    def refuse(self, device_id: str = VOLUME) -> None:
        self.unplugs.refuse_if_leaving(GUEST, device_id, self.live(self.guest))

    def test_what_may_go_at_any_moment_is_not_attached(self) -> None:
        self.refuse()
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)
        self.assertRaises(exception.GuestBusy, self.refuse)
        self.refuse('another')
        self.go()
        self.refuse()

    def test_nor_is_what_an_earlier_process_asked_for(self) -> None:
        self.unplugs.watch(GUEST, VOLUME, self.found(), True)
        self.wait_looked()
        self.assertRaises(exception.GuestBusy, self.refuse)
        self.guest.need_live().set('id', '1000')
        self.refuse()  # that request has ended with the run that was asked

    def test_nor_is_what_another_run_was_asked_for(self) -> None:
        self.plug(self.guest, side=Side.PERSISTENT)
        self.unplugs.watch(GUEST, VOLUME, self.found(), True)
        self.guest.destroy()
        self.guest.start()
        self.wait_events()
        self.wait_looked()
        self.assertIsNotNone(self.unplugs.asked(GUEST, VOLUME))
        self.refuse()

    def test_what_was_refused_can_be_attached_again_and_is_not_late_then(self) -> None:
        future = self.start()
        self.tell_refused()
        self.assert_failed(future, exception.DetachFailed)
        self.refuse()
        self.unplugs.forget(GUEST, VOLUME)
        self.guest.power_off()
        self.wait_events()
        self.unplugs.close()
        self.assertEqual([], self.late)

    def test_a_detach_that_was_refused_does_not_answer_an_earlier_one(self) -> None:
        """The guest may still let go of the device, though a later request was refused."""
        self.unplugs.watch(GUEST, VOLUME, self.found(), True)
        self.unplugs.watch(GUEST, VOLUME, self.found(), False)
        self.assertRaises(exception.GuestBusy, self.refuse)

    def test_a_device_that_was_put_back_is_not_gone(self) -> None:
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)
        self.plug(self.guest, side=Side.PERSISTENT)
        self.go()
        self.guest.power_off()
        self.wait_events()
        self.unplugs.close()
        self.assertEqual([], self.late)

    def test_a_guest_of_which_libvirt_does_not_say_how_it_stopped_may_have_the_device(self) -> None:
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)
        self.guest.stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED, libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN)
        self.wait_events()
        self.unplugs.close()
        self.assertEqual([], self.late)

    def test_a_listener_that_fails_keeps_nothing_from_its_end(self) -> None:
        def fail(_instance: str, _device: str) -> None:
            raise ValueError('a defect')

        unplugs = Unplugs(self.host, on_late=fail)
        self.addCleanup(unplugs.close)
        self.assert_failed(unplugs.start(GUEST, VOLUME, self.found(), SHORT), exception.DetachTimeout)
        self.go()
        self.wait_for(lambda: 'could not be followed' in self.log.output, 'the failure is logged')
        self.plug(self.guest)
        future = unplugs.start(GUEST, VOLUME, self.found(), LONG)
        self.go()
        self.assert_done(future)
