# SPDX-License-Identifier: Apache-2.0
"""Save and restore, on the fake: a guest that runs need not have what it had in memory, for which there is its file."""

import pathlib

from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.unit.virt import reliving
from aliasagent.virt import saved_guest


class StartedAnewTestCase(reliving.InterruptedTestCase):
    def kept(self, guest: FakeGuest) -> None:
        """The guest runs, and the relive fails with the name of the file, which is kept."""
        path = self.path(guest)
        words = self.fails(guest)
        self.assertIn('the guest runs, but it is not proven that it continues from its save', words)
        self.assertIn(f'is kept in {path}', words)
        self.assertEqual([path], saved_guest.leftovers(self.directory))

    def test_somebody_starts_it_anew_when_it_was_saved(self) -> None:
        guest = self.guest()

        def save(path: str) -> None:
            self.save(guest, path)
            guest.start()

        self.lose_at('saveFlags', save)
        self.kept(guest)

    def test_somebody_starts_it_anew_before_it_is_restored(self) -> None:
        guest = self.guest()
        self.lose_at('restoreFlags', lambda _path: guest.start())
        self.kept(guest)

    def test_somebody_starts_it_anew_and_no_connection_is_lost(self) -> None:
        guest = self.guest()

        def start(*_arguments: object) -> None:
            self.fake.before.clear()
            guest.start()

        self.fake.before['restoreFlags'] = start
        self.kept(guest)

    def test_it_was_restored_and_nobody_can_say_so_any_more(self) -> None:
        """libvirt tells why a guest runs until somebody pauses it."""
        for paused in (True, False):
            guest = self.guest()
            if paused:
                guest.suspend()

            def restore(path: str, guest: FakeGuest = guest, paused: bool = paused) -> None:
                self.fake.open().restoreFlags(path, None, 0)
                if not paused:
                    guest.suspend()
                    guest.resume()

            self.lose_at('restoreFlags', restore)
            self.kept(guest)
            self.path(guest).unlink()

    def test_the_save_of_a_paused_one_fails_and_leaves_a_file(self) -> None:
        guest = self.guest()
        guest.suspend()

        def fail(_instance: str, path: str, *_more: object) -> None:
            pathlib.Path(path).write_text('half of it')
            raise errors.failed('no space left on device')

        self.fake.before['saveFlags'] = fail
        self.assertIn('no space left', self.fails(guest))
        self.assertEqual([], saved_guest.leftovers(self.directory))
