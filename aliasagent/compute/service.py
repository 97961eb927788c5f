# SPDX-License-Identifier: Apache-2.0
"""The order in which the agent's parts start, drain and stop."""

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
from aliasagent.compute.manager import ComputeManager
from aliasagent.conf import reading
from aliasagent.messaging import notify
from aliasagent.messaging import rpc_server
from aliasagent.observe import reports
from aliasagent.observe.metrics import Components
from aliasagent.observe.metrics import Metrics
from aliasagent.operations import knowledge
from aliasagent.operations import told
from aliasagent.operations.intake import Intake
from aliasagent.operations.journal import Journal
from aliasagent.operations.lock import JournalLock
from aliasagent.operations.moves import Moves
from aliasagent.operations.queues import GuestQueues
from aliasagent.operations.runner import Runner
from aliasagent.reconcile.passes import Reconciler
from aliasagent.reconcile.plan import Record
from aliasagent.reconcile.relocation import Relocation
from aliasagent.virt.driver import Driver
from aliasagent.virt.host import Host
from aliasagent.virt.leaving import RetryPolicy
from aliasagent.virt.unplug import Unplugs

LOG = logging.getLogger(__name__)

#: What is listened to.
_TOPICS = (rpc.TOPIC, rpc.ALT_TOPIC)
#: Seconds between two times that old operations are forgotten.
_PRUNE_SECONDS = 600.0
#: Seconds that a signal waits at most, if it did not wake the main thread.
_SIGNAL_SECONDS = 0.5
#: Seconds that the rest of a stop takes at most, after running work has ended.
_STOP_REST_SECONDS = 5.0


