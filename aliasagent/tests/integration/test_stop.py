# SPDX-License-Identifier: Apache-2.0
"""How the agent stops, and what it does when more comes than it can do."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import testtools

from aliasagent import exception
from aliasagent.client import rpc
from aliasagent.context import RequestContext
from aliasagent.tests.contract import harness
from aliasagent.tests.stress import bench
from aliasagent.tests.stress import load
from sandbox import processes
from sandbox.agent import Options


class StopTest(testtools.TestCase):
    def make(self, guests: int = 1, options: Options | None = None) -> bench.Bench:
        it = bench.Bench(guests, options=options)
        it.__enter__()
        self.addCleanup(it.__exit__, None)
        return it

    def cast(self, it: bench.Bench, action: str, guest: str, volume: str, **more: Any) -> str:
        """Cast, and return the operation's id."""
        ctxt = RequestContext()
        getattr(it.api(), action)(ctxt, guest, volume, **more)
        return ctxt.operation_id

    def attach(self, it: bench.Bench, guest: str, bus: str = 'scsi') -> tuple[str, str]:
        """Cast the attach of a new volume; the ids of the operation and the volume."""
        volume, connection = it.new_volume()
        return self.cast(it, 'attach_volume', guest, volume, connection_info=connection, disk_bus=bus), volume

    def wait_for_its_guest(self, it: bench.Bench, guest: str) -> str:
        """Begin a detach that its guest does not answer before it is reset; the operation's id."""
        attach, volume = self.attach(it, guest, 'virtio')
        it.wait_state(attach, 'succeeded')
        detach = self.cast(it, 'detach_volume', guest, volume)
        it.wait_state(detach, 'running')
        processes.wait_until(lambda: volume not in it.ids(guest).persistent, harness.SOON, 'the detach to wait')
        return detach

    def stop(self, it: bench.Bench, timeout: float = harness.SOON) -> float:
        """Have the agent end with exit code 0; the seconds it took."""
        begin = time.monotonic()
        it.agent.signal(signal.SIGTERM)
        self.assertEqual(0, it.agent.wait_end(timeout))
        return time.monotonic() - begin

    def assert_all_succeed(self, it: bench.Bench, ids: list[str]) -> list[dict[str, Any]]:
        found = [it.wait_state(id_, 'succeeded', 'failed') for id_ in ids]
        self.assertEqual([None] * len(ids), [operation['error'] for operation in found])
        return found

    def test_nothing_is_taken_in_after_the_signal_and_all_is_done_by_the_next_agent(self) -> None:
        it = self.make(2)
        it.wait_state(self.attach(it, it.guests[0])[0], 'succeeded')
        it.agent.signal(signal.SIGTERM)
        it.agent.wait_said('Stopping')
        ids = [self.attach(it, guest)[0] for _ in range(10) for guest in it.guests]
        self.assertEqual(0, it.agent.wait_end())
        # The listener may have been about to take one.
        self.assertLessEqual(len(ids) - 1, it.waiting(rpc.TOPIC))
        it.agent.start()
        self.assert_all_succeed(it, ids)
        for guest in it.guests:
            self.assertTrue(load.agrees(it, guest))

    def test_what_runs_ends_and_the_rest_is_in_the_journal(self) -> None:
        it = self.make(options={'operations': {'workers': 1}})
        with stopped(it):
            ids = [self.attach(it, it.guests[0])[0] for _ in range(5)]
            it.wait_state(ids[0], 'running')
            it.wait_state(ids[-1], 'accepted')
            it.agent.signal(signal.SIGTERM)
            it.agent.wait_said('Stopping')
            time.sleep(2)
        self.assertEqual(0, it.agent.wait_end())
        self.assertEqual([ids[0]], [id_ for id_ in ids if any(it.logged('Succeeded:', id_))])
        it.agent.start()
        found = self.assert_all_succeed(it, ids)
        self.assertEqual([1] * len(ids), [operation['attempts'] for operation in found])
        finished = [operation['finished_at'] for operation in found]
        self.assertEqual(sorted(finished), finished)

    def test_a_detach_that_waits_for_its_guest_does_not_hold_it_up_and_is_followed_to_its_end(self) -> None:
        it = self.make()
        (guest,) = it.guests
        detach = self.wait_for_its_guest(it, guest)
        self.assertLess(self.stop(it), 15)
        it.agent.start()
        it.wait_state(detach, 'running')
        it.domain(guest).reset()
        found = it.wait_state(detach, 'succeeded', 'failed')
        self.assertEqual((None, 2), (found['error'], found['attempts']))
        self.assertTrue(load.agrees(it, guest))

    def test_a_call_to_the_hypervisor_that_hangs_does_not_hold_it_up_for_longer_than_it_may(self) -> None:
        it = self.make(options={'DEFAULT': {'graceful_shutdown_timeout': 10}})
        (guest,) = it.guests
        with stopped(it):
            attach, _volume = self.attach(it, guest)
            it.wait_state(attach, 'running')
            self.assertLess(self.stop(it), 11)
        it.agent.start()
        self.assert_all_succeed(it, [attach])
        self.assertTrue(load.agrees(it, guest))

    def test_more_comes_than_may_wait(self) -> None:
        # The broker loses retry_policy with a listener that does not listen; what it held comes again.
        options: Options = {
            'operations': {'max_waiting': 5},
            'oslo_messaging_rabbit': {'heartbeat_timeout_threshold': 2},
        }
        it = self.make(3, options)
        busy, *others = it.guests
        detach = self.wait_for_its_guest(it, busy)
        waiting = [self.attach(it, busy)[0] for _ in range(4)]
        it.wait_state(waiting[-1], 'accepted')
        ids = [self.attach(it, guest)[0] for _ in range(15) for guest in others]
        ctxt = RequestContext()
        volume, connection = it.new_volume()
        request = {'instance_uuid': others[0], 'volume_id': volume, 'connection_info': connection, 'disk_bus': 'scsi'}
        for _ in range(2):
            error = self.assertRaises(exception.ServiceBusy, it.api().submit, ctxt, 'attach_volume', **request)
            self.assertIn('5 operations wait', str(error))
            time.sleep(4)
        self.assertLess(len(ids) / 2, it.waiting(rpc.TOPIC))
        self.assertEqual({None}, {found if found is None else found['state'] for found in map(it.operation, ids)})
        it.domain(busy).reset()
        self.assert_all_succeed(it, [detach, *waiting, *ids])
        it.api().submit(ctxt, 'attach_volume', **request)
        self.assert_all_succeed(it, [ctxt.operation_id])
        for guest in it.guests:
            done = [operation['id'] for operation in it.operations(guest)]
            sent = [id_ for id_ in (detach, *waiting, *ids, ctxt.operation_id) if id_ in done]
            self.assertEqual(sent, [id_ for id_ in done if id_ in sent])
            self.assertEqual({1}, {operation['attempts'] for operation in it.operations(guest)})
            self.assertTrue(load.agrees(it, guest))


@contextlib.contextmanager
def stopped(it: bench.Bench) -> Iterator[None]:
    """The hypervisor's daemon does nothing meanwhile, and keeps whoever calls it waiting."""
    pid = it.daemon.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
