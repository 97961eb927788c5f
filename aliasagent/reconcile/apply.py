# SPDX-License-Identifier: Apache-2.0
"""Carry out a plan on a guest's persistent config.

Each write changes one device, right after a read has shown that the definition is still the planned one, and is read
back. If another client changes the definition between the read and the write, :mod:`aliasagent.reconcile.exchange`
restores that change.
"""

import dataclasses
import functools
import hashlib
import logging
import time
from collections.abc import Callable
from collections.abc import Iterable

from aliasagent import exception
from aliasagent.devices import alias as device_alias
from aliasagent.devices import domain
from aliasagent.devices import identity
from aliasagent.reconcile import exchange
from aliasagent.reconcile import plan
from aliasagent.virt.guest import Guest

LOG = logging.getLogger(__name__)

#: Maximum number of new plans for a definition that other clients keep changing; the next run continues.
_MAX_DISTURBANCES = 20
#: Seconds for which a definition must be stable before the agent writes to it: other clients' changes come in bursts.
_QUIET = 0.1
_sleep = time.sleep
#: How the devices of a transient guest get their aliases.
_REMEDY = 'gets its alias by "reconcile --live" or a migration'


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceStatus:
    """One device and its outcome, as texts: the agent keeps this for all guests, without their XML."""

    # A host has some ten thousand devices, so this has slots, and equal texts are kept once.

    #: The text of :meth:`aliasagent.devices.base.Device.describe`.
    device: str
    kind: str
    target: str | None
    outcome: plan.Outcome
    #: Why, or on what evidence.
    reason: str
    #: The alias that the device has, gets, or would get.
    alias: str | None


@dataclasses.dataclass(slots=True)
class Report:
    """The outcome for a guest's devices."""

    steps: list[DeviceStatus] = dataclasses.field(default_factory=list)
    #: The aliases that the agent wrote.
    given: list[str] = dataclasses.field(default_factory=list)
    #: The aliases that the running guest does not have yet. The guest gets them at its next start or with a migration;
    #: a transient guest when it is saved and restored, or with a migration.
    pending: list[str] = dataclasses.field(default_factory=list)
    #: A digest of the definitions. While they are unchanged, the report stays true, and the agent does not retry what
    #: libvirt refused. Empty if the run left devices for the next one.
    seen: bytes = b''
    #: Hints that keep this request's inventory for later requests.
    settled: list[plan.Record] = dataclasses.field(default_factory=list)
    #: Whether Nova made the guest.
    is_novas: bool = False

    @property
    def aliased(self) -> int:
        """Return how many devices have their alias, in the persistent config or a transient guest's live definition."""
        return self.count(plan.Outcome.ALIASED)

    @property
    def remaining(self) -> int:
        """Return how many devices do not have their alias, without those that need none."""
        return len(self.steps) - self.aliased - self.count(plan.Outcome.LOCAL)

    def count(self, outcome: plan.Outcome) -> int:
        return [step.outcome for step in self.steps].count(outcome)


def preview(guest: Guest, records: Iterable[plan.Record] = ()) -> Report:
    """Report what :func:`reconcile` would do, without a change.

    :raises GuestUnreadable: the guest's definition could not be read.
    """
    text = guest.persistent_text()
    if text is None:
        return _of_transient(guest, records)
    records = frozenset(records)
    definition = domain.Domain.parse(text)
    definition.add_ports(guest.running_ports)
    return _report(guest, text, definition, plan.plan(definition, records), [], records)


def digest(guest: Guest, *, persistent: bool | None = None, active: bool = True) -> bytes:
    """Return :attr:`Report.seen` of the guest's current definitions.

    :param persistent: whether the guest is persistent, if that was read just before.
    :param active: whether the guest may be running. The live definition of a guest that is not is not read.
    :raises GuestUnreadable: a definition could not be read.
    """
    saved = guest.persistent_text() if persistent is None else guest.saved_text() if persistent else None
    return _digest(saved, guest.live_text() if active else None)


@dataclasses.dataclass(frozen=True)
class Draft:
    """A guest and its persistent config as read before a reconcile."""

    guest: Guest
    #: Reads the hints for the guest's devices.
    records: Callable[[], Iterable[plan.Record]]
    #: The guest's persistent config; None for a transient guest.
    text: str | None
    #: Time of the read, in seconds of the monotonic clock.
    at: float


def draft(guest: Guest, records: Callable[[], Iterable[plan.Record]] = tuple) -> Draft:
    """Read the persistent config, for :func:`finish`.

    :param records: reads the hints for the guest's devices. It is called late: a device may be removed meanwhile.
    :raises HypervisorError: the config could not be read.
    """
    text = guest.persistent_text()
    return Draft(guest, records, text, time.monotonic())


def reconcile(guest: Guest, records: Iterable[plan.Record] = ()) -> Report:
    """Give the identifiable devices of a guest's persistent config their aliases.

    :raises: what :func:`finish` raises.
    """
    hints = frozenset(records)
    return finish(draft(guest, lambda: hints))


