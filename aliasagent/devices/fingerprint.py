# SPDX-License-Identifier: Apache-2.0
"""What a detach found when it began, so that the same device is recognised later, also by another process.

A device that the running guest has no user alias for is known there by the alias that libvirt made (``virtio-disk1``,
``net0``). That alias says where the device sits, and is that of the next device that comes to sit there, in this run of
the guest or in another one. So it counts only within the run that was asked, and together with what the device looked
like.
"""

import dataclasses
from typing import Any
from typing import Self

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import identity
from aliasagent.devices.domain import Domain
from aliasagent.devices.domain import Found

_CLAIM_FIELDS = tuple(field.name for field in dataclasses.fields(identity.Claim))


@dataclasses.dataclass(frozen=True)
class DeviceFingerprint:
    """A device as a detach found it. Everything is None of a side on which the device was not."""

    #: The run of the guest that has the device; no other run on any host has this name.
    run: str | None = None
    #: The device's alias in that run.
    alias: str | None = None
    #: What the device was called in that run.
    target: str | None = None
    #: What the device looked like in that run.
    live: identity.Claim | None = None
    #: What it looked like in the persistent config.
    persistent: identity.Claim | None = None

    @classmethod
    def of(cls, run: str | None, live: base.Device | None, persistent: base.Device | None) -> Self:
        """Describe a device as it was just read.

        :param run: the guest's run, None if it does not run.
        """
        looks = None if persistent is None else identity.claim(persistent)
        if run is None or live is None:
            return cls(persistent=looks)
        return cls(run, live.alias, live.target, identity.claim(live), looks)

    def now(self, run: str, live: base.Device) -> Self:
        """The same device as it was found in a running guest later."""
        return dataclasses.replace(self.of(run, live, None), persistent=self.persistent)

    def completed_by(self, before: Self) -> Self:
        """The same device, with what was found before on a side on which it is not any more."""
        merged = dataclasses.replace(self, persistent=self.persistent or before.persistent)
        if self.is_live:
            return merged
        return dataclasses.replace(
            merged, run=before.run, alias=before.alias, target=before.target, live=before.live
        )

    def of_any_run(self) -> Self:
        """What the device looks like, without the run that it is gone from."""
        return dataclasses.replace(self, run=None, alias=None, target=None)

    @property
    def is_live(self) -> bool:
        """Whether a running guest had the device."""
        return self.run is not None

    def find_live(self, device_id: str, live: Domain, run: str) -> base.Device | None:
        """Find the device in a running guest; None is proof that the guest does not have it.

        :param live: the guest's running definition as it was just read.
        :param run: the run that this is the definition of.
        :raises DeviceConflict: something is there that may be the device, and may be another one.
        :raises AmbiguousDevice: several devices say that they are it.
        """
        is_same_run = run == self.run
        if is_same_run and self.alias is not None:
            sits_there = live.by_alias(self.alias)
            if sits_there and self._is_it(device_id, sits_there[0], live):
                return sits_there[0]
        looks = self.live or self.persistent
        found = self._find(device_id, live, looks, doubts_count=not is_same_run)
        if found is None or found.evidence not in identity.WEAK:
            return None if found is None else found.device
        if is_same_run and found.evidence is identity.Evidence.MAC and looks and _sits_elsewhere(found.device, looks):
            return None  # another port may have the MAC address, and one that stays plugged in stays where it is
        # Another run may have it, or another client has plugged it in again.
        raise self._conflict(device_id, live, found.device.describe())

    def find_persistent(self, device_id: str, persistent: Domain) -> base.Device | None:
        """Find the device in a persistent config, as :meth:`find_live` does in a running guest."""
        found = self._find(device_id, persistent, self.persistent or self.live, doubts_count=False)
        if found is None or found.evidence not in identity.WEAK:
            return None if found is None else found.device
        # Another one may have its place by then, with its MAC address or with the name /dev/sdb.
        lasts = found.evidence is identity.Evidence.HOST_ADDRESS or identity.lasting(found.device, device_id)
        if lasts and identity.claim(found.device) == self.persistent:
            return found.device
        raise self._conflict(device_id, persistent, found.device.describe())

    def _find(
        self, device_id: str, domain: Domain, looks: identity.Claim | None, *, doubts_count: bool
    ) -> Found | None:
        """Find the device by its id, or else by what is known of it.

        :param doubts_count: whether a device that does not look like it, and whose evidence names it and another id,
            may be it. Where the device itself was, such a one is another device: it was there, too.
        :raises DeviceConflict: there is one.
        """
        doubt: exception.DeviceConflict | None = None
        for known in (None, looks):
            try:
                found = domain.find(device_id, known)
            except exception.DeviceConflict as error:
                doubt = error
            else:
                doubt = None
                if found is not None:
                    return found
        if doubt is None or not doubts_count:
            return None
        raise self._conflict(device_id, domain, 'a device whose evidence contradicts itself') from doubt

    def _is_it(self, device_id: str, device: base.Device, live: Domain) -> bool:
        """Judge whether what has the alias in the run that was asked is the device.

        :raises DeviceConflict: it cannot be told.
        """
        if alias.is_user(self.alias):
            return True
        whose = identity.identify(device, live.ports())
        if whose is not None and whose.device_id == device_id.lower():
            return True
        now = identity.claim(device)
        before = self.live or now
        verdict = identity.same(now, before)
        # Within a run a device keeps its place and what it is called.
        if verdict is identity.Verdict.NO or device.target != self.target or now.address != before.address:
            return False
        if verdict is identity.Verdict.CANNOT_TELL:
            raise self._conflict(device_id, live, device.describe())
        return True

    def _conflict(self, device_id: str, domain: Domain, device: str) -> exception.DeviceConflict:
        return exception.DeviceConflict(
            instance=domain.uuid,
            device=device_id,
            reason=f'{device} may be it, and may be another device; it is left alone',
        )

    def to_dict(self) -> dict[str, Any]:
        """What a record keeps; :meth:`from_dict` reads it."""
        return {
            name: value if isinstance(value, str) else {key: text for key, text in value.items() if text is not None}
            for name, value in dataclasses.asdict(self).items()
            if value is not None
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """Read a record; what another release has put there and this one does not know is passed over."""
        return cls(
            record.get('run'),
            record.get('alias'),
            record.get('target'),
            _claim(record.get('live')),
            _claim(record.get('persistent')),
        )


def _claim(record: dict[str, Any] | None) -> identity.Claim | None:
    if record is None:
        return None
    return identity.Claim(**{name: record[name] for name in _CLAIM_FIELDS if name in record})


def _sits_elsewhere(device: base.Device, looks: identity.Claim) -> bool:
    """Whether a device is not where one was that looked the same."""
    return device.target != looks.target or identity.claim(device).address != looks.address
