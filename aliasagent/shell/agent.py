# SPDX-License-Identifier: Apache-2.0
"""The agent as the commands see it: everything asked of it ends in bounded time, and fails in words."""

import contextlib
import functools
import logging
import socket
import time
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

import oslo_messaging
from kombu import exceptions as kombu_exceptions
from kombu.transport import pyamqp
from oslo_utils import uuidutils

from aliasagent import context
from aliasagent import exception
from aliasagent.client import rpcapi
from aliasagent.compute import contract
from aliasagent.shell import deadline
from aliasagent.shell import errors

LOG = logging.getLogger(__name__)
T = TypeVar('T')
Json = dict[str, Any]

#: Seconds that connecting may take, on top of what a call may take.
CONNECT_SECONDS = 5
#: Seconds between two looks at an operation: the first, by how much more each time, and the most.
POLL_FIRST, POLL_GROWTH, POLL_MOST = 0.05, 1.5, 0.5

#: Seconds after which an agent that was busy is asked again.
BUSY_SECONDS = 1.0

#: Errors that are answers.
_ANSWERS: tuple[type[Exception], ...] = (exception.OperationNotFound,)

SUCCEEDED, FAILED = 'succeeded', 'failed'

#: What the broker's client raises beside oslo.messaging's own errors; a refused login is among the channel errors.
BROKER_ERRORS: tuple[type[Exception], ...] = (
    oslo_messaging.MessageDeliveryFailure,
    kombu_exceptions.KombuError,
    OSError,
    *pyamqp.Transport.connection_errors,
    *pyamqp.Transport.channel_errors,
)


