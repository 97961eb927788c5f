# SPDX-License-Identifier: Apache-2.0
"""From the global options to an agent that can be asked."""

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
from aliasagent.shell import agent
from aliasagent.shell import errors

RABBIT_DRIVERS = ('rabbit', 'kombu')
RABBITMQ_PORT = 5672
#: How long the broker keeps a queue for replies that nobody listens to any more.
REPLY_QUEUE_SECONDS = 60


def connect(options: argparse.Namespace) -> agent.Agent:
    """The agent that the global options name. Nothing is sent and no connection is opened yet.

    :param options: ``host``, ``config_file``, ``transport_url`` and ``timeout`` of
        :meth:`aliasagent.shell.main.AliasAgentApp.build_option_parser`; what is None comes from the configuration.
    :raises BadInput: the configuration cannot be read, or its transport URL not understood.
    """
    _read_configuration(options.config_file)
    try:
        return _connect(options)
    except cfg.Error as error:
        raise errors.BadInput(reading.words(error)) from error


def _connect(options: argparse.Namespace) -> agent.Agent:
    """The agent that the global options name, together with the configuration, which was read.

    :raises cfg.Error: what is needed of it cannot be understood.
    """
    # of the agent's options those that are needed here: all else may be as it will
    reading.check(conf.CONF, groups={upgrade_levels.GROUP})
    if options.transport_url is not None:
        with contextlib.suppress(oslo_messaging.InvalidTransportURL, ValueError):
            oslo_messaging.TransportURL.parse(conf.CONF)  # which makes the option known, whatever it holds
        conf.CONF.set_override('transport_url', options.transport_url)
    messaging.check(conf.CONF)
    url = oslo_messaging.TransportURL.parse(conf.CONF)
    transport = rpc.transport(conf.CONF)
    if url.transport in RABBIT_DRIVERS:
        # each run has a reply queue of its own, that would else be kept for half an hour; the configuration wins
        conf.CONF.set_default('rabbit_transient_queues_ttl', REPLY_QUEUE_SECONDS, group='oslo_messaging_rabbit')
    host = options.host or conf.CONF.host
    cap = conf.CONF.upgrade_levels.compute
    api = rpcapi.ComputeAPI(transport, host, timeout=options.timeout, version_cap=cap)
    timeout: int = options.timeout or conf.CONF.rpc_response_timeout  # known since there is a client
    return agent.Agent(
        api, timeout=timeout, brokers=_brokers(url), disconnect=transport.cleanup, advice=_advice(options)
    )


def _read_configuration(files: list[str]) -> None:
    arguments = [word for path in files for word in ('--config-file', path)]
    try:
        # the files it finds by itself are those of the agent; none of cliff's arguments is for oslo.config
        reading.parse(conf.CONF, arguments, prog='aliasagent')
    except cfg.ConfigFilesPermissionDeniedError as error:
        raise errors.BadInput(
            f'{error}: the configuration of the agent may hold passwords and be for root only; run this as root, or '
            'give a --config-file of your own'
        ) from error
    except cfg.Error as error:
        raise errors.BadInput(f'--config-file: {error}' if files else f'the configuration: {error}') from error


def _advice(options: argparse.Namespace) -> str:
    """Where the address of the broker comes from, and so what to look at if nobody answers there."""
    if options.transport_url is not None:
        return 'Check --transport-url'
    found = conf.CONF.get_location('transport_url')
    if found is not None and found.location.is_user_controlled:
        return f'Check transport_url in {found.detail}, or give --transport-url'
    files = conf.CONF.config_file
    if files:
        return f'transport_url is not set in {" or ".join(dict.fromkeys(files))}: set it there, or give --transport-url'
    return (
        'No configuration was found: give --transport-url or --config-file, or run this on a host that has the '
        "agent's /etc/aliasagent/aliasagent.conf"
    )


def _brokers(url: oslo_messaging.TransportURL) -> list[tuple[str, int]]:
    """Host and port of each broker in a transport URL, with the rabbit driver's defaults; none for other drivers."""
    if url.transport not in RABBIT_DRIVERS:
        return []
    found = [(host.hostname or 'localhost', host.port or RABBITMQ_PORT) for host in url.hosts]
    return found or [('localhost', RABBITMQ_PORT)]
