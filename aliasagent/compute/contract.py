# SPDX-License-Identifier: Apache-2.0
"""The published schema of every message, and the check of a message against it.

The schemas are JSON Schema (draft 2020-12). ``connection_info`` keeps Cinder's shape and may hold more than is listed,
as Cinder sends it; ``port`` is ours, with Neutron's and os-vif's names, and holds nothing else.
"""

import re
from collections.abc import Callable
from typing import Any

import jsonschema

from aliasagent import exception
from aliasagent.devices import alias

Schema = dict[str, Any]

#: The longest value that is repeated in an error; a longer one is cut.
_SHOWN = 80
_SECRET = re.compile(r'password|secret|passwd|\bkey', re.IGNORECASE)
_UUID = re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', re.IGNORECASE)
_MAC = re.compile(r'[0-9a-f]{2}(:[0-9a-f]{2}){5}', re.IGNORECASE)
_INTERFACE_NAME = re.compile(r'[^\s/:]{1,15}')
_DEVICE_NAME = re.compile(r'(/dev/)?(vd|sd|hd|xvd)[a-z]{1,3}')


def _is_absolute_path(value: str) -> bool:
    parts = value.split('/')
    return value.startswith('/') and not {'.', '..'} & set(parts) and value.isprintable()


def _is_unicast_mac(value: str) -> bool:
    return _MAC.fullmatch(value) is not None and not int(value[:2], 16) & 1 and value.strip('0:') != ''


#: What each ``format`` of our schemas means, in words for the error and as a check.
_FORMATS: dict[str, tuple[str, Callable[[str], object]]] = {
    'uuid': ('a UUID', _UUID.fullmatch),
    'device-id': ('a device id (1 to 255 letters, digits, "-" and "_")', alias.is_valid_id),
    'mac-address': ('the MAC address of a network card', _is_unicast_mac),
    'absolute-path': ('an absolute path', _is_absolute_path),
    'interface-name': ('the name of a network interface', _INTERFACE_NAME.fullmatch),
    'device-name': ('the name of a disk device, such as /dev/vdb', _DEVICE_NAME.fullmatch),
}


def _format_checker() -> jsonschema.FormatChecker:
    def checker(check: Callable[[str], object]) -> Callable[[object], bool]:
        return lambda value: not isinstance(value, str) or bool(check(value))

    formats = jsonschema.FormatChecker(formats=())
    for name, (_words, check) in _FORMATS.items():
        formats.checks(name)(checker(check))
    return formats


def _string(form: str) -> Schema:
    return {'type': 'string', 'format': form}


def _nullable(schema: Schema) -> Schema:
    return {'anyOf': [{'type': 'null'}, schema]}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    return {
        'type': 'object',
        'properties': {**required, **(optional or {})},
        'required': list(required),
        'additionalProperties': False,
    }


_PATH = _string('absolute-path')

#: What ``connection_info['data']`` must hold, by ``driver_volume_type``.
VOLUME_DATA: dict[str, Schema] = {
    'file': {
        'properties': {'device_path': _PATH, 'format': {'enum': ['raw', 'qcow2']}},
        'required': ['device_path'],
    },
    'local': {
        'properties': {'device_path': _PATH},
        'required': ['device_path'],
    },
}

CONNECTION_INFO: Schema = {
    'type': 'object',
    'properties': {
        'driver_volume_type': {'enum': list(VOLUME_DATA)},
        'data': {
            'type': 'object',
            'properties': {'access_mode': {'enum': ['rw', 'ro']}},
        },
        'serial': {'type': ['string', 'null']},
    },
    'required': ['driver_volume_type', 'data'],
    'allOf': [
        {
            'if': {'properties': {'driver_volume_type': {'const': kind}}, 'required': ['driver_volume_type']},
            'then': {'properties': {'data': data}},
        }
        for kind, data in VOLUME_DATA.items()
    ],
}

