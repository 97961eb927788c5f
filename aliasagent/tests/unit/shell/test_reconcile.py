# SPDX-License-Identifier: Apache-2.0
"""``aliasagent reconcile``: what is asked and shown; ``aliasagent xml reconcile``, which asks nobody."""

import io
import json
import pathlib
from typing import Any

import fixtures

from aliasagent import context
from aliasagent import exception
from aliasagent.client import sending
from aliasagent.devices.domain import Domain
from aliasagent.reconcile import plan
from aliasagent.shell import main
from aliasagent.shell import reconcile
from aliasagent.tests import base as tests_base
from aliasagent.tests.unit.shell import base

OTHER = '6f1d0c9e-3c75-4d0c-9d5b-1f3f0b8f0aff'
DEFINITION = f"""<domain type='kvm'>
  <name>old</name>
  <!-- kept -->
  <devices>
    <disk type='file'><source file='/a.img'/><target dev='vda'/><serial>{base.VOLUME}</serial></disk>
    <disk type='file'><source file='/b.img'/><target dev='vdb'/></disk>
    <interface type='bridge'><mac address='{base.MAC}'/></interface>
  </devices>
</domain>"""


class ReconcilingAPI(base.FakeComputeAPI):
    """An agent that has looked at all of its guests but one."""

    def __init__(self, *outcomes: str | Exception) -> None:
        super().__init__(*outcomes)
        self.planned: list[tuple[str, Any]] = []
        #: Raised when these are to be looked at.
        self.unreadable: dict[str, Exception] = {}

    def look(self, instance: str) -> dict[str, Any]:
        outcomes = (
            *('has an alias', 'gets an alias', 'cannot be identified', 'conflicts', 'conflicts'),
            *('is refused by libvirt', 'has no persistent config', 'is a local device of Nova'),
        )
        devices = [
            {'device': f'disk vd{letter}', 'outcome': outcome, 'reason': 'why', 'alias': None}
            for letter, outcome in zip('abcdefgh', outcomes, strict=True)
        ]
        return {'instance': instance, 'name': 'web1', 'pending': ['ua-x'], 'error': '', 'devices': devices}

    def reconcile_plan(
        self, _ctxt: context.RequestContext, instance_uuid: str, inventory: dict[str, Any] | None
    ) -> dict[str, Any]:
        self.planned.append((instance_uuid, inventory))
        if instance_uuid in self.unreadable:
            raise self.unreadable[instance_uuid]
        return self.look(instance_uuid)

    def reconcile_live_estimate(self, _ctxt: context.RequestContext, _instance_uuid: str) -> dict[str, Any]:
        return {'seconds': 2.5, 'bytes': 1}

    def reconcile_status(self, _ctxt: context.RequestContext, instance_uuid: str) -> list[dict[str, Any]]:
        return [self.look(instance_uuid)]


