# SPDX-License-Identifier: Apache-2.0
"""The check of a message against its published schema (:mod:`aliasagent.compute.schemas`)."""

import re
from collections.abc import Callable
from typing import Any

import jsonschema
import jsonschema_rs

from aliasagent import exception
from aliasagent.compute import schemas
from aliasagent.devices import alias
from aliasagent.devices import names
from aliasagent.requests import formats
from aliasagent.requests.schema import Schema

#: The longest value that is repeated in an error; a longer one is cut.
_SHOWN = 80
#: How deeply a message may be nested: far deeper than any that makes sense.
_DEEPEST = 50
#: The types of what may have a password somewhere in it.
_WHOLE = frozenset({'object', 'array'})
#: Names of what may be a secret, may hold one, or was taken for the place of one.
_SECRET = re.compile(r'passw|secret|auth|token|\bkey|uri\b', re.IGNORECASE)


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
#: The same in a fraction of the time, for messages that are good; what is wrong with others is told by the ones above.
_FAST = {
    name: jsonschema_rs.Draft202012Validator(
        schema,
        formats={form: lambda value, check=check: bool(check(value)) for form, (_, check) in formats.FORMATS.items()},
        validate_formats=True,
    )
    for name, schema in schemas.METHODS.items()
}


def is_id(value: str) -> bool:
    """Whether a text may be the id of an instance or a device."""
    return alias.is_valid_id(value)


def validate(method: str, arguments: dict[str, Any]) -> None:
    """Check a message's arguments before anything is touched.

    :raises InvalidInput: the first field, in the order of relevance, that is missing, unknown or wrong.
    """
    has_float = _look_through(arguments)
    # To the fast one 5.0 is an integer.
    if not has_float and _is_surely_valid(method, arguments):
        return
    error = jsonschema.exceptions.best_match(_VALIDATORS[method].iter_errors(arguments))
    if error is not None:
        raise _invalid_input(error)


def _is_surely_valid(method: str, arguments: dict[str, Any]) -> bool:
    try:
        return _FAST[method].is_valid(arguments)
    except ValueError:
        return False  # it has something that JSON has not


def _look_through(arguments: dict[str, Any]) -> bool:
    """See whether there is a number with a point in it.

    :raises InvalidInput: it is nested so deeply that nobody who walks through it would come to its end.
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
    """Return the valid arguments of a question as they are worked with: ids as libvirt and Nova write them."""
    return {name: names.normal(value) if isinstance(value, str) else value for name, value in arguments.items()}


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


def _types(schema: Schema) -> set[str]:
    """The types that a schema allows, also as one of several."""
    return set(_words(schema.get('type', []))).union(*map(_types, schema.get('anyOf', ())))


def _words(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}... ({len(text)} characters)'


def _name(text: str) -> str:
    """A field's name as somebody sent it, fit for a log line."""
    return _cut(text if text.isidentifier() else repr(text))
