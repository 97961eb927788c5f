# SPDX-License-Identifier: Apache-2.0
"""New aliases for a running guest without a reboot: it is saved to a file, and restored with another definition.

The guest stands still meanwhile, and its clients see a pause. What could go wrong is undone: the file keeps the
definition as it was, so the guest can always be restored as it was, and the file goes only when the guest runs.
libvirtd goes on with a save or a restore when its client is gone, so that is waited for first. What this process does
not see to its end, :func:`resume` does in the next one.

Nothing here keeps operations on one guest apart from each other: whoever calls does (:mod:`aliasagent.operations`).
"""

import dataclasses
import logging
import os
import pathlib
import shutil
import time
from collections.abc import Callable
from collections.abc import Set
from typing import NoReturn

import libvirt

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.virt import errors
from aliasagent.virt import jobs
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Rewrite
from aliasagent.virt.host import Host

LOG = logging.getLogger(__name__)

#: Bytes per second at which a guest's memory is taken to be written, and read again: those of a disk, and no cache.
RATE = 200 * 1024 * 1024
#: Seconds that save and restore take beside that: a QEMU ends, and another begins.
OVERHEAD = 1.5
#: Bytes that a file holds beside the guest's memory.
_BESIDE = 64 * 1024 * 1024
_STATES = frozenset({'running', 'paused'})
_SUFFIX = '.relive'
#: What the file of a transient guest ends in: of such a guest nothing else is left while it is saved.
_TRANSIENT_SUFFIX = f'.transient{_SUFFIX}'


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a guest's save and restore will cost."""

    #: Of the file, at most.
    bytes: int
    #: For which the guest stands still.
    seconds: float


@dataclasses.dataclass(frozen=True)
class Relived:
    """What was done."""

    #: How long the guest stood still.
    paused_seconds: float
    #: The aliases that the guest's devices have now, and on what evidence.
    given: dict[str, str]


def estimate(host: Host, instance: str, rate: int = RATE) -> Estimate:
    """About how long a guest will stand still, if all its memory is in use.

    :param rate: bytes per second that the disk with the directory can write, and read.
    :raises InstanceNotFound: there is no such guest.
    """
    size = host.guest(instance).memory()
    return Estimate(size + _BESIDE, OVERHEAD + 2 * size / rate)


