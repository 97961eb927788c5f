# SPDX-License-Identifier: Apache-2.0
"""Keeps the key of the Ceph user in libvirt, as a secret of the agent."""

import logging
import threading

from aliasagent import exception
from aliasagent.conf.keyring import Login
from aliasagent.requests.base import Attach
from aliasagent.requests.sources import RbdSource
from aliasagent.requests.volume import AttachVolume
from aliasagent.trouble import Trouble
from aliasagent.virt import events
from aliasagent.virt.host import Host
from aliasagent.virt.secrets import Secrets
from aliasagent.virt.secrets import Usage

LOG = logging.getLogger(__name__)


class CephSecret:
    """Defines the secret at each connection to libvirt, because the secret is lost when the daemon stops.

    :param login: the user with the key; None to define nothing.
    """

    def __init__(self, host: Host, login: Login | None) -> None:
        self._secrets = Secrets(host)
        self._trouble = Trouble()
        self._lock = threading.Lock()
        #: Whether the secret is to be defined in the background, and whether a thread for that runs.
        self._due = self._running = False
        self._login: Login | None = None
        self._take(login)
        host.subscribe(self._on_event)

    @property
    def login(self) -> Login | None:
        """The user whose key the secret has; None if there is no secret."""
        return self._login

    def use(self, login: Login | None) -> None:
        """Take another login, or none. The secret of the earlier one stays in libvirt, because guests may need it."""
        self._take(login)
        self.refresh()

    def refresh(self) -> None:
        """Define the secret, in the background: libvirt may take long."""
        with self._lock:
            self._due = self._login is not None
            if not self._due or self._running:
                return
            self._running = True
            try:
                threading.Thread(target=self._run, name='ceph-secret', daemon=True).start()
            except (RuntimeError, MemoryError):
                self._running = False
                LOG.exception('No thread could be started to define the secret of the Ceph user')

    def before_attach(self, request: Attach) -> None:
        """Define the secret if a request needs it, so that an attach right after a restart of libvirt finds it.

        :raises HypervisorUnavailable: the hypervisor did not answer.
        """
        login = self._login
        if login is not None and _secret_of(request) == login.secret_uuid:
            self._define(login)

    def _take(self, login: Login | None) -> None:
        if login is not None:
            LOG.info('QEMU logs in to Ceph as user %s, by the libvirt secret %s', login.user, login.secret_uuid)
            if login.doubt is not None:
                LOG.warning('The key of the Ceph user may be known to others: %s', login.doubt)
        self._login = login

    def _on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Reconnected):
            self.refresh()

    def _run(self) -> None:
        while (login := self._next()) is not None:
            try:
                self._define(login)
            except exception.HypervisorUnavailable as error:
                LOG.debug('The secret of the Ceph user is defined at the next connection: %s', error)
            except Exception:
                # NOTE: an internal error; the next connection, attach or reconcile tries again.
                LOG.exception('The secret of the Ceph user could not be defined')

    def _next(self) -> Login | None:
        with self._lock:
            due, self._due = self._due, False
            self._running = due and self._login is not None
            return self._login if due else None

    def _define(self, login: Login) -> None:
        try:
            self._secrets.ensure(
                login.secret_uuid, Usage.CEPH, login.key, f'the key of the Ceph user client.{login.user}'
            )
        except exception.HypervisorUnavailable:
            raise
        except exception.AliasAgentError as error:
            # The attach goes on: another client's secret with this UUID may have the key, too, and if not, libvirt or
            # QEMU refuses.
            if self._trouble.is_new(error):
                LOG.error('The key of the Ceph user %s is not given to libvirt: %s', login.user, error)
        else:
            if self._trouble.is_over():
                LOG.info('The key of the Ceph user %s is given to libvirt now', login.user)


def _secret_of(request: Attach) -> str | None:
    """Return the UUID of the secret with which QEMU logs in to Ceph for a request; None if it needs none."""
    if not isinstance(request, AttachVolume):
        return None
    source = request.connection_info.source
    if not isinstance(source, RbdSource) or not source.auth_enabled or source.secret_uuid is None:
        return None
    return source.secret_uuid.lower()
