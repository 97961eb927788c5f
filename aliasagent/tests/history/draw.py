# SPDX-License-Identifier: Apache-2.0
"""Draws a history from a seed.

What is drawn often is what goes wrong: a detach of a device that the running guest has no user alias for, from a guest
that takes its time, with a restart of the agent, a lost connection or a full disk at a point of the agent's work.
"""

import collections
import dataclasses
import random
from collections.abc import Callable

from aliasagent.tests.history.plan import THINGS
from aliasagent.tests.history.plan import Device
from aliasagent.tests.history.plan import Guest
from aliasagent.tests.history.plan import History
from aliasagent.tests.history.plan import Step
from aliasagent.tests.history.plan import guest_uuid

#: With and without its alias, live and persistent, and how often.
_FORMS: list[tuple[tuple[bool | None, bool | None], int]] = [
    ((False, True), 45),
    ((True, True), 18),
    ((False, False), 15),
    ((None, True), 4),
    ((None, False), 3),
    ((True, None), 5),
    ((False, None), 5),
    ((True, False), 5),
]
_GAPS = (0.0, 0.0, 0.05, 0.5, 1.5, 4.0, 11.0, 11.0, 25.0)
_POINTS = (
    *('before any', 'after any', 'before any', 'after any'),
    *('before detachDeviceAlias', 'after detachDeviceAlias', 'before detachDeviceFlags', 'after detachDeviceFlags'),
    *('before XMLDesc', 'after XMLDesc', 'before attachDeviceFlags', 'after attachDeviceFlags'),
    *('before updateDeviceFlags', 'before restoreFlags', 'before saveFlags', 'after saveFlags'),
    *('journal', 'journal', 'before commit', 'after commit', 'after commit', 'after commit'),
)
_STEPS: tuple[tuple[str, int], ...] = (
    ('detach', 30),
    ('attach', 15),
    ('attach what is there', 1),
    ('reconcile', 4),
    ('reconcile live', 3),
    ('behave', 13),
    ('start', 6),
    ('stop', 5),
    ('power off', 2),
    ('crash', 1),
    ('reset', 3),
    ('suspend', 2),
    ('resume', 2),
    ('save', 2),
    ('managed save', 1),
    ('restore', 3),
    ('migrate away', 1),
    ('undefine', 1),
    ('other attaches', 4),
    ('other detaches', 4),
    ('redefine', 2),
    ('swap', 5),
    ('swap live', 3),
    ('lose connection', 8),
    ('restart libvirtd', 2),
    ('disk full', 7),
    ('kill', 12),
    ('stop agent', 3),
    ('live migrate', 2),
    ('wait', 5),
)
_TROUBLES: tuple[tuple[str, int], ...] = (
    ('kill', 6),
    ('lose connection', 4),
    ('disk full', 3),
    ('restart libvirtd', 1),
    ('stop', 2),
    ('wait', 2),
)
_MANNERS: tuple[tuple[str, int], ...] = (
    ('quick', 3),
    ('slow', 7),
    ('never', 8),
    ('refuse', 5),
    ('lost', 3),
    ('event lost', 3),
    ('event late', 2),
    ('busy', 2),
    ('already', 2),
)
_DISKS = [thing.id for thing in THINGS.values() if thing.kind == 'disk']
_PORTS = [thing.id for thing in THINGS.values() if thing.kind == 'interface']
_MACS = collections.Counter(THINGS[port].mac for port in _PORTS)
_DOUBLES = frozenset(port for port in _PORTS if _MACS[THINGS[port].mac] > 1)


def history(seed: int) -> History:
    """The history of a seed."""
    return _Drawing(seed).history()


