# SPDX-License-Identifier: Apache-2.0
"""The entry point of ``aliasagent-compute``."""

import sys

from oslo_service import backend

# NOTE: before anything imports oslo.messaging, which would choose the eventlet backend.
backend.init_backend(backend.BackendType.THREADING)

from oslo_log import log as logging  # noqa: E402
from oslo_service import service  # noqa: E402

from aliasagent import conf  # noqa: E402
from aliasagent import exception  # noqa: E402
from aliasagent import reports  # noqa: E402
from aliasagent import version  # noqa: E402
from aliasagent.compute.service import ComputeService  # noqa: E402
from aliasagent.conf import logs  # noqa: E402

LOG = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Run the agent until it is told to stop; the exit code."""
    logs.set_defaults()
    logging.register_options(conf.CONF)
    asked = reports.Reports(conf.CONF)
    conf.CONF(sys.argv[1:] if argv is None else argv, project='aliasagent', version=version.version())
    logging.setup(conf.CONF, 'aliasagent')
    try:
        # The first thing: until then the signal that asks for a report ends the process.
        asked.start()
    except OSError as error:
        LOG.critical('The agent cannot start: [oslo_reports] file_event_handler: %s', error)
        return 1
    try:
        agent = ComputeService(conf.CONF)
    except exception.JournalError as error:
        # Its words say how to go on; a traceback would hide them.
        LOG.critical('The agent cannot start: %s', error)
        return 1
    asked.add(agent.sections)
    # libvirt must not cross a fork.
    service.launch(conf.CONF, agent, restart_method='mutate', no_fork=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
