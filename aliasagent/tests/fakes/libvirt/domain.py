# SPDX-License-Identifier: Apache-2.0
"""virDomain, as far as the agent may want it."""

import functools
import typing
from collections.abc import Callable

import libvirt

from aliasagent.tests.fakes.libvirt import definition
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt import hotplug
from aliasagent.tests.fakes.libvirt.snapshots import FakeSnapshot

if typing.TYPE_CHECKING:
    from aliasagent.tests.fakes.libvirt.connection import FakeConnect
    from aliasagent.tests.fakes.libvirt.guest import FakeGuest

_P = typing.ParamSpec('_P')
_R = typing.TypeVar('_R')
_NO_JOB = [0] * 12
_UNBOUNDED_JOB = [libvirt.VIR_DOMAIN_JOB_UNBOUNDED, *[0] * 11]


def remote(
    method: 'Callable[typing.Concatenate[FakeDomain, _P], _R]',
) -> 'Callable[typing.Concatenate[FakeDomain, _P], _R]':
    """As for a connection; and the guest has to be there still."""

    @functools.wraps(method)
    def call(self: 'FakeDomain', *args: _P.args, **kwargs: _P.kwargs) -> _R:
        arguments = (self.UUIDString(), *args, *kwargs.values())
        self.connection.enter(method.__name__, arguments)
        with self.hypervisor.lock:
            self.connection.still_there()
            self.find()
            result = method(self, *args, **kwargs)
        self.hypervisor.leave(method.__name__, arguments)
        return result

    return typing.cast('Callable[typing.Concatenate[FakeDomain, _P], _R]', call)


