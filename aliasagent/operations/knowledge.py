# SPDX-License-Identifier: Apache-2.0
"""What the agent knows of a guest's devices because it attached them itself.

Such a device lacks its alias only if the guest was somewhere else meanwhile, or its definition was written anew by
somebody who does not know aliases. So only what no other device can have taken over by then counts: a volume's file or
the stable name of its block device, and a port's MAC address with, if it has one, the address of its function. The
address of a host device alone, a name like ``/dev/sdb``, or an NBD server is the next one's tomorrow.
"""

import re
from collections.abc import Iterable

from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import identity
from aliasagent.devices import port
from aliasagent.devices import volume
from aliasagent.operations.model import Action
from aliasagent.operations.model import Operation
from aliasagent.reconcile.plan import Record

_TOLD_BY = 'record of its attach'
#: Names that the kernel gives in the order in which it finds block devices.
_NUMBERED = re.compile(r'/dev/[^/]+')


def records(attaches: Iterable[Operation]) -> list[Record]:
    """What attaches that succeeded say, a record for each that says enough."""
    found = [_record(operation, _device(operation)) for operation in attaches]
    return [record for record in found if record is not None]


def _device(operation: Operation) -> base.Device | None:
    arguments = operation.arguments
    match operation.action:
        case Action.ATTACH_VOLUME:
            # Where it was attached does not matter here, and need not be free.
            return volume.disk_for_volume(
                arguments['volume_id'],
                arguments['connection_info'],
                target='sda',
                bus='scsi',
                device_type=arguments.get('device_type', 'disk'),
            )
        case Action.ATTACH_INTERFACE:
            return port.interface_for_port(arguments['port'])
        case _:
            return None


def _record(operation: Operation, device: base.Device | None) -> Record | None:
    match device:
        case disk.Disk(source=str(source)) if not _NUMBERED.fullmatch(source) and device.source_protocol != 'nbd':
            return Record(operation.device, device.kind, _TOLD_BY, source=source)
        case None | disk.Disk():
            return None
        case _:
            known = identity.claim(device)
            return Record(operation.device, device.kind, _TOLD_BY, mac=known.mac, host_address=known.host_address)
