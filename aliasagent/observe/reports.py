# SPDX-License-Identifier: Apache-2.0
"""Reports of the agent's current work on a signal, made with oslo.reports and sections of this project.

A signal interrupts the main thread at any point, with any lock held. So its handler only sets a request in a queue, and
a separate thread makes the report. The sections read memory only, and never the disk, the hypervisor or the broker,
which may be the cause of a problem.
"""

import datetime
import logging
import os
import queue
import signal
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import ClassVar

from oslo_config import cfg
from oslo_reports import guru_meditation_report
from oslo_reports import opts
from oslo_reports.models import with_default_views

from aliasagent import version
from aliasagent.observe.metrics import Components
from aliasagent.operations.model import Operation
from aliasagent.reconcile.passes import GuestStatus
from aliasagent.trouble import Trouble
from aliasagent.virt.leaving import Unplug

LOG = logging.getLogger(__name__)

NAME = 'aliasagent-compute'

#: The content of a section.
Content = Mapping[str, Any]
#: The title of a section, and a function that returns its content.
Section = tuple[str, Callable[[], Content]]


class _Package:
    """The package as oslo.reports needs it."""

    def vendor_string(self) -> str:
        return 'aliasagent'

    def product_string(self) -> str:
        return NAME

    def version_string_with_package(self) -> str:
        return version.version()


class Reports:
    """Makes a report on SIGUSR2, or on a change of the file that ``[oslo_reports] file_event_handler`` names.

    Writes the report to standard error, or into a new file in ``[oslo_reports] log_dir``.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        opts.set_defaults(conf)
        self._conf = conf
        #: True for a report, False to end the thread.
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

        class Report(guru_meditation_report.TextGuruMeditation):
            """A report with its own sections: oslo.reports keeps the sections in the class."""

            persistent_sections: ClassVar[list[Section]] = []

        self._report = Report

    def add(self, sections: Iterable[Section]) -> None:
        """Add sections to the report."""
        for title, content in sections:
            self._report.register_section(title, _section(content))

    def start(self) -> None:
        """Start making reports. Call this in the main thread.

        :raises OSError: the file that the option ``file_event_handler`` names cannot be watched.
        """
        # Not with the thread of oslo.reports: it cannot be stopped, and it ends if the file is missing for a moment.
        watched = None
        if path := self._conf.oslo_reports.file_event_handler:
            watched = _Watched(path)
        self._thread = threading.Thread(target=self._run, args=(watched,), name='reports', daemon=True)
        self._thread.start()
        # Also if a file is watched instead: without a handler the signal would end the agent.
        signal.signal(signal.SIGUSR2, self._on_signal)

    def close(self) -> None:
        """Stop making reports, after a report in progress is finished."""
        if self._thread is not None:
            self._asked.put(False)
            self._thread.join()
            self._thread = None

    def make(self) -> None:
        """Make a report now."""
        self._report.handle_signal(_Package(), NAME, self._conf.oslo_reports.log_dir, None)

    def _on_signal(self, _signal: int, _frame: object) -> None:
        # NOTE: SimpleQueue.put() is reentrant, so that a signal handler may call it.
        self._asked.put(True)

    def _run(self, watched: '_Watched | None') -> None:
        interval = None if watched is None else max(1, self._conf.oslo_reports.file_event_handler_interval)
        while True:
            try:
                if not self._asked.get(timeout=interval):
                    return
            except queue.Empty:
                if watched is None or not watched.has_changed():
                    continue
                LOG.info('Making a report because %s has changed', watched.path)
            else:
                if watched is not None:
                    LOG.warning('No report on SIGUSR2: [oslo_reports] file_event_handler is set')
                    continue
                LOG.info('Making a report because of SIGUSR2')
            try:
                self.make()
            except Exception:
                # The next report must still work.
                LOG.exception('The report could not be made')
            else:
                LOG.info('The report is made')


class _Watched:
    """A file whose change triggers a report.

    :raises OSError: the file cannot be watched.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._changed_at = os.stat(path).st_mtime
        self._trouble = Trouble()

    def has_changed(self) -> bool:
        """Return whether the file has changed since the last call."""
        try:
            changed_at = os.stat(self.path).st_mtime
        except OSError as error:
            if self._trouble.is_new(error):
                LOG.warning('No report is made until %s can be read again: %s', self.path, error)
            return False
        self._trouble.is_over()
        before, self._changed_at = self._changed_at, changed_at
        return changed_at > before


def sections(parts: Components) -> list[Section]:
    """Return the sections about the agent's work."""
    return [
        ('Operations under way', lambda: _operations(parts)),
        ('Pending unplugs', lambda: {unplug.alias: _unplug(unplug) for unplug in parts.unplugs.under_way()}),
        ('Connections', lambda: _connections(parts)),
        ('Reconcile status', lambda: _reconcile(parts)),
    ]


def _operations(parts: Components) -> Content:
    return {
        it.operation.id: _operation(it.operation) | {'state': it.state.value, 'since': _time(it.since)}
        for it in parts.runner.under_way()
    }


def _operation(operation: Operation) -> dict[str, Any]:
    # Without the arguments, which may hold secrets.
    return {
        'action': operation.action.value,
        'device': operation.device or '-',
        'instance': operation.instance,
        'request_id': operation.request_id or '-',
    }


def _unplug(unplug: Unplug) -> Content:
    return {
        'attempts': f'{unplug.attempts} of {unplug.retry_policy.attempts}, of {unplug.retry_policy.timeout:g} s each',
        'instance': unplug.instance,
        'request_id': getattr(unplug.context, 'request_id', '-'),
        'since': _time(unplug.since),
    }


def _connections(parts: Components) -> Content:
    return {
        'hypervisor': f'{parts.host.uri}: {"connected" if parts.host.is_connected else "not connected"}',
        'message broker': 'connected' if parts.is_broker_connected() else 'not connected',
        'requests': 'waiting at the broker' if parts.intake.is_blocked else 'accepted',
    }


def _reconcile(parts: Components) -> Content:
    return {instance: _status(status) for instance, status in parts.reconciler.statuses().items()}


def _status(status: GuestStatus) -> Content:
    return {
        'name': status.name,
        'with alias': status.report.aliased,
        'without': status.report.remaining,
        'not live yet': ', '.join(status.report.pending) or '-',
        'error': status.error or '-',
    }


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec='milliseconds')


def _section(content: Callable[[], Content]) -> Callable[[], Any]:
    """Return a section as oslo.reports needs it; its errors become its content, so that the report is made anyway."""

    def make() -> Any:
        try:
            found: Content = content() or {'none': '-'}
        except Exception as error:
            LOG.exception('A section of the report could not be made')
            found = {'not available': f'{type(error).__name__}: {error}'}
        return with_default_views.ModelWithDefaultViews(dict(found))

    return make