def finish(begun: Draft) -> Report:
    """Give the identifiable devices of a guest's persistent config their aliases.

    The first write waits until the definition has been stable for a moment since the draft. If libvirt refuses one
    device, the others still get their aliases. For a transient guest, which has no persistent config, nothing is
    written.

    :raises GuestUnreadable: the guest's definition could not be read, and nothing was changed.
    :raises GuestBusy: the guest is being migrated, or libvirt is busy with it. The rest is left for the next run.
    """
    if begun.text is None:
        return _of_transient(begun.guest, frozenset(begun.records()))
    return _Writes(begun, begun.text).run()


class _Writes:
    """Writes the aliases of one reconcile, each into the definition that it was planned for.

    :param text: the persistent config of the draft.
    """

    def __init__(self, begun: Draft, text: str) -> None:
        self._guest = begun.guest
        self._records = begun.records
        self._first = self._text = text
        self._read_at = begun.at
        self._tried: list[str] = []
        #: The aliases that libvirt refused, with the reasons.
        self._refused: dict[str, str] = {}
        #: How often another client has changed the definition.
        self._disturbed = 0

    def run(self) -> Report:
        """Write until nothing is left to write, or until other clients have changed the definition too often."""
        while True:
            # Read the hints after the definition: a device may be removed since, and another may match its hint.
            hints = frozenset(self._records())
            definition = domain.Domain.parse(self._text)
            definition.add_ports(self._guest.running_ports)
            steps = plan.plan(definition, hints)
            todo = [
                step for step in steps if step.outcome is plan.Outcome.GETS_ALIAS and step.alias not in self._tried
            ]
            if not todo or self._disturbed > _MAX_DISTURBANCES:
                return self._ended(definition, steps, hints)
            self._wait_until_quiet()
            now = self._write(todo, definition, hints)
            if now is None:
                # The guest was undefined meanwhile. A write of the whole definition would define it again.
                return _of_transient(self._guest, hints)
            if now != self._text:
                self._plan_anew()
            self._text = now

    def _wait_until_quiet(self) -> None:
        if not self._tried and self._guest.is_active():
            # The destination of a migration would lose this write, and an update waits 30 s for libvirt's lock.
            self._guest.refuse_if_migrating()
        _sleep(max(0.0, self._read_at + _QUIET - time.monotonic()))

    def _write(
        self, todo: list[plan.Step], definition: domain.Domain, records: Iterable[plan.Record]
    ) -> str | None:
        """Write aliases until another client changes the definition.

        :return: the persistent config after the last write; None if the guest has none any more.
        """
        now = self._guest.persistent_text()
        for step in todo:
            if now != self._text:
                self._disturbed += 1
                break
            if not exchange.is_written_alone(step.device) and not self._guest.is_persistent():
                return None  # the write would define the guest again
            alias = step.alias
            assert alias is not None
            self._give(step, alias, definition, records)
            # libvirt writes no device of a transient guest, so the guest need not be checked before each write.
            if alias in self._refused and not self._guest.is_persistent():
                return None
            now = self._guest.saved_text()
            if exchange.without(now, alias) == self._text:
                self._text = now
            elif domain.Domain.parse(now).differs_in_aliases_only(definition):
                self._text = now  # libvirt changes the order of the devices with its second write
                break
        return now if self._guest.is_persistent() else None

    def _give(
        self, step: plan.Step, alias: str, definition: domain.Domain, records: Iterable[plan.Record]
    ) -> None:
        """Write one alias.

        :raises GuestBusy: libvirt is busy with the guest, and would refuse the next alias as well.
        """
        self._tried.append(alias)
        step.device.alias = alias
        uuid, device = self._guest.uuid, step.device.describe()
        try:
            exchange.write(self._guest, self._text, definition, step.device, records)
        except (exception.HypervisorUnavailable, exception.GuestBusy):
            raise
        except (exception.HypervisorError, exception.Unsupported) as error:
            step.device.alias = None
            LOG.warning('Instance %s: cannot give %s the alias %s: %s', uuid, device, alias, error)
            self._refused[alias] = str(error)
        else:
            LOG.info('Instance %s: wrote the alias of %s, %s', uuid, device, step.reason)

    def _plan_anew(self) -> None:
        """Prepare a new plan, because another client has changed the definition."""
        self._read_at = time.monotonic()
        if self._refused:
            # libvirt refused these aliases in another definition, and may accept them in this one.
            self._disturbed += 1
            self._tried = [alias for alias in self._tried if alias not in self._refused]
            self._refused.clear()

    def _ended(self, definition: domain.Domain, steps: list[plan.Step], records: Iterable[plan.Record]) -> Report:
        # A read after each write has shown that the write changed only its alias, unless another client interfered.
        if self._disturbed and not domain.Domain.parse(self._first).differs_in_aliases_only(definition):
            LOG.warning('Instance %s: the persistent config changed in more than aliases meanwhile', self._guest.uuid)
        present = {step.alias for step in steps if step.outcome is plan.Outcome.ALIASED}
        steps = [_as_refused(step, self._refused) for step in steps]
        given = [alias for alias in self._tried if alias in present]
        return _report(self._guest, self._text, definition, steps, given, records)


