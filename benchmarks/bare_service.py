# SPDX-License-Identifier: Apache-2.0
"""The least that could stand where the agent stands: an oslo.messaging server whose methods do nothing, and libvirt.

python -m benchmarks.bare_service --url URL --host NAME [--libvirt URI]

It has the agent's transport options, and with ``--libvirt`` a connection with its event loop; it attaches and detaches
then, by the bare calls, and says so in a line each. It says "ready", and runs until it is killed.
"""

import argparse
import os
import threading
from typing import Any

from oslo_service import backend

# NOTE: before anything imports oslo.messaging, which would choose the eventlet backend.
backend.init_backend(backend.BackendType.THREADING)

import libvirt  # noqa: E402
import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402

from benchmarks.bare_calls import BareCalls  # noqa: E402

EXCHANGE, TOPIC, VERSION = 'bare', 'compute', '1.0'
#: What it says when it has attached or detached.
DONE = 'done'


class Endpoint:
    """Its methods take what the agent's take, and do nothing but count, or nothing but the calls."""

    target = oslo_messaging.Target(version=VERSION)

    def __init__(self, calls: BareCalls | None) -> None:
        self._calls = calls
        self._lock = threading.Lock()
        self._count = 0

    @oslo_messaging.expose
    def detach_volume(self, _ctxt: object, **_arguments: object) -> None:
        with self._lock:
            self._count += 1

    @oslo_messaging.expose
    def attach(self, _ctxt: object, guest: str, xml: str) -> None:
        assert self._calls is not None
        self._calls.attach(self._calls.domain(guest), xml)
        _say(DONE)

    @oslo_messaging.expose
    def detach(self, _ctxt: object, guest: str, alias: str) -> None:
        assert self._calls is not None
        self._calls.detach(guest, self._calls.domain(guest), alias)
        _say(DONE)

    @oslo_messaging.expose
    def submit(self, _ctxt: object, **_arguments: object) -> dict[str, str]:
        with self._lock:
            self._count += 1
        return {'state': 'accepted'}

    @oslo_messaging.expose
    def count(self, _ctxt: object) -> int:
        with self._lock:
            return self._count


def transport(url: str) -> Any:
    """The transport of server and client, with the options that the agent sets."""
    oslo_messaging.set_transport_defaults(EXCHANGE)
    made = oslo_messaging.get_rpc_transport(cfg.CONF, url)
    cfg.CONF.set_default('amqp_durable_queues', True, group='oslo_messaging_rabbit')
    cfg.CONF.set_default('rabbit_qos_prefetch_count', 10, group='oslo_messaging_rabbit')
    return made


def client(url_transport: Any, host: str, timeout: int) -> Any:
    """A client of the service."""
    return oslo_messaging.get_rpc_client(
        url_transport,
        oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC, version=VERSION, server=host),
        timeout=timeout,
        transport_options=oslo_messaging.TransportOptions(at_least_once=True),
    )


def _say(word: str) -> None:
    # In one piece, so that whoever watches never sees half a line.
    os.write(1, f'{word}\n'.encode())


def _connect(uri: str) -> Any:
    libvirt.virEventRegisterDefaultImpl()

    def loop() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=loop, daemon=True).start()
    connection = libvirt.open(uri)
    connection.setKeepAlive(5, 3)
    return connection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--url', required=True)
    parser.add_argument('--host', required=True)
    parser.add_argument('--libvirt')
    chosen = parser.parse_args()
    cfg.CONF([], project='bare', default_config_files=[])
    calls = None if chosen.libvirt is None else BareCalls(_connect(chosen.libvirt))
    server = oslo_messaging.get_rpc_server(
        transport(chosen.url),
        oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC, server=chosen.host),
        [Endpoint(calls)],
        executor='threading',
        access_policy=oslo_messaging.ExplicitRPCAccessPolicy,
    )
    server.start()
    _say('ready')
    server.wait()


if __name__ == '__main__':
    main()
