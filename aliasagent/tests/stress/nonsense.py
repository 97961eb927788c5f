# SPDX-License-Identifier: Apache-2.0
"""Messages that make no sense: does the agent live, leave its guests alone, and say once what is wrong with each?

python -m aliasagent.tests.stress.nonsense [--messages 10000] [--seed N]

The messages are put straight into the agent's two queues, kind by kind (:mod:`nonsense_messages`), with kombu, as no
client would. A table says how many of each kind were answered, recorded as a failed operation, or logged, and by whom:
the log line about a message that oslo.messaging does not even hand on is its own. Exits with 1 if the agent is another
process at the end or does not answer, if a guest's XML has changed, if a message stays in a queue or comes twice, if an
answer or a record is missing or does not name what is wrong, or if there is not one log line for a message that has
neither.
"""

import argparse
import collections
import dataclasses
import functools
import json
import pathlib
import re
import signal
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from kombu import connection as kombu_connection
from kombu import entity

from aliasagent.client import rpc
from aliasagent.context import RequestContext
from aliasagent.tests.stress import bench
from aliasagent.tests.stress import nonsense_messages
from aliasagent.tests.stress.nonsense_messages import Nonsense
from aliasagent.tests.stress.nonsense_messages import Outcome
from sandbox import processes
from sandbox.agent import Options

#: The first line of a record in the agent's log; the lines of a traceback have no brackets.
_RECORD = re.compile(r'^[0-9-]{10} [0-9:.]{12} \d+ (WARNING|ERROR|CRITICAL) (\S+) \[[^]]*\] (.*)')
_ID = re.compile(r'[0-9a-f-]{32,36}')
#: Seconds that a kind of nonsense may take to be dealt with.
PATIENCE = 180.0


@dataclasses.dataclass
class Row:
    """What came of one kind of nonsense."""

    kind: str
    sent: int
    answered: int
    recorded: int
    #: Records of level WARNING or above, by who made them.
    logged: collections.Counter[str]
    seconds: float
    broken: list[str]
    #: What oslo.messaging says in its records.
    oslo: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def line(self) -> str:
        ours = sum(count for name, count in self.logged.items() if name.startswith('aliasagent'))
        return (
            f'{self.kind:30} {self.sent:6} {self.answered:9} {self.recorded:9} {ours:5} '
            f'{self.logged.total() - ours:6} {self.seconds:8.1f} {len(self.broken):7}'
        )


HEAD = f'{"kind":30} {"sent":>6} {"answered":>9} {"recorded":>9} {"log":>5} {"oslo":>6} {"seconds":>8} {"broken":>7}'


class Sender:
    """Puts messages into queues, and gathers the answers."""

    def __init__(self, it: bench.Bench) -> None:
        self._host = it.host_name
        make: Any = kombu_connection.Connection
        url = it.rabbit_url.replace('rabbit://', 'amqp://', 1)
        self._sending = make(url, transport_options={'confirm_publish': True})
        self._producer = self._sending.Producer()
        self.reply_queue = f'reply_{uuid.uuid4().hex}'
        self.answers: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
        self._receiving = make(url)
        queue: Any = entity.Queue
        self._queue = queue(self.reply_queue, exchange='', routing_key=self.reply_queue, durable=False)
        self._queue(self._receiving.default_channel).declare()
        self._closing = threading.Event()
        self._receiver = threading.Thread(target=self._receive, name='answers')
        self._receiver.start()

    def send(self, message: Nonsense, topic: str) -> None:
        self._producer.publish(
            message.body,
            exchange='',
            routing_key=f'{topic}.{self._host}',
            content_type=message.content_type,
            content_encoding=message.encoding,
            headers=message.headers,
            serializer=None,
        )

    def close(self) -> None:
        self._closing.set()
        self._receiver.join()
        self._receiving.release()
        self._sending.release()

    def _receive(self) -> None:
        def take(body: dict[str, Any], message: Any) -> None:
            answer = json.loads(body['oslo.message'])
            if answer.get('ending'):
                self.answers[answer['_msg_id']].append(answer)
            message.ack()

        with self._receiving.Consumer([self._queue], callbacks=[take], accept=['json']):
            while not self._closing.is_set():
                try:
                    self._receiving.drain_events(timeout=0.2)
                except TimeoutError:
                    continue


