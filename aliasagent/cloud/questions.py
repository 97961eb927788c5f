# SPDX-License-Identifier: Apache-2.0
"""Asks Nova and Neutron about guests, in the background, and keeps the answers.

An answer counts only if it stayed the same for a while in which the guest's definition did not change: Nova lists a
volume before the guest has it, and as long as the guest may still have it.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable

from aliasagent.cloud import inventory
from aliasagent.cloud.circuit import Circuit
from aliasagent.cloud.ports import Ports
from aliasagent.cloud.servers import Server
from aliasagent.cloud.servers import Servers
from aliasagent.devices.identity import Record
from aliasagent.exception import CloudError
from aliasagent.trouble import Trouble

LOG = logging.getLogger(__name__)

#: Seconds that the end of the agent waits for an answer.
_CLOSE_SECONDS = 1.0
#: How many guests Nova is asked about at the same time, and how many seconds another one waits for its turn.
_TURNS, _TURN_SECONDS = 4, 1.0


@dataclasses.dataclass(frozen=True)
class _NoAnswer:
    """Why the cloud's word about a guest does not count."""

    reason: str
    #: Seconds until the guest may be asked about again.
    pause: float


@dataclasses.dataclass(frozen=True)
class Pace:
    """How often the cloud is asked, in seconds."""

    #: How long an answer must stay the same before it counts.
    settle: float = 60.0
    #: How long an answer is kept, and with it the fact that the cloud does not have the guest.
    keep: float = 3600.0
    #: How long a guest is not asked about after a failure, or while Nova is at work on it.
    retry: float = 300.0


@dataclasses.dataclass(eq=False)
class _Question:
    """A guest with one definition, and what the cloud says of it."""

    instance: str
    #: The digest of the guest's definitions.
    seen: bytes
    #: When to ask next; None if all is asked.
    due: float | None
    #: When the guest may be asked about anew.
    until: float
    answer: frozenset[Record] | None = None
    is_settled: bool = False
    is_given: bool = False


