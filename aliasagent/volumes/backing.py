# SPDX-License-Identifier: Apache-2.0
"""Attach a volume of Cinder to this host before a guest gets it, and give it back afterwards.

What an operation needs to continue or to undo is in its details, which are saved before and after each change:

``volume_id``, ``service_uuid``, ``is_shared``
    The volume, and whether connections of volumes of its service must take turns.
``marker``
    The ``mountpoint`` in the connector: host, guest, and a number that is new for each operation.
``before``
    The ids of the attachments that the volume had before.
``requested``
    Whether Cinder was asked for an attachment, and has not refused.
``searched``
    Whether the attachment of that request was searched for as long as Cinder may be at work on it.
``attachment_id``
    The agent's own attachment.
``connection_info``
    What a disconnect needs of what Cinder and then the connector of the host returned; never a password.
``host``
    The details of the connector of the host.

An agent that was killed between two saves, or got no answer, may have an attachment of which it does not know the id.
Cinder keeps the marker of an attachment once the storage has exported the volume. It shows the marker only after
``os-complete``, but lets an administrator filter by it before. Only an attachment with the marker is the agent's own.
Until the export, nothing tells whose an attachment is: the agent waits a while, then leaves it alone and reports it.
There is one exception: if Cinder answers that its storage failed after it had reserved the volume for the agent, the
only new attachment of the volume is the agent's own, because no other client can reserve it until then. This does not
hold for a volume with multiattach.
"""

import contextlib
import dataclasses
import logging
import threading
import time
import uuid
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Protocol

from aliasagent import exception
from aliasagent.exception import CloudError
from aliasagent.exception import CloudRefused
from aliasagent.requests.base import Json
from aliasagent.volumes import redaction
from aliasagent.volumes.cinder import Attachment
from aliasagent.volumes.cinder import Cinder
from aliasagent.volumes.cinder import Volume

LOG = logging.getLogger(__name__)

Save = Callable[[Json], None]
#: Returns the details of the other connections of this host.
Others = Callable[[], Iterable[Json]]

#: Statuses of an attachment in which Cinder does not have its marker yet.
_UNMARKED = frozenset({'reserved', 'error_attaching'})
#: Characters of the host's name in a marker, of which Cinder keeps 255.
_MAX_HOST = 100
#: How Cinder's words begin if it has reserved the volume, and its storage then failed. Without the parenthesis, Cinder
#: does not know whether the storage continues. If another client has the volume, Cinder refuses with another status.
_RESERVED = 'HTTP 500: Unable to create attachment for volume ('


class VolumeRequest(Protocol):
    """A request to attach a volume of which it has only the id."""

    @property
    def volume_id(self) -> str: ...

    def with_connection(self, connection_info: Json) -> Json:
        """Return the arguments of the request to attach the volume with a ``connection_info``."""
        ...


class Connector(Protocol):
    """Connects volumes to this host. Each method can be repeated after a crash."""

    def properties(self) -> Json:
        """Return what Cinder must know of this host."""
        ...

    def connect(
        self, volume_id: str, connection_info: Json, save: Save, details: Json | None, others: Others
    ) -> Json:
        """Connect a volume if its type needs it, and return the ``connection_info`` with the ``device_path``."""
        ...

    def disconnect(self, volume_id: str, connection_info: Json, details: Json, save: Save, others: Others) -> None:
        """Disconnect a volume that its guest does not have any more."""
        ...

    def check(self, volume_id: str, details: Json) -> None:
        """Check that a connected volume still is what it was when it was connected."""
        ...


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long the agent waits, in seconds."""

    #: For Cinder to finish an attachment whose answer was lost. Cinder gives up on its storage after 60 s.
    search: float = 70.0
    #: Between two questions.
    pause: float = 2.0
    #: For the ``connection_info`` of an attachment that the storage has exported.
    answer: float = 10.0
    #: For the connection of another volume of the same service.
    turn: float = 600.0


@dataclasses.dataclass(frozen=True)
class _Found:
    """The attachments that a volume has now and did not have before."""

    own: list[Attachment]
    #: Those that may be the agent's own, or another client's.
    doubtful: list[Attachment]
    #: Whether Cinder lets the agent filter by the marker.
    is_telling: bool = True


class Turns:
    """Lets volumes whose storage shares its targets be connected and disconnected one at a time, by service.

    The scan for the device of one volume could otherwise find the target of another one, and keep a device of it that
    its disconnect has just removed. This holds in one agent only: not beside a nova-compute or another program on this
    host, which take turns with a lock file of os-brick's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}

    @contextlib.contextmanager
    def take(self, details: Json, seconds: float) -> Iterator[None]:
        """Wait for the turn of a volume if it needs one.

        :raises ConnectionFailed: the turn did not come in time.
        """
        if not details['is_shared']:
            yield
            return
        with self._lock:
            turn = self._turns.setdefault(details['service_uuid'] or '', threading.Lock())
        if not turn.acquire(timeout=seconds):
            raise exception.ConnectionFailed(
                volume=details['volume_id'],
                step='waiting for another volume of the same storage',
                reason=f'its connection did not end within {seconds:g} s',
            )
        try:
            yield
        finally:
            turn.release()


