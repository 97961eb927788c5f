# SPDX-License-Identifier: Apache-2.0
"""Attaches and detaches devices that need more than the guest: a volume of Cinder, a port of Neutron.

The agent makes a connection first (:class:`Backing`), then gives the guest the device, then completes the connection.
It undoes the connection last, and only after the guest certainly does not have the device. The journal has the stage
and the details of each connection before and after each step (:mod:`aliasagent.operations.connections`), so that the
next agent continues, or undoes, whatever this one has begun.

Everything about one guest runs in the guest's queue.
"""

import collections
import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from concurrent import futures
from typing import Any
from typing import Protocol

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.operations import knowledge
from aliasagent.operations.connections import Connection
from aliasagent.operations.connections import Connections
from aliasagent.operations.connections import Json
from aliasagent.operations.connections import Stage
from aliasagent.operations.model import Operation
from aliasagent.operations.queues import Job
from aliasagent.requests.base import Attach
from aliasagent.requests.base import AttachById
from aliasagent.trouble import Trouble
from aliasagent.virt import errors
from aliasagent.virt.driver import Driver
from aliasagent.virt.jobs import Stopping

LOG = logging.getLogger(__name__)

#: The kinds of devices that a detach may ask for, by what is connected for them.
_KINDS = {'volume': (None, 'disk'), 'port': (None, 'interface')}
#: Seconds that the removal of a connection waits: for other requests on its guest, and for its end.
_REMOVE_SECONDS, _REMOVED_SECONDS = 20.0, 30.0
#: Seconds until a connection that waits is checked again; each failure doubles them.
_PAUSE, _LONGEST_PAUSE = 60.0, 1800.0
#: The doubt while an attach runs, and after the hypervisor was lost in it.
_UNFINISHED, _LOST = 'the attach did not end', 'the hypervisor was lost during the attach'
_SWITCH_OFF = "the guest's QEMU may have it although no definition has: switch the guest off, and retry"
#: Errors of a detach that has not asked the guest for the device.
_NOT_ASKED = (
    exception.InvalidRequest,
    exception.NotFound,
    exception.Conflict,
    exception.GuestBusy,
    exception.GuestUnreadable,
)


class Backing(Protocol):
    """What the agent makes for a device outside of the guest. Each method can be repeated after a crash."""

    def prepare(
        self, instance: str, request: Any, details: Json, save: Callable[[Json], None]
    ) -> Json:
        """Make what is missing, and return the arguments of the request to attach the device.

        :param details: as saved last; empty at first.
        :param save: records details, before and after each change outside of the agent.
        :raises AliasAgentError: a step failed, or was refused.
        """

    def complete(self, instance: str, details: Json) -> None:
        """Tell the service that the guest has the device.

        :raises AliasAgentError: the service could not be told.
        """

    def check(self, instance: str, details: Json) -> None:
        """Check that the host still has what was made.

        :raises AliasAgentError: it has not.
        """

    def undo(self, instance: str, details: Json, save: Callable[[Json], None]) -> None:
        """Undo what was made, in reverse order; what is undone already is no error.

        :raises AliasAgentError: a step failed. The others before it stay undone.
        """


@dataclasses.dataclass
class _Wait:
    """A connection whose next step has failed."""

    trouble: Trouble = dataclasses.field(default_factory=Trouble)
    #: Seconds to the next try, and when it is, by the steady clock.
    pause: float = _PAUSE
    until: float = 0.0


