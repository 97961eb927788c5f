# SPDX-License-Identifier: Apache-2.0
"""Guests that misbehave in ways that a real one cannot be made to at will."""

import threading
import time
from concurrent import futures

from aliasagent import exception
from aliasagent.operations.queues import GuestQueues
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.functional import test_contract_driver
from aliasagent.virt import events
from aliasagent.virt.leaving import RetryPolicy


def _is_start(event: events.Event) -> bool:
    return isinstance(event, events.LifecycleChanged) and event.lifecycle is events.Lifecycle.STARTED


class UnplugTest(test_contract_driver.OnFake):
    def setUp(self) -> None:
        super().setUp()
        self.retry_policy = RetryPolicy(timeout=0.1, attempts=3)
        # What is told of the guest's start must not come in between: it would have it asked once more.
        started = threading.Event()
        self.host.subscribe(lambda event: started.set() if _is_start(event) else None)
        self.guest = self.hypervisor.new_guest()
        self.assertTrue(started.wait(harness.SOON))
        self.behaviour = self.side.fake.guests[self.guest].unplug
        self.volume = self.attach(self.guest, bus='virtio')

    def requests(self) -> int:
        """How often the running guest was asked."""
        return sum(
            1 for name, arguments in self.side.fake.calls if name == 'detachDeviceAlias' and 1 in arguments
        )

    def test_a_request_that_is_lost_is_made_again(self) -> None:
        self.behaviour.lost = 2
        self.detach(self.guest, self.volume)
        self.assertEqual(3, self.requests())
        self.assert_on_both(self.guest)

    def test_no_more_requests_than_attempts(self) -> None:
        self.behaviour.never = True
        self.assertRaises(exception.DetachTimeout, self.detach, self.guest, self.volume)
        self.assertEqual(3, self.requests())

    def test_a_busy_guest_is_waited_out(self) -> None:
        self.behaviour.busy = 2
        self.detach(self.guest, self.volume)
        self.assert_on_both(self.guest)

    def test_a_guest_that_says_it_is_at_it_is_waited_for(self) -> None:
        self.behaviour.already = True
        self.behaviour.delay = 0.15
        self.detach(self.guest, self.volume)
        self.assert_on_both(self.guest)

    def test_a_refusal_is_final(self) -> None:
        self.behaviour.refuse = 1
        error = self.assertRaises(exception.DetachFailed, self.detach, self.guest, self.volume)
        self.assertNotIsInstance(error, exception.DetachTimeout)
        self.assertIn('refused', str(error))
        self.assertEqual(1, self.requests())
        self.assertEqual(({self.volume}, set()), self.ids(self.guest))

    def test_a_device_that_goes_without_a_word_is_seen_to_be_gone(self) -> None:
        self.behaviour.event_lost = True
        self.detach(self.guest, self.volume)
        self.assertEqual(1, self.requests())
        self.assert_on_both(self.guest)

    def test_an_event_that_comes_late_is_not_waited_for_if_the_device_is_seen_to_be_gone(self) -> None:
        self.behaviour.event_delay = 5
        self.detach(self.guest, self.volume)
        self.assert_on_both(self.guest)

    def test_a_crashed_guest_that_is_kept_has_its_devices(self) -> None:
        self.retry_policy = RetryPolicy(timeout=60, attempts=1)
        self.behaviour.never = True
        pending = self.driver.detach(self.guest, self.volume)
        self.side.fake.guests[self.guest].crash(preserve=True)
        self.assertTrue(self.side.fake.settle())
        self.assertFalse(pending.done())
        self.assertEqual('crashed', self.host.guest(self.guest).state())
        self.assertEqual(({self.volume}, set()), self.ids(self.guest))
        self.side.destroy(self.guest)
        harness.outcome(pending)

    def test_a_guest_that_is_being_migrated_is_refused(self) -> None:
        before = self.xml(self.guest)
        self.side.fake.guests[self.guest].migrating = True
        for change in (self.attach, self.attach_port, lambda guest: self.detach(guest, self.volume)):
            error = self.assertRaises(exception.GuestBusy, change, self.guest)
            self.assertTrue(error.retryable)
        self.side.fake.guests[self.guest].migrating = False
        self.assert_untouched(self.guest, before)

    def test_a_guest_that_cannot_be_read_is_not_an_empty_one(self) -> None:
        before = self.xml(self.guest)
        for change in (self.attach, lambda guest: self.detach(guest, self.volume), self.driver.list_devices):
            self.side.fake.fail_next('XMLDesc', errors.error(1, 'cannot read'))
            self.assertRaises(exception.GuestUnreadable, change, self.guest)
        self.assert_untouched(self.guest, before)

    def test_many_guests_that_do_not_answer_hold_up_nobody(self) -> None:
        """With two workers and 64 guests that are waited for, the work of a 65th is done."""
        queues = GuestQueues(2)
        self.addCleanup(queues.close)
        self.retry_policy = RetryPolicy(timeout=60, attempts=8)
        stuck = [self.hypervisor.deaf_guest() for _ in range(64)]
        pending = []
        for guest in stuck:
            volume = self.attach(guest, bus='virtio')

            def job(guest: str = guest, volume: str = volume) -> 'futures.Future[None]':
                future = self.driver.detach(guest, volume)
                pending.append(future)
                return future

            queues.submit(guest, job)

        def attach() -> None:
            self.attach(self.guest)

        queues.submit(self.guest, attach)
        deadline = time.monotonic() + harness.SOON
        while len(self.ids(self.guest)[0]) < 2 or len(pending) < 64:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        self.assertEqual([False] * 64, [future.done() for future in pending])

    def test_an_attach_that_dies_half_way_says_what_it_left(self) -> None:
        def stop_after_live(*_arguments: object) -> None:
            for devices in self.side.fake.guests[self.guest].need_config().findall('devices'):
                for disk in devices.findall("disk[@type='file']"):
                    devices.remove(disk)
            raise errors.error(38, 'cannot save the config')

        self.side.fake.after['attachDeviceFlags'] = stop_after_live
        error = self.assertRaises(exception.AttachFailed, self.attach, self.guest)
        self.assertIn('it is left in the running guest', str(error))
        self.assertNotIn('persistent', str(error))

    def test_an_alias_that_does_not_land_is_a_loud_failure(self) -> None:
        guest = self.side.fake.guests[self.guest]

        def drop_alias(*_arguments: object) -> None:
            for domain in (guest.live, guest.config):
                assert domain is not None
                for element in domain.findall('devices/disk[@type="file"]/alias'):
                    element.set('name', 'virtio-disk7')

        self.side.fake.after['attachDeviceFlags'] = drop_alias
        error = self.assertRaises(exception.AttachFailed, self.attach, self.guest)
        self.assertIn('its alias is not in the running guest and the persistent config', str(error))
