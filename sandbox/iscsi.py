# SPDX-License-Identifier: Apache-2.0
"""Runs a private iSCSI target in userspace: files as logical units, on the loopback address only."""

import dataclasses
import itertools
import os
import pathlib
import re
import shutil
import signal
from typing import Any

from sandbox import materials
from sandbox import processes

# The control socket of tgtd and tgtadm, separate from a daemon of the host; tgt appends the number of the port.
SOCKET_VARIABLE = 'TGT_IPC_SOCKET'
CONTROL_PORT = 0
#: The number of each target's disk; unit 0 is the controller of the target.
LUN = 1


@dataclasses.dataclass(frozen=True)
class Chap:
    """The credentials of an initiator."""

    user: str
    password: str


@dataclasses.dataclass(frozen=True)
class Target:
    """A target with one disk."""

    number: int
    iqn: str
    portal: str  # host and port
    file: pathlib.Path
    chap: Chap | None

    def connection_info(self, secret: str | None = None) -> dict[str, Any]:
        """Return the ``connection_info`` that Cinder would send, for QEMU's own initiator.

        :param secret: the UUID of the libvirt secret with the password
        """
        data: dict[str, Any] = {'target_portal': self.portal, 'target_iqn': self.iqn, 'target_lun': LUN}
        if self.chap is not None:
            data |= {'auth_method': 'CHAP', 'auth_username': self.chap.user, 'secret_uuid': secret}
        return {'driver_volume_type': 'iscsi', 'data': data}


class Iscsi:
    """A private tgtd. Its targets are lost when it stops.

    :param directory: has the disks, the log and the control socket; created if it does not exist
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory.resolve()
        self.portal = ''
        self._process = processes.Process('tgtd', self.directory)
        self._numbers = itertools.count(1)
        self._control = self.directory / 'control'
        if len(f'{self._control}.{CONTROL_PORT}') > 107:
            raise processes.PartFailed(f'{self._control}: more than 105 characters, too long for a socket')

    @property
    def log(self) -> pathlib.Path:
        """The log of the daemon."""
        return self._process.log

    @property
    def pid(self) -> int | None:
        """The daemon's process id; None while the daemon does not run."""
        return self._process.pid

    def start(self, timeout: float = 20) -> None:
        """Start the daemon on a free port, and wait until it answers.

        :raises PartFailed: the daemon is not installed, ended, does not answer, or could not bind the port
        """
        if shutil.which('tgtd') is None:
            raise processes.PartFailed('tgtd is not installed: install the package tgt')
        self.directory.mkdir(parents=True, exist_ok=True)
        self.portal = f'127.0.0.1:{processes.free_port()}'
        command = ['tgtd', '--foreground', '--control-port', str(CONTROL_PORT), '--iscsi', f'portal={self.portal}']
        self._process.start(command, environment=self._environment())
        try:
            self._process.wait_ready(self._answers, timeout)
            # without its port the daemon keeps running, and no initiator can reach it
            if f'Portal: {self.portal},' not in self._admin('show', mode='portal'):
                raise processes.PartFailed(f'no portal at {self.portal}; {self.log}:\n{processes.tail(self.log)}')
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the daemon, even if initiators are logged in; do nothing if it does not run."""
        self._process.end(signal.SIGKILL)  # tgtd ignores other signals while it has a target

    def add_target(self, iqn: str, size: int, *, serial: str = '', chap: Chap | None = None) -> Target:
        """Make a target with one disk.

        :param iqn: the name of the target
        :param size: the size of the disk in bytes
        :param serial: the serial of the disk, 36 characters at most
        :param chap: the credentials for a login
        :raises PartFailed: the daemon refused, for example because the iqn or the user exists
        """
        number = next(self._numbers)
        target = Target(number, iqn, self.portal, materials.make_disk(self.directory / f'{number}.img', size), chap)
        self._admin('new', target, '--targetname', iqn)
        self._admin('new', target, '--lun', str(LUN), '--backing-store', str(target.file), mode='logicalunit')
        if serial:
            self._admin('update', target, '--lun', str(LUN), '--params', f'scsi_sn={serial}', mode='logicalunit')
        if chap is not None:
            self._admin('new', None, '--user', chap.user, '--password', chap.password, mode='account')
            self._admin('bind', target, '--user', chap.user, mode='account')
        self._admin('bind', target, '--initiator-address', '127.0.0.1')
        return target

    def sessions(self, target: Target) -> list[str]:
        """Return the names of the initiators that are logged in."""
        return re.findall(r'Initiator: (\S+)', self._admin('show', target, mode='conn'))

    def _answers(self) -> bool:
        try:
            self._admin('show', mode='portal')
        except processes.PartFailed:
            return False
        return True

    def _admin(self, operation: str, target: Target | None = None, *options: str, mode: str = 'target') -> str:
        words = ['tgtadm', '--control-port', str(CONTROL_PORT), '--lld', 'iscsi', '--mode', mode, '--op', operation]
        if target is not None:
            words += ['--tid', str(target.number)]
        return processes.run('env', f'{SOCKET_VARIABLE}={self._control}', *words, *options)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, SOCKET_VARIABLE: str(self._control)}
