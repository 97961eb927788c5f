# SPDX-License-Identifier: Apache-2.0
"""A saved guest is restored only if it is proven that it has not run since: else its disks would be damaged."""

import pathlib
from collections.abc import Callable

from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.unit.virt import reliving
from aliasagent.virt import saved_guest


class RunSinceTestCase(reliving.InterruptedTestCase):
    """Somebody else has the guest run again between its save and its restore."""

    def between(self, do: Callable[[], object]) -> None:
        """Do this when the guest was saved, and is about to be restored."""

        def once(*_arguments: object) -> None:
            del self.fake.before['saveImageGetXMLDesc']
            do()
            self.wait_events()
            self.fake.calls.clear()

        self.fake.before['saveImageGetXMLDesc'] = once

    def restore_by_hand(self, path: pathlib.Path) -> None:
        self.fake.open().restoreFlags(str(path), None, 0)

    def assert_kept(self, guest: FakeGuest, path: pathlib.Path) -> None:
        self.assertIn(f'"virsh restore {path}" brings it back', self.fails(guest))
        self.assertEqual([path], saved_guest.leftovers(self.directory))
        self.assertEqual(0, self.fake.count('restoreFlags'))
        path.unlink()

    def test_it_was_restored_by_hand_and_has_ended(self) -> None:
        for persistent in (True, False):
            guest = self.guest(persistent=persistent)
            path = self.path(guest)

            def run(guest: FakeGuest = guest, path: pathlib.Path = path) -> None:
                self.restore_by_hand(path)
                self.fake.guests[guest.uuid].power_off()

            self.between(run)
            self.assert_kept(guest, path)

    def test_it_was_restored_by_hand_and_saved_elsewhere(self) -> None:
        for persistent in (True, False):
            guest = self.guest(persistent=persistent)
            path = self.path(guest)

            def run(guest: FakeGuest = guest, path: pathlib.Path = path) -> None:
                self.restore_by_hand(path)
                self.fake.guests[guest.uuid].begin_save('elsewhere')
                self.fake.guests[guest.uuid].end_save()

            self.between(run)
            self.assert_kept(guest, path)

    def test_a_transient_one_was_made_anew_and_has_ended(self) -> None:
        guest = self.guest(persistent=False)
        path = self.path(guest)
        xml = self.host.guest(guest.uuid).movable_text()

        def run() -> None:
            self.fake.open().createXML(xml or '')
            self.fake.guests[guest.uuid].power_off()

        self.between(run)
        self.assert_kept(guest, path)

    def test_libvirt_restored_it_all_the_same_and_it_has_ended(self) -> None:
        """A restore whose client was cut off goes on; what fails is not tried again from the same memory."""
        for persistent in (True, False):
            guest = self.guest(persistent=persistent)
            path = self.path(guest)

            def restore(*_arguments: object, guest: FakeGuest = guest, path: pathlib.Path = path) -> None:
                del self.fake.before['restoreFlags']
                self.restore_by_hand(path)
                self.fake.guests[guest.uuid].power_off()
                self.wait_events()
                self.fake.calls.clear()
                raise errors.internal('cannot say')

            self.fake.before['restoreFlags'] = restore
            self.assert_kept(guest, path)
