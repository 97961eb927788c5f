# SPDX-License-Identifier: Apache-2.0
"""Detaches a device from a guest: first from the persistent config, then from the running guest.

This order keeps the device from coming back at the guest's next start, however long the running guest takes to release
it. The agent records the device before it changes anything: an interrupted detach continues with the device that it
began with, and succeeds only if that device is proven to be removed.
"""

import logging
from collections.abc import Callable
from collections.abc import Iterable
from concurrent import futures

from aliasagent import exception
from aliasagent.devices import base
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.devices.identity import Evidence
from aliasagent.devices.identity import Found
from aliasagent.devices.identity import Record
from aliasagent.virt import leaving
from aliasagent.virt import lookup
from aliasagent.virt import runs
from aliasagent.virt.guest import Definitions
from aliasagent.virt.guest import Side
from aliasagent.virt.host import Host
from aliasagent.virt.unplug import Unplugs

LOG = logging.getLogger(__name__)

#: Records the device before anything is changed; returns whether that took so long that the guest must be read again.
Begin = Callable[[DeviceFingerprint], bool]
#: How often a guest is read at most: again if it was started or stopped meanwhile, or if recording took long.
_READS = 20


class Detach:
    """One detach of one device.

    :param retry_policy: how long the running guest may take.
    :param kind: the kind that the device must have; None for any.
    :param asked: the device as an earlier try of this detach found it; None at the first try.
    :param records: hints about the guest's devices.
    """

    def __init__(
        self,
        host: Host,
        unplugs: Unplugs,
        retry_policy: leaving.RetryPolicy,
        instance: str,
        device_id: str,
        *,
        kind: str | None,
        asked: DeviceFingerprint | None,
        begin: Begin,
        records: Iterable[Record] = (),
    ) -> None:
        self._guest = host.guest(instance)
        self._unplugs = unplugs
        self._retry_policy = retry_policy
        self._device_id = device_id
        self._kind = kind
        #: The device that this detach began with, in an earlier try or at an earlier read.
        self._own = asked
        #: The device of an earlier detach, which the guest was asked to release and has not released.
        self._earlier = unplugs.asked(instance, device_id)
        self._begin = begin
        self._records = tuple(records)
        #: The device as this process recorded it last.
        self._recorded: DeviceFingerprint | None = None
        #: Whether this process removed the device from the persistent config.
        self._is_removed = False
        self._left = leaving.LEFT

    def run(self) -> 'futures.Future[None]':
        """Detach the device. See :meth:`aliasagent.virt.driver.Driver.detach`."""
        for _read in range(_READS):
            pending = self._try()
            if pending is not None:
                return pending
        raise exception.GuestBusy(instance=self._guest.uuid, reason='it keeps starting and stopping')

    def _try(self) -> 'futures.Future[None] | None':
        """Read the guest and take the next step; None if the guest must be read again first."""
        definitions = self._guest.definitions()
        if definitions.live is None:
            self._guest.refuse_if_saved()
        live, persistent = self._find(definitions)
        if live is None and persistent is None:
            return self._gone(definitions)
        lookup.check_can_go(definitions, self._device_id, live, persistent, self._kind)
        run = None
        if definitions.live is not None:
            self._guest.refuse_if_migrating()
            run = runs.run_of(definitions.live)
        if self._record(DeviceFingerprint.of(run, _device(live), _device(persistent))):
            return None
        if persistent is not None:
            self._detach_persistent(persistent.device)
            self._left = leaving.LEFT_LIVE_ONLY
            self._is_removed = True
            self._own = self._recorded
            if live is None:
                return None  # a guest that was started or changed by another client since the read has the device
        elif self._before is not None and self._before.persistent is not None:
            self._left = leaving.LEFT_LIVE_ONLY
        assert live is not None, 'a device that is in neither definition was handled above'
        assert self._recorded is not None
        return self._unplug(live.device, self._recorded)

    @property
    def _before(self) -> DeviceFingerprint | None:
        """The device as an earlier read found it."""
        return self._recorded or self._own or self._earlier

    def _find(self, definitions: Definitions) -> tuple[Found | None, Found | None]:
        """Find the device, live and persistent: by its id, or as recorded once anything may have been changed."""
        # A detach removes one device, and not the next one that claims the same id.
        if self._own is not None:
            return self._find_again(definitions, self._recorded or self._own)
        live, persistent = lookup.both(definitions, self._device_id, self._records)
        # The evidence may have been in one definition only, which may have lost it: add what matches the earlier read.
        before = self._recorded or self._earlier
        if before is None or (live is not None and persistent is not None):
            return live, persistent
        live_before, persistent_before = self._find_again(definitions, before)
        return live or live_before, persistent or persistent_before

    def _find_again(
        self, definitions: Definitions, before: DeviceFingerprint
    ) -> tuple[Found | None, Found | None]:
        live = persistent = None
        if definitions.live is not None:
            live = before.find_live(self._device_id, definitions.live, runs.run_of(definitions.live))
        if definitions.persistent is not None:
            persistent = before.find_persistent(
                self._device_id, definitions.persistent, was_removed=self._is_removed
            )
        return _as_found(live), _as_found(persistent)

    def _gone(self, definitions: Definitions) -> 'futures.Future[None] | None':
        """End a detach whose device is in neither definition; None if the guest must be read again first.

        :raises DeviceNotFound: no earlier read found the device either.
        :raises DetachFailed: the guest was, or may have been, saved or migrated with the device.
        """
        before = self._before
        if before is None:
            raise exception.DeviceNotFound(instance=self._guest.uuid, device=self._device_id)
        kept = None if self._own is None else leaving.kept_elsewhere(self._own)
        if definitions.live is None and before.is_live:
            cause = self._guest.stopped_by()
            if cause is None:
                return None  # a guest that was started or restored since the read may have the device
            kept = leaving.KEPT.get(cause)
        if kept is not None:
            raise exception.DetachFailed(instance=self._guest.uuid, device=self._device_id, reason=kept)
        return self._done()

    def _record(self, found: DeviceFingerprint) -> bool:
        """Record the device before anything is changed; return whether the guest must be read again."""
        # What an earlier read found on a side that has lost the device since is kept: it identifies the device.
        before = self._before
        if before is not None:
            found = found.completed_by(before)
        if found == self._recorded:
            return False
        self._recorded = found
        return self._begin(found)

    def _done(self) -> 'futures.Future[None]':
        LOG.info('Detached %s from instance %s', self._device_id, self._guest.uuid)
        self._unplugs.forget(self._guest.uuid, self._device_id)
        future: futures.Future[None] = futures.Future()
        future.set_result(None)
        return future

    def _unplug(self, device: base.Device, fingerprint: DeviceFingerprint) -> 'futures.Future[None]':
        if device.alias is None:
            raise exception.DetachFailed(
                instance=self._guest.uuid,
                device=self._device_id,
                reason=f'{device.describe()} has no alias while running; {self._left}',
            )
        return self._unplugs.start(
            self._guest.uuid, self._device_id, fingerprint, self._retry_policy, self._left, self._guest
        )

    def _detach_persistent(self, device: base.Device) -> None:
        try:
            if device.is_claimed and device.alias is not None:
                self._guest.detach(device.alias, Side.PERSISTENT)
            else:
                self._guest.detach_persistent_xml(device.to_xml())
        except (exception.HypervisorUnavailable, exception.GuestBusy):
            raise
        except exception.HypervisorError as error:
            raise exception.DetachFailed(
                instance=self._guest.uuid, device=self._device_id, reason=error
            ) from error


def _device(found: Found | None) -> base.Device | None:
    return None if found is None else found.device


def _as_found(device: base.Device | None) -> Found | None:
    # Found by its alias in the run that was asked, or by its own evidence. Callers do not use which.
    return None if device is None else Found(device, Evidence.ALIAS)
