# SPDX-License-Identifier: Apache-2.0
"""Tells whoever listens what became of operations: notifications over oslo.messaging, named as Nova names them.

``instance.volume_attach.start``, ``.end`` or ``.error``, and ``.released`` when a guest lets go of a device after all
whose detach had failed. Each is sent after the journal has what it says, and taken out of the journal after the broker
has it: after a crash in between it is sent again, so that a listener gets each at least once, and can tell by
``operation_id`` and the event type that it knows one.
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

#: The version of the payload. The number before the point changes when something that was there is gone.
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

#: Seconds after which a journal that could not be read is read again.
_RETRY_SECONDS = 1.0
#: Seconds after which the broker is asked again to take what it refused: only somebody's hand can mend that.
_RESEND_SECONDS = 10.0
#: Seconds that a stop waits for a notification that is being sent.
_STOP_SECONDS = 2.0


def event_type(notice: Notice) -> str:
    """What a notification is called."""
    return f'instance.{notice.operation.action.event}.{notice.phase}'


def payload(notice: Notice, host: str) -> dict[str, Any]:
    """What a notification says: ids and the outcome, and none of the request's arguments, which may hold secrets."""
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
    """Sends what the journal keeps to be told, in order, from a thread of its own.

    :param notifier: has to try again by itself as long as the broker is away, and to raise
        :exc:`NotificationNotSent` for all else. What was not sent is kept, and what comes after it waits.
    """

    def __init__(self, journal: Journal, notifier: oslo_messaging.Notifier, host: str) -> None:
        self._journal = journal
        self._notifier = notifier
        self._host = host
        self._closing = threading.Event()
        # A daemon: without a broker it tries for ever.
        self._thread = threading.Thread(target=self._run, name='notifications', daemon=True)

    def start(self) -> None:
        """Begin with what an earlier process left."""
        self._thread.start()

    def close(self) -> None:
        """Send no more; what is left is sent after the next start."""
        self._closing.set()
        self._journal.noticed.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._closing.is_set():
            # Before reading, so that what comes while reading is seen next time.
            self._journal.noticed.clear()
            try:
                while not self._closing.is_set() and (notices := self._journal.notices()):
                    self._send(notices)
            except exception.JournalError as error:
                LOG.warning('Notifications wait: %s', error)
                self._closing.wait(_RETRY_SECONDS)
            except exception.NotificationNotSent as error:
                LOG.error('Notifications are kept, and sent again in %g s: %s', _RESEND_SECONDS, error)
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
                self._journal.told(notice)
