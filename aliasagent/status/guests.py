# SPDX-License-Identifier: Apache-2.0
"""A survey of the host's guests and their aliases, which changes nothing."""

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
    """The findings about all guests, each by the guest's name."""

    #: Number of guests that could be read.
    guests: int = 0
    #: Number of devices that would get their alias.
    to_give: dict[str, int] = dataclasses.field(default_factory=dict)
    #: Number of devices without alias that do not identify themselves.
    unknown: dict[str, int] = dataclasses.field(default_factory=dict)
    #: Number of aliases that take effect at the guest's next start.
    not_live: dict[str, int] = dataclasses.field(default_factory=dict)
    #: The aliases that several devices have.
    doubled: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    #: The aliases that agree with nothing but the name of the disk's source, and about which the journal has no hint.
    by_name: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    #: Why the guest could not be read.
    unread: dict[str, str] = dataclasses.field(default_factory=dict)


def survey(host: Host, recorded: Callable[[str, str], bool] = lambda _instance, _device: False) -> Survey:
    """Read each guest.

    :param recorded: says whether the journal has a hint about a device of a guest.
    :raises HypervisorUnavailable: the hypervisor cannot be reached.
    """
    found = Survey()
    for guest in host.guests():
        try:
            report = apply.preview(guest)
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
