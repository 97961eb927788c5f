# SPDX-License-Identifier: Apache-2.0
"""What really happened to the devices of the fake's guests, whatever their aliases say.

What a device really is says its own element: each volume has a file of its own, each port an MTU of its own, and a
host device is what its address names. A *stay* is the time of one device in one definition of one guest.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import libvirt

from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt.guest import FakeGuest

LIVE, CONFIG = 'running guest', 'persistent config'
#: How a stay can end with the device still on its way with the guest.
CARRIED_ON = frozenset({'saved', 'migrated'})
#: As well as what did so once, and was carried on or given up since.
_OVER = 'saved, and over'
WERE_CARRIED_ON = CARRIED_ON | {_OVER}


@dataclasses.dataclass
class Stay:
    """A device in a definition, from when to when, and how it came and went."""

    guest: str
    side: str
    device: str
    since: float
    #: Who put it there: ``agent`` or ``other``.
    by: str
    #: When it came to where this one came from: the saved definition that the guest was started with.
    origin: float
    #: Who put it there, where it came from.
    origin_by: str
    until: float | None = None
    #: ``released``, ``stopped``, ``saved``, ``migrated``, ``removed``.
    how: str = ''
    ended_by: str = ''
    #: libvirt's number of the run of the guest; -1 for a saved definition.
    run: int = -1
    #: Whether the agent has read the definition while the device was in it.
    was_read: bool = False


def truth(element: Any) -> str | None:
    """What a device really is; None of what is of no interest."""
    match element.tag:
        case 'disk':
            source = element.find('source')
            return None if source is None else DEVICES.get(source.get('file') or source.get('dev') or '')
        case 'interface':
            mtu = element.find('mtu')
            return None if mtu is None else DEVICES.get(f'mtu {mtu.get("size")}')
        case 'hostdev':
            address = element.find('source/address')
            return None if address is None else DEVICES.get(_address(address))
        case _:
            return None


def _address(address: Any) -> str:
    if address.get('uuid'):
        return f'mdev {address.get("uuid")}'
    parts = [int(address.get(part, '0'), 16) for part in ('domain', 'bus', 'slot', 'function')]
    return 'pci {:04x}:{:02x}:{:02x}.{:x}'.format(*parts)


#: What tells a device, and its id. Filled by :mod:`aliasagent.tests.history.plan`.
DEVICES: dict[str, str] = {}


def found(tree: Any) -> Iterator[tuple[str, Any]]:
    """The devices of a definition: what each really is, and its element."""
    if tree is None:
        return
    devices = tree.find('devices')
    for element in () if devices is None else devices:
        device = truth(element)
        if device is not None:
            yield device, element


def element_of(tree: Any, device: str) -> Any:
    """A device's element in a definition; None if it is not there."""
    return next((element for one, element in found(tree) if one == device), None)


def alias_of(element: Any) -> str | None:
    return aliases.alias_of(element)


class Chronicle:
    """All stays, brought up to date after each thing that happens."""

    def __init__(self, now: Any) -> None:
        self._now = now
        self.stays: list[Stay] = []
        self._open: dict[tuple[str, str, str], Stay] = {}
        #: How a guest's run ended that has just ended.
        self._stopped_how: dict[str, str] = {}
        self._started_from: dict[str, str] = {}
        self._saved_at: dict[str, float] = {}
        #: When a guest was last saved or moved, and when moved.
        self.carried_on_at: dict[str, float] = {}
        self.moved_at: dict[str, float] = {}
        #: When the run of a guest began.
        self.run_since: dict[str, float] = {}

    def stopped(self, guest: FakeGuest, detail: int) -> None:
        """The running guest is no more."""
        hows = {
            libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: 'saved',
            libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED: 'migrated',
        }
        how = self._stopped_how[guest.uuid] = hows.get(detail, 'stopped')
        if how in CARRIED_ON:
            self.carried_on_at[guest.uuid] = self._now()
        if how == 'saved':
            self._saved_at[guest.uuid] = self._now()
        elif how == 'migrated':
            self.moved_at[guest.uuid] = self._now()

    def started(self, guest: FakeGuest, detail: int) -> None:
        """A run of the guest has begun."""
        restored = detail == libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED
        self._started_from[guest.uuid] = 'saved' if restored else 'config'
        self.run_since[guest.uuid] = self._now()
        if not restored:
            self.over(guest)

    def observe(self, guest: FakeGuest, by: str) -> None:
        """See what has changed in a guest, by whom."""
        now = self._now()
        for side, tree in ((CONFIG, guest.config), (LIVE, guest.live)):
            there = {device for device, _element in found(tree)}
            keys = [key for key in self._open if key[0] == guest.uuid and key[1] == side]
            run = -1 if side == CONFIG else guest.id
            for key in keys:
                stay = self._open[key]
                if key[2] not in there or stay.run != run:
                    stay.until, stay.ended_by = now, by
                    stay.how = self._how(guest, stay)
                    del self._open[key]
            for device in there:
                if (guest.uuid, side, device) not in self._open:
                    self._open[guest.uuid, side, device] = self._begin(guest, side, device, by, run)
        self._stopped_how.pop(guest.uuid, None)
        self._started_from.pop(guest.uuid, None)

    def _how(self, guest: FakeGuest, stay: Stay) -> str:
        if stay.side == CONFIG:
            return 'removed'
        return self._stopped_how.get(guest.uuid, 'stopped' if stay.run != guest.id else 'released')

    def _begin(self, guest: FakeGuest, side: str, device: str, by: str, run: int) -> Stay:
        now = self._now()
        stay = Stay(guest.uuid, side, device, now, by, now, by, run=run)
        began = self._started_from.get(guest.uuid) if side == LIVE else None
        if began is not None:
            before = None
            if began == 'saved':
                before = self.last(guest.uuid, LIVE, device, how='saved')
            before = before or self.last(guest.uuid, CONFIG, device)
            if before is not None:
                stay.origin, stay.origin_by = before.origin, before.origin_by
        if side == LIVE and began is not None:
            self.over(guest)  # what was saved is carried on by this run
        self.stays.append(stay)
        return stay

    def is_saved(self, guest: str) -> bool:
        """Whether the last run of a guest was saved, and nothing has gone on from it since."""
        return self._saved_at.get(guest, -1.0) > self.run_since.get(guest, -1.0)

    def over(self, guest: FakeGuest) -> None:
        """What was saved of a guest is nothing any more that could go on: its disks are those of another run."""
        for stay in self.stays:
            if stay.guest == guest.uuid and stay.how == 'saved':
                stay.how = _OVER

    def read(self, guest: str, side: str) -> None:
        """The agent reads a definition, and so knows of the devices that are in it."""
        for (of_guest, of_side, _device), stay in self._open.items():
            if (of_guest, of_side) == (guest, side):
                stay.was_read = True

    def there(self, guest: str, side: str, device: str) -> Stay | None:
        """The stay of a device that is there now."""
        return self._open.get((guest, side, device))

    def last(self, guest: str, side: str, device: str, how: str | None = None) -> Stay | None:
        """The last stay of a device."""
        for stay in reversed(self.stays):
            if (stay.guest, stay.side, stay.device) == (guest, side, device) and how in (None, stay.how):
                return stay
        return None

    def of(self, guest: str, side: str, device: str) -> list[Stay]:
        """All stays of a device in one definition of a guest."""
        return [stay for stay in self.stays if (stay.guest, stay.side, stay.device) == (guest, side, device)]