class Run:
    """Nonsense for one agent."""

    def __init__(self, it: bench.Bench, seed: int) -> None:
        self._bench = it
        self._sender = Sender(it)
        self._generator = nonsense_messages.Generator(seed, it.guests, self._sender.reply_queue)
        self._read = it.agent.log.stat().st_size

    def rows(self, messages: int) -> list[Row]:
        """Send so many messages, and look at what came of them."""
        try:
            rows = []
            for kind, some in self._generator.messages(messages):
                rows.append(self._one_kind(kind, some))
                print(rows[-1].line(), flush=True)
                for words, times in rows[-1].oslo.most_common(4):
                    print(f'    {times} {words}', flush=True)
            return rows
        finally:
            self._sender.close()

    def _one_kind(self, kind: str, messages: Sequence[Nonsense]) -> Row:
        begin = time.monotonic()
        for number, message in enumerate(messages):
            self._sender.send(message, rpc.TOPIC if number % 2 else rpc.ALT_TOPIC)
        broken = self._wait_dealt_with(messages)
        row = Row(kind, len(messages), 0, 0, collections.Counter(), time.monotonic() - begin, broken)
        records = self._records(sum(message.outcome is Outcome.LOG for message in messages), broken)
        row.logged = collections.Counter(name for name, _words in records)
        row.oslo = collections.Counter(
            f'{name}: {_ID.sub("...", words)[:110]}' for name, words in records if not name.startswith('aliasagent')
        )
        for message in messages:
            match message.outcome:
                case Outcome.ANSWER:
                    row.answered += self._is_answered(message, broken)
                case Outcome.OPERATION:
                    row.recorded += self._is_recorded(message, broken)
                case Outcome.LOG:
                    pass
        wanted = sum(message.outcome is Outcome.LOG for message in messages)
        if wanted and row.logged.total() != wanted:
            broken.append(f'{kind}: {row.logged.total()} log records for {wanted} messages')
        return row

    def _wait_dealt_with(self, messages: Sequence[Nonsense]) -> list[str]:
        waiting = [message for message in messages if message.outcome is Outcome.ANSWER]
        last = time.monotonic()
        left = len(waiting)
        while waiting and time.monotonic() - last < PATIENCE / 3:
            waiting = [message for message in waiting if message.id not in self._sender.answers]
            if len(waiting) != left:
                left, last = len(waiting), time.monotonic()
            time.sleep(0.05)
        for topic in (rpc.TOPIC, rpc.ALT_TOPIC):
            empty = functools.partial(self._is_empty, topic)
            try:
                processes.wait_until(empty, PATIENCE, f'{topic} to be empty')
            except processes.PartFailed as error:
                return [str(error)]
        # What is on its way is behind the last that was taken: an order of our own is done after it.
        for topic in (rpc.TOPIC, rpc.ALT_TOPIC):
            ctxt = RequestContext()
            self._bench.raw_client('1.0', topic).cast(
                ctxt, 'detach', instance_uuid=str(uuid.uuid4()), device_id='nobody'
            )
            self._bench.wait_state(ctxt.operation_id, 'failed', timeout=PATIENCE)
        return []

    def _is_empty(self, topic: str) -> bool:
        return self._bench.waiting(topic) == 0

    def _records(self, wanted: int, broken: list[str]) -> list[tuple[str, str]]:
        """The records since the last look, without those about our own orders."""
        deadline = time.monotonic() + 5
        while True:
            with self._bench.agent.log.open('rb') as log:
                log.seek(self._read)
                text = log.read()
            lines = text.decode(errors='replace').splitlines()
            matches = [match for line in lines if (match := _RECORD.match(line)) is not None]
            forged = [line for line in lines if line.startswith('2026-01-01 ')]
            found = [(match[2], match[3]) for match in matches if 'of nobody, instance' not in match[3]]
            if len(found) - len(forged) >= wanted or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        self._read += len(text)
        broken.extend(f'a log line was forged: {line[:80]}' for line in forged)
        return found

    def _is_answered(self, message: Nonsense, broken: list[str]) -> bool:
        answers = self._sender.answers.get(message.id, [])
        failure = json.loads(answers[0]['failure'] or '{}') if answers else {}
        told = f'{failure.get("class")}: {failure.get("message")}'
        named = any(name in str(failure.get('message')) for name in message.names)
        if len(answers) != 1 or failure.get('class') != message.error_class or not named:
            broken.append(f'{message.kind}: {len(answers)} answers, {told[:200]}; it was {message.body[:300]!r}')
        return bool(answers)

    def _is_recorded(self, message: Nonsense, broken: list[str]) -> bool:
        found = self._bench.operation(message.id)
        told = 'no operation' if found is None else f'{found["state"]}, {found["error_class"]}: {found["error"]}'
        if (
            found is None
            or (found['state'], found['error_class']) != ('failed', message.error_class)
            or not any(name in found['error'] for name in message.names)
        ):
            broken.append(f'{message.kind}: {told[:200]}; it was {message.body[:300]!r}')
        return found is not None


def run(messages: int, seed: int, *, guests: int = 3, reply_seconds: int = 60) -> tuple[list[Row], list[str]]:
    """Send nonsense to an agent; what came of each kind, and what was not as promised.

    :param reply_seconds: for how long oslo.messaging tries to answer somebody who is gone.
    """
    options: Options = {'oslo_messaging_rabbit': {'kombu_missing_consumer_retry_timeout': reply_seconds}}
    with bench.Bench(guests, options=options) as it:
        for guest in it.guests:
            volume, connection = it.new_volume()
            ctxt = RequestContext()
            it.api().attach_volume(ctxt, guest, volume, connection, disk_bus='scsi')
            it.wait_state(ctxt.operation_id, 'succeeded')
        pid, before, threads = it.agent.pid, it.digest(), _threads(it)
        rows = Run(it, seed).rows(messages)
        broken = [words for row in rows for words in row.broken]
        if it.agent.pid != pid:
            broken.append('the agent is another process, or none')
        if it.digest() != before:
            broken.append('a guest has changed')
        if len(it.api().list_instances(RequestContext())) != guests:
            broken.append('the agent does not list its guests')
        if _threads(it) > threads + 200:
            broken.append(f'the agent has {_threads(it)} threads, and had {threads}')
        it.agent.signal(signal.SIGTERM)
        code = it.agent.wait_end(60)
        if code != 0:
            broken.append(f'the agent ends with exit code {code}')
    return rows, broken


def _threads(it: bench.Bench) -> int:
    return len(list(pathlib.Path(f'/proc/{it.agent.pid}/task').iterdir()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--messages', type=int, default=10000)
    parser.add_argument('--seed', type=int, default=1)
    chosen = parser.parse_args()
    bench.quiet()
    print(HEAD)
    rows, broken = run(chosen.messages, chosen.seed)
    for words in broken[:50]:
        print(f'  BROKEN: {words}')
    print(
        f'sent {sum(row.sent for row in rows)}, answered {sum(row.answered for row in rows)}, '
        f'recorded {sum(row.recorded for row in rows)}, promises broken {len(broken)}'
    )
    return 1 if broken else 0


if __name__ == '__main__':
    raise SystemExit(main())