class Agent:
    """The agent on one host.

    :param api: how it is reached.
    :param timeout: seconds to wait for the answer to a question.
    :param brokers: host and port of the message brokers, to find out fast that none is there; empty if the transport
        has none.
    :param disconnect: closes the connection.
    :param advice: what to look at if the broker cannot be reached, a sentence without its full stop.
    """

    def __init__(
        self,
        api: rpcapi.ComputeAPI,
        *,
        timeout: float,
        brokers: Sequence[tuple[str, int]] = (),
        disconnect: Callable[[], None] = lambda: None,
        advice: str = 'Check transport_url in the configuration, or give --transport-url',
    ) -> None:
        self.api = api
        self.timeout = timeout
        self._brokers = brokers
        self._broker_seen = not brokers
        self._stuck = False
        self._disconnect = disconnect
        self._advice = advice

    @property
    def host(self) -> str:
        """The name the agent goes by."""
        return self.api.host

    def close(self) -> None:
        """Close the connection, if there is one that lets itself be closed."""
        if not self._broker_seen or self._stuck:
            return
        try:
            deadline.within(CONNECT_SECONDS, self._disconnect)
        except deadline.Exceeded:
            LOG.debug('the connection to the message broker did not close')

    def guests(self) -> list[Json]:
        """The host's guests, as the contract's ``list_instances`` returns them.

        :raises ShellError: the agent cannot be reached or refused.
        """
        return self._ask(lambda: self.api.list_instances(context.RequestContext()))

    def devices(self, guest: str) -> list[Json]:
        """The devices of a guest, given by its UUID or its name, as the contract's ``list_devices`` returns them.

        :raises ShellError: there is no such guest, or the agent cannot be reached or refused.
        """
        instance_uuid = self.guest_uuid(guest)
        return self._ask(lambda: self.api.list_devices(context.RequestContext(), instance_uuid))

    def reconcile_plan(self, instance_uuid: str, inventory: Json | None) -> Json:
        """What would be done about a guest, as the contract's ``reconcile_plan`` returns it.

        :raises ShellError: the agent cannot be reached or refused.
        """
        return self._ask(lambda: self.api.reconcile_plan(context.RequestContext(), instance_uuid, inventory))

    def reconcile_status(self, instance_uuid: str) -> Json:
        """What was seen last at a guest, as the contract's ``reconcile_status`` returns it.

        :raises ShellError: the agent cannot be reached or refused, or has not looked at such a guest.
        """
        looks = self._ask(lambda: self.api.reconcile_status(context.RequestContext(), instance_uuid))
        if not looks:
            raise errors.OperationFailed(f'the agent has not looked at instance {instance_uuid}; is it there still?')
        return looks[0]

    def reconcile_live_estimate(self, instance_uuid: str) -> Json:
        """For how long a guest would stand still, as the contract's ``reconcile_live_estimate`` returns it.

        :raises ShellError: the agent cannot be reached or refused.
        """
        return self._ask(lambda: self.api.reconcile_live_estimate(context.RequestContext(), instance_uuid))

    def migration_progress(self, guest: str) -> Json | None:
        """How far a guest is on its way, as the contract's ``migration_progress`` returns it.

        :raises ShellError: the agent cannot be reached or refused.
        """
        instance_uuid = self.guest_uuid(guest)
        return self._ask(lambda: self.api.migration_progress(context.RequestContext(), instance_uuid))

    def abort_migration(self, guest: str) -> None:
        """Have a guest that is on its way stay.

        :raises ShellError: it is not on its way, or the agent cannot be reached or refused.
        """
        instance_uuid = self.guest_uuid(guest)
        self._ask(lambda: self.api.abort_migration(context.RequestContext(), instance_uuid))

    def guest_uuid(self, guest: str) -> str:
        """The UUID of a guest that is given by its UUID, which is not looked up, or by its name.

        :raises NotFound: no guest of the host has this name.
        :raises BadInput: more than one has.
        """
        if uuidutils.is_uuid_like(guest):
            return str(uuid.UUID(guest))
        guests = self.guests()
        found: list[str] = [known['uuid'] for known in guests if known['name'] == guest]
        if len(found) > 1:
            raise errors.BadInput(f'GUEST: {len(found)} guests are named {guest!r}, give the UUID: {", ".join(found)}')
        if not found:
            raise errors.NotFound(
                f'GUEST: host {self.host} has no guest named {guest!r}; "aliasagent guest list" shows the '
                f'{len(guests)} that it has'
            )
        return found[0]

    def send(self, method: str, **arguments: Any) -> str:
        """Check a request against the contract and cast it; the id under which its outcome can be asked is returned.

        :param method: a cast of the contract.
        :raises BadInput: the contract does not allow these arguments; nothing was sent.
        :raises Unreachable: the broker did not take it, or no agent listens.
        :raises Interrupted: the user interrupts it; it may have been sent.
        """
        self._check(method, arguments)
        ctxt = context.RequestContext()
        with _named(ctxt.operation_id):
            self._ask(functools.partial(getattr(self.api, method), ctxt, **arguments))
        LOG.info('sent %s to host %s as operation %s', method, self.host, ctxt.operation_id)
        return ctxt.operation_id

    def submit(self, method: str, seconds: float, **arguments: Any) -> str:
        """Check a request against the contract and make it, so that it is not lost; its id is returned.

        It is made again until the agent answers that it has it. Agents that are too old for that get it as a cast.

        :param method: a cast of the contract.
        :param seconds: for how long it may be made again.
        :raises BadInput: the contract does not allow these arguments; nothing was sent.
        :raises OperationFailed: the agent does not take it.
        :raises Unreachable: no agent answers; it may have been taken nevertheless.
        :raises Interrupted: the user interrupts it; it may have been taken.
        """
        if not self.api.can('submit'):
            return self.send(method, **arguments)
        self._check(method, arguments)
        ctxt = context.RequestContext()
        end = time.monotonic() + seconds
        question = functools.partial(self.api.submit, ctxt, method, **arguments)
        with _named(ctxt.operation_id):
            while True:
                try:
                    self._ask(question, (*_ANSWERS, exception.ServiceBusy))
                except exception.ServiceBusy as error:
                    if time.monotonic() + BUSY_SECONDS > end:
                        raise errors.OperationFailed(f'{_name(error)}: {_text(error)}') from error
                    LOG.info('host %s: %s', self.host, _text(error))
                    time.sleep(BUSY_SECONDS)
                else:
                    LOG.info('host %s has %s as operation %s', self.host, method, ctxt.operation_id)
                    return ctxt.operation_id

    def operation(self, operation_id: str) -> Json:
        """What became of a request, as the contract's ``get_operation`` returns it.

        :raises NotFound: no such request is known.
        :raises ShellError: the agent cannot be reached or refused.
        """
        try:
            return self._ask(lambda: self.api.get_operation(context.RequestContext(), operation_id))
        except exception.OperationNotFound as error:
            raise errors.NotFound(f'{_text(error)}; "aliasagent operation list" shows those that are') from error

    def operations(self, guest: str | None = None, **filters: Any) -> list[Json]:
        """What was asked, as the contract's ``list_operations`` returns it.

        :raises ShellError: the agent cannot be reached or refused.
        """
        instance_uuid = None if guest is None else self.guest_uuid(guest)
        return self._ask(lambda: self.api.list_operations(context.RequestContext(), instance_uuid, **filters))

    def wait(self, operation_id: str, seconds: float, on_look: Callable[[str], None] = lambda _state: None) -> Json:
        """Wait until an operation has an outcome, and return it as the contract's ``get_operation`` does.

        :param seconds: how long to wait.
        :param on_look: called with its state at each look.
        :raises WaitTimedOut: it has none by then.
        :raises Unreachable: the agent stopped answering.
        :raises Interrupted: the user wants to wait no longer.
        """
        try:
            return self._wait(operation_id, seconds, on_look)
        except KeyboardInterrupt:
            raise errors.Interrupted(
                f'interrupted: operation {operation_id} goes on, {_follow(operation_id)}'
            ) from None

    def _wait(self, operation_id: str, seconds: float, on_look: Callable[[str], None]) -> Json:
        end = time.monotonic() + seconds
        interval = POLL_FIRST
        state = 'sent, not accepted yet'
        while True:
            try:
                operation = self._operation(operation_id, end - time.monotonic())
            except exception.OperationNotFound:
                LOG.debug('operation %s: not accepted yet', operation_id)
            except errors.Unreachable as error:
                raise errors.Unreachable(
                    f'{error}. Operation {operation_id} was sent; it will be done once an agent for the host takes it'
                ) from error
            else:
                state = operation['state']
                if state in (SUCCEEDED, FAILED):
                    return operation
            on_look(state)
            left = end - time.monotonic()
            if left <= 0:
                raise errors.WaitTimedOut(
                    f'operation {operation_id} is not finished after {seconds:g} s (state: {state}); it goes on, '
                    f'{_follow(operation_id)}'
                )
            time.sleep(min(interval, left))
            interval = min(interval * POLL_GROWTH, POLL_MOST)

    def _check(self, method: str, arguments: Json) -> None:
        try:
            contract.validate(method, arguments)
        except exception.InvalidInput as error:
            raise errors.BadInput(str(error)) from error

    def _operation(self, operation_id: str, left: float) -> Json:
        """Ask for an operation, but not for longer than there is time ``left`` (seconds) to wait for it."""
        question = functools.partial(self.api.get_operation, context.RequestContext(), operation_id)
        if left >= self.timeout + CONNECT_SECONDS:
            return self._ask(question)
        try:
            return self._translated(lambda: deadline.within(max(left, 1), question))
        except deadline.Exceeded:
            self._stuck = True
            raise errors.WaitTimedOut(
                f'operation {operation_id} was sent; host {self.host} did not say in time what has become of it. '
                f'Later, {_follow(operation_id)}'
            ) from None

    def _ask(self, question: Callable[[], T], answers: tuple[type[Exception], ...] = _ANSWERS) -> T:
        """Put a question, with an end to it, and raise what goes wrong as one of our own errors.

        :param answers: errors that are answers, and raised as they are.
        """
        self._look_for_broker()
        try:
            return self._translated(lambda: deadline.within(self.timeout + CONNECT_SECONDS, question), answers)
        except deadline.Exceeded:
            self._stuck = True
            raise errors.Unreachable(
                f'{self._broker_names()} accepts connections, but nothing came back within '
                f'{self.timeout + CONNECT_SECONDS:g} s: is it a working RabbitMQ? (run again with --debug to see what '
                'the connection does)'
            ) from None

    def _translated(self, question: Callable[[], T], answers: tuple[type[Exception], ...] = _ANSWERS) -> T:
        try:
            return question()
        except answers:
            raise
        except exception.NotFound as error:
            raise errors.NotFound(_text(error)) from error
        except exception.InvalidRequest as error:
            raise errors.BadInput(_text(error)) from error
        except exception.AliasAgentError as error:
            raise errors.OperationFailed(f'{_name(error)}: {_text(error)}') from error
        except oslo_messaging.RemoteError as error:
            raise errors.OperationFailed(f'the agent answered with {error.exc_type}: {error.value}') from error
        except oslo_messaging.MessagingTimeout as error:
            raise errors.Silent(
                f'host {self.host} did not answer within {self.timeout:g} s: does aliasagent-compute run there? Its '
                'log says what it waits for'
            ) from error
        except oslo_messaging.MessageUndeliverable as error:
            raise errors.Unreachable(
                f'no agent for host {self.host} listens: is aliasagent-compute running there, and is its option host '
                f'{self.host!r}? (--host names another)'
            ) from error
        except BROKER_ERRORS as error:
            raise errors.Unreachable(
                f'{self._broker_names()} refused: {str(error).rstrip(".")}. {self._advice}'
            ) from error

    def _look_for_broker(self) -> None:
        """Find out whether any of the brokers can be connected to, before oslo.messaging tries that forever.

        :raises Unreachable: none can.
        """
        if self._broker_seen:
            return
        reasons = []
        for host, port in self._brokers:
            try:
                with contextlib.closing(socket.create_connection((host, port), timeout=CONNECT_SECONDS)):
                    self._broker_seen = True
                    return
            except OSError as error:
                reasons.append(f'{host}:{port}: {error.strerror or error}')
        raise errors.Unreachable(
            f'the message broker cannot be reached ({"; ".join(reasons)}): is RabbitMQ running there? '
            f'{self._advice}'
        )

    def _broker_names(self) -> str:
        names = ', '.join(f'{host}:{port}' for host, port in self._brokers)
        return f'the message broker {names}' if names else 'the message broker'


@contextlib.contextmanager
def _named(operation_id: str) -> Iterator[None]:
    """Name the operation in the errors after which it is not known whether the agent has accepted it."""
    how = (
        f'the agent may have accepted it as operation {operation_id}: "aliasagent operation show {operation_id}" tells '
        f'whether it did, {_follow(operation_id)}'
    )
    try:
        yield
    except KeyboardInterrupt:
        raise errors.Interrupted(f'interrupted while the request was being sent; {how}') from None
    except errors.Unreachable as error:
        if isinstance(error.__cause__, oslo_messaging.MessagingTimeout):
            raise errors.Unreachable(f'{error}. The request was sent; {how}') from error
        raise


def _follow(operation_id: str) -> str:
    """How to go on waiting for an operation."""
    return f'"aliasagent operation watch {operation_id}" follows it to its end'


def _name(error: Exception) -> str:
    """The class of an error as the agent knows it; oslo.messaging gives what it rebuilds a name of its own."""
    return type(error).__name__.removesuffix('_Remote')


def _text(error: exception.AliasAgentError) -> str:
    """The error's own words, without the traceback that oslo.messaging appends to what it rebuilds."""
    return exception.AliasAgentError.__str__(error)
