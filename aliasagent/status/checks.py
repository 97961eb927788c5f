# SPDX-License-Identifier: Apache-2.0
"""The checks before an agent of this release is started where an older one was. They change nothing."""

import os
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg
from oslo_upgradecheck import upgradecheck

from aliasagent import bounded
from aliasagent import exception
from aliasagent.allowed import mounts
from aliasagent.cloud import ports
from aliasagent.cloud import servers
from aliasagent.cloud import service
from aliasagent.conf import openstack
from aliasagent.operations import inspection
from aliasagent.operations import journal
from aliasagent.status import broker
from aliasagent.status import guests
from aliasagent.status import hypervisor
from aliasagent.virt import host
from aliasagent.volumes import cinder

Code = upgradecheck.Code
Result = upgradecheck.Result

#: How many guests a message names at most.
_NAMED = 5


class Checks(upgradecheck.UpgradeCommands):
    """The checks of ``upgrade check``.

    :param timeout: seconds to wait for the hypervisor and for each broker.
    :param opener: opens the connection to the hypervisor.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        timeout: Callable[[], float] = lambda: 10.0,
        opener: host.Opener = host.open_libvirt,
    ) -> None:
        super().__init__()
        self._conf = conf
        self._timeout = timeout
        self._opener = opener
        self._surveyed: guests.Survey | None = None

    def _hypervisor(self) -> Any:
        try:
            version = self._ask(lambda connected: connected.version())
        except exception.HypervisorError as error:
            return Result(Code.FAILURE, str(error))
        if not version.detaches_by_alias:
            return Result(Code.FAILURE, f'{version} cannot detach by alias: QEMU with libvirt 4.4 or newer is needed')
        return Result(Code.SUCCESS, str(version))

    def _broker(self) -> Any:
        asked = broker.Broker(self._conf, self._timeout())
        if not asked.is_rabbit:
            return Result(Code.WARNING, 'transport_url names no RabbitMQ; requests do not survive a restart')
        try:
            unreachable = asked.unreachable()
        except broker.BrokerError as error:
            return Result(Code.FAILURE, str(error))
        return Result(Code.WARNING, '; '.join(unreachable)) if unreachable else Result(Code.SUCCESS)

    def _queues(self) -> Any:
        asked = broker.Broker(self._conf, self._timeout())
        if not asked.is_rabbit:
            return Result(Code.SUCCESS)
        try:
            found = asked.found()
        except broker.BrokerError as error:
            return Result(Code.FAILURE, f'the queues could not be read: {error}')
        misfits = [it for it in found if it.reason]
        if not misfits:
            return Result(Code.SUCCESS, f'{len(found)} exist and fit the settings' if found else None)
        words = '; '.join(f'{it.name}: {it.reason}' for it in misfits)
        # oslo.messaging then uses an exchange and queues that are all not durable.
        if asked.is_durable and misfits == found and all(it.is_not_durable for it in found):
            return Result(
                Code.WARNING, f'not durable, lost with the broker; delete them while the agent is stopped: {words}'
            )
        return Result(Code.FAILURE, f'the agent cannot listen; delete them, or change the settings: {words}')

    def _journal(self) -> Any:
        path = self._conf.operations.journal
        try:
            found = inspection.inspect(path)
        except exception.JournalError as error:
            return Result(Code.FAILURE, str(error))
        if found is None:
            directory = os.path.dirname(os.path.abspath(path))
            if not os.path.isdir(directory):
                return Result(Code.FAILURE, f'its directory does not exist: {directory}')
            return Result(Code.SUCCESS, f'the first start of the agent creates {path}')
        if not found.is_known:
            return Result(
                Code.FAILURE, f'{path} has layout {found.version}; this release supports up to {journal.VERSION}'
            )
        words = [f'layout {found.version}', f'the next start continues {found.unfinished} operations']
        if found.version < journal.VERSION:
            words.insert(
                1, f'the next start converts it to layout {journal.VERSION}, which an older release cannot read'
            )
        return Result(Code.SUCCESS, '; '.join(words))

    def _mounts(self) -> Any:
        doubt = mounts.doubt()
        return Result(Code.SUCCESS) if doubt is None else Result(Code.WARNING, doubt)

    def _cloud(self) -> Any:
        groups = [group for group in openstack.registered(self._conf) if group in ('nova', 'neutron')]
        if not groups:
            return Result(Code.SUCCESS, 'no section [nova]; Nova and Neutron are not asked about guests')
        failed = [words for group in groups if (words := self._unanswered(group))]
        if failed:
            # The agent works without them.
            return Result(Code.WARNING, '; '.join(failed))
        without = '' if 'nova' in groups else '; it is not asked about guests, because section [nova] is missing'
        return Result(Code.SUCCESS, ', '.join(groups) + without)

    def _cinder(self) -> Any:
        if 'cinder' not in openstack.registered(self._conf):
            return Result(Code.SUCCESS, 'no section [cinder]; volumes are not attached by their id alone')
        words = self._unanswered('cinder')
        # The agent works without it.
        return Result(Code.WARNING, words) if words else Result(Code.SUCCESS)

    def _unanswered(self, group: str) -> str:
        """Return why a service of the cloud cannot be asked; empty if it can."""

        def ask() -> None:
            if group == 'cinder':
                cinder.connected(self._conf).check()
                return
            found = service.Service(self._conf, group)
            servers.Servers(found).check() if group == 'nova' else ports.Ports(found).check()

        try:
            bounded.call(ask, self._timeout())
        except (exception.CloudError, bounded.TimedOut) as error:
            return str(error) if isinstance(error, exception.CloudError) else f'{group}: {error}'
        return ''

    def _pending(self) -> Any:
        return self._of_guests(
            lambda survey: [
                _count(survey.unknown, 'devices have no alias and cannot be identified'),
                _count(survey.to_give, "devices get their alias at the agent's next start"),
                _count(survey.not_live, "devices have an alias that takes effect at their guest's next start"),
            ],
            Code.WARNING,
        )

    def _doubled(self) -> Any:
        return self._of_guests(
            lambda survey: [
                f'{name}: {", ".join(aliases)}' for name, aliases in list(survey.doubled.items())[:_NAMED]
            ]
            + ([f'and {len(survey.doubled) - _NAMED} more guests'] if len(survey.doubled) > _NAMED else []),
            Code.FAILURE,
        )

    def _named(self) -> Any:
        return self._of_guests(
            lambda survey: [
                _count(
                    {name: len(aliases) for name, aliases in survey.by_name.items()},
                    "aliases agree with nothing but the name of the disk's source, and an earlier release may have "
                    'given them by that name alone. After a volume migration the source has the name of another '
                    'volume: compare the attachments of these guests with Cinder',
                )
            ],
            Code.WARNING,
        )

    def _is_recorded(self) -> Callable[[str, str], bool]:
        """Return a function that says whether the journal has a hint about a device.

        A journal that cannot be read has none; the check of the journal reports it.
        """
        try:
            recorded = inspection.recorded(self._conf.operations.journal)
        except exception.JournalError:
            recorded = frozenset()
        return lambda instance, device: (instance, device.lower()) in recorded

    def _of_guests(self, describe: Callable[[guests.Survey], list[str]], code: Any) -> Any:
        try:
            if self._surveyed is None:
                self._surveyed = self._ask(lambda connected: guests.survey(connected, self._is_recorded()))
        except exception.HypervisorError as error:
            return Result(Code.FAILURE, f'the guests could not be read: {error}')
        messages = list(filter(None, describe(self._surveyed)))
        result = code if messages else Code.SUCCESS
        for name, reason in list(self._surveyed.unread.items())[:_NAMED]:
            result = max(result, Code.WARNING)
            messages.append(f'{name} could not be read: {reason}')
        return Result(result, '; '.join(messages) or f'{self._surveyed.guests} guests')

    def _ask(self, question: Callable[[host.Host], Any]) -> Any:
        return hypervisor.ask(self._conf.libvirt.uri, question, self._timeout(), self._opener)

    _upgrade_checks = (
        ('Hypervisor', _hypervisor),
        ('Message broker', _broker),
        ('Queues', _queues),
        ('Journal', _journal),
        ('Host mounts', _mounts),
        ('Nova and Neutron', _cloud),
        ('Cinder', _cinder),
        ('Guests', _pending),
        ('Duplicate aliases', _doubled),
        ('Aliases by source name', _named),
    )


def _count(found: Mapping[str, int], words: str) -> str:
    """Describe how many devices or aliases were found, and on which guests."""
    if not found:
        return ''
    names = ', '.join(list(found)[:_NAMED]) + (', ...' if len(found) > _NAMED else '')
    return f'{sum(found.values())} {words} ({names})'
