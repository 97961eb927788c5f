# SPDX-License-Identifier: Apache-2.0
"""A Neutron that keeps ports and binds them, as far as the agent asks it.

It answers as Neutron 29 does, which the recipes for a real one have shown: the status is 200 for a failed binding,
too; an ordinary user sees no bindings; ``binding:profile`` is kept to the role service, even from an administrator.
"""

import copy
import json
import threading
import urllib.parse
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from aliasagent.tests import cases
from aliasagent.tests import ids
from aliasagent.tests.fakes.cloud import Answer
from aliasagent.tests.fakes.cloud import FakeCloud

Json = dict[str, Any]
#: The members that an ordinary user does not see.
_HIDDEN = ('binding:host_id', 'binding:vif_type', 'binding:vif_details', 'binding:profile')
_SET_BY_BINDING = ('binding:vif_type', 'binding:vif_details')


class FakeNeutron:
    """Neutron behind a fake cloud, with agents on hosts.

    :param cloud: the cloud that serves it; its other services stay as they are.
    :param agents: what each host's agent is, by the host's name: ``ovs`` or ``vhostuser``. Ports can be
        bound to no other host.
    """

    def __init__(self, cloud: FakeCloud, agents: Mapping[str, str] | None = None) -> None:
        self.agents = dict(agents or {'compute-1': 'ovs', 'dpdk-1': 'vhostuser'})
        self.ports: dict[str, Json] = {}
        #: The roles of the agent's user.
        self.roles = {'admin'}
        #: How many times a bound port is answered as unbound before the binding is decided.
        self.undecided = 0
        #: The method and path of each request.
        self.asked: list[tuple[str, str]] = []
        #: The bodies of the changes that arrived, by port.
        self.changes: list[tuple[str, Json]] = []
        #: Called before a request with its method and path: returns an answer of its own, or None to go on.
        self.before: Callable[[str, str], Answer | None] = lambda _method, _path: None
        #: Called after a request was done: returns the answer to send in place of the true one, or None.
        self.after: Callable[[str, str], Answer | None] = lambda _method, _path: None
        self._lock = threading.RLock()
        cloud.services['network'] = self.answer

    def add(self, port_id: str = '', **members: Any) -> str:
        """Add a port, and return its id; ``members`` have ``_`` for ``:``, as in ``binding_host_id``."""
        port: Json = cases.read('neutron-unbound')['port']
        port |= {'id': port_id or ids.new_id(), 'mac_address': ids.new_mac(), 'revision_number': 1}
        with self._lock:
            self.ports[port['id']] = port
            self.change(port['id'], **members)
        return str(port['id'])

    def change(self, port_id: str, **members: Any) -> None:
        """Change a port as another client does, or Neutron's agent."""
        named = {name.replace('binding_', 'binding:', 1): value for name, value in members.items()}
        with self._lock:
            self._set(self.ports[port_id], named)

    def delete(self, port_id: str) -> None:
        with self._lock:
            del self.ports[port_id]

    def shown(self, port_id: str) -> Json:
        """Return a port without what each change alters."""
        with self._lock:
            return {k: copy.deepcopy(v) for k, v in self.ports[port_id].items() if k != 'revision_number'}

    # The answers

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: Any) -> Answer:
        path, _mark, query = target.partition('?')
        self.asked.append((method, path))
        if (early := self.before(method, path)) is not None:
            return early
        with self._lock:
            true = copy.deepcopy(self._answer(method, path, query, headers, body))
        return self.after(method, path) or true

    def _answer(self, method: str, path: str, query: str, headers: Mapping[str, str], body: Any) -> Answer:
        if (method, path) == ('GET', '/v2.0/ports'):
            wanted = urllib.parse.parse_qs(query).get('device_id')
            return 200, {
                'ports': [self._seen(it) for it in self.ports.values() if wanted is None or it['device_id'] in wanted]
            }
        port_id = path.removeprefix('/v2.0/ports/')
        port = self.ports.get(port_id)
        if port is None:
            return _error(404, 'PortNotFound', f'Port {port_id} could not be found.')
        if method == 'GET':
            return 200, {'port': self._seen(port)}
        if method != 'PUT':
            return _error(405, 'HTTPMethodNotAllowed', 'The method is not allowed for this resource.')
        return self._update(port, headers, body['port'])

    def _update(self, port: Json, headers: Mapping[str, str], members: Json) -> Answer:
        for name, roles in (('binding:host_id', {'admin', 'service'}), ('binding:profile', {'service'})):
            if name in members and not self.roles & roles:
                return _error(403, 'PolicyNotAuthorized', f'rule:update_port:{name} is disallowed by policy')
        wanted, now = headers.get('If-Match'), port['revision_number']
        if wanted is not None and wanted != f'revision_number={now}':
            words = f'Constrained to {wanted.rpartition("=")[2]}, but current revision is {now}'
            return _error(412, 'RevisionNumberConstraintFailed', words)
        self.changes.append((port['id'], members))
        self._set(port, members)
        return 200, {'port': self._seen(port)}

    def _set(self, port: Json, members: Json) -> None:
        before = json.dumps(port)
        port.update({name: '' if value is None else value for name, value in members.items()})
        if 'binding:host_id' in members and 'binding:vif_type' not in members:
            host = port['binding:host_id']
            kind = self.agents.get(host, 'binding-failed') if host else 'unbound'
            answered = cases.read(f'neutron-{"bound" if kind == "ovs" else kind}')['port']
            port.update({name: answered[name] for name in _SET_BY_BINDING})
        if json.dumps(port) != before:
            port['revision_number'] += 1

    def _seen(self, port: Json) -> Json:
        """Return a port as the user sees it now."""
        if not self.roles & {'admin', 'service'}:
            return {name: value for name, value in port.items() if name not in _HIDDEN}
        if self.undecided and port['binding:host_id']:
            self.undecided -= 1
            return {**port, 'binding:vif_type': 'unbound', 'binding:vif_details': {}}
        return port


def _error(status: int, kind: str, words: str) -> Answer:
    return status, {'NeutronError': {'type': kind, 'message': words, 'detail': ''}}
