# SPDX-License-Identifier: Apache-2.0
"""Carries a plan out on a guest's persistent config: the narrowest write that does it, read back.

Each write is of one device, and made as soon as the definition was read and found to be the one that the plan is of;
what another client writes in spite of that between our look and our write is put back
(:mod:`aliasagent.reconcile.exchange`).
"""

import dataclasses
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

#: How often the plan is made anew because somebody else changes the definition, before the rest is left for later.
_PATIENCE = 20
#: Seconds that a definition must have stayed the same before it is written to: another client's changes come in bursts.
_QUIET = 0.1
_sleep = time.sleep
#: How a transient guest's devices come to their aliases.
_MADE_ANEW = 'gets it by "reconcile --live", or when it is migrated'


@dataclasses.dataclass(frozen=True)
class DeviceStatus:
    """One device and what became of it, in words only: what is kept of all guests must not hold their XML."""

    #: As :meth:`aliasagent.devices.base.Device.describe` has it.
    device: str
    kind: str
    target: str | None
    outcome: plan.Outcome
    #: Why, or on what evidence.
    reason: str
    #: The alias that the device has, gets, or would get.
    alias: str | None


@dataclasses.dataclass
class Report:
    """What became of a guest's devices."""

    steps: list[DeviceStatus] = dataclasses.field(default_factory=list)
    #: The aliases that were written.
    given: list[str] = dataclasses.field(default_factory=list)
    #: The aliases that the running guest does not have yet; it gets them when it starts anew or moves. A transient one
    #: never starts anew: it gets them when it is saved and restored, or moves.
    pending: list[str] = dataclasses.field(default_factory=list)
    #: A digest of the definitions that this is of: as long as they are the same, there is nothing new to say, and what
    #: libvirt refused is not tried again. Empty if something was left for the next time.
    seen: bytes = b''
    #: What the inventory of this request has said of devices, and what will tell them from others later, too.
    settled: list[plan.Record] = dataclasses.field(default_factory=list)

    @property
    def aliased(self) -> int:
        """How many devices have their alias in the persistent config; of a transient guest, in the running one."""
        return self.count(plan.Outcome.ALIASED)

    @property
    def remaining(self) -> int:
        """How many devices are without."""
        return len(self.steps) - self.aliased

    def count(self, outcome: plan.Outcome) -> int:
        return sum(1 for step in self.steps if step.outcome is outcome)


def look(guest: Guest, records: Iterable[plan.Record] = ()) -> Report:
    """What :func:`reconcile` would do, without doing it.

    :raises GuestUnreadable: nothing is known of the guest's devices.
    """
    text = guest.persistent_text()
    if text is None:
        return _of_transient(guest, records)
    records = frozenset(records)
    definition = domain.Domain.parse(text)
    return _report(guest, text, definition, plan.plan(definition, records), [], records)


def digest(guest: Guest) -> bytes:
    """What :attr:`Report.seen` would be now.

    :raises GuestUnreadable: it cannot be told.
    """
    return _digest(guest.persistent_text(), guest.live_text())


@dataclasses.dataclass(frozen=True)
class Draft:
    """What is to be done about a guest, by what was read of it once."""

    guest: Guest
    #: Reads what is known of its devices from elsewhere.
    records: Callable[[], Iterable[plan.Record]]
    #: Its persistent config; None of a transient guest.
    text: str | None
    #: When that was read: seconds of the monotonic clock.
    at: float


def draft(guest: Guest, records: Callable[[], Iterable[plan.Record]] = tuple) -> Draft:
    """Read what :func:`finish` will write to, if it is the same by then.

    :param records: reads what is known of the guest's devices from elsewhere. It is called when that is needed:
        meanwhile a device may be taken out.
    :raises HypervisorError: it could not be read.
    """
    text = guest.persistent_text()
    return Draft(guest, records, text, time.monotonic())


