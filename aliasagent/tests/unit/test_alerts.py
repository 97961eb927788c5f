# SPDX-License-Identifier: Apache-2.0
"""The alert rules, as Prometheus reads them: when each of them fires, and when it does not."""

import dataclasses
import json
import pathlib
import re
import subprocess
from typing import Any

import yaml

from aliasagent.tests import base

RULES = pathlib.Path(__file__).parents[3] / 'etc' / 'prometheus' / 'aliasagent.rules.yml'

#: The host of each case's agent.
HOST = 'compute-1:9100'
OPERATIONS = 'aliasagent_operations_total{{action="{}",outcome="{}"}}'
DEVICES = 'aliasagent_reconcile_devices{{outcome="{}"}}'
#: Nothing succeeds, nothing fails.
NONE_ENDS = {OPERATIONS.format('detach', outcome): '7x60' for outcome in ('succeeded', 'failed')}


@dataclasses.dataclass(frozen=True)
class Case:
    """What an agent exports, a value each minute in promtool's words, and what that means at some minute."""

    alert: str
    series: dict[str, str]
    minute: int
    #: Whether the alert fires then.
    fires: bool
    #: Its labels beside the severity and the host.
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    #: What the expression comes to, where the words of the alert say it.
    value: str = ''


CASES = (
    Case('AliasAgentDown', {'up{job="aliasagent"}': '1x10 0x20'}, 16, True, {'job': 'aliasagent'}),
    Case('AliasAgentDown', {'up{job="aliasagent"}': '1x10 0x20'}, 13, False),
    Case('AliasAgentDown', {'up{job="another"}': '0x20'}, 16, False),
    Case('AliasAgentHypervisorLost', {'aliasagent_hypervisor_connected': '1x10 0x10'}, 14, True),
    Case('AliasAgentHypervisorLost', {'aliasagent_hypervisor_connected': '1x10 0 1x10'}, 14, False),
    Case('AliasAgentBrokerLost', {'aliasagent_broker_connected': '1x10 0x10'}, 14, True),
    Case('AliasAgentBrokerLost', {'aliasagent_broker_connected': '1x10 0 1x10'}, 14, False),
    Case('AliasAgentRequestsHeld', {'aliasagent_requests_held': '0x5 1x20'}, 17, True),
    Case('AliasAgentRequestsHeld', {'aliasagent_requests_held': '0x5 1x5 0 1x20'}, 17, False),
    Case('AliasAgentQueueStands', {'aliasagent_operations_waiting': '3x60', **NONE_ENDS}, 40, True, value='3'),
    # A queue that moves, and one that is empty.
    Case(
        'AliasAgentQueueStands',
        {'aliasagent_operations_waiting': '3x60', OPERATIONS.format('detach', 'succeeded'): '7+1x60'},
        40,
        False,
    ),
    Case('AliasAgentQueueStands', {'aliasagent_operations_waiting': '0x60', **NONE_ENDS}, 40, False),
    Case(
        'AliasAgentOperationsFail',
        {
            OPERATIONS.format('attach_volume', 'failed'): '0+2x60',
            OPERATIONS.format('attach_volume', 'succeeded'): '0+1x60',
        },
        40,
        True,
        {'action': 'attach_volume'},
    ),
    Case(
        'AliasAgentOperationsFail',
        {
            OPERATIONS.format('attach_volume', 'failed'): '0+1x60',
            OPERATIONS.format('attach_volume', 'succeeded'): '0+2x60',
        },
        40,
        False,
    ),
    # Of two requests all have failed: that says little.
    Case(
        'AliasAgentOperationsFail',
        {
            OPERATIONS.format('attach_volume', 'failed'): '0x20 2x40',
            OPERATIONS.format('attach_volume', 'succeeded'): '0x60',
        },
        40,
        False,
    ),
    Case('AliasAgentGuestsKeepDevices', {'aliasagent_unplug_timeouts_total': '0+1x90'}, 70, True),
    Case('AliasAgentGuestsKeepDevices', {'aliasagent_unplug_timeouts_total': '0x40 1x50'}, 70, False),
    # promtool's time begins with 0
    Case('AliasAgentReconcileStands', {'aliasagent_reconcile_last_success_timestamp_seconds': '60x90'}, 75, True),
    Case('AliasAgentReconcileStands', {'aliasagent_reconcile_last_success_timestamp_seconds': '0+60x90'}, 75, False),
    Case(
        'AliasAgentGuestsUnread',
        {'aliasagent_reconcile_guests{state="unread"}': '2x60'},
        40,
        True,
        {'state': 'unread'},
        value='2',
    ),
    Case('AliasAgentGuestsUnread', {'aliasagent_reconcile_guests{state="read"}': '2x60'}, 40, False),
    Case(
        'AliasAgentDevicesUnidentified',
        {DEVICES.format('unidentified'): '2x90', DEVICES.format('conflict'): '1x90', DEVICES.format('aliased'): '9x90'},
        70,
        True,
        value='3',
    ),
    Case(
        'AliasAgentDevicesUnidentified',
        {DEVICES.format('aliased'): '9x90', DEVICES.format('local'): '5x90'},
        70,
        False,
    ),
)


