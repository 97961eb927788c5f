# SPDX-License-Identifier: Apache-2.0
"""A runner with everything below it made up but the journal."""

import dataclasses
import pathlib
from collections.abc import Callable
from concurrent import futures
from typing import Any
from unittest import mock

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.devices.identity import Claim
from aliasagent.operations.connecting import Connecting
from aliasagent.operations.connections import Connections
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.operations.moves import Moves
from aliasagent.operations.queues import GuestQueues
from aliasagent.operations.runner import Runner
from aliasagent.reconcile.plan import Record
from aliasagent.requests import catalog
from aliasagent.requests.base import Request
from aliasagent.tests import base
from aliasagent.tests.ids import GUEST
from aliasagent.tests.ids import PORT
from aliasagent.tests.ids import VOLUME

#: A device as a detach finds it: in the running guest under the alias that libvirt made.
FOUND = DeviceFingerprint('boot/7', 'virtio-disk1', 'vdb', Claim('disk', serial=VOLUME), Claim('disk', serial=VOLUME))


class StubDriver:
    """Remembers what it is asked, and answers what it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answer: Exception | futures.Future[None] | None = None
        #: What it is to answer first, one by one.
        self.first: list[Exception] = []
        self.connects = True
        self.waited: list[float] = []
        self.watched: list[tuple[str, str, DeviceFingerprint | None, bool]] = []
        #: Whether the guest may still answer, of a device that is followed.
        self.followed: bool | None = True
        #: What each detach finds, and what it was told that an earlier one had found.
        self.found = FOUND
        self.told: list[DeviceFingerprint | None] = []
        #: Of each attach, whether an earlier try has begun it.
        self.begun_before: list[bool] = []

    def wait_connected(self, timeout: float) -> bool:
        self.waited.append(timeout)
        return self.connects

    def may_still_go(self, instance: str, device_id: str) -> bool | None:
        return self.followed

    def watch(self, instance: str, device_id: str, asked: DeviceFingerprint | None, may_still_go: bool) -> None:
        self.watched.append((instance, device_id, asked, may_still_go))

    def _do(self, *what: Any) -> futures.Future[None] | None:
        self.asked.append(what)
        if self.first:
            raise self.first.pop(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def attach(self, instance: str, request: Request, *, begin: Callable[[], bool], begun_before: bool) -> Any:
        self.begun_before.append(begun_before)
        begin()
        return self._do('attach', instance, request)

    def detach(
        self,
        instance: str,
        device_id: str,
        kind: str | None = None,
        *,
        asked: DeviceFingerprint | None,
        begin: Callable[[DeviceFingerprint], bool],
    ) -> Any:
        self.told.append(asked)
        if not isinstance(self.first[0] if self.first else self.answer, exception.DeviceNotFound):
            begin(self.found)
        elif asked is not None and not asked.is_live:
            return None  # there was one, in an earlier run, and it is gone
        return self._do('detach', instance, device_id, kind)


class StubReconciler:
    def __init__(self) -> None:
        self.asked: list[tuple[str, list[Record]]] = []

    def reconcile(self, instance: str, records: list[Record]) -> None:
        self.asked.append((instance, records))


class StubRelocation:
    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

        #: What it is to answer first, one by one, before it begins.
        self.first: list[Exception] = []
        #: And when it has begun.
        self.then: list[Exception] = []
        #: What it does before that.
        self.work: Callable[[], object] = lambda: None

    def _do(self, begin: Callable[[], None], *what: Any) -> None:
        self.asked.append(what)
        if self.first:
            raise self.first.pop(0)
        begin()
        self.work()
        if self.then:
            raise self.then.pop(0)

    def move(self, instance: str, request: Request, *, begin: Callable[[], None], begun_before: bool) -> None:
        self._do(begin, 'move', instance, begun_before, request)


#: What is asked for unless a test says otherwise.
_ARGUMENTS: dict[str, Any] = {
    'device_id': VOLUME,
    'volume_id': VOLUME,
    'port_id': PORT,
    'connection_info': {'driver_volume_type': 'file', 'data': {'device_path': '/a'}},
    'port': {'id': PORT, 'address': '52:54:00:00:00:01', 'vif_type': 'bridge', 'bridge': 'br0'},
    'hostdev': {'type': 'pci', 'address': '0000:06:12.5'},
    'dest_uri': 'qemu+tls://there/system',
}


def request(action: Action, **arguments: Any) -> Request:
    """A request, with what is usual where nothing is said."""
    members = {**_ARGUMENTS, **arguments}
    return catalog.parse(action, members | {'port_id': members['port'].get('id', PORT)})


def operation(
    operation_id: str, action: Action = Action.DETACH, arguments: dict[str, Any] | None = None, **values: Any
) -> Operation:
    asked = request(action, **(arguments or {}))
    return dataclasses.replace(Operation(operation_id, action, GUEST, VOLUME, asked), **values)


class RunnerTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = str(pathlib.Path(self.make_directory(), 'journal'))
        self.driver = StubDriver()
        self.reconciler = StubReconciler()
        self.relocation = StubRelocation()
        self.journal, self.runner = self.start()

    def start(self) -> tuple[Journal, Runner]:
        journal = Journal(self.path)
        self.addCleanup(journal.close)
        queues = GuestQueues(2)
        self.addCleanup(queues.close)
        self.moves = Moves(2)
        self.addCleanup(self.moves.close)
        runner = Runner(
            journal,
            queues,
            self.driver,  # type: ignore[arg-type]
            self.reconciler,  # type: ignore[arg-type]
            self.relocation,  # type: ignore[arg-type]
            Connecting(Connections(journal), self.driver, {}, mock.Mock(), queues.submit, mock.Mock()),  # type: ignore[arg-type]
            moves=self.moves,
            reconnect_timeout=lambda: 0.5,
        )
        # Or what has not begun would wait for the closed journal for ever.
        self.addCleanup(runner.close)
        return journal, runner

    def outcome(self, operation_id: str = 'one') -> Operation:
        self.wait_for(lambda: self.journal.get(operation_id).is_finished, f'{operation_id} finished')
        return self.journal.get(operation_id)

    def assert_outcome(self, state: State, error_class: str | None = None, operation_id: str = 'one') -> None:
        done = self.outcome(operation_id)
        self.assertEqual((state, error_class), (done.state, done.error_class), str(done.error))
