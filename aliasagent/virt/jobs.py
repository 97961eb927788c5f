# SPDX-License-Identifier: Apache-2.0
"""Waits for a libvirt job whose client or connection is gone: libvirtd continues a save or a restore without it."""

import logging
import time
from collections.abc import Callable

from aliasagent import exception
from aliasagent.virt.guest import Guest
from aliasagent.virt.host import Host

LOG = logging.getLogger(__name__)

#: Seconds between two reads of the guest.
_INTERVAL = 0.5
#: Seconds to wait for a connection that is lost meanwhile.
_RECONNECT = 60.0
#: Seconds that a job may take: enough for some TiB of memory on a slow disk.
_LONGEST = 6 * 3600.0


class Stopping(Exception):
    """The agent stops. libvirt continues its job, and the agent follows the job after its next start."""


def pause(host: Host, seconds: float) -> None:
    """Wait between two reads of a guest.

    :raises Stopping: the agent stops.
    """
    if not host.pause(seconds):
        raise Stopping


def wait_ended(
    host: Host, instance: str, left: str, on_read: Callable[[Guest], None] = lambda _guest: None
) -> None:
    """Wait until libvirt runs no job on a guest, or the guest is gone.

    :param left: what the operator must know if this fails, for the error message.
    :param on_read: called with each look-up of the guest, before its job is read.
    :raises GuestBusy: the job takes too long.
    :raises HypervisorUnavailable: the connection is not up again in time.
    :raises Stopping: the agent stops.
    """
    begun = time.monotonic()
    is_logged = False
    while _is_at_work(host, instance, left, on_read):
        if not is_logged:
            LOG.info('Instance %s: waiting for the job that libvirt runs on it', instance)
            is_logged = True
        if time.monotonic() - begun > _LONGEST:
            raise exception.GuestBusy(instance=instance, reason=f'libvirt still runs a job on it; {left}')
        pause(host, _INTERVAL)


def _is_at_work(host: Host, instance: str, left: str, on_read: Callable[[Guest], None]) -> bool:
    """Return whether libvirt runs a job on the guest, or the guest cannot be read."""
    if not _wait_connected(host):
        raise exception.HypervisorUnavailable(reason=f'no connection to {host.uri}; {left}')
    try:
        guest = host.guest(instance)
        on_read(guest)
        return guest.is_at_work()
    except exception.InstanceNotFound:
        return False
    except exception.HypervisorError as error:
        LOG.debug('Instance %s: its job cannot be read at the moment: %s', instance, error)
        return True


def _wait_connected(host: Host) -> bool:
    end = time.monotonic() + _RECONNECT
    while not host.wait_connected(max(0.0, min(_INTERVAL, end - time.monotonic()))):
        pause(host, 0.0)
        if time.monotonic() >= end:
            return False
    return True
