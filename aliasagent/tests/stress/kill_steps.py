# SPDX-License-Identifier: Apache-2.0
"""The agent dies (SIGKILL) at each single step between the intake of an operation and its outcome.

python -m aliasagent.tests.stress.kill_steps [--kinds NAME...] [--ways cast submit] [--sparse] [--seed N]

Runs on the parts that the environment names (``python -m sandbox up``), with a libvirtd and an agent of
its own. For each kind of operation, step, and moment (right before, right after): one operation is asked for, the agent
dies there and is started again. Then the operation must end as it has to, the guest have what it should on both sides,
libvirt have told of one device that came or went, listeners have been told of the start and of the end, and asking once
more must change nothing. It fails, too, if the agent did not die where it should have. Prints a table.
"""

import argparse
import collections
import contextlib
import dataclasses
import random
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import libvirt
import oslo_messaging

from aliasagent import conf
from aliasagent.client import rpc
from aliasagent.context import RequestContext
from aliasagent.operations.model import Operation
from aliasagent.tests.contract import harness
from aliasagent.tests.stress import scene as scenes
from aliasagent.tests.stress import verdict
from aliasagent.tests.stress.agents import dying_agent
from aliasagent.tests.stress.scene import ADDED
from aliasagent.tests.stress.scene import REMOVED
from aliasagent.tests.stress.steps import CAST
from aliasagent.tests.stress.steps import KINDS
from aliasagent.tests.stress.steps import SUBMIT
from aliasagent.tests.stress.steps import Kind
from aliasagent.tests.stress.steps import Step
from aliasagent.virt import saved_guest
from sandbox import processes

_BOTH = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
#: Seconds in which one thing has to happen.
_SOON = 120.0


@dataclasses.dataclass(frozen=True)
class Case:
    """One operation, and where the agent dies over it."""

    kind: Kind
    way: str
    step: Step
    moment: str

    @property
    def words(self) -> tuple[str, str, str]:
        return self.kind.name, self.way, f'{self.moment} {self.step.name}'


@dataclasses.dataclass
class Result:
    case: Case
    #: What is wrong.
    faults: list[str] = dataclasses.field(default_factory=list)
    operation: Operation | None = None

    def line(self) -> str:
        kind, way, where = self.case.words
        outcome = 'lost'
        if self.operation is not None:
            outcome = self.operation.error_class or self.operation.state.value
        attempts = '' if self.operation is None else f'{self.operation.attempts}'
        return f'{kind:22} {way:6} {where:36} {outcome:14} {attempts:>2}  {"; ".join(self.faults) or "ok"}'


class Listener:
    """Remembers what was told, by operation."""

    def __init__(self, topic: str) -> None:
        self._lock = threading.Lock()
        self._told: collections.defaultdict[str, list[str]] = collections.defaultdict(list)
        transport = oslo_messaging.get_notification_transport(conf.CONF)
        target = oslo_messaging.Target(exchange=rpc.EXCHANGE, topic=topic)
        self._server = oslo_messaging.get_notification_listener(transport, [target], [self], executor='threading')
        self._server.start()

    def close(self) -> None:
        self._server.stop()
        self._server.wait()

    def info(self, _ctxt: Any, _publisher: str, event: str, payload: dict[str, Any], _metadata: Any) -> None:
        with self._lock:
            self._told[payload['operation_id']].append(event.rpartition('.')[2])

    error = info

    def told(self, operation_id: str) -> list[str]:
        """The phases that were told of an operation, in order."""
        with self._lock:
            return list(self._told[operation_id])


class Stage:
    """The scene, a guest of each sort, and somebody who listens."""

    def __init__(self, scene: scenes.Scene, listener: Listener) -> None:
        self.scene = scene
        self.listener = listener
        self._guests: dict[str, str] = {}

    def guest(self, sort: str) -> str:
        if sort not in self._guests:
            make = {
                'paused': self.scene.paused_guest,
                'running': self.scene.running_guest,
                'booted': self.scene.booted_guest,
                'shut off': self.scene.shut_off_guest,
            }[sort]
            self._guests[sort] = make()
        return self._guests[sort]

    def run(self, case: Case) -> Result:
        """Let the agent die there, and see what becomes of the operation."""
        one = _One(self, case)
        try:
            one.prepare()
            one.die()
            one.proceed()
            one.restart()
            return one.judge()
        finally:
            one.clear()


