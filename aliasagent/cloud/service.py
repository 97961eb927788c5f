# SPDX-License-Identifier: Apache-2.0
"""One service of a cloud: its session, and bounded requests to it.

keystoneauth1 is optional, so this module imports it only when a service is made.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from oslo_utils import strutils

from aliasagent import bounded
from aliasagent import exception

#: Bytes of an answer; a server with 1,000 ports has less than 2 MB of them.
_MAX_BYTES = 8 << 20
#: How many times its timeout a whole answer may take: a service may send one byte at a time.
_MAX_TIMEOUTS = 3
#: Characters of a service's own words in an error.
_MAX_WORDS = 1000
#: Refusals that are not about the request: the login was not accepted, the service was too slow or has too much to do.
_BUSY = frozenset({401, 408, 429})
#: Answers to requests that worked; a change may be answered by any of them.
_OF_READS, _OF_CHANGES = frozenset({200}), frozenset({200, 201, 202, 204})
#: Methods that do the same when repeated, so that the options connect_retries and status_code_retries hold for them.
_REPEATABLE = frozenset({'GET', 'DELETE'})


class Forbidden(exception.CloudRefused):
    """The user may not do this (403)."""


class ObjectNotFound(exception.CloudRefused):
    """The service does not have an object of the request (404)."""


class ObjectChanged(exception.CloudRefused):
    """The object is not as the request's header ``If-Match`` says (412)."""


#: The errors for refusals that callers tell apart.
_REFUSALS: dict[int, type[exception.CloudRefused]] = {403: Forbidden, 404: ObjectNotFound, 412: ObjectChanged}


