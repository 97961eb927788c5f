# SPDX-License-Identifier: Apache-2.0
"""Starts and stops the components of the agent, in order."""

import functools
import logging
import signal
import threading
import time
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_service import service
from oslo_service import systemd

from aliasagent import exception
from aliasagent import notifications
from aliasagent.actions import Action
from aliasagent.allowed import mounts
from aliasagent.allowed.rules import Bounds
from aliasagent.client import rpc
from aliasagent.cloud.ports import Ports
from aliasagent.cloud.questions import Questions
from aliasagent.cloud.servers import Servers
from aliasagent.cloud.service import Service
from aliasagent.compute import contract
from aliasagent.compute.manager import ComputeManager
from aliasagent.conf import keyring
from aliasagent.conf import openstack
from aliasagent.conf import reading
from aliasagent.messaging import notify
from aliasagent.messaging import rpc_server
from aliasagent.observe import reports
from aliasagent.observe.metrics import Components
from aliasagent.observe.metrics import Metrics
from aliasagent.operations import hints
from aliasagent.operations import knowledge
from aliasagent.operations.connecting import Backing
from aliasagent.operations.connecting import Connecting
from aliasagent.operations.connections import Connections
from aliasagent.operations.connections import Json
from aliasagent.operations.intake import Intake
from aliasagent.operations.journal import Journal
from aliasagent.operations.lock import JournalLock
from aliasagent.operations.moves import Moves
from aliasagent.operations.queues import GuestQueues
from aliasagent.operations.runner import Runner
from aliasagent.ports import backing as ports
from aliasagent.reconcile.arrivals import Arrivals
from aliasagent.reconcile.passes import Reconciler
from aliasagent.reconcile.plan import Record
from aliasagent.reconcile.relocation import Relocation
from aliasagent.requests import catalog
from aliasagent.requests.base import Attach
from aliasagent.requests.base import Defaults
from aliasagent.virt import functions
from aliasagent.virt.ceph import CephSecret
from aliasagent.virt.deadlines import Deadlines
from aliasagent.virt.driver import Driver
from aliasagent.virt.host import Host
from aliasagent.virt.leaving import RetryPolicy
from aliasagent.virt.novas import NovasGuests
from aliasagent.virt.unplug import Unplugs
from aliasagent.volumes import cinder
from aliasagent.volumes.backing import CinderBacking
from aliasagent.volumes.brick import Settings
from aliasagent.volumes.connector import BrickConnector

LOG = logging.getLogger(__name__)

#: The topics on which the agent receives messages.
_TOPICS = (rpc.TOPIC, rpc.ALT_TOPIC)
#: Seconds between two deletions of old operations.
_PRUNE_SECONDS = 600.0
#: Seconds between two checks of all connections.
_TEND_SECONDS = 60.0
#: Seconds after which the main thread handles a signal that did not wake it.
_SIGNAL_SECONDS = 0.5
#: Seconds that a stop may take after the running operations have ended.
_STOP_REST_SECONDS = 5.0


