# SPDX-License-Identifier: Apache-2.0
"""Runs a private Open vSwitch with its datapath in userspace, which needs no kernel module.

The switch runs in the network namespace of a private libvirtd, because a network namespace can have only one such
switch: each names its first device ``ovs-netdev``. The devices of the switch are removed with the namespace.
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
    """Return the environment variables that connect ``ovs-vsctl`` to the switch of a directory."""
    # libvirtd needs them, too: it runs ``ovs-vsctl`` with its own environment, and names no database.
    names = ('OVS_RUNDIR', 'OVS_LOGDIR', 'OVS_DBDIR', 'OVS_SYSCONFDIR')
    return {name: str(directory.resolve()) for name in names}


@dataclasses.dataclass(frozen=True)
class Port:
    """A port of the switch."""

    name: str
    iface_id: str | None
    mac: str | None  # the MAC address in the guest, from libvirt
    guest: str | None  # its UUID
    tag: int | None
    error: str | None  # why the switch does not use the port


class OpenVSwitch:
    """A private switch.

    :param directory: has the database, logs and sockets; created if it does not exist
    :param where: the libvirtd of its guests, made with :func:`environment` and ``own_network``
    """

    def __init__(self, directory: pathlib.Path, where: libvirtd.Libvirtd) -> None:
        if not where.own_network:
            raise processes.PartFailed('a userspace switch needs a libvirtd with a private network namespace')
        self.directory = directory.resolve()
        self._where = where
        self._database, self._switch = (processes.Process(name, self.directory) for name in DAEMONS)

    @property
    def pids(self) -> list[int]:
        """The ids of the running processes."""
        return [pid for pid in (self._database.pid, self._switch.pid) if pid is not None]

    def start(self, timeout: float = 20) -> None:
        """Start the database and the switch, and wait until they answer.

        :raises PartFailed: a daemon is not installed, ended or does not answer; the error includes the end of its log
        """
        for name in DAEMONS:
            if shutil.which(name) is None:
                raise processes.PartFailed(f'{name} is not installed: install the package openvswitch-switch')
        self.directory.mkdir(parents=True, exist_ok=True)
        database, socket = self.directory / 'conf.db', self.directory / 'db.sock'
        if not database.exists():
            processes.run('ovsdb-tool', 'create', database, SCHEMA)
        try:
            self._start(self._database, str(database), f'--remote=punix:{socket}')
            self._database.wait_ready(lambda: self._answers('init', ''), timeout)
            self._start(self._switch, f'unix:{socket}')
            # the switch writes its datapath types into the database first
            self._switch.wait_ready(lambda: self._answers('get Open_vSwitch . datapath_types', 'netdev'), timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both daemons. The devices of the switch are removed with the network namespace."""
        self._switch.end(signal.SIGTERM)
        self._database.end(signal.SIGTERM)

    def make_bridge(self, name: str) -> str:
        """Make a bridge with its datapath in userspace, and return its name.

        :raises PartFailed: the bridge could not be made
        """
        self.vsctl('add-br', name, '--', 'set', 'bridge', name, 'datapath_type=netdev')
        return name

    def ports(self, bridge: str) -> list[Port]:
        """Return the ports of a bridge without the bridge's own port, in the order of their names."""
        names = self.vsctl('list-ports', bridge).split()
        tags = {row['name']: row['tag'] for row in self._rows('Port', 'name', 'tag')}
        rows = {row['name']: row for row in self._rows('Interface', 'name', 'external_ids', 'error')}
        return [_port(rows[name], tags[name]) for name in sorted(names)]

    def vsctl(self, *words: str) -> str:
        """Run ``ovs-vsctl``.

        :raises PartFailed: the command failed, or the switch has not applied the change in 10 seconds
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
    """Convert a cell of RFC 7047, in which an empty set is a missing value."""
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