class Questions:
    """Answers for guests with devices that nothing else identifies.

    :param host: the name of this host in Nova; answers about servers on other hosts do not count.
    :param most: maximum number of guests with an open question.
    :param on_answer: is called with a guest's id when its answer counts.
    """

    def __init__(
        self,
        servers: Servers,
        ports: Ports | None,
        *,
        host: str,
        most: int,
        on_answer: Callable[[str], None],
        pace: Pace = Pace(),
        circuit: Circuit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = servers
        self._ports = ports
        self._host = host.lower()
        self._most = most
        self._on_answer = on_answer
        self._pace = pace
        self._clock = clock
        self._circuit = circuit or Circuit(clock)
        self._other_host = Trouble()
        self._changed = threading.Condition()
        self._turns = threading.Semaphore(_TURNS)
        self._questions: dict[str, _Question] = {}
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name='cloud-questions', daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the background thread. One that waits for an answer ends after the answer, or with the process."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_SECONDS)

    def records(self, instance: str, seen: bytes) -> frozenset[Record]:
        """Return the hints of the cloud about a guest, once; have the cloud asked if it was not. This does not wait.

        :param seen: the digest of the guest's definitions, of which the answer must be.
        """
        now = self._clock()
        with self._changed:
            found = self._questions.get(instance)
            if found is None or found.seen != seen or now >= found.until:
                self._ask_later(instance, seen, now)
                return frozenset()
            if not found.is_settled or found.is_given:
                return frozenset()
            found.is_given = True
            return found.answer or frozenset()

    def is_busy(self, instance: str) -> bool:
        """Return whether Nova is at work on a guest; False if Nova does not have the guest, or does not answer."""
        # Many guests may wait at once, for example after a start of the host: a Nova that hangs must not keep them.
        if self._circuit.wait() or not self._turns.acquire(timeout=_TURN_SECONDS):
            return False
        try:
            if self._circuit.wait():
                return False
            server = self._servers.get(instance)
        except CloudError as error:
            LOG.info('Instance %s: it is unknown whether Nova is at work on it: %s', instance, error)
            self._circuit.failed(error)
            return False
        finally:
            self._turns.release()
        self._circuit.worked()
        return server is not None and server.is_busy

    def _ask_later(self, instance: str, seen: bytes, now: float) -> None:
        self._questions = {uuid: it for uuid, it in self._questions.items() if now < it.until and uuid != instance}
        if sum(it.due is not None for it in self._questions.values()) >= self._most:
            return  # a later reconcile run tries again
        self._questions[instance] = _Question(instance, seen, due=now, until=now + self._pace.keep)
        self._changed.notify_all()

    def _work(self) -> None:
        while (question := self._next()) is not None:
            try:
                self._answer(question)
            except CloudError as error:
                LOG.info('Instance %s: no answer about its devices: %s', question.instance, error)
                self._circuit.failed(error)
                self._end(question, self._pace.retry)
            except Exception as error:
                LOG.exception('Instance %s: the question about its devices failed', question.instance)
                self._circuit.failed(type(error).__name__)
                self._end(question, self._pace.retry)

    def _next(self) -> _Question | None:
        """Wait for the next question that is due; None at the end."""
        with self._changed:
            while not self._is_closed:
                now, pause = self._clock(), self._circuit.wait()
                waiting = [(it.due, it) for it in self._questions.values() if it.due is not None]
                due, question = min(waiting, key=lambda each: each[0], default=(None, None))
                if due is not None and due <= now and not pause:
                    return question
                self._changed.wait(None if due is None else max(due - now, pause))
        return None

    def _answer(self, question: _Question) -> None:
        """Ask, and keep the answer.

        :raises CloudError: there is no valid answer.
        """
        answer = self._ask(question.instance)
        self._circuit.worked()
        if isinstance(answer, _NoAnswer):
            LOG.debug('Instance %s: no answer about its devices: %s', question.instance, answer.reason)
            self._end(question, answer.pause)
        elif question.answer != answer:
            with self._changed:
                question.answer = answer
                question.due = self._clock() + self._pace.settle
        else:
            LOG.debug('Instance %s: Nova and Neutron have %d hints about its devices', question.instance, len(answer))
            with self._changed:
                question.is_settled = True
            self._end(question, self._pace.keep)
            if answer:
                self._on_answer(question.instance)

    def _ask(self, instance: str) -> 'frozenset[Record] | _NoAnswer':
        """Return the hints about a guest that Nova is not at work on, from before the first question to after the last.

        :raises CloudError: a service did not answer, or an answer is not valid.
        """
        before = self._servers.get(instance)
        if before is None:
            return _NoAnswer('Nova does not have it', self._pace.keep)
        if self._host not in before.hosts:
            return self._elsewhere(instance, before)
        attachments = self._servers.attachments(instance)
        ports = self._ports.of_server(instance) if self._ports is not None else []
        # Last, to notice also what began meanwhile.
        is_changing = attachments is None or self._servers.is_changing_devices(instance)
        if attachments is None or is_changing or not before.is_quiet or self._servers.get(instance) != before:
            return _NoAnswer('Nova is at work on it', self._pace.retry)
        return inventory.records(inventory.make(attachments, ports))

    def _elsewhere(self, instance: str, server: Server) -> _NoAnswer:
        """Note that Nova has a guest on another host."""
        where = '/'.join(sorted(server.hosts)) or 'a host that it hides from this user'
        # Once: a guest that was evacuated may stay defined here. A wrong name of this host makes all answers useless.
        if self._other_host.is_new(where):
            LOG.warning(
                'Instance %s: Nova has it on %s, not on %s, so its answer is not used; if that is this host, set '
                '[nova] host',
                instance,
                where,
                self._host,
            )
        return _NoAnswer(f'Nova has it on {where}', self._pace.keep)

    def _end(self, question: _Question, seconds: float) -> None:
        """Ask nothing about this definition of a guest for a while."""
        with self._changed:
            question.due = None
            question.until = self._clock() + seconds
