# SPDX-License-Identifier: Apache-2.0
"""Collects the hints about the devices of a guest: from inventories, and from the agent's own attaches.

A device that the agent attached lacks its alias only if the guest was on another host meanwhile, or if a client that
does not write aliases has redefined the guest. A hint also settles an alias that contradicts the name of the device's
source. An attach gives a hint only if no other device can have the same data by now: the file of a volume or the stable
name of its block device; the MAC address of a port together with the address of its PCI function or the name requested
for its tap. A MAC address or the address of a host device alone, a name like ``/dev/sdb``, the number of a LUN, or an
NBD server can belong to another device later.
"""

import functools
import json
import logging
from collections.abc import Callable
from collections.abc import Iterable

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import identity
from aliasagent.devices import interface
from aliasagent.devices import names
from aliasagent.operations import hints
from aliasagent.operations import rows
from aliasagent.operations.connections import Connection
from aliasagent.operations.connections import Connections
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import Operation
from aliasagent.reconcile.plan import Record
from aliasagent.requests.base import Request
from aliasagent.requests.port import AttachInterface
from aliasagent.requests.volume import AttachVolume

LOG = logging.getLogger(__name__)

_TOLD_BY = identity.Evidence.ATTACH
#: The action that attaches what is connected.
_ACTIONS = {'volume': Action.ATTACH_VOLUME, 'port': Action.ATTACH_INTERFACE}


def of_guest(journal: Journal, instance: str) -> list[Record]:
    """Read the hints about the devices of a guest; hints that cannot be read are logged and ignored."""
    found: list[Record] = []
    sources: tuple[Callable[[], list[Record]], ...] = (
        lambda: records(journal.attached(instance)),
        lambda: _connected(journal, instance),
        lambda: hints.records(journal, instance),
    )
    for read in sources:
        try:
            found += read()
        except exception.JournalError as error:
            LOG.error('Instance %s: some hints about its devices cannot be read and are ignored: %s', instance, error)
    return found


def _connected(journal: Journal, instance: str) -> list[Record]:
    """Return a hint for each device with a connection, of which the recorded request has the id only."""
    found = (
        _record(it.device, request)
        for it in Connections(journal).all(instance)
        if (request := request_of(it)) is not None
    )
    return [record for record in found if record is not None]


def request_of(connection: Connection) -> Request | None:
    """Return the request to attach the device of a connection; None if the service has not answered yet."""
    action = _ACTIONS.get(connection.kind)
    if not connection.given or action is None:
        return None
    return rows.request_of(action, json.dumps(connection.given))


def records(attaches: Iterable[Operation]) -> list[Record]:
    """Return a hint for each successful attach that has lasting evidence."""
    found = []
    for operation in attaches:
        try:
            record = _record(operation.device, operation.request)
        except Exception as error:  # noqa: BLE001 - a record that is not valid must not block the guest
            LOG.warning(
                'Instance %s: the record of the attach of %s, operation %s, is not valid and is ignored: %s: %s',
                operation.instance,
                operation.device,
                operation.id,
                type(error).__name__,
                error,
            )
        else:
            found += [record] if record is not None else []
    return found


# The attaches of a guest's devices are read again for each operation on the guest, and to build a device takes longest.
@functools.lru_cache(maxsize=1024)
def _record(device_id: str, request: Request | None) -> Record | None:
    """Return the hint of an attach; None if its evidence does not last."""
    match device_of(request):
        case disk.Disk(source=str(source)) as device if names.is_lasting(source):
            return Record(device_id, device.kind, _TOLD_BY, source=source)
        case interface.Interface() as device:
            return identity.lasting_port(device, device_id, _TOLD_BY)
        case _:
            return None


def device_of(request: Request | None) -> base.Device | None:
    """Return the device of an attach; its target in the guest is a placeholder, because no hint uses the target."""
    match request:
        case AttachVolume():
            return request.disk(target='vda', bus=request.bus)
        case AttachInterface():
            return request.device()
        case None:
            raise ValueError('the recorded request cannot be read')
        case _:
            return None