@dataclasses.dataclass(frozen=True)
class _Request:
    method: str
    path: str
    #: What the request is for, for errors.
    step: str
    body: Mapping[str, Any] | None
    params: list[tuple[str, str]]
    #: Seconds to wait for a part of the answer.
    timeout: float
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Service:
    """A service of a cloud, with the login of its group of options.

    :param conf: has the options of the group, as :mod:`aliasagent.conf.openstack` registers them.
    :param on_answer: is called with the name of the group after each request, and with whether the service answered.
    :param microversion: the version of the API that each request asks for, such as 3.48; None for the service's own.
    :param service_token: whether each request has ``X-Service-Token``, too: a token of the same user, by which the
        service knows that another service asks and not an end user. The user needs the role ``service`` for it.
    """

    def __init__(
        self,
        conf: Any,
        group: str,
        *,
        on_answer: Callable[[str, bool], None] = lambda _name, _answered: None,
        microversion: str | None = None,
        service_token: bool = False,
    ) -> None:
        from keystoneauth1 import exceptions
        from keystoneauth1 import loading
        from keystoneauth1 import service_token as tokens

        self.name = group
        self._on_answer = on_answer
        self._timeout = float(conf[group].timeout or 60)
        # A broken connection inside of an answer is an OSError of requests.
        self._errors: tuple[type[Exception], ...] = (exceptions.ClientException, OSError)
        auth = loading.load_auth_from_conf_options(conf, group)
        if service_token and auth is not None:
            auth = tokens.ServiceTokenAuthWrapper(user_auth=auth, service_auth=auth)
        session = loading.load_session_from_conf_options(conf, group, auth=auth)
        self._adapter = loading.load_adapter_from_conf_options(conf, group, session=session, auth=auth)
        self._adapter.default_microversion = microversion

    def get(self, path: str, step: str, params: Iterable[tuple[str, str]] = ()) -> dict[str, Any] | None:
        """Return the answer to a GET; None if the service answers that there is no such object.

        :param step: what the request is for, for errors.
        :raises exception.CloudRefused: the service does not allow it.
        :raises exception.CloudError: there is no valid answer.
        """
        try:
            return self._ask(_Request('GET', path, step, None, list(params), self._timeout))
        except ObjectNotFound:
            return None

    def send(
        self,
        method: str,
        path: str,
        step: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Iterable[tuple[str, str]] = (),
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any] | None:
        """Send a request that changes something, and return the answer; None if the answer has no body.

        Nothing here repeats a POST or PUT: after a :class:`CloudError` that is no refusal, the service may have done
        it, or may do it later. A DELETE is repeated as keystoneauth1's options of the group say, by default
        not at all, and within the time limit.

        :param method: POST, PUT or DELETE.
        :param step: what the request is for, for errors.
        :param timeout: seconds to wait for a part of the answer; the option of the group if None. The whole answer may
            take three times as long.
        :param headers: headers beside the usual ones, such as ``If-Match``.
        :raises Forbidden: the user may not do this.
        :raises ObjectNotFound: the service does not have the object.
        :raises ObjectChanged: the object is not as ``If-Match`` says.
        :raises exception.CloudRefused: the service refused (other 4xx); nothing was changed.
        :raises exception.CloudError: there is no valid answer: no connection, too late, a failure of the service (5xx),
            a login that is not accepted (401), too many requests (408, 429), no JSON.
        """
        request = _Request(method, path, step, body, list(params), timeout or self._timeout, headers or {})
        return self._ask(request)

    def _ask(self, request: _Request) -> dict[str, Any] | None:
        try:
            answer = self._read(request, *self._exchange(request))
        except exception.CloudError as error:
            # A service that refuses to be read cannot be used. One that refuses a change has answered.
            kind = ObjectNotFound if request.method == 'GET' else exception.CloudRefused
            self._on_answer(self.name, isinstance(error, kind))
            raise
        self._on_answer(self.name, True)
        return answer

    def _read(self, request: _Request, status: int, body: bytes, request_id: str) -> dict[str, Any] | None:
        is_read = request.method == 'GET'
        if status not in (_OF_READS if is_read else _OF_CHANGES):
            raise self._failure(request.step, status, body, request_id)
        if not body and not is_read:
            return None
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            raise self._error(request.step, 'the answer is not JSON', request_id) from None
        if not isinstance(answer, dict):
            raise self._error(request.step, 'the answer is not an object', request_id)
        return answer

    @contextlib.contextmanager
    def reading(self, step: str) -> Iterator[None]:
        """Translate the errors in reading an answer that has another form than expected."""
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._error(step, f'the answer is not valid: {type(error).__name__}: {error}') from error

    def _exchange(self, request: _Request) -> tuple[int, bytes, str]:
        """Send a request, and return the status, the body and the id of the request."""
        # A timeout of keystoneauth1 is for one read: a service may send one byte at a time, and so may Keystone.
        limit = request.timeout * _MAX_TIMEOUTS
        try:
            return bounded.call(lambda: self._exchange_unbounded(request), limit)
        except exception.CloudError:
            raise
        except bounded.TimedOut:
            raise self._error(request.step, f'no whole answer within {limit:g} s') from None
        except self._errors as error:
            # keystoneauth1 writes the id of a request to Keystone into the text itself.
            raise self._error(request.step, str(error) or type(error).__name__) from error
        except Exception as error:
            # keystoneauth1 reads the answers of Keystone without checks.
            raise self._error(request.step, f'the answer cannot be read: {type(error).__name__}') from error

    def _exchange_unbounded(self, request: _Request) -> tuple[int, bytes, str]:
        options: dict[str, Any] = {} if request.body is None else {'json': request.body}
        if request.method not in _REPEATABLE:
            # Not as configured: the service may do the first request although its answer is lost.
            options |= {'connect_retries': 0, 'status_code_retries': 0}
        # Not redirected, because the token would be sent, too. Not logged: the answers are read here, with limits.
        response = self._adapter.request(
            request.path, request.method, params=request.params, timeout=request.timeout, raise_exc=False,
            redirect=False, stream=True, log=False, headers={'Accept': 'application/json', **request.headers},
            **options,
        )  # fmt: skip
        with contextlib.closing(response):
            request_id = str(response.headers.get('x-openstack-request-id', ''))[:100]
            body = b''
            for part in response.iter_content(1 << 16):
                body += part
                if len(body) > _MAX_BYTES:
                    raise self._error(request.step, f'the answer has more than {_MAX_BYTES} bytes', request_id)
            return response.status_code, body, request_id

    def _failure(self, step: str, status: int, body: bytes, request_id: str) -> exception.CloudError:
        """Return the error for an answer with the status of a failure."""
        words = _words(body)
        kind = exception.CloudError
        if 400 <= status < 500 and status not in _BUSY:
            kind = _REFUSALS.get(status, exception.CloudRefused)
        return self._error(step, f'HTTP {status}: {words}' if words else f'HTTP {status}', request_id, kind)

    def _error(
        self, step: str, reason: str, request_id: str = '', kind: type[exception.CloudError] = exception.CloudError
    ) -> exception.CloudError:
        request = f' (request {request_id})' if request_id else ''
        return kind(service=self.name, step=step, reason=reason, request=request)


def _words(body: bytes) -> str:
    """Return the message of an error, such as of ``{"badRequest": {"message": "...", "code": 400}}``; empty without."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return ''
    if not isinstance(answer, dict):
        return ''
    for it in answer.values():
        if isinstance(it, dict) and isinstance(it.get('message'), str):
            # On one line, because it is logged.
            return str(strutils.mask_password(' '.join(it['message'].split())[:_MAX_WORDS]))
    return ''
