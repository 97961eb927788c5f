# SPDX-License-Identifier: Apache-2.0
"""The options of oslo.messaging: whether they can be understood."""

from collections.abc import Callable
from typing import Any

import oslo_messaging
from oslo_config import cfg

from aliasagent.conf import reading

#: What is made of the options, the option that says where it leads to, and what it says.
_TRANSPORTS: tuple[tuple[Callable[[cfg.ConfigOpts], Any], str, Callable[[cfg.ConfigOpts], str | None]], ...] = (
    (oslo_messaging.get_rpc_transport, 'transport_url', lambda conf: conf.transport_url),
    (
        oslo_messaging.get_notification_transport,
        '[oslo_messaging_notifications] transport_url',
        lambda conf: conf.oslo_messaging_notifications.transport_url,
    ),
)


def check(conf: cfg.ConfigOpts) -> None:
    """Check that the options make valid transports, without connecting to a broker.

    :raises cfg.Error: one does not. The error does not repeat the transport_url, which may hold a password.
    """
    for make, option, url in _TRANSPORTS:
        try:
            make(conf).cleanup()
            # The text before it may look like a host and its port, nova:1234#x@host, and the error would repeat it.
            if '#' in (url(conf) or ''):
                raise ValueError('a URL of a transport has no fragment')
        except oslo_messaging.DriverLoadFailure as error:
            raise cfg.Error(f'{option}: {error}') from error
        except cfg.Error as error:
            raise cfg.Error(reading.words(error)) from error
        except (oslo_messaging.InvalidTransportURL, ValueError):
            # From None: a traceback would repeat the transport_url.
            raise cfg.Error(reading.BAD_URL.format(option=option)) from None
