# SPDX-License-Identifier: Apache-2.0
"""All of a history: the hypervisor with its guests, the broker, the disk, the agent, and the steps as they come."""

import contextlib
import itertools
import logging
import shutil
import uuid
from collections.abc import Callable
from typing import Any

import libvirt

from aliasagent import context
from aliasagent import exception
from aliasagent.tests.fakes.libvirt import Unplug
from aliasagent.tests.fakes.libvirt import definition
from aliasagent.tests.history import agent
from aliasagent.tests.history import plan
from aliasagent.tests.history import steps
from aliasagent.tests.history import threads
from aliasagent.tests.history.calls import READS
from aliasagent.tests.history.chronicle import Chronicle
from aliasagent.tests.history.facts import Lie
from aliasagent.tests.history.hypervisor import Hypervisor
from aliasagent.tests.history.oracle import Oracle
from aliasagent.tests.history.plan import History
from aliasagent.tests.history.plan import Step
from aliasagent.tests.history.scheduler import Scheduler

#: Seconds that a step waits for its point in the agent's work, before it comes anyway.
_POINT_SECONDS = 12.0
#: Seconds in which all operations must have come to their end when nothing is in the way any more.
_SETTLE_SECONDS = 1500.0
#: Seconds in which an agent is there that was ended, a guest does what it was asked, and the agent has looked at it.
_START_SECONDS, _HEAR_SECONDS, _LOOK_SECONDS = 60.0, 70.0, 10.0
_MOST_TURNS = 150_000
#: Calls that tell nothing to whoever reads a history.
_NOT_SHOWN = READS | {
    *('XMLDesc', 'domainEventRegisterAny', 'registerCloseCallback', 'setKeepAlive', 'listAllDomains'),
}


