# SPDX-License-Identifier: Apache-2.0
"""Waits for what libvirt does with a guest while nobody waits for its answer any more.

When a client is gone, or its connection, libvirtd goes on with the save or the restore that it was asked for.
"""

import logging
import time

from aliasagent import exception
from aliasagent.virt.host import Host

LOG = logging.getLogger(__name__)

#: Seconds between two looks.
_INTERVAL = 0.5
#: Seconds to wait for a hypervisor that goes away meanwhile.
_RECONNECT = 60.0
#: Seconds that a job may take: enough for some TiB of memory on a slow disk.
_LONGEST = 6 * 3600.0


def wait_ended(host: Host, instance: str, left: str) -> None:
    """Wait until libvirt is at no job with a guest, or the guest is not there any more.

    :param left: how things are if this fails, for the error's words.
    :raises GuestBusy: it takes too long.
    :raises HypervisorUnavailable: the hypervisor stays away, or this process ends.
    """
    begun = time.monotonic()
    said = False
    while _goes_on(host, instance, left):
        if not said:
            LOG.info('Instance %s: waiting for what libvirt does with it', instance)
            said = True
        if time.monotonic() - begun > _LONGEST:
            raise exception.GuestBusy(instance=instance, reason=f'libvirt is still at a job with it; {left}')
        time.sleep(_INTERVAL)


def _goes_on(host: Host, instance: str, left: str) -> bool:
    """Whether a job is under way, or that is not known."""
    if not host.wait_connected(_RECONNECT):
        raise exception.HypervisorUnavailable(reason=f'no connection to {host.uri}; {left}')
    try:
        return host.guest(instance).is_at_work()
    except exception.InstanceNotFound:
        return False
    except exception.HypervisorError as error:
        LOG.debug('Instance %s: what libvirt does with it is not known at the moment: %s', instance, error)
        return True