class _One:
    """One case while it is played."""

    def __init__(self, stage: Stage, case: Case) -> None:
        self._stage = stage
        self._scene = stage.scene
        self._case = case
        self._kind = case.kind
        self._guest = stage.guest(case.kind.guest)
        self._device_id = harness.new_id()
        self._bridge = self._scene.side.bridge()
        self._there = self._new_device(case.kind.there) if case.kind.there else None
        self._context = RequestContext()
        self._asking: futures.Future[Any] = futures.Future()
        self._pool = futures.ThreadPoolExecutor(1)
        self._stopped = threading.Event()

    def _new_device(self, kind: str) -> scenes.Device:
        return scenes.Device(kind, self._scene.side.new_file() if kind == 'disk' else harness.new_mac())

    @property
    def _alias(self) -> str:
        return f'ua-{self._device_id}'

    @property
    def _domain(self) -> Any:
        return self._scene.domain(self._guest)

    def prepare(self) -> None:
        """What is in the guest before, and an agent that is going to die."""
        if self._there is not None:
            flags = _BOTH if self._domain.isActive() else libvirt.VIR_DOMAIN_AFFECT_CONFIG
            self._domain.attachDeviceFlags(self._xml(self._there), flags)
            if self._domain.isActive() and self._kind.aliased:
                came = self._guest, self._device_id, ADDED
                processes.wait_until(lambda: self._scene.effects.counts()[came], _SOON, 'the device to come')
        self._before = self._scene.effects.counts()
        file = str(self._scene.agent.directory / f'death-{uuid.uuid4()}')
        self._death = dying_agent.Death(self._case.step.place, self._case.moment, self._case.step.call, file)
        self._scene.agent.module = dying_agent.__name__
        self._scene.agent.environment = self._death.environment()
        self._scene.agent.start()

    def _xml(self, device: scenes.Device) -> str:
        if device.kind == 'disk' and not self._kind.aliased:
            return harness.disk_xml(device.what, 'sdf', serial=self._device_id)
        if device.kind == 'disk':
            return harness.disk_xml(device.what, 'sdf', alias=self._alias)
        return harness.interface_xml(self._bridge, device.what, alias=self._alias)

    def die(self) -> None:
        """Ask, and wait until the agent is dead of it."""
        kind = 'disk' if 'volume' in self._kind.action else 'interface'
        self._wanted = self._new_device(kind)
        self._arguments = self._kind.arguments(self._device_id, self._wanted, self._bridge)
        self._death.arm()
        if self._case.way == CAST:
            getattr(self._scene.api, self._kind.action)(self._context, self._guest, **self._arguments)
            self._asking.set_result(None)
        else:
            self._asking = self._pool.submit(self._submit)
        processes.wait_until(lambda: self._scene.agent.pid is None, _SOON, f'the death {self._death}', interval=0.02)
        if not self._death.came_true():
            raise processes.PartFailed(f'the agent did not die of {self._death}')

    def _submit(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(oslo_messaging.MessagingTimeout):
                self._scene.api.submit(self._context, self._kind.action, instance_uuid=self._guest, **self._arguments)
                return

    def proceed(self) -> None:
        """What the world does while there is no agent."""
        if not self._kind.goes_meanwhile:
            return
        domain = self._domain
        assert self._alias in domain.XMLDesc(0), 'the device was gone too early'
        with contextlib.suppress(libvirt.libvirtError):  # it may be on its way out already
            domain.detachDeviceAlias(self._alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        domain.reset()
        self._wait_gone(0)

    def _wait_gone(self, flags: int) -> None:
        domain = self._domain
        processes.wait_until(lambda: self._alias not in domain.XMLDesc(flags), _SOON, f'{self._alias} to go')

    def restart(self) -> None:
        """Start the agent as it is, and wait for the end of the operation."""
        self._scene.agent.module = 'aliasagent.cmd.compute'
        self._scene.agent.environment = {}
        self._scene.agent.start()
        self._asking.result(_SOON)
        with contextlib.suppress(processes.PartFailed):  # that is a fault, and found by judge()
            processes.wait_until(self._ended, _SOON / 2, 'the operation to end', interval=0.02)

    def _ended(self) -> bool:
        id_ = self._context.operation_id
        return (
            self._scene.has(id_)
            and self._scene.unfinished() == 0
            and bool({'end', 'error'} & set(self._stage.listener.told(id_)))
        )

    def judge(self) -> Result:
        """Compare what there is with what there should be, and again after asking once more."""
        result = Result(self._case)
        found = self._operations()
        if len(found) != 1:
            result.faults.append(f'{len(found)} operations in the journal')
            return result
        result.operation = found[0]
        if not verdict.fits(found[0], self._kind.outcome):
            result.faults.append(f'{verdict.shown(found[0])}, must be {self._kind.outcome}')
        if found[0].attempts > 2:
            result.faults.append(f'{found[0].attempts} attempts')
        result.faults += self._told_faults()
        result.faults += self._guest_faults()
        self._scene.api.submit(self._context, self._kind.action, instance_uuid=self._guest, **self._arguments)
        if self._operations() != found:
            result.faults.append('asked once more, it was done once more')
        result.faults += [f'asked once more: {fault}' for fault in self._guest_faults()]
        return result

    def _operations(self) -> list[Operation]:
        """What the journal has of this case."""
        mine = self._context.operation_id, self._device_id
        return [operation for operation in self._scene.operations() if {operation.id, operation.device} & set(mine)]

    def _told_faults(self) -> list[str]:
        told = self._stage.listener.told(self._context.operation_id)
        last = 'end' if self._kind.outcome.error_class is None else 'error'
        good = told[:1] == ['start'] and told[-1:] == [last] and set(told) == {'start', last}
        return [] if good else [f'told {told}']

    def _guest_faults(self) -> list[str]:
        faults = []
        should = {
            ADDED: self._wanted,
            REMOVED: None,
            None: self._there,
        }[self._kind.outcome.effect]
        sides = self._scene.sides(self._guest)
        for side, devices in sides.items():
            if devices.get(self._device_id) != should:
                faults.append(f'{side} has {devices.get(self._device_id)}, should be {should}')
        faults += [f'{path} is left' for path in saved_guest.leftovers(self._scene.agent.directory / 'save')]
        seen = self._scene.effects.counts()
        for word in (ADDED, REMOVED):
            key = self._guest, self._device_id, word
            times = int('live' in sides and self._kind.outcome.effect == word)
            if seen[key] - self._before[key] != times:
                faults.append(f'{word} {seen[key] - self._before[key]} times')
        return faults

    def clear(self) -> None:
        """No agent, and nothing left in the guest."""
        self._stopped.set()
        self._scene.agent.kill()
        self._pool.shutdown()
        domain = self._domain
        if self._alias in domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE):
            domain.detachDeviceAlias(self._alias, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        if domain.isActive() and self._alias in domain.XMLDesc(0):
            domain.detachDeviceAlias(self._alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            if self._kind.guest == 'paused' and 'interface' in self._kind.action:
                domain.reset()
            self._wait_gone(0)


def cases(kinds: list[Kind], ways: list[str], choices: random.Random, *, sparse: bool) -> Iterator[Case]:
    """What to play.

    :param sparse: of each step of each kind one case only, chosen at random.
    """
    for kind in kinds:
        for step in kind.steps:
            of_step = [
                Case(kind, way, step, moment)
                for way in ways
                if step.way in (None, way)
                for moment in (dying_agent.BEFORE, dying_agent.AFTER)
            ]
            yield from [choices.choice(of_step)] if sparse and of_step else of_step


def run(chosen: list[Case]) -> list[Result]:
    """Play them, and take everything away; prints each as it ends."""
    topic = f'told-{uuid.uuid4()}'
    options: dict[str, dict[str, object]] = {
        'DEFAULT': {'debug': False},
        'unplug': {'timeout': 5},
        'oslo_messaging_notifications': {'driver': 'messagingv2', 'topics': topic},
    }
    results = []
    with scenes.scene(options) as scene:
        listener = Listener(topic)
        try:
            # Its queues have to be there before the first cast.
            scene.agent.start()
            scene.agent.kill()
            stage = Stage(scene, listener)
            for case in chosen:
                results.append(stage.run(case))
                print(results[-1].line(), flush=True)
        finally:
            listener.close()
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [kind.name for kind in KINDS]
    parser.add_argument('--kinds', nargs='+', choices=names, default=names)
    parser.add_argument('--ways', nargs='+', choices=(CAST, SUBMIT), default=[CAST, SUBMIT])
    parser.add_argument('--sparse', action='store_true', help='one case for each step of each kind')
    parser.add_argument('--seed', type=int, default=random.randrange(2**32))
    chosen = parser.parse_args()
    print(f'seed {chosen.seed}')
    kinds = [kind for kind in KINDS if kind.name in chosen.kinds]
    begin = time.monotonic()
    results = run(list(cases(kinds, chosen.ways, random.Random(chosen.seed), sparse=chosen.sparse)))
    bad = [result for result in results if result.faults]
    for result in bad:
        print(f'WRONG: {result.line()}')
    print(
        f'{len(results)} deaths, {sum(result.operation is None for result in results)} lost, '
        f'{len(bad)} wrong, in {time.monotonic() - begin:.0f} s'
    )
    return 1 if bad else 0


if __name__ == '__main__':
    raise SystemExit(main())