def _as_refused(step: plan.Step, refused: dict[str, str]) -> plan.Step:
    """Return a step with the outcome REFUSED if libvirt refused its alias, else the step as it is."""
    if step.outcome is not plan.Outcome.GETS_ALIAS or step.alias not in refused:
        return step
    return dataclasses.replace(step, outcome=plan.Outcome.REFUSED, reason=refused[step.alias])


def _of_transient(guest: Guest, records: Iterable[plan.Record]) -> Report:
    """Report the aliases that a transient guest has, and those that it would get by a restore or a migration.

    :raises GuestUnreadable: the guest's definition could not be read.
    """
    live, movable = guest.live_text(), guest.movable_text()
    if live is None or movable is None:
        return Report()  # the guest has just stopped
    # The movable definition, unlike the live one, does not have the tap names that libvirt generates.
    definition = domain.Domain.parse(movable)
    steps = [_as_transient(step) for step in plan.plan(definition, records)]
    _log(guest, steps)
    lacking = [step.alias for step in steps if step.outcome is plan.Outcome.TRANSIENT and step.alias is not None]
    settled = plan.settled(definition, steps)
    seen = _digest(None, live)
    return Report([_status(step) for step in steps], [], lacking, seen, settled, definition.is_novas)


def _as_transient(step: plan.Step, why: str = '') -> plan.Step:
    if step.outcome is not plan.Outcome.GETS_ALIAS:
        return step
    return dataclasses.replace(step, outcome=plan.Outcome.TRANSIENT, reason=f'{step.reason}; {why}{_REMEDY}')


def _of_live_only(
    live: domain.Domain, definition: domain.Domain, steps: list[plan.Step], records: Iterable[plan.Record]
) -> list[plan.Step]:
    """Return steps for devices that only the running guest has and that need a restore or a migration."""
    taken = {(step.alias or '').lower() for step in steps}
    would = [step for step in plan.plan(live, records) if step.outcome is plan.Outcome.GETS_ALIAS]
    return [
        _as_transient(step, 'only the running guest has it; ')
        for step in would
        if (step.alias or '').lower() not in taken and _is_absent(step, definition, records)
    ]


def _is_absent(step: plan.Step, definition: domain.Domain, records: Iterable[plan.Record]) -> bool:
    """Return whether no device of the persistent config may be the device of a step."""
    device_id = device_alias.parse(step.alias)
    claim = identity.claim(step.device)
    try:
        return device_id is not None and identity.find(definition, device_id, claim, records) is None
    except exception.Conflict:
        return False


def _report(
    guest: Guest,
    text: str,
    definition: domain.Domain,
    steps: list[plan.Step],
    given: list[str],
    records: Iterable[plan.Record],
) -> Report:
    live = guest.live_text()
    pending = []
    settled = plan.settled(definition, steps)
    if live is not None:
        running = domain.Domain.parse(live)
        live_only = _of_live_only(running, definition, steps, records)
        settled += plan.settled(running, live_only)
        steps = steps + live_only
        aliases = {device.alias for device in running.devices()}
        lacking = (plan.Outcome.ALIASED, plan.Outcome.TRANSIENT)
        wanted = [step.alias for step in steps if step.outcome in lacking and step.alias is not None]
        pending = [alias for alias in wanted if alias not in aliases]
    _log(guest, steps)
    # A device that still gets its alias was left because another client kept changing the definition, or overwrote it.
    left = any(step.outcome is plan.Outcome.GETS_ALIAS for step in steps)
    seen = b'' if left else _digest(text, live)
    return Report([_status(step) for step in steps], given, pending, seen, settled, definition.is_novas)


def _status(step: plan.Step) -> DeviceStatus:
    device, target = step.device, step.device.target
    return DeviceStatus(
        device.describe(),
        _kept(device.kind),
        None if target is None else _kept(target),
        step.outcome,
        step.reason,
        step.alias,
    )


@functools.lru_cache(1024)
def _kept(text: str) -> str:
    """Return the one copy of a text that many guests have."""
    # Not sys.intern(): Python 3.12 never frees such a text, and the names of taps are new each time.
    return text


def _log(guest: Guest, steps: list[plan.Step]) -> None:
    for step in steps:
        if step.outcome is not plan.Outcome.ALIASED:
            LOG.debug('Instance %s: %s %s: %s', guest.uuid, step.device.describe(), step.outcome, step.reason)


def _digest(persistent: str | None, live: str | None) -> bytes:
    texts = f'{persistent}\0{live}'
    return hashlib.blake2b(texts.encode(errors='surrogatepass'), digest_size=16).digest()
