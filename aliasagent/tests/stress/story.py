# SPDX-License-Identifier: Apache-2.0
"""What an operator sees of an agent while things happen to it: its metrics, its report on SIGUSR2, its log.

On real parts: a guest from before aliases gets one, a volume is attached, the guest does not let go of it when it is
detached, and the message broker goes away and comes back.
"""

import contextlib
import re
import signal
import types
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Self

from prometheus_client import parser

from aliasagent.context import RequestContext
from aliasagent.tests.contract import harness
from aliasagent.tests.stress import bench
from aliasagent.tests.stress import broker_loss
from sandbox import materials
from sandbox import processes
from sandbox import rabbitmq
from sandbox.agent import Options

#: The samples of a metrics page, by name and values of their labels; without the prefix that all of ours have.
Page = dict[tuple[str, tuple[str, ...]], float]

#: What the agent's log says before and after a report.
_REPORT = re.compile(
    r'Making a report because of SIGUSR2\n(.*?)^\S+ \S+ \d+ INFO [^\n]*The report is made',
    re.DOTALL | re.MULTILINE,
)


class Story:
    """An agent, a broker of its own, and a guest that runs; a context manager.

    :param timeout: seconds that the guest has to let go of a device, each time it is asked.
    :param attempts: how often it is asked.
    """

    def __init__(self, *, timeout: float, attempts: int) -> None:
        self.metrics_port = processes.free_port()
        self._options: Options = {
            'metrics': {'port': self.metrics_port},
            'unplug': {'timeout': timeout, 'attempts': attempts},
            'reconcile': {'interval': 10},
        }
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.broker: rabbitmq.RabbitMQ = stack.enter_context(broker_loss.own_broker())
            self.bench = stack.enter_context(
                bench.Bench(1, rabbit_url=self.broker.url, options=self._options, started=False)
            )
            self.guest = self.bench.guests[0]
            self.old_guest, self.old_volume = self.old_guest_comes()
            self.agent = self.bench.agent
            self.agent.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        # After a failure the bench keeps the log.
        self._stack.__exit__(kind, error, traceback)

    def old_guest_comes(self) -> tuple[str, str]:
        """Define a guest from before aliases; it, and the volume that its disk says it is."""
        instance, volume = str(uuid.uuid4()), str(uuid.uuid4())
        path = materials.make_disk(self.bench.directory / 'volumes' / f'volume-{volume}')
        disk = (
            f"<disk type='file' device='disk'><source file='{path}'/><target dev='vda' bus='virtio'/>"
            f'<serial>{volume}</serial></disk>'
        )
        self.bench.connection.defineXML(bench.definition(instance).replace('</devices>', f'{disk}</devices>'))
        return instance, volume

    def attach(self, guest: str | None = None) -> tuple[str, RequestContext]:
        """Attach a virtio disk, and wait until that is done; its volume, and the request."""
        ctxt = RequestContext()
        volume, connection = self.bench.new_volume()
        self.bench.api().attach_volume(ctxt, guest or self.guest, volume, connection, disk_bus='virtio')
        self.bench.wait_state(ctxt.operation_id, 'succeeded')
        return volume, ctxt

    def detach(self, volume: str, guest: str | None = None) -> RequestContext:
        """Have a volume detached, and wait until the guest was asked to let go of it."""
        ctxt = RequestContext()
        self.bench.api().detach_volume(ctxt, guest or self.guest, volume)
        self.bench.wait_state(ctxt.operation_id, 'running')
        return ctxt

    def page(self) -> Page:
        """What the metrics are now."""
        url = f'http://127.0.0.1:{self.metrics_port}/metrics'
        with urllib.request.urlopen(url, timeout=harness.SOON) as page:
            text = page.read().decode()
        return {
            (sample.name.removeprefix('aliasagent_'), tuple(sample.labels.values())): sample.value
            for family in parser.text_string_to_metric_families(text)
            for sample in family.samples
        }

    def wait_page(self, name: str, value: float, *labels: str, timeout: float = harness.SOON) -> Page:
        """Wait until a metric has a value.

        :raises PartFailed: it does not get it.
        """

        def has() -> Page | None:
            page = self.page()
            return page if page[name, labels] == value else None

        return processes.wait_until(has, timeout, f'{name} to be {value:g}')

    def reports(self) -> Iterator[str]:
        """The reports that the agent has made so far."""
        yield from _REPORT.findall(self.agent.said())

    def ask_report(self) -> str:
        """Have the agent make a report, and return it.

        :raises PartFailed: it makes none.
        """
        before = len(list(self.reports()))
        self.agent.signal(signal.SIGUSR2)
        return processes.wait_until(lambda: list(self.reports())[before:], harness.SOON, 'a report')[0]
