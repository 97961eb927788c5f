# SPDX-License-Identifier: Apache-2.0
"""Makes a client of the agent that the global options name."""

import argparse
import dataclasses
import logging

from oslo_config import cfg

from aliasagent.client import amqp
from aliasagent.client import brokers
from aliasagent.client import options as client_options
from aliasagent.client import rpcapi
from aliasagent.client import sending
from aliasagent.conf import default
from aliasagent.conf import reading
from aliasagent.conf import upgrade_levels
from aliasagent.shell import errors
from aliasagent.shell.remote import agent

LOG = logging.getLogger(__name__)

#: Seconds that the broker keeps an unused reply queue.
REPLY_QUEUE_SECONDS = 60


def connect(options: argparse.Namespace) -> agent.Agent:
    """Return a client of the agent that the global options name. It opens no connection yet.

    The client speaks to RabbitMQ itself. For other transports, and for options of RabbitMQ that only oslo.messaging
    knows (:data:`aliasagent.client.options.LEFT_OPTS`), the client uses oslo.messaging, which takes longer to load.

    :param options: ``host``, ``config_file``, ``transport_url`` and ``timeout`` of
        :meth:`aliasagent.shell.main.AliasAgentApp.build_option_parser`; the configuration gives values that are None.
    :raises BadInput: the configuration cannot be read, or its transport URL is not valid.
    """
    # Not the global configuration: in that one, oslo.messaging registers its own options.
    conf = cfg.ConfigOpts()
    default.register_opts(conf)
    upgrade_levels.register_opts(conf)
    client_options.register(conf)
    # Each run has its own reply queue, which the broker would keep for half an hour; the configuration wins.
    conf.set_default('rabbit_transient_queues_ttl', REPLY_QUEUE_SECONDS, group=client_options.RABBIT)
    _read_configuration(conf, options.config_file)
    try:
        return _connect(conf, options)
    except brokers.BadURL:
        # From None: a traceback would repeat the transport_url.
        raise errors.BadInput(reading.BAD_URL.format(option='transport_url')) from None
    except cfg.Error as error:
        raise errors.BadInput(reading.words(error)) from error


def _connect(conf: cfg.ConfigOpts, options: argparse.Namespace) -> agent.Agent:
    """Return a client of the agent that the global options and the configuration name.

    :raises cfg.Error: an option that the client needs is not valid.
    :raises BadURL: the transport URL is not valid.
    """
    # Only the options that the client needs: a wrong option of the agent is no error here.
    reading.check(conf, groups={upgrade_levels.GROUP})
    if options.transport_url is not None:
        conf.set_override('transport_url', options.transport_url)
    try:
        settings = brokers.read(conf)
    except brokers.LeftToMessaging as reason:
        LOG.info('using oslo.messaging, for %s', reason)
        return _slow(conf, options)
    timeout: int = options.timeout or settings.response_timeout
    sender = amqp.Amqp(dataclasses.replace(settings, response_timeout=timeout))
    return agent.Agent(
        _api(conf, options, sender),
        timeout=timeout,
        brokers=[broker.address for broker in settings.brokers],
        connect=sender.connect,
        disconnect=sender.close,
        advice=_advice(conf, options),
    )


def _slow(conf: cfg.ConfigOpts, options: argparse.Namespace) -> agent.Agent:
    """Return a client that uses oslo.messaging.

    :raises cfg.Error: an option that the client needs is not valid.
    """
    from aliasagent import threads

    threads.use_native()
    from aliasagent.conf import CONF
    from aliasagent.shell.remote import messaging

    # oslo.messaging needs the global configuration.
    _read_configuration(CONF, options.config_file)
    sender = messaging.make(options.transport_url, REPLY_QUEUE_SECONDS)
    return agent.Agent(
        _api(conf, options, sender),
        timeout=options.timeout or sender.response_timeout,
        brokers=sender.addresses,
        connect=sender.connect,
        disconnect=sender.close,
        advice=_advice(conf, options),
    )


def _api(conf: cfg.ConfigOpts, options: argparse.Namespace, sender: sending.Sender) -> rpcapi.ComputeAPI:
    cap = conf.upgrade_levels.compute
    return rpcapi.ComputeAPI(sender, options.host or conf.host, timeout=options.timeout, version_cap=cap)


def _read_configuration(conf: cfg.ConfigOpts, files: list[str]) -> None:
    arguments = [word for path in files for word in ('--config-file', path)]
    try:
        # By default the agent's files; none of cliff's arguments is for oslo.config.
        reading.parse(conf, arguments, prog='aliasagent')
    except cfg.ConfigFilesPermissionDeniedError as error:
        raise errors.BadInput(
            f"{error}: the agent's configuration may hold passwords and be readable by root only; run the command as "
            'root, or give a --config-file of your own'
        ) from error
    except cfg.Error as error:
        raise errors.BadInput(f'--config-file: {error}' if files else f'the configuration: {error}') from error


def _advice(conf: cfg.ConfigOpts, options: argparse.Namespace) -> str:
    """Say where the broker's address comes from, so that the user can check it."""
    if options.transport_url is not None:
        return 'Check --transport-url'
    found = conf.get_location('transport_url')
    if found is not None and found.location.is_user_controlled:
        return f'Check transport_url in {found.detail}, or give --transport-url'
    files = conf.config_file
    if files:
        return f'transport_url is not set in {" or ".join(dict.fromkeys(files))}: set it there, or give --transport-url'
    return (
        'No configuration was found: give --transport-url or --config-file, or run the command on a host with the '
        "agent's /etc/aliasagent/aliasagent.conf"
    )
