# SPDX-License-Identifier: Apache-2.0
"""Keeps the hints of inventories about the devices of guests in the journal, in its table ``told``.

An inventory can identify a device when the device's own evidence cannot, and a later detach needs that. A hint
describes the device, never its place in the guest. The journal deletes a hint with the detach of the device, or with
the next attach of its id.
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
    """Keep the hints of an inventory, in place of earlier ones about the same devices.

    :raises JournalError: the hints could not be written.
    """
    with journal.transaction() as db:
        for record in records:
            # An earlier hint with this id is void, and so is one that gives this device another id.
            description = _without_id(record)
            for row, device, text in db.execute(
                'SELECT rowid, device, record FROM told WHERE instance = ?', (instance,)
            ).fetchall():
                if device == record.device_id.lower() or _without_id(_read(text)) == description:
                    db.execute('DELETE FROM told WHERE rowid = ?', (row,))
            db.execute(
                'INSERT INTO told (instance, device, record) VALUES (?, ?, ?)',
                (instance, record.device_id.lower(), json.dumps(dataclasses.asdict(record))),
            )


def records(journal: Journal, instance: str) -> list[Record]:
    """Read the hints about the devices of a guest; one that is not valid is logged and ignored.

    :raises JournalError: the journal cannot be read.
    """
    with journal.reading() as db:
        rows = db.execute('SELECT device, record FROM told WHERE instance = ? ORDER BY rowid', (instance,)).fetchall()
    found = []
    for device, text in rows:
        record = _read(text)
        if record is None:
            LOG.warning('Instance %s: the inventory hint about %s is not valid and is ignored', instance, device)
        elif identity.lasts(record):  # an older release kept hints that do not last
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


def _without_id(record: Record | None) -> Record | None:
    return None if record is None else dataclasses.replace(record, device_id='')
