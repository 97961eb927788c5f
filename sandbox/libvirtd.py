# SPDX-License-Identifier: Apache-2.0
"""Runs a private libvirtd, separate from the host's: with its own state, configuration, host name and identity.

The daemon runs in a mount namespace with private directories in place of libvirt's. A process that only sleeps keeps
the namespace, so that guests keep running while the daemon restarts, as on a real host. Several libvirtd can run at the
same time, and migrate guests to each other.
"""

import contextlib
import os
import pathlib
import signal
import socket
import uuid
from collections.abc import Mapping
from collections.abc import Sequence

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

# Clients need no password.
LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
"""

# Only root may connect, or a group of users too.
ROOT_CONF = 'unix_sock_rw_perms = "0700"\n'
GROUP_CONF = """\
unix_sock_group = "{group}"
unix_sock_rw_perms = "0770"
"""

# Clients need a certificate for TLS, and no password.
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

# The directories of libvirtd, and the private directories in their place.
DIRECTORIES = {
    '/run/libvirt': 'run',
    '/var/lib/libvirt': 'lib',
    '/var/cache/libvirt': 'cache',
    '/var/log/libvirt': 'log',
    '/etc/libvirt': 'etc',
}

# The host's message bus is hidden: otherwise guests would be registered with the host's systemd.
HIDDEN = ('/run/dbus',)


class Libvirtd:
    """A private libvirtd.

    :param directory: has all its files; created if it does not exist. Another object with the same directory finds the
        running daemon and its guests.
    :param hostname: the host name that the daemon reports
    :param own_network: run in a private network namespace. Bridges for its guests have to be made there, by commands
        with :meth:`inside`, and are removed with the namespace
    :param environment: more environment variables for the daemon and its child processes
    :param authority: issues the certificates of the daemon and of its TLS clients; None for no TLS
    :param group: a group whose members may connect too
    :param commands: shell commands that prepare the mount namespace, such as :func:`sandbox.nfs.commands`
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
        commands: Sequence[str] = (),
    ) -> None:
        self.directory = directory.resolve()
        self.hostname = hostname
        self.own_network = own_network
        self.environment = environment or {}
        self._authority = authority
        self._tls_port = 0 if authority is None else processes.free_port()
        self._group = group
        self._commands = commands
        self._daemon = processes.Process('libvirtd', self.directory)
        self._holder = processes.Process('namespace', self.directory)
        if len(str(self._socket)) > 107:
            raise processes.PartFailed(f'{self._socket}: more than 107 characters, too long for a socket')

    @property
    def _socket(self) -> pathlib.Path:
        return self.directory / 'run' / 'libvirt-sock'

    @property
    def uri(self) -> str:
        """The connection URI for any process on this host."""
        return f'qemu+unix:///system?socket={self._socket}'

    @property
    def tls_uri(self) -> str:
        """The connection URI for TLS; the client has to add ``pkipath``, the directory of its certificates."""
        return f'qemu+tls://localhost:{self._tls_port}/system'

    @property
    def log(self) -> pathlib.Path:
        """The standard output and error of the daemon."""
        return self._daemon.log

    @property
    def pid(self) -> int | None:
        """The process id of the daemon; None while the daemon does not run."""
        return self._daemon.pid

    def inside(self, *command: str | os.PathLike[str], network: bool = True) -> list[str | os.PathLike[str]]:
        """Return the command line that runs a command in the namespaces of the daemon.

        :param network: also in its network namespace, if it has its own
        :raises PartFailed: the daemon has not been started
        """
        pid = self._holder.pid
        if pid is None:
            raise processes.PartFailed(f'{self.hostname} has not been started')
        net = ['--net'] if self.own_network and network else []
        return ['nsenter', '--target', str(pid), '--mount', '--uts', *net, '--root', '--wd', *command]

    def start(self, timeout: float = 60) -> None:
        """Start the daemon, and wait until it answers; do nothing if it runs.

        A first start that fails leaves no process running; a later one does not change the guests.

        :raises PartFailed: the daemon ended, or does not answer within ``timeout`` seconds
        """
        if self._daemon.pid is not None:
            return
        self._prepare()
        new = self._hold_namespace()
        try:
            # the default directory of the pid file, /run, is the host's
            listen = [] if self._authority is None else ['--listen']
            command = self.inside('libvirtd', '--pid-file', '/run/libvirt/daemon.pid', *listen)
            self._daemon.start(command, environment={**_environment(), **self.environment})
            self._daemon.wait_ready(self._answers, timeout)
        except BaseException:
            if new:
                self.stop(destroy_guests=True)
            raise

    def stop(self, destroy_guests: bool = False) -> None:
        """Stop the daemon with SIGTERM; its guests keep running.

        :param destroy_guests: also kill the guests and all other processes of the namespace; configurations stay
        :raises PartFailed: a process does not end
        """
        if not destroy_guests:
            self._daemon.end(signal.SIGTERM)
        else:
            try:
                self._daemon.end(signal.SIGTERM, timeout=15)
            except processes.PartFailed:
                # libvirtd 11.3 can hang at its end; here all guests are destroyed, so that a kill loses nothing
                self.kill()
            processes.kill_all(lambda: _processes_inside(self.directory / 'run'), f'the guests of {self.hostname}')
            self._holder.end(signal.SIGKILL)

    def kill(self) -> None:
        """Kill only the daemon (SIGKILL)."""
        self._daemon.end(signal.SIGKILL)

    def restart(self, timeout: float = 60) -> None:
        """Stop and start the daemon; its guests keep running."""
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
        """Make the namespace; return False if it exists already."""
        if self._holder.pid is not None:
            return False
        marker = self.directory / 'namespace.ready'
        marker.unlink(missing_ok=True)
        commands = ['set -e']
        commands += [f'mount --bind "{self.directory / name}" {target}' for target, name in DIRECTORIES.items()]
        commands += [f'if [ -d {bus} ]; then mount --bind "{self.directory}/hidden" {bus}; fi' for bus in HIDDEN]
        if self.own_network:
            # /sys shows the interfaces of the network namespace in which it was mounted
            commands += ['mount -t sysfs sysfs /sys', 'ip link set lo up']
        commands += self._commands
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
        # a daemon that does not listen yet is not an error, but libvirt would print one
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self._socket))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
        try:
            with contextlib.closing(libvirt.open(self.uri)) as connection:
                return bool(connection.getHostname() == self.hostname)
        except libvirt.libvirtError as error:
            # the daemon listens before it is ready, and may close early connections
            if error.get_error_domain() != libvirt.VIR_FROM_RPC:
                raise
            return False


def _environment() -> Mapping[str, str]:
    """Return the environment of this process without the variables of a service manager."""
    variables = ('NOTIFY_SOCKET', 'LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES')
    return {name: value for name, value in os.environ.items() if name not in variables}


def _processes_inside(directory: pathlib.Path) -> list[int]:
    """Return the processes for which this directory is /run/libvirt."""
    # The id of the namespace would not do: the kernel reuses it as soon as the last process has ended.

    def inside(entry: pathlib.Path) -> bool:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError, PermissionError):
            return os.path.samefile(entry / 'root' / 'run' / 'libvirt', directory)
        return False

    return processes.processes_with(inside)
