# SPDX-License-Identifier: Apache-2.0
"""Runs a real Ceph: a monitor, and an OSD that keeps its data in memory; clients need a key (cephx)."""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import uuid
from typing import Any
from typing import Self

from sandbox import processes

DAEMONS = ('ceph-mon', 'ceph-osd')
PROGRAMS = (*DAEMONS, 'ceph', 'ceph-authtool', 'monmaptool', 'rbd')
#: The user of the pool, and the pool of the volumes.
USER, POOL = 'cinder', 'volumes'
#: How much the OSD stores, in bytes.
CAPACITY = 512 << 20
_CONF = """\
[global]
fsid = {fsid}
mon host = {monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
run dir = {directory}
admin socket = {directory}/$cluster-$name.asok
log file = {directory}/$cluster-$name.log
pid file = {directory}/$name.daemon
keyring = {directory}/keyring
mon data = {directory}/mon
osd data = {directory}/osd
osd objectstore = memstore
memstore device bytes = {capacity}
osd memory target = 536870912
osd max object name len = 256
osd max object namespace len = 64
[client]
rbd default features = 1
"""
_SECRET = """\
<secret ephemeral='no' private='yes'>
  <uuid>{uuid}</uuid>
  <usage type='ceph'><name>client.{user} secret</name></usage>
</secret>
"""


class Ceph:
    """A private Ceph; a context manager. Its data is lost when it stops.

    Another object with the same directory finds the running daemons.

    :param directory: has the configuration, the keys and the logs; created if it does not exist
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory.resolve()
        self._monitor, self._osd = (processes.Process(name, self.directory) for name in DAEMONS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self.stop()

    @property
    def conf(self) -> pathlib.Path:
        """The configuration file for clients."""
        return self.directory / 'ceph.conf'

    @property
    def pids(self) -> list[int]:
        """The ids of the running daemons."""
        return [pid for pid in (self._monitor.pid, self._osd.pid) if pid is not None]

    @property
    def secret(self) -> str:
        """The UUID of the libvirt secret that Cinder names to compute hosts."""
        return str(self._settings()['secret'])

    @property
    def port(self) -> int:
        """The port of the monitor, for the old protocol, which QEMU gets from Cinder."""
        return int(self._settings()['port'])

    def start(self, timeout: float = 60) -> None:
        """Start both daemons, and wait until the pool is there; do nothing if they run.

        :raises PartFailed: a program is not installed, a daemon ended or is not ready in time, or the directory has the
            files of a Ceph that has stopped
        """
        if self.pids:
            return
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        if missing:
            raise processes.PartFailed(
                f'{", ".join(missing)} not installed: install the packages ceph-mon, ceph-osd and ceph-common'
            )
        if self.conf.exists():
            raise processes.PartFailed(f'{self.directory}: its Ceph has stopped and lost its data: use a new directory')
        (self.directory / 'osd').mkdir(parents=True)
        ports = (processes.free_port(), processes.free_port())
        fsid = str(uuid.uuid4())
        monitor = f'[v2:127.0.0.1:{ports[0]},v1:127.0.0.1:{ports[1]}]'
        self.conf.write_text(
            _CONF.format(fsid=fsid, monitor=monitor, directory=self.directory, capacity=CAPACITY)
        )
        (self.directory / 'settings.json').write_text(
            json.dumps({'fsid': fsid, 'port': ports[1], 'secret': str(uuid.uuid4())})
        )
        try:
            self._start_monitor(fsid, monitor)
            self._start_osd()
            self.run('ceph', 'osd', 'pool', 'create', POOL, '8', '8', 'replicated', timeout=timeout)
            allowed = ('mon', 'profile rbd', 'osd', f'profile rbd pool={POOL}')
            self._add_key(self.run('ceph', 'auth', 'get-or-create', f'client.{USER}', *allowed))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both daemons; do nothing if they do not run."""
        # nothing is kept, so nothing has to be written
        for daemon in (self._osd, self._monitor):
            daemon.end(signal.SIGKILL)

    def run(self, *command: str, timeout: float = 60) -> str:
        """Run a client's command, such as ``ceph`` or ``rbd``, as the administrator, and return its standard output.

        :param timeout: seconds
        :raises PartFailed: the command failed, or the timeout has expired
        """
        return processes.run('env', f'CEPH_CONF={self.conf}', 'CEPH_ARGS=', 'timeout', f'{timeout:g}', *command)

    def images(self) -> list[str]:
        """Return the names of the volumes' images in the pool."""
        found: list[str] = json.loads(self.run('rbd', '--format', 'json', '--pool', POOL, 'ls'))
        return found

    def watchers(self, image: str) -> list[str]:
        """Return the addresses of the clients that have an image open for writing."""
        status = json.loads(self.run('rbd', '--format', 'json', 'status', f'{POOL}/{image}'))
        return [watcher['address'] for watcher in status['watchers']]

    def export(self, image: str, file: pathlib.Path) -> pathlib.Path:
        """Copy an image into a new raw file, and return that."""
        self.run('rbd', '--no-progress', 'export', f'{POOL}/{image}', str(file))
        return file

    def key(self) -> str:
        """Return the user's key."""
        return self.run('ceph-authtool', str(self.directory / 'keyring'), '-n', f'client.{USER}', '-p').strip()

    def define_secret(self, connection: Any) -> str:
        """Define the user's key as a secret of a libvirtd, and return the secret's UUID."""
        secret = connection.secretDefineXML(_SECRET.format(uuid=self.secret, user=USER))
        secret.setValue(base64.b64decode(self.key()))
        return self.secret

    def _settings(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.directory / 'settings.json').read_text())
        except FileNotFoundError:
            raise processes.PartFailed(f'no Ceph was started in {self.directory}') from None
        return found

    def _start_monitor(self, fsid: str, monitor: str) -> None:
        keyring, monmap = str(self.directory / 'keyring'), str(self.directory / 'monmap')
        everything = ('--cap', 'mon', 'allow *')
        self.run('ceph-authtool', '--create-keyring', keyring, '--gen-key', '-n', 'mon.', *everything)
        self.run('ceph-authtool', keyring, '--gen-key', '-n', 'client.admin', *everything, '--cap', 'osd', 'allow *')
        self.run('monmaptool', '--create', '--addv', 'a', monitor, '--fsid', fsid, monmap)
        self.run('ceph-mon', '--mkfs', '-i', 'a', '--monmap', monmap, '--keyring', keyring)
        self._monitor.start(['ceph-mon', '--foreground', '-i', 'a'], self._environment())
        self._monitor.wait_ready(self._has_quorum, 60)

    def _has_quorum(self) -> bool:
        with contextlib.suppress(processes.PartFailed):
            self.run('ceph', '--connect-timeout', '5', 'quorum_status', timeout=10)
            return True
        return False

    def _start_osd(self) -> None:
        number = str(uuid.uuid4())
        self.run('ceph', 'osd', 'new', number)
        self._add_key(self.run('ceph', 'auth', 'get-or-create', 'osd.0', 'mon', 'allow profile osd', 'osd', 'allow *'))
        self.run('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', number)
        self._osd.start(['ceph-osd', '--foreground', '-i', '0'], self._environment())
        self._osd.wait_ready(lambda: json.loads(self.run('ceph', '--format', 'json', 'osd', 'stat'))['num_up_osds'], 60)

    def _add_key(self, entry: str) -> None:
        with (self.directory / 'keyring').open('a') as keyring:
            keyring.write(entry)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, 'CEPH_CONF': str(self.conf), 'CEPH_ARGS': ''}