class ReconcileTestCase(base.ShellTestCase):
    def test_a_guest_is_reconciled_and_shown(self) -> None:
        api = ReconcilingAPI('succeeded')
        result = self.run_command('reconcile', 'web1', '-f', 'json', api=api)
        self.assertEqual((0, ''), (result.code, result.stderr))
        self.assertEqual([('reconcile_instance', {'instance_uuid': base.WEB, 'inventory': None})], api.casts)
        expected = {'aliased': 1, 'gets': 1, 'refused': 1, 'transient': 1, 'unidentified': 1, 'conflicts': 2}
        expected |= {'local': 1, 'pending': 1}
        self.assertEqual([{'guest': base.WEB, 'name': 'web1', **expected, 'error': None}], result.json)

    def test_an_inventory_goes_with_each_request_for_a_running_guest(self) -> None:
        api = ReconcilingAPI('succeeded')
        inventory = {'ports': [{'id': base.PORT, 'address': base.MAC}]}
        path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'inventory.json'
        path.write_text(json.dumps(inventory))
        result = self.run_command('reconcile', 'web1', '--live', '--inventory', f'@{path}', api=api)
        self.assertEqual(0, result.code)
        self.assertIn('is paused for about 2 s', result.stderr)
        arguments = {'instance_uuid': base.WEB, 'inventory': inventory}
        methods = ('reconcile_instance', 'reconcile_live', 'reconcile_instance')
        self.assertEqual([(method, arguments) for method in methods], api.casts)

    def test_only_the_live_part_is_forced(self) -> None:
        api = ReconcilingAPI('succeeded')
        self.assertEqual(0, self.run_command('reconcile', 'web1', '--live', '--force', api=api).code)
        forced = [(method, arguments.get('force')) for method, arguments in api.casts]
        self.assertEqual([('reconcile_instance', None), ('reconcile_live', True), ('reconcile_instance', None)], forced)
        refused = self.run_command('reconcile', 'web1', '--force', api=api)
        self.assertEqual((2, '--force: is for --live only\n'), (refused.code, refused.stderr))

    def test_a_migration_takes_an_inventory(self) -> None:
        api = ReconcilingAPI()
        inventory = f'{{"ports": [{{"id": "{base.PORT}", "address": "{base.MAC}"}}]}}'
        uri = 'qemu+tls://there/system'
        self.assertEqual(0, self.run_command('guest', 'migrate', 'web1', uri, '--inventory', inventory, api=api).code)
        self.assertEqual(0, self.run_command('guest', 'migrate', 'web1', uri, api=api).code)
        with_it, without = [arguments['inventory'] for _method, arguments in api.casts]
        self.assertEqual(({'ports': [{'id': base.PORT, 'address': base.MAC}]}, None), (with_it, without))
        for bad in ('{"ports": [{"id": "x y"}]}', 'nonsense'):
            self.assertEqual(2, self.run_command('guest', 'migrate', 'web1', uri, '--inventory', bad, api=api).code)
        self.assertEqual(2, len(api.casts))

    def test_all_guests_without_a_name(self) -> None:
        api = ReconcilingAPI('succeeded')
        self.assertEqual(0, self.run_command('reconcile', api=api).code)
        asked = [arguments['instance_uuid'] for _method, arguments in api.casts]
        self.assertEqual([base.WEB, base.TWIN_1, base.TWIN_2], asked)

    def test_a_dry_run_sends_nothing(self) -> None:
        api = ReconcilingAPI()
        inventory = f'{{"ports": [{{"id": "{base.PORT}", "address": "{base.MAC}"}}]}}'
        argv = ('reconcile', 'web1', '--dry-run', '--inventory', inventory, '--devices', '-f', 'json')
        result = self.run_command(*argv, api=api)
        self.assertEqual(0, result.code)
        self.assertEqual([], api.casts)
        self.assertEqual([(base.WEB, {'ports': [{'id': base.PORT, 'address': base.MAC}]})], api.planned)
        self.assertEqual('cannot be identified', result.json[2]['outcome'])

    def test_a_guest_that_cannot_be_looked_at(self) -> None:
        result = self.run_command('reconcile', 'web1', '-f', 'json', api=ReconcilingAPI('failed'))
        self.assertEqual(1, result.code)
        self.assertEqual('DeviceConflict: the target vdb is taken', result.json[0]['error'])

    def test_a_guest_that_cannot_be_looked_at_does_not_hide_the_others(self) -> None:
        for error in (
            exception.GuestUnreadable(instance=base.TWIN_1, reason='internal error'),
            exception.InstanceNotFound(instance=base.TWIN_1),
        ):
            words = str(error)
            api = ReconcilingAPI()
            api.unreadable = {base.TWIN_1: base.rebuilt(error)}
            for more in ((), ('--live', base.WEB, base.TWIN_1, base.TWIN_2)):
                done = self.run_command('reconcile', '--dry-run', *more, '-f', 'json', api=api)
                self.assertEqual(1, done.code)
                self.assertEqual([base.WEB, base.TWIN_1, base.TWIN_2], [row['guest'] for row in done.json])
                self.assertEqual([None, None], [row['error'] for row in done.json[::2]])
                self.assertIn(words, done.json[1]['error'])
            done = self.run_command('reconcile', '--dry-run', '--devices', '-f', 'json', api=api)
            self.assertEqual(1, done.code)
            (row,) = (row for row in done.json if row['guest'] == base.TWIN_1)
            self.assertIn(words, row['reason'])

    def test_no_guest_ends_a_run_over_all(self) -> None:
        """Issue 13, 22: what is wrong with one guest is shown, and the others are looked at."""
        errors: tuple[Exception, ...] = (
            base.rebuilt(exception.InvalidInput(field='connection_info.disk.iothread', reason='needs bus virtio')),
            base.rebuilt(exception.AmbiguousDevice(instance=base.TWIN_1, device='x', candidates='y')),
            sending.RemoteError('KeyError', 'x'),
            sending.NoAnswer('no answer'),
        )
        for error in errors:
            api = ReconcilingAPI()
            api.unreadable = {base.TWIN_1: error}
            done = self.run_command('reconcile', '--dry-run', '-f', 'json', api=api)
            self.assertEqual(1, done.code, str(error))
            self.assertEqual([base.WEB, base.TWIN_1, base.TWIN_2], [row['guest'] for row in done.json])
            self.assertEqual([True, False, True], [row['error'] is None for row in done.json])

    def test_an_agent_that_falls_silent_ends_it(self) -> None:
        api = ReconcilingAPI()
        api.unreadable = {base.WEB: sending.NoAnswer('no answer')}
        guests, asked = api.list_instances, iter([None])

        def once(ctxt: context.RequestContext) -> Any:
            if next(asked, 'again') == 'again':
                raise sending.NoAnswer('no answer')
            return guests(ctxt)

        self.patch(api, 'list_instances', once)
        done = self.run_command('reconcile', '--dry-run', '-f', 'json', api=api)
        self.assertEqual((3, ''), (done.code, done.stdout))

    def test_what_is_wrong_with_an_inventory_is_bad_input(self) -> None:
        api = ReconcilingAPI()
        api.unreadable = {base.WEB: base.rebuilt(exception.InvalidInput(field='inventory', reason='is none'))}
        done = self.run_command('reconcile', 'web1', '--dry-run', '--inventory', '{}', api=api)
        self.assertEqual(2, done.code)

    def test_what_has_failed_is_shown_by_devices_too(self) -> None:
        done = self.run_command('reconcile', 'web1', '--devices', '-f', 'json', api=ReconcilingAPI('failed'))
        self.assertEqual(1, done.code)
        self.assertEqual(['DeviceConflict: the target vdb is taken'], [row['reason'] for row in done.json])

    def test_nobody_there_ends_it(self) -> None:
        api = ReconcilingAPI()
        api.unreadable = {base.WEB: base.undeliverable()}
        done = self.run_command('reconcile', '--dry-run', '-f', 'json', api=api)
        self.assertEqual((3, ''), (done.code, done.stdout))

    def test_an_inventory_is_of_one_guest(self) -> None:
        result = self.run_command('reconcile', '--inventory', '{}', api=ReconcilingAPI())
        self.assertEqual(2, result.code)
        self.assertIn('--inventory', result.stderr)


