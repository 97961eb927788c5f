# SPDX-License-Identifier: Apache-2.0
"""An Open vSwitch of our own, with its datapath in userspace: no kernel module is needed.

It belongs to a libvirtd that has a network of its own, for a network has room for one such switch: each calls its first
device ``ovs-netdev``. What it makes there is gone with that network.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
from collections.abc import Mapping
from typing import Any

from sandbox import libvirtd
from sandbox import processes

SCHEMA = pathlib.Path('/usr/share/openvswitch/vswitch.ovsschema')
DAEMONS = ('ovsdb-server', 'ovs-vswitchd')


def environment(directory: pathlib.Path) -> dict[str, str]:
    """What ``ovs-vsctl`` needs in its environment to talk to the switch of this directory, and so what libvirtd needs.

    libvirtd runs ``ovs-vsctl`` with its own environment and says nothing of a database.
    """
    names = ('OVS_RUNDIR', 'OVS_LOGDIR', 'OVS_DBDIR', 'OVS_SYSCONFDIR')
    return {name: str(directory.resolve()) for name in names}


@dataclasses.dataclass(frozen=True)
class Port:
    """A port as the switch has it."""

    name: str
    iface_id: str | None
    mac: str | None  # what libvirt says the guest has
    guest: str | None  # its UUID
    tag: int | None
    error: str | None  # why the switch does not use it


class OpenVSwitch:
    """One private switch.

    :param directory: holds its database, logs and sockets; made if it is missing
    :param where: the libvirtd whose guests are plugged in, made with :func:`environment` and a network of its own
    """

    def __init__(self, directory: pathlib.Path, where: libvirtd.Libvirtd) -> None:
        if not where.own_network:
            raise processes.PartFailed('a userspace switch needs a libvirtd with a network of its own')
        self.directory = directory.resolve()
        self._where = where
        self._database, self._switch = (processes.Process(name, self.directory) for name in DAEMONS)

    @property
    def pids(self) -> list[int]:
        """The ids of the processes that run."""
        return [pid for pid in (self._database.pid, self._switch.pid) if pid is not None]

    def start(self, timeout: float = 20) -> None:
        """Start database and switch, and wait until they answer.

        :raises PartFailed: it is not installed, ended or does not answer; the message carries the end of its log
        """
        for name in DAEMONS:
            if shutil.which(name) is None:
                raise processes.PartFailed(f'{name} is not there: install the package openvswitch-switch')
        self.directory.mkdir(parents=True, exist_ok=True)
        database, socket = self.directory / 'conf.db', self.directory / 'db.sock'
        if not database.exists():
            processes.run('ovsdb-tool', 'create', database, SCHEMA)
        try:
            self._start(self._database, str(database), f'--remote=punix:{socket}')
            self._database.wait_ready(lambda: self._answers('init', ''), timeout)
            self._start(self._switch, f'unix:{socket}')
            # what kinds of datapath it has is the first that it tells the database
            self._switch.wait_ready(lambda: self._answers('get Open_vSwitch . datapath_types', 'netdev'), timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End both, nothing to do if they do not run. Devices that are left go with the network."""
        self._switch.end(signal.SIGTERM)
        self._database.end(signal.SIGTERM)

    def make_bridge(self, name: str) -> str:
        """Make a bridge with its datapath in userspace, and return its name.

        :raises PartFailed: it could not be made
        """
        self.vsctl('add-br', name, '--', 'set', 'bridge', name, 'datapath_type=netdev')
        return name

    def ports(self, bridge: str) -> list[Port]:
        """The ports of a bridge but for its own, in the order of their names."""
        names = self.vsctl('list-ports', bridge).split()
        tags = {row['name']: row['tag'] for row in self._rows('Port', 'name', 'tag')}
        rows = {row['name']: row for row in self._rows('Interface', 'name', 'external_ids', 'error')}
        return [_port(rows[name], tags[name]) for name in sorted(names)]

    def vsctl(self, *words: str) -> str:
        """Run ``ovs-vsctl``.

        :raises PartFailed: it did not work, or the switch has not taken up the change in 10 seconds
        """
        variables = (f'{name}={value}' for name, value in environment(self.directory).items())
        return processes.run('env', *variables, 'ovs-vsctl', '--timeout=10', *words)

    def _start(self, process: processes.Process, *words: str) -> None:
        control = f'--unixctl={self.directory / process.name}.ctl'
        command = self._where.inside(process.name, *words, control)
        process.start(command, environment={**os.environ, **environment(self.directory)})

    def _answers(self, command: str, words: str) -> bool:
        try:
            return words in self.vsctl('--no-wait', *command.split())
        except processes.PartFailed:
            return False

    def _rows(self, table: str, *columns: str) -> list[dict[str, Any]]:
        found = json.loads(self.vsctl('--format=json', f'--columns={",".join(columns)}', 'list', table))
        return [{name: _value(cell) for name, cell in zip(columns, row, strict=True)} for row in found['data']]


def _value(cell: Any) -> Any:
    """A cell as RFC 7047 writes it: what may be missing is an empty set then."""
    match cell:
        case ['map', pairs]:
            return dict(pairs)
        case ['set', []]:
            return None
        case _:
            return cell


def _port(row: Mapping[str, Any], tag: int | None) -> Port:
    ids = row['external_ids']
    return Port(row['name'], ids.get('iface-id'), ids.get('attached-mac'), ids.get('vm-id'), tag, row['error'])
