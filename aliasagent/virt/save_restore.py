# SPDX-License-Identifier: Apache-2.0
"""Gives a running guest aliases without a reboot: saves the guest to a file, and restores it with another definition.

The guest is paused meanwhile, and its clients notice the pause. The agent undoes what fails: the file keeps the old
definition, so the guest can be restored as it was. The guest is restored only if it is proven that it has not run since
its save, and the file is removed only when it is proven that the guest runs with what is in the file
(:mod:`aliasagent.virt.saved_guest`).

libvirtd continues a save or a restore when its client is gone, so the agent first waits for libvirtd to finish. If this
process ends meanwhile, :func:`resume` completes the work in the next one.

Nothing here serializes the operations on one guest: the caller does (:mod:`aliasagent.operations`).
"""

import dataclasses
import logging
import os
import pathlib
import time
from collections.abc import Callable
from collections.abc import Set
from typing import NoReturn

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.virt import jobs
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Rewrite
from aliasagent.virt.host import Host
from aliasagent.virt.saved_guest import BESIDE
from aliasagent.virt.saved_guest import MayHaveRun
from aliasagent.virt.saved_guest import SavedGuest

LOG = logging.getLogger(__name__)

#: Assumed rate, in bytes per second, at which a guest's memory is written and read: that of a disk without a cache.
RATE = 200 * 1024 * 1024
#: Seconds that a save and restore takes in addition: one QEMU ends, and another starts.
OVERHEAD = 1.5
_STATES = frozenset({'running', 'paused'})


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a guest's save and restore will cost."""

    #: Size of the file, at most.
    bytes: int
    #: How long the guest will be paused.
    seconds: float


@dataclasses.dataclass(frozen=True)
class Restored:
    """The result of a save and restore."""

    #: How long the guest was paused.
    paused_seconds: float
    #: The aliases that the guest's devices have now, and on what evidence.
    given: dict[str, str]


def estimate(host: Host, instance: str, rate: int = RATE) -> Estimate:
    """Estimate how long a guest will be paused, if all its memory is in use.

    :param rate: bytes per second that the disk with the directory can write, and read.
    :raises InstanceNotFound: there is no such guest.
    :raises HypervisorError: the guest does not run.
    """
    guest = host.guest(instance)
    if not guest.is_active():
        raise exception.HypervisorError(action='save and restore', reason=f'instance {instance} is {guest.state()}')
    size = guest.memory()
    return Estimate(size + BESIDE, OVERHEAD + 2 * size / rate)


def save_and_restore(
    host: Host,
    instance: str,
    directory: str | os.PathLike[str],
    rewrite: Rewrite,
    begin: Callable[[], object] = lambda: None,
) -> Restored:
    """Give a running guest's devices the aliases that they lack, and leave the persistent config as it is.

    Does nothing, and does not pause the guest, if there is no alias to give.

    :param directory: a directory on this host with room for the guest's memory, which only root should be able to read.
        It is created if it is missing, but its parent directory is not.
    :param rewrite: sets the aliases in a definition.
    :param begin: called when the guest was read and is about to be saved.
    :raises InstanceNotFound: there is no such guest.
    :raises InvalidInput: the directory cannot be created, has no room, or has a file of an earlier save.
    :raises GuestBusy: the guest is being migrated, or libvirt runs another job on it.
    :raises HypervisorError: the save or restore failed. The message says how the guest is now: it continues as it was,
        unless the message names the file that its memory is in.
    """
    where = pathlib.Path(directory)
    guest = look_up(host, instance, where)
    state = guest.state()
    text = guest.movable_text()
    if text is None or state not in _STATES:
        reason = f'instance {instance} is {state}{_advice_if_left(host, instance, where)}'
        raise exception.HypervisorError(action='save and restore', reason=reason)
    persistent = _persistent(guest)
    if not rewrite(Domain.parse(text), persistent):
        LOG.info('Instance %s: no device of the running guest lacks an alias that can be set', instance)
        return Restored(0.0, {})
    guest.refuse_if_at_work()
    saved = SavedGuest.of(host, guest, where, transient=persistent is None)
    begin()
    LOG.info('Instance %s is paused: it is saved to %s, and restored with aliases', instance, saved.path)
    begun = time.monotonic()
    with saved.watched():
        try:
            saved.save(guest)
        except exception.AliasAgentError as error:
            _raise_if_not_saved(host, saved, error)
        given = _restore_with_aliases(host, saved, rewrite, persistent)
        return _end(host, saved, begun, {state}, given)


