# SPDX-License-Identifier: Apache-2.0
"""An agent that asks Nova and Neutron which volumes and ports a guest has."""

import functools
import logging
import pathlib
import subprocess
import sys
import urllib.request

import fixtures

from aliasagent import conf
from aliasagent.cloud import questions
from aliasagent.conf import openstack
from aliasagent.context import RequestContext
from aliasagent.tests import base
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.cloud import FakeCloud
from aliasagent.tests.functional import test_agent
from sandbox import processes

#: Part of each password and token of the fake cloud, and of nothing else.
MARK = 'x7Qm-hush'


class CloudTest(test_agent.FakeAgentCase):
    def setUp(self) -> None:
        self.logged = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG, format='%(name)s %(message)s'))
        self.cloud = self.useFixture(FakeCloud())
        hasty = functools.partial(questions.Questions, pace=questions.Pace(settle=0.1))
        self.useFixture(fixtures.MonkeyPatch('aliasagent.compute.service.Questions', hasty))
        super().setUp()

    def start_agent(self, host: str) -> None:
        path = self.directory / 'cloud.conf'
        path.write_text(self.cloud.configuration('nova', 'neutron'))
        conf.CONF([], project='aliasagent', default_config_files=[str(path)])
        openstack.register(conf.CONF)
        # Other tests have no such sections, and some of these options are required.
        for group in openstack.configured(conf.CONF):
            self.addCleanup(conf.CONF._groups.pop, group)
        self.metrics_port = processes.free_port()
        conf.CONF.set_override('port', self.metrics_port, 'metrics')
        self.addCleanup(conf.CONF.clear_override, 'port', 'metrics')
        super().start_agent(host)

    def reconcile(self) -> None:
        self.services[0]._reconciler.run()

    def aliases(self, guest: str) -> list[str]:
        return [alias for alias in self.side.fake.guests[guest].aliases(live=False) if alias.startswith('ua-')]

    def wait_asked(self, guest: str, times: int = 2) -> None:
        path = f'/compute/v2.1/servers/{guest}/os-volume_attachments'
        processes.wait_until(lambda: self.cloud.asked.count(path) >= times, harness.SOON, 'the questions')

    def test_disks_without_a_serial_are_identified(self) -> None:
        one, two = harness.new_id(), harness.new_id()
        macs = harness.new_mac(), harness.new_mac()
        guest = self.side.new_guest(
            harness.disk_xml(self.side.new_file(), 'vdb')
            + harness.disk_xml(self.side.new_file(), 'vdc')
            + harness.interface_xml('br-fake', macs[0])
            + harness.interface_xml('br-fake', macs[1])
        )
        self.cloud.add_server(guest, host=self.host_name, volumes={one: '/dev/vdb', two: '/dev/vdc'})
        ports = [self.cloud.add_port(guest, mac) for mac in macs]
        self.reconcile()
        expected = [f'ua-{it}' for it in (one, two, *ports)]
        processes.wait_until(lambda: self.aliases(guest) == expected, harness.SOON, 'the aliases')
        # What the answer said of the disks is kept, so that a volume is found in the running guest, too.
        self.cloud.before = lambda _path: (503, {})
        ctxt = RequestContext()
        self.api().submit(ctxt, 'detach_volume', instance_uuid=guest, volume_id=one)
        self.assertEqual('succeeded', self.wait(self.api(), ctxt.operation_id)['state'])
        self.assertEqual(expected[1:], self.aliases(guest))

    def test_words_that_give_no_alias(self) -> None:
        """Of a server of another host, a stale one, a wrong one, and one that Nova is at work on."""
        guests = []
        for volumes, more in (
            ({'/dev/vdb'}, {}),
            ({'/dev/vdb', '/dev/vdd'}, {}),
            ({'/dev/vdb', '/dev/vdc', '/dev/vdd'}, {}),
            ({'/dev/vdb', '/dev/vdc'}, {'OS-EXT-SRV-ATTR:host': 'b', 'OS-EXT-SRV-ATTR:hypervisor_hostname': 'b'}),
            ({'/dev/vdb', '/dev/vdc'}, {'OS-EXT-STS:task_state': 'rebooting_hard'}),
            ({'/dev/vdb', '/dev/vdc'}, {'OS-EXT-STS:vm_state': 'rescued'}),
        ):
            guest = self.side.new_guest(
                harness.disk_xml(self.side.new_file(), 'vdb') + harness.disk_xml(self.side.new_file(), 'vdc')
            )
            self.cloud.add_server(guest, host=self.host_name, volumes={harness.new_id(): it for it in sorted(volumes)})
            self.cloud.servers[guest].update(more)
            guests.append(guest)
        right = self.side.new_guest(harness.disk_xml(self.side.new_file(), 'vdb'))
        volume = harness.new_id()
        self.cloud.add_server(right, host=self.host_name, volumes={volume: '/dev/vdb'})
        self.reconcile()
        for guest in guests[:3]:
            self.wait_asked(guest)
        processes.wait_until(lambda: self.aliases(right), harness.SOON, 'an alias')
        self.reconcile()
        self.assertEqual([[]] * len(guests) + [[f'ua-{volume}']], [self.aliases(guest) for guest in (*guests, right)])

    def test_an_attach_of_nova_in_between(self) -> None:
        """Nova lists the new volume at the target of the one that it detaches."""
        old, new = harness.new_id(), harness.new_id()
        guest = self.side.new_guest(harness.disk_xml(self.side.new_file(), 'vdb'))
        self.cloud.add_server(guest, host=self.host_name, volumes={old: '/dev/vdb'})

        def exchange(path: str) -> None:
            if path.endswith('os-volume_attachments') and self.cloud.asked.count(path) == 2:
                self.cloud.volumes[guest][0]['volumeId'] = new
                domain = self.side.fake.open().lookupByUUIDString(guest)
                domain.updateDeviceFlags(harness.disk_xml(self.side.new_file(), 'vdb'), 2)

        self.cloud.before = exchange
        self.reconcile()
        processes.wait_until(lambda: self.aliases(guest), harness.SOON, 'an alias')
        self.assertEqual([f'ua-{new}'], self.aliases(guest))

    def test_services_that_fail(self) -> None:
        self.cloud.before = lambda path: (500, {}) if 'compute' in path else None
        guests = [self.side.new_guest(harness.disk_xml(self.side.new_file(), 'vdb')) for _ in range(5)]
        self.reconcile()
        words = 'Nova and Neutron are not asked about guests for 60 s, because 3 questions in a row failed'
        processes.wait_until(lambda: words in self.logged.output, harness.SOON, 'the warning')
        self.reconcile()
        self.assertEqual(3, len(self.cloud.asked))
        self.assertEqual([[]] * 5, [self.aliases(guest) for guest in guests])
        self.assertIn('aliasagent_cloud_requests_total{outcome="failed",service="nova"} 3.0', self.metrics())

    def test_no_secret_is_told_anywhere(self) -> None:
        guest = self.side.new_guest(harness.disk_xml(self.side.new_file(), 'vdb'))
        self.cloud.add_server(guest, host=self.host_name, volumes={harness.new_id(): '/dev/vdb'})
        self.reconcile()
        processes.wait_until(lambda: self.aliases(guest), harness.SOON, 'an alias')
        conf.CONF.log_opt_values(logging.getLogger('aliasagent'), logging.DEBUG)
        stored = [path.read_bytes().decode('latin-1') for path in self.directory.glob('*.sqlite*')]
        for text in (self.logged.output, self.metrics(), *stored):
            self.assertNotIn(MARK, text)
        self.assertIn('nova.password', self.logged.output)
        self.assertIn('X-Subject-Token', self.logged.output)

    def metrics(self) -> str:
        with urllib.request.urlopen(f'http://127.0.0.1:{self.metrics_port}/metrics', timeout=harness.SOON) as page:
            return str(page.read().decode())