def reconcile(guest: Guest, records: Iterable[plan.Record] = ()) -> Report:
    """Give the identifiable devices of a guest's persistent config their aliases.

    :raises: what :func:`finish` raises.
    """
    known = frozenset(records)
    return finish(draft(guest, lambda: known))


def finish(begun: Draft) -> Report:
    """Give the identifiable devices of a guest's persistent config their aliases.

    Nothing is written before the definition has stayed the same for a moment; who begins early need not wait here.
    A device that libvirt refuses keeps nothing from the others. A transient guest has no persistent config: what it
    lacks is only told.

    :raises GuestUnreadable: nothing is known of the guest's devices, and nothing was changed.
    :raises GuestBusy: it is being migrated, or libvirt has something else to do with it. What was not written yet is
        left for later.
    """
    if begun.text is None:
        return _of_transient(begun.guest, frozenset(begun.records()))
    return _Writes(begun, begun.text).run()


class _Writes:
    """The aliases that one pass writes, each into the definition that it was planned for.

    :param text: the persistent config as it was drafted.
    """

    def __init__(self, begun: Draft, text: str) -> None:
        self._guest = begun.guest
        self._records = begun.records
        self._first = self._text = text
        self._read_at = begun.at
        self._tried: list[str] = []
        #: Why libvirt refused some of them.
        self._refused: dict[str, str] = {}
        #: How often another client has changed the definition meanwhile.
        self._disturbed = 0

    def run(self) -> Report:
        """Write until nothing is left to be written, or others change the definition all the time."""
        while True:
            # Not what was known when the definition was read: a device may be gone since, and another have its look.
            known = frozenset(self._records())
            definition = domain.Domain.parse(self._text)
            steps = plan.plan(definition, known)
            todo = [
                step for step in steps if step.outcome is plan.Outcome.GETS_ALIAS and step.alias not in self._tried
            ]
            if not todo or self._disturbed > _PATIENCE:
                return self._ended(definition, steps, known)
            self._wait_until_quiet()
            now = self._write(todo, definition, known)
            if now is None:
                # Undefined meanwhile. A write of its whole definition would define it again.
                return _of_transient(self._guest, known)
            if now != self._text:
                self._plan_anew()
            self._text = now

    def _wait_until_quiet(self) -> None:
        if not self._tried and self._guest.is_active():
            # What is written now would be lost where the guest goes to, and an update waits 30 s for libvirt's lock.
            self._guest.refuse_if_migrating()
        _sleep(max(0.0, self._read_at + _QUIET - time.monotonic()))

    def _write(
        self, todo: list[plan.Step], definition: domain.Domain, records: Iterable[plan.Record]
    ) -> str | None:
        """Write aliases for as long as nobody else changes the definition.

        :return: the persistent config after the last of them; None if it is gone.
        """
        now = self._guest.persistent_text()
        for step in todo:
            if now != self._text:
                self._disturbed += 1
                break
            alias = step.alias
            assert alias is not None
            self._give(step, alias, definition, records)
            now = self._guest.persistent_text()
            if now is None:
                break
            if exchange.without(now, alias) == self._text:
                self._text = now
            elif domain.Domain.parse(now).differs_in_aliases_only(definition):
                self._text = now  # libvirt sorts the devices anew when it writes them for the second time
                break
        return now

    def _give(
        self, step: plan.Step, alias: str, definition: domain.Domain, records: Iterable[plan.Record]
    ) -> None:
        """Write one alias.

        :raises GuestBusy: libvirt has something else to do with the guest; it would refuse the next one as well.
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
            LOG.warning('Instance %s: %s does not get %s: %s', uuid, device, alias, error)
            self._refused[alias] = str(error)
        else:
            LOG.info('Instance %s: %s, %s', uuid, device, step.reason)

    def _plan_anew(self) -> None:
        """Another client has changed the definition."""
        self._read_at = time.monotonic()
        if self._refused:
            # It is not the definition any more that libvirt refused them in.
            self._disturbed += 1
            self._tried = [alias for alias in self._tried if alias not in self._refused]
            self._refused.clear()

    def _ended(self, definition: domain.Domain, steps: list[plan.Step], records: Iterable[plan.Record]) -> Report:
        # Each write was seen to change its alias only, unless something came in between.
        if self._disturbed and not domain.Domain.parse(self._first).differs_in_aliases_only(definition):
            LOG.warning('Instance %s: more than aliases has changed in its persistent config', self._guest.uuid)
        there = {step.alias for step in steps if step.outcome is plan.Outcome.ALIASED}
        steps = [_as_refused(step, self._refused) for step in steps]
        given = [alias for alias in self._tried if alias in there]
        return _report(self._guest, self._text, definition, steps, given, records)


def _as_refused(step: plan.Step, refused: dict[str, str]) -> plan.Step:
    """A step with the outcome that libvirt gave it, if it refused it."""
    if step.outcome is not plan.Outcome.GETS_ALIAS or step.alias not in refused:
        return step
    return dataclasses.replace(step, outcome=plan.Outcome.REFUSED, reason=refused[step.alias])


def _of_transient(guest: Guest, records: Iterable[plan.Record]) -> Report:
    """What can be said of a guest without persistent config: what it has, and what it would get if it were made anew.

    :raises GuestUnreadable: nothing is known of the guest's devices.
    """
    live, movable = guest.live_text(), guest.movable_text()
    if live is None or movable is None:
        return Report()  # it has just ended
    # What it goes on with does not have, for one, the names of taps that libvirt makes up.
    definition = domain.Domain.parse(movable)
    steps = [_as_transient(step) for step in plan.plan(definition, records)]
    _tell(guest, steps)
    lacking = [step.alias for step in steps if step.outcome is plan.Outcome.TRANSIENT and step.alias is not None]
    return Report(_told(steps), [], lacking, _digest(None, live), plan.settled(definition, steps))


def _as_transient(step: plan.Step, why: str = '') -> plan.Step:
    if step.outcome is not plan.Outcome.GETS_ALIAS:
        return step
    return dataclasses.replace(step, outcome=plan.Outcome.TRANSIENT, reason=f'{step.reason}; {why}{_MADE_ANEW}')


def _of_live_only(
    live: domain.Domain, definition: domain.Domain, steps: list[plan.Step], records: Iterable[plan.Record]
) -> list[plan.Step]:
    """What can be said of devices that only the running guest has, and that would get an alias if it were made anew."""
    taken = {(step.alias or '').lower() for step in steps}
    would = [step for step in plan.plan(live, records) if step.outcome is plan.Outcome.GETS_ALIAS]
    return [
        _as_transient(step, 'only the running guest has it; ')
        for step in would
        if (step.alias or '').lower() not in taken and _is_absent(step, definition, records)
    ]


def _is_absent(step: plan.Step, definition: domain.Domain, records: Iterable[plan.Record]) -> bool:
    """Whether the persistent config has nothing that could be the device of a step."""
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
    _tell(guest, steps)
    # What still gets its alias was left because somebody else changes the guest, or was overwritten by them.
    left = any(step.outcome is plan.Outcome.GETS_ALIAS for step in steps)
    return Report(_told(steps), given, pending, b'' if left else _digest(text, live), settled)


def _told(steps: list[plan.Step]) -> list[DeviceStatus]:
    return [
        DeviceStatus(device.describe(), device.kind, device.target, step.outcome, step.reason, step.alias)
        for step in steps
        for device in [step.device]
    ]


def _tell(guest: Guest, steps: list[plan.Step]) -> None:
    for step in steps:
        if step.outcome is not plan.Outcome.ALIASED:
            LOG.debug('Instance %s: %s %s: %s', guest.uuid, step.device.describe(), step.outcome, step.reason)


def _digest(persistent: str | None, live: str | None) -> bytes:
    texts = f'{persistent}\0{live}'
    return hashlib.blake2b(texts.encode(errors='surrogatepass'), digest_size=16).digest()
