# SPDX-License-Identifier: Apache-2.0
"""A write to a guest's saved definition that loses nothing of what another client writes at the same moment.

libvirt has no compare-and-swap: a write of a device, or of a definition, replaces what another client has put there
since we looked. So the definition is read once more right before the write: both calls are sent at once, the read
first, and libvirt lets nobody change the guest while it reads it, so that hardly anything comes between the two. If the
read shows that the write has replaced something else than it was made for, that is put back, with the alias if it is
still the same device's.
"""

import logging
from collections.abc import Iterable
from concurrent import futures

from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import interface
from aliasagent.devices.domain import Domain
from aliasagent.reconcile import plan
from aliasagent.virt.guest import Guest

LOG = logging.getLogger(__name__)

_PUT_BACK = 'Instance %s: %s was changed by somebody else at the moment of our write, and is put back'
_CHANGED_AGAIN = 'Instance %s: %s was changed by somebody else before and after our write; what came before is lost'

#: Makes the writes, while who wants them reads. As many as guests are looked at side by side, and then some.
_WRITERS = futures.ThreadPoolExecutor(16, thread_name_prefix='reconcile-write')


def write(guest: Guest, text: str, definition: Domain, device: base.Device, records: Iterable[plan.Record]) -> None:
    """Write a device of a definition that is otherwise as libvirt has it.

    :param text: the definition as it was read, without the change.
    :param definition: the same, with the change.
    :param device: what has changed in it: it alone is written, if libvirt can do that (a host device it cannot: 84).
    :raises HypervisorError: libvirt refused, and nothing was changed.
    """
    before = _write(guest, definition, device)
    if before == text:
        return
    theirs = Domain.parse(before)
    if _is_written_alone(device):
        _put_device_back(guest, theirs, device, records)
    elif not theirs.differs_in_aliases_only(definition):
        _put_definition_back(guest, theirs, definition, device, records)


def _write(guest: Guest, definition: Domain, device: base.Device) -> str:
    """Write, and tell what was there right before."""
    if _is_written_alone(device):
        writing = _WRITERS.submit(guest.update_persistent, device.to_xml())
    else:
        writing = _WRITERS.submit(guest.define, definition.to_xml())
    # The writer cannot start before this thread waits for libvirt's answer: its question is on its way then.
    try:
        return guest.saved_text()
    finally:
        writing.result()


def _is_written_alone(device: base.Device) -> bool:
    return isinstance(device, disk.Disk | interface.Interface)


def _put_device_back(guest: Guest, theirs: Domain, ours: base.Device, records: Iterable[plan.Record]) -> None:
    """Write what our device has replaced, if that was more than the same without our alias."""
    replaced = _in_its_place(theirs, ours)
    if replaced is None or replaced.text_without_alias() == ours.text_without_alias():
        return
    _give_alias(theirs, ours.alias, records)
    now = _in_its_place(Domain.parse(guest.saved_text()), ours)
    if now is not None and now.text_without_alias() == replaced.text_without_alias():
        return  # the read came late, and so did their change: after our write
    if now is None or now.text_without_alias() != ours.text_without_alias():
        LOG.error(_CHANGED_AGAIN, guest.uuid, replaced.describe())
        return
    guest.update_persistent(replaced.to_xml())
    LOG.warning(_PUT_BACK, guest.uuid, replaced.describe())


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
    guest.define(theirs.to_xml())
    LOG.warning(_PUT_BACK, guest.uuid, 'its definition')


def _give_alias(theirs: Domain, name: str | None, records: Iterable[plan.Record]) -> None:
    """Set an alias in their definition, if there, too, it is to be that of a device."""
    for step in plan.plan(theirs, records):
        if step.outcome is plan.Outcome.GETS_ALIAS and step.alias == name:
            step.device.alias = name


def _in_its_place(definition: Domain, device: base.Device) -> base.Device | None:
    """What a write of this device replaces: libvirt goes by a disk's target, and by an interface's MAC and address."""
    found = [other for other in definition.devices() if other.kind == device.kind and _place(other) == _place(device)]
    return found[0] if len(found) == 1 else None


def _place(device: base.Device) -> tuple[object, ...]:
    if not isinstance(device, interface.Interface):
        return (device.target,)
    address = device.element.find('address')
    return (device.mac, None if address is None else tuple(sorted(address.items())))
