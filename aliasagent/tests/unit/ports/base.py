# SPDX-License-Identifier: Apache-2.0
"""A backing of ports with a fake Neutron, and operations that are killed."""

import dataclasses
import json
from typing import Any

from aliasagent.cloud.service import Service
from aliasagent.ports.backing import NeutronBacking
from aliasagent.ports.backing import Options
from aliasagent.ports.neutron import Neutron
from aliasagent.requests.port import AttachInterface
from aliasagent.tests import ids
from aliasagent.tests.neutron import FakeNeutron
from aliasagent.tests.unit.cloud import base

HOST = 'compute-1'
GUEST, OTHER_GUEST = ids.GUEST, ids.OTHER_GUEST
OWNER = 'compute:aliasagent'


class Killed(BaseException):
    """The agent was killed."""


@dataclasses.dataclass(frozen=True)
class Request:
    port_id: str

    def with_port(self, port: dict[str, Any]) -> dict[str, Any]:
        return {'port': port}


class Saves:
    """What the journal has of an operation's details.

    :param killed_at: the number of the save at which the agent is killed; 0 for none.
    :param is_saved: whether the journal has that save.
    """

    def __init__(self, killed_at: int = 0, *, is_saved: bool = False) -> None:
        self.killed_at = killed_at
        self.is_saved = is_saved
        self.details: dict[str, Any] = {}
        self.states: list[str] = []

    def __call__(self, details: dict[str, Any]) -> None:
        is_last = len(self.states) + 1 == self.killed_at
        if not is_last or self.is_saved:
            self.details = json.loads(json.dumps(details))
        self.states.append(details['state'])
        if is_last:
            raise Killed


class Clock:
    """A clock that goes on only while the agent waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses = 0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.pauses += 1
        self.on_pause()

    def on_pause(self) -> None:
        """What happens meanwhile; tests replace this."""


class PortsTestCase(base.CloudTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.neutron = FakeNeutron(self.cloud)
        self.clock = Clock()
        self.saves = Saves()
        self.conf = self.configured('neutron', more='timeout = 1\n')
        self.client = Neutron(Service(self.conf, 'neutron'))
        self.backing = self.make()

    def make(self, **options: Any) -> NeutronBacking:
        return NeutronBacking(
            self.client, Options(**{'host': HOST, **options}), clock=self.clock, pause=self.clock.pause
        )

    def prepare(self, port_id: str, guest: str = GUEST) -> AttachInterface:
        """Prepare with the details that were saved last."""
        arguments = self.backing.prepare(guest, Request(port_id), self.saves.details, self.saves)
        return AttachInterface.from_dict(arguments)

    def undo(self) -> None:
        self.backing.undo(GUEST, self.saves.details, self.saves)
