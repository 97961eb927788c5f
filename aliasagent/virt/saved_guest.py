# SPDX-License-Identifier: Apache-2.0
"""A guest in a file: its memory and its definition, as they were when it was saved.

Once the guest has run again, its disks no longer match the memory in the file, and a restore would damage them. So a
guest is restored only if it is proven that the guest has not run since. Two things prove it:

* libvirt reports each start and stop of a guest while the connection is up. An agent that saw the run in the file
  before or during its save, saw that run end with the save, and saw no other run begin, has the proof (:class:`Watch`).
* A persistent guest is shut off "because it was saved" until it is started. libvirtd forgets that reason when libvirtd
  is restarted.

libvirt keeps nothing of a transient guest that is down. If no agent has watched the guest, it may have been restored by
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

#: Bytes that a file holds in addition to the guest's memory.
BESIDE = 64 * 1024 * 1024
_SUFFIX = '.relive'
#: The suffix of a transient guest's file: while such a guest is saved, nothing else of it is left.
_TRANSIENT_SUFFIX = f'.transient{_SUFFIX}'
#: Seconds to wait for libvirt's event that says why a guest is down.
_EVENT_WAIT = 2.0
#: The first bytes of a file that is complete (libvirt, qemu_saveimage.h); until then the file begins otherwise.
_COMPLETE = b'LibvirtQemudSave'


def leftovers(directory: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Return the files that the agent did not remove; each may be the only copy of a guest's memory.

    The agent or the host ended meanwhile. ``virsh restore FILE`` brings such a guest back. That is safe only if the
    guest has not run since: otherwise its disks no longer match.
    """
    return sorted(pathlib.Path(directory).glob(f'*{_SUFFIX}'))


class MayHaveRun(exception.HypervisorError):
    """It is not proven that the guest has not run since it was saved. Nothing was done."""


