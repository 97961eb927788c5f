# SPDX-License-Identifier: Apache-2.0
"""Messages and the check of them."""

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.client import rpcapi
from aliasagent.compute import contract
from aliasagent.compute import schemas
from aliasagent.requests import catalog
from aliasagent.requests import formats
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.ids import GUEST

ID = ids.VOLUME
SECRET = 'hunter2-do-not-tell'

#: A good message of each method.
INVENTORY: dict[str, Any] = {
    'ports': [{'id': ID, 'address': '52:54:00:00:00:01', 'pci_slot': None, 'devname': None}],
    'volumes': [{'id': ID, 'target': '/dev/vdb', 'source': None}],
}
GOOD: dict[str, dict[str, Any]] = {
    'attach_volume': {
        'instance_uuid': GUEST,
        'volume_id': ID,
        'connection_info': {
            'driver_volume_type': 'iscsi',
            'data': {
                'target_portal': '192.0.2.1:3260',
                'target_iqn': f'iqn.2010-10.org.openstack:volume-{ID}',
                'target_lun': 1,
                'auth_method': 'CHAP',
                'auth_username': 'chap-user',
                'auth_password': SECRET,
                'secret_uuid': GUEST,
                'access_mode': 'rw',
                'discard': True,
                'encrypted': False,
                'qos_specs': {'read_iops_sec': '100'},
                'volume_id': ID,
                'secret_key': SECRET,
                'x': {'passphrase': SECRET},
            },
            'serial': ID,
        },
        'device_name': '/dev/sdb',
        'disk_bus': 'scsi',
        'device_type': 'lun',
    },
    'attach_interface': {
        'instance_uuid': GUEST,
        'port': {'id': ID, 'address': 'fa:16:3e:00:00:01', 'vif_type': 'bridge', 'bridge': 'br0', 'mtu': 1500},
    },
    'attach_hostdev': {
        'instance_uuid': GUEST,
        'device_id': 'gpu_1',
        'hostdev': {'type': 'pci', 'address': '0000:06:12.5'},
    },
    'detach_volume': {'instance_uuid': GUEST, 'volume_id': ID},
    'detach_interface': {'instance_uuid': GUEST, 'port_id': ID},
    'detach': {'instance_uuid': GUEST, 'device_id': 'gpu_1'},
    'reconcile_instance': {'instance_uuid': GUEST, 'inventory': INVENTORY},
    'reconcile_plan': {'instance_uuid': GUEST, 'inventory': INVENTORY},
    'reconcile_status': {'instance_uuid': GUEST},
    'reconcile_live': {'instance_uuid': GUEST},
    'reconcile_live_estimate': {'instance_uuid': GUEST},
    'live_migrate': {'instance_uuid': GUEST, 'dest_uri': 'qemu+tls://b/system', 'migrate_uri': None, 'unsafe': False},
    'migration_progress': {'instance_uuid': GUEST},
    'abort_migration': {'instance_uuid': GUEST},
    'list_connections': {'instance_uuid': GUEST},
    'remove_connection': {'instance_uuid': GUEST, 'device_id': ID},
    'get_volume_connector': {},
    'list_instances': {},
    'list_devices': {'instance_uuid': GUEST},
    'get_operation': {'operation_id': ID},
    'list_operations': {
        'instance_uuid': GUEST,
        'states': ['running', 'failed'],
        'since': '2026-01-31T12:00:00+00:00',
        'until': '2026-01-31T12:00:00.5Z',
        'limit': 10,
    },
    'submit': {'operation': {'id': ID, 'action': 'detach', 'arguments': {'instance_uuid': GUEST}}},
}
NO_UUIDS: tuple[Any, ...] = (
    *('', 'x', ID[:-1], ID + '0', f'{ID}\n', f' {ID}', ID.replace('-', ''), f'{{{ID}}}', '../' + ID),
    *(None, 1, [ID], {}),
)
NO_IDS: tuple[Any, ...] = (
    *('', '../x', 'a b', 'a\n', "a'b", '<a>', '"', 'ä', 'x' * 256, 'x' * (1 << 20), 'None', 'null'),
    *(None, 1, ['x'], {}),
)
#: What is wrong for a field, by its place.
WRONG: dict[str, tuple[Any, ...]] = {
    'instance_uuid': NO_UUIDS,
    'volume_id': NO_IDS,
    'port_id': NO_IDS,
    'device_id': NO_IDS,
    'operation_id': NO_IDS,
    'connection_info': (None, [], 'x', 1),
    'connection_info.driver_volume_type': (None, '', 'a\n', 1, [], 'x' * (1 << 20)),
    'connection_info.data': (None, [], 'x', 1),
    'connection_info.data.access_mode': ('rwx', 1, [], True),
    'connection_info.serial': (1, [], {}),
    'device_name': ('', 'vdb1', '/dev/', '../vdb', '/dev/vdb\n', 'vd', 'nvme0n1', '/dev//vdb', 1, []),
    'disk_bus': ('', 'ide', 'VIRTIO', 1, []),
    'device_type': ('', 'floppy', None, 1, []),
    'port': (None, [], 'x', 1),
    'port.id': NO_IDS,
    'port.address': ('', 'x', 'fa:16:3e:00:00', '01:00:00:00:00:01', '00:00:00:00:00:00', 'fa:16:3e:00:00:0g', None, 1),
    'port.vif_type': (None, '', 'carrier-pigeon', 1, []),
    'states': (None, 'failed', 1),
    'since': ('', 'x', '2026-01-31', '2026-01-31T12:00:00', '12:00Z', 1, []),
    'until': ('', 'x', '2026-13-31T12:00:00Z', 1, []),
    'limit': (0, -1, 1001, 1.0, '1', None, True),
    'operation': (None, [], 'x', 1),
    'operation.id': NO_IDS,
    'operation.action': (None, '', 'submit', 'list_devices', 1, []),
    'operation.arguments': (None, [], 'x', 1),
    'hostdev': (None, [], 'x', 1),
    'hostdev.type': (None, '', 'toaster', 1, []),
}

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
methods = st.sampled_from(sorted(GOOD))


