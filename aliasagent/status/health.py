# SPDX-License-Identifier: Apache-2.0
"""Checks whether the agent of this host is healthy, for operators and for the probe of a container."""

import dataclasses
import datetime
from collections.abc import Callable

import oslo_messaging
from oslo_config import cfg

from aliasagent import bounded
from aliasagent import exception
from aliasagent.client import rpc
from aliasagent.client import rpcapi
from aliasagent.context import RequestContext
from aliasagent.operations.model import State
from aliasagent.status import broker
from aliasagent.status import hypervisor
from aliasagent.virt import host


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of one check."""

    what: str
    #: Why it is not healthy; empty if it is healthy.
    trouble: str = ''

    @property
    def is_healthy(self) -> bool:
        return not self.trouble


class Health:
    """Checks the agent from outside.

    :param timeout: seconds to wait for the hypervisor, for each broker, and for the agent.
    :param oldest: seconds that an operation may wait before it starts.
    """

    def __init__(
        self, conf: cfg.ConfigOpts, *, timeout: float, oldest: float, opener: host.Opener = host.open_libvirt
    ) -> None:
        self._conf = conf
        self._timeout = timeout
        self._oldest = oldest
        self._opener = opener

    def check(self) -> list[Finding]:
        """Run all checks. A component that cannot be checked is not healthy."""
        found = [
            self._try('hypervisor', self._hypervisor),
            self._try('broker', self._broker),
        ]
        if found[-1].is_healthy:
            # The same call for both: any answer shows that the agent is up.
            found.append(self._try('agent', self._agent))
            found.append(
                self._try('queue', self._queue)
                if found[-1].is_healthy
                else Finding('queue', 'not checked: the agent does not answer')
            )
        else:
            found += [Finding(what, 'not checked: the message broker cannot be used') for what in ('agent', 'queue')]
        return found

    def _try(self, what: str, check: Callable[[], str]) -> Finding:
        try:
            return Finding(what, check())
        except (
            exception.AliasAgentError,
            bounded.TimedOut,
            broker.BrokerError,
            oslo_messaging.MessagingException,
            oslo_messaging.MessageUndeliverable,
        ) as error:
            return Finding(what, _words(error))

    def _hypervisor(self) -> str:
        hypervisor.ask(self._conf.libvirt.uri, lambda connected: connected.version(), self._timeout, self._opener)
        return ''

    def _broker(self) -> str:
        asked = broker.Broker(self._conf, self._timeout)
        if asked.is_rabbit:
            # Other brokers of a cluster may be down: the agent needs one.
            asked.unreachable()
        return ''

    def _agent(self) -> str:
        self._waiting_since(datetime.datetime.fromtimestamp(0, datetime.UTC))
        return ''

    def _queue(self) -> str:
        before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=self._oldest)
        waiting = self._waiting_since(before)
        if waiting is None:
            return ''
        return f'operation {waiting} was accepted more than {self._oldest:g} s ago, and has not started'

    def _waiting_since(self, before: datetime.datetime) -> str | None:
        """Return the id of an operation that was accepted before a time and has not started, or None."""

        def ask() -> str | None:
            transport = rpc.transport(self._conf)
            try:
                api = rpcapi.ComputeAPI(transport, self._conf.host, timeout=max(1, round(self._timeout)))
                found = api.list_operations(
                    RequestContext(), states=[State.ACCEPTED.value], until=before.isoformat(), limit=1
                )
            finally:
                transport.cleanup()
            return str(found[0]['id']) if found else None

        return bounded.call(ask, self._timeout + 1)


def _words(error: Exception) -> str:
    if isinstance(error, oslo_messaging.MessageUndeliverable):
        return 'no agent listens under this name'
    return str(error) or type(error).__name__
