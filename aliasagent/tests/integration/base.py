# SPDX-License-Identifier: Apache-2.0
"""Real libvirt and real guests behind the contract suite's methods."""

import functools
import pathlib
import tempfile
import unittest
import uuid
from typing import Any
from typing import ClassVar

import libvirt
import oslo_messaging
import testtools
from oslo_messaging import conffixture

from aliasagent import conf
from aliasagent.client import rpc
from aliasagent.tests.contract import harness
from aliasagent.virt import host
from aliasagent.virt import taps
from sandbox import environment
from sandbox import guest as guests
from sandbox import libvirtd
from sandbox import materials


class RealSide:
    """A :class:`aliasagent.tests.contract.harness.Hypervisor` that is real.

    Guests that have to boot are booted once and used by many tests: :meth:`clear` takes away what a test left on them.
    """

    settle = 1.0

    def __init__(self, uri: str | None = None) -> None:
        self.parts = environment.read()
        self.uri = uri or self.parts.libvirt_uri
        self.connection = host.open_libvirt(self.uri)
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=self.parts.directory))
        self.made: list[guests.TestGuest] = []
        self.taps_made: list[str] = []

    def open(self, uri: str) -> Any:
        return host.open_libvirt(uri)

    def new_guest(self, devices: str = '', *, state: str = 'running', metadata: str = '') -> str:
        if state == 'running' and not devices and not metadata:
            return self._booted.uuid
        guest = guests.TestGuest(
            self.connection, self.directory, self.parts.guest_image, devices=devices, metadata=metadata, spare_ports=6
        )
        self.made.append(guest)
        match state:
            case 'shut off':
                guest.define()
            case 'transient':
                self.connection.createXML(guest.xml(), 0)
            case _:
                guest.start()
                if state == 'paused':
                    guest.domain.suspend()
                elif state == 'running':
                    guest.wait_ready()
        return guest.uuid

    @functools.cached_property
    def _booted(self) -> guests.TestGuest:
        guest = guests.TestGuest(self.connection, self.directory, self.parts.guest_image, spare_ports=8)
        self.made.append(guest)
        return guest.start().wait_ready(120)

    def deaf_guest(self) -> str:
        guest = guests.TestGuest(self.connection, self.directory, self.parts.guest_image, deaf=True)
        self.made.append(guest)
        # NOTE: before its kernel is up, firmware may still answer for it.
        return guest.start().wait_ready(120).uuid

    def new_file(self) -> str:
        return str(materials.make_disk(self.directory / f'{uuid.uuid4()}.img'))

    def bridge(self) -> str:
        return self._bridge

    @functools.cached_property
    def _bridge(self) -> str:
        return materials.make_bridge()

    def new_tap(self) -> str:
        name = materials.make_tap()
        self.taps_made.append(name)
        return name

    def has_tap(self, name: str) -> bool:
        return taps.exists(name)

    def reset(self, guest: str) -> None:
        """Press a guest's reset button."""
        self.connection.lookupByUUIDString(guest).reset()

    def destroy(self, guest: str) -> None:
        """Pull a guest's plug."""
        self.connection.lookupByUUIDString(guest).destroy()

    def crash(self, guest: str) -> None:
        """Have a guest crash, and leave its memory in a file."""
        self.connection.lookupByUUIDString(guest).coreDump(str(self.directory / 'core'), libvirt.VIR_DUMP_CRASH)

    def reconnect(self) -> None:
        """Look through a new connection, for the daemon is another."""
        self.connection = host.open_libvirt(self.uri)
        for guest in self.made:
            guest.connection = self.connection

    def clear(self) -> None:
        """Forget the guests of a test, but keep the booted one for the next."""
        booted = self.__dict__.get('_booted')
        for guest in self.made:
            if guest is not booted:
                guest.destroy()
        while self.taps_made:
            materials.remove_bridge(self.taps_made.pop())
        self.made = [] if booted is None else [booted]
        if booted is not None and self._has_hot_plugged(booted):
            booted.destroy()
            del self.__dict__['_booted']
            self.made = []

    @staticmethod
    def _has_hot_plugged(guest: guests.TestGuest) -> bool:
        domain = guest.domain
        texts = (domain.XMLDesc(0), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        return any('<disk' in text or '<interface' in text for text in texts)

    def close(self) -> None:
        """Leave nothing behind."""
        for guest in self.made:
            guest.destroy()
        if '_bridge' in self.__dict__:
            materials.remove_bridge(self._bridge)
        self.connection.close()


class OnLibvirt(harness.DriverCase, testtools.TestCase):
    """Tests of the driver on one hypervisor, whose guests they clear away."""

    side: ClassVar[RealSide]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.side = cls.make_side()
        cls.addClassCleanup(cls.side.close)

    @classmethod
    def make_side(cls) -> RealSide:
        """The hypervisor that the tests of this class share."""
        return RealSide()

    @property
    def hypervisor(self) -> harness.Hypervisor:
        return self.side

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.side.clear)
        self.set_up_driver()


def own_daemon(test_class: type[unittest.TestCase], hostname: str = 'aliasagent-test') -> libvirtd.Libvirtd:
    """A hypervisor for the tests of one class only.

    For those that start agents, which give every guest of the hypervisor its aliases, and for those that kill it.

    :param hostname: its own, if guests are to go from one such hypervisor to another.
    """
    daemon = libvirtd.Libvirtd(pathlib.Path(tempfile.mkdtemp(dir=environment.read().directory)), hostname)
    daemon.start()
    test_class.addClassCleanup(daemon.stop, destroy_guests=True)
    return daemon


def open_transport(test: testtools.TestCase, rabbit_url: str) -> oslo_messaging.Transport:
    """Configure this process for a broker until the end of a test, and connect to it."""
    test.useFixture(conffixture.ConfFixture(conf.CONF)).transport_url = rabbit_url
    conf.CONF([], project='aliasagent', default_config_files=[])
    test.addCleanup(conf.CONF.reset)
    transport = rpc.transport(conf.CONF)
    test.addCleanup(transport.cleanup)
    return transport
