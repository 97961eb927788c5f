# SPDX-License-Identifier: Apache-2.0
"""Who asks, and under which ids."""

import contextlib
import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from oslo_context import fixture

from aliasagent import context
from aliasagent.client import rpc
from aliasagent.tests import base

junk = st.none() | st.integers() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.text())


class ContextTestCase(base.TestCase):
    def test_there_and_back(self) -> None:
        sent = context.RequestContext(global_request_id='req-1f0e7f3c-54f5-4b1e-8f0f-2a6c1d7e9b10')
        arrived = context.RequestContext.from_dict(sent.to_dict())
        self.assertEqual(sent.to_dict(), arrived.to_dict())
        self.assertIsNotNone(arrived.operation_id)

    def test_each_stands_for_one_request(self) -> None:
        self.assertNotEqual(context.RequestContext().operation_id, context.RequestContext().operation_id)

    def test_an_id_of_the_callers_own(self) -> None:
        self.assertEqual('mine', context.RequestContext(operation_id='mine').operation_id)

    def test_no_token_is_sent(self) -> None:
        sent = context.RequestContext(auth_token='hunter2', user_id='demo')
        self.assertEqual({'request_id', 'global_request_id', 'operation_id'}, set(sent.to_dict()))
        self.assertNotIn('hunter2', str(sent.to_dict()))

    @given(st.dictionaries(st.sampled_from(['request_id', 'global_request_id', 'operation_id', 'x']), junk))
    def test_whatever_a_foreign_client_sends(self, values: dict[str, Any]) -> None:
        arrived = context.RequestContext.from_dict(values)
        for name in ('request_id', 'operation_id'):
            self.assertIsInstance(getattr(arrived, name), str)
            self.assertTrue(getattr(arrived, name))

    @given(junk)
    def test_whatever_it_sends_instead(self, value: Any) -> None:
        serializer = rpc.ContextSerializer()
        self.assertIsInstance(serializer.deserialize_context(value), context.RequestContext)
        self.assertIsInstance(serializer.serialize_context(value), dict)


class CurrentTestCase(base.TestCase):
    """Whose work a thread is at; what oslo.context keeps for it is private, and held in place here."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixture.ClearRequestContext())

    def test_nobodys(self) -> None:
        self.assertIsNone(context.current())

    def test_under_an_operation_and_after_it(self) -> None:
        with context.bound_to('one', 'req-1', 'guest'):
            self.assert_current('one', 'req-1', 'guest')
            with context.bound_to('two', 'req-2', ''):
                self.assert_current('two', 'req-2', None)
            self.assert_current('one', 'req-1', 'guest')
        self.assertIsNone(context.current())

    def test_a_request_that_is_not_known_any_more(self) -> None:
        with context.bound_to('one', None, 'guest'):
            self.assert_current('one', 'req-one', 'guest')

    def test_what_is_made_of_it_is_over_with_it(self) -> None:
        for error in (None, ValueError('x')):
            with contextlib.suppress(ValueError), context.restored():
                context.RequestContext(operation_id='one')
                self.assertIsNotNone(context.current())
                if error is not None:
                    raise error
            self.assertIsNone(context.current())

    def test_taken_along_into_another_thread(self) -> None:
        seen: list[object] = []

        def work() -> None:
            seen.append(context.current())
            with context.bound(mine):
                seen.append(context.current())
            seen.append(context.current())

        mine = context.RequestContext()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        self.assertEqual([None, mine, None], seen)
        with context.bound(None):
            self.assertIsNone(context.current())
        self.assertIs(mine, context.current())

    def test_what_the_log_may_show(self) -> None:
        values = context.RequestContext(auth_token='hunter2', operation_id='one').get_logging_values()
        self.assertEqual(('-', 'one'), (values['global_request_id'], values['operation_id']))
        self.assertNotIn('hunter2', str(values))
        for foreign in ('a\nb', 'x' * 256):
            arrived = context.RequestContext.from_dict({'operation_id': foreign})
            self.assertEqual('-', arrived.get_logging_values()['operation_id'])

    def assert_current(self, operation: str, request: str, instance: str | None) -> None:
        now: Any = context.current()
        self.assertEqual((operation, request, instance), (now.operation_id, now.request_id, now.resource_uuid))
