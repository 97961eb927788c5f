# SPDX-License-Identifier: Apache-2.0
"""The agent beside a real Nova: the published package, from its API to its LibvirtDriver, on the same libvirtd.

ALIASAGENT_TEST_NOVA_ROUNDS says how many rounds of attach, hard reboot and detach Nova makes; by default few.
"""

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import ClassVar

import libvirt
import testtools

from aliasagent.client import ComputeAPI
from aliasagent.context import RequestContext
from aliasagent.devices.disk import Disk
from aliasagent.devices.domain import Domain
from aliasagent.devices.interface import Interface
from aliasagent.tests import documents
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base
from aliasagent.virt import host
from aliasagent.virt import taps
from sandbox import environment
from sandbox import guest as guests
from sandbox import libvirtd
from sandbox import nova
from sandbox import processes
from sandbox import tour
from sandbox.agent import Agent

ROUNDS = int(os.environ.get('ALIASAGENT_TEST_NOVA_ROUNDS', '4'))

#: One of so many rounds has a hard reboot.
REBOOT_EACH = 2

#: Seconds within which a port has its alias after Nova has written the definition anew; the machine may be busy.
SOON = 10.0

_SECURE = libvirt.VIR_DOMAIN_XML_SECURE
_SIDES = {'live': _SECURE, 'persistent': _SECURE | libvirt.VIR_DOMAIN_XML_INACTIVE}


@dataclasses.dataclass(frozen=True)
class Trouble:
    """A kind of warning or error in Nova's log."""

    where: str
    level: str
    template: str
    exception: str

    @classmethod
    def of(cls, record: dict[str, str]) -> 'Trouble':
        return cls(record['where'], record['level'], record['template'], record['exception'])


class Witness(threading.Thread):
    """Reads both definitions of a guest all the time, and judges each user alias in them.

    A volume is known by the file of its disk, a port by its MAC address; nothing of the agent's own identification is
    used.

    :param owners: by file or MAC address, the id of the volume or port; the test adds to it before Nova attaches it
    """

    def __init__(self, uri: str, server: str, owners: dict[str, str]) -> None:
        super().__init__(name='witness', daemon=True)
        self._connection = host.open_libvirt(uri)
        self._server = server
        self._owners = owners
        self._ended = threading.Event()
        self.looks = 0
        self.aliases = 0
        self.wrong: list[str] = []
        self.error: BaseException | None = None
        #: When the persistent definition changed to have these user aliases; None while there is no definition.
        self.changes: list[tuple[float, frozenset[str] | None]] = []

    def run(self) -> None:
        try:
            with contextlib.closing(self._connection):
                while not self._ended.wait(0.02):
                    self._look()
        except BaseException as error:  # noqa: BLE001 - the test fails with it
            self.error = error

    def end(self) -> None:
        """Stop reading."""
        self._ended.set()
        self.join(20)

    def _look(self) -> None:
        for side, flags in _SIDES.items():
            now = time.monotonic()
            try:
                text = self._connection.lookupByUUIDString(self._server).XMLDesc(flags)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
                # NOTE: Nova undefines a guest that it reboots.
                self._note(now, None)
                return
            self.looks += 1
            found = frozenset(self.judge(side, Domain.parse(text)))
            if side == 'persistent':
                self._note(now, found)

    def _note(self, when: float, found: frozenset[str] | None) -> None:
        if not self.changes or self.changes[-1][1] != found:
            self.changes.append((when, found))

    def judge(self, side: str, domain: Domain) -> Iterator[str]:
        """Yield the user aliases of a definition, and note those that are wrong."""
        for device in domain.devices():
            alias = device.alias or ''
            if not alias.startswith('ua-'):
                continue
            self.aliases += 1
            yield alias
            match device:
                case Disk():
                    source = device.element.find('source')
                    key = None if source is None else source.get('file')
                case Interface():
                    mac = device.element.find('mac')
                    key = None if mac is None else mac.get('address')
                case _:
                    key = None
            if self._owners.get(key or '') != alias.removeprefix('ua-'):
                self.wrong.append(f'{side}: {key} has the alias {alias}')

    def back_after(self, begin: float, alias: str) -> tuple[float, float]:
        """Return when the persistent definition was there again after it had gone, and when it had an alias again.

        :param begin: the definition had not gone before.
        """
        gone = next(at for at, (when, found) in enumerate(self.changes) if when >= begin and found is None)
        anew = next(when for when, found in self.changes[gone:] if found is not None)
        return anew, next(when for when, found in self.changes[gone:] if found is not None and alias in found)


