# SPDX-License-Identifier: Apache-2.0
"""Moves a running guest to another host, where its devices have the aliases that they lack here.

libvirt's own peer-to-peer migration, with a definition for the guest there: the destination need not have this agent.

Nothing here keeps operations on one guest apart from each other: whoever calls does (:mod:`aliasagent.operations`), but
for :func:`abort`, which is for a guest that is being moved.
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

#: Seconds between two looks at how far it is.
_INTERVAL = 0.5
#: How many looks, one after the other, have to find a guest on no way.
_LOOKS = 2
#: Seconds in which libvirt says why a guest is gone.
_TOLD = 2.0
#: Why a guest that is shut off here may run at the other host.
_LEFT = {
    events.Cause.MIGRATED: 'is shut off here because it was migrated',
    events.Cause.UNKNOWN: 'is shut off here, and libvirt does not say why',
}


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a guest is on its way; memory and disks together, in bytes."""

    total: int
    processed: int
    #: Grows again when the guest writes faster than it is carried.
    remaining: int
    #: Seconds since it began.
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
    """Move a running guest, and return when it runs there and is gone here.

    A device attached or changed by another client between our look and the begin of the migration makes libvirt refuse
    the definition, as a rule, and the guest stays. A guest whose devices lack nothing moves with no definition of ours.

    :param dest_uri: the destination's libvirtd, as this host's libvirtd reaches it.
    :param rewrite: sets the aliases in a definition.
    :param migrate_uri: how the guest's memory travels, if not as the destination proposes.
    :param bandwidth_mib: MiB per second that it may take; None for libvirt's own limit.
    :param unsafe: move it even if libvirt cannot see that both hosts share the disks without a cache between them.
    :param begin: called when the guest is seen to run and to be on no way, before its devices are looked at.
    :return: the aliases that the running guest has there and had not here, and on what evidence.
    :raises InvalidInput: an address is none.
    :raises InstanceNotFound: there is no such guest.
    :raises GuestBusy: it is being migrated already.
    :raises HypervisorError: it could not be moved, in libvirt's words. It goes on here, as it was.
    """
    uris.needs(dest_uri, migrate_uri)
    guest = host.guest(instance)
    if not guest.is_active():
        raise _not_running('migrate', instance)
    guest.refuse_if_migrating()
    begin()
    # Read only now: to begin can take long, and the guest may be another one by then.
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
    """How far a guest is on its way to another host; None if it is on none.

    :raises InstanceNotFound: there is no such guest; it may have arrived.
    :raises HypervisorError: it does not run.
    """
    try:
        return _progress(host.guest(instance))
    except errors.InvalidOperation as error:
        raise _not_running('look how far the migration is', instance) from error


def follow(host: Host, instance: str, dest_uri: str, check: Callable[[], None] = lambda: None) -> None:
    """Wait for a migration that an earlier process began: libvirtd carries it on when its client is gone.

    One look that finds it on no way does not say that it stays: one that has left is stopped first, and gone later.
    And one that is gone need not have arrived: a transient guest that ends is gone, too. What proves that it has left
    is libvirt's own word while it is followed, or the guest at the other host. One that has left may be defined here
    still, if libvirtd did not come to undefine it.

    :param dest_uri: the destination's libvirtd.
    :param check: refuses a destination that may not be connected to.
    :raises HypervisorUnavailable: nothing is known meanwhile.
    :raises HypervisorError: the guest is here, and not on its way; or it is not, and has not arrived; or whether it has
        cannot be told.
    :raises Stopping: the agent stops.
    """
    with Watch(host, instance) as watch:
        begun = watch.now()
        try:
            _wait_until_it_stays(host, instance)
            left = _LEFT.get(host.guest(instance).stopped_by() or events.Cause.OTHER)
        except exception.InstanceNotFound as error:
            if not watch.ended_by(events.Cause.MIGRATED, begun, _TOLD):
                _see_that_it_arrived(host, instance, dest_uri, check, f'{error} any more')
            LOG.info('Instance %s has moved to another host', instance)
            return
    if left is None:
        # Not begun again: an operator may have aborted it.
        raise exception.HypervisorError(action='migrate', reason='it was interrupted, and the guest is still here')
    _see_that_it_arrived(host, instance, dest_uri, check, f'instance {instance} {left}')
    LOG.warning('Instance %s has moved to another host, and is still defined here: undefine it here', instance)


def abort(host: Host, instance: str) -> None:
    """Have a guest that is on its way stay here. :func:`migrate` ends with an error then.

    :raises InstanceNotFound: there is no such guest; it may have arrived.
    :raises HypervisorError: it does not run, or is not on its way; or it is too late.
    """
    guest = host.guest(instance)
    try:
        if guest.migration() is None:
            raise exception.HypervisorError(action='abort', reason=f'instance {instance} is not being migrated')
        guest.abort_job()
    except errors.InvalidOperation as error:
        raise exception.HypervisorError(action='abort', reason=error.kwargs['reason']) from error
    LOG.info('Instance %s shall stay', instance)


def _wait_until_it_stays(host: Host, instance: str) -> None:
    stays = 0
    while stays < _LOOKS:
        stays = 0 if _is_on_its_way(host, instance) else stays + 1
        jobs.pause(host, _INTERVAL)


def _is_on_its_way(host: Host, instance: str) -> bool:
    """Whether the guest is being moved, or that cannot be told at the moment."""
    try:
        return _progress(host.guest(instance)) is not None
    except exception.HypervisorUnavailable:
        raise
    except errors.InvalidOperation:
        return False  # it does not run
    except exception.HypervisorError as error:
        LOG.debug('Instance %s: how far it is is not known at the moment: %s', instance, error)
        return True


def _see_that_it_arrived(
    host: Host, instance: str, dest_uri: str, check: Callable[[], None], here: str
) -> None:
    """See that a guest that does not run here any more has arrived at the other host.

    :param here: how it is here, for the error's words.
    :raises HypervisorError: it does not, or that cannot be told.
    """
    try:
        # Again, for it may have been let pass by an earlier release.
        uris.needs(dest_uri)
        check()
        runs = destination.runs(host, dest_uri, instance)
    except (exception.HypervisorError, exception.InvalidInput) as error:
        reason = (
            f'it was interrupted, and {here}; whether it arrived cannot be told ({error}): look at the destination'
        )
        raise exception.HypervisorError(action='migrate', reason=reason) from error
    if not runs:
        reason = f'it was interrupted, and {here}, nor does it run at the destination: it ended'
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
