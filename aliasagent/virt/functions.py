# SPDX-License-Identifier: Apache-2.0
"""What this host has of a PCI function: a network interface, or a vDPA device."""

import pathlib

_FUNCTIONS = pathlib.Path('/sys/bus/pci/devices')


def interface(slot: str, functions: pathlib.Path = _FUNCTIONS) -> str | None:
    """Return the name of the network interface of a function; None if the function has none, or several."""
    return _only([path.name for path in (functions / slot).glob('net/*')])


def vdpa(slot: str, functions: pathlib.Path = _FUNCTIONS) -> str | None:
    """Return the path of the vhost-vdpa device of a function; None if the function has none, or several."""
    name = _only([path.name for path in (functions / slot).glob('vdpa*/vhost-vdpa-*')])
    return None if name is None else f'/dev/{name}'


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None
