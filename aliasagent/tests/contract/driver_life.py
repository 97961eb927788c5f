# SPDX-License-Identifier: Apache-2.0
"""The contract of what comes between: the guest or the hypervisor goes while a device is on its way out."""

import time
from collections.abc import Callable

from aliasagent import exception
from aliasagent.tests.contract import harness
from aliasagent.virt.guest import Side
from aliasagent.virt.leaving import RetryPolicy

BOTH = Side.LIVE | Side.PERSISTENT


class LifeContract(harness.DriverCase):
    """Stands on a hypervisor of its own, which the tests kill."""

    def kill_daemon(self) -> None:
        """End the hypervisor's daemon at once; its guests go on."""
        raise NotImplementedError

    def start_daemon(self) -> None:
        """Have the daemon back."""
        raise NotImplementedError

    def reset(self, guest: str) -> None:
        """Press a guest's reset button."""
        raise NotImplementedError

    def destroy(self, guest: str) -> None:
        """Pull a guest's plug."""
        raise NotImplementedError

    def crash(self, guest: str) -> None:
        """Have a guest crash."""
        raise NotImplementedError

    def wait_for(self, what: str, probe: Callable[[], object]) -> None:
        deadline = time.monotonic() + harness.SOON
        while not probe():
            self.assertTrue(time.monotonic() < deadline, f'waited in vain for {what}')
            time.sleep(0.02)

    def test_a_device_that_goes_after_the_timeout_is_noticed(self) -> None:
        guest = self.hypervisor.deaf_guest()
        volume = self.attach(guest, bus='virtio')
        self.retry_policy = RetryPolicy(timeout=0.3, attempts=1)
        self.assertRaises(exception.DetachTimeout, self.detach, guest, volume)
        self.assertEqual([], self.late)
        self.reset(guest)
        self.wait_for('the late event', lambda: self.late)
        self.assertEqual([(guest, volume)], self.late)
        self.assert_on_both(guest)

    def test_a_reset_ends_the_wait(self) -> None:
        guest = self.hypervisor.deaf_guest()
        pending = self.driver.detach(guest, self.attach(guest, bus='virtio'))
        self.assertFalse(pending.done())
        self.reset(guest)
        harness.outcome(pending)
        self.assert_on_both(guest)

    def test_the_end_of_the_guest_ends_the_wait(self) -> None:
        guest = self.hypervisor.deaf_guest()
        volume = self.attach(guest, bus='virtio')
        pending = self.driver.detach(guest, volume)
        self.destroy(guest)
        harness.outcome(pending)
        self.assertEqual((set(), set()), self.ids(guest))

    def test_a_crash_ends_the_wait_and_leaves_the_persistent_config(self) -> None:
        guest = self.hypervisor.deaf_guest()
        volume = self.attach(guest, bus='virtio')
        pending = self.driver.detach(guest, volume)
        self.crash(guest)
        harness.outcome(pending)
        self.assertIn(self.host.guest(guest).state(), ('shut off', 'crashed'))
        other = self.attach(guest)
        self.assertEqual((set(), {other}), self.ids(guest))
        self.detach(guest, other)
        self.assertEqual((set(), set()), self.ids(guest))

    def test_who_asks_again_waits_for_the_same_end(self) -> None:
        guest = self.hypervisor.deaf_guest()
        volume = self.attach(guest, bus='virtio')
        first, second = self.driver.detach(guest, volume), self.driver.detach(guest, volume)
        self.assertFalse(first.done() or second.done())
        self.reset(guest)
        harness.outcome(first)
        harness.outcome(second)

    def test_a_device_on_its_way_out_can_be_asked_for_anew_after_a_timeout(self) -> None:
        guest = self.hypervisor.deaf_guest()
        volume = self.attach(guest, bus='virtio')
        self.retry_policy = RetryPolicy(timeout=0.2, attempts=1)
        self.assertRaises(exception.DetachTimeout, self.detach, guest, volume)
        self.retry_policy = RetryPolicy(timeout=10, attempts=8)
        pending = self.driver.detach(guest, volume)
        self.reset(guest)
        harness.outcome(pending)
        self.assertEqual([], self.late)

    def test_while_the_daemon_is_down_nothing_is_said_to_be_missing(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        volume = self.attach(guest)
        self.kill_daemon()
        self.assertRaises(exception.HypervisorUnavailable, self.detach, guest, volume)
        self.assertRaises(exception.HypervisorUnavailable, self.attach, guest)
        self.assertRaises(exception.HypervisorUnavailable, self.driver.list_devices, guest)
        self.assertRaises(exception.HypervisorUnavailable, self.driver.list_instances)
        self.start_daemon()
        self.assertTrue(self.driver.wait_connected(harness.SOON))
        self.assert_on_both(guest, volume)
        self.detach(guest, volume)

    def test_a_detach_under_way_outlives_the_daemon(self) -> None:
        guest = self.hypervisor.deaf_guest()
        volume = self.attach(guest, bus='virtio')
        pending = self.driver.detach(guest, volume)
        self.kill_daemon()
        self.start_daemon()
        self.assertTrue(self.driver.wait_connected(harness.SOON))
        self.assertFalse(pending.done())
        self.reset(guest)
        harness.outcome(pending)
        self.assert_on_both(guest)
