# SPDX-License-Identifier: Apache-2.0
"""What the documents say is so: quoted words are said by the code, commands and options are there."""

import argparse
import ast
import configparser
import importlib.util
import inspect
import json
import pathlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import yaml
from oslo_config import cfg
from oslo_config import generator
from oslo_log import log

import aliasagent
from aliasagent import conf
from aliasagent import exception
from aliasagent.cmd import status
from aliasagent.compute import contract
from aliasagent.shell import main
from aliasagent.tests import base
from aliasagent.tests import documents
from aliasagent.tests.unit import test_watching

PACKAGE = pathlib.Path(aliasagent.__file__).parent
LEVELS = {'debug', 'info', 'warning', 'error', 'critical', 'exception'}
#: A place-holder in a log line's text.
_HOLE = re.compile(r'%(?:\(\w+\))?[-.0-9]*([sdf])')
_OPTION = re.compile(r'``\[(\w+)\] (\w+)')
_COMMAND = re.compile(r'``(aliasagent (?!help )[a-z][^`]*)``')


def pattern(template: str) -> str:
    """What a log line looks like that is made of a text with place-holders."""
    kinds = {'s': '.*', 'd': '-?[0-9]+', 'f': '-?[0-9.]+'}
    parts, at = [], 0
    for hole in _HOLE.finditer(template):
        parts += [re.escape(template[at : hole.start()]), kinds[hole[1]]]
        at = hole.end()
    return ''.join([*parts, re.escape(template[at:])])


def logged(source: str) -> Iterator[tuple[str, str]]:
    """The level and the text of each line that a module logs."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
            continue
        text = node.args[0] if node.args else None
        value = constants.get(text.id) if isinstance(text, ast.Name) else getattr(text, 'value', None)
        if isinstance(value, str):
            yield {'exception': 'ERROR'}.get(node.func.attr, node.func.attr.upper()), value


def formatted(source: str) -> Iterator[str]:
    """What each text with braces in a module's code looks like."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield ''.join(
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else '.*' for part in node.values
            )


def errors() -> dict[str, str]:
    """What the words of each of our errors look like, by its class."""
    return {
        name: re.sub(r'\\{\w+\\}', '.*', re.escape(it.template))
        for name, it in inspect.getmembers(exception, inspect.isclass)
        if issubclass(it, exception.AliasAgentError)
    }


def module_source(logger: str) -> str:
    spec = importlib.util.find_spec(logger.replace('oslo.', 'oslo_', 1))
    assert spec is not None and spec.origin is not None, logger
    return pathlib.Path(spec.origin).read_text()


def options() -> set[tuple[str, str]]:
    """Every option that there is, with its group."""
    namespaces = ['aliasagent', 'oslo.messaging', 'oslo.log', 'oslo.reports', 'oslo.service.service']
    return {
        (str(getattr(group, 'name', group) or 'DEFAULT'), option.dest)
        for _namespace, groups in generator._list_opts(namespaces)
        for group, found in groups
        for option in found
    }


def wrong_words(line: str) -> str:
    """What is wrong with the words of our errors in a quoted line; empty if nothing is."""
    for name, words in errors().items():
        found = re.search(rf'\b{name}: (.*)', line)
        if found and not re.fullmatch(words, found[1]):
            return f'{name} does not say so'
        begin = exception.__dict__[name].template.split('{')[0]
        if len(begin) > 10 and begin in line and not re.search(words, line):
            return f'{name} does not go on so'
    return ''


def wrong_log_line(line: str) -> str:
    """Why nobody logs such a line; empty if somebody does."""
    level, logger, message = line.split(' ', 2)
    known = [pattern(template) for its, template in logged(module_source(logger)) if its == level]
    if not any(re.fullmatch(it, message) for it in known):
        return 'it is not logged'
    return wrong_words(message)


