# SPDX-License-Identifier: Apache-2.0
"""One guest with up to 250 disks and 30 interfaces: attach the next disk, list, detach, and reconcile.

The driver and the reconciler work in this process: what lies between a request and them, the broker and the journal, is
the same for all guests, and ``end-to-end`` has it. The bare contender makes the calls without which the work is not
done, and parses what it reads. The guest runs and has no operating system: a SCSI disk goes without the guest's help.
The guest whose devices get their aliases is shut off, and new in each turn.
"""

import contextlib
import dataclasses
import functools
import math
import pathlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from lxml import etree

from aliasagent.allowed.rules import Bounds
from aliasagent.devices import drives
from aliasagent.operations.queues import GuestQueues
from aliasagent.reconcile import passes
from aliasagent.tests.contract import harness as contract
from aliasagent.tests.contract import requests
from aliasagent.tests.stress import reconcile_scale as scale
from aliasagent.virt.driver import Driver
from aliasagent.virt.host import Host
from aliasagent.virt.host import open_libvirt
from aliasagent.virt.leaving import RetryPolicy
from aliasagent.virt.unplug import Unplugs
from benchmarks import all_threads
from benchmarks import definitions
from benchmarks import harness
from benchmarks.bare_calls import BareCalls
from benchmarks.harness import Comparison
from benchmarks.harness import Result
from benchmarks.harness import Sample
from benchmarks.harness import Setting
from sandbox import environment
from sandbox import materials

TITLE = 'One guest with many devices'
#: Disks and interfaces of the guest, each of the disks on one virtio-scsi controller.
SIZES = ((25, 3), (50, 6), (125, 15), (250, 30))
#: How many times as many devices the last of them has as the first.
_TIMES = 10
#: What grows as the definition does has a power of 1; the rest is for the noise.
_MOST_POWER = 1.1
ATTACH, LIST, DETACH = 'attach of the next disk', 'list of the devices', 'detach of a disk'
AGAIN, FIRST = 'reconcile, nothing to do', 'reconcile, no aliases yet'
#: A first reconcile of the largest guest takes seconds: it has a turn for each so many of the others.
_FEWER = 5
_BOUND = 'the calls: two for each device, each of which writes or reads the whole definition'


@dataclasses.dataclass
class _Parts:
    """What all turns need."""

    connection: Any
    bare: BareCalls
    driver: Driver
    reconciler: passes.Reconciler
    directory: pathlib.Path


def run(setting: Setting) -> Result:
    result = Result([], [])
    with _parts() as parts:
        for disks, interfaces in SIZES:
            setting.say(f'scale-up with {disks} disks ...')
            with _running(parts, disks, interfaces) as guest:
                samples = {**_changes(setting, parts, guest, disks), **_looks(setting, parts, guest)}
                if (disks, interfaces) == SIZES[-1]:
                    result.profile = all_threads.profiled(lambda: [_ours(parts, guest, disks) for _ in range(20)])  # noqa: B023
            samples[FIRST] = _first(setting, parts, disks, interfaces)
            result.comparisons += [
                Comparison(f'{disks} disks, {work}', 's', found, work, disks, 'disks; an interface for each 8')
                for work, found in samples.items()
            ]
    for work in (ATTACH, LIST, DETACH, AGAIN, FIRST):
        _report(result, work)
    return result


def _report(result: Result, work: str) -> None:
    """How the time for a piece of work grows from the smallest guest to the largest."""
    points = [comparison for comparison in result.comparisons if comparison.curve == work]
    least, most = points[0], points[-1]
    words = [
        f'{contender} {_milliseconds(least, contender)} to {_milliseconds(most, contender)} ms, '
        f'as n^{_power(least, most, contender):.1f}'
        for contender in least.samples
    ]
    result.notes.append(f'{work}, from {least.at} to {most.at} disks: {"; ".join(words)}')
    if work == FIRST:
        result.aims.append(
            harness.aim(f'{work}, {most.at} disks: at most 1.3 times bare', most.ratio('bare'), 1.3, bounded_by=_BOUND)
        )
    else:
        power = _power(least, most, harness.OURS)
        result.aims.append(harness.counted(f'{work}: grows as a power of the number of devices', power, _MOST_POWER))


