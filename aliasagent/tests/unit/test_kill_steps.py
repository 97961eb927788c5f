# SPDX-License-Identifier: Apache-2.0
"""The steps at which the stress tests kill an agent are there: a renamed method would show only on real parts."""

import importlib

from aliasagent.tests import base
from aliasagent.tests.stress import steps


class PlacesTestCase(base.TestCase):
    def test_every_step_is_a_method(self) -> None:
        places = {step.place for kind in steps.KINDS for step in kind.steps}
        for place in places:
            module, _, path = place.partition(':')
            found: object = importlib.import_module(module)
            for name in path.split('.'):
                self.assertIn(name, vars(found), place)
                found = getattr(found, name)
            self.assertTrue(callable(found), place)
        self.assertGreater(len(places), 20)
