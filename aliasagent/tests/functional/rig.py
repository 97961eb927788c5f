# SPDX-License-Identifier: Apache-2.0
"""An agent without its message bus on the fake hypervisor, which can die and be started again."""

import functools
import pathlib
from typing import Any

from aliasagent.actions import Action
from aliasagent.allowed.rules import Bounds
from aliasagent.operations import hints
from aliasagent.operations import knowledge
from aliasagent.operations.connecting import Backing
from aliasagent.operations.connecting import Connecting
from aliasagent.operations.connections import Connections
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.operations.queues import GuestQueues
from aliasagent.operations.queues import Job
from aliasagent.operations.runner import Runner
from aliasagent.reconcile.arrivals import Arrivals
from aliasagent.reconcile.passes import Reconciler
from aliasagent.reconcile.plan import Record
from aliasagent.reconcile.relocation import Relocation
from aliasagent.requests import catalog
from aliasagent.requests.base import Attach
from aliasagent.tests import base as tests_base
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.functional import base
from aliasagent.virt.driver import Driver
from aliasagent.virt.host import Host
from aliasagent.virt.leaving import RetryPolicy
from aliasagent.virt.novas import NovasGuests
from aliasagent.virt.unplug import Unplugs

_PCI = """
<hostdev mode='subsystem' type='pci' managed='yes'>
  <source><address domain='0x0000' bus='0x06' slot='0x12' function='0x6'/></source>
</hostdev>"""


def attach(action: Action, arguments: dict[str, Any]) -> Attach:
    """The request to attach a device, as a service has answered it."""
    request = catalog.parse(action, arguments)
    assert isinstance(request, Attach)
    return request


class RigCase(tests_base.TestCase):
    """Tests of what is recorded and what is true, through the death of the agent."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(self.make_directory())
        self.side = base.FakeSide(self.directory)
        self.addCleanup(self.side.fake.stop)
        # Long enough for a reading of the guest on a host that is busy.
        self.retry_policy = RetryPolicy(timeout=0.3, attempts=2)
        self.manage = 'all'
        #: What connects volumes and ports.
        self.backings: dict[str, Backing] = {}
        self.start_agent()
        self.addCleanup(self.kill_agent)

    def start_agent(self) -> None:
        self.journal = Journal(str(self.directory / 'journal.sqlite'))
        self.host = Host(self.side.uri, reconnect_interval=0.05, settle=0.0, opener=self.side.open)
        self.host.start()
        self.assertTrue(self.host.wait_connected(harness.SOON))
        self.queues = GuestQueues(4)
        self.unplugs = Unplugs(
            self.host,
            on_late=lambda *who: self.runner.release(*who),
            on_kept=lambda *what: self.runner.remember(*what),
        )
        journal = self.journal

        def known(instance: str) -> list[Record]:
            return knowledge.of_guest(journal, instance)

        novas = NovasGuests(lambda: self.manage)
        driver = Driver(self.host, self.unplugs, lambda: self.retry_policy, Bounds.everything, known, novas=novas)
        reconciler = Reconciler(
            self.host, self.queues.submit, self.queues.submit_if_idle, known, functools.partial(hints.keep, journal)
        )
        self.reconciler = reconciler
        Arrivals(self.host, reconciler.changed, lambda _seconds, look: look(), quiet=0.0)
        relocation = Relocation(self.host, str(self.directory / 'save'), within=Bounds.everything, novas=novas)
        self.connecting = Connecting(
            Connections(self.journal),
            driver,
            self.backings,
            lambda action, _guest, it: attach(action, it),
            self.submit,
            self.queues.submit_if_idle,
        )
        self.runner = Runner(
            self.journal,
            self.queues,
            driver,
            reconciler,
            relocation,
            self.connecting,
            reconnect_timeout=lambda: harness.SOON,
        )
        self.runner.recover()
        self.connecting.tend()

    def submit(self, guest: str, job: Job) -> None:
        """Put a job into the queue of a guest, of the agent that runs now."""
        self.queues.submit(guest, job)

    def kill_agent(self) -> None:
        """The agent dies: what it has not recorded is gone."""
        self.runner.close()
        self.unplugs.close()
        self.queues.close(0.5)
        self.host.close()
        self.journal.close()

    def restart_agent(self) -> None:
        self.kill_agent()
        self.start_agent()

    # What is asked

    def ask(self, action: Action, guest: str, device: str, **arguments: Any) -> str:
        """Have something done; the operation's id."""
        operation = self.operation(action, guest, device, **arguments)
        self.runner.accept(operation)
        return operation.id

    def operation(self, action: Action, guest: str, device: str, **arguments: Any) -> Operation:
        """An operation that no agent has yet."""
        return Operation(harness.new_id(), action, guest, device, catalog.parse(action, arguments))

    def detach(self, guest: str, device: str) -> str:
        return self.ask(Action.DETACH, guest, device, device_id=device)

    def attach_disk(self, guest: str, volume: str, path: str) -> str:
        info = harness.file_connection(path)
        return self.ask(
            Action.ATTACH_VOLUME, guest, volume, volume_id=volume, connection_info=info, disk_bus='virtio'
        )

    def wait(self, operation_id: str) -> Operation:
        self.wait_for(lambda: self.journal.get(operation_id).is_finished, f'the end of operation {operation_id}')
        return self.journal.get(operation_id)

    def wait_asked(self, operation_id: str, guest: str) -> None:
        """Wait until a guest was asked to release a device."""
        self.wait_for(lambda: self.inside(guest).pending, 'the guest is asked')
        self.assertEqual(State.RUNNING, self.journal.get(operation_id).state)

    def assert_outcome(self, operation_id: str, error_class: str | None, words: str = '') -> Operation:
        done = self.wait(operation_id)
        self.assertEqual(error_class, done.error_class, str(done.error))
        self.assertIn(words, done.error or '')
        return done

    # What is there

    def inside(self, guest: str) -> FakeGuest:
        """The guest as the hypervisor has it."""
        return self.side.fake.guests[guest]

    def live_count(self, guest: str, kind: str) -> int:
        return len(self.inside(guest).need_live().findall(f'devices/{kind}'))

    def persistent_count(self, guest: str, kind: str) -> int:
        return len(self.inside(guest).need_config().findall(f'devices/{kind}'))


class NotLiveYetCase(RigCase):
    """Guests that were reconciled and not started since: the alias is in the persistent config only."""

    def not_live_yet(self, device: str, xml: str) -> str:
        """A running guest with a device of which only the persistent config says whose it is."""
        guest = self.side.new_guest(xml)
        (element,) = [
            element
            for element in self.inside(guest).need_config().iterfind('devices/*')
            if element.tag in ('disk', 'interface', 'hostdev')
        ]
        aliases.set_alias(element, f'ua-{device}')
        self.inside(guest).unplug.never = True
        return guest

    def guests(self) -> list[tuple[str, str, str]]:
        """A guest, the id and the kind of its device, for each way in which it is known while running."""
        found = []
        for kind, xml in (
            ('interface', harness.interface_xml('br-fake', harness.new_mac())),
            ('disk', harness.disk_xml(self.side.new_file(), 'vdb')),
            ('hostdev', _PCI),
        ):
            device = harness.new_id()
            found.append((self.not_live_yet(device, xml), device, kind))
        return found

    def unplug_at_last(self, guest: str) -> None:
        """The guest does what it was asked to."""
        for alias in list(self.inside(guest).pending):
            self.inside(guest).remove_live(alias)