class SavedGuest:
    """The file that a guest is saved to, with the proofs for what may be done with it."""

    def __init__(self, host: Host, instance: str, path: pathlib.Path) -> None:
        self._host = host
        self.instance = instance
        self.path = path
        self._watch = Watch(host, instance)
        #: Since when it is certain that the guest has not run, except for the run that is in the file.
        self._certain_since: Moment | None = None
        self._number = -1
        #: Whether it is proven that the run in the file has ended with its save.
        self._is_down = False

    @classmethod
    def find(cls, host: Host, instance: str, directory: pathlib.Path) -> Self | None:
        """Return the file that an earlier save of a guest has left; None if there is none."""
        both = (cls.at(host, instance, directory, transient=transient) for transient in (False, True))
        return next((saved for saved in both if saved.exists()), None)

    @classmethod
    def at(cls, host: Host, instance: str, directory: pathlib.Path, *, transient: bool) -> Self:
        """Return the file that a guest is saved to, whether it exists or not."""
        return cls(host, instance, directory.resolve() / f'{instance}{_TRANSIENT_SUFFIX if transient else _SUFFIX}')

    @classmethod
    def of(cls, host: Host, guest: Guest, directory: pathlib.Path, *, transient: bool) -> Self:
        """Return the file for a guest that is about to be saved; it does not exist yet, and there is room for it.

        :raises InvalidInput: the file exists, the directory cannot be created, or there is no room.
        """
        _make(directory)
        left = cls.find(host, guest.uuid, directory)
        if left is not None:
            reason = f"{left.path} exists already; it may hold the only copy of the guest's memory"
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
            f'the memory of an earlier save is in {self.path}, and it is not proven that the guest has not run since: '
            f'if it has not, "virsh restore {self.path}" brings it back; if it has, a restore would damage its disks'
        )

    @property
    def started_anew(self) -> str:
        """What an operator must know about a guest that runs, perhaps not from what is in the file."""
        return (
            'it is not proven that it continues from its save: another client may have started it anew; its saved '
            f'memory is kept in {self.path}; a restore would damage the disks of a guest that has run since'
        )

    def exists(self) -> bool:
        return self.path.exists()

    def remove(self) -> None:
        """Remove the file of a guest that continues to run and needs the file no longer."""
        self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the starts and stops of the guest while this context is entered."""
        with self._watch:
            yield

    def save(self, guest: Guest) -> None:
        """Save the running guest to the file; the guest is down then.

        :raises HypervisorError: libvirt refused, and the guest continues to run.
        """
        self._certain_since, self._number = self._watch.now(), guest.number()
        guest.save(str(self.path))
        self._is_down = True

    def note_save(self, guest: Guest) -> None:
        """Note whether libvirt is writing the guest to this file: then the run that ends now is the one in the file."""
        if self._is_certain():
            return
        now = self._watch.now()
        if guest.is_being_saved() and self._is_incomplete():
            self._certain_since, self._number = now, guest.number()

    def is_latest(self) -> bool:
        """Return whether it is proven that the guest is down and has not run since it was saved to this file."""
        try:
            now = self._watch.now()
            guest = self._host.guest(self.instance)
            if guest.is_active():
                return False
            if not self._is_certain() and self._has_no_contradiction() and guest.is_saved():
                self._certain_since, self._number, self._is_down = now, -1, True
        except exception.InstanceNotFound:
            # A saved transient guest is gone. A persistent guest was undefined, and may run on another host.
            if not self.is_transient:
                return False
        return self._is_certain() and self._was_saved()

    def continues(self) -> bool:
        """Return whether it is proven that the guest runs with its memory: it was restored, or never was down."""
        # A running guest alone proves nothing: another client may have found the guest down and started it anew.
        try:
            guest = self._host.guest(self.instance)
            # NOTE: libvirt's reason is lost once a client pauses the guest, and a paused guest has none. But while the
            # connection is up, the guest's run number says that the guest is in the run that was to be saved.
            return guest.continues_from_save() or (self._is_certain() and guest.number() == self._number >= 0)
        except exception.InstanceNotFound:
            return False

    def definition(self) -> Domain:
        """Read the definition in the file, with its secrets."""
        with self._host.calling('read the saved definition', self.instance) as connection:
            text = connection.saveImageGetXMLDesc(str(self.path), libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE)
        return Domain.parse(text)

    def restore(self, xml: str | None) -> None:
        """Restore the guest, running or paused as it was when it was saved.

        :param xml: the definition to restore the guest with; None for the one in the file.
        :raises MayHaveRun: it is not proven that the guest has not run since.
        :raises HypervisorError: libvirt refused, or cannot be reached.
        """
        if not self.is_latest():
            raise MayHaveRun(action='restore', reason=f'the guest does not run; {self.advice}')
        with self._host.calling('restore', self.instance) as connection:
            connection.restoreFlags(str(self.path), xml, 0)

    def _is_certain(self) -> bool:
        return self._certain_since is not None and self._watch.has_not_started(self._certain_since, self._number)

    def _was_saved(self) -> bool:
        """Return whether the run in the file ended with its save, and not because a client stopped the guest."""
        if not self._is_down and self._certain_since is not None:
            self._is_down = self._watch.ended_by(events.Cause.SAVED, self._certain_since, _EVENT_WAIT)
        return self._is_down

    def _has_no_contradiction(self) -> bool:
        """Return whether no start was seen since the certain moment; the agent may have missed some."""
        return self._certain_since is None or not self._watch.has_started(self._certain_since, self._number)

    def _is_incomplete(self) -> bool:
        try:
            with self.path.open('rb') as file:
                return file.read(len(_COMPLETE)) != _COMPLETE
        except FileNotFoundError:
            return True  # libvirt is about to write the file
        except OSError as error:
            LOG.debug('Instance %s: %s cannot be read: %s', self.instance, self.path, error)
            return False


def _make(directory: pathlib.Path) -> None:
    """Create the directory, readable by root only, if it is missing.

    :raises InvalidInput: the directory cannot be created.
    """
    # For root alone, because a guest's memory holds all its secrets.
    if directory.is_dir():
        return
    try:
        directory.mkdir(mode=0o700)
    except OSError as error:
        if directory.is_dir():
            return  # another process has created the directory meanwhile
        raise exception.InvalidInput(
            field='directory',
            reason=f'{directory} is not a directory on this host, and cannot be created: {error.strerror}',
        ) from error
    LOG.info('Created %s for the memory of saved guests', directory)
