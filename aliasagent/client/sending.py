# SPDX-License-Identifier: Apache-2.0
"""What a client needs of a transport: the sender of its requests, and the errors of senders that use no oslo.messaging.

:class:`aliasagent.client.ComputeAPI` uses a sender: :class:`aliasagent.client.rpc.Messaging` sends by oslo.messaging,
for control planes; :class:`aliasagent.client.amqp.Amqp` speaks to RabbitMQ itself, for the command.
"""

import abc
import dataclasses
from typing import Any
from typing import ClassVar

from aliasagent import context

EXCHANGE = 'aliasagent'
#: The topic of casts, which take effect in their order.
TOPIC = 'compute'
#: The topic of calls, which the agent answers even while casts have to wait.
ALT_TOPIC = 'compute-alt'


@dataclasses.dataclass(frozen=True)
class Request:
    """One request to one agent.

    :param host: the name of the agent.
    :param version: the version of the contract that the agent must support.
    """

    topic: str
    host: str
    version: str
    ctxt: context.RequestContext
    method: str
    arguments: dict[str, Any]


class Sender(abc.ABC):
    """Sends requests to agents. A request to a host without an agent fails, instead of being lost."""

    #: What is raised if no agent listens on the topic of a request.
    undeliverable: ClassVar[type[Exception]]
    #: What :meth:`call` raises if the agent raised an error that is none of :mod:`aliasagent.exception`.
    refused: ClassVar[tuple[type[Exception], ...]]

    @abc.abstractmethod
    def cast(self, request: Request) -> None:
        """Send a request, and return when the broker has it."""

    @abc.abstractmethod
    def call(self, request: Request, timeout: int | None) -> Any:
        """Send a request, and return the answer.

        :param timeout: seconds to wait for the answer; None for the option ``rpc_response_timeout``.
        :raises AliasAgentError: the agent raised this error.
        """

    @abc.abstractmethod
    def is_unsupported(self, error: Exception) -> bool:
        """Return whether an error of :attr:`refused` says that the agent does not support the version."""


class SendingError(Exception):
    """A request was not sent, or not answered.

    :param may_have_arrived: whether the agent may have the request anyway.
    """

    def __init__(self, text: str, may_have_arrived: bool = False) -> None:
        super().__init__(text)
        self.may_have_arrived = may_have_arrived


class BrokerError(SendingError):
    """The broker refused the login or the request, or the connection to the broker broke."""


class BrokerUnreachable(BrokerError):
    """No broker accepts connections. The text has each address with the reason."""


class BrokerSilent(BrokerError):
    """The broker accepts connections, and does not answer.

    :param seconds: how long the client waited.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f'no answer within {seconds:g} s')
        self.seconds = seconds


class Undeliverable(SendingError):
    """No agent listens on the topic of the request."""


class NoAnswer(SendingError):
    """The agent did not answer in time."""

    def __init__(self, text: str) -> None:
        super().__init__(text, may_have_arrived=True)


class RemoteError(SendingError):
    """The agent raised an error that is none of :mod:`aliasagent.exception`.

    :param kind: the name of the error's class.
    :param text: the error's text.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f'{kind}: {text}')
        self.kind = kind
        self.text = text
