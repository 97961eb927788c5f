# SPDX-License-Identifier: Apache-2.0
"""The short forms of the long programs about what fails around the agent."""

import functools

import testtools

from aliasagent.tests.stress import broker_loss
from aliasagent.tests.stress import daemon_loss
from aliasagent.tests.stress import full_disk
from aliasagent.tests.stress import nonsense


class BrokerLossTest(testtools.TestCase):
    def lose(self, *, quorum: bool) -> None:
        with broker_loss.own_broker() as broker:
            restart, cut = (functools.partial(lose, broker) for lose in (broker_loss.restart, broker_loss.cut))
            for disturb in (restart, cut):
                audit, types = broker_loss.run(broker, disturb, operations=40, times=1, guests=4, seed=1, quorum=quorum)
                self.assertEqual({'quorum' if quorum else 'classic'}, types)
                self.assertTrue(broker_loss.kept(audit), audit)
                self.assertEqual((40, 40), (audit.sent, audit.succeeded))

    def test_the_broker_goes_away(self) -> None:
        self.lose(quorum=False)

    def test_the_broker_goes_away_that_has_quorum_queues(self) -> None:
        self.lose(quorum=True)


class DaemonLossTest(testtools.TestCase):
    def test_the_hypervisor_is_killed_and_waited_for(self) -> None:
        result = daemon_loss.run(60, 2, 6, seed=1)
        self.assertTrue(result.kept, result)
        self.assertNotIn('HypervisorUnavailable', result.first.failed)

    def test_the_hypervisor_is_killed_and_not_waited_for(self) -> None:
        result = daemon_loss.run(60, 2, 6, seed=1, reconnect_timeout=0)
        self.assertTrue(result.kept, result)
        self.assertLess(0, result.asked_anew)


class FullDiskTest(testtools.TestCase):
    def test_the_journals_disk_is_full_and_the_journal_damaged(self) -> None:
        audit, broken = full_disk.run(60, 2, seed=1, guests=4)
        self.assertEqual([], broken)
        self.assertEqual((60, 60), (audit.sent, audit.succeeded))


class NonsenseTest(testtools.TestCase):
    def test_messages_that_make_no_sense(self) -> None:
        rows, broken = nonsense.run(400, seed=2, reply_seconds=3)
        self.assertEqual([], broken)
        self.assertEqual(400, sum(row.sent for row in rows))
