# SPDX-License-Identifier: Apache-2.0
"""Runs tools/quickstart after the installation: starts the environment, a guest and the agent, and shows hot-plug.

The directory of a run records all that the run has started, so that another run or ``--stop`` can remove it.
"""

import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import sys
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import libvirt
from kombu import connection as kombu_connection

from aliasagent.client import rpc
from sandbox import agent
from sandbox import guest
from sandbox import guest_image
from sandbox import libvirtd
from sandbox import materials
from sandbox import processes
from sandbox import rabbitmq
from sandbox import steps
from sandbox import tour

DIRECTORY = pathlib.Path('/var/tmp/aliasagent-quickstart')
#: Marks a directory that the quickstart made and may remove.
MARKER = '.aliasagent-quickstart'

#: The name of the guest and of the agent's host.
NAME = 'quickstart'

#: A boot takes 10 s, but everything is emulated, and the host may be busy.
BOOT_SECONDS = 300

SYSTEM_BROKER = 'rabbit://guest:guest@127.0.0.1:5672/'
SYSTEM_HYPERVISOR = 'qemu:///system'


class Quickstart:
    """The components of a quickstart, started by this process or an earlier one.

    :param directory: the directory of all its files.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self._broker = rabbitmq.RabbitMQ(directory / 'rabbitmq')
        self._hypervisor = libvirtd.Libvirtd(directory / 'libvirt', hostname=NAME)
        self._state = directory / 'state.json'

    def start(self) -> tour.Tour:
        """Start all components, and return the tour.

        :raises StepFailed: a step failed.
        """
        log = self.directory / 'agent' / 'agent.log'
        with steps.step('Getting the message broker ready', 'read the logs of RabbitMQ', self.directory) as note:
            broker_url = self._start_broker(note)
        with steps.step('Getting the hypervisor ready', 'read the logs of libvirtd', self.directory) as note:
            uri = self._start_hypervisor(note)
            connection = libvirt.open(uri)
        self._remember({'uri': uri})
        advice = 'check that apt can download packages (apt-get update), and that this is an amd64 machine'
        with steps.step('Building a small guest (the kernel of the distribution, busybox)', advice, self.directory):
            image = self._image()
        advice = 'check that bridges can be made here: ip link add NAME type bridge'
        with steps.step('Making two disks and a bridge', advice, self.directory) as note:
            # with a unique name, so that a bridge left by another run does not conflict
            bridge = materials.make_bridge()
            self._remember({'bridge': bridge})
            note(bridge)
            disks = [
                materials.make_disk(self.directory / 'disks' / f'{name}.raw', megabytes * 1024 * 1024)
                for name, megabytes in (('virtio', 8), ('scsi', 16))
            ]
        found = guest.TestGuest(connection, self.directory / 'guest', image, name=NAME)
        self._remember({'guest': found.uuid})
        with steps.step('Booting the guest', f'read its console: {found.console}', self.directory):
            found.start().wait_ready(BOOT_SECONDS)
        server = agent.Agent(
            self.directory / 'agent',
            host=NAME,
            rabbit_url=broker_url,
            libvirt_uri=uri,
            options={'DEFAULT': {'debug': False}, 'allowed': {'paths': self.directory / 'disks'}},
        )
        with steps.step('Starting aliasagent-compute', f'read its log: {log}', self.directory):
            server.start()
        return tour.Tour(found, tour.CommandLine(server.config), disks, bridge, log)

    def stop(self) -> None:
        """Stop all components that run. Files stay.

        :raises StepFailed: a component could not be stopped; the others are stopped.
        """
        state = self._remembered()
        failures = []
        for what, end in (
            ('the agent', self._stop_agent),
            ('the guest', lambda: _destroy_guest(state)),
            ('the hypervisor', lambda: self._hypervisor.stop(destroy_guests=True)),
            ('the message broker', self._stop_broker),
            ('the bridge', lambda: materials.remove_bridge(state['bridge']) if 'bridge' in state else None),
        ):
            try:
                end()
            except (processes.PartFailed, libvirt.libvirtError, OSError) as error:
                failures.append(f'{what}: {error}')
        if failures:
            raise steps.StepFailed('; '.join(failures))
        self._state.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.directory)

    def left_over(self) -> list[pathlib.Path]:
        """Return the files of an earlier run."""
        return [path for path in self.directory.iterdir() if path.name != MARKER]

    def _start_broker(self, note: Callable[[str], None]) -> str:
        if _broker_answers():
            note('the one at 127.0.0.1:5672')
            self._remember({'broker': SYSTEM_BROKER})
            return SYSTEM_BROKER
        self._broker.start()
        note('one of its own')
        return self._broker.url

    def _start_hypervisor(self, note: Callable[[str], None]) -> str:
        if _hypervisor_answers():
            note(SYSTEM_HYPERVISOR)
            return SYSTEM_HYPERVISOR
        self._hypervisor.start()
        note('one of its own')
        return self._hypervisor.uri

    def _image(self) -> guest_image.GuestImage:
        """Return a copy of the image that QEMU can read as any user."""
        built = guest_image.build()
        copy = guest_image.GuestImage(self.directory / 'image')
        copy.directory.mkdir()
        shutil.copyfile(built.kernel, copy.kernel)
        shutil.copyfile(built.initramfs, copy.initramfs)
        return copy.check()

    def _stop_broker(self) -> None:
        self._broker.stop()
        # a broker that does not answer cannot be cleaned up
        if self._remembered().get('broker') == SYSTEM_BROKER and _broker_answers():
            with _system_broker() as connection:
                connection.default_channel.queue_delete(f'{rpc.TOPIC}.{NAME}')

    def _stop_agent(self) -> None:
        directory = self.directory / 'agent'
        if directory.exists():
            processes.Process('agent', directory).end(signal.SIGTERM, timeout=60)

    def _remember(self, more: dict[str, str]) -> None:
        self._state.write_text(json.dumps(self._remembered() | more))

    def _remembered(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self._state.read_text()) if self._state.exists() else {}
        return found


def _destroy_guest(state: dict[str, str]) -> None:
    """Remove the guest from the host's own hypervisor; a private one removes its guests when it stops."""
    if state.get('uri') != SYSTEM_HYPERVISOR or 'guest' not in state:
        return
    connection = libvirt.open(state['uri'])
    for domain in connection.listAllDomains():
        if domain.UUIDString() == state['guest']:
            if domain.isActive():
                domain.destroy()
            domain.undefine()
    connection.close()


