# SPDX-License-Identifier: Apache-2.0
"""Runs a private RabbitMQ node: with its own name, ports, data and cookie, on the loopback address only."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
from typing import Any

from kombu import connection as kombu_connection

from sandbox import certificates
from sandbox import processes

# Unlike the distribution's /usr/sbin/rabbitmq-server, this one does not change to the user of the host's broker.
SERVER = pathlib.Path('/usr/lib/rabbitmq/bin/rabbitmq-server')
CONTROL = SERVER.with_name('rabbitmqctl')

# A variable in the environment of each process of a node, by which all its processes are found.
MARK = 'ALIASAGENT_TEST_BROKER'


class RabbitMQ:
    """A private broker.

    :param directory: has its data, logs and ports; created if it does not exist. Another object with the same directory
        finds the running node.
    :param authority: issues the certificates of the node and of its TLS clients; None for no TLS
    """

    def __init__(self, directory: pathlib.Path, authority: certificates.Authority | None = None) -> None:
        self.directory = directory.resolve()
        self._authority = authority
        self._server = processes.Process('rabbitmq', self.directory)
        self._names = processes.Process('epmd', self.directory)

    @property
    def url(self) -> str:
        """The ``transport_url`` of the node; the same after a restart."""
        return f'rabbit://guest:guest@127.0.0.1:{self._ports()["amqp"]}/'

    @property
    def tls_url(self) -> str:
        """The ``transport_url`` of the node for TLS."""
        return f'rabbit://guest:guest@localhost:{self._ports()["amqps"]}/'

    @property
    def pid(self) -> int | None:
        """The process id of the server; None while the server does not run."""
        return self._server.pid

    def start(self, timeout: float = 90) -> None:
        """Start the node, and wait until a client can log in; do nothing if it runs.

        :raises PartFailed: RabbitMQ is not installed, ended, or accepts no client within ``timeout`` seconds; the error
            includes the end of the log
        """
        if self._server.pid is not None:
            return
        if not SERVER.exists():
            raise processes.PartFailed(f'{SERVER} does not exist: install the package rabbitmq-server')
        for name in ('data', 'log', 'home'):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        settings = ['loopback_users = none', 'log.console = true', *self._tls()]
        (self.directory / 'rabbitmq.conf').write_text('\n'.join(settings) + '\n')
        (self.directory / 'plugins').write_text('[].\n')
        environment = self._environment()
        if self._names.pid is None:
            # a private epmd for the node; otherwise RabbitMQ would start one that keeps running
            port = environment['ERL_EPMD_PORT']
            self._names.start(['epmd', '-address', '127.0.0.1', '-port', port], environment)
        self._server.start([SERVER], environment)
        self._server.wait_ready(self._accepts_login, timeout)

    def stop(self) -> None:
        """Stop the node with SIGTERM; durable data is kept for the next start.

        :raises PartFailed: a process does not end
        """
        self._server.end(signal.SIGTERM, timeout=60)
        self._names.end(signal.SIGTERM)
        processes.kill_all(self._all_processes, 'the broker')

    def kill(self) -> None:
        """Kill the node, as a power failure would (SIGKILL)."""
        processes.kill_all(self._all_processes, 'the broker')
        self._server.end(signal.SIGKILL)
        self._names.end(signal.SIGKILL)

    def restart(self, timeout: float = 90) -> None:
        """Stop and start the node; the url and durable data stay."""
        self.stop()
        self.start(timeout)

    def control(self, *command: str) -> str:
        """Run a command of rabbitmqctl on the node, and return its output.

        :raises PartFailed: the command failed.
        """
        done = subprocess.run(
            [CONTROL, '--quiet', *command], env=self._environment(), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise processes.PartFailed(f'rabbitmqctl {" ".join(command)}: {done.stderr.strip()[-2000:]}')
        return done.stdout

    def depths(self) -> dict[str, int]:
        """Return the number of messages in each queue, including unacknowledged ones."""
        lines = self.control('list_queues', '--no-table-headers', 'name', 'messages').splitlines()
        return {name: int(messages) for name, messages in (line.split('\t') for line in lines)}

    def _tls(self) -> list[str]:
        if self._authority is None:
            return []
        certificate, key = self._authority.issue('rabbitmq', 'localhost', '127.0.0.1')
        return [
            f'listeners.ssl.1 = 127.0.0.1:{self._ports()["amqps"]}',
            f'ssl_options.cacertfile = {self._authority.file}',
            f'ssl_options.certfile = {certificate}',
            f'ssl_options.keyfile = {key}',
            'ssl_options.verify = verify_peer',
            'ssl_options.fail_if_no_peer_cert = true',
        ]

    def _ports(self) -> dict[str, int]:
        path = self.directory / 'ports.json'
        if not path.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            ports = {name: processes.free_port() for name in ('amqp', 'amqps', 'distribution', 'epmd')}
            path.write_text(json.dumps(ports))
        found: dict[str, int] = json.loads(path.read_text())
        return found

    def _environment(self) -> dict[str, str]:
        ports = self._ports()
        kept = {name: os.environ[name] for name in ('PATH', 'LANG', 'TZ') if name in os.environ}
        return kept | {
            MARK: str(self.directory),
            'HOME': str(self.directory / 'home'),
            'ERL_EPMD_ADDRESS': '127.0.0.1',
            'ERL_EPMD_PORT': str(ports['epmd']),
            'RABBITMQ_NODENAME': 'aliasagent@localhost',
            'RABBITMQ_NODE_IP_ADDRESS': '127.0.0.1',
            'RABBITMQ_NODE_PORT': str(ports['amqp']),
            'RABBITMQ_DIST_PORT': str(ports['distribution']),
            'RABBITMQ_MNESIA_BASE': str(self.directory / 'data'),
            'RABBITMQ_LOG_BASE': str(self.directory / 'log'),
            'RABBITMQ_PID_FILE': str(self.directory / 'node.pid'),
            'RABBITMQ_CONFIG_FILE': str(self.directory / 'rabbitmq.conf'),
            'RABBITMQ_CONF_ENV_FILE': str(self.directory / 'no-environment-file'),
            'RABBITMQ_ENABLED_PLUGINS_FILE': str(self.directory / 'plugins'),
            # the node connects over the loopback address only; two schedulers are enough
            'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': '-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none',
        }

    def _accepts_login(self) -> bool:
        make: Any = kombu_connection.Connection
        connection = make(self.url.replace('rabbit://', 'amqp://', 1), connect_timeout=5)
        try:
            connection.connect()
        except (OSError, *connection.connection_errors):
            return False
        finally:
            connection.release()
        return True

    def _all_processes(self) -> list[int]:
        mark = f'{MARK}={self.directory}'.encode()

        def ours(entry: pathlib.Path) -> bool:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                return mark in (entry / 'environ').read_bytes().split(b'\0')
            return False

        return processes.processes_with(ours)
