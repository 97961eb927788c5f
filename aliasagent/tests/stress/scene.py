# SPDX-License-Identifier: Apache-2.0
"""What the programs about a dying agent stand on: an agent, a hypervisor of its own and guests, all real."""

import collections
import contextlib
import dataclasses
import pathlib
import sqlite3
import tempfile
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import libvirt
from oslo_messaging import conffixture

from aliasagent import conf
from aliasagent.client import ComputeAPI
from aliasagent.client import rpc
from aliasagent.devices import identity
from aliasagent.devices.domain import Domain
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import Operation
from aliasagent.tests.fakes.libvirt import domain_xml
from aliasagent.tests.integration import base
from sandbox import environment
from sandbox import guest as guests
from sandbox import libvirtd
from sandbox.agent import Agent
from sandbox.agent import Options

ADDED, REMOVED = 'added', 'removed'
#: Seconds to wait for the answer to a call: about what an agent needs to start again.
CALL_TIMEOUT = 3


@dataclasses.dataclass(frozen=True)
class Device:
    """What one side of a guest has under an id."""

    kind: str
    #: The path of a disk's file, or the MAC address of an interface.
    what: str


Devices = dict[str, Device]


class Effects:
    """How often libvirt said that a device came into a running guest, and that it went."""

    def __init__(self, connection: Any) -> None:
        self._lock = threading.Lock()
        self._counts: collections.Counter[tuple[str, str, str]] = collections.Counter()
        for event, word in (
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, ADDED),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, REMOVED),
        ):
            connection.domainEventRegisterAny(None, event, self._on_event, word)

    def _on_event(self, _connection: Any, domain: Any, alias: str, word: str) -> None:
        with self._lock:
            self._counts[domain.UUIDString(), alias.removeprefix('ua-'), word] += 1

    def counts(self) -> 'collections.Counter[tuple[str, str, str]]':
        """By the guest, the device's id, and :data:`ADDED` or :data:`REMOVED`."""
        with self._lock:
            return self._counts.copy()


class Scene:
    """An agent, what it works on, and who asks it.

    :param options: of the agent, beside those that it needs to run here.
    """

    def __init__(self, side: base.RealSide, transport: Any, directory: pathlib.Path, options: Options) -> None:
        self.side = side
        self.transport = transport
        self.agent = Agent(
            directory,
            host=directory.name,
            rabbit_url=side.parts.rabbit_url,
            libvirt_uri=side.uri,
            options=options,
        )
        self.api = ComputeAPI(transport, directory.name, timeout=CALL_TIMEOUT)
        self.effects = Effects(side.connection)

    def paused_guest(self) -> str:
        """A guest whose processor stands still: it costs nothing, and lets go of SCSI disks all the same."""
        parts = self.side.parts
        guest = guests.TestGuest(
            self.side.connection, self.side.directory, parts.guest_image, memory=32, spare_ports=4
        ).define()
        self.side.made.append(guest)
        guest.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        return guest.uuid

    def running_guest(self) -> str:
        """A guest that runs and has no system: it uses little of its memory, and is saved in a moment."""
        instance = str(uuid.uuid4())
        self.side.connection.defineXML(domain_xml(f'guest-{instance[:8]}', instance)).create()
        return instance

    def shut_off_guest(self) -> str:
        return self.side.new_guest(state='shut off')

    def booted_guest(self) -> str:
        """A guest that lets go of interfaces, too."""
        guest = guests.TestGuest(self.side.connection, self.side.directory, self.side.parts.guest_image, spare_ports=6)
        self.side.made.append(guest)
        return guest.start().wait_ready(120).uuid

    def domain(self, guest: str) -> Any:
        return self.side.connection.lookupByUUIDString(guest)

    def sides(self, guest: str) -> dict[str, Devices]:
        """What is in each of a guest's definitions, by the ids in the aliases."""
        domain = self.domain(guest)
        texts = {'persistent': domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)}
        if domain.isActive():
            texts['live'] = domain.XMLDesc(0)
        return {side: _devices(text) for side, text in texts.items()}

    def accepted(self) -> int:
        """How many operations the agent has taken in so far."""
        return int(self._ask_journal('SELECT count(*) FROM operations'))

    def unfinished(self) -> int:
        """How many of them have no outcome yet."""
        return int(self._ask_journal("SELECT count(*) FROM operations WHERE state IN ('accepted', 'running')"))

    def has(self, operation_id: str) -> bool:
        """Whether the agent has taken in an operation."""
        return self._ask_journal('SELECT 1 FROM operations WHERE id = ?', operation_id) is not None

    def _ask_journal(self, question: str, *values: str) -> Any:
        """One value out of the journal's file, without getting into the agent's way."""
        with contextlib.closing(sqlite3.connect(f'file:{self.agent.journal}?mode=ro', uri=True)) as journal:
            found = journal.execute(question, values).fetchone()
        return None if found is None else found[0]

    def operations(self) -> list[Operation]:
        """All that the journal has, in the order it came in. The agent may run meanwhile."""
        journal = Journal(str(self.agent.journal))
        try:
            return journal.select(limit=1_000_000)
        finally:
            journal.close()


@contextlib.contextmanager
def scene(options: Options | None = None) -> Iterator[Scene]:
    """Bring everything up, and leave nothing behind."""
    parts = environment.read()
    with contextlib.ExitStack() as stack:
        daemon = libvirtd.Libvirtd(pathlib.Path(tempfile.mkdtemp(dir=parts.directory)))
        stack.callback(daemon.stop, destroy_guests=True)
        daemon.start()
        side = base.RealSide(daemon.uri)
        stack.callback(side.close)
        messaging = stack.enter_context(conffixture.ConfFixture(conf.CONF))
        messaging.transport_url = parts.rabbit_url
        conf.CONF([], project='aliasagent', default_config_files=[])
        stack.callback(conf.CONF.reset)
        transport = rpc.transport(conf.CONF)
        stack.callback(transport.cleanup)
        made = Scene(side, transport, pathlib.Path(tempfile.mkdtemp(dir=parts.directory)), options or {})
        stack.callback(made.agent.kill)
        yield made


def _devices(text: str) -> Devices:
    found: Devices = {}
    for device in Domain.parse(text).devices():
        if not device.is_claimed or device.device_id is None:
            continue
        assert device.device_id not in found, f'{device.device_id} is there twice'
        what = device.source if device.kind == 'disk' else identity.claim(device).mac
        found[device.device_id] = Device(device.kind, str(what))
    return found
