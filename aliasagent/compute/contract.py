# SPDX-License-Identifier: Apache-2.0
"""The check of a message against its published schema (:mod:`aliasagent.compute.schemas`)."""

import re
from collections.abc import Callable
from typing import Any

import jsonschema

from aliasagent import exception
from aliasagent.compute import formats
from aliasagent.compute import schemas
from aliasagent.devices import alias

#: The longest value that is repeated in an error; a longer one is cut.
_SHOWN = 80
#: How deeply a message may be nested: far deeper than any that makes sense.
_DEEPEST = 50
#: The types of what may have a password somewhere in it.
_WHOLE = frozenset({'object', 'array'})
#: Names of what may be a secret, or was taken for the place of one.
_SECRET = re.compile(r'passw|secret|auth|token|\bkey', re.IGNORECASE)


#: What an argument that is left out stands for; None for all others.
_DEFAULTS: dict[str, object] = {'device_type': 'disk', 'unsafe': False}


def _format_checker() -> jsonschema.FormatChecker:
    def checker(check: Callable[[str], object]) -> Callable[[object], bool]:
        return lambda value: not isinstance(value, str) or bool(check(value))

    known = jsonschema.FormatChecker(formats=())
    for name, (_words, check) in formats.FORMATS.items():
        known.checks(name)(checker(check))
    return known


def _is_integer(_checker: jsonschema.TypeChecker, instance: object) -> bool:
    """JSON Schema takes 5.0 for an integer; libvirt would not read it as one."""
    return isinstance(instance, int) and not isinstance(instance, bool)


_Validator = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine('integer', _is_integer),
)
_VALIDATORS = {name: _Validator(schema, format_checker=_format_checker()) for name, schema in schemas.METHODS.items()}


def is_id(value: str) -> bool:
    """Whether a text may be the id of an instance or a device."""
    return alias.is_valid_id(value)


def validate(method: str, arguments: dict[str, Any]) -> None:
    """Check a message's arguments before anything is touched.

    :raises InvalidInput: the first field, in the order of relevance, that is missing, unknown or wrong.
    """
    _check_depth(arguments)
    error = jsonschema.exceptions.best_match(_VALIDATORS[method].iter_errors(arguments))
    if error is not None:
        raise _invalid_input(error)


def _check_depth(arguments: dict[str, Any]) -> None:
    """Refuse what is nested so deeply that nobody who walks through it would come to its end."""
    for field, value in arguments.items():
        level, depth = [value], 0
        while level := [
            item
            for each in level
            if isinstance(each, dict | list)
            for item in (each.values() if isinstance(each, dict) else each)
        ]:
            depth += 1
            if depth > _DEEPEST:
                raise exception.InvalidInput(field=_name(field), reason='the value is nested too deeply')


def canonical(arguments: dict[str, Any]) -> dict[str, Any]:
    """Valid arguments as they are kept and worked with.

    UUIDs are as libvirt and Nova write them, so that one volume has one alias. What says no more than if it were left
    out is left out, so that one request is one, whoever sends it. Passwords and keys that Cinder sends are gone: QEMU
    gets them from libvirt, by a secret's UUID, and they shall not come to lie in a journal.
    """

    def one(value: Any) -> Any:
        return value.lower() if isinstance(value, str) and formats.UUID.fullmatch(value) else value

    result = {name: one(value) for name, value in arguments.items() if value != _DEFAULTS.get(name)}
    if 'port' in result:
        result['port'] = {**result['port'], 'id': one(result['port']['id'])}
    if 'connection_info' in result:
        result['connection_info'] = _known_connection(result['connection_info'])
    return result


def _listed(schema: schemas.Schema) -> dict[str, schemas.Schema]:
    """The members that a schema lists, under whichever condition, and the schema of each."""
    found = dict(schema.get('properties', {}))
    conditional = [schema[word] for word in ('then', 'else') if word in schema]
    for part in (*schema.get('allOf', ()), *schema.get('anyOf', ()), *conditional):
        found |= _listed(part)
    return found


def _known(value: Any, members: dict[str, schemas.Schema]) -> Any:
    """Of an object, the members that are listed, and so on within them."""
    if isinstance(value, list):
        return [_known(item, members) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: _known(item, _listed(members[name])) for name, item in value.items() if name in members}


def _known_connection(connection_info: Any) -> Any:
    """What an agent uses of a ``connection_info``. Cinder's drivers send more, and call a secret what they like."""
    members = _listed(schemas.CONNECTION_INFO)
    if not isinstance(connection_info, dict):
        return connection_info
    result = _known(connection_info, {name: schema for name, schema in members.items() if name != 'data'})
    if 'data' in connection_info:
        own = schemas.VOLUME_DATA.get(connection_info.get('driver_volume_type', ''), schemas.OTHER_VOLUME_DATA)
        common = schemas.CONNECTION_INFO['properties']['data']
        result['data'] = _known(connection_info['data'], {**_listed(common), **_listed(own)})
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
            return exception.InvalidInput(field='.'.join([*path, _name(extra[0])]), reason='is not known here')
        case 'type':
            reason = f'is not of type {" or ".join(_words(wanted))}'
        case 'enum':
            reason = 'is not one of ' + ', '.join(str(value) for value in wanted if value is not None)
        case 'minimum' | 'maximum':
            reason = f'is {"below" if error.validator == "minimum" else "above"} {wanted}'
        case 'minItems' | 'maxItems':
            reason = f'has {"less" if error.validator == "minItems" else "more"} than {wanted} members'
        case 'uniqueItems':
            reason = 'has a member twice'
        case 'format':
            reason = f'is not {formats.FORMATS[wanted][0]}'
        case _:
            reason = _cut(f'is not as the schema wants it ({error.validator} {wanted})')
    field = '.'.join(path) or 'arguments'
    # What is or should be a whole object may have a password somewhere in it.
    whole = isinstance(instance, dict | list) or not _WHOLE.isdisjoint(_types(schema))
    shown = 'the value' if whole or _SECRET.search(field) else _cut(repr(instance))
    return exception.InvalidInput(field=field, reason=f'{shown} {reason}')


def _types(schema: schemas.Schema) -> set[str]:
    """The types that a schema allows, also as one of several."""
    return set(_words(schema.get('type', []))).union(*map(_types, schema.get('anyOf', ())))


def _words(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}... ({len(text)} characters)'


def _name(text: str) -> str:
    """A field's name as somebody sent it, fit for a log line."""
    return _cut(text if text.isidentifier() else repr(text))
