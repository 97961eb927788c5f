# SPDX-License-Identifier: Apache-2.0
"""Find one device by its alias, given a definition's text: there, and not there.

A third case is what both do in a detach when there is no such alias: they look for the device by other means. Nova
looks for the target that it remembers, we for whatever says whose a device is.
"""

import contextlib
import uuid
from collections.abc import Callable
from typing import Any

from lxml import etree

from aliasagent.devices import alias
from aliasagent.devices import identity
from aliasagent.devices.domain import Domain
from benchmarks import definitions
from benchmarks import harness
from benchmarks.harness import Comparison
from benchmarks.harness import Result
from benchmarks.harness import Sample
from benchmarks.harness import Setting
from benchmarks.nova import Nova

TITLE = 'Find a device by its alias in a definition'
_SIZES = (10, 50, 100, 250)
#: How many devices' worth of text a turn goes through: a turn takes some hundredths of a second.
_WORK = 2500


def ours(text: str, device: str) -> Any:
    """As the driver looks for a device in what it read: by its alias."""
    found = Domain.read(text).by_alias(alias.make(device))
    return None if not found else [found[0].kind, found[0].target, found[0].alias]


def ours_by_all(text: str, device: str) -> Any:
    """As the driver looks for a device: by its alias, and then by what else tells whose a device is."""
    found = identity.find(Domain.read(text), device)
    return None if found is None else [found.device.kind, found.device.target, found.device.alias]


def floor(text: str, device: str) -> Any:
    """lxml's parse and one find, and nothing else."""
    element = etree.fromstring(text).find(f"devices/*/alias[@name='ua-{device}']")
    if element is None:
        return None
    parent: Any = element.getparent()
    return [parent.tag, parent.find('target').get('dev'), f'ua-{device}']


_OURS = {'hit': ours, 'miss': ours, 'miss, after the fallback': ours_by_all}


def run(setting: Setting) -> Result:
    result = Result([], [])
    with harness.one_processor(), setting.nova() or contextlib.nullcontext() as nova:
        for devices in _SIZES:
            guest = definitions.make(devices)
            text = guest.text(live=True)
            for case in _OURS:
                device = guest.disks[-1] if case == 'hit' else str(uuid.uuid4())
                contenders = _contenders(nova, case, text, device, setting.repeat(_WORK // devices))
                samples = harness.take_turns(setting.rounds, contenders)
                result.comparisons.append(
                    Comparison(f'{devices} devices, {case}', 's', samples, case, devices, 'devices in the definition')
                )
    device = guest.disks[-1]
    result.profile = harness.profiled(lambda: ours(text, device), setting.repeat(200))
    if nova is not None:
        hit, miss, _with_fallback = result.comparisons[-3:]
        result.aims += [
            harness.aim('a hit among 250 takes at most 1/2.5 of Nova', hit.ratio('nova'), 1 / 2.5),
            harness.aim('a miss among 250 takes at most 1/10 of Nova', miss.ratio('nova'), 1 / 10),
        ]
    return result


def _contenders(nova: Nova | None, case: str, text: str, device: str, repeat: int) -> dict[str, harness.Turn]:
    def turn(function: Callable[[str, str], Any]) -> harness.Turn:
        return lambda: Sample(*harness.cpu_seconds(lambda: function(text, device), repeat))

    contenders = {harness.OURS: turn(_OURS[case]), 'lxml': turn(floor)}
    if nova is not None:
        asked = {'text': text, 'device': device, 'fallback': 'fallback' in case, 'repeat': repeat}

        def nova_turn() -> Sample:
            answer = nova.ask('lookup', **asked)
            return Sample(answer['seconds'], answer['outcome'])

        contenders['nova'] = nova_turn
    return contenders
