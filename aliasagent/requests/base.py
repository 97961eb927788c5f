# SPDX-License-Identifier: Apache-2.0
"""What all requests have in common.

A request is parsed once, when its message comes in or when it is read from the journal, and is a typed object from
there on. :meth:`Request.from_dict` takes arguments that are valid by the request's schema; members that the type does
not know, passwords among them, are left out.
"""

import abc
import dataclasses
from typing import Any
from typing import ClassVar
from typing import Self
from typing import TypeVar

from aliasagent.actions import Action
from aliasagent.allowed import rules
from aliasagent.devices import base as devices
from aliasagent.devices import differences
from aliasagent.devices import names
from aliasagent.requests import schema as parts

#: An object of JSON: what messages and the journal hold.
Json = dict[str, Any]
_Type = TypeVar('_Type')

UUID = parts.string('uuid')
DEVICE_ID = parts.string('device-id')
INSTANCE = {'instance_uuid': UUID}


class Request(abc.ABC):
    """What a client asks of the agent, without the guest that it is about."""

    action: ClassVar[Action]
    #: The JSON Schema of the message's arguments, with ``instance_uuid``.
    schema: ClassVar[parts.Schema]

    @classmethod
    @abc.abstractmethod
    def from_dict(cls, arguments: Json) -> Self:
        """Read a request from arguments that are valid by its schema."""

    @abc.abstractmethod
    def to_dict(self) -> Json:
        """Return the arguments, without what says no more than if it were left out."""

    @property
    def device_id(self) -> str:
        """The id of the device that the request is about; empty if it is about no single one."""
        return ''

    def needs(self) -> list[rules.Need]:
        """List what of the host the request names, for the options ``[allowed]``."""
        return []


class Attach(Request):
    """A request that gives a guest a device."""

    @abc.abstractmethod
    def decided(self) -> differences.Decided:
        """List the device's properties that the request decides, each with its field."""


class BuiltAttach(Attach):
    """An attach whose device is the same whatever the guest has."""

    @abc.abstractmethod
    def device(self, *, dead_vlan: bool = False) -> devices.Device:
        """Build the device, with its alias.

        :param dead_vlan: whether an Open vSwitch port that names no VLAN may reach nothing.
        :raises InvalidInput: the parts of the request do not go together.
        """


class Detach(Request):
    """A request that takes a device out of a guest."""

    #: What the device has to be; None for any kind.
    kind: ClassVar[str | None]


class Move(Request):
    """A request that makes a running guest anew, here or on another host."""


def known(cls: type[_Type], members: Json) -> _Type:
    """Make an object of those members that its type has, and that say something."""
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return cls(**{name: value for name, value in members.items() if name in fields and value is not None})


def members(one: object) -> Json:
    """Return the members of a flat object that say something."""
    return {
        field.name: value
        for field in dataclasses.fields(one)  # type: ignore[arg-type]
        if (value := getattr(one, field.name)) is not None and value != field.default
    }


def lower(text: str | None) -> str | None:
    """Return a text in small letters."""
    return None if text is None else text.lower()


def normal(device_id: str) -> str:
    """Return an id as it is kept: UUIDs as libvirt and Nova write them, so that one volume has one alias."""
    return names.normal(device_id)
