# SPDX-License-Identifier: Apache-2.0
"""The endpoint: checks a request, and turns it into an operation."""

import contextlib
import dataclasses
import datetime
import logging
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import Concatenate
from typing import ParamSpec
from typing import TypeVar

import oslo_messaging

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.allowed import rules
from aliasagent.client import rpcapi
from aliasagent.compute import contract
from aliasagent.context import RequestContext
from aliasagent.devices import names
from aliasagent.messaging import rpc_server
from aliasagent.operations.intake import Intake
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.reconcile.passes import GuestStatus
from aliasagent.reconcile.passes import Reconciler
from aliasagent.reconcile.relocation import Relocation
from aliasagent.requests import catalog
from aliasagent.requests.inventory import Inventory
from aliasagent.requests.inventory import records_of
from aliasagent.virt.driver import Driver

LOG = logging.getLogger(__name__)

Json = dict[str, Any]
P = ParamSpec('P')
R = TypeVar('R')


def _call(
    method: Callable[Concatenate['ComputeManager', RequestContext, P], R],
) -> Callable[Concatenate['ComputeManager', RequestContext, P], R]:
    """Expose a method that answers. Its arguments are checked first; an error reaches the caller as a public one."""

    def checked(self: 'ComputeManager', ctxt: RequestContext, /, *args: P.args, **arguments: P.kwargs) -> R:
        try:
            contract.validate(method.__name__, arguments)
            return method(self, ctxt, *args, **contract.canonical(arguments))
        except exception.AliasAgentError as error:
            raise exception.public(error) from error
        except Exception as error:
            LOG.exception('Not answered because of an internal error: %s', method.__name__)
            # Not "from error": oslo.messaging sends the traceback along, and the words of all errors in it.
            raise exception.public(error) from None

    exposed: Callable[Concatenate[ComputeManager, RequestContext, P], R] = oslo_messaging.expose(
        oslo_messaging.expected_exceptions(exception.AliasAgentError)(checked)
    )
    return exposed


def _cast(action: Action) -> Callable[..., None]:
    """Expose a method that is only told: it becomes an operation, and an error in it that operation's outcome."""

    def accepted(self: 'ComputeManager', ctxt: RequestContext, /, **arguments: Any) -> None:
        try:
            self._accept(action, ctxt, arguments)
        except rpc_server.NotTaken:
            raise
        except Exception as error:
            LOG.exception('Not accepted because of an internal error: %s, operation %s', action, ctxt.operation_id)
            with _left_with_the_broker():
                self._intake.take(_refused(action, ctxt, arguments, exception.public(error)))

    exposed: Callable[..., None] = oslo_messaging.expose(accepted)
    return exposed


