# SPDX-License-Identifier: Apache-2.0
"""Names for the runs of a guest: from a start to the next stop."""

import functools
import pathlib

from aliasagent.devices.domain import Domain

_BOOT_ID = pathlib.Path('/proc/sys/kernel/random/boot_id')


@functools.cache
def _boot() -> str:
    """The name of this host's present boot: libvirt counts its runs anew after each."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return 'unknown'


def run_of(live: Domain) -> str:
    """Name the run that a running definition is of.

    libvirt's number of a run may come again when libvirtd was restarted, too. So a run's name says which devices to
    compare, and never by itself that a device is still the same one.
    """
    return f'{_boot()}/{live.runtime_id}'
