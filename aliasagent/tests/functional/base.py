# SPDX-License-Identifier: Apache-2.0
"""The fake hypervisor behind the contract suite's methods."""

import os
import pathlib
import tempfile
import uuid
from typing import Any

import fixtures
import libvirt
import testtools

from aliasagent.tests import base
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import FakeHypervisor
from aliasagent.tests.fakes.libvirt import domain_xml


class FakeSide:
    """A :class:`aliasagent.tests.contract.harness.Hypervisor` that is made of the fake."""

    uri = FakeHypervisor.URI
    settle = 0.0

    def __init__(self, directory: pathlib.Path) -> None:
        self.fake = FakeHypervisor()
        self.directory = directory
        self.fake.missing_bridges.add('no-such-bridge')

    def open(self, uri: str) -> Any:
        return self.fake.open(uri)

    def new_guest(self, devices: str = '', *, state: str = 'running', metadata: str = '') -> str:
        instance = str(uuid.uuid4())
        xml = domain_xml(f'guest-{instance[:8]}', instance, devices)
        if metadata:
            xml = xml.replace('<os>', f'<metadata>{metadata}</metadata><os>', 1)
        guest = self.fake.add_guest(xml=xml, running=state != 'shut off', persistent=state != 'transient')
        if state == 'paused':
            self.fake.open().lookupByUUIDString(guest.uuid).suspend()
        return guest.uuid

    def deaf_guest(self) -> str:
        guest = self.new_guest()
        self.fake.guests[guest].unplug.never = True
        return guest

    def new_file(self) -> str:
        descriptor, path = tempfile.mkstemp(dir=self.directory, suffix='.img')
        os.close(descriptor)
        return path

    def bridge(self) -> str:
        return 'br-fake'

    def new_tap(self) -> str:
        name = f'tap-{len(self.fake.taps)}'
        self.fake.taps.add(name)
        return name

    def has_tap(self, name: str) -> bool:
        return name in self.fake.taps

    def reset(self, guest: str) -> None:
        self.fake.open().lookupByUUIDString(guest).reset(0)

    def destroy(self, guest: str) -> None:
        self.fake.open().lookupByUUIDString(guest).destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)


class FakeSideCase(testtools.TestCase, harness.DriverCase):
    """What the contract suite asks for, made of the fake."""

    @property
    def hypervisor(self) -> harness.Hypervisor:
        return self.side

    def setUp(self) -> None:
        super().setUp()
        # First, so that it looks when all else was cleaned up.
        self.useFixture(base.NoThreadsLeft())
        self.directory = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.side = FakeSide(self.directory)
        self.addCleanup(self.side.fake.stop)
