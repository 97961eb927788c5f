# SPDX-License-Identifier: Apache-2.0
"""The form of an alias."""

import re
import string

from hypothesis import assume
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.tests import base

KEPT_BY_LIBVIRT = string.ascii_letters + string.digits + '-_'
#: Written from libvirt's documentation, not from our code.
_LIBVIRT_KEEPS = re.compile(r'\Aua-[A-Za-z0-9_-]*\Z')

valid_ids = st.text(KEPT_BY_LIBVIRT, min_size=1, max_size=alias.MAX_ID_LENGTH)


class MakeAndParseTestCase(base.TestCase):
    @given(valid_ids)
    def test_an_alias_says_its_id(self, device_id: str) -> None:
        assume(device_id not in ('None', 'null', 'undefined'))
        made = alias.make(device_id)
        self.assertRegex(made, _LIBVIRT_KEEPS)
        self.assertEqual(device_id, alias.parse(made))
        self.assertTrue(alias.is_user(made))
        self.assertTrue(alias.is_valid_id(device_id))

    @given(st.text())
    @example('abc\n')
    @example('\nabc')
    @example('')
    @example('../../etc/passwd')
    @example('..')
    @example("a' b")
    @example('a"b')
    @example('<alias name="x"/>')
    @example('a&amp;b')
    @example('ä')
    @example('\uff41')
    @example('٣')
    @example('a\x00b')
    @example('\ud800')
    @example('x' * (1 << 20))
    @example('None')
    @example('x' * (alias.MAX_ID_LENGTH + 1))
    def test_what_libvirt_would_drop_is_never_made(self, device_id: str) -> None:
        try:
            made = alias.make(device_id)
        except exception.InvalidInput as error:
            self.assertEqual('device_id', error.kwargs['field'])
            self.assertFalse(alias.is_valid_id(device_id))
            self.assertLess(len(str(error)), 2000)
            str(error).encode()
        else:
            self.assertRegex(made, _LIBVIRT_KEEPS)
            self.assertEqual('ua-' + device_id, made)

    def test_the_longest_id(self) -> None:
        self.assertEqual('ua-' + 'x' * 255, alias.make('x' * 255))
        self.assertRaises(exception.InvalidInput, alias.make, 'x' * 256)

    def test_an_id_that_was_never_set_makes_no_alias(self) -> None:
        for unset in ('None', 'null', 'undefined'):
            self.assertRaises(exception.InvalidInput, alias.make, unset)

    def test_aliases_that_libvirt_made_carry_no_id(self) -> None:
        for name in (None, '', 'net0', 'virtio-disk1', 'scsi0-0-0-0', 'UA-x', 'xua-y', ' ua-x'):
            self.assertIsNone(alias.parse(name))
            self.assertFalse(alias.is_user(name))

    def test_a_bare_prefix_is_a_user_alias_of_nobody(self) -> None:
        self.assertIsNone(alias.parse('ua-'))
        self.assertTrue(alias.is_user('ua-'))

    @given(st.text() | st.none())
    def test_parsing_never_raises(self, text: str | None) -> None:
        device_id = alias.parse(text)
        if device_id is not None:
            self.assertEqual(text, 'ua-' + device_id)
            self.assertTrue(alias.is_user(text))
