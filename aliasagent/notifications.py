# SPDX-License-Identifier: Apache-2.0
"""Sends notifications about operations over oslo.messaging, with the names of Nova's notifications.

The event types are ``instance.volume_attach.start``, ``.end`` or ``.error``, and ``.released`` when a guest releases a
device after its detach has failed. A notice is in the journal with the change that it reports, and is deleted after the
broker has the notification. After a crash in between, the notification is sent again, and after a power loss of the
host so are the ones before it whose deletion was not synced to the disk: a listener receives each at least once, and
detects duplicates by ``operation_id`` and event type.
"""

import logging
import threading
from typing import Any

import oslo_messaging

from aliasagent import context
from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import Notice
from aliasagent.operations.model import Phase

LOG = logging.getLogger(__name__)

#: The version of the payload. The major number changes when a field is removed.
VERSION = '1.0'

_TEXT = {'type': 'string'}
_TEXT_OR_NULL = {'type': ['string', 'null']}
#: The published schema of the payload (JSON Schema, draft 2020-12).
PAYLOAD: dict[str, Any] = {
    'type': 'object',
    'properties': {
        'version': {'const': VERSION},
        'host': _TEXT,
        'operation_id': _TEXT,
        'request_id': _TEXT_OR_NULL,
        'action': {'enum': [action.value for action in Action]},
        'instance_uuid': _TEXT,
        'device_id': _TEXT_OR_NULL,
        'error_class': _TEXT_OR_NULL,
        'error': _TEXT_OR_NULL,
    },
    'required': [
        'version',
        'host',
        'operation_id',
        'request_id',
        'action',
        'instance_uuid',
        'device_id',
        'error_class',
        'error',
    ],
    'additionalProperties': False,
}

#: Seconds between two attempts to read the journal.
_RETRY_SECONDS = 1.0
#: Seconds between two attempts to send a notification that the broker refused: an operator has to fix the cause.
_RESEND_SECONDS = 10.0
#: Seconds that a stop waits for a notification in progress.
_STOP_SECONDS = 2.0


def event_type(notice: Notice) -> str:
    """Return the event type of a notification."""
    return f'instance.{notice.operation.action.event}.{notice.phase}'


def payload(notice: Notice, host: str) -> dict[str, Any]:
    """Return the payload of a notification: ids and the outcome."""
    # Without the arguments of the request, which may hold secrets.
    operation = notice.operation
    failed = notice.phase in (Phase.ERROR, Phase.RELEASED)
    return {
        'version': VERSION,
        'host': host,
        'operation_id': operation.id,
        'request_id': operation.request_id,
        'action': operation.action.value,
        'instance_uuid': operation.instance,
        'device_id': operation.device or None,
        'error_class': operation.error_class if failed else None,
        'error': operation.error if failed else None,
    }


class Sender:
    """Sends the notices of the journal as notifications, in order, in its own thread.

    :param notifier: must retry while the broker is away, and raise :exc:`NotificationNotSent` for other errors. A
        notice that was not sent is kept, and the notices after it wait.
    """

    def __init__(self, journal: Journal, notifier: oslo_messaging.Notifier, host: str) -> None:
        self._journal = journal
        self._notifier = notifier
        self._host = host
        self._closing = threading.Event()
        # A daemon thread: it retries for as long as the broker is away.
        self._thread = threading.Thread(target=self._run, name='notifications', daemon=True)

    def start(self) -> None:
        """Start sending, beginning with the notices of an earlier process."""
        self._thread.start()

    def close(self) -> None:
        """Stop sending; the other notices are sent after the next start."""
        self._closing.set()
        self._journal.noticed.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._closing.is_set():
            # Before the journal is read, so that a notice that is written meanwhile is read next time.
            self._journal.noticed.clear()
            try:
                while not self._closing.is_set() and (notices := self._journal.notices()):
                    self._send(notices)
            except exception.JournalError as error:
                LOG.warning('Notifications are delayed: %s', error)
                self._closing.wait(_RETRY_SECONDS)
            except exception.NotificationNotSent as error:
                LOG.error('Notifications could not be sent, the agent retries in %g s: %s', _RESEND_SECONDS, error)
                self._closing.wait(_RESEND_SECONDS)
            else:
                self._journal.noticed.wait()

    def _send(self, notices: list[Notice]) -> None:
        for notice in notices:
            if self._closing.is_set():
                return
            operation = notice.operation
            send = self._notifier.error if notice.phase is Phase.ERROR else self._notifier.info
            with context.bound_to(operation.id, operation.request_id, operation.instance):
                send(context.current(), event_type(notice), payload(notice, self._host))
                self._journal.sent(notice)
