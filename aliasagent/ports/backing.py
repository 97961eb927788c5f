# SPDX-License-Identifier: Apache-2.0
"""Bind a port to this host before a guest gets its interface, and unbind it afterwards.

What an operation needs to continue or to undo is in its details, which are saved before and after each change:

``state``
    ``found`` if the port was bound to this host and guest already: then the agent only uses it. ``binding`` from before
    the request to bind it; ``bound`` from after the answer, or ``refused`` if Neutron did nothing.
``binding``
    What the agent gives the port: host, guest, owner.
``before``
    What the port had before.

An agent that was killed between two saves, or got no answer, finds out from Neutron whether its request arrived: only
then the port has exactly what is in ``binding``. A request may also arrive later. Each request names the revision of
the port that it is for, so that it does nothing once the port has changed.
"""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any
from typing import Protocol
from typing import TypeVar

from aliasagent.cloud.service import ObjectChanged
from aliasagent.cloud.service import Service
from aliasagent.exception import CloudError
from aliasagent.exception import CloudRefused
from aliasagent.ports import neutron
from aliasagent.ports.neutron import Binding
from aliasagent.ports.neutron import Neutron
from aliasagent.requests.base import Json

LOG = logging.getLogger(__name__)
_T = TypeVar('_T')

_FOUND, _BINDING, _BOUND, _REFUSED = 'found', 'binding', 'bound', 'refused'
#: The owners of ports that guests have begin with this.
_COMPUTE = 'compute:'
#: How many times a port is read anew because another client, such as Neutron's agent, has just changed it.
_TRIES = 5
#: Seconds between two questions about a port that the agent waits for.
_PAUSE = 1.0


class PortRequest(Protocol):
    """A request to attach an interface for a port of which it has only the id."""

    @property
    def port_id(self) -> str: ...

    def with_port(self, port: Json) -> Json:
        """Return the arguments of the request for the port as Neutron answers it."""
        ...


@dataclasses.dataclass(frozen=True)
class Options:
    """How ports are bound; the times are in seconds."""

    #: The name of this host in Neutron.
    host: str
    device_owner: str = 'compute:aliasagent'
    bind_timeout: float = 30.0
    #: How long to wait for the status ACTIVE once the guest has the interface; 0 for not at all.
    active_timeout: float = 0.0


def make(conf: Any, on_answer: Callable[[str, bool], None]) -> 'NeutronBacking':
    """Return the backing of ports with the options of the group ``neutron``.

    :param on_answer: is called after each request; see :class:`aliasagent.cloud.service.Service`.
    """
    its = conf.neutron
    options = Options(its.host or conf.host, its.device_owner, its.bind_timeout, its.active_timeout)
    return NeutronBacking(Neutron(Service(conf, 'neutron', on_answer=on_answer)), options)


