# SPDX-License-Identifier: Apache-2.0
"""Nova, in a process and an environment of its own, and the way to ask it: a line of JSON each way.

Nova measures itself (:mod:`benchmarks.nova_side`), so what the way costs does not count.
"""

import json
import pathlib
import subprocess
import tempfile
from typing import Any
from typing import Self

_PROJECT = pathlib.Path(__file__).parents[1]


class NovaFailed(Exception):
    """Nova did not start, or failed at its work."""


class Nova:
    """A process with Nova in it; a context manager.

    :param python: the interpreter of an environment in which Nova is installed.
    """

    def __init__(self, python: str) -> None:
        self._python = python

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile('w+')
        self._process = subprocess.Popen(
            [self._python, '-W', 'ignore', '-m', 'benchmarks.nova_side'],
            cwd=_PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        return self

    def __exit__(self, *_raised: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._log.close()

    def ask(self, method: str, **arguments: Any) -> Any:
        """Have a function of :mod:`benchmarks.nova_side` called, and return what it returns.

        :raises NovaFailed: with what Nova said.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([method, arguments]) + '\n')
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ''
        if not answer:
            self._log.seek(0)
            raise NovaFailed(f'{self._python} at {method}: {self._log.read()[-2000:]}')
        return json.loads(answer)
