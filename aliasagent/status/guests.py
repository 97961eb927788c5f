# SPDX-License-Identifier: Apache-2.0
"""What the guests of the host look like to an agent that has not changed anything yet."""

import collections
import dataclasses

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.reconcile import apply
from aliasagent.reconcile import plan
from aliasagent.virt.host import Host


@dataclasses.dataclass
class Survey:
    """All guests, by what is to be said of them; each guest by its name."""

    #: How many could be looked at.
    guests: int = 0
    #: How many devices would get their alias.
    to_give: dict[str, int] = dataclasses.field(default_factory=dict)
    #: How many devices have none, and are not given one by what they say themselves.
    unknown: dict[str, int] = dataclasses.field(default_factory=dict)
    #: How many aliases are saved, and not live before the guest's next start.
    not_live: dict[str, int] = dataclasses.field(default_factory=dict)
    #: The aliases that several devices have.
    doubled: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    #: Why nothing can be said.
    unread: dict[str, str] = dataclasses.field(default_factory=dict)


def survey(host: Host) -> Survey:
    """Look at each guest.

    :raises HypervisorUnavailable: the hypervisor cannot be reached.
    """
    found = Survey()
    for guest in host.guests():
        try:
            report = apply.look(guest)
            doubled = sorted({name for _side, domain in guest.definitions().sides() for name in doubles(domain)})
        except exception.InstanceNotFound:
            continue
        except exception.HypervisorUnavailable:
            raise
        except exception.AliasAgentError as error:
            found.unread[guest.name] = str(error)
            continue
        found.guests += 1
        for group, value in (
            (found.to_give, report.count(plan.Outcome.GETS_ALIAS)),
            (found.unknown, report.count(plan.Outcome.UNIDENTIFIED) + report.count(plan.Outcome.CONFLICT)),
            (found.not_live, len(report.pending)),
        ):
            if value:
                group[guest.name] = value
        if doubled:
            found.doubled[guest.name] = doubled
    return found


def doubles(domain: Domain) -> list[str]:
    """The user aliases that more than one device of a definition has.

    The first console is the first serial port once more, and libvirt lets it have its alias.
    """
    devices = list(domain.devices())
    first = next((device for device in devices if device.kind == 'console'), None)
    serial = next((device for device in devices if device.kind == 'serial'), None)
    shared = first if first is not None and serial is not None and first.alias == serial.alias else None
    aliases = collections.Counter(device.alias for device in devices if device.is_claimed and device is not shared)
    return sorted(name for name, count in aliases.items() if name is not None and count > 1)
