# SPDX-License-Identifier: Apache-2.0
"""Makes REST calls to the services of a cloud, with the standard library only."""

import dataclasses
import json
import time
import urllib.error
import urllib.request
from collections.abc import Collection
from collections.abc import Mapping
from typing import Any

from sandbox import processes

#: The answers of a call that succeeded.
GOOD = (200, 201, 202, 204)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a service answered, an error included."""

    status: int
    body: Any  # parsed if it is JSON, None if it is empty
    headers: Mapping[str, str]


class Refused(processes.PartFailed):
    """A service answered, but not as expected."""

    def __init__(self, call: str, answer: Answer) -> None:
        super().__init__(f'{call}: {answer.status}: {json.dumps(answer.body)[:1000]}')
        self.answer = answer


def call(
    method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 60
) -> Answer:
    """Make a call, and return its answer, whatever the status is.

    :param timeout: seconds
    :raises OSError: no service answers
    """
    request = urllib.request.Request(
        url,
        method=method,
        headers={'Content-Type': 'application/json', **(headers or {})},
        data=None if body is None else json.dumps(body).encode(),
    )
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        text = response.read().decode()
    try:
        parsed = json.loads(text) if text else None
    except ValueError:
        parsed = text
    return Answer(response.status, parsed, dict(response.headers))


class Client:
    """The calls of one user to one service.

    :param base: the URL before the path of each call
    :param headers: headers of each call
    """

    def __init__(self, base: str, headers: Mapping[str, str]) -> None:
        self.base = base
        self.headers = headers
        #: Each call that was made: method, path, status and seconds.
        self.calls: list[tuple[str, str, int, float]] = []

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        expect: Collection[int] = GOOD,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Make a call, and return the body of its answer.

        :param expect: the expected statuses
        :raises Refused: the status is another one
        """
        begin = time.monotonic()
        answer = call(method, self.base + path, body, {**self.headers, **(headers or {})})
        self.calls.append((method, path, answer.status, time.monotonic() - begin))
        if answer.status not in expect:
            raise Refused(f'{method} {path}', answer)
        return answer.body
