# SPDX-License-Identifier: Apache-2.0
"""Generates parts of the documents from the code: ``.. generated:: FUNCTION ARGUMENTS...`` inserts them.

Each function below returns lines of reStructuredText.
"""

import argparse
import inspect
import json
import pathlib
import re
import types
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from unittest import mock

import yaml
from docutils import nodes
from docutils import statemachine
from docutils.parsers import rst
from sphinx import application
from sphinx.util import nodes as sphinx_nodes

from aliasagent import actions
from aliasagent import exception
from aliasagent import notifications
from aliasagent.cmd import status
from aliasagent.compute import schemas
from aliasagent.devices import base as devices
from aliasagent.devices import disk
from aliasagent.devices import domain
from aliasagent.observe import metrics
from aliasagent.operations import model
from aliasagent.reconcile import plan
from aliasagent.requests import formats as request_formats
from aliasagent.requests import hostdev
from aliasagent.requests import inventory
from aliasagent.requests import port
from aliasagent.requests import sources
from aliasagent.requests import volume
from aliasagent.shell import errors
from aliasagent.shell import main
from aliasagent.shell import operation

ROOT = pathlib.Path(__file__).parents[3]
NOVA_GUESTS = ROOT / 'aliasagent' / 'tests' / 'unit' / 'reconcile' / 'nova_guests'
RULES = ROOT / 'etc' / 'prometheus' / 'aliasagent.rules.yml'

#: The options that cliff adds to each command that shows a table.
OUTPUT_OPTIONS = (
    *('-f', '-c', '--quote', '--noindent', '--prefix', '--max-width', '--fit-width', '--print-empty'),
    *('--sort-column', '--sort-ascending', '--sort-descending'),
)
#: Schemas that are shown once, and referred to by name.
SHARED = {
    'connection_info': volume.CONNECTION_INFO,
    'port': port.PORT,
    'hostdev': hostdev.HOSTDEV,
    'inventory': inventory.SCHEMA,
}
#: The parts of them, by a member's value.
PARTS = {
    'connection_info.data': sources.SCHEMAS,
    'port': port.VIF_TYPES,
    'hostdev': hostdev.SCHEMAS,
}


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]], widths: str = 'auto') -> Iterator[str]:
    yield '.. list-table::'
    yield '   :header-rows: 1'
    yield f'   :widths: {widths}'
    yield ''
    for row in (header, *rows):
        for number, cell in enumerate(row):
            yield ('   * - ' if number == 0 else '     - ') + cell
    yield ''


def _code(language: str, text: str) -> Iterator[str]:
    yield f'.. code-block:: {language}'
    yield ''
    yield from (f'   {line}'.rstrip() for line in text.splitlines())
    yield ''


def _section(title: str, underline: str) -> Iterator[str]:
    yield from ('', title, underline * len(title), '')


# The commands


def _definitions(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, words in items:
        yield from (name, f'   {words}', '')


def _options(parser: argparse.ArgumentParser, only: Container[str] | None = None) -> Iterator[str]:
    """Describe each option and argument; a Sphinx ``program`` names their command."""
    for action in parser._actions:
        if only is not None and not any(name in only for name in action.option_strings):
            continue
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction):
            continue
        value = ''
        if action.nargs != 0:
            choices = '{' + ','.join(map(str, action.choices)) + '}' if action.choices else ''
            value = str(action.metavar or choices or action.dest.upper())
        names = [f'{name} {value}'.strip() for name in action.option_strings] or [str(action.metavar or action.dest)]
        yield f'.. option:: {", ".join(names)}'
        yield ''
        yield f'   {_one_line(action.help or "")}'
        yield ''


def _one_line(text: str) -> str:
    return ' '.join(text.split()).replace('*', r'\*').replace('`', r'\`')


def client_options() -> Iterator[str]:
    """The global options of ``aliasagent``."""
    yield '.. program:: aliasagent'
    yield ''
    yield from _options(main.AliasAgentApp().parser)


def exit_codes() -> Iterator[str]:
    """The exit codes of ``aliasagent``."""
    lines = [line.split(maxsplit=1) for line in errors.EXIT_CODES.splitlines()[1:]]
    yield from _definitions((code, words) for code, words in lines)


def output_options() -> Iterator[str]:
    """The output options of the commands that show a table."""
    yield '.. program:: aliasagent'
    yield ''
    app: Any = types.SimpleNamespace(NAME='aliasagent')
    yield from _options(operation.OperationList(app, None).get_parser('aliasagent'), OUTPUT_OPTIONS)


