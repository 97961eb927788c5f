# SPDX-License-Identifier: Apache-2.0
"""Have oslo.service and oslo.messaging use native threads, and never eventlet.

Each package with an entry point calls :func:`use_native` in its ``__init__``, which comes before any of its modules:
whatever imports oslo.messaging first would choose eventlet.
"""

import warnings

# futurist imports eventlet if it is installed, and does not use it here. The warning would be shown at each start.
warnings.filterwarnings('ignore', message=r'\s*Eventlet is deprecated')

from oslo_service import backend  # noqa: E402 - after the filter


def use_native() -> None:
    """Choose native threads. Calling it again does nothing."""
    backend.init_backend(backend.BackendType.THREADING)
