# SPDX-License-Identifier: Apache-2.0
"""Requests for a whole guest: reconcile it, save and restore it, migrate it."""

import dataclasses
from typing import Any
from typing import ClassVar
from typing import Self

from aliasagent.actions import Action
from aliasagent.allowed import rules
from aliasagent.requests import base
from aliasagent.requests import inventory
from aliasagent.requests import schema as parts
from aliasagent.requests import uris
from aliasagent.requests.inventory import Inventory

_INVENTORY = {'inventory': parts.nullable(inventory.SCHEMA)}


def _given(found: Inventory | None) -> dict[str, Any]:
    return {} if found is None else {'inventory': found.to_dict()}


@dataclasses.dataclass(frozen=True)
class ReconcileInstance(base.Request):
    """Give the devices of a guest their aliases in the persistent config."""

    action: ClassVar = Action.RECONCILE_INSTANCE
    schema: ClassVar = parts.whole(base.INSTANCE, _INVENTORY)

    inventory: Inventory | None = None

    @classmethod
    def from_dict(cls, arguments: base.Json) -> Self:
        return cls(Inventory.of(arguments.get('inventory')))

    def to_dict(self) -> base.Json:
        return _given(self.inventory)


@dataclasses.dataclass(frozen=True)
class ReconcileLive(base.Move):
    """Save a running guest and restore it with the aliases that its devices lack."""

    action: ClassVar = Action.RECONCILE_LIVE
    schema: ClassVar = parts.whole(base.INSTANCE, {**_INVENTORY, **base.FORCE})
    cost: ClassVar = 'Nova may see that the guest is down meanwhile, and switch it off'

    inventory: Inventory | None = None
    force: bool = False

    @classmethod
    def from_dict(cls, arguments: base.Json) -> Self:
        return cls(Inventory.of(arguments.get('inventory')), arguments.get('force', False))

    def to_dict(self) -> base.Json:
        return _given(self.inventory) | base.forced(self)


@dataclasses.dataclass(frozen=True)
class LiveMigrate(base.Move):
    """Migrate a running guest to another host, with the aliases that its devices lack."""

    action: ClassVar = Action.LIVE_MIGRATE
    schema: ClassVar = parts.whole(
        {**base.INSTANCE, 'dest_uri': parts.string('name')},
        {
            'migrate_uri': parts.nullable(parts.string('name')),
            'bandwidth_mib': parts.nullable(parts.integer(1, 2**31 - 1)),
            'unsafe': {'type': 'boolean'},
            **_INVENTORY,
            **base.FORCE,
        },
    )
    cost: ClassVar = (
        'Nova will not know where the guest is, and its next start or hard reboot runs the guest here a second time, '
        'with the same disks'
    )

    #: The URI of the destination's libvirt.
    dest_uri: str
    #: The URI to which QEMU sends the guest's memory; libvirt chooses it if None.
    migrate_uri: str | None = None
    #: Maximum in MiB per second.
    bandwidth_mib: int | None = None
    #: Whether to migrate even if libvirt considers the guest's disk caches unsafe.
    unsafe: bool = False
    inventory: Inventory | None = None
    force: bool = False

    @classmethod
    def from_dict(cls, arguments: base.Json) -> Self:
        return base.of_members(cls, {**arguments, 'inventory': Inventory.of(arguments.get('inventory'))})

    def to_dict(self) -> base.Json:
        return base.members(dataclasses.replace(self, inventory=None)) | _given(self.inventory)

    def needs(self) -> list[rules.Need]:
        return uris.needs(self.dest_uri, self.migrate_uri)
