# SPDX-License-Identifier: Apache-2.0
"""A hypervisor that does nothing but remember, alike for all contenders, so that only their own CPU is measured.

It imports neither the agent nor Nova, for it runs in the processes of both.
"""

from collections.abc import Callable
from typing import Any

import libvirt

#: Called when the guest has let go of a device: the domain and the alias.
OnRemoved = Callable[['Domain', str], None]
_RUNNING = (libvirt.VIR_DOMAIN_RUNNING, 1)


class Domain:
    """A running, persistent guest with one device that can be taken out.

    :param texts: both definitions with the device and without, by ``live`` and ``persistent``.
    :param on_removed: called while the guest is asked for the device, as it may be in truth.
    """

    def __init__(
        self, instance: str, alias: str, before: dict[str, str], after: dict[str, str], on_removed: OnRemoved
    ) -> None:
        self._instance = instance
        self._alias = alias
        self._before = before
        self._after = after
        self._on_removed = on_removed
        self.connection: Connection | None = None
        self.refill()

    def refill(self) -> None:
        """Put the device back, and count anew."""
        self._texts = dict(self._before)
        self.calls: dict[str, int] = {}

    def outcome(self) -> dict[str, bool]:
        """Which of the definitions have let go of the device, and no more than that."""
        return {side: self._texts[side] == self._after[side] for side in ('persistent', 'live')}

    def _count(self, what: str) -> None:
        self.calls[what] = self.calls.get(what, 0) + 1

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802 - libvirt's
        self._count('XMLDesc')
        return self._texts['persistent' if flags & libvirt.VIR_DOMAIN_XML_INACTIVE else 'live']

    def detachDeviceFlags(self, xml: str, flags: int = 0) -> int:  # noqa: N802
        """By the device's XML."""
        self._count('detach')
        if f'name="{self._alias}"' not in xml and f"name='{self._alias}'" not in xml:
            raise libvirt.libvirtError('another device')
        return self._detach(flags)

    def detachDeviceAlias(self, alias: str, flags: int = 0) -> int:  # noqa: N802
        self._count('detach')
        if alias != self._alias:
            raise libvirt.libvirtError('another device')
        return self._detach(flags)

    def _detach(self, flags: int) -> int:
        if flags & libvirt.VIR_DOMAIN_AFFECT_CONFIG:
            self._texts['persistent'] = self._after['persistent']
        if flags & libvirt.VIR_DOMAIN_AFFECT_LIVE:
            self._texts['live'] = self._after['live']
            self._on_removed(self, self._alias)
        return 0

    def connect(self) -> 'Connection | None':
        return self.connection

    def UUIDString(self) -> str:  # noqa: N802
        return self._instance

    def name(self) -> str:
        return 'instance-0000002a'

    def ID(self) -> int:  # noqa: N802
        return 7

    def isActive(self) -> int:  # noqa: N802
        return 1

    def isPersistent(self) -> int:  # noqa: N802
        return 1

    def state(self, _flags: int = 0) -> tuple[int, int]:
        return _RUNNING

    def info(self) -> list[int]:
        return [libvirt.VIR_DOMAIN_RUNNING, 4194304, 4194304, 4, 0]

    def jobStats(self, _flags: int = 0) -> dict[str, int]:  # noqa: N802
        return {'type': libvirt.VIR_DOMAIN_JOB_NONE}


class Connection:
    """A connection with one guest."""

    def __init__(self) -> None:
        self.domain: Domain | None = None
        self._callbacks: dict[int, tuple[Any, Any]] = {}

    def lookupByUUIDString(self, _instance: str) -> Domain:  # noqa: N802
        assert self.domain is not None
        self.domain.connection = self
        return self.domain

    def removed(self, domain: Domain, alias: str) -> None:
        """Tell whoever registered for it that a device is gone."""
        callback, opaque = self._callbacks[libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED]
        callback(self, domain, alias, opaque)

    def domainEventRegisterAny(self, _domain: object, event: int, callback: Any, opaque: Any) -> int:  # noqa: N802
        self._callbacks[event] = (callback, opaque)
        return event

    def registerCloseCallback(self, _callback: object, _opaque: object) -> int:  # noqa: N802
        return 0

    def setKeepAlive(self, _interval: int, _count: int) -> int:  # noqa: N802
        return 0

    def isAlive(self) -> int:  # noqa: N802
        return 1

    def close(self) -> int:
        return 0
