# SPDX-License-Identifier: Apache-2.0
"""The driver module: attach, detach and list, in terms of devices.

An attach goes to both sides, live and persistent, in one call, and is read back. A detach takes the device out of the
persistent definition first, so that it does not come back with the next start, and then out of the running guest.

Nothing here keeps operations on one guest apart from each other: whoever calls does (:mod:`aliasagent.operations`).
"""

import dataclasses
import logging
import os
from collections.abc import Callable
from concurrent import futures
from typing import Any

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import identity
from aliasagent.devices import port as ports
from aliasagent.devices import targets
from aliasagent.devices import volume
from aliasagent.devices.domain import Domain
from aliasagent.devices.domain import Found
from aliasagent.virt import inventory
from aliasagent.virt.guest import Definitions
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side
from aliasagent.virt.host import Host
from aliasagent.virt.unplug import Patience
from aliasagent.virt.unplug import Unplugs

LOG = logging.getLogger(__name__)

_BOTH_NAMES = {Side.LIVE: 'running guest', Side.PERSISTENT: 'persistent config'}


@dataclasses.dataclass(frozen=True)
class Instance:
    """A guest as a list shows it."""

    uuid: str
    name: str
    state: str
    persistent: bool


class Driver:
    """Does things to the devices of a host's guests.

    :param patience: asked at each detach, so that a changed option counts at once.
    """

    def __init__(self, host: Host, unplugs: Unplugs, patience: Callable[[], Patience]) -> None:
        self._host = host
        self._unplugs = unplugs
        self._patience = patience

    def list_instances(self) -> list[Instance]:
        """The host's guests.

        :raises HypervisorUnavailable: the hypervisor did not answer.
        """
        instances = []
        for guest in self._host.guests():
            try:
                instances.append(Instance(guest.uuid, guest.name, guest.state(), guest.is_persistent()))
            except exception.InstanceNotFound:
                LOG.debug('Instance %s went away while the guests were listed', guest.uuid)
        return instances

    def list_devices(self, instance: str) -> list[inventory.Entry]:
        """A guest's devices, each once, with where it is.

        :raises InstanceNotFound: there is no such guest.
        :raises GuestUnreadable: its definition could not be read.
        """
        return inventory.entries(self._host.guest(instance).definitions())

    def attach_volume(
        self,
        instance: str,
        volume_id: str,
        connection_info: dict[str, Any],
        device_name: str | None = None,
        disk_bus: str | None = None,
        device_type: str = 'disk',
    ) -> None:
        """Plug a volume in. See :meth:`attach`.

        :raises InvalidInput: the parts of the request do not go together, or the path is not on this host.
        """
        guest = self._host.guest(instance)
        path = volume.local_path(connection_info)
        if path is not None and not os.path.exists(path):
            raise exception.InvalidInput(
                field='connection_info.data.device_path', reason=f'{path} does not exist on this host'
            )
        name = None if device_name is None else targets.split(device_name)
        bus = disk_bus or (targets.DEFAULT_BUS if name is None else targets.bus_of(name))
        if name is not None:
            targets.check(name, bus)
        definitions = guest.definitions()
        if name is None:
            name = _disk_name(definitions, volume_id, bus)
        disk = volume.disk_for_volume(volume_id, connection_info, target=name, bus=bus, device_type=device_type)
        self._attach(guest, definitions, disk)

    def attach_interface(self, instance: str, port: dict[str, Any]) -> None:
        """Plug the interface of a port in. See :meth:`attach`."""
        guest = self._host.guest(instance)
        self._attach(guest, guest.definitions(), ports.interface_for_port(port))

    def _attach(self, guest: Guest, definitions: Definitions, device: base.Device) -> None:
        """Plug a device in, on each side where it is not yet, and read it back.

        :raises DeviceConflict: another device goes by this id.
        :raises AttachFailed: libvirt refused, or the alias did not land. Neither side has the device then, or the words
            say what is left.
        """
        device_id = device.device_id
        assert device_id is not None  # every builder gives an alias
        known = identity.claim(device)
        missing = Side(0)
        for side, domain in definitions.sides():
            found = domain.find(device_id, known)
            if found is None:
                missing |= side
            else:
                _check_same(guest, device_id, device, found)
        if not missing:
            LOG.info('Instance %s has device %s already', guest.uuid, device_id)
            return
        try:
            guest.attach(device.to_xml(), missing)
        except (exception.HypervisorUnavailable, exception.InstanceNotFound):
            raise
        except exception.HypervisorError as error:
            raise exception.AttachFailed(instance=guest.uuid, device=device_id, reason=error) from error
        self._read_back(guest, device_id, missing)
        LOG.info('Attached %s to instance %s', device.describe(), guest.uuid)

    def _read_back(self, guest: Guest, device_id: str, attached: Side) -> None:
        """See that the alias is where the device was attached: libvirt drops one that it does not like silently."""
        lost = [
            side
            for side, domain in guest.definitions().sides()
            if side in attached and len(domain.by_alias(alias.make(device_id))) != 1
        ]
        if lost:
            where = ' and the '.join(_BOTH_NAMES[side] for side in lost)
            raise exception.AttachFailed(
                instance=guest.uuid,
                device=device_id,
                reason=f'libvirt accepted the device but its alias is not in the {where}; the device may be left there',
            )

    def detach(self, instance: str, device_id: str, kind: str | None = None) -> 'futures.Future[None]':
        """Take a device out. The future tells when the running guest has released it, or why not.

        :param kind: refuse if the device is of another kind.
        :raises DeviceNotFound: neither side has such a device.
        :raises AmbiguousDevice: more than one device could be meant; none is touched.
        :raises DeviceConflict: the device is of another kind.
        :raises Unsupported: a running guest never releases a device of this kind.
        """
        guest = self._host.guest(instance)
        definitions = guest.definitions()
        live, persistent = _find_both(definitions, device_id)
        if live is None and persistent is None:
            raise exception.DeviceNotFound(instance=instance, device=device_id)
        for found in (live, persistent):
            _check_can_go(instance, device_id, found, kind)
        if persistent is not None:
            self._detach_persistent(guest, device_id, persistent.device)
        if live is None:
            LOG.info('Detached %s from instance %s', device_id, instance)
            return _done()
        live_alias = live.device.alias
        if live_alias is None:
            raise exception.DetachFailed(
                instance=instance, device=device_id, reason=f'{live.device.describe()} has no alias while running'
            )
        return self._unplugs.start(instance, live_alias, device_id, self._patience())

    def _detach_persistent(self, guest: Guest, device_id: str, device: base.Device) -> None:
        try:
            if device.is_claimed and device.alias is not None:
                guest.detach(device.alias, Side.PERSISTENT)
            else:
                guest.detach_persistent_xml(device.to_xml())
        except (exception.HypervisorUnavailable, exception.InstanceNotFound):
            raise
        except exception.HypervisorError as error:
            raise exception.DetachFailed(instance=guest.uuid, device=device_id, reason=error) from error


