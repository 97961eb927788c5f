# SPDX-License-Identifier: Apache-2.0
"""The driver's contract on the fake hypervisor."""

import contextlib
from collections.abc import Iterator

from aliasagent.tests.contract import driver_again
from aliasagent.tests.contract import driver_attach
from aliasagent.tests.contract import driver_detach
from aliasagent.tests.contract import driver_kinds
from aliasagent.tests.contract import driver_life
from aliasagent.tests.contract import driver_places
from aliasagent.tests.contract import driver_secrets
from aliasagent.tests.contract import reconcile
from aliasagent.tests.contract import reconcile_special
from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.functional import base


class OnFake(base.FakeSideCase):
    def setUp(self) -> None:
        super().setUp()
        self.set_up_driver()


class AttachTest(OnFake, driver_attach.AttachContract):
    """Attach."""


class AgainTest(OnFake, driver_again.AgainContract):
    """Attach of what is there."""


class PlacesTest(OnFake, driver_places.PlacesContract):
    """Where devices go."""


class DetachTest(OnFake, driver_detach.DetachContract):
    """Detach."""


class KindsTest(OnFake, driver_kinds.KindsContract):
    """Every kind."""


class SecretsTest(OnFake, driver_secrets.SecretsContract):
    """Secrets of libvirt."""


class ReconcileTest(OnFake, reconcile.ReconcileContract):
    """Reconcile."""


class SpecialGuestsTest(OnFake, reconcile_special.SpecialGuestsContract):
    """Reconcile, where something is in the way."""

    def misname(self, instance: str, alias: str, other: str) -> None:
        config = self.side.fake.guests[instance].need_config()
        aliases.set_alias(aliases.find(config, alias), other)

    @contextlib.contextmanager
    def migrating(self, instance: str) -> Iterator[None]:
        guest = self.side.fake.guests[instance]
        guest.migrating = True
        yield
        guest.migrating = False

    def new_qcow2(self) -> str:
        return self.side.new_file()


class LifeTest(OnFake, driver_life.LifeContract):
    """The guest or the hypervisor goes."""

    def kill_daemon(self) -> None:
        self.side.fake.drop_connections(down=True)

    def start_daemon(self) -> None:
        self.side.fake.down = False

    def reset(self, guest: str) -> None:
        self.side.reset(guest)

    def destroy(self, guest: str) -> None:
        self.side.destroy(guest)

    def crash(self, guest: str) -> None:
        self.side.fake.guests[guest].crash(preserve=False)
