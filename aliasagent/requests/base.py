# SPDX-License-Identifier: Apache-2.0
"""The base classes of all requests.

The agent parses a request once, from its message or from the journal, into a typed object. :meth:`Request.from_dict`
takes arguments that are valid by the request's schema. It drops members that the type does not have, such as passwords.
"""

import abc
import dataclasses
from collections.abc import Callable
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

#: An object of JSON, as in messages and in the journal.
Json = dict[str, Any]
_Type = TypeVar('_Type')

UUID = parts.string('uuid')
DEVICE_ID = parts.string('device-id')
INSTANCE = {'instance_uuid': UUID}
#: The field of a :class:`Management` request, since version 1.4 of the contract.
FORCE: parts.Schema = {'force': {'type': 'boolean'}}


@dataclasses.dataclass(frozen=True)
class Defaults:
    """What the agent adds to a request that leaves it to the agent."""

    #: The user that QEMU logs in to Ceph as, and the libvirt secret with the user's key.
    ceph_user: str | None = None
    ceph_secret_uuid: str | None = None
    #: The user whose key this secret has; None if the agent does not know it, because it has no keyring.
    ceph_key_user: str | None = None
    #: The network interface of a PCI function of this host, and its vhost-vdpa device; None if it has none.
    interface_of: Callable[[str], str | None] = lambda _slot: None
    vdpa_of: Callable[[str], str | None] = lambda _slot: None
    #: Why the agent cannot ask Cinder for a volume, and Neutron for a port; None if it can.
    without_cinder: str | None = 'this agent has no Cinder to ask'
    without_neutron: str | None = 'this agent has no Neutron to ask'


class Request(abc.ABC):
    """A client's request, without the id of its guest."""

    action: ClassVar[Action]
    #: The JSON Schema of the message's arguments, with ``instance_uuid``.
    schema: ClassVar[parts.Schema]

    @classmethod
    @abc.abstractmethod
    def from_dict(cls, arguments: Json) -> Self:
        """Read a request from arguments that are valid by its schema."""

    @abc.abstractmethod
    def to_dict(self) -> Json:
        """Return the arguments, without members that have their default."""

    @property
    def device_id(self) -> str:
        """Return the id of the request's device; empty for a request without a single device."""
        return ''

    def needs(self) -> list[rules.Need]:
        """List the files, devices, networks and addresses that the request names, for the options ``[allowed]``."""
        return []

    def completed(self, _defaults: Defaults) -> Self:
        """Return the request with what it leaves to the agent, as the journal keeps it.

        :raises InvalidInput: the agent does not have it either.
        """
        return self


class Management(Request):
    """A request that Nova would not know of, so that ``manage = aliases`` refuses it in Nova's guests."""

    #: What it costs in a guest of Nova, for the error message.
    cost: ClassVar[str]
    #: Whether to do it in a guest of Nova, too.
    force: bool = False


class Attach(Management):
    """A request that gives a guest a device."""

    cost: ClassVar[str] = (
        'Nova will not know the device, and the device is gone after the next hard reboot, stop and start, resize or '
        'migration by Nova'
    )

    @abc.abstractmethod
    def decided(self) -> differences.Decided:
        """Return the device's properties that the request decides, each with its field."""


class AttachById(Management):
    """A request that gives a guest a device, for which the agent asks a service of the cloud."""

    cost: ClassVar[str] = Attach.cost
    #: What the agent makes there for the device: ``volume`` or ``port``.
    connects: ClassVar[str]


class BuiltAttach(Attach):
    """An attach whose device does not depend on the guest."""

    @abc.abstractmethod
    def device(self, *, dead_vlan: bool = False) -> devices.Device:
        """Build the device, with its alias.

        :param dead_vlan: whether an Open vSwitch port without VLAN gets a VLAN in which it reaches nothing.
        :raises InvalidInput: parts of the request contradict each other.
        """


class Detach(Request):
    """A request that removes a device from a guest."""

    #: The required kind of the device; None for any kind.
    kind: ClassVar[str | None]


class Move(Management):
    """A request that restores or migrates a running guest with a new definition."""


def of_members(cls: type[_Type], members: Json) -> _Type:
    """Make an object from the members that its type has and that are not None."""
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return cls(**{name: value for name, value in members.items() if name in fields and value is not None})


def members(one: object) -> Json:
    """Return the members of a flat object that are neither None nor their default."""
    return {
        field.name: value
        for field in dataclasses.fields(one)  # type: ignore[arg-type]
        if (value := getattr(one, field.name)) is not None and value != field.default
    }


def forced(request: Management) -> Json:
    """Return ``force`` for :meth:`Request.to_dict`: only if it is set, because older agents do not know it."""
    return {'force': True} if request.force else {}


def lower(text: str | None) -> str | None:
    """Return a text in lower case; None for None."""
    return None if text is None else text.lower()


def normal(device_id: str) -> str:
    """Return an id in the form of the journal: a UUID in lower case, as in libvirt and Nova."""
    return names.normal(device_id)
