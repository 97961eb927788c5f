# SPDX-License-Identifier: Apache-2.0
"""Requests to detach a volume, a port, or any device by its id."""

import dataclasses
from typing import ClassVar
from typing import Self

from aliasagent.actions import Action
from aliasagent.requests import base
from aliasagent.requests import schema as parts


@dataclasses.dataclass(frozen=True)
class DetachVolume(base.Detach):
    """Remove the disk of a volume from a guest."""

    action: ClassVar = Action.DETACH_VOLUME
    schema: ClassVar = parts.whole({**base.INSTANCE, 'volume_id': base.DEVICE_ID})
    kind: ClassVar = 'disk'

    volume_id: str

    @classmethod
    def from_dict(cls, arguments: base.Json) -> Self:
        return cls(base.normal(arguments['volume_id']))

    def to_dict(self) -> base.Json:
        return {'volume_id': self.volume_id}

    @property
    def device_id(self) -> str:
        return self.volume_id


@dataclasses.dataclass(frozen=True)
class DetachInterface(base.Detach):
    """Remove the interface of a port from a guest."""

    action: ClassVar = Action.DETACH_INTERFACE
    schema: ClassVar = parts.whole({**base.INSTANCE, 'port_id': base.DEVICE_ID})
    kind: ClassVar = 'interface'

    port_id: str

    @classmethod
    def from_dict(cls, arguments: base.Json) -> Self:
        return cls(base.normal(arguments['port_id']))

    def to_dict(self) -> base.Json:
        return {'port_id': self.port_id}

    @property
    def device_id(self) -> str:
        return self.port_id


@dataclasses.dataclass(frozen=True)
class DetachDevice(base.Detach):
    """Remove the device with an id from a guest, whatever its kind."""

    action: ClassVar = Action.DETACH
    schema: ClassVar = parts.whole({**base.INSTANCE, 'device_id': base.DEVICE_ID})
    kind: ClassVar = None

    id: str

    @classmethod
    def from_dict(cls, arguments: base.Json) -> Self:
        return cls(base.normal(arguments['device_id']))

    def to_dict(self) -> base.Json:
        return {'device_id': self.id}

    @property
    def device_id(self) -> str:
        return self.id
