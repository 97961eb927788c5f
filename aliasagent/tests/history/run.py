# SPDX-License-Identifier: Apache-2.0
"""Runs histories."""

import contextlib
import gc
import logging
from collections.abc import Callable
from collections.abc import Iterator

from aliasagent.tests.history import agent
from aliasagent.tests.history import draw
from aliasagent.tests.history import plan
from aliasagent.tests.history import world
from aliasagent.tests.history.oracle import Lie
from aliasagent.tests.history.plan import History


@contextlib.contextmanager
def machine() -> Iterator[None]:
    """Histories can be run inside."""
    plan.make_files()
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with agent.assembled():
        try:
            yield
        finally:
            logging.disable(before)


def of_seed(seed: int) -> list[Lie]:
    """Run the history of a seed; what was untrue in it."""
    return run(draw.history(seed))


def run(history: History) -> list[Lie]:
    """Run a history; what was untrue in it."""
    return world.World(history).run()


def shown(history: History, say: Callable[[str], None], log: bool = False) -> list[Lie]:
    """Run a history, and say what happens in it."""
    for number, guest in enumerate(history.guests):
        kind = f'{"" if guest.persistent else "transient, "}{"running" if guest.running else "shut off"}'
        say(f'guest {number} ({guest.uuid}), {kind}')
        for device in guest.devices:
            thing = plan.THINGS[device.thing]
            sides = ', '.join(
                f'{side}: {"not there" if alias is None else "with its alias" if alias else "without"}'
                for side, alias in (('live', device.live), ('persistent', device.config))
            )
            say(f'    {thing.kind} {thing.id} ({thing.form}) {device.target} {sides}')
    if not log:
        return world.World(history, say).run()
    one = world.World(history, say)
    handler = world.Log(say)
    root = logging.getLogger('aliasagent')
    logging.disable(logging.NOTSET)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False
    try:
        return one.run()
    finally:
        root.removeHandler(handler)
        logging.disable(logging.CRITICAL)


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[Callable[[], None]]:
    """Collect garbage between histories only, now and then: call what this yields after each."""
    count = 0

    def collect() -> None:
        nonlocal count
        count += 1
        if count % 50 == 0:
            gc.collect()

    gc.disable()
    try:
        yield collect
    finally:
        gc.enable()