def places(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every place in a message, the message itself first."""
    inner = [place for name in value for place in places(value[name], (*path, name))] if isinstance(value, dict) else []
    return [path, *inner]


def kept(method: str, message: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a good message, and worked with."""
    if method not in list(Action):
        return contract.canonical(message)
    request = catalog.parse(Action(method), message)
    assert catalog.parse(Action(method), request.to_dict()) == request
    return {**contract.canonical({'instance_uuid': message['instance_uuid']}), **request.to_dict()}


def changed(method: str, path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A good message with another value at one place."""
    message = copy.deepcopy(GOOD[method])
    inner: Any = message
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return message


class ContractTestCase(base.TestCase):
    def refused(self, method: str, arguments: dict[str, Any]) -> exception.InvalidInput:
        error = self.assertRaises(exception.InvalidInput, contract.validate, method, arguments)
        self.assertLess(len(str(error)), 500)
        self.assertNotIn(SECRET, str(error))
        self.assertNotIn('\n', str(error))
        return error


class ValidateTestCase(ContractTestCase):
    def test_every_method_is_checked(self) -> None:
        self.assertEqual(set(schemas.METHODS), set(GOOD))
        api = vars(rpcapi.ComputeAPI)
        called = {name for name in api if name[0] != '_' and callable(api[name])}
        # that one sends nothing
        self.assertEqual({*schemas.METHODS, 'can'}, called)

    def test_good_messages(self) -> None:
        for method, message in GOOD.items():
            contract.validate(method, message)
            contract.validate(method, kept(method, message))

    def test_a_wrong_value_is_named_by_its_field(self) -> None:
        tried = set()
        for method, message in GOOD.items():
            for path in places(message):
                field = '.'.join(path)
                for value in WRONG.get(field, ()):
                    error = self.refused(method, changed(method, path, value))
                    self.assertEqual(field, error.kwargs['field'], f'{method}: {str(value)[:80]}')
                    tried.add(field)
        self.assertEqual(set(WRONG), tried)

    def test_a_missing_field_is_named(self) -> None:
        for method, message in GOOD.items():
            for path in places(message)[1:]:
                field = '.'.join(path)
                inner: Any = copy.deepcopy(message)
                without = inner
                for name in path[:-1]:
                    inner = inner[name]
                del inner[path[-1]]
                schema = schemas.METHODS[method]
                if field in (*schema['required'], 'port.id', 'port.address', 'hostdev.type'):
                    error = self.refused(method, without)
                    self.assertEqual((field, 'is missing'), (error.kwargs['field'], error.kwargs['reason']))

    def test_an_unknown_field_is_named(self) -> None:
        for method, message in GOOD.items():
            error = self.refused(method, {**message, 'extra': 1})
            self.assertEqual('extra', error.kwargs['field'])
        for method, path in (('attach_interface', ('port', 'extra')), ('attach_hostdev', ('hostdev', 'extra'))):
            self.assertEqual('.'.join(path), self.refused(method, changed(method, path, 1)).kwargs['field'])

    def test_an_unknown_field_whose_name_is_meant_to_do_harm(self) -> None:
        for name in ('', 'a\nERROR forged', '\ud800', '<x>', 'x' * (1 << 20), '\x1b[2J', '../'):
            error = self.refused('detach', {**GOOD['detach'], name: 1})
            self.assertTrue(str(error).isprintable(), str(error))

    def test_connection_info_may_hold_what_cinder_sends(self) -> None:
        for path in (('connection_info', 'extra'), ('connection_info', 'data', 'extra')):
            contract.validate('attach_volume', changed('attach_volume', path, {'any': ['thing']}))

    def test_what_is_optional(self) -> None:
        message = copy.deepcopy(GOOD['attach_volume'])
        for name in ('device_name', 'disk_bus'):
            message[name] = None
        contract.validate('attach_volume', message)
        for name in ('device_name', 'disk_bus', 'device_type'):
            del message[name]
        contract.validate('attach_volume', message)

    def test_a_number_with_a_point_is_no_whole_number(self) -> None:
        for value in (1500.0, float('nan'), float('inf'), True):
            error = self.refused('attach_interface', changed('attach_interface', ('port', 'mtu'), value))
            self.assertEqual('port.mtu', error.kwargs['field'])

    def test_nested_without_end(self) -> None:
        nested: Any = 'x'
        for _level in range(900):
            nested = [nested]
        for field in ('instance_uuid', 'volume_id', 'connection_info', 'device_name'):
            error = self.refused('attach_volume', changed('attach_volume', (field,), nested))
            self.assertEqual(field, error.kwargs['field'])

    def test_nested_without_end_where_anything_is_allowed(self) -> None:
        nested: Any = 'x'
        for level in range(900):
            nested = [nested] if level % 2 else {'x': nested}
        message = changed('attach_volume', ('connection_info', 'data', 'extra'), nested)
        self.assertEqual('connection_info', self.refused('attach_volume', message).kwargs['field'])


class SecretTestCase(ContractTestCase):
    def test_no_secret_is_kept(self) -> None:
        found = kept('attach_volume', GOOD['attach_volume'])
        self.assertNotIn(SECRET, json.dumps(found))
        # What QEMU gets it by is.
        self.assertEqual(GUEST, found['connection_info']['data']['secret_uuid'])

    def test_no_secret_is_repeated_whatever_is_wrong_beside_it(self) -> None:
        for path in places(GOOD['attach_volume'])[1:]:
            for value in (None, 1, [], {}, 'x y\n', [SECRET], {'password': SECRET}):
                try:
                    contract.validate('attach_volume', changed('attach_volume', path, value))
                except exception.InvalidInput as error:
                    self.assertNotIn(SECRET, str(error), '.'.join(path))

    def test_a_whole_object_in_another_form_is_not_repeated(self) -> None:
        for path in (
            ('connection_info',),
            ('connection_info', 'data'),
            ('connection_info', 'data', 'qos_specs'),
            ('connection_info', 'data', 'encryption'),
        ):
            inner: Any = GOOD['attach_volume']
            for name in path:
                inner = inner.get(name)
            for value in (f'password={SECRET}', json.dumps({'auth_password': SECRET}), [inner], [SECRET]):
                self.refused('attach_volume', changed('attach_volume', path, value))

    def test_passwords_do_not_get_past_the_door(self) -> None:
        data = {
            'device_path': '/dev/sdx',
            'auth_password': SECRET,
            'keyring': SECRET,
            'encryption': {'provider': 'luks', 'secret_uuid': GUEST, 'encryption_key': SECRET},
            'initiators': [{'password': SECRET}],
        }
        info = {'driver_volume_type': 'local', 'data': data}
        found = kept('attach_volume', {'instance_uuid': GUEST, 'volume_id': ID, 'connection_info': info})
        self.assertNotIn(SECRET, json.dumps(found))
        self.assertEqual('/dev/sdx', found['connection_info']['data']['device_path'])
        self.assertEqual(GUEST, found['connection_info']['data']['encryption']['secret_uuid'])

    def test_a_uri_is_not_repeated(self) -> None:
        for name in ('dest_uri', 'migrate_uri'):
            for uri in (f'qemu+ssh://root:{SECRET}@there/system ', [SECRET], {SECRET: SECRET}, 7):
                error = self.refused('live_migrate', {**GOOD['live_migrate'], name: uri})
                self.assertEqual(name, error.kwargs['field'])
                self.assertNotIn(SECRET, str(error))

    def test_a_field_for_a_secret_is_not_repeated(self) -> None:
        path = ('connection_info', 'data', 'secret_uuid')
        error = self.refused('attach_volume', changed('attach_volume', path, SECRET))
        self.assertIn('secret_uuid', error.kwargs['field'])


class JunkTestCase(ContractTestCase):
    @given(methods, st.dictionaries(st.text() | st.sampled_from(['instance_uuid', 'volume_id', 'port']), junk))
    def test_any_message(self, method: str, message: dict[str, Any]) -> None:
        self._check(method, message)

    @given(st.data(), methods, junk)
    def test_junk_anywhere_in_a_good_message(self, data: st.DataObject, method: str, value: Any) -> None:
        path = data.draw(st.sampled_from(places(GOOD[method])))
        if path:
            self._check(method, changed(method, path, value))

    def _check(self, method: str, message: dict[str, Any]) -> None:
        before = copy.deepcopy(message)
        try:
            contract.validate(method, message)
        except exception.InvalidInput as error:
            self.assertTrue(error.kwargs['field'])
            self.assertLess(len(str(error)), 500)
            str(error).encode()
        else:
            contract.validate(method, kept(method, message))
        self.assertEqual(repr(before), repr(message))


class FastTestCase(base.TestCase):
    """What the fast validator lets pass is what the published schema lets pass."""

    @given(st.data(), methods, junk | st.sampled_from([5.0, -1, 2**70, True, 'x' * 300, ID.upper(), '\ud800', {1: 2}]))
    def test_it_agrees(self, data: st.DataObject, method: str, value: Any) -> None:
        path = data.draw(st.sampled_from(places(GOOD[method])))
        message = changed(method, path, value) if path else GOOD[method]
        if not contract._has_float(message) and contract._is_surely_valid(method, message):
            self.assertEqual([], list(contract._validators()[method].iter_errors(message)))

    def test_good_messages_need_no_other(self) -> None:
        for method, message in GOOD.items():
            self.assertFalse(contract._has_float(message))
            self.assertTrue(contract._is_surely_valid(method, message), method)


class CanonicalTestCase(base.TestCase):
    def test_one_volume_has_one_alias(self) -> None:
        for method, message in GOOD.items():
            upper = json.loads(json.dumps(message).replace(ID, ID.upper()).replace(GUEST, GUEST.upper()))
            contract.validate(method, upper)
            found = kept(method, upper)
            for name in ('instance_uuid', 'volume_id', 'port_id', 'operation_id'):
                self.assertEqual(message.get(name), found.get(name))
            if 'port' in message:
                self.assertEqual(message['port']['id'], found['port']['id'])

    def test_one_request_is_one_whoever_sends_it(self) -> None:
        info = {'driver_volume_type': 'local', 'data': {'device_path': '/dev/x'}}
        short = {'instance_uuid': GUEST, 'volume_id': ID, 'connection_info': info}
        long = {**short, 'device_name': None, 'disk_bus': None, 'device_type': 'disk'}
        self.assertEqual(short, kept('attach_volume', long))
        self.assertEqual({**short, 'device_type': 'lun'}, kept('attach_volume', {**short, 'device_type': 'lun'}))
        move = {'instance_uuid': GUEST, 'dest_uri': 'qemu+tls://b/system'}
        more = {'unsafe': False, 'inventory': None, 'migrate_uri': None}
        self.assertEqual(move, kept('live_migrate', {**move, **more}))
        self.assertEqual({**move, 'unsafe': True}, kept('live_migrate', {**move, 'unsafe': True}))

    def test_what_is_no_uuid_stays(self) -> None:
        message = {'instance_uuid': GUEST, 'device_id': 'GPU_1'}
        self.assertEqual(message, kept('detach', message))

    def test_ids(self) -> None:
        for good in (ID, 'gpu_1', 'x'):
            self.assertTrue(contract.is_id(good))
        for bad in NO_IDS:
            if isinstance(bad, str):
                self.assertFalse(contract.is_id(bad))


class SchemaTestCase(base.TestCase):
    def test_the_schemas_are_json(self) -> None:
        """They are published: whoever has them needs none of our code to read them."""
        self.assertEqual(schemas.METHODS, json.loads(json.dumps(schemas.METHODS)))

    def test_the_schemas_are_schemas(self) -> None:
        for validator in contract._validators().values():
            validator.check_schema(validator.schema)

    def test_every_format_is_known(self) -> None:
        used = set()

        def collect(schema: Any) -> None:
            if isinstance(schema, dict):
                if isinstance(schema.get('format'), str):
                    used.add(schema['format'])
                for inner in schema.values():
                    collect(inner)
            elif isinstance(schema, list):
                for inner in schema:
                    collect(inner)

        collect(schemas.METHODS)
        self.assertEqual(set(formats.FORMATS), used)

    @given(st.sampled_from(sorted(formats.FORMATS)), st.text())
    def test_a_format_takes_or_refuses_any_text(self, name: str, text: str) -> None:
        if formats.FORMATS[name][1](text):
            self.assertTrue(text.isprintable(), text)

    def test_the_names_of_interfaces(self) -> None:
        check = formats.FORMATS['interface-name'][1]
        for good in ('br0', 'tap91f04c6a-7c', 'br-int', 'eth0.100', 'x' * 15, 'brücke'):
            self.assertTrue(check(good), good)
        unprintable = ('br0\n', '\x00', '\x1b[2J', '\ud800')
        for bad in ('', '.', '..', 'x' * 16, 'ü' * 8, 'a b', 'a/b', '../x', 'a:1', *unprintable):
            self.assertFalse(check(bad), repr(bad))
