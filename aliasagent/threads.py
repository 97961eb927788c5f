# SPDX-License-Identifier: Apache-2.0
"""Have oslo.service and oslo.messaging use native threads, and never eventlet.

The package of the agent's entry points calls :func:`use_native` in its ``__init__``, which runs before its modules, and
the command before it loads oslo.messaging: otherwise the first import of oslo.messaging would choose eventlet.
"""

import sys

# futurist imports eventlet if it is installed, and does not use it here: that takes a third of a second at each start,
# and prints a warning. Python treats a module that is None as not installed.
sys.modules.setdefault('eventlet', None)  # type: ignore[arg-type]

from oslo_service import backend  # noqa: E402 - only after eventlet is disabled


def use_native() -> None:
    """Choose native threads. Calling it again does nothing."""
    backend.init_backend(backend.BackendType.THREADING)
