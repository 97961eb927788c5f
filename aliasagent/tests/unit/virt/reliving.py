# SPDX-License-Identifier: Apache-2.0
"""Guests of the fake that are saved and restored, and what is left of them."""

import pathlib
from collections.abc import Callable

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.tests import ids
from aliasagent.tests import on_fake
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.virt import jobs
from aliasagent.virt import save_restore
from aliasagent.virt import saved_guest

NAME = f'ua-{ids.VOLUME}'
DISK = "<disk type='file' device='disk'><source file='/disk'/><target dev='sda' bus='scsi'/></disk>"
NAMED = DISK.replace('</disk>', f"<alias name='{NAME}'/></disk>")


def name_the_disk(definition: Domain, _other: Domain | None) -> dict[str, str]:
    """A rewrite: the disk gets its alias, if it has none."""
    for device in definition.devices():
        if device.kind == 'disk' and not device.is_claimed:
            device.alias = NAME
            return {NAME: 'told'}
    return {}


class RelivingTestCase(on_fake.HostTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(jobs, '_INTERVAL', 0.005)
        self.directory = pathlib.Path(self.make_directory())
        # What libvirt does: the file is there once the guest is saved.
        self.fake.after['saveFlags'] = lambda _uuid, path, *_rest: pathlib.Path(path).write_text('memory')

    def guest(self, *, persistent: bool = True) -> FakeGuest:
        return self.fake.add_guest(DISK, persistent=persistent)

    def path(self, guest: FakeGuest) -> pathlib.Path:
        transient = '' if guest.persistent else '.transient'
        return self.directory.resolve() / f'{guest.uuid}{transient}.relive'

    def save_and_restore(self, guest: FakeGuest) -> save_restore.Restored:
        return save_restore.save_and_restore(self.host, guest.uuid, self.directory, name_the_disk)

    def fails(self, guest: FakeGuest, kind: type[Exception] = exception.HypervisorError) -> str:
        return str(self.assertRaises(kind, self.save_and_restore, guest))

    def now(self, guest: FakeGuest) -> tuple[str, list[str]]:
        """The guest as it is now: its state, and its aliases."""
        return self.host.guest(guest.uuid).state(), self.fake.guests[guest.uuid].aliases()

    def assert_nothing_happened(self, guest: FakeGuest) -> None:
        self.assertEqual(0, self.fake.count('saveFlags'))
        self.assertEqual([], self.fake.guests[guest.uuid].aliases())


class InterruptedTestCase(RelivingTestCase):
    def lose_at(self, method: str, do: Callable[[str], object], *, down: bool = False) -> None:
        """Lose the connection in the next call of a method, in which libvirtd does this with the file's path."""

        def lose(*arguments: object) -> None:
            del self.fake.before[method]
            do(str(arguments[1 if method == 'saveFlags' else 0]))
            self.fake.drop_connections(down)
            raise errors.cut_off()

        self.fake.before[method] = lose

    def save(self, guest: FakeGuest, path: str) -> None:
        guest.begin_save(path)
        pathlib.Path(path).write_text('all of it')
        guest.end_save()

    def save_goes_on(self, guest: FakeGuest, path: str) -> None:
        """libvirtd saves the guest, and comes to the end after a few looks."""
        guest.begin_save(path)
        pathlib.Path(path).write_text('half of it')

        def end() -> None:
            self.assertTrue(pathlib.Path(path).exists(), 'the file that is being written was removed')
            guest.end_save()

        self.after_looks(end)

    def assert_done(self, guest: FakeGuest, done: save_restore.Restored) -> None:
        self.assertEqual({NAME: 'told'}, done.given)
        self.assertEqual(('running', [NAME]), self.now(guest))
        self.assertEqual([], saved_guest.leftovers(self.directory))