class QuotesTestCase(base.TestCase):
    def test_quoted_log_lines_are_logged(self) -> None:
        quoted = documents.lines('text', 'log')
        self.assertLess(30, len(quoted))
        self.assertEqual([], [(page, line, wrong) for page, line in quoted if (wrong := wrong_log_line(line))])

    def test_what_is_not_logged_would_be_found(self) -> None:
        for line in (
            'INFO aliasagent.virt.host Lost the connection to the hypervisor at qemu:///system',
            'WARNING aliasagent.virt.host Lost the way to the hypervisor at qemu:///system',
            'WARNING aliasagent.virt.guest Lost the connection to the hypervisor at qemu:///system',
            'ERROR aliasagent.operations.runner Failed: detach of x: DetachTimeout: it was not released',
            'WARNING aliasagent.notifications Notifications are delayed: the journal /x is full',
            'ERROR oslo.messaging._drivers.impl_rabbit The broker is lost',
        ):
            self.assertNotEqual('', wrong_log_line(line), line)

    def test_quoted_errors_are_said(self) -> None:
        known = [it for path in (PACKAGE / 'shell').rglob('*.py') for it in formatted(path.read_text())]
        quoted = documents.lines('text', 'said')
        self.assertLess(5, len(quoted))
        for page, line in quoted:
            name = line.partition(':')[0]
            if name in errors():
                self.assertEqual('', wrong_words(line), f'{page}: {line}')
            else:
                # a pattern that is nothing but place-holders says nothing
                fitting = [it for it in known if len(it.replace('.*', '')) > 20 and re.fullmatch(it, line)]
                self.assertNotEqual([], fitting, f'{page}: {line}')


class CommandsTestCase(base.TestCase):
    def parse(self, line: str) -> None:
        program, *words = shlex.split(line)
        if program == 'aliasagent-status':
            parser = argparse.ArgumentParser()
            status._add_commands(parser.add_subparsers(required=True))
            parser.parse_args(words)
            return
        app = main.AliasAgentApp()
        _options, rest = app.parser.parse_known_args(words)
        factory, _name, arguments = app.command_manager.find_command(rest)
        factory(app, None).get_parser('aliasagent').parse_args(arguments)

    def test_commands_can_be_given_like_that(self) -> None:
        commands = [(page, line) for page, line in documents.lines('bash') if line.startswith('aliasagent')]
        self.assertLess(20, len(commands))
        for page, line in commands:
            try:
                self.parse(line)
            except (SystemExit, ValueError) as error:
                self.fail(f'{page}: {line}: {error}')

    def test_a_command_that_cannot_would_be_found(self) -> None:
        for line in (
            'aliasagent device show GUEST',
            'aliasagent device list',
            'aliasagent device list GUEST --kinds disk',
            'aliasagent-status look',
        ):
            self.assertRaises((SystemExit, ValueError), self.parse, line)

    def test_commands_in_the_text_are_there(self) -> None:
        app = main.AliasAgentApp()
        named = [(page, words) for page, text in documents.pages() for words in _COMMAND.findall(text)]
        self.assertLess(4, len(named))
        for page, words in named:
            try:
                app.command_manager.find_command(shlex.split(words)[1:])
            except ValueError as error:
                self.fail(f'{page}: {words}: {error}')

    def test_options_are_there(self) -> None:
        known = options()
        named = [(page, *option) for page, text in documents.pages() for option in _OPTION.findall(text)]
        self.assertLess(20, len(named))
        self.assertEqual([], [it for it in named if it[1:] not in known])

    def test_the_agents_own_options_are_there(self) -> None:
        """Those that the page of aliasagent-compute names."""
        text = (documents.SOURCE / 'cli' / 'aliasagent-compute.rst').read_text()
        named = {
            name for line in re.findall(r'^\.\. option:: (.*)', text, re.MULTILINE)
            for name in re.findall(r'-{1,2}[a-z-]+', line)
        }
        own = cfg.ConfigOpts()
        log.register_options(own)
        own([], project='aliasagent', version='1', default_config_files=[])
        parser = own._oparser
        assert parser is not None
        known = {name for action in parser._actions for name in action.option_strings}
        self.assertEqual(set(), named - known)
        self.assertLess(4, len(named))


