# SPDX-License-Identifier: Apache-2.0
"""The agent, with one place in its code at which it kills itself. For tests only.

``python -m aliasagent.tests.stress.agents.dying_agent`` takes the agent's own arguments. The environment variable
``ALIASAGENT_TEST_DEATH`` holds a :class:`Death` as JSON. It may come true as soon as the file that it names is there,
and is written into that file when it does.
"""

import dataclasses
import functools
import importlib
import json
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from oslo_service import backend

# NOTE: before anything imports oslo.messaging, which would choose the eventlet backend.
backend.init_backend(backend.BackendType.THREADING)

from aliasagent.cmd import compute  # noqa: E402

VARIABLE = 'ALIASAGENT_TEST_DEATH'
BEFORE, AFTER = 'before', 'after'


@dataclasses.dataclass(frozen=True)
class Death:
    """Where, when and how the agent dies: by SIGKILL, right before or right after a call of a method."""

    #: ``package.module:Class.method`` or ``package.module:function``
    place: str
    moment: str
    #: Of which call, counted from when the file is there.
    call: int
    #: The file that arms it.
    file: str

    def environment(self) -> dict[str, str]:
        """What has to be in the environment."""
        return {VARIABLE: json.dumps(dataclasses.asdict(self))}

    def arm(self) -> None:
        """From now on it may come true."""
        pathlib.Path(self.file).write_text('')

    def came_true(self) -> bool:
        """Whether the agent has died of it."""
        path = pathlib.Path(self.file)
        return path.exists() and path.read_text() == self._word

    @property
    def _word(self) -> str:
        return f'{self.moment} call {self.call} of {self.place}'

    def install(self) -> None:
        """Put it in its place."""
        module, _, path = self.place.partition(':')
        name, _, method = path.rpartition('.')
        owner = importlib.import_module(module)
        owner = getattr(owner, name) if name else owner
        setattr(owner, method, self._wrapped(vars(owner)[method]))

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        counting, calls = threading.Lock(), 0

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            due = False
            if os.path.exists(self.file):
                with counting:
                    calls += 1
                    due = calls == self.call
            if due and self.moment == BEFORE:
                self._die()
            try:
                return function(*args, **kwargs)
            finally:
                if due:
                    self._die()

        return wrapper

    def _die(self) -> None:
        pathlib.Path(self.file).write_text(self._word)
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    found = os.environ.get(VARIABLE)
    if found:
        Death(**json.loads(found)).install()
    return compute.main()


if __name__ == '__main__':
    sys.exit(main())
