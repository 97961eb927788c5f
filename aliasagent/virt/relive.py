# SPDX-License-Identifier: Apache-2.0
"""New aliases for a running guest without a reboot: it is saved to a file, and restored with another definition.

The guest stands still meanwhile, and its clients see a pause. What could go wrong is undone: the file keeps the
definition as it was, so the guest can always be restored as it was, and the file goes only when the guest runs.

Nothing here keeps operations on one guest apart from each other: whoever calls does (:mod:`aliasagent.operations`).
"""

import dataclasses
import logging
import os
import pathlib
import shutil
import time
from typing import NoReturn

import libvirt

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.virt import errors
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
#: Seconds to wait for a hypervisor that goes away meanwhile, before the guest is left in its file.
_RECONNECT = 60.0
_STATES = frozenset({'running', 'paused'})
_SUFFIX = '.relive'


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


def relive(host: Host, instance: str, directory: str | os.PathLike[str], rewrite: Rewrite) -> Relived:
    """Give a running guest's devices the aliases they lack. The persistent config is not touched.

    Nothing is done, and the guest does not stand still, if there is no alias to give.

    :param directory: on this host, with room for the guest's memory; only root should be able to read there. It is made
        if it is missing, but not the one that it is in.
    :param rewrite: sets the aliases in a definition.
    :raises InstanceNotFound: there is no such guest.
    :raises InvalidInput: the directory is none and cannot be made, or has no room.
    :raises GuestBusy: the guest is being migrated.
    :raises HypervisorError: it failed. The words say how the guest is now: it goes on as it was, unless they name the
        file that its memory is in.
    """
    guest = host.guest(instance)
    state = guest.state()
    text = guest.movable_text()
    if text is None or state not in _STATES:
        left = _path(guest, pathlib.Path(directory))
        more = f'; what was in memory at an earlier save is in {left}' if left.exists() else ''
        raise errors.InvalidOperation(action='save and restore', reason=f'instance {instance} is {state}{more}')
    guest.refuse_if_migrating()
    persistent_text = guest.persistent_text()
    persistent = None if persistent_text is None else Domain.parse(persistent_text)
    if not rewrite(Domain.parse(text), persistent):
        LOG.info('Instance %s: the running guest lacks no alias that is known', instance)
        return Relived(0.0, {})
    path = _room(guest, pathlib.Path(directory))
    LOG.info('Instance %s stands still: it is saved to %s, and restored with aliases', instance, path)
    begun = time.monotonic()
    try:
        guest.save(str(path))
    except exception.AliasAgentError as error:
        _not_saved(host, instance, path, error)
    given = _restore_with_aliases(host, instance, path, rewrite, persistent)
    paused = time.monotonic() - begun
    _check(host.guest(instance), path, state, given)
    path.unlink(missing_ok=True)
    LOG.info('Instance %s goes on after %.1f s, with %s', instance, paused, ', '.join(given))
    return Relived(paused, given)


def _path(guest: Guest, directory: pathlib.Path) -> pathlib.Path:
    return directory.resolve() / f'{guest.uuid}{_SUFFIX}'


def _room(guest: Guest, directory: pathlib.Path) -> pathlib.Path:
    """Where the guest is saved to: a file that is not there yet, with room for it.

    :raises InvalidInput: there is none.
    """
    _make(directory)
    path = _path(guest, directory)
    if path.exists():
        raise exception.InvalidInput(
            field='directory', reason=f'{path} is there already; it may hold the only copy of what was in memory'
        )
    need, free = guest.memory() + _BESIDE, shutil.disk_usage(directory).free
    if free < need:
        raise exception.InvalidInput(
            field='directory', reason=f'{directory} has {free} bytes free, {need} are needed to save the guest'
        )
    return path


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
        if not (isinstance(error, exception.HypervisorUnavailable) and _came_back(host, instance)):
            _undo(host, instance, path, error)
    return given


def _came_back(host: Host, instance: str) -> bool:
    """Whether the guest runs, though nobody told us."""
    return host.wait_connected(_RECONNECT) and _runs(host, instance)


def _undo(host: Host, instance: str, path: pathlib.Path, error: Exception) -> NoReturn:
    """Restore the guest as it was, and raise what went wrong."""
    try:
        how = 'goes on'
        if not _runs(host, instance):
            _restore(host, instance, path, None)
            how = 'was restored as it was'
        how = f'{how}, and is {host.guest(instance).state()}'
    except exception.AliasAgentError as second:
        LOG.critical('Instance %s does not run; its memory is kept in %s: %s', instance, path, second)
        raise exception.HypervisorError(
            action='restore with aliases',
            reason=f'{error}; nor could the guest be restored as it was: {second}; its memory is kept in {path}',
        ) from error
    path.unlink(missing_ok=True)
    LOG.error('Instance %s %s: %s', instance, how, error)
    raise exception.HypervisorError(action='restore with aliases', reason=f'{error}; the guest {how}') from error


def _not_saved(host: Host, instance: str, path: pathlib.Path, error: exception.AliasAgentError) -> NoReturn:
    """Raise what went wrong, with the file if the guest's memory may be there alone."""
    if isinstance(error, exception.HypervisorUnavailable):
        host.wait_connected(_RECONNECT)
    try:
        goes_on = _runs(host, instance)
    except exception.AliasAgentError:
        goes_on = False
    if goes_on:
        path.unlink(missing_ok=True)
        raise error
    if not path.exists():
        raise error
    raise exception.HypervisorError(
        action='save', reason=f'{error}; the guest does not run, its memory may be in {path}'
    ) from error


def _check(guest: Guest, path: pathlib.Path, state: str, given: dict[str, str]) -> None:
    """See that the guest is as it should be; if it does not run, the file stays."""
    now, live = guest.state(), guest.live_definition()
    if live is None:
        raise exception.HypervisorError(
            action='restore with aliases', reason=f'the guest is {now}; its memory as it was is kept in {path}'
        )
    lost = [name for name in given if len(live.by_alias(name)) != 1]
    if now != state or lost:
        path.unlink(missing_ok=True)
        raise exception.HypervisorError(
            action='restore with aliases',
            reason=f'the guest was {state} and is {now}; libvirt took the aliases but for: {", ".join(lost) or "none"}',
        )


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
