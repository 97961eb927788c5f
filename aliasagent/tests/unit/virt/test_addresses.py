# SPDX-License-Identifier: Apache-2.0
"""The addresses behind the names of hosts."""

import socket
from unittest import mock

from aliasagent import exception
from aliasagent.allowed import addresses
from aliasagent.allowed import paths
from aliasagent.allowed import rules
from aliasagent.tests import base

NOT_HERE = ('*', '!127.0.0.0/8', '!::1', '!fe80::/10')


class AddressesTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.known = {'ceph': ['192.0.2.1'], 'here': ['192.0.2.9', '127.0.1.1'], 'near': ['fe80::1%eth0']}
        patch = mock.patch('socket.getaddrinfo', autospec=True, side_effect=self.resolve)
        self.asked = patch.start()
        self.addCleanup(patch.stop)

    def resolve(self, name: str, _port: None, **_more: object) -> list[tuple[object, ...]]:
        if name not in self.known:
            raise socket.gaierror(-2, 'Name or service not known')
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', (address, 0)) for address in self.known[name]]

    def check(self, host: str, *patterns: str) -> None:
        need = rules.Need('connection_info.data.host', rules.STORAGE_HOSTS, host)
        # also as an attach checks it
        within = rules.Bounds(storage_hosts=patterns)
        paths.check([need], within)
        addresses.check(need, within)

    def assert_refused(self, words: str, host: str, *patterns: str) -> None:
        error = self.assertRaises(exception.InvalidInput, self.check, host, *patterns)
        self.assertEqual('connection_info.data.host', error.kwargs['field'])
        self.assertIn(words, str(error))

    def test_a_name_of_this_host_is_found_out(self) -> None:
        self.assert_refused('here has the address 127.0.1.1, 192.0.2.9', 'here', *NOT_HERE)
        self.assert_refused('fe80::1', 'near', *NOT_HERE)
        self.check('ceph', *NOT_HERE)

    def test_a_name_whose_addresses_are_in_a_network(self) -> None:
        self.check('ceph', '192.0.2.0/24')
        self.assert_refused('[allowed] storage_hosts', 'here', '192.0.2.0/24')

    def test_a_name_that_is_not_known(self) -> None:
        self.assert_refused('cannot be looked up', 'nowhere', *NOT_HERE)

    def test_a_name_server_that_is_down_does_not_make_a_name_bad(self) -> None:
        self.asked.side_effect = socket.gaierror(socket.EAI_AGAIN, 'Temporary failure in name resolution')
        error = self.assertRaises(exception.ServiceBusy, self.check, 'ceph', *NOT_HERE)
        self.assertTrue(error.retryable)
        self.assertIn('the addresses of ceph', str(error))

    def test_nothing_is_asked_for_where_the_name_is_enough(self) -> None:
        self.check('nowhere', '*')
        self.check('192.0.2.1', *NOT_HERE)
        self.assertEqual([], self.asked.mock_calls)
