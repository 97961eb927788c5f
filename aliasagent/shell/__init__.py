# SPDX-License-Identifier: Apache-2.0
"""The client command ``aliasagent``: one file per noun; it speaks to the agent through its client class only.

Whatever of it is imported first chooses the threads of oslo.service before oslo.messaging would choose eventlet.
"""

import warnings

# futurist imports it if it is there, for nothing that is used here; it would say so at each command.
warnings.filterwarnings('ignore', message=r'\s*Eventlet is deprecated')

from oslo_service import backend  # noqa: E402 - not before the filter

backend.init_backend(backend.BackendType.THREADING)
