# SPDX-License-Identifier: Apache-2.0
"""What is counted, and what is asked for when somebody looks."""

import socket
import time
import types
import urllib.request
from typing import Any

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.observe import metrics
from aliasagent.reconcile import apply
from aliasagent.reconcile import passes
from aliasagent.reconcile import plan
from aliasagent.tests import base
from aliasagent.tests.unit.operations.runner_base import operation


class MetricsTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.metrics = metrics.Metrics()
        self.addCleanup(self.metrics.close)

    def value(self, name: str, **labels: str) -> float | None:
        found: float | None = self.metrics.registry.get_sample_value(f'aliasagent_{name}', labels)
        return found

    def test_every_action_begins_with_zero(self) -> None:
        for action in Action:
            for outcome in ('succeeded', 'failed'):
                self.assertEqual(0, self.value('operations_total', action=action.value, outcome=outcome))
            self.assertEqual(0, self.value('operation_duration_seconds_count', action=action.value))
        self.assertEqual((0, 0), (self.value('unplug_retries_total'), self.value('unplug_timeouts_total')))

    def test_outcomes(self) -> None:
        done = operation('one')
        self.metrics.finished(done, None, 0.3)
        self.metrics.finished(done, None, 7)
        self.metrics.finished(done, exception.ServiceBusy(reason='x'), None)
        action = done.action.value
        self.assertEqual(2, self.value('operations_total', action=action, outcome='succeeded'))
        self.assertEqual(1, self.value('operations_total', action=action, outcome='failed'))
        self.assertEqual(2, self.value('operation_duration_seconds_count', action=action))
        self.assertEqual(7.3, self.value('operation_duration_seconds_sum', action=action))
        self.assertEqual(1, self.value('operation_duration_seconds_bucket', action=action, le='0.5'))

    def test_unplugs(self) -> None:
        self.metrics.unplug_retried()
        self.metrics.unplug_retried()
        self.metrics.unplug_timed_out()
        self.assertEqual((2, 1), (self.value('unplug_retries_total'), self.value('unplug_timeouts_total')))

    def test_the_last_reconcile_run(self) -> None:
        name = 'reconcile_last_success_timestamp_seconds'
        self.assertEqual(0, self.value(name))
        before = time.time()
        self.metrics.reconciled()
        found = self.value(name)
        assert found is not None
        self.assertTrue(before <= found <= time.time())

    def test_what_is_so_at_the_moment(self) -> None:
        def step(outcome: plan.Outcome) -> apply.DeviceStatus:
            return apply.DeviceStatus('disk', 'disk', None, outcome, '', None)

        runner = types.SimpleNamespace(waiting=3, running=2)
        host = types.SimpleNamespace(is_connected=True)
        aliased, unknown = (step(outcome) for outcome in (plan.Outcome.ALIASED, plan.Outcome.UNIDENTIFIED))
        looks = {
            'a': passes.GuestStatus('a', apply.Report([aliased, aliased, unknown], [], ['ua-x'])),
            'b': passes.GuestStatus('b', apply.Report([unknown])),
            'c': passes.GuestStatus('c', apply.Report(), 'it could not be read'),
        }
        intake = types.SimpleNamespace(is_blocked=True)
        is_broker_connected = [True]
        watched: Any = types.SimpleNamespace(
            host=host,
            unplugs=types.SimpleNamespace(pending=1),
            reconciler=types.SimpleNamespace(statuses=lambda: looks),
            runner=runner,
            intake=intake,
            is_broker_connected=lambda: is_broker_connected[0],
        )
        self.metrics.watch(watched)
        self.assertEqual((1, 1), (self.value('requests_held'), self.value('broker_connected')))
        intake.is_blocked = is_broker_connected[0] = False
        self.assertEqual((0, 0), (self.value('requests_held'), self.value('broker_connected')))
        self.assertEqual((3, 2), (self.value('operations_waiting'), self.value('operations_running')))
        self.assertEqual((1, 1), (self.value('unplugs_pending'), self.value('hypervisor_connected')))
        self.assertEqual(2, self.value('reconcile_guests', state='read'))
        self.assertEqual(1, self.value('reconcile_guests', state='unread'))
        counts = {
            outcome.name: self.value('reconcile_devices', outcome=outcome.name.lower()) for outcome in plan.Outcome
        }
        self.assertEqual(
            {**dict.fromkeys((outcome.name for outcome in plan.Outcome), 0), 'ALIASED': 2, 'UNIDENTIFIED': 2}, counts
        )
        self.assertEqual(1, self.value('reconcile_pending_devices'))
        host.is_connected, runner.waiting = False, 0
        self.assertEqual((0, 0), (self.value('hypervisor_connected'), self.value('operations_waiting')))

    def test_the_page_is_there_until_it_is_closed(self) -> None:
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        self.assertEqual(0, self.metrics.port)
        self.metrics.serve('127.0.0.1', port)
        self.assertEqual(port, self.metrics.port)
        url = f'http://127.0.0.1:{port}/metrics'
        with urllib.request.urlopen(url, timeout=base.PATIENCE) as page:
            self.assertIn(b'aliasagent_unplug_retries_total 0.0', page.read())
        self.assertRaises(OSError, metrics.Metrics().serve, '127.0.0.1', port)
        self.metrics.close()
        self.assertRaises(OSError, urllib.request.urlopen, url, None, base.PATIENCE)