class Connecting:
    """Attaches and detaches with a connection.

    :param backings: makes and undoes connections, by what is connected: ``volume``, ``port``.
    :param parse: makes the request to attach a device from what the service has answered.
    :param submit: puts a job into the queue of a guest.
    :param submit_if_idle: runs a job if the queue of a guest is empty.
    """

    def __init__(
        self,
        connections: Connections,
        driver: Driver,
        backings: Mapping[str, Backing],
        parse: Callable[[Action, str, Json], Attach],
        submit: Callable[[str, Job], object],
        submit_if_idle: Callable[[str, Job], object],
    ) -> None:
        self._connections = connections
        self._driver = driver
        self._backings = backings
        self._parse = parse
        self._submit = submit
        self._submit_if_idle = submit_if_idle
        self._lock = threading.Lock()
        #: The connections that wait, by guest and device.
        self._waits: dict[tuple[str, str], _Wait] = {}

    # Requests

    def attach(self, operation: Operation, request: AttachById, begin: Callable[[], object]) -> None:
        """Connect a device, attach it, and complete the connection.

        :param begin: records the start of the work.
        :raises: what a :class:`Backing` and :meth:`aliasagent.virt.driver.Driver.attach` raise. The connection is
            undone then, unless the guest may have the device.
        :raises ConnectionLeft: the connection could not be undone.
        """
        connection = self._begun(operation, request, begin)
        if connection.stage is Stage.GIVEN and any(self._driver.has_device(operation.instance, operation.device)):
            # Nothing is connected again under a guest that uses it.
            arguments = {**connection.given, **request.to_dict()}
            attach = self._parse(operation.action, operation.instance, arguments)
            connection = self._to_be_given(connection, connection.given)
        else:
            connection, attach = self._prepare(connection, operation.action, request)
        connection = self._give(connection, attach)
        if not connection.is_complete:
            self._complete(connection)

    def check_plain(self, operation: Operation) -> None:
        """Check that an attach that brings its own connection does not meet one that this agent is about to undo.

        :raises DeviceConflict: it does. To disconnect the host would take the volume from the guest.
        """
        found = self._connections.get(operation.instance, operation.device)
        if found is not None and (found.is_leaving or found.stage is not Stage.GIVEN):
            raise exception.DeviceConflict(
                instance=operation.instance,
                device=operation.device,
                reason=f'the agent is about to undo a connection of this {found.kind}: detach it first',
            )

    def check_move(self, instance: str) -> None:
        """Check that a guest may migrate: its connections are to this host.

        :raises GuestBusy: the agent has connected devices of the guest.
        """
        found = self.all(instance)
        if found:
            devices = ', '.join(f'{it.kind} {it.device}' for it in found)
            reason = f'the agent has connected devices of it to this host, detach these first: {devices}'
            raise exception.GuestBusy(instance=instance, reason=reason)

    def detach(
        self,
        operation: Operation,
        kind: str | None,
        work: Callable[[], 'futures.Future[None] | None'],
        begin: Callable[[], object],
    ) -> 'futures.Future[None] | None':
        """Detach a device, and undo its connection if it has one.

        :param kind: the required kind of the device; None for any.
        :param work: detaches the device.
        :param begin: records the start of the work.
        :return: a future that is resolved when both is done; None if both is.
        :raises: what ``work`` raises.
        :raises DetachFailed: no definition has the device any more, but the guest may have it elsewhere.
        :raises ConnectionLeft: the connection could not be undone.
        """
        connection = self._connections.get(operation.instance, operation.device)
        if connection is None or kind not in _KINDS[connection.kind]:
            return work()
        if connection.stage is not Stage.GIVEN:
            begin()
            self._undo(connection)
            return None
        was_leaving = connection.is_leaving
        connection = self._connections.put(dataclasses.replace(connection, is_leaving=True))
        try:
            pending = work()
        except exception.DeviceNotFound:
            pending = None
        except _NOT_ASKED:
            if not was_leaving:
                self._connections.put(dataclasses.replace(connection, is_leaving=False))
            raise
        if pending is None:
            self._undo_gone(connection)
            return None
        undone: futures.Future[None] = futures.Future()
        pending.add_done_callback(functools.partial(self._after_detach, connection, undone))
        return undone

    def released(self, instance: str, device: str) -> None:
        """Have the connection of a device undone that the guest has released after its detach had failed."""
        self._submit(instance, functools.partial(self._tend, instance, device))

    def remove(self, instance: str, device: str) -> None:
        """Undo the connection of a device that no definition of the guest has, also if the guest has left this host.

        The caller vouches that the guest does not have the device elsewhere.

        :raises DeviceNotFound: the agent has made no such connection.
        :raises DeviceConflict: the guest has the device, or its QEMU may have.
        :raises ConnectionLeft: a step failed.
        :raises ServiceBusy: other requests on the guest have not ended in time, or the undo has not.
        """
        done: futures.Future[None] = futures.Future()

        def job() -> None:
            # A caller that has given up was answered that nothing was done.
            if not done.set_running_or_notify_cancel():
                return
            try:
                self._remove(instance, device)
            except BaseException as error:  # noqa: BLE001 - raised for the caller
                done.set_exception(error)
            else:
                done.set_result(None)

        self._submit(instance, job)
        try:
            done.result(_REMOVE_SECONDS)
        except TimeoutError:
            if done.cancel():
                raise exception.ServiceBusy(reason=f'other requests on instance {instance} have not ended') from None
            try:
                done.result(_REMOVED_SECONDS)
            except TimeoutError:
                raise exception.ServiceBusy(reason='the connection is still being undone') from None

    # What is known

    def all(self, instance: str | None = None) -> list[Connection]:
        """Return the connections of all guests, or of one.

        :raises JournalError: the connections cannot be read.
        """
        return self._connections.all(instance)

    def counts(self) -> dict[tuple[str, str], int]:
        """Return the numbers of connections, by kind and stage; none if the journal cannot be read."""
        try:
            found = collections.Counter((it.kind, it.stage.value) for it in self.all())
        except exception.JournalError as error:
            LOG.debug('The connections cannot be counted: %s', error)
            return {}
        return {(kind, stage.value): found[kind, stage.value] for kind in self._backings for stage in Stage} | found

    def is_in_use(self, connection: Connection) -> bool | None:
        """Return whether a definition of the guest has the device of a connection; None if that is unknown."""
        try:
            return any(self._driver.has_device(connection.instance, connection.device))
        except exception.AliasAgentError as error:
            LOG.debug('Instance %s: it is unknown whether it has %s: %s', connection.instance, connection.device, error)
            return None

    # The look at all connections

    def tend(self) -> None:
        """Have each connection checked whose guest is idle: what a crash or a service has left undone is continued.

        :raises JournalError: the connections cannot be read.
        """
        now = time.monotonic()
        for connection in self.all():
            key = connection.instance, connection.device
            with self._lock:
                wait = self._waits.get(key)
            if wait is None or wait.until <= now:
                # Not behind other requests: the next look comes soon.
                self._submit_if_idle(connection.instance, functools.partial(self._tend, *key))

    def _tend(self, instance: str, device: str) -> None:
        """Continue with a connection that no operation works on; this runs in the queue of the guest."""
        try:
            connection = self._connections.get(instance, device)
            if connection is not None:
                self._continue(connection)
        except Stopping:
            return
        except exception.AliasAgentError as error:
            self._note_wait(instance, device, error)
        else:
            with self._lock:
                self._waits.pop((instance, device), None)

    def _continue(self, connection: Connection) -> None:
        """Do the next step of a connection.

        :raises AliasAgentError: the step failed, or the guest lacks the device.
        """
        if connection.stage is not Stage.GIVEN:
            self._undo(connection)
            return
        live, persistent = self._driver.has_device(connection.instance, connection.device)
        if live and not connection.was_live:
            connection = self._connections.put(dataclasses.replace(connection, was_live=True))
        if live or persistent:
            if not connection.is_complete and not connection.is_leaving:
                self._complete(connection)
            self._backing(connection).check(connection.instance, connection.details)
        elif connection.is_leaving:
            self._undo_gone(connection)
        else:
            raise exception.DeviceNotFound(instance=connection.instance, device=connection.device)

    def _note_wait(self, instance: str, device: str, error: exception.AliasAgentError) -> None:
        with self._lock:
            wait = self._waits.setdefault((instance, device), _Wait())
        wait.pause = min(wait.pause * 2, _LONGEST_PAUSE) if wait.until else _PAUSE
        wait.until = time.monotonic() + wait.pause
        if wait.trouble.is_new(error):
            LOG.warning('The connection of %s to instance %s waits: %s', device, instance, error)

    # The steps

    def _begun(self, operation: Operation, request: AttachById, begin: Callable[[], object]) -> Connection:
        """Return the connection that an attach makes or continues.

        :raises AttachFailed: an earlier try of this operation has failed, and its connection is undone now.
        """
        found = self._connections.get(operation.instance, operation.device)
        if found is not None and found.stage is Stage.UNDOING:
            begin()
            self._undo(found)
            if found.operation == operation.id:
                reason = found.problem or 'it was detached meanwhile'
                raise exception.AttachFailed(instance=operation.instance, device=operation.device, reason=reason)
            found = None
        if found is None:
            self._driver.check_attach(operation.instance, request)
            found = Connection(operation.instance, operation.device, request.connects, Stage.PREPARING, operation.id)
        begin()
        # It stays leaving: the guest may still release the device, until it has accepted the device again.
        return self._connections.put(dataclasses.replace(found, operation=operation.id))

    def _prepare(self, connection: Connection, action: Action, request: AttachById) -> tuple[Connection, Attach]:
        """Connect a device; undo that if it fails and the guest does not have the device."""
        latest = connection

        def save(details: Json) -> None:
            nonlocal latest
            latest = self._connections.put(dataclasses.replace(latest, details=details))

        try:
            arguments = self._backing(connection).prepare(
                connection.instance, request, dict(connection.details), save
            )
            attach = self._parse(action, connection.instance, arguments)
            return self._to_be_given(latest, attach.to_dict()), attach
        except (Stopping, exception.HypervisorUnavailable):
            raise
        except Exception as error:
            if latest.stage is Stage.PREPARING or self._why_left(latest) is None:
                self._undo_after(error, latest)
            raise

    def _to_be_given(self, connection: Connection, given: Json) -> Connection:
        """Record that from now on the guest may have the device: the run that is asked for it, and the doubt."""
        run = self._driver.run_of(connection.instance)
        # A doubt about an earlier run ended with that run.
        doubt = connection.doubt if run == connection.run else None
        return self._connections.put(
            dataclasses.replace(
                connection,
                stage=Stage.GIVEN,
                given=given,
                run=run,
                doubt=doubt or _UNFINISHED,
                was_live=connection.was_live or run is not None,
            )
        )

    def _give(self, connection: Connection, attach: Attach) -> Connection:
        """Attach the device; undo the connection if the guest does not have the device then."""
        try:
            self._driver.attach(connection.instance, attach, begun_before=True)
        except exception.HypervisorUnavailable:
            self._connections.put(dataclasses.replace(connection, doubt=_LOST))
            raise
        except exception.AliasAgentError as error:
            if isinstance(error.__cause__, errors.LeftInQemu):
                self._connections.put(dataclasses.replace(connection, doubt=str(error)))
            else:
                ended = self._connections.put(dataclasses.replace(connection, doubt=_after(connection)))
                if self._why_left(ended) is None:
                    self._undo_after(error, ended)
            raise
        return self._connections.put(
            dataclasses.replace(connection, doubt=_after(connection), is_leaving=False)
        )

    def _complete(self, connection: Connection) -> None:
        self._backing(connection).complete(connection.instance, connection.details)
        try:
            self._connections.put(dataclasses.replace(connection, is_complete=True))
        except exception.JournalError as error:
            # All is done; the next look does this step again, which changes nothing.
            LOG.warning('The complete connection of %s is not recorded: %s', connection.device, error)

    def _why_left(self, connection: Connection) -> str | None:
        """Return why a guest may have the device of a connection; None if it certainly has not."""
        try:
            device = knowledge.device_of(knowledge.request_of(connection)) if connection.given else None
            left = self._driver.left(
                connection.instance, connection.device, device, was_live=connection.was_live
            )
            if left is None and connection.doubt is not None:
                run = self._driver.run_of(connection.instance)
                if run is not None and run == connection.run:
                    return f'{connection.doubt}; {_SWITCH_OFF}'
        except exception.AliasAgentError as error:
            return str(error)
        return left

    def _undo_gone(self, connection: Connection) -> None:
        """Undo a connection whose device no definition of the guest has.

        :raises DetachFailed: the guest may have it elsewhere.
        """
        left = self._why_left(connection)
        if left is not None:
            raise exception.DetachFailed(
                instance=connection.instance,
                device=connection.device,
                reason=f'{left}; its {connection.kind} stays connected',
            )
        self._undo(connection)

    def _after_detach(
        self, connection: Connection, undone: 'futures.Future[None]', pending: 'futures.Future[None]'
    ) -> None:
        """Undo a connection once its guest has released the device."""
        error = pending.exception()
        if error is not None:
            undone.set_exception(error)
            return

        def undo() -> None:
            try:
                self._undo_gone(connection)
            except Stopping:
                return  # the next agent continues
            except Exception as error:  # noqa: BLE001 - becomes the outcome of the detach
                undone.set_exception(error)
            else:
                undone.set_result(None)

        try:
            # This thread resolves the detaches of all guests. A daemon: the next agent continues.
            threading.Thread(target=undo, name='disconnect', daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            # The next look at all connections undoes it.
            undone.set_exception(self._left(connection, f'no thread could be started: {error}'))

    def _remove(self, instance: str, device: str) -> None:
        connection = self._connections.get(instance, device)
        if connection is None:
            raise exception.DeviceNotFound(instance=instance, device=device)
        try:
            if connection.stage is Stage.GIVEN and any(self._driver.has_device(instance, device)):
                reason = 'the guest has it: detach it'
                raise exception.DeviceConflict(instance=instance, device=device, reason=reason)
            if connection.doubt is not None and connection.run == self._driver.run_of(instance) is not None:
                raise exception.DeviceConflict(
                    instance=instance, device=device, reason=f'{connection.doubt}; {_SWITCH_OFF}'
                )
        except exception.InstanceNotFound:
            LOG.info('Instance %s is not on this host; its %s %s is disconnected', instance, connection.kind, device)
        self._undo(connection)

    def _undo_after(self, error: Exception, connection: Connection) -> None:
        """Undo a connection whose attach failed.

        :raises ConnectionLeft: that failed, too.
        """
        try:
            self._undo(dataclasses.replace(connection, problem=str(error)))
        except exception.ConnectionLeft as left:
            raise exception.ConnectionLeft(**{**left.kwargs, 'reason': f'{error}; {left.kwargs["reason"]}'}) from error

    def _undo(self, connection: Connection) -> None:
        """Undo a connection whose device the guest certainly does not have.

        :raises ConnectionLeft: a step failed.
        """
        latest = connection

        def save(details: Json) -> None:
            nonlocal latest
            latest = self._connections.put(dataclasses.replace(latest, details=details))

        try:
            if connection.stage is not Stage.UNDOING:
                latest = self._connections.put(dataclasses.replace(connection, stage=Stage.UNDOING))
            self._backing(latest).undo(latest.instance, dict(latest.details), save)
            self._connections.delete(latest)
        except exception.AliasAgentError as error:
            raise self._left(connection, str(error)) from error
        with self._lock:
            self._waits.pop((connection.instance, connection.device), None)
        LOG.info('Instance %s: disconnected %s %s', connection.instance, connection.kind, connection.device)

    def _left(self, connection: Connection, reason: str) -> exception.ConnectionLeft:
        return exception.ConnectionLeft(
            instance=connection.instance, device=connection.device, kind=connection.kind, reason=reason
        )

    def _backing(self, connection: Connection) -> Backing:
        """Return what makes and undoes a connection.

        :raises Unsupported: the options of its service were removed.
        """
        backing = self._backings.get(connection.kind)
        if backing is None:
            raise exception.Unsupported(
                what=f'a connected {connection.kind}', reason='the options of its service are not set any more'
            )
        return backing


def _after(connection: Connection) -> str | None:
    """Return the doubt after an attach has ended: what was lost in an earlier one may have left something in QEMU."""
    return None if connection.doubt == _UNFINISHED else connection.doubt
