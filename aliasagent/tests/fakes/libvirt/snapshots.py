# SPDX-License-Identifier: Apache-2.0
"""A guest's snapshots: what it was at a time, its definitions with their aliases, and the way back there."""

import copy
import typing

import libvirt
from lxml import etree

from aliasagent.tests.fakes.libvirt import definition

if typing.TYPE_CHECKING:
    from aliasagent.tests.fakes.libvirt.guest import FakeGuest


class FakeSnapshot:
    """A snapshot with all that belongs to it in the guest's disks (libvirt calls that an internal one)."""

    def __init__(self, guest: 'FakeGuest', xml: str) -> None:
        self._name = definition.parse(xml, 'domain_snapshot').findtext('name', '')
        self._config = copy.deepcopy(guest.need_config())
        self._live: etree._Element | None = copy.deepcopy(guest.live)

    def getName(self) -> str:  # noqa: N802  (libvirt's name)
        return self._name

    def revert(self, guest: 'FakeGuest') -> None:
        """Have the guest be as it was: one that runs is stopped first, and DEFINED is the last that is told."""
        guest.need_config()
        if guest.active:
            guest.stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT, libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT)
        if self._live is not None:
            guest.boot(copy.deepcopy(self._live), libvirt.VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT)
        guest.config = copy.deepcopy(self._config)
        guest.hypervisor.emit(
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
            guest,
            libvirt.VIR_DOMAIN_EVENT_DEFINED,
            libvirt.VIR_DOMAIN_EVENT_DEFINED_FROM_SNAPSHOT,
        )
