# SPDX-License-Identifier: Apache-2.0
"""One guest in order, many guests side by side."""

import threading
import time
from collections.abc import Callable
from concurrent import futures

from aliasagent.operations.queues import GuestQueues
from aliasagent.tests import base


class GuestQueuesTestCase(base.TestCase):
    """GuestQueues with two workers."""

    def setUp(self) -> None:
        super().setUp()
        self.queues = GuestQueues(2)
        self.addCleanup(self.queues.close)
        self.done: list[str] = []

    def job(self, name: str) -> Callable[[], None]:
        return lambda: self.done.append(name)

    def gate(self) -> tuple[threading.Event, threading.Event, Callable[[], None]]:
        """A job that says when it has begun, and ends when it is told to."""
        begun, end = threading.Event(), threading.Event()
        self.addCleanup(end.set)

        def job() -> None:
            begun.set()
            end.wait(base.PATIENCE)

        return begun, end, job

    def wait_done(self, *names: str) -> None:
        self.wait_for(lambda: set(names) <= set(self.done), f'{names} done')


class QueueTestCase(GuestQueuesTestCase):
    def test_one_guests_jobs_in_order(self) -> None:
        begun, end, gate = self.gate()
        self.queues.submit('guest', gate)
        names = [str(number) for number in range(50)]
        for name in names:
            self.queues.submit('guest', self.job(name))
        self.assertTrue(begun.wait(base.PATIENCE))
        self.assertEqual([], self.done)
        end.set()
        self.wait_done(*names)
        self.assertEqual(names, self.done)

    def test_one_guests_jobs_never_overlap(self) -> None:
        inside: list[int] = []
        most: list[int] = []
        lock = threading.Lock()

        def job() -> None:
            with lock:
                inside.append(1)
                most.append(len(inside))
            threading.Event().wait(0.001)
            with lock:
                inside.pop()

        threads = [threading.Thread(target=self.queues.submit, args=('guest', job)) for _number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.wait_for(lambda: len(most) == 20, 'all jobs done')
        self.assertEqual(1, max(most))

    def test_no_thread_can_be_started(self) -> None:
        """What is ready is done when the next thread can be, whoever asks for it."""
        for guest, idle in (('guest', False), ('other', False), ('guest', True)):
            self.queues = GuestQueues(2)
            self.addCleanup(self.queues.close)
            self.done.clear()
            with base.no_thread_once():
                self.queues.submit('guest', self.job('first'))
            if idle:
                self.assertIsNone(self.queues.submit_if_idle(guest, self.job('never')))
            else:
                self.queues.submit(guest, self.job('next'))
            self.wait_done('first', *(() if idle else ('next',)))
        self.assertNotIn('never', self.done)

    def test_other_guests_side_by_side(self) -> None:
        first, second = self.gate(), self.gate()
        self.queues.submit('one', first[2])
        self.queues.submit('other', second[2])
        self.assertTrue(first[0].wait(base.PATIENCE))
        self.assertTrue(second[0].wait(base.PATIENCE))

    def test_a_guest_that_is_waited_for_costs_no_worker(self) -> None:
        pending: list[futures.Future[None]] = []

        def wait() -> futures.Future[None]:
            pending.append(futures.Future())
            return pending[-1]

        for number in range(64):
            self.queues.submit(f'slow {number}', wait)
            self.queues.submit(f'slow {number}', self.job(f'after {number}'))
        self.queues.submit('another', self.job('another'))
        self.wait_done('another')
        self.wait_for(lambda: len(pending) == 64, 'all are waited for')
        self.assertEqual(['another'], self.done)
        pending.pop().set_result(None)
        self.wait_for(lambda: len(self.done) == 2, 'the job after that')
        for future in pending:
            future.set_exception(ValueError('x'))
        self.wait_done(*(f'after {number}' for number in range(64)))

    def test_a_future_that_is_resolved_already(self) -> None:
        done: futures.Future[None] = futures.Future()
        done.set_result(None)
        self.queues.submit('guest', lambda: done)
        self.queues.submit('guest', self.job('next'))
        self.wait_done('next')

    def test_a_job_that_fails_does_not_close_the_lane(self) -> None:
        def fail() -> None:
            raise ValueError('a defect')

        self.queues.submit('guest', fail)
        self.queues.submit('guest', self.job('next'))
        self.wait_done('next')
        self.wait_for(lambda: self.queues.submit_if_idle('guest', self.job('idle')), 'the queue is idle')

    def test_a_job_that_submits_to_its_own_lane(self) -> None:
        self.queues.submit('guest', lambda: self.queues.submit('guest', self.job('inner')))
        self.wait_done('inner')

    def test_only_if_idle(self) -> None:
        begun, end, gate = self.gate()
        self.assertTrue(self.queues.submit_if_idle('guest', gate))
        self.assertTrue(begun.wait(base.PATIENCE))
        self.assertFalse(self.queues.submit_if_idle('guest', self.job('refused')))
        self.assertTrue(self.queues.submit_if_idle('other', self.job('other')))
        self.queues.submit('guest', self.job('queued'))
        end.set()
        self.wait_done('queued', 'other')
        self.wait_for(lambda: self.queues.submit_if_idle('guest', self.job('again')), 'the queue is idle')
        self.wait_done('again')
        self.assertNotIn('refused', self.done)

    def test_not_idle_while_a_guest_is_waited_for(self) -> None:
        pending: futures.Future[None] = futures.Future()
        self.queues.submit('guest', lambda: pending)
        self.assertFalse(self.queues.submit_if_idle('guest', self.job('refused')))
        pending.set_result(None)
        self.wait_for(lambda: self.queues.submit_if_idle('guest', self.job('idle')), 'the queue is idle')


class CloseTestCase(GuestQueuesTestCase):
    def test_it_waits_for_what_runs_and_begins_nothing_more(self) -> None:
        begun, end, gate = self.gate()

        def job() -> None:
            gate()
            self.done.append('running')

        self.queues.submit('guest', job)
        self.queues.submit('guest', self.job('after'))
        self.assertTrue(begun.wait(base.PATIENCE))
        closing = threading.Thread(target=self.queues.close)
        closing.start()
        self.wait_for(lambda: not self.queues.submit_if_idle('probe', lambda: None), 'closing')
        end.set()
        closing.join(base.PATIENCE)
        self.assertFalse(closing.is_alive())
        self.assertEqual(['running'], self.done)

    def test_it_does_not_wait_for_a_guest(self) -> None:
        begun = threading.Event()
        pending: futures.Future[None] = futures.Future()

        def wait() -> futures.Future[None]:
            begun.set()
            return pending

        self.queues.submit('guest', wait)
        self.queues.submit('guest', self.job('after'))
        self.assertTrue(begun.wait(base.PATIENCE))
        self.queues.close()
        pending.set_result(None)
        self.assertEqual([], self.done)

    def test_what_comes_after_is_not_begun_and_raises_nothing(self) -> None:
        self.queues.close()
        self.queues.submit('guest', self.job('late'))
        self.queues.submit('guest', self.job('later'))
        self.assertFalse(self.queues.submit_if_idle('other', self.job('late')))
        self.queues.close()
        self.assertEqual([], self.done)


class CloseInTimeTestCase(GuestQueuesTestCase):
    def test_what_runs_is_waited_for(self) -> None:
        begun, end, gate = self.gate()
        self.queues.submit('guest', gate)
        self.assertTrue(begun.wait(base.PATIENCE))
        self.assertFalse(self.queues.close(0.01))
        end.set()
        self.assertTrue(self.queues.close(base.PATIENCE))

    def test_what_waits_for_its_guest_is_not(self) -> None:
        begun = threading.Event()

        def job() -> futures.Future[None]:
            begun.set()
            return futures.Future()

        self.queues.submit('guest', job)
        self.assertTrue(begun.wait(base.PATIENCE))
        self.assertTrue(self.queues.close(base.PATIENCE))


class StuckTestCase(GuestQueuesTestCase):
    """Jobs that hang, as calls to libvirt do when a guest's QEMU does not answer."""

    def setUp(self) -> None:
        super().setUp()
        self.queues = GuestQueues(2, stuck_after=0.05, most_stuck=4)
        self.addCleanup(self.queues.close)

    def hang(self, guest: str) -> threading.Event:
        """A job that hangs until its event is set."""
        begun, end, gate = self.gate()
        self.queues.submit(guest, gate)
        self.assertTrue(begun.wait(base.PATIENCE))
        return end

    def test_they_hold_up_no_other_guest(self) -> None:
        for number in range(4):
            self.hang(f'hung {number}')
        self.queues.submit('other', self.job('other'))
        self.wait_done('other')

    def test_for_as_long_as_they_may_be_slow_they_count(self) -> None:
        self.queues = GuestQueues(2, stuck_after=600)
        self.addCleanup(self.queues.close)
        ends = [self.hang(f'slow {number}') for number in range(2)]
        self.queues.submit('other', self.job('other'))
        time.sleep(0.1)
        self.assertEqual([], self.done)
        ends[0].set()
        self.wait_done('other')

    def test_one_guests_jobs_stay_in_order(self) -> None:
        end = self.hang('hung')
        self.queues.submit('hung', self.job('after'))
        self.queues.submit('other', self.job('other'))
        self.wait_done('other')
        time.sleep(0.1)
        self.assertEqual(['other'], self.done)
        self.assertIsNone(self.queues.submit_if_idle('hung', self.job('refused')))
        end.set()
        self.wait_done('after')
        self.assertNotIn('refused', self.done)

    def test_there_is_an_end_to_how_many_take_their_place(self) -> None:
        ends = [self.hang(f'hung {number}') for number in range(6)]
        self.queues.submit('other', self.job('other'))
        time.sleep(0.2)
        self.assertEqual([], self.done)
        ends[3].set()
        self.wait_done('other')

    def test_threads_that_are_too_many_afterwards_end(self) -> None:
        before = threading.active_count()
        for end in [self.hang(f'hung {number}') for number in range(6)]:
            end.set()
        for number in range(20):
            self.queues.submit(f'other {number}', self.job(f'other {number}'))
        self.wait_done(*(f'other {number}' for number in range(20)))
        self.wait_for(lambda: threading.active_count() <= before + 3, 'the threads to end')

    def test_they_are_waited_for_in_time(self) -> None:
        end = self.hang('hung')
        self.assertFalse(self.queues.close(0.1))
        end.set()
        self.assertTrue(self.queues.close(base.PATIENCE))

    def test_they_keep_no_process_from_ending(self) -> None:
        self.hang('hung')
        threads = [thread for thread in threading.enumerate() if thread.name == 'operation']
        self.assertEqual([True] * len(threads), [thread.daemon for thread in threads])
        self.assertNotEqual([], threads)


class FutureTestCase(GuestQueuesTestCase):
    def test_it_is_resolved_when_the_job_was_done(self) -> None:
        begun, end, gate = self.gate()
        future = self.queues.submit_if_idle('guest', gate)
        assert future is not None
        self.assertTrue(begun.wait(base.PATIENCE))
        self.assertFalse(future.done())
        end.set()
        self.assertIsNone(future.result(base.PATIENCE))

    def test_it_is_cancelled_when_the_job_does_not_begin_any_more(self) -> None:
        for guest in ('one', 'other'):
            begun, _end, gate = self.gate()
            self.queues.submit(guest, gate)
            self.assertTrue(begun.wait(base.PATIENCE))
        future = self.queues.submit_if_idle('third', self.job('never'))
        assert future is not None
        self.assertFalse(self.queues.close(0.01))
        self.assertTrue(future.cancelled())
