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
#: Why a guest is shut off, if it continues elsewhere or later with its devices.
_STOPPED_BY = {
    libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN: events.Cause.UNKNOWN,
    libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED: events.Cause.MIGRATED,
    libvirt.VIR_DOMAIN_SHUTOFF_SAVED: events.Cause.SAVED,
    libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT: events.Cause.SAVED,
}
_MIGRATION_OUT = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
_MIGRATION_IN = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN
_MIGRATIONS = frozenset({_MIGRATION_IN, _MIGRATION_OUT})
#: The state of a guest that is paused for its save.
_SAVING = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE)
#: The state of a guest that was saved. After its own restart libvirtd reports "unknown" instead.
_SAVED = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED)
_BOOTED = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED)
#: The states of a guest that continues after a save: restored from a file, or because the save was canceled.
_CONTINUES = frozenset(
    {
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_SAVE_CANCELED),
    }
)
#: Sets the aliases that a definition's devices lack, in place, given the guest's other definition; returns the aliases
#: that it set, and on what evidence.
Rewrite = Callable[[Domain, Domain | None], dict[str, str]]
#: Lends a handle on the same guest for one call: :meth:`aliasagent.virt.connections.Connections.lender`.
Lend = Callable[[Any], contextlib.AbstractContextManager[Any]]


@dataclasses.dataclass(frozen=True)
class Definitions:
    """The definitions of a guest, as read at one time."""

    #: None if the guest is not running.
    live: Domain | None
    #: None if the guest is transient.
    persistent: Domain | None

    @property
    def there(self) -> Side:
        """The sides that have a definition."""
        return (Side.LIVE if self.live else Side(0)) | (Side.PERSISTENT if self.persistent else Side(0))

    def sides(self) -> list[tuple[Side, Domain]]:
        """Return the definitions that there are, the persistent one first."""
        both = ((Side.PERSISTENT, self.persistent), (Side.LIVE, self.live))
        return [(side, domain) for side, domain in both if domain is not None]


