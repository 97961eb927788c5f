# SPDX-License-Identifier: Apache-2.0
"""PCI addresses of the host in one form (libvirt, formatdomain, "Device Addresses").

libvirt reads the parts of an address in decimal, octal or hexadecimal and writes hexadecimal. The kernel, Neutron and
the agent write ``0000:06:12.5``: domain, bus, slot and function in hexadecimal, lower case.
"""

import re

from aliasagent.devices import xml

_ADDRESS = re.compile(r'([0-9a-f]{4,8}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])', re.IGNORECASE)
_PARTS = ('domain', 'bus', 'slot', 'function')


def is_valid(address: str) -> bool:
    """Return whether a text is an address such as ``0000:06:12.5``."""
    return _ADDRESS.fullmatch(address) is not None


def normal(address: str) -> str:
    """Return a valid address in the form of :func:`read`."""
    found = _ADDRESS.fullmatch(address.lower())
    assert found is not None
    domain, *others = (int(part, 16) for part in found.groups())
    bus, slot, function = others
    return f'{domain:04x}:{bus:02x}:{slot:02x}.{function:x}'


def read(element: xml.Element | None) -> str | None:
    """Return an ``<address domain= bus= slot= function=>`` as ``0000:06:12.5``; None for other elements."""
    if element is None or element.get('type', 'pci') != 'pci':
        return None
    try:
        domain, bus, slot, function = (_integer(element.get(name, '0')) for name in _PARTS)
    except ValueError:
        return None
    return f'{domain:04x}:{bus:02x}:{slot:02x}.{function:x}'


def write(parent: xml.Element, address: str, *, type_needed: bool = False) -> None:
    """Set the ``<address>`` of a source element.

    :param address: an address that is valid by :func:`is_valid`.
    :param type_needed: whether to set ``type='pci'``: libvirt requires it for an interface, and not for a host device.
    """
    found = _ADDRESS.fullmatch(address.lower())
    assert found is not None
    domain, bus, slot, function = found.groups()
    element = xml.child_made(parent, 'address')
    if type_needed:
        element.set('type', 'pci')
    element.set('domain', f'0x{domain}')
    element.set('bus', f'0x{bus}')
    element.set('slot', f'0x{slot}')
    element.set('function', f'0x{function}')


def _integer(text: str) -> int:
    """Parse a number like the C library's strtoul: ``012`` is octal."""
    try:
        return int(text, 0)
    except ValueError:
        if re.fullmatch('0[0-7]+', text.strip()):
            return int(text, 8)
        raise
