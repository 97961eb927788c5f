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
from aliasagent.conf import reading
from aliasagent.messaging import known
from aliasagent.observe import reports

LOG = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Run the agent until it is told to stop; the exit code."""
    try:
        known.check()
        agent = _agent(sys.argv[1:] if argv is None else argv)
    except (cfg.Error, exception.JournalError, logging.LogConfigError, known.UnknownMessaging) as error:
        # Its words say how to go on; a traceback would hide them.
        reason = str(error)
    else:
        # libvirt must not cross a fork.
        service.launch(conf.CONF, agent, restart_method='mutate', no_fork=True)
        return 0
    # Not while the error is handled: oslo.log would add it to the line once more. If there is no log yet, this goes to
    # standard error.
    LOG.critical('The agent cannot start: %s', reason)
    return 1


def _agent(arguments: list[str]) -> service.Service:
    """The agent as its options want it.

    :raises cfg.Error: they cannot be understood, or name a file that cannot be used.
    :raises LogConfigError: the file that says how to log cannot.
    :raises JournalError: the journal cannot be used.
    :raises UnknownMessaging: oslo.messaging is not the one that this release was written for.
    """
    # Not before this: they import private parts of oslo.messaging, which were looked at only now.
    from aliasagent.compute.service import ComputeService
    from aliasagent.messaging import rpc_parts

    logs.set_defaults()
    logging.register_options(conf.CONF)
    asked = reports.Reports(conf.CONF)
    reading.parse(conf.CONF, arguments)
    try:
        logging.setup(conf.CONF, 'aliasagent')
    except OSError as error:
        raise cfg.Error(f'the log cannot be written: {error}') from error
    try:
        # The first thing: until then the signal that asks for a report ends the process.
        asked.start()
    except OSError as error:
        raise cfg.Error(f'[oslo_reports] file_event_handler: {error}') from error
    messaging.check(conf.CONF)
    transport = rpc.transport(conf.CONF)
    try:
        rpc_parts.check(transport)
    finally:
        transport.cleanup()
    # Last, for by now the options of the libraries are known, too.
    reading.check(conf.CONF)
    agent = ComputeService(conf.CONF)
    asked.add(agent.sections)
    return agent


if __name__ == '__main__':
    sys.exit(main())
