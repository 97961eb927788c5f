# SPDX-License-Identifier: Apache-2.0
"""A libvirtd of our own, apart from the host's: its own state, configuration, host name and identity.

It runs in a mount namespace in which libvirt's directories are directories of ours. A process that does nothing holds
that namespace, so that daemon and guests can come and go: guests live on while the daemon is restarted, as on a real
host. Several can run side by side and move guests to each other.
"""

import contextlib
import os
import pathlib
import signal
import socket
import uuid
from collections.abc import Mapping

import libvirt

from sandbox import certificates
from sandbox import processes

# No systemd, no security driver and no cgroups are needed; a guest's output goes to plain files.
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
dynamic_ownership = 0
remember_owner = 0
namespaces = []
stdio_handler = "file"
hugetlbfs_mount = []
"""

# Who may connect needs no password.
LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
"""

# Root alone may connect, or a group of users too.
ROOT_CONF = 'unix_sock_rw_perms = "0700"\n'
GROUP_CONF = """\
unix_sock_group = "{group}"
unix_sock_rw_perms = "0770"
"""

# Who comes by TLS needs a certificate, and no password.
TLS_CONF = """\
listen_tls = 1
listen_tcp = 0
listen_addr = "127.0.0.1"
tls_port = "{port}"
ca_file = "{authority}"
cert_file = "{certificate}"
key_file = "{key}"
auth_tls = "none"
"""

# What libvirtd writes to, and the directory of ours that takes its place.
DIRECTORIES = {
    '/run/libvirt': 'run',
    '/var/lib/libvirt': 'lib',
    '/var/cache/libvirt': 'cache',
    '/var/log/libvirt': 'log',
    '/etc/libvirt': 'etc',
}

# Where the host's message bus is: hidden, or guests would be registered with the host's systemd.
HIDDEN = ('/run/dbus',)


