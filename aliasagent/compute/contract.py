# SPDX-License-Identifier: Apache-2.0
"""Checks messages against their published schemas (:mod:`aliasagent.compute.schemas`)."""

import functools
import re
import typing
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from aliasagent import exception
from aliasagent.compute import schemas
from aliasagent.devices import alias
from aliasagent.devices import names
from aliasagent.requests import formats
from aliasagent.requests.schema import Schema

if typing.TYPE_CHECKING:
    import jsonschema

#: The number of characters after which an error cuts a value.
_LONGEST = 80
#: How deeply a message may be nested: far deeper than any valid one.
_DEEPEST = 50
#: The types of values that may contain a password.
_WHOLE = frozenset({'object', 'array'})
#: Names of fields that may be, contain or be mistaken for a secret.
_SECRET = re.compile(r'passw|secret|auth|token|\bkey|uri\b', re.IGNORECASE)


def _is_integer(_checker: object, instance: object) -> bool:
    # JSON Schema accepts 5.0 as an integer; libvirt does not.
    return isinstance(instance, int) and not isinstance(instance, bool)


@functools.cache
def _validators() -> Mapping[str, Any]:
    """Return the validators of all methods that name the field that is not valid."""
    # Imported here: a tenth of a process's start, and needed only for a message that is not valid.
    import jsonschema

    def checker(check: Callable[[str], object]) -> Callable[[object], bool]:
        return lambda value: not isinstance(value, str) or bool(check(value))

    known = jsonschema.FormatChecker(formats=())
    for name, (_text, check) in formats.FORMATS.items():
        known.checks(name)(checker(check))
    validator = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
        jsonschema.Draft202012Validator,
        type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine('integer', _is_integer),
    )
    return {name: validator(schema, format_checker=known) for name, schema in schemas.METHODS.items()}


#: The same checks in a fraction of the time.
_FAST = {
    name: jsonschema_rs.Draft202012Validator(
        schema,
        formats={form: lambda value, check=check: bool(check(value)) for form, (_, check) in formats.FORMATS.items()},
        validate_formats=True,
    )
    for name, schema in schemas.METHODS.items()
}


def is_id(value: str) -> bool:
    """Return whether a text may be the id of an instance or a device."""
    return alias.is_valid_id(value)


def validate(method: str, arguments: dict[str, Any]) -> None:
    """Check the arguments of a message.

    :raises InvalidInput: a field is missing, unknown or not valid; the error names the most relevant one.
    """
    # The fast validator accepts 5.0 as an integer.
    if not _has_float(arguments) and _is_surely_valid(method, arguments):
        return
    error = _most_relevant_error(method, arguments)
    if error is not None:
        raise _invalid_input(error)


def _most_relevant_error(method: str, arguments: dict[str, Any]) -> 'jsonschema.ValidationError | None':
    from jsonschema import exceptions

    found: exceptions.ValidationError | None = exceptions.best_match(_validators()[method].iter_errors(arguments))
    return found


def _is_surely_valid(method: str, arguments: dict[str, Any]) -> bool:
    try:
        return _FAST[method].is_valid(arguments)
    except ValueError:
        return False  # the message has a value that JSON does not have


def _has_float(arguments: dict[str, Any]) -> bool:
    """Return whether a message contains a float.

    :raises InvalidInput: the message is nested so deeply that a recursive check would fail.
    """
    has_float = False
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
            has_float = has_float or any(isinstance(item, float) for item in level)
        has_float = has_float or isinstance(value, float)
    return has_float


def canonical(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return valid arguments in their canonical form: ids as libvirt and Nova write them."""
    return {name: names.normal(value) if isinstance(value, str) else value for name, value in arguments.items()}


def _invalid_input(error: 'jsonschema.ValidationError') -> exception.InvalidInput:
    path = [str(part) for part in error.absolute_path]
    instance: Any = error.instance
    wanted: Any = error.validator_value
    schema: Any = error.schema
    match error.validator:
        case 'required':
            missing = [name for name in wanted if name not in instance]
            hint = _hint(schema.get('properties', {}).get(missing[0], {}))
            return exception.InvalidInput(field='.'.join([*path, missing[0]]), reason=f'is missing{hint}')
        case 'additionalProperties':
            extra = sorted(str(name) for name in set(instance) - set(schema['properties']))
            return exception.InvalidInput(field='.'.join([*path, _name(extra[0])]), reason='is not a known field')
        case 'type':
            reason = f'is not of type {" or ".join(_type_names(wanted))}{_hint(schema) if instance is None else ""}'
        case 'enum':
            # A number may also be given as a text.
            reason = 'is not one of ' + ', '.join(dict.fromkeys(str(value) for value in wanted if value is not None))
        case 'minimum' | 'maximum':
            reason = f'is {"below" if error.validator == "minimum" else "above"} {wanted}'
        case 'minItems' | 'maxItems':
            reason = f'has {"less" if error.validator == "minItems" else "more"} than {wanted} members'
        case 'uniqueItems':
            reason = 'has a member twice'
        case 'format':
            reason = f'is not {formats.FORMATS[wanted][0]}'
        case 'not':
            # Only a member of the other form has such a schema.
            reason = 'is a field of another form, and cannot be given here'
        case _:
            reason = _cut(f'does not match the schema ({error.validator} {wanted})')
    field = '.'.join(path) or 'arguments'
    # A value that is or should be an object or a list may contain a password.
    whole = isinstance(instance, dict | list) or not _WHOLE.isdisjoint(_types(schema))
    text = 'the value' if whole or _SECRET.search(field) else _cut(repr(instance))
    return exception.InvalidInput(field=field, reason=f'{text} {reason}')


def _hint(schema: Schema) -> str:
    """Return what a client can do if a member is missing."""
    return f': {schema["description"]}' if 'description' in schema else ''


def _types(schema: Schema) -> set[str]:
    """Return the types that a schema or one of its alternatives allows."""
    return set(_type_names(schema.get('type', []))).union(*map(_types, schema.get('anyOf', ())))


def _type_names(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f'{text[:_LONGEST]}... ({len(text)} characters)'


def _name(text: str) -> str:
    """Return the name of a field, as a client sent it, fit for a log line."""
    return _cut(text if text.isidentifier() else repr(text))
