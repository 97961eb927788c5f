# SPDX-License-Identifier: Apache-2.0
"""Live migrations from the fake: they take their time, go on when their client is gone, and may come to nothing."""

import contextlib
from collections.abc import Iterator
from typing import Any

import libvirt

from aliasagent.tests.fakes.libvirt import FakeDomain
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.domain import remote
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.history import threads


class Migrations:
    """How the next migration of each guest goes, and those under way."""

    def __init__(self) -> None:
        #: Seconds, and ``arrives``, ``fails`` or ``is aborted``.
        self.manners: dict[str, tuple[float, str]] = {}

    def begin(self, guest: FakeGuest) -> dict[str, Any]:
        """Begin one; what is returned tells when it has ended."""
        seconds, how = self.manners.get(guest.uuid, (1.0, 'arrives'))
        run = guest.id
        job: dict[str, Any] = {'ended': False, 'error': None}
        guest.migrating = True

        def end() -> None:
            job['ended'] = True
            if guest.id != run:
                job['error'] = 'the guest is not running any more'
                return
            guest.migrating = False
            if how == 'arrives':
                guest.migrate_away()
            else:
                job['error'] = f'migration out job: it {how}'

        threads.scheduler().later(seconds, end, threads.scheduler().world)
        return job


def _migrate(self: Any, dconnuri: str, params: dict[str, object] | None = None, flags: int = 0) -> int:
    guest = self.find()
    guest.need_live()
    if guest.migrating:
        raise errors.lock_timeout()
    job = guest.hypervisor.migrations.begin(guest)
    while not job['ended']:
        threads.scheduler().sleep(0.1)
        self.connection.still_there()
    if job['error'] is not None:
        raise errors.error(libvirt.VIR_ERR_OPERATION_FAILED, str(job['error']))
    return 0


_migrate.__name__ = 'migrateToURI3'


@contextlib.contextmanager
def possible() -> Iterator[None]:
    """Have the fake's guests migrate inside."""
    refusing = FakeDomain.migrateToURI3
    setattr(FakeDomain, _migrate.__name__, remote(_migrate))
    try:
        yield
    finally:
        setattr(FakeDomain, _migrate.__name__, refusing)
