# SPDX-License-Identifier: Apache-2.0
"""The entry point of ``aliasagent-compute``."""

import sys

from oslo_config import cfg
from oslo_log import log as logging
from oslo_service import service

from aliasagent import conf
from aliasagent import exception
from aliasagent.client import rpc
from aliasagent.conf import logs
from aliasagent.conf import messaging
from aliasagent.conf import openstack
from aliasagent.conf import reading
from aliasagent.messaging import known
from aliasagent.observe import reports

LOG = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Run the agent until it is stopped, and return the exit code."""
    try:
        known.check()
        agent = _agent(sys.argv[1:] if argv is None else argv)
    except (cfg.Error, exception.JournalError, logging.LogConfigError, known.UnknownMessaging) as error:
        # The text of the error has the advice; a traceback would hide it.
        reason = str(error)
    else:
        # libvirt must not cross a fork.
        service.launch(conf.CONF, agent, restart_method='mutate', no_fork=True)
        return 0
    # Not inside the except clause: oslo.log would add the error to the line again. Before the log is set up, this line
    # goes to standard error.
    LOG.critical('The agent cannot start: %s', reason)
    return 1


def _agent(arguments: list[str]) -> service.Service:
    """Make the agent from its options.

    :raises cfg.Error: the options are not valid, or name a file that cannot be used.
    :raises LogConfigError: the file that configures the log cannot be used.
    :raises JournalError: the journal cannot be used.
    :raises UnknownMessaging: oslo.messaging is not a tested version.
    """
    # Imported here, because they import private code of oslo.messaging, which known.check() has checked by now.
    from aliasagent.compute.service import ComputeService
    from aliasagent.messaging import rpc_parts

    logs.set_defaults()
    logging.register_options(conf.CONF)
    report = reports.Reports(conf.CONF)
    reading.parse(conf.CONF, arguments)
    try:
        logging.setup(conf.CONF, 'aliasagent')
    except OSError as error:
        raise cfg.Error(f'the log cannot be written: {error}') from error
    try:
        # As early as possible: before this, SIGUSR2 ends the process.
        report.start()
    except OSError as error:
        raise cfg.Error(f'[oslo_reports] file_event_handler: {error}') from error
    messaging.check(conf.CONF)
    transport = rpc.transport(conf.CONF)
    try:
        rpc_parts.check(transport)
    finally:
        transport.cleanup()
    openstack.register(conf.CONF)
    # Last, because the options of the libraries are registered by now.
    reading.check(conf.CONF)
    openstack.check(conf.CONF)
    agent = ComputeService(conf.CONF)
    report.add(agent.sections)
    return agent


if __name__ == '__main__':
    sys.exit(main())
