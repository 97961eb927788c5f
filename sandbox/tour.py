# SPDX-License-Identifier: Apache-2.0
"""The tour of the quickstart: attaches and detaches four devices, and checks libvirt, the agent and the guest."""

import dataclasses
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import uuid
from typing import Any
from xml.etree import ElementTree

import libvirt

from sandbox import guest
from sandbox import processes
from sandbox import steps

#: Seconds that the agent may take for one request, and the guest to report it.
PATIENCE = 120
MAC = '52:54:00:a1:1a:50'


class CommandLine:
    """The client command.

    :param config: the agent's configuration file.
    """

    def __init__(self, config: pathlib.Path) -> None:
        self._words = [str(pathlib.Path(sys.executable).with_name('aliasagent')), '--config-file', str(config)]

    def words(self, *arguments: str) -> str:
        """Return the whole command line."""
        return shlex.join([*self._words, *arguments])

    def run(self, *arguments: str) -> str:
        """Run the command, and return its output.

        :raises PartFailed: the exit code was not 0.
        """
        # twice the timeout of the command itself
        done = subprocess.run(
            [*self._words, *arguments], capture_output=True, text=True, check=False, timeout=2 * PATIENCE
        )
        if done.returncode != 0:
            command = shlex.join(['aliasagent', *arguments])
            raise processes.PartFailed(f'"{command}" ended with {done.returncode}: {done.stderr.strip()}')
        return done.stdout


@dataclasses.dataclass
class Device:
    """One of the four devices, with the events of the guest about it.

    :param attach: the arguments of the attach command after the guest and the id.
    """

    what: str
    noun: str
    attach: list[str]
    id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    came: dict[str, Any] | None = None
    went: dict[str, Any] | None = None

    @property
    def alias(self) -> str:
        return f'ua-{self.id}'