class ComputeService(service.Service):
    """The agent: connects to the hypervisor, reconciles the guests, then listens for requests.

    The start runs in its own thread, so that the main thread can handle signals while the start waits.
    """

    def __init__(self, conf: cfg.ConfigOpts, *, host: Host | None = None) -> None:
        super().__init__()
        self._conf = conf
        self._host = host or Host(
            conf.libvirt.uri,
            reconnect_interval=conf.libvirt.reconnect_interval,
            max_calls=conf.libvirt.max_calls,
        )
        self._ceph = CephSecret(self._host, keyring.login(conf))
        notifier = notify.notifier(conf, conf.host)
        self._journal_lock = JournalLock(conf.operations.journal)
        try:
            self._journal = Journal(conf.operations.journal, notices=notifier is not None)
        except exception.JournalError:
            self._journal_lock.release()
            raise
        self._notifications = notifications.Sender(self._journal, notifier, conf.host) if notifier else None
        self._queues = GuestQueues(conf.operations.workers)
        self._moves = Moves(conf.operations.moves)
        self.metrics = Metrics()
        self._unplugs = Unplugs(
            self._host,
            on_late=lambda instance, device_id: self._runner.release(instance, device_id),
            on_kept=lambda instance, device_id, device: self._runner.remember(instance, device_id, device),
            on_retry=self.metrics.unplug_retried,
            on_timeout=self.metrics.unplug_timed_out,
        )
        novas = NovasGuests(lambda: str(conf.manage))
        self._driver = Driver(
            self._host,
            self._unplugs,
            self._retry_policy,
            self._within,
            self._hints,
            dead_vlan=lambda: bool(conf.libvirt.ovs_dead_vlan),
            novas=novas,
            prepare=self._ceph.before_attach,
        )
        keep = functools.partial(hints.keep, self._journal)
        self._questions = self._make_questions()
        self._reconciler = Reconciler(
            self._host,
            self._queues.submit,
            self._queues.submit_if_idle,
            self._hints,
            keep,
            self._asked,
            self._is_busy,
        )
        self._deadlines = Deadlines()
        self._arrivals = Arrivals(self._host, self._reconciler.changed, self._deadlines.call_in)
        self._relocation = Relocation(self._host, conf.reconcile.save_directory, self._hints, keep, self._within, novas)
        self._connector = BrickConnector(Settings.of(conf.brick, conf.host))
        self._connections = Connections(self._journal)
        self._backings = self._make_backings()
        self._connecting = Connecting(
            self._connections,
            self._driver,
            self._backings,
            self._parse,
            self._queues.submit,
            self._queues.submit_if_idle,
        )
        self._runner = Runner(
            self._journal,
            self._queues,
            self._driver,
            self._reconciler,
            self._relocation,
            self._connecting,
            moves=self._moves,
            reconnect_timeout=lambda: float(conf.libvirt.reconnect_timeout),
            on_finished=self.metrics.finished,
        )
        self._intake = Intake(self._runner, lambda: int(conf.operations.max_waiting))
        self._servers: list[Any] = []
        parts = Components(
            self._host,
            self._unplugs,
            self._reconciler,
            self._runner,
            self._intake,
            self._connecting,
            self._is_broker_connected,
        )
        self.metrics.watch(parts)
        self.sections = reports.sections(parts)
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._starter = threading.Thread(target=self._start, name='start', daemon=True)

    def start(self) -> None:
        """Start the agent in the background; :meth:`wait` waits for its end."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, self._on_hangup)
        self._starter.start()

    def wait(self) -> None:
        """Wait until :meth:`stop`, or until the start has failed.

        :raises Exception: the error of the start.
        """
        # NOTE: sleeps without a lock, because a signal handler calls stop() inside this wait; and sleeps for a short
        # time, because a signal just before a sleep is handled only after that sleep.
        while self._failure is None and not self._stopping.is_set():
            time.sleep(_SIGNAL_SECONDS)
        if self._failure is not None:
            raise self._failure
        super().wait()

    def stop(self, graceful: bool = True) -> None:
        """Accept no more requests, wait for running operations, and leave the others in the journal."""
        LOG.info('Stopping')
        self._stopping.set()
        self._intake.close()
        # No operation starts from now on: it could overtake one on the same guest that was not accepted.
        self._queues.close(0)
        self._moves.close(0)
        self._relocation.end_waits()
        end = time.monotonic() + self._stop_seconds()
        if self._ready.is_set():
            self._stop_servers(end)
        super().stop(graceful)
        self._runner.close()
        if not all(them.close(max(0.0, end - time.monotonic())) for them in (self._queues, self._moves)):
            LOG.warning('Some operations are still running; the agent checks their guests at its next start')
        self._unplugs.close()
        if self._questions is not None:
            self._questions.close()
        self._deadlines.close()
        self.metrics.close()
        self._host.close()
        if self._notifications is not None:
            self._notifications.close()
        self._journal.close()
        self._journal_lock.release()
        LOG.info('Stopped')

    def _stop_seconds(self) -> float:
        """Return how many seconds the stop may wait for running operations, out of ``graceful_shutdown_timeout``."""
        timeout = float(getattr(self._conf, 'graceful_shutdown_timeout', 0) or 3600)
        return max(timeout - _STOP_REST_SECONDS, timeout / 2)

    def _stop_servers(self, end: float) -> None:
        # At the same time, because each server needs a moment to stop, and accepts messages until then. A call that
        # waits for the hypervisor must not block the stop.
        stops = [threading.Thread(target=_drain, args=(server,), name='drain', daemon=True) for server in self._servers]
        for stop in stops:
            stop.start()
        for stop in stops:
            stop.join(max(0.0, end - time.monotonic()))

    def _start(self) -> None:
        try:
            if (doubt := mounts.doubt()) is not None:
                LOG.warning("The host's mounts are unknown: %s", doubt)
            self._serve_metrics()
            self._host.start()
            while not self._host.wait_connected(0.2):
                if self._stopping.is_set():
                    return
            self._runner.recover()
            # After the operations, which may be about to use a connection.
            self._tend()
            if self._questions is not None:
                self._questions.start()
            if self._notifications is not None:
                self._notifications.start()
            first_run = threading.Thread(target=self._reconcile, name='first-reconcile', daemon=True)
            first_run.start()
            first_run.join(self._conf.reconcile.startup_timeout)
            if first_run.is_alive():
                LOG.info('The guests are still being reconciled; the agent accepts requests meanwhile')
            self._listen()
            if self._stopping.is_set():
                return
            systemd.notify_once()
            LOG.info('Ready: serving host %s', self._conf.host)
        except Exception as error:
            LOG.exception('The agent could not start')
            self._failure = error
        finally:
            self._ready.set()

    def _serve_metrics(self) -> None:
        options = self._conf.metrics
        if options.port:
            try:
                self.metrics.serve(options.host, options.port)
            except OSError as error:
                # The agent works without metrics.
                LOG.error('The metrics cannot be served at %s:%d: %s', options.host, options.port, error)

    def _listen(self) -> None:
        transport = rpc.transport(self._conf)
        LOG.info('Waiting for the message broker at %s', _hosts(transport))
        manager = ComputeManager(
            self._driver,
            self._journal,
            self._intake,
            self._reconciler,
            self._relocation,
            self._connecting,
            self._connector.properties,
            self._within,
            self._defaults,
        )
        for topic in _TOPICS:
            server = rpc_server.make(
                transport, self._conf.host, [manager], topic=topic, in_order=Action, together=manager.together
            )
            self._servers.append(server)
            server.start()
        self.tg.add_dynamic_timer(self._reconcile, initial_delay=self._conf.reconcile.interval)
        self.tg.add_dynamic_timer(self._prune)
        self.tg.add_dynamic_timer(self._tend, initial_delay=_TEND_SECONDS)

    def _is_broker_connected(self) -> bool:
        servers = self._servers
        return len(servers) == len(_TOPICS) and all(server.is_connected for server in servers)

    def _reconcile(self) -> float:
        """Reconcile all guests, and return the seconds until the next run."""
        # Another client may have removed the secret, or a daemon that has only secrets may have been restarted.
        self._ceph.refresh()
        try:
            self._reconciler.run()
            self.metrics.reconciled()
        except exception.HypervisorUnavailable as error:
            LOG.warning('The guests are not reconciled now: %s', error)
        except Exception:
            # NOTE: a timer whose function raises would end the agent.
            LOG.exception('The guests could not be reconciled')
        return float(self._conf.reconcile.interval)

    def _prune(self) -> float:
        """Delete old operations from the journal, and return the seconds until the next run."""
        options = self._conf.operations
        try:
            forgotten = self._journal.prune(options.keep_days * 86400, options.keep_count)
        except exception.JournalError as error:
            LOG.warning('Old operations cannot be deleted from the journal: %s', error)
        else:
            LOG.debug('Deleted %d old operations from the journal', forgotten)
        return _PRUNE_SECONDS

    def _tend(self) -> float:
        """Have all connections checked, and return the seconds until the next time."""
        try:
            self._connecting.tend()
        except exception.JournalError as error:
            LOG.warning('The connections are not checked now: %s', error)
        return _TEND_SECONDS

    def _parse(self, action: Action, instance: str, arguments: Json) -> Attach:
        """Make the request to attach a device from what a service of the cloud has answered.

        :raises InvalidInput: the agent cannot attach what the service has answered.
        """
        try:
            contract.validate(action, {'instance_uuid': instance, **arguments})
            request = catalog.parse(action, arguments).completed(self._defaults())
        except exception.InvalidInput as error:
            reason = f'{error.kwargs["reason"]} (in the answer of the service)'
            raise exception.InvalidInput(field=error.kwargs['field'], reason=reason) from error
        assert isinstance(request, Attach), 'it has a description of the device'
        return request

    def _make_backings(self) -> dict[str, Backing]:
        """Return what makes connections, as far as the options of its service are set."""
        conf, groups = self._conf, openstack.registered(self._conf)
        made: dict[str, Backing] = {}
        if 'cinder' in groups:
            made['volume'] = CinderBacking(
                cinder.connected(conf, self.metrics.asked),
                self._connector,
                host=conf.host,
                send_instance=conf.cinder.send_instance,
                others=self._connections.other_details,
            )
        if 'neutron' in groups:
            made['port'] = ports.make(conf, self.metrics.asked)
        return made

    def _hints(self, instance: str) -> list[Record]:
        """Return the hints about the devices of a guest, from attaches and inventories."""
        return knowledge.of_guest(self._journal, instance)

    def _asked(self, instance: str, seen: bytes) -> frozenset[Record]:
        """Return what the cloud says of a guest's devices; have the cloud asked if it was not."""
        return frozenset() if self._questions is None else self._questions.records(instance, seen)

    def _is_busy(self, instance: str) -> bool:
        """Return whether Nova is at work on a guest, as far as Nova is asked."""
        return self._questions is not None and self._questions.is_busy(instance)

    def _make_questions(self) -> Questions | None:
        """Return the questions to the cloud; None without the options for them."""
        conf, registered = self._conf, openstack.registered(self._conf)
        groups = [group for group in ('nova', 'neutron') if group in registered]
        if 'nova' not in groups:
            if groups:
                LOG.info('Neutron is not asked about guests, because section [nova] is missing')
            return None
        services = {group: Service(conf, group, on_answer=self.metrics.asked) for group in groups}
        return Questions(
            Servers(services['nova']),
            Ports(services['neutron']) if 'neutron' in services else None,
            host=conf.nova.host or conf.host,
            most=conf.reconcile.asked_guests,
            on_answer=lambda instance: self._arrivals.expect(instance),
        )

    def _retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self._conf.unplug.timeout, self._conf.unplug.attempts)

    def _within(self) -> Bounds:
        return Bounds(**{kind: tuple(patterns) for kind, patterns in self._conf.allowed.items()})

    def _defaults(self) -> Defaults:
        ceph, login = self._conf.ceph, self._ceph.login
        user, secret_uuid = (ceph.user, ceph.secret_uuid) if login is None else (login.user, login.secret_uuid)
        return Defaults(
            user,
            secret_uuid,
            ceph_key_user=None if login is None else login.user,
            interface_of=functions.interface,
            vdpa_of=functions.vdpa,
            without_cinder=self._without('volume', 'cinder'),
            without_neutron=self._without('port', 'neutron'),
        )

    def _without(self, connects: str, group: str) -> str | None:
        """Return why the agent makes no connection; None if it does."""
        if connects in self._backings:
            return None
        extra = '' if openstack.is_installed() else f', and install {openstack.EXTRA}'
        return f'the agent has no section [{group}] to ask about the {connects}: set it{extra}'

    def _on_hangup(self, _signal: int, _frame: object) -> None:
        # In a thread, because the signal interrupts the main thread at any point.
        threading.Thread(target=self._reload, name='reload', daemon=True).start()

    def _reload(self) -> None:
        try:
            # First, because reloaded options take effect at once, even if they are not valid.
            reading.check_again(self._conf)
            self._conf.mutate_config_files()
            self._ceph.use(keyring.login(self._conf))
        except (cfg.Error, OSError) as error:
            LOG.error('The options could not be reloaded; the agent keeps the previous ones: %s', error)
        else:
            LOG.info('Reloaded the mutable options')


def _drain(server: Any) -> None:
    """Stop a server, and wait until it has handled the messages that it received."""
    server.stop()
    server.wait()


def _hosts(transport: oslo_messaging.Transport) -> str:
    """Return the addresses of a transport, without credentials."""
    url = oslo_messaging.TransportURL.parse(transport.conf)
    return ', '.join(f'{url.transport}://{host.hostname}:{host.port}' for host in url.hosts) or f'{url.transport}://'
