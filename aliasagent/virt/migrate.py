# SPDX-License-Identifier: Apache-2.0
"""Moves a running guest to another host, where its devices get the aliases that they lack here.

This is libvirt's own peer-to-peer migration, with a definition for the destination: the destination does not need this
agent.

Nothing here serializes the operations on one guest: the caller does (:mod:`aliasagent.operations`). The exception is
:func:`abort`, which is for a guest that is being moved.
"""

import dataclasses
import logging
from collections.abc import Callable

import libvirt

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.requests import uris
from aliasagent.virt import destination
from aliasagent.virt import errors
from aliasagent.virt import events
from aliasagent.virt import jobs
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Rewrite
from aliasagent.virt.host import Host
from aliasagent.virt.watch import Watch

LOG = logging.getLogger(__name__)

#: Seconds between two reads of the progress.
_INTERVAL = 0.5
#: How many consecutive reads must find that the guest is not being migrated.
_READS = 2
#: Seconds to wait for libvirt's event that says why a guest is gone.
_EVENT_WAIT = 2.0
#: Why a guest that is shut off here may run at the other host, for the error message.
_LEFT = {
    events.Cause.MIGRATED: 'is shut off here because it was migrated',
    events.Cause.UNKNOWN: 'is shut off here, and libvirt does not report why',
}


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a migration is; memory and disks together, in bytes."""

    total: int
    processed: int
    #: Grows again when the guest writes faster than libvirt sends.
    remaining: int
    #: Seconds since the migration began.
    elapsed: float


def migrate(
    host: Host,
    instance: str,
    dest_uri: str,
    rewrite: Rewrite,
    *,
    migrate_uri: str | None = None,
    bandwidth_mib: int | None = None,
    unsafe: bool = False,
    begin: Callable[[], object] = lambda: None,
) -> dict[str, str]:
    """Move a running guest, and return when it runs at the destination and is gone here.

    If another client attaches or changes a device between the agent's read and the begin of the migration, libvirt
    usually refuses the definition, and the guest stays. A guest whose devices lack no alias moves with libvirt's own
    definition.

    :param dest_uri: the destination's libvirtd, as this host's libvirtd reaches it.
    :param rewrite: sets the aliases in a definition.
    :param migrate_uri: where the guest's memory is sent; None for the destination's proposal.
    :param bandwidth_mib: maximum bandwidth in MiB per second; None for libvirt's own limit.
    :param unsafe: move the guest even if libvirt cannot see that both hosts share its disks without a cache between
        them.
    :param begin: called when the guest is known to run and not to be migrating, before its devices are read.
    :return: the aliases that the running guest gets at the destination, with the evidence for each.
    :raises InvalidInput: a URI is invalid.
    :raises InstanceNotFound: there is no such guest.
    :raises GuestBusy: the guest is already being migrated.
    :raises HypervisorError: the guest could not be moved; the message is libvirt's. The guest continues here as it was.
    """
    uris.needs(dest_uri, migrate_uri)
    guest = host.guest(instance)
    if not guest.is_active():
        raise _not_running('migrate', instance)
    guest.refuse_if_migrating()
    begin()
    # Read only now: begin() can take long, and the guest may have changed meanwhile.
    live_text = guest.movable_text()
    if live_text is None:
        raise _not_running('migrate', instance)
    guest.refuse_if_migrating()
    parameters: dict[str, object] = {}
    if migrate_uri is not None:
        parameters[libvirt.VIR_MIGRATE_PARAM_URI] = migrate_uri
    if bandwidth_mib is not None:
        parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = bandwidth_mib
    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | (libvirt.VIR_MIGRATE_UNSAFE if unsafe else 0)
    persistent_text = guest.persistent_text()
    persistent = None if persistent_text is None else Domain.parse(persistent_text)
    live = Domain.parse(live_text)
    given = rewrite(live, persistent)
    if given:
        parameters[libvirt.VIR_MIGRATE_PARAM_DEST_XML] = live.to_xml()
    if persistent is not None:
        flags |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
        if rewrite(persistent, live):
            parameters[libvirt.VIR_MIGRATE_PARAM_PERSIST_XML] = persistent.to_xml()
    LOG.info('Instance %s moves to %s; %d devices get aliases there', instance, uris.shown(dest_uri), len(given))
    guest.migrate(dest_uri, parameters, flags)
    LOG.info('Instance %s has moved to %s', instance, uris.shown(dest_uri))
    return given


def progress(host: Host, instance: str) -> Progress | None:
    """Return how far the migration of a guest is; None if the guest is not being migrated.

    :raises InstanceNotFound: there is no such guest; it may have arrived.
    :raises HypervisorError: the guest does not run.
    """
    try:
        return _progress(host.guest(instance))
    except errors.InvalidOperation as error:
        raise _not_running('read the progress of the migration', instance) from error


def follow(host: Host, instance: str, dest_uri: str, check: Callable[[], None] = lambda: None) -> None:
    """Wait for a migration that an earlier process began: libvirtd continues it when its client is gone.

    One read that finds no migration does not prove that the guest stays: a guest that has left is first stopped here,
    and removed later. A guest that is gone need not have arrived: a transient guest that ends is gone, too. Two things
    prove that a guest has left: libvirt's own event, while the agent follows the guest, or the guest at the other host.
    A guest that has left may still be defined here, if libvirtd did not come to undefine it.

    :param dest_uri: the destination's libvirtd.
    :param check: refuses a destination that the agent may not connect to.
    :raises HypervisorUnavailable: the hypervisor cannot be reached.
    :raises HypervisorError: the guest is here and not being migrated; or it is not here and has not arrived; or the
        destination does not say whether it has.
    :raises Stopping: the agent stops.
    """
    with Watch(host, instance) as watch:
        begun = watch.now()
        try:
            _wait_until_not_migrating(host, instance)
            left = _LEFT.get(host.guest(instance).stopped_by() or events.Cause.OTHER)
        except exception.InstanceNotFound as error:
            if not watch.ended_by(events.Cause.MIGRATED, begun, _EVENT_WAIT):
                _check_arrival(host, instance, dest_uri, check, f'{error} any more')
            LOG.info('Instance %s has moved to another host', instance)
            return
    if left is None:
        # The migration is not begun again: an operator may have aborted it.
        raise exception.HypervisorError(action='migrate', reason='it was interrupted, and the guest is still here')
    _check_arrival(host, instance, dest_uri, check, f'instance {instance} {left}')
    LOG.warning('Instance %s has moved to another host, and is still defined here: undefine it here', instance)


def abort(host: Host, instance: str) -> None:
    """Abort the migration of a guest, so that the guest stays here; :func:`migrate` then raises an error.

    :raises InstanceNotFound: there is no such guest; it may have arrived.
    :raises HypervisorError: the guest does not run or is not being migrated, or it is too late.
    """
    guest = host.guest(instance)
    try:
        if guest.migration() is None:
            raise exception.HypervisorError(action='abort', reason=f'instance {instance} is not being migrated')
        guest.abort_job()
    except errors.InvalidOperation as error:
        raise exception.HypervisorError(action='abort', reason=error.kwargs['reason']) from error
    LOG.info('Asked libvirt to abort the migration of instance %s', instance)


def _wait_until_not_migrating(host: Host, instance: str) -> None:
    idle_reads = 0
    while idle_reads < _READS:
        idle_reads = 0 if _is_migrating(host, instance) else idle_reads + 1
        jobs.pause(host, _INTERVAL)


def _is_migrating(host: Host, instance: str) -> bool:
    """Return whether the guest is being migrated, or cannot be read at the moment."""
    try:
        return _progress(host.guest(instance)) is not None
    except exception.HypervisorUnavailable:
        raise
    except errors.InvalidOperation:
        return False  # the guest does not run
    except exception.HypervisorError as error:
        LOG.debug('Instance %s: the progress of the migration cannot be read at the moment: %s', instance, error)
        return True


def _check_arrival(
    host: Host, instance: str, dest_uri: str, check: Callable[[], None], here: str
) -> None:
    """Check that a guest that no longer runs here has arrived at the other host.

    :param here: how the guest is here, for the error message.
    :raises HypervisorError: the guest has not arrived, or the destination does not say whether it has.
    """
    try:
        # Checked again, because an earlier version of the agent may have accepted the URI.
        uris.needs(dest_uri)
        check()
        runs = destination.runs(host, dest_uri, instance)
    except (exception.HypervisorError, exception.InvalidInput) as error:
        reason = (
            f'it was interrupted, and {here}; whether it arrived is not known ({error}): check the destination'
        )
        raise exception.HypervisorError(action='migrate', reason=reason) from error
    if not runs:
        reason = f'it was interrupted, and {here}, and it does not run at the destination either: it ended'
        raise exception.HypervisorError(action='migrate', reason=reason)


def _not_running(action: str, instance: str) -> exception.HypervisorError:
    return exception.HypervisorError(action=action, reason=f'instance {instance} does not run')


def _progress(guest: Guest) -> Progress | None:
    job = guest.migration()
    if job is None:
        return None
    return Progress(
        job.get('data_total', 0),
        job.get('data_processed', 0),
        job.get('data_remaining', 0),
        job.get('time_elapsed', 0) / 1000,
    )
