# SPDX-License-Identifier: Apache-2.0
"""The agent's own work on a guest grows no faster than the guest's devices do."""

import pathlib
import sys
from collections.abc import Callable
from types import FrameType

import aliasagent
from aliasagent.reconcile import apply
from aliasagent.tests.contract import harness
from aliasagent.tests.contract import requests
from aliasagent.tests.functional.test_contract_driver import OnFake
from benchmarks import definitions

_CODE = str(pathlib.Path(aliasagent.__file__).parent)
_TESTS = str(pathlib.Path(_CODE, 'tests'))
_FEW, _TIMES = 15, 8


def calls(work: Callable[[], object]) -> int:
    """Return how many calls of the agent's functions some work makes in this thread; as opposed to time, repeatable."""
    count = 0

    def on_call(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        name = frame.f_code.co_filename
        count += event == 'call' and name.startswith(_CODE) and not name.startswith(_TESTS)

    sys.setprofile(on_call)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


class ScaleUpTest(OnFake):
    def guest(self, disks: int, *, aliased: bool, state: str = 'started') -> str:
        """Return a guest with so many disks, and an interface for each four of them."""
        devices = []
        for number in range(disks + disks // 4):
            whose = harness.new_id()
            alias = f'ua-{whose}' if aliased else ''
            if number < disks:
                path = self.hypervisor.new_file()
                place = f"<address type='drive' controller='0' bus='0' target='0' unit='{number}'/></disk>"
                disk = harness.disk_xml(path, definitions.target(number), serial=whose, alias=alias)
                devices.append(disk.replace('</disk>', place))
            else:
                devices.append(harness.interface_xml(self.hypervisor.bridge(), harness.new_mac(), alias=alias))
        return self.hypervisor.new_guest(''.join(devices), state=state)

    def assert_linear(self, few: int, many: int, what: str) -> None:
        self.assertLess(0, few, what)
        # Less, because a part of the work is the same for each guest.
        self.assertLess(many, few * _TIMES, what)

    def running(self, disks: int) -> dict[str, int]:
        """Return how many calls each piece of work on a running guest makes."""
        guest, volume = self.guest(disks, aliased=True), harness.new_id()
        request = requests.volume(volume, harness.file_connection(self.hypervisor.new_file()), disk_bus='scsi')
        return {
            'attach': calls(lambda: self.driver.attach(guest, request)),
            'list': calls(lambda: self.driver.list_devices(guest)),
            'reconcile': calls(lambda: apply.reconcile(self.host.guest(guest))),
            'detach': calls(lambda: self.driver.detach(guest, volume).result(harness.SOON)),
        }

    def legacy(self, disks: int) -> int:
        """Return how many calls it takes to give all devices of a guest their aliases."""
        guest = self.guest(disks, aliased=False, state='shut off')
        return calls(lambda: apply.reconcile(self.host.guest(guest)))

    def test_a_running_guest(self) -> None:
        few, many = self.running(_FEW), self.running(_FEW * _TIMES)
        for what in few:
            self.assert_linear(few[what], many[what], what)

    def test_a_guest_whose_devices_get_their_aliases(self) -> None:
        self.assert_linear(self.legacy(_FEW), self.legacy(_FEW * _TIMES), 'reconcile')
