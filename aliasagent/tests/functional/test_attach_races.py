# SPDX-License-Identifier: Apache-2.0
"""What happens between the look at a guest and the attach."""

from collections.abc import Callable

import fixtures

from aliasagent import exception
from aliasagent.tests.contract import harness
from aliasagent.tests.contract import requests
from aliasagent.tests.fakes.libvirt import hotplug
from aliasagent.tests.functional.test_contract_driver import OnFake
from aliasagent.virt import errors
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side


class AttachRacesTest(OnFake):
    def at_first(self, happens: Callable[[Guest, str, Side], None]) -> list[Side]:
        """Let something happen at the first attach, instead of it; the sides of each attach are remembered."""
        attach, asked = Guest.attach, []

        def patched(guest: Guest, xml: str, sides: Side) -> None:
            asked.append(sides)
            if len(asked) == 1:
                happens(guest, xml, sides)
            else:
                attach(guest, xml, sides)

        self.attach_call = attach
        self.useFixture(fixtures.MonkeyPatch('aliasagent.virt.guest.Guest.attach', patched))
        return asked

    def test_the_call_of_an_agent_that_was_killed_takes_effect_late(self) -> None:
        def late(guest: Guest, xml: str, sides: Side) -> None:
            self.attach_call(guest, xml, sides)
            raise exception.HypervisorError(action='attach', reason='non unique alias detected')

        guest = self.hypervisor.new_guest(state='started')
        asked = self.at_first(late)
        volume = self.attach(guest)
        self.assert_on_both(guest, volume)
        self.assertEqual(1, len(asked))

    def test_the_guest_is_started(self) -> None:
        def started(guest: Guest, _xml: str, _sides: Side) -> None:
            self.side.fake.open().lookupByUUIDString(guest.uuid).create()
            raise errors.InvalidOperation(action='attach', reason='domain is not running')

        guest = self.hypervisor.new_guest(state='shut off')
        asked = self.at_first(started)
        volume = self.attach(guest)
        self.assert_on_both(guest, volume)
        self.assertEqual([Side.PERSISTENT, Side.LIVE | Side.PERSISTENT], asked)

    def test_libvirt_says_no(self) -> None:
        def refuse(_guest: Guest, _xml: str, _sides: Side) -> None:
            raise exception.HypervisorError(action='attach', reason='no room')

        guest = self.hypervisor.new_guest(state='started')
        asked = self.at_first(refuse)
        error = self.assertRaises(exception.AttachFailed, self.attach, guest)
        self.assertIn('no room', str(error))
        self.assertEqual(1, len(asked))
        self.assertEqual((set(), set()), self.ids(guest))

    def test_it_took_half_of_it(self) -> None:
        def half(guest: Guest, xml: str, _sides: Side) -> None:
            self.attach_call(guest, xml, Side.PERSISTENT)
            raise exception.HypervisorError(action='attach', reason='no room')

        guest = self.hypervisor.new_guest(state='started')
        asked = self.at_first(half)
        volume = self.attach(guest)
        self.assert_on_both(guest, volume)
        self.assertEqual([Side.LIVE | Side.PERSISTENT, Side.LIVE], asked)

    def test_the_side_that_had_it_loses_it(self) -> None:
        """The running guest has the device, its persistent config gets it, and the guest gives it up meanwhile."""
        guest = self.hypervisor.new_guest(state='started')
        volume, path = harness.new_id(), self.hypervisor.new_file()
        self.driver.attach(guest, requests.volume(volume, harness.file_connection(path), disk_bus='virtio'))
        self.host.guest(guest).detach(f'ua-{volume}', Side.PERSISTENT)

        def lose(view: Guest, xml: str, sides: Side) -> None:
            self.attach_call(view, xml, sides)
            self.side.fake.guests[guest].remove_live(f'ua-{volume}')

        asked = self.at_first(lose)
        self.driver.attach(guest, requests.volume(volume, harness.file_connection(path), disk_bus='virtio'))
        self.assert_on_both(guest, volume)
        self.assertEqual([Side.PERSISTENT, Side.LIVE], asked)

    def test_one_of_two_ports_with_its_mac_is_not_taken_for_it(self) -> None:
        """Which of the two the running guest has, nothing says."""
        mac, bridge = harness.new_mac(), self.hypervisor.bridge()
        guest = self.hypervisor.new_guest(harness.interface_xml(bridge, mac))
        port = self.port(mac)
        for device in (port['id'], harness.new_id()):
            named = harness.interface_xml(bridge, mac, alias=f'ua-{device}')
            hotplug.attach(self.side.fake.guests[guest], named, int(Side.PERSISTENT))
        config = self.side.fake.guests[guest].need_config()
        first = config.findall('devices/interface')[0]
        first.getparent().remove(first)  # type: ignore[union-attr]
        before = self.xml(guest)
        self.assertRaises(exception.AmbiguousDevice, self.driver.attach, guest, requests.interface(port))
        self.assert_untouched(guest, before)
