# SPDX-License-Identifier: Apache-2.0
"""What a volume is in its storage."""

from typing import Any

from aliasagent.tests import base
from aliasagent.volumes import units

IQN, NQN = 'iqn.2010-10.org.openstack:v', 'nqn.2014-08.org.nvmexpress:uuid:v'


class UnitsTestCase(base.TestCase):
    def assert_units(self, expected: list[str], kind: str, **data: Any) -> None:
        self.assertEqual(expected, units.of('V', kind, data))

    def test_iscsi(self) -> None:
        self.assert_units([f'{IQN} lun 1'], 'iscsi', target_iqn=IQN, target_lun=1)
        self.assert_units([f'{IQN} lun 1'], 'iser', target_iqn=IQN, target_lun='1')
        both = {'target_iqns': [IQN, 'iqn.b'], 'target_luns': [1, '2']}
        self.assert_units([f'{IQN} lun 1', 'iqn.b lun 2'], 'iscsi', target_iqn=IQN, target_lun=1, **both)
        self.assert_units([f'{IQN} lun 7', 'iqn.b lun 7'], 'iscsi', target_iqns=[IQN, 'iqn.b'], target_lun=7)

    def test_the_same_volume_by_one_path_and_by_two(self) -> None:
        one = units.of('V', 'iscsi', {'target_iqn': IQN, 'target_lun': '0'})
        two = units.of('V', 'iscsi', {'target_iqns': ['iqn.b', IQN], 'target_luns': [0, 0]})
        self.assertFalse(set(one).isdisjoint(two))

    def test_fibre_channel(self) -> None:
        kind, both = 'fibre_channel', ['5001AB', '5001AC']
        self.assert_units(['5001ab lun 3'], kind, target_wwn='5001AB', target_lun=3)
        self.assert_units(['5001ab lun 3', '5001ac lun 3'], kind, target_wwn=both, target_lun=3)
        self.assert_units(['5001ab lun 3', '5001ac lun 4'], kind, target_wwns=both, target_luns=[3, 4])

    def test_nvme(self) -> None:
        self.assert_units([f'nvme {NQN} uuid'], 'nvmeof', target_nqn=NQN, vol_uuid='uuid', ns_id=1)
        self.assert_units([f'nvme {NQN} 2'], 'nvmeof', nqn=NQN, vol_uuid=None, ns_id=2)
        self.assert_units([f'nvme {NQN}'], 'nvmeof', nqn=NQN)
        self.assertEqual({NQN}, units.subsystems({'nqn': NQN}))
        self.assertEqual(set(), units.subsystems({}))
        replicas = [{'target_nqn': NQN, 'vol_uuid': 'a'}, {'target_nqn': f'{NQN}2', 'vol_uuid': 'b'}]
        self.assert_units([f'nvme {NQN} a', f'nvme {NQN}2 b'], 'nvmeof', volume_replicas=replicas)

    def test_by_the_volume(self) -> None:
        for kind in ('storpool', 'iscsi', 'fibre_channel', 'nvmeof'):
            self.assert_units(['volume V'], kind, target_lun=1)
