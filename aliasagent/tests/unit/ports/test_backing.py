# SPDX-License-Identifier: Apache-2.0
"""A port is bound once, and has at the end what it had before."""

from typing import Any

from oslo_config import cfg

from aliasagent import exception
from aliasagent.conf import openstack
from aliasagent.exception import CloudError
from aliasagent.exception import CloudRefused
from aliasagent.ports import backing
from aliasagent.tests import ids
from aliasagent.tests.unit.ports import base
from aliasagent.tests.unit.ports.base import GUEST
from aliasagent.tests.unit.ports.base import HOST
from aliasagent.tests.unit.ports.base import OTHER_GUEST
from aliasagent.tests.unit.ports.base import OWNER

#: What a port may have before the agent binds it.
FREE: dict[str, dict[str, Any]] = {
    'nothing': {},
    'an old owner': {'device_owner': 'compute:nova'},
    'the guest': {'device_id': GUEST, 'device_owner': 'compute:nova'},
    'the guest in capitals': {'device_id': GUEST.upper()},
    'the host': {'binding_host_id': HOST},
    'a profile': {'binding_profile': {'pci_slot': '0000:06:12.5'}},
    'a failed binding': {
        'device_id': GUEST, 'device_owner': OWNER, 'binding_host_id': HOST, 'binding_vif_type': 'binding_failed',
    },
}  # fmt: skip
#: What a port has that the agent may not bind, with what the error says of it.
TAKEN: dict[str, dict[str, Any]] = {
    'it is bound to host compute-2, not to compute-1': {'binding_host_id': 'compute-2'},
    f'the guest {OTHER_GUEST} has it': {'device_id': OTHER_GUEST, 'device_owner': 'compute:nova'},
    'its device_owner is network:dhcp': {'device_id': 'dhcp-1', 'device_owner': 'network:dhcp'},
    'its device_owner is trunk:subport': {'device_id': GUEST, 'device_owner': 'trunk:subport'},
}