class StartTest(base.TestCase):
    """The sections of a configuration, and what a program says of them."""

    def setUp(self) -> None:
        super().setUp()
        self.path = pathlib.Path(self.make_directory()) / 'a.conf'
        self.journal = self.path.parent / 'journal.sqlite'

    def run_agent(self, text: str, *, before: str = '') -> tuple[int, str]:
        """Make an agent, and print whether keystoneauth1 is loaded; the exit code and the output."""
        self.path.write_text(f'[DEFAULT]\ntransport_url = fake:/\n[operations]\njournal = {self.journal}\n{text}')
        script = (
            f'import sys; {before}\nfrom aliasagent.cmd import compute\n'
            'compute.service.launch = lambda *_a, **_k: print("keystoneauth1" in sys.modules)\n'
            f"sys.exit(compute.main(['--config-file', {str(self.path)!r}]))"
        )
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', script],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def test_without_the_sections_nothing_is_loaded(self) -> None:
        for text in ('', '[nova]\n[neutron]\n', '[nova]\nhost = x\n'):
            self.assertEqual((0, 'False\n'), self.run_agent(text), text)

    def test_with_a_section(self) -> None:
        login = 'auth_type = password\nauth_url = http://127.0.0.1:1/\nusername = a\npassword = x7Qm-hush\n'
        code, said = self.run_agent(f'[nova]\n{login}')
        self.assertEqual((0, 'True\n'), (code, said))
        code, said = self.run_agent(f'[neutron]\n{login}')
        self.assertIn('Neutron is not asked about guests, because section [nova] is missing', said)

    def test_without_the_package(self) -> None:
        hide = "sys.modules['keystoneauth1'] = None"
        self.assertEqual((0, 'True\n'), self.run_agent('', before=hide))
        code, said = self.run_agent('[nova]\nauth_type = password\n', before=hide)
        self.assertEqual(1, code, said)
        self.assertIn(
            'The agent cannot start: [nova] needs the package keystoneauth1: install aliasagent[openstack]', said
        )

    def test_options_that_are_wrong(self) -> None:
        for text, words in (
            ('[nova]\nusername = a\n', '[nova] auth_type is missing'),
            ('[nova]\nauth_type = password\npassword = x7Qm-hush\n', 'auth_url'),
            (
                '[nova]\nauth_type = password\nauth_url = http://127.0.0.1:1/\ntimeout = x7Qm\n',
                '[nova] Value for option timeout from',
            ),
        ):
            code, said = self.run_agent(text)
            self.assertEqual(1, code, said)
            self.assertIn('The agent cannot start: ', said)
            self.assertIn(words, said)
            self.assertNotIn('Traceback', said)
            self.assertNotIn('hush', said)
