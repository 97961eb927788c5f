# SPDX-License-Identifier: Apache-2.0
"""Names the runs of a guest. A run lasts from a start to the next stop."""

import functools
import pathlib

from aliasagent.devices.domain import Domain

_BOOT_ID = pathlib.Path('/proc/sys/kernel/random/boot_id')


@functools.cache
def _boot() -> str:
    """Return the name of this host's current boot, because libvirt's run numbers begin anew after each boot."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return 'unknown'


def run_of(live: Domain) -> str:
    """Return the name of the run that a running definition belongs to."""
    # libvirt's run numbers may repeat after a restart of libvirtd, too. So a run's name says which devices to compare,
    # and never proves by itself that a device is still the same one.
    return f'{_boot()}/{live.runtime_id}'