class ComputeService(service.Service):
    """The agent: connects to the hypervisor, looks, then listens.

    All of that happens in a thread, so that a signal finds the main thread free while something is waited for.
    """

    def __init__(self, conf: cfg.ConfigOpts, *, host: Host | None = None) -> None:
        super().__init__()
        self._conf = conf
        self._host = host or Host(
            conf.libvirt.uri,
            reconnect_interval=conf.libvirt.reconnect_interval,
            max_calls=conf.libvirt.max_calls,
        )
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
        self._driver = Driver(
            self._host,
            self._unplugs,
            self._retry_policy,
            self._within,
            self._known,
            dead_vlan=lambda: bool(conf.libvirt.ovs_dead_vlan),
        )
        keep = functools.partial(told.keep, self._journal)
        self._reconciler = Reconciler(
            self._host, self._queues.submit, self._queues.submit_if_idle, self._known, keep
        )
        self._relocation = Relocation(self._host, conf.reconcile.save_directory, self._known, keep, self._within)
        self._runner = Runner(
            self._journal,
            self._queues,
            self._driver,
            self._reconciler,
            self._relocation,
            moves=self._moves,
            reconnect_timeout=lambda: float(conf.libvirt.reconnect_timeout),
            on_finished=self.metrics.finished,
        )
        self._intake = Intake(self._runner, lambda: int(conf.operations.max_waiting))
        self._servers: list[Any] = []
        parts = Components(
            self._host, self._unplugs, self._reconciler, self._runner, self._intake, self._is_broker_connected
        )
        self.metrics.watch(parts)
        self.sections = reports.sections(parts)
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._starter = threading.Thread(target=self._start, name='start', daemon=True)

    def start(self) -> None:
        """Begin to start; :meth:`wait` waits for the end."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, self._on_hangup)
        self._starter.start()

    def wait(self) -> None:
        """Serve until :meth:`stop`, or until the start has failed.

        :raises Exception: what made the start fail.
        """
        # NOTE: asleep, and holding no lock, for the handler of a signal calls stop() from inside this wait. And not for
        # long: a signal that comes in the moment before the main thread goes to sleep is handled when it wakes.
        while self._failure is None and not self._stopping.is_set():
            time.sleep(_SIGNAL_SECONDS)
        if self._failure is not None:
            raise self._failure
        super().wait()

    def stop(self, graceful: bool = True) -> None:
        """Take nothing in any more, let running work end, and leave the rest in the journal."""
        LOG.info('Stopping')
        self._stopping.set()
        self._intake.close()
        # From now on nothing begins, or what is left now could be overtaken by what comes after it on the same guest.
        self._queues.close(0)
        self._moves.close(0)
        self._relocation.end_waits()
        end = time.monotonic() + self._stop_seconds()
        if self._ready.is_set():
            self._stop_servers(end)
        super().stop(graceful)
        self._runner.close()
        if not all(them.close(max(0.0, end - time.monotonic())) for them in (self._queues, self._moves)):
            LOG.warning('What runs still is left as it is, and looked at after the next start')
        self._unplugs.close()
        self.metrics.close()
        self._host.close()
        if self._notifications is not None:
            self._notifications.close()
        self._journal.close()
        self._journal_lock.release()
        LOG.info('Stopped')

    def _stop_seconds(self) -> float:
        """How long running work may take to end, so that the rest of the stop fits into the time there is."""
        timeout = float(getattr(self._conf, 'graceful_shutdown_timeout', 0) or 3600)
        return max(timeout - _STOP_REST_SECONDS, timeout / 2)

    def _stop_servers(self, end: float) -> None:
        # Side by side, for each takes its time to notice, and takes in what comes until then. And a question that the
        # hypervisor does not answer must not hold up the stop.
        stops = [threading.Thread(target=_drain, args=(server,), name='drain', daemon=True) for server in self._servers]
        for stop in stops:
            stop.start()
        for stop in stops:
            stop.join(max(0.0, end - time.monotonic()))

    def _start(self) -> None:
        try:
            if (doubt := mounts.doubt()) is not None:
                LOG.warning("The host's mounts are not known: %s", doubt)
            self._serve_metrics()
            self._host.start()
            while not self._host.wait_connected(0.2):
                if self._stopping.is_set():
                    return
            self._runner.recover()
            if self._notifications is not None:
                self._notifications.start()
            first_pass = threading.Thread(target=self._reconcile, name='first-pass', daemon=True)
            first_pass.start()
            first_pass.join(self._conf.reconcile.startup_timeout)
            if first_pass.is_alive():
                LOG.info('The guests are still being reconciled; listening meanwhile')
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
                # The guests are served all the same.
                LOG.error('The metrics cannot be read at %s:%d: %s', options.host, options.port, error)

    def _listen(self) -> None:
        transport = rpc.transport(self._conf)
        LOG.info('Waiting for the message broker at %s', _hosts(transport))
        manager = ComputeManager(
            self._driver, self._journal, self._intake, self._reconciler, self._relocation, self._within
        )
        for topic in _TOPICS:
            server = rpc_server.make(
                transport, self._conf.host, [manager], topic=topic, in_order=Action, together=manager.together
            )
            self._servers.append(server)
            server.start()
        self.tg.add_dynamic_timer(self._reconcile, initial_delay=self._conf.reconcile.interval)
        self.tg.add_dynamic_timer(self._prune)

    def _is_broker_connected(self) -> bool:
        servers = self._servers
        return len(servers) == len(_TOPICS) and all(server.is_connected for server in servers)

    def _reconcile(self) -> float:
        """The periodic task; returns the seconds until the next time."""
        try:
            self._reconciler.run()
            self.metrics.passed()
        except exception.HypervisorUnavailable as error:
            LOG.warning('The guests are not reconciled now: %s', error)
        except Exception:
            # NOTE: a timer whose function raises would end the agent.
            LOG.exception('The guests could not be reconciled')
        return float(self._conf.reconcile.interval)

    def _prune(self) -> float:
        """The periodic task that forgets old operations; returns the seconds until the next time."""
        options = self._conf.operations
        try:
            forgotten = self._journal.prune(options.keep_days * 86400, options.keep_count)
        except exception.JournalError as error:
            LOG.warning('Old operations are kept for now: %s', error)
        else:
            LOG.debug('%d old operations are forgotten', forgotten)
        return _PRUNE_SECONDS

    def _known(self, instance: str) -> list[Record]:
        """What the agent knows of a guest's devices: those that it attached, and what inventories said."""
        return knowledge.of_guest(self._journal, instance)

    def _retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self._conf.unplug.timeout, self._conf.unplug.attempts)

    def _within(self) -> Bounds:
        return Bounds(**{kind: tuple(patterns) for kind, patterns in self._conf.allowed.items()})

    def _on_hangup(self, _signal: int, _frame: object) -> None:
        # In a thread, for the handler interrupts the main thread wherever it stands.
        threading.Thread(target=self._reload, name='reload', daemon=True).start()

    def _reload(self) -> None:
        try:
            # First, for what is read again is in use from then on, whether it can be understood or not.
            reading.check_again(self._conf)
            self._conf.mutate_config_files()
        except (cfg.Error, OSError) as error:
            LOG.error('The options could not be read again; the old ones stay: %s', error)
        else:
            LOG.info('Read the mutable options again')


def _drain(server: Any) -> None:
    """Take nothing in any more, and wait for what was taken in."""
    server.stop()
    server.wait()


def _hosts(transport: oslo_messaging.Transport) -> str:
    """Where a transport connects to, without its credentials."""
    url = oslo_messaging.TransportURL.parse(transport.conf)
    return ', '.join(f'{url.transport}://{host.hostname}:{host.port}' for host in url.hosts) or f'{url.transport}://'
