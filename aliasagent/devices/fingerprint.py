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
    #: How that run ended, if the guest may go on elsewhere with the device: ``saved`` or ``migrated``.
    kept: str | None = None

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
            merged, run=before.run, alias=before.alias, target=before.target, live=before.live, kept=before.kept
        )

    def of_any_run(self) -> Self:
        """What the device looks like, without the run that it is gone from."""
        return dataclasses.replace(self, run=None, alias=None, target=None, kept=None)

    @property
    def is_live(self) -> bool:
        """Whether a running guest had the device."""
        return self.run is not None

    def find_live(self, device_id: str, live: Domain, run: str) -> base.Device | None:
        """Find the device in a running guest; None is proof that the guest does not have it.

        :param live: the guest's running definition as it was just read.
        :param run: the run that this is the definition of.
        :raises DeviceConflict: something is there that may be the device, and may be another one.
        """
        seat = identity.Seat(self.alias, self.target, self.live) if run == self.run else None
        return identity.find_again(live, device_id, self.live or self.persistent, seat)

    def find_persistent(
        self, device_id: str, persistent: Domain, *, was_removed: bool = False
    ) -> base.Device | None:
        """Find the device in a persistent config, as :meth:`find_live` does in a running guest.

        :param was_removed: it was taken out of there: what is in its place since is another one.
        """
        return identity.find_again_persistent(
            persistent, device_id, self.persistent, self.live, was_removed=was_removed
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
            record.get('kept'),
        )


def _claim(record: dict[str, Any] | None) -> identity.Claim | None:
    if record is None:
        return None
    return identity.Claim(**{name: record[name] for name in _CLAIM_FIELDS if name in record})
