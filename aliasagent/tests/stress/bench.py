# SPDX-License-Identifier: Apache-2.0
"""What the programs about failures stand on: an agent, its hypervisor and its guests, all their own, and a client.

The guests have no operating system: they cost next to nothing, release a SCSI disk at once, and a virtio disk only when
they are reset.
"""

import contextlib
import dataclasses
import hashlib
import logging
import pathlib
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any
from typing import Self

import libvirt
import oslo_messaging
from kombu import connection as kombu_connection

from aliasagent import conf
from aliasagent import exception
from aliasagent.client import ComputeAPI
from aliasagent.client import rpc
from aliasagent.context import RequestContext
from aliasagent.tests.contract import harness
from aliasagent.virt import host
from sandbox import environment
from sandbox import libvirtd
from sandbox import materials
from sandbox import processes
from sandbox.agent import Agent
from sandbox.agent import Options

#: Seconds that a call may take before it is made again.
CALL_SECONDS = 5

_SAVED = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
_ALIAS = re.compile(r"<alias name='ua-([^']*)'/>")


def quiet() -> None:
    """Keep to itself what the client's library says about each connection that was lost."""
    logging.getLogger('oslo.messaging').setLevel(logging.CRITICAL)


def definition(instance: str) -> str:
    """A guest that boots nothing, with a SCSI controller and two free PCIe ports."""
    ports = "<controller type='pci' model='pcie-root-port'/>" * 3
    return f"""
<domain type='qemu'>
  <name>guest-{instance[:8]}</name><uuid>{instance}</uuid><memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <controller type='pci' model='pcie-root'/>{ports}
    <controller type='scsi' index='0' model='virtio-scsi'/>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>"""


@dataclasses.dataclass(frozen=True)
class Ids:
    """The ids that user aliases of a guest name."""

    live: frozenset[str]
    persistent: frozenset[str]

    def __contains__(self, device: str) -> bool:
        return device in self.live or device in self.persistent


class Bench:
    """An agent that runs, and what it runs on; a context manager, which takes it all away.

    :param guests: how many; they run.
    :param rabbit_url: a broker; that of the environment if None.
    :param options: more options of the agent, by group. The client has the same.
    :param started: whether the agent is started right away.
    """

    def __init__(
        self, guests: int, *, rabbit_url: str | None = None, options: Options | None = None, started: bool = True
    ) -> None:
        self._guests = guests
        self._rabbit_url = rabbit_url
        self._options = options
        self._started = started
        self._stack = contextlib.ExitStack()
        self._connection: Any = None
        self.guests: list[str] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            parts = environment.read()
            self.directory = pathlib.Path(tempfile.mkdtemp(dir=parts.directory))
            self.host_name = self.directory.name
            self.daemon = libvirtd.Libvirtd(self.directory / 'libvirt')
            self.daemon.start()
            stack.callback(self.daemon.stop, destroy_guests=True)
            stack.callback(self._disconnect)
            self.guests = [self.new_guest() for _ in range(self._guests)]
            self.agent = Agent(
                self.directory / 'agent',
                host=self.host_name,
                rabbit_url=self._rabbit_url or parts.rabbit_url,
                libvirt_uri=self.daemon.uri,
                options=self._options,
            )
            self.agent.write_config()
            stack.callback(self.agent.kill)
            # As the command reads its configuration: the agent's own file.
            conf.CONF(['--config-file', str(self.agent.config)], project='aliasagent')
            stack.callback(conf.CONF.reset)
            self._transport = rpc.transport(conf.CONF)
            stack.callback(self._transport.cleanup)
            if self._started:
                self.agent.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: object, *_more: object) -> None:
        self._stack.close()
        if kind is None:
            shutil.rmtree(self.directory)

    def api(self, timeout: int = CALL_SECONDS) -> ComputeAPI:
        """A client of the agent."""
        return ComputeAPI(self._transport, self.host_name, timeout=timeout)

    def raw_client(self, version: str, topic: str = rpc.TOPIC) -> Any:
        """A client that sends what ours would not."""
        return rpc.client(self._transport, version, topic=topic, timeout=CALL_SECONDS).prepare(server=self.host_name)

    @property
    def rabbit_url(self) -> str:
        """The broker that the agent listens to."""
        return str(self.agent.options['DEFAULT']['transport_url'])

    @property
    def journal(self) -> pathlib.Path:
        """The agent's journal."""
        return pathlib.Path(str(self.agent.options['operations']['journal']))

    def waiting(self, topic: str) -> int:
        """How many messages for the agent are with the broker and on their way to nobody."""
        make: Any = kombu_connection.Connection
        with make(self.rabbit_url.replace('rabbit://', 'amqp://', 1)) as connection:
            declared = connection.default_channel.queue_declare(f'{topic}.{self.host_name}', passive=True)
            return int(declared.message_count)

    # The hypervisor

    @property
    def connection(self) -> Any:
        """This process's own connection to the hypervisor, made anew if the daemon is another."""
        if self._connection is None or not self._connection.isAlive():
            self._disconnect()
            self._connection = host.open_libvirt(self.daemon.uri)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.close()
        self._connection = None

    def new_guest(self) -> str:
        """One more running guest; its UUID."""
        instance = str(uuid.uuid4())
        self.connection.defineXML(definition(instance)).create()
        return instance

    def domain(self, guest: str) -> Any:
        return self.connection.lookupByUUIDString(guest)

    def ids(self, guest: str) -> Ids:
        """The devices that the guest has by user alias."""
        domain = self.domain(guest)
        live, persistent = (frozenset(_ALIAS.findall(domain.XMLDesc(flags))) for flags in (0, _SAVED))
        return Ids(live, persistent)

    def digest(self) -> str:
        """A digest of all that libvirt knows of all guests, live and persistent."""
        texts = [self.domain(guest).XMLDesc(flags) for guest in self.guests for flags in (0, _SAVED)]
        return hashlib.sha256(''.join(texts).encode()).hexdigest()

    def new_volume(self) -> tuple[str, dict[str, Any]]:
        """A volume's id, and its ``connection_info``."""
        volume = str(uuid.uuid4())
        return volume, harness.file_connection(materials.make_disk(self.directory / 'volumes' / volume))

    # What became of it

    def operation(self, operation_id: str) -> dict[str, Any] | None:
        """What the agent says about an operation; None if it does not know it, or does not answer."""
        try:
            return self.api().get_operation(RequestContext(), operation_id)
        except (exception.OperationNotFound, oslo_messaging.MessagingTimeout):
            return None

    def wait_state(self, operation_id: str, *states: str, timeout: float = harness.SOON) -> dict[str, Any]:
        """Wait until an operation is in one of these states.

        :raises PartFailed: it never was.
        """

        def reached() -> dict[str, Any] | None:
            found = self.operation(operation_id)
            return found if found is not None and found['state'] in states else None

        return processes.wait_until(reached, timeout, f'operation {operation_id} to be {" or ".join(states)}')

    def operations(self, guest: str) -> list[dict[str, Any]]:
        """All operations on a guest, in the order they were accepted; 1000 at most."""
        return self.api().list_operations(RequestContext(), guest, limit=1000)

    def logged(self, *words: str) -> Iterator[str]:
        """The lines of the agent's log that hold all of these words."""
        with self.agent.log.open(errors='replace') as log:
            yield from (line.rstrip('\n') for line in log if all(word in line for word in words))
