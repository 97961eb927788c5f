# SPDX-License-Identifier: Apache-2.0
"""The addresses that a guest is migrated to."""

from aliasagent import exception
from aliasagent.requests import uris
from aliasagent.tests import base

DEST = 'qemu+tls://there/system'
HUSH = 'hush'


def names(dest_uri: str, migrate_uri: str | None = None) -> list[tuple[str, str, str]]:
    found = uris.needs(dest_uri, migrate_uri)
    return [(need.field, need.kind, need.name) for need in found]


class UrisTestCase(base.TestCase):
    def assert_refused(self, field: str, uri: str) -> None:
        error = self.assertRaises(exception.InvalidInput, lambda: uris.needs(**{'dest_uri': DEST, field: uri}))
        self.assertEqual(field, error.kwargs['field'], uri)
        self.assertNotIn(HUSH, str(error))

    def test_what_a_good_one_names(self) -> None:
        host = ('dest_uri', 'migration_hosts', 'there')
        for uri, expected in (
            (DEST, [host]),
            ('qemu://there/system', [host]),
            ('qemu+libssh2://there/session', [host]),
            ('qemu+tcp://[2001:db8::1]:16509/system', [('dest_uri', 'migration_hosts', '2001:db8::1')]),
            ('qemu+ssh://root@there:2222/system?no_tty=1&mode=auto&Proxy=native', [host]),
            (
                'qemu+ssh://nova@there/system?keyfile=/etc/nova/identity;no_tty=1',
                [host, ('dest_uri', 'migration_keys', '/etc/nova/identity')],
            ),
            (
                'qemu+unix:///system?socket=/run/other/libvirt-sock',
                [('dest_uri', 'migration_sockets', '/run/other/libvirt-sock')],
            ),
            (
                'qemu+unix:///system?SOCKET=%2frun%2Fother',
                [('dest_uri', 'migration_sockets', '/run/other')],
            ),
        ):
            self.assertEqual(expected, names(uri))
        for uri, expected in (
            ('tcp://10.0.0.2', [('migrate_uri', 'migration_hosts', '10.0.0.2')]),
            ('tcp://[2001:db8::1]:49152', [('migrate_uri', 'migration_hosts', '2001:db8::1')]),
            ('rdma://there', [('migrate_uri', 'migration_hosts', 'there')]),
            ('unix:///run/migration', [('migrate_uri', 'migration_sockets', '/run/migration')]),
        ):
            self.assertEqual([host, *expected], names(DEST, uri))

    def test_what_is_no_address(self) -> None:
        for uri in (
            '',
            'there',
            'there:16509',
            'qemu+tls:there/system',
            'qemu+tls://there',
            'qemu+tls://there/elsewhere',
            'qemu+tls://there/system/',
            'qemu+tls://there/embed?root=/tmp',
            'qemu+tls://there:port/system',
            'qemu+tls://there:65536/system',
            'qemu+tls://there/system#x',
            'qemu+tls://[there/system',
            'qemu+tls:///system',
            'qemu:///system',
            'qemu+tls://-oProxyCommand=x/system',
            'qemu+ssh://-oProxyCommand=x@there/system',
            'qemu+ssh://a@b@there/system',
            'qemu+ssh://a%40b@there/system',
            'qemu+tls://the%72e/system',
            'qemu+tls://there\\@elsewhere/system',
            'QEMU+tls://there/system',
            'http://there/system',
            'test:///default',
            'qemu+tls://the re/system',
            'qemu+tls://there/system\n',
            'qemu+tls://there/system\0',
            'qemu+tls://thére/system',
            'qemu+tls://' + 'x' * 2000 + '/system',
        ):
            self.assert_refused('dest_uri', uri)
        for uri in (
            '',
            'there',
            'exec:/bin/sh',
            'exec://x/bin/sh',
            'tcp://',
            'tcp:there',
            'tcp://there/x',
            'tcp://there?x',
            'tcp://there:0',
            'fd:7',
            'unix://x',
            'unix:///run/../etc/passwd',
            'unix:///run/a?b',
            'unix:///run/%2e%2e/etc/passwd',
            'file:///x',
        ):
            self.assert_refused('migrate_uri', uri)

    def test_no_program_and_no_other_file_is_named(self) -> None:
        for query in (
            'command=/bin/sh',
            'Command=/bin/sh',
            'COMMAND=/bin/sh',
            'x=1;command=/bin/sh',
            'no_tty=1;command=/bin/sh',
            'no_tty=1;Command=/bin/sh&no_tty=1',
            'no_tty=1&mode=auto;command=/bin/sh',
            'no_tty=0&no_tty=1;command=/bin/sh',
            '%63ommand=/bin/sh',
            'co%6Dmand=%2fbin%2fsh',
            'command%00=/bin/sh',
            '&&command=/bin/sh',
            ';;command=/bin/sh',
            '=x&command=/bin/sh',
            '=x',
            'command',
            'netcat=/bin/sh',
            'NetCat=/bin/sh',
            'name=qemu%2Bext:///system?command=/bin/sh',
            'pkipath=/tmp',
            'authfile=/etc/shadow',
            'auth=none',
            'sshauth=password',
            'no_verify=1',
            'no_sanity=1',
            'known_hosts=/tmp/x',
            'known_hosts_verify=ignore',
            'tls_priority=NULL',
            'socket=/run/x',
            'proxy=/bin/sh',
            'mode=x',
            'no_tty=1+1',
            'keyfile=relative',
            'keyfile=/etc/../root/key',
            'keyfile=/etc/%2e%2e/root/key',
            'keyfile=/etc/key%00/x',
            'keyfile=/etc/key;command=/bin/sh',
            'keyfile=/etc/key command',
            f'password={HUSH}',
            f'{HUSH}',
            f'no_tty={HUSH}',
        ):
            self.assert_refused('dest_uri', f'qemu+ssh://there/system?{query}')
        for uri in (
            'qemu+ext://there/system?command=/bin/sh',
            'qemu+ext:///system?command=/bin/sh',
            'qemu+tls://there/system?keyfile=/etc/key',
            'qemu+tcp://there/system?no_tty=1',
            'qemu+unix:///system',
            'qemu+unix://there/system?socket=/run/x',
            'qemu+unix:///system?socket=/run/x&socket=/run/y',
            'qemu+unix:///system?socket=/run/x&command=/bin/sh',
            'qemu+unix:///system?socket=/run/x;command=/bin/sh',
            'qemu+unix:///system?socket=',
            'qemu+unix:///system?socket=/run/../x',
        ):
            self.assert_refused('dest_uri', uri)

    def test_a_password_is_not_shown(self) -> None:
        for uri in (
            f'qemu+ssh://root:{HUSH}@there/system',
            f'qemu+ssh://root:hu/{HUSH}@there/system',
            f'qemu+ssh:root:{HUSH}@there/system',
            f'http://root:{HUSH}@there',
            f'qemu+tls://there:{HUSH}/system',
            f'qemu+tls://there/{HUSH}',
            f'qemu+ssh://there/system?{HUSH}#x',
        ):
            self.assert_refused('dest_uri', uri)
            self.assertNotIn(HUSH, uris.shown(uri))
            self.assert_refused('migrate_uri', uri)
        self.assert_refused('migrate_uri', f'tcp://a:{HUSH}@there')

    def test_what_is_shown_of_one(self) -> None:
        for uri, expected in (
            (f'qemu+ssh://{HUSH}@there:22/system?keyfile=/{HUSH}', 'qemu+ssh://there:22/system'),
            (DEST, DEST),
            ('qemu+unix:///system?socket=/run/x', 'qemu+unix:///system'),
            ('tcp://there:1', 'tcp://there:1'),
            ('unix:///run/x', 'unix:///run/x'),
            ('nonsense', '(a malformed URI)'),
        ):
            self.assertEqual(expected, uris.shown(uri))
