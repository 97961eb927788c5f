# SPDX-License-Identifier: Apache-2.0
"""The actions that clients can request, one row each. Imports nothing of the agent, because the client imports it."""

import enum
from typing import Self


class Kind(enum.Enum):
    """What an action does to a guest."""

    ATTACH = enum.auto()
    DETACH = enum.auto()
    RECONCILE = enum.auto()
    #: Saves and restores a running guest, or migrates it.
    MOVE = enum.auto()


class Action(enum.StrEnum):
    """An action, named as its RPC method.

    Each row: the name, the first version of the RPC contract that has the action, its name in event types (Nova's name,
    if Nova has the action), and its kind.
    """

    since: str
    event: str
    kind: Kind

    def __new__(cls, name: str, since: str = '', event: str = '', kind: Kind = Kind.RECONCILE) -> Self:
        # Each row gives all values; the defaults are for lookups, Action('detach').
        action = str.__new__(cls, name)
        action._value_ = name
        action.since, action.event, action.kind = since, event, kind
        return action

    ATTACH_VOLUME = 'attach_volume', '1.0', 'volume_attach', Kind.ATTACH
    ATTACH_INTERFACE = 'attach_interface', '1.0', 'interface_attach', Kind.ATTACH
    ATTACH_HOSTDEV = 'attach_hostdev', '1.1', 'hostdev_attach', Kind.ATTACH
    DETACH_VOLUME = 'detach_volume', '1.0', 'volume_detach', Kind.DETACH
    DETACH_INTERFACE = 'detach_interface', '1.0', 'interface_detach', Kind.DETACH
    DETACH = 'detach', '1.0', 'device_detach', Kind.DETACH
    RECONCILE_INSTANCE = 'reconcile_instance', '1.2', 'reconcile', Kind.RECONCILE
    RECONCILE_LIVE = 'reconcile_live', '1.2', 'reconcile_live', Kind.MOVE
    LIVE_MIGRATE = 'live_migrate', '1.2', 'live_migration', Kind.MOVE


def of_kind(kind: Kind) -> frozenset[Action]:
    """Return all actions of a kind."""
    return frozenset(action for action in Action if action.kind is kind)
