# SPDX-License-Identifier: Apache-2.0
"""Carries a plan out on a guest's persistent config: the narrowest write that does it, read back."""

import copy
import dataclasses
import logging

from aliasagent import exception
from aliasagent.devices import disk
from aliasagent.devices import domain
from aliasagent.devices import interface
from aliasagent.reconcile import plan
from aliasagent.virt.guest import Guest

LOG = logging.getLogger(__name__)


@dataclasses.dataclass
class Report:
    """How many devices had which outcome."""

    aliased: int = 0
    given: int = 0
    remaining: int = 0

    def __add__(self, other: 'Report') -> 'Report':
        return Report(self.aliased + other.aliased, self.given + other.given, self.remaining + other.remaining)


def reconcile(guest: Guest) -> Report:
    """Give the identifiable devices of a guest's persistent config their aliases.

    :raises GuestUnreadable: nothing is known of the guest's devices, and nothing was changed.
    """
    definition = guest.persistent_definition()
    if definition is None:
        return Report()
    report = Report()
    for step in plan.plan(definition):
        match step.outcome:
            case plan.Outcome.ALIASED:
                report.aliased += 1
            case plan.Outcome.GETS_ALIAS if _give(guest, step):
                report.given += 1
            case _:
                report.remaining += 1
                LOG.debug('Instance %s: %s %s: %s', guest.uuid, step.device.describe(), step.outcome, step.reason)
    if report.given:
        _check(guest, definition)
    return report


def _give(guest: Guest, step: plan.Step) -> bool:
    """Write one alias; False if that could not be done."""
    if not isinstance(step.device, disk.Disk | interface.Interface):
        LOG.debug('Instance %s: libvirt cannot update %s in place', guest.uuid, step.device.describe())
        return False
    changed = domain.device(copy.deepcopy(step.device.element))
    changed.alias = step.alias
    try:
        guest.update_persistent(changed.to_xml())
    except exception.HypervisorUnavailable:
        raise
    except exception.HypervisorError as error:
        LOG.warning('Instance %s: %s does not get %s: %s', guest.uuid, step.device.describe(), step.alias, error)
        return False
    LOG.info('Instance %s: %s gets %s, %s', guest.uuid, step.device.describe(), step.alias, step.reason)
    return True


def _check(guest: Guest, before: domain.Domain) -> None:
    """Say so loudly if anything but aliases is different now."""
    after = guest.persistent_definition()
    if after is not None and after.without_aliases() != before.without_aliases():
        LOG.error('Instance %s: more than aliases has changed in its persistent config meanwhile', guest.uuid)
