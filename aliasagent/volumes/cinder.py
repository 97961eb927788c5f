# SPDX-License-Identifier: Apache-2.0
"""The volumes of Cinder and their attachments.

The functions that read answers are pure. :class:`Cinder` asks.
"""

import dataclasses
import urllib.parse
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from aliasagent.cloud import reading
from aliasagent.cloud.service import ObjectNotFound
from aliasagent.cloud.service import Service
from aliasagent.requests.base import Json

#: The first version with all that is used here, since the release Queens: attachments are of 3.27, ``os-complete`` of
#: 3.44, ``shared_targets`` and ``service_uuid`` of 3.48. Up to 3.68, ``shared_targets`` is true where it is unknown.
MICROVERSION = '3.48'

#: The status of an attachment whose guest has the volume; ``os-complete`` sets it.
ATTACHED = 'attached'


@dataclasses.dataclass(frozen=True)
class Holder:
    """An attachment of a volume, as the volume lists it. It lists only those that are complete."""

    id: str
    #: The server that has the volume; None if the attachment was made without.
    server_id: str | None
    #: The host that has the volume; None if the user may not see it.
    host_name: str | None
    #: The ``mountpoint`` of the connector that the attachment was made with.
    device: str | None


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume."""

    id: str
    status: str
    multiattach: bool
    #: Whether volumes of the same service share their targets; None (from 3.69 on) if all connections must take turns.
    shared_targets: bool | None
    service_uuid: str | None
    encrypted: bool
    attachments: tuple[Holder, ...]


@dataclasses.dataclass(frozen=True)
class Attachment:
    """An attachment."""

    id: str
    volume_id: str
    #: ``reserved`` until the storage has exported the volume, ``attaching`` from then on, ``attached`` once complete.
    status: str
    server_id: str | None
    #: How to connect to the volume, with passwords; None in lists, and until the storage has exported the volume.
    connection_info: Json | None = dataclasses.field(default=None, repr=False)


def volume_of(answer: Mapping[str, Any]) -> Volume:
    """Read an answer.

    :raises (AttributeError, KeyError, TypeError, ValueError): the answer is not valid.
    """
    found = answer['volume']
    shared = found.get('shared_targets')
    return Volume(
        id=reading.text(found['id']),
        status=reading.text(found['status']),
        multiattach=_flag(found['multiattach']),
        shared_targets=None if shared is None else _flag(shared),
        service_uuid=_optional(found.get('service_uuid')),
        encrypted=_flag(found['encrypted']),
        attachments=tuple(
            Holder(
                reading.uuid(it['attachment_id']),
                _optional(it['server_id']),
                _optional(it.get('host_name')),
                _optional(it.get('device')),
            )
            for it in found['attachments']
        ),
    )


def attachment_of(found: Mapping[str, Any]) -> Attachment:
    """Read an attachment, alone or from a list.

    :raises (AttributeError, KeyError, TypeError, ValueError): the attachment is not valid.
    """
    info = found.get('connection_info') or None
    if info is not None:
        reading.text(info['driver_volume_type'])
    return Attachment(
        id=reading.uuid(found['id']),
        volume_id=reading.text(found['volume_id']),
        status=reading.text(found['status']),
        server_id=_optional(found.get('instance')),
        connection_info=info,
    )


def attachments_of(answer: Mapping[str, Any], volume_id: str) -> list[Attachment]:
    """Read a list of the attachments of a volume.

    :raises (AttributeError, KeyError, TypeError, ValueError): the answer is not valid.
    """
    found = [attachment_of(it) for it in answer['attachments']]
    # A Cinder that ignored the filter would return those of all volumes.
    if any(it.volume_id != volume_id for it in found):
        raise ValueError('it has attachments of other volumes')
    return found


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f'{str(value)[:40]!r} is neither true nor false')
    return value


def _optional(value: object) -> str | None:
    return None if value in (None, '') else reading.text(value)


class Cinder:
    """Asks Cinder. All errors name the step; :class:`ObjectNotFound` says that an object does not exist.

    :param service: with :data:`MICROVERSION`.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def volume(self, volume_id: str) -> Volume:
        """Return a volume.

        :raises ObjectNotFound: Cinder does not have it.
        :raises CloudError: Cinder did not answer, refused, or the answer is not valid.
        """
        step = f'show volume {volume_id}'
        answer = self._service.get(f'/volumes/{_quoted(volume_id)}', step)
        if answer is None:
            raise self._missing(step, 'there is no such volume, or the user may not see it')
        with self._service.reading(step):
            return volume_of(answer)

    def attachment(self, attachment_id: str) -> Attachment:
        """Return an attachment, with its ``connection_info``.

        :raises ObjectNotFound: Cinder does not have it.
        :raises CloudError: Cinder did not answer, refused, or the answer is not valid.
        """
        step = f'show attachment {attachment_id}'
        answer = self._service.get(f'/attachments/{_quoted(attachment_id)}', step)
        if answer is None:
            raise self._missing(step, 'there is no such attachment')
        with self._service.reading(step):
            return attachment_of(answer['attachment'])

    def attachments_of(self, volume_id: str, **filters: str) -> list[Attachment]:
        """Return the attachments of a volume in any status, without their ``connection_info``.

        :param filters: further columns of an attachment in Cinder; only an administrator may filter by any of them.
        :raises CloudError: Cinder did not answer, refused, or the answer is not valid.
        """
        step = f'list the attachments of volume {volume_id}'
        answer = self._service.get(
            '/attachments', step, [('volume_id', volume_id), ('all_tenants', '1'), *filters.items()]
        )
        with self._service.reading(step):
            if answer is None:
                raise ValueError('no such page: is this the endpoint of Cinder?')
            return attachments_of(answer, volume_id)

    def create_attachment(self, volume_id: str, connector: Json, instance: str | None) -> tuple[str, Json]:
        """Reserve a volume and have it exported to a host; return the attachment's id and its ``connection_info``.

        Do not repeat it after a :class:`CloudError` that is no refusal: the attachment may exist, or be made later.

        :param connector: describes the host.
        :param instance: the guest as the server of the attachment. Cinder then asks Nova before it deletes the
            attachment, unless the requests have a service token. None for no server.
        :raises CloudRefused: the volume is not available.
        :raises CloudError: Cinder did not answer, failed, or the answer is not valid.
        """
        step = f'attach volume {volume_id}'
        body: Json = {'volume_uuid': volume_id, 'connector': connector}
        if instance is not None:
            body['instance_uuid'] = instance
        answer = self._service.send('POST', '/attachments', step, {'attachment': body})
        with self._service.reading(step):
            if answer is None:
                raise ValueError('it is empty')
            found = attachment_of(answer['attachment'])
            if found.connection_info is None:
                raise ValueError('it has no connection_info')
            return found.id, found.connection_info

    def complete(self, attachment_id: str) -> None:
        """Tell Cinder that the guest has the volume, which then is ``in-use``. Does nothing if Cinder knows already.

        :raises ObjectNotFound: Cinder does not have the attachment.
        :raises CloudError: Cinder did not answer, or refused.
        """
        # Asked first: a repeated os-complete would make a volume in-use that another client is detaching.
        if self.attachment(attachment_id).status != ATTACHED:
            path = f'/attachments/{_quoted(attachment_id)}/action'
            self._service.send('POST', path, f'complete attachment {attachment_id}', {'os-complete': {}})

    def delete(self, attachment_id: str) -> None:
        """Delete an attachment; without others, its volume is ``available`` again. Does nothing if there is none.

        :raises CloudError: Cinder did not answer, failed, or refused.
        """
        try:
            self._service.send(
                'DELETE', f'/attachments/{_quoted(attachment_id)}', f'delete attachment {attachment_id}'
            )
        except ObjectNotFound:
            return

    def check(self) -> None:
        """Check that Cinder answers, and that the user may see attachments and filter them as an administrator.

        :raises CloudError: one does not hold.
        """
        step = 'list attachments as an administrator'
        params = [('all_tenants', '1'), ('limit', '1')]
        for more in ([], [('mountpoint', 'aliasagent')]):
            answer = self._service.get('/attachments', step, [*params, *more])
            with self._service.reading(step):
                if answer is None:
                    raise ValueError('no such page: is this the endpoint of Cinder?')
                for it in answer['attachments']:
                    attachment_of(it)

    def _missing(self, step: str, reason: str) -> ObjectNotFound:
        return ObjectNotFound(service=self._service.name, step=step, reason=reason, request='')


def connected(conf: Any, on_answer: Callable[[str, bool], None] = lambda _name, _answered: None) -> Cinder:
    """Return the Cinder of a configuration that has the group ``cinder``.

    :param on_answer: is called after each request, as for :class:`Service`.
    """
    return Cinder(
        Service(
            conf,
            'cinder',
            on_answer=on_answer,
            microversion=MICROVERSION,
            service_token=conf.cinder.send_service_token,
        )
    )


def _quoted(identifier: str) -> str:
    return urllib.parse.quote(identifier, safe='')
