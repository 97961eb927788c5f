# SPDX-License-Identifier: Apache-2.0
"""One guest: its state, its live and its persistent definition, and the calls that change its devices."""

import contextlib
import dataclasses
import enum
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import libvirt

from aliasagent import exception
from aliasagent.devices import dump
from aliasagent.devices.domain import Domain
from aliasagent.devices.xml import Element
from aliasagent.virt import errors
from aliasagent.virt import events


class Side(enum.IntFlag):
    """Which of a guest's two definitions (libvirt, ``virDomainModificationImpact``)."""

    LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
    PERSISTENT = libvirt.VIR_DOMAIN_AFFECT_CONFIG


_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: 'no state',
    libvirt.VIR_DOMAIN_RUNNING: 'running',
    libvirt.VIR_DOMAIN_BLOCKED: 'blocked',
    libvirt.VIR_DOMAIN_PAUSED: 'paused',
    libvirt.VIR_DOMAIN_SHUTDOWN: 'shutting down',
    libvirt.VIR_DOMAIN_SHUTOFF: 'shut off',
    libvirt.VIR_DOMAIN_CRASHED: 'crashed',
    libvirt.VIR_DOMAIN_PMSUSPENDED: 'suspended',
}
#: Why a guest does not run, where its devices are kept for it.
_STOPPED_BY = {
    libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN: events.Cause.UNKNOWN,
    libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED: events.Cause.MIGRATED,
    libvirt.VIR_DOMAIN_SHUTOFF_SAVED: events.Cause.SAVED,
    libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT: events.Cause.SAVED,
}
_MIGRATION_OUT = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
_MIGRATION_IN = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN
_MIGRATIONS = frozenset({_MIGRATION_IN, _MIGRATION_OUT})
#: The state of a guest that stands still for its save.
_SAVING = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE)
#: The state of a guest that was saved. libvirtd forgets the reason when it is started anew, and says "unknown" then.
_SAVED = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED)
_BOOTED = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED)
#: The states of a guest that goes on after a save: from a file, or because the save came to nothing.
_GOES_ON = frozenset(
    {
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_SAVE_CANCELED),
    }
)
#: Sets the aliases that a definition's devices lack, in place, given the guest's other definition; returns the aliases
#: that it set, and on what evidence.
Rewrite = Callable[[Domain, Domain | None], dict[str, str]]
#: Lends a handle on the same guest for one call: :meth:`aliasagent.virt.connections.Connections.lend`.
Lend = Callable[[Any], contextlib.AbstractContextManager[Any]]


@dataclasses.dataclass(frozen=True)
class Definitions:
    """What was read of a guest, at one time."""

    #: None if the guest is not running.
    live: Domain | None
    #: None if the guest is transient.
    persistent: Domain | None

    @property
    def there(self) -> Side:
        """Which definitions there are."""
        return (Side.LIVE if self.live else Side(0)) | (Side.PERSISTENT if self.persistent else Side(0))

    def sides(self) -> list[tuple[Side, Domain]]:
        """The definitions that there are."""
        both = ((Side.PERSISTENT, self.persistent), (Side.LIVE, self.live))
        return [(side, domain) for side, domain in both if domain is not None]


class _AsRead(Domain):
    """A definition that was read, of which it may turn out late that it makes no sense."""

    instance = ''

    @property
    def root(self) -> Element:
        try:
            return super().root
        except exception.InvalidXML as error:
            raise exception.GuestUnreadable(instance=self.instance, reason=error) from error


