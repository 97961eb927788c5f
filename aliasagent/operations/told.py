# SPDX-License-Identifier: Apache-2.0
"""What inventories said of the devices of guests, as the journal keeps it.

An inventory can settle what a device's own evidence cannot, and a detach that comes later has to know it. What is kept
is how the device looks that the inventory meant, never its place. It ends with the device: with its detach, or with the
next attach of its id.
"""

import dataclasses
import json
import logging
from collections.abc import Iterable

from aliasagent.devices import alias
from aliasagent.devices import identity
from aliasagent.devices.identity import Evidence
from aliasagent.operations.journal import Journal
from aliasagent.reconcile.plan import Record

LOG = logging.getLogger(__name__)


def keep(journal: Journal, instance: str, records: Iterable[Record]) -> None:
    """Keep what an inventory said, in place of what earlier ones said of the same devices.

    :raises JournalError: it could not be written.
    """
    with journal.transaction() as db:
        for record in records:
            # What an earlier inventory called this device is void, as is what it knew by this id.
            looks = _looks(record)
            for row, device, text in db.execute(
                'SELECT rowid, device, record FROM told WHERE instance = ?', (instance,)
            ).fetchall():
                if device == record.device_id.lower() or _looks(_read(text)) == looks:
                    db.execute('DELETE FROM told WHERE rowid = ?', (row,))
            db.execute(
                'INSERT INTO told (instance, device, record) VALUES (?, ?, ?)',
                (instance, record.device_id.lower(), json.dumps(dataclasses.asdict(record))),
            )


def records(journal: Journal, instance: str) -> list[Record]:
    """Read what inventories said of a guest's devices; a record that makes no sense is logged and left out.

    :raises JournalError: nothing can be read.
    """
    with journal.transaction() as db:
        rows = db.execute('SELECT device, record FROM told WHERE instance = ? ORDER BY rowid', (instance,)).fetchall()
    found = []
    for device, text in rows:
        record = _read(text)
        if record is None:
            LOG.warning('Instance %s: what an inventory said of %s makes no sense, and is left out', instance, device)
        elif identity.lasts(record):  # an earlier release kept more
            found.append(record)
    return found


def _read(text: str) -> Record | None:
    try:
        record = Record(**json.loads(text))
    except (TypeError, ValueError):
        return None
    are_texts = all(value is None or isinstance(value, str) for value in vars(record).values())
    is_whole = are_texts and alias.is_valid_id(record.device_id) and record.told_by == Evidence.EARLIER_INVENTORY
    return record if is_whole else None


def _looks(record: Record | None) -> Record | None:
    return None if record is None else dataclasses.replace(record, device_id='')
