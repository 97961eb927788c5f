# SPDX-License-Identifier: Apache-2.0
"""The context of a request: the ids that each message carries and each log line shows.

oslo.log writes the context that oslo.context keeps for the current thread. To continue work in another thread with the
same context, call :func:`current` in the first thread and :func:`bound` in the other.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from typing import Self

from oslo_context import context
from oslo_utils import uuidutils

#: The longest id of a request that the agent accepts.
_LONGEST = 255


class RequestContext(context.RequestContext):
    """The context of one request.

    ``resource_uuid`` is the instance that a log line is about.

    :param operation_id: the id by which a client queries the outcome of the request; generated if None, so that each
        context is for one request.
    """

    def __init__(self, *, operation_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.operation_id = operation_id or uuidutils.generate_uuid()

    def to_dict(self) -> dict[str, Any]:
        """Return the context as it is sent: ids only, never a token."""
        return {
            'request_id': self.request_id,
            'global_request_id': self.global_request_id,
            'operation_id': self.operation_id,
        }

    def get_logging_values(self) -> dict[str, Any]:
        """Return the values for log lines."""
        values: dict[str, Any] = super().get_logging_values()
        return values | {
            'global_request_id': self.global_request_id or '-',
            'operation_id': self.operation_id if _is_printable(self.operation_id) else '-',
            'resource_uuid': self.resource_uuid,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], **kwargs: Any) -> Self:
        """Read a context from a message of any client; ignore values that are not text.

        Also makes it the context of this thread's log lines.
        """
        # So the ids must fit into a log line.

        def text(name: str) -> str | None:
            value = values.get(name)
            return value if isinstance(value, str) and value else None

        def printable(name: str) -> str | None:
            value = text(name)
            return value if value and _is_printable(value) else None

        return cls(
            request_id=printable('request_id'),
            global_request_id=printable('global_request_id'),
            operation_id=text('operation_id'),
        )


def _is_printable(text: str) -> bool:
    """Return whether a text fits into a log line."""
    return text.isprintable() and len(text) <= _LONGEST


def current() -> context.RequestContext | None:
    """Return the context of this thread; None if the thread works on no request."""
    return context.get_current()


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Restore the context of this thread at the end."""
    before = current()
    try:
        yield
    finally:
        _put(before)


@contextlib.contextmanager
def bound(ctxt: context.RequestContext | None) -> Iterator[None]:
    """Set the context of this thread's log lines; None for no context."""
    with restored():
        _put(ctxt)
        yield


@contextlib.contextmanager
def bound_to(operation_id: str, request_id: str | None, instance: str) -> Iterator[None]:
    """Set the ids of an operation in this thread's log lines.

    :param request_id: the id of the request; None if it is unknown.
    """
    with restored():
        RequestContext(
            request_id=request_id or f'req-{operation_id}', operation_id=operation_id, resource_uuid=instance or None
        )
        yield


def _put(ctxt: context.RequestContext | None) -> None:
    # NOTE: oslo.context has no public way to remove the context of a thread; a test checks that this one works.
    context._request_store.context = ctxt
