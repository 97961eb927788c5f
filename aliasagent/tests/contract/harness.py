# SPDX-License-Identifier: Apache-2.0
"""What the contract suite stands on: a hypervisor, be it the fake or the real one, behind one set of methods.

A suite is a mixin of test methods over :class:`DriverCase`. The functional tests put it on the fake, the integration
tests on real libvirt with real guests; the methods are the same.
"""

import pathlib
from collections.abc import Callable
from concurrent import futures
from typing import Any
from typing import Protocol

from aliasagent.allowed.rules import Bounds
from aliasagent.devices.domain import Domain
from aliasagent.tests.contract import requests
from aliasagent.tests.ids import new_id as new_id
from aliasagent.tests.ids import new_mac as new_mac
from aliasagent.virt.driver import Driver
from aliasagent.virt.host import Host
from aliasagent.virt.leaving import RetryPolicy
from aliasagent.virt.novas import NovasGuests
from aliasagent.virt.unplug import Unplugs

#: Seconds after which a test gives up on something that should happen at once.
SOON = 60.0
#: What Nova writes into a guest's metadata.
NOVA = "<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'><nova:name>web</nova:name></nova:instance>"


class Hypervisor(Protocol):
    """What a suite needs of a hypervisor."""

    uri: str
    #: Seconds for which a daemon that came back is left alone.
    settle: float

    def open(self, uri: str) -> Any:
        """Open a connection, as ``libvirt.open``."""

    def new_guest(self, devices: str = '', *, state: str = 'running', metadata: str = '') -> str:
        """A guest with a few free PCIe ports and a SCSI controller; its UUID.

        :param state: ``running`` is booted and answers hot-unplug, ``started`` need not have booted, ``shut off``,
            ``paused`` or ``transient`` (started, with no persistent config).
        """

    def deaf_guest(self) -> str:
        """A running guest that never answers a request to release a PCI device."""

    def new_file(self) -> str:
        """A disk image's path."""

    def bridge(self) -> str:
        """A bridge's name."""

    def new_tap(self) -> str:
        """The name of a tap that a control plane made."""

    def has_tap(self, name: str) -> bool:
        """Whether the host has a network interface of this name."""


