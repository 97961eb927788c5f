# SPDX-License-Identifier: Apache-2.0
"""Takes a device out of a guest: first out of the persistent config, then out of the running guest.

So the device does not come back with the guest's next start, however long the running guest takes to release it. What
is found is recorded before anything is changed: a detach that is interrupted goes on with the device that it began
with, and ends as done only if that device is seen to be gone.
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
from aliasagent.virt import events
from aliasagent.virt import leaving
from aliasagent.virt import lookup
from aliasagent.virt import runs
from aliasagent.virt.guest import Definitions
from aliasagent.virt.guest import Side
from aliasagent.virt.host import Host
from aliasagent.virt.unplug import Unplugs

LOG = logging.getLogger(__name__)

#: Records what is about to be done, before it is; returns whether that took so long that the guest must be read again.
Begin = Callable[[DeviceFingerprint], bool]
#: How often a guest is read again because it was started or stopped meanwhile, or the record took its time.
_LOOKS = 20


class Detach:
    """One detach of one device.

    :param retry_policy: how long the running guest may take.
    :param kind: what the device has to be; None for any.
    :param asked: the device as an earlier start of this detach found it; None if this is the first.
    :param records: what is known from elsewhere of the guest's devices.
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
        #: The device that this detach began with, in an earlier process or at an earlier look.
        self._own = asked
        #: The device as an earlier detach found it, which the guest was asked for and has not released.
        self._earlier = unplugs.asked(instance, device_id)
        self._begin = begin
        self._records = tuple(records)
        #: What was recorded last by this process.
        self._recorded: DeviceFingerprint | None = None
        #: Whether the device was taken out of the persistent config here.
        self._is_removed = False
        self._left = leaving.LEFT

    def run(self) -> 'futures.Future[None]':
        """Take the device out. See :meth:`aliasagent.virt.driver.Driver.detach`."""
        for _look in range(_LOOKS):
            pending = self._try()
            if pending is not None:
                return pending
        raise exception.GuestBusy(instance=self._guest.uuid, reason='it is started and stopped all the time')

    def _try(self) -> 'futures.Future[None] | None':
        """Read the guest and do what is to be done; None if it has to be read again first."""
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
                return None  # if it was started since it was read, or another client was there, it has the device
        elif self._before is not None and self._before.persistent is not None:
            self._left = leaving.LEFT_LIVE_ONLY
        assert live is not None, 'what the guest has in neither definition is gone'
        assert self._recorded is not None
        return self._unplug(live.device, self._recorded)

    @property
    def _before(self) -> DeviceFingerprint | None:
        """What is known of the device from an earlier look."""
        return self._recorded or self._own or self._earlier

    def _find(self, definitions: Definitions) -> tuple[Found | None, Found | None]:
        """The device, live and persistent: by its id; once anything may have been changed, the one that it began with.

        A detach takes out one device, and not the next one that says that it is the same.
        """
        if self._own is not None:
            return self._find_again(definitions, self._recorded or self._own)
        live, persistent = lookup.both(definitions, self._device_id, self._records)
        # What one side alone has shown of it may be gone by now.
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

    def _gone(self, definitions: Definitions) -> 'futures.Future[None]':
        """The device is nowhere: done if there was one to take out, and the guest does not keep it somewhere else.

        :raises DeviceNotFound: there was none.
        :raises DetachFailed: the guest may go on with it.
        """
        before = self._before
        if before is None:
            raise exception.DeviceNotFound(instance=self._guest.uuid, device=self._device_id)
        kept = None if self._own is None else leaving.kept_elsewhere(self._own)
        if definitions.live is None and before.is_live:
            kept = leaving.KEPT.get(self._guest.stopped_by() or events.Cause.OTHER)
        if kept is not None:
            raise exception.DetachFailed(instance=self._guest.uuid, device=self._device_id, reason=kept)
        return self._done()

    def _record(self, found: DeviceFingerprint) -> bool:
        """Record what was found, before anything is changed; returns whether it may be another by now.

        What an earlier look found on a side that has lost it by now is kept: it says what was asked for.
        """
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
    # By the alias that it had when the guest was asked, or by its own evidence: which of them does not matter here.
    return None if device is None else Found(device, Evidence.ALIAS)
