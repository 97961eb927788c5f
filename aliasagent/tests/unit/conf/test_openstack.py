# SPDX-License-Identifier: Apache-2.0
"""The sections of Nova, Neutron and Cinder, and the package that they need."""

import re
import sys
from unittest import mock

from oslo_config import cfg

from aliasagent.conf import openstack
from aliasagent.conf import opts
from aliasagent.conf import reading
from aliasagent.tests import documents
from aliasagent.tests.unit.cloud import base

without_keystoneauth1 = mock.patch.dict(sys.modules, {'keystoneauth1': None})


class OpenStackTestCase(base.CloudTestCase):
    def test_what_makes_a_section_configured(self) -> None:
        for text, expected in (
            ('', []),
            ('[nova]\n[neutron]\n', []),
            ('[nova]\nhost = compute-1\n', []),
            ('[nova]\nauth_type = password\n', ['nova']),
            ('[neutron]\nauth_section = nova\n', ['neutron']),
            ('[nova]\npassword = x\n[neutron]\nauth_url = http://x\n', ['nova', 'neutron']),
        ):
            self.assertEqual(expected, openstack.configured(self.parse(text)), text)

    def test_what_is_registered(self) -> None:
        for text, expected in (('[nova]\n', []), ('[nova]\nauth_type = none\n', ['nova'])):
            conf = self.parse(text)
            self.assertEqual([], openstack.registered(conf))
            openstack.register(conf)
            self.assertEqual(expected, openstack.registered(conf))

    def test_defaults(self) -> None:
        conf = self.parse(''.join(f'[{group}]\nauth_type = none\n' for group in openstack.SERVICES))
        openstack.register(conf)
        expected = (('nova', 10, 'compute'), ('neutron', 10, 'network'), ('cinder', 90, 'block-storage'))
        for group, timeout, kind in expected:
            self.assertEqual((timeout, kind), (conf[group].timeout, conf[group].service_type))
            self.assertEqual(['internal', 'public'], conf[group].valid_interfaces)
        self.assertEqual((False, False), (conf.cinder.send_instance, conf.cinder.send_service_token))

    def test_the_login_of_another_section(self) -> None:
        conf = self.parse(self.cloud.configuration('nova') + '[neutron]\nauth_section = nova\n')
        openstack.register(conf)
        openstack.check(conf)

    def test_options_that_do_not_suffice(self) -> None:
        for text, words in (
            ('[nova]\nauth_url = http://127.0.0.1/\n', r'\[nova\] auth_type is missing'),
            ('[nova]\nauth_section = other\n', r'\[nova\] auth_type is missing'),
            ('[nova]\nauth_type = nothing\n', r'\[nova\] The plugin nothing could not be found'),
            ('[neutron]\nauth_type = password\n', r'\[neutron\] .*auth_url'),
            ('[nova]\nauth_type = none\nversion = 2\nmin_version = 1\n', r'\[nova\] .*min_version'),
        ):
            conf = self.parse(text)
            openstack.register(conf)
            self.assertTrue(re.match(words, str(self.assertRaises(cfg.Error, openstack.check, conf))), text)

    def test_a_reload_checks_them_too(self) -> None:
        conf = self.configured('nova')
        reading.check_again(conf)
        with open(conf.config_file[0], 'a') as file:
            file.write('timeout = often\n')
        refused = self.assertRaises(cfg.Error, reading.check_again, conf)
        self.assertIn('[nova] Value for option timeout', str(refused))

    @without_keystoneauth1
    def test_without_the_package(self) -> None:
        self.assertEqual([], openstack.list_opts())
        self.assertNotIn('nova', [group for group, _options in opts.list_opts()])
        openstack.register(self.parse('[nova]\n'))
        refused = self.assertRaises(cfg.Error, openstack.register, self.parse('[nova]\nauth_type = none\n'))
        self.assertIn('[nova] needs the package keystoneauth1: install aliasagent[openstack]', str(refused))

    def test_passwords_are_secret(self) -> None:
        for _group, options in openstack.list_opts():
            secret = {it.name for it in options if it.secret}
            self.assertEqual({'password'}, secret)

    def test_the_extra_is_installed_for_tests_and_documents(self) -> None:
        setup = (documents.ROOT / 'setup.cfg').read_text()
        extra = re.search(r'^openstack =\n((    \S+\n)+)', setup, re.MULTILINE)
        assert extra is not None
        wanted = extra[1].split()
        self.assertNotEqual([], wanted)
        self.assertEqual(set(), set(wanted) - set((documents.ROOT / 'doc' / 'requirements.txt').read_text().split()))
