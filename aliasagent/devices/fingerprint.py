# SPDX-License-Identifier: Apache-2.0
"""Recognise the device of a detach later, also in another process.

A device without user alias has an alias that libvirt made from the device's place (``virtio-disk1``, ``net0``). The
next device in this place gets the same alias, in the same run of the guest or in another one. So such an alias counts
only within the run in which the guest was asked to release the device, and together with the device's properties.
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
    """A device as a detach found it. The fields of a definition that did not have the device are None."""

    #: The run of the guest that has the device; no other run on any host has the same name.
    run: str | None = None
    #: The device's alias in that run.
    alias: str | None = None
    #: The device's target in that run.
    target: str | None = None
    #: The device's properties in that run.
    live: identity.Claim | None = None
    #: The device's properties in the persistent config.
    persistent: identity.Claim | None = None
    #: How that run ended, if the guest may continue with the device in another run: ``saved`` or ``migrated``.
    kept: str | None = None

    @classmethod
    def of(cls, run: str | None, live: base.Device | None, persistent: base.Device | None) -> Self:
        """Make the fingerprint of a device.

        :param run: the guest's run; None if the guest is not running.
        :param live: the device in the running guest.
        :param persistent: the device in the persistent config.
        """
        claim = None if persistent is None else identity.claim(persistent)
        if run is None or live is None:
            return cls(persistent=claim)
        return cls(run, live.alias, live.target, identity.claim(live), claim)

    def now(self, run: str, live: base.Device) -> Self:
        """Return the fingerprint with the device as it is in a running guest now."""
        return dataclasses.replace(self.of(run, live, None), persistent=self.persistent)

    def completed_by(self, before: Self) -> Self:
        """Return the fingerprint with earlier fields for a definition that does not have the device any more."""
        merged = dataclasses.replace(self, persistent=self.persistent or before.persistent)
        if self.is_live:
            return merged
        return dataclasses.replace(
            merged, run=before.run, alias=before.alias, target=before.target, live=before.live, kept=before.kept
        )

    def of_any_run(self) -> Self:
        """Return the fingerprint without the run that the device was removed from."""
        return dataclasses.replace(self, run=None, alias=None, target=None, kept=None)

    @property
    def is_live(self) -> bool:
        """Return whether a running guest had the device."""
        return self.run is not None

    def find_live(self, device_id: str, live: Domain, run: str) -> base.Device | None:
        """Find the device in a running guest; None is proof that the guest does not have the device.

        :param live: the guest's live definition, just read.
        :param run: the run of this definition.
        :raises DeviceConflict: the guest has a device that may be the same one or another.
        """
        place = identity.LivePlace(self.alias, self.target, self.live) if run == self.run else None
        return identity.find_again(live, device_id, self.live or self.persistent, place)

    def find_persistent(self, device_id: str, persistent: Domain, *, was_removed: bool = False) -> base.Device | None:
        """Find the device in a persistent config, as :meth:`find_live` does in a running guest.

        :param was_removed: whether the device was removed from the persistent config; a device in its place is another
            one.
        :raises DeviceConflict: the config has a device that may be the same one or another.
        """
        return identity.find_again_persistent(
            persistent, device_id, self.persistent, self.live, was_removed=was_removed
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fingerprint for the journal; :meth:`from_dict` reads it."""
        return {
            name: value if isinstance(value, str) else _without_none(vars(value))
            for name, value in _without_none(vars(self)).items()
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """Read a fingerprint from the journal; ignore members that only another release writes."""
        return cls(
            record.get('run'),
            record.get('alias'),
            record.get('target'),
            _claim(record.get('live')),
            _claim(record.get('persistent')),
            record.get('kept'),
        )


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _claim(record: dict[str, Any] | None) -> identity.Claim | None:
    if record is None:
        return None
    return identity.Claim(**{name: record[name] for name in _CLAIM_FIELDS if name in record})