def status_commands() -> Iterator[str]:
    """The commands of ``aliasagent-status``."""
    parser = argparse.ArgumentParser(prog='aliasagent-status')
    subparsers = parser.add_subparsers()
    status._add_commands(subparsers)
    words = {action.dest: action.help or '' for action in subparsers._choices_actions}
    for name, command in subparsers.choices.items():
        yield from _section(f'aliasagent-status {name}', '~')
        yield f'{words[name].capitalize()}.'
        yield ''
        yield f'.. program:: aliasagent-status {name}'
        yield ''
        yield from _options(command)
        yield from ('Exit codes:', '')
        codes = [code.split(': ', 1) for code in str(command.epilog).split('; ')]
        yield from _definitions((code, text) for code, text in codes)


# The contract


def _referring(schema: Any, top: Any) -> Any:
    """Replace shared schemas in a schema by references."""
    if isinstance(schema, dict):
        for name, shared in SHARED.items():
            if schema is shared and schema is not top:
                return {'$ref': name}
        return {name: _referring(value, top) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_referring(value, top) for value in schema]
    return schema


def _schema(schema: Any) -> Iterator[str]:
    yield from _code('json', json.dumps(_referring(schema, schema), indent=2))


def methods(kind: str) -> Iterator[str]:
    """The schema of each method's arguments: of the casts, or of the calls."""
    for name, schema in schemas.METHODS.items():
        if (name in set(actions.Action)) == (kind == 'casts'):
            yield from _section(name, '~')
            yield from _schema(schema)


def shared_schemas() -> Iterator[str]:
    """The shared schemas, with the schemas of their kinds."""
    for name, schema in SHARED.items():
        yield from _section(name, '~')
        parts = {part: kinds for part, kinds in PARTS.items() if part.split('.')[0] == name}
        if not parts:
            yield from _schema(schema)
        for part, kinds in parts.items():
            member = {'connection_info.data': 'driver_volume_type', 'port': 'vif_type', 'hostdev': 'type'}[part]
            yield from _code('json', json.dumps(_without_kinds(schema, member), indent=2))
            for kind, its in kinds.items():
                yield f'``{part}`` where ``{member}`` is ``{kind}``:'
                yield ''
                yield from _schema(its)


def _without_kinds(schema: Any, member: str) -> Any:
    """Remove the conditions on single values of a member, which are shown beside the schema."""
    rest = {name: value for name, value in schema.items() if name != 'allOf'}
    conditions = [one for one in schema.get('allOf', ()) if not _is_of_kind(one['if'], member)]
    # The forms of a shared schema.
    forms = {name: _without_kinds(schema[name], member) for name in ('then', 'else') if name in schema}
    return {**rest, **forms, **({'allOf': conditions} if conditions else {})}


def _is_of_kind(condition: Any, member: str) -> bool:
    """Return whether a condition is on nothing but one value of a member."""
    return list(condition['properties']) == [member] and 'const' in condition['properties'][member]


def formats() -> Iterator[str]:
    """The meaning of each ``format`` in the schemas."""
    rows = ((f'``{name}``', words) for name, (words, _check) in request_formats.FORMATS.items())
    yield from _table(('format', 'meaning'), rows)


def error_classes() -> Iterator[str]:
    """Every error that an operation can end with, or a call can raise."""
    found = [
        it
        for _name, it in inspect.getmembers(exception, inspect.isclass)
        if issubclass(it, exception.AliasAgentError) and it is not exception.AliasAgentError and 'template' in vars(it)
    ]
    rows = (
        (f'``{it.__name__}``', f'``{it.template}``', it.__bases__[0].__name__, 'yes' if it.retryable else 'no')
        for it in sorted(found, key=lambda it: ([base.__name__ for base in it.__mro__][::-1]))
    )
    yield from _table(('class', 'text', 'base class', 'retry'), rows, '18 52 18 12')


# What an operator watches


def metric_families() -> Iterator[str]:
    """The metrics."""
    made = metrics.Metrics()
    # The metrics read only numbers from these, and the values do not matter here.
    made.watch(*(mock.MagicMock() for _part in inspect.signature(made.watch).parameters))
    rows = []
    for family in made.registry.collect():
        if family.name.startswith('aliasagent_'):
            name = {'counter': f'{family.name}_total', 'info': f'{family.name}_info'}.get(family.type, family.name)
            labels = sorted({label for sample in family.samples for label in sample.labels} - {'le'})
            shown = ', '.join(f'``{label}``' for label in labels) or 'none'
            rows.append((f'``{name}``', family.type, shown, family.documentation))
    yield from _table(('metric', 'type', 'labels', 'meaning'), sorted(rows), '36 10 16 38')


