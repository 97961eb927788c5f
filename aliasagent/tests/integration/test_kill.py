# SPDX-License-Identifier: Apache-2.0
"""The short forms of the long programs in which the agent is killed."""

import random

import testtools

from aliasagent.tests.stress import cast_window
from aliasagent.tests.stress import kill_agent
from aliasagent.tests.stress import kill_not_live
from aliasagent.tests.stress import kill_steps
from aliasagent.tests.stress.steps import ATTACH
from aliasagent.tests.stress.steps import BEGIN
from aliasagent.tests.stress.steps import CAST
from aliasagent.tests.stress.steps import KINDS
from aliasagent.tests.stress.steps import RELIVE
from aliasagent.tests.stress.steps import SUBMIT


class KillTest(testtools.TestCase):
    def test_what_was_submitted_is_done_once(self) -> None:
        found = kill_agent.run(5, 100, guests=6, seed=random.randrange(2**32), special=False)
        self.assertTrue(found.good, found.text())
        self.assertLessEqual(100, found.sent)

    def test_what_was_cast_is_done_once(self) -> None:
        found = kill_agent.run(3, 300, casts=True, guests=6, seed=random.randrange(2**32), special=False)
        self.assertTrue(found.good, found.text())
        self.assertLessEqual(300, found.sent)

    def test_a_device_is_not_said_to_be_gone_that_only_the_persistent_config_has_a_name_for(self) -> None:
        found = kill_not_live.run(3, 4, seed=random.randrange(2**32))
        self.assertTrue(found.good, found.text())

    def test_no_cast_is_only_in_memory(self) -> None:
        windows = cast_window.run(200, 5)
        self.assertEqual((200, 0), (len(windows.exposed), windows.unsafe))

    def test_no_cast_being_only_in_memory_can_be_seen(self) -> None:
        """Or the test before this one could not fail."""
        self.assertEqual(200, cast_window.run(200, 5, early=True).unsafe)


class StepsTest(testtools.TestCase):
    def play(self, cases: list[kill_steps.Case]) -> None:
        results = kill_steps.run(cases)
        self.assertEqual(len(cases), len(results))
        self.assertEqual([], [result.line() for result in results if result.faults])

    def cases(self, name: str, way: str) -> list[kill_steps.Case]:
        """One case for each step of a kind."""
        kinds = [kind for kind in KINDS if kind.name == name]
        return list(kill_steps.cases(kinds, [way], random.Random(), sparse=True))

    def test_at_each_step_of_a_detach(self) -> None:
        self.play(self.cases('detach volume', CAST))

    def test_at_what_is_special_to_an_attach(self) -> None:
        self.play([case for case in self.cases('attach volume', CAST) if case.step in ATTACH])

    def test_at_what_is_special_to_a_submit(self) -> None:
        # NOTE: who asks waits in vain for an answer first.
        self.play([case for case in self.cases('attach volume', SUBMIT) if case.step.way == SUBMIT])

    def test_at_what_is_special_to_a_save_and_restore(self) -> None:
        kinds = [kind for kind in KINDS if kind.name == 'reconcile live']
        cases = kill_steps.cases(kinds, [CAST], random.Random(), sparse=False)
        self.play([case for case in cases if case.step in (*BEGIN, *RELIVE)])

    def test_at_what_is_special_to_a_device_that_goes_meanwhile(self) -> None:
        cases = self.cases('detach, goes meanwhile', CAST)
        self.play([case for case in cases if 'libvirt' in case.step.name])
