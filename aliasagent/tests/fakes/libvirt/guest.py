# SPDX-License-Identifier: Apache-2.0
"""One guest of the fake hypervisor: its definitions, its state, and how it behaves."""

import copy
import typing

import libvirt
from lxml import etree

from aliasagent.tests.fakes.libvirt import addresses
from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt import definition
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.behaviour import Unplug

if typing.TYPE_CHECKING:
    from aliasagent.tests.fakes.libvirt.hypervisor import FakeHypervisor


#: Why a guest runs that was started so, if not because it booted.
_REASONS = {libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED: libvirt.VIR_DOMAIN_RUNNING_RESTORED}


class FakeGuest:
    """State that outlives every connection. Tests reach in here; the code under test sees FakeDomain.

    Every method takes the hypervisor's lock.
    """

    def __init__(self, hypervisor: 'FakeHypervisor', config: etree._Element, persistent: bool = True) -> None:
        self.hypervisor = hypervisor
        self.uuid = config.findtext('uuid', '')
        self.name = config.findtext('name', '')
        self.config: etree._Element | None = config if persistent else None
        self.live: etree._Element | None = None
        self.state = libvirt.VIR_DOMAIN_SHUTOFF
        self.reason = 0
        self.id = -1
        self.unplug = Unplug()
        self.unplug_by_alias: dict[str, Unplug] = {}
        self.pending: dict[str, etree._Element] = {}
        """Live devices whose removal was asked for and has not happened, by alias."""
        self.migrating = False
        """While set, whatever wants to change the guest times out on its lock, and jobInfo tells of a job."""
        self.other_job: int | None = None
        """Another job that libvirt is at with the guest (virDomainJobOperation), a save for one."""
        self.answers_acpi = True
        """Whether shutdown() and reboot() are heard by the guest."""
        self.managed_save: str | None = None
        self._transient_base = config
        self._unheard: list[etree._Element] = []
        self._saving = ('', '')

    # What a guest is

    @property
    def persistent(self) -> bool:
        return self.config is not None

    @property
    def active(self) -> bool:
        return self.live is not None

    @property
    def job(self) -> int | None:
        """What jobInfo and jobStats tell of."""
        return libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT if self.migrating else self.other_job

    def aliases(self, live: bool = True) -> list[str]:
        """User aliases in the running guest, or in the saved definition."""
        with self.hypervisor.lock:
            where = self.live if live else self.config
            names = [] if where is None else [aliases.alias_of(device) for device in aliases.devices(where)]
            return [name for name in names if name is not None and aliases.is_user_alias(name)]

    def need_live(self) -> etree._Element:
        if self.live is None:
            raise errors.not_running()
        return self.live

    def need_config(self) -> etree._Element:
        if self.config is None:
            raise errors.no_config()
        return self.config

    def behaviour(self, alias: str) -> Unplug:
        return self.unplug_by_alias.get(alias, self.unplug)

    # Its life

    def start(self, paused: bool = False) -> None:
        with self.hypervisor.lock:
            if self.active:
                raise errors.invalid_state('domain is already running', libvirt.VIR_FROM_QEMU)
            base = self.config if self.config is not None else self._transient_base
            self.boot(base, libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED, paused)

    def boot(self, base: etree._Element, detail: int, paused: bool = False) -> None:
        """Make a running guest of a definition."""
        live = copy.deepcopy(base)
        for disk in live.iterfind('devices/disk'):
            self.hypervisor.check_source(disk)
            self.hypervisor.open_disk(disk)
        for interface in live.iterfind('devices/interface'):
            self.hypervisor.plug_tap(interface)
        aliases.generate_all(live)
        self.id = self.hypervisor.next_id()
        live.set('id', str(self.id))
        self.live = live
        self.pending.clear()
        self._unheard.clear()
        self.state, self.reason = libvirt.VIR_DOMAIN_RUNNING, _REASONS.get(detail, libvirt.VIR_DOMAIN_RUNNING_BOOTED)
        self._lifecycle(libvirt.VIR_DOMAIN_EVENT_RESUMED, 0)
        self._lifecycle(libvirt.VIR_DOMAIN_EVENT_STARTED, detail)
        if paused:
            self.suspend()

    def stop(self, detail: int, reason: int, announced: int | None = None) -> None:
        """The running guest is no more; what was pending ends without an event. A transient one vanishes."""
        with self.hypervisor.lock:
            self.need_live()
            if announced is not None:
                self._lifecycle(libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, announced)
            self.live = None
            self.pending.clear()
            self.migrating, self.other_job = False, None
            self.id = -1
            self.state, self.reason = libvirt.VIR_DOMAIN_SHUTOFF, reason
            self._lifecycle(libvirt.VIR_DOMAIN_EVENT_STOPPED, detail)
            if not self.persistent:
                self.hypervisor.forget(self)
            self.hypervisor.changed.notify_all()

    def destroy(self) -> None:
        self.stop(
            libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED,
            libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED,
            libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST,
        )

    def power_off(self) -> None:
        """The guest itself switches off."""
        self.stop(
            libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN,
            libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN,
            libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST,
        )

    def crash(self, preserve: bool = False) -> None:
        """The guest panics; ``preserve`` is on_crash=preserve, which leaves it there as crashed."""
        with self.hypervisor.lock:
            self.need_live()
            if not preserve:
                self.stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED)
                return
            self.state, self.reason = libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED
            self._lifecycle(libvirt.VIR_DOMAIN_EVENT_CRASHED, libvirt.VIR_DOMAIN_EVENT_CRASHED_PANICKED)

    def migrate_away(self) -> None:
        """A live migration has ended: the guest runs elsewhere, and is not defined here any more."""
        with self.hypervisor.lock:
            self.need_live()
            self.config = None
            self.stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)

    def begin_save(self, path: str, xml: str | None = None) -> None:
        """libvirtd begins to save the guest, which stands still from now on. It goes on if its client is gone."""
        with self.hypervisor.lock:
            self._saving = path, xml or definition.dump(self.need_live(), True, True)
            paused = self.hypervisor.saved_paused
            self.other_job = libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE
            if self.state == libvirt.VIR_DOMAIN_PAUSED:
                paused.add(path)
                return
            paused.discard(path)
            self.suspend()
            self.reason = libvirt.VIR_DOMAIN_PAUSED_SAVE

    def end_save(self) -> None:
        """All of the guest is in its file."""
        with self.hypervisor.lock:
            path, xml = self._saving
            self.hypervisor.saved[path] = (self.uuid, xml)
            self.stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED, libvirt.VIR_DOMAIN_SHUTOFF_SAVED)

    def cancel_save(self) -> None:
        """The save comes to nothing, and the guest goes on."""
        with self.hypervisor.lock:
            self.other_job = None
            if self.reason == libvirt.VIR_DOMAIN_PAUSED_SAVE:
                self.resume()
                self.reason = libvirt.VIR_DOMAIN_RUNNING_SAVE_CANCELED

    def suspend(self) -> None:
        with self.hypervisor.lock:
            self.need_live()
            if self.state != libvirt.VIR_DOMAIN_PAUSED:
                self.state, self.reason = libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER
                self._lifecycle(libvirt.VIR_DOMAIN_EVENT_SUSPENDED, 0)

    def resume(self) -> None:
        with self.hypervisor.lock:
            self.need_live()
            if self.state == libvirt.VIR_DOMAIN_RUNNING:
                raise errors.invalid_state('domain is already running', libvirt.VIR_FROM_QEMU)
            self.state, self.reason = libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_UNPAUSED
            self._lifecycle(libvirt.VIR_DOMAIN_EVENT_RESUMED, 0)
            unheard, self._unheard = self._unheard, []
            for device in unheard:
                if aliases.alias_of(device) in self.pending:
                    self.request_unplug(device)

    def reset(self) -> None:
        """A hard reset or a reboot keeps the running definition, and ends every pending unplug."""
        with self.hypervisor.lock:
            self.need_live()
            self.hypervisor.emit(libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self)
            for alias in list(self.pending):
                self.remove_live(alias)

    # Devices on their way out

    def remove_live(self, alias: str, told: bool = True, delay: float = 0) -> None:
        """A device has left the running guest. A test may call it: the guest gave up a device by itself."""
        with self.hypervisor.lock:
            live = self.need_live()
            self.pending.pop(alias, None)
            device = aliases.find(live, alias)
            parent = device.getparent()
            assert parent is not None
            parent.remove(device)
            if told:
                self.hypervisor.emit(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self, alias, delay=delay)
            self.hypervisor.changed.notify_all()

    def request_unplug(self, device: etree._Element) -> None:
        """QEMU's device_del: asks the guest, and returns at once."""
        alias = aliases.alias_of(device) or ''
        how = self.behaviour(alias)
        if not (how.scsi_too or addresses.needs_pci(device) or device.tag == 'memory'):
            how = Unplug(event_lost=how.event_lost, event_delay=how.event_delay)
        if how.busy > 0:
            how.busy -= 1
            raise errors.guest_busy()
        if alias in self.pending and how.already:
            raise errors.already_unplugging(alias)
        answered = alias in self.pending and self.pending[alias].get('answered') is not None
        request = etree.Element('request')
        self.pending[alias] = request
        if how.lost > 0:
            how.lost -= 1
            return
        if how.never:
            return
        if self.state == libvirt.VIR_DOMAIN_PAUSED and addresses.needs_pci(device):
            self._unheard.append(device)  # the guest finds the request when it runs again
            return
        request.set('answered', 'yes')
        if answered:
            return  # the first request's answer is still on its way
        refused = how.refuse > 0
        how.refuse -= 1 if refused else 0
        self.hypervisor.guests_clock.later(how.delay, lambda: self._answer(alias, device, refused, how))

    def _answer(self, alias: str, device: etree._Element, refused: bool, how: Unplug) -> None:
        with self.hypervisor.lock:
            present = self.live is not None and device in aliases.devices(self.live)
            if alias not in self.pending or not present:
                return  # a reset or a stop came first
            if refused:
                del self.pending[alias]
                self.hypervisor.emit(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, self, alias)
                self.hypervisor.changed.notify_all()
                return
            self.remove_live(alias, told=not how.event_lost, delay=how.event_delay)

    def _lifecycle(self, event: int, detail: int) -> None:
        self.hypervisor.emit(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self, event, detail)
