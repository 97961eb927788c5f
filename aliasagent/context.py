# SPDX-License-Identifier: Apache-2.0
"""Who asks, and under which ids: the context that travels with each message."""

from typing import Any
from typing import Self

from oslo_context import context
from oslo_utils import uuidutils

#: The longest id of a request that is taken over.
_LONGEST = 255


class RequestContext(context.RequestContext):
    """A request's context.

    :param operation_id: the id under which the outcome of this request can be asked for. Made here if not given, so
        that each context stands for one request.
    """

    def __init__(self, *, operation_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.operation_id = operation_id or uuidutils.generate_uuid()

    def to_dict(self) -> dict[str, Any]:
        """What is sent: ids only, never a token."""
        return {
            'request_id': self.request_id,
            'global_request_id': self.global_request_id,
            'operation_id': self.operation_id,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], **kwargs: Any) -> Self:
        """Read a context from a message, whoever sent it; what is not a text is as good as not sent.

        Log lines of this thread carry it from here on, so that its ids must fit into one.
        """

        def text(name: str) -> str | None:
            value = values.get(name)
            return value if isinstance(value, str) and value else None

        def printable(name: str) -> str | None:
            value = text(name)
            return value if value and value.isprintable() and len(value) <= _LONGEST else None

        return cls(
            request_id=printable('request_id'),
            global_request_id=printable('global_request_id'),
            operation_id=text('operation_id'),
        )
