# SPDX-License-Identifier: Apache-2.0
"""The notifier, which raises errors."""

from collections.abc import Callable
from typing import Any

import oslo_messaging
from oslo_config import cfg

from aliasagent import exception
from aliasagent.client import rpc


class Notifier(oslo_messaging.Notifier):
    """Raises an error if a notification is not sent; the notifier of oslo.messaging only logs the error.

    While the broker is away, the notifier retries (``retry=-1``) and raises nothing. It raises if the broker refuses,
    for example because another service has declared the queue with other arguments. Used by one thread at a time.

    The attributes that it replaces are private: :mod:`aliasagent.messaging.known` checks them when the agent starts.
    """

    def __init__(self, transport: oslo_messaging.Transport, **kwargs: Any) -> None:
        super().__init__(transport, **kwargs)
        self._errors: list[Exception] = []
        # The messaging drivers suppress errors of the transport; the notifier suppresses errors of all drivers.
        transport._send_notification = self._recorded(transport._send_notification)
        for extension in self._driver_mgr.extensions:
            extension.obj.notify = self._recorded(extension.obj.notify)

    def _recorded(self, function: Callable[..., None]) -> Callable[..., None]:
        def recorded(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except Exception as error:
                self._errors.append(error)
                raise

        return recorded

    def _notify(self, *args: Any, **kwargs: Any) -> None:
        """Send a notification.

        :raises NotificationNotSent: a configured topic or driver has not received it.
        """
        self._errors.clear()
        super()._notify(*args, **kwargs)
        if self._errors:
            raise exception.NotificationNotSent(reason=self._errors[0]) from self._errors[0]


def notifier(conf: cfg.ConfigOpts, host: str) -> Notifier | None:
    """Return the notifier; None if no ``driver`` of notifications is configured."""
    rpc.set_defaults(conf)
    transport = oslo_messaging.get_notification_transport(conf)
    if not set(conf.oslo_messaging_notifications.driver) - {'', 'noop'}:
        return None
    return Notifier(transport, publisher_id=f'aliasagent-compute:{host}', serializer=rpc.ContextSerializer(), retry=-1)
