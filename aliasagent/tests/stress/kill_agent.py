# SPDX-License-Identifier: Apache-2.0
"""The agent is killed (SIGKILL) over and over while it is asked for things: is each of them done, once, and said truly?

python -m aliasagent.tests.stress.kill_agent [--kills 100] [--operations 2000] [--casts 9000] [--guests 20] [--seed N]

Runs on the parts that the environment names (``python -m sandbox up``), with a libvirtd and an agent of
its own, which has its default options. Each guest has somebody of its own who asks, in order, all side by side: by
``submit``, with the same id again until there is an answer; and, in a second run with as many kills, by casts, which
nobody repeats. What is asked ends in part with a failure that is known beforehand. The kills come at random moments,
some while the agent starts. A run of none is left out.

Afterwards each request has to have the outcome that a model says, each guest the devices that the successes make, live
and persistent, and libvirt must have told of as many devices that came and went as there should be. Prints what was
lost, doubled or otherwise wrong; the exit code is 0 only if nothing was.
"""

import argparse
import random
import threading
import time
from collections.abc import Callable
from concurrent import futures

import oslo_messaging

from aliasagent import exception
from aliasagent.tests.stress import scene as scenes
from aliasagent.tests.stress import verdict
from aliasagent.tests.stress.script import Request
from aliasagent.tests.stress.script import Script
from sandbox import processes

#: Disk images for each guest.
FILES = 8
#: Of the guests, how many are shut off, and how many are booted and so let go of interfaces.
SHUT_OFF, BOOTED = 2, 2
#: The part of the kills that come while the agent starts.
EARLY = 0.2
#: How many casts may be with the broker at a time.
AHEAD = 500
#: Seconds after which a kill does not wait for the agent to do any more.
_LONG = 5.0
#: Seconds in which everything has to have come to its end.
_END = 900.0

#: What says that there was no answer, or not yet room: asked again.
_AGAIN = (oslo_messaging.MessagingTimeout, oslo_messaging.MessageUndeliverable, exception.ServiceBusy)


class Asker:
    """Somebody who asks things of one guest, one after the other."""

    def __init__(self, scene: scenes.Scene, script: Script) -> None:
        self._api = scene.api
        self._script = script
        #: What the agent, or for a cast the broker, has taken.
        self.taken: list[Request] = []
        #: How often there was no answer.
        self.repeated = 0
        #: Set when it shall not wait for an answer any more.
        self.stopped = threading.Event()

    def submit(self) -> None:
        request = self._script.next()
        while not self.stopped.is_set():
            try:
                self._api.submit(request.context, request.action, instance_uuid=request.guest, **request.arguments)
            except _AGAIN:
                self.repeated += 1
            else:
                self.taken.append(request)
                return

    def cast(self) -> None:
        request = self._script.next()
        getattr(self._api, request.action)(request.context, request.guest, **request.arguments)
        self.taken.append(request)


class Killer:
    """Kills the agent at random moments, and starts it again."""

    def __init__(self, scene: scenes.Scene, choices: random.Random, accepted: Callable[[], int]) -> None:
        self._agent = scene.agent
        self._random = choices
        self._accepted = accepted
        self._start_seconds = 2.0

    def live_and_die(self, share: int) -> None:
        """One life of the agent.

        :param share: how many requests it takes in, on average.
        """
        if self._random.random() < EARLY:
            self._agent.begin()
            time.sleep(self._random.uniform(0, self._start_seconds))
        else:
            begin = time.monotonic()
            self._agent.start()
            self._start_seconds = time.monotonic() - begin
            self._wait_accepted(self._accepted() + self._random.randint(0, 2 * share))
            time.sleep(self._random.uniform(0, 0.1))
        if self._agent.pid is None:
            raise processes.PartFailed(f'the agent ended by itself:\n{processes.tail(self._agent.log)}')
        self._agent.kill()

    def _wait_accepted(self, count: int) -> None:
        end = time.monotonic() + _LONG
        while self._accepted() < count and time.monotonic() < end:
            time.sleep(0.005)


