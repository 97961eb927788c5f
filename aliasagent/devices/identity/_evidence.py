# SPDX-License-Identifier: Apache-2.0
"""The kinds of evidence, and the answers that rest on them."""

import dataclasses
import enum

from aliasagent.devices import names


class Evidence(enum.StrEnum):
    """The kinds of evidence of which device has an id."""

    ALIAS = 'alias'
    SERIAL = 'serial'
    SOURCE_NAME = 'source name'
    INTERFACEID = 'interfaceid'
    TAP_NAME = 'tap name'
    MDEV_UUID = 'mdev uuid'
    #: The control plane or the operator names the id, in this request or in an earlier one.
    INVENTORY = 'inventory'
    EARLIER_INVENTORY = 'earlier inventory'
    #: The journal says that this agent attached the device.
    ATTACH = 'record of its attach'
    #: Nova or Neutron, which the agent has asked, names the id.
    CLOUD = 'cloud'
    #: The rest match a device with a claim; they name no id.
    SOURCE = 'source'
    HOST_ADDRESS = 'host address'
    MAC = 'mac'


#: Evidence that identifies a device only while no other device of the guest has the same.
WEAK = frozenset({Evidence.SOURCE, Evidence.HOST_ADDRESS, Evidence.MAC})
#: The origins of hints, the highest rank first.
HINTS_BY_RANK = (Evidence.INVENTORY, Evidence.EARLIER_INVENTORY, Evidence.ATTACH, Evidence.CLOUD)
HINTS = frozenset(HINTS_BY_RANK)
#: The hints that decide where a device's own evidence contradicts itself.
INVENTORIES = frozenset({Evidence.INVENTORY, Evidence.EARLIER_INVENTORY, Evidence.CLOUD})


@dataclasses.dataclass(frozen=True)
class Identity:
    """An id that a device may have, and the evidence for it."""

    device_id: str
    evidence: Evidence


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Which id a device has, and the evidence for each id that it may have."""

    #: None if the evidence does not suffice, or contradicts itself.
    identity: Identity | None
    #: All evidence that names an id, the device's own first.
    candidates: tuple[Identity, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """The ids that the device may have."""
        decided = (self.identity,) if self.identity is not None else self.candidates
        return frozenset(names.normal(it.device_id) for it in decided)

    @property
    def unproven_id(self) -> str | None:
        """The volume id in the source's name, if there is no other evidence."""
        alone = len(self.candidates) == 1 and self.candidates[0].evidence is Evidence.SOURCE_NAME
        return self.candidates[0].device_id if self.identity is None and alone else None

    @property
    def is_disputed(self) -> bool:
        """Whether the evidence contradicts itself."""
        return self.identity is None and bool(self.candidates) and self.unproven_id is None

    def words(self) -> str:
        """Describe the evidence: ``by its serial it is X, by its source name Y``."""
        return ', '.join(
            f'{_by(it.evidence)} {"" if number else "it is "}{it.device_id}'
            for number, it in enumerate(self.candidates)
        )


def reason(evidence: Evidence) -> str:
    """Describe evidence as a reason: ``by its serial``, ``as the inventory says``."""
    return f'as the {evidence} says' if evidence in HINTS_BY_RANK else f'by its {evidence}'


def _by(evidence: Evidence) -> str:
    return f'by the {evidence}' if evidence in HINTS_BY_RANK else f'by its {evidence}'


class Verdict(enum.Enum):
    """Whether two devices are the same."""

    YES = 'yes'
    NO = 'no'
    CANNOT_TELL = 'cannot tell'
