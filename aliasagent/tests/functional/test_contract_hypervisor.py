# SPDX-License-Identifier: Apache-2.0
"""The fake hypervisor behaves as libvirt does, and misbehaves as it is told."""

import threading
import time
import uuid
from typing import Any

import libvirt

from aliasagent.tests.contract import hypervisor
from aliasagent.tests.contract import hypervisor_attach
from aliasagent.tests.contract import hypervisor_definition
from aliasagent.tests.contract import hypervisor_detach
from aliasagent.tests.contract import hypervisor_life
from aliasagent.tests.contract import hypervisor_secrets
from aliasagent.tests.fakes.libvirt import FakeGuest
from aliasagent.tests.fakes.libvirt import FakeHypervisor
from aliasagent.tests.fakes.libvirt import Unplug
from aliasagent.tests.fakes.libvirt import errors


class _OnTheFake(hypervisor.HypervisorContract):
    def setUp(self) -> None:
        super().setUp()
        self.hypervisor = FakeHypervisor()
        self.addCleanup(self.hypervisor.stop)
        self.hypervisor.missing_sources = {hypervisor.MISSING_FILE, '/dev/aliasagent-no-such'}
        self.hypervisor.missing_bridges = {hypervisor.MISSING_BRIDGE}
        self._connection = self.new_connection()

    def connection(self) -> Any:
        return self._connection

    def new_connection(self) -> Any:
        return self.hypervisor.open(self.hypervisor.URI)

    def new_guest(
        self, running: bool = True, devices: str = '', *, root_ports: int = 4, persistent: bool = True
    ) -> Any:
        guest = self.hypervisor.add_guest(devices, running=running, root_ports=root_ports, persistent=persistent)
        guest.unplug = Unplug(never=True)
        return self._connection.lookupByUUIDString(guest.uuid)

    def booted_guest(self) -> Any:
        return self._connection.lookupByUUIDString(self.hypervisor.add_guest(root_ports=8).uuid)

    def disk_file(self, name: str) -> str:
        return f'/disks/{name}.img'

    def save_path(self) -> str:
        return f'/saved/{uuid.uuid4()}'

    def tap(self) -> str:
        name = f'tap-{len(self.hypervisor.taps)}'
        self.hypervisor.taps.add(name)
        return name

    def bridge(self) -> str:
        return 'br0'


class TestFakeHypervisor(
    _OnTheFake,
    hypervisor_attach.AttachContract,
    hypervisor_detach.DetachContract,
    hypervisor_definition.DefinitionContract,
    hypervisor_life.LifeContract,
    hypervisor_secrets.SecretsContract,
):
    pass


class TestFakeHypervisorLoss(_OnTheFake, hypervisor_life.LossContract, hypervisor_secrets.SecretsLossContract):
    def setUp(self) -> None:
        super().setUp()
        self.hypervisor.xml_detach_wait = 5

    def kill_daemon(self) -> None:
        self.hypervisor.drop_connections(down=True)

    def start_daemon(self) -> None:
        self.hypervisor.down = False


