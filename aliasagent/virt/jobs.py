# SPDX-License-Identifier: Apache-2.0
"""Waits for what libvirt does with a guest while nobody waits for its answer any more.

When a client is gone, or its connection, libvirtd goes on with the save or the restore that it was asked for.
"""

import logging
import time
from collections.abc import Callable

from aliasagent import exception
from aliasagent.virt.guest import Guest
from aliasagent.virt.host import Host

LOG = logging.getLogger(__name__)

#: Seconds between two looks.
_INTERVAL = 0.5
#: Seconds to wait for a hypervisor that goes away meanwhile.
_RECONNECT = 60.0
#: Seconds that a job may take: enough for some TiB of memory on a slow disk.
_LONGEST = 6 * 3600.0


class Stopping(Exception):
    """The agent stops. What libvirt does with a guest is left to it, and followed after the next start."""


def pause(host: Host, seconds: float) -> None:
    """Wait between two looks.

    :raises Stopping: the agent stops.
    """
    if not host.pause(seconds):
        raise Stopping


def wait_ended(
    host: Host, instance: str, left: str, on_look: Callable[[Guest], None] = lambda _guest: None
) -> None:
    """Wait until libvirt is at no job with a guest, or the guest is not there any more.

    :param left: how things are if this fails, for the error's words.
    :param on_look: called with the guest at each look, before it is asked whether there is a job.
    :raises GuestBusy: it takes too long.
    :raises HypervisorUnavailable: the hypervisor stays away.
    :raises Stopping: the agent stops.
    """
    begun = time.monotonic()
    said = False
    while _goes_on(host, instance, left, on_look):
        if not said:
            LOG.info('Instance %s: waiting for what libvirt does with it', instance)
            said = True
        if time.monotonic() - begun > _LONGEST:
            raise exception.GuestBusy(instance=instance, reason=f'libvirt is still at a job with it; {left}')
        pause(host, _INTERVAL)


def _goes_on(host: Host, instance: str, left: str, on_look: Callable[[Guest], None]) -> bool:
    """Whether a job is under way, or that is not known."""
    if not _wait_connected(host):
        raise exception.HypervisorUnavailable(reason=f'no connection to {host.uri}; {left}')
    try:
        guest = host.guest(instance)
        on_look(guest)
        return guest.is_at_work()
    except exception.InstanceNotFound:
        return False
    except exception.HypervisorError as error:
        LOG.debug('Instance %s: what libvirt does with it is not known at the moment: %s', instance, error)
        return True


def _wait_connected(host: Host) -> bool:
    end = time.monotonic() + _RECONNECT
    while not host.wait_connected(max(0.0, min(_INTERVAL, end - time.monotonic()))):
        pause(host, 0.0)
        if time.monotonic() >= end:
            return False
    return True
