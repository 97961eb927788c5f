# SPDX-License-Identifier: Apache-2.0
"""New aliases for a running guest without a reboot: it is saved to a file, and restored with another definition.

The guest stands still meanwhile, and its clients see a pause. What could go wrong is undone: the file keeps the
definition as it was, so the guest can be restored as it was. It is restored only if it is proven that it has not run
since, and the file goes only when it is proven that the guest runs with what is in it
(:mod:`aliasagent.virt.saved_guest`).

libvirtd goes on with a save or a restore when its client is gone, so that is waited for first. What this process does
not see to its end, :func:`resume` does in the next one.

Nothing here keeps operations on one guest apart from each other: whoever calls does (:mod:`aliasagent.operations`).
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

#: Bytes per second at which a guest's memory is taken to be written, and read again: those of a disk, and no cache.
RATE = 200 * 1024 * 1024
#: Seconds that save and restore take beside that: a QEMU ends, and another begins.
OVERHEAD = 1.5
_STATES = frozenset({'running', 'paused'})


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a guest's save and restore will cost."""

    #: Of the file, at most.
    bytes: int
    #: For which the guest stands still.
    seconds: float


@dataclasses.dataclass(frozen=True)
class Restored:
    """What was done."""

    #: How long the guest stood still.
    paused_seconds: float
    #: The aliases that the guest's devices have now, and on what evidence.
    given: dict[str, str]


