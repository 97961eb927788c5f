# SPDX-License-Identifier: Apache-2.0
"""libvirtd is killed and started again under load: is everything that is said about it afterwards true?

python -m aliasagent.tests.stress.daemon_loss [--operations 300] [--kills 6] [--guests 12] [--seed N]

Runs on an agent, a libvirtd and guests of its own, and the environment's broker. Exits with 1 if an operation was lost
or done twice; if one succeeded and its device is not where it says; if one failed and the guest is not as its words
say; or if one that failed for want of the hypervisor, asked for anew, does not succeed.
"""

import argparse
import collections
import dataclasses
import json
import random
import re
import time
from collections.abc import Collection
from typing import Any

import libvirt_qemu  # type: ignore[import-untyped]

from aliasagent import exception
from aliasagent.context import RequestContext
from aliasagent.tests.stress import bench
from aliasagent.tests.stress import load
from sandbox import processes
from sandbox.agent import Options

#: Failures that say that nothing is known: the same may be asked for anew.
UNAVAILABLE = frozenset({'HypervisorUnavailable', 'GuestUnreadable'})
_ID = re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')


@dataclasses.dataclass
class Result:
    """What became of a load, and of what was asked for anew after it."""

    first: load.Audit
    untrue: list[str]
    asked_anew: int
    #: Of these, disks that libvirtd left in QEMU when it was killed, and did not know any more.
    left_in_qemu: int
    not_done_anew: list[str]

    @property
    def kept(self) -> bool:
        return self.first.kept and not self.untrue and not self.not_done_anew


def untrue(it: bench.Bench, guest: str) -> list[str]:
    """What is said about the last operation on each of a guest's devices, and is not so."""
    ids = it.ids(guest)
    last = {found['device']: found for found in it.operations(guest)}
    found_untrue = []
    for device, found in last.items():
        attach = found['action'].startswith('attach')
        where = (device in ids.live, device in ids.persistent)
        match found['state'], found['error_class']:
            case 'succeeded', _:
                true = where == (attach, attach)
            case 'failed', error_class if error_class in UNAVAILABLE:
                true = True  # it says that nothing is known
            case 'failed', 'DeviceNotFound':
                true = where == (False, False)
            case 'failed', 'DetachFailed' | 'DetachTimeout':
                true = where == ('still in the running guest' in found['error'], 'gone from' not in found['error'])
            case 'failed', 'AttachFailed':
                true = where == tuple(f'{side}' in found['error'] for side in ('running guest', 'persistent config'))
            case _:
                true = False  # nothing else can happen here
        if not true:
            found_untrue.append(f'{found["action"]} {found["state"]}, {found["error"]}; live, persistent: {where}')
    return found_untrue


def wait_reached(it: bench.Bench) -> None:
    """Wait until the agent has found its way back to the hypervisor."""

    def reached() -> bool:
        try:
            it.api().list_instances(RequestContext())
        except exception.HypervisorUnavailable:
            return False
        return True

    processes.wait_until(reached, 60, 'the agent to reach the hypervisor')


def ask_anew(it: bench.Bench, requests: Collection[load.Request]) -> tuple[int, int, list[str]]:
    """Ask once more for what failed for want of the hypervisor and was not asked for otherwise since.

    To detach what was never attached is done if it is said not to be there. A disk that QEMU has, and libvirt does not
    know, for it was killed before it wrote that down, can be attached only after the guest was switched off.

    :return: how many were asked for, how many of those were such disks, and what became of those that were not done.
    """
    by_id = {request.id: request for request in requests}
    anew, never_there = [], set()
    for guest in it.guests:
        ids = it.ids(guest)
        for found in {found['device']: found for found in it.operations(guest)}.values():
            if found['state'] != 'failed' or found['error_class'] not in UNAVAILABLE:
                continue
            old = by_id[found['id']]
            anew.append(load.send(it, load.Request(old.guest, old.action, old.volume, old.more, by_call=True)))
            if old.action.startswith('detach') and old.volume not in ids:
                never_there.add(anew[-1].id)
    load.wait_ended(it, anew)
    left, not_done = 0, []
    for request in anew:
        found = it.operation(request.id) or {'state': 'unknown', 'error': '', 'error_class': None}
        if 'switch the guest off' in (found['error'] or '') and left_in_qemu(it, request):
            left += 1
            found = after_power_cycle(it, request)
        wanted = ('failed', 'DeviceNotFound') if request.id in never_there else ('succeeded', None)
        if (found['state'], found['error_class']) != wanted:
            not_done.append(f'{request.action} {found["state"]}, {found["error"]}')
    return len(anew), left, not_done


