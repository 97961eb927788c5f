# SPDX-License-Identifier: Apache-2.0
"""One thread that cannot be started, or one guest that hangs, holds up no other guest."""

import contextlib
import threading

from aliasagent.operations.moves import Moves
from aliasagent.operations.queues import GuestQueues
from aliasagent.tests import base
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import domain_xml
from aliasagent.tests.functional.rig import RigCase
from aliasagent.virt import callers
from aliasagent.virt import deadlines


class IsolationTest(RigCase):
    def test_a_thread_that_cannot_be_started_costs_no_more_than_its_job(self) -> None:
        gone = threading.Event()
        queues, moves, guests, due = GuestQueues(4), Moves(1), callers.GuestCallers(), deadlines.Deadlines()
        self.addCleanup(queues.close)
        self.addCleanup(due.close)
        for submit in (
            lambda done: queues.submit('guest', done),
            moves.submit,
            lambda done: guests.submit('guest', done),
            lambda done: due.call_in(0.0, done),
        ):
            gone.clear()
            with base.no_thread_once(), contextlib.suppress(RuntimeError):
                submit(lambda: None)
            submit(gone.set)
            self.assertTrue(gone.wait(5.0), submit)

    def test_a_guest_that_hangs_holds_up_no_other_in_a_pass(self) -> None:
        hung, gate = self.side.new_guest(), threading.Event()
        self.assertTrue(self.side.fake.settle())
        self.reconciler.run()
        self.addCleanup(gate.set)

        def hang(instance: str, *_flags: object) -> None:
            if instance == hung:
                gate.wait(harness.SOON)

        self.side.fake.before['XMLDesc'] = hang
        others = [harness.new_id() for _ in range(40)]
        for number, guest in enumerate(others):
            disk = harness.disk_xml(self.side.new_file(), 'vdb', serial=harness.new_id())
            self.side.fake.load_guest(domain_xml(f'guest-{number}', guest, disk))
        threading.Thread(target=self.reconciler.run, daemon=True).start()
        self.wait_for(
            lambda: all(self.inside(guest).aliases(live=False) for guest in others), 'all others are reconciled'
        )