def outcomes() -> Iterator[str]:
    """The outcomes of a reconcile for a device."""
    yield from _table(
        ('outcome', 'label of the metric'), ((str(it), f'``{it.name.lower()}``') for it in plan.Outcome)
    )


def never_unplugged() -> Iterator[str]:
    """The kinds of devices that no running guest releases."""
    kinds = ', '.join(f'``{kind}``' for kind in sorted(devices.NEVER_UNPLUGGED))
    buses = ', '.join(f'``{bus}``' for bus in sorted(disk.NEVER_UNPLUGGED))
    yield f'{kinds}; disks on {buses}, controllers that are not ``scsi``, and input devices on ``ps2``.'


def _alerts() -> list[dict[str, Any]]:
    rules = yaml.safe_load(RULES.read_text())
    return [rule for group in rules['groups'] for rule in group['rules']]


def page(name: str) -> str:
    """Return the name of an alert's page: alias-agent-down for AliasAgentDown."""
    return '-'.join(re.findall('[A-Z][a-z]+', name)).lower()


def _said(rule: dict[str, Any]) -> str:
    """Return an alert's summary, with words in place of Prometheus' values."""
    filled = {'$labels.instance': 'INSTANCE', '$labels.action': 'ACTION', '$value': 'N'}
    summary = str(rule['annotations']['summary'])
    for name, word in filled.items():
        summary = summary.replace(f'{{{{ {name} }}}}', word)
    return summary


def alert(name: str) -> Iterator[str]:
    """One alert."""
    (rule,) = (rule for rule in _alerts() if rule['alert'] == name)
    yield f':Severity: {rule["labels"]["severity"]}'
    yield from (f':Summary: {_said(rule)}', f':Effect: {rule["annotations"]["description"]}')
    yield f':Fires: after {rule["for"]} of this condition' if 'for' in rule else ':Fires: on this condition'
    yield ''
    yield from _code('text', rule['expr'].strip())


def alert_table() -> Iterator[str]:
    """All alerts, each with its page."""
    yield from _table(
        ('alert', 'severity', 'summary'),
        ((f':doc:`{it["alert"]} <{page(it["alert"])}>`', it['labels']['severity'], _said(it)) for it in _alerts()),
        '32 12 56',
    )


# Guests of Nova

#: The rows of the table, each with the pattern for the devices that it is about, as whose.json describes them.
NOVA_DEVICES = {
    'disk that is no volume: image, config drive, swap, ephemeral disk, rescue image': 'no volume: .*',
    'volume whose source has its name: Ceph, NFS, LVM, iSCSI by path':
        'volume, (rbd|nfs|nfs_snapshot|smbfs|local_lvm|iscsi_by_path)(, encrypted|, multiattach)?',
    'volume on another source: multipath, Fibre Channel, NVMe, dm-crypt, ``/dev/sdc``, another name template':
        'volume, (iscsi|iscsi_sd|iscsi_array|multipath|multipath_by_id|fibre_channel|nvmeof|crypt|'
        'rbd, name|rbd, named as the id)(, encrypted|, multiattach)?',
    'volume as a LUN': 'volume, .*, lun',
    'volume that Cinder has migrated or retyped': 'volume, .*, named_after_another',
    'volume after a swap by Nova, named by its source': 'volume, .*, in place of another by swap_volume',
    'port, Open vSwitch': 'port, ovs normal',
    'port, Open vSwitch, hybrid plug': 'port, ovs normal, hybrid plug',
    'port, Open vSwitch, made before the upgrade to Nova 24': 'port, ovs normal, plugged by libvirt',
    'port, Open vSwitch, with ``ovs_create_tap``': 'port, ovs normal, tap made before',
    'port, Linux bridge': 'port, bridge normal',
    'port, tap (such as Calico)': 'port, tap normal',
    'port, vhost-user': 'port, vhostuser normal(, socket named by id)?',
    'port, macvtap': 'port, macvtap normal',
    'port, SR-IOV: direct, direct-physical, macvtap, offloaded':
        'port, (hw_veb|ovs|hostdev_physical) (direct|macvtap).*',
    'port, vDPA': 'port, ovs vdpa',
    'mediated device (vGPU)': 'mdev',
    'PCI device of the flavor': 'PCI device of the flavor',
}


def _nova_evidence(step: plan.Step) -> str:
    """Describe on which evidence the agent identifies a device."""
    match step.outcome:
        case plan.Outcome.ALIASED:
            return 'user alias'
        case plan.Outcome.GETS_ALIAS if step.judgement.identity is not None:
            return str(step.judgement.identity.evidence)
        case plan.Outcome.LOCAL:
            return 'local device'
        case plan.Outcome.CONFLICT:
            return 'conflict'
        case _:
            return 'none'


