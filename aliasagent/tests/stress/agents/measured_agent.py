# SPDX-License-Identifier: Apache-2.0
"""The agent, which notes when each cast came, when the journal had it, and when the broker was told. For tests only.

``python -m aliasagent.tests.stress.agents.measured_agent`` takes the arguments of the agent. It adds to the file that
the environment variable ``ALIASAGENT_TEST_TIMES`` names; :func:`read` reads it. With ``ALIASAGENT_TEST_EARLY`` set, the
broker is told as oslo.messaging by itself does it: as soon as a message comes.
"""

import dataclasses
import functools
import os
import pathlib
import sys
import time
from typing import Any

from oslo_service import backend

# NOTE: before anything imports oslo.messaging, which would choose the eventlet backend.
backend.init_backend(backend.BackendType.THREADING)

from oslo_messaging._drivers import impl_rabbit  # noqa: E402
from oslo_messaging.rpc import server  # noqa: E402

from aliasagent.actions import Action  # noqa: E402
from aliasagent.cmd import compute  # noqa: E402
from aliasagent.messaging import rpc_parts  # noqa: E402
from aliasagent.messaging import rpc_server  # noqa: E402
from aliasagent.operations.journal import Journal  # noqa: E402
from aliasagent.operations.model import Accepted  # noqa: E402
from aliasagent.operations.model import Operation  # noqa: E402

TIMES, EARLY = 'ALIASAGENT_TEST_TIMES', 'ALIASAGENT_TEST_EARLY'


@dataclasses.dataclass
class Times:
    """Of each cast, in seconds of one clock, in the order in which they came; they are handled one by one."""

    came: list[float] = dataclasses.field(default_factory=list)
    kept: list[float] = dataclasses.field(default_factory=list)
    acknowledged: list[float] = dataclasses.field(default_factory=list)


def read(path: pathlib.Path) -> Times:
    """What an agent has noted."""
    times = Times()
    for line in path.read_text().splitlines():
        what, _, when = line.partition(' ')
        getattr(times, what).append(float(when))
    return times


def _install(path: str) -> None:
    """Note the times from now on."""
    # At once, for the process ends without a word.
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    make, acknowledge, accept = (
        impl_rabbit.RabbitMessage.__init__,
        impl_rabbit.RabbitMessage.acknowledge,
        Journal.accept,
    )

    def note(what: str, when: float) -> None:
        os.write(file, f'{what} {when!r}\n'.encode())

    # The agent refuses to start with methods that take other arguments than those that it knows.
    @functools.wraps(make)
    def came(message: Any, raw: Any) -> None:
        now = time.monotonic()
        make(message, raw)
        if _is_cast(message):
            note('came', now)

    @functools.wraps(acknowledge)
    def acknowledged(message: Any) -> None:
        if hasattr(message, 'was_acknowledged'):
            return
        message.was_acknowledged = True
        acknowledge(message)
        if _is_cast(message):
            note('acknowledged', time.monotonic())

    def kept(journal: Journal, *operations: Operation) -> list[Accepted]:
        accepted = accept(journal, *operations)
        for _one in accepted:
            note('kept', time.monotonic())
        return accepted

    impl_rabbit.RabbitMessage.__init__ = came
    impl_rabbit.RabbitMessage.acknowledge = acknowledged
    Journal.accept = kept  # type: ignore[assignment,method-assign]


def _is_cast(message: Any) -> bool:
    return message.get('method') in list(Action)


def main() -> int:
    _install(os.environ[TIMES])
    if os.environ.get(EARLY):
        rpc_server.InOrderServer._create_listener = server.RPCServer._create_listener  # type: ignore[method-assign]
        # It would find out.
        rpc_parts.check = lambda transport: None
    return compute.main()


if __name__ == '__main__':
    sys.exit(main())
