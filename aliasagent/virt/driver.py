# SPDX-License-Identifier: Apache-2.0
"""The driver module: attach, detach and list, in terms of devices.

How a device is attached is in :mod:`aliasagent.virt.attach`. A detach takes the device out of the
persistent definition first, so that it does not come back with the next start, and then out of the running guest.

Nothing here keeps operations on one guest apart from each other: whoever calls does (:mod:`aliasagent.operations`).
"""

import dataclasses
import logging
from collections.abc import Callable
from concurrent import futures
from typing import Any

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import bounds
from aliasagent.devices.domain import Domain
from aliasagent.virt import attach
from aliasagent.virt import inventory
from aliasagent.virt import leaving
from aliasagent.virt import lookup
from aliasagent.virt import taps
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side
from aliasagent.virt.host import Host
from aliasagent.virt.unplug import Unplugs

LOG = logging.getLogger(__name__)


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
    :param within: what may be attached, asked at each attach.
    :param dead_vlan: whether an Open vSwitch port that names no VLAN may reach nothing, asked at each attach.
    :param tap_exists: whether this host has a network interface of this name.
    """

    def __init__(
        self,
        host: Host,
        unplugs: Unplugs,
        patience: Callable[[], leaving.Patience],
        within: Callable[[], bounds.Bounds],
        *,
        dead_vlan: Callable[[], bool] = lambda: True,
        tap_exists: Callable[[str], bool] = taps.exists,
    ) -> None:
        self._host = host
        self._unplugs = unplugs
        self._patience = patience
        self._attacher = attach.Attacher(host, unplugs, within, dead_vlan=dead_vlan, tap_exists=tap_exists)

    def wait_connected(self, timeout: float) -> bool:
        """Wait for a hypervisor that went away; False after so many seconds without."""
        return self._host.wait_connected(timeout)

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
        """Plug a volume in. See :meth:`aliasagent.virt.attach.Attacher.attach_volume`."""
        self._attacher.attach_volume(instance, volume_id, connection_info, device_name, disk_bus, device_type)

    def attach_interface(self, instance: str, port: dict[str, Any]) -> None:
        """Plug the interface of a port in. See :meth:`aliasagent.virt.attach.Attacher.attach_interface`."""
        self._attacher.attach_interface(instance, port)

    def attach_hostdev(self, instance: str, device_id: str, hostdev: dict[str, Any]) -> None:
        """Give the guest a device of this host. See :meth:`aliasagent.virt.attach.Attacher.attach_hostdev`."""
        self._attacher.attach_hostdev(instance, device_id, hostdev)

    def detach(
        self, instance: str, device_id: str, kind: str | None = None, *, begin: Callable[[], None] = lambda: None
    ) -> 'futures.Future[None]':
        """Take a device out. The future tells when the running guest has released it, or why not.

        :param kind: refuse if the device is of another kind.
        :param begin: called when the device was found and can go, before anything is done to it.
        :raises DeviceNotFound: neither side has such a device.
        :raises AmbiguousDevice: more than one device could be meant; none is touched.
        :raises DeviceConflict: the device is of another kind.
        :raises Unsupported: a running guest never releases a device of this kind.
        :raises GuestBusy: the guest is being migrated, or was saved with its devices.
        """
        guest = self._host.guest(instance)
        definitions = guest.definitions()
        if definitions.live is None:
            guest.refuse_if_saved()
        live, persistent = lookup.both(definitions, device_id)
        if live is None and persistent is None:
            raise exception.DeviceNotFound(instance=instance, device=device_id)
        lookup.check_can_go(instance, device_id, live, persistent, kind)
        if definitions.live is not None:
            guest.refuse_if_migrating()
        begin()
        running = definitions.live
        if persistent is not None:
            self._detach_persistent(guest, device_id, persistent.device)
            if running is None:
                # Started since it was read, it has the device; what starts from now on has not.
                running = guest.live_definition()
                live = lookup.known(device_id, persistent, definitions.persistent, running)
        if running is None or live is None:
            LOG.info('Detached %s from instance %s', device_id, instance)
            return _done()
        left = leaving.LEFT if persistent is None else leaving.LEFT_LIVE_ONLY
        return self._unplug(guest, device_id, running, live.device, left)

    def watch(self, instance: str, device_id: str) -> None:
        """Notice when a running guest lets go of a device after all, whose detach an earlier process gave up."""
        self._unplugs.watch(instance, alias.make(device_id), device_id)

    def _unplug(
        self, guest: Guest, device_id: str, running: Domain, device: base.Device, left: str
    ) -> 'futures.Future[None]':
        if device.alias is None:
            raise exception.DetachFailed(
                instance=guest.uuid, device=device_id, reason=f'{device.describe()} has no alias while running; {left}'
            )
        sight = None if device.is_claimed else leaving.Sight.of(running, device)
        return self._unplugs.start(guest.uuid, device.alias, device_id, self._patience(), left, guest, sight)

    def _detach_persistent(self, guest: Guest, device_id: str, device: base.Device) -> None:
        try:
            if device.is_claimed and device.alias is not None:
                guest.detach(device.alias, Side.PERSISTENT)
            else:
                guest.detach_persistent_xml(device.to_xml())
        except (exception.HypervisorUnavailable, exception.GuestBusy):
            raise
        except exception.HypervisorError as error:
            raise exception.DetachFailed(instance=guest.uuid, device=device_id, reason=error) from error


def _done() -> 'futures.Future[None]':
    future: futures.Future[None] = futures.Future()
    future.set_result(None)
    return future