def estimate(host: Host, instance: str, rate: int = RATE) -> Estimate:
    """About how long a guest will stand still, if all its memory is in use.

    :param rate: bytes per second that the disk with the directory can write, and read.
    :raises InstanceNotFound: there is no such guest.
    :raises HypervisorError: it does not run.
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
    """Give a running guest's devices the aliases they lack. The persistent config is not touched.

    Nothing is done, and the guest does not stand still, if there is no alias to give.

    :param directory: on this host, with room for the guest's memory; only root should be able to read there. It is made
        if it is missing, but not the one that it is in.
    :param rewrite: sets the aliases in a definition.
    :param begin: called when the guest was looked at and is about to be saved.
    :raises InstanceNotFound: there is no such guest.
    :raises InvalidInput: the directory is none and cannot be made, or has no room.
    :raises GuestBusy: the guest is being migrated, or libvirt is at another job with it.
    :raises HypervisorError: it failed. The words say how the guest is now: it goes on as it was, unless they name the
        file that its memory is in.
    """
    where = pathlib.Path(directory)
    guest = _look_up(host, instance, where)
    state = guest.state()
    text = guest.movable_text()
    if text is None or state not in _STATES:
        reason = f'instance {instance} is {state}{_words_of_left(host, instance, where)}'
        raise exception.HypervisorError(action='save and restore', reason=reason)
    persistent = _persistent(guest)
    if not rewrite(Domain.parse(text), persistent):
        LOG.info('Instance %s: the running guest lacks no alias that is known', instance)
        return Restored(0.0, {})
    guest.refuse_if_at_work()
    saved = SavedGuest.of(host, guest, where, transient=persistent is None)
    begin()
    LOG.info('Instance %s stands still: it is saved to %s, and restored with aliases', instance, saved.path)
    begun = time.monotonic()
    with saved.watched():
        try:
            saved.save(guest)
        except exception.AliasAgentError as error:
            _raise_if_not_saved(host, saved, error)
        given = _restore_with_aliases(host, saved, rewrite, persistent)
        return _end(host, saved, begun, {state}, given)


def resume(host: Host, instance: str, directory: str | os.PathLike[str], rewrite: Rewrite) -> Restored:
    """See a :func:`save_and_restore` to its end that was interrupted, wherever that was.

    A guest that is down because of it is restored; then, or if there is nothing to restore, all is as for
    :func:`save_and_restore`, errors too.

    :raises HypervisorError: nothing is done to a guest that is down and may have run since, or is gone and was
        persistent: it may run elsewhere. The words name the file.
    :raises Stopping: the agent stops.
    """
    begun, where = time.monotonic(), pathlib.Path(directory)
    saved = SavedGuest.find(host, instance, where) or _coming(host, instance, where)
    with saved.watched():
        jobs.wait_ended(host, instance, f'its memory may be in {saved.path}', saved.look)
        if saved.exists() and saved.is_latest():
            LOG.info('Instance %s was saved, and not restored: it is restored from %s', instance, saved.path)
            persistent = None if saved.is_transient else _persistent(host.guest(instance))
            given = _restore_with_aliases(host, saved, rewrite, persistent)
            return _end(host, saved, begun, _STATES, given)
    if saved.exists():
        _remove_if_it_goes_on(saved)
    return save_and_restore(host, instance, directory, rewrite)


def _coming(host: Host, instance: str, directory: pathlib.Path) -> SavedGuest:
    """What a guest may be about to be saved to: a call of an agent that was killed may wait in libvirtd still."""
    return SavedGuest.at(host, instance, directory, transient=not _look_up(host, instance, directory).is_persistent())


def _look_up(host: Host, instance: str, directory: pathlib.Path) -> Guest:
    try:
        return host.guest(instance)
    except exception.InstanceNotFound as error:
        words = _words_of_left(host, instance, directory)
        if not words:
            raise
        raise exception.HypervisorError(action='save and restore', reason=f'{error}{words}') from error


def _persistent(guest: Guest) -> Domain | None:
    text = guest.persistent_text()
    return None if text is None else Domain.parse(text)


def _remove_if_it_goes_on(saved: SavedGuest) -> None:
    """Remove the file of a guest that was restored, or never was down.

    What was in the memory of one that was started anew is in the file alone: of use to hardly anybody, but not for us
    to take away.
    """
    if saved.goes_on():
        saved.remove()
    else:
        LOG.warning('Instance %s: what was in memory at an earlier save is kept in %s', saved.instance, saved.path)


def _words_of_left(host: Host, instance: str, directory: pathlib.Path) -> str:
    saved = SavedGuest.find(host, instance, directory)
    return '' if saved is None else f'; {saved.advice}'


def _raise_if_not_saved(host: Host, saved: SavedGuest, error: exception.AliasAgentError) -> None:
    """Return if the guest was saved, whatever the error says, and is to be restored; else raise what went wrong.

    :raises AliasAgentError: the error, and the guest goes on.
    :raises HypervisorError: that is not proven; or how it is could not be told. The words name the file.
    """
    if isinstance(error, exception.HypervisorUnavailable) or saved.exists():
        jobs.wait_ended(host, saved.instance, f'its memory may be in {saved.path}', saved.look)
    # NOTE: before the guest is looked at. What is not there now may come, if a call of ours waits in libvirtd still.
    if not saved.exists():
        raise error
    if saved.goes_on():
        saved.remove()
        raise error
    _refuse_if_started_anew(host, saved, 'save', error)
    if not saved.is_latest():
        reason = f'{error}; the guest does not run; {saved.advice}'
        raise exception.HypervisorError(action='save', reason=reason) from error
    LOG.warning('Instance %s was saved all the same, and is restored: %s', saved.instance, error)


def _restore_with_aliases(
    host: Host, saved: SavedGuest, rewrite: Rewrite, persistent: Domain | None
) -> dict[str, str]:
    """Restore the guest; which aliases it has more than before."""
    given: dict[str, str] = {}
    try:
        # Not what was read before the save: somebody may have changed a device since.
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
    """Whether the guest was restored, though nobody told us."""
    jobs.wait_ended(host, saved.instance, f'its memory is kept in {saved.path}')
    return saved.goes_on()


def _refuse_if_started_anew(host: Host, saved: SavedGuest, action: str, error: Exception) -> None:
    """Stop here if the guest runs, though it is not proven that it goes on.

    :raises HypervisorError: it does. The words name the file.
    """
    if _runs(host, saved.instance) and not saved.goes_on():
        reason = f'{error}; the guest runs, but {saved.started_anew}'
        LOG.error('Instance %s runs, but %s', saved.instance, saved.started_anew)
        raise exception.HypervisorError(action=action, reason=reason) from error


def _undo(host: Host, saved: SavedGuest, error: Exception) -> NoReturn:
    """Restore the guest as it was, and raise what went wrong."""
    instance, path = saved.instance, saved.path
    _refuse_if_started_anew(host, saved, 'restore with aliases', error)
    try:
        how = 'goes on'
        if not saved.goes_on():
            saved.restore(None)
            how = 'was restored as it was'
        how = f'{how}, and is {host.guest(instance).state()}'
    except exception.HypervisorUnavailable as second:
        # Said as what it is: the restore is not given up, and somebody comes back to it.
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
    """See that the guest is as it should be, and remove the file; if it does not run, the file stays.

    :param states: those that it may be in.
    """
    paused = time.monotonic() - begun
    guest = _look_up(host, saved.instance, saved.path.parent)
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
            reason=f'the guest was {was} and is {now}; libvirt took the aliases but for: {without}',
        )
    LOG.info('Instance %s goes on after %.1f s, with %s', saved.instance, paused, ', '.join(given))
    return Restored(paused, given)


def _runs(host: Host, instance: str) -> bool:
    try:
        return host.guest(instance).is_active()
    except exception.InstanceNotFound:
        return False  # a transient guest, in its file
