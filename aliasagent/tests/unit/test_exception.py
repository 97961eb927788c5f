# SPDX-License-Identifier: Apache-2.0
"""Errors, and how they travel."""

import inspect
import string
import sys

from hypothesis import given
from hypothesis import strategies as st
from oslo_messaging._drivers import common

from aliasagent import exception
from aliasagent.client import rpc
from aliasagent.tests import base

CLASSES = [
    kind
    for _name, kind in inspect.getmembers(exception, inspect.isclass)
    if issubclass(kind, exception.AliasAgentError)
]


def details(kind: type[exception.AliasAgentError]) -> list[str]:
    return [name for _text, name, _format, _conversion in string.Formatter().parse(kind.template) if name]


def example(kind: type[exception.AliasAgentError], value: object = 'x') -> exception.AliasAgentError:
    return kind(**dict.fromkeys(details(kind), value))


def sent(error: Exception) -> Exception:
    """An error as it arrives at a caller."""
    try:
        raise error
    except Exception:  # noqa: BLE001
        data = common.serialize_remote_exception(sys.exc_info())
    arrived: Exception = common.deserialize_remote_exception(data, rpc.ALLOWED_REMOTE_MODULES)
    return arrived


class ExceptionTestCase(base.TestCase):
    def test_each_arrives_as_itself(self) -> None:
        for kind in CLASSES:
            error = example(kind)
            arrived = sent(error)
            self.assertIsInstance(arrived, kind)
            assert isinstance(arrived, exception.AliasAgentError)
            self.assertEqual(error.kwargs, arrived.kwargs)
            self.assertEqual(error.retryable, arrived.retryable)
            self.assertIn(str(error), str(arrived))

    def test_it_arrives_from_host_to_host(self) -> None:
        for kind in CLASSES:
            self.assertIsInstance(sent(sent(example(kind))), kind)

    @given(st.text())
    def test_whatever_the_details(self, text: str) -> None:
        error = exception.InvalidInput(field=text, reason=text)
        self.assertEqual(f'{text}: {text}', str(error))
        arrived = sent(error)
        assert isinstance(arrived, exception.InvalidInput)
        self.assertEqual(error.kwargs, arrived.kwargs)

    def test_details_are_not_formats(self) -> None:
        self.assertEqual('{reason}: {0}', str(exception.InvalidInput(field='{reason}', reason='{0}')))

    def test_details_of_any_kind_are_texts(self) -> None:
        for value in (1, None, ValueError('x'), exception.DeviceNotFound(instance='i', device='d')):
            for kind in CLASSES:
                if kind is not exception.InvalidInput:
                    self.assertEqual({str(value)}, set(example(kind, value).kwargs.values()) or {str(value)})

    def test_each_says_something_of_its_own(self) -> None:
        templates = [kind.template for kind in CLASSES if details(kind)]
        self.assertEqual(len(templates), len(set(templates)))

    def test_could_not_tell_is_never_not_there(self) -> None:
        for kind in CLASSES:
            self.assertFalse(issubclass(kind, exception.NotFound) and issubclass(kind, exception.HypervisorError), kind)
        for kind in (exception.HypervisorUnavailable, exception.GuestUnreadable):
            self.assertFalse(issubclass(kind, exception.NotFound))

    def test_what_is_wrong_in_itself_is_never_retried(self) -> None:
        for kind in CLASSES:
            if issubclass(kind, exception.InvalidRequest | exception.NotFound | exception.Conflict):
                self.assertFalse(kind.retryable, kind)
