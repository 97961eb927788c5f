# SPDX-License-Identifier: Apache-2.0
"""The house: imports go down, and one room decides one thing."""

import ast
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import aliasagent
from aliasagent.tests import base

ROOT = pathlib.Path(aliasagent.__file__).parent
#: The rooms from the top down. Nothing imports from above; what stands together may share.
FLOORS = (
    ('cmd', 'shell'),
    ('status',),
    ('compute',),
    ('notifications', 'observe'),
    ('operations',),
    ('reconcile',),
    ('virt',),
    ('ports', 'volumes'),
    ('cloud',),
    ('requests',),
    ('allowed',),
    ('devices',),
    ('conf',),
    ('messaging',),
    ('client', 'rpc'),
    ('actions', 'bounded', 'context', 'exception', 'threads', 'trouble', 'version'),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
#: What is at the bottom may know of these only.
BELOW = {
    'actions': set[str](),
    'bounded': set[str](),
    'exception': set[str](),
    'context': set[str](),
    'threads': set[str](),
    'trouble': set[str](),
    'version': set[str](),
    'client': {'actions', 'client', 'context', 'exception'},
    'rpc': {'client'},
    'messaging': {'client', 'context', 'exception', 'messaging'},
    'conf': {'conf', 'messaging.options', 'version'},
    'cloud': {'bounded', 'cloud', 'devices', 'exception', 'requests.inventory', 'trouble'},
    'volumes': {'bounded', 'cloud', 'exception', 'requests', 'volumes'},
    'ports': {'cloud', 'exception', 'ports', 'requests'},
    'devices': {'devices', 'exception'},
    'allowed': {'allowed', 'exception'},
    'requests': {'actions', 'allowed.rules', 'devices', 'exception', 'requests'},
    # The command speaks to the contract, and to nothing behind it.
    'shell': {
        *('bounded', 'client', 'compute.contract', 'conf', 'context', 'exception', 'shell', 'threads', 'version'),
        # and, to rewrite a file without an agent, what is pure
        *('devices', 'reconcile.plan', 'reconcile.rewrite', 'requests'),
    },
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Each module of the package but for tests, by its name without the package's."""
    for path in sorted(ROOT.rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        if parts[0] != 'tests' and parts != ('__init__',):
            yield '.'.join(part for part in parts if part != '__init__'), ast.parse(path.read_text(), str(path))


def imported(tree: ast.Module) -> Iterator[str]:
    """Everything that a module imports, under its full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, 'imports are absolute'
            yield from (f'{node.module}.{name.name}' for name in node.names)


def own(tree: ast.Module) -> Iterator[str]:
    """What a module imports of this package, without the package's name."""
    for name in imported(tree):
        if name.startswith('aliasagent.'):
            yield name.removeprefix('aliasagent.')


class ImportsTestCase(base.TestCase):
    def test_every_room_has_its_floor(self) -> None:
        rooms = {name.split('.')[0] for name, _tree in modules()}
        self.assertEqual(set(), rooms - set(FLOOR))

    def test_imports_go_down(self) -> None:
        upwards = [
            f'{module} imports {name}'
            for module, tree in modules()
            for name in own(tree)
            if FLOOR[name.split('.')[0]] < FLOOR[module.split('.')[0]]
        ]
        self.assertEqual([], upwards)

    def test_what_may_know_little_knows_no_more(self) -> None:
        too_much = [
            f'{module} imports {name}'
            for module, tree in modules()
            for name in own(tree)
            if (allowed := BELOW.get(module.split('.')[0])) is not None
            and not any(name == room or name.startswith(f'{room}.') for room in allowed)
        ]
        self.assertEqual([], too_much)

    def test_no_module_imports_itself_by_way_of_others(self) -> None:
        known = dict(modules())
        imports: dict[str, set[str]] = {
            module: {
                target
                for name in own(tree)
                for target in (name, name.rpartition('.')[0])
                if target in known and target != module and not _is_package(target)
            }
            for module, tree in known.items()
        }
        while free := [module for module, targets in imports.items() if not targets]:
            for module in free:
                del imports[module]
            for targets in imports.values():
                targets.difference_update(free)
        self.assertEqual({}, imports)


def _is_package(module: str) -> bool:
    return ROOT.joinpath(*module.split('.')).is_dir()


class OneRoomDecidesOneThingTestCase(base.TestCase):
    def assert_only(self, rooms: set[str], users: list[str]) -> None:
        self.assertEqual([], [user for user in users if not any(user == r or user.startswith(f'{r}.') for r in rooms)])
        self.assertNotEqual([], users)

    def importers(self, package: str) -> list[str]:
        return [
            module
            for module, tree in modules()
            if any(name == package or name.startswith(f'{package}.') for name in imported(tree))
        ]

    def naming(self, *attributes: str) -> list[str]:
        return [
            module
            for module, tree in modules()
            if any(isinstance(node, ast.Attribute) and node.attr in attributes for node in ast.walk(tree))
        ]

    def test_libvirt_is_spoken_in_one_room(self) -> None:
        self.assert_only({'virt'}, self.importers('libvirt'))

    def test_os_brick_is_called_in_one_room(self) -> None:
        self.assert_only({'volumes.brick'}, self.importers('os_brick'))

    def test_the_cloud_is_asked_in_one_room(self) -> None:
        self.assert_only({'cloud', 'conf.openstack'}, self.importers('keystoneauth1'))

    def test_what_is_private_of_oslo_messaging_is_used_in_one_room(self) -> None:
        users = [module for module, tree in modules() if any(_private_of_messaging(tree))]
        self.assert_only({'messaging'}, users)

    def test_only_errors_reads_codes(self) -> None:
        self.assert_only({'virt.errors'}, self.naming('get_error_code', 'get_error_domain', 'get_error_message'))
        users = [
            module
            for module, tree in modules()
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr.startswith('VIR_ERR_')
        ]
        self.assert_only({'virt.errors'}, users)

    def test_only_host_opens_a_connection(self) -> None:
        users = [
            module
            for module, tree in modules()
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and (node.value.id, node.attr[:4]) == ('libvirt', 'open')
        ]
        self.assert_only({'virt.host'}, users)

    def test_only_alias_knows_the_form_of_an_alias(self) -> None:
        users = [
            module
            for module, tree in modules()
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith('ua-')
            and not _is_docstring(tree, node)
        ]
        self.assert_only({'devices.alias'}, users)

    def test_only_identity_compares_what_tells_devices_apart(self) -> None:
        self.assert_only({'devices.identity'}, [module for module, tree in modules() if compares_devices(tree)])
        self.assert_only({'devices.identity'}, self.naming('are_apart', 'fits', 'has_double', 'supports', 'WEAK'))

    def test_what_compares_devices_is_seen(self) -> None:
        for text in (
            'one.serial == other.serial',
            '(one.serial, one.wwn) != (other.serial, other.wwn)',
            'now.mac in (None, before.mac)',
            'differ(one.source, other.source)',
            'identity.claim(one) == identity.claim(other)',
            'have, want = one.mac, other.mac\nhave == want',
            'any(have == want for have, want in ((one.mac, other.mac), (one.wwn, other.wwn)))',
            'def place(it):\n    return it.address\nplace(one) == place(other)',
        ):
            self.assertTrue(compares_devices(ast.parse(text)), text)
        for text in ('one.serial is None', "one.source == 'x'", 'Hint(mac=one.mac, source=one.source)', 'one == other'):
            self.assertFalse(compares_devices(ast.parse(text)), text)

    def test_the_judge_is_asked_by_its_front_door(self) -> None:
        inside = 'aliasagent.devices.identity._'
        users = [module for module, tree in modules() if any(name.startswith(inside) for name in imported(tree))]
        self.assert_only({'devices.identity'}, users)

    def test_one_module_chooses_the_threads(self) -> None:
        self.assert_only({'threads'}, self.importers('oslo_service.backend'))

    def test_options_are_read_where_things_are_put_together(self) -> None:
        users = [
            module
            for module in self.importers('oslo_config')
            if module.split('.')[0] not in ('conf', 'cmd', 'shell', 'status')
        ]
        self.assert_only({'client', 'compute.service', 'messaging', 'observe.reports'}, users)


def _private_of_messaging(tree: ast.Module) -> Iterator[str]:
    """What a module imports of oslo.messaging's private modules, and the private attributes of others that it uses.

    Whose those are cannot be read; so in a module that knows oslo.messaging, each is taken for one of its. In a class
    that derives from one of its classes, those of ``self`` are, too.
    """
    names = [name for name in imported(tree) if name.split('.')[0] == 'oslo_messaging']
    yield from (name for name in names if any(part.startswith('_') for part in name.split('.')))
    if names:
        yield from _private_attributes(tree, {'self', 'cls'})
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any('oslo_messaging' in ast.unparse(base) for base in node.bases):
                yield from _private_attributes(node, set())


def _private_attributes(tree: ast.AST, owners: set[str]) -> Iterator[str]:
    """The private attributes that are used of anything but these."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr.startswith('_')
            and not node.attr.startswith('__')
            and ast.unparse(node.value) not in owners
        ):
            yield ast.unparse(node)


#: What tells one device from another: each is an attribute of devices or of claims.
TELLING = frozenset(
    {
        *('serial', 'wwn', 'source', 'mac', 'host_address', 'mdev_uuid', 'usb_address', 'address'),
        *('interfaceid', 'target', 'source_file', 'source_block', 'source_name', 'other_paths'),
    }
)


def compares_devices(tree: ast.Module) -> bool:
    """Whether a module compares what tells devices apart: directly, or by way of names or functions of its own."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    #: Functions and names that stand for such an attribute.
    standing = {function.name for function in functions if any(_tells(node, set()) for node in ast.walk(function))}
    for scope in (*functions, tree):
        names = standing | _names_given(scope, standing)
        if any(_compares(node, names) for node in ast.walk(scope)):
            return True
    return False


def _tells(expression: ast.AST, standing: set[str]) -> bool:
    """Whether an expression has the value of such an attribute, or a whole claim, or what stands for one."""
    for node in ast.walk(expression):
        match node:
            case ast.Attribute(attr=name) if name in TELLING:
                return True
            case ast.Call(func=ast.Attribute(attr='claim') | ast.Name(id='claim' | 'claim_of')):
                return True
            case ast.Name(id=name) if name in standing:
                return True
    return False


def _names_given(scope: ast.AST, standing: set[str]) -> set[str]:
    """The local names that are given to such values."""
    return {
        name.id
        for target, value in _assigned(scope)
        if _tells(value, standing)
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    }


def _assigned(scope: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    for node in ast.walk(scope):
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                yield from zip(targets, values, strict=True)
            case ast.Assign(targets=[target], value=ast.Attribute() as value) | ast.NamedExpr(
                target=target, value=ast.Attribute() as value
            ):
                yield target, value
            case ast.comprehension(target=target, iter=value) | ast.For(target=target, iter=value):
                yield target, value


def _compares(node: ast.AST, standing: set[str]) -> bool:
    match node:
        case ast.Compare(left=left, comparators=others):
            return sum(_tells(operand, standing) for operand in (left, *others)) > 1
        case ast.Call(args=args):
            told = [arg.attr for arg in args if isinstance(arg, ast.Attribute) and arg.attr in TELLING]
            return len(told) > len(set(told))
    return False


def _is_docstring(tree: ast.Module, constant: ast.Constant) -> bool:
    return any(
        isinstance(node, ast.Expr) and node.value is constant
        for node in ast.walk(tree)
    )


#: What does no input and output.
PURE = ('allowed.hosts', 'allowed.rules', 'devices', 'reconcile.plan', 'requests')


def _is_pure(module: str) -> bool:
    return any(module == room or module.startswith(f'{room}.') for room in PURE)


class GroundFloorTestCase(base.TestCase):
    """``devices``, ``requests`` and the plan can be lifted out and used alone."""

    def test_they_load_where_there_is_neither_libvirt_nor_oslo(self) -> None:
        names = [module for module, _tree in modules() if _is_pure(module)]
        script = (
            'import importlib, sys\n'
            'class Refuse:\n'
            '    def find_spec(self, name, path=None, target=None):\n'
            "        if name.split('.')[0].startswith(('libvirt', 'oslo', 'jsonschema', 'eventlet', 'kombu')):\n"
            '            raise ImportError(name)\n'
            'sys.meta_path.insert(0, Refuse())\n'
            f'for name in {names!r}:\n'
            "    importlib.import_module('aliasagent.' + name)\n"
            "print(sorted(name for name in sys.modules if name.startswith('aliasagent.')))\n"
        )
        done = subprocess.run(
            [sys.executable, '-c', script], capture_output=True, text=True, cwd=ROOT.parent, timeout=60, check=False
        )
        self.assertEqual('', done.stderr)
        loaded = ast.literal_eval(done.stdout)
        rooms = (*PURE, 'actions', 'allowed', 'exception', 'reconcile')
        allowed = tuple(f'aliasagent.{room}' for room in rooms)
        self.assertEqual([], [name for name in loaded if not name.startswith(allowed)])

    def test_they_do_no_input_and_output(self) -> None:
        doing = {'os', 'io', 'pathlib', 'socket', 'subprocess', 'threading', 'logging', 'time', 'shutil', 'tempfile'}
        users = [
            f'{module} imports {name}'
            for module, tree in modules()
            if _is_pure(module)
            for name in imported(tree)
            if name.split('.')[0] in doing
        ]
        self.assertEqual([], users)


class NativeThreadsTestCase(base.TestCase):
    def test_no_program_loads_eventlet(self) -> None:
        # The command loads oslo.messaging for a transport that only oslo.messaging has.
        options = "host=None, config_file=[], transport_url='fake:/', timeout=None"
        for program in (
            'import aliasagent.cmd.compute',
            'import aliasagent.cmd.status',
            f'from aliasagent.shell.remote import connection; connection.connect(argparse.Namespace({options}))',
        ):
            script = f'import argparse, sys; {program}; import oslo_messaging; print(sorted(sys.modules))'
            done = subprocess.run(
                [sys.executable, '-c', script], capture_output=True, text=True, cwd=ROOT.parent, timeout=60, check=False
            )
            self.assertEqual('', done.stderr)
            names = ast.literal_eval(done.stdout)
            # The first of these stands for one that is not installed.
            self.assertEqual(['eventlet'], [name for name in names if name.split('.')[0] == 'eventlet'], program)


class AgentTestCase(base.TestCase):
    def test_a_message_that_is_not_valid_is_explained_by_what_is_loaded_for_it(self) -> None:
        script = """
import sys
from aliasagent.cmd import compute
from aliasagent.compute import contract, service
before = 'jsonschema' in sys.modules
try:
    contract.validate('get_operation', {})
except Exception as error:
    print([before, 'jsonschema' in sys.modules, str(error)])
"""
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', script], capture_output=True, text=True, cwd=ROOT.parent, timeout=60,
            check=False,
        )  # fmt: skip
        self.assertEqual('', done.stderr)
        self.assertEqual([False, True, 'operation_id: is missing'], ast.literal_eval(done.stdout))


class CommandTestCase(base.TestCase):
    """A command loads what it needs, for a person waits."""

    def test_what_is_loaded_before_it_talks_to_an_agent(self) -> None:
        # Of all commands, which the help loads.
        names = [path.stem for path in (ROOT / 'shell').glob('*.py') if path.stem not in ('__init__', 'definition')]
        modules = [f'aliasagent.shell.{name}' for name in names]
        script = f'import sys, {", ".join(modules)}; print(sorted(sys.modules))'
        done = subprocess.run(
            [sys.executable, '-c', script], capture_output=True, text=True, cwd=ROOT.parent, timeout=60, check=False
        )
        self.assertEqual('', done.stderr)
        packages = {name.split('.')[0] for name in ast.literal_eval(done.stdout)}
        servers = {'oslo_messaging', 'oslo_config', 'oslo_service', 'kombu', 'jsonschema', 'libvirt', 'lxml'}
        self.assertEqual(set(), packages & servers)


class ClientTestCase(base.TestCase):
    """Whoever sends requests has nothing of the agent in its process."""

    def test_what_it_loads(self) -> None:
        script = 'import sys; from aliasagent.client import ComputeAPI, transport; print(sorted(sys.modules))'
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', script],
            capture_output=True, text=True, cwd=ROOT.parent, timeout=60, check=False,
        )
        self.assertEqual('', done.stderr)
        loaded = ast.literal_eval(done.stdout)
        self.assertEqual(
            [
                *('actions', 'client', 'client.options', 'client.rpc', 'client.rpcapi', 'client.sending'),
                *('context', 'exception'),
            ],
            [name.removeprefix('aliasagent.') for name in loaded if name.startswith('aliasagent.')],
        )
        packages = {name.split('.')[0] for name in loaded}
        self.assertEqual(set(), packages & {'cliff', 'jsonschema', 'libvirt', 'lxml', 'prometheus_client'})


class SandboxTestCase(base.TestCase):
    """What the quickstart runs is no test, and no part of the agent."""

    def test_it_knows_no_tests(self) -> None:
        files = list((ROOT.parent / 'sandbox').glob('*.py'))
        self.assertIn('quickstart.py', [path.name for path in files])
        names = [name for path in files for name in imported(ast.parse(path.read_text()))]
        self.assertEqual([], [name for name in names if name.startswith('aliasagent.tests')])

    def test_the_agent_does_not_know_it(self) -> None:
        users = [module for module, tree in modules() for name in imported(tree) if name.split('.')[0] == 'sandbox']
        self.assertEqual([], users)


class FilesTestCase(base.TestCase):
    def test_every_file_says_its_licence(self) -> None:
        without = [
            str(path.relative_to(ROOT.parent))
            for room in (ROOT, ROOT.parent / 'benchmarks', ROOT.parent / 'sandbox')
            for path in room.rglob('*.py')
            if 'SPDX-License-Identifier: Apache-2.0' not in path.read_text()[:200]
        ]
        self.assertEqual([], without)
