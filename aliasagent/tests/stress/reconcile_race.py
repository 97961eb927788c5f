# SPDX-License-Identifier: Apache-2.0
"""Another client changes the persistent config while the agent reconciles it: is each of its changes there at the end?

python -m aliasagent.tests.stress.reconcile_race [--rounds 500]

Each round, a shut-off guest of real libvirt has disks without aliases. One thread reconciles it. At the same time
another client attaches two disks, detaches one, edits one that is not the agent's business, and edits one that the
agent is about to give its alias: the worst there is, for libvirt has no compare-and-swap. Prints what was done and what
was lost.
"""

import argparse
import collections
import random
import threading
import uuid
from collections.abc import Callable
from typing import Any

from aliasagent.devices.disk import Disk
from aliasagent.devices.domain import Domain
from aliasagent.reconcile import apply
from aliasagent.virt import host
from aliasagent.virt.host import Host
from sandbox import environment

#: How long the agent takes for a guest, about: it watches it for 0.1 s, and then writes six aliases.
AGENT_SECONDS = 0.2
CONFIG = 2
SAVED = 2 | 1  # VIR_DOMAIN_XML_INACTIVE and _SECURE


def disk(target: str, *, alias: str = '', serial: str = '', cache: str = 'none') -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw' cache='{cache}'/>"
        f"<source file='/srv/{target}.img'/><target dev='{target}' bus='scsi'/>"
        f'{f"<serial>{serial}</serial>" if serial else ""}{f"<alias name={alias!r}/>" if alias else ""}</disk>'
    )


def definition(instance: str, serials: dict[str, str]) -> str:
    disks = ''.join(disk(target, serial=serial) for target, serial in serials.items())
    return f"""
<domain type='qemu'><name>race-{instance}</name><uuid>{instance}</uuid><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><controller type='scsi' index='0' model='virtio-scsi'/><controller type='scsi' index='1' model='virtio-scsi'/>
{disks}{disk('sdx', alias='ua-going')}{disk('sdy', alias='ua-theirs')}</devices></domain>"""


def interfere(domain: Any, edited: str, serial: str, pauses: list[float]) -> None:
    """What the other client does, in random order and at random moments."""
    steps: list[Callable[[], object]] = [
        lambda: domain.attachDeviceFlags(disk('sdm', alias='ua-new-1'), CONFIG),
        lambda: domain.attachDeviceFlags(disk('sdn', alias='ua-new-2'), CONFIG),
        lambda: domain.detachDeviceAlias('ua-going', CONFIG),
        lambda: domain.updateDeviceFlags(disk('sdy', alias='ua-theirs', cache='writeback'), CONFIG),
        lambda: domain.updateDeviceFlags(disk(edited, serial=serial, cache='writeback'), CONFIG),
    ]
    random.shuffle(steps)
    for step, pause in zip(steps, pauses, strict=True):
        threading.Event().wait(pause)
        step()


def lost(text: str, edited: str) -> list[str]:
    """Which of the other client's changes are not there."""
    domain = Domain.parse(text)
    caches = {device.target: device.cache for device in domain.devices() if isinstance(device, Disk)}
    there = {
        'attach': bool(domain.by_alias('ua-new-1')) and bool(domain.by_alias('ua-new-2')),
        'detach': not domain.by_alias('ua-going'),
        'edit of another device': caches.get('sdy') == 'writeback',
        'edit of the same device': caches.get(edited) == 'writeback',
    }
    return [name for name, is_there in there.items() if not is_there]


def run(rounds: int) -> collections.Counter[str]:
    """What was lost, by what it was."""
    parts = environment.read()
    connection, other = host.open_libvirt(parts.libvirt_uri), host.open_libvirt(parts.libvirt_uri)
    real = Host(parts.libvirt_uri)
    real.start()
    assert real.wait_connected(30)
    losses: collections.Counter[str] = collections.Counter()
    try:
        for _round in range(rounds):
            instance = str(uuid.uuid4())
            serials = {f'sd{letter}': str(uuid.uuid4()) for letter in 'abcdef'}
            domain = connection.defineXML(definition(instance, serials))
            edited = random.choice(sorted(serials))
            # It begins before the agent looks for the second time, while it writes, or just after.
            pauses = [random.uniform(0, AGENT_SECONDS), *(random.uniform(0, 0.006) for _ in range(4))]
            theirs = other.lookupByUUIDString(instance)
            client = threading.Thread(target=interfere, args=(theirs, edited, serials[edited], pauses))
            client.start()
            apply.reconcile(real.guest(instance))
            client.join()
            apply.reconcile(real.guest(instance))
            text = domain.XMLDesc(SAVED)
            losses.update(lost(text, edited))
            missing = [serial for serial in serials.values() if f'ua-{serial}' not in text]
            losses.update({'our alias': len(missing)} if missing else {})
            domain.undefine()
    finally:
        real.close()
        connection.close()
        other.close()
    return losses


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=500)
    chosen = parser.parse_args()
    losses = run(chosen.rounds)
    print(f'{chosen.rounds} rounds, {5 * chosen.rounds} changes by another client, lost: {sum(losses.values())}')
    for name, count in sorted(losses.items()):
        print(f'  {name}: {count}')
    return 1 if losses else 0


if __name__ == '__main__':
    raise SystemExit(main())
