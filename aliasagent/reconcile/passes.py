# SPDX-License-Identifier: Apache-2.0
"""A pass over all guests of the host."""

import contextlib
import logging
from collections.abc import Callable
from concurrent import futures

from aliasagent import exception
from aliasagent.reconcile import apply
from aliasagent.virt.guest import Guest
from aliasagent.virt.host import Host

LOG = logging.getLogger(__name__)

#: Does a job on a guest if nothing else is done or waits there, and tells when; None if something is.
SubmitIfIdle = Callable[[str, Callable[[], None]], 'futures.Future[None] | None']


class Reconciler:
    """Looks at the host's guests, each while no operation on it is under way."""

    def __init__(self, host: Host, submit_if_idle: SubmitIfIdle) -> None:
        self._host = host
        self._submit_if_idle = submit_if_idle

    def run(self) -> apply.Report:
        """Look at each guest once; one on which something is under way is left for the next pass.

        :raises HypervisorUnavailable: the guests could not be listed.
        """
        reports: list[apply.Report] = []
        looks = [look for guest in self._host.guests() if (look := self._look(guest, reports)) is not None]
        for look in looks:
            # Cancelled if the agent stops before its turn comes.
            with contextlib.suppress(futures.CancelledError):
                look.result()
        total = sum(reports, apply.Report())
        LOG.info(
            'Reconciled %d guests: %d devices have their alias, %d got it now, %d remain without',
            len(reports),
            total.aliased,
            total.given,
            total.remaining,
        )
        return total

    def _look(self, guest: Guest, reports: list[apply.Report]) -> 'futures.Future[None] | None':
        def job() -> None:
            try:
                reports.append(apply.reconcile(guest))
            except exception.InstanceNotFound:
                LOG.debug('Instance %s went away meanwhile', guest.uuid)
            except exception.AliasAgentError as error:
                LOG.warning('Instance %s is left for the next pass: %s', guest.uuid, error)

        begun = self._submit_if_idle(guest.uuid, job)
        if begun is None:
            LOG.debug('Instance %s is busy, and left for the next pass', guest.uuid)
        return begun
