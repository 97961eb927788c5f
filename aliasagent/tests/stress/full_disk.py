# SPDX-License-Identifier: Apache-2.0
"""The disk that the journal is on is full for a while, or the journal is damaged: nothing that was accepted is lost.

python -m aliasagent.tests.stress.full_disk [--operations 200] [--seconds 5] [--seed N]

Needs root: the journal is on a small tmpfs, which a big file fills up

* while requests come in, by ``submit`` and by casts: ``submit`` is refused in clear words, casts stay with the broker;
* while a guest takes its time to release a device, so that the outcome cannot be written;

and which is then freed: the same agent goes on. After that, bytes in the middle of the journal are overwritten while
the agent is down: it refuses to start, says how to go on, and leaves the file as it is. Exits with 1 if any of this is
not so, or if an operation was lost or done twice, or if a guest does not have what the outcomes say.
"""

import argparse
import contextlib
import errno
import hashlib
import os
import pathlib
import sqlite3
import tempfile
import time
from collections.abc import Iterator

from aliasagent import exception
from aliasagent.client import rpc
from aliasagent.context import RequestContext
from aliasagent.tests.contract import harness
from aliasagent.tests.stress import bench
from aliasagent.tests.stress import load
from sandbox import environment
from sandbox import processes
from sandbox.agent import Options

#: MiB; SQLite keeps up to 4 of them beside the journal before it writes them into it.
SIZE = 16


class SmallDisk:
    """A tmpfs of its own, that can be filled up."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self._filler = directory / 'filler'

    def fill(self) -> None:
        """Leave no room at all."""
        with self._filler.open('ab', buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def free(self) -> None:
        self._filler.unlink()


@contextlib.contextmanager
def small_disk() -> Iterator[SmallDisk]:
    directory = pathlib.Path(tempfile.mkdtemp(dir=environment.read().directory))
    processes.run('mount', '-t', 'tmpfs', '-o', f'size={SIZE}m', 'tmpfs', directory)
    try:
        yield SmallDisk(directory)
    finally:
        processes.run('umount', directory)
        directory.rmdir()


class Checks:
    """What was looked at, and whether it was so."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def that(self, so: object, what: str) -> None:
        print(f'  {"yes" if so else "NO "}  {what}', flush=True)
        if not so:
            self.broken.append(what)


def refusal(it: bench.Bench, timeout: float = 60) -> str:
    """Submit new requests, to guests that there are none of, until all are refused; what the refusals say.

    SQLite finds room here and there before it finds none at all, so some refusals in a row are wanted. What was
    accepted before that has failed, for its guest is not there.

    :raises PartFailed: it never came to that.
    """
    in_a_row = 0

    def refused() -> str | None:
        nonlocal in_a_row
        ctxt = RequestContext()
        try:
            it.api().submit(ctxt, 'detach', instance_uuid=harness.new_id(), device_id=harness.new_id())
        except exception.JournalError as error:
            in_a_row += 1
            # oslo.messaging adds the traceback of the other side
            return str(error).splitlines()[0] if in_a_row == 30 else None
        in_a_row = 0
        return None

    return processes.wait_until(refused, timeout, 'requests to be refused', 0.1)


@contextlib.contextmanager
def reader(journal: pathlib.Path) -> Iterator[None]:
    """Read the journal meanwhile, as a backup does: SQLite cannot reuse the room that it has beside it."""
    with contextlib.closing(sqlite3.connect(f'file:{journal}?mode=ro', uri=True, isolation_level=None)) as database:
        database.execute('BEGIN')
        database.execute('SELECT count(*) FROM operations').fetchone()
        yield


def on_disk(journal: pathlib.Path, operation_id: str) -> str:
    """The state of an operation as anybody else reads it."""
    with contextlib.closing(sqlite3.connect(f'file:{journal}?mode=ro', uri=True)) as database:
        (state,) = database.execute('SELECT state FROM operations WHERE id = ?', (operation_id,)).fetchone()
        return str(state)