class PrepareTestCase(base.PortsTestCase):
    def test_a_port_is_bound_and_unbound(self) -> None:
        port = self.neutron.add()
        before = self.neutron.shown(port)
        attach = self.prepare(port)
        self.assertEqual((port, 'ovs', 'br-int'), (attach.port.id, attach.port.vif_type, attach.port.bridge))
        given: dict[str, Any] = {'binding:host_id': HOST, 'device_id': GUEST, 'device_owner': OWNER}
        self.assertEqual([(port, given)], self.neutron.changes)
        self.assertEqual(['binding', 'bound'], self.saves.states)
        self.backing.complete(GUEST, self.saves.details)
        self.undo()
        given = {'binding:host_id': None, 'device_id': '', 'device_owner': ''}
        self.assertEqual([(port, given)], self.neutron.changes[1:])
        self.assertEqual(before, self.neutron.shown(port))

    def test_it_has_at_the_end_what_it_had_before(self) -> None:
        for name, members in FREE.items():
            self.saves = base.Saves()
            port = self.neutron.add(**members)
            before = self.neutron.shown(port)
            self.prepare(port)
            bound = self.neutron.shown(port)
            self.assertEqual(
                (HOST, GUEST, OWNER, 'ovs'),
                tuple(bound[it] for it in ('binding:host_id', 'device_id', 'device_owner', 'binding:vif_type')),
                name,
            )
            self.undo()
            after = self.neutron.shown(port)
            if name == 'a failed binding':
                # It is bound by now, as its owner wanted.
                self.assertEqual('ovs', after['binding:vif_type'])
            else:
                self.assertEqual(before, after, name)

    def test_a_port_that_is_bound_already_is_used_and_stays_bound(self) -> None:
        for owner in ('compute:nova', OWNER, ''):
            for host in (HOST, HOST.upper()):
                self.saves = base.Saves()
                port = self.neutron.add(device_id=GUEST, device_owner=owner, binding_host_id=HOST)
                self.neutron.change(port, binding_host_id=host, binding_vif_type='ovs')
                before = self.neutron.shown(port)
                self.assertEqual('ovs', self.prepare(port).port.vif_type)
                self.assertEqual(['found'], self.saves.states)
                self.prepare(port)
                self.undo()
                self.assertEqual(before, self.neutron.shown(port))
        self.assertEqual([], self.neutron.changes)

    def test_a_port_that_others_have(self) -> None:
        for words, members in TAKEN.items():
            port = self.neutron.add(**members)
            refused = self.assertRaises(CloudRefused, self.prepare, port)
            self.assertIn(f'neutron: bind port {port} was refused: {words}', str(refused))
            self.assertFalse(refused.retryable)
        self.assertIn('set [neutron] host', str(self.assertRaises(
            CloudRefused, self.prepare, self.neutron.add(binding_host_id='compute-2'))))  # fmt: skip
        self.assertEqual(([], []), (self.neutron.changes, self.saves.states))

    def test_no_such_port(self) -> None:
        for port in (ids.new_id(), 'a/../b', 'x?y'):
            refused = self.assertRaises(CloudRefused, self.prepare, port)
            self.assertIn('there is no such port', str(refused))
        self.assertEqual(([], []), (self.neutron.changes, self.saves.states))
        self.assertNotIn(('GET', '/v2.0/ports/b'), self.neutron.asked)

    def test_a_binding_that_fails(self) -> None:
        self.neutron.agents = {}
        port = self.neutron.add()
        before = self.neutron.shown(port)
        refused = self.assertRaises(CloudRefused, self.prepare, port)
        self.assertIn(f'could not bind it to host {HOST}', str(refused))
        self.assertIn('openstack network agent list', str(refused))
        self.undo()
        self.assertEqual(before, self.neutron.shown(port))
        self.assertEqual(2, len(self.neutron.changes))

    def test_a_port_whose_interface_a_guest_has_is_not_unbound(self) -> None:
        """Its binding has failed since; only the caller knows whether the guest has the interface."""
        port = self.neutron.add()
        self.prepare(port)
        self.neutron.change(port, binding_vif_type='binding_failed')
        bound = self.neutron.shown(port)
        refused = self.assertRaises(CloudRefused, self.prepare, port)
        self.assertIn(f'could not bind it to host {HOST}', str(refused))
        self.assertEqual(bound, self.neutron.shown(port))
        self.assertEqual('bound', self.saves.details['state'])

    def test_a_port_that_the_agent_cannot_plug(self) -> None:
        port = self.neutron.add()
        before = self.neutron.shown(port)

        def make_hybrid(method: str, _path: str) -> None:
            if method == 'PUT':
                self.neutron.change(port, binding_vif_details={'ovs_hybrid_plug': True})

        self.neutron.after = make_hybrid
        # The answer to the PUT is from before that, and the agent asks again.
        self.neutron.undecided = 1
        refused = self.assertRaises(exception.InvalidInput, self.prepare, port)
        self.assertIn('ovs_hybrid_plug', str(refused))
        self.undo()
        self.neutron.change(port, binding_vif_details={})
        self.assertEqual(before, self.neutron.shown(port))

    def test_a_virtual_function_without_slot(self) -> None:
        port = self.neutron.add(binding_vnic_type='direct')
        before = self.neutron.shown(port)
        self.assertRaises(exception.InvalidInput, self.prepare, port)
        self.undo()
        self.assertEqual(before, self.neutron.shown(port))

    def test_a_port_of_a_switch_with_dpdk(self) -> None:
        self.backing = self.make(host='dpdk-1')
        self.assertEqual('vhostuser', self.prepare(self.neutron.add()).port.vif_type)

    def test_the_binding_is_waited_for(self) -> None:
        port = self.neutron.add()
        self.neutron.undecided = 3
        self.assertEqual('ovs', self.prepare(port).port.vif_type)
        self.assertEqual(3, self.clock.pauses)
        self.assertEqual(1, len(self.neutron.changes))

    def test_a_binding_that_is_not_decided_in_time(self) -> None:
        port = self.neutron.add()
        before = self.neutron.shown(port)
        self.neutron.undecided = 1000
        self.backing = self.make(bind_timeout=5)
        error = self.assertRaises(CloudError, self.prepare, port)
        self.assertTrue(error.retryable)
        self.assertIn('Neutron has not bound it within 5 s', str(error))
        self.assertEqual(5, self.clock.pauses)
        # The next try only waits.
        self.neutron.undecided = 2
        self.assertEqual('ovs', self.prepare(port).port.vif_type)
        self.assertEqual(1, len(self.neutron.changes))
        self.undo()
        self.assertEqual(before, self.neutron.shown(port))

    def test_a_port_that_is_moved_while_it_is_waited_for(self) -> None:
        port = self.neutron.add()
        self.neutron.undecided = 1000
        self.clock.on_pause = lambda: self.neutron.change(port, binding_host_id='dpdk-1')  # type: ignore[method-assign]
        refused = self.assertRaises(CloudRefused, self.prepare, port)
        self.assertIn('another client has changed its binding meanwhile', str(refused))
        self.undo()
        self.assertEqual('dpdk-1', self.neutron.shown(port)['binding:host_id'])
        self.neutron.undecided = 1000
        self.clock.on_pause = lambda: self.neutron.delete(port)  # type: ignore[method-assign]
        self.neutron.change(port, binding_host_id='')
        refused = self.assertRaises(CloudRefused, self.prepare, port)
        self.assertIn('there is no such port', str(refused))

    def test_options(self) -> None:
        conf = self.configured('neutron', more='host = compute-1\ndevice_owner = compute:own\nbind_timeout = 7\n')
        counted: list[tuple[str, bool]] = []
        self.backing = backing.make(conf, lambda *what: counted.append(what))
        port = self.neutron.add()
        self.prepare(port)
        self.assertEqual('compute:own', self.neutron.shown(port)['device_owner'])
        self.assertEqual({('neutron', True)}, set(counted))
        conf = self.configured('neutron', more='[DEFAULT]\nhost = compute-1\n')
        self.backing, self.saves = backing.make(conf, lambda *_what: None), base.Saves()
        self.assertEqual('ovs', self.prepare(self.neutron.add()).port.vif_type)

    def test_options_that_are_not_valid(self) -> None:
        texts = 'device_owner = network:dhcp', 'device_owner = compute:', 'bind_timeout = 0', 'active_timeout = -1'
        for text in texts:
            conf = self.parse(f'{self.cloud.configuration("neutron")}{text}\n')
            openstack.register(conf)
            self.assertRaises(cfg.Error, getattr, conf.neutron, text.split()[0])