class Tour:
    """Shows what the agent does to a guest, and checks it.

    :param disks: two disk files.
    :param log: the log of the agent.
    """

    def __init__(
        self,
        seen_guest: guest.TestGuest,
        command: CommandLine,
        disks: list[pathlib.Path],
        bridge: str,
        log: pathlib.Path,
    ) -> None:
        self._guest = seen_guest
        self._command = command
        self._log = log
        network = ['--mac', MAC, '--bridge', bridge]
        self.devices = [
            Device('virtio disk', 'volume', ['--file', str(disks[0]), '--bus', 'virtio']),
            Device('SCSI disk', 'volume', ['--file', str(disks[1]), '--bus', 'scsi']),
            Device('interface 1', 'interface', network),
            Device('interface 2, same MAC', 'interface', network),
        ]

    def go_round(self) -> None:
        """Attach four devices, show them, detach each by its id, and show that they are removed.

        :raises StepFailed: a check failed.
        """
        steps.say(f'\nThe guest sees at first: {self._view()}\n')
        for device in self.devices:
            self._attach(device)
        self._show('With the four devices plugged in')
        steps.say("For each of them, libvirt's live XML and the guest's own report:")
        for device in self.devices:
            steps.say(f'  {device.what}:')
            steps.say(f'    alias in the live XML   {self._live_alias(device)}')
            steps.say(f'    the guest reported      {json.dumps(device.came)}')
        steps.say()
        for device in self.devices:
            self._detach(device)
        self._show('With all four devices detached')
        steps.say("For each of them, libvirt's live XML and the guest's own report:")
        for device in self.devices:
            steps.say(f'  {device.what}:')
            steps.say(f'    alias in the live XML   {self._live_alias(device) or "none"}')
            steps.say(f'    the guest reported      {json.dumps(device.went)}')
        steps.say()

    def say_what_next(self) -> None:
        """Print commands to try on the running guest."""
        virtio, _, interface, _ = self.devices
        name = self._guest.name
        sudo = 'sudo ' if os.environ.get('SUDO_USER') else ''
        lines = [
            'Guest and agent are left running. Try:',
            '',
            *(
                f'  {sudo}{self._command.words(*words)}'
                for words in (
                    ('guest', 'list'),
                    ('volume', 'attach', name, virtio.id, *virtio.attach, '--wait'),
                    ('interface', 'attach', name, interface.id, *interface.attach, '--wait'),
                    ('device', 'list', name, '-f', 'json'),
                    ('device', 'detach', name, virtio.id, '--wait'),
                )
            ),
        ]
        if shutil.which('virsh'):
            lines.append(f'  {sudo}virsh -c {shlex.quote(self._guest.connection.getURI())} dumpxml {name}')
        lines += [
            '',
            f'Console of the guest: tail -f {self._guest.console}',
            f'Log of the agent:     tail -f {self._log}',
            'When you are done:    tools/quickstart --stop',
        ]
        steps.say('\n'.join(lines))

    def _attach(self, device: Device) -> None:
        arguments = [device.noun, 'attach', self._guest.name, device.id, *device.attach, f'--wait={PATIENCE}']
        with self._step(f'Attaching: {device.what}'):
            before = len(self._guest.events())
            self._command.run(*arguments)
            device.came = self._wait_event(before, '-added', device)
            self._check_came(device)

    def _detach(self, device: Device) -> None:
        arguments = ['device', 'detach', self._guest.name, device.id, f'--wait={PATIENCE}']
        with self._step(f'Detaching by its id: {device.what}'):
            before = len(self._guest.events())
            self._command.run(*arguments)
            device.went = self._wait_event(before, '-removed', device)
            self._check_gone(device)

    def _step(self, what: str) -> Any:
        return steps.step(what, f"read the agent's log: {self._log}", self._log.parent)

    def _wait_event(self, before: int, suffix: str, device: Device) -> dict[str, Any]:
        """Wait for the event by which the guest reports that a device was added or removed.

        :param before: the number of earlier events.
        :raises PartFailed: the guest reports nothing in time, or another event.
        """
        word = ('disk' if device.noun == 'volume' else 'nic') + suffix

        def new_events() -> list[dict[str, Any]]:
            return self._guest.events()[before:]

        events = processes.wait_until(new_events, PATIENCE, f'the guest to report "{word}"')
        if [event['event'] for event in events] != [word]:
            raise processes.PartFailed(f'the guest was expected to report "{word}" and reported {events}')
        return events[0]

    def _check_came(self, device: Device) -> None:
        """Check that the guest has the attached device, and both definitions have its alias.

        :raises PartFailed: a check failed.
        """
        came = device.came or {}
        if device.noun == 'volume':
            # the serial of a virtio disk is cut to 20 characters
            wanted = device.id[:20] if came['bus'] == 'virtio' else device.id
            _expect(came['serial'] == wanted, f'the disk in the guest has the serial {came["serial"]}, not {wanted}')
            _expect(came['bus'] in device.attach, f'the disk in the guest is on the bus {came["bus"]}')
        else:
            _expect(came['mac'] == MAC, f'the interface in the guest has the address {came["mac"]}, not {MAC}')
        for side, flags in (('live', 0), ('persistent', libvirt.VIR_DOMAIN_XML_INACTIVE)):
            _expect(self._has_alias(device, flags), f'{device.alias} is not in the {side} XML')
        row = self._rows().get(device.id, {})
        as_listed = (row.get('alias'), row.get('live'), row.get('persistent'))
        _expect(as_listed == (device.alias, True, True), f'"device list" shows {row}')

    def _check_gone(self, device: Device) -> None:
        """Check that only this device was removed, from libvirt and from the guest.

        :raises PartFailed: a check failed.
        """
        came, went = device.came or {}, device.went or {}
        _expect(went['name'] == came['name'], f'{went["name"]} left the guest, not {came["name"]}')
        left = [other for other in self.devices if other.went is None]
        for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
            _expect(not self._has_alias(device, flags), f'{device.alias} is still in the XML')
            for other in left:
                _expect(self._has_alias(other, flags), f'{other.alias} was removed, too')
        listed = self._rows()
        _expect(device.id not in listed, f'"device list" still shows {device.id}')
        _expect(all(other.id in listed for other in left), f'"device list" shows only {list(listed)}')

    def _rows(self) -> dict[str, dict[str, Any]]:
        rows = json.loads(self._command.run('device', 'list', self._guest.name, '-f', 'json'))
        return {row['id']: row for row in rows}

    def _has_alias(self, device: Device, flags: int) -> bool:
        root = ElementTree.fromstring(self._guest.domain.XMLDesc(flags))
        tag = 'disk' if device.noun == 'volume' else 'interface'
        return root.find(f"./devices/{tag}/alias[@name='{device.alias}']") is not None

    def _live_alias(self, device: Device) -> str | None:
        return device.alias if self._has_alias(device, 0) else None

    def _view(self) -> str:
        seen = self._guest.sees()
        disks = [f'{disk.name} ({disk.bus}, {disk.bytes >> 20} MiB)' for disk in seen.disks.values()]
        nics = [f'{nic.name} ({nic.mac})' for nic in seen.nics.values()]
        return f'disks: {", ".join(disks) or "none"}; interfaces: {", ".join(nics) or "none"}'

    def _show(self, when: str) -> None:
        words = ['device', 'list', self._guest.name, '--kind', 'disk', '--kind', 'interface', '--print-empty']
        steps.say(f'\n{when}, "aliasagent {" ".join(words[:-1])}" says:')
        steps.say(self._command.run(*words).rstrip())
        steps.say(f'and the guest sees: {self._view()}\n')


def _expect(good: bool, otherwise: str) -> None:
    if not good:
        raise processes.PartFailed(otherwise)
