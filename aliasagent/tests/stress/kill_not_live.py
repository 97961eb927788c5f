# SPDX-License-Identifier: Apache-2.0
"""The agent is killed (SIGKILL) while it detaches interfaces that only the persistent config has an alias for.

python -m aliasagent.tests.stress.kill_not_live [--rounds 100] [--guests 4] [--seed N]

Runs on the parts that the environment names (``python -m sandbox up``), with a libvirtd and an agent of
its own. Each round makes its guests anew, each with an interface that has no alias; an inventory tells the agent whose
it is, so that the persistent config has the alias and the running guest does not. Then it is detached, and the agent is
killed at a random moment, and started again. The guests have no operating system: they never release the interface,
unless they are reset, as a part of them is while there is no agent.

At no moment may an operation have succeeded, or its device have been released, while libvirt's running definition has
the interface. Prints what was untrue; the exit code is 0 only if nothing was.
"""

import argparse
import collections
import dataclasses
import random
import time
from typing import Any

from aliasagent.context import RequestContext
from aliasagent.tests.contract import harness
from aliasagent.tests.stress import bench
from aliasagent.tests.stress.bench import Bench
from sandbox import materials
from sandbox import processes
from sandbox.agent import Options

#: Seconds within which the agent is killed after it was asked.
_LATEST = 0.6
_OPTIONS: Options = {'unplug': {'timeout': 0.4, 'attempts': 2}, 'reconcile': {'interval': 3600}}


@dataclasses.dataclass
class Found:
    """What came of it."""

    rounds: int = 0
    detaches: int = 0
    outcomes: 'collections.Counter[str]' = dataclasses.field(default_factory=collections.Counter)
    untrue: list[str] = dataclasses.field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether all that was said was true, and there was something to say."""
        return not self.untrue and self.outcomes.total() == self.detaches > 0

    def text(self) -> str:
        outcomes = ', '.join(f'{name} {count}' for name, count in sorted(self.outcomes.items()))
        first = f'{self.rounds} rounds, {self.detaches} detaches: {outcomes}; untrue: {len(self.untrue)}'
        return '\n'.join((first, *self.untrue))


class _Round:
    """One kill."""

    def __init__(self, place: Bench, bridge: str, guests: int, choices: random.Random, found: Found) -> None:
        self._place = place
        self._bridge = bridge
        self._count = guests
        self._choices = choices
        self._found = found
        #: Of each guest the MAC address of its interface, and of the operation on it the id.
        self._macs: dict[str, str] = {}
        self._operations: dict[str, str] = {}

    def play(self) -> None:
        self._found.rounds += 1
        self._make()
        self._ask()
        time.sleep(self._choices.random() * _LATEST)
        self._place.agent.kill()
        for guest in self._macs:
            if self._choices.random() < 0.3:
                self._place.domain(guest).reset()
        time.sleep(0.2)
        self._place.agent.start()
        self._judge_until_ended()
        for guest in self._macs:
            domain = self._place.domain(guest)
            domain.destroy()
            domain.undefine()

    def _make(self) -> None:
        for _number in range(self._count):
            instance, mac = harness.new_id(), harness.new_mac()
            interface = harness.interface_xml(self._bridge, mac)
            xml = bench.definition(instance).replace('</devices>', f'{interface}</devices>')
            self._place.connection.defineXML(xml).create()
            self._macs[instance] = mac

    def _ask(self) -> None:
        api = self._place.api()
        for guest, mac in self._macs.items():
            port = harness.new_id()
            inventory = {'ports': [{'id': port, 'address': mac}], 'volumes': []}
            told = RequestContext()
            api.submit(told, 'reconcile_instance', instance_uuid=guest, inventory=inventory)
            self._place.wait_state(told.operation_id, 'succeeded')
            ids = self._place.ids(guest)
            assert (port in ids.live, port in ids.persistent) == (False, True), 'it is not as after a reconcile'
            asked = RequestContext()
            api.submit(asked, 'detach', instance_uuid=guest, device_id=port)
            self._operations[guest] = asked.operation_id
        self._found.detaches += len(self._operations)

    def _judge_until_ended(self) -> None:
        open_ = dict(self._operations)

        def ended() -> bool:
            for guest, operation_id in list(open_.items()):
                operation = self._place.operation(operation_id)
                if operation is not None and self._is_ended(guest, operation):
                    self._found.outcomes[operation['error_class'] or operation['state']] += 1
                    del open_[guest]
            return not open_

        processes.wait_until(ended, harness.SOON * 2, 'the operations to end', interval=0.05)

    def _is_ended(self, guest: str, operation: dict[str, Any]) -> bool:
        # Read after the agent's word: what is there now was there when it was said.
        has_it = self._macs[guest] in self._place.domain(guest).XMLDesc(0)
        gone = operation['state'] == 'succeeded' or operation['released_at'] is not None
        if gone and has_it:
            self._found.untrue.append(f'{guest} has {self._macs[guest]}: {operation}')
        return operation['state'] in ('succeeded', 'failed')


def run(rounds: int, guests: int, seed: int) -> Found:
    """Play so many rounds."""
    choices, found = random.Random(seed), Found()
    bridge = materials.make_bridge()
    try:
        with Bench(0, options=_OPTIONS) as place:
            for number in range(1, rounds + 1):
                _Round(place, bridge, guests, choices, found).play()
                if number % 10 == 0:
                    print(found.text(), flush=True)
    finally:
        materials.remove_bridge(bridge)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=100)
    parser.add_argument('--guests', type=int, default=4)
    parser.add_argument('--seed', type=int, default=random.randrange(2**32))
    chosen = parser.parse_args()
    bench.quiet()
    print(f'seed {chosen.seed}', flush=True)
    found = run(chosen.rounds, chosen.guests, chosen.seed)
    print(found.text())
    return 0 if found.good else 1


if __name__ == '__main__':
    raise SystemExit(main())
