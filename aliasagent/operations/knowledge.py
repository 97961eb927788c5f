# SPDX-License-Identifier: Apache-2.0
"""What the agent knows of a guest's devices: what inventories said, and what it attached itself.

A device that the agent attached lacks its alias only if the guest was somewhere else meanwhile, or its definition
was written anew by a client that does not know aliases; or its alias is doubted for what its source is named after.
Only what no other device can have taken over by then counts: a volume's file or the stable name of its block device,
and a port's MAC address together with the address of its function or the name that was asked for its tap. A MAC address
or the address of a host device alone, a name like ``/dev/sdb``, the number of a LUN, or an NBD server is the next one's
tomorrow.
"""

import logging
from collections.abc import Callable
from collections.abc import Iterable

from aliasagent import exception
from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import identity
from aliasagent.devices import interface
from aliasagent.devices import names
from aliasagent.operations import told
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import Operation
from aliasagent.reconcile.plan import Record
from aliasagent.requests.port import AttachInterface
from aliasagent.requests.volume import AttachVolume

LOG = logging.getLogger(__name__)

_TOLD_BY = identity.Evidence.ATTACH


def of_guest(journal: Journal, instance: str) -> list[Record]:
    """Read what is known of a guest's devices; what cannot be read is logged and left out: no guest waits for it."""
    found: list[Record] = []
    sources: tuple[Callable[[], list[Record]], ...] = (
        lambda: records(journal.attached(instance)),
        lambda: told.records(journal, instance),
    )
    for read in sources:
        try:
            found += read()
        except exception.JournalError as error:
            LOG.error('Instance %s: some of what is known of its devices is left out: %s', instance, error)
    return found


def records(attaches: Iterable[Operation]) -> list[Record]:
    """Tell what attaches that succeeded say: a record for each that says enough."""
    found = []
    for operation in attaches:
        try:
            record = _record(operation, _device(operation))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a record, the guest must not wait for it
            LOG.warning(
                'Instance %s: the record of the attach of %s, operation %s, makes no sense, and is left out: %s: %s',
                operation.instance,
                operation.device,
                operation.id,
                type(error).__name__,
                error,
            )
        else:
            found += [record] if record is not None else []
    return found


def _device(operation: Operation) -> base.Device | None:
    """What was attached, as far as it tells the device from others; where in the guest it went does not."""
    match operation.request:
        case AttachVolume() as request:
            # Any name: it was free then, and need not be now.
            return request.disk(target='vda', bus=request.bus)
        case AttachInterface() as request:
            return request.device()
        case None:
            raise ValueError('what was asked cannot be read')
        case _:
            return None


def _record(operation: Operation, device: base.Device | None) -> Record | None:
    match device:
        case disk.Disk(source=str(source)) if names.is_lasting(source):
            return Record(operation.device, device.kind, _TOLD_BY, source=source)
        case interface.Interface():
            return identity.lasting_port(device, operation.device, _TOLD_BY)
        case _:
            return None
