# SPDX-License-Identifier: Apache-2.0
"""The libvirt calls without which a disk is not attached, and not detached."""

import threading
from typing import Any

import libvirt

BOTH = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
_SECONDS = 60


class StillThere(Exception):
    """The event of a device's removal did not come."""


class BareCalls:
    """The calls alone: attach, detach from the persistent definition, detach from the guest, wait for the event."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._removed: dict[tuple[str, str], threading.Event] = {}
        self._callback = connection.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._on_removed, None
        )

    def close(self) -> None:
        self._connection.domainEventDeregisterAny(self._callback)

    def _on_removed(self, _connection: Any, domain: Any, alias: str, _opaque: object) -> None:
        event = self._removed.get((domain.UUIDString(), alias))
        if event is not None:
            event.set()

    def domain(self, guest: str) -> Any:
        return self._connection.lookupByUUIDString(guest)

    def attach(self, domain: Any, xml: str) -> None:
        domain.attachDeviceFlags(xml, BOTH)

    def detach(self, guest: str, domain: Any, alias: str) -> None:
        """:raises StillThere: the event does not come."""
        removed = self._removed[guest, alias] = threading.Event()
        domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        if not removed.wait(_SECONDS):
            raise StillThere(f'{alias} did not go from guest {guest}')
        del self._removed[guest, alias]