class DriverCase:
    """The driver on a hypervisor. Mixed with a test case, which calls :meth:`set_up_driver`."""

    addCleanup: Callable[..., Any]  # noqa: N815 - unittest's
    assertEqual: Callable[..., Any]  # noqa: N815
    assertRaises: Callable[..., Any]  # noqa: N815
    assertIn: Callable[..., Any]  # noqa: N815
    assertIsNone: Callable[..., Any]  # noqa: N815
    assertTrue: Callable[..., Any]  # noqa: N815
    assertFalse: Callable[..., Any]  # noqa: N815
    assertLess: Callable[..., Any]  # noqa: N815
    assertNotIn: Callable[..., Any]  # noqa: N815

    @property
    def hypervisor(self) -> Hypervisor:
        """What the tests of this class run on."""
        raise NotImplementedError

    def set_up_driver(self) -> None:
        self.retry_policy = RetryPolicy(timeout=10.0, attempts=8)
        self.late: list[tuple[str, str]] = []
        settle = self.hypervisor.settle
        self.host = Host(self.hypervisor.uri, reconnect_interval=0.05, settle=settle, opener=self.hypervisor.open)
        self.host.start()
        self.addCleanup(self.host.close)
        assert self.host.wait_connected(SOON)
        self.unplugs = Unplugs(self.host, on_late=lambda instance, device: self.late.append((instance, device)))
        self.addCleanup(self.unplugs.close)
        self.within = Bounds.everything()
        self.dead_vlan = True
        self.manage = 'all'
        self.driver = Driver(
            self.host,
            self.unplugs,
            lambda: self.retry_policy,
            lambda: self.within,
            dead_vlan=lambda: self.dead_vlan,
            tap_exists=lambda name: self.hypervisor.has_tap(name),
            novas=NovasGuests(lambda: self.manage),
        )

    # What the tests do

    def attach(self, guest: str, volume: str | None = None, *, bus: str = 'scsi', **more: Any) -> str:
        """Attach a new volume, or this one, from a new file; its id. A SCSI disk goes without the guest's help."""
        volume = volume or new_id()
        info = file_connection(self.hypervisor.new_file())
        self.driver.attach(guest, requests.volume(volume, info, disk_bus=bus, **more))
        return volume

    def attach_port(self, guest: str, mac: str | None = None, **more: Any) -> str:
        """Attach a new port, or one with this MAC; its id."""
        port = self.port(mac, **more)
        self.driver.attach(guest, requests.interface(port))
        return str(port['id'])

    def port(self, mac: str | None = None, **more: Any) -> dict[str, Any]:
        return {
            'id': new_id(),
            'address': mac or new_mac(),
            'vif_type': 'bridge',
            'bridge': self.hypervisor.bridge(),
            **more,
        }

    def detach(self, guest: str, device: str, kind: str | None = None) -> None:
        """Detach a device, and wait for the outcome."""
        outcome(self.driver.detach(guest, device, kind))

    # What they look at

    def live(self, guest: str) -> Domain:
        found = self.host.guest(guest).definitions().live
        assert found is not None, 'the guest does not run'
        return found

    def persistent(self, guest: str) -> Domain:
        found = self.host.guest(guest).definitions().persistent
        assert found is not None, 'the guest is transient'
        return found

    def ids(self, guest: str) -> tuple[set[str | None], set[str | None]]:
        """The ids that user aliases name, live and persistent; of what is not there, none."""
        read = self.host.guest(guest).definitions()
        live, persistent = (
            set() if domain is None else {device.device_id for device in domain.devices() if device.is_claimed}
            for domain in (read.live, read.persistent)
        )
        return live, persistent

    def assert_on_both(self, guest: str, *ids: str) -> None:
        """Exactly these are there, live and persistent."""
        self.assertEqual((set(ids), set(ids)), self.ids(guest))

    def xml(self, guest: str) -> tuple[str, str]:
        """Both definitions as text, to see whether anything changed."""
        read = self.host.guest(guest).definitions()
        live, persistent = ('' if domain is None else domain.to_xml() for domain in (read.live, read.persistent))
        return live, persistent

    def assert_untouched(self, guest: str, before: tuple[str, str]) -> None:
        self.assertEqual(before, self.xml(guest))


def outcome(pending: 'futures.Future[None]') -> None:
    """Wait for a detach to end; raises what made it fail."""
    pending.result(timeout=SOON * 3)


def file_connection(path: str | pathlib.Path, **data: Any) -> dict[str, Any]:
    """A ``connection_info`` for a disk image."""
    return {'driver_volume_type': 'file', 'data': {'device_path': str(path), 'format': 'raw', **data}}


def disk_xml(path: str, target: str, *, serial: str = '', alias: str = '') -> str:
    """A SCSI or virtio disk as somebody else would have made it."""
    return f"""
<disk type='file' device='disk'>
  <driver name='qemu' type='raw'/>
  <source file='{path}'/>
  <target dev='{target}' bus='{'scsi' if target.startswith('sd') else 'virtio'}'/>
  {f'<serial>{serial}</serial>' if serial else ''}
  {f"<alias name='{alias}'/>" if alias else ''}
</disk>"""


def interface_xml(bridge: str, mac: str, *, alias: str = '', target: str = '') -> str:
    """A bridged interface as somebody else would have made it."""
    return f"""
<interface type='bridge'>
  <mac address='{mac}'/>
  <source bridge='{bridge}'/>
  <model type='virtio'/>
  {f"<target dev='{target}'/>" if target else ''}
  {f"<alias name='{alias}'/>" if alias else ''}
</interface>"""
