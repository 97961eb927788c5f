# SPDX-License-Identifier: Apache-2.0
"""The ports of Neutron that a server has."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from aliasagent.cloud import reading
from aliasagent.cloud.service import Service
from aliasagent.exception import CloudError

#: Pages of ports of one server that the agent reads.
_MAX_PAGES = 10
#: The values of ``binding:vif_type`` of a port that is not bound, and of one that Neutron could not bind.
UNBOUND, BINDING_FAILED = 'unbound', 'binding_failed'
_FIELDS = ('id', 'mac_address', 'device_id', 'binding:vif_type', 'binding:vnic_type', 'binding:profile')


@dataclasses.dataclass(frozen=True)
class Port:
    """A bound port of a server."""

    id: str
    mac_address: str
    #: The address of the function of the network card that the guest has; None for all other ports.
    pci_slot: str | None


def port_of(entry: Mapping[str, Any]) -> Port | None:
    """Read a port; None if it is not bound.

    :raises (AttributeError, KeyError, TypeError, ValueError): the entry is not valid.
    """
    # Only an administrator sees the binding. Without it, an unbound port would be taken for a bound one.
    if entry['binding:vif_type'] in (UNBOUND, BINDING_FAILED):
        return None
    # The interface of a macvtap port does not name the function.
    is_passed = entry['binding:vnic_type'] in ('direct', 'direct-physical')
    slot = (entry.get('binding:profile') or {}).get('pci_slot') if is_passed else None
    pci_slot = None if slot is None else reading.text(slot)
    return Port(reading.uuid(entry['id']), reading.text(entry['mac_address']), pci_slot)


class Ports:
    """Asks Neutron about ports."""

    def __init__(self, neutron: Service) -> None:
        self._neutron = neutron

    def of_server(self, server_id: str) -> list[Port]:
        """Return the bound ports of a server; none if Neutron does not know the server.

        :raises CloudError: Neutron did not answer, or the answer is not valid.
        """
        step = f'list the ports of server {server_id}'
        found: list[Port] = []
        marker: list[tuple[str, str]] = []
        for _page in range(_MAX_PAGES):
            answer = self._page([('device_id', server_id), *(('fields', name) for name in _FIELDS), *marker], step)
            with self._neutron.reading(step):
                entries = list(answer['ports'])
                # A Neutron that ignored the filter would return the ports of others.
                if any(it['device_id'] != server_id for it in entries):
                    raise ValueError('it has ports of other servers')
                found += [port for it in entries if (port := port_of(it)) is not None]
                # The marker, not the link: the link may lead anywhere.
                if not entries or all(it['rel'] != 'next' for it in answer.get('ports_links') or ()):
                    return found
                marker = [('marker', str(entries[-1]['id']))]
        raise CloudError(service='neutron', step=step, reason=f'there are more than {_MAX_PAGES} pages', request='')

    def check(self) -> None:
        """Check that Neutron answers, and that the user may see bindings.

        :raises CloudError: one does not hold.
        """
        step = 'list a port'
        answer = self._page([('limit', '1')], step)
        with self._neutron.reading(step):
            for it in answer['ports']:
                it['binding:vif_type']

    def _page(self, params: list[tuple[str, str]], step: str) -> Mapping[str, Any]:
        answer = self._neutron.get('/v2.0/ports', step, params)
        with self._neutron.reading(step):
            if answer is None:
                raise ValueError('no such page: is this the endpoint of Neutron?')
            return answer