class RunbookTestCase(base.TestCase):
    def test_every_alert_has_a_page_and_every_page_an_alert(self) -> None:
        pages = {it['alert']: f'{it["annotations"]["runbook_page"]}.rst' for it in test_watching.alerts()}
        there = {str(path.relative_to(documents.SOURCE)) for path in (documents.SOURCE / 'runbooks').glob('*.rst')}
        self.assertEqual(set(pages.values()), there - {'runbooks/index.rst'})
        for name, page in pages.items():
            text = (documents.SOURCE / page).read_text()
            self.assertIn(f'.. generated:: alert {name}\n', text)
            self.assertNotEqual([], documents.blocks(text, 'bash') + documents.blocks(text, 'console'), name)

    def test_the_command_that_makes_links_of_them(self) -> None:
        ((_page, command),) = documents.lines('bash', 'runbook')
        directory = pathlib.Path(self.make_directory())
        (directory / test_watching.RULES.name).write_text(test_watching.RULES.read_text())
        subprocess.run(['bash', '-euc', command], cwd=directory, check=True, timeout=base.PATIENCE)
        (group,) = yaml.safe_load((directory / test_watching.RULES.name).read_text())['groups']
        for it, before in zip(group['rules'], test_watching.alerts(), strict=True):
            url = f'https://docs.example.org/aliasagent/{before["annotations"]["runbook_page"]}.html'
            self.assertEqual(url, it['annotations']['runbook_url'])
            self.assertNotIn('runbook_page', it['annotations'])

    def test_the_example_for_a_prometheus(self) -> None:
        page = (documents.SOURCE / 'admin' / 'operating.rst').read_text()
        (block,) = documents.blocks(page, 'yaml', 'prometheus')
        found: dict[str, Any] = yaml.safe_load(block)
        self.assertEqual([{'aliasagent'}], [{it['job_name']} for it in found['scrape_configs']])
        self.assertEqual({'aliasagent'}, test_watching.ITS_OWN['up']['job'])
        self.assertEqual([test_watching.RULES.name], found['rule_files'])


class ExamplesTestCase(base.TestCase):
    def test_the_inventory_is_a_good_one(self) -> None:
        page = (documents.SOURCE / 'admin' / 'operating.rst').read_text()
        (block,) = documents.blocks(page, 'json', 'inventory')
        nobody = '00000000-0000-0000-0000-000000000000'
        contract.validate('reconcile_plan', {'instance_uuid': nobody, 'inventory': json.loads(block)})

    def test_the_packages_to_install_are_those_that_the_service_needs(self) -> None:
        wanted = {
            line.split()[0]
            for line in (documents.ROOT / 'bindep.txt').read_text().splitlines()
            if '[platform:dpkg]' in line
        }
        page = (documents.SOURCE / 'install.rst').read_text()
        (named,) = re.findall(r'apt-get install --yes (.*)', page)
        self.assertEqual(wanted, set(named.split()))

    def test_the_configuration_to_begin_with_is_read(self) -> None:
        page = (documents.SOURCE / 'install.rst').read_text()
        (text,) = re.findall(r"<<'END'\n(.*?)\n    END\n", page, re.DOTALL)
        parser = configparser.ConfigParser(default_section='none')
        parser.read_string(re.sub(r'^ +', '', text, flags=re.MULTILINE))
        named = {(group, name) for group in parser.sections() for name in parser[group]}
        self.assertEqual({('DEFAULT', 'transport_url'), ('libvirt', 'uri')}, named)
        self.assertEqual(set(), named - options())
        defaults = {option.dest: option.default for option in conf.libvirt.OPTS}
        self.assertEqual(defaults['uri'], parser['libvirt']['uri'])

    def test_the_unit_for_systemd_goes_with_the_release(self) -> None:
        copied = re.compile(r'install --mode 0644 \S+\.service /etc/systemd/system/\n +(# )?systemctl daemon-reload\n')
        (install,) = copied.finditer((documents.SOURCE / 'install.rst').read_text())
        upgrading = (documents.SOURCE / 'admin' / 'upgrading.rst').read_text()
        for release in ('NEW', 'OLD'):
            _before, _pip, after = upgrading.partition(f'pip install dist/aliasagent-{release}.whl\n')
            found = copied.search(after.split('code-block')[0])
            assert found is not None, release
            self.assertEqual(install[0].replace('#', '').split(), found[0].replace('#', '').split())

    def test_the_agent_is_asked_before_it_is_stopped(self) -> None:
        page = (documents.SOURCE / 'admin' / 'upgrading.rst').read_text()
        back = page.partition('\nRolling back\n')[2].partition('systemctl start aliasagent-compute')[0]
        self.assertIn('aliasagent operation list', back.partition('systemctl stop aliasagent-compute')[0])
        self.assertNotIn('aliasagent operation', back.partition('systemctl stop aliasagent-compute')[2])

    def test_the_pages_on_which_something_is_run_can_be_read_by_a_shell(self) -> None:
        for name, text in documents.pages():
            for block in documents.blocks(text, 'bash'):
                done = subprocess.run(
                    ['bash', '-n', '-c', block], capture_output=True, text=True, timeout=base.PATIENCE, check=False
                )
                self.assertEqual((0, ''), (done.returncode, done.stderr), f'{name}: {block}')
