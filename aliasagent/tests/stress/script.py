# SPDX-License-Identifier: Apache-2.0
"""What is asked of one guest, in order, and what must become of it: a model that knows nothing of the agent.

Nobody else touches the guest, so the outcome of each request is known before it is made, be it a success or a failure.
"""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

from aliasagent.actions import Action
from aliasagent.context import RequestContext
from aliasagent.tests.contract import harness
from aliasagent.tests.stress.scene import ADDED
from aliasagent.tests.stress.scene import REMOVED
from aliasagent.tests.stress.scene import Device
from aliasagent.tests.stress.scene import Devices

Json = dict[str, Any]

#: How many disks a guest's SCSI controller has room for, and how many interfaces a guest has slots for, with one spare.
_MOST = {'disk': 6, 'interface': 3}


@dataclasses.dataclass(frozen=True)
class Request:
    """One thing that is asked, always under the same id."""

    context: RequestContext
    action: Action
    guest: str
    #: Without the guest.
    arguments: Json
    device_id: str
    #: What the device is, if it is to be attached.
    device: Device | None = None

    @property
    def id(self) -> str:
        return self.context.operation_id

    @property
    def words(self) -> str:
        return f'{self.action} of {self.device_id}, guest {self.guest}, operation {self.id}'


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What must become of a request."""

    #: None for a success.
    error_class: str | None = None
    #: What the error has to say.
    words: str = ''
    #: What happens to the guest: :data:`ADDED`, :data:`REMOVED` or nothing.
    effect: str | None = None


class Model:
    """One guest's devices."""

    def __init__(self) -> None:
        self.devices: Devices = {}

    def do(self, request: Request) -> Outcome:
        """Do what the agent must do, and say what that is."""
        outcome = self._attach(request) if request.device else self._detach(request)
        match outcome.effect:
            case 'added':
                assert request.device is not None
                self.devices[request.device_id] = request.device
            case 'removed':
                del self.devices[request.device_id]
        return outcome

    def _attach(self, request: Request) -> Outcome:
        wanted, there = request.device, self.devices.get(request.device_id)
        assert wanted is not None
        if wanted.what == NOWHERE:
            return Outcome('InvalidInput', f'{NOWHERE} does not exist')
        if there is None:
            return Outcome(effect=ADDED)
        if there == wanted:
            return Outcome()
        return Outcome('DeviceConflict', f'{there.what}, the request asks for {wanted.what}')

    def _detach(self, request: Request) -> Outcome:
        there = self.devices.get(request.device_id)
        kind = {Action.DETACH_VOLUME: 'disk', Action.DETACH_INTERFACE: 'interface'}.get(request.action)
        if there is None:
            return Outcome('DeviceNotFound', request.device_id)
        if kind not in (None, there.kind):
            return Outcome('DeviceConflict', f'it is no {kind} but a {there.kind}')
        return Outcome(effect=REMOVED)


#: A path at which there is nothing.
NOWHERE = '/no/such/file.img'


class Script:
    """Makes up requests to one guest that make sense in their order, and some that have to fail.

    :param files: disk images that no other guest uses.
    :param bridge: what interfaces are plugged into; None for a guest that gets none.
    :param idle: how much more often than all else it asks for what costs little: to detach what is not there.
    """

    def __init__(
        self, guest: str, files: list[str], bridge: str | None, choices: random.Random, *, idle: float = 0
    ) -> None:
        self.guest = guest
        self._files = files
        self._bridge = bridge
        self._random = choices
        self._idle = idle
        self._model = Model()
        self._gone: list[str] = []

    def next(self) -> Request:
        """The next request; taken for done as soon as the one after it is asked for."""
        request = self._choose()
        if self._model.do(request).effect == REMOVED:
            self._gone.append(request.device_id)
        return request

    def _choose(self) -> Request:
        disks, interfaces = self._there('disk'), self._there('interface')
        ways: list[tuple[float, Callable[[], Request]]] = [
            (2 + 12 * self._idle, self._detach_nothing),
            (2, lambda: self._attach_disk(harness.new_id(), NOWHERE)),
        ]
        if len(disks) < _MOST['disk']:
            ways.append((8, lambda: self._attach_disk(self._new_or_gone(), self._free_file())))
        if disks:
            ways += [
                (7, lambda: self._detach(Action.DETACH_VOLUME, self._random.choice(disks))),
                (1, lambda: self._detach(Action.DETACH, self._random.choice(disks))),
                (1, lambda: self._detach(Action.DETACH_INTERFACE, self._random.choice(disks))),
                (2, lambda: self._attach_again(self._random.choice(disks))),
                (2, lambda: self._attach_disk(self._random.choice(disks), self._free_file())),
            ]
        if self._bridge is not None and len(interfaces) < _MOST['interface']:
            ways.append((4, lambda: self._attach_interface(self._new_or_gone(), harness.new_mac())))
        if interfaces:
            ways += [
                (4, lambda: self._detach(Action.DETACH_INTERFACE, self._random.choice(interfaces))),
                (1, lambda: self._detach(Action.DETACH_VOLUME, self._random.choice(interfaces))),
                (1, lambda: self._attach_again(self._random.choice(interfaces))),
            ]
        (_weight, make) = self._random.choices(ways, [weight for weight, _make in ways])[0]
        return make()

    def _there(self, kind: str) -> list[str]:
        return [device_id for device_id, device in self._model.devices.items() if device.kind == kind]

    def _free_file(self) -> str:
        used = {device.what for device in self._model.devices.values()}
        return self._random.choice([file for file in self._files if file not in used])

    def _new_or_gone(self) -> str:
        """An id that the guest does not have, or does not have any more."""
        back = [device_id for device_id in self._gone if device_id not in self._model.devices]
        return self._random.choice(back) if back and self._random.random() < 0.3 else harness.new_id()

    def _detach_nothing(self) -> Request:
        device_id = self._new_or_gone()
        return self._detach(self._random.choice((Action.DETACH_VOLUME, Action.DETACH)), device_id)

    def _attach_again(self, device_id: str) -> Request:
        there = self._model.devices[device_id]
        attach = self._attach_disk if there.kind == 'disk' else self._attach_interface
        return attach(device_id, there.what)

    def _attach_disk(self, device_id: str, path: str) -> Request:
        arguments = {'volume_id': device_id, 'connection_info': harness.file_connection(path), 'disk_bus': 'scsi'}
        return self._request(Action.ATTACH_VOLUME, arguments, device_id, Device('disk', path))

    def _attach_interface(self, device_id: str, mac: str) -> Request:
        port = {'id': device_id, 'address': mac, 'vif_type': 'bridge', 'bridge': self._bridge}
        return self._request(Action.ATTACH_INTERFACE, {'port': port}, device_id, Device('interface', mac))

    def _detach(self, action: Action, device_id: str) -> Request:
        name = {Action.DETACH_VOLUME: 'volume_id', Action.DETACH_INTERFACE: 'port_id'}.get(action, 'device_id')
        return self._request(action, {name: device_id}, device_id)

    def _request(self, action: Action, arguments: Json, device_id: str, device: Device | None = None) -> Request:
        return Request(RequestContext(), action, self.guest, arguments, device_id, device)
