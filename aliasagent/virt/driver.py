# SPDX-License-Identifier: Apache-2.0
"""The driver module: attach, detach and list, in terms of devices.

How a device is attached is in :mod:`aliasagent.virt.attach`, how it is detached in :mod:`aliasagent.virt.detach`.

Nothing here keeps operations on one guest apart from each other: whoever calls does (:mod:`aliasagent.operations`).
"""

import dataclasses
import logging
from collections.abc import Callable
from collections.abc import Iterable
from concurrent import futures

from aliasagent import exception
from aliasagent.allowed import rules
from aliasagent.devices import identity
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.requests.base import Attach
from aliasagent.virt import attach
from aliasagent.virt import detach
from aliasagent.virt import inventory
from aliasagent.virt import leaving
from aliasagent.virt import lookup
from aliasagent.virt import taps
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

    :param retry_policy: asked at each detach, so that a changed option counts at once.
    :param within: what may be attached, asked at each attach.
    :param known: what is known from elsewhere of a guest's devices, asked at each attach, detach and list.
    :param dead_vlan: whether an Open vSwitch port that names no VLAN may reach nothing, asked at each attach.
    :param tap_exists: whether this host has a network interface of this name.
    """

    def __init__(
        self,
        host: Host,
        unplugs: Unplugs,
        retry_policy: Callable[[], leaving.RetryPolicy],
        within: Callable[[], rules.Bounds],
        known: Callable[[str], Iterable[identity.Record]] = lambda _instance: (),
        *,
        dead_vlan: Callable[[], bool] = lambda: True,
        tap_exists: Callable[[str], bool] = taps.exists,
    ) -> None:
        self._host = host
        self._unplugs = unplugs
        self._retry_policy = retry_policy
        self._known = known
        self._attacher = attach.Attacher(host, unplugs, within, known, dead_vlan=dead_vlan, tap_exists=tap_exists)

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
        return inventory.entries(self._host.guest(instance).definitions(), self._known(instance))

    def attach(self, instance: str, request: Attach) -> None:
        """Plug a device in. See :meth:`aliasagent.virt.attach.Attacher.attach`."""
        self._attacher.attach(instance, request)

    def detach(
        self,
        instance: str,
        device_id: str,
        kind: str | None = None,
        *,
        asked: DeviceFingerprint | None = None,
        begin: detach.Begin = lambda _found: False,
    ) -> 'futures.Future[None]':
        """Take a device out. The future tells when the running guest has released it, or why not.

        :param kind: refuse if the device is of another kind.
        :param asked: the device as an earlier start of this detach found it.
        :param begin: called with the device as it was found, when it can go, before anything is done to it.
        :raises DeviceNotFound: neither side has such a device, and none was asked for before.
        :raises AmbiguousDevice: more than one device could be meant; none is touched.
        :raises DeviceConflict: the device is of another kind, or has its id in other letters; or it cannot be told
            whether it is the one that was asked for before.
        :raises DetachFailed: the persistent config could not be changed; or the guest does not run, and may go on with
            the device.
        :raises Unsupported: a running guest never releases a device of this kind.
        :raises GuestBusy: the guest is being migrated, or was saved with its devices.
        """
        work = detach.Detach(
            self._host,
            self._unplugs,
            self._retry_policy(),
            instance,
            device_id,
            kind=kind,
            asked=asked,
            begin=begin,
            records=self._known(instance),
        )
        try:
            return work.run()
        except exception.DeviceNotFound:
            lookup.refuse_other_letters(self._host.guest(instance).definitions(), device_id)
            raise

    def may_still_go(self, instance: str, device_id: str) -> bool | None:
        """Whether a guest may still release a device whose detach has failed; None if that is not followed here."""
        return self._unplugs.may_still_go(instance, device_id)

    def watch(self, instance: str, device_id: str, asked: DeviceFingerprint | None, may_still_go: bool) -> None:
        """Notice when a running guest lets go of a device after all, whose detach an earlier process gave up.

        :param asked: the device as that process found it; None if it did not record that.
        :param may_still_go: whether the guest may still answer what it was asked.
        """
        self._unplugs.watch(instance, device_id, asked, may_still_go)
