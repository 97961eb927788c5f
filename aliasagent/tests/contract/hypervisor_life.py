# SPDX-License-Identifier: Apache-2.0
"""Guests and connections: their states, their events, their end."""

import threading
import uuid
from typing import Any

import libvirt

from aliasagent.tests.contract import hypervisor
from aliasagent.tests.contract.hypervisor import LIVE
from aliasagent.tests.contract.hypervisor import disk
from aliasagent.tests.contract.hypervisor import user_aliases


class LifeContract(hypervisor.HypervisorContract):
    def test_look_up(self) -> None:
        connection, domain = self.connection(), self.new_guest(running=False)
        self.assertEqual(domain.name(), connection.lookupByUUIDString(domain.UUIDString()).name())
        self.assertEqual(domain.UUIDString(), connection.lookupByName(domain.name()).UUIDString())
        unknown = str(uuid.uuid4())
        with self.refused(42, f"no domain with matching uuid '{unknown}'", libvirt.VIR_FROM_QEMU):
            connection.lookupByUUIDString(unknown)
        with self.refused(42, "no domain with matching name 'nobody'"):
            connection.lookupByName('nobody')
        with self.refused(8, 'Invalid UUID'):
            connection.lookupByUUIDString('zzz')

    def test_list(self) -> None:
        running, stopped = self.new_guest(), self.new_guest(running=False)
        transient = self.new_guest(persistent=False)

        def listed(flags: int) -> set[str]:
            mine = {guest.UUIDString() for guest in (running, stopped, transient)}
            return {guest.UUIDString() for guest in self.connection().listAllDomains(flags)} & mine

        self.assertEqual(3, len(listed(0)))
        self.assertEqual({stopped.UUIDString()}, listed(libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE))
        self.assertEqual({transient.UUIDString()}, listed(libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT))
        flags = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE | libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT
        self.assertEqual({running.UUIDString()}, listed(flags))

    def test_states_and_their_events(self) -> None:
        domain, events = self.new_guest(running=False), self.events()
        self.assertEqual(libvirt.VIR_DOMAIN_SHUTOFF, domain.state()[0])
        domain.create()
        self.assertEqual([libvirt.VIR_DOMAIN_RUNNING, 1], domain.state())
        domain.suspend()
        domain.suspend()
        self.assertEqual([libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER], domain.state())
        domain.resume()
        with self.refused(55, 'domain is already running'):
            domain.resume()
        with self.refused(55, 'domain is already running'):
            domain.create()
        self.assertEqual(libvirt.VIR_DOMAIN_JOB_NONE, domain.jobInfo()[0])
        self.assertEqual(libvirt.VIR_DOMAIN_JOB_NONE, domain.jobStats()['type'])
        domain.destroy()
        self.assertEqual(libvirt.VIR_DOMAIN_SHUTOFF, domain.state()[0])
        stopped = (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)
        self.assertTrue(events.wait(domain, 'lifecycle', *stopped), events.seen)
        told = events.of(domain, 'lifecycle')
        self.assertEqual(
            [(4, 0), (2, 0), (3, 0), (4, 0), stopped],
            [event for event in told if event[0] != libvirt.VIR_DOMAIN_EVENT_SHUTDOWN],
        )

    def test_no_job_to_abort(self) -> None:
        with self.refused(55, 'no job is active on the domain', libvirt.VIR_FROM_QEMU):
            self.new_guest().abortJob()
        with self.refused(55, 'domain is not running', None):
            self.new_guest(running=False).abortJob()

    def test_each_run_has_a_higher_number_and_its_start_tells_it(self) -> None:
        events = self.events()
        for persistent in (True, False):
            domain, path = self.new_guest(persistent=persistent), self.save_path()
            number = domain.ID()
            self.assertGreater(number, 0)
            domain.save(path)
            self.connection().restore(path)
            again = self.connection().lookupByUUIDString(domain.UUIDString())
            self.assertGreater(again.ID(), number)
            restored = (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED)
            self.assertTrue(events.wait(domain, 'lifecycle', *restored), events.seen)
            self.assertEqual([number, again.ID()], events.numbers(domain))
            again.destroy()

    def test_what_is_said_of_a_guest_that_was_saved_and_restored(self) -> None:
        for persistent in (True, False):
            domain, path = self.new_guest(persistent=persistent), self.save_path()
            uuid_string = domain.UUIDString()
            domain.save(path)
            if persistent:
                self.assertEqual([libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED], domain.state())
                self.assertEqual(0, domain.hasManagedSaveImage())
                with self.refused(55, 'domain is not running'):
                    domain.jobStats()
            else:
                with self.refused(42, f"no domain with matching uuid '{uuid_string}'"):
                    self.connection().lookupByUUIDString(uuid_string)
            self.connection().restore(path)
            domain = self.connection().lookupByUUIDString(uuid_string)
            self.assertEqual([libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED], domain.state())
            self.assertEqual(libvirt.VIR_DOMAIN_JOB_NONE, domain.jobStats()['type'])
            domain.suspend()
            domain.save(path)
            self.connection().restore(path)
            domain = self.connection().lookupByUUIDString(uuid_string)
            self.assertEqual([libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION], domain.state())

    def test_a_shut_off_guest_does_nothing(self) -> None:
        domain = self.new_guest(running=False)
        for call in (domain.destroy, domain.reset, domain.reboot, domain.shutdown, domain.suspend, domain.resume):
            with self.refused(55, 'domain is not running'):
                call()
        with self.refused(55, 'domain is not running'):
            domain.jobInfo()

    def test_a_guest_does_not_start_without_what_it_needs(self) -> None:
        domain = self.new_guest(running=False, devices=disk(hypervisor.MISSING_FILE, 'sda', 'ua-1'))
        with self.refused(38, 'Cannot access storage file'):
            domain.create()
        self.assertFalse(domain.isActive())

    def test_a_transient_guest_vanishes(self) -> None:
        domain, events = self.new_guest(persistent=False), self.events()
        self.assertEqual((1, 0), (domain.isActive(), domain.isPersistent()))
        domain.destroy()
        self.assertTrue(events.wait(domain, 'lifecycle', libvirt.VIR_DOMAIN_EVENT_STOPPED), events.seen)
        for call in (domain.XMLDesc, domain.isActive, domain.state, domain.destroy):
            with self.refused(42, f"no domain with matching uuid '{domain.UUIDString()}'"):
                call()
        with self.refused(42, 'no domain with matching uuid'):
            domain.detachDeviceAlias('ua-1', LIVE)

    def test_a_running_guest_that_is_undefined_is_transient(self) -> None:
        domain = self.new_guest()
        domain.undefine()
        self.assertEqual((1, 0), (domain.isActive(), domain.isPersistent()))
        with self.refused(55, 'transient'):
            domain.undefine()

    def test_a_dump_of_a_shut_off_guest_is_its_config(self) -> None:
        domain = self.new_guest(running=False)
        domain.attachDeviceFlags(disk('/a', 'sda', 'ua-1'), 0)
        self.assertEqual(['ua-1'], user_aliases(domain))

    def test_events_of_one_guest(self) -> None:
        mine, other = self.new_guest(), self.new_guest()
        all_events, events = self.events(), self.events(mine)
        for domain in (other, mine):
            domain.attachDeviceFlags(disk(self.disk_file(domain.name()), 'sda', 'ua-1'), LIVE)
            self.assertTrue(all_events.wait(domain, 'added', 'ua-1'), all_events.seen)
        self.assertTrue(events.wait(mine, 'added', 'ua-1'), events.seen)
        self.assertEqual({mine.UUIDString()}, {told for _, told, _ in events.seen})

    def test_no_events_after_deregistration(self) -> None:
        domain, events = self.new_guest(), self.events()
        gone = self.events(domain)
        gone.stop()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'sda', 'ua-1'), LIVE)
        self.assertTrue(events.wait(domain, 'added', 'ua-1'), events.seen)
        self.assertEqual([], gone.seen)
        with self.refused(8, 'event callback id 999 not registered'):
            self.connection().domainEventDeregisterAny(999)

    def test_one_registration_for_an_event_and_a_guest(self) -> None:
        connection, kind = self.connection(), libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED
        first = connection.domainEventRegisterAny(None, kind, lambda *_: None, None)
        self.addCleanup(connection.domainEventDeregisterAny, first)
        with self.refused(8, 'event callback already tracked'):
            connection.domainEventRegisterAny(None, kind, lambda *_: None, 'another')

    def test_events_come_in_a_thread_of_their_own(self) -> None:
        domain = self.new_guest()
        threads: list[int] = []
        told = threading.Event()

        def callback(*_: Any) -> None:
            threads.append(threading.get_ident())
            told.set()

        number = self.connection().domainEventRegisterAny(
            domain, libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, callback, None
        )
        self.addCleanup(self.connection().domainEventDeregisterAny, number)
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'sda', 'ua-1'), LIVE)
        self.assertTrue(told.wait(15))
        self.assertNotIn(threading.get_ident(), threads)

    def test_a_closed_connection(self) -> None:
        connection = self.new_connection()
        self.assertEqual(1, connection.isAlive())
        self.assertEqual(0, connection.setKeepAlive(5, 3))
        self.assertGreaterEqual(connection.getLibVersion(), 4_004_000)  # the first with detach by alias
        connection.registerCloseCallback(lambda *_: None, None)
        with self.refused(55, 'A close callback is already registered'):
            connection.registerCloseCallback(lambda *_: None, None)
        connection.unregisterCloseCallback()
        connection.close()
        with self.refused(6, 'invalid connection pointer in virConnectListAllDomains'):
            connection.listAllDomains(0)
        with self.refused(6, 'invalid connection pointer in virConnectIsAlive'):
            connection.isAlive()


