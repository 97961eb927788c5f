# SPDX-License-Identifier: Apache-2.0
"""Patterns for hosts."""

from aliasagent.allowed import hosts
from aliasagent.tests import base

NOT_HERE = ('*', '!localhost*', '!127.0.0.0/8', '!::1', '!169.254.0.0/16')


class HostsTestCase(base.TestCase):
    def test_by_the_name_alone(self) -> None:
        cases: tuple[tuple[str, tuple[str, ...], bool], ...] = (
            ('ceph-1', (), False),
            ('ceph-1', ('*',), True),
            ('CEPH-1', ('ceph-*',), True),
            ('ceph-1.example.org', ('ceph-?',), False),
            ('192.0.2.1', ('192.0.2.0/24',), True),
            ('192.0.2.1', ('192.0.2.99/24',), True),
            ('192.0.3.1', ('192.0.2.0/24',), False),
            ('192.0.2.1', ('192.0.2.1',), True),
            ('192.0.2.1', ('192.0.2.*',), True),
            ('192.0.2.1', ('2001:db8::/32', '::/0'), False),
            ('2001:db8::1', ('2001:db8::/32',), True),
            ('2001:db8:0:0::1', ('2001:db8::1',), True),
            ('[2001:db8::1]', ('2001:db8::1',), True),
            ('::ffff:192.0.2.1', ('192.0.2.0/24',), True),
            ('192.0.2.1', NOT_HERE, True),
            ('127.0.0.1', NOT_HERE, False),
            ('127.9.9.9', NOT_HERE, False),
            ('::1', NOT_HERE, False),
            ('0:0:0:0:0:0:0:1', NOT_HERE, False),
            ('::ffff:127.0.0.1', NOT_HERE, False),
            ('169.254.169.254', NOT_HERE, False),
            ('localhost', NOT_HERE, False),
            ('LocalHost.localdomain', NOT_HERE, False),
            ('192.0.2.1', ('!192.0.2.1', '*'), False),
            # Their addresses may be in a network: who resolves the name finds out.
            ('ceph-1', ('192.0.2.0/24',), True),
            ('127.1', ('192.0.2.0/24',), True),
            ('ceph-1', ('!192.0.2.0/24',), False),
        )
        for host, patterns, expected in cases:
            self.assertEqual(expected, hosts.may_be_allowed(host, patterns), f'{host} {patterns}')

    def test_with_its_addresses(self) -> None:
        private = ('10.0.0.0/8', 'fc00::/7')
        cases: tuple[tuple[str, tuple[str, ...], tuple[str, ...], bool], ...] = (
            ('compute-2', ('10.0.0.2',), private, True),
            ('compute-2', ('10.0.0.2', 'fd00::2'), private, True),
            ('compute-2', ('10.0.0.2', '198.51.100.2'), private, False),
            ('compute-2', (), private, False),
            ('127.1', ('127.0.0.1',), private, False),
            ('compute-2', ('198.51.100.2',), (*private, 'compute-*'), True),
            ('ceph-1', ('192.0.2.1',), NOT_HERE, True),
            ('ceph-1', ('192.0.2.1', '127.0.1.1'), NOT_HERE, False),
            ('2130706433', ('127.0.0.1',), NOT_HERE, False),
            ('10.0.0.2', (), private, True),
            ('198.51.100.2', (), private, False),
        )
        for host, addresses, patterns, expected in cases:
            self.assertEqual(expected, hosts.allows(host, addresses, patterns), f'{host} {addresses} {patterns}')

    def test_addresses_are_asked_for_where_they_decide(self) -> None:
        cases: tuple[tuple[str, tuple[str, ...], bool], ...] = (
            ('ceph-1', ('*',), False),
            ('ceph-1', ('ceph-*', '!ceph-2'), False),
            ('ceph-1', NOT_HERE, True),
            ('ceph-1', ('192.0.2.0/24',), True),
            ('192.0.2.1', NOT_HERE, False),
            ('0x7f000001', NOT_HERE, True),
        )
        for host, patterns, expected in cases:
            self.assertEqual(expected, hosts.must_be_resolved(host, patterns), f'{host} {patterns}')
