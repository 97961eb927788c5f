# SPDX-License-Identifier: Apache-2.0
"""The type of request for each action."""

from collections.abc import Mapping

from aliasagent.actions import Action
from aliasagent.requests import detach
from aliasagent.requests import guest
from aliasagent.requests import hostdev
from aliasagent.requests import port
from aliasagent.requests import volume
from aliasagent.requests.base import Json
from aliasagent.requests.base import Request

TYPES: Mapping[Action, type[Request]] = {
    request.action: request
    for request in (
        volume.AttachVolume,
        port.AttachInterface,
        hostdev.AttachHostdev,
        detach.DetachVolume,
        detach.DetachInterface,
        detach.DetachDevice,
        guest.ReconcileInstance,
        guest.ReconcileLive,
        guest.LiveMigrate,
    )
}
#: The attaches by id alone: the member that they lack, and their type.
_BY_ID: Mapping[Action, tuple[str, type[Request]]] = {
    Action.ATTACH_VOLUME: ('connection_info', volume.AttachCinderVolume),
    Action.ATTACH_INTERFACE: ('port', port.AttachNeutronPort),
}


def parse(action: Action, arguments: Json) -> Request:
    """Make a typed request from arguments that are valid by its schema; ignore the guest's id.

    :raises InvalidInput: parts of the request contradict each other.
    """
    described, by_id = _BY_ID.get(action, ('', TYPES[action]))
    return (TYPES[action] if described in arguments else by_id).from_dict(arguments)
