# SPDX-License-Identifier: Apache-2.0
"""The client command ``aliasagent``: one file per noun; it speaks to the agent through its client class only.

Whatever of it is imported first chooses the threads of oslo.service before oslo.messaging would choose eventlet.
"""

import sys
import warnings

if not sys.warnoptions:
    # What the libraries say about each other's future is nothing for the person at the terminal.
    warnings.simplefilter('ignore')

from oslo_service import backend

backend.init_backend(backend.BackendType.THREADING)
