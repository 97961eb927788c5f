# SPDX-License-Identifier: Apache-2.0
"""What can be asked, and where it stands."""

from aliasagent.actions import Action
from aliasagent.compute import schemas
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.tests import base


class ModelTestCase(base.TestCase):
    def test_actions_are_named_as_the_methods_that_ask_them(self) -> None:
        self.assertEqual([], sorted(set(Action) - set(schemas.METHODS)))

    def test_only_the_last_two_states_are_final(self) -> None:
        finished = [state for state in State if Operation('x', Action.DETACH, '', '', None, state=state).is_finished]
        self.assertEqual([State.SUCCEEDED, State.FAILED], finished)
