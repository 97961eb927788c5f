# SPDX-License-Identifier: Apache-2.0
"""Whether the agent did what it was asked for, once, and said truly what became of it."""

import collections
import dataclasses
import itertools

from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.tests.stress.scene import ADDED
from aliasagent.tests.stress.scene import REMOVED
from aliasagent.tests.stress.scene import Devices
from aliasagent.tests.stress.scene import Scene
from aliasagent.tests.stress.script import Model
from aliasagent.tests.stress.script import Outcome
from aliasagent.tests.stress.script import Request

#: How many of a kind are told in full.
_SHOWN = 10


@dataclasses.dataclass
class Verdict:
    """What was found. Each text says one thing that is wrong."""

    sent: int = 0
    succeeded: int = 0
    failed: int = 0
    #: How many were begun more than once, for the agent died over them.
    begun_again: int = 0
    kills: int = 0
    #: How often something was asked again.
    repeated: int = 0
    #: Taken by the agent or the broker, and not in the journal.
    lost: list[str] = dataclasses.field(default_factory=list)
    #: Without an outcome.
    unfinished: list[str] = dataclasses.field(default_factory=list)
    #: More came or went in a guest than should have, or something was done that nobody asked for.
    doubled: list[str] = dataclasses.field(default_factory=list)
    #: Another outcome than it must have.
    untrue: list[str] = dataclasses.field(default_factory=list)
    #: A guest that is not as the successes make it.
    wrong: list[str] = dataclasses.field(default_factory=list)
    #: Not done in the order in which it was asked.
    out_of_order: list[str] = dataclasses.field(default_factory=list)

    @property
    def _faults(self) -> dict[str, list[str]]:
        names = ('lost', 'doubled', 'unfinished', 'untrue', 'wrong', 'out_of_order')
        return {name: getattr(self, name) for name in names}

    @property
    def good(self) -> bool:
        return not any(self._faults.values())

    def text(self) -> str:
        """All of it, the sum in the last line."""
        lines = [f'{name}: {text}' for name, texts in self._faults.items() for text in texts[:_SHOWN]]
        faults = ', '.join(f'{len(texts)} {name.replace("_", " ")}' for name, texts in self._faults.items())
        lines.append(
            f'{self.kills} kills, {self.sent} sent ({self.repeated} repeats), {self.succeeded} succeeded, '
            f'{self.failed} failed ({self.begun_again} begun more than once): {faults}'
        )
        return '\n'.join(lines)


def judge(scene: Scene, sent: list[list[Request]]) -> Verdict:
    """Compare what there is with what there should be.

    :param sent: of each guest, what was asked, in order.
    """
    verdict = Verdict(sent=sum(map(len, sent)))
    operations = scene.operations()
    found = {operation.id: operation for operation in operations}
    if len(found) != len(operations):
        verdict.doubled.append(f'{len(operations) - len(found)} ids are in the journal more than once')
    asked = {request.id for requests in sent for request in requests}
    verdict.doubled += [f'nobody asked for operation {operation_id}' for operation_id in found.keys() - asked]
    verdict.succeeded = sum(operation.state is State.SUCCEEDED for operation in operations)
    verdict.failed = sum(operation.state is State.FAILED for operation in operations)
    verdict.begun_again = sum(operation.attempts > 1 for operation in operations)
    effects = scene.effects.counts()
    for requests in sent:
        _judge_order(verdict, operations, requests)
        _judge_guest(verdict, scene, found, effects, requests)
    return verdict


def _judge_order(verdict: Verdict, operations: list[Operation], requests: list[Request]) -> None:
    places = {request.id: place for place, request in enumerate(requests)}
    order = [places[operation.id] for operation in operations if operation.id in places]
    verdict.out_of_order += [requests[place].words for before, place in itertools.pairwise(order) if place < before]


def _judge_guest(
    verdict: Verdict,
    scene: Scene,
    found: dict[str, Operation],
    effects: 'collections.Counter[tuple[str, str, str]]',
    requests: list[Request],
) -> None:
    guest = requests[0].guest
    model = Model()
    expected: collections.Counter[tuple[str, str, str]] = collections.Counter()
    successes: Devices = {}
    for request in requests:
        operation = found.get(request.id)
        if operation is None:
            verdict.lost.append(request.words)
            continue
        if not operation.is_finished:
            verdict.unfinished.append(request.words)
        outcome = model.do(request)
        if not fits(operation, outcome):
            verdict.untrue.append(f'{request.words}: {shown(operation)}, must be {outcome}')
        if outcome.effect is not None:
            expected[guest, request.device_id, outcome.effect] += 1
        if operation.state is State.SUCCEEDED:
            _replay(successes, request)
    sides = scene.sides(guest)
    for side, devices in sides.items():
        if devices != successes:
            verdict.wrong.append(f'guest {guest} has {side} {devices}, the successes make it {successes}')
    if 'live' in sides:
        _judge_effects(verdict, expected, effects, guest)


def _replay(devices: Devices, request: Request) -> None:
    if request.device is None:
        devices.pop(request.device_id, None)
    else:
        devices[request.device_id] = request.device


def _judge_effects(
    verdict: Verdict,
    expected: 'collections.Counter[tuple[str, str, str]]',
    effects: 'collections.Counter[tuple[str, str, str]]',
    guest: str,
) -> None:
    seen = {key: count for key, count in effects.items() if key[0] == guest}
    for key in expected.keys() | seen.keys():
        _guest, device_id, word = key
        assert word in (ADDED, REMOVED)
        times, should = seen.get(key, 0), expected[key]
        text = f'{device_id} was {word} {times} times in guest {guest}, should be {should}'
        if times > should:
            verdict.doubled.append(text)
        elif times < should:
            verdict.wrong.append(text)


def fits(operation: Operation, outcome: Outcome) -> bool:
    """Whether an operation ended as it must."""
    if outcome.error_class is None:
        return operation.state is State.SUCCEEDED and operation.error is None
    return (
        operation.state is State.FAILED
        and operation.error_class == outcome.error_class
        and outcome.words in str(operation.error)
    )


def shown(operation: Operation) -> str:
    """What became of an operation, in a line."""
    return f'{operation.state} {operation.error_class}: {operation.error} ({operation.attempts} attempts)'