class _Drawing:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = random.Random(seed)
        #: The guests of which an inventory is sent, and those in which one port comes in place of another of its MAC.
        self._told: set[int] = set()
        self._alike: set[int] = set()
        self._guests: list[Guest] = []
        #: The device that most steps are about, and its guest.
        self._focus = ('', 0)

    def _choose(self, of: tuple[tuple[str, int], ...]) -> str:
        return self._random.choices([what for what, _ in of], [weight for _, weight in of])[0]

    def _often(self, of_hundred: int) -> bool:
        return self._random.random() * 100 < of_hundred

    def history(self) -> History:
        draw = self._random
        things = list(THINGS)
        draw.shuffle(things)
        for number in range(draw.choices((1, 2, 3), (70, 22, 8))[0]):
            devices = tuple(self._device(thing, place) for place, thing in enumerate(self._take(things)))
            persistent = self._often(92)
            self._guests.append(Guest(guest_uuid(number), self._often(88) or not persistent, persistent, devices))
        self._focus = (draw.choice(self._guests[0].devices).thing, 0)
        steps: list[Step] = []
        if self._often(60):
            steps.append(self._behave(0))
        for _ in range(draw.randrange(4, 12)):
            steps += self._next(steps)
        return History(self._seed, tuple(self._guests), tuple(steps))

    def _take(self, things: list[str]) -> list[str]:
        return [things.pop() for _ in range(min(len(things), self._random.choice((2, 2, 3, 4))))]

    def _device(self, thing: str, place: int) -> Device:
        forms = [form for form, _ in _FORMS]
        if thing in _DOUBLES:
            # Where one of two ports with one MAC address is missing, nobody could tell which one it is.
            forms = [form for form in forms if None not in form]
        live, config = self._random.choices(forms, [weight for form, weight in _FORMS if form in forms])[0]
        target = ''
        if THINGS[thing].kind == 'disk':
            target = f'{"sd" if self._often(12) else "vd"}{"bcdefgh"[place]}'
        return Device(thing, live, config, target)

    def _next(self, before: list[Step]) -> list[Step]:
        step = self._step(self._choose(_STEPS))
        if step.what == 'detach' and self._often(70):
            # and what goes wrong meanwhile
            trouble = self._choose(_TROUBLES)
            if trouble == 'disk full' and self._often(50):
                # The agent waits for the disk between its reading and its work, and the guest does not.
                full = dataclasses.replace(self._step(trouble), point='after commit')
                change = self._step(self._choose((('swap', 4), ('stop', 1), ('save', 1), ('other detaches', 1))))
                return [self._timed(step), full, dataclasses.replace(change, after=self._random.choice((0.5, 1.5)))]
            return [self._timed(step), self._at_point(self._step(trouble))]
        if step.what == 'reconcile live' and self._often(60):
            return [self._timed(step), *self._interrupted(step.guest)]
        return [self._timed(step)]

    def _interrupted(self, guest: int) -> list[Step]:
        """What an operator may do when the agent has ended between a save and its restore."""
        point = self._random.choice(('after saveFlags', 'before restoreFlags', 'after restoreFlags'))
        steps = [Step('kill', value=self._random.choice((5.0, 30.0)), point=point)]
        if self._often(70):
            steps.append(Step('restore', guest, after=1.5))
            if self._often(60):
                steps.append(Step(self._random.choice(('stop', 'power off', 'save')), guest, after=0.5))
        return steps

    def _timed(self, step: Step) -> Step:
        if self._often(30):
            return self._at_point(step)
        return dataclasses.replace(step, after=self._random.choice(_GAPS))

    def _at_point(self, step: Step) -> Step:
        times = self._random.choice((1, 1, 1, 2, 3, 5))
        return dataclasses.replace(step, point=self._random.choice(_POINTS), times=times)

    def _step(self, what: str) -> Step:
        """A step, without its time."""
        thing, guest = self._about()
        return _DRAWERS.get(what, _Drawing._plain)(self, what, thing, guest)

    def _about(self) -> tuple[str, int]:
        """A device, and a guest."""
        if self._often(72):
            return self._focus
        guest = self._random.randrange(len(self._guests))
        if self._often(60):
            return self._random.choice(self._guests[guest].devices).thing, guest
        return self._random.choice(list(THINGS)), guest

    def _plain(self, what: str, thing: str, guest: int) -> Step:
        return Step(what, guest)

    def _request(self, what: str, thing: str, guest: int) -> Step:
        generic = what == 'detach' and self._often(30)
        return Step(what, guest, thing, value=float(generic), word='submit' if self._often(20) else '')

    def _volume(self, what: str, _thing: str, guest: int) -> Step:
        return Step(what, guest, self._random.choice(_DISKS))

    def _reconcile(self, what: str, _thing: str, guest: int) -> Step:
        # An inventory under way is no more true if another port of the same MAC address takes the place of one.
        has_inventory = self._often(50) and guest not in self._alike
        if has_inventory:
            self._told.add(guest)
        return Step(what, guest, value=float(has_inventory))

    def _behave(self, guest: int) -> Step:
        manner = self._choose(_MANNERS)
        value = {
            'slow': self._random.choice((1.0, 4.0, 8.0, 14.0, 25.0, 60.0)),
            'refuse': self._random.choice((1, 1, 3)),
            'lost': self._random.choice((1, 2, 5)),
            'event lost': self._random.choice((0.05, 4.0, 12.0)),
            'event late': self._random.choice((1.0, 12.0)),
            'busy': self._random.choice((1, 4, 30)),
            'already': 9.0,
        }.get(manner, 0.0)
        return Step('behave', guest, value=float(value), word=manner)

    def _manner(self, _what: str, _thing: str, guest: int) -> Step:
        return self._behave(guest)

    def _other_attaches(self, what: str, thing: str, guest: int) -> Step:
        side = self._random.choice(('live', 'config', 'both'))
        return Step(what, guest, thing, value=float(self._often(30)), word=side)

    def _other_detaches(self, what: str, thing: str, guest: int) -> Step:
        return Step(what, guest, thing, word=self._random.choice(('live', 'config')))

    def _redefine(self, what: str, _thing: str, guest: int) -> Step:
        return Step(what, guest, word=self._random.choice(('without aliases', 'description')))

    def _swap(self, what: str, thing: str, guest: int) -> Step:
        others = _DISKS if THINGS[thing].kind == 'disk' else _PORTS
        # In one run, nobody could tell a port without its alias from another one with its MAC address in its place.
        mac = THINGS[thing].mac if what == 'swap live' or guest in self._told else ''
        others = [one for one in others if one != thing and (not mac or THINGS[one].mac != mac)]
        doubles = [one for one in others if one in _DOUBLES] if thing in _DOUBLES else []
        other = self._random.choice(doubles if doubles and self._often(60) else others)
        if THINGS[other].mac and THINGS[other].mac == THINGS[thing].mac:
            self._alike.add(guest)
        return Step(what, guest, thing, value=float(self._often(60)), word=other)

    def _migrate(self, what: str, _thing: str, guest: int) -> Step:
        how = self._random.choice(('arrives', 'arrives', 'fails', 'is aborted'))
        return Step(what, guest, value=self._random.choice((0.5, 3.0, 20.0)), word=how)

    def _lasting(self, what: str, _thing: str, guest: int) -> Step:
        seconds = {
            'lose connection': (0.0, 0.0, 3.0, 20.0),
            'restart libvirtd': (0.5, 3.0),
            'disk full': (0.5, 3.0, 8.0, 25.0),
            'kill': (0.01, 1.0, 5.0, 30.0),
            'stop agent': (0.5, 5.0),
        }[what]
        return Step(what, guest, value=self._random.choice(seconds))


_DRAWERS: dict[str, Callable[[_Drawing, str, str, int], Step]] = {
    'detach': _Drawing._request,
    'attach': _Drawing._request,
    'attach what is there': _Drawing._volume,
    'reconcile': _Drawing._reconcile,
    'reconcile live': _Drawing._reconcile,
    'behave': _Drawing._manner,
    'other attaches': _Drawing._other_attaches,
    'other detaches': _Drawing._other_detaches,
    'redefine': _Drawing._redefine,
    'swap': _Drawing._swap,
    'swap live': _Drawing._swap,
    'lose connection': _Drawing._lasting,
    'restart libvirtd': _Drawing._lasting,
    'disk full': _Drawing._lasting,
    'kill': _Drawing._lasting,
    'stop agent': _Drawing._lasting,
    'live migrate': _Drawing._migrate,
}
