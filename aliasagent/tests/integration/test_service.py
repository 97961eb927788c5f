# SPDX-License-Identifier: Apache-2.0
"""How the agent starts, is told things by signals, and stops."""

import pathlib
import signal
import socket
import tempfile
from typing import ClassVar

import testtools

from aliasagent import exception
from aliasagent.client import ComputeAPI
from aliasagent.context import RequestContext
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base
from sandbox import environment
from sandbox import libvirtd
from sandbox import processes
from sandbox.agent import Agent
from sandbox.agent import Options


class ServiceTest(testtools.TestCase):
    uri: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.uri = base.own_daemon(cls).uri

    def setUp(self) -> None:
        super().setUp()
        self.parts = environment.read()
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=self.parts.directory))
        self.host_name = self.directory.name
        transport = base.open_transport(self, self.parts.rabbit_url)
        self.api = ComputeAPI(transport, self.host_name, timeout=10)

    def agent(self, options: Options | None = None, **changed: str) -> Agent:
        agent = Agent(
            self.directory / 'agent',
            host=self.host_name,
            rabbit_url=changed.get('rabbit_url', self.parts.rabbit_url),
            libvirt_uri=changed.get('libvirt_uri', self.uri),
            options=options,
        )
        self.addCleanup(agent.kill)
        return agent

    def test_it_tells_systemd_once_it_listens(self) -> None:
        path = str(self.directory / 'notify')
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            notify.settimeout(harness.SOON)
            agent = self.agent()
            agent.environment['NOTIFY_SOCKET'] = path
            agent.begin()
            self.assertEqual(b'READY=1', notify.recv(100))
        self.api.list_instances(RequestContext())

    def test_it_waits_for_a_hypervisor_that_is_down(self) -> None:
        daemon = libvirtd.Libvirtd(self.directory / 'libvirt')
        self.addCleanup(daemon.stop, destroy_guests=True)
        agent = self.agent(libvirt_uri=daemon.uri)
        agent.begin()
        agent.wait_said(f'Waiting for the hypervisor at {daemon.uri}')
        daemon.start()
        agent.wait_said('Ready: serving host')
        self.assertEqual([], self.api.list_instances(RequestContext()))

    def test_it_waits_for_a_broker_that_is_down_and_can_be_stopped_meanwhile(self) -> None:
        port = processes.free_port()
        agent = self.agent(rabbit_url=f'rabbit://guest:secret@127.0.0.1:{port}/')
        agent.begin()
        agent.wait_said(f'Waiting for the message broker at rabbit://127.0.0.1:{port}')
        agent.wait_said('Connection failed')
        self.assertNotIn('Ready:', agent.said())
        agent.stop(timeout=10)
        self.assertNotIn('secret', agent.said())

    def test_what_is_mutable_is_read_again_on_sighup(self) -> None:
        side = base.RealSide(self.uri)
        self.addCleanup(side.close)
        guest, volume = side.deaf_guest(), harness.new_id()
        agent = self.agent({'unplug': {'timeout': 600, 'attempts': 1}})
        agent.start()
        connection = harness.file_connection(side.new_file())
        self.api.attach_volume(RequestContext(), guest, volume, connection)
        agent.options['unplug'] = {'timeout': 0.3, 'attempts': 2}
        agent.write_config()
        agent.signal(signal.SIGHUP)
        agent.wait_said('Reloaded the mutable options')
        ctxt = RequestContext()
        self.api.detach_volume(ctxt, guest, volume)

        def failed() -> str | None:
            try:
                error = self.api.get_operation(RequestContext(), ctxt.operation_id)['error']
            except exception.OperationNotFound:
                return None
            return None if error is None else str(error)

        self.assertIn('2 attempts of 0.3 s', processes.wait_until(failed, harness.SOON, 'the detach to fail'))

    def test_a_signal_that_does_not_wake_the_main_thread_is_not_lost(self) -> None:
        # as one that comes in the moment before the main thread begins to wait
        agent = self.agent()
        agent.start()
        agent.signal(signal.SIGHUP, main=False)
        agent.wait_said('Reloaded the mutable options', timeout=10)
        agent.signal(signal.SIGTERM, main=False)
        self.assertEqual(0, agent.wait_end(timeout=10))

    def test_a_stop_lets_go_of_a_guest_that_does_not_answer_and_the_next_start_takes_it_up(self) -> None:
        side = base.RealSide(self.uri)
        self.addCleanup(side.close)
        guest, volume = side.deaf_guest(), harness.new_id()
        agent = self.agent()
        agent.start()
        self.api.attach_volume(RequestContext(), guest, volume, harness.file_connection(side.new_file()))
        ctxt = RequestContext()
        self.api.detach_volume(ctxt, guest, volume)
        processes.wait_until(lambda: self._state(ctxt) == 'running', harness.SOON, 'the detach to begin')
        agent.stop(timeout=10)
        side.reset(guest)
        agent.start()
        processes.wait_until(lambda: self._state(ctxt) == 'succeeded', harness.SOON, 'the detach to be finished')

    def _state(self, ctxt: RequestContext) -> str:
        try:
            return str(self.api.get_operation(RequestContext(), ctxt.operation_id)['state'])
        except exception.OperationNotFound:
            return 'not accepted'
