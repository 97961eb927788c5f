# SPDX-License-Identifier: Apache-2.0
"""One service of a cloud: its session, and bounded requests to it.

keystoneauth1 is optional, so this module imports it only when a service is made.
"""

import contextlib
import json
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from aliasagent import bounded
from aliasagent import exception

#: Bytes of an answer; a server with 1,000 ports has less than 2 MB of them.
_MAX_BYTES = 8 << 20
#: How many times its timeout a whole answer may take: a service may send one byte at a time.
_MAX_TIMEOUTS = 3


class Service:
    """A service of a cloud, with the login of its group of options.

    :param conf: has the options of the group, as :mod:`aliasagent.conf.openstack` registers them.
    :param on_answer: is called with the name of the group after each request, and with whether the service answered.
    """

    def __init__(
        self, conf: Any, group: str, *, on_answer: Callable[[str, bool], None] = lambda _name, _answered: None
    ) -> None:
        from keystoneauth1 import exceptions
        from keystoneauth1 import loading

        self.name = group
        self._on_answer = on_answer
        self._timeout = float(conf[group].timeout or 60)
        # A broken connection inside of an answer is an OSError of requests.
        self._errors: tuple[type[Exception], ...] = (exceptions.ClientException, OSError)
        auth = loading.load_auth_from_conf_options(conf, group)
        session = loading.load_session_from_conf_options(conf, group, auth=auth)
        self._adapter = loading.load_adapter_from_conf_options(conf, group, session=session, auth=auth)

    def get(self, path: str, step: str, params: Iterable[tuple[str, str]] = ()) -> dict[str, Any] | None:
        """Return the answer to a GET; None if the service answers that there is no such object.

        :param step: what the request is for, for errors.
        :raises exception.CloudError: there is no valid answer.
        """
        try:
            answer = self._read(step, *self._exchange(path, step, list(params)))
        except exception.CloudError:
            self._on_answer(self.name, False)
            raise
        self._on_answer(self.name, True)
        return answer

    def _read(self, step: str, status: int, body: bytes, request: str) -> dict[str, Any] | None:
        if status == 404:
            return None
        if status != 200:
            raise self._error(step, f'HTTP {status}', request)
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            raise self._error(step, 'the answer is not JSON', request) from None
        if not isinstance(answer, dict):
            raise self._error(step, 'the answer is not an object', request)
        return answer

    @contextlib.contextmanager
    def reading(self, step: str) -> Iterator[None]:
        """Translate the errors in reading an answer that has another form than expected."""
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._error(step, f'the answer is not valid: {type(error).__name__}: {error}') from error

    def _exchange(self, path: str, step: str, params: list[tuple[str, str]]) -> tuple[int, bytes, str]:
        """Send a request, and return the status, the body and the id of the request."""
        # A timeout of keystoneauth1 is for one read: a service may send one byte at a time, and so may Keystone.
        limit = self._timeout * _MAX_TIMEOUTS
        try:
            return bounded.call(lambda: self._exchange_unbounded(path, step, params), limit)
        except exception.CloudError:
            raise
        except bounded.TimedOut:
            raise self._error(step, f'no whole answer within {limit:g} s') from None
        except self._errors as error:
            # keystoneauth1 writes the id of a request to Keystone into the text itself.
            raise self._error(step, str(error) or type(error).__name__) from error
        except Exception as error:
            # keystoneauth1 reads the answers of Keystone without checks.
            raise self._error(step, f'the answer cannot be read: {type(error).__name__}') from error

    def _exchange_unbounded(self, path: str, step: str, params: list[tuple[str, str]]) -> tuple[int, bytes, str]:
        # Not redirected, because the token would be sent, too. Not logged: the answers are read here, with limits.
        response = self._adapter.get(
            path, params=params, raise_exc=False, redirect=False, stream=True, log=False,
            headers={'Accept': 'application/json'},
        )  # fmt: skip
        with contextlib.closing(response):
            request = str(response.headers.get('x-openstack-request-id', ''))[:100]
            body = b''
            for part in response.iter_content(1 << 16):
                body += part
                if len(body) > _MAX_BYTES:
                    raise self._error(step, f'the answer has more than {_MAX_BYTES} bytes', request)
            return response.status_code, body, request

    def _error(self, step: str, reason: str, request: str = '') -> exception.CloudError:
        return exception.CloudError(
            service=self.name, step=step, reason=reason, request=f' (request {request})' if request else ''
        )
