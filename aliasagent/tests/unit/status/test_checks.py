# SPDX-License-Identifier: Apache-2.0
"""The checks before an upgrade."""

import sqlite3
import threading
from unittest import mock

import libvirt
from oslo_messaging import conffixture

from aliasagent import conf
from aliasagent.client import rpc
from aliasagent.devices import domain
from aliasagent.operations import journal
from aliasagent.status import broker
from aliasagent.status import checks
from aliasagent.tests import base
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import FakeHypervisor
from aliasagent.tests.fakes.libvirt import connection
from aliasagent.tests.fakes.libvirt import domain_xml

Code = checks.Code
DURABLE = "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'aliasagent' in vhost '/'"
TYPE = "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'compute' in vhost '/'"


class ChecksTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.fake = FakeHypervisor()
        self.addCleanup(self.fake.stop)
        self.messaging = self.useFixture(conffixture.ConfFixture(conf.CONF))
        self.messaging.transport_url = 'rabbit://someone:secret@127.0.0.1:1/'
        self.path = f'{self.make_directory()}/journal.sqlite'
        conf.CONF([], project='aliasagent', default_config_files=[])
        self.addCleanup(conf.CONF.reset)
        self.set('journal', self.path, 'operations')
        self.set('uri', FakeHypervisor.URI, 'libvirt')
        self.checks = checks.Checks(conf.CONF, lambda: 3.0, self.fake.open)

    def set(self, name: str, value: object, group: str) -> None:
        conf.CONF.set_override(name, value, group)
        self.addCleanup(conf.CONF.clear_override, name, group)

    def assert_said(self, check: str, code: int, *words: str) -> None:
        result = dict(checks.Checks._upgrade_checks)[check](self.checks)
        self.assertEqual(code, result.code, result.details)
        for word in words:
            self.assertIn(word, str(result.details))
        self.assertNotIn('secret', str(result.details))

    def test_a_hypervisor_that_can(self) -> None:
        self.assert_said('Hypervisor', Code.SUCCESS, 'libvirt 9.0.0, QEMU 7.2.22')

    def test_the_mounts_of_the_host(self) -> None:
        for doubt, code in ((None, Code.SUCCESS), ('run it in the namespace of the host', Code.WARNING)):
            with mock.patch('aliasagent.allowed.mounts.doubt', autospec=True, return_value=doubt):
                self.assert_said('Host mounts', code, *filter(None, [doubt]))

    def test_a_hypervisor_that_is_too_old_or_another(self) -> None:
        for method, answer in (('getLibVersion', 4_003_999), ('getType', 'LXC')):
            with mock.patch.object(connection.FakeConnect, method, return_value=answer, autospec=True):
                self.assert_said('Hypervisor', Code.FAILURE, 'cannot detach by alias')
        with mock.patch.object(connection.FakeConnect, 'getLibVersion', return_value=4_004_000, autospec=True):
            self.assert_said('Hypervisor', Code.SUCCESS, 'libvirt 4.4.0')

    def test_a_hypervisor_that_is_down(self) -> None:
        def refuse(_uri: str) -> object:
            raise libvirt.libvirtError('down')

        self.checks = checks.Checks(conf.CONF, lambda: 1.0, refuse)
        for check in ('Hypervisor', 'Guests', 'Duplicate aliases'):
            self.assert_said(check, Code.FAILURE, 'cannot be reached')

    def test_why_a_hypervisor_is_not_reached(self) -> None:
        """Libvirt's own words, without the password of the URI (issue 13, number 28)."""

        def refuse(uri: str) -> object:
            raise libvirt.libvirtError(f'no polkit agent available to authenticate {uri}')

        self.set('uri', 'qemu+ssh://nova:secret@host/system', 'libvirt')
        self.checks = checks.Checks(conf.CONF, lambda: 2.0, refuse)
        self.assert_said(
            'Hypervisor',
            Code.FAILURE,
            'no connection to qemu+ssh://nova:***@host/system within 2 s: no polkit agent available',
        )

    def test_a_hypervisor_that_gives_no_reason(self) -> None:
        test_is_over = threading.Event()
        self.addCleanup(test_is_over.set)

        def hang(_uri: str) -> object:
            test_is_over.wait(base.PATIENCE)
            raise libvirt.libvirtError('down')

        self.checks = checks.Checks(conf.CONF, lambda: 1.0, hang)
        self.assert_said('Hypervisor', Code.FAILURE, 'within 1 s, and no reason was given')

    def test_a_broker_that_is_down(self) -> None:
        self.assert_said('Message broker', Code.FAILURE, '127.0.0.1:1')
        self.assert_said('Queues', Code.FAILURE, 'could not be read')

    def test_one_of_several_brokers_is_down(self) -> None:
        with mock.patch.object(broker.Broker, 'unreachable', return_value=['10.0.0.2:5672: gone'], autospec=True):
            self.assert_said('Message broker', Code.WARNING, '10.0.0.2:5672: gone')
        with mock.patch.object(broker.Broker, 'unreachable', return_value=[], autospec=True):
            self.assert_said('Message broker', Code.SUCCESS)

    def test_what_is_on_the_broker(self) -> None:
        for code, reasons in (
            (Code.SUCCESS, []),
            (Code.SUCCESS, ['', '']),
            # oslo.messaging goes on with these
            (Code.WARNING, [DURABLE]),
            (Code.WARNING, [DURABLE, DURABLE]),
            # and cannot with these
            (Code.FAILURE, [DURABLE, '']),
            (Code.FAILURE, ['', DURABLE]),
            (Code.FAILURE, ['', TYPE]),
            (Code.FAILURE, [DURABLE, TYPE]),
        ):
            found = [broker.Found(f'thing {number}', reason) for number, reason in enumerate(reasons)]
            with mock.patch.object(broker.Broker, 'found', return_value=found, autospec=True):
                self.assert_said('Queues', code, *filter(None, reasons))

    def test_what_should_not_be_durable_and_is(self) -> None:
        rpc.transport(conf.CONF)
        self.set('amqp_durable_queues', False, 'oslo_messaging_rabbit')
        with mock.patch.object(broker.Broker, 'found', return_value=[broker.Found('exchange', DURABLE)], autospec=True):
            self.assert_said('Queues', Code.FAILURE)

    def test_no_broker_at_all(self) -> None:
        self.messaging.transport_url = 'fake:/'
        self.assert_said('Message broker', Code.WARNING, 'names no RabbitMQ')
        self.assert_said('Queues', Code.SUCCESS)

    def test_no_journal_yet(self) -> None:
        self.assert_said('Journal', Code.SUCCESS, 'the first start of the agent creates')
        self.set('journal', f'{self.path}/nowhere/journal.sqlite', 'operations')
        self.assert_said('Journal', Code.FAILURE, 'directory does not exist')

    def test_journals(self) -> None:
        journal.Journal(self.path).close()
        self.assert_said('Journal', Code.SUCCESS, f'layout {journal.VERSION}; the next start continues 0 operations')
        for version, code, word in (
            (journal.VERSION - 1, Code.SUCCESS, f'converts it to layout {journal.VERSION}'),
            (journal.VERSION + 1, Code.FAILURE, f'layout {journal.VERSION + 1}'),
        ):
            db = sqlite3.connect(self.path)
            db.execute(f'PRAGMA user_version = {version}')
            db.close()
            self.assert_said('Journal', code, word)
        with open(self.path, 'wb') as file:
            file.write(b'nonsense' * 1000)
        self.assert_said('Journal', Code.FAILURE, 'cannot be used')

    def test_guests(self) -> None:
        self.assert_said('Guests', Code.SUCCESS, '0 guests')
        self.checks = checks.Checks(conf.CONF, lambda: 3.0, self.fake.open)
        for number in range(7):
            devices = harness.disk_xml('/a', 'sda') + harness.disk_xml('/b', 'sdb', serial=harness.new_id())
            self.fake.add_guest(xml=domain_xml(f'guest-{number}', harness.new_id(), devices))
        self.assert_said('Guests', Code.WARNING, '7 devices have no alias', '7 devices get', 'guest-4', ', ...')
        self.assert_said('Duplicate aliases', Code.SUCCESS)

    def test_duplicates(self) -> None:
        with mock.patch.object(domain.Domain, 'doubled_aliases', return_value=['ua-x'], autospec=True):
            for number in range(7):
                self.fake.add_guest(xml=domain_xml(f'guest-{number}', harness.new_id(), ''))
            self.assert_said('Duplicate aliases', Code.FAILURE, 'guest-4: ua-x', 'and 2 more guests')

    def test_aliases_that_rest_on_the_name_of_a_source(self) -> None:
        for number in range(2):
            volume = harness.new_id()
            disk = harness.disk_xml(f'/srv/volume-{volume}', 'sda', alias=f'ua-{volume}')
            self.fake.add_guest(xml=domain_xml(f'guest-{number}', harness.new_id(), disk))
        self.assert_said('Aliases by source name', Code.WARNING, '2 aliases', 'guest-0, guest-1')
        # A journal that cannot be read has a check of its own.
        with open(self.path, 'wb') as file:
            file.write(b'nonsense' * 1000)
        self.assert_said('Aliases by source name', Code.WARNING, '2 aliases')

    def test_the_worst_is_the_exit_code(self) -> None:
        with mock.patch('builtins.print', autospec=True):
            self.assertEqual(Code.FAILURE, self.checks.check())
