# SPDX-License-Identifier: Apache-2.0
"""The short forms of the long programs about reconcile."""

import testtools

from aliasagent.tests.stress import reconcile_race
from aliasagent.tests.stress import reconcile_scale


class ReconcileTest(testtools.TestCase):
    def test_what_another_client_changes_is_there_at_the_end(self) -> None:
        lost = reconcile_race.run(20)
        # NOTE: libvirt cannot compare and swap. An edit of the very device that gets its alias, within the time of one
        # call, can be lost; nothing else can.
        lost.pop('edit of the same device', None)
        self.assertEqual({}, dict(lost))

    def test_a_pass_over_many_guests_does_what_the_bare_calls_do(self) -> None:
        # It fails by itself if one of the two has not aliased every device.
        reconcile_scale.run(guests=10, devices=20)
