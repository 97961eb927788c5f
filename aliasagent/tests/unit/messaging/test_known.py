# SPDX-License-Identifier: Apache-2.0
"""What this release uses of oslo.messaging's private parts is looked up before the agent starts."""

import ast
import pathlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from unittest import mock

from oslo_messaging._drivers import amqpdriver

from aliasagent import messaging
from aliasagent.messaging import known
from aliasagent.tests import base

ROOM = pathlib.Path(messaging.__path__[0])
#: As if a release had another name for the class that :mod:`aliasagent.messaging.rpc_server` derives from.
RENAMED = """
from oslo_service import backend
backend.init_backend(backend.BackendType.THREADING)
from oslo_messaging._drivers import amqpdriver
amqpdriver.OtherListener = amqpdriver.__dict__.pop('RpcAMQPListener')
from aliasagent.cmd import compute
raise SystemExit(compute.main([]))
"""


def modules() -> Iterator[ast.Module]:
    for path in sorted(ROOM.glob('*.py')):
        yield ast.parse(path.read_text())


def private_modules(tree: ast.Module) -> dict[str, str]:
    """The private modules of oslo.messaging that a module imports, by the names that it gives them."""
    return {
        alias.asname or alias.name: f'{node.module}.{alias.name}'
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('oslo_messaging._')
        for alias in node.names
    }


def used_of(tree: ast.Module) -> Iterator[str]:
    """What a module uses of those, as ``package.module:name``."""
    names = private_modules(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            yield f'{names[node.value.id]}:{node.attr}'


def own_names(tree: ast.Module) -> set[str]:
    """The names that a module defines itself."""
    return {
        name
        for node in ast.walk(tree)
        for name in (
            [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef)
            else [node.attr] if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            else [node.id] if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            else []
        )
    }


def private_attributes(tree: ast.Module) -> set[str]:
    """The private attributes that a module uses, by dot or by getattr(), and does not define itself."""
    dotted = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and (node.attr not in own_names(tree) or 'super()' in ast.unparse(node.value))
    }
    named = {
        argument.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'getattr'
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }
    return {name for name in dotted | named if name.startswith('_') and not name.startswith('__')}


class CompletenessTestCase(base.TestCase):
    """What is used and not looked up would fail when a message comes, or lose it."""

    def setUp(self) -> None:
        super().setUp()
        self.looked_up = {*known._THERE, *known._CALLED, *known._SET}

    def test_each_name_of_a_private_module(self) -> None:
        used = {name for tree in modules() for name in used_of(tree)}
        self.assertGreater(len(used), 8)
        missing = [name for name in used if not any(f'{it}.'.startswith(f'{name}.') for it in self.looked_up)]
        self.assertEqual([], missing)

    def test_each_private_attribute(self) -> None:
        used = {name for tree in modules() for name in private_attributes(tree)}
        self.assertGreater(len(used), 5)
        names = {it.replace(':', '.').rpartition('.')[2] for it in self.looked_up}
        names |= {attribute for attributes in known._SET.values() for attribute in attributes}
        self.assertEqual(set(), used - names)


class CheckTestCase(base.TestCase):
    def test_nothing_is_looked_up_in_vain(self) -> None:
        for name in (*known._THERE, *known._CALLED, *known._SET):
            self.assertIsNotNone(pkgutil.resolve_name(name))

    def test_an_attribute_that_is_no_more_set(self) -> None:
        def initialize(self: object, driver: object, conn: object) -> None:
            """As if the connection was called otherwise."""

        with mock.patch.object(amqpdriver.AMQPListener, '__init__', initialize):
            refused = self.assertRaises(known.UnknownMessaging, known.check)
        self.assertIn('oslo_messaging._drivers.amqpdriver.AMQPListener.__init__ sets no conn', str(refused))

    def test_the_agent_refuses_what_could_not_even_be_imported_in_one_line(self) -> None:
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', RENAMED],
            capture_output=True, text=True, cwd=ROOM.parents[1], timeout=60, check=False,
        )
        self.assertEqual(1, done.returncode, done.stderr)
        (line,) = done.stderr.splitlines()
        self.assertRegex(
            line,
            r'^The agent cannot start: oslo\.messaging \S+ is unknown to this release, and could lose requests: '
            r'there is no oslo_messaging\._drivers\.amqpdriver\.RpcAMQPListener\.__call__; install a version',
        )