def _milliseconds(comparison: Comparison, contender: str) -> str:
    return f'{comparison.summary(contender).median * 1000:,.0f}'


def _power(least: Comparison, most: Comparison, contender: str) -> float:
    """With which power of the number of devices the time grows: 1 if it doubles with them."""
    return math.log(most.summary(contender).median / least.summary(contender).median, _TIMES)


# The guest


def _definition(parts: _Parts, instance: str, disks: int, interfaces: int, *, aliased: bool) -> str:
    """A guest with so many devices, which boots nothing.

    :param aliased: whether each device has its alias; one that has none says whose it is.
    """
    ids = [str(uuid.uuid4()) for _ in range(disks + interfaces)]
    some = [_disk(parts, number, whose, aliased=aliased) for number, whose in enumerate(ids[:disks])]
    some += [_interface(whose, aliased=aliased) for whose in ids[disks:]]
    return f"""
<domain type='qemu'><name>scale-up-{instance}</name><uuid>{instance}</uuid><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
<devices><controller type='scsi' index='0' model='virtio-scsi'/><controller type='usb' model='none'/>{''.join(some)}
<memballoon model='none'/></devices></domain>"""


def _disk(parts: _Parts, number: int, whose: str, *, aliased: bool) -> str:
    image = materials.make_disk(parts.directory / f'disk-{number}')
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{image}'/>"
        f"<target dev='{definitions.target(number)}' bus='scsi'/><serial>{whose}</serial>"
        f"{_alias(whose) if aliased else ''}"
        f"<address type='drive' controller='0' bus='0' target='0' unit='{number}'/></disk>"
    )


def _interface(whose: str, *, aliased: bool) -> str:
    if aliased:
        return f"<interface type='ethernet'><model type='virtio'/>{_alias(whose)}</interface>"
    return (
        "<interface type='bridge'><source bridge='br-int'/><virtualport type='openvswitch'>"
        f"<parameters interfaceid='{whose}'/></virtualport><model type='virtio'/></interface>"
    )


def _alias(whose: str) -> str:
    return f"<alias name='ua-{whose}'/>"


@contextlib.contextmanager
def _running(parts: _Parts, disks: int, interfaces: int) -> Iterator[str]:
    """A running guest, each of whose devices has its alias."""
    instance = str(uuid.uuid4())
    domain = parts.connection.defineXML(_definition(parts, instance, disks, interfaces, aliased=True))
    try:
        domain.create()
        yield instance
    finally:
        if domain.isActive():
            domain.destroy()
        domain.undefine()


@contextlib.contextmanager
def _parts() -> Iterator[_Parts]:
    there = environment.read()
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(tempfile.mkdtemp(dir=there.directory))
        stack.callback(shutil.rmtree, directory)
        host = Host(there.libvirt_uri)
        stack.callback(host.close)
        host.start()
        assert host.wait_connected(30)
        connection = open_libvirt(there.libvirt_uri)
        stack.callback(connection.close)
        bare = stack.enter_context(contextlib.closing(BareCalls(connection)))
        unplugs = stack.enter_context(contextlib.closing(Unplugs(host)))
        driver = Driver(host, unplugs, lambda: RetryPolicy(timeout=20.0, attempts=8), Bounds.everything)
        queues = stack.enter_context(contextlib.closing(GuestQueues(2)))
        # It hears of no guest, for it would reconcile what the bare contender is to reconcile.
        only: Any = scale.Only(host, [])
        yield _Parts(
            connection, bare, driver, passes.Reconciler(only, queues.submit, queues.submit_if_idle), directory
        )


# The work


def _changes(setting: Setting, parts: _Parts, guest: str, disks: int) -> dict[str, dict[str, list[float]]]:
    """Attach and detach the next disk."""
    attached: dict[str, list[float]] = {harness.OURS: [], 'bare': []}

    def turn(name: str, pair: Callable[[_Parts, str, int], tuple[float, float, str]]) -> Sample:
        attach, detach, text = pair(parts, guest, disks)
        attached[name].append(attach)
        if _saved(parts, guest) != empty:
            raise harness.Differs('the guest is not as it was')
        return Sample(detach, text)

    empty = _saved(parts, guest)
    contenders = {
        name: functools.partial(turn, name, pair) for name, pair in ((harness.OURS, _ours), ('bare', _theirs))
    }
    detached = harness.take_turns(setting.rounds, contenders)
    # Without the round that warms up.
    return {ATTACH: {name: some[1:] for name, some in attached.items()}, DETACH: detached}


