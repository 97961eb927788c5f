# SPDX-License-Identifier: Apache-2.0
"""A Cinder with its state, as far as the agent uses it; :class:`FakeCloud` serves it."""

import copy
import urllib.parse
import uuid
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from aliasagent.tests.fakes.cloud import Answer

_NOT_FOUND = {'itemNotFound': {'message': 'The resource could not be found.', 'code': 404}}
_FAULT = {
    'computeFault': {
        'message': 'The server has either erred or is incapable of performing the requested operation.',
        'code': 500,
    }
}
#: Statuses of a volume that an attachment can reserve.
_FREE = ('available', 'downloading')


class FakeCinder:
    """Volumes and attachments, with the statuses and refusals of Cinder 29.

    The storage is told how to behave by :attr:`export`. What an answer does on its way to the client is told by
    :attr:`after`.
    """

    def __init__(self) -> None:
        self.volumes: dict[str, dict[str, Any]] = {}
        #: With the columns that the API does not show: ``mountpoint``, ``attached_host``.
        self.attachments: dict[str, dict[str, Any]] = {}
        #: Members of the ``connection_info`` of each volume.
        self.connection: dict[str, Any] = {
            'driver_volume_type': 'rbd', 'hosts': ['127.0.0.1'], 'ports': ['6789'], 'auth_enabled': True,
            'auth_username': 'cinder', 'secret_type': 'ceph', 'secret_uuid': 'cad4784e-b086-4310-9496-0882feed8705',
        }  # fmt: skip
        #: Called with an attachment before its volume is exported; it raises :class:`StorageError` if that fails.
        self.export: Callable[[dict[str, Any]], None] = lambda _attachment: None
        #: Called after each change with the method, the path and the answer; returns the answer that the client gets.
        self.after: Callable[[str, str, Answer], Answer] = lambda _method, _path, answer: answer
        #: Whether the user is an administrator, who may filter by any column.
        self.is_admin = True
        #: The servers that Nova has; None if Cinder cannot ask Nova.
        self.nova: set[str] | None = None
        #: The method, the path and the headers of each request.
        self.requests: list[tuple[str, str, Mapping[str, str]]] = []

    def add_volume(self, volume_id: str = '', **more: Any) -> str:
        """Add a volume that is available, and return its id."""
        volume_id = volume_id or str(uuid.uuid4())
        self.volumes[volume_id] = {
            'id': volume_id, 'status': 'available', 'size': 1, 'multiattach': False, 'encrypted': False,
            'shared_targets': False, 'service_uuid': '96dc9dac-d584-41ef-9140-2f23737d03b4', **more,
        }  # fmt: skip
        return volume_id

    def add_attachment(self, volume_id: str, status: str = 'reserved', **more: Any) -> str:
        """Add the attachment of another client, and return its id."""
        attachment_id = str(uuid.uuid4())
        self.attachments[attachment_id] = {
            'id': attachment_id, 'volume_id': volume_id, 'status': status, 'instance': None, 'connection_info': {},
            'mountpoint': None, 'attached_host': None, **more,
        }  # fmt: skip
        self.volumes[volume_id]['status'] = 'in-use' if status == 'attached' else status
        return attachment_id

    def of_volume(self, volume_id: str) -> list[dict[str, Any]]:
        """Return the attachments of a volume."""
        return [it for it in list(self.attachments.values()) if it['volume_id'] == volume_id]

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: Any) -> Answer:
        """Answer a request; :attr:`FakeCloud.services` has this under ``volume``."""
        path, _mark, query = target.partition('?')
        self.requests.append((method, target, dict(headers)))
        parts = path.strip('/').split('/')[1:]
        return self.after(method, path, self._answer(method, parts, dict(urllib.parse.parse_qsl(query)), headers, body))

    def _answer(
        self, method: str, parts: list[str], query: dict[str, str], headers: Mapping[str, str], body: Any
    ) -> Answer:
        match method, parts:
            case 'GET', ['volumes', volume] if volume in self.volumes:
                return 200, {'volume': self._shown_volume(volume)}
            case 'GET', ['attachments']:
                return self._list(query)
            case 'POST', ['attachments']:
                return self._create(body['attachment'])
            case _, ['attachments', attachment, *_rest] if attachment not in self.attachments:
                return 404, _NOT_FOUND
            case 'GET', ['attachments', attachment]:
                return 200, {'attachment': _shown(self.attachments[attachment], is_detailed=True)}
            case 'DELETE', ['attachments', attachment]:
                return self._delete(self.attachments[attachment], headers)
            case 'POST', ['attachments', attachment, 'action'] if 'os-complete' in body:
                self.attachments[attachment]['status'] = 'attached'
                self.volumes[self.attachments[attachment]['volume_id']]['status'] = 'in-use'
                return 204, b''
        return 404, _NOT_FOUND

    def _shown_volume(self, volume_id: str) -> dict[str, Any]:
        attachments = [
            {
                'id': volume_id, 'attachment_id': it['id'], 'volume_id': volume_id, 'server_id': it['instance'],
                'host_name': it['attached_host'] if self.is_admin else None, 'device': it['mountpoint'],
            }
            for it in self.of_volume(volume_id)
            if it['status'] == 'attached'
        ]  # fmt: skip
        return {**self.volumes[volume_id], 'attachments': attachments}

    def _list(self, query: dict[str, str]) -> Answer:
        filters = {name: value for name, value in query.items() if name not in ('all_tenants', 'limit')}
        if not self.is_admin and (unknown := set(filters) - {'volume_id', 'status', 'instance_id', 'attach_status'}):
            words = f'Invalid filters {", ".join(unknown)} are found in query options.'
            return 400, {'badRequest': {'message': words, 'code': 400}}
        found = [
            it for it in list(self.attachments.values()) if all(it[name] == value for name, value in filters.items())
        ]
        return 200, {'attachments': [_shown(it) for it in found[: int(query.get('limit', 1000))]]}

    def _create(self, wanted: dict[str, Any]) -> Answer:
        volume = self.volumes.get(wanted['volume_uuid'])
        if volume is None:
            return 404, _NOT_FOUND
        free = (*_FREE, 'in-use') if volume['multiattach'] else _FREE
        server = wanted.get('instance_uuid')
        if volume['status'] not in free and not (
            server and any(it['instance'] == server for it in self.of_volume(volume['id']))
        ):
            words = (
                f'Invalid volume: Volume {volume["id"]} status must be {" or ".join(free)} to reserve, but the current '
                f'status is {volume["status"]}.'
            )
            return 400, {'badRequest': {'message': words, 'code': 400}}
        made = self.attachments[self.add_attachment(volume['id'], instance=server)]
        try:
            self.export(made)
        except StorageError as error:
            return 500, {'computeFault': {'message': str(error), 'code': 500}}
        made.update(
            status='attaching',
            mountpoint=wanted['connector'].get('mountpoint', 'na'),
            attached_host=wanted['connector'].get('host', ''),
            connection_info={
                **self.connection,
                'name': f'volumes/volume-{volume["id"]}',
                'volume_id': volume['id'],
                'attachment_id': made['id'],
            },
        )
        volume['status'] = 'attaching'
        # As the real one: the answer has the status from before the export.
        return 200, {'attachment': {**_shown(made, is_detailed=True), 'status': 'reserved'}}

    def _delete(self, attachment: dict[str, Any], headers: Mapping[str, str]) -> Answer:
        is_service = bool(headers.get('X-Service-Token'))
        if attachment['instance'] and attachment['connection_info'] and not is_service:
            if self.nova is None:
                return 500, _FAULT
            if attachment['instance'] in self.nova:
                return 409, {'conflictingRequest': {'message': 'Detach volume from instance', 'code': 409}}
        del self.attachments[attachment['id']]
        left = self.of_volume(attachment['volume_id'])
        statuses = [it['status'] for it in left] or ['available']
        self.volumes[attachment['volume_id']]['status'] = 'in-use' if 'attached' in statuses else statuses[0]
        return 200, {'attachments': [_shown(it) for it in left]}


class StorageError(Exception):
    """The storage could not export a volume; the text is Cinder's answer."""


#: How Cinder answers if its storage refuses, and if the storage does not answer in time.
FAILED = 'Unable to create attachment for volume (Bad or unexpected response from the storage volume backend API).'
TIMED_OUT = 'Unable to create attachment for volume.'


def _shown(attachment: dict[str, Any], *, is_detailed: bool = False) -> dict[str, Any]:
    names = ('id', 'status', 'instance', 'volume_id', *(('connection_info',) if is_detailed else ()))
    return copy.deepcopy({name: attachment[name] for name in names})
