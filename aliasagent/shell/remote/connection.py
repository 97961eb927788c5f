# SPDX-License-Identifier: Apache-2.0
"""Makes a client of the agent that the global options name."""

import argparse
import contextlib

import oslo_messaging
from oslo_config import cfg

from aliasagent import conf
from aliasagent.client import rpc
from aliasagent.client import rpcapi
from aliasagent.conf import messaging
from aliasagent.conf import reading
from aliasagent.conf import upgrade_levels
from aliasagent.shell import errors
from aliasagent.shell.remote import agent

RABBIT_DRIVERS = ('rabbit', 'kombu')
RABBITMQ_PORT = 5672
#: Seconds that the broker keeps an unused reply queue.
REPLY_QUEUE_SECONDS = 60


def connect(options: argparse.Namespace) -> agent.Agent:
    """Return a client of the agent that the global options name. It opens no connection yet.

    :param options: ``host``, ``config_file``, ``transport_url`` and ``timeout`` of
        :meth:`aliasagent.shell.main.AliasAgentApp.build_option_parser`; the configuration gives values that are None.
    :raises BadInput: the configuration cannot be read, or its transport URL is not valid.
    """
    _read_configuration(options.config_file)
    try:
        return _connect(options)
    except cfg.Error as error:
        raise errors.BadInput(reading.words(error)) from error


def _connect(options: argparse.Namespace) -> agent.Agent:
    """Return a client of the agent that the global options and the configuration name.

    :raises cfg.Error: an option that the client needs is not valid.
    """
    # Only the options that the client needs: a wrong option of the agent is no error here.
    reading.check(conf.CONF, groups={upgrade_levels.GROUP})
    if options.transport_url is not None:
        with contextlib.suppress(oslo_messaging.InvalidTransportURL, ValueError):
            oslo_messaging.TransportURL.parse(conf.CONF)  # registers the option, even if its value is not valid
        conf.CONF.set_override('transport_url', options.transport_url)
    messaging.check(conf.CONF)
    url = oslo_messaging.TransportURL.parse(conf.CONF)
    transport = rpc.transport(conf.CONF)
    if url.transport in RABBIT_DRIVERS:
        # Each run has its own reply queue, which the broker would keep for half an hour; the configuration wins.
        conf.CONF.set_default('rabbit_transient_queues_ttl', REPLY_QUEUE_SECONDS, group='oslo_messaging_rabbit')
    host = options.host or conf.CONF.host
    cap = conf.CONF.upgrade_levels.compute
    api = rpcapi.ComputeAPI(transport, host, timeout=options.timeout, version_cap=cap)
    timeout: int = options.timeout or conf.CONF.rpc_response_timeout  # registered by the client
    return agent.Agent(
        api, timeout=timeout, brokers=_brokers(url), disconnect=transport.cleanup, advice=_advice(options)
    )


def _read_configuration(files: list[str]) -> None:
    arguments = [word for path in files for word in ('--config-file', path)]
    try:
        # By default the agent's files; none of cliff's arguments is for oslo.config.
        reading.parse(conf.CONF, arguments, prog='aliasagent')
    except cfg.ConfigFilesPermissionDeniedError as error:
        raise errors.BadInput(
            f"{error}: the agent's configuration may hold passwords and be readable by root only; run the command as "
            'root, or give a --config-file of your own'
        ) from error
    except cfg.Error as error:
        raise errors.BadInput(f'--config-file: {error}' if files else f'the configuration: {error}') from error


def _advice(options: argparse.Namespace) -> str:
    """Say where the broker's address comes from, so that the user can check it."""
    if options.transport_url is not None:
        return 'Check --transport-url'
    found = conf.CONF.get_location('transport_url')
    if found is not None and found.location.is_user_controlled:
        return f'Check transport_url in {found.detail}, or give --transport-url'
    files = conf.CONF.config_file
    if files:
        return f'transport_url is not set in {" or ".join(dict.fromkeys(files))}: set it there, or give --transport-url'
    return (
        'No configuration was found: give --transport-url or --config-file, or run the command on a host with the '
        "agent's /etc/aliasagent/aliasagent.conf"
    )


def _brokers(url: oslo_messaging.TransportURL) -> list[tuple[str, int]]:
    """Return host and port of each broker in a transport URL, with the rabbit driver's defaults.

    Returns an empty list for other drivers.
    """
    if url.transport not in RABBIT_DRIVERS:
        return []
    found = [(host.hostname or 'localhost', host.port or RABBITMQ_PORT) for host in url.hosts]
    return found or [('localhost', RABBITMQ_PORT)]
