# SPDX-License-Identifier: Apache-2.0
"""The command with an agent that is made up, and what it wrote."""

import argparse
import dataclasses
import io
import json
import logging
from collections.abc import Callable
from typing import Any

import fixtures
from oslotest import base

from aliasagent import context
from aliasagent import exception
from aliasagent.client import sending
from aliasagent.shell import main
from aliasagent.shell.remote import agent
from aliasagent.tests import ids

WEB = '6f1d0c9e-3c75-4d0c-9d5b-1f3f0b8f0a01'
TWIN_1 = '6f1d0c9e-3c75-4d0c-9d5b-1f3f0b8f0a02'
TWIN_2 = '6f1d0c9e-3c75-4d0c-9d5b-1f3f0b8f0a03'
VOLUME = ids.VOLUME
PORT = ids.PORT
MAC = '52:54:00:12:34:56'


class FakeComputeAPI:
    """Stands in for :class:`aliasagent.client.ComputeAPI`: remembers what is cast, answers what it is told.

    :param outcomes: what ``get_operation`` does, call by call: an error is raised, a state is answered; the last is
        repeated.
    """

    def __init__(self, *outcomes: str | Exception) -> None:
        self.host = 'here'
        self.casts: list[tuple[str, dict[str, Any]]] = []
        self.contexts: list[context.RequestContext] = []
        self.asked: list[str] = []
        self.outcomes = list(outcomes)
        #: Raised by casts and by calls.
        self.error: Exception | None = None
        #: How often a request is refused for want of room.
        self.busy = 0
        #: What was asked for last in a list of operations.
        self.filters: dict[str, Any] = {}
        #: What the agents are too old for.
        self.unknown: set[str] = set()

    def can(self, method: str) -> bool:
        return method not in self.unknown

    def list_instances(self, _ctxt: context.RequestContext) -> list[dict[str, Any]]:
        self._fail()
        names = {WEB: 'web1', TWIN_1: 'twin', TWIN_2: 'twin'}
        return [{'uuid': uuid, 'name': name, 'state': 'running', 'persistent': True} for uuid, name in names.items()]

    def list_devices(self, _ctxt: context.RequestContext, instance_uuid: str) -> list[dict[str, Any]]:
        self._fail()
        if instance_uuid != WEB:
            raise rebuilt(exception.InstanceNotFound(instance=instance_uuid))
        named = {'id': VOLUME, 'kind': 'disk', 'alias': f'ua-{VOLUME}', 'target': 'vdb'}
        nameless = {'id': None, 'kind': 'interface', 'alias': None, 'target': 'vnet0'}
        return [{**device, 'live': True, 'persistent': False} for device in (named, nameless)]

    def reconcile_status(self, _ctxt: context.RequestContext, instance_uuid: str) -> list[dict[str, Any]]:
        self._fail()
        return [{'instance': instance_uuid, 'nova': False}]

    def get_operation(self, _ctxt: context.RequestContext, operation_id: str) -> dict[str, Any]:
        self.asked.append(operation_id)
        self._fail()
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        failed = outcome == 'failed'
        return {
            'id': operation_id,
            'action': 'attach_volume',
            'instance': WEB,
            'device': VOLUME,
            'state': outcome,
            'error_class': 'DeviceConflict' if failed else None,
            'error': 'the target vdb is taken' if failed else None,
            'accepted_at': '2025-01-31T12:00:00+00:00',
            'started_at': None,
            'finished_at': '2025-01-31T12:00:01+00:00',
        }

    def submit(self, ctxt: context.RequestContext, action: str, **arguments: Any) -> dict[str, Any]:
        self._fail()
        if self.busy:
            self.busy -= 1
            raise rebuilt(exception.ServiceBusy(reason='full'))
        self.contexts.append(ctxt)
        self.casts.append((action, arguments))
        return {'id': ctxt.operation_id, 'state': 'accepted'}

    def list_operations(
        self, ctxt: context.RequestContext, instance_uuid: str | None, **filters: Any
    ) -> list[dict[str, Any]]:
        self.filters = {'instance_uuid': instance_uuid, **filters}
        return [self.get_operation(ctxt, name) for name in ('one', 'two')]

    def __getattr__(self, method: str) -> Callable[..., None]:
        """Any cast of the contract."""

        def cast(ctxt: context.RequestContext, **arguments: Any) -> None:
            self._fail()
            self.contexts.append(ctxt)
            self.casts.append((method, arguments))

        return cast

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


@dataclasses.dataclass
class Result:
    """What a run of the command left."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class ShellTestCase(base.BaseTestCase):
    """Runs the command in this process."""

    def setUp(self) -> None:
        super().setUp()
        self.options: argparse.Namespace | None = None
        self.useFixture(fixtures.FakeLogger(level=None))
        self.addCleanup(setattr, main.AliasAgentApp.LOG, 'handlers', list(main.AliasAgentApp.LOG.handlers))
        self.addCleanup(logging.getLogger().setLevel, logging.getLogger().level)

    def run_command(
        self, *argv: str, api: FakeComputeAPI | None = None, timeout: float = 60, stdout: io.StringIO | None = None
    ) -> Result:
        """Run the command with ``api`` behind it."""

        def connect(options: argparse.Namespace) -> agent.Agent:
            self.options = options
            return agent.Agent(api or FakeComputeAPI(), timeout=timeout)  # type: ignore[arg-type]

        stdout, stderr = stdout or io.StringIO(), io.StringIO()
        app = main.AliasAgentApp(connect, stdout=stdout, stderr=stderr)
        # argparse has no other way
        with fixtures.MonkeyPatch('sys.stderr', stderr), fixtures.MonkeyPatch('sys.stdout', stdout):
            try:
                code = app.run(argv)
            except SystemExit as end:
                code = int(end.code or 0)
        return Result(code, stdout.getvalue(), stderr.getvalue())


def rebuilt(error: exception.AliasAgentError) -> exception.AliasAgentError:
    """An error of the agent's as oslo.messaging raises it here: of a class of its own, with a traceback in its text."""
    name = f'{type(error).__name__}_Remote'
    error.__class__ = type(name, (type(error),), {'__str__': lambda _self: 'words\nTraceback (most recent call last)'})
    return error


def undeliverable() -> sending.Undeliverable:
    """What is raised when no agent listens."""
    return sending.Undeliverable('no agent listens')
