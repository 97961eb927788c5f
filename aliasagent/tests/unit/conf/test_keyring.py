# SPDX-License-Identifier: Apache-2.0
"""The key of a Ceph user: from a keyring as Ceph writes it, or a clear word, and nothing of the key in either."""

import base64
import os
import pathlib
import traceback

from hypothesis import given
from hypothesis import strategies as st
from oslo_config import cfg

from aliasagent import conf
from aliasagent.conf import keyring
from aliasagent.conf import reading
from aliasagent.tests import base

#: A key as Ceph makes it, of 28 bytes.
KEY = b'\x01\0' + b'x7Qm-hush' * 3 + b'\xff'
TEXT = base64.b64encode(KEY).decode()
SECRET = '1B9D6BCD-bbfd-4b2d-9b5d-ab8dfbbd4bed'
KEYRING = f"""\
# of the cluster
[client.glance]
\tkey = {base64.b64encode(b'not this one').decode()}
[client.cinder]
\tkey = {TEXT}
\tcaps mgr = "profile rbd pool=volumes"
\tcaps mon = "profile rbd, allow command \\"osd blacklist\\""
"""


class FindKeyTestCase(base.TestCase):
    def assert_refused(self, text: str, words: str, user: str = 'cinder') -> None:
        refused = self.assertRaises(ValueError, keyring.find_key, text, user)
        self.assertEqual(words, str(refused))

    def test_as_ceph_writes_it(self) -> None:
        self.assertEqual(KEY, keyring.find_key(KEYRING, 'cinder'))
        self.assertEqual(b'not this one', keyring.find_key(KEYRING, 'glance'))

    def test_as_people_write_it(self) -> None:
        for text in (
            f'[client.cinder]\r\nkey={TEXT}\r\n',
            f'[ client.cinder ] ; mine\nkey = "{TEXT}" # and its key',
            f'[client.cinder]\nkey = {TEXT}\n[client.nova]\nkey = x\n[client.cinder]\nkey = {TEXT}\n',
            f'[client.cinder]\nauid = 18446744073709551615\nno field\nkey = {TEXT}',
        ):
            self.assertEqual(KEY, keyring.find_key(text, 'cinder'), text)

    def test_what_has_no_key(self) -> None:
        nobody = 'has no section [client.cinder]'
        for text, words in (
            ('', nobody),
            (TEXT, nobody),
            (f'key = {TEXT}', nobody),
            (f'[client.cinder2]\nkey = {TEXT}\n', nobody),
            (f'[cinder]\nkey = {TEXT}\n', nobody),
            (f'#[client.cinder]\nkey = {TEXT}\n', nobody),
            (f'[client.cinder\nkey = {TEXT}\n', nobody),
            ('[client.cinder]\n', 'has no key of client.cinder'),
            (f'[client.cinder]\n[client.nova]\nkey = {TEXT}\n', 'has no key of client.cinder'),
            (f'[client.cinder]\nmonkey = {TEXT}\n', 'has no key of client.cinder'),
            (f'[client.cinder]\nkey = {TEXT}\nkey = AAAA\n', 'has different keys of client.cinder'),
        ):
            self.assert_refused(text, words)
        self.assert_refused(KEYRING, 'has no section [client.client.cinder]', 'client.cinder')

    def test_what_is_no_key(self) -> None:
        for value in ('', '""', 'x7Qm-hush', TEXT[:-1], f'{TEXT[:8]} {TEXT[8:]}', 'ключ', '\ufffd'):
            words = 'has a key of client.cinder that is not valid base64'
            self.assert_refused(f'[client.cinder]\nkey = {value}\n', words)

    @given(
        st.dictionaries(
            st.text('abcdefghijklmnopqrstuvwxyz0123456789-_.', min_size=1, max_size=8),
            st.binary(min_size=1),
            min_size=1,
        ),
        st.sampled_from(['\n', '\r\n']),
        st.sampled_from(['', '\t', '    ']),
        st.sampled_from(['=', ' = ', ' =']),
        st.lists(st.sampled_from(['', '# key = a', '; [client.a]', 'caps mon = "allow [r] key = a"']), max_size=3),
    )
    def test_every_key_is_found(
        self, keys: dict[str, bytes], end: str, indent: str, equals: str, more: list[str]
    ) -> None:
        lines = []
        for user, key in keys.items():
            lines += [*more, f'[client.{user}]', *more, f'{indent}key{equals}{base64.b64encode(key).decode()}']
        for user, key in keys.items():
            self.assertEqual(key, keyring.find_key(end.join(lines), user))
        self.assert_refused(end.join(lines), 'has no section [client.nobody-here]', 'nobody-here')

    @given(st.text(), st.sampled_from(['', '[client.cinder]\n', '[client.cinder]\nkey = ']))
    def test_any_text_gives_a_key_or_a_refusal_without_it(self, text: str, begin: str) -> None:
        try:
            self.assertTrue(keyring.find_key(begin + text, 'cinder'))
        except ValueError as error:
            self.assertIn(
                str(error),
                {
                    'has no section [client.cinder]',
                    'has no key of client.cinder',
                    'has different keys of client.cinder',
                    'has a key of client.cinder that is not valid base64',
                },
            )


class LoginTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(self.make_directory())
        self.path = self.directory / 'keyring'
        self.path.touch(0o600)
        self.path.write_text(KEYRING)

    def parse(self, **options: object) -> cfg.ConfigOpts:
        file = self.directory / 'a.conf'
        file.write_text(''.join(['[ceph]\n', *(f'{name} = {value}\n' for name, value in options.items())]))
        made = cfg.ConfigOpts()
        for module in conf.MODULES:
            module.register_opts(made)
        reading.parse(made, ['--config-file', str(file)])
        return made

    def assert_refused(self, words: str, **options: object) -> None:
        made = self.parse(**{'keyring': self.path, 'user': 'cinder', **options})
        for read in (keyring.login, reading.check_again):
            refused = self.assertRaises(cfg.Error, read, made)
            self.assertEqual(f'[ceph] keyring{words}', str(refused))
            shown = ''.join(traceback.format_exception(refused))
            self.assertNotIn(TEXT, shown)
            self.assertNotIn('hush', shown)

    def test_without_a_keyring(self) -> None:
        for options in ({}, {'user': 'cinder'}, {'user': 'cinder', 'secret_uuid': SECRET}):
            made = self.parse(**options)
            self.assertIsNone(keyring.login(made))
            reading.check_again(made)

    def test_a_login(self) -> None:
        made = self.parse(keyring=self.path, user='cinder')
        reading.check_again(made)
        found = keyring.login(made)
        assert found is not None
        self.assertEqual(('cinder', KEY, None), (found.user, found.key, found.doubt))
        self.assertNotIn('hush', repr(found))
        # Guests' definitions have it: another one would leave them without the secret.
        self.assertEqual('b0bbc9ae-17b4-5663-b029-aefd555e2eed', found.secret_uuid)
        named = keyring.login(self.parse(keyring=self.path, user='cinder', secret_uuid=SECRET))
        assert named is not None
        self.assertEqual(SECRET.lower(), named.secret_uuid)
        other = keyring.login(self.parse(keyring=self.path, user='glance'))
        assert other is not None
        self.assertNotEqual(found.secret_uuid, other.secret_uuid)

    def test_a_key_that_others_can_read(self) -> None:
        for mode, is_doubtful in ((0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o660, True)):
            self.path.chmod(mode)
            found = keyring.login(self.parse(keyring=self.path, user='cinder'))
            assert found is not None
            words = f'{self.path} has mode {mode:04o}; only its owner should be able to read it: chmod 600'
            self.assertEqual(words if is_doubtful else None, found.doubt)

    def test_options_that_do_not_suffice(self) -> None:
        self.assert_refused(' needs [ceph] user, the name of a user in it without "client."', user='')
        self.assert_refused(f': {self.path} has no section [client.nova]', user='nova')
        relative = self.parse(keyring='keyring', user='cinder')
        self.assertIn('[ceph] Value for option keyring', str(self.assertRaises(cfg.Error, reading.check, relative)))

    def test_a_file_that_is_no_keyring(self) -> None:
        self.assert_refused(': /no/such cannot be read: No such file or directory', keyring='/no/such')
        self.assert_refused(f': {self.directory} cannot be read: Is a directory', keyring=self.directory)
        # Neither is waited for.
        pipe = self.directory / 'pipe'
        os.mkfifo(pipe)
        self.assert_refused(f': {pipe} is not a regular file', keyring=pipe)
        self.assert_refused(': /dev/zero is not a regular file', keyring='/dev/zero')
        self.path.write_bytes(b'\n' * (1 << 20))
        self.assert_refused(f': {self.path} has no section [client.cinder]')
        self.path.write_bytes(b'\n' * ((1 << 20) + 1))
        self.assert_refused(f': {self.path} has more than 1048576 bytes, and is no keyring')
        self.path.write_bytes(b'[client.cinder]\nkey = \xff' + TEXT.encode())
        self.assert_refused(f': {self.path} has a key of client.cinder that is not valid base64')
