# SPDX-License-Identifier: Apache-2.0
"""Carries a plan out on a guest's persistent config: the narrowest write that does it, read back.

libvirt has no compare-and-swap: what another client writes to a device between our look and our write is lost. So each
write is of one device, made of a definition that was read again and found unchanged just before; what remains is the
time of one call. A host device cannot be written by itself (code 84), and takes the whole definition.
"""

import copy
import dataclasses
import logging
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


@dataclasses.dataclass
class Report:
    """What became of a guest's devices."""

    steps: list[plan.Step] = dataclasses.field(default_factory=list)
    #: The aliases that were written.
    given: list[str] = dataclasses.field(default_factory=list)
    #: The aliases that the running guest does not have yet; it gets them when it starts anew or moves.
    pending: list[str] = dataclasses.field(default_factory=list)

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
    return _report(guest, plan.plan(domain.Domain.parse(text), records), [])


def reconcile(guest: Guest, records: Iterable[plan.Record] = ()) -> Report:
    """Give the identifiable devices of a guest's persistent config their aliases.

    :raises GuestUnreadable: nothing is known of the guest's devices, and nothing was changed.
    """
    records = frozenset(records)
    tried: list[str] = []
    disturbed = 0
    first = text = guest.persistent_text()
    while text is not None:
        definition = domain.Domain.parse(text)
        steps = plan.plan(definition, records)
        step = next((it for it in steps if it.outcome is plan.Outcome.GETS_ALIAS and it.alias not in tried), None)
        if step is None or step.alias is None or disturbed > _PATIENCE:
            return _finish(guest, domain.Domain.parse(first or text), definition, steps, tried, disturbed)
        now = guest.persistent_text()
        if now == text:
            tried.append(step.alias)
            _give(guest, definition, step, step.alias)
            text = guest.persistent_text()
        else:
            disturbed += 1
            text = now
    return Report()


def _give(guest: Guest, definition: domain.Domain, step: plan.Step, alias: str) -> None:
    """Write one alias."""
    changed = domain.device(copy.deepcopy(step.device.element))
    changed.alias = alias
    try:
        if isinstance(step.device, disk.Disk | interface.Interface):
            guest.update_persistent(changed.to_xml())
        else:
            step.device.alias = alias
            guest.define(definition.to_xml())
    except (exception.HypervisorUnavailable, exception.InstanceNotFound):
        raise
    except (exception.HypervisorError, exception.Unsupported) as error:
        LOG.warning('Instance %s: %s does not get %s: %s', guest.uuid, step.device.describe(), alias, error)
    else:
        LOG.info('Instance %s: %s gets %s, %s', guest.uuid, step.device.describe(), alias, step.reason)


def _finish(
    guest: Guest,
    before: domain.Domain,
    after: domain.Domain,
    steps: list[plan.Step],
    tried: list[str],
    disturbed: int,
) -> Report:
    """Look at what was written; say so loudly if anything but aliases is different, and it was nobody else."""
    if tried and not disturbed and before.without_aliases() != after.without_aliases():
        LOG.error('Instance %s: more than aliases has changed in its persistent config', guest.uuid)
    there = {step.alias for step in steps if step.outcome is plan.Outcome.ALIASED}
    for step in steps:
        if step.outcome is not plan.Outcome.ALIASED:
            LOG.debug('Instance %s: %s %s: %s', guest.uuid, step.device.describe(), step.outcome, step.reason)
    return _report(guest, steps, [alias for alias in tried if alias in there])


def _report(guest: Guest, steps: list[plan.Step], given: list[str]) -> Report:
    live = guest.live_definition()
    aliases = set() if live is None else {device.alias for device in live.devices()}
    wanted = [step.alias for step in steps if step.outcome is plan.Outcome.ALIASED and step.alias is not None]
    pending = [] if live is None else [alias for alias in wanted if alias not in aliases]
    return Report(steps, given, pending)
