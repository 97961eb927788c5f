# SPDX-License-Identifier: Apache-2.0

from typing import Any

from aliasagent import exception
from aliasagent.devices import qos
from aliasagent.devices.disk import Disk
from aliasagent.tests import base


class LimitsTestCase(base.TestCase):
    def test_texts_and_numbers(self) -> None:
        self.assertEqual(
            {'read_bytes_sec': 1000, 'total_iops_sec': 20},
            qos.limits({'read_bytes_sec': '1000', 'total_iops_sec': 20}),
        )

    def test_none_and_0_are_no_limit(self) -> None:
        self.assertEqual(
            {'read_iops_sec': 5},
            qos.limits({'total_iops_sec': '0', 'total_iops_sec_max': 0, 'read_bytes_sec': None, 'read_iops_sec': 5}),
        )

    def test_what_is_for_the_back_end_is_left_out(self) -> None:
        self.assertEqual({}, qos.limits({'maxIOPS': '500', 'read_iops_sec_per_gb': '3', 'consumer': 'both'}))

    def test_every_limit_is_a_property_of_a_disk(self) -> None:
        self.assertEqual(19, len(set(qos.KEYS)))
        for key in qos.KEYS:
            self.assertEqual(f'iotune/{key}', getattr(Disk, key).path)

    def test_all_together(self) -> None:
        limits = {f'{direction}_{unit}': 10 for direction in ('read', 'write') for unit in ('bytes_sec', 'iops_sec')}
        specs = {
            **limits,
            **{f'{limit}_max': 10 for limit in limits},
            **{f'{limit}_max_length': 60 for limit in limits},
            'size_iops_sec': 4096,
        }
        self.assertEqual(specs, qos.limits(specs))
        self.assertEqual({'total_bytes_sec': qos.MAXIMUM}, qos.limits({'total_bytes_sec': qos.MAXIMUM}))

    def test_combinations_that_qemu_refuses(self) -> None:
        refused: list[tuple[str, dict[str, Any]]] = [
            ('total_bytes_sec', {'total_bytes_sec': 10, 'read_bytes_sec': 5}),
            ('total_iops_sec', {'total_iops_sec': '10', 'write_iops_sec': '5'}),
            (
                'total_iops_sec_max',
                {'total_iops_sec_max': 10, 'write_iops_sec': 5, 'write_iops_sec_max': 10},
            ),
            ('read_bytes_sec_max', {'read_bytes_sec_max': 10}),
            ('read_bytes_sec_max', {'read_bytes_sec_max': 10, 'read_iops_sec': 10}),
            ('read_bytes_sec_max', {'read_bytes_sec': 10, 'read_bytes_sec_max': 9}),
            ('read_bytes_sec_max_length', {'read_bytes_sec': 10, 'read_bytes_sec_max_length': 9}),
            (
                'read_bytes_sec_max_length',
                {'read_bytes_sec': 1, 'read_bytes_sec_max': 10, 'read_bytes_sec_max_length': qos.MAXIMUM // 10 + 1},
            ),
            ('size_iops_sec', {'size_iops_sec': 4096, 'total_bytes_sec': 10}),
            ('total_bytes_sec', {'total_bytes_sec': qos.MAXIMUM + 1}),
            ('total_bytes_sec', {'total_bytes_sec': '9' * 20}),
        ]
        for field, specs in refused:
            error = self.assertRaises(exception.InvalidInput, qos.limits, specs)
            self.assertEqual(f'connection_info.data.qos_specs.{field}', error.kwargs['field'], str(specs))
