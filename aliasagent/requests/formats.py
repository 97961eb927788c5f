# SPDX-License-Identifier: Apache-2.0
"""The check and the error text of each ``format`` in the schemas of messages."""

import datetime
import re
from collections.abc import Callable

from aliasagent.devices import alias
from aliasagent.devices import pci

UUID = re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', re.IGNORECASE)
_MAC = re.compile(r'[0-9a-f]{2}(:[0-9a-f]{2}){5}', re.IGNORECASE)
_DEVICE_NAME = re.compile(r'(/dev/)?(vd|sd|hd|xvd)[a-z]{1,3}')
_USB_ID = re.compile(r'(0x)?[0-9a-f]{4}', re.IGNORECASE)
_SCSI_HOST = re.compile(r'scsi_host[0-9]{1,5}')
_IQN = re.compile(r'(iqn|eui|naa)\.[A-Za-z0-9.:_-]{1,219}')
_HOST = re.compile(r'[A-Za-z0-9]([A-Za-z0-9._-]{0,253}[A-Za-z0-9])?|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?')
_NUMBER = re.compile(r'[0-9]{1,20}')
#: PATH_MAX, without the terminating byte.
_LONGEST_PATH = 4095


def _is_absolute_path(value: str) -> bool:
    parts = value.split('/')
    fits = len(value.encode(errors='replace')) <= _LONGEST_PATH
    return fits and value.startswith('/') and not {'.', '..'} & set(parts) and value.isprintable()


def _is_interface_name(value: str) -> bool:
    """Return whether Linux accepts the name (dev_valid_name), and the name is printable."""
    fits = 0 < len(value.encode(errors='replace')) <= 15 and value not in ('.', '..')
    return fits and value.isprintable() and not any(character.isspace() or character in '/:' for character in value)


def _is_time(value: str) -> bool:
    try:
        return datetime.datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_file_name(value: str) -> bool:
    return 0 < len(value) <= 255 and '/' not in value and value not in ('.', '..') and value.isprintable()


def _is_unicast_mac(value: str) -> bool:
    return _MAC.fullmatch(value) is not None and not int(value[:2], 16) & 1 and value.strip('0:') != ''


def _is_name(value: str) -> bool:
    return 0 < len(value) <= 255 and value.isprintable() and value == value.strip()


def _is_host(value: str) -> bool:
    return len(value) <= 255 and _HOST.fullmatch(value) is not None


def _is_number_up_to(maximum: int) -> Callable[[str], bool]:
    return lambda value: _NUMBER.fullmatch(value) is not None and int(value) <= maximum


def _is_tcp_port(value: str) -> bool:
    return _NUMBER.fullmatch(value) is not None and 0 < int(value) <= 65535


def _is_portal(value: str) -> bool:
    host, _, port = value.rpartition(':')
    return _is_host(host) and (':' not in host or host.startswith('[')) and _is_tcp_port(port)


#: The error text and the check of each format.
FORMATS: dict[str, tuple[str, Callable[[str], object]]] = {
    'uuid': ('a UUID', UUID.fullmatch),
    'device-id': ('a device id (1 to 255 letters, digits, "-" and "_")', alias.is_valid_id),
    'mac-address': ('the MAC address of a network card', _is_unicast_mac),
    'absolute-path': ('an absolute path', _is_absolute_path),
    'file-name': ('the name of a file', _is_file_name),
    'interface-name': ('the name of a network interface', _is_interface_name),
    'device-name': ('the name of a disk device, such as /dev/vdb', _DEVICE_NAME.fullmatch),
    'pci-address': ('a PCI address, such as 0000:06:12.5', pci.is_valid),
    'usb-id': ('four hexadecimal digits, such as 0x1d6b', _USB_ID.fullmatch),
    'scsi-host': ('the name of a SCSI host, such as scsi_host0', _SCSI_HOST.fullmatch),
    'name': ('a name (1 to 255 printable characters)', _is_name),
    'host': ('the name or address of a host', _is_host),
    'tcp-port': ('a TCP port', _is_tcp_port),
    'portal': ('a host and port, such as 192.0.2.1:3260', _is_portal),
    'iscsi-name': ('the name of an iSCSI target', _IQN.fullmatch),
    'time': ('a time with its zone, such as 2026-01-31T12:00:00+00:00', _is_time),
    'lun': ('the number of a LUN, 0 to 16383', _is_number_up_to(16383)),
    'vlan': ('a VLAN, 1 to 4094, or 0 for none', _is_number_up_to(4094)),
    'ovs-vlan': ('a VLAN, 1 to 4095, or 0 for none', _is_number_up_to(4095)),
    'number': ('a whole number', _NUMBER.fullmatch),
}
