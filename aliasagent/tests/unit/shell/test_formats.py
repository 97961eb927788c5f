# SPDX-License-Identifier: Apache-2.0
"""Each list and each thing in each format that a program may want."""

import csv
import inspect
import json
from importlib import metadata
from typing import Any

import fixtures
import yaml
from cliff import lister
from oslotest import base as test_base

from aliasagent import context
from aliasagent.shell import base as commands
from aliasagent.shell import formats
from aliasagent.tests.unit.shell import base
from aliasagent.tests.unit.shell import test_connections
from aliasagent.tests.unit.shell import test_reconcile

FORMATS = ('csv', 'json', 'table', 'value', 'yaml')
#: A line for each command that shows something.
LINES = {
    'guest list': '',
    'guest migrate': 'web1 qemu+tls://there/system',
    'guest migration show': 'web1',
    'device list': 'web1',
    'device detach': f'web1 {base.VOLUME}',
    'hostdev attach': 'web1 gpu-1 --pci 0000:06:12.5',
    'operation list': '',
    'operation show': 'one',
    'reconcile': 'web1',
    'volume attach': f'web1 {base.VOLUME} --file /srv/a.raw',
    'volume detach': f'web1 {base.VOLUME}',
    'volume connection list': '',
    'interface attach': f'web1 {base.PORT} --mac {base.MAC} --bridge br0',
    'interface detach': f'web1 {base.PORT}',
    'interface connection list': '',
}


class API(test_reconcile.ReconcilingAPI):
    """An agent that has something for each command to show."""

    def migration_progress(self, _ctxt: context.RequestContext, _instance_uuid: str) -> dict[str, Any]:
        return {'total': 4, 'processed': 3, 'remaining': 1, 'elapsed': 0.5}

    def list_connections(self, ctxt: context.RequestContext, instance_uuid: str | None) -> list[dict[str, Any]]:
        return test_connections.FakeAPI().list_connections(ctxt, instance_uuid)


class WidthsTestCase(test_base.BaseTestCase):
    def test_all_have_room(self) -> None:
        self.assertEqual([5, 9], formats.widths([5, 9], [1, 1], 14))

    def test_the_widest_gives_first(self) -> None:
        self.assertEqual([5, 7], formats.widths([5, 9], [1, 1], 12))
        self.assertEqual([4, 4], formats.widths([5, 9], [1, 1], 8))

    def test_none_gives_more_than_it_can(self) -> None:
        self.assertEqual([2, 8], formats.widths([5, 9], [1, 8], 10))
        self.assertEqual([1, 8], formats.widths([5, 9], [1, 8], 3))

    def test_there_is_none(self) -> None:
        self.assertEqual([], formats.widths([], [], -1))


class FormatsTestCase(base.ShellTestCase):
    def setUp(self) -> None:
        super().setUp()
        # each run would have another id
        self.useFixture(fixtures.MonkeyPatch('oslo_utils.uuidutils.generate_uuid', lambda **_kwargs: base.PORT))

    def classes(self) -> dict[str, Any]:
        """The commands that show something."""
        found = {entry.name: entry.load() for entry in metadata.entry_points(group='aliasagent.command')}
        return {name: found[name] for name in found if issubclass(found[name], commands.AgentCommand)}

    def shown(self, name: str, output: str) -> str:
        api = API('succeeded' if name == 'reconcile' else 'failed')
        done = self.run_command(*name.split(), *LINES[name].split(), '-f', output, api=api)
        self.assertEqual((0, ''), (done.code, done.stderr), f'{name} {output}')
        return done.stdout

    def test_there_is_a_line_for_each(self) -> None:
        self.assertEqual(set(LINES), set(self.classes()))

    def test_each_has_each_format(self) -> None:
        for name, command in self.classes().items():
            is_list = issubclass(command, lister.Lister)
            rows = json.loads(self.shown(name, 'json'))
            self.assertIsInstance(rows, list if is_list else dict, name)
            self.assertNotIn(rows, ([], {}), name)
            self.assertEqual(rows, yaml.safe_load(self.shown(name, 'yaml')), name)

            rows = rows if is_list else [rows]
            texts = [{key: str(value) for key, value in row.items()} for row in rows]
            lines = self.shown(name, 'csv').splitlines()
            self.assertEqual(texts, list(csv.DictReader(lines)), name)
            values = self.shown(name, 'value').splitlines()
            expected = [' '.join(row.values()) for row in texts] if is_list else list(texts[0].values())
            self.assertEqual(expected, values, name)
            table = self.shown(name, 'table')
            for row in rows:
                for key, value in row.items():
                    self.assertIn(key, table, name)
                    self.assertIn('-' if value is None else str(value), table, name)

    def test_no_command_of_these_has_its_own_format(self) -> None:
        """Or it would not be among those that are looked at above."""
        for entry in metadata.entry_points(group='aliasagent.command'):
            command = entry.load()
            self.assertTrue(inspect.isclass(command))
            if entry.name.endswith((' list', ' show')):
                self.assertTrue(issubclass(command, commands.AgentCommand), entry.name)

    def test_chosen_columns(self) -> None:
        columns = ('-c', 'id', '-c', 'state')
        for output, expected in (('csv', '"id","state"\n"one","failed"\n'), ('value', 'one\nfailed\n')):
            done = self.run_command('operation', 'show', 'one', '-f', output, *columns, api=API('failed'))
            self.assertEqual(expected, done.stdout)

    def test_a_wait_shows_the_outcome_in_csv(self) -> None:
        done = self.run_command('volume', 'detach', 'web1', base.VOLUME, '-f', 'csv', '--wait', api=API('succeeded'))
        (row,) = csv.DictReader(done.stdout.splitlines())
        self.assertEqual('succeeded', row['state'])

    def test_a_table_of_a_given_width(self) -> None:
        for width in (66, 100, 200):
            done = self.run_command('operation', 'list', '--max-width', str(width), api=API('failed'))
            lines = done.stdout.splitlines()
            self.assertEqual({len(lines[0])}, {len(line) for line in lines})
            self.assertGreaterEqual(width, len(lines[0]), done.stdout)
            cells = [[cell.strip() for cell in line.split('|')[3:4]] for line in lines if '|' in line][1:]
            self.assertEqual(base.WEB * 2, ''.join(cell for (cell,) in cells))

    def test_a_table_of_nothing(self) -> None:
        class Empty(API):
            def list_instances(self, _ctxt: context.RequestContext) -> list[dict[str, Any]]:
                return []

        done = self.run_command('guest', 'list', '--max-width', '30', api=Empty())
        self.assertEqual((0, ''), (done.code, done.stderr))
