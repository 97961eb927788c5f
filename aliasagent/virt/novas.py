# SPDX-License-Identifier: Apache-2.0
"""Decides whether a request may be done in a guest of Nova: the option ``manage``."""

from collections.abc import Callable

from aliasagent import exception
from aliasagent.requests.base import Management
from aliasagent.virt.guest import Definitions

ALL = 'all'


class NovasGuests:
    """Refuses what Nova would not know of.

    :param manage: returns the option ``manage``; called for each request, when its work begins.
    """

    def __init__(self, manage: Callable[[], str] = lambda: ALL) -> None:
        self._manage = manage

    def may_refuse(self, request: Management) -> bool:
        """Return whether the guest decides: a request with ``force`` may be done in any guest."""
        return self._manage() != ALL and not request.force

    def refuse(self, instance: str, definitions: Definitions, request: Management) -> None:
        """Refuse a request that :meth:`may_refuse` holds back, if the guest is Nova's.

        :raises ManagedByNova: one of the guest's definitions says that Nova made the guest.
        """
        if any(domain.is_novas for _side, domain in definitions.sides()):
            raise exception.ManagedByNova(instance=instance, action=request.action, cost=request.cost)
