# SPDX-License-Identifier: Apache-2.0
"""Finds out whether a guest has arrived at the host that it was migrated to."""

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

#: Seconds that the destination may take to answer.
_SECONDS = 20.0
#: Seconds between two checks whether the answer is there.
_INTERVAL = 0.1
#: The state of a guest that has arrived from another host, until a client pauses it.
_ARRIVED = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED)


class _NotKnown(Exception):
    """The destination does not show whether the guest has arrived."""


def runs(host: Host, uri: str, instance: str) -> bool:
    """Return whether a guest runs at another host, and arrived there by a migration that is over.

    :param uri: the libvirtd of the other host.
    :raises HypervisorError: the other host does not show it, or cannot be reached.
    :raises Stopping: the agent stops.
    """
    # A guest that ended here may have been started anew at the other host without a migration. The URI was chosen for
    # libvirtd, and may not work for this process.
    if parse.urlsplit(uri).path == '/embed':
        # This URI would run the driver in the agent's own process.
        raise _not_known('its URI does not name a daemon to connect to')
    try:
        answer = bounded.start(lambda: _ask(host, uri, instance))
    except (RuntimeError, MemoryError) as error:
        raise _not_known(str(error)) from error
    end = time.monotonic() + _SECONDS
    while not answer.done():
        if time.monotonic() > end:
            raise _not_known(f'it does not answer within {_SECONDS:.0f} s')
        jobs.pause(host, _INTERVAL)
    try:
        return answer.result()
    except Exception as error:
        raise _not_known(str(error)) from error


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
    # An arriving guest is listed already, although its migration may still fail.
    Guest(domain, lambda: bool(connection.isAlive())).refuse_if_migrating()
    if tuple(domain.state()) != _ARRIVED:
        raise _NotKnown('it runs there, but libvirt there does not say that it was migrated: it may be a new start')
    return True


def _not_known(reason: str) -> exception.HypervisorError:
    return exception.HypervisorError(action='ask the destination', reason=reason)
