# SPDX-License-Identifier: Apache-2.0
"""A guest in a file: its memory and its definition, as they were when it was saved.

Once the guest has run again its disks are others than the memory in the file knows, and to restore it would damage
them. So a guest is restored only if it is proven that it has not run since. What proves it:

* libvirt tells of each start and stop of a guest for as long as the connection stands. Whoever saw the run that is in
  the file, before it was saved or while it was, and has seen it end with that and no other begin, knows
  (:class:`Watch`).
* A persistent guest is shut off "because it was saved" until it is started. libvirtd forgets that when it is started
  anew.

Of a transient guest libvirt keeps nothing once it is down. If no agent has watched it, it may have been restored by
hand, or started anew, and have ended since. So its file alone proves nothing.
"""

import contextlib
import logging
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Self

import libvirt

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.virt import events
from aliasagent.virt.guest import Guest
from aliasagent.virt.host import Host
from aliasagent.virt.watch import Moment
from aliasagent.virt.watch import Watch

LOG = logging.getLogger(__name__)

#: Bytes that a file holds beside the guest's memory.
BESIDE = 64 * 1024 * 1024
_SUFFIX = '.relive'
#: What the file of a transient guest ends in: of such a guest nothing else is left while it is saved.
_TRANSIENT_SUFFIX = f'.transient{_SUFFIX}'
#: Seconds in which libvirt says why a guest is down.
_TOLD = 2.0
#: What libvirt writes at the begin of a file when all of the guest is in it (libvirt, qemu_saveimage.h); until then
#: there is something else.
_COMPLETE = b'LibvirtQemudSave'


