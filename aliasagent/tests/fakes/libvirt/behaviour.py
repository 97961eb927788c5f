# SPDX-License-Identifier: Apache-2.0
"""How a fake guest answers a request to give up a device."""

import dataclasses


@dataclasses.dataclass
class Unplug:
    """Counts go down with each use. Set it on ``guest.unplug``, or for one device in ``guest.unplug_by_alias``.

    As in reality it concerns what needs the guest's help: PCI devices. SCSI and USB disks go at once whatever the guest
    does, unless ``scsi_too`` is set.
    """

    delay: float = 0.005
    """Seconds from the request until the device is gone."""
    never: bool = False
    """The guest does not answer; a reset ends it."""
    lost: int = 0
    """So many requests are lost, as while a guest boots."""
    refuse: int = 0
    """So many requests end in DEVICE_REMOVAL_FAILED."""
    busy: int = 0
    """So many calls raise 'guest is busy (power indicator blinking)'."""
    already: bool = False
    """A second request while one is pending raises 'already in the process of unplug'; else it is accepted."""
    event_lost: bool = False
    """The device goes, and nobody is told."""
    event_delay: float = 0
    """Seconds from the device's end to its event."""
    scsi_too: bool = False
    """The above holds for SCSI and USB devices as well."""
