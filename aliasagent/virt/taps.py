# SPDX-License-Identifier: Apache-2.0
"""The network interfaces that this host has."""

import pathlib

_NET = pathlib.Path('/sys/class/net')


def exists(name: str) -> bool:
    """Return whether the host has a network interface of this name, such as a tap that Neutron created for a port."""
    return (_NET / name).exists()