class Run:
    """One run of the program."""

    def __init__(self, scene: scenes.Scene, *, casts: bool, guests: int, seed: int, special: bool = True) -> None:
        self._scene = scene
        self._casts = casts
        self._random = random.Random(seed)
        self._askers = [Asker(scene, script) for script in self._scripts(guests, special)]
        self._enough = threading.Event()

    def _scripts(self, guests: int, special: bool) -> list[Script]:
        side = self._scene.side
        shut_off, booted = (SHUT_OFF, BOOTED) if special else (1, 0)
        made: list[tuple[str, str | None]] = [
            (self._scene.paused_guest(), None) for _ in range(guests - shut_off - booted)
        ]
        made += [(self._scene.shut_off_guest(), side.bridge()) for _ in range(shut_off)]
        made += [(self._scene.booted_guest(), side.bridge()) for _ in range(booted)]
        return [self._script(guest, bridge) for guest, bridge in made]

    def _script(self, guest: str, bridge: str | None) -> Script:
        files = [self._scene.side.new_file() for _number in range(FILES)]
        return Script(guest, files, bridge, random.Random(self._random.random()), idle=1.0 if self._casts else 0.0)

    def go(self, kills: int, operations: int) -> verdict.Verdict:
        # A first life makes the queues, without which nothing can be cast.
        self._scene.agent.start()
        killer = Killer(self._scene, self._random, self._scene.accepted)
        with futures.ThreadPoolExecutor(len(self._askers)) as pool:
            quota = -(-operations // len(self._askers))
            asking = [pool.submit(self._ask, asker, quota) for asker in self._askers]
            try:
                self._scene.agent.kill()
                for number in range(kills):
                    killer.live_and_die(max(1, operations // kills))
                    if (number + 1) % 10 == 0:
                        print(f'{number + 1} kills, {self._scene.accepted()} accepted', flush=True)
                self._enough.set()
                self._scene.agent.start()
                if futures.wait(asking, timeout=_END).not_done:
                    raise processes.PartFailed(f'not all has been asked after {_END:g} s')
            finally:
                self._stop()
            for asked in asking:
                asked.result()
        self._wait_done()
        taken = [asker.taken for asker in self._askers]
        found = verdict.judge(self._scene, taken)
        found.kills, found.repeated = kills, sum(asker.repeated for asker in self._askers)
        return found

    def _stop(self) -> None:
        """Have nobody ask any more, whatever the reason."""
        self._enough.set()
        for asker in self._askers:
            asker.stopped.set()

    def _ask(self, asker: Asker, quota: int) -> None:
        """Ask for as much as is wanted, and go on for as long as there are kills to come."""
        while not asker.stopped.is_set() and (len(asker.taken) < quota or not self._enough.is_set()):
            if not self._casts:
                asker.submit()
                continue
            asker.cast()
            while self._cast_count() - self._scene.accepted() > AHEAD and not self._enough.is_set():
                time.sleep(0.05)

    def _cast_count(self) -> int:
        return sum(len(asker.taken) for asker in self._askers)

    def _wait_done(self) -> None:
        # Whatever is behind all else in the queue shows that all else was taken out of it.
        last = self._askers[0]
        last.cast()
        self._wait(lambda: self._scene.has(last.taken[-1].id), 'the last request to be accepted')
        self._wait(lambda: self._scene.unfinished() == 0, 'all operations to end')
        # An event may come after the outcome that it led to.
        time.sleep(1)

    @staticmethod
    def _wait(probe: Callable[[], bool], what: str) -> None:
        processes.wait_until(probe, _END, what)


def run(
    kills: int, operations: int, *, casts: bool = False, guests: int = 20, seed: int = 0, special: bool = True
) -> verdict.Verdict:
    """Run it, and take everything away.

    :param special: with guests among them that are booted.
    """
    # The agent's own default, and not that of the tests.
    with scenes.scene({'DEFAULT': {'debug': False}}) as scene:
        return Run(scene, casts=casts, guests=guests, seed=seed, special=special).go(kills, operations)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=100)
    parser.add_argument('--operations', type=int, default=2000)
    parser.add_argument('--guests', type=int, default=20)
    parser.add_argument('--casts', type=int, default=9000)
    parser.add_argument('--seed', type=int, default=random.randrange(2**32))
    chosen = parser.parse_args()
    print(f'seed {chosen.seed}')
    found = {
        what: run(chosen.kills, count, casts=what == 'casts', guests=chosen.guests, seed=chosen.seed)
        for what, count in (('submits', chosen.operations), ('casts', chosen.casts))
        if count
    }
    for what, one in found.items():
        print(f'{what}:\n{one.text()}')
    return 0 if all(one.good for one in found.values()) else 1


if __name__ == '__main__':
    raise SystemExit(main())
