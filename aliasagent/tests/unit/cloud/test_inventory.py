# SPDX-License-Identifier: Apache-2.0
"""What is made of the answers."""

from hypothesis import given
from hypothesis import strategies as st

from aliasagent.cloud import inventory
from aliasagent.cloud.ports import Port
from aliasagent.cloud.servers import VolumeAttachment
from aliasagent.compute import contract
from aliasagent.devices.identity import Evidence
from aliasagent.devices.identity import Record
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.unit.devices import strategies

_ids = st.sampled_from([ids.VOLUME, ids.OTHER_VOLUME, ids.PORT, ids.TWIN_PORT])
attachments = st.builds(VolumeAttachment, _ids, st.sampled_from([None, '/dev/vdb', '/dev/sda', 'vdc']))
ports = st.builds(Port, _ids, strategies.macs, st.sampled_from([None, '0000:06:12.5']))


class InventoryTestCase(base.TestCase):
    def records(self, *found: VolumeAttachment | Port) -> set[Record]:
        volumes = [it for it in found if isinstance(it, VolumeAttachment)]
        made = inventory.make(volumes, [it for it in found if isinstance(it, Port)])
        return set(inventory.records(made))

    def test_volumes(self) -> None:
        without = Record(ids.OTHER_VOLUME, 'disk', Evidence.CLOUD)
        self.assertEqual(
            {Record(ids.VOLUME, 'disk', Evidence.CLOUD, target='vdb'), without},
            self.records(VolumeAttachment(ids.VOLUME, '/dev/vdb'), VolumeAttachment(ids.OTHER_VOLUME, None)),
        )

    def test_a_port_with_a_mac_address_of_its_own(self) -> None:
        """The case of a MAC address says nothing."""
        port = Record(ids.PORT, 'interface', Evidence.CLOUD, mac=ids.MAC)
        other = Record(ids.TWIN_PORT, 'interface', Evidence.CLOUD, mac=ids.OTHER_MAC)
        self.assertEqual(
            {port, other}, self.records(Port(ids.PORT, ids.MAC.upper(), None), Port(ids.TWIN_PORT, ids.OTHER_MAC, None))
        )

    def test_ports_with_one_mac_address(self) -> None:
        """Their names on the host, of which each has one, distinguish them."""
        found = self.records(Port(ids.PORT, ids.MAC, None), Port(ids.VOLUME, ids.MAC, None))
        self.assertEqual(
            {
                Record(it, 'interface', Evidence.CLOUD, mac=ids.MAC, target=f'{prefix}{it[:11]}')
                for it in (ids.PORT, ids.VOLUME)
                for prefix in ('tap', 'vhu', 'nic')
            },
            found,
        )

    def test_a_function_of_a_network_card(self) -> None:
        slot = '0000:06:12.5'
        self.assertEqual(
            {
                Record(ids.PORT, 'interface', Evidence.CLOUD, mac=ids.MAC, host_address=slot),
                Record(ids.PORT, 'hostdev', Evidence.CLOUD, host_address=slot),
            },
            self.records(Port(ids.PORT, ids.MAC, slot)),
        )

    @given(st.lists(attachments, max_size=4), st.lists(ports, max_size=4))
    def test_any_answer_is_an_inventory(self, volumes: list[VolumeAttachment], found: list[Port]) -> None:
        made = inventory.make(volumes, found)
        message = {'instance_uuid': ids.GUEST, 'inventory': made.to_dict()}
        contract.validate('reconcile_plan', message)
        self.assertEqual({Evidence.CLOUD}, {it.told_by for it in inventory.records(made)} | {Evidence.CLOUD})
        self.assertEqual({it.volume_id for it in volumes}, {it.id for it in made.volumes})
        self.assertEqual({it.id for it in found}, {it.id for it in made.ports})
