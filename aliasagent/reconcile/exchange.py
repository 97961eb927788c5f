# SPDX-License-Identifier: Apache-2.0
"""Write to a guest's persistent config without losing a simultaneous change of another client.

libvirt has no compare-and-swap: a write of a device or of a definition replaces what another client has written since
the agent's last read. So the agent sends a read and the write together, the read first. libvirt locks the guest during
the read, so another client rarely gets in between. If the read shows that the write has replaced another client's
change, the agent restores that change, with the alias if the device is still the same.
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

_RESTORED = (
    'Instance %s: another client changed %s at the moment of a write of the agent; the agent restored the change'
)
_CHANGED_AGAIN = (
    'Instance %s: another client changed %s before and after a write of the agent; the change before the write is lost'
)
_NOT_RESTORED = (
    'Instance %s: another client changed %s at the moment of a write of the agent; the agent could not restore the '
    'change: %s'
)

#: More than the number of guests that the agent reconciles in parallel.
_MOST_WRITERS = 16


class _Writers:
    """Threads that write while the calling thread reads."""

    # All threads start before the first write: a start of a thread releases the interpreter lock, and the write would
    # overtake the read.

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
    """Write one changed device of a definition.

    :param text: the definition as it was read, without the change.
    :param definition: the same definition, with the change.
    :param device: the changed device. Only this device is written, unless libvirt cannot update its kind (host devices:
        code 84).
    :raises HypervisorError: libvirt refused the write, and nothing was changed; or libvirt refused to restore another
        client's change.
    """
    before = _write(guest, definition, device)
    # A late read shows the agent's own write.
    if before == text or (device.alias is not None and without(before, device.alias) == text):
        return
    other = Domain.parse(before)
    if is_written_alone(device):
        _restore_device(guest, other, device, records)
    elif not other.differs_in_aliases_only(definition):
        _restore_definition(guest, other, definition, device, records)


def is_written_alone(device: base.Device) -> bool:
    """Return whether libvirt can write a device of this kind without the rest of the definition."""
    return isinstance(device, disk.Disk | interface.Interface)


def without(text: str, alias: str) -> str:
    """Return a definition's text without the element of an alias."""
    for element in (f"<alias name='{alias}'/>", f'<alias name="{alias}"/>'):
        before, found, after = text.partition(element)
        if found:
            return before.rstrip() + after
    return text


def _write(guest: Guest, definition: Domain, device: base.Device) -> str:
    """Write, and return the definition that libvirt had right before."""
    if is_written_alone(device):
        writing = _WRITERS.submit(guest.update_persistent, device.to_xml())
    else:
        writing = _WRITERS.submit(guest.define, definition.to_xml())
    # As a rule, the writer continues when this thread waits for libvirt's answer, that is, after it has sent the read.
    try:
        return guest.saved_text()
    finally:
        writing.result()


def _restore_device(guest: Guest, other: Domain, written: base.Device, records: Iterable[plan.Record]) -> None:
    """Restore the device that the agent's write replaced, if another client had changed more than the alias."""
    replaced = identity.replaced_by(other, written)
    if replaced is None or replaced.text_without_alias() == written.text_without_alias():
        return
    _give_alias(other, written.alias, records)
    now = identity.replaced_by(Domain.parse(guest.saved_text()), written)
    if now is not None and now.text_without_alias() == replaced.text_without_alias():
        return  # the other client made its change after the agent's write, and the read came even later
    if now is None or now.text_without_alias() != written.text_without_alias():
        LOG.error(_CHANGED_AGAIN, guest.uuid, replaced.describe())
        return
    _restore(guest, guest.update_persistent, replaced.to_xml(), replaced.describe())


def _restore_definition(
    guest: Guest, other: Domain, written: Domain, device: base.Device, records: Iterable[plan.Record]
) -> None:
    """Restore the definition that the agent's write replaced."""
    _give_alias(other, device.alias, records)
    now = Domain.parse(guest.saved_text())
    if now.differs_in_aliases_only(other):
        return  # the other client made its change after the agent's write, and the read came even later
    if not now.differs_in_aliases_only(written):
        LOG.error(_CHANGED_AGAIN, guest.uuid, 'the definition')
        return
    _restore(guest, guest.define, other.to_xml(), 'the definition')


def _restore(guest: Guest, write: Callable[[str], None], text: str, what: str) -> None:
    try:
        write(text)
    except exception.AliasAgentError as error:
        LOG.error(_NOT_RESTORED, guest.uuid, what, error)
        raise
    LOG.warning(_RESTORED, guest.uuid, what)


def _give_alias(other: Domain, name: str | None, records: Iterable[plan.Record]) -> None:
    """Set an alias in the other client's definition, if a plan for this definition gives the alias, too."""
    for step in plan.plan(other, records):
        if step.outcome is plan.Outcome.GETS_ALIAS and step.alias == name:
            step.device.alias = name