class World:
    """One history as it happens."""

    def __init__(self, history: History, say: Callable[[str], None] | None = None) -> None:
        self.history = history
        self.scheduler = Scheduler(history.seed)
        threads.begin(self.scheduler)
        self.chronicle = Chronicle(self.scheduler.stamp)
        self.hypervisor = Hypervisor(self.scheduler, self.chronicle)
        self.oracle = Oracle(self.hypervisor)
        self.disk = agent.Disk()
        self.broker = agent.Broker()
        self.agent: agent.Agent | None = None
        self._say = say
        self._numbers, self._requests = itertools.count(1), itertools.count(1)
        self._waiting_steps = list(history.steps)
        self._armed: Step | None = None
        self._times = 0
        self._fired = threads.Event()
        self._is_acting = False
        self._script_done = False
        self._restart_at: float | None = None
        #: The ids of what was asked, and of what the agent said to have taken in or refused.
        self.cast_ids: set[str] = set()
        self.answered: set[str] = set()
        self.refused: set[str] = set()

    def say(self, words: str) -> None:
        if self._say is not None:
            self._say(f'{self.scheduler.now:9.3f}  {words}')

    # Its run

    def run(self) -> list[Lie]:
        """Let it happen, and judge it."""
        self._directory = plan.DISKS / f'run-{uuid.uuid4().hex}'
        self._directory.mkdir()
        try:
            with agent.using(self.disk):
                self._run()
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)
        return self.oracle.facts.lies

    def _run(self) -> None:
        for number, guest in enumerate(self.history.guests):
            self._make(number, guest)
        self.hypervisor.observe_all()
        self.hypervisor.interference = self
        self.disk.at_point, self.disk.on_commit = self.at_point, self._on_commit
        self._options = agent.options(
            [str(plan.DISKS)], str(self._directory / 'journal.sqlite'), str(self._directory / 'save')
        )
        script = self.scheduler.spawn(self._script, self.scheduler.world)
        self.scheduler.run(1e9, lambda: script.ended, _MOST_TURNS)
        end = self.scheduler.now + _SETTLE_SECONDS
        self.scheduler.spawn(self._settle, self.scheduler.world)
        if self.scheduler.run(end, self._has_settled, self.scheduler.turns + _MOST_TURNS):
            self._hear()
            self.oracle.judge_releases()
            self.oracle.judge_notifications(self.broker.notified)
        self.oracle.judge_end(self.cast_ids | self.answered, self.refused)
        for life, error in self.scheduler.crashes:
            self.oracle.facts.lies.append(Lie('crash', f'a thread of {life} ended: {error!r}', self.scheduler.now))
        self.scheduler.end()

    def _make(self, number: int, guest: plan.Guest) -> None:
        if not guest.running:
            self.hypervisor.add_guest(xml=plan.guest_xml(guest, number, live=False), running=False)
            return
        made = self.hypervisor.add_guest(xml=plan.guest_xml(guest, number, live=True), persistent=guest.persistent)
        if guest.persistent:
            made.config = definition.parse_domain(plan.guest_xml(guest, number, live=False))

    def _settle(self) -> None:
        """Take everything out of the way: guests answer, the disk is free, and the agent runs."""
        self._armed = None
        if self.disk.is_full:
            self.disk_is_free()
        self.hypervisor.down = False
        for guest in self.hypervisor.guests.values():
            guest.unplug = Unplug()
            guest.unplug_by_alias.clear()
            with contextlib.suppress(libvirt.libvirtError):
                guest.resume()
        self.say('everything is out of the way')

    def _has_settled(self) -> bool:
        if self.broker.messages or len(self.oracle.facts.ops) < len(self.cast_ids | self.answered):
            return False
        return not any(op.is_under_way for op in self.oracle.facts.ops.values())

    def _hear(self) -> None:
        """Let the agent notice what it has not noticed yet, of which libvirt may have told nobody."""
        self.scheduler.run(self.scheduler.now + _START_SECONDS, self._is_ready, self.scheduler.turns + _MOST_TURNS)
        self._let_pass(_HEAR_SECONDS)
        if self.oracle.facts.is_untold:
            self.hypervisor.lose_connections()
            self._let_pass(_LOOK_SECONDS)

    def _let_pass(self, seconds: float) -> None:
        self.scheduler.run(self.scheduler.now + seconds, lambda: False, self.scheduler.turns + _MOST_TURNS)

    def _is_ready(self) -> bool:
        one = self.agent
        return one is not None and one.endpoint is not None and not one.is_stopping

    # The agent

    def start_agent(self) -> None:
        self._restart_at = None
        self.broker.server = None
        number = next(self._numbers)
        self.agent = agent.Agent(number, self._options, self.hypervisor.open, self.broker)
        self.hypervisor.agent = self.agent.life
        self.say(f'agent {number} starts')
        self.agent.start()

    def kill(self, seconds: float) -> None:
        """End the agent where it stands, and start another one in so many seconds."""
        if self.agent is None or self.agent.life.dead:
            raise steps.Impossible
        life = self.agent.life
        self.scheduler.spawn(lambda: self._bury(seconds), self.scheduler.world)
        self.scheduler.kill(life)

    def stop(self, seconds: float) -> None:
        """Have the agent end as on SIGTERM, and start another one in so many seconds."""
        one = self.agent
        if one is None or one.life.dead or one.endpoint is None or one.is_stopping:
            raise steps.Impossible
        one.is_stopping = True
        stopping = self.scheduler.spawn(one.stop, one.life)

        def end() -> None:
            while not stopping.ended and not one.life.dead:
                self.scheduler.sleep(0.1)
            if not one.life.dead:
                self.kill(seconds)

        self.scheduler.spawn(end, self.scheduler.world)

    def _bury(self, seconds: float) -> None:
        self.hypervisor.forget_agent()
        self.disk.close()
        self.agent = None
        self.scheduler.later(seconds, self.start_agent)

    def hypervisor_is_up(self) -> None:
        self.hypervisor.down = False

    def fill_disk(self, seconds: float) -> None:
        self.disk.is_full = True
        self.oracle.facts.disk_is_full()
        self.scheduler.at(seconds, self.disk_is_free)

    def disk_is_free(self) -> None:
        self.disk.is_full = False
        self.oracle.facts.disk_is_free()

    # Requests

    def request(self, method: str, arguments: dict[str, Any], *, is_call: bool) -> None:
        operation_id = f'e{next(self._requests):07x}-0d0d-4d0d-8d0d-000000000000'
        endpoint = None if self.agent is None else self.agent.endpoint
        if not is_call or endpoint is None:
            self.cast_ids.add(operation_id)
            self.broker.cast(method, operation_id, arguments)
            return
        assert self.agent is not None
        operation = {'id': operation_id, 'action': method, 'arguments': arguments}

        def call() -> None:
            try:
                endpoint.submit(context.RequestContext(operation_id=operation_id), operation=operation)
            except Exception as error:  # noqa: BLE001
                # oslo.messaging keeps what was raised in an exception of its own.
                raised = getattr(error, 'exc_info', (None, error))[1]
                self.refused.add(operation_id)
                if not isinstance(raised, exception.AliasAgentError) or isinstance(raised, exception.InternalError):
                    self.oracle.facts.lies.append(Lie('crash', f'submit raised {raised!r}', self.scheduler.now))
            else:
                self.answered.add(operation_id)

        self.scheduler.spawn(call, self.agent.life)

    # Steps

    def _script(self) -> None:
        self.start_agent()
        while self._waiting_steps:
            step = self._waiting_steps[0]
            if step.point:
                self._armed, self._times = step, step.times
                self._fired.clear()
                if not self._fired.wait(_POINT_SECONDS) and self._armed is step:
                    self._armed = None
                    self._act()
            else:
                self.scheduler.sleep(step.after)
                if self._waiting_steps and self._waiting_steps[0] is step:
                    self._act()
        self.scheduler.sleep(0.5)

    def at_point(self, point: str) -> None:
        """A point of the agent's work: the next step may be due at it."""
        step = self._armed
        if step is None or self._is_acting:
            return
        if step.point != point and not (step.point == 'before any' and point.startswith('before ')) and not (
            step.point == 'after any' and point.startswith('after ')
        ):
            return
        self._times -= 1
        if self._times > 0:
            return
        self._armed = None
        self._fired.set()
        self.say(f'  at "{point}"')
        self._act()

    def _act(self) -> None:
        """Carry out the next step, and those that come at the same moment."""
        kill = None
        self._is_acting = True
        try:
            while self._waiting_steps:
                step = self._waiting_steps.pop(0)
                if step.what == 'kill':
                    kill = step
                else:
                    self._carry_out(step)
                following = self._waiting_steps[0] if self._waiting_steps else None
                if following is None or following.point or following.after:
                    break
        finally:
            self._is_acting = False
        if kill is not None:
            self._carry_out(kill)

    def _carry_out(self, step: Step) -> None:
        self.say(step.words())
        try:
            steps.carry_out(self, step)
        except steps.Impossible:
            self.say('  (not as things are)')
        except libvirt.libvirtError as error:
            self.say(f'  (libvirt says {error})')
        self.hypervisor.observe_all()

    # For the fake and the disk

    def before_call(self, method: str, arguments: tuple[object, ...]) -> None:
        self.oracle.calls.before_call(method, arguments)

    def after_call(self, method: str, arguments: tuple[object, ...]) -> None:
        if self._say is not None and method not in _NOT_SHOWN:
            self.say(f'    {method} {" ".join(str(argument)[:300] for argument in arguments)}')
        self.oracle.calls.after_call(method, arguments)

    def _on_commit(self, connection: Any) -> None:
        before = {op.id: (op.state, op.attempts, op.released_at) for op in self.oracle.facts.ops.values()}
        lies = len(self.oracle.facts.lies)
        self.oracle.on_commit(connection)
        if self._say is None:
            return
        for op in self.oracle.facts.ops.values():
            if before.get(op.id) != (op.state, op.attempts, op.released_at):
                released = f', released at {op.released_at}' if op.released_at else ''
                error = f': {op.error_class}: {op.error}' if op.error else ''
                self.say(f'  {op.words} is {op.state}{released}{error}')
        for lie in self.oracle.facts.lies[lies:]:
            self.say(f'  *** {lie.rule}: {lie.words}')


class Log(logging.Handler):
    """Shows the agent's log with the time of the history."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(f'           {record.levelname.lower()}: {record.getMessage()}')
