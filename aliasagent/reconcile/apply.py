# SPDX-License-Identifier: Apache-2.0
"""Carries a plan out on a guest's persistent config: the narrowest write that does it, read back.

libvirt has no compare-and-swap: what another client writes to a device between our look and our write is lost. So each
write is of one device, and made as soon as the definition was read and found to be the one that the plan is of; what
remains is the time of a string comparison and a call. A host device cannot be written by itself (code 84), and takes
the whole definition.
"""

import dataclasses
import hashlib
import logging
import time
from collections.abc import Iterable

from aliasagent import exception
from aliasagent.devices import disk
from aliasagent.devices import domain
from aliasagent.devices import interface
from aliasagent.reconcile import plan
from aliasagent.virt.guest import Guest

LOG = logging.getLogger(__name__)

#: How often the plan is made anew because somebody else changes the definition, before the rest is left for later.
_PATIENCE = 20
#: Seconds to keep away from a definition that somebody else is changing: such changes come in bursts.
_QUIET = 0.1


@dataclasses.dataclass
class Report:
    """What became of a guest's devices."""

    steps: list[plan.Step] = dataclasses.field(default_factory=list)
    #: The aliases that were written.
    given: list[str] = dataclasses.field(default_factory=list)
    #: The aliases that the running guest does not have yet; it gets them when it starts anew or moves.
    pending: list[str] = dataclasses.field(default_factory=list)
    #: A digest of the definitions that this is of: as long as they are the same, there is nothing new to say.
    seen: bytes = b''

    @property
    def aliased(self) -> int:
        """How many devices have their alias in the persistent config."""
        return self.count(plan.Outcome.ALIASED)

    @property
    def remaining(self) -> int:
        """How many devices are without."""
        return len(self.steps) - self.aliased

    def count(self, outcome: plan.Outcome) -> int:
        return sum(1 for step in self.steps if step.outcome is outcome)


def look(guest: Guest, records: Iterable[plan.Record] = ()) -> Report:
    """What :func:`reconcile` would do, without doing it.

    :raises GuestUnreadable: nothing is known of the guest's devices.
    """
    text = guest.persistent_text()
    if text is None:
        return Report()
    return _report(guest, text, plan.plan(domain.Domain.parse(text), records), [])


def digest(guest: Guest) -> bytes:
    """What :attr:`Report.seen` would be now.

    :raises GuestUnreadable: it cannot be told.
    """
    return _digest(guest.persistent_text(), guest.live_text())


def reconcile(guest: Guest, records: Iterable[plan.Record] = ()) -> Report:
    """Give the identifiable devices of a guest's persistent config their aliases.

    :raises GuestUnreadable: nothing is known of the guest's devices, and nothing was changed.
    """
    known = frozenset(records)
    first = text = guest.persistent_text()
    if text is None or first is None:
        return Report()
    tried: list[str] = []
    disturbed = 0
    while True:
        definition = domain.Domain.parse(text)
        steps = plan.plan(definition, known)
        todo = [step for step in steps if step.outcome is plan.Outcome.GETS_ALIAS and step.alias not in tried]
        if not todo or disturbed > _PATIENCE:
            # Each write was seen to change its alias only, unless something came in between.
            if disturbed and not domain.Domain.parse(first).differs_in_aliases_only(definition):
                LOG.warning('Instance %s: more than aliases has changed in its persistent config', guest.uuid)
            there = {step.alias for step in steps if step.outcome is plan.Outcome.ALIASED}
            return _report(guest, text, steps, [alias for alias in tried if alias in there])
        now = guest.saved_text()  # planning took its time
        for step in todo:
            if now != text:
                disturbed += 1
                time.sleep(_QUIET)
                now = guest.saved_text()
                break
            assert step.alias is not None
            tried.append(step.alias)
            _give(guest, definition, step, step.alias)
            now = guest.saved_text()
            if _without(now, step.alias) == text:
                text = now
        text = now


def _without(text: str, alias: str) -> str:
    """A definition's text as it was before a device got this alias, if nothing else has changed."""
    for element in (f"<alias name='{alias}'/>", f'<alias name="{alias}"/>'):
        before, found, after = text.partition(element)
        if found:
            return before.rstrip() + after
    return text


def _give(guest: Guest, definition: domain.Domain, step: plan.Step, alias: str) -> None:
    """Write one alias."""
    step.device.alias = alias
    try:
        if isinstance(step.device, disk.Disk | interface.Interface):
            guest.update_persistent(step.device.to_xml())
        else:
            guest.define(definition.to_xml())
    except (exception.HypervisorUnavailable, exception.InstanceNotFound):
        raise
    except (exception.HypervisorError, exception.Unsupported) as error:
        step.device.alias = None
        LOG.warning('Instance %s: %s does not get %s: %s', guest.uuid, step.device.describe(), alias, error)
    else:
        LOG.info('Instance %s: %s, %s', guest.uuid, step.device.describe(), step.reason)


def _report(guest: Guest, text: str, steps: list[plan.Step], given: list[str]) -> Report:
    for step in steps:
        if step.outcome is not plan.Outcome.ALIASED:
            LOG.debug('Instance %s: %s %s: %s', guest.uuid, step.device.describe(), step.outcome, step.reason)
    live = guest.live_text()
    pending = []
    if live is not None:
        aliases = {device.alias for device in domain.Domain.parse(live).devices()}
        wanted = [step.alias for step in steps if step.outcome is plan.Outcome.ALIASED and step.alias is not None]
        pending = [alias for alias in wanted if alias not in aliases]
    return Report(steps, given, pending, _digest(text, live))


def _digest(persistent: str | None, live: str | None) -> bytes:
    texts = f'{persistent}\0{live}'
    return hashlib.blake2b(texts.encode(errors='surrogatepass'), digest_size=16).digest()