class TestFakeHypervisorOnCommand(_OnTheFake):
    """What no real guest does when asked to, and what shows what the code under test did."""

    def guest_with_disk(self, unplug: Unplug) -> tuple[FakeGuest, Any, hypervisor.Events]:
        guest = self.hypervisor.add_guest(hypervisor.disk('/a', 'vda', 'ua-1', bus='virtio'))
        guest.unplug = unplug
        return guest, self._connection.lookupByUUIDString(guest.uuid), self.events()

    def test_busy(self) -> None:
        guest, domain, events = self.guest_with_disk(Unplug(busy=2))
        for _ in range(2):
            with self.refused(1, 'guest is busy (power indicator blinking)', libvirt.VIR_FROM_QEMU):
                domain.detachDeviceAlias('ua-1', hypervisor.LIVE)
        domain.detachDeviceAlias('ua-1', hypervisor.LIVE)
        self.assertTrue(events.wait(domain, 'removed', 'ua-1'))
        self.assertEqual([], guest.aliases())

    def test_already_in_the_process(self) -> None:
        _, domain, _ = self.guest_with_disk(Unplug(never=True, already=True))
        domain.detachDeviceAlias('ua-1', hypervisor.LIVE)
        with self.refused(1, 'Device ua-1 is already in the process of unplug', libvirt.VIR_FROM_QEMU):
            domain.detachDeviceAlias('ua-1', hypervisor.LIVE)

    def test_refused(self) -> None:
        guest, domain, events = self.guest_with_disk(Unplug(refuse=1))
        domain.detachDeviceAlias('ua-1', hypervisor.LIVE)
        self.assertTrue(events.wait(domain, 'removal failed', 'ua-1'))
        self.assertEqual(['ua-1'], guest.aliases())
        domain.detachDeviceAlias('ua-1', hypervisor.LIVE)
        self.assertTrue(events.wait(domain, 'removed', 'ua-1'))

    def test_lost_requests(self) -> None:
        guest, domain, events = self.guest_with_disk(Unplug(lost=1))
        domain.detachDeviceAlias('ua-1', hypervisor.LIVE)
        self.assertTrue(self.hypervisor.settle())
        self.assertEqual(['ua-1'], guest.aliases())
        domain.detachDeviceAlias('ua-1', hypervisor.LIVE)
        self.assertTrue(events.wait(domain, 'removed', 'ua-1'))

    def test_lost_and_late_events(self) -> None:
        guest, domain, events = self.guest_with_disk(Unplug(event_lost=True))
        domain.detachDeviceAlias('ua-1', hypervisor.LIVE)
        self.assertEqual([], self.soon(guest.aliases, lambda left: not left))
        self.assertTrue(self.hypervisor.settle())
        self.assertEqual([], events.of(domain, 'removed'))
        domain.attachDeviceFlags(hypervisor.disk('/b', 'vdb', 'ua-2', bus='virtio'), hypervisor.LIVE)
        guest.unplug = Unplug(event_delay=0.2)
        domain.detachDeviceAlias('ua-2', hypervisor.LIVE)
        self.assertEqual([], self.soon(guest.aliases, lambda left: not left))
        self.assertEqual([], events.of(domain, 'removed'))
        self.assertTrue(events.wait(domain, 'removed', 'ua-2'))

    def test_a_migrating_guest_is_locked(self) -> None:
        guest, domain, _ = self.guest_with_disk(Unplug())
        guest.migrating = True
        with self.unchanged(domain), self.refused(68, 'cannot acquire state change lock'):
            domain.detachDeviceAlias('ua-1', hypervisor.LIVE)
        self.assertEqual(libvirt.VIR_DOMAIN_JOB_UNBOUNDED, domain.jobInfo()[0])

    def test_a_guest_leaves_for_a_host_that_is_there(self) -> None:
        live = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
        there = 'qemu+tls://there/system'
        guest, domain, _ = self.guest_with_disk(Unplug())
        with self.unchanged(domain), self.refused(38, 'Failed to connect'):
            domain.migrateToURI3(there, {}, live)
        self.hypervisor.destinations.add(there)
        domain.migrateToURI3(there, {}, live)
        self.assertEqual([libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED], domain.state())
        guest.start()
        domain.migrateToURI3(there, {}, live | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE)
        with self.refused(libvirt.VIR_ERR_NO_DOMAIN, 'Domain not found'):
            domain.state()

    def test_failures_hooks_and_the_record(self) -> None:
        guest, domain, _ = self.guest_with_disk(Unplug())
        self.hypervisor.fail_next('XMLDesc', errors.cut_off())
        with self.refused(38, 'End of file'):
            domain.XMLDesc(0)
        seen: list[tuple[object, ...]] = []
        self.hypervisor.before['XMLDesc'] = lambda *arguments: seen.append(arguments)
        with self.hypervisor.counting() as calls:
            domain.XMLDesc(2)
        self.assertEqual([(guest.uuid, 2)], seen)
        self.assertEqual([('XMLDesc', (guest.uuid, 2))], calls)
        self.assertEqual(2, self.hypervisor.count('XMLDesc'))

    def test_a_blocked_call_holds_up_no_other(self) -> None:
        _, domain, _ = self.guest_with_disk(Unplug())
        release = threading.Event()
        self.hypervisor.before['state'] = lambda *_: release.wait(10)
        blocked = threading.Thread(target=domain.state)
        blocked.start()
        started = time.monotonic()
        domain.XMLDesc(0)
        self.assertLess(time.monotonic() - started, 5)
        release.set()
        blocked.join()

    def test_duplicates_that_libvirtd_found_on_disk(self) -> None:
        guest = self.hypervisor.add_guest(hypervisor.disk('/a', 'sda', 'ua-1'), running=False)
        domain = self._connection.lookupByUUIDString(guest.uuid)
        text = domain.XMLDesc(0).replace('</devices>', hypervisor.disk('/b', 'sdb', 'ua-1') + '</devices>')
        self.assertEqual(['ua-1', 'ua-1'], self.hypervisor.load_guest(text).aliases(live=False))