def leftovers(directory: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Files that were not taken back, for the agent or the host ended meanwhile: a guest's memory may be there alone.

    ``virsh restore FILE`` brings such a guest back, unless it has run since: its disks are others then.
    """
    return sorted(pathlib.Path(directory).glob(f'*{_SUFFIX}'))


def relive(
    host: Host,
    instance: str,
    directory: str | os.PathLike[str],
    rewrite: Rewrite,
    begin: Callable[[], None] = lambda: None,
) -> Relived:
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
        reason = f'instance {instance} is {state}{_words_of_left(where, instance)}'
        raise errors.InvalidOperation(action='save and restore', reason=reason)
    persistent = _persistent(guest)
    if not rewrite(Domain.parse(text), persistent):
        LOG.info('Instance %s: the running guest lacks no alias that is known', instance)
        return Relived(0.0, {})
    guest.refuse_if_at_work()
    path = _room(guest, where, transient=persistent is None)
    begin()
    LOG.info('Instance %s stands still: it is saved to %s, and restored with aliases', instance, path)
    begun = time.monotonic()
    try:
        guest.save(str(path))
    except exception.AliasAgentError as error:
        _raise_if_not_saved(host, instance, path, error)
    given = _restore_with_aliases(host, instance, path, rewrite, persistent)
    return _end(host, instance, path, begun, {state}, given)


def resume(host: Host, instance: str, directory: str | os.PathLike[str], rewrite: Rewrite) -> Relived:
    """See a :func:`relive` to its end that was interrupted, wherever that was.

    A guest that is down because of it is restored; then, or if there is nothing to restore, all is as for
    :func:`relive`, errors too.

    :raises HypervisorError: nothing is done to a guest that is down and may have run since, or is gone and was
        persistent: it may run elsewhere. The words name the file.
    """
    begun, where = time.monotonic(), pathlib.Path(directory)
    jobs.wait_ended(host, instance, f'its memory may be in {where}')
    path = _left(where, instance)
    if path is not None and _is_down_as_saved(host, instance, path):
        LOG.info('Instance %s was saved, and not restored: it is restored from %s', instance, path)
        persistent = None if _was_transient(path) else _persistent(host.guest(instance))
        given = _restore_with_aliases(host, instance, path, rewrite, persistent)
        return _end(host, instance, path, begun, _STATES, given)
    if path is not None:
        _remove_if_it_goes_on(host, instance, path)
    return relive(host, instance, directory, rewrite)


def _look_up(host: Host, instance: str, directory: pathlib.Path) -> Guest:
    try:
        return host.guest(instance)
    except exception.InstanceNotFound as error:
        words = _words_of_left(directory, instance)
        if not words:
            raise
        raise exception.HypervisorError(action='save and restore', reason=f'{error}{words}') from error


def _persistent(guest: Guest) -> Domain | None:
    text = guest.persistent_text()
    return None if text is None else Domain.parse(text)


def _is_down_as_saved(host: Host, instance: str, path: pathlib.Path) -> bool:
    """Whether a guest is down only because it was saved to this file.

    If it has run since, its disks are others than the memory in the file knows, and a restore would damage them.
    """
    try:
        return host.guest(instance).is_saved()
    except exception.InstanceNotFound:
        # A transient guest is gone with its save. A persistent one was taken away, and may run on another host.
        return _was_transient(path)


def _was_transient(path: pathlib.Path) -> bool:
    return path.name.endswith(_TRANSIENT_SUFFIX)


def _remove_if_it_goes_on(host: Host, instance: str, path: pathlib.Path) -> None:
    """Remove the file of a guest that was restored, or never stood still, if libvirt says so.

    One that runs for another reason may have been started anew, by somebody who did not know of the file. What was in
    its memory is in the file alone then: of use to hardly anybody, but not for us to take away.
    """
    try:
        goes_on = host.guest(instance).goes_on_from_save()
    except exception.InstanceNotFound:
        goes_on = False
    if goes_on:
        path.unlink(missing_ok=True)
    else:
        LOG.warning('Instance %s: what was in memory at an earlier save is kept in %s', instance, path)


def _left(directory: pathlib.Path, instance: str) -> pathlib.Path | None:
    """The file that an earlier save of a guest has left."""
    paths = [directory.resolve() / f'{instance}{suffix}' for suffix in (_SUFFIX, _TRANSIENT_SUFFIX)]
    return next((path for path in paths if path.exists()), None)


def _words_of_left(directory: pathlib.Path, instance: str) -> str:
    left = _left(directory, instance)
    return '' if left is None else f'; what was in memory at an earlier save is in {left}'


def _room(guest: Guest, directory: pathlib.Path, *, transient: bool) -> pathlib.Path:
    """Where the guest is saved to: a file that is not there yet, with room for it.

    :raises InvalidInput: there is none.
    """
    _make(directory)
    left = _left(directory, guest.uuid)
    if left is not None:
        raise exception.InvalidInput(
            field='directory', reason=f'{left} is there already; it may hold the only copy of what was in memory'
        )
    need, free = guest.memory() + _BESIDE, shutil.disk_usage(directory).free
    if free < need:
        raise exception.InvalidInput(
            field='directory', reason=f'{directory} has {free} bytes free, {need} are needed to save the guest'
        )
    return directory.resolve() / f'{guest.uuid}{_TRANSIENT_SUFFIX if transient else _SUFFIX}'


def _make(directory: pathlib.Path) -> None:
    """Make the directory if it is missing, for root alone: a guest's memory holds all its secrets.

    :raises InvalidInput: it cannot be made.
    """
    if directory.is_dir():
        return
    try:
        directory.mkdir(mode=0o700)
    except OSError as error:
        if directory.is_dir():
            return  # somebody else has made it meanwhile
        raise exception.InvalidInput(
            field='directory', reason=f'{directory} is no directory on this host, nor can it be made: {error.strerror}'
        ) from error
    LOG.info('Made %s, for the memory of guests', directory)


def _raise_if_not_saved(host: Host, instance: str, path: pathlib.Path, error: exception.AliasAgentError) -> None:
    """Return if the guest was saved, whatever the error says, and is to be restored; else raise what went wrong.

    :raises AliasAgentError: the error, and the guest goes on.
    :raises HypervisorError: it does not; or how it is could not be told. The words name the file.
    """
    if isinstance(error, exception.HypervisorUnavailable) or path.exists():
        jobs.wait_ended(host, instance, f'its memory may be in {path}')
    # NOTE: before the guest is looked at. What is not there now may come, if a call of ours waits in libvirtd still.
    if not path.exists():
        raise error
    if _runs(host, instance):
        path.unlink(missing_ok=True)
        raise error
    if not _is_down_as_saved(host, instance, path):
        raise exception.HypervisorError(
            action='save', reason=f'{error}; the guest does not run, its memory may be in {path}'
        ) from error
    LOG.warning('Instance %s was saved all the same, and is restored: %s', instance, error)


def _restore_with_aliases(
    host: Host, instance: str, path: pathlib.Path, rewrite: Rewrite, persistent: Domain | None
) -> dict[str, str]:
    """Restore the guest; which aliases it has more than before."""
    given: dict[str, str] = {}
    try:
        # Not what was read before the save: somebody may have changed a device since.
        image = _saved(host, instance, path)
        given = rewrite(image, persistent)
        _restore(host, instance, path, image.to_xml() if given else None)
    except Exception as error:  # noqa: BLE001 - raised again, once the guest runs
        if not (isinstance(error, exception.HypervisorUnavailable) and _came_back(host, instance, path)):
            _undo(host, instance, path, error)
    return given


def _came_back(host: Host, instance: str, path: pathlib.Path) -> bool:
    """Whether the guest runs, though nobody told us."""
    jobs.wait_ended(host, instance, f'its memory is kept in {path}')
    return _runs(host, instance)


def _undo(host: Host, instance: str, path: pathlib.Path, error: Exception) -> NoReturn:
    """Restore the guest as it was, and raise what went wrong."""
    try:
        how = 'goes on'
        if not _runs(host, instance):
            _restore(host, instance, path, None)
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
    path.unlink(missing_ok=True)
    LOG.error('Instance %s %s: %s', instance, how, error)
    raise exception.HypervisorError(action='restore with aliases', reason=f'{error}; the guest {how}') from error


def _end(
    host: Host, instance: str, path: pathlib.Path, begun: float, states: Set[str], given: dict[str, str]
) -> Relived:
    """See that the guest is as it should be, and remove the file; if it does not run, the file stays.

    :param states: those that it may be in.
    """
    paused = time.monotonic() - begun
    guest = _look_up(host, instance, path.parent)
    now, live = guest.state(), guest.live_definition()
    if live is None:
        raise exception.HypervisorError(
            action='restore with aliases', reason=f'the guest is {now}; its memory as it was is kept in {path}'
        )
    path.unlink(missing_ok=True)
    lost = [name for name in given if len(live.by_alias(name)) != 1]
    if now not in states or lost:
        was, without = ' or '.join(sorted(states)), ', '.join(lost) or 'none'
        raise exception.HypervisorError(
            action='restore with aliases',
            reason=f'the guest was {was} and is {now}; libvirt took the aliases but for: {without}',
        )
    LOG.info('Instance %s goes on after %.1f s, with %s', instance, paused, ', '.join(given))
    return Relived(paused, given)


def _runs(host: Host, instance: str) -> bool:
    try:
        return host.guest(instance).is_active()
    except exception.InstanceNotFound:
        return False  # a transient guest, in its file


def _saved(host: Host, instance: str, path: pathlib.Path) -> Domain:
    """The definition in the file, with its secrets."""
    with errors.translated('read the saved definition', instance, host.is_alive):
        text = host.connection().saveImageGetXMLDesc(str(path), libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE)
    return Domain.parse(text)


def _restore(host: Host, instance: str, path: pathlib.Path, xml: str | None) -> None:
    """Restore the guest, running or paused as it was when it was saved.

    :param xml: another definition than the saved one.
    """
    with errors.translated('restore', instance, host.is_alive):
        host.connection().restoreFlags(str(path), xml, 0)