PORT: Schema = _object(
    {
        'id': _string('uuid'),
        'address': _string('mac-address'),
        'vif_type': {'enum': ['bridge']},
        'bridge': _string('interface-name'),
    },
    {
        'devname': _nullable(_string('interface-name')),
        'mtu': {'anyOf': [{'type': 'null'}, {'type': 'integer', 'minimum': 68, 'maximum': 65535}]},
        'model': {'enum': ['virtio', 'e1000', 'e1000e', 'rtl8139']},
    },
)

_INSTANCE = {'instance_uuid': _string('uuid')}

#: The arguments of each method, by its name.
METHODS: dict[str, Schema] = {
    'attach_volume': _object(
        {**_INSTANCE, 'volume_id': _string('uuid'), 'connection_info': CONNECTION_INFO},
        {
            'device_name': _nullable(_string('device-name')),
            'disk_bus': {'enum': [None, 'virtio', 'scsi', 'sata', 'usb']},
            'device_type': {'enum': ['disk', 'lun', 'cdrom']},
        },
    ),
    'attach_interface': _object({**_INSTANCE, 'port': PORT}),
    'detach_volume': _object({**_INSTANCE, 'volume_id': _string('uuid')}),
    'detach_interface': _object({**_INSTANCE, 'port_id': _string('uuid')}),
    'detach': _object({**_INSTANCE, 'device_id': _string('device-id')}),
    'list_instances': _object({}),
    'list_devices': _object(_INSTANCE),
    'get_operation': _object({'operation_id': _string('device-id')}),
}

_VALIDATORS = {
    name: jsonschema.Draft202012Validator(schema, format_checker=_format_checker()) for name, schema in METHODS.items()
}


def is_id(value: str) -> bool:
    """Whether a text may be the id of an instance or a device."""
    return alias.is_valid_id(value)


def validate(method: str, arguments: dict[str, Any]) -> None:
    """Check a message's arguments before anything is touched.

    :raises InvalidInput: the first field, in the order of relevance, that is missing, unknown or wrong.
    """
    error = jsonschema.exceptions.best_match(_VALIDATORS[method].iter_errors(arguments))
    if error is not None:
        raise _invalid_input(error)


def canonical(arguments: dict[str, Any]) -> dict[str, Any]:
    """Valid arguments with their UUIDs as libvirt and Nova write them, so that one volume has one alias."""

    def one(value: Any) -> Any:
        return value.lower() if isinstance(value, str) and _UUID.fullmatch(value) else value

    result = {name: one(value) for name, value in arguments.items()}
    if 'port' in result:
        result['port'] = {**result['port'], 'id': one(result['port']['id'])}
    return result


def _invalid_input(error: jsonschema.ValidationError) -> exception.InvalidInput:
    path = [str(part) for part in error.absolute_path]
    instance: Any = error.instance
    wanted: Any = error.validator_value
    schema: Any = error.schema
    match error.validator:
        case 'required':
            missing = [name for name in wanted if name not in instance]
            return exception.InvalidInput(field='.'.join([*path, missing[0]]), reason='is missing')
        case 'additionalProperties':
            extra = sorted(str(name) for name in set(instance) - set(schema['properties']))
            return exception.InvalidInput(field='.'.join([*path, _cut(extra[0])]), reason='is not known here')
        case 'type':
            reason = f'is not of type {wanted}'
        case 'enum':
            reason = 'is not one of ' + ', '.join(str(value) for value in wanted if value is not None)
        case 'format':
            reason = f'is not {_FORMATS[wanted][0]}'
        case _:
            reason = f'is not as the schema wants it ({error.validator} {wanted})'
    field = '.'.join(path) or 'arguments'
    shown = 'the value' if _SECRET.search(field) else _cut(repr(instance))
    return exception.InvalidInput(field=field, reason=f'{shown} {reason}')


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}... ({len(text)} characters)'
