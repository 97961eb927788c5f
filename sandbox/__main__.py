# SPDX-License-Identifier: Apache-2.0
"""Brings the real parts up and down, from the command line.

eval "$(python -m sandbox up --directory DIR)"
python -m sandbox down --directory DIR
"""

import argparse
import os
import pathlib
import shlex
import shutil
import sys

import libvirt

from sandbox import environment
from sandbox import guest_image
from sandbox import libvirtd
from sandbox import processes
from sandbox import rabbitmq

# Tells a directory that was made here from one that must not be removed.
MARKER = '.aliasagent-test-parts'


def say(text: str) -> None:
    """Tell whoever watches; standard output is for the variables only."""
    print(f'parts: {text}', file=sys.stderr, flush=True)


def up(directory: pathlib.Path) -> environment.Environment:
    """Start what does not run yet, and say where it is.

    :raises PartFailed: a part cannot be built or started; what was started before it is left running
    """
    if directory.exists() and any(directory.iterdir()) and not (directory / MARKER).exists():
        raise processes.PartFailed(f'{directory} holds something else: give a new directory')
    (directory / 'tests').mkdir(parents=True, exist_ok=True)
    (directory / MARKER).touch()
    with processes.stage('guest image', say):
        image = guest_image.build()
    broker = rabbitmq.RabbitMQ(directory / 'rabbitmq')
    with processes.stage('RabbitMQ', say):
        broker.start()
    daemon = libvirtd.Libvirtd(directory / 'libvirt')
    with processes.stage('libvirtd', say):
        daemon.start()
    return environment.Environment(broker.url, daemon.uri, image, directory / 'tests')


def down(directory: pathlib.Path) -> None:
    """Stop everything and remove the directory; nothing to do if it is gone.

    :raises PartFailed: it is not a directory of ours, or a process does not end
    """
    if not directory.exists():
        say(f'{directory} is gone already')
        return
    if not (directory / MARKER).exists():
        raise processes.PartFailed(f'{directory} was not made by "up": it stays as it is')
    with processes.stage('stopping guests and libvirtd', say):
        libvirtd.Libvirtd(directory / 'libvirt').stop(destroy_guests=True)
    with processes.stage('stopping RabbitMQ', say):
        rabbitmq.RabbitMQ(directory / 'rabbitmq').stop()
    shutil.rmtree(directory)


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two commands; the exit code is 0 only if it did all it should."""
    parser = argparse.ArgumentParser(prog='python -m sandbox', description=__doc__)
    parser.add_argument('command', choices=('up', 'down'))
    parser.add_argument('--directory', type=pathlib.Path, required=True, help='holds everything of the parts')
    chosen = parser.parse_args(arguments)
    directory = chosen.directory.resolve()
    try:
        if os.geteuid() != 0:
            raise processes.PartFailed('a hypervisor of its own needs root: use sudo')
        if chosen.command == 'down':
            down(directory)
        else:
            for name, value in up(directory).variables().items():
                print(f'export {name}={shlex.quote(value)}')
    except (processes.PartFailed, libvirt.libvirtError, OSError) as error:
        say(f'{chosen.command} failed: {error}')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