def resume(host: Host, instance: str, directory: str | os.PathLike[str], rewrite: Rewrite) -> Restored:
    """Complete an interrupted :func:`save_and_restore`, wherever it was interrupted.

    Restores a guest that is down because of it, with aliases. If there is no guest to restore, this begins anew, as
    :func:`save_and_restore` does. The errors are the same, too.

    :raises HypervisorError: the guest is down and may have run since, or is gone and was persistent, so that it may run
        elsewhere. Nothing is done to it, and the message names the file.
    :raises Stopping: the agent stops.
    """
    begun, where = time.monotonic(), pathlib.Path(directory)
    saved = SavedGuest.find(host, instance, where) or _expected(host, instance, where)
    with saved.watched():
        jobs.wait_ended(host, instance, f'its memory may be in {saved.path}', saved.note_save)
        if saved.exists() and saved.is_latest():
            LOG.info('Instance %s was saved, but not restored: it is now restored from %s', instance, saved.path)
            persistent = None if saved.is_transient else _persistent(host.guest(instance))
            given = _restore_with_aliases(host, saved, rewrite, persistent)
            return _end(host, saved, begun, _STATES, given)
    if saved.exists():
        _remove_if_it_continues(saved)
    return save_and_restore(host, instance, directory, rewrite)


def _expected(host: Host, instance: str, directory: pathlib.Path) -> SavedGuest:
    """Return the file that a guest may be about to be saved to."""
    # A call of an agent that was killed may still wait in libvirtd.
    return SavedGuest.at(host, instance, directory, transient=not look_up(host, instance, directory).is_persistent())


def look_up(host: Host, instance: str, directory: str | os.PathLike[str]) -> Guest:
    """Look up a guest that is or may have been saved.

    :raises InstanceNotFound: there is no such guest.
    :raises HypervisorError: the guest is gone, and its memory is in a file; the message names the file.
    """
    try:
        return host.guest(instance)
    except exception.InstanceNotFound as error:
        words = _advice_if_left(host, instance, pathlib.Path(directory))
        if not words:
            raise
        raise exception.HypervisorError(action='save and restore', reason=f'{error}{words}') from error


def _persistent(guest: Guest) -> Domain | None:
    text = guest.persistent_text()
    return None if text is None else Domain.parse(text)


def _remove_if_it_continues(saved: SavedGuest) -> None:
    """Remove the file of a guest that was restored, or never was down."""
    # The file of a guest that was started anew has the only copy of its old memory. It is of little use, but not the
    # agent's to remove.
    if saved.continues():
        saved.remove()
    else:
        LOG.warning('Instance %s: the memory of an earlier save is kept in %s', saved.instance, saved.path)


def _advice_if_left(host: Host, instance: str, directory: pathlib.Path) -> str:
    saved = SavedGuest.find(host, instance, directory)
    return '' if saved is None else f'; {saved.advice}'


def _raise_if_not_saved(host: Host, saved: SavedGuest, error: exception.AliasAgentError) -> None:
    """Return if the guest was saved in spite of the error, and must be restored; else raise what went wrong.

    :raises AliasAgentError: the error, and the guest continues.
    :raises HypervisorError: that is not proven, or the guest could not be read. The message names the file.
    """
    if isinstance(error, exception.HypervisorUnavailable) or saved.exists():
        jobs.wait_ended(host, saved.instance, f'its memory may be in {saved.path}', saved.note_save)
    # NOTE: the file is checked before the guest is read, because a call of this agent that waits in libvirtd may still
    # create the file.
    if not saved.exists():
        raise error
    if saved.continues():
        saved.remove()
        raise error
    _refuse_if_started_anew(host, saved, 'save', error)
    if not saved.is_latest():
        reason = f'{error}; the guest does not run; {saved.advice}'
        raise exception.HypervisorError(action='save', reason=reason) from error
    LOG.warning('Instance %s was saved in spite of the error, and is now restored: %s', saved.instance, error)


