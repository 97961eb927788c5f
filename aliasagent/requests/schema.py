# SPDX-License-Identifier: Apache-2.0
"""Building blocks of the schemas of messages."""

from typing import Any

Schema = dict[str, Any]


def string(form: str) -> Schema:
    return {'type': 'string', 'format': form}


def integer(minimum: int, maximum: int) -> Schema:
    return {'type': 'integer', 'minimum': minimum, 'maximum': maximum}


def hinted(schema: Schema, hint: str) -> Schema:
    """Describe a member by what a client can do if it is missing; the error says it, too."""
    return {**schema, 'description': hint}


def nullable(schema: Schema) -> Schema:
    return {'anyOf': [{'type': 'null'}, schema]}


def whole(required: Schema, optional: Schema | None = None) -> Schema:
    return {
        'type': 'object',
        'properties': {**required, **(optional or {})},
        'required': list(required),
        'additionalProperties': False,
    }


def given(name: str) -> Schema:
    """Return the condition that a member is there and is not null."""
    return {'properties': {name: {'not': {'type': 'null'}}}, 'required': [name]}


def by(name: str, values: dict[str, Schema]) -> list[Schema]:
    """Return a condition for each value of a member, so that an error names the field that this value requires."""
    return [
        {'if': {'properties': {name: {'const': value}}, 'required': [name]}, 'then': schema}
        for value, schema in values.items()
    ]
