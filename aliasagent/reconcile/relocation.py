# SPDX-License-Identifier: Apache-2.0
"""Save and restore guests, and migrate them, with the aliases that their devices lack."""

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
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Rewrite
from aliasagent.virt.host import Host
from aliasagent.virt.migrate import Progress
from aliasagent.virt.novas import NovasGuests
from aliasagent.virt.save_restore import Estimate

LOG = logging.getLogger(__name__)


class Relocation:
    """Saves and restores guests, and migrates them, with the missing aliases in the definition they continue with.

    :param directory: the directory for a guest's memory between save and restore.
    :param hints_of: returns the hints for a guest's devices.
    :param keep: keeps hints of an inventory about a guest's devices.
    :param within: returns the allowed destinations; called for each migration.
    :param novas: refuses to move guests of Nova.
    """

    def __init__(
        self,
        host: Host,
        directory: str,
        hints_of: Callable[[str], Iterable[plan.Record]] = lambda _instance: (),
        keep: Callable[[str, list[plan.Record]], None] = lambda _instance, _records: None,
        within: Callable[[], rules.Bounds] = rules.Bounds,
        novas: NovasGuests | None = None,
    ) -> None:
        self._host = host
        self._directory = directory
        self._hints_of = hints_of
        self._keep = keep
        self._within = within
        self._novas = novas or NovasGuests()
        for path in saved_guest.leftovers(directory):
            LOG.critical('A saved guest is left in %s: restore it with "virsh restore" if it has not run since', path)

    def move(
        self,
        instance: str,
        request: Move,
        *,
        begin: Callable[[], object] = lambda: None,
        begun_before: bool = False,
    ) -> None:
        """Carry out a request. See :meth:`save_and_restore` and :meth:`migrate`.

        :raises ManagedByNova: the guest is Nova's, and the option ``manage`` leaves its moves to Nova.
        """
        if not begun_before and self._novas.may_refuse(request):
            self._novas.refuse(instance, self._guest(instance, request).definitions(), request)
        match request:
            case ReconcileLive():
                hints = inventory.records_of(request.inventory)
                self.save_and_restore(instance, hints, begin=begin, begun_before=begun_before)
            case LiveMigrate():
                self.migrate(instance, request, begin=begin, begun_before=begun_before)
            case _:
                raise TypeError(f'{request} is no move')

    def _guest(self, instance: str, request: Move) -> Guest:
        if isinstance(request, ReconcileLive):
            # If the guest is gone, the error names the file with its memory.
            return save_restore.look_up(self._host, instance, self._directory)
        return self._host.guest(instance)

    def save_and_restore(
        self,
        instance: str,
        records: Iterable[plan.Record] = (),
        *,
        begin: Callable[[], object] = lambda: None,
        begun_before: bool = False,
    ) -> None:
        """Save a running guest and restore it. See :func:`aliasagent.virt.save_restore.save_and_restore`.

        :param records: the hints of the request's inventory.
        :param begin: called right before the guest is saved, or before an earlier save and restore is continued.
        :param begun_before: whether an earlier process began this; the guest may be down, or libvirt busy with it.
        """
        give = self._give(instance, records)
        if begun_before:
            begin()
            done = save_restore.resume(self._host, instance, self._directory, give)
        else:
            self._keep_hints(instance, records)
            done = save_restore.save_and_restore(self._host, instance, self._directory, give, begin)
        given = ', '.join(done.given) or 'no alias'
        LOG.info('Instance %s was paused for %.1f s and got %s', instance, done.paused_seconds, given)

    def estimate(self, instance: str) -> Estimate:
        """Estimate for how long :meth:`save_and_restore` would pause a guest."""
        return save_restore.estimate(self._host, instance)

    def migrate(
        self,
        instance: str,
        request: LiveMigrate,
        *,
        begin: Callable[[], object] = lambda: None,
        begun_before: bool = False,
    ) -> None:
        """Migrate a running guest to another host. See :func:`aliasagent.virt.migrate.migrate`.

        :param begin: called right before the guest is read and migrated, or before an earlier migration is followed.
        :param begun_before: whether an earlier process began this. The agent only follows that migration.
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

    def _keep_hints(self, instance: str, records: Iterable[plan.Record]) -> None:
        """Keep the hints of an inventory: an alias that only the inventory confirms is disputed without its hint."""
        hints = frozenset(records)
        if hints:
            report = apply.preview(self._host.guest(instance), hints.union(self._hints_of(instance)))
            if report.settled:
                self._keep(instance, report.settled)

    def _give(self, instance: str, records: Iterable[plan.Record]) -> Rewrite:
        """Return the function that sets the aliases. It reads the hints itself, so that its errors are undone, too."""
        hints = frozenset(records)
        return lambda definition, other: rewrite.give(definition, other, hints.union(self._hints_of(instance)))

    def end_waits(self) -> None:
        """End all waits, because the agent stops: a move that waits raises :exc:`Stopping`."""
        self._host.end_waits()

    def progress(self, instance: str) -> Progress | None:
        """Return the progress of a guest's migration; None if the guest is not being migrated."""
        return migrate.progress(self._host, instance)

    def abort(self, instance: str) -> None:
        """Abort a guest's migration."""
        migrate.abort(self._host, instance)
