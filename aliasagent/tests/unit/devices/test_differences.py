# SPDX-License-Identifier: Apache-2.0

import dataclasses

from aliasagent.devices import differences
from aliasagent.devices import domain
from aliasagent.devices import xml
from aliasagent.devices.disk import Disk
from aliasagent.requests.port import AttachInterface
from aliasagent.tests import base
from aliasagent.tests.unit.devices import golden


def disk(text: str) -> Disk:
    found = domain.device(xml.parse(text))
    assert isinstance(found, Disk)
    return found


class DifferencesTestCase(base.TestCase):
    def test_what_libvirt_makes_of_a_request_is_what_was_asked_for(self) -> None:
        """So that a request that is delivered again is done, whatever it says."""
        for name in (*golden.VOLUMES, *golden.PORTS):
            asked, made = golden.build(name), domain.device(xml.parse(golden.text(name, 'in')))
            if name in golden.VOLUMES:
                given = golden.VOLUMES[name]
                request = golden.request(given['connection_info'], given['device_type'])
                named = {'device_name': f'/dev/{given["target"]}', 'disk_bus': given['bus']}
                decided = dataclasses.replace(request, **named).decided()
            else:
                decided = AttachInterface.from_dict({'port': golden.PORTS[name]}).decided()
            self.assertIsNone(differences.first(made, asked, decided), name)

    def test_what_is_not_said_may_be_anything(self) -> None:
        have, want = disk("<disk><driver cache='writeback'/><target dev='vdb'/></disk>"), disk('<disk/>')
        self.assertIsNone(differences.first(have, want, {}))
        self.assertEqual(
            differences.Difference('it', 'writeback', 'none'),
            differences.first(have, disk("<disk><driver cache='none'/></disk>"), {'cache': 'it'}),
        )

    def test_what_is_left_out_of_a_definition_means_something(self) -> None:
        for name, text in (
            ('driver_type', "<disk><driver type='raw'/></disk>"),
            ('cache', "<disk><driver cache='writeback'/></disk>"),
            ('io', "<disk><driver io='threads'/></disk>"),
            ('queues', "<disk><driver queues='1'/></disk>"),
            (
                'total_iops_sec_max_length',
                '<disk><iotune><total_iops_sec_max_length>1</total_iops_sec_max_length></iotune></disk>',
            ),
        ):
            self.assertIsNone(differences.first(disk('<disk/>'), disk(text), {name: name}), name)
            self.assertIsNone(differences.first(disk(text), disk('<disk/>'), {name: name}), name)

    def test_another_serial(self) -> None:
        decided = {'serial': 'serial'}
        have, want = disk('<disk><serial>a</serial></disk>'), disk('<disk><serial>B</serial></disk>')
        self.assertEqual(differences.Difference('serial', 'a', 'b'), differences.first(have, want, decided))
        self.assertIsNone(differences.first(disk('<disk><serial>b </serial></disk>'), want, decided))
        self.assertIsNone(differences.first(disk('<disk/>'), want, decided))

    def test_encryption_is_read_where_nova_writes_it_too(self) -> None:
        secret = "<encryption format='luks'><secret type='passphrase' uuid='{}'/></encryption>"
        decided = {'encryption': 'encryption'}
        beside, within = (
            disk(text.format(secret.format('A1'))) for text in ('<disk>{}</disk>', '<disk><source>{}</source></disk>')
        )
        self.assertIsNone(differences.first(beside, within, decided))
        self.assertEqual(
            differences.Difference('encryption', 'luks, a1', 'none'),
            differences.first(beside, disk('<disk/>'), decided),
        )