class OtherClientsTestCase(base.PortsTestCase):
    """Others change a port between two requests of the agent."""

    def meanwhile(self, port: str, *, times: int = 1, **members: Any) -> None:
        """Change a port just before the agent's next change of it arrives."""
        left = [times]

        def change(method: str, _path: str) -> None:
            if method == 'PUT' and left[0]:
                left[0] -= 1
                self.neutron.change(port, **members, description=f'{left[0]}')

        self.neutron.before = change

    def test_something_else_of_the_port(self) -> None:
        port = self.neutron.add()
        self.meanwhile(port, status='ACTIVE')
        self.prepare(port)
        self.meanwhile(port, status='DOWN')
        self.undo()
        self.assertEqual('', self.neutron.shown(port)['device_id'])

    def test_all_the_time(self) -> None:
        port = self.neutron.add()
        self.meanwhile(port, times=1000)
        error = self.assertRaises(CloudError, self.prepare, port)
        self.assertIn('other clients keep changing the port', str(error))
        self.assertTrue(error.retryable)
        self.neutron.before = lambda _method, _path: None
        self.prepare(port)

    def test_a_port_that_another_guest_gets_is_not_taken_away(self) -> None:
        port = self.neutron.add()
        self.meanwhile(port, binding_host_id=HOST, device_id=OTHER_GUEST, device_owner='compute:nova')
        refused = self.assertRaises(CloudRefused, self.prepare, port)
        self.assertIn(f'the guest {OTHER_GUEST} has it', str(refused))
        self.undo()
        self.assertEqual([], self.neutron.changes)

    def test_a_port_that_another_guest_gets_while_it_is_unbound(self) -> None:
        port = self.neutron.add()
        self.prepare(port)
        self.meanwhile(port, device_id=OTHER_GUEST)
        self.undo()
        self.assertEqual(OTHER_GUEST, self.neutron.shown(port)['device_id'])

    def test_a_port_that_this_guest_gets_from_another(self) -> None:
        port = self.neutron.add()
        self.meanwhile(port, binding_host_id=HOST, device_id=GUEST, device_owner='compute:nova')
        self.prepare(port)
        self.undo()
        self.assertEqual('compute:nova', self.neutron.shown(port)['device_owner'])
        self.assertEqual([], self.neutron.changes)

    def test_a_neutron_without_revisions(self) -> None:
        port = self.neutron.add()
        before = self.neutron.shown(port)
        self.neutron.after = lambda _method, _path: (200, {'port': self.neutron.shown(port)})
        self.prepare(port)
        self.undo()
        self.assertEqual(before, self.neutron.shown(port))
        self.assertEqual(2, len(self.neutron.changes))


