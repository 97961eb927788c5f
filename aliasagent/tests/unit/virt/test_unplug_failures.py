# SPDX-License-Identifier: Apache-2.0
"""What becomes of an unplug when something else happens meanwhile."""

import threading
from collections.abc import Callable

import fixtures
import libvirt

from aliasagent import exception
from aliasagent.devices import alias as aliases
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.fakes.libvirt import Unplug
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.ids import GUEST
from aliasagent.tests.ids import VOLUME
from aliasagent.tests.unit.virt.unplugging import ALIAS
from aliasagent.tests.unit.virt.unplugging import PATIENT
from aliasagent.tests.unit.virt.unplugging import SHORT
from aliasagent.tests.unit.virt.unplugging import UnplugTestCase
from aliasagent.tests.unit.virt.unplugging import raising
from aliasagent.virt import leaving
from aliasagent.virt.leaving import RetryPolicy

_UNREADABLE = errors.internal('cannot say')
_REFUSED = errors.no_alias(ALIAS)


class GuestTestCase(UnplugTestCase):
    """What becomes of the guest meanwhile."""

    def test_stopped(self) -> None:
        future = self.start()
        self.guest.power_off()
        self.assert_done(future)

    def test_stopped_between_the_look_and_the_call(self) -> None:
        self.guest.power_off()
        self.wait_events()
        self.assert_done(self.start())

    def test_moved_to_another_host(self) -> None:
        future = self.start()
        self.move()
        self.assert_failed(future, exception.DetachFailed, 'another host')

    def test_moved_and_not_defined_here_any_more(self) -> None:
        future = self.start()
        self.guest.migrate_away()
        self.assert_failed(future, exception.DetachFailed, 'another host')

    def test_saved(self) -> None:
        future = self.start()
        self.save(self.guest)
        self.assert_failed(future, exception.DetachFailed, 'saved')

    def test_stopped_before_it_was_asked_and_told_late(self) -> None:
        for detail in (
            libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED,
            libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED,
            libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED,
        ):
            future = self.start()
            self.tell_lifecycle(libvirt.VIR_DOMAIN_EVENT_STOPPED, detail)
            self.wait_for(lambda: len(self.asked()) == 2, 'looked at, and asked again')
            self.assertFalse(future.done())
            self.go()
            self.assert_done(future)
            self.plug(self.guest)
            self.fake.calls.clear()

    def test_stopped_and_it_cannot_be_told_whether_it_was_started_again(self) -> None:
        future = self.start(RetryPolicy(timeout=0.2, attempts=2))
        self.fake.fail_next('XMLDesc', errors.closed_connection('virDomainGetXMLDesc'))
        self.tell_stopped()
        self.assert_failed(future, exception.DetachTimeout)

    def test_the_event_of_one_that_was_seen_to_be_gone_is_not_that_of_the_next(self) -> None:
        future = self.start(SHORT)
        self.vanish()
        self.assert_done(future)
        self.plug(self.guest)
        future = self.start()
        self.tell_removed()
        self.assertRaises(TimeoutError, future.result, 0.1)
        self.go()
        self.assert_done(future)

    def test_rebooted_without_it(self) -> None:
        future = self.start()
        self.vanish()
        self.tell_rebooted()
        self.assert_done(future)

    def test_rebooted_with_it_the_guest_is_asked_again(self) -> None:
        future = self.start(RetryPolicy(timeout=3600, attempts=1))
        self.tell_rebooted()
        self.wait_for(lambda: len(self.asked()) == 2, 'asked again')
        self.assertFalse(future.done())
        self.go()
        self.assert_done(future)

    def test_started_anew_it_is_asked_again(self) -> None:
        future = self.start()
        self.tell_lifecycle(libvirt.VIR_DOMAIN_EVENT_STARTED)
        self.wait_for(lambda: len(self.asked()) == 2, 'asked again')
        self.go()
        self.assert_done(future)

    def test_it_is_not_there(self) -> None:
        self.undefine()
        self.assert_failed(self.start(), exception.InstanceNotFound)

    def test_it_goes_away_before_the_next_look(self) -> None:
        future = self.start(SHORT)
        self.undefine()
        self.assert_failed(future, exception.InstanceNotFound)