def full_at_intake(
    it: bench.Bench, disk: SmallDisk, checks: Checks, *, operations: int, seconds: float, seed: int
) -> load.Audit:
    """Requests come in before the disk is full, while it is, and after that."""
    pid = it.agent.pid
    before, meanwhile = (load.Load(it, half, seed + half) for half in (operations // 2, operations - operations // 2))
    before.start()
    before.wait_taken(0.5)
    disk.fill()
    try:
        words = refusal(it)
        checks.that(str(it.journal) in words and 'full' in words, f'submit is refused: {words}')
        meanwhile.start()
        time.sleep(seconds)
        waiting = it.waiting(rpc.TOPIC)
        checks.that(waiting > 0, f'{waiting} casts wait with the broker')
        checks.that(it.api().list_instances(RequestContext()), 'questions are answered meanwhile')
        answered = [request for request in meanwhile.requests if request.by_call and request.taken]
        checks.that(not answered, f'{len(answered)} submits were answered in the {seconds:g} s')
    finally:
        disk.free()
        before.join()
        meanwhile.join()
    audit = load.audit(it, [*before.requests, *meanwhile.requests])
    checks.that(it.agent.pid == pid, 'the agent is the same process')
    checks.that(audit.kept and not audit.failed, audit.row())
    return audit


def full_before_the_outcome(it: bench.Bench, disk: SmallDisk, checks: Checks, seconds: float) -> None:
    """A guest releases its device when the outcome cannot be written."""
    guest = it.new_guest()
    volume, connection = it.new_volume()
    attach, detach = RequestContext(), RequestContext()
    it.api().submit(
        attach, 'attach_volume', instance_uuid=guest, volume_id=volume, connection_info=connection, disk_bus='virtio'
    )
    it.wait_state(attach.operation_id, 'succeeded')
    it.api().submit(detach, 'detach_volume', instance_uuid=guest, volume_id=volume)
    it.wait_state(detach.operation_id, 'running')
    processes.wait_until(lambda: volume not in it.ids(guest).persistent, 30, 'the detach to wait for its guest')
    with reader(it.journal):
        disk.fill()
        refusal(it)
        it.domain(guest).reset()
        processes.wait_until(lambda: volume not in it.ids(guest), 30, 'the guest to release the device')
        time.sleep(seconds)
        state = (it.operation(detach.operation_id) or {}).get('state')
        # SQLite may have found room for an outcome where a request did not fit. Then it is there for others, too.
        so = state in ('running', 'succeeded') and state == on_disk(it.journal, detach.operation_id)
        checks.that(so, f'while the disk is full, the detach is said to be {state}, and that is what is on the disk')
        kept = it.agent.said().count('An outcome is kept')
        checks.that(kept, 'there were outcomes that could not be written at once')
    disk.free()
    found = it.wait_state(detach.operation_id, 'succeeded', 'failed')
    checks.that(found['state'] == 'succeeded' and found['attempts'] == 1, f'then it is said to have {found["state"]}')


def damaged(it: bench.Bench, checks: Checks) -> None:
    """Bytes in the middle of the journal are overwritten while the agent is down."""
    it.agent.stop()
    path = it.journal
    with path.open('r+b') as journal:
        size = journal.seek(0, os.SEEK_END)
        journal.seek(size // 4)
        journal.write(os.urandom(size // 2))
    before = digest(path)
    it.agent.begin()
    code = it.agent.wait_end()
    (words, *_more) = [line for line in it.agent.said().splitlines() if 'cannot be used' in line] or ['nothing']
    checks.that(code != 0, f'with a damaged journal the agent ends with exit code {code}')
    checks.that(str(path) in words and 'move the file away' in words, f'it says: {words}')
    checks.that(digest(path) == before, 'it leaves the file as it is')
    for name in (path, *(path.with_name(f'{path.name}-{more}') for more in ('wal', 'shm'))):
        if name.exists():
            name.rename(name.with_name(f'damaged-{name.name}'))
    it.agent.start()
    guest = it.guests[0]
    volume, connection = it.new_volume()
    ctxt = RequestContext()
    it.api().attach_volume(ctxt, guest, volume, connection, disk_bus='scsi')
    checks.that(it.wait_state(ctxt.operation_id, 'succeeded', 'failed')['state'] == 'succeeded', 'moved away, it works')


def digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(operations: int, seconds: float, seed: int, *, guests: int = 8) -> tuple[load.Audit, list[str]]:
    """All of it; what became of the requests, and what was not as promised."""
    checks = Checks()
    with small_disk() as disk:
        journal = disk.directory / 'journal.sqlite'
        options: Options = {'operations': {'journal': str(journal)}}
        with bench.Bench(guests, options=options) as it:
            audit = full_at_intake(it, disk, checks, operations=operations, seconds=seconds, seed=seed)
            full_before_the_outcome(it, disk, checks, seconds)
            damaged(it, checks)
    return audit, checks.broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--operations', type=int, default=200)
    parser.add_argument('--seconds', type=float, default=5.0, help='how long the disk is full')
    parser.add_argument('--seed', type=int, default=1)
    chosen = parser.parse_args()
    bench.quiet()
    audit, broken = run(chosen.operations, chosen.seconds, chosen.seed)
    print(f'{audit.row()}, promises broken {len(broken)}')
    return 1 if broken else 0


if __name__ == '__main__':
    raise SystemExit(main())