class UndoTestCase(base.PortsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.port = self.neutron.add()
        self.unbound = self.neutron.shown(self.port)
        self.prepare(self.port)
        self.neutron.changes.clear()

    def test_again(self) -> None:
        for _time in range(3):
            self.undo()
        self.assertEqual(1, len(self.neutron.changes))
        self.assertEqual(self.unbound, self.neutron.shown(self.port))

    def test_nothing_was_done(self) -> None:
        asked = len(self.neutron.asked)
        self.backing.undo(GUEST, {}, self.saves)
        self.backing.check(GUEST, {})
        self.assertEqual(asked, len(self.neutron.asked))

    def test_a_port_that_others_have_by_now(self) -> None:
        for members in (
            {'binding_host_id': 'compute-2'},
            {'device_id': OTHER_GUEST},
            {'binding_host_id': '', 'device_id': '', 'device_owner': ''},
            {'binding_host_id': '', 'device_id': '', 'device_owner': 'network:dhcp'},
        ):
            self.neutron.change(self.port, **members)
            before = self.neutron.shown(self.port)
            self.undo()
            self.assertEqual(before, self.neutron.shown(self.port))
        self.assertEqual([], self.neutron.changes)

    def test_a_port_that_is_deleted(self) -> None:
        self.neutron.delete(self.port)
        self.undo()
        self.assertIn(f'Port {self.port} of instance {GUEST} is deleted', self.log.output)

    def test_a_port_that_is_deleted_just_then(self) -> None:
        self.neutron.before = lambda method, _path: self.neutron.delete(self.port) if method == 'PUT' else None
        self.undo()
        self.assertEqual({}, self.neutron.ports)

    def test_another_owner(self) -> None:
        self.neutron.change(self.port, device_owner='compute:zone')
        self.undo()
        self.assertEqual(self.unbound, self.neutron.shown(self.port))

    def test_other_options_than_at_the_beginning(self) -> None:
        self.backing = self.make(host='compute-9', device_owner='compute:other')
        self.undo()
        self.assertEqual(self.unbound, self.neutron.shown(self.port))

    def test_another_owner_in_the_options_than_at_the_beginning(self) -> None:
        self.backing = self.make(device_owner='compute:other')
        self.prepare(self.port)
        self.assertEqual([], self.neutron.changes)
        self.undo()
        self.assertEqual(self.unbound, self.neutron.shown(self.port))


class CompleteTestCase(base.PortsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.port = self.neutron.add()
        self.backing = self.make(active_timeout=5)
        self.prepare(self.port)

    def complete(self) -> None:
        self.backing.complete(GUEST, self.saves.details)

    def test_a_port_that_becomes_active(self) -> None:
        self.clock.on_pause = lambda: self.neutron.change(self.port, status='ACTIVE')  # type: ignore[method-assign]
        self.complete()
        self.assertEqual(1, self.clock.pauses)
        self.assertNotIn('has the status', self.log.output)

    def test_a_port_that_does_not(self) -> None:
        self.complete()
        self.assertEqual(5, self.clock.pauses)
        self.assertIn(f'port {self.port} has the status DOWN after 5 s', self.log.output)

    def test_a_port_that_is_deleted(self) -> None:
        self.neutron.delete(self.port)
        self.complete()
        self.assertEqual(0, self.clock.pauses)

    def test_a_neutron_that_does_not_answer(self) -> None:
        self.neutron.before = lambda _method, _path: (503, {})
        self.complete()
        self.assertIn('it is unknown whether port', self.log.output)

    def test_by_default_it_is_not_asked(self) -> None:
        self.backing = self.make()
        asked = len(self.neutron.asked)
        self.complete()
        self.assertEqual(asked, len(self.neutron.asked))
