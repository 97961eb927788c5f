# SPDX-License-Identifier: Apache-2.0
"""A whole agent as its probe sees it."""

import time

import libvirt

from aliasagent import conf
from aliasagent.context import RequestContext
from aliasagent.status import health
from aliasagent.tests.contract import harness
from aliasagent.tests.functional import test_agent
from sandbox import processes


class HealthTest(test_agent.FakeAgentCase):
    def trouble(self, oldest: float = 60.0) -> dict[str, str]:
        looked = health.Health(conf.CONF, timeout=5.0, oldest=oldest, opener=self.side.open)
        conf.CONF.set_override('uri', self.side.uri, 'libvirt')
        self.addCleanup(conf.CONF.clear_override, 'uri', 'libvirt')
        return {it.what: it.trouble for it in looked.check() if not it.is_healthy}

    def test_well(self) -> None:
        self.assertEqual({}, self.trouble())

    def test_a_queue_that_does_not_move(self) -> None:
        guest = self.side.deaf_guest()
        api = self.api()
        volume = harness.new_id()
        connection = harness.file_connection(self.side.new_file())
        api.submit(
            RequestContext(),
            'attach_volume',
            instance_uuid=guest,
            volume_id=volume,
            connection_info=connection,
            disk_bus='virtio',
        )
        api.submit(RequestContext(), 'detach_volume', instance_uuid=guest, volume_id=volume)
        waits = RequestContext()
        api.submit(waits, 'detach_volume', instance_uuid=guest, volume_id=harness.new_id())
        self.assertEqual({}, self.trouble())
        time.sleep(0.1)
        said = self.trouble(oldest=0.05)
        self.assertEqual(['queue'], list(said))
        self.assertIn(f'operation {waits.operation_id} was accepted more than 0.05 s ago', said['queue'])

    def test_an_agent_that_does_not_answer(self) -> None:
        conf.CONF.set_override('host', 'another')
        looked = health.Health(conf.CONF, timeout=1.0, oldest=60.0, opener=self.side.open)
        conf.CONF.set_override('uri', self.side.uri, 'libvirt')
        self.addCleanup(conf.CONF.clear_override, 'uri', 'libvirt')
        self.assertEqual(['agent', 'queue'], [it.what for it in looked.check() if not it.is_healthy])

    def test_a_hypervisor_that_is_away(self) -> None:
        def refuse(_uri: str) -> object:
            raise libvirt.libvirtError('down')

        looked = health.Health(conf.CONF, timeout=1.0, oldest=60.0, opener=refuse)
        found = {it.what: it.trouble for it in looked.check() if not it.is_healthy}
        self.assertEqual(['hypervisor'], list(found))
        self.assertIn(conf.CONF.libvirt.uri, found['hypervisor'])

    def test_a_broker_that_is_away(self) -> None:
        where = f'127.0.0.1:{processes.free_port()}'
        conf.CONF.set_override('transport_url', f'rabbit://guest:secret@{where}/')
        self.addCleanup(conf.CONF.clear_override, 'transport_url')
        found = self.trouble()
        self.assertEqual(['broker', 'agent', 'queue'], list(found))
        self.assertIn(where, found['broker'])
        self.assertNotIn('secret', str(found))
