# SPDX-License-Identifier: Apache-2.0
"""The metrics of the agent for Prometheus. Numbers only: no id of a guest, a device or an operation.

Events are counted when they happen; the current state is read whenever Prometheus scrapes.
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
from aliasagent.conf import openstack
from aliasagent.operations.connecting import Connecting
from aliasagent.operations.intake import Intake
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.operations.runner import Runner
from aliasagent.reconcile.passes import Reconciler
from aliasagent.reconcile.plan import Outcome
from aliasagent.virt.host import Host
from aliasagent.virt.unplug import Unplugs

LOG = logging.getLogger(__name__)

#: The upper bounds of the histogram, in seconds: a hot-plug takes milliseconds, an unplug in progress may take minutes.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)

#: The outcomes of a request to a service of the cloud.
_ANSWERED, _FAILED = 'answered', 'failed'


@dataclasses.dataclass(frozen=True)
class Components:
    """The components of the agent whose state metrics and reports read."""

    host: Host
    unplugs: Unplugs
    reconciler: Reconciler
    runner: Runner
    intake: Intake
    connecting: Connecting
    #: Returns whether the connections to the message broker are up.
    is_broker_connected: Callable[[], bool]


class Metrics:
    """The metrics of one agent, in their own registry."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self._server: Any = None
        self._operations = prometheus_client.Counter(
            'aliasagent_operations',
            'Finished operations, by action and outcome.',
            ['action', 'outcome'],
            registry=self.registry,
        )
        self._durations = prometheus_client.Histogram(
            'aliasagent_operation_duration_seconds',
            'Duration of operations from start to end, in seconds.',
            ['action'],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._retries = prometheus_client.Counter(
            'aliasagent_unplug_retries',
            'Repeated requests to a guest to release a device.',
            registry=self.registry,
        )
        self._timeouts = prometheus_client.Counter(
            'aliasagent_unplug_timeouts',
            'Devices that a guest did not release within all attempts.',
            registry=self.registry,
        )
        self._last_reconcile = prometheus_client.Gauge(
            'aliasagent_reconcile_last_success_timestamp_seconds',
            'End of the last reconcile run over all guests, as a Unix time; 0 if there was none since the start.',
            registry=self.registry,
        )
        self._questions = prometheus_client.Counter(
            'aliasagent_cloud_requests',
            'Requests to Nova and Neutron, by service and outcome.',
            ['service', 'outcome'],
            registry=self.registry,
        )
        prometheus_client.Info('aliasagent_build', 'The release.', registry=self.registry).info(
            {'version': version.version()}
        )
        prometheus_client.ProcessCollector(registry=self.registry)
        # rate() needs each series to start from zero.
        for action in Action:
            self._durations.labels(action)
            for outcome in (State.SUCCEEDED, State.FAILED):
                self._operations.labels(action, outcome)
        for service in openstack.SERVICES:
            for result in (_ANSWERED, _FAILED):
                self._questions.labels(service, result)

    def watch(self, parts: Components) -> None:
        """Read the state of these components at each scrape."""
        self.registry.register(_Present(parts))

    def serve(self, address: str, port: int) -> None:
        """Serve the metrics over HTTP.

        :raises OSError: the address or the port cannot be used.
        """
        self._server, _thread = prometheus_client.start_http_server(port, address, self.registry)
        LOG.info('The metrics are at http://%s:%d/metrics', address, self._server.server_port)

    @property
    def port(self) -> int:
        """The port of the metrics; 0 if they are not served."""
        return 0 if self._server is None else int(self._server.server_port)

    def close(self) -> None:
        """Stop serving the metrics."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def finished(self, operation: Operation, error: BaseException | None, seconds: float | None) -> None:
        """Count a finished operation. Is an :data:`aliasagent.operations.runner.Observer`."""
        self._operations.labels(operation.action, State.SUCCEEDED if error is None else State.FAILED).inc()
        if seconds is not None:
            self._durations.labels(operation.action).observe(seconds)

    def unplug_retried(self) -> None:
        self._retries.inc()

    def unplug_timed_out(self) -> None:
        self._timeouts.inc()

    def asked(self, service: str, answered: bool) -> None:
        """Count a request to a service of the cloud."""
        self._questions.labels(service, _ANSWERED if answered else _FAILED).inc()

    def reconciled(self) -> None:
        """Record the end of a reconcile run over all guests."""
        self._last_reconcile.set(time.time())


class _Present(registry.Collector):
    """Collects metrics of the current state."""

    def __init__(self, parts: Components) -> None:
        self._parts = parts

    def collect(self) -> Iterable[core.Metric]:
        parts = self._parts
        yield _gauge('operations_waiting', 'Accepted operations that have not started.', parts.runner.waiting)
        yield _gauge('operations_running', 'Started operations that have not finished.', parts.runner.running)
        yield _gauge(
            'requests_held',
            'Whether requests wait unacknowledged at the message broker (1), because too many operations wait or the '
            'journal cannot be written; or are accepted (0).',
            int(parts.intake.is_blocked),
        )
        yield _gauge('unplugs_pending', 'Devices whose unplug is in progress.', parts.unplugs.pending)
        yield _gauge(
            'hypervisor_connected', 'Whether the hypervisor is connected (1) or not (0).', int(parts.host.is_connected)
        )
        yield _gauge(
            'broker_connected',
            'Whether all connections on which the message broker delivers requests are up (1) or not (0).',
            int(parts.is_broker_connected()),
        )
        looks = parts.reconciler.statuses().values()
        guests = core.GaugeMetricFamily(
            'aliasagent_reconcile_guests', 'Guests, by whether the agent could read them last.', labels=['state']
        )
        unread = sum(1 for look in looks if look.error)
        guests.add_metric(['read'], len(looks) - unread)
        guests.add_metric(['unread'], unread)
        yield guests
        devices = core.GaugeMetricFamily(
            'aliasagent_reconcile_devices', 'Devices, by the outcome of their last reconcile.', labels=['outcome']
        )
        for outcome in Outcome:
            devices.add_metric([outcome.name.lower()], sum(look.report.count(outcome) for look in looks))
        yield devices
        yield _gauge(
            'reconcile_pending_devices',
            "Devices whose alias takes effect at the guest's next start.",
            sum(len(look.report.pending) for look in looks),
        )
        connections = core.GaugeMetricFamily(
            'aliasagent_connections',
            'Volumes of Cinder and ports of Neutron that the agent has connected, by stage.',
            labels=['kind', 'stage'],
        )
        for (kind, stage), count in sorted(parts.connecting.counts().items()):
            connections.add_metric([kind, stage], count)
        yield connections


def _gauge(name: str, text: str, value: int) -> core.Metric:
    return core.GaugeMetricFamily(f'aliasagent_{name}', text, value=value)
