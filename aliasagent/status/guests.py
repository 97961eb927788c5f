# SPDX-License-Identifier: Apache-2.0
"""What the guests of the host look like to an agent that has not changed anything yet."""

import dataclasses
from collections.abc import Callable
from collections.abc import Iterator

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import identity
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
    #: The aliases with which nothing but the name of the disk's source agrees, and of which the journal has nothing.
    by_name: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    #: Why nothing can be said.
    unread: dict[str, str] = dataclasses.field(default_factory=dict)


def survey(host: Host, recorded: Callable[[str, str], bool] = lambda _instance, _device: False) -> Survey:
    """Look at each guest.

    :param recorded: whether the journal has a record of whose a device of a guest is.
    :raises HypervisorUnavailable: the hypervisor cannot be reached.
    """
    found = Survey()
    for guest in host.guests():
        try:
            report = apply.look(guest)
            domains = [domain for _side, domain in guest.definitions().sides()]
            doubled = sorted({name for domain in domains for name in domain.doubled_aliases()})
            by_name = sorted({name for domain in domains for name in _by_name(guest.uuid, domain, recorded)})
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
        if by_name:
            found.by_name[guest.name] = by_name
    return found


def _by_name(instance: str, domain: Domain, recorded: Callable[[str, str], bool]) -> Iterator[str]:
    for device in domain.devices():
        device_id = device.device_id
        if device_id is not None and identity.rests_on_name(device) and not recorded(instance, device_id):
            yield alias.make(device_id)