class Guest:
    """A view of a libvirt domain.

    Every method raises :exc:`InstanceNotFound` if the guest is gone, and :exc:`HypervisorUnavailable` if the hypervisor
    does not answer.

    :param lend: lends a handle for each call: the guest's own, unless too many calls hang on its connection.
    """

    def __init__(self, domain: Any, is_alive: Callable[[], bool], lend: Lend = contextlib.nullcontext) -> None:
        self._domain = domain
        self._is_alive = is_alive
        self._lend = lend
        self.uuid: str = domain.UUIDString()
        self.name: str = domain.name()

    def is_active(self) -> bool:
        with self._call('look whether the guest runs') as domain:
            return bool(domain.isActive())

    def is_persistent(self) -> bool:
        with self._call('look whether the guest is persistent') as domain:
            return bool(domain.isPersistent())

    def state(self) -> str:
        """The guest's state in a word or two."""
        with self._call('read the state of the guest') as domain:
            state, _reason = domain.state()
        return _STATES.get(state, f'state {state}')

    def stopped_by(self) -> events.Cause | None:
        """Why the guest is shut off; None if it is not.

        libvirtd forgets the reason when it is started anew; then only an image that it manages itself shows a save.
        """
        with self._call('read the state of the guest') as domain:
            state, reason = domain.state()
            if state != libvirt.VIR_DOMAIN_SHUTOFF:
                return None
            if reason == libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN and domain.hasManagedSaveImage():
                return events.Cause.SAVED
        return _STOPPED_BY.get(reason, events.Cause.OTHER)

    def definitions(self, *, persistent: bool | None = None) -> Definitions:
        """Read both definitions, to look at.

        :param persistent: whether the guest is, if that was asked a moment ago.
        :raises GuestUnreadable: one of them could not be read or makes no sense. Nothing is known of the devices then.
        """
        # NOTE: the persistent config first, for it is what a guest is started with. Read the other way round, a device
        # that is in neither definition may be in the guest: started meanwhile, and taken out of its config after that.
        if not (self.is_persistent() if persistent is None else persistent):
            saved = None
        else:
            saved = self._read(libvirt.VIR_DOMAIN_XML_INACTIVE)
        current = self._read(0)
        if current.is_live:
            return Definitions(live=current, persistent=saved)
        return Definitions(live=None, persistent=None if saved is None else current)

    def live_definition(self) -> Domain | None:
        """The running guest's definition; None if it does not run.

        :raises GuestUnreadable: as for :meth:`definitions`.
        """
        # NOTE: of a guest that just stopped this reads the saved definition, so the text itself has to say what it is.
        current = self._read(0)
        return current if current.is_live else None

    def live_text(self) -> str | None:
        """The running guest's definition as libvirt has it; None if it does not run.

        :raises GuestUnreadable: as for :meth:`definitions`.
        """
        text = self._read_text(0)
        return text if dump.is_live(text) else None

    def persistent_text(self) -> str | None:
        """The saved definition with its secrets, fit to be written back; None if the guest is transient.

        :raises GuestUnreadable: as for :meth:`definitions`.
        """
        return self.saved_text() if self.is_persistent() else None

    def saved_text(self) -> str:
        """As :meth:`persistent_text`, of a guest that is known to be persistent.

        :raises GuestUnreadable: as for :meth:`definitions`.
        """
        return self._read_text(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)

    def define(self, xml: str) -> None:
        """Replace the saved definition (virDomainDefineXML). A running guest goes on as it is.

        :raises HypervisorError: libvirt refused.
        """
        with self._call('define') as domain:
            domain.connect().defineXML(xml)

    def movable_text(self) -> str | None:
        """The running guest's definition with its secrets, fit to go on with elsewhere; None if it does not run.

        Devices have user aliases only there, those that libvirt generates are left out.

        :raises GuestUnreadable: as for :meth:`definitions`.
        """
        if not self.is_active():
            return None
        return self._read_text(libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE)

    def memory(self) -> int:
        """How much memory the guest has at the moment, in bytes."""
        with self._call('look how much memory the guest has') as domain:
            return int(domain.info()[2]) * 1024

    def save(self, path: str) -> None:
        """Stop the guest and write its memory and definition to a new file (virDomainSaveFlags).

        :raises HypervisorError: libvirt refused, and the guest goes on.
        """
        with self._call('save') as domain:
            domain.saveFlags(path, None, 0)

    def number(self) -> int:
        """libvirt's number of the run that the guest was in when it was looked up; -1 if it did not run."""
        with errors.translated('look which run of the guest this is', self.uuid, self._is_alive):
            return int(self._domain.ID())  # the handle knows it

    def is_being_saved(self) -> bool:
        """Whether libvirt is at saving the running guest to a file."""
        action = 'look whether the guest is being saved'
        with self._call(action) as domain:
            if tuple(domain.state()) == _SAVING:
                return True
        try:
            job = self._job(action)
        except errors.InvalidOperation:
            return False  # it does not run
        return bool(job.get('type')) and job.get('operation') == libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE

    def is_saved(self) -> bool:
        """Whether the guest has not run since it was saved to a file that somebody named."""
        with self._call('look whether the guest is saved') as domain:
            return tuple(domain.state()) == _SAVED and not domain.hasManagedSaveImage()

    def goes_on_from_save(self) -> bool:
        """Whether libvirt says of the running guest that it has in memory what it had at its last save."""
        with self._call('read the state of the guest') as domain:
            return tuple(domain.state()) in _GOES_ON

    def was_started_anew(self) -> bool:
        """Whether libvirt says that the running guest was booted: it goes on from no save and comes from no host."""
        with self._call('read the state of the guest') as domain:
            return tuple(domain.state()) == _BOOTED

    def migrate(self, dest_uri: str, parameters: Mapping[str, object], flags: int) -> None:
        """Move the guest to another host (virDomainMigrateToURI3); returns when it is there.

        :raises HypervisorError: it could not be moved; the words are libvirt's.
        """
        try:
            with self._call('migrate') as domain:
                domain.migrateToURI3(dest_uri, dict(parameters), flags)
        except errors.ConnectionLost:
            raise
        except exception.HypervisorUnavailable as error:
            if not self._is_alive():
                raise
            # It is the other host that could not be reached.
            raise exception.HypervisorError(action='migrate', reason=error.kwargs['reason']) from error

    def migration(self) -> dict[str, int] | None:
        """What libvirt says of the guest's way to another host (virDomainGetJobStats); None if it is not on one."""
        job = self._job('look how far the migration is')
        return job if job.get('type') and job.get('operation') == _MIGRATION_OUT else None

    def _job(self, action: str) -> dict[str, int]:
        """What libvirt says of the job that it is at; of a guest that another host sends it says nothing but that."""
        try:
            with self._call(action) as domain:
                stats: dict[str, int] = domain.jobStats()
                return stats
        except exception.Unsupported:
            return {'type': libvirt.VIR_DOMAIN_JOB_UNBOUNDED, 'operation': _MIGRATION_IN}

    def abort_job(self) -> None:
        """End what is under way with the guest (virDomainAbortJob).

        :raises HypervisorError: nothing is, or it cannot be ended.
        """
        with self._call('abort') as domain:
            domain.abortJob()

    def refuse_if_migrating(self) -> None:
        """Stop here while the running guest is on its way from or to another host.

        :raises GuestBusy: it is.
        """
        # NOTE: not by its state. One that was restored from a file and is paused is "paused for a migration", too.
        job = self._job('look whether the guest is being migrated')
        if job.get('type') and job.get('operation') in _MIGRATIONS:
            raise exception.GuestBusy(instance=self.uuid, reason='it is being migrated')

    def refuse_if_saved(self) -> None:
        """Stop here if the guest will go on from where it was saved: with the devices that it had then.

        :raises GuestBusy: it will.
        """
        with self._call('look whether the guest was saved') as domain:
            if domain.hasManagedSaveImage():
                how = 'drop what was saved ("virsh managedsave-remove")'
            elif tuple(domain.state()) == _SAVED:
                how = 'restore it from its file first'
            else:
                return
        raise exception.GuestBusy(
            instance=self.uuid,
            reason=f'it was saved with its devices, and goes on with them: start it first, or {how}',
        )

    def is_at_work(self) -> bool:
        """Whether libvirt is at a job with the running guest: saves, restores or moves it, or copies its disks.

        It goes on with one whose client is gone, and one is not over before its type is "none": while the last of a
        guest's memory is written to its file, QEMU is done and libvirt calls the job "completed".
        """
        action = 'look what is under way with the guest'
        try:
            with self._call(action) as domain:
                state = tuple(domain.state())
            return state == _SAVING or bool(self._job(action).get('type'))
        except errors.InvalidOperation:
            return False  # it does not run
        except exception.GuestBusy:
            return True  # so busy that libvirt cannot even tell

    def refuse_if_at_work(self) -> None:
        """Stop here while the running guest is on its way, or libvirt is at any other job with it.

        :raises GuestBusy: it is.
        """
        self.refuse_if_migrating()
        if self.is_at_work():
            raise exception.GuestBusy(instance=self.uuid, reason='libvirt is at another job with it')

    def attach(self, xml: str, sides: Side) -> None:
        """Add a device (virDomainAttachDeviceFlags): to both sides or to neither.

        :raises HypervisorError: libvirt refused.
        """
        with self._call('attach') as domain:
            domain.attachDeviceFlags(xml, int(sides))

    def detach(self, alias: str, side: Side) -> None:
        """Remove a device by its alias (virDomainDetachDeviceAlias).

        On the live side this only asks the guest: wait for the event.

        :raises HypervisorError: libvirt refused.
        """
        with self._call('detach') as domain:
            domain.detachDeviceAlias(alias, int(side))

    def detach_persistent_xml(self, xml: str) -> None:
        """Remove a device that has no alias from the saved definition, by its whole XML as just read from there.

        :raises HypervisorError: libvirt refused.
        """
        with self._call('detach') as domain:
            domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    def update_persistent(self, xml: str) -> None:
        """Change a disk or interface in the saved definition (virDomainUpdateDeviceFlags).

        What is left out of the XML is erased, the alias too.

        :raises HypervisorError: libvirt refused.
        """
        with self._call('update') as domain:
            domain.updateDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    def _read(self, flags: int) -> Domain:
        try:
            read = _AsRead.read(self._read_text(flags))
        except exception.InvalidXML as error:
            raise exception.GuestUnreadable(instance=self.uuid, reason=error) from error
        read.instance = self.uuid
        return read

    def _read_text(self, flags: int) -> str:
        try:
            with self._call('read the definition of the guest') as domain:
                return str(domain.XMLDesc(flags))
        except exception.HypervisorUnavailable:
            raise
        except (exception.HypervisorError, exception.Unsupported) as error:
            raise exception.GuestUnreadable(instance=self.uuid, reason=error) from error

    @contextlib.contextmanager
    def _call(self, action: str) -> Iterator[Any]:
        """Lend the domain for a call to libvirt, whose errors become ours."""
        with errors.translated(action, self.uuid, self._is_alive), self._lend(self._domain) as domain:
            yield domain
