# SPDX-License-Identifier: Apache-2.0
"""Aliases for a definition in a file, without an agent. Loaded only by ``aliasagent xml reconcile``."""

import dataclasses

from aliasagent import exception
from aliasagent.compute import contract
from aliasagent.devices import domain
from aliasagent.reconcile import plan
from aliasagent.reconcile import rewrite
from aliasagent.requests.inventory import Inventory
from aliasagent.requests.inventory import records_of
from aliasagent.shell import base
from aliasagent.shell import errors


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """A definition with its aliases."""

    xml: str
    #: One line for each device.
    report: list[str]
    #: Whether several devices have the same alias, which libvirt refuses.
    has_doubles: bool


def reconcile(path: str, content: bytes, inventory: str | None) -> Rewritten:
    """Write aliases into a definition.

    :param path: the file's name, for an error.
    :param inventory: JSON, or ``@`` and the name of a file with it.
    :raises BadInput: the definition or the inventory is not valid.
    """
    try:
        definition = domain.Domain.parse(content)
    except exception.InvalidXML as error:
        raise errors.BadInput(f'FILE: {path}: {error}') from error
    hints = records_of(Inventory.of(checked_inventory(inventory)))
    report = [
        f'{step.device.describe()}: {step.outcome}, {step.reason}' + (f': {step.alias}' if step.alias else '')
        for step in plan.plan(definition, hints)
    ]
    rewrite.give(definition, None, hints)
    return Rewritten(definition.to_xml(), report, bool(definition.doubled_aliases()))


def checked_inventory(text: str | None) -> base.Json | None:
    """Parse an inventory, and check it against the contract.

    :raises BadInput: the inventory is not valid.
    """
    if text is None:
        return None
    inventory = base.json_argument('--inventory', text)
    any_instance = '00000000-0000-0000-0000-000000000000'
    try:
        contract.validate('reconcile_plan', {'instance_uuid': any_instance, 'inventory': inventory})
    except exception.InvalidInput as error:
        raise errors.BadInput(f'--inventory: {error}') from error
    return inventory