def _ours(parts: _Parts, guest: str, disks: int) -> tuple[float, float, str]:
    """The seconds of the attach and of the detach, and the saved definition in between."""
    volume, info = _next(parts)
    request = requests.volume(volume, info, disk_bus='scsi', device_name=definitions.target(disks))
    attach = scale.timed(lambda: parts.driver.attach(guest, request))
    text = _saved(parts, guest)
    return attach, scale.timed(lambda: parts.driver.detach(guest, volume).result(60)), text


def _theirs(parts: _Parts, guest: str, disks: int) -> tuple[float, float, str]:
    volume, info = _next(parts)
    disk = requests.volume(volume, info).disk(target=definitions.target(disks), bus='scsi')
    drives.put(disk, drives.Place(0, disks))
    domain, xml = parts.connection.lookupByUUIDString(guest), disk.to_xml()
    attach = scale.timed(lambda: parts.bare.attach(domain, xml))
    text = _saved(parts, guest)
    return attach, scale.timed(lambda: parts.bare.detach(guest, domain, f'ua-{volume}')), text


def _next(parts: _Parts) -> tuple[str, dict[str, Any]]:
    """The disk that comes and goes: its id, which is the same each time, and its ``connection_info``."""
    volume = str(uuid.uuid5(uuid.NAMESPACE_OID, 'next'))
    return volume, contract.file_connection(materials.make_disk(parts.directory / 'next'))


def _saved(parts: _Parts, guest: str) -> str:
    text: str = parts.connection.lookupByUUIDString(guest).XMLDesc(scale.INACTIVE)
    return text


def _looks(setting: Setting, parts: _Parts, guest: str) -> dict[str, dict[str, list[float]]]:
    """What changes nothing: a list, and a reconcile of a guest whose devices have their aliases."""

    def ours_listed() -> Sample:
        begin = time.monotonic()
        entries = parts.driver.list_devices(guest)
        seconds = time.monotonic() - begin
        return Sample(seconds, {entry.alias for entry in entries if entry.alias and entry.live and entry.persistent})

    def ours_reconciled() -> Sample:
        begin = time.monotonic()
        status = parts.reconciler.reconcile(guest)
        return Sample(time.monotonic() - begin, {step.alias for step in status.report.steps})

    def bare() -> Sample:
        domain = parts.connection.lookupByUUIDString(guest)
        begin = time.monotonic()
        saved, live = (_aliases(domain.XMLDesc(flags)) for flags in (scale.INACTIVE, 0))
        return Sample(time.monotonic() - begin, saved & live)

    return {
        LIST: harness.take_turns(setting.rounds, {harness.OURS: ours_listed, 'bare': bare}),
        AGAIN: harness.take_turns(setting.rounds, {harness.OURS: ours_reconciled, 'bare': bare}),
    }


def _aliases(text: str) -> set[str]:
    """The user aliases of a definition."""
    root: Any = etree.fromstring(text)
    return {name for name in root.xpath('devices/*/alias/@name') if name.startswith('ua-')}


def _first(setting: Setting, parts: _Parts, disks: int, interfaces: int) -> dict[str, list[float]]:
    """Give all devices of a guest their aliases."""

    def turn(reconcile: Callable[[str], object]) -> Sample:
        instance = str(uuid.uuid4())
        domain = parts.connection.defineXML(_definition(parts, instance, disks, interfaces, aliased=False))
        try:
            seconds = scale.timed(lambda: reconcile(instance))
            return Sample(seconds, domain.XMLDesc(scale.INACTIVE).count("<alias name='ua-"))
        finally:
            domain.undefine()

    def theirs(instance: str) -> None:
        scale.bare(parts.connection.lookupByUUIDString(instance), disks + interfaces)

    contenders = {
        harness.OURS: functools.partial(turn, parts.reconciler.reconcile), 'bare': functools.partial(turn, theirs),
    }  # fmt: skip
    return harness.take_turns(max(2, setting.rounds // _FEWER), contenders, warm_up=False)
