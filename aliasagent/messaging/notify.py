# SPDX-License-Identifier: Apache-2.0
"""How notifications are sent."""

from collections.abc import Callable
from typing import Any

import oslo_messaging
from oslo_config import cfg

from aliasagent import exception
from aliasagent.client import rpc


class Notifier(oslo_messaging.Notifier):
    """Raises what kept a notification from being sent: oslo.messaging's own writes it to the log, and goes on.

    Of a broker that is away it hears nothing, for it tries again by itself (``retry=-1``), but of one that refuses: the
    queue, for one, was declared otherwise by another service. Used by one thread at a time.

    What it reaches into is private: :mod:`aliasagent.messaging.known` checks it when the agent starts.
    """

    def __init__(self, transport: oslo_messaging.Transport, **kwargs: Any) -> None:
        super().__init__(transport, **kwargs)
        self._errors: list[Exception] = []
        # The drivers for messages swallow the transport's errors; the notifier those of all other drivers.
        transport._send_notification = self._noted(transport._send_notification)
        for extension in self._driver_mgr.extensions:
            extension.obj.notify = self._noted(extension.obj.notify)

    def _noted(self, function: Callable[..., None]) -> Callable[..., None]:
        def noted(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except Exception as error:
                self._errors.append(error)
                raise

        return noted

    def _notify(self, *args: Any, **kwargs: Any) -> None:
        """Send one.

        :raises NotificationNotSent: not all topics and drivers that are configured have got it.
        """
        self._errors.clear()
        super()._notify(*args, **kwargs)
        if self._errors:
            raise exception.NotificationNotSent(reason=self._errors[0]) from self._errors[0]


def notifier(conf: cfg.ConfigOpts, host: str) -> Notifier | None:
    """What sends notifications, or says that it could not; None if none are configured (``driver``)."""
    rpc.set_defaults(conf)
    transport = oslo_messaging.get_notification_transport(conf)
    if not set(conf.oslo_messaging_notifications.driver) - {'', 'noop'}:
        return None
    return Notifier(transport, publisher_id=f'aliasagent-compute:{host}', serializer=rpc.ContextSerializer(), retry=-1)
