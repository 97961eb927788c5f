# SPDX-License-Identifier: Apache-2.0
"""For how long a cast is nowhere but in the agent's memory: between the broker's acknowledgement and the journal.

python -m aliasagent.tests.stress.cast_window [--casts 3000] [--guests 10] [--early]

Runs on the parts that the environment names (``python -m sandbox up``), with a libvirtd and an agent of
its own. Casts pour in; of each the agent notes when it came, when the journal had it, and when the broker was told. A
crash in between the last two, in this order, loses the cast. With ``--early`` the broker is told as oslo.messaging by
itself does it. Without, a cast that was told of before the journal had it makes the program fail.
"""

import argparse
import dataclasses
import itertools
import statistics
from concurrent import futures

from aliasagent.context import RequestContext
from aliasagent.tests.contract import harness
from aliasagent.tests.stress import scene as scenes
from aliasagent.tests.stress.agents import measured_agent
from sandbox import processes

#: Seconds in which all casts have to be done.
_END = 900.0


@dataclasses.dataclass(frozen=True)
class Windows:
    """Seconds, of each cast."""

    #: From the acknowledgement to the journal: what a crash loses. 0 if the journal was first.
    exposed: list[float]
    #: From when it came to the acknowledgement: what comes again after a crash.
    held: list[float]

    @property
    def unsafe(self) -> int:
        """How many could have been lost."""
        return sum(seconds > 0 for seconds in self.exposed)


def run(casts: int, guests: int, *, early: bool = False) -> Windows:
    """Cast, have the agent end, and read what it noted."""
    with scenes.scene({'DEFAULT': {'debug': False}}) as scene:
        agent = scene.agent
        file = agent.directory / 'times'
        agent.module = measured_agent.__name__
        agent.environment = {measured_agent.TIMES: str(file), **({measured_agent.EARLY: '1'} if early else {})}
        agent.start()
        made = [scene.shut_off_guest() for _number in range(guests)]

        def cast(guest: str) -> None:
            for _number in range(casts // guests):
                scene.api.detach(RequestContext(), guest, harness.new_id())

        with futures.ThreadPoolExecutor(guests) as pool:
            list(pool.map(cast, made))
        sent = casts // guests * guests
        processes.wait_until(
            lambda: scene.accepted() == sent and scene.unfinished() == 0, _END, f'{sent} casts to be done'
        )
        agent.stop()
        noted = measured_agent.read(file)
    assert len(noted.came) == len(noted.kept) == len(noted.acknowledged) == sent, 'not each cast was noted'
    return Windows(
        exposed=[max(0.0, kept - told) for kept, told in zip(noted.kept, noted.acknowledged, strict=True)],
        held=[told - came for came, told in zip(noted.came, noted.acknowledged, strict=True)],
    )


def shown(seconds: list[float]) -> str:
    """Median, 99th of a hundred, and the most, in ms."""
    *_rest, last = itertools.islice(statistics.quantiles(seconds, n=100), 99)
    return f'median {statistics.median(seconds) * 1e3:.3f} ms, p99 {last * 1e3:.3f} ms, max {max(seconds) * 1e3:.3f} ms'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--casts', type=int, default=3000)
    parser.add_argument('--guests', type=int, default=10)
    parser.add_argument('--early', action='store_true')
    chosen = parser.parse_args()
    windows = run(chosen.casts, chosen.guests, early=chosen.early)
    print(f'acknowledged and not in the journal: {shown(windows.exposed)}')
    print(f'with us and not acknowledged: {shown(windows.held)}')
    print(f'{len(windows.exposed)} casts, {windows.unsafe} of them were acknowledged before the journal had them')
    return 1 if windows.unsafe and not chosen.early else 0


if __name__ == '__main__':
    raise SystemExit(main())