class Libvirtd:
    """One private libvirtd.

    :param directory: holds everything of it; made if it is missing. A restart, and another object with the same
        directory, find the daemon and the guests that are there.
    :param hostname: what it calls its host
    :param own_network: in a network namespace of its own: what its guests are plugged into is to be made there, by
        commands that :meth:`inside` leads there, and is gone with the namespace
    :param environment: more environment variables for the daemon and what it runs
    :param authority: makes its certificate, and whoever comes by TLS has to have one of it too; None for no TLS
    :param group: a group whose members may connect too
    """

    def __init__(
        self,
        directory: pathlib.Path,
        hostname: str = 'aliasagent-test',
        *,
        own_network: bool = False,
        environment: Mapping[str, str] | None = None,
        authority: certificates.Authority | None = None,
        group: str | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self.hostname = hostname
        self.own_network = own_network
        self.environment = environment or {}
        self._authority = authority
        self._tls_port = 0 if authority is None else processes.free_port()
        self._group = group
        self._daemon = processes.Process('libvirtd', self.directory)
        self._holder = processes.Process('namespace', self.directory)
        if len(str(self._socket)) > 107:
            raise processes.PartFailed(f'{self._socket}: more than 107 characters, too long for a socket')

    @property
    def _socket(self) -> pathlib.Path:
        return self.directory / 'run' / 'libvirt-sock'

    @property
    def uri(self) -> str:
        """The connection URI, usable by any process of this host."""
        return f'qemu+unix:///system?socket={self._socket}'

    @property
    def tls_uri(self) -> str:
        """The connection URI by TLS; ``pkipath`` is to be added, where the certificates of whoever comes are."""
        return f'qemu+tls://localhost:{self._tls_port}/system'

    @property
    def log(self) -> pathlib.Path:
        """What the daemon wrote to its standard output and error."""
        return self._daemon.log

    @property
    def pid(self) -> int | None:
        """The daemon's process id; None while it does not run."""
        return self._daemon.pid

    def inside(self, *command: str | os.PathLike[str]) -> list[str | os.PathLike[str]]:
        """The words that run a command where the daemon and its guests run.

        :raises PartFailed: nothing runs there
        """
        pid = self._holder.pid
        if pid is None:
            raise processes.PartFailed(f'{self.hostname} has not been started')
        network = ['--net'] if self.own_network else []
        return ['nsenter', '--target', str(pid), '--mount', '--uts', *network, '--root', '--wd', *command]

    def start(self, timeout: float = 60) -> None:
        """Start the daemon and wait until it answers; nothing to do if it runs.

        A first start that fails leaves nothing running; a later one leaves the guests as they are.

        :raises PartFailed: it ended, or does not answer within ``timeout`` seconds
        """
        if self._daemon.pid is not None:
            return
        self._prepare()
        new = self._hold_namespace()
        try:
            # its usual place for the file, /run, is the host's
            listen = [] if self._authority is None else ['--listen']
            command = self.inside('libvirtd', '--pid-file', '/run/libvirt/daemon.pid', *listen)
            self._daemon.start(command, environment={**_environment(), **self.environment})
            self._daemon.wait_ready(self._answers, timeout)
        except BaseException:
            if new:
                self.stop(destroy_guests=True)
            raise

    def stop(self, destroy_guests: bool = False) -> None:
        """Stop the daemon as an administrator would; its guests run on unless told otherwise.

        :param destroy_guests: kill them too, and everything else that was started; configurations stay on disk
        :raises PartFailed: a process does not end
        """
        if not destroy_guests:
            self._daemon.end(signal.SIGTERM)
        else:
            try:
                self._daemon.end(signal.SIGTERM, timeout=15)
            except processes.PartFailed:
                # libvirtd 11.3 was seen to hang in its own end; where all is taken away, nothing can be lost by it
                self.kill()
            processes.kill_all(lambda: _where_this_is(self.directory / 'run'), f'the guests of {self.hostname}')
            self._holder.end(signal.SIGKILL)

    def kill(self) -> None:
        """Kill the daemon (SIGKILL), and nothing else."""
        self._daemon.end(signal.SIGKILL)

    def restart(self, timeout: float = 60) -> None:
        """Stop and start the daemon; guests run on."""
        self.stop()
        self.start(timeout)

    def _prepare(self) -> None:
        for name in DIRECTORIES.values():
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / 'log' / 'qemu').mkdir(exist_ok=True)
        (self.directory / 'hidden').mkdir(exist_ok=True)
        configuration = self.directory / 'etc' / 'libvirtd.conf'
        if not configuration.exists():  # a host keeps its identity
            configuration.write_text(f'host_uuid = "{uuid.uuid4()}"\n{LIBVIRTD_CONF}{self._more_settings()}')
        (self.directory / 'etc' / 'qemu.conf').write_text(QEMU_CONF)
        # mount points need to exist
        for target in DIRECTORIES:
            pathlib.Path(target).mkdir(parents=True, exist_ok=True)

    def _more_settings(self) -> str:
        more = ROOT_CONF if self._group is None else GROUP_CONF.format(group=self._group)
        if self._authority is not None:
            certificate, key = self._authority.issue('libvirtd', 'localhost', '127.0.0.1')
            more += TLS_CONF.format(
                port=self._tls_port, authority=self._authority.file, certificate=certificate, key=key
            )
        return more

    def _hold_namespace(self) -> bool:
        """Make the namespace; whether there was none."""
        if self._holder.pid is not None:
            return False
        marker = self.directory / 'namespace.ready'
        marker.unlink(missing_ok=True)
        commands = ['set -e']
        commands += [f'mount --bind "{self.directory / name}" {target}' for target, name in DIRECTORIES.items()]
        commands += [f'if [ -d {bus} ]; then mount --bind "{self.directory}/hidden" {bus}; fi' for bus in HIDDEN]
        if self.own_network:
            # /sys shows the interfaces of the namespace that it was mounted in
            commands += ['mount -t sysfs sysfs /sys', 'ip link set lo up']
        commands += [
            f'hostname "{self.hostname}"',
            f'touch "{marker}"',
            'exec sleep infinity',
        ]
        network = ['--net'] if self.own_network else []
        self._holder.start(['unshare', '--mount', '--uts', *network, 'sh', '-c', '\n'.join(commands)])
        self._holder.wait_ready(marker.exists, timeout=10)
        return True

    def _answers(self) -> bool:
        # a daemon that does not listen yet is no error, and libvirt would print one
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self._socket))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
        try:
            with contextlib.closing(libvirt.open(self.uri)) as connection:
                return bool(connection.getHostname() == self.hostname)
        except libvirt.libvirtError as error:
            # it listens before it is ready, and may cut off whoever comes that early; if it has ended, that is seen
            if error.get_error_domain() != libvirt.VIR_FROM_RPC:
                raise
            return False


def _environment() -> Mapping[str, str]:
    """This process's environment without what a service manager may have told it."""
    told = ('NOTIFY_SOCKET', 'LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES')
    return {name: value for name, value in os.environ.items() if name not in told}


def _where_this_is(directory: pathlib.Path) -> list[int]:
    """The processes for which this directory is /run/libvirt.

    The namespace's own id would not do: the next namespace gets it as soon as the last process is gone.
    """

    def inside(entry: pathlib.Path) -> bool:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError, PermissionError):
            return os.path.samefile(entry / 'root' / 'run' / 'libvirt', directory)
        return False

    return processes.processes_with(inside)
