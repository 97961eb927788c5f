# SPDX-License-Identifier: Apache-2.0
"""More SCSI disks than libvirt itself puts on one controller: the guest has them all, now and after its next start."""

from aliasagent.devices.domain import Domain
from aliasagent.tests.integration import base
from sandbox import guest as guests

NUMBER = 9


class NineDisksTest(base.OnLibvirt):
    def test_the_guest_sees_nine_before_and_after_a_stop_and_start(self) -> None:
        uuid = self.side.new_guest(' ')
        guest = next(made for made in self.side.made if made.uuid == uuid)
        before = [_controllers(domain) for domain in (self.live(uuid), self.persistent(uuid))]
        volumes = [self.attach(uuid) for _ in range(NUMBER)]

        def sees_all(seen: guests.Seen) -> bool:
            return all((disk := seen.disk(volume)) is not None and disk.bus == 'scsi' for volume in volumes)

        guest.wait_sees(sees_all, what=f'{NUMBER} SCSI disks')
        self.assert_on_both(uuid, *volumes)
        guest.domain.destroy()
        guest.start().wait_ready()
        guest.wait_sees(sees_all, what=f'{NUMBER} SCSI disks after a stop and start')
        self.assertEqual(NUMBER, len(guest.sees().disks))
        self.assert_on_both(uuid, *volumes)
        # The running guest's controllers have aliases of libvirt's, the saved ones none: only which there are counts.
        self.assertEqual(before, [_controllers(domain) for domain in (self.live(uuid), self.persistent(uuid))])
        self.detach(uuid, volumes[NUMBER - 1])
        self.assert_on_both(uuid, *volumes[: NUMBER - 1])


def _controllers(domain: Domain) -> list[tuple[str | None, ...]]:
    return sorted(
        tuple(str(found.element.get(name)) for name in ('type', 'index', 'model'))
        for found in domain.devices()
        if found.kind == 'controller'
    )
