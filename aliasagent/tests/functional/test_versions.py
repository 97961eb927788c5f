# SPDX-License-Identifier: Apache-2.0
"""A client that is pinned to each version there was, and this agent."""

from aliasagent import exception
from aliasagent.client import ComputeAPI
from aliasagent.context import RequestContext
from aliasagent.tests.contract import harness
from aliasagent.tests.functional import test_agent


class PinnedClientTest(test_agent.FakeAgentCase):
    def test_it_has_its_requests_done(self) -> None:
        guest = self.side.new_guest()
        for cap in ('1.0', '1.1', '1.2', '1.3', '1.4'):
            api, volume = ComputeAPI(self.transport, self.host_name, timeout=10, version_cap=cap), harness.new_id()
            connection = harness.file_connection(self.side.new_file())
            attach, detach = RequestContext(), RequestContext()
            api.attach_volume(attach, guest, volume, connection, disk_bus='scsi')
            self.assert_succeeded(self.wait(api, attach.operation_id))
            self.assert_on_both(guest, volume)
            api.detach_volume(detach, guest, volume)
            self.assert_succeeded(self.wait(api, detach.operation_id))
            self.assert_on_both(guest)
            if cap >= '1.3':
                self.assertIn(detach.operation_id, [it['id'] for it in api.list_operations(RequestContext())])
            else:
                self.assertRaises(exception.Unsupported, api.list_operations, RequestContext())
