# SPDX-License-Identifier: Apache-2.0
"""Follows the devices of failed detaches, which a running guest may release later."""

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

#: Errors after which the guest has no open request to release the device: the guest or libvirt refused it, or the agent
#: sent none.
_NOTHING_ASKED = frozenset(
    kind.__name__ for kind in (exception.DetachFailed, exception.Unsupported, exception.GuestBusy)
)


class Overdue:
    """Lets the driver follow devices that guests did not release in time."""

    def __init__(self, journal: Journal, driver: Driver) -> None:
        self._journal = journal
        self._driver = driver
        #: The ids of detaches whose guest an earlier process may have asked to release the device.
        self._taken_up: set[str] = set()

    def take_up(self, operation: Operation) -> None:
        """Remember a detach that an earlier process has started."""
        if operation.asked is not None:
            self._taken_up.add(operation.id)

    def watch(self, overdue: Iterable[Operation]) -> None:
        """Follow the devices of failed detaches."""
        for operation in overdue:
            with context.bound_to(operation.id, operation.request_id, operation.instance):
                may_still_go = operation.may_still_go
                if may_still_go is None:  # recorded by an older release
                    may_still_go = operation.error_class not in _NOTHING_ASKED
                self._driver.watch(operation.instance, operation.device, operation.asked, may_still_go)

    def recheck(self, instance: str, device: str) -> None:
        """Follow a device again that a guest has released, without an open request to release it.

        :raises JournalError: the failed detaches cannot be read.
        """
        overdue = self._journal.overdue(instance, device)
        self.watch(dataclasses.replace(operation, may_still_go=False) for operation in overdue)

    def watch_again(self, attach: Operation) -> None:
        """Follow a device again after its attach has failed: the journal recorded no late release during the attach."""
        try:
            self.watch(self._journal.overdue(attach.instance, attach.device))
        except exception.JournalError as error:
            LOG.warning('The agent may detect a late release of %s only after its next start: %s', attach.device, error)

    def follow(self, operation: Operation, asked: DeviceFingerprint | None, error: BaseException) -> bool | None:
        """Follow the device of a failed detach, as long as a running guest has it.

        :param asked: the device as the detach found it.
        :return: whether the guest may still release the device; None if there is no device to follow.
        """
        gone = isinstance(error, exception.InstanceNotFound)
        if operation.action not in DETACHES or asked is None or not asked.is_live or gone:
            return None
        may_still_go = self._driver.may_still_go(operation.instance, operation.device)
        if may_still_go is None:
            # The detach failed before this process asked the guest; an earlier process may have asked.
            may_still_go = operation.id in self._taken_up
            self._driver.watch(operation.instance, operation.device, asked, may_still_go)
        self._taken_up.discard(operation.id)
        return may_still_go