def _restore_with_aliases(
    host: Host, saved: SavedGuest, rewrite: Rewrite, persistent: Domain | None
) -> dict[str, str]:
    """Restore the guest with aliases, and return those that it did not have before."""
    given: dict[str, str] = {}
    try:
        # Not the definition that was read before the save: another client may have changed a device since.
        image = saved.definition()
        given = rewrite(image, persistent)
        saved.restore(image.to_xml() if given else None)
    except MayHaveRun as error:
        LOG.critical('Instance %s: %s', saved.instance, error)
        raise
    except Exception as error:  # noqa: BLE001 - raised again, once the guest runs
        if not (isinstance(error, exception.HypervisorUnavailable) and _came_back(host, saved)):
            _undo(host, saved, error)
    return given


def _came_back(host: Host, saved: SavedGuest) -> bool:
    """Return whether the guest was restored although libvirt's reply was lost."""
    jobs.wait_ended(host, saved.instance, f'its memory is kept in {saved.path}')
    return saved.continues()


def _refuse_if_started_anew(host: Host, saved: SavedGuest, action: str, error: Exception) -> None:
    """Raise if the guest runs, and it is not proven that it continues from its save.

    :raises HypervisorError: the guest may have been started anew. The message names the file.
    """
    if _runs(host, saved.instance) and not saved.continues():
        reason = f'{error}; the guest runs, but {saved.started_anew}'
        LOG.error('Instance %s runs, but %s', saved.instance, saved.started_anew)
        raise exception.HypervisorError(action=action, reason=reason) from error


def _undo(host: Host, saved: SavedGuest, error: Exception) -> NoReturn:
    """Restore the guest as it was, and raise what went wrong."""
    instance, path = saved.instance, saved.path
    _refuse_if_started_anew(host, saved, 'restore with aliases', error)
    try:
        how = 'continues'
        if not saved.continues():
            saved.restore(None)
            how = 'was restored as it was'
        how = f'{how}, and is {host.guest(instance).state()}'
    except exception.HypervisorUnavailable as second:
        # Keep the class of the error: then the operation is not ended, and the restore is tried again.
        raise exception.HypervisorUnavailable(reason=f'{second}; its memory is kept in {path}') from error
    except exception.AliasAgentError as second:
        LOG.critical('Instance %s does not run; its memory is kept in %s: %s', instance, path, second)
        raise exception.HypervisorError(
            action='restore with aliases',
            reason=f'{error}; nor could the guest be restored as it was: {second}; its memory is kept in {path}',
        ) from error
    saved.remove()
    LOG.error('Instance %s %s: %s', instance, how, error)
    raise exception.HypervisorError(action='restore with aliases', reason=f'{error}; the guest {how}') from error


def _end(host: Host, saved: SavedGuest, begun: float, states: Set[str], given: dict[str, str]) -> Restored:
    """Check the guest after its restore, and remove the file; the file stays if the guest does not run.

    :param states: the states that the guest may be in.
    """
    paused = time.monotonic() - begun
    guest = look_up(host, saved.instance, saved.path.parent)
    now, live = guest.state(), guest.live_definition()
    if live is None:
        raise exception.HypervisorError(
            action='restore with aliases', reason=f'the guest is {now}; its memory as it was is kept in {saved.path}'
        )
    saved.remove()
    lost = [name for name in given if len(live.by_alias(name)) != 1]
    if now not in states or lost:
        was, without = ' or '.join(sorted(states)), ', '.join(lost) or 'none'
        raise exception.HypervisorError(
            action='restore with aliases',
            reason=f'the guest was {was} and is {now}; aliases that libvirt did not set: {without}',
        )
    LOG.info('Instance %s continues after %.1f s, with %s', saved.instance, paused, ', '.join(given))
    return Restored(paused, given)


def _runs(host: Host, instance: str) -> bool:
    try:
        return host.guest(instance).is_active()
    except exception.InstanceNotFound:
        return False  # a transient guest that is only in its file
