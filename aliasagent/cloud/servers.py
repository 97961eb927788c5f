# SPDX-License-Identifier: Apache-2.0
"""The servers of Nova: their states and their volumes. Nothing here needs a microversion above 2.1."""

import dataclasses
import urllib.parse
from collections.abc import Mapping
from typing import Any

from aliasagent.cloud import reading
from aliasagent.cloud.service import Service

#: States in which a server has the targets that Nova lists. A rescued one has others.
_QUIET_STATES = frozenset({'active', 'paused', 'stopped', 'suspended'})

#: Actions that change the devices of a server. Nova sets no task for them, and does one after the other.
_DEVICE_ACTIONS = frozenset({'attach_volume', 'detach_volume', 'swap_volume', 'attach_interface', 'detach_interface'})


@dataclasses.dataclass(frozen=True)
class Server:
    """What Nova says of a server."""

    #: The task that Nova is at; None if there is none.
    task: str | None
    state: str
    #: The names of the host that has the server; empty if the user may not see them.
    hosts: frozenset[str]

    @property
    def is_busy(self) -> bool:
        """Whether Nova is at work on the server."""
        return self.task is not None or self.state == 'building'

    @property
    def is_quiet(self) -> bool:
        """Whether Nova is not at work on the server, and the server has the targets that Nova lists."""
        return self.task is None and self.state in _QUIET_STATES


@dataclasses.dataclass(frozen=True)
class VolumeAttachment:
    """A volume of a server."""

    volume_id: str
    #: The target that Nova chose, ``/dev/vdb``; None if Nova does not know it.
    device: str | None


def server_of(answer: Mapping[str, Any]) -> Server:
    """Read an answer.

    :raises (AttributeError, KeyError, TypeError, ValueError): the answer is not valid.
    """
    found = answer['server']
    task, state = found['OS-EXT-STS:task_state'], found['OS-EXT-STS:vm_state']
    names = (found.get(f'OS-EXT-SRV-ATTR:{name}') for name in ('host', 'hypervisor_hostname'))
    hosts = frozenset(reading.text(it).lower() for it in names if it)
    return Server(None if task is None else reading.text(task), reading.text(state), hosts)


def attachments_of(answer: Mapping[str, Any]) -> list[VolumeAttachment]:
    """Read an answer; since microversion 2.89 the entries have no ``id``, which is the volume's before.

    :raises (AttributeError, KeyError, TypeError, ValueError): the answer is not valid.
    """
    entries = answer['volumeAttachments']
    if not isinstance(entries, list):
        raise TypeError('volumeAttachments is no list')
    return [
        VolumeAttachment(
            reading.uuid(it['volumeId']), None if it.get('device') in (None, '') else reading.text(it['device'])
        )
        for it in entries
    ]


def last_device_actions(answer: Mapping[str, Any]) -> list[str]:
    """Read an answer, and return the request ids of the last swap of a volume and of the last attach or detach.

    :raises (AttributeError, KeyError, TypeError, ValueError): the answer is not valid.
    """
    # The newest action comes first. A swap that has not ended counts, whatever came after: Nova lists what was there.
    last: dict[bool, str] = {}
    for it in answer['instanceActions']:
        if it['action'] in _DEVICE_ACTIONS:
            last.setdefault(it['action'] == 'swap_volume', reading.text(it['request_id']))
    return list(last.values())


def has_ended(answer: Mapping[str, Any]) -> bool:
    """Read an answer, and return whether the action has ended.

    :raises (AttributeError, KeyError, TypeError, ValueError): the answer is not valid.
    """
    # Nova's API records an action, and the compute service its events. Without an event it has not begun.
    times = [it['finish_time'] for it in answer['instanceAction']['events']]
    return bool(times) and None not in times


class Servers:
    """Asks Nova about servers."""

    def __init__(self, nova: Service) -> None:
        self._nova = nova

    def get(self, server_id: str) -> Server | None:
        """Return a server; None if Nova does not have it.

        :raises CloudError: Nova did not answer, or the answer is not valid.
        """
        step = f'show server {server_id}'
        answer = self._nova.get(f'/servers/{server_id}', step)
        with self._nova.reading(step):
            return None if answer is None else server_of(answer)

    def attachments(self, server_id: str) -> list[VolumeAttachment] | None:
        """Return the volumes of a server; None if Nova does not have it.

        :raises CloudError: Nova did not answer, or the answer is not valid.
        """
        step = f'list the volumes of server {server_id}'
        answer = self._nova.get(f'/servers/{server_id}/os-volume_attachments', step)
        with self._nova.reading(step):
            return None if answer is None else attachments_of(answer)

    def is_changing_devices(self, server_id: str) -> bool:
        """Return whether Nova has not finished the last swap of a server, or the last attach or detach.

        :raises CloudError: Nova did not answer, or the answer is not valid.
        """
        step = f'list the actions of server {server_id}'
        path = f'/servers/{server_id}/os-instance-actions'
        answer = self._nova.get(path, step)
        with self._nova.reading(step):
            request_ids = [] if answer is None else last_device_actions(answer)
        return not all(self._has_ended(server_id, request_id) for request_id in request_ids)

    def _has_ended(self, server_id: str, request_id: str) -> bool:
        step = f'show action {request_id} of server {server_id}'
        path = f'/servers/{server_id}/os-instance-actions/{urllib.parse.quote(request_id, safe="")}'
        answer = self._nova.get(path, step)
        with self._nova.reading(step):
            return answer is not None and has_ended(answer)

    def check(self) -> None:
        """Check that Nova answers, and that the user may see the servers of all projects.

        :raises CloudError: one does not hold.
        """
        step = 'list the servers of all projects'
        answer = self._nova.get('/servers', step, [('all_tenants', '1'), ('limit', '1')])
        with self._nova.reading(step):
            if answer is None:
                raise ValueError('no such page: is this the endpoint of Nova?')
            list(answer['servers'])
