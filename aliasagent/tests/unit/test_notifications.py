# SPDX-License-Identifier: Apache-2.0
"""What is told of operations, and that it is told although something fails."""

import dataclasses
import pathlib
import threading
from typing import Any

import fixtures
import jsonschema

from aliasagent import context
from aliasagent import exception
from aliasagent import notifications
from aliasagent.actions import Action
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import Notice
from aliasagent.operations.model import Operation
from aliasagent.operations.model import Phase
from aliasagent.operations.model import State
from aliasagent.requests.detach import DetachVolume
from aliasagent.tests import base
from aliasagent.tests.ids import GUEST
from aliasagent.tests.ids import VOLUME

SECRET = 'open sesame'
FAILED = Operation(
    'one',
    Action.DETACH_VOLUME,
    GUEST,
    VOLUME,
    DetachVolume(VOLUME),
    state=State.FAILED,
    error_class='DetachTimeout',
    error='words',
    request_id='req-1',
)


class StubNotifier:
    """Remembers what is sent; fails or waits if it is told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, dict[str, Any]]] = []
        self.contexts: list[context.RequestContext] = []
        self.open = threading.Event()
        self.open.set()
        self.begun = 0
        #: What is raised instead of sending.
        self.refusals: list[Exception] = []

    def info(self, ctxt: context.RequestContext, event_type: str, payload: dict[str, Any]) -> None:
        self._send('info', ctxt, event_type, payload)

    def error(self, ctxt: context.RequestContext, event_type: str, payload: dict[str, Any]) -> None:
        self._send('error', ctxt, event_type, payload)

    def _send(self, priority: str, ctxt: context.RequestContext, event_type: str, payload: dict[str, Any]) -> None:
        self.begun += 1
        self.open.wait(base.PATIENCE)
        if self.refusals:
            raise self.refusals.pop()
        self.contexts.append(ctxt)
        self.sent.append((priority, event_type, payload))


class PayloadTestCase(base.TestCase):
    def test_named_as_nova_names_them(self) -> None:
        names = {
            notifications.event_type(Notice(1, phase, dataclasses.replace(FAILED, action=action)))
            for action in Action
            for phase in Phase
        }
        self.assertEqual(len(Action) * len(Phase), len(names))
        for name in ('volume_attach.start', 'volume_attach.end', 'volume_detach.error', 'interface_detach.end'):
            self.assertIn(f'instance.{name}', names)

    def test_as_the_schema_says(self) -> None:
        for action in Action:
            for phase in Phase:
                for device in (VOLUME, ''):
                    operation = dataclasses.replace(FAILED, action=action, device=device)
                    payload = notifications.payload(Notice(1, phase, operation), 'here')
                    jsonschema.validate(payload, notifications.PAYLOAD)
                    self.assertNotIn(SECRET, str(payload))

    def test_the_error_is_told_with_its_class(self) -> None:
        payload = notifications.payload(Notice(1, Phase.ERROR, FAILED), 'here')
        self.assertEqual(('DetachTimeout', 'words'), (payload['error_class'], payload['error']))
        ids = (payload['instance_uuid'], payload['device_id'], payload['operation_id'])
        self.assertEqual((GUEST, VOLUME, 'one'), ids)

    def test_what_came_later_is_not_told_before(self) -> None:
        payload = notifications.payload(Notice(1, Phase.START, FAILED), 'here')
        self.assertEqual((None, None), (payload['error_class'], payload['error']))


class SenderTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.journal = Journal(str(pathlib.Path(self.make_directory(), 'journal')), notices=True)
        self.addCleanup(self.journal.close)
        self.notifier = StubNotifier()

    def start(self) -> notifications.Sender:
        sender = notifications.Sender(self.journal, self.notifier, 'here')
        self.addCleanup(sender.close)
        self.addCleanup(self.notifier.open.set)
        sender.start()
        return sender

    def do(self, name: str, error: Exception | None = None) -> None:
        self.journal.accept(Operation(name, Action.ATTACH_VOLUME, GUEST, VOLUME, None, request_id=f'req-{name}'))
        self.journal.start(name)
        self.journal.finish(name, error)

    def wait_sent(self, *names: str) -> None:
        self.wait_for(lambda: len(self.notifier.sent) >= len(names), f'{names} sent')
        self.wait_for(lambda: not self.journal.notices(), 'taken out of the journal')
        self.assertEqual([f'instance.volume_attach.{name}' for name in names], [sent[1] for sent in self.notifier.sent])

    def test_in_order_with_their_priority_and_ids(self) -> None:
        self.start()
        self.do('one')
        self.do('two', ValueError('x'))
        self.wait_sent('start', 'end', 'start', 'error')
        self.assertEqual(['info', 'info', 'info', 'error'], [sent[0] for sent in self.notifier.sent])
        self.assertEqual('one', self.notifier.contexts[0].operation_id)
        self.assertEqual('req-two', self.notifier.contexts[-1].request_id)

    def test_what_an_earlier_process_left(self) -> None:
        self.do('one')
        self.start()
        self.wait_sent('start', 'end')

    def test_without_a_broker_all_is_kept_and_the_work_goes_on(self) -> None:
        self.notifier.open.clear()
        self.start()
        self.do('one')
        self.do('two')
        self.assertEqual(4, len(self.journal.notices()))
        self.notifier.open.set()
        self.wait_sent('start', 'end', 'start', 'end')

    def test_what_the_broker_refuses_is_kept_and_sent_again_in_order(self) -> None:
        self.useFixture(fixtures.MonkeyPatch('aliasagent.notifications._RESEND_SECONDS', 0.01))
        self.notifier.refusals = [exception.NotificationNotSent(reason='refused') for _ in range(2)]
        self.do('one')
        self.start()
        self.wait_sent('start', 'end')
        self.assertEqual(4, self.notifier.begun)

    def test_what_the_broker_refuses_does_not_hold_up_a_stop(self) -> None:
        self.notifier.refusals = [exception.NotificationNotSent(reason='refused')]
        self.do('one')
        sender = self.start()
        self.wait_for(lambda: not self.notifier.refusals, 'refused')
        sender.close()
        self.assertFalse(sender._thread.is_alive())
        self.assertEqual(2, len(self.journal.notices()))

    def test_the_agent_stops_meanwhile(self) -> None:
        self.useFixture(fixtures.MonkeyPatch('aliasagent.notifications._STOP_SECONDS', 0.05))
        self.notifier.open.clear()
        sender = self.start()
        self.do('one')
        self.do('two')
        self.wait_for(lambda: self.notifier.begun, 'the first one is under way')
        sender.close()
        self.notifier.open.set()
        self.wait_for(lambda: len(self.notifier.sent) == 1, 'the one that was under way')
        self.wait_for(lambda: len(self.journal.notices()) == 3, 'the others are kept')

    def test_a_journal_that_cannot_be_read_for_a_while(self) -> None:
        self.useFixture(fixtures.MonkeyPatch('aliasagent.notifications._RETRY_SECONDS', 0.01))
        notices, failing = self.journal.notices, [True]

        def read(limit: int = 100) -> list[Notice]:
            if failing:
                raise exception.JournalError(path='x', reason='full')
            return notices(limit)

        self.useFixture(fixtures.MonkeyPatch('aliasagent.operations.journal.Journal.notices', lambda _self: read()))
        self.start()
        self.do('one')
        failing.clear()
        self.wait_for(lambda: len(self.notifier.sent) == 2, 'sent')