class NeutronBacking:
    """Binds ports to this host."""

    def __init__(
        self,
        client: Neutron,
        options: Options,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._neutron = client
        self._options = options
        self._clock = clock
        self._pause = pause

    def prepare(self, instance: str, request: PortRequest, details: Json, save: Callable[[Json], None]) -> Json:
        """Bind a port to this host for a guest, and return the arguments of the request with the port as bound.

        A port that is bound to this host and guest already is used as it is. After an error, :meth:`undo` unbinds the
        port, unless the guest has its interface.

        :param details: what an earlier call for the same operation saved last; empty for the first call.
        :raises CloudError: Neutron did not answer, or did not decide in time. A repeated call continues.
        :raises CloudRefused: Neutron refused, does not have the port, or another host or guest has it.
        """
        step = f'bind port {request.port_id}'
        own = Binding(self._options.host, instance, self._options.device_owner)
        port = self._unless_changed(step, lambda: self._bind(_Bind(step, request.port_id, own, save), details))
        port = self._decided(step, port, own)
        if neutron.has_failed(port):
            raise self._neutron.refusal(step, _binding_failed(own.host))
        return request.with_port(port)

    def complete(self, instance: str, details: Json) -> None:
        """Wait for the port to become active, if the options say so.

        A port that does not is only logged: the guest has the interface, and its traffic may begin later.
        """
        if self._options.active_timeout <= 0:
            return
        port_id = details['port_id']
        deadline = self._clock() + self._options.active_timeout
        while True:
            try:
                port = self._neutron.port(port_id, f'show port {port_id}')
            except CloudError as error:
                LOG.warning('Instance %s: it is unknown whether port %s is active: %s', instance, port_id, error)
                return
            if port is None or port.get('status') == 'ACTIVE':
                return
            if self._clock() >= deadline:
                break
            self._pause(_PAUSE)
        LOG.warning(
            "Instance %s: port %s has the status %s after %g s; check Neutron's agent on this host, without which the "
            'port may have no traffic',
            instance,
            port_id,
            port.get('status'),
            self._options.active_timeout,
        )

    def check(self, _instance: str, _details: Json) -> None:
        """Do nothing: Neutron, not this host, keeps what was made for a port."""

    def undo(self, instance: str, details: Json, _save: Callable[[Json], None]) -> None:
        """Give a port back what it had before, if the agent has bound it and nothing else has it since.

        :param details: what :meth:`prepare` saved last; empty if it saved nothing.
        :param _save: is not called: Neutron tells what is undone already.
        :raises CloudError: Neutron did not answer. A repeated call continues.
        :raises CloudRefused: Neutron refused.
        """
        if details.get('state') not in (_BINDING, _BOUND):
            return
        step = f'unbind port {details["port_id"]}'
        self._unless_changed(step, lambda: self._unbind(step, instance, details))

    def _bind(self, it: '_Bind', details: Json) -> Json:
        """Bind a port, unless it is bound already; return the port."""
        port = self._existing(it.step, it.port_id)
        now = Binding.of(port)
        if now.is_at(it.own) and _is_ours(now, details):
            it.saved(details, _BOUND)
            return port
        begun = {'port_id': it.port_id, 'binding': dataclasses.asdict(it.own), 'before': dataclasses.asdict(now)}
        if now.is_at(it.own) and neutron.is_bound(port):
            LOG.info('Port %s is bound to this host for instance %s already', it.port_id, it.own.device_id)
            it.saved(begun, _FOUND)
            return port
        if (reason := _hindrance(now, it.own)) is not None:
            raise self._neutron.refusal(it.step, reason)
        begun = it.saved(begun, _BINDING)
        try:
            bound = self._neutron.set_binding(port, it.own, it.step)
        except CloudRefused:
            # Nothing was changed, unless by an earlier request that may still be on its way.
            if details.get('state') != _BINDING:
                it.saved(begun, _REFUSED)
            raise
        if bound is None:
            raise self._missing(it.step)
        LOG.info('Bound port %s to host %s for instance %s', it.port_id, it.own.host, it.own.device_id)
        it.saved(begun, _BOUND)
        return bound

    def _unbind(self, step: str, instance: str, details: Json) -> None:
        port_id, before = details['port_id'], Binding(**details['before'])
        port = self._neutron.port(port_id, step)
        if port is None:
            LOG.info('Port %s of instance %s is deleted in Neutron', port_id, instance)
            return
        now = Binding.of(port)
        if now == before and details['state'] == _BINDING and 'revision_number' in port:
            # The request to bind it may still be on its way, and is refused if the port has changed.
            port, now = self._neutron.set_binding(port, _marked(details), step), _marked(details)
        if port is None or now == before:
            return
        if not _is_ours(now, details) and now != _marked(details):
            LOG.info('Port %s of instance %s has another binding by now, and keeps it: %s', port_id, instance, now)
            return
        self._neutron.set_binding(port, before, step)
        LOG.info('Unbound port %s of instance %s', port_id, instance)

    def _unless_changed(self, step: str, attempt: Callable[[], _T]) -> _T:
        """Call a function that reads a port and changes it, until no other client has changed the port in between."""
        for _attempt in range(_TRIES):
            with contextlib.suppress(ObjectChanged):
                return attempt()
        raise self._error(step, 'other clients keep changing the port')

    def _decided(self, step: str, port: Json, own: Binding) -> Json:
        """Wait until Neutron has decided the binding of a port, and return the port then."""
        deadline = self._clock() + self._options.bind_timeout
        while Binding.of(port).is_at(own):
            if neutron.is_decided(port):
                return port
            if self._clock() >= deadline:
                raise self._error(step, f'Neutron has not bound it within {self._options.bind_timeout:g} s')
            self._pause(_PAUSE)
            port = self._existing(step, port['id'])
        raise self._neutron.refusal(step, 'another client has changed its binding meanwhile')

    def _existing(self, step: str, port_id: str) -> Json:
        port = self._neutron.port(port_id, step)
        if port is None:
            raise self._missing(step)
        return port

    def _missing(self, step: str) -> CloudRefused:
        return self._neutron.refusal(step, 'there is no such port, or the user of [neutron] may not see it')

    def _error(self, step: str, reason: str) -> CloudError:
        return CloudError(service='neutron', step=step, reason=reason, request='')


@dataclasses.dataclass(frozen=True)
class _Bind:
    """A port that is to be bound."""

    step: str
    port_id: str
    #: What the agent gives the port.
    own: Binding
    save: Callable[[Json], None]

    def saved(self, details: Json, state: str) -> Json:
        """Save details with a new state, unless they have it, and return them."""
        if details.get('state') == state:
            return details
        changed = {**details, 'state': state}
        self.save(changed)
        return changed


def _is_ours(now: Binding, details: Json) -> bool:
    """Return whether a port has its binding from the agent."""
    state = details.get('state')
    if state not in (_BINDING, _BOUND):
        return False
    own = Binding(**details['binding'])
    # Before the answer, only the owner tells the agent's binding from another client's for the same guest.
    return now.is_at(own) if state == _BOUND else now == own


def _marked(details: Json) -> Binding:
    """Return what a port had before, with another owner: a change that neither host nor guest notice."""
    before, own = (Binding(**details[name]) for name in ('before', 'binding'))
    owner = '' if before.device_owner == own.device_owner else own.device_owner
    return dataclasses.replace(before, device_owner=owner)


def _hindrance(now: Binding, own: Binding) -> str | None:
    """Return why a port cannot be bound; None if it can."""
    if now.device_owner and not now.device_owner.startswith(_COMPUTE):
        return f'its device_owner is {now.device_owner}; only ports of guests and ports without owner can be attached'
    if now.device_id and now.device_id.lower() != own.device_id.lower():
        return f'the guest {now.device_id} has it; detach it there first'
    if now.host and now.host.lower() != own.host.lower():
        return (
            f'it is bound to host {now.host}, not to {own.host}; unbind it first, or, if that is this host, set '
            '[neutron] host'
        )
    return None


def _binding_failed(host: str) -> str:
    return (
        f"Neutron could not bind it to host {host}. Check that Neutron's agent on this host is alive and serves the "
        f"port's network and vnic_type, and that {host} is this host's name in \"openstack network agent list\"; if it "
        'is not, set [neutron] host. Then repeat the request'
    )
