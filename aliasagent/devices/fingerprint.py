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
        if run == self.run and self.alias is not None:
            sits_there = live.by_alias(self.alias)
            if sits_there and self._is_it(device_id, sits_there[0], live):
                return sits_there[0]
            # What is doubtful is another device: the one that was asked for is not there.
            return _proven(device_id, live)
        return self._elsewhere(device_id, live)

    def find_persistent(self, device_id: str, persistent: Domain) -> base.Device | None:
        """Find the device in a persistent config, as :meth:`find_live` does in a running guest."""
        proven = _proven(device_id, persistent)
        if proven is not None or self.persistent is None:
            return proven
        own = (None, alias.make(device_id))
        alike = [
            found
            for found in persistent.devices()
            if found.alias in own and identity.claim(found) == self.persistent
        ]
        return alike[0] if len(alike) == 1 else self._elsewhere(device_id, persistent)

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

    def _elsewhere(self, device_id: str, domain: Domain) -> base.Device | None:
        """Find the device in a definition that it may have changed in, by its own word and by what is known of it.

        :raises DeviceConflict: what may be it does not say, or not without contradiction, whose it is.
        """
        looks = self.live or self.persistent
        try:
            found = domain.find(device_id) or (None if looks is None else domain.find(device_id, looks))
        except exception.DeviceConflict as error:
            raise self._conflict(device_id, domain, 'a device whose evidence contradicts itself') from error
        if found is not None and found.evidence in identity.WEAK:
            raise self._conflict(device_id, domain, found.device.describe())
        return None if found is None else found.device

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


def _proven(device_id: str, domain: Domain) -> base.Device | None:
    """The device that is that of an id beyond doubt."""
    try:
        found = domain.find(device_id)
    except exception.DeviceConflict:
        return None
    return None if found is None else found.device


def _claim(record: dict[str, Any] | None) -> identity.Claim | None:
    if record is None:
        return None
    return identity.Claim(**{name: record[name] for name in _CLAIM_FIELDS if name in record})
