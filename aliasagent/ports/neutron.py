# SPDX-License-Identifier: Apache-2.0
"""Read ports of Neutron, and change their bindings."""

import dataclasses
import urllib.parse
from collections.abc import Mapping
from typing import Any
from typing import Self

from aliasagent.cloud import ports
from aliasagent.cloud import reading
from aliasagent.cloud.service import Forbidden
from aliasagent.cloud.service import ObjectNotFound
from aliasagent.cloud.service import Service
from aliasagent.exception import CloudRefused
from aliasagent.requests.base import Json

_ROLES = 'the user of [neutron] needs the role admin or service to see and change the bindings of ports'


@dataclasses.dataclass(frozen=True)
class Binding:
    """What of a port says which host and which guest has it; a part that the port does not have is empty."""

    host: str = ''
    device_id: str = ''
    device_owner: str = ''

    @classmethod
    def of(cls, port: Mapping[str, Any]) -> Self:
        """Read a port as Neutron answers it.

        :raises (KeyError, ValueError): the port is not valid.
        """
        values = (port[name] for name in ('binding:host_id', 'device_id', 'device_owner'))
        return cls(*(reading.text(value) if value else '' for value in values))

    def is_at(self, other: 'Binding') -> bool:
        """Return whether two bindings have the same host and the same guest."""
        return self.host.lower() == other.host.lower() and self.device_id.lower() == other.device_id.lower()

    def members(self) -> Json:
        """Return the members of a port for a request to Neutron."""
        return {
            'binding:host_id': self.host or None, 'device_id': self.device_id, 'device_owner': self.device_owner,
        }  # fmt: skip


def is_decided(port: Mapping[str, Any]) -> bool:
    """Return whether Neutron has bound a port, or has failed to."""
    return bool(port['binding:vif_type'] != ports.UNBOUND)


def is_bound(port: Mapping[str, Any]) -> bool:
    """Return whether Neutron has bound a port, and says how it is plugged."""
    return is_decided(port) and not has_failed(port)


def has_failed(port: Mapping[str, Any]) -> bool:
    """Return whether Neutron has failed to bind a port."""
    return bool(port['binding:vif_type'] == ports.BINDING_FAILED)


class Neutron:
    """Asks Neutron for ports, and changes their bindings.

    ``binding:profile`` is never changed: the agent does not need it, and Neutron keeps it to the role service.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def port(self, port_id: str, step: str) -> Json | None:
        """Return a port as Neutron answers it; None if Neutron does not have it, or hides it from the user.

        :param step: what the port is read for, for errors.
        :raises CloudError: Neutron did not answer, or the answer is not valid.
        :raises CloudRefused: the user may not see the binding.
        """
        answer = self._service.get(_path(port_id), step)
        return None if answer is None else self._port(port_id, answer, step)

    def set_binding(self, port: Json, binding: Binding, step: str) -> Json | None:
        """Change the binding of a port, and return the port as Neutron answers it then; None if it is gone.

        The answer is no proof that the port is bound: Neutron answers a failed binding in the same way.

        :param port: the port as it was read. If it has changed since, nothing is done.
        :param step: what the request is for, for errors.
        :raises CloudError: Neutron did not answer, so that the binding may have been changed or not.
        :raises CloudRefused: Neutron refused.
        :raises ObjectChanged: another client has changed the port since it was read; nothing was done.
        """
        revision = port.get('revision_number')
        headers = {} if revision is None else {'If-Match': f'revision_number={revision}'}
        try:
            answer = self._service.send('PUT', _path(port['id']), step, {'port': binding.members()}, headers=headers)
        except ObjectNotFound:
            return None
        except Forbidden as refused:
            reason = f'{refused.kwargs["reason"]}; {_ROLES}'
            raise Forbidden(**{**refused.kwargs, 'reason': reason}) from None
        return self._port(port['id'], answer or {}, step)

    def refusal(self, step: str, reason: str) -> CloudRefused:
        """Return an error for a port that is not as a step needs it."""
        return CloudRefused(service=self._service.name, step=step, reason=reason, request='')

    def _port(self, port_id: str, answer: Json, step: str) -> Json:
        with self._service.reading(step):
            port: Json = answer['port']
            if port['id'].lower() != port_id.lower():
                raise ValueError('it is another port')
            # Neutron leaves these out for a user who may not see them.
            if 'binding:host_id' not in port or 'binding:vif_type' not in port:
                raise self.refusal(step, f'the answer has no binding: {_ROLES}')
            Binding.of(port)
            reading.text(port['binding:vif_type'])
        return port


def _path(port_id: str) -> str:
    return f'/v2.0/ports/{urllib.parse.quote(port_id, safe="")}'
