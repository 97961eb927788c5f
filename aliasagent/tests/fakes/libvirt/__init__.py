# SPDX-License-Identifier: Apache-2.0
"""A stateful fake of libvirt's QEMU driver, at the level of libvirt-python's virConnect and virDomain.

::

    hypervisor = FakeHypervisor()
    guest = hypervisor.add_guest(running=True)
    connection = hypervisor.open('qemu:///system')
    domain = connection.lookupByUUIDString(guest.uuid)

Constants and exceptions are the real libvirt module's. The contract suite holds the fake to what real libvirt does.
"""

from aliasagent.tests.fakes.libvirt.behaviour import Unplug
from aliasagent.tests.fakes.libvirt.connection import FakeConnect
from aliasagent.tests.fakes.libvirt.domain import FakeDomain
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.fakes.libvirt.hypervisor import FakeHypervisor
from aliasagent.tests.fakes.libvirt.hypervisor import domain_xml

__all__ = ['FakeConnect', 'FakeDomain', 'FakeGuest', 'FakeHypervisor', 'Unplug', 'domain_xml']