class ComputeManager:
    """What can be called over RPC; :class:`aliasagent.client.ComputeAPI` is the other end."""

    target = oslo_messaging.Target(version=rpcapi.ComputeAPI.VERSION)

    def __init__(
        self,
        driver: Driver,
        journal: Journal,
        intake: Intake,
        reconciler: Reconciler,
        relocation: Relocation,
        within: Callable[[], rules.Bounds],
    ) -> None:
        self._driver = driver
        self._relocation = relocation
        self._reconciler = reconciler
        self._journal = journal
        self._intake = intake
        self._within = within

    attach_volume = _cast(Action.ATTACH_VOLUME)
    attach_interface = _cast(Action.ATTACH_INTERFACE)
    attach_hostdev = _cast(Action.ATTACH_HOSTDEV)
    detach_volume = _cast(Action.DETACH_VOLUME)
    detach_interface = _cast(Action.DETACH_INTERFACE)
    detach = _cast(Action.DETACH)
    reconcile_instance = _cast(Action.RECONCILE_INSTANCE)
    reconcile_live = _cast(Action.RECONCILE_LIVE)
    live_migrate = _cast(Action.LIVE_MIGRATE)

    @_call
    def reconcile_live_estimate(self, _ctxt: RequestContext, instance_uuid: str) -> Json:
        return dataclasses.asdict(self._relocation.estimate(instance_uuid))

    @_call
    def migration_progress(self, _ctxt: RequestContext, instance_uuid: str) -> Json | None:
        progress = self._relocation.progress(instance_uuid)
        return None if progress is None else dataclasses.asdict(progress)

    @_call
    def abort_migration(self, _ctxt: RequestContext, instance_uuid: str) -> None:
        self._relocation.abort(instance_uuid)

    @_call
    def reconcile_plan(
        self, _ctxt: RequestContext, instance_uuid: str, inventory: Json | None = None
    ) -> Json:
        look = self._reconciler.status(instance_uuid, records_of(Inventory.of(inventory)))
        return _look(instance_uuid, look)

    @_call
    def reconcile_status(self, _ctxt: RequestContext, instance_uuid: str | None = None) -> list[Json]:
        looks = self._reconciler.statuses()
        return [_look(uuid, look) for uuid, look in looks.items() if instance_uuid in (None, uuid)]

    @_call
    def list_instances(self, _ctxt: RequestContext) -> list[Json]:
        return [dataclasses.asdict(instance) for instance in self._driver.list_instances()]

    @_call
    def list_devices(self, _ctxt: RequestContext, instance_uuid: str) -> list[Json]:
        return [dataclasses.asdict(entry) for entry in self._driver.list_devices(instance_uuid)]

    @_call
    def get_operation(self, _ctxt: RequestContext, operation_id: str) -> Json:
        return _shown(self._journal.get(operation_id))

    @_call
    def list_operations(
        self,
        _ctxt: RequestContext,
        instance_uuid: str | None = None,
        states: list[str] | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int = 100,
    ) -> list[Json]:
        found = self._journal.select(
            instance_uuid,
            [State(state) for state in states or ()],
            None if since is None else datetime.datetime.fromisoformat(since).timestamp(),
            None if until is None else datetime.datetime.fromisoformat(until).timestamp(),
            limit,
        )
        return [_shown(operation) for operation in found]

    @_call
    def submit(self, ctxt: RequestContext, operation: Json) -> Json:
        wanted = self._operation(Action(operation['action']), operation['id'], ctxt.request_id, operation['arguments'])
        return _shown(self._intake.submit(wanted))

    def _operation(self, action: Action, operation_id: str, request_id: str | None, arguments: Json) -> Operation:
        """What is asked, as an operation.

        :raises InvalidInput: the arguments are not as the contract wants them, or name what may not be attached.
        """
        contract.validate(action, arguments)
        request = catalog.parse(action, arguments)
        # By name only: to look where a path leads may take long, and nothing here may. That is done when work begins.
        self._within().check(request.needs())
        return Operation(
            id=operation_id,
            action=action,
            instance=names.normal(arguments['instance_uuid']),
            device=request.device_id,
            request=request,
            request_id=request_id,
        )

    def _accept(self, action: Action, ctxt: RequestContext, arguments: Json) -> None:
        if not contract.is_id(ctxt.operation_id):
            LOG.error('Refused %s: context.operation_id: it is no id, so nobody could ask for the outcome', action)
            return
        try:
            operation = self._operation(action, ctxt.operation_id, ctxt.request_id, arguments)
        except exception.InvalidInput as error:
            LOG.error('Refused %s, operation %s: %s', action, ctxt.operation_id, error)
            operation = _refused(action, ctxt, arguments, error)
        with _left_with_the_broker():
            self._intake.take(operation)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Take what is cast to us inside in at the end, at the cost of one. See :mod:`aliasagent.messaging.rpc_server`.

        :raises NotTaken: some of it was not taken.
        """
        with _left_with_the_broker(), self._intake.together():
            yield


@contextlib.contextmanager
def _left_with_the_broker() -> Iterator[None]:
    """Have messages come again whose operations the journal could not take."""
    try:
        yield
    except exception.JournalError as error:
        raise rpc_server.NotTaken from error


def _refused(action: Action, ctxt: RequestContext, arguments: Json, error: exception.AliasAgentError) -> Operation:
    """A record of what was refused, for whoever waits for it; of the arguments it keeps only the ids, if they are."""

    def id_or_nothing(value: object) -> str:
        return value if isinstance(value, str) and contract.is_id(value) else ''

    port = arguments.get('port')
    ids = [arguments.get(name) for name in ('volume_id', 'port_id', 'device_id')]
    ids.append(port.get('id') if isinstance(port, dict) else None)
    return Operation(
        id=ctxt.operation_id,
        action=action,
        instance=id_or_nothing(arguments.get('instance_uuid')),
        device=next(filter(None, map(id_or_nothing, ids)), ''),
        request=None,
        state=State.FAILED,
        error_class=type(error).__name__,
        error=str(error),
        request_id=ctxt.request_id,
    )


def _look(instance: str, look: GuestStatus) -> Json:
    """What was seen at a guest as a caller gets it."""
    return {
        'instance': instance,
        'name': look.name,
        'aliased': look.report.aliased,
        'remaining': look.report.remaining,
        'pending': look.report.pending,
        'error': look.error,
        'devices': [
            {
                'device': step.device,
                'outcome': step.outcome.value,
                'reason': step.reason,
                'alias': step.alias,
            }
            for step in look.report.steps
        ],
    }


def _shown(operation: Operation) -> Json:
    """An operation as a caller sees it: without the arguments, which may hold secrets."""

    def time(seconds: float | None) -> str | None:
        return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()

    return {
        'id': operation.id,
        'action': operation.action.value,
        'instance': operation.instance,
        'device': operation.device,
        'state': operation.state.value,
        'error_class': operation.error_class,
        'error': operation.error,
        'accepted_at': time(operation.accepted_at),
        'started_at': time(operation.started_at),
        'finished_at': time(operation.finished_at),
        'attempts': operation.attempts,
        'released_at': time(operation.released_at),
        'request_id': operation.request_id,
    }