def _disk_name(definitions: Definitions, volume_id: str, bus: str) -> str:
    """What to call a volume's disk: as on the side that has it already, else a name that is free on both."""
    for _side, domain in definitions.sides():
        found = domain.find(volume_id)
        if found is not None and found.device.target is not None:
            return found.device.target
    taken = {target for _side, domain in definitions.sides() for target in domain.disk_targets()}
    return targets.first_free(bus, taken)


def _find_both(definitions: Definitions, device_id: str) -> tuple[Found | None, Found | None]:
    """The device on both sides; what one side shows of it helps to recognise it on the other."""
    live, persistent = (
        None if domain is None else domain.find(device_id) for domain in (definitions.live, definitions.persistent)
    )
    if live is None and persistent is not None:
        live = _find_known(definitions.live, device_id, persistent)
    elif persistent is None and live is not None:
        persistent = _find_known(definitions.persistent, device_id, live)
    return live, persistent


def _find_known(domain: Domain | None, device_id: str, other: Found) -> Found | None:
    return None if domain is None else domain.find(device_id, identity.claim(other.device))


def _check_same(guest: Guest, device_id: str, wanted: base.Device, found: Found) -> None:
    """Whether the device that goes by this id is the one that is to be attached."""
    for what, have, want in (
        ('kind', found.device.kind, wanted.kind),
        ('source', found.device.source, wanted.source),
        ('MAC address', identity.claim(found.device).mac, identity.claim(wanted).mac),
    ):
        if have != want:
            raise exception.DeviceConflict(
                instance=guest.uuid, device=device_id, reason=f'it is attached with {what} {have}, asked for is {want}'
            )


def _check_can_go(instance: str, device_id: str, found: Found | None, kind: str | None) -> None:
    if found is None:
        return
    if kind is not None and found.device.kind != kind:
        raise exception.DeviceConflict(
            instance=instance, device=device_id, reason=f'it is no {kind} but a {found.device.kind}'
        )
    if not found.device.can_be_unplugged:
        raise exception.Unsupported(what=f'detach of a {found.device.kind}', reason='no running guest releases one')


def _done() -> 'futures.Future[None]':
    future: futures.Future[None] = futures.Future()
    future.set_result(None)
    return future
