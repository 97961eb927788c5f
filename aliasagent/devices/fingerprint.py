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
from aliasagent.devices import names
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
        is_same_run = run == self.run
        if is_same_run and self.alias is not None:
            sits_there = live.by_alias(self.alias)
            if sits_there and self._is_it(device_id, sits_there[0], live):
                return sits_there[0]
        # A user alias stays with its device for as long as that is plugged in.
        is_out = is_same_run and alias.is_user(self.alias)
        looks = self.live or self.persistent
        return self._among(device_id, live, looks, is_same_run=is_same_run, counts_place=not is_out)

    def find_persistent(
        self, device_id: str, persistent: Domain, *, was_removed: bool = False
    ) -> base.Device | None:
        """Find the device in a persistent config, as :meth:`find_live` does in a running guest.

        :param was_removed: it was taken out of there: what is in its place since is another one.
        """
        if self.persistent is not None and not was_removed:
            # A name that the next device has tomorrow, or a MAC address alone, says nothing after a while.
            same = [
                found
                for found in persistent.devices()
                if found.alias is None
                and identity.claim(found) == self.persistent
                and (self.persistent.host_address is not None or identity.lasting(found, device_id) is not None)
            ]
            if len(same) == 1:
                return same[0]
        looks = self.persistent or self.live
        return self._among(device_id, persistent, looks, is_same_run=False, counts_place=not was_removed)

    def _among(
        self,
        device_id: str,
        domain: Domain,
        looks: identity.Claim | None,
        *,
        is_same_run: bool,
        counts_place: bool,
    ) -> base.Device | None:
        """Find the device among all of a definition, by its own alias, or as what says that it is it and looks so.

        :param looks: what is known of it; None if nothing is.
        :raises DeviceConflict: something says that it is the device and does not look so, or looks so and does not say
            it.
        """
        named = domain.by_alias(alias.make(device_id))
        if named:
            return named[0]
        ports = domain.ports()
        for device in domain.devices():
            if device.is_claimed or (looks is not None and device.kind != looks.kind):
                continue
            whose = identity.judge(device, ports).whose
            says_so = whose is not None and names.normal(whose.device_id) == names.normal(device_id)
            if whose is not None and not says_so:
                continue  # it is another's
            looks_so = looks is None or identity.may_be(
                device, looks, is_same_run=is_same_run, counts_place=counts_place
            )
            if says_so and looks_so:
                return device
            if says_so or (looks is not None and looks_so):
                raise self._conflict(device_id, domain, device.describe())
        return None

    def _is_it(self, device_id: str, device: base.Device, live: Domain) -> bool:
        """Judge whether what has the alias in the run that was asked is the device.

        :raises DeviceConflict: it cannot be told.
        """
        if alias.is_user(self.alias):
            return True
        whose = identity.identify(device, live.ports())
        if whose is not None and names.normal(whose.device_id) == names.normal(device_id):
            return True
        now = identity.claim(device)
        before = self.live or now
        # Within a run a device keeps its place and what it is called.
        if device.target != self.target or now.address != before.address:
            return False
        verdict = identity.same(now, before)
        if verdict is identity.Verdict.CANNOT_TELL:
            raise self._conflict(device_id, live, device.describe())
        return verdict is identity.Verdict.YES

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
            record.get('kept'),
        )


def _claim(record: dict[str, Any] | None) -> identity.Claim | None:
    if record is None:
        return None
    return identity.Claim(**{name: record[name] for name in _CLAIM_FIELDS if name in record})
