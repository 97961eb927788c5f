# SPDX-License-Identifier: Apache-2.0
"""The agent's own CPU in one whole detach, live and persistent, with the hypervisor stubbed alike for both.

Both begin with the guest in hand and end when the guest has let go. Ours has its whole driver, with the queue and the
thread through which an event comes; Nova is handed the event directly, which is in its favour.
"""

import contextlib
import dataclasses
import functools
from typing import Any

from aliasagent.allowed.rules import Bounds
from aliasagent.virt.driver import Driver
from aliasagent.virt.host import Host
from aliasagent.virt.leaving import RetryPolicy
from aliasagent.virt.unplug import Unplugs
from benchmarks import definitions
from benchmarks import harness
from benchmarks import stub
from benchmarks.harness import Comparison
from benchmarks.harness import Result
from benchmarks.harness import Sample
from benchmarks.harness import Setting
from benchmarks.nova import Nova

TITLE = "The agent's own CPU in one whole detach"
_SIZES = (10, 50, 100, 250)
_WORK = 1000
_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class _Case:
    """A guest whose last disk is taken out."""

    guest: definitions.Made
    before: dict[str, str]
    after: dict[str, str]

    @property
    def device(self) -> str:
        return self.guest.disks[-1]


def _case(devices: int) -> _Case:
    guest = definitions.make(devices)
    before = {'live': guest.text(live=True), 'persistent': guest.text(live=False)}
    gone = guest.disks[-1]
    after = {'live': guest.text(live=True, without=gone), 'persistent': guest.text(live=False, without=gone)}
    return _Case(guest, before, after)


class _Ours:
    """Our driver, on the stub."""

    def __init__(self) -> None:
        self.connection = stub.Connection()
        self._host = Host('stub:///', opener=lambda _uri: self.connection)
        self._host.start()
        assert self._host.wait_connected(_SECONDS)
        self._unplugs = Unplugs(self._host)
        self._driver = Driver(self._host, self._unplugs, lambda: RetryPolicy(_SECONDS, 1), Bounds.everything)

    def detach(self, instance: str, device: str) -> None:
        assert self.connection.domain is not None
        self.connection.domain.refill()
        self._driver.detach(instance, device, 'disk').result(_SECONDS)

    def close(self) -> None:
        self._unplugs.close()
        self._host.close()


def run(setting: Setting) -> Result:
    result = Result([], [])
    with (
        harness.one_processor(),
        contextlib.closing(_Ours()) as us,
        setting.nova() or contextlib.nullcontext() as nova,
    ):
        _run(setting, us, nova, result)
    return result


def _run(setting: Setting, us: _Ours, nova: Nova | None, result: Result) -> None:
    counts: dict[str, dict[str, int]] = {}
    for devices in _SIZES:
        case, repeat = _case(devices), setting.repeat(_WORK // devices)
        alias = f'ua-{case.device}'
        domain = stub.Domain(case.guest.instance, alias, case.before, case.after, us.connection.removed)
        us.connection.domain = domain
        whole = functools.partial(us.detach, case.guest.instance, case.device)

        def our_turn(whole: Any = whole, repeat: int = repeat, domain: stub.Domain = domain) -> Sample:
            seconds, _nothing = harness.cpu_seconds(whole, repeat)
            counts[harness.OURS] = domain.calls
            return Sample(seconds, domain.outcome())

        def nova_turn(repeat: int = repeat) -> Sample:
            assert nova is not None
            answer = nova.ask('detach', repeat=repeat)
            counts['nova'] = answer['calls']
            return Sample(answer['seconds'], answer['outcome'])

        contenders: dict[str, harness.Turn] = {harness.OURS: our_turn}
        if nova is not None:
            nova.ask(
                'prepare_detach',
                instance=case.guest.instance,
                device=case.device,
                target=definitions.target(len(case.guest.disks) - 1),
                before=case.before,
                after=case.after,
            )
            contenders['nova'] = nova_turn
        samples = harness.take_turns(setting.rounds, contenders)
        if not all(domain.outcome().values()):
            raise harness.Differs(f'the device is still there: {domain.outcome()}')
        result.comparisons.append(
            Comparison(f'{devices} devices', 's', samples, 'detach', devices, 'devices in the definition')
        )
    result.notes += [f'{name}: calls in one detach: {calls}' for name, calls in counts.items()]
    result.profile = harness.profiled(whole, setting.repeat(200))
    if nova is not None:
        result.aims += [
            harness.aim('a detach among 250 takes at most 1/10 of Nova', result.comparisons[-1].ratio('nova'), 1 / 10),
            # Two to find the device, and two to prove that it is gone.
            harness.counted('XMLDesc calls in a detach', counts[harness.OURS]['XMLDesc'], 4),
        ]
