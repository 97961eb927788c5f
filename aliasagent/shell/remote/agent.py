# SPDX-License-Identifier: Apache-2.0
"""The client of the agent that the commands use: each call has a time limit, and fails with a readable error."""

import contextlib
import functools
import logging
import time
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from oslo_utils import uuidutils

from aliasagent import bounded
from aliasagent import context
from aliasagent import exception
from aliasagent.client import rpcapi
from aliasagent.client import sending
from aliasagent.shell import errors
from aliasagent.shell import states

LOG = logging.getLogger(__name__)
T = TypeVar('T')
Json = dict[str, Any]

#: Seconds that connecting may take, on top of what a call may take.
CONNECT_SECONDS = 5
#: Seconds between two requests for an operation's state: the first interval, its growth, and the longest.
POLL_FIRST, POLL_GROWTH, POLL_MOST = 0.05, 1.5, 0.5

#: Seconds after which a request to a busy agent is retried.
BUSY_SECONDS = 1.0

#: Errors that the caller handles.
_ANSWERS: tuple[type[Exception], ...] = (exception.OperationNotFound,)


class Agent:
    """The agent on one host.

    :param api: the RPC client.
    :param timeout: seconds to wait for the answer to a call.
    :param brokers: host and port of the message brokers, for errors; empty if the transport has none.
    :param connect: connects to a broker, unless there is a connection; raises the errors of
        :mod:`aliasagent.client.sending`, and has time limits of its own.
    :param disconnect: closes the connection.
    :param advice: what the user should check if the broker cannot be reached, a sentence without its full stop.
    """

    def __init__(
        self,
        api: rpcapi.ComputeAPI,
        *,
        timeout: float,
        brokers: Sequence[tuple[str, int]] = (),
        connect: Callable[[], None] = lambda: None,
        disconnect: Callable[[], None] = lambda: None,
        advice: str = 'Check transport_url in the configuration, or give --transport-url',
    ) -> None:
        self.api = api
        self.timeout = timeout
        self._brokers = brokers
        self._connect = connect
        self._connected = False
        #: Whether a call still uses the connection, and may never end.
        self._stuck = False
        self._disconnect = disconnect
        self._advice = advice

    @property
    def host(self) -> str:
        """The agent's name, its option ``host``."""
        return self.api.host

    def close(self) -> None:
        """Close the connection, unless there is none or a call hangs in it."""
        if not self._connected or self._stuck:
            return
        try:
            bounded.call(self._disconnect, CONNECT_SECONDS)
        except bounded.TimedOut:
            LOG.debug('the connection to the message broker did not close')

    def guests(self) -> list[Json]:
        """Return the host's guests, as the contract's ``list_instances`` does.

        :raises ShellError: the agent cannot be reached, or refused.
        """
        return self._ask(lambda: self.api.list_instances(context.RequestContext()))

    def devices(self, guest: str) -> list[Json]:
        """Return the devices of a guest, given by UUID or name, as the contract's ``list_devices`` does.

        :raises ShellError: there is no such guest, or the agent cannot be reached, or refused.
        """
        instance_uuid = self.guest_uuid(guest)
        return self._ask(lambda: self.api.list_devices(context.RequestContext(), instance_uuid))

    def connections(self, guest: str | None) -> list[Json]:
        """Return the connections of all guests, or of one, as the contract's ``list_connections`` does.

        :raises ShellError: there is no such guest, or the agent cannot be reached, or refused.
        """
        instance_uuid = None if guest is None else self.guest_uuid(guest)
        return self._ask(lambda: self.api.list_connections(context.RequestContext(), instance_uuid))

    def remove_connection(self, guest: str, device: str) -> None:
        """Undo the connection of a device that its guest does not have.

        :raises ShellError: the guest has it, or the agent cannot be reached, or refused.
        """
        instance_uuid = self.guest_uuid(guest)
        self._ask(lambda: self.api.remove_connection(context.RequestContext(), instance_uuid, device))

    def reconcile_plan(self, instance_uuid: str, inventory: Json | None) -> Json:
        """Return the result of a reconcile without writing, as the contract's ``reconcile_plan`` does.

        :raises ShellError: the agent cannot be reached, or refused.
        """
        return self._ask(lambda: self.api.reconcile_plan(context.RequestContext(), instance_uuid, inventory))

    def reconcile_status(self, instance_uuid: str) -> Json:
        """Return the status of a guest after its last reconcile, as the contract's ``reconcile_status`` does.

        :raises ShellError: the agent cannot be reached, or refused, or has no status of this guest.
        """
        found = self._ask(lambda: self.api.reconcile_status(context.RequestContext(), instance_uuid))
        if not found:
            raise errors.OperationFailed(
                f'the agent has no status of instance {instance_uuid}; check that the guest is still on this host'
            )
        return found[0]

    def reconcile_live_estimate(self, instance_uuid: str) -> Json:
        """Return how long ``reconcile_live`` would pause a guest, as the contract's ``reconcile_live_estimate`` does.

        :raises ShellError: the agent cannot be reached, or refused.
        """
        return self._ask(lambda: self.api.reconcile_live_estimate(context.RequestContext(), instance_uuid))

    def migration_progress(self, guest: str) -> Json | None:
        """Return the progress of a guest's migration, as the contract's ``migration_progress`` does.

        :raises ShellError: the agent cannot be reached, or refused.
        """
        instance_uuid = self.guest_uuid(guest)
        return self._ask(lambda: self.api.migration_progress(context.RequestContext(), instance_uuid))

    def abort_migration(self, guest: str) -> None:
        """Abort the migration of a guest.

        :raises ShellError: the guest is not being migrated, or the agent cannot be reached, or refused.
        """
        instance_uuid = self.guest_uuid(guest)
        self._ask(lambda: self.api.abort_migration(context.RequestContext(), instance_uuid))

    def guest_uuid(self, guest: str) -> str:
        """Return the UUID of a guest that is given by UUID, which is not checked, or by name.

        :raises NotFound: no guest of the host has this name.
        :raises BadInput: more than one guest has this name.
        """
        if uuidutils.is_uuid_like(guest):
            return str(uuid.UUID(guest))
        guests = self.guests()
        found: list[str] = [candidate['uuid'] for candidate in guests if candidate['name'] == guest]
        if len(found) > 1:
            raise errors.BadInput(f'GUEST: {len(found)} guests are named {guest!r}, give the UUID: {", ".join(found)}')
        if not found:
            raise errors.NotFound(
                f'GUEST: host {self.host} has no guest named {guest!r}; "aliasagent guest list" shows its '
                f'{len(guests)} guests'
            )
        return found[0]

    def send(self, method: str, **arguments: Any) -> str:
        """Check a request against the contract, cast it, and return the id of its operation.

        :param method: a cast of the contract.
        :raises BadInput: the contract does not allow these arguments; nothing was sent.
        :raises Unreachable: the broker did not accept the request, or no agent listens.
        :raises Interrupted: the user interrupted the command; the request may have been sent.
        """
        self._check(method, arguments)
        ctxt = context.RequestContext()
        with _named(ctxt.operation_id):
            self._ask(functools.partial(getattr(self.api, method), ctxt, **arguments))
        LOG.info('sent %s to host %s as operation %s', method, self.host, ctxt.operation_id)
        return ctxt.operation_id

    def submit(self, method: str, seconds: float, **arguments: Any) -> str:
        """Check a request against the contract, send it until the agent has accepted it, and return its operation's id.

        A busy agent gets the request again. An agent that is too old for ``submit`` gets a cast.

        :param method: a cast of the contract.
        :param seconds: for how long to retry.
        :raises BadInput: the contract does not allow these arguments; nothing was sent.
        :raises OperationFailed: the agent did not accept the request.
        :raises Unreachable: no agent answered; an agent may have accepted the request anyway.
        :raises Interrupted: the user interrupted the command; the agent may have accepted the request.
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
        """Return an operation, as the contract's ``get_operation`` does.

        :raises NotFound: the agent has no such operation.
        :raises ShellError: the agent cannot be reached, or refused.
        """
        try:
            return self._ask(lambda: self.api.get_operation(context.RequestContext(), operation_id))
        except exception.OperationNotFound as error:
            raise errors.NotFound(f'{_text(error)}; "aliasagent operation list" shows all operations') from error

    def operations(self, guest: str | None = None, **filters: Any) -> list[Json]:
        """Return operations, as the contract's ``list_operations`` does.

        :raises ShellError: the agent cannot be reached, or refused.
        """
        instance_uuid = None if guest is None else self.guest_uuid(guest)
        return self._ask(lambda: self.api.list_operations(context.RequestContext(), instance_uuid, **filters))

    def wait(self, operation_id: str, seconds: float, on_look: Callable[[str], None] = lambda _state: None) -> Json:
        """Wait until an operation has finished, and return it as the contract's ``get_operation`` does.

        :param seconds: how long to wait.
        :param on_look: called with the operation's state each time that it was read.
        :raises WaitTimedOut: the operation has not finished by then.
        :raises Unreachable: the agent stopped answering.
        :raises Interrupted: the user interrupted the command.
        """
        try:
            return self._wait(operation_id, seconds, on_look)
        except KeyboardInterrupt:
            raise errors.Interrupted(
                f'interrupted: operation {operation_id} continues, {_follow(operation_id)}'
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
                    f'{error}. Operation {operation_id} was sent; an agent for the host will do it once it is up'
                ) from error
            else:
                state = operation['state']
                if state in (states.SUCCEEDED, states.FAILED):
                    return operation
            on_look(state)
            left = end - time.monotonic()
            if left <= 0:
                raise errors.WaitTimedOut(
                    f'operation {operation_id} is not finished after {seconds:g} s (state: {state}); it continues, '
                    f'{_follow(operation_id)}'
                )
            time.sleep(min(interval, left))
            interval = min(interval * POLL_GROWTH, POLL_MOST)

    def _check(self, method: str, arguments: Json) -> None:
        # Not before: jsonschema and the schemas take their time, and most commands only ask.
        from aliasagent.compute import contract

        try:
            contract.validate(method, arguments)
        except exception.InvalidInput as error:
            raise errors.BadInput(str(error)) from error

    def _operation(self, operation_id: str, left: float) -> Json:
        """Ask the agent for an operation, for at most ``left`` seconds."""
        question = functools.partial(self.api.get_operation, context.RequestContext(), operation_id)
        if left >= self.timeout + CONNECT_SECONDS:
            return self._ask(question)
        try:
            return self._translated(lambda: self._bounded(question, max(left, 1)))
        except bounded.TimedOut:
            raise errors.WaitTimedOut(
                f'operation {operation_id} was sent; host {self.host} did not report its state in time. '
                f'Later, {_follow(operation_id)}'
            ) from None

    def _ask(self, question: Callable[[], T], answers: tuple[type[Exception], ...] = _ANSWERS) -> T:
        """Call the agent with a time limit, and raise errors as a ShellError.

        :param answers: errors that the caller handles, raised as they are.
        """
        self._translated(self._connect)
        self._connected = True
        try:
            return self._translated(lambda: self._bounded(question, self.timeout + CONNECT_SECONDS), answers)
        except bounded.TimedOut:
            text = self._silent_broker(self.timeout + CONNECT_SECONDS)
            raise errors.Unreachable(text, may_have_arrived=True) from None

    def _bounded(self, question: Callable[[], T], seconds: float) -> T:
        """Call the agent with a time limit, and remember if the call may still use the connection.

        :raises TimedOut: the call takes longer.
        """
        try:
            return bounded.call(question, seconds)
        except (bounded.TimedOut, KeyboardInterrupt):
            self._stuck = True
            raise

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
        except sending.RemoteError as error:
            raise errors.OperationFailed(f'the agent answered with {error.kind}: {error.text}') from error
        except sending.NoAnswer as error:
            raise errors.Silent(
                f'host {self.host} did not answer within {self.timeout:g} s: is aliasagent-compute running there? '
                'Its log says what it waits for',
                error.may_have_arrived,
            ) from error
        except sending.Undeliverable as error:
            raise errors.Unreachable(
                f'no agent for host {self.host} listens: is aliasagent-compute running there, and is its option host '
                f'{self.host!r}? (--host names another)',
                error.may_have_arrived,
            ) from error
        except sending.BrokerError as error:
            raise errors.Unreachable(self._broker_text(error), error.may_have_arrived) from error

    def _broker_text(self, error: sending.BrokerError) -> str:
        match error:
            case sending.BrokerUnreachable():
                return f'the message broker cannot be reached ({error}): is RabbitMQ running there? {self._advice}'
            case sending.BrokerSilent():
                return self._silent_broker(error.seconds)
            case sending.BrokerError(may_have_arrived=True):
                return f'{self._broker_names()} did not confirm the request: {str(error).rstrip(".")}. {self._advice}'
            case _:
                return f'{self._broker_names()} refused: {str(error).rstrip(".")}. {self._advice}'

    def _silent_broker(self, seconds: float) -> str:
        return (
            f'{self._broker_names()} accepts connections, but did not answer within {seconds:g} s: is it a working '
            "RabbitMQ? (run again with --debug to see the connection's log)"
        )

    def _broker_names(self) -> str:
        names = ', '.join(f'{host}:{port}' for host, port in self._brokers)
        return f'the message broker {names}' if names else 'the message broker'


@contextlib.contextmanager
def _named(operation_id: str) -> Iterator[None]:
    """Name the operation in errors after which the agent may or may not have accepted the request."""
    how = (
        f'the agent may have accepted it as operation {operation_id}: "aliasagent operation show {operation_id}" shows '
        f'whether it did, {_follow(operation_id)}'
    )
    try:
        yield
    except KeyboardInterrupt:
        raise errors.Interrupted(f'interrupted while the request was being sent; {how}') from None
    except errors.Unreachable as error:
        if error.may_have_arrived:
            text = f'{error}. The request may have been sent; {how}'
            raise errors.Unreachable(text, may_have_arrived=True) from error
        raise


def _follow(operation_id: str) -> str:
    """Tell the user how to continue to wait for an operation."""
    return f'"aliasagent operation watch {operation_id}" follows it to its end'


def _name(error: Exception) -> str:
    """Return the class of an error as the agent names it; oslo.messaging adds a suffix when it rebuilds the error."""
    return type(error).__name__.removesuffix('_Remote')


def _text(error: exception.AliasAgentError) -> str:
    """Return the error's text, without the traceback that oslo.messaging appends when it rebuilds the error."""
    return exception.AliasAgentError.__str__(error)
