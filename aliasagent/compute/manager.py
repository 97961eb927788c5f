# SPDX-License-Identifier: Apache-2.0
"""The RPC endpoint: checks requests, and makes operations of them."""

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
from aliasagent.operations.connecting import Connecting
from aliasagent.operations.intake import Intake
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.reconcile.passes import GuestStatus
from aliasagent.reconcile.passes import Reconciler
from aliasagent.reconcile.relocation import Relocation
from aliasagent.requests import catalog
from aliasagent.requests.base import Defaults
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
    """Expose a method as a call: check its arguments, and raise its errors as public ones."""

    def checked(self: 'ComputeManager', ctxt: RequestContext, /, *args: P.args, **arguments: P.kwargs) -> R:
        try:
            contract.validate(method.__name__, arguments)
            return method(self, ctxt, *args, **contract.canonical(arguments))
        except exception.AliasAgentError as error:
            raise exception.public(error) from error
        except Exception as error:
            LOG.exception('Not answered because of an internal error: %s', method.__name__)
            # Not "from error": oslo.messaging sends the traceback, with the texts of all errors in it.
            raise exception.public(error) from None

    exposed: Callable[Concatenate[ComputeManager, RequestContext, P], R] = oslo_messaging.expose(
        oslo_messaging.expected_exceptions(exception.AliasAgentError)(checked)
    )
    return exposed


def _cast(action: Action) -> Callable[..., None]:
    """Expose an action as a cast: make an operation of it, which fails if the request is not valid."""

    def accepted(self: 'ComputeManager', ctxt: RequestContext, /, **arguments: Any) -> None:
        try:
            self._accept(action, ctxt, arguments)
        except rpc_server.NotAccepted:
            raise
        except Exception as error:
            LOG.exception('Not accepted because of an internal error: %s, operation %s', action, ctxt.operation_id)
            with _not_acknowledged():
                self._intake.take(_refused(action, ctxt, arguments, exception.public(error)))

    exposed: Callable[..., None] = oslo_messaging.expose(accepted)
    return exposed


