# SPDX-License-Identifier: Apache-2.0
"""Another client writes at the very moment of our write."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import fixtures
import libvirt

from aliasagent.reconcile import apply
from aliasagent.reconcile import exchange
from aliasagent.tests import base
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.unit.reconcile.test_apply import DISKS
from aliasagent.tests.unit.reconcile.test_apply import HOSTDEV
from aliasagent.tests.unit.reconcile.test_apply import OTHER
from aliasagent.tests.unit.reconcile.test_apply import VOLUMES
from aliasagent.tests.unit.reconcile.test_apply import ApplyTestCase
from aliasagent.tests.unit.reconcile.test_apply import disk

CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
EDITED = disk(0).replace("<disk type='file' device='disk'>", "<disk type='file' device='disk'><driver cache='none'/>")
#: Another volume, at the place of the first.
ANOTHER = disk(0).replace(VOLUMES[0], '00000000-54f5-4b1e-8f0f-2a6c1d7e9b10').replace("'/0'", "'/another'")
#: Each guest is read when it is looked at, before its first write, and at that write.
AT_THE_WRITE = 3


class _Later:
    """A write that is made when its end is waited for: after the read."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._call = functools.partial(function, *arguments)

    def result(self) -> object:
        return self._call()


class _Sooner:
    """A write that is made before the read."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        function(*arguments)

    def result(self) -> None:
        """It is done."""


class _Writers:
    def __init__(self, made: Callable[..., Any]) -> None:
        self.submit = made


class ExchangeTestCase(ApplyTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(exchange, '_WRITERS', _Writers(_Later))
        self.reads = 0

    def config(self) -> str:
        return str(self.fake.open().lookupByUUIDString(self.inside.uuid).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))

    def at_read(self, number: int, change: Callable[[Any], object]) -> None:
        """Let the other client make a change right before the definition is read for the n-th time."""

        def hook(*_arguments: object) -> None:
            self.reads += 1
            if self.reads == number:
                change(self.fake.open().lookupByUUIDString(self.inside.uuid))

        self.fake.before['XMLDesc'] = hook

    def test_what_it_changed_in_the_same_device_is_put_back_with_our_alias(self) -> None:
        guest = self.guest()
        self.at_read(AT_THE_WRITE, lambda domain: domain.updateDeviceFlags(EDITED, CONFIG))
        report = apply.reconcile(guest)
        self.assertEqual(['ALIASED'] * 3, self.outcomes(report))
        self.assertIn("cache='none'", self.config().replace('"', "'"))

    def test_another_volume_that_it_put_in_the_same_place_is_put_back_and_not_given_our_alias(self) -> None:
        guest = self.guest()

        def change(domain: Any) -> None:
            domain.detachDeviceFlags(disk(0), CONFIG)
            domain.attachDeviceFlags(ANOTHER, CONFIG)

        self.at_read(AT_THE_WRITE, change)
        apply.reconcile(guest)
        config = self.config()
        self.assertIn('/another', config)
        self.assertNotIn(f'ua-{VOLUMES[0]}', config)
        self.assertNotIn(VOLUMES[0], config)

    def test_a_change_of_another_device_is_left_alone(self) -> None:
        guest = self.guest()
        self.at_read(AT_THE_WRITE, lambda domain: domain.attachDeviceFlags(OTHER, CONFIG))
        writes: list[int] = []
        self.fake.before['updateDeviceFlags'] = lambda *_arguments: writes.append(1)
        report = apply.reconcile(guest)
        self.assertEqual(['ALIASED'] * 3 + ['UNIDENTIFIED'], self.outcomes(report))
        self.assertEqual(3, len(writes))

    def test_what_it_changed_is_put_back_where_the_whole_definition_is_written(self) -> None:
        guest = self.guest(HOSTDEV)
        self.at_read(AT_THE_WRITE, lambda domain: domain.attachDeviceFlags(OTHER, CONFIG))
        report = apply.reconcile(guest)
        self.assertEqual({'ALIASED', 'UNIDENTIFIED'}, set(self.outcomes(report)))
        self.assertIn('/other', self.config())

    def test_what_it_changed_after_our_write_is_left_alone(self) -> None:
        self.patch(exchange, '_WRITERS', _Writers(_Sooner))
        for devices, change in (
            (DISKS, lambda domain: domain.updateDeviceFlags(EDITED, CONFIG)),
            (HOSTDEV, lambda domain: domain.attachDeviceFlags(OTHER, CONFIG)),
        ):
            self.reads = 0
            guest = self.guest(devices)
            self.at_read(AT_THE_WRITE, change)
            apply.reconcile(guest)
            self.fake.before.clear()
            config = self.config().replace('"', "'")
            self.assertTrue("cache='none'" in config or '/other' in config, config)

    def test_what_it_changes_twice_is_not_overwritten_again(self) -> None:
        guest = self.guest()
        again = EDITED.replace("'none'", "'writeback'")
        self.at_read(AT_THE_WRITE, lambda domain: domain.updateDeviceFlags(EDITED, CONFIG))
        first = self.fake.before['XMLDesc']

        def hook(*arguments: object) -> None:
            first(*arguments)
            if self.reads == AT_THE_WRITE + 1:
                self.fake.open().lookupByUUIDString(self.inside.uuid).updateDeviceFlags(again, CONFIG)

        self.fake.before['XMLDesc'] = hook
        apply.reconcile(guest)
        self.assertIn("cache='writeback'", self.config().replace('"', "'"))

    def test_what_cannot_be_put_back_is_said(self) -> None:
        log = self.useFixture(fixtures.FakeLogger())
        guest = self.guest()
        self.at_read(AT_THE_WRITE, lambda domain: domain.updateDeviceFlags(EDITED, CONFIG))
        writes: list[int] = []

        def refuse_the_third(*_arguments: object) -> None:
            # After theirs and ours comes the one that puts theirs back.
            writes.append(1)
            if len(writes) == 3:
                raise errors.failed('no')

        self.fake.before['updateDeviceFlags'] = refuse_the_third
        apply.reconcile(guest)
        self.assertIn('could not restore the change: update: operation failed: no', log.output)


class WritersTestCase(base.TestCase):
    def test_no_write_waits_for_its_thread_to_be_started(self) -> None:
        """A thread that is started lets the write overtake the read; the order itself no test can see for sure."""

        def threads() -> set[threading.Thread]:
            return {thread for thread in threading.enumerate() if thread.name.startswith('reconcile-write')}

        before, seen = threads(), []
        writers = exchange._Writers()
        for _ in range(3):
            writers.submit(lambda _text: seen.append(threads() - before), '').result()
        self.assertEqual({exchange._MOST_WRITERS}, {len(some) for some in seen})
        assert writers._pool is not None
        writers._pool.shutdown()