class _AsRead(Domain):
    """A definition as read, which is parsed when it is used."""

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

    def is_connected(self) -> bool:
        """Return whether the connection that the guest was looked up over is up; makes no call."""
        return self._is_alive()

    def is_active(self) -> bool:
        with self._call('check whether the guest runs') as domain:
            return bool(domain.isActive())

    def is_persistent(self) -> bool:
        with self._call('check whether the guest is persistent') as domain:
            return bool(domain.isPersistent())

    def state(self) -> str:
        """Return the guest's state in a word or two."""
        with self._call('read the state of the guest') as domain:
            state, _reason = domain.state()
        return _STATES.get(state, f'state {state}')

    def stopped_by(self) -> events.Cause | None:
        """Return why the guest is shut off; None if it is not."""
        # libvirtd forgets the reason when libvirtd is restarted. Then only a managed save image shows a save.
        with self._call('read the state of the guest') as domain:
            state, reason = domain.state()
            if state != libvirt.VIR_DOMAIN_SHUTOFF:
                return None
            if reason == libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN and domain.hasManagedSaveImage():
                return events.Cause.SAVED
        return _STOPPED_BY.get(reason, events.Cause.OTHER)

    def definitions(self, *, persistent: bool | None = None) -> Definitions:
        """Read both definitions, without secrets.

        :param persistent: whether the guest is persistent, if that was read just before.
        :raises GuestUnreadable: a definition could not be read or is invalid. Nothing is known of the devices then.
        """
        # NOTE: the persistent config first, because a guest is started with it. In the other order, the guest may be
        # started between the reads and its config changed after that: a device in neither definition may be running.
        if not (self.is_persistent() if persistent is None else persistent):
            saved = None
        else:
            saved = self._read(libvirt.VIR_DOMAIN_XML_INACTIVE)
        current = self._read(0)
        if current.is_live:
            if saved is not None:
                saved.add_ports(current.ports)
            return Definitions(live=current, persistent=saved)
        return Definitions(live=None, persistent=None if saved is None else current)

    def running_ports(self) -> frozenset[str]:
        """Return the ids of the ports in Nova's metadata of the running guest; none if the guest does not run.

        :raises GuestUnreadable: as for :meth:`definitions`.
        """
        running = self.live_definition()
        return frozenset() if running is None else running.ports()

    def live_definition(self) -> Domain | None:
        """Read the running guest's definition; None if the guest does not run.

        :raises GuestUnreadable: as for :meth:`definitions`.
        """
        # NOTE: for a guest that just stopped, libvirt returns the persistent definition, so the text must show which.
        current = self._read(0)
        return current if current.is_live else None

    def live_text(self) -> str | None:
        """Read the text of the running guest's definition; None if the guest does not run.

        :raises GuestUnreadable: as for :meth:`definitions`.
        """
        text = self._read_text(0)
        return text if dump.is_live(text) else None

    def persistent_text(self) -> str | None:
        """Read the persistent definition with its secrets, fit to be written back; None if the guest is transient.

        :raises GuestUnreadable: as for :meth:`definitions`.
        """
        return self.saved_text() if self.is_persistent() else None

    def saved_text(self) -> str:
        """Read the persistent definition as :meth:`persistent_text` does, of a guest that must be persistent.

        :raises GuestUnreadable: as for :meth:`definitions`.
        """
        return self._read_text(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)

    def define(self, xml: str) -> None:
        """Replace the persistent definition (virDomainDefineXML). A running guest continues as it is.

        :raises HypervisorError: libvirt refused.
        """
        with self._call('define') as domain:
            domain.connect().defineXML(xml)

    def movable_text(self) -> str | None:
        """Read the running guest's definition with its secrets, for a migration or restore; None if it does not run.

        Devices have only user aliases in it; libvirt leaves out the aliases that it generates.

        :raises GuestUnreadable: as for :meth:`definitions`.
        """
        if not self.is_active():
            return None
        return self._read_text(libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE)

    def memory(self) -> int:
        """Return how much memory the guest has at the moment, in bytes."""
        with self._call('read the memory size of the guest') as domain:
            return int(domain.info()[2]) * 1024

    def save(self, path: str) -> None:
        """Stop the guest and write its memory and definition to a new file (virDomainSaveFlags).

        :raises HypervisorError: libvirt refused, and the guest continues to run.
        """
        with self._call('save') as domain:
            domain.saveFlags(path, None, 0)

    def number(self) -> int:
        """Return libvirt's number of the run that the guest was in when it was looked up; -1 if it did not run."""
        with errors.translated('read the run number of the guest', self.uuid, self._is_alive):
            return int(self._domain.ID())  # from the handle, without a call

    def is_being_saved(self) -> bool:
        """Return whether libvirt is saving the running guest to a file."""
        action = 'check whether the guest is being saved'
        with self._call(action) as domain:
            if tuple(domain.state()) == _SAVING:
                return True
        try:
            job = self._job(action)
        except errors.InvalidOperation:
            return False  # the guest does not run
        return bool(job.get('type')) and job.get('operation') == libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE

    def is_saved(self) -> bool:
        """Return whether the guest was saved to a file that a client named, and has not run since."""
        with self._call('check whether the guest is saved') as domain:
            return tuple(domain.state()) == _SAVED and not domain.hasManagedSaveImage()

    def continues_from_save(self) -> bool:
        """Return whether libvirt reports that the running guest continues with the memory of its last save."""
        with self._call('read the state of the guest') as domain:
            return tuple(domain.state()) in _CONTINUES

    def was_started_anew(self) -> bool:
        """Return whether libvirt reports that the running guest was booted, and not restored or migrated."""
        with self._call('read the state of the guest') as domain:
            return tuple(domain.state()) == _BOOTED

    def migrate(self, dest_uri: str, parameters: Mapping[str, object], flags: int) -> None:
        """Migrate the guest to another host (virDomainMigrateToURI3); return when it is there.

        :raises HypervisorError: the guest could not be migrated; the message is libvirt's.
        """
        try:
            with self._call('migrate') as domain:
                domain.migrateToURI3(dest_uri, dict(parameters), flags)
        except errors.ConnectionLost:
            raise
        except exception.HypervisorUnavailable as error:
            if not self._is_alive():
                raise
            # The other host could not be reached; this one is up.
            raise exception.HypervisorError(action='migrate', reason=error.kwargs['reason']) from error

    def migration(self) -> dict[str, int] | None:
        """Return libvirt's statistics of the migration to another host (virDomainGetJobStats); None without one."""
        job = self._job('read the progress of the migration')
        return job if job.get('type') and job.get('operation') == _MIGRATION_OUT else None

    def _job(self, action: str) -> dict[str, int]:
        """Return libvirt's statistics of the guest's current job; without figures for an incoming migration."""
        try:
            with self._call(action) as domain:
                stats: dict[str, int] = domain.jobStats()
                return stats
        except exception.Unsupported:
            return {'type': libvirt.VIR_DOMAIN_JOB_UNBOUNDED, 'operation': _MIGRATION_IN}

    def abort_job(self) -> None:
        """Abort the guest's current job (virDomainAbortJob).

        :raises HypervisorError: there is no job, or it cannot be aborted.
        """
        with self._call('abort') as domain:
            domain.abortJob()

    def refuse_if_migrating(self) -> None:
        """Raise while the running guest is being migrated from or to another host.

        :raises GuestBusy: the guest is being migrated.
        """
        # NOTE: not by its state. A guest that was restored from a file and is paused is "paused for a migration", too.
        job = self._job('check whether the guest is being migrated')
        if job.get('type') and job.get('operation') in _MIGRATIONS:
            raise exception.GuestBusy(instance=self.uuid, reason='it is being migrated')

    def refuse_if_saved(self) -> None:
        """Raise if the guest was saved, and will continue with the devices that it had then.

        :raises GuestBusy: the guest was saved.
        """
        with self._call('check whether the guest was saved') as domain:
            if domain.hasManagedSaveImage():
                how = 'remove the saved image ("virsh managedsave-remove")'
            elif tuple(domain.state()) == _SAVED:
                how = 'restore it from its file first'
            else:
                return
        raise exception.GuestBusy(
            instance=self.uuid,
            reason=f'it was saved with its devices, and will continue with them: start it first, or {how}',
        )

    def is_at_work(self) -> bool:
        """Return whether libvirt runs a job on the running guest: a save, restore, migration or disk copy."""
        # libvirt continues a job whose client is gone. And a job is not over before its type is "none": while the last
        # of a guest's memory is written to its file, QEMU has finished and libvirt calls the job "completed".
        action = 'read the current job of the guest'
        try:
            with self._call(action) as domain:
                state = tuple(domain.state())
            return state == _SAVING or bool(self._job(action).get('type'))
        except errors.InvalidOperation:
            return False  # the guest does not run
        except exception.GuestBusy:
            return True  # libvirt is too busy with the guest to answer

    def refuse_if_at_work(self) -> None:
        """Raise while the running guest is being migrated, or libvirt runs any other job on it.

        :raises GuestBusy: libvirt runs a job on the guest.
        """
        self.refuse_if_migrating()
        if self.is_at_work():
            raise exception.GuestBusy(instance=self.uuid, reason='libvirt runs another job on it')

    def attach(self, xml: str, sides: Side) -> None:
        """Add a device (virDomainAttachDeviceFlags): to both sides or to neither.

        :raises HypervisorError: libvirt refused.
        """
        with self._call('attach') as domain:
            domain.attachDeviceFlags(xml, int(sides))

    def detach(self, alias: str, side: Side) -> None:
        """Remove a device by its alias (virDomainDetachDeviceAlias).

        On the live side this only sends the guest a request: wait for the event.

        :raises HypervisorError: libvirt refused.
        """
        with self._call('detach') as domain:
            domain.detachDeviceAlias(alias, int(side))

    def detach_persistent_xml(self, xml: str) -> None:
        """Remove a device without an alias from the persistent definition, by its whole XML as just read from there.

        :raises HypervisorError: libvirt refused.
        """
        with self._call('detach') as domain:
            domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    def update_persistent(self, xml: str) -> None:
        """Change a disk or interface in the persistent definition (virDomainUpdateDeviceFlags).

        libvirt erases what the XML leaves out, including the alias.

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
        """Lend the domain for a call to libvirt, with its errors translated."""
        with errors.translated(action, self.uuid, self._is_alive), self._lend(self._domain) as domain:
            yield domain
