# SPDX-License-Identifier: Apache-2.0
"""Looks for a guest at the host that it was sent to."""

import contextlib
import time
from typing import Any
from urllib import parse

import libvirt

from aliasagent import bounded
from aliasagent import exception
from aliasagent.virt import connections
from aliasagent.virt import jobs
from aliasagent.virt.guest import Guest
from aliasagent.virt.host import Host

#: Seconds that a look takes at most.
_SECONDS = 20.0
#: Seconds between two looks at whether it has ended.
_INTERVAL = 0.1
#: The state of a guest that has arrived from another host, until somebody pauses it.
_ARRIVED = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED)


class _NotKnown(Exception):
    """Whether the guest has arrived does not show."""


def runs(host: Host, uri: str, instance: str) -> bool:
    """Whether a guest runs at another host, and has come there by a migration that is over.

    One that ended here may have been started anew there, and has not moved.

    The other host was chosen for libvirtd, and this process may not reach it.

    :param uri: its libvirtd.
    :raises HypervisorError: that cannot be told.
    :raises Stopping: the agent stops.
    """
    if parse.urlsplit(uri).path == '/embed':
        # It would run the other host's driver in this very process.
        raise _cannot_tell('it is not a host that can be asked')
    try:
        answer = bounded.start(lambda: _ask(host, uri, instance))
    except (RuntimeError, MemoryError) as error:
        raise _cannot_tell(str(error)) from error
    end = time.monotonic() + _SECONDS
    while not answer.done():
        if time.monotonic() > end:
            raise _cannot_tell(f'it does not answer within {_SECONDS:.0f} s')
        jobs.pause(host, _INTERVAL)
    try:
        return answer.result()
    except Exception as error:
        raise _cannot_tell(str(error)) from error


def _ask(host: Host, uri: str, instance: str) -> bool:
    connection = host.open_other(uri)
    try:
        return _runs_at(connection, instance)
    finally:
        # Not waited for: a host that goes away just now cannot take back what it has answered.
        with contextlib.suppress(RuntimeError, MemoryError):
            bounded.start(lambda: connections.close(connection))


def _runs_at(connection: Any, instance: str) -> bool:
    domains = {it.UUIDString(): it for it in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)}
    if instance not in domains:
        return False
    domain = domains[instance]
    # While it arrives it is there already, and may still come to nothing.
    Guest(domain, lambda: bool(connection.isAlive())).refuse_if_migrating()
    if tuple(domain.state()) != _ARRIVED:
        raise _NotKnown('it runs there, but libvirt there does not say that it was migrated: it may be a new start')
    return True


def _cannot_tell(reason: str) -> exception.HypervisorError:
    return exception.HypervisorError(action='ask the destination', reason=reason)
