# SPDX-License-Identifier: Apache-2.0

from aliasagent.devices import drives
from aliasagent.devices.domain import Domain
from aliasagent.devices.drives import Place
from aliasagent.tests import base


def guest(*controllers: str, taken: tuple[tuple[int, int], ...] = ()) -> Domain:
    """A guest with these SCSI controllers, by model, and disks in these places."""
    devices = ''.join(
        f"<controller type='scsi' index='{index}' model='{model}'/>" for index, model in enumerate(controllers) if model
    )
    for controller, unit in taken:
        devices += (
            f"<disk><target dev='sdz' bus='scsi'/>"
            f"<address type='drive' controller='{controller}' bus='0' target='0' unit='{unit}'/></disk>"
        )
    return Domain.parse(f'<domain><devices>{devices}</devices></domain>')


class FreePlaceTestCase(base.TestCase):
    def check(self, place: tuple[int, int] | None, target: str | None, *domains: Domain) -> None:
        wanted = None if place is None else Place(*place)
        self.assertEqual(wanted, drives.free_place(domains, target))

    def test_a_name_leads_where_libvirt_would_put_it(self) -> None:
        self.check((0, 0), 'sda', guest('virtio-scsi'))
        self.check((0, 6), 'sdg', guest('virtio-scsi'))
        self.check((1, 0), 'sdh', guest('virtio-scsi', 'virtio-scsi'))

    def test_beyond_what_the_guest_has_no_name_leads(self) -> None:
        self.check((0, 7), 'sdh', guest('virtio-scsi'))
        self.check((0, 8), 'sdh', guest('virtio-scsi', taken=((0, 7),)))
        self.check((0, 7), 'sda', guest('virtio-scsi', taken=((0, 0),)))

    def test_what_has_no_name_goes_where_the_names_lead(self) -> None:
        self.check((0, 1), None, guest('virtio-scsi', taken=((0, 0),)))

    def test_a_full_controller(self) -> None:
        taken = tuple((0, unit) for unit in range(256))
        self.check((0, 255), 'sdh', guest('virtio-scsi', taken=taken[:255]))
        self.check(None, 'sdh', guest('virtio-scsi', taken=taken))
        self.check((1, 7), 'sda', guest('virtio-scsi', 'virtio-scsi', taken=taken))
        self.check(None, 'sdh', guest('lsilogic', taken=taken[:7]))
        self.check((0, 6), 'sdh', guest('lsilogic', taken=taken[:6]))

    def test_both_definitions_have_to_have_it(self) -> None:
        self.check((0, 8), 'sda', guest('virtio-scsi', taken=((0, 0),)), guest('virtio-scsi', taken=((0, 7),)))
        self.check((1, 7), 'sda', guest('', 'virtio-scsi'), guest('virtio-scsi', 'virtio-scsi'))
        self.check((0, 6), 'sdh', guest('virtio-scsi'), guest('lsilogic', taken=tuple((0, unit) for unit in range(6))))
        self.check(None, 'sda', guest('virtio-scsi'), guest())

    def test_what_is_to_be_avoided(self) -> None:
        self.assertEqual(Place(0, 7), drives.free_place([guest('virtio-scsi')], 'sda', {Place(0, 0)}))

    def test_other_targets_and_nonsense_take_nothing_up(self) -> None:
        text = guest('virtio-scsi', taken=((0, 0),)).to_xml()
        for old, new in (('target="0"', 'target="1"'), ('unit="0"', 'unit="x"')):
            self.assertIn(old, text)
            self.check((0, 0), 'sda', Domain.parse(text.replace(old, new)))