class ErrorTestCase(UnplugTestCase):
    """What libvirt says to the call, and to the look after it."""

    def test_unsupported(self) -> None:
        self.fake.before['detachDeviceAlias'] = raising(errors.unsupported('x'))
        self.assert_failed(self.start(), exception.Unsupported)
        self.assertEqual(1, len(self.asked()))

    def test_a_guest_that_takes_no_calls_for_a_while(self) -> None:
        self.guest.unplug = Unplug()
        self.fake.fail_next('detachDeviceAlias', errors.lock_timeout())
        self.assert_done(self.start(PATIENT))
        self.assertLess(1, len(self.asked()))

    def test_a_guest_that_takes_no_calls_ever(self) -> None:
        self.fake.before['detachDeviceAlias'] = raising(errors.lock_timeout())
        self.assert_failed(self.start(SHORT), exception.DetachTimeout)

    def test_refused_and_the_device_is_there(self) -> None:
        self.fake.before['detachDeviceAlias'] = raising(_REFUSED)
        self.assert_failed(self.start(), exception.DetachFailed, 'no device found')

    def test_refused_and_the_device_is_gone(self) -> None:
        self.fake.before['detachDeviceAlias'] = raising(_REFUSED)
        self.vanish()
        self.assert_done(self.start())

    def test_refused_and_the_guest_is_gone(self) -> None:
        def refuse(*_arguments: object) -> None:
            self.undefine()
            raise _REFUSED

        self.fake.before['detachDeviceAlias'] = refuse
        self.assert_failed(self.start(), exception.InstanceNotFound)

    def test_refused_and_the_guest_cannot_be_read_at_first(self) -> None:
        self.fake.before['detachDeviceAlias'] = raising(_REFUSED)
        self.fake.fail_next('XMLDesc', _UNREADABLE)
        self.assert_failed(self.start(SHORT), exception.DetachFailed, 'no device found')

    def test_refused_and_the_guest_cannot_be_read_at_first_and_it_is_gone(self) -> None:
        self.fake.before['detachDeviceAlias'] = raising(_REFUSED)
        self.fake.fail_next('XMLDesc', _UNREADABLE)
        self.vanish()
        self.assert_done(self.start(PATIENT))

    def test_refused_and_the_hypervisor_goes_away(self) -> None:
        self.fake.before['detachDeviceAlias'] = raising(_REFUSED)
        self.fake.before['XMLDesc'] = lambda *_arguments: self.fake.drop_connections(down=True)
        self.assert_failed(self.start(SHORT), exception.HypervisorUnavailable)

    def test_it_can_never_be_read(self) -> None:
        self.fake.before['XMLDesc'] = raising(_UNREADABLE)
        self.assert_failed(self.start(SHORT), exception.GuestUnreadable)

    def test_it_cannot_be_read_for_a_while(self) -> None:
        self.fake.fail_next('XMLDesc', _UNREADABLE)
        self.vanish()
        self.assert_done(self.start(PATIENT))

    def test_a_defect_ends_it(self) -> None:
        self.fake.before['XMLDesc'] = raising(KeyError('x'))
        self.assert_failed(self.start(SHORT), exception.DetachFailed)

    def test_a_defect_at_the_start_leaves_nothing_behind(self) -> None:
        self.fake.fail_next('detachDeviceAlias', KeyError('x'))
        self.assert_failed(self.start(), exception.DetachFailed)
        future = self.start()
        self.assertEqual(2, len(self.asked()))
        self.go()
        self.assert_done(future)


class HypervisorTestCase(UnplugTestCase):
    def test_away_at_the_start_and_back(self) -> None:
        self.fake.drop_connections(down=True)
        future = self.start()
        self.assertFalse(future.done())
        self.fake.down = False
        self.wait_for(lambda: self.asked(), 'asked once it is back')
        self.go()
        self.assert_done(future)

    def test_the_device_went_while_nobody_was_connected(self) -> None:
        future = self.start()
        self.fake.drop_connections(down=True)
        self.vanish()
        self.fake.down = False
        self.assert_done(future)

    def test_the_guest_went_while_nobody_was_connected(self) -> None:
        future = self.start()
        self.fake.drop_connections(down=True)
        self.guest.power_off()
        self.fake.down = False
        self.assert_done(future)

    def test_never_back(self) -> None:
        self.fake.drop_connections(down=True)
        self.assert_failed(self.start(SHORT), exception.HypervisorUnavailable)

    def test_the_device_is_asked_for_again_after_a_reconnect(self) -> None:
        future = self.start(RetryPolicy(timeout=3600, attempts=1))
        self.fake.drop_connections()
        self.wait_for(lambda: len(self.asked()) == 2, 'asked again')
        self.assertFalse(future.done())


class CloseTestCase(UnplugTestCase):
    def test_what_is_pending_stays_so(self) -> None:
        """Its end is not known; after the restart it is taken up again."""
        future = self.start(SHORT)
        self.unplugs.close()
        self.go()
        self.guest.power_off()
        self.wait_events()
        self.fake.drop_connections()
        threading.Event().wait(SHORT.timeout * 2)
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

    def hang(self, *_arguments: object) -> None:
        self.answer.wait(base.PATIENCE)

    def release(self, *_arguments: object) -> None:
        self.hang()
        self.guest.unplug = Unplug()

    def refuse(self, *_arguments: object) -> None:
        self.hang()
        raise _REFUSED

    def give_up(self, call: Callable[..., None], left: str = leaving.LEFT) -> exception.AliasAgentError:
        self.fake.before['detachDeviceAlias'] = call
        future = self.unplugs.start(GUEST, VOLUME, self.found(), SHORT, left)
        return self.assert_failed(future, exception.DetachTimeout, 'libvirt does not answer about this guest')

    def refuse_if_leaving(self) -> None:
        self.unplugs.refuse_if_leaving(GUEST, VOLUME, self.live(self.guest))

    def test_the_first_request_has_a_deadline(self) -> None:
        error = self.give_up(self.hang)
        self.assertNotIn('still in the running guest', str(error))
        self.assertNotIn('persistent config', str(error))
        self.assertEqual([ALIAS], self.asked())
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
        other = aliases.make(ids.OTHER_VOLUME)
        self.plug(self.guest, other)
        self.fake.before['detachDeviceAlias'] = self.hang
        first, second = self.start(SHORT), self.start(SHORT, other)
        for future in (first, second):
            self.assert_failed(future, exception.DetachTimeout)
        self.answer.set()
        self.wait_looked()
        self.assertEqual([ALIAS], self.asked())
