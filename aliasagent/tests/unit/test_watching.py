# SPDX-License-Identifier: Apache-2.0
"""The alerts and the dashboard ask for what the agent exports."""

import json
import pathlib
import types
from collections.abc import Iterator
from typing import Any

import promql_parser
import yaml

from aliasagent.observe import metrics
from aliasagent.tests import base

ETC = pathlib.Path(__file__).parents[3] / 'etc'
RULES = ETC / 'prometheus' / 'aliasagent.rules.yml'
DASHBOARD = ETC / 'grafana' / 'aliasagent.json'
#: What a Prometheus itself knows of whom it asks.
ITS_OWN = {'up': {'job': {'aliasagent'}}}
LABELS_OF_ITS_OWN = {'job', 'instance'}
#: What Grafana puts in place of these.
VARIABLES = {'$__rate_interval': '5m', '$instance': '.*'}


def exported() -> dict[str, dict[str, set[str]]]:
    """The values of each label of each metric."""
    made = metrics.Metrics()
    watched: Any = types.SimpleNamespace(
        host=types.SimpleNamespace(is_connected=True),
        unplugs=types.SimpleNamespace(pending=0),
        reconciler=types.SimpleNamespace(statuses=dict),
        runner=types.SimpleNamespace(waiting=0, running=0),
        intake=types.SimpleNamespace(is_blocked=False),
        connecting=types.SimpleNamespace(counts=lambda: {('volume', 'given'): 1, ('port', 'undoing'): 0}),
        is_broker_connected=lambda: True,
    )
    made.watch(watched)
    found: dict[str, dict[str, set[str]]] = {name: dict(labels) for name, labels in ITS_OWN.items()}
    for family in made.registry.collect():
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(str(value))
    return found


def nodes(expression: Any) -> Iterator[Any]:
    """An expression and everything in it."""
    yield expression
    for name in ('lhs', 'rhs', 'expr', 'args', 'param', 'vector_selector'):
        inner = getattr(expression, name, None)
        for each in inner if isinstance(inner, list) else [inner]:
            if each is not None and not isinstance(each, str):
                yield from nodes(each)


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())['groups'] for rule in group['rules']]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())['panels']
    return found


class WatchingTestCase(base.TestCase):
    def wrong(self, text: str) -> list[str]:
        """What an expression asks for that nobody exports."""
        for variable, value in VARIABLES.items():
            text = text.replace(variable, value)
        there, found, seen = exported(), [], 0
        for node in nodes(promql_parser.parse(text)):
            if not isinstance(node, promql_parser.VectorSelector):
                continue
            seen += 1
            labels = there.get(str(node.name))
            if labels is None:
                found.append(str(node.name))
                continue
            for matcher in node.matchers.matchers:
                if matcher.name not in {*labels, *LABELS_OF_ITS_OWN}:
                    found.append(f'{node.name}: {matcher.name}')
                elif matcher.name in labels:
                    # several are told apart by a bar
                    found += [
                        f'{node.name}: {matcher.name}={value}'
                        for value in matcher.value.split('|')
                        if value not in labels[matcher.name]
                    ]
        self.assertGreater(seen, 0, text)
        return found

    def test_the_test_finds_what_is_wrong(self) -> None:
        for text, wrong in (
            ('sum(rate(aliasagent_operation_total[5m])) > 1', ['aliasagent_operation_total']),
            ('1 - aliasagent_operations_total{result="failed"}', ['aliasagent_operations_total: result']),
            (
                'up and aliasagent_reconcile_devices{outcome=~"aliased|lost"}',
                ['aliasagent_reconcile_devices: outcome=lost'],
            ),
            ('histogram_quantile(0.5, sum by (le) (rate(nothing_bucket[5m])))', ['nothing_bucket']),
        ):
            self.assertEqual(wrong, self.wrong(text))

    def test_alerts_ask_for_what_is_there(self) -> None:
        self.assertEqual({}, {it['alert']: wrong for it in alerts() if (wrong := self.wrong(it['expr']))})

    def test_alerts_say_what_to_do(self) -> None:
        self.assertNotEqual([], alerts())
        names = [it['alert'] for it in alerts()]
        self.assertEqual(len(names), len(set(names)))
        for it in alerts():
            self.assertIn(it['labels']['severity'], ('info', 'warning', 'critical'))
            for annotation in ('summary', 'description', 'runbook'):
                self.assertTrue(it['annotations'][annotation].strip(), f'{it["alert"]}: {annotation}')

    def test_the_dashboard_asks_for_what_is_there(self) -> None:
        asked = [(panel['title'], target['expr']) for panel in panels() for target in panel['targets']]
        self.assertEqual([], [(title, wrong) for title, expr in asked if (wrong := self.wrong(expr))])

    def test_the_dashboard_shows_all_there_is(self) -> None:
        shown = ' '.join(target['expr'] for panel in panels() for target in panel['targets'])
        left = {name for name in exported() if name.startswith('aliasagent_') and name not in shown}
        self.assertEqual(
            {'aliasagent_build_info', *(name for name in left if name.endswith(('_created', '_count', '_sum')))}, left
        )

    def test_no_two_panels_are_in_one_place(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in panels():
            at = panel['gridPos']
            cells = {(at['x'] + x, at['y'] + y) for x in range(at['w']) for y in range(at['h'])}
            self.assertEqual(set(), cells & taken)
            self.assertTrue(all(x < 24 for x, _y in cells))
            taken |= cells
        self.assertEqual(len(panels()), len({panel['id'] for panel in panels()}))
