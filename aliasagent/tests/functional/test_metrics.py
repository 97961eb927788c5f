# SPDX-License-Identifier: Apache-2.0
"""The metrics page of a whole agent."""

import urllib.request

from prometheus_client import parser

from aliasagent import conf
from aliasagent.context import RequestContext
from aliasagent.tests.contract import harness
from aliasagent.tests.functional import test_agent
from sandbox import processes


class MetricsTest(test_agent.FakeAgentCase):
    def start_agent(self, host: str) -> None:
        self.metrics_port = processes.free_port()
        for name, value, group in (
            ('port', self.metrics_port, 'metrics'),
            ('timeout', 0.1, 'unplug'),
            ('attempts', 3, 'unplug'),
        ):
            conf.CONF.set_override(name, value, group)
            self.addCleanup(conf.CONF.clear_override, name, group)
        super().start_agent(host)

    def page(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """The samples, by name and values of their labels."""
        with urllib.request.urlopen(f'http://127.0.0.1:{self.metrics_port}/metrics', timeout=harness.SOON) as page:
            text = page.read().decode()
        return {
            (sample.name.removeprefix('aliasagent_'), tuple(sample.labels.values())): sample.value
            for family in parser.text_string_to_metric_families(text)
            for sample in family.samples
        }

    def submit(self, action: str, **arguments: object) -> str:
        ctxt, api = RequestContext(), self.api()
        api.submit(ctxt, action, **arguments)
        return str(self.wait(api, ctxt.operation_id)['state'])

    def test_what_succeeds_fails_and_times_out_is_on_the_page(self) -> None:
        guest, volume = self.side.deaf_guest(), harness.new_id()
        before = self.page()
        self.assertEqual(1, before['hypervisor_connected', ()])
        self.assertNotEqual(0, before['reconcile_last_success_timestamp_seconds', ()])
        connection = harness.file_connection(self.side.new_file())
        attached = self.submit(
            'attach_volume', instance_uuid=guest, volume_id=volume, connection_info=connection, disk_bus='virtio'
        )
        nothing = self.submit('detach_volume', instance_uuid=guest, volume_id=harness.new_id())
        stuck = self.submit('detach_volume', instance_uuid=guest, volume_id=volume)
        self.assertEqual(['succeeded', 'failed', 'failed'], [attached, nothing, stuck])
        page = self.page()
        self.assertEqual(1, page['operations_total', ('attach_volume', 'succeeded')])
        self.assertEqual(0, page['operations_total', ('attach_volume', 'failed')])
        self.assertEqual(2, page['operations_total', ('detach_volume', 'failed')])
        self.assertEqual(1, page['operation_duration_seconds_count', ('attach_volume',)])
        # what was not there was never begun
        self.assertEqual(1, page['operation_duration_seconds_count', ('detach_volume',)])
        self.assertTrue(0.3 <= page['operation_duration_seconds_sum', ('detach_volume',)] < harness.SOON)
        self.assertEqual(2, page['unplug_retries_total', ()])
        self.assertEqual(1, page['unplug_timeouts_total', ()])
        self.assertEqual((0, 0), (page['operations_waiting', ()], page['operations_running', ()]))

    def test_the_hypervisor_goes_away_and_comes_back(self) -> None:
        page = self.page()
        self.assertEqual((1, 1), (page['hypervisor_connected', ()], page['broker_connected', ()]))
        before = page['reconcile_last_success_timestamp_seconds', ()]
        self.side.fake.drop_connections(down=True)
        processes.wait_until(
            lambda: self.page()['hypervisor_connected', ()] == 0, harness.SOON, 'the connection to be lost'
        )
        # a pass that nobody answers is no success
        self.services[0]._reconcile()
        self.assertEqual(before, self.page()['reconcile_last_success_timestamp_seconds', ()])
        self.side.fake.down = False
        processes.wait_until(lambda: self.page()['hypervisor_connected', ()] == 1, harness.SOON, 'it to come back')
        self.services[0]._reconcile()
        self.assertLess(before, self.page()['reconcile_last_success_timestamp_seconds', ()])

    def test_requests_are_left_with_the_broker(self) -> None:
        conf.CONF.set_override('timeout', 600, 'unplug')
        conf.CONF.set_override('max_waiting', 1, 'operations')
        self.addCleanup(conf.CONF.clear_override, 'max_waiting', 'operations')
        guest, volume = self.side.deaf_guest(), harness.new_id()
        connection = harness.file_connection(self.side.new_file())
        self.submit(
            'attach_volume', instance_uuid=guest, volume_id=volume, connection_info=connection, disk_bus='virtio'
        )
        self.assertEqual(0, self.page()['requests_held', ()])
        for _time in range(2):
            self.api().detach_volume(RequestContext(), guest, volume)
        processes.wait_until(lambda: self.page()['requests_held', ()] == 1, harness.SOON, 'a request to be held')
        self.side.reset(guest)
        processes.wait_until(lambda: self.page()['requests_held', ()] == 0, harness.SOON, 'it to be taken in')

    def test_what_runs_and_what_waits_behind_it(self) -> None:
        conf.CONF.set_override('timeout', 600, 'unplug')
        guest, volume = self.side.deaf_guest(), harness.new_id()
        connection = harness.file_connection(self.side.new_file())
        self.submit(
            'attach_volume', instance_uuid=guest, volume_id=volume, connection_info=connection, disk_bus='virtio'
        )
        for _time in range(3):
            self.api().submit(RequestContext(), 'detach_volume', instance_uuid=guest, volume_id=volume)
        processes.wait_until(lambda: self.page()['operations_running', ()] == 1, harness.SOON, 'the detach to begin')
        page = self.page()
        self.assertEqual((2, 1), (page['operations_waiting', ()], page['unplugs_pending', ()]))

    def test_an_agent_whose_port_is_taken_serves_the_guests_all_the_same(self) -> None:
        test_agent.FakeAgentCase.start_agent(self, 'second')
        self.assertEqual([], self.api('second').list_instances(RequestContext()))
