# SPDX-License-Identifier: Apache-2.0
"""Makes a history shorter, as long as its verdict stays."""

import dataclasses
from collections.abc import Callable
from collections.abc import Iterator

from aliasagent.tests.history.plan import History
from aliasagent.tests.history.plan import Step


def shrink(history: History, is_same: Callable[[History], bool], most: int = 400) -> History:
    """The shortest history that was found with the same verdict.

    :param is_same: whether a history's verdict is that of the first one.
    :param most: how many histories may be tried.
    """
    tried = 0
    goes_on = True
    while goes_on:
        goes_on = False
        for shorter in _shorter(history):
            tried += 1
            if tried > most:
                return history
            if is_same(shorter):
                history, goes_on = shorter, True
                break
    return history


def _shorter(history: History) -> Iterator[History]:
    """All histories that are a little shorter, or simpler, than this one."""
    steps, guests = history.steps, history.guests
    for size in (8, 4, 2, 1):
        if size < len(steps):
            for start in range(0, len(steps) - size + 1, max(1, size // 2)):
                yield dataclasses.replace(history, steps=steps[:start] + steps[start + size :])
    if len(guests) > 1:
        last = len(guests) - 1
        if all(step.guest != last for step in steps):
            yield dataclasses.replace(history, guests=guests[:-1])
    for number, guest in enumerate(guests):
        if len(guest.devices) > 1:
            for device in guest.devices:
                rest = tuple(one for one in guest.devices if one is not device)
                yield _with_guest(history, number, dataclasses.replace(guest, devices=rest))
    for number, step in enumerate(steps):
        for simpler in _simpler(step):
            yield dataclasses.replace(history, steps=(*steps[:number], simpler, *steps[number + 1 :]))


def _with_guest(history: History, number: int, guest: object) -> History:
    guests = list(history.guests)
    guests[number] = guest  # type: ignore[call-overload]
    return dataclasses.replace(history, guests=tuple(guests))


def _simpler(step: Step) -> Iterator[Step]:
    if step.point:
        yield dataclasses.replace(step, point='', times=1, after=1.5)
        if step.times > 1:
            yield dataclasses.replace(step, times=1)
    elif step.after:
        yield dataclasses.replace(step, after=0.0)
    if step.word == 'submit':
        yield dataclasses.replace(step, word='')