class FakeDomain:
    """A client's handle on a guest: the guest is looked up by UUID with each call, as libvirtd does."""

    def __init__(self, connection: 'FakeConnect', guest: 'FakeGuest') -> None:
        self.connection = connection
        self.hypervisor = connection.hypervisor
        self._uuid = guest.uuid
        self._name = guest.name
        self._id = guest.id

    def find(self) -> 'FakeGuest':
        guest = self.hypervisor.guests.get(self._uuid)
        if guest is None:
            raise errors.no_domain(f"no domain with matching uuid '{self._uuid}' ({self._name})")
        return guest

    # What the handle knows by itself

    def connect(self) -> 'FakeConnect':
        return self.connection

    def UUIDString(self) -> str:  # noqa: N802  (libvirt's names, here and below)
        return self._uuid

    def name(self) -> str:
        return self._name

    def ID(self) -> int:  # noqa: N802
        guest = self.hypervisor.guests.get(self._uuid)
        return self._id if guest is None else guest.id

    # What it is and does

    @remote
    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802
        guest = self.find()
        inactive = bool(flags & libvirt.VIR_DOMAIN_XML_INACTIVE)
        where = guest.config if inactive or guest.live is None else guest.live
        if where is None:
            where = guest.need_live()  # a transient guest has only the one
        saved = inactive or bool(flags & libvirt.VIR_DOMAIN_XML_MIGRATABLE)
        return definition.dump(where, saved, bool(flags & libvirt.VIR_DOMAIN_XML_SECURE))

    @remote
    def state(self, flags: int = 0) -> list[int]:
        guest = self.find()
        return [guest.state, guest.reason]

    @remote
    def info(self) -> list[int]:
        return [self.find().state, 98304, 98304, 1, 0]

    @remote
    def isActive(self) -> int:  # noqa: N802
        return int(self.find().active)

    @remote
    def isPersistent(self) -> int:  # noqa: N802
        return int(self.find().persistent)

    @remote
    def create(self) -> int:
        self._start(0)
        return 0

    @remote
    def createWithFlags(self, flags: int = 0) -> int:  # noqa: N802
        self._start(flags)
        return 0

    def _start(self, flags: int) -> None:
        guest = self.find()
        if guest.managed_save is not None:
            path, guest.managed_save = guest.managed_save, None
            self.hypervisor.restore(path, None)
        else:
            guest.start(bool(flags & libvirt.VIR_DOMAIN_START_PAUSED))

    @remote
    def destroy(self) -> int:
        self.find().destroy()
        return 0

    @remote
    def destroyFlags(self, flags: int = 0) -> int:  # noqa: N802
        self.find().destroy()
        return 0

    @remote
    def shutdown(self) -> int:
        self._press_button()
        return 0

    @remote
    def shutdownFlags(self, flags: int = 0) -> int:  # noqa: N802
        self._press_button()
        return 0

    def _press_button(self) -> None:
        guest = self.find()
        if not guest.active:
            raise errors.not_running(libvirt.VIR_FROM_QEMU)
        if guest.answers_acpi:
            this_life = guest.id
            self.hypervisor.guests_clock.later(0.005, lambda: guest.power_off() if guest.id == this_life else None)

    @remote
    def reset(self, flags: int = 0) -> int:
        self.find().reset()
        return 0

    @remote
    def reboot(self, flags: int = 0) -> int:
        guest = self.find()
        guest.need_live()
        if guest.answers_acpi:
            this_life = guest.id
            self.hypervisor.guests_clock.later(0.005, lambda: guest.reset() if guest.id == this_life else None)
        return 0

    @remote
    def suspend(self) -> int:
        self.find().suspend()
        return 0

    @remote
    def resume(self) -> int:
        self.find().resume()
        return 0

    @remote
    def undefine(self) -> int:
        self._undefine()
        return 0

    @remote
    def undefineFlags(self, flags: int = 0) -> int:  # noqa: N802
        self._undefine()
        return 0

    def _undefine(self) -> None:
        """A running guest becomes transient; a stopped one is gone."""
        guest = self.find()
        guest.need_config()
        guest.config = None
        if not guest.active:
            self.hypervisor.forget(guest)
        self.hypervisor.emit(
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
            guest,
            libvirt.VIR_DOMAIN_EVENT_UNDEFINED,
            libvirt.VIR_DOMAIN_EVENT_UNDEFINED_REMOVED,
        )

    @remote
    def save(self, to: str) -> int:
        self._save(to, None)
        return 0

    @remote
    def saveFlags(self, to: str, dxml: str | None = None, flags: int = 0) -> int:  # noqa: N802
        self._save(to, dxml)
        return 0

    @remote
    def managedSave(self, flags: int = 0) -> int:  # noqa: N802
        path = f'managed-save/{self._uuid}'
        self._save(path, None)
        self.find().managed_save = path
        return 0

    @remote
    def hasManagedSaveImage(self, flags: int = 0) -> int:  # noqa: N802
        return int(self.find().managed_save is not None)

    @remote
    def managedSaveRemove(self, flags: int = 0) -> int:  # noqa: N802
        self.find().managed_save = None
        return 0

    def _save(self, path: str, dxml: str | None) -> None:
        guest = self.find()
        guest.begin_save(path, dxml)
        guest.end_save()

    @remote
    def snapshotCreateXML(self, xmlDesc: str, flags: int = 0) -> FakeSnapshot:  # noqa: N802, N803
        return FakeSnapshot(self.find(), xmlDesc)

    @remote
    def revertToSnapshot(self, snap: FakeSnapshot, flags: int = 0) -> int:  # noqa: N802
        snap.revert(self.find())
        return 0

    @remote
    def jobInfo(self) -> list[int]:  # noqa: N802
        guest = self.find()
        guest.need_live()
        return list(_NO_JOB if guest.job is None else _UNBOUNDED_JOB)

    @remote
    def jobStats(self, flags: int = 0) -> dict[str, int]:  # noqa: N802
        guest = self.find()
        guest.need_live()
        if guest.job is None:
            return {'type': libvirt.VIR_DOMAIN_JOB_NONE}
        return {'type': libvirt.VIR_DOMAIN_JOB_UNBOUNDED, 'operation': guest.job}

    @remote
    def migrateToURI3(self, dconnuri: str, params: dict[str, object], flags: int = 0) -> int:  # noqa: N802
        """The guest leaves for a destination that is there; what becomes of it there is not this hypervisor's."""
        guest = self.find()
        guest.need_live()
        if guest.migrating:
            raise errors.lock_timeout()
        if dconnuri not in self.hypervisor.destinations:
            raise errors.cannot_connect()
        if flags & libvirt.VIR_MIGRATE_UNDEFINE_SOURCE or not guest.persistent:
            guest.migrate_away()
        else:
            guest.stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)
        return 0

    @remote
    def abortJob(self) -> int:  # noqa: N802
        guest = self.find()
        guest.need_live()
        if guest.job is None:
            raise errors.invalid_state('no job is active on the domain', libvirt.VIR_FROM_QEMU)
        guest.migrating, guest.other_job = False, None
        return 0

    # Devices

    @remote
    def attachDeviceFlags(self, xml: str, flags: int = 0) -> int:  # noqa: N802
        hotplug.attach(self.find(), xml, flags)
        return 0

    @remote
    def detachDeviceAlias(self, alias: str, flags: int = 0) -> int:  # noqa: N802
        hotplug.detach_alias(self.find(), alias, flags)
        return 0

    @remote
    def detachDeviceFlags(self, xml: str, flags: int = 0) -> int:  # noqa: N802
        """Unlike a detach by alias this waits a while for the device to go, and says 0 whether it went or not."""
        guest = self.find()
        alias = hotplug.detach_xml(guest, xml, flags)
        if alias is not None:
            self.hypervisor.changed.wait_for(
                lambda: alias not in guest.pending or self.connection.dead, self.hypervisor.xml_detach_wait
            )
            self.connection.still_there()
        return 0

    @remote
    def updateDeviceFlags(self, xml: str, flags: int = 0) -> int:  # noqa: N802
        hotplug.update(self.find(), xml, flags)
        return 0
