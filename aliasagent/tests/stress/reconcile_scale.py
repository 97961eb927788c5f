# SPDX-License-Identifier: Apache-2.0
"""How long a pass over many guests takes, beside the floor: the same libvirt calls and lxml parses in bare loops.

python -m aliasagent.tests.stress.reconcile_scale [--guests 1000] [--devices 20]

Runs on the parts that the environment names (``python -m sandbox up``). Defines twice as many guests as
it is told: one half for the agent's pass, one for the bare loops, in turn, 250 at a time, so that both meet the same
noise.
"""

import argparse
import dataclasses
import functools
import time
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import libvirt
from lxml import etree

from aliasagent.operations.queues import GuestQueues
from aliasagent.reconcile import passes
from aliasagent.virt import host
from aliasagent.virt.host import Host
from aliasagent.virt.host import Listed
from sandbox import environment

INACTIVE = 2 | 1  # VIR_DOMAIN_XML_INACTIVE and _SECURE
CONFIG = 2
WIDTH = 4  # as the agent's pass
BATCH = 250


def definition(instance: str, devices: int, *, aliased: bool = False) -> str:
    """A guest with so many devices, each saying whose it is; none has its alias, or all have."""
    ids = [str(uuid.uuid4()) for _ in range(devices)]
    aliases = [f"<alias name='ua-{each}'/>" if aliased else '' for each in ids]
    both = list(zip(ids, aliases, strict=True))
    disks = ''.join(
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/srv/{instance}-{number}.img'/>"
        f"<target dev='sd{chr(97 + number)}' bus='scsi'/><serial>{serial}</serial>{alias}</disk>"
        for number, (serial, alias) in enumerate(both[: devices * 3 // 4])
    )
    interfaces = ''.join(
        f"<interface type='bridge'><source bridge='br-int'/><virtualport type='openvswitch'>"
        f"<parameters interfaceid='{port}'/></virtualport><model type='virtio'/>{alias}</interface>"
        for port, alias in both[devices * 3 // 4 :]
    )
    return f"""
<domain type='qemu'><name>scale-{instance}</name><uuid>{instance}</uuid><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><controller type='scsi' index='0' model='virtio-scsi'/>{disks}{interfaces}</devices></domain>"""


def bare(domain: Any, devices: int) -> None:
    """What a pass has to do at a guest, with nothing around it."""
    domain.isPersistent()
    text = domain.XMLDesc(INACTIVE)
    for _number in range(devices):
        root: Any = etree.fromstring(text)
        (element, *_others) = root.xpath('devices/*[self::disk or self::interface][not(alias)]')
        (whose,) = element.xpath('serial/text() | virtualport/parameters/@interfaceid')
        etree.SubElement(element, 'alias', name=f'ua-{whose}')
        domain.updateDeviceFlags(etree.tostring(element, encoding='unicode'), CONFIG)
        text = domain.XMLDesc(INACTIVE)
    etree.fromstring(text)
    domain.XMLDesc(0)


def bare_idle(connection: Any, instances: list[str]) -> None:
    """What a pass over guests on which nothing changed has to do: list them with their states, read each definition."""
    some = frozenset(instances)
    only_transient = libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT
    transient = {domain.UUIDString() for domain in connection.listAllDomains(only_transient)}

    def read(domain: Any) -> None:
        if domain.UUIDString() not in transient:
            domain.XMLDesc(INACTIVE)
        if domain.ID() != -1:
            domain.XMLDesc(0)

    with futures.ThreadPoolExecutor(WIDTH) as pool:
        list(pool.map(read, (domain for domain in connection.listAllDomains(0) if domain.UUIDString() in some)))


class Only:
    """A host that has only some of its guests."""

    def __init__(self, real: Host, instances: list[str]) -> None:
        self._real = real
        self._instances = frozenset(instances)
        self.guest = real.guest

    def subscribe(self, _listener: object) -> None:
        """Not told of guests that are defined, or it would not leave the bare loops theirs."""

    def listed(self, spread: int) -> list[Listed]:
        return [each for each in self._real.listed(spread) if each.guest.uuid in self._instances]


@dataclasses.dataclass
class Times:
    """Seconds, summed over all batches."""

    first: float = 0.0
    idle: float = 0.0
    bare_first: float = 0.0
    bare_idle: float = 0.0


def timed(function: Callable[[], object]) -> float:
    begin = time.monotonic()
    function()
    return time.monotonic() - begin


def each(connection: Any, instances: list[str], function: Callable[[Any], None]) -> None:
    """Do something to each guest, as many side by side as the agent does."""
    with futures.ThreadPoolExecutor(WIDTH) as pool:
        list(pool.map(lambda instance: function(connection.lookupByUUIDString(instance)), instances))


def batches(guests: int) -> Iterator[int]:
    for begin in range(0, guests, BATCH):
        yield min(BATCH, guests - begin)


def run(guests: int, devices: int) -> Times:
    """Define, reconcile both ways, check that both did the same work, and take everything away."""
    parts = environment.read()
    connection = host.open_libvirt(parts.libvirt_uri)
    real = Host(parts.libvirt_uri)
    real.start()
    assert real.wait_connected(30)
    times, made = Times(), list[str]()
    try:
        for size in batches(guests):
            ours, theirs = ([str(uuid.uuid4()) for _ in range(size)] for _ in range(2))
            for instance in (*ours, *theirs):
                connection.defineXML(definition(instance, devices))
                made.append(instance)
            queues = GuestQueues(16)
            only = Only(real, ours)
            reconciler = passes.Reconciler(only, queues.submit, queues.submit_if_idle)  # type: ignore[arg-type]
            times.first += timed(reconciler.run)
            times.bare_first += timed(functools.partial(each, connection, theirs, lambda it: bare(it, devices)))
            times.idle += timed(reconciler.run)
            times.bare_idle += timed(functools.partial(bare_idle, connection, theirs))
            queues.close()
            for instance in (*ours, *theirs):
                text = connection.lookupByUUIDString(instance).XMLDesc(INACTIVE)
                assert text.count("<alias name='ua-") == devices, f'{instance} has not all of its aliases'
            given = sum(len(look.report.given) for look in reconciler.statuses().values())
            assert given == size * devices, f'{given} aliases given, not {size * devices}'
    finally:
        for instance in made:
            connection.lookupByUUIDString(instance).undefine()
        real.close()
        connection.close()
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--guests', type=int, default=1000)
    parser.add_argument('--devices', type=int, default=20)
    chosen = parser.parse_args()
    times = run(chosen.guests, chosen.devices)
    print(f'{chosen.guests} guests with {chosen.devices} devices each, all aliased by both')
    for name, ours, theirs in (
        ('first pass', times.first, times.bare_first),
        ('idle pass', times.idle, times.bare_idle),
    ):
        print(f'{name:12} {ours:8.2f} s   bare {theirs:8.2f} s   ratio {ours / theirs:.2f}')
    print(f'an idle pass is {times.idle / times.first:.1%} of the first')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
