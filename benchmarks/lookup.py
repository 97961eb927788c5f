# SPDX-License-Identifier: Apache-2.0
"""Find one device by its alias, given a definition's text: there, and not there."""

import uuid
from typing import Any

from lxml import etree

from aliasagent.devices.domain import Domain
from benchmarks import definitions
from benchmarks import harness
from benchmarks.harness import Comparison
from benchmarks.harness import Result
from benchmarks.harness import Sample
from benchmarks.harness import Setting

TITLE = 'Find a device by its alias in a definition'
_SIZES = (10, 50, 100, 250)
#: How many devices' worth of text a turn goes through: a turn takes some hundredths of a second.
_WORK = 2500
_LARGEST = _SIZES[-1]


def ours(text: str, alias: str) -> Any:
    """As the driver looks for a device in what it read."""
    found = Domain.parse(text).by_alias(alias)
    return None if not found else [found[0].kind, found[0].target, found[0].alias]


def floor(text: str, alias: str) -> Any:
    """lxml's parse and one find, and nothing else."""
    element = etree.fromstring(text).find(f"devices/*/alias[@name='{alias}']")
    if element is None:
        return None
    device: Any = element.getparent()
    return [device.tag, device.find('target').get('dev'), alias]


def run(setting: Setting) -> Result:
    result = Result([], [])
    nova = setting.nova()
    if nova is None:
        _run(setting, None, result)
    else:
        with nova:
            _run(setting, nova, result)
    return result


def _run(setting: Setting, nova: Any, result: Result) -> None:
    for devices in _SIZES:
        guest = definitions.make(devices)
        text = guest.text(live=True)
        for case, device in (('hit', guest.disks[-1]), ('miss', str(uuid.uuid4()))):
            alias, repeat = f'ua-{device}', _WORK // devices
            contenders: dict[str, harness.Turn] = {
                harness.OURS: lambda: Sample(*harness.cpu_seconds(lambda: ours(text, alias), repeat)),
                'lxml': lambda: Sample(*harness.cpu_seconds(lambda: floor(text, alias), repeat)),
            }
            if nova is not None:
                contenders['nova'] = lambda: _nova(nova.ask('lookup', text=text, alias=alias, repeat=repeat))
            result.comparisons.append(
                Comparison(
                    f'{devices} devices, {case}', 's', harness.take_turns(setting.rounds, contenders),
                    curve=case, at=devices, along='devices in the definition',
                )
            )  # fmt: skip
    text = guest.text(live=True)
    alias = f'ua-{guest.disks[-1]}'
    result.profile = harness.profiled(lambda: ours(text, alias), 200)
    if nova is not None:
        hit, miss = result.comparisons[-2:]
        result.aims += [
            harness.aim('a hit among 250 takes at most 1/2.5 of Nova', hit.ratio('nova'), 1 / 2.5),
            harness.aim('a miss among 250 takes at most 1/10 of Nova', miss.ratio('nova'), 1 / 10),
        ]


def _nova(answer: dict[str, Any]) -> Sample:
    return Sample(answer['seconds'], answer['outcome'])
