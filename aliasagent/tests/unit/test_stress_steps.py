# SPDX-License-Identifier: Apache-2.0
"""The stress run kills the agent at functions that exist."""

import importlib

from aliasagent.tests import base
from aliasagent.tests.stress import steps


class StepsTestCase(base.TestCase):
    def test_each_step_names_a_function(self) -> None:
        places = {step.place for kind in steps.KINDS for step in kind.steps}
        self.assertNotEqual(set(), places)
        for place in places:
            module, _, path = place.partition(':')
            name, _, function = path.rpartition('.')
            owner = importlib.import_module(module)
            self.assertIn(function, vars(getattr(owner, name) if name else owner), place)
