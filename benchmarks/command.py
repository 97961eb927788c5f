# SPDX-License-Identifier: Apache-2.0
"""How long a person waits for the command, and what importing the client costs a program.

Each turn is a process of its own, as in a shell. ``guest list`` asks an agent through RabbitMQ, ``virsh list`` asks the
same libvirtd; both must show the same guests. ``openstack`` is the client in Nova's environment, which shows only its
own version; without Nova it is left out.
"""

import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Sequence

from aliasagent.tests.stress.bench import Bench
from benchmarks import disks
from benchmarks import harness
from benchmarks.harness import Comparison
from benchmarks.harness import Result
from benchmarks.harness import Sample
from benchmarks.harness import Setting

TITLE = 'The command, from its start to its end'
_GUESTS = 4
_SECONDS = 60
#: How many modules the profile shows.
_MODULES = 25
_UUID = re.compile(r'[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}')
#: Imports, and prints how long that took and whether oslo.messaging is there then.
_IMPORT = """
import sys, time
begin = time.perf_counter()
%s
print(time.perf_counter() - begin, 'oslo_messaging' in sys.modules)
"""
_BOUND = "Python's start, and the modules of cliff, oslo.config and py-amqp: see the profile"


def run(setting: Setting) -> Result:
    result = Result([], [])
    command = str(pathlib.Path(sys.executable).with_name('aliasagent'))
    with Bench(_GUESTS, options=disks.OPTIONS) as bench:
        listing = [command, '--config-file', str(bench.agent.config), 'guest', 'list']
        virsh = ['virsh', '--connect', bench.daemon.uri, 'list', '--all', '--uuid']
        setting.say('command: guest list ...')
        samples = harness.take_turns(
            setting.rounds, {harness.OURS: _turn(listing, _guests), 'virsh list': _turn(virsh, _guests)}
        )
        _compared(result, 'guest list', samples, 0.45)
        result.profile = _profile(listing)
    setting.say('command: --version ...')
    contenders = {harness.OURS: _turn([command, '--version'], _has_version)}
    if setting.python is not None:
        openstack = str(pathlib.Path(setting.python).with_name('openstack'))
        contenders['openstack'] = _turn([openstack, '--version'], _has_version)
    _compared(result, '--version', harness.take_turns(setting.rounds, contenders), 0.25)
    setting.say('command: import ...')
    samples = harness.take_turns(
        setting.rounds,
        {
            harness.OURS: _importing('from aliasagent.client import ComputeAPI, transport'),
            'oslo.messaging': _importing('import oslo_messaging'),
        },
    )
    comparison = Comparison('import of the client', 's', samples)
    result.comparisons.append(comparison)
    result.aims.append(
        harness.aim('import of aliasagent.client, of oslo.messaging', comparison.ratio('oslo.messaging'), 1.15)
    )
    return result


def _compared(result: Result, name: str, samples: dict[str, list[float]], seconds: float) -> None:
    comparison = Comparison(f'aliasagent {name}', 's', samples)
    result.comparisons.append(comparison)
    found = comparison.summary(harness.OURS)
    result.aims.append(harness.aim(f'{comparison.name}, in seconds', found, seconds, bounded_by=_BOUND))


def _output(words: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, check=True, capture_output=True, text=True, timeout=_SECONDS, env={**os.environ, **environment}
    )


def _turn(words: Sequence[str], outcome: Callable[[str], object]) -> harness.Turn:
    def turn() -> Sample:
        begin = time.monotonic()
        done = _output(words)
        return Sample(time.monotonic() - begin, outcome(done.stdout))

    return turn


def _importing(statement: str) -> harness.Turn:
    def turn() -> Sample:
        seconds, is_there = _output([sys.executable, '-W', 'ignore', '-c', _IMPORT % statement]).stdout.split()
        return Sample(float(seconds), is_there)

    return turn


def _guests(output: str) -> list[str]:
    """The guests that a list shows.

    :raises Differs: not all of them are there.
    """
    found = sorted(_UUID.findall(output))
    if len(found) != _GUESTS:
        raise harness.Differs(f'a list shows {len(found)} of {_GUESTS} guests')
    return found


def _has_version(output: str) -> bool:
    return re.search(r'\d+\.\d+', output) is not None


def _profile(words: Sequence[str]) -> str:
    """The modules that a command loads, the dearest first."""
    lines = _output(words, PYTHONPROFILEIMPORTTIME='1').stderr.splitlines()
    head, *modules = [line for line in lines if line.startswith('import time:')]
    modules.sort(key=lambda line: int(line.split(':')[1].split('|')[0]), reverse=True)
    return '\n'.join([head, *modules[:_MODULES]])
