# SPDX-License-Identifier: Apache-2.0
"""Running guests that are made anew, here or on another host, and have their aliases from then on."""

import logging
from collections.abc import Callable
from collections.abc import Iterable

from aliasagent.allowed import paths
from aliasagent.allowed import rules
from aliasagent.reconcile import apply
from aliasagent.reconcile import plan
from aliasagent.reconcile import rewrite
from aliasagent.requests import inventory
from aliasagent.requests.base import Move
from aliasagent.requests.guest import LiveMigrate
from aliasagent.requests.guest import ReconcileLive
from aliasagent.virt import migrate
from aliasagent.virt import save_restore
from aliasagent.virt import saved_guest
from aliasagent.virt.guest import Rewrite
from aliasagent.virt.host import Host
from aliasagent.virt.migrate import Progress
from aliasagent.virt.save_restore import Estimate

LOG = logging.getLogger(__name__)


class Relocation:
    """Saves and restores guests, and sends them to other hosts, with their aliases in the definition they go on with.

    :param directory: where a guest's memory is kept between save and restore.
    :param known: what is known of a guest's devices from elsewhere.
    :param keep: takes what an inventory has said of a guest's devices, to be among what is known later.
    :param within: where a guest may be sent, asked at each migration.
    """

    def __init__(
        self,
        host: Host,
        directory: str,
        known: Callable[[str], Iterable[plan.Record]] = lambda _instance: (),
        keep: Callable[[str, list[plan.Record]], None] = lambda _instance, _records: None,
        within: Callable[[], rules.Bounds] = rules.Bounds,
    ) -> None:
        self._host = host
        self._directory = directory
        self._known = known
        self._keep = keep
        self._within = within
        for path in saved_guest.leftovers(directory):
            LOG.critical('The memory of a guest was left in %s: if it has not run since, "virsh restore" it', path)

    def move(
        self,
        instance: str,
        request: Move,
        *,
        begin: Callable[[], object] = lambda: None,
        begun_before: bool = False,
    ) -> None:
        """Do what was asked. See :meth:`save_and_restore` and :meth:`migrate`."""
        match request:
            case ReconcileLive():
                told = inventory.records_of(request.inventory)
                self.save_and_restore(instance, told, begin=begin, begun_before=begun_before)
            case LiveMigrate():
                self.migrate(instance, request, begin=begin, begun_before=begun_before)
            case _:
                raise TypeError(f'{request} is no move')

    def save_and_restore(
        self,
        instance: str,
        records: Iterable[plan.Record] = (),
        *,
        begin: Callable[[], object] = lambda: None,
        begun_before: bool = False,
    ) -> None:
        """Save a running guest and restore it. See :func:`aliasagent.virt.save_restore.save_and_restore`.

        :param records: what was told of its devices.
        :param begin: called when the guest was looked at and is about to be saved, or to be gone on with.
        :param begun_before: the guest may be down, or libvirt at it still.
        """
        give = self._give(instance, records)
        if begun_before:
            begin()
            done = save_restore.resume(self._host, instance, self._directory, give)
        else:
            self._keep_told(instance, records)
            done = save_restore.save_and_restore(self._host, instance, self._directory, give, begin)
        given = ', '.join(done.given) or 'no alias'
        LOG.info('Instance %s stood still for %.1f s and has got %s', instance, done.paused_seconds, given)

    def estimate(self, instance: str) -> Estimate:
        """About how long :meth:`save_and_restore` would have a guest stand still."""
        return save_restore.estimate(self._host, instance)

    def migrate(
        self,
        instance: str,
        request: LiveMigrate,
        *,
        begin: Callable[[], object] = lambda: None,
        begun_before: bool = False,
    ) -> None:
        """Send a running guest to another host. See :func:`aliasagent.virt.migrate.migrate`.

        :param begin: called when the guest is about to be read and to move, or to be followed.
        :param begun_before: libvirt may have carried on with it while we were away, and is only followed.
        """

        def check() -> None:
            paths.check(request.needs(), self._within())

        if begun_before:
            begin()
            migrate.follow(self._host, instance, request.dest_uri, check)
            return
        check()
        migrate.migrate(
            self._host,
            instance,
            request.dest_uri,
            self._give(instance, inventory.records_of(request.inventory)),
            migrate_uri=request.migrate_uri,
            bandwidth_mib=request.bandwidth_mib,
            unsafe=request.unsafe,
            begin=begin,
        )

    def _keep_told(self, instance: str, told: Iterable[plan.Record]) -> None:
        """Keep what an inventory says: an alias that only the inventory vouches for is doubtful without it."""
        records = frozenset(told)
        if records:
            look = apply.look(self._host.guest(instance), records.union(self._known(instance)))
            if look.settled:
                self._keep(instance, look.settled)

    def _give(self, instance: str, told: Iterable[plan.Record]) -> Rewrite:
        """What sets the aliases. It asks itself for what is known, so that an error there is undone as any other."""
        records = frozenset(told)
        return lambda definition, other: rewrite.give(definition, other, records.union(self._known(instance)))

    def end_waits(self) -> None:
        """Wait for nothing any more, for the agent stops: a move that waits raises :exc:`Stopping`."""
        self._host.end_waits()

    def progress(self, instance: str) -> Progress | None:
        """How far a guest is on its way to another host; None if it is on none."""
        return migrate.progress(self._host, instance)

    def abort(self, instance: str) -> None:
        """Have a guest that is on its way stay here."""
        migrate.abort(self._host, instance)
