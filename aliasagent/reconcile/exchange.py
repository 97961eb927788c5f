# SPDX-License-Identifier: Apache-2.0
"""A write to a guest's saved definition that loses nothing of what another client writes at the same moment.

libvirt has no compare-and-swap: a write of a device, or of a definition, replaces what another client has put there
since we looked. So the definition is read once more right before the write: both calls are sent at once, the read
first, and libvirt lets nobody change the guest while it reads it, so that hardly anything comes between the two. If the
read shows that the write has replaced something else than it was made for, that is put back, with the alias if it is
still the same device's.
"""

import logging
import threading
from collections.abc import Callable
from collections.abc import Iterable
from concurrent import futures

from aliasagent import exception
from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import identity
from aliasagent.devices import interface
from aliasagent.devices.domain import Domain
from aliasagent.reconcile import plan
from aliasagent.virt.guest import Guest

LOG = logging.getLogger(__name__)

_PUT_BACK = 'Instance %s: %s was changed by somebody else at the moment of our write, and is put back'
_CHANGED_AGAIN = 'Instance %s: %s was changed by somebody else before and after our write; what came before is lost'

_NOT_PUT_BACK = 'Instance %s: %s was changed by somebody else at the moment of our write, and that is lost: %s'

#: As many as guests are looked at side by side, and then some.
_MOST_WRITERS = 16


class _Writers:
    """Makes the writes, while who wants them reads.

    All threads are there before the first write: to start one lets go of the interpreter, and the write would overtake
    the read that is to show what it replaces.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: futures.ThreadPoolExecutor | None = None

    def submit(self, write: Callable[[str], None], text: str) -> 'futures.Future[None]':
        with self._lock:
            if self._pool is None:
                self._pool = self._started()
        return self._pool.submit(write, text)

    def _started(self) -> futures.ThreadPoolExecutor:
        pool = futures.ThreadPoolExecutor(_MOST_WRITERS, thread_name_prefix='reconcile-write')
        all_there = threading.Barrier(_MOST_WRITERS)
        futures.wait([pool.submit(all_there.wait) for _ in range(_MOST_WRITERS)])
        return pool


_WRITERS = _Writers()


def write(guest: Guest, text: str, definition: Domain, device: base.Device, records: Iterable[plan.Record]) -> None:
    """Write a device of a definition that is otherwise as libvirt has it.

    :param text: the definition as it was read, without the change.
    :param definition: the same, with the change.
    :param device: what has changed in it: it alone is written, if libvirt can do that (a host device it cannot: 84).
    :raises HypervisorError: libvirt refused, and nothing was changed; or it did not let us put back what we replaced.
    """
    before = _write(guest, definition, device)
    # If the read came late, it shows what we wrote.
    if before == text or (device.alias is not None and without(before, device.alias) == text):
        return
    theirs = Domain.parse(before)
    if _is_written_alone(device):
        _put_device_back(guest, theirs, device, records)
    elif not theirs.differs_in_aliases_only(definition):
        _put_definition_back(guest, theirs, definition, device, records)


def without(text: str, alias: str) -> str:
    """A definition's text as it was before a device got this alias, if nothing else has changed."""
    for element in (f"<alias name='{alias}'/>", f'<alias name="{alias}"/>'):
        before, found, after = text.partition(element)
        if found:
            return before.rstrip() + after
    return text


def _write(guest: Guest, definition: Domain, device: base.Device) -> str:
    """Write, and tell what was there right before."""
    if _is_written_alone(device):
        writing = _WRITERS.submit(guest.update_persistent, device.to_xml())
    else:
        writing = _WRITERS.submit(guest.define, definition.to_xml())
    # The writer goes on when this thread waits for libvirt's answer, as a rule: its question is on its way then.
    try:
        return guest.saved_text()
    finally:
        writing.result()


def _is_written_alone(device: base.Device) -> bool:
    return isinstance(device, disk.Disk | interface.Interface)


def _put_device_back(guest: Guest, theirs: Domain, ours: base.Device, records: Iterable[plan.Record]) -> None:
    """Write what our device has replaced, if that was more than the same without our alias."""
    replaced = identity.replaced_by(theirs, ours)
    if replaced is None or replaced.text_without_alias() == ours.text_without_alias():
        return
    _give_alias(theirs, ours.alias, records)
    now = identity.replaced_by(Domain.parse(guest.saved_text()), ours)
    if now is not None and now.text_without_alias() == replaced.text_without_alias():
        return  # the read came late, and so did their change: after our write
    if now is None or now.text_without_alias() != ours.text_without_alias():
        LOG.error(_CHANGED_AGAIN, guest.uuid, replaced.describe())
        return
    _put_back(guest, guest.update_persistent, replaced.to_xml(), replaced.describe())


def _put_definition_back(
    guest: Guest, theirs: Domain, ours: Domain, device: base.Device, records: Iterable[plan.Record]
) -> None:
    """Write the definition that ours has replaced."""
    _give_alias(theirs, device.alias, records)
    now = Domain.parse(guest.saved_text())
    if now.differs_in_aliases_only(theirs):
        return  # the read came late, and so did their change: after our write
    if not now.differs_in_aliases_only(ours):
        LOG.error(_CHANGED_AGAIN, guest.uuid, 'its definition')
        return
    _put_back(guest, guest.define, theirs.to_xml(), 'its definition')


def _put_back(guest: Guest, write: Callable[[str], None], text: str, what: str) -> None:
    try:
        write(text)
    except exception.AliasAgentError as error:
        LOG.error(_NOT_PUT_BACK, guest.uuid, what, error)
        raise
    LOG.warning(_PUT_BACK, guest.uuid, what)


def _give_alias(theirs: Domain, name: str | None, records: Iterable[plan.Record]) -> None:
    """Set an alias in their definition, if there, too, it is to be that of a device."""
    for step in plan.plan(theirs, records):
        if step.outcome is plan.Outcome.GETS_ALIAS and step.alias == name:
            step.device.alias = name
