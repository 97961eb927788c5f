# SPDX-License-Identifier: Apache-2.0
"""Attach and detach a SCSI disk, cast to outcome."""

import contextlib
import dataclasses
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import libvirt

from aliasagent.context import RequestContext
from aliasagent.tests.contract import requests
from aliasagent.tests.stress.bench import Bench
from benchmarks.bare_calls import BareCalls
from sandbox import processes

_SECONDS = 60
#: Seconds between two looks into the journal: for one operation, and for however many. A look takes its time, too.
LOOK, _LOOK_AT_MOST = 0.0005, 0.01
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
        return requests.volume(self.id, self.connection).disk(target='sda', bus='scsi').to_xml()


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
            time.sleep(min(LOOK * len(ids), _LOOK_AT_MOST))
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


def texts(bench: Bench, guest: str) -> tuple[str, str]:
    """Both definitions of a guest."""
    domain = bench.domain(guest)
    return domain.XMLDesc(0), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)


@contextlib.contextmanager
def watching(bench: Bench) -> Iterator[tuple[Watch, BareCalls]]:
    """What both contenders need."""
    with contextlib.closing(Watch(bench)) as watch, contextlib.closing(BareCalls(bench.connection)) as bare:
        yield watch, bare
