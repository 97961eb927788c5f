# SPDX-License-Identifier: Apache-2.0
"""Detaches that have failed, and whose device a running guest may release later."""

import dataclasses
import logging
from collections.abc import Iterable

from aliasagent import context
from aliasagent import exception
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import DETACHES
from aliasagent.operations.model import Operation
from aliasagent.virt.driver import Driver

LOG = logging.getLogger(__name__)

#: The errors after which a guest has no request to release a device that it may still answer: it or libvirt refused, or
#: it was not asked.
_NOTHING_ASKED = frozenset(
    kind.__name__ for kind in (exception.DetachFailed, exception.Unsupported, exception.GuestBusy)
)


class Overdue:
    """Has the driver follow what guests were asked to release in vain."""

    def __init__(self, journal: Journal, driver: Driver) -> None:
        self._journal = journal
        self._driver = driver
        #: The detaches whose guests an earlier process may have asked.
        self._taken_up: set[str] = set()

    def take_up(self, operation: Operation) -> None:
        """Remember an operation that an earlier process has begun."""
        if operation.asked is not None:
            self._taken_up.add(operation.id)

    def watch(self, overdue: Iterable[Operation]) -> None:
        """Follow devices that guests were asked to release in vain."""
        for operation in overdue:
            with context.bound_to(operation.id, operation.request_id, operation.instance):
                may_still_go = operation.may_still_go
                if may_still_go is None:  # of an older release
                    may_still_go = operation.error_class not in _NOTHING_ASKED
                self._driver.watch(operation.instance, operation.device, operation.asked, may_still_go)

    def look_again(self, instance: str, device: str) -> None:
        """Look once more at a device that a guest has released: it may be there again, but nothing may take it out.

        :raises JournalError: it cannot be read which detaches have failed.
        """
        overdue = self._journal.overdue(instance, device)
        self.watch(dataclasses.replace(operation, may_still_go=False) for operation in overdue)

    def watch_again(self, attach: Operation) -> None:
        """Look at a device whose attach has failed: no late release was recorded since it began."""
        try:
            self.watch(self._journal.overdue(attach.instance, attach.device))
        except exception.JournalError as error:
            LOG.warning('A late release of %s may be noticed after the next start only: %s', attach.device, error)

    def follow(self, operation: Operation, asked: DeviceFingerprint | None, error: BaseException) -> bool | None:
        """Follow the device of a detach that has failed, as long as a running guest has it.

        :param asked: the device as the detach found it.
        :return: whether the guest may still answer a request to release it; None if there is none.
        """
        gone = isinstance(error, exception.InstanceNotFound)
        if operation.action not in DETACHES or asked is None or not asked.is_live or gone:
            return None
        may_still_go = self._driver.may_still_go(operation.instance, operation.device)
        if may_still_go is None:
            # It failed before the guest was asked here; an earlier process may have asked it.
            may_still_go = operation.id in self._taken_up
            self._driver.watch(operation.instance, operation.device, asked, may_still_go)
        self._taken_up.discard(operation.id)
        return may_still_go