def leftovers(directory: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Files that were not taken back, for the agent or the host ended meanwhile: a guest's memory may be there alone.

    ``virsh restore FILE`` brings such a guest back, unless it has run since: its disks are others then.
    """
    return sorted(pathlib.Path(directory).glob(f'*{_SUFFIX}'))


class MayHaveRun(exception.HypervisorError):
    """It is not proven that the guest has not run since it was saved. Nothing was done."""


class SavedGuest:
    """A guest's file, which is there while the guest is saved, and what may be done with it."""

    def __init__(self, host: Host, instance: str, path: pathlib.Path) -> None:
        self._host = host
        self.instance = instance
        self.path = path
        self._watch = Watch(host, instance)
        #: Since when it is certain that the guest has not run, but for the run that is in the file.
        self._certain_since: Moment | None = None
        self._number = -1
        #: Whether it is known that the run in the file has ended with its save.
        self._is_down = False

    @classmethod
    def find(cls, host: Host, instance: str, directory: pathlib.Path) -> Self | None:
        """The one that an earlier save of a guest has left."""
        both = (cls.at(host, instance, directory, transient=transient) for transient in (False, True))
        return next((saved for saved in both if saved.exists()), None)

    @classmethod
    def at(cls, host: Host, instance: str, directory: pathlib.Path, *, transient: bool) -> Self:
        """The one that a guest is saved to, whether it is there or not."""
        return cls(host, instance, directory.resolve() / f'{instance}{_TRANSIENT_SUFFIX if transient else _SUFFIX}')

    @classmethod
    def of(cls, host: Host, guest: Guest, directory: pathlib.Path, *, transient: bool) -> Self:
        """One that a guest is about to be saved to: its file is not there yet, and there is room for it.

        :raises InvalidInput: there is none.
        """
        _make(directory)
        left = cls.find(host, guest.uuid, directory)
        if left is not None:
            reason = f'{left.path} is there already; it may hold the only copy of what was in memory'
            raise exception.InvalidInput(field='directory', reason=reason)
        need, free = guest.memory() + BESIDE, shutil.disk_usage(directory).free
        if free < need:
            raise exception.InvalidInput(
                field='directory', reason=f'{directory} has {free} bytes free, {need} are needed to save the guest'
            )
        return cls.at(host, guest.uuid, directory, transient=transient)

    @property
    def is_transient(self) -> bool:
        return self.path.name.endswith(_TRANSIENT_SUFFIX)

    @property
    def advice(self) -> str:
        """What an operator can do about a guest that is not restored."""
        return (
            f'what was in memory at an earlier save is in {self.path}, and it is not proven that the guest has not run '
            f'since: if it has not, "virsh restore {self.path}" brings it back; if it has, that would damage its disks'
        )

    @property
    def started_anew(self) -> str:
        """How things are if the guest runs, and it is not proven that it goes on."""
        return (
            'it is not proven that it goes on from where it was saved, for somebody may have started it anew: what was '
            f'in memory is kept in {self.path}; to restore it would damage the disks of a guest that has run since'
        )

    def exists(self) -> bool:
        return self.path.exists()

    def remove(self) -> None:
        """Remove the file: the guest goes on, and needs it no more."""
        self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """See each start of the guest meanwhile."""
        with self._watch:
            yield

    def save(self, guest: Guest) -> None:
        """Save the running guest, which is down then.

        :raises HypervisorError: libvirt refused, and the guest goes on.
        """
        self._certain_since, self._number = self._watch.now(), guest.number()
        guest.save(str(self.path))
        self._is_down = True

    def look(self, guest: Guest) -> None:
        """Take note if libvirt writes the guest to this file now: then the run that ends with it is the one in it."""
        if self._is_certain():
            return
        now = self._watch.now()
        if guest.is_being_saved() and self._is_incomplete():
            self._certain_since, self._number = now, guest.number()

    def is_latest(self) -> bool:
        """Whether it is proven that the guest is down, and has not run since it was saved to this file."""
        try:
            now = self._watch.now()
            guest = self._host.guest(self.instance)
            if guest.is_active():
                return False
            if not self._is_certain() and self._has_no_contradiction() and guest.is_saved():
                self._certain_since, self._number, self._is_down = now, -1, True
        except exception.InstanceNotFound:
            # A transient guest is gone with its save. A persistent one was taken away, and may run on another host.
            if not self.is_transient:
                return False
        return self._is_certain() and self._was_saved()

    def goes_on(self) -> bool:
        """Whether it is proven that the guest runs with what it had in memory: it was restored, or never was down.

        That it runs proves nothing: somebody who found it down may have started it anew.
        """
        try:
            guest = self._host.guest(self.instance)
            # NOTE: the reason that libvirt gives is lost once somebody pauses the guest, and a paused one has none. But
            # for as long as the connection stands its number says that it is in the run in which it was to be saved.
            return guest.goes_on_from_save() or (self._is_certain() and guest.number() == self._number >= 0)
        except exception.InstanceNotFound:
            return False

    def definition(self) -> Domain:
        """The definition in the file, with its secrets."""
        with self._host.calling('read the saved definition', self.instance) as connection:
            text = connection.saveImageGetXMLDesc(str(self.path), libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE)
        return Domain.parse(text)

    def restore(self, xml: str | None) -> None:
        """Restore the guest, running or paused as it was when it was saved.

        :param xml: another definition than the saved one.
        :raises MayHaveRun: it is not proven that it has not run since.
        :raises HypervisorError: libvirt refused, or cannot be reached.
        """
        if not self.is_latest():
            raise MayHaveRun(action='restore', reason=f'the guest does not run; {self.advice}')
        with self._host.calling('restore', self.instance) as connection:
            connection.restoreFlags(str(self.path), xml, 0)

    def _is_certain(self) -> bool:
        return self._certain_since is not None and self._watch.has_not_started(self._certain_since, self._number)

    def _was_saved(self) -> bool:
        """Whether the run in the file has ended with its save, and not because the guest was stopped meanwhile."""
        if not self._is_down and self._certain_since is not None:
            self._is_down = self._watch.ended_by(events.Cause.SAVED, self._certain_since, _TOLD)
        return self._is_down

    def _has_no_contradiction(self) -> bool:
        """Whether no start was seen since it was certain, though some may have been missed."""
        return self._certain_since is None or not self._watch.has_started(self._certain_since, self._number)

    def _is_incomplete(self) -> bool:
        try:
            with self.path.open('rb') as file:
                return file.read(len(_COMPLETE)) != _COMPLETE
        except FileNotFoundError:
            return True  # as it is about to be written
        except OSError as error:
            LOG.debug('Instance %s: %s cannot be read: %s', self.instance, self.path, error)
            return False


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
            return  # another process has made it meanwhile
        raise exception.InvalidInput(
            field='directory', reason=f'{directory} is no directory on this host, nor can it be made: {error.strerror}'
        ) from error
    LOG.info('Made %s, for the memory of guests', directory)
