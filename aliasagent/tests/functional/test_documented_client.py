# SPDX-License-Identifier: Apache-2.0
"""The example of the documents on the RPC contract, as it stands there."""

from typing import Any

from aliasagent.tests.contract import harness
from aliasagent.tests.functional import test_agent


def attach(instance_uuid: str, volume_id: str, connection_info: dict[str, Any], host: str) -> dict[str, Any]:
    """Attach a volume, and wait for the outcome."""
    # begin of the example
    import time

    from oslo_config import cfg
    from oslo_service import backend

    # Before anything imports oslo.messaging, which would choose eventlet.
    backend.init_backend(backend.BackendType.THREADING)

    from aliasagent import client
    from aliasagent.context import RequestContext

    api = client.ComputeAPI(client.transport(cfg.CONF), host, timeout=30)
    ctxt = RequestContext()  # one for each request
    api.submit(
        ctxt, 'attach_volume', instance_uuid=instance_uuid, volume_id=volume_id, connection_info=connection_info
    )
    while (operation := api.get_operation(ctxt, ctxt.operation_id))['state'] not in ('succeeded', 'failed'):
        time.sleep(0.5)
    # end of the example
    return operation


class DocumentedClientTestCase(test_agent.FakeAgentCase):
    def test_the_example_attaches_a_volume(self) -> None:
        guest, volume = self.side.new_guest(), harness.new_id()
        connection = harness.file_connection(self.side.new_file())
        operation = attach(guest, volume, connection, self.host_name)
        self.assertEqual(('succeeded', None), (operation['state'], operation['error']))
        self.assertIn(volume, [device.id for device in self.driver.list_devices(guest)])

    def test_it_tells_of_a_failure(self) -> None:
        connection = harness.file_connection('/no/such/volume')
        operation = attach(self.side.new_guest(), harness.new_id(), connection, self.host_name)
        self.assertEqual(('failed', 'InvalidInput'), (operation['state'], operation['error_class']))
