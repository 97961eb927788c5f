# SPDX-License-Identifier: Apache-2.0
"""The QEMU of more guests hangs than libvirtd answers calls of one connection: the others are served."""

import contextlib
import os
import signal
import time
from concurrent import futures
from typing import ClassVar

import testtools.matchers

from aliasagent import exception
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base
from aliasagent.virt.leaving import RetryPolicy
from sandbox import libvirtd

#: libvirtd works on five calls of one connection.
_HANGING = 6


class HangingTest(base.OnLibvirt):
    daemon: ClassVar[libvirtd.Libvirtd]

    @classmethod
    def make_side(cls) -> base.RealSide:
        cls.daemon = base.own_daemon(cls)
        return base.RealSide(cls.daemon.uri)

    def signal(self, number: signal.Signals, guests: list[str]) -> None:
        for guest in guests:
            name = self.side.connection.lookupByUUIDString(guest).name()
            process = int((self.daemon.directory / 'run' / 'qemu' / f'{name}.pid').read_text())
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def test_guests_beside_those_whose_qemu_hangs(self) -> None:
        self.retry_policy = RetryPolicy(timeout=1.5, attempts=3)
        # Paused: they take no processor, and release a SCSI disk all the same.
        *stuck, other = [self.side.new_guest(state='paused') for _ in range(_HANGING + 1)]
        volumes = {guest: self.attach(guest) for guest in stuck}
        self.signal(signal.SIGSTOP, stuck)
        self.addCleanup(self.signal, signal.SIGCONT, stuck)
        with futures.ThreadPoolExecutor(_HANGING) as pool:
            detaches = [pool.submit(self.detach, *which) for which in volumes.items()]
            time.sleep(1)
            begun = time.monotonic()
            self.detach(other, self.attach(other))
            took = time.monotonic() - begun
            self.assert_on_both(other)
            for detach in detaches:
                self.assertFalse(detach.done())
        self.assertLess(took, 4)
        for detach in detaches:
            error = detach.exception()
            self.assertIs(exception.DetachTimeout, type(error), str(error))
            self.assertIn('gone from the persistent config; libvirt does not answer about this guest', str(error))
        # libvirt 11.3 waits for 30 s before it reads the definition of a guest whose QEMU hangs.
        with futures.ThreadPoolExecutor(_HANGING) as pool:
            for volume, found in zip(volumes.values(), pool.map(self.ids, volumes), strict=True):
                self.assertEqual(({volume}, set()), found)
        self.signal(signal.SIGCONT, stuck)
        deadline = time.monotonic() + harness.SOON
        while len(self.late) < _HANGING:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.assertThat(self.late, testtools.matchers.MatchesSetwise(*map(testtools.matchers.Equals, volumes.items())))

    def test_a_stop_while_it_hangs(self) -> None:
        guest = self.side.new_guest(state='paused')
        volume = self.attach(guest)
        self.signal(signal.SIGSTOP, [guest])
        self.addCleanup(self.signal, signal.SIGCONT, [guest])
        pending = self.driver.detach(guest, volume)
        begun = time.monotonic()
        self.unplugs.close()
        self.host.close()
        self.assertLess(time.monotonic() - begun, 5)
        self.assertFalse(pending.done())