class ComputeManager:
    """The methods of the agent's RPC API; :class:`aliasagent.client.ComputeAPI` is the client."""

    target = oslo_messaging.Target(version=rpcapi.ComputeAPI.VERSION)

    def __init__(
        self,
        driver: Driver,
        journal: Journal,
        intake: Intake,
        reconciler: Reconciler,
        relocation: Relocation,
        connecting: Connecting,
        connector: Callable[[], Json],
        within: Callable[[], rules.Bounds],
        defaults: Callable[[], Defaults] = Defaults,
    ) -> None:
        self._driver = driver
        self._relocation = relocation
        self._reconciler = reconciler
        self._journal = journal
        self._intake = intake
        self._connecting = connecting
        self._connector = connector
        self._within = within
        self._defaults = defaults

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
        status = self._reconciler.status(instance_uuid, records_of(Inventory.of(inventory)))
        return _status_json(instance_uuid, status)

    @_call
    def reconcile_status(self, _ctxt: RequestContext, instance_uuid: str | None = None) -> list[Json]:
        statuses = self._reconciler.statuses()
        return [_status_json(uuid, status) for uuid, status in statuses.items() if instance_uuid in (None, uuid)]

    @_call
    def list_connections(self, _ctxt: RequestContext, instance_uuid: str | None = None) -> list[Json]:
        return [
            {
                'instance': it.instance,
                'device': it.device,
                'kind': it.kind,
                'stage': it.stage.value,
                'complete': it.is_complete,
                'leaving': it.is_leaving,
                'in_use': self._connecting.is_in_use(it),
                'operation': it.operation,
                'problem': it.problem,
                'details': it.details,
                'changed_at': _time(it.changed_at),
            }
            for it in self._connecting.all(None if instance_uuid is None else names.normal(instance_uuid))
        ]

    @_call
    def remove_connection(self, _ctxt: RequestContext, instance_uuid: str, device_id: str) -> None:
        self._connecting.remove(names.normal(instance_uuid), names.normal(device_id))

    @_call
    def get_volume_connector(self, _ctxt: RequestContext) -> Json:
        return self._connector()

    @_call
    def list_instances(self, _ctxt: RequestContext) -> list[Json]:
        return [dataclasses.asdict(instance) for instance in self._driver.list_instances()]

    @_call
    def list_devices(self, _ctxt: RequestContext, instance_uuid: str) -> list[Json]:
        return [dataclasses.asdict(entry) for entry in self._driver.list_devices(instance_uuid)]

    @_call
    def get_operation(self, _ctxt: RequestContext, operation_id: str) -> Json:
        return _operation_json(self._journal.get(operation_id))

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
        return [_operation_json(operation) for operation in found]

    @_call
    def submit(self, ctxt: RequestContext, operation: Json) -> Json:
        wanted = self._operation(Action(operation['action']), operation['id'], ctxt.request_id, operation['arguments'])
        return _operation_json(self._intake.submit(wanted))

    def _operation(self, action: Action, operation_id: str, request_id: str | None, arguments: Json) -> Operation:
        """Make an operation of a request.

        :raises InvalidInput: the arguments are not valid, or name a device that may not be attached.
        """
        contract.validate(action, arguments)
        request = catalog.parse(action, arguments).completed(self._defaults())
        # Checks names only, because resolving a path can take long. The operation resolves paths at its start.
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
            LOG.error('Refused %s: context.operation_id is not a valid id, no client could query the outcome', action)
            return
        try:
            operation = self._operation(action, ctxt.operation_id, ctxt.request_id, arguments)
        except exception.InvalidInput as error:
            LOG.error('Refused %s, operation %s: %s', action, ctxt.operation_id, error)
            operation = _refused(action, ctxt, arguments, error)
        with _not_acknowledged():
            self._intake.take(operation)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Accept the casts inside with one write at the end. See :mod:`aliasagent.messaging.rpc_server`.

        :raises NotAccepted: some of the casts were not accepted.
        """
        with _not_acknowledged(), self._intake.together():
            yield


@contextlib.contextmanager
def _not_acknowledged() -> Iterator[None]:
    """Raise :exc:`NotAccepted`, so that the broker redelivers a message, if the journal cannot be written."""
    try:
        yield
    except exception.JournalError as error:
        raise rpc_server.NotAccepted from error


def _refused(action: Action, ctxt: RequestContext, arguments: Json, error: exception.AliasAgentError) -> Operation:
    """Make the failed operation of a refused request. Keeps only the valid ids of its arguments."""

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


def _status_json(instance: str, status: GuestStatus) -> Json:
    """Return the status of a guest as clients receive it."""
    return {
        'instance': instance,
        'name': status.name,
        'aliased': status.report.aliased,
        'remaining': status.report.remaining,
        'pending': status.report.pending,
        'error': status.error,
        'nova': status.report.is_novas,
        'devices': [
            {
                'device': step.device,
                'outcome': step.outcome.value,
                'reason': step.reason,
                'alias': step.alias,
            }
            for step in status.report.steps
        ],
    }


def _operation_json(operation: Operation) -> Json:
    """Return an operation as clients receive it: without the arguments, which may hold secrets."""
    return {
        'id': operation.id,
        'action': operation.action.value,
        'instance': operation.instance,
        'device': operation.device,
        'state': operation.state.value,
        'error_class': operation.error_class,
        'error': operation.error,
        'accepted_at': _time(operation.accepted_at),
        'started_at': _time(operation.started_at),
        'finished_at': _time(operation.finished_at),
        'attempts': operation.attempts,
        'released_at': _time(operation.released_at),
        'request_id': operation.request_id,
    }


def _time(seconds: float | None) -> str | None:
    """Return a time in the form of ISO 8601."""
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()