class XmlReconcileTestCase(base.ShellTestCase):
    def rewrite(self, text: str, *argv: str) -> Any:
        path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'domain.xml'
        path.write_text(text)
        return self.run_command('xml', 'reconcile', str(path), *argv, api=base.FakeComputeAPI())

    def test_only_aliases_differ(self) -> None:
        result = self.rewrite(DEFINITION)
        self.assertEqual(0, result.code)
        before, after = Domain.parse(DEFINITION), Domain.parse(result.stdout)
        self.assertEqual(before.without_aliases(), after.without_aliases())
        self.assertEqual([f'ua-{base.VOLUME}', None, None], [device.alias for device in after.devices()])
        self.assertIn('<!-- kept -->', result.stdout)
        self.assertIn(f'disk vda: gets an alias, by its serial: ua-{base.VOLUME}', result.stderr)
        self.assertIn('disk vdb: cannot be identified', result.stderr)

    def test_an_inventory_tells_the_rest(self) -> None:
        text = (
            f'{{"volumes": [{{"id": "{OTHER}", "target": "/dev/vdb"}}],'
            f' "ports": [{{"id": "{base.PORT}", "address": "{base.MAC}"}}]}}'
        )
        result = self.rewrite(DEFINITION, '--inventory', text)
        aliases = [device.alias for device in Domain.parse(result.stdout).devices()]
        self.assertEqual([f'ua-{base.VOLUME}', f'ua-{OTHER}', f'ua-{base.PORT}'], aliases)

    def test_one_alias_twice(self) -> None:
        disk = "<disk type='file'><source file='/{}.img'/><alias name='ua-one'/></disk>"
        text = f'<domain><devices>{disk.format("a")}{disk.format("b")}</devices></domain>'
        result = self.rewrite(text)
        self.assertEqual(1, result.code)
        self.assertEqual(text, result.stdout.strip().replace('"', "'"))
        self.assertEqual(2, result.stderr.count('conflicts, 2 devices have this alias'))
        for name in ('/a.img', '/b.img'):
            self.assertIn(name, result.stderr)

    def test_it_is_utf_8_wherever_it_goes(self) -> None:
        path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'domain.xml'
        path.write_text("<domain type='kvm'><name>grün</name><devices/></domain>", encoding='utf-8')
        written = io.BytesIO()
        stdout = io.TextIOWrapper(written, encoding='ascii')
        self.assertEqual(0, main.AliasAgentApp(stdout=stdout).run(['xml', 'reconcile', str(path)]))
        stdout.flush()
        self.assertIn('grün', written.getvalue().decode())

    def test_bad_input(self) -> None:
        for text, argv, words in (
            ('<network/>', (), 'root element is network, not domain'),
            ('<domain>', (), 'FILE'),
            (DEFINITION, ('--inventory', '{"volumes": [{"id": "x y"}]}'), 'inventory.volumes.0.id'),
        ):
            result = self.rewrite(text, *argv)
            self.assertEqual((2, ''), (result.code, result.stdout))
            self.assertIn(words, result.stderr)
        self.assertEqual(2, self.run_command('xml', 'reconcile', '/no/such', api=base.FakeComputeAPI()).code)


class OutcomesTestCase(tests_base.TestCase):
    def test_each_outcome_has_its_column(self) -> None:
        """The command repeats the values, for it does not load what decides on them."""
        self.assertEqual(set(plan.Outcome), set(reconcile._COUNTED.values()))