def rules() -> dict[str, dict[str, Any]]:
    """The alerts by their names."""
    groups = yaml.safe_load(RULES.read_text())['groups']
    return {rule['alert']: rule for group in groups for rule in group['rules']}


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    """Have Prometheus's own tool look."""
    return subprocess.run(['promtool', *words], capture_output=True, text=True, timeout=60, check=False)


def test_of(case: Case) -> dict[str, Any]:
    """A case as promtool wants it."""
    rule = rules()[case.alert]
    labels = {'instance': HOST, **case.labels}

    def filled(text: str) -> str:
        text = re.sub(r'\{\{ \$labels\.(\w+) }}', lambda found: labels[found[1]], text)
        return text.replace('{{ $value }}', case.value)

    expected = []
    if case.fires:
        annotations = {name: filled(text) for name, text in rule['annotations'].items()}
        expected = [{'exp_labels': rule['labels'] | labels, 'exp_annotations': annotations}]
    return {
        'interval': '1m',
        'input_series': [{'series': _with_host(name), 'values': values} for name, values in case.series.items()],
        'alert_rule_test': [
            {
                'eval_time': f'{case.minute}m',
                'alertname': case.alert,
                'exp_alerts': expected,
            }
        ],
    }


def _with_host(series: str) -> str:
    name, _, labels = series.rstrip('}').partition('{')
    return f'{name}{{instance="{HOST}"{"," if labels else ""}{labels}}}'


class AlertsTestCase(base.TestCase):
    def run_cases(self, *cases: Case) -> subprocess.CompletedProcess[str]:
        path = pathlib.Path(self.make_directory()) / 'test.yml'
        path.write_text(
            json.dumps(
                {
                    'rule_files': [str(RULES)],
                    'evaluation_interval': '1m',
                    'tests': [test_of(case) for case in cases],
                }
            )
        )
        return promtool('test', 'rules', str(path))

    def test_prometheus_reads_them(self) -> None:
        done = promtool('check', 'rules', str(RULES))
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn(f'SUCCESS: {len(rules())} rules found', done.stdout)

    def test_they_fire_when_they_should(self) -> None:
        done = self.run_cases(*CASES)
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)

    def test_a_case_that_is_wrong_is_found(self) -> None:
        for case in CASES[:2]:
            done = self.run_cases(dataclasses.replace(case, fires=not case.fires, labels={'job': 'aliasagent'}))
            self.assertNotEqual(0, done.returncode)
            self.assertIn('FAILED', done.stdout + done.stderr)

    def test_each_is_tried_both_ways(self) -> None:
        tried = {(case.alert, case.fires) for case in CASES}
        self.assertEqual({(name, fires) for name in rules() for fires in (True, False)}, tried)

    def test_each_names_its_page(self) -> None:
        for name, rule in rules().items():
            words = re.findall('[A-Z][a-z]+', name)
            self.assertEqual(f'runbooks/{"-".join(words).lower()}', rule['annotations']['runbook_page'])
