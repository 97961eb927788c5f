# SPDX-License-Identifier: Apache-2.0
"""libvirt's codes into our exceptions."""

import libvirt
from hypothesis import given
from hypothesis import strategies as st

from aliasagent import exception
from aliasagent.tests import base
from aliasagent.tests.ids import GUEST
from aliasagent.virt import errors


def libvirt_error(code: int | None, message: str | None = 'the words') -> libvirt.libvirtError:
    """An error as libvirt raises it."""
    error = libvirt.libvirtError('the call failed')
    error.err = None if code is None else (code, 10, message, 2, None, None, None, -1, -1)
    return error


class TranslateTestCase(base.TestCase):
    def translated(self, error: Exception, alive: bool = True) -> exception.AliasAgentError:
        def fail() -> None:
            with errors.translated('detach', GUEST, lambda: alive):
                raise error

        translated = self.assertRaises(exception.AliasAgentError, fail)
        self.assertIs(error, translated.__cause__)
        self.assertIsInstance(translated, exception.AliasAgentError)
        return translated

    def test_every_code_that_means_something(self) -> None:
        for code, kind in (
            (libvirt.VIR_ERR_NO_DOMAIN, exception.InstanceNotFound),
            (libvirt.VIR_ERR_NO_CONNECT, exception.HypervisorUnavailable),
            (libvirt.VIR_ERR_INVALID_CONN, exception.HypervisorUnavailable),
            (libvirt.VIR_ERR_OPERATION_UNSUPPORTED, exception.Unsupported),
            (libvirt.VIR_ERR_NO_SUPPORT, exception.Unsupported),
            (libvirt.VIR_ERR_OPERATION_TIMEOUT, exception.GuestBusy),
            (libvirt.VIR_ERR_OPERATION_INVALID, errors.InvalidOperation),
            (libvirt.VIR_ERR_INTERNAL_ERROR, exception.HypervisorError),
            (libvirt.VIR_ERR_OPERATION_FAILED, exception.HypervisorError),
            (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, exception.HypervisorError),
            (libvirt.VIR_ERR_DEVICE_MISSING, exception.HypervisorError),
            (libvirt.VIR_ERR_SYSTEM_ERROR, exception.HypervisorError),
            (libvirt.VIR_ERR_RPC, exception.HypervisorError),
        ):
            self.assertIs(kind, type(self.translated(libvirt_error(code))), code)

    def test_a_device_that_is_not_there_has_no_code(self) -> None:
        """Whoever wants to know reads the guest again."""
        for code in (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_DEVICE_MISSING):
            translated = self.translated(libvirt_error(code, 'no device found with alias ua-x'))
            self.assertNotIsInstance(translated, exception.NotFound)

    def test_qemus_words(self) -> None:
        for words, kind in (
            (
                "internal error: unable to execute QEMU command 'device_del': Device virtio-disk1 is already in the "
                'process of unplug',
                errors.UnplugPending,
            ),
            (
                "internal error: unable to execute QEMU command 'device_del': Hot-unplug failed: guest is busy (power "
                'indicator blinking)',
                errors.UnplugBusy,
            ),
        ):
            translated = self.translated(libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, words))
            self.assertIs(kind, type(translated))
            self.assertIn(words, str(translated))

    def test_a_connection_that_is_gone_means_that_nothing_is_known(self) -> None:
        for code in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_RPC, None):
            self.assertIs(exception.HypervisorUnavailable, type(self.translated(libvirt_error(code), alive=False)))

    def test_without_a_code_or_words(self) -> None:
        self.assertIs(exception.HypervisorError, type(self.translated(libvirt_error(None))))
        self.assertIn('the call failed', str(self.translated(libvirt_error(None))))
        self.assertIn('the call failed', str(self.translated(libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, None))))

    def test_the_words_say_what_was_done_to_whom(self) -> None:
        self.assertEqual('detach: the words', str(self.translated(libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR))))
        self.assertIn(GUEST, str(self.translated(libvirt_error(libvirt.VIR_ERR_NO_DOMAIN))))

    @given(st.integers(0, 120), st.text(), st.booleans())
    def test_any_error_becomes_one_of_ours(self, code: int, message: str, alive: bool) -> None:
        translated = self.translated(libvirt_error(code, message), alive)
        self.assertTrue(str(translated))
        if isinstance(translated, exception.NotFound):
            self.assertEqual((libvirt.VIR_ERR_NO_DOMAIN, True), (code, alive))

    def test_other_errors_pass(self) -> None:
        def fail() -> None:
            with errors.translated('detach', GUEST, lambda: True):
                raise KeyError('x')

        self.assertRaises(KeyError, fail)

    def test_nothing_happened(self) -> None:
        with errors.translated('detach', GUEST, lambda: self.fail('nobody asked')):
            pass
