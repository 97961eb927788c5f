# SPDX-License-Identifier: Apache-2.0
"""What becomes of an unplug when something else happens meanwhile."""

import threading
from collections.abc import Callable

import fixtures

from aliasagent import exception
from aliasagent.devices import alias as aliases
from aliasagent.tests import base
from aliasagent.tests.ids import GUEST
from aliasagent.tests.ids import VOLUME
from aliasagent.tests.unit.virt.unplugging import ALIAS
from aliasagent.tests.unit.virt.unplugging import SHORT
from aliasagent.tests.unit.virt.unplugging import UnplugTestCase
from aliasagent.virt import errors
from aliasagent.virt import events
from aliasagent.virt import leaving
from aliasagent.virt.leaving import Patience

_UNREADABLE = exception.GuestUnreadable(instance=GUEST, reason='x')
_REFUSED = exception.HypervisorError(action='detach', reason='no device found with alias x')
_AWAY = exception.HypervisorUnavailable(reason='gone')


class GuestTestCase(UnplugTestCase):
    """What becomes of the guest meanwhile."""

    def test_stopped(self) -> None:
        future = self.start()
        self.guest.running = False
        self.stopped()
        self.assert_done(future)

    def test_stopped_between_the_look_and_the_call(self) -> None:
        self.guest.running = False
        self.guest.on_detach = [errors.InvalidOperation(action='detach', reason='domain is not running')]
        self.assert_done(self.start())

    def test_moved_to_another_host(self) -> None:
        future = self.start()
        self.guest.running = False
        self.stopped(events.Cause.MIGRATED)
        self.assert_failed(future, exception.DetachFailed, 'another host')

    def test_moved_and_not_defined_here_any_more(self) -> None:
        future = self.start()
        del self.host.guests[GUEST]
        self.stopped(events.Cause.MIGRATED)
        self.assert_failed(future, exception.DetachFailed, 'another host')

    def test_saved(self) -> None:
        future = self.start()
        self.guest.running = False
        self.stopped(events.Cause.SAVED)
        self.assert_failed(future, exception.DetachFailed, 'saved')

    def test_stopped_before_it_was_asked_and_told_late(self) -> None:
        for cause in events.Cause:
            future = self.start()
            self.stopped(cause)
            self.wait_for(lambda: len(self.guest.detaches) == 2, 'looked at, and asked again')
            self.assertFalse(future.done())
            self.go()
            self.assert_done(future)
            self.guest.aliases.add(ALIAS)
            self.guest.detaches.clear()

    def test_stopped_and_it_cannot_be_told_whether_it_was_started_again(self) -> None:
        future = self.start(Patience(timeout=0.2, attempts=2))
        self.guest.on_look = [_AWAY, None]
        self.stopped()
        self.assert_failed(future, exception.DetachTimeout)

    def test_the_event_of_one_that_was_seen_to_be_gone_is_not_that_of_the_next(self) -> None:
        future = self.start(SHORT)
        self.guest.aliases.clear()
        self.assert_done(future)
        self.guest.aliases.add(ALIAS)
        future = self.start()
        self.host.tell(events.DeviceRemoved(GUEST, ALIAS))
        self.assertRaises(TimeoutError, future.result, 0.1)
        self.go()
        self.assert_done(future)

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

    def test_a_guest_that_takes_no_calls_for_a_while(self) -> None:
        self.guest.on_detach = [exception.GuestBusy(instance=GUEST, reason='cannot acquire state change lock'), self.go]
        self.assert_done(self.start(SHORT))
        self.assertEqual(2, len(self.guest.detaches))

    def test_a_guest_that_takes_no_calls_ever(self) -> None:
        self.guest.on_detach = [exception.GuestBusy(instance=GUEST, reason='cannot acquire state change lock')]
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)

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


class SilenceTestCase(UnplugTestCase):
    """libvirt does not answer a request, because the guest's QEMU hangs."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch('aliasagent.virt.unplug._REPLY', 0.05))
        self.answer = threading.Event()
        self.addCleanup(self.answer.set)

    def hang(self) -> None:
        self.answer.wait(base.PATIENCE)

    def release(self) -> None:
        self.hang()
        self.go()

    def refuse(self) -> None:
        self.hang()
        raise _REFUSED

    def give_up(self, call: Callable[[], None], left: str = leaving.LEFT) -> exception.AliasAgentError:
        self.guest.on_detach = [call]
        future = self.unplugs.start(GUEST, VOLUME, self.found(), SHORT, left)
        return self.assert_failed(future, exception.DetachTimeout, 'libvirt does not answer about this guest')

    def refuse_if_leaving(self) -> None:
        self.unplugs.refuse_if_leaving(GUEST, VOLUME, self.guest.live)

    def test_the_first_request_has_a_deadline(self) -> None:
        error = self.give_up(self.hang)
        self.assertNotIn('still in the running guest', str(error))
        self.assertNotIn('persistent config', str(error))
        self.assertEqual([ALIAS], self.guest.detaches)
        self.assertEqual(0, self.unplugs.pending)

    def test_what_is_gone_is_not_forgotten(self) -> None:
        error = self.give_up(self.hang, leaving.LEFT_LIVE_ONLY)
        self.assertIn('it is gone from the persistent config; libvirt does not answer', str(error))
        self.assertNotIn('and still in the running guest', str(error))

    def test_the_device_may_go_at_any_moment(self) -> None:
        self.give_up(self.release)
        self.assertRaises(exception.GuestBusy, self.refuse_if_leaving)
        self.answer.set()
        self.wait_for(lambda: bool(self.late), 'the release')
        self.assertEqual([(GUEST, VOLUME)], self.late)

    def test_a_request_that_is_refused_late_takes_nothing_out(self) -> None:
        self.give_up(self.refuse)
        self.answer.set()
        self.wait_for(lambda: not self.unplugs._overdue[GUEST, VOLUME].may_still_go, 'the refusal')
        self.refuse_if_leaving()

    def test_who_was_given_up_before_its_turn_is_not_asked(self) -> None:
        other = aliases.make('8d3c2b9e-54f5-4b1e-8f0f-2a6c1d7e9b11')
        self.guest.aliases.add(other)
        self.guest.on_detach = [self.hang]
        first, second = self.start(SHORT), self.start(SHORT, other)
        for future in (first, second):
            self.assert_failed(future, exception.DetachTimeout)
        done = threading.Event()
        self.unplugs._callers.submit(GUEST, done.set)
        self.answer.set()
        self.assertTrue(done.wait(base.PATIENCE))
        self.assertEqual([ALIAS], self.guest.detaches)