class LossContract(hypervisor.HypervisorContract):
    """The daemon dies under us, and comes back."""

    def kill_daemon(self) -> None:
        raise NotImplementedError

    def start_daemon(self) -> None:
        raise NotImplementedError

    def test_the_daemon_is_killed(self) -> None:
        connection, domain = self.connection(), self.new_guest()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'sda', 'ua-1'), LIVE)
        closed = threading.Event()
        reasons: list[tuple[int, str]] = []

        def callback(_connection: Any, reason: int, opaque: str) -> None:
            reasons.append((reason, opaque))
            closed.set()

        connection.registerCloseCallback(callback, 'mine')
        self.kill_daemon()
        self.assertTrue(closed.wait(15))
        self.assertEqual([(libvirt.VIR_CONNECT_CLOSE_REASON_EOF, 'mine')], reasons)
        self.assertEqual(0, connection.isAlive())
        for call in (
            connection.getLibVersion,
            connection.listAllDomains,
            domain.XMLDesc,
            domain.state,
            lambda: domain.attachDeviceFlags(disk('/a', 'sdb'), LIVE),
            lambda: domain.detachDeviceAlias('ua-1', LIVE),
        ):
            with self.refused(1, 'client socket is closed', libvirt.VIR_FROM_RPC):
                call()
        # the second, if the socket is still being closed
        words = ('Failed to connect socket to', 'Cannot recv data')
        with self.refused(38, words, libvirt.VIR_FROM_RPC):
            self.new_connection()
        self.start_daemon()
        with self.refused(1, 'client socket is closed', libvirt.VIR_FROM_RPC):
            domain.XMLDesc()
        again = self.new_connection().lookupByUUIDString(domain.UUIDString())
        self.assertEqual(['ua-1'], user_aliases(again))
        again.detachDeviceAlias('ua-1', LIVE)
        self.assertEqual([], self.soon(lambda: user_aliases(again), lambda left: not left))

    def test_the_call_under_way_is_cut_off(self) -> None:
        domain = self.new_guest()
        xml = disk(self.disk_file('a'), 'vda', 'ua-1', bus='virtio')
        domain.attachDeviceFlags(xml, LIVE)
        timer = threading.Timer(0.5, self.kill_daemon)
        timer.start()
        self.addCleanup(timer.join)
        with self.refused(38, 'End of file while reading data', libvirt.VIR_FROM_RPC):
            domain.detachDeviceFlags(xml, LIVE)  # waits for the guest, which does not answer