class NovaTest(testtools.TestCase):
    daemon: ClassVar[libvirtd.Libvirtd]
    nova: ClassVar[nova.Nova]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        # Nova refuses to start beside guests that it does not know.
        cls.daemon = base.own_daemon(cls)
        parts = environment.read()
        directory = pathlib.Path(tempfile.mkdtemp(dir=parts.directory))
        cls.nova = cls.enterClassContext(nova.Nova(directory, cls.daemon.uri, parts.guest_image))

    def setUp(self) -> None:
        super().setUp()
        self.parts = environment.read()
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=self.parts.directory))
        self.host_name = self.directory.name
        self.connection = host.open_libvirt(self.daemon.uri)
        self.addCleanup(self.connection.close)
        self.owners: dict[str, str] = {}

    def start_agent(self) -> Agent:
        agent = Agent(
            self.directory / 'agent',
            host=self.host_name,
            rabbit_url=self.parts.rabbit_url,
            libvirt_uri=self.daemon.uri,
            options={'reconcile': {'interval': 1}},
        )
        agent.start()
        self.addCleanup(agent.stop)
        return agent

    def boot(self) -> guests.TestGuest:
        """Have Nova boot a guest."""
        server = self.nova.ask('boot')
        self.addCleanup(self.nova.ask, 'delete', server=server['id'])
        guest = guests.TestGuest(self.connection, self.directory, self.parts.guest_image, uuid=server['id'])
        guest.console = pathlib.Path(server['console'])
        return guest.wait_ready(120)

    def new_volume(self) -> str:
        made = self.nova.ask('new_volume')
        self.owners[made['path']] = made['id']
        return str(made['id'])

    def new_port(self) -> str:
        made = self.nova.ask('new_port')
        self.owners[made['mac']] = made['id']
        return str(made['id'])

    def act(self, method: str, guest: guests.TestGuest, expected: str = 'Success', **device: str) -> float:
        """Have Nova do something, and check how its action ended. Returns the seconds that it took."""
        done = self.nova.ask(method, server=guest.uuid, **device)
        self.assertEqual({expected}, set(done['results'].values()), f'{method}: {done["traceback"]}')
        return float(done['seconds'])

    def text(self, guest: guests.TestGuest, side: str) -> str:
        return str(guest.domain.XMLDesc(_SIDES[side]))

    def wait_alias(self, guest: guests.TestGuest, device: str) -> None:
        """Wait until the persistent definition has a device's alias."""
        alias = f"<alias name='ua-{device}'/>"
        processes.wait_until(
            lambda: alias in self.text(guest, 'persistent'), SOON, f'{alias} in the persistent config', interval=0.02
        )

    def assert_clean(self, guest: guests.TestGuest) -> None:
        """Nova has nothing on record about volumes and ports of a guest, which is as it should be."""
        found = self.nova.ask('look', server=guest.uuid)
        self.assertEqual(('ACTIVE', None), (found['status'], found['task_state']))
        left = {name: found[name] for name in ('mappings', 'attachments', 'cached_ports', 'bound_ports') if found[name]}
        self.assertEqual({}, left)
        self.assertEqual({'available'}, set(found['volumes'].values()))

    def troubles(self) -> set[Trouble]:
        """What Nova's log has had of warnings and errors since the last time."""
        return {Trouble.of(record) for record in self.nova.ask('taken')['troubles']}

    def a_round(self, guest: guests.TestGuest, number: int, *, aliases: bool) -> None:
        """Attach a volume and a port, reboot the guest in some rounds, and detach both.

        :param aliases: an agent is there to give the port its alias
        """
        volume, port = self.new_volume(), self.new_port()
        attach = [('attach_volume', {'volume': volume}), ('attach_port', {'port': port})]
        detach = [('detach_volume', {'volume': volume}), ('detach_port', {'port': port})]
        if number % 3 == 0:
            attach.reverse()
            detach.reverse()
        for method, device in attach:
            self.act(method, guest, **device)
        # in the other rounds Nova meets the agent in the middle of its work
        if aliases and number % 4 < 2:
            self.wait_alias(guest, port)
        if number % REBOOT_EACH == 0:
            begin = time.monotonic()
            self.act('hard_reboot', guest)
            self.rebooted.append((port, begin, time.monotonic()))
            if aliases:
                self.wait_alias(guest, port)
            guest.wait_ready(120)
        for method, device in detach:
            self.act(method, guest, **device)
        self.assert_clean(guest)

    @contextlib.contextmanager
    def asking(self, guest: guests.TestGuest) -> Iterator[collections.Counter[str]]:
        """Ask the agent all the time to reconcile a guest. Yields how often, by outcome."""
        transport = base.open_transport(self, self.parts.rabbit_url)
        api = ComputeAPI(transport, self.host_name, timeout=20)
        ended = threading.Event()
        asked: collections.Counter[str] = collections.Counter()

        def ask() -> None:
            while not ended.wait(0.4):
                ctxt = RequestContext()
                api.reconcile_instance(ctxt, guest.uuid)
                sent.append(ctxt)

        sent: list[RequestContext] = []
        with futures.ThreadPoolExecutor(1) as pool:
            work = pool.submit(ask)
            try:
                yield asked
            finally:
                ended.set()
            work.result()
        for ctxt in sent:
            found = api.get_operation(ctxt, ctxt.operation_id)
            asked['not kept' if found is None else f'{found["state"]} {found.get("error_class") or ""}'.strip()] += 1

    def test_nova_attaches_reboots_and_detaches_while_the_agent_reconciles(self) -> None:
        guest = self.boot()
        self.rebooted: list[tuple[str, float, float]] = []
        for number in range(2):
            self.a_round(guest, number, aliases=False)
        without_agent = self.troubles()
        self.rebooted.clear()
        self.start_agent()
        witness = Witness(self.daemon.uri, guest.uuid, self.owners)
        witness.start()
        self.addCleanup(witness.end)
        begin = time.monotonic()
        with self.asking(guest) as asked:
            for number in range(ROUNDS):
                self.a_round(guest, number, aliases=True)
                self.assertEqual(set(), self.troubles() - without_agent)
                self.assertEqual([], witness.wrong)
            volume, port = self.new_volume(), self.new_port()
            self.act('attach_volume', guest, volume=volume)
            self.act('attach_port', guest, port=port)
            self.act('hard_reboot', guest)
            self.wait_alias(guest, port)
            self.wait_alias(guest, volume)
        took = time.monotonic() - begin
        witness.end()
        self.assertIsNone(witness.error)
        self.assertEqual([], witness.wrong)
        self.assertLess(took, witness.looks)  # more than one a second
        self.assertLess(0, witness.aliases)
        self.assertEqual(set(), self.troubles() - without_agent)
        self.report(witness, took, asked)
        # it would have seen a wrong one
        exchanged = self.text(guest, 'persistent').replace(f'ua-{port}', f'ua-{harness.new_id()}')
        list(witness.judge('persistent', Domain.parse(exchanged)))
        self.assertEqual(1, len(witness.wrong))

    def assert_logged(self, block: str, names: dict[str, str]) -> None:
        """Nova's log has the lines that the page quotes."""
        log = self.nova.log.read_text()
        for line in block.splitlines():
            for example, real in names.items():
                line = line.replace(example, real)
            self.assertIn(line, log)

    def kinds(self, guest: guests.TestGuest) -> tuple[list[str], ...]:
        """The kinds of the devices that were attached to a guest, live and persistent: all but its root disk."""
        both = (Domain.parse(self.text(guest, side)).devices() for side in _SIDES)
        return tuple(
            [it.kind for it in devices if it.kind in ('disk', 'interface') and it.target != 'vda'] for devices in both
        )

    def give_up(self, guest: guests.TestGuest, method: str, **device: str) -> None:
        """Have Nova try to detach a device of a guest that does not answer."""
        # Each attempt takes 5 s more: libvirt waits, too.
        for name, value, default in (('device_detach_attempts', 1, 8), ('device_detach_timeout', 1, 20)):
            self.nova.ask('set_option', group='libvirt', name=name, value=value)
            self.addCleanup(self.nova.ask, 'set_option', group='libvirt', name=name, value=default)
        if guest.domain.state()[0] != libvirt.VIR_DOMAIN_PAUSED:
            guest.domain.suspend()
        self.act(method, guest, expected='Error', **device)

    def finish(self, guest: guests.TestGuest, agent: Agent, command: list[str]) -> None:
        """Run a command that finishes a detach, and have the guest answer meanwhile."""
        with futures.ThreadPoolExecutor(1) as pool:
            done = pool.submit(tour.CommandLine(agent.config).run, *command)
            device = command[3]
            agent.wait_said(f'Accepted detach_{command[0]} of {device}')
            guest.domain.resume()
            self.assertIn('succeeded', done.result(120))

    def test_the_agent_finishes_a_detach_that_nova_gave_up(self) -> None:
        page = (documents.SOURCE / 'admin' / 'stuck-detach.rst').read_text()
        of_volume, of_port, of_repeated = documents.blocks(page, 'text', 'nova-log')
        (block,) = documents.blocks(page, 'bash')
        agent = self.start_agent()
        guest = self.boot()
        volume, port = self.new_volume(), self.new_port()
        mac = next(mac for mac, whose in self.owners.items() if whose == port)
        names = {'GUEST': guest.uuid, 'VOLUME_ID': volume, 'PORT_ID': port, 'TAP': f'tap{port[:11]}', 'MAC': mac}
        list_before, of_the_volume, of_the_port, list_after = (
            [names.get(word, word) for word in line.split()[1:]] for line in block.splitlines()
        )
        show = tour.CommandLine(agent.config).run
        self.act('attach_volume', guest, volume=volume)
        self.act('attach_port', guest, port=port)
        self.wait_alias(guest, port)
        self.nova.ask('taken')

        self.give_up(guest, 'detach_volume', volume=volume)
        self.assert_logged(of_volume, names)
        left = self.nova.ask('look', server=guest.uuid)
        self.assertEqual(('ACTIVE', None, None), (left['status'], left['task_state'], left['fault']))
        self.assertEqual(([volume], [volume]), (list(left['mappings']), list(left['attachments'])))
        self.assertEqual('in-use', left['volumes'][volume])
        self.assertEqual(
            [f'Setting volume {volume} status to {status}' for status in ('detaching', 'in-use')],
            self.nova.ask('taken')['cinder'],
        )
        self.assertEqual((['disk', 'interface'], ['interface']), self.kinds(guest))
        self.assertRegex(show(*list_before), rf'{volume}.* True .* False ')
        self.finish(guest, agent, of_the_volume)
        self.assertEqual((['interface'], ['interface']), self.kinds(guest))

        self.give_up(guest, 'detach_port', port=port)
        self.assert_logged(of_port, names)
        self.assertFalse(taps.exists(names['TAP']))
        self.assertEqual((['interface'], []), self.kinds(guest))
        self.assertRegex(show(*list_before), rf'{port}.* True .* False ')
        self.finish(guest, agent, of_the_port)
        self.assertEqual(([], []), self.kinds(guest))
        found = show(*list_after)
        for device in (volume, port):
            self.assertNotIn(device, found)
        guest.wait_sees(lambda seen: list(seen.disks) == ['vda'] and not seen.nics)

        # all that is Nova's is as it was
        self.assertEqual(left, self.nova.ask('look', server=guest.uuid))
        self.assertEqual(([port], [port]), (left['cached_ports'], left['bound_ports']))
        self.assertEqual([], self.nova.ask('taken')['cinder'])
        self.act('detach_volume', guest, volume=volume)
        self.act('detach_port', guest, port=port)
        self.assert_logged(of_repeated, names)
        self.assert_clean(guest)
        (attachment,) = left['attachments'][volume]
        self.assertEqual(
            [
                f'Setting volume {volume} status to detaching',
                f'Disconnected volume {volume}',
                f'Deleted attachment {attachment} for volume {volume}. Total attachments for volume: 0',
            ],
            self.nova.ask('taken')['cinder'],
        )

    def test_a_hard_reboot_undoes_a_detach_that_nova_gave_up(self) -> None:
        self.start_agent()
        guest = self.boot()
        volume, port = self.new_volume(), self.new_port()
        self.act('attach_volume', guest, volume=volume)
        self.act('attach_port', guest, port=port)
        self.give_up(guest, 'detach_volume', volume=volume)
        self.give_up(guest, 'detach_port', port=port)
        self.assertEqual((['disk', 'interface'], []), self.kinds(guest))
        self.act('hard_reboot', guest)
        guest.wait_ready(120)
        self.assertEqual((['disk', 'interface'],) * 2, self.kinds(guest))
        for device in (volume, port):
            self.wait_alias(guest, device)
        self.act('detach_volume', guest, volume=volume)
        self.act('detach_port', guest, port=port)
        self.assert_clean(guest)

    def test_aliases_after_a_migration_of_nova_to_a_host_without_an_agent_and_back(self) -> None:
        # Its network is its own: the tap is on both hosts while the guest moves.
        there = libvirtd.Libvirtd(self.directory / 'there', hostname='there', own_network=True)
        there.start()
        self.addCleanup(there.stop, destroy_guests=True)
        self.start_agent()
        guest = self.boot()
        volume, port = self.new_volume(), self.new_port()
        self.act('attach_volume', guest, volume=volume)
        self.act('attach_port', guest, port=port)
        self.wait_alias(guest, port)
        # what the nova-compute of the other host would do
        processes.run(*there.inside('ip', 'tuntap', 'add', 'dev', f'tap{port[:11]}', 'mode', 'tap'))

        self.nova.ask('live_migrate', server=guest.uuid, source=self.daemon.uri, socket=there.uri.partition('=')[2])
        self.assertRaises(libvirt.libvirtError, self.connection.lookupByUUIDString, guest.uuid)
        with contextlib.closing(host.open_libvirt(there.uri)) as connection:
            found = Domain.parse(connection.lookupByUUIDString(guest.uuid).XMLDesc(_SIDES['persistent']))
            # Nova makes the definition for the destination from what it knows.
            self.assertEqual([f'ua-{volume}'], [it.alias for it in found.devices() if it.is_claimed])
        self.nova.ask('live_migrate', server=guest.uuid, source=there.uri, socket=self.daemon.uri.partition('=')[2])
        for device in (volume, port):
            self.wait_alias(guest, device)
        self.act('detach_volume', guest, volume=volume)
        self.act('detach_port', guest, port=port)
        self.assert_clean(guest)

    def report(self, witness: Witness, took: float, asked: collections.Counter[str]) -> None:
        """Print the figures."""
        back, after_nova = [], []
        for port, begin, end in self.rebooted:
            anew, again = witness.back_after(begin, f'ua-{port}')
            back.append(again - anew)
            after_nova.append(again - end)
        print(
            json.dumps(
                {
                    'rounds': ROUNDS,
                    'hard reboots': len(self.rebooted),
                    'seconds': round(took),
                    'looks': witness.looks,
                    'aliases judged': witness.aliases,
                    'wrong': len(witness.wrong),
                    'asked to reconcile': asked,
                    'seconds from the new definition to its alias': _figures(back),
                    "seconds from the end of Nova's hard reboot to the alias": _figures(after_nova),
                }
            ),
            file=sys.stderr,
        )


def _figures(seconds: list[float]) -> dict[str, float]:
    return {'median': round(statistics.median(seconds), 2), 'maximum': round(max(seconds), 2)}
