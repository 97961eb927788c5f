# SPDX-License-Identifier: Apache-2.0
"""Who asks, and under which ids."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aliasagent import context
from aliasagent import rpc
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