class CinderBacking:
    """Makes and undoes the attachments of volumes, and their connections to this host.

    :param host: the name of this host.
    :param send_instance: whether attachments name the guest as their server.
    :param others: returns the details of all connections of this host but the one of a guest and a volume.
    """

    def __init__(
        self,
        cinder: Cinder,
        connector: Connector,
        *,
        host: str,
        send_instance: bool = False,
        others: Callable[[str, str], Iterable[Json]] = lambda _instance, _volume_id: (),
        patience: Patience = Patience(),
    ) -> None:
        self._cinder = cinder
        self._connector = connector
        self._host = host
        self._send_instance = send_instance
        self._others = others
        self._patience = patience
        self._turns = Turns()

    def prepare(self, instance: str, request: VolumeRequest, details: Json, save: Save) -> Json:
        """Attach a volume to this host, connect it, and return the arguments of the request with that connection.

        :param details: as saved last; empty at first.
        :param save: is called with the details before and after each change.
        :raises CloudRefused: the volume does not exist or is not available, or the user may not attach it.
        :raises CloudError: Cinder did not answer or failed. The text names an attachment that may be left over.
        :raises ConnectionFailed: the host could not connect the volume.
        :raises InvalidRequest: the host cannot connect such a volume.
        """
        details = dict(details)
        info = None
        if 'marker' not in details:
            self._begin(instance, request.volume_id, details, save)
        elif details.get('requested') and 'attachment_id' not in details:
            self._adopt(instance, details, save)
        if 'attachment_id' not in details:
            info = self._attach(instance, details, save)
        if info is None:
            # Not from the details, which have no passwords.
            info = self._connection_info(details)
        info = self._connect(instance, info, details, save)
        return request.with_connection({**info, 'multiattach': True} if details['multiattach'] else info)

    def complete(self, instance: str, details: Json) -> None:
        """Tell Cinder that the guest has the volume; do nothing if Cinder knows already.

        :raises CloudRefused: Cinder refused, or does not have the attachment any more.
        :raises CloudError: Cinder did not answer.
        """
        self._cinder.complete(details['attachment_id'])

    def check(self, _instance: str, details: Json) -> None:
        """Check that this host still has the volume, as it may not after the host was started again.

        :raises ConnectionFailed: the volume is not connected any more, or its device is another disk.
        """
        if details.get('host'):
            self._connector.check(details['volume_id'], details['host'])

    def undo(self, instance: str, details: Json, save: Save) -> None:
        """Disconnect the volume from this host, and delete its attachment; do nothing for what is undone already.

        The volume must not be in the guest any more.

        :param details: as saved last.
        :param save: is called with the details when they change.
        :raises ConnectionFailed: the host could not disconnect the volume; the attachment stays.
        :raises CloudError: Cinder did not answer, failed or refused, or an attachment may be left over.
        """
        details = dict(details)
        if details.get('host'):
            volume_id, info = details['volume_id'], details['connection_info']
            with self._turns.take(details, self._patience.turn):
                self._connector.disconnect(
                    volume_id, info, details['host'], _keep(details, save), self._others_of(instance, volume_id)
                )
        if 'attachment_id' in details:
            self._cinder.delete(details['attachment_id'])
        elif details.get('requested') and (left := self._withdraw(instance, details, save)):
            raise CloudError(
                service='cinder', step=f'give back volume {details["volume_id"]}', reason=left, request=''
            )

    # The steps

    def _begin(self, instance: str, volume_id: str, details: Json, save: Save) -> None:
        """Keep what tells the agent's own attachment from others."""
        volume = self._cinder.volume(volume_id)
        before = self._cinder.attachments_of(volume_id)
        if self._send_instance:
            self._check_server(instance, volume_id, before)
        details |= {
            'volume_id': volume_id,
            'service_uuid': volume.service_uuid,
            'is_shared': volume.shared_targets is not False,
            'multiattach': volume.multiattach,
            'marker': f'aliasagent:{self._host[:_MAX_HOST]}:{instance}:{uuid.uuid4()}',
            'before': [it.id for it in before],
            'requested': False,
            'searched': False,
        }
        save(details)

    def _attach(self, instance: str, details: Json, save: Save) -> Json:
        """Make the attachment, and return its ``connection_info``."""
        volume_id = details['volume_id']
        connector = {**self._connector.properties(), 'host': self._host, 'mountpoint': details['marker']}
        before = {name: details[name] for name in ('requested', 'searched')}
        details |= {'requested': True, 'searched': False}
        save(details)
        try:
            attachment_id, info = self._cinder.create_attachment(volume_id, connector, self._server(instance))
        except CloudRefused as error:
            details |= before
            save(details)
            raise _with(error, self._holders(instance, details)) from error
        except CloudError as error:
            is_reserved = error.kwargs['reason'].startswith(_RESERVED)
            left = self._withdraw(instance, details, save, is_reserved=is_reserved)
            if not left:
                details['requested'] = False
                save(details)
            raise _with(error, left) from error
        details |= {'attachment_id': attachment_id, 'connection_info': redaction.kept(info)}
        save(details)
        return info

    def _adopt(self, instance: str, details: Json, save: Save) -> None:
        """Continue with the attachment of a request whose answer is not known, if there is one."""
        for it in self._search(instance, details, save).own:
            if 'attachment_id' not in details and self._is_answered(it.id):
                LOG.info('Volume %s: continuing with attachment %s', details['volume_id'], it.id)
                details['attachment_id'] = it.id
                save(details)
            else:
                LOG.info('Volume %s: deleting attachment %s, which was not finished', details['volume_id'], it.id)
                self._cinder.delete(it.id)

    def _is_answered(self, attachment_id: str) -> bool:
        """Wait until an attachment has its ``connection_info``; return whether it has."""
        end = time.monotonic() + self._patience.answer
        while self._cinder.attachment(attachment_id).connection_info is None:
            if time.monotonic() >= end:
                return False
            time.sleep(self._patience.pause)
        return True

    def _connection_info(self, details: Json) -> Json:
        """Return the ``connection_info`` of the attachment, with passwords."""
        attachment = self._cinder.attachment(details['attachment_id'])
        if attachment.connection_info is None:
            raise CloudError(
                service='cinder',
                step=f'attach volume {details["volume_id"]}',
                reason=f'attachment {attachment.id} ({attachment.status}) has no connection_info',
                request='',
            )
        return attachment.connection_info

    def _connect(self, instance: str, info: Json, details: Json, save: Save) -> Json:
        """Connect the volume to the host, and return its ``connection_info`` with the path of the device."""
        volume_id = details['volume_id']
        details['connection_info'] = redaction.kept(info)
        with self._turns.take(details, self._patience.turn):
            info = self._connector.connect(
                volume_id, info, _keep(details, save), details.get('host'), self._others_of(instance, volume_id)
            )
        details['connection_info'] = redaction.kept(info)
        save(details)
        return info

    @staticmethod
    def _check_server(instance: str, volume_id: str, before: list[Attachment]) -> None:
        """Refuse a guest that has the volume: Cinder takes a second attachment of a server for a migration.

        :raises CloudRefused: the guest has an attachment of the volume.
        """
        for it in before:
            if it.server_id == instance:
                raise CloudRefused(
                    service='cinder',
                    step=f'attach volume {volume_id}',
                    reason=f'attachment {it.id} ({it.status}) of server {instance} exists already',
                    request='',
                )

    # Attachments whose ids are not known

    def _withdraw(self, instance: str, details: Json, save: Save, *, is_reserved: bool = False) -> str:
        """Delete the agent's own attachments; return words about those that may be left over, else an empty text.

        :param is_reserved: whether Cinder has reserved the volume for the agent, so that a single attachment in doubt
            is the agent's own, unless other clients can reserve the volume as well.
        """
        try:
            found = self._search(instance, details, save, is_reserved=is_reserved)
            own = found.own
            if is_reserved and not details['multiattach'] and not own and len(found.doubtful) == 1:
                own, found = found.doubtful, _Found([], [])
            for it in own:
                LOG.info('Volume %s: deleting attachment %s of a failed request', details['volume_id'], it.id)
                self._cinder.delete(it.id)
        except CloudError as error:
            return f'an attachment may be left over, because Cinder could not be asked: {error}'
        return _left_over(found.doubtful)

    def _search(self, instance: str, details: Json, save: Save, *, is_reserved: bool = False) -> _Found:
        """Return the new attachments of the volume; wait while Cinder may still be at work on one, but only once.

        :param is_reserved: whether Cinder has finished already, so that there is nothing to wait for.
        """
        end = time.monotonic() + self._patience.search
        were_none = False
        while True:
            found = self._new(instance, details)
            is_none = not found.own and not found.doubtful
            is_final = bool(found.own) or is_reserved or not found.is_telling or details['searched']
            # A request that Cinder has just received shows only after a moment.
            if is_final or (is_none and were_none) or time.monotonic() >= end:
                break
            were_none = is_none
            time.sleep(self._patience.pause)
        if not details['searched']:
            details['searched'] = True
            save(details)
        return found

    def _new(self, instance: str, details: Json) -> _Found:
        server = self._server(instance)
        new = [
            it
            for it in self._cinder.attachments_of(details['volume_id'])
            if it.id not in details['before'] and it.server_id == server
        ]
        marked = self._marked(details) if new else frozenset()
        if marked is None:
            return _Found([], new, is_telling=False)
        return _Found(
            [it for it in new if it.id in marked],
            [it for it in new if it.id not in marked and it.status in _UNMARKED],
        )

    def _marked(self, details: Json) -> frozenset[str] | None:
        """Return the ids of the attachments with the marker; None if Cinder does not let the user filter by it."""
        volume_id, marker = details['volume_id'], details['marker']
        try:
            found = self._cinder.attachments_of(volume_id, mountpoint=marker)
            # A Cinder that ignores the filter returns others, too.
            others = self._cinder.attachments_of(volume_id, mountpoint=f'{marker}-') if found else []
        except CloudRefused as error:
            LOG.warning("The agent's own attachments of volume %s are unknown: %s", volume_id, error)
            return None
        return None if others else frozenset(it.id for it in found)

    def _holders(self, instance: str, details: Json) -> str:
        """Return words about what has a volume that Cinder refuses; empty if that is unknown."""
        try:
            volume = self._cinder.volume(details['volume_id'])
            doubtful = self._new(instance, details).doubtful if details['requested'] else []
        except CloudError:
            return ''
        return '; '.join(filter(None, (_held(volume), _left_over(doubtful))))

    def _server(self, instance: str) -> str | None:
        return instance if self._send_instance else None

    def _others_of(self, instance: str, volume_id: str) -> Others:
        return lambda: [it['host'] for it in self._others(instance, volume_id) if it.get('host')]


def _keep(details: Json, save: Save) -> Save:
    """Return a function that saves the connector's own details within the details."""

    def keep(host: Json) -> None:
        details['host'] = host
        save(details)

    return keep


def _with(error: CloudError, words: str) -> CloudError:
    """Return an error with further words, if there are any."""
    reason = f'{error.kwargs["reason"]}; {words}' if words else error.kwargs['reason']
    return type(error)(**{**error.kwargs, 'reason': reason})


def _held(volume: Volume) -> str:
    holders = [
        f'attachment {it.id}'
        + (f' to host {it.host_name}' if it.host_name else '')
        + (f' for server {it.server_id}' if it.server_id else '')
        for it in volume.attachments
    ]
    return f'the volume is {volume.status}' + (f', with {", ".join(holders)}' if holders else '')


def _left_over(doubtful: list[Attachment]) -> str:
    if not doubtful:
        return ''
    names = ', '.join(f'{it.id} ({it.status})' for it in doubtful)
    return (
        f"attachment {names} may be left over from this request, or may be another client's. If no other client made "
        f'it, delete it: openstack volume attachment delete {doubtful[0].id}'
    )
