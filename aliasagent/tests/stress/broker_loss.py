# SPDX-License-Identifier: Apache-2.0
"""The message broker goes away and comes back while requests are made: are all of them done, and none twice?

python -m aliasagent.tests.stress.broker_loss [--operations 500] [--restarts 4] [--cuts 8] [--quorum] [--seed N]

Two runs, each with its own agent, hypervisor and guests, on a RabbitMQ of the program's own. In one the broker is
stopped and started, in the other all of its connections are cut. Half of the requests are made by the call ``submit``,
half by casts. Exits with 1 if one that was answered, or confirmed by the broker, was lost, done twice, or failed, or if
a guest does not have what the outcomes say.
"""

import argparse
import contextlib
import functools
import pathlib
import random
import tempfile
import time
from collections.abc import Callable
from collections.abc import Iterator

from aliasagent.client import rpc
from aliasagent.tests.stress import bench
from aliasagent.tests.stress import load
from sandbox import environment
from sandbox import rabbitmq
from sandbox.agent import Options


def restart(broker: rabbitmq.RabbitMQ) -> None:
    broker.stop()
    time.sleep(1)
    broker.start()


def cut(broker: rabbitmq.RabbitMQ) -> None:
    broker.control('close_all_connections', 'cut by a test')


def queue_types(broker: rabbitmq.RabbitMQ, host: str) -> set[str]:
    """The types of the queues in which a host's requests wait."""
    lines = broker.control('list_queues', '--no-table-headers', 'name', 'type').splitlines()
    types = dict(line.split('\t') for line in lines)
    return {types[f'{topic}.{host}'] for topic in (rpc.TOPIC, rpc.ALT_TOPIC)}


def run(
    broker: rabbitmq.RabbitMQ,
    disturb: Callable[[], None],
    *,
    operations: int,
    times: int,
    guests: int,
    seed: int,
    quorum: bool,
) -> tuple[load.Audit, set[str]]:
    """Send requests, and disturb so many times meanwhile; what became of them, and the types of the queues."""
    options: Options = {'oslo_messaging_rabbit': {'rabbit_quorum_queue': quorum}}
    with bench.Bench(guests, rabbit_url=broker.url, options=options) as it:
        types = queue_types(broker, it.host_name)
        sending = load.Load(it, operations, seed)
        sending.start()
        try:
            for number in range(times):
                sending.wait_taken((number + random.Random(f'{seed}-{number}').random()) / (times + 1))
                disturb()
        finally:
            sending.join()
        return load.audit(it, sending.requests), types


@contextlib.contextmanager
def own_broker() -> Iterator[rabbitmq.RabbitMQ]:
    """A broker that nobody else needs."""
    broker = rabbitmq.RabbitMQ(pathlib.Path(tempfile.mkdtemp(dir=environment.read().directory)))
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def kept(found: load.Audit) -> bool:
    """Whether all is as it should be: nothing but the broker was away, so nothing may have failed."""
    return found.kept and not found.failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--operations', type=int, default=500)
    parser.add_argument('--restarts', type=int, default=4)
    parser.add_argument('--cuts', type=int, default=8)
    parser.add_argument('--guests', type=int, default=10)
    parser.add_argument('--quorum', action='store_true', help='with quorum queues')
    parser.add_argument('--seed', type=int, default=1)
    chosen = parser.parse_args()
    bench.quiet()
    good = True
    with own_broker() as broker:
        for what, times, disturb in (('restarts', chosen.restarts, restart), ('cuts', chosen.cuts, cut)):
            begin = time.monotonic()
            found, types = run(
                broker,
                functools.partial(disturb, broker),
                operations=chosen.operations,
                times=times,
                guests=chosen.guests,
                seed=chosen.seed,
                quorum=chosen.quorum,
            )
            seconds = time.monotonic() - begin
            print(f'{times} {what}, {"/".join(sorted(types))} queues, {seconds:.0f} s: {found.row()}', flush=True)
            good = good and kept(found) and types == {'quorum' if chosen.quorum else 'classic'}
    return 0 if good else 1


if __name__ == '__main__':
    raise SystemExit(main())
