# SPDX-License-Identifier: Apache-2.0
"""What the agent tells a Prometheus of its work. Numbers only: no id of a guest, a device or an operation.

What happens is counted when it happens; what is, is asked for when somebody looks.
"""

import dataclasses
import logging
import time
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import prometheus_client
from prometheus_client import core
from prometheus_client import registry

from aliasagent import version
from aliasagent.actions import Action
from aliasagent.operations.intake import Intake
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.operations.runner import Runner
from aliasagent.reconcile.passes import Reconciler
from aliasagent.reconcile.plan import Outcome
from aliasagent.virt.host import Host
from aliasagent.virt.unplug import Unplugs

LOG = logging.getLogger(__name__)

#: The upper bounds of the durations that are told apart, in seconds: a hot-plug takes a moment, and a guest that does
#: not let go of a device is asked for minutes.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)


@dataclasses.dataclass(frozen=True)
class Components:
    """Who can be asked."""

    host: Host
    unplugs: Unplugs
    reconciler: Reconciler
    runner: Runner
    intake: Intake
    #: Whether the message broker is reached.
    is_broker_connected: Callable[[], bool]


class Metrics:
    """The agent's metrics, each in a registry of its own."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self._server: Any = None
        self._operations = prometheus_client.Counter(
            'aliasagent_operations',
            'Operations that have ended, by what was asked and what became of it.',
            ['action', 'outcome'],
            registry=self.registry,
        )
        self._durations = prometheus_client.Histogram(
            'aliasagent_operation_duration_seconds',
            'How long the work on an operation took, from its begin to its end.',
            ['action'],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._retries = prometheus_client.Counter(
            'aliasagent_unplug_retries',
            'How often a guest was asked once more to release a device.',
            registry=self.registry,
        )
        self._timeouts = prometheus_client.Counter(
            'aliasagent_unplug_timeouts',
            'Devices that a guest did not release within all its attempts.',
            registry=self.registry,
        )
        self._last_pass = prometheus_client.Gauge(
            'aliasagent_reconcile_last_success_timestamp_seconds',
            'When all guests were last looked at; 0 if they were not since the start.',
            registry=self.registry,
        )
        prometheus_client.Info('aliasagent_build', 'The release.', registry=self.registry).info(
            {'version': version.version()}
        )
        prometheus_client.ProcessCollector(registry=self.registry)
        # A rate needs the zero that it begins with.
        for action in Action:
            self._durations.labels(action)
            for outcome in (State.SUCCEEDED, State.FAILED):
                self._operations.labels(action, outcome)

    def watch(self, parts: Components) -> None:
        """Ask these how they are whenever somebody looks."""
        self.registry.register(_Present(parts))

    def serve(self, address: str, port: int) -> None:
        """Let the metrics be read over HTTP.

        :raises OSError: the address or the port cannot be used.
        """
        self._server, _thread = prometheus_client.start_http_server(port, address, self.registry)
        LOG.info('The metrics are at http://%s:%d/metrics', address, self._server.server_port)

    @property
    def port(self) -> int:
        """Where they can be read; 0 if nowhere."""
        return 0 if self._server is None else int(self._server.server_port)

    def close(self) -> None:
        """Let them be read no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def finished(self, operation: Operation, error: BaseException | None, seconds: float | None) -> None:
        """An operation has ended; as :data:`aliasagent.operations.runner.Observer`."""
        self._operations.labels(operation.action, State.SUCCEEDED if error is None else State.FAILED).inc()
        if seconds is not None:
            self._durations.labels(operation.action).observe(seconds)

    def unplug_retried(self) -> None:
        self._retries.inc()

    def unplug_timed_out(self) -> None:
        self._timeouts.inc()

    def passed(self) -> None:
        """All guests were looked at."""
        self._last_pass.set(time.time())


class _Present(registry.Collector):
    """What is so at the moment."""

    def __init__(self, parts: Components) -> None:
        self._parts = parts

    def collect(self) -> Iterable[core.Metric]:
        parts = self._parts
        yield _gauge('operations_waiting', 'Operations that are taken in and not begun.', parts.runner.waiting)
        yield _gauge('operations_running', 'Operations that are begun and not ended.', parts.runner.running)
        yield _gauge(
            'requests_held',
            'Whether requests are left with the message broker (1), for want of room or because the journal cannot be '
            'written, or taken in (0).',
            int(parts.intake.is_held),
        )
        yield _gauge('unplugs_pending', 'Devices that a guest was asked to release.', parts.unplugs.pending)
        yield _gauge(
            'hypervisor_connected', 'Whether the hypervisor is reached (1) or not (0).', int(parts.host.is_connected)
        )
        yield _gauge(
            'broker_connected',
            'Whether the connections stand (1) on which requests come from the message broker, or not (0).',
            int(parts.is_broker_connected()),
        )
        looks = parts.reconciler.statuses().values()
        guests = core.GaugeMetricFamily(
            'aliasagent_reconcile_guests', 'Guests, by whether they could be looked at last time.', labels=['state']
        )
        unread = sum(1 for look in looks if look.error)
        guests.add_metric(['read'], len(looks) - unread)
        guests.add_metric(['unread'], unread)
        yield guests
        devices = core.GaugeMetricFamily(
            'aliasagent_reconcile_devices', 'Devices, by what was found of their alias.', labels=['outcome']
        )
        for outcome in Outcome:
            devices.add_metric([outcome.name.lower()], sum(look.report.count(outcome) for look in looks))
        yield devices
        yield _gauge(
            'reconcile_pending_devices',
            "Devices that have their alias with their guest's next start only.",
            sum(len(look.report.pending) for look in looks),
        )


def _gauge(name: str, words: str, value: int) -> core.Metric:
    return core.GaugeMetricFamily(f'aliasagent_{name}', words, value=value)
