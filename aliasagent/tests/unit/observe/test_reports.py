# SPDX-License-Identifier: Apache-2.0
"""What a report says, and that a signal gets one."""

import contextlib
import io
import os
import pathlib
import signal
import threading
import time
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

from aliasagent import conf
from aliasagent.client import rpc
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.observe import reports
from aliasagent.operations.model import State
from aliasagent.operations.runner import UnderWay
from aliasagent.reconcile import apply
from aliasagent.reconcile import passes
from aliasagent.tests import base
from aliasagent.tests.unit.operations.runner_base import operation
from aliasagent.virt.leaving import RetryPolicy
from aliasagent.virt.leaving import Unplug

SECRET = 'rabbit://agent:hunter2@192.0.2.1:5672/'


def _line(content: dict[str, str]) -> str:
    """As a section shows it: a report shows the source of what runs, too."""
    ((name, value),) = content.items()
    return f'{name} = {value}'


class ReportsTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        rpc.transport(conf.CONF).cleanup()  # makes its options known
        conf.CONF.set_override('transport_url', SECRET)
        self.addCleanup(conf.CONF.clear_override, 'transport_url')
        self.reports = reports.Reports(conf.CONF)
        self.addCleanup(self.reports.close)
        before = signal.getsignal(signal.SIGUSR2)
        self.addCleanup(signal.signal, signal.SIGUSR2, before)
        self.written = io.StringIO()

    @contextlib.contextmanager
    def error_taken(self) -> Iterator[None]:
        with contextlib.redirect_stderr(self.written):
            yield

    def made(self) -> str:
        with self.error_taken():
            self.reports.make()
        return self.written.getvalue()

    def set_option(self, name: str, value: str) -> None:
        conf.CONF.set_override(name, value, 'oslo_reports')
        self.addCleanup(conf.CONF.clear_override, name, 'oslo_reports')

    def test_what_it_says(self) -> None:
        waits, runs = operation('one'), operation('two')
        found = DeviceFingerprint(run='boot/1', alias='ua-disk')
        unplug = Unplug('guest-1', 'disk', found, RetryPolicy(20.0, 8), attempts=3, since=0.0)
        parts: Any = types.SimpleNamespace(
            host=types.SimpleNamespace(uri='test:///default', is_connected=False),
            unplugs=types.SimpleNamespace(under_way=lambda: [unplug]),
            reconciler=types.SimpleNamespace(
                statuses=lambda: {'guest-1': passes.GuestStatus('one', apply.Report(), 'unread')}
            ),
            runner=types.SimpleNamespace(
                under_way=lambda: [UnderWay(waits, State.ACCEPTED, 0.0), UnderWay(runs, State.RUNNING, 1.5)]
            ),
            intake=types.SimpleNamespace(is_blocked=True),
            is_broker_connected=lambda: True,
        )
        self.reports.add(reports.sections(parts))
        text = self.made()
        for words in (
            f'{waits.id} = \n  action = {waits.action}\n  device = {waits.device or "-"}\n'
            f'  instance = {waits.instance}\n',
            '  since = 1970-01-01T00:00:00.000+00:00\n  state = accepted\n',
            '  since = 1970-01-01T00:00:01.500+00:00\n  state = running\n',
            'ua-disk = \n  attempts = 3 of 8, of 20 s each\n  instance = guest-1\n',
            'hypervisor = test:///default: not connected\n',
            'message broker = connected\n',
            'requests = waiting at the broker\n',
            'guest-1 = \n  error = unread\n  name = one\n',
            'transport_url = ***',
            'product = aliasagent-compute',
        ):
            self.assertIn(words, text)
        self.assertNotIn('hunter2', text)

    def test_a_section_that_cannot_be_told_leaves_the_others(self) -> None:
        def fail() -> reports.Content:
            raise ValueError('it is broken')

        self.reports.add([('Broken', fail), ('Whole', lambda: {'here': 'it is'}), ('Nothing', dict)])
        text = self.made()
        for words in ('not available = ValueError: it is broken', 'here = it is', 'none = -'):
            self.assertIn(words, text)

    def test_each_agent_has_its_own(self) -> None:
        content = {'whose': "another's"}
        reports.Reports(conf.CONF).add([('Section', lambda: content)])
        self.assertNotIn(_line(content), self.made())
        self.reports.add([('Section', lambda: content)])
        self.assertIn(_line(content), self.made())

    def test_into_a_directory(self) -> None:
        directory = pathlib.Path(self.make_directory())
        self.set_option('log_dir', str(directory))
        self.assertEqual('', self.made())
        (path,) = directory.iterdir()
        self.assertTrue(path.name.startswith('aliasagent-compute_gurumeditation_'), path.name)
        self.assertIn('Guru Meditation', path.read_text())

    def test_a_signal_that_interrupts_who_holds_what_the_report_needs(self) -> None:
        """A handler that made the report there and then would wait for ever for the thread that it interrupts."""
        lock, told = threading.Lock(), threading.Event()

        def content() -> reports.Content:
            with lock:
                told.set()
            return {}

        self.reports.add([('Locked', content)])
        with self.error_taken():
            self.reports.start()
            with lock:
                os.kill(os.getpid(), signal.SIGUSR2)
                # the handler has run when the main thread gets on
                self.assertFalse(told.wait(0.2))
            self.assertTrue(told.wait(base.PATIENCE))
            self.wait_written('none = -')

    def test_signals_that_come_while_a_report_is_made(self) -> None:
        gate, made = threading.Event(), []

        def content() -> reports.Content:
            gate.wait(base.PATIENCE)
            made.append(time.monotonic())
            return {'number': len(made)}

        self.reports.add([('Slow', content)])
        with self.error_taken():
            self.reports.start()
            for _time in range(3):
                os.kill(os.getpid(), signal.SIGUSR2)
            gate.set()
            self.wait_written('number = 3')

    def test_a_file_that_is_watched_instead(self) -> None:
        path = pathlib.Path(self.make_directory()) / 'report'
        path.touch()
        self.set_option('file_event_handler', str(path))
        with self.error_taken():
            self.reports.start()
            os.kill(os.getpid(), signal.SIGUSR2)
            self.wait_for(lambda: 'No report on SIGUSR2' in self.log.output, 'that the signal is refused')
            self.assertEqual('', self.written.getvalue())
            os.utime(path, (time.time() + 60, time.time() + 60))
            self.wait_written('Guru Meditation')

    def test_a_watched_file_that_is_gone_for_a_while(self) -> None:
        """Nothing is written to standard error, and a report is made when the file is back (issue 13, number 27)."""
        path = pathlib.Path(self.make_directory()) / 'report'
        path.touch()
        self.set_option('file_event_handler', str(path))
        with self.error_taken():
            self.reports.start()
            path.unlink()
            self.wait_for(lambda: f'No report is made until {path} can be read' in self.log.output, 'that it is gone')
            path.touch()
            os.utime(path, (time.time() + 60, time.time() + 60))
            self.wait_written('Guru Meditation')
        self.assertNotIn('Traceback (most recent', self.written.getvalue())

    def test_a_report_that_cannot_be_made(self) -> None:
        with mock.patch.object(self.reports, 'make', side_effect=OSError('full'), autospec=True):
            self.reports.start()
            os.kill(os.getpid(), signal.SIGUSR2)
            self.wait_for(lambda: 'The report could not be made' in self.log.output, 'that it failed')
        with self.error_taken():
            os.kill(os.getpid(), signal.SIGUSR2)
            self.wait_written('Guru Meditation')

    def test_it_can_be_closed(self) -> None:
        self.reports.start()
        self.reports.close()
        self.assertNotIn('reports', [thread.name for thread in threading.enumerate()])

    def test_a_file_that_is_not_there(self) -> None:
        self.set_option('file_event_handler', '/nowhere/at/all')
        self.assertRaises(OSError, self.reports.start)

    def wait_written(self, words: str) -> None:
        self.wait_for(lambda: words in self.written.getvalue(), words)
