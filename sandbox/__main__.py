# SPDX-License-Identifier: Apache-2.0
"""Starts and stops RabbitMQ, libvirtd and the services of a cloud from the command line.

eval "$(python -m sandbox up [--clouds] --directory DIR)"
python -m sandbox down --directory DIR
"""

import argparse
import os
import pathlib
import shlex
import shutil
import sys

import libvirt

from sandbox import clouds as clouds_module
from sandbox import environment
from sandbox import guest_image
from sandbox import libvirtd
from sandbox import processes
from sandbox import rabbitmq

# Marks a directory that this command made and may remove.
MARKER = '.aliasagent-test-parts'


def say(text: str) -> None:
    """Print progress to standard error."""
    # Standard output is for the variables only.
    print(f'parts: {text}', file=sys.stderr, flush=True)


def up(directory: pathlib.Path, *, clouds: bool = False) -> environment.Environment:
    """Start the parts that do not run yet, and return their environment.

    :param clouds: also start Ceph, Keystone, Cinder and Neutron
    :raises PartFailed: a part cannot be built or started; the parts started before it keep running
    """
    if directory.exists() and any(directory.iterdir()) and not (directory / MARKER).exists():
        raise processes.PartFailed(f'{directory} has other files: use a new directory')
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
    services = clouds_module.Clouds(directory / 'clouds')
    if clouds:
        services.start(say)
    running = services.directory if clouds else None
    return environment.Environment(broker.url, daemon.uri, image, directory / 'tests', running)


def down(directory: pathlib.Path) -> None:
    """Stop everything and remove the directory; do nothing if it does not exist.

    :raises PartFailed: another program made the directory, or a process does not end
    """
    if not directory.exists():
        say(f'{directory} does not exist')
        return
    if not (directory / MARKER).exists():
        raise processes.PartFailed(f'{directory} was not made by "up" and is not removed')
    with processes.stage('stopping guests and libvirtd', say):
        libvirtd.Libvirtd(directory / 'libvirt').stop(destroy_guests=True)
    with processes.stage('stopping RabbitMQ', say):
        rabbitmq.RabbitMQ(directory / 'rabbitmq').stop()
    if (directory / 'clouds').exists():
        with processes.stage('stopping the services of the cloud', say):
            clouds_module.Clouds(directory / 'clouds').stop()
    shutil.rmtree(directory)


def main(arguments: list[str] | None = None) -> int:
    """Run a command, and return its exit code."""
    parser = argparse.ArgumentParser(prog='python -m sandbox', description=__doc__)
    parser.add_argument('command', choices=('up', 'down'))
    parser.add_argument('--directory', type=pathlib.Path, required=True, help='directory for all files of the parts')
    parser.add_argument('--clouds', action='store_true', help='also start Ceph, Keystone, Cinder and Neutron')
    chosen = parser.parse_args(arguments)
    directory = chosen.directory.resolve()
    try:
        if os.geteuid() != 0:
            raise processes.PartFailed('a private libvirtd needs root: use sudo')
        if chosen.command == 'down':
            down(directory)
        else:
            for name, value in up(directory, clouds=chosen.clouds).variables().items():
                print(f'export {name}={shlex.quote(value)}')
    except (processes.PartFailed, libvirt.libvirtError, OSError) as error:
        say(f'{chosen.command} failed: {error}')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
