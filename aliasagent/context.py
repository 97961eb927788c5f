# SPDX-License-Identifier: Apache-2.0
"""Who asks, and under which ids: the context that travels with each message, and stands in each line of the log.

oslo.log puts into a line what oslo.context keeps for the thread that writes it. Work that goes on in another thread
takes its context along: :func:`current` here, :func:`bound` there.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from typing import Self

from oslo_context import context
from oslo_utils import uuidutils

#: The longest id of a request that is taken over.
_LONGEST = 255


class RequestContext(context.RequestContext):
    """A request's context.

    ``resource_uuid`` is the instance that a line of the log is about.

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

    def get_logging_values(self) -> dict[str, Any]:
        """What a line of the log may show of it."""
        values: dict[str, Any] = super().get_logging_values()
        return values | {
            'global_request_id': self.global_request_id or '-',
            'operation_id': self.operation_id if _is_printable(self.operation_id) else '-',
            'resource_uuid': self.resource_uuid,
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
            return value if value and _is_printable(value) else None

        return cls(
            request_id=printable('request_id'),
            global_request_id=printable('global_request_id'),
            operation_id=text('operation_id'),
        )


def _is_printable(text: str) -> bool:
    """Whether it fits into a line of the log."""
    return text.isprintable() and len(text) <= _LONGEST


def current() -> context.RequestContext | None:
    """The context of what this thread is at; None if it is at nothing that somebody asked for."""
    return context.get_current()


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Let the context of this thread be afterwards what it was before, whatever is made of it inside."""
    before = current()
    try:
        yield
    finally:
        _put(before)


@contextlib.contextmanager
def bound(ctxt: context.RequestContext | None) -> Iterator[None]:
    """Have this thread write its log under a context; under none if it is None."""
    with restored():
        _put(ctxt)
        yield


@contextlib.contextmanager
def bound_to(operation_id: str, request_id: str | None, instance: str) -> Iterator[None]:
    """Have this thread write its log under the ids of an operation.

    :param request_id: of the request that it was asked by; None if that is not known any more.
    """
    with restored():
        RequestContext(
            request_id=request_id or f'req-{operation_id}', operation_id=operation_id, resource_uuid=instance or None
        )
        yield


def _put(ctxt: context.RequestContext | None) -> None:
    # NOTE: oslo.context can give a thread a context, but not take it away again; a test holds this in place.
    context._request_store.context = ctxt
