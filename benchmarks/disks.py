# SPDX-License-Identifier: Apache-2.0
"""Attach and detach a SCSI disk, cast to outcome, and the bare libvirt calls that do the same."""

import contextlib
import dataclasses
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

import libvirt

from aliasagent.context import RequestContext
from aliasagent.devices import volume as volumes
from aliasagent.tests.parts import processes
from aliasagent.tests.stress.bench import Bench

BOTH = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
_SECONDS = 60
#: Seconds between two looks into the journal: for one operation, and for however many. A look takes its time, too.
_LOOK, _LOOK_AT_MOST = 0.0005, 0.01
#: The options of an agent as an operator has them: without the words for those who look for a defect.
OPTIONS: dict[str, dict[str, object]] = {'DEFAULT': {'debug': False}}


@dataclasses.dataclass(frozen=True)
class Volume:
    """A disk that comes and goes."""

    id: str
    connection: dict[str, Any]

    @property
    def xml(self) -> str:
        """As the agent writes it."""
        return volumes.disk_for_volume(self.id, self.connection, target='sda', bus='scsi').to_xml()


class Watch:
    """Looks into the agent's journal, for what became of operations."""

    def __init__(self, bench: Bench) -> None:
        self._journal = sqlite3.connect(f'file:{bench.journal}?mode=ro', uri=True)

    def close(self) -> None:
        self._journal.close()

    def wait(self, *ids: str) -> None:
        """Wait until operations have succeeded.

        :raises PartFailed: one has failed, or is not finished in time.
        """
        marks = ', '.join('?' * len(ids))
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            found = self._journal.execute(
                f'SELECT state, count(*), max(error) FROM operations WHERE id IN ({marks}) GROUP BY state', ids
            ).fetchall()
            states = {state: count for state, count, _error in found}
            if 'failed' in states:
                raise processes.PartFailed(f'an operation failed: {[error for *_state, error in found if error]}')
            if states.get('succeeded') == len(ids):
                return
            time.sleep(min(_LOOK * len(ids), _LOOK_AT_MOST))
        raise processes.PartFailed(f'operations are not finished within {_SECONDS} s: {states}')

    def stages(self, operation_id: str) -> tuple[float, float, float]:
        """When an operation was accepted, begun and finished."""
        row: tuple[float, float, float] = self._journal.execute(
            'SELECT accepted_at, started_at, finished_at FROM operations WHERE id = ?', (operation_id,)
        ).fetchone()
        return row


def cast_attach(bench: Bench, guest: str, volume: Volume) -> str:
    """Have the agent attach it; the operation's id."""
    context = RequestContext()
    bench.api().attach_volume(context, guest, volume.id, volume.connection, disk_bus='scsi', device_name='sda')
    return context.operation_id


def cast_detach(bench: Bench, guest: str, volume: Volume) -> str:
    """Have the agent detach it; the operation's id."""
    context = RequestContext()
    bench.api().detach_volume(context, guest, volume.id)
    return context.operation_id


class BareCalls:
    """The calls alone: attach, detach from the persistent definition, detach from the guest, wait for the event."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._removed: dict[tuple[str, str], threading.Event] = {}
        self._callback = connection.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._on_removed, None
        )

    def close(self) -> None:
        self._connection.domainEventDeregisterAny(self._callback)

    def _on_removed(self, _connection: Any, domain: Any, alias: str, _opaque: object) -> None:
        event = self._removed.get((domain.UUIDString(), alias))
        if event is not None:
            event.set()

    def attach(self, domain: Any, xml: str) -> None:
        domain.attachDeviceFlags(xml, BOTH)

    def detach(self, guest: str, domain: Any, alias: str) -> None:
        """:raises PartFailed: the event does not come."""
        removed = self._removed[guest, alias] = threading.Event()
        domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        if not removed.wait(_SECONDS):
            raise processes.PartFailed(f'{alias} did not go from guest {guest}')
        del self._removed[guest, alias]


def texts(bench: Bench, guest: str) -> tuple[str, str]:
    """Both definitions of a guest."""
    domain = bench.domain(guest)
    return domain.XMLDesc(0), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)


@contextlib.contextmanager
def watching(bench: Bench) -> Iterator[tuple[Watch, BareCalls]]:
    """What both contenders need."""
    with contextlib.closing(Watch(bench)) as watch, contextlib.closing(BareCalls(bench.connection)) as bare:
        yield watch, bare
