# SPDX-License-Identifier: Apache-2.0
"""The state machine of an unplug, without threads."""

from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.tests import base
from aliasagent.virt import leaving
from aliasagent.virt.leaving import Next
from aliasagent.virt.leaving import Reply
from aliasagent.virt.leaving import RetryPolicy
from aliasagent.virt.leaving import Seen
from aliasagent.virt.leaving import Unplug
from aliasagent.virt.leaving import Why


def unplug(attempts: int = 0, timeout: float = 20.0) -> Unplug:
    return Unplug('guest', 'volume', DeviceFingerprint(), RetryPolicy(timeout, 3), attempts=attempts)


class LookTestCase(base.TestCase):
    def test_what_follows(self) -> None:
        for seen, why, attempts, follows in (
            (Seen.GONE, Why.DEADLINE, 3, Next.END),
            (Seen.GONE, Why.REFUSAL, 1, Next.END),
            (Seen.GONE, Why.REMOVAL, 1, Next.END),
            (Seen.LOST, Why.RESTART, 1, Next.END),
            (Seen.THERE, Why.REFUSAL, 1, Next.END),
            (Seen.THERE, Why.REMOVAL, 1, Next.KEEP_WAITING),
            (Seen.THERE, Why.RESTART, 3, Next.WAIT),
            (Seen.THERE, Why.DEADLINE, 0, Next.ASK),
            (Seen.THERE, Why.DEADLINE, 2, Next.ASK),
            (Seen.THERE, Why.DEADLINE, 3, Next.TIME_OUT),
            (Seen.UNREADABLE, Why.DEADLINE, 2, Next.WAIT),
            (Seen.UNREADABLE, Why.DEADLINE, 3, Next.END),
        ):
            self.assertEqual(follows, unplug(attempts).after_read(why, seen), f'{seen} {why} {attempts}')

    def test_every_look_has_something_that_follows(self) -> None:
        for seen in Seen:
            for why in Why:
                self.assertIsInstance(unplug().after_read(why, seen), Next)

    def test_a_guest_that_cannot_be_read_does_not_keep_it_open_for_ever(self) -> None:
        one, looks = unplug(), 0
        while one.after_read(Why.DEADLINE, Seen.UNREADABLE) is not Next.END:
            looks += 1
            self.assertEqual(20.0, one.wait)
        self.assertEqual(3, looks)

    def test_nor_one_about_which_libvirt_does_not_answer(self) -> None:
        one = unplug(attempts=1)
        self.assertEqual([Next.WAIT, Next.WAIT, Next.TIME_OUT], [one.after_silence() for _time in range(3)])

    def test_a_guest_that_was_started_again_has_an_attempt_more_and_is_left_alone_for_a_moment(self) -> None:
        one = unplug(attempts=3)
        one.after_read(Why.RESTART, Seen.THERE)
        self.assertEqual((2, leaving.PAUSE), (one.attempts, one.wait))
        one = unplug(timeout=0.1)
        one.after_read(Why.RESTART, Seen.THERE)
        self.assertEqual((0, 0.1), (one.attempts, one.wait))


class ReplyTestCase(base.TestCase):
    def test_a_request_that_was_taken_may_be_answered_at_any_time(self) -> None:
        for reply, may_still_go in ((Reply.ACCEPTED, True), (Reply.BUSY, False), (Reply.NO_ANSWER, False)):
            one = unplug(attempts=1)
            self.assertIs(Next.WAIT, one.after_reply(reply))
            self.assertIs(may_still_go, one.may_still_go)

    def test_a_busy_guest_is_asked_within_the_same_attempt_for_as_long_as_that_takes(self) -> None:
        one, asked = unplug(timeout=3.0), 0
        while one.attempts < 3:
            one.attempts += 1
            one.after_reply(Reply.BUSY)
            self.assertEqual(leaving.PAUSE, one.wait)
            asked += 1
        self.assertEqual(9, asked)
