# SPDX-License-Identifier: Apache-2.0
"""virSecret, and where libvirtd has the secrets."""

import dataclasses
import functools
import typing
from collections.abc import Callable

import libvirt
from lxml import etree

from aliasagent.tests.fakes.libvirt import errors

if typing.TYPE_CHECKING:
    from aliasagent.tests.fakes.libvirt.connection import FakeConnect

_P = typing.ParamSpec('_P')
_R = typing.TypeVar('_R')
_USAGES: dict[str | None, int] = {
    None: libvirt.VIR_SECRET_USAGE_TYPE_NONE,
    'volume': libvirt.VIR_SECRET_USAGE_TYPE_VOLUME,
    'ceph': libvirt.VIR_SECRET_USAGE_TYPE_CEPH,
    'iscsi': libvirt.VIR_SECRET_USAGE_TYPE_ISCSI,
}


@dataclasses.dataclass
class Stored:
    """A secret as libvirtd has it."""

    uuid: str
    is_ephemeral: bool
    is_private: bool
    description: str | None
    usage: str | None
    usage_id: str
    value: bytes | None = None

    @classmethod
    def read(cls, xml: str) -> 'Stored':
        try:
            secret = etree.fromstring(xml)
        except etree.XMLSyntaxError as error:
            raise errors.broken_xml('definition_of_secret', str(error)) from error
        usage = secret.find('usage')
        return cls(
            uuid=secret.findtext('uuid', '').lower(),
            is_ephemeral=secret.get('ephemeral') == 'yes',
            is_private=secret.get('private') == 'yes',
            description=secret.findtext('description'),
            usage=None if usage is None else usage.get('type'),
            usage_id='' if usage is None or not len(usage) else usage[0].text or '',
        )


class SecretStore:
    """The secrets of a host, by UUID."""

    def __init__(self) -> None:
        self.stored: dict[str, Stored] = {}

    def forget_ephemeral(self) -> None:
        """libvirtd has ended."""
        self.stored = {name: secret for name, secret in self.stored.items() if not secret.is_ephemeral}

    def find(self, secret_uuid: str) -> Stored:
        found = self.stored.get(secret_uuid.lower())
        if found is None:
            raise errors.no_secret(f"no secret with matching uuid '{secret_uuid.lower()}'")
        return found

    def define(self, xml: str) -> Stored:
        new = Stored.read(xml)
        old = self.stored.get(new.uuid)
        if old is not None:
            if old.usage_id != new.usage_id:
                already = f'a secret with UUID {new.uuid} is already defined for use with {old.usage_id or "(null)"}'
                raise errors.internal(already, libvirt.VIR_FROM_SECRET)
            if old.is_private and not new.is_private:
                raise errors.internal('cannot change private flag on existing secret', libvirt.VIR_FROM_SECRET)
            new.value = old.value
        for other in self.stored.values():
            is_taken = (other.usage, other.usage_id) == (new.usage, new.usage_id)
            if is_taken and other is not old and new.usage is not None:
                taken = f'a secret with UUID {other.uuid} already defined for use with {new.usage_id}'
                raise errors.internal(taken, libvirt.VIR_FROM_SECRET)
        self.stored[new.uuid] = new
        return new


def remote(
    method: 'Callable[typing.Concatenate[FakeSecret, _P], _R]',
) -> 'Callable[typing.Concatenate[FakeSecret, _P], _R]':
    """As for a connection; and the secret has to be there still."""

    @functools.wraps(method)
    def call(self: 'FakeSecret', *args: _P.args, **kwargs: _P.kwargs) -> _R:
        name, arguments = f'secret.{method.__name__}', (self.UUIDString(), *args, *kwargs.values())
        self.connection.enter(name, arguments)
        with self.connection.hypervisor.lock:
            self.connection.still_there()
            result = method(self, *args, **kwargs)
        self.connection.hypervisor.leave(name, arguments)
        return result

    return typing.cast('Callable[typing.Concatenate[FakeSecret, _P], _R]', call)


class FakeSecret:
    """A client's handle on a secret: looked up by UUID with each call."""

    def __init__(self, connection: 'FakeConnect', stored: Stored) -> None:
        self.connection = connection
        self._uuid = stored.uuid
        self._usage = _USAGES[stored.usage]
        self._usage_id = stored.usage_id

    def _find(self) -> Stored:
        return self.connection.hypervisor.secrets.find(self._uuid)

    # What the handle knows by itself

    def UUIDString(self) -> str:  # noqa: N802  (libvirt's names, here and below)
        return self._uuid

    def usageType(self) -> int:  # noqa: N802
        return self._usage

    def usageID(self) -> str:  # noqa: N802
        return self._usage_id

    # What it is and does

    @remote
    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802
        stored = self._find()
        secret = etree.Element(
            'secret',
            ephemeral='yes' if stored.is_ephemeral else 'no',
            private='yes' if stored.is_private else 'no',
        )
        etree.SubElement(secret, 'uuid').text = stored.uuid
        if stored.description is not None:
            etree.SubElement(secret, 'description').text = stored.description
        if stored.usage is not None:
            usage = etree.SubElement(secret, 'usage', type=stored.usage)
            element = {'ceph': 'name', 'iscsi': 'target'}.get(stored.usage, 'volume')
            etree.SubElement(usage, element).text = stored.usage_id
        return etree.tostring(secret, encoding='unicode')

    @remote
    def setValue(self, value: bytes, flags: int = 0) -> int:  # noqa: N802
        if not value:
            raise errors.error(
                libvirt.VIR_ERR_INVALID_ARG, 'value in virSecretSetValue must not be NULL', libvirt.VIR_FROM_SECRET
            )
        self._find().value = value
        return 0

    @remote
    def value(self, flags: int = 0) -> bytes:
        stored = self._find()
        if stored.is_private:
            raise errors.private_secret()
        if stored.value is None:
            raise errors.no_secret(f"secret '{stored.uuid}' does not have a value")
        return stored.value

    @remote
    def undefine(self) -> int:
        del self.connection.hypervisor.secrets.stored[self._find().uuid]
        return 0
