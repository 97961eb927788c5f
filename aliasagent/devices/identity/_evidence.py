# SPDX-License-Identifier: Apache-2.0
"""The kinds of evidence, and the answers that are given on them."""

import dataclasses
import enum

from aliasagent.devices import names


class Evidence(enum.StrEnum):
    """How we know whose a device is."""

    ALIAS = 'alias'
    SERIAL = 'serial'
    SOURCE_NAME = 'source name'
    INTERFACEID = 'interfaceid'
    TAP_NAME = 'tap name'
    MDEV_UUID = 'mdev uuid'
    #: Somebody who knows says so, in this request or in an earlier one.
    INVENTORY = 'inventory'
    EARLIER_INVENTORY = 'earlier inventory'
    #: This agent attached it.
    ATTACH = 'record of its attach'
    #: The rest say whose the device is only to somebody who knows what the device of that id looks like.
    SOURCE = 'source'
    HOST_ADDRESS = 'host address'
    MAC = 'mac'


#: What tells two devices apart only as long as nothing else looks the same.
WEAK = frozenset({Evidence.SOURCE, Evidence.HOST_ADDRESS, Evidence.MAC})
#: What hints from elsewhere rest on, the last word first.
WORDS_BY_RANK = (Evidence.INVENTORY, Evidence.EARLIER_INVENTORY, Evidence.ATTACH)
WORDS = frozenset(WORDS_BY_RANK)
#: The words that are stronger than what a device says of itself, where that contradicts itself.
INVENTORIES = frozenset({Evidence.INVENTORY, Evidence.EARLIER_INVENTORY})


@dataclasses.dataclass(frozen=True)
class Identity:
    """An id that a device may have, and the evidence."""

    device_id: str
    evidence: Evidence


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Whose a device is."""

    #: None if nothing proves it, or if the evidence contradicts itself.
    whose: Identity | None
    #: All evidence that names an id, the device's own first.
    said: tuple[Identity, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """The ids that the device could have."""
        settled = (self.whose,) if self.whose is not None else self.said
        return frozenset(names.normal(it.device_id) for it in settled)

    @property
    def hint(self) -> str | None:
        """The volume that the source is named after, if there is no other evidence."""
        alone = len(self.said) == 1 and self.said[0].evidence is Evidence.SOURCE_NAME
        return self.said[0].device_id if self.whose is None and alone else None

    @property
    def is_disputed(self) -> bool:
        """Whether the evidence contradicts itself."""
        return self.whose is None and bool(self.said) and self.hint is None

    def words(self) -> str:
        """The evidence in words: ``by its serial it is X, by its source name Y``."""
        return ', '.join(
            f'{_by(it.evidence)} {"" if number else "it is "}{it.device_id}' for number, it in enumerate(self.said)
        )


def reason(evidence: Evidence) -> str:
    """The evidence as the reason for something."""
    return f'as the {evidence} says' if evidence in WORDS_BY_RANK else f'by its {evidence}'


def _by(evidence: Evidence) -> str:
    return f'by the {evidence}' if evidence in WORDS_BY_RANK else f'by its {evidence}'


class Verdict(enum.Enum):
    """The answer to whether two devices are the same one."""

    YES = 'yes'
    NO = 'no'
    CANNOT_TELL = 'cannot tell'
