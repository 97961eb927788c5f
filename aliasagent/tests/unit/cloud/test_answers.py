# SPDX-License-Identifier: Apache-2.0
"""Answers of any form: each is read, or refused by an error that its reader expects."""

import string
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aliasagent.cloud import ports
from aliasagent.cloud import servers
from aliasagent.devices import names
from aliasagent.tests import base
from aliasagent.tests import ids

_REFUSALS = (AttributeError, KeyError, TypeError, ValueError)
_MEMBERS = (
    *('server', 'OS-EXT-STS:task_state', 'OS-EXT-STS:vm_state', 'OS-EXT-SRV-ATTR:host', 'volumeAttachments'),
    *('volumeId', 'device', 'instanceActions', 'instanceAction', 'request_id', 'action', 'events', 'finish_time', 'id'),
    *('mac_address', 'binding:vif_type', 'binding:vnic_type', 'binding:profile', 'pci_slot'),
)
_texts = st.sampled_from([ids.VOLUME, ids.PORT.upper(), '/dev/vdb', ids.MAC, 'active', 'attach_volume', 'direct'])
_leaves = st.none() | st.booleans() | st.integers() | _texts | st.text(string.printable, max_size=5)
values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_MEMBERS), inner, max_size=6),
    max_leaves=12,
)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """A valid answer to all questions, in which some members have any value."""
    found: dict[str, Any] = {
        'server': {
            'OS-EXT-STS:task_state': None, 'OS-EXT-STS:vm_state': 'active', 'OS-EXT-SRV-ATTR:host': 'compute-1',
        },
        'volumeAttachments': [{'volumeId': ids.VOLUME, 'device': '/dev/vdb'}],
        'instanceActions': [{'action': 'attach_volume', 'request_id': 'req-1'}],
        'instanceAction': {'events': [{'finish_time': None}]},
        'id': ids.PORT, 'mac_address': ids.MAC, 'binding:vif_type': 'ovs', 'binding:vnic_type': 'direct',
        'binding:profile': {'pci_slot': '0000:06:12.5'},
    }  # fmt: skip
    for _change in range(draw(st.integers(0, 3))):
        at: Any = found
        while isinstance(at, dict | list) and at and draw(st.booleans()):
            parent, key = at, draw(st.sampled_from(list(at) if isinstance(at, dict) else list(range(len(at)))))
            at = parent[key]
            if draw(st.booleans()):
                parent[key] = draw(values)
                break
    return found


class AnswersTestCase(base.TestCase):
    def read(self, reader: Callable[[dict[str, Any]], Any], answer: dict[str, Any]) -> Any:
        try:
            return reader(answer)
        except _REFUSALS:
            return None

    @given(answers())
    def test_what_is_read_has_the_expected_form(self, answer: dict[str, Any]) -> None:
        server = self.read(servers.server_of, answer)
        if server is not None:
            self.assertEqual({str}, {type(it) for it in (server.state, *server.hosts)})
        for attachment in self.read(servers.attachments_of, answer) or ():
            self.assertTrue(names.is_uuid(attachment.volume_id))
            self.assertIn(type(attachment.device), (str, type(None)))
        port = self.read(ports.port_of, answer)
        if port is not None:
            self.assertTrue(names.is_uuid(port.id))
            self.assertIsInstance(port.mac_address, str)
            self.assertIn(type(port.pci_slot), (str, type(None)))
        self.assertIn(type(self.read(servers.last_device_actions, answer)), (list, type(None)))
        self.assertIn(type(self.read(servers.has_ended, answer)), (bool, type(None)))

    @given(values)
    def test_any_value(self, value: Any) -> None:
        readers: tuple[Callable[[Any], Any], ...] = (
            *(servers.server_of, servers.attachments_of, servers.last_device_actions, servers.has_ended, ports.port_of),
        )
        for reader in readers:
            self.read(reader, value)
            for name in ('server', 'volumeAttachments', 'instanceActions', 'instanceAction'):
                self.read(reader, {name: value})