def left_in_qemu(it: bench.Bench, request: load.Request) -> bool:
    """Whether QEMU has a volume's disk that libvirt does not know."""
    if request.volume in it.ids(request.guest).live:
        return False
    command = json.dumps({'execute': 'qom-list', 'arguments': {'path': '/machine/peripheral'}})
    said = json.loads(libvirt_qemu.qemuMonitorCommand(it.domain(request.guest), command, 0))
    return f'ua-{request.volume}' in {entry['name'] for entry in said['return']}


def after_power_cycle(it: bench.Bench, request: load.Request) -> dict[str, Any]:
    """Switch a guest off and on, and ask once more; what became of it."""
    domain = it.domain(request.guest)
    domain.destroy()
    domain.create()
    again = load.send(it, load.Request(request.guest, request.action, request.volume, request.more, by_call=True))
    return it.wait_state(again.id, 'succeeded', 'failed')


def run(
    operations: int, kills: int, guests: int, seed: int, *, reconnect_timeout: float = 60.0, pause: float = 0.3
) -> Result:
    """Kill the daemon so many times under load, and look at what is said about it.

    :param reconnect_timeout: the agent's option; a short one makes operations fail.
    :param pause: seconds between two requests of a sender.
    """
    chance = random.Random(seed)
    options: Options = {'libvirt': {'reconnect_timeout': reconnect_timeout}}
    with bench.Bench(guests, options=options) as it:
        sending = load.Load(it, operations, seed, pause=pause)
        sending.start()
        try:
            for number in range(kills):
                sending.wait_taken((number + chance.random()) / (kills + 1))
                it.daemon.kill()
                time.sleep(chance.uniform(0.1, 2))
                it.daemon.start()
                if chance.random() < 0.5:  # else it may be gone again before the agent has found it
                    wait_reached(it)
        finally:
            sending.join()
        first = load.audit(it, sending.requests)
        wait_reached(it)
        lies = [lie for guest in it.guests for lie in untrue(it, guest)]
        anew, left, not_done = ask_anew(it, sending.requests)
        lies += [lie for guest in it.guests for lie in untrue(it, guest)]
        return Result(first, lies, anew, left, not_done)


def nameless(words: str) -> str:
    """Words without ids, to count those that say the same."""
    return _ID.sub('...', words)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--operations', type=int, default=300)
    parser.add_argument('--kills', type=int, default=6)
    parser.add_argument('--guests', type=int, default=12)
    parser.add_argument('--seed', type=int, default=1)
    chosen = parser.parse_args()
    bench.quiet()
    good = True
    # The second time the agent gives up at once, so that there are failures to look at.
    for reconnect_timeout, pause in ((60.0, 0.3), (0.0, 1.0)):
        begin = time.monotonic()
        result = run(
            chosen.operations,
            chosen.kills,
            chosen.guests,
            chosen.seed,
            reconnect_timeout=reconnect_timeout,
            pause=pause,
        )
        print(
            f'{chosen.kills} kills, reconnect_timeout {reconnect_timeout:g}, {time.monotonic() - begin:.0f} s: '
            f'{result.first.row()}, untrue {len(result.untrue)}; asked for anew {result.asked_anew}, '
            f'of these only after the guest was switched off {result.left_in_qemu}, '
            f'not done then {len(result.not_done_anew)}',
            flush=True,
        )
        for words, count in collections.Counter(map(nameless, result.first.errors)).items():
            print(f'  {count} {words}')
        for words in (*result.untrue, *result.not_done_anew, *result.first.lost):
            print(f'  BROKEN: {words}')
        good = good and result.kept
    return 0 if good else 1


if __name__ == '__main__':
    raise SystemExit(main())