@contextlib.contextmanager
def _system_broker() -> Iterator[Any]:
    """Connect to the host's own RabbitMQ as its default user.

    :raises OSError: the broker does not answer, or refuses the login.
    """
    make: Any = kombu_connection.Connection  # it has no types
    connection = make(SYSTEM_BROKER.replace('rabbit://', 'amqp://', 1), connect_timeout=3)
    try:
        connection.connect()
        yield connection
    except (*connection.connection_errors, *connection.channel_errors) as error:
        raise OSError(f'the RabbitMQ at 127.0.0.1:5672: {error}') from error
    finally:
        connection.release()


def _broker_answers() -> bool:
    try:
        with _system_broker():
            return True
    except OSError:
        return False


def _hypervisor_answers() -> bool:
    """Return whether the host's own libvirt answers."""
    try:
        connection = libvirt.open(SYSTEM_HYPERVISOR)
    except libvirt.libvirtError:
        return False
    connection.close()
    return True


@contextlib.contextmanager
def _claimed(directory: pathlib.Path) -> Iterator[None]:
    """Lock the directory of a quickstart for this process.

    :raises StepFailed: the directory has other files, belongs to another user, or is in use.
    """
    if directory.is_symlink() or (directory.exists() and directory.stat().st_uid != os.geteuid()):
        raise steps.StepFailed(f'{directory} belongs to another user: choose another one with --directory')
    if directory.exists() and any(directory.iterdir()) and not (directory / MARKER).exists():
        raise steps.StepFailed(f'{directory} has other files: choose another one with --directory')
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (directory / MARKER).open('w') as marker:
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise steps.StepFailed(f'another quickstart uses {directory}: wait until it has ended') from error
        yield


def run(directory: pathlib.Path, *, once: bool) -> None:
    """Start all components, run the tour, and leave them running or, with ``once``, remove them.

    :raises StepFailed: a step failed; all components are stopped, and the logs stay.
    """
    quickstart = Quickstart(directory)
    if quickstart.left_over():
        with steps.step('Removing an earlier quickstart', 'check the processes in the error', directory):
            quickstart.stop()
            for path in quickstart.left_over():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    try:
        shown = quickstart.start()
        shown.go_round()
    except BaseException:
        with contextlib.suppress(BrokenPipeError):  # the reader of the output has ended
            steps.say('\nStopping everything; the logs stay.')
        quickstart.stop()
        raise
    if once:
        with steps.step('Removing everything', 'check the processes in the error', directory):
            quickstart.stop()
            quickstart.remove()
    else:
        shown.say_what_next()


def stop(directory: pathlib.Path) -> None:
    """Stop and remove an earlier run.

    :raises StepFailed: a component could not be stopped.
    """
    with steps.step('Removing everything', 'check the processes in the error', directory):
        quickstart = Quickstart(directory)
        quickstart.stop()
        quickstart.remove()


def main(argv: list[str] | None = None) -> int:
    """Run the quickstart, and return its exit code: 0 only if every check passed."""
    parser = argparse.ArgumentParser(prog='tools/quickstart', description='Shows what aliasagent does to a guest.')
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument('--once', action='store_true', help='remove everything afterwards')
    mode.add_argument('--stop', action='store_true', help='stop and remove an earlier run')
    parser.add_argument('--directory', type=pathlib.Path, default=DIRECTORY, help=f'{DIRECTORY} by default')
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGHUP, _interrupted)
    libvirt.registerErrorHandler(lambda *_: None, None)  # otherwise libvirt prints the errors that it raises
    directory = pathlib.Path(os.path.abspath(options.directory))
    try:
        if options.stop and not directory.exists():
            steps.say('There is no quickstart to stop.')
            return 0
        with _claimed(directory):
            if options.stop:
                stop(directory)
            else:
                run(directory, once=options.once)
    except steps.StepFailed as error:
        steps.say(f'\nquickstart: {error}')
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python writes the rest of the buffer
        return 1
    except KeyboardInterrupt:
        steps.say('\nquickstart: interrupted')
        return 130
    return 0


def _interrupted(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == '__main__':
    sys.exit(main())