def _nova_kind(one: dict[str, Any]) -> str:
    is_hybrid = any(clue.startswith('source/bridge qbr') for clue in one['clues']) and 'hybrid' not in one['what']
    what = str(one['what']) + (', hybrid plug' if is_hybrid else '')
    return next(row for row, pattern in NOVA_DEVICES.items() if re.fullmatch(pattern, what))


def _nova_release(release: pathlib.Path) -> dict[str, str]:
    """Return the evidence for each kind of device in the definitions of a release."""
    found: dict[str, set[str]] = {}
    for whose in sorted(release.rglob('whose.json')):
        for name, devices_ in json.loads(whose.read_text()).items():
            steps = plan.plan(domain.Domain.parse((whose.parent / name).read_bytes()))
            for one, step in zip(devices_, steps, strict=True):
                found.setdefault(_nova_kind(one), set()).add(_nova_evidence(step))
    return {kind: ' or '.join(sorted(evidence)) for kind, evidence in found.items()}


def _nova_releases() -> list[pathlib.Path]:
    found = (path for path in NOVA_GUESTS.iterdir() if path.name[0].isdecimal())
    return sorted(found, key=lambda path: [int(part) for part in path.name.split('.')])


def nova_releases() -> Iterator[str]:
    """The releases of Nova whose definitions the agent is tested with."""
    yield from (f'Nova {", ".join(path.name for path in _nova_releases())}.', '')


def nova_guests() -> Iterator[str]:
    """The evidence for each kind of device, by release; releases in which it is the same are one column."""
    columns: list[tuple[list[str], dict[str, str]]] = []
    for path in _nova_releases():
        number, cells = path.name.split('.')[0], _nova_release(path)
        if columns and all(columns[-1][1].get(kind, text) == text for kind, text in cells.items()):
            columns[-1][0].append(number)
            columns[-1][1].update(cells)
        else:
            columns.append(([number], cells))
    heads = [numbers[0] if len(numbers) == 1 else f'{numbers[0]} to {numbers[-1]}' for numbers, _cells in columns]
    rows = ((kind, *(cells.get(kind, 'absent') for _numbers, cells in columns)) for kind in NOVA_DEVICES)
    yield from _table(('device', *heads), rows)


# Notifications


def event_types() -> Iterator[str]:
    """The event types of each action."""
    rows = []
    for action in actions.Action:
        phases = [phase for phase in model.Phase if phase is not model.Phase.RELEASED or action in model.DETACHES]
        rows.append((f'``{action}``', ', '.join(f'``instance.{action.event}.{it}``' for it in phases)))
    yield from _table(('action', 'event types'), rows, '26 74')


def payload() -> Iterator[str]:
    """The payload's schema."""
    yield from _schema(notifications.PAYLOAD)


def example_payload() -> Iterator[str]:
    """The payload of a detach whose guest did not release the device in time."""
    error = exception.DetachTimeout(
        instance='d4a6a9a0-5a5c-4a4b-9c39-0c8f1f4f2f10',
        device='7d3c2b9e-54f5-4b1e-8f0f-2a6c1d7e9b10',
        attempts=8,
        timeout=20,
        left='it is gone from the persistent config and still in the running guest',
    )
    operation = model.Operation(
        id='1c6f3f0e-8f43-4f0a-8c0e-0f6f6d1d3a55',
        action=actions.Action.DETACH_VOLUME,
        instance='d4a6a9a0-5a5c-4a4b-9c39-0c8f1f4f2f10',
        device='7d3c2b9e-54f5-4b1e-8f0f-2a6c1d7e9b10',
        request=None,
        error_class=type(error).__name__,
        error=str(error),
        request_id='req-0b1f6a0e-5c0c-4c8e-9d9f-5b1a7b0f7c11',
    )
    notice = model.Notice(1, model.Phase.ERROR, operation)
    yield from _code('json', json.dumps(notifications.payload(notice, 'compute-1'), indent=2))


class Generated(rst.Directive):
    """Inserts the result of a function of this module into a document."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        name, *arguments = self.arguments
        lines = list(globals()[name](*arguments))
        node = nodes.section()
        node.document = self.state.document
        content = statemachine.StringList(lines, source=f'{__file__}: {name}')
        sphinx_nodes.nested_parse_with_titles(self.state, content, node)
        return list(node.children)


def setup(app: application.Sphinx) -> dict[str, Any]:
    app.add_directive('generated', Generated)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
