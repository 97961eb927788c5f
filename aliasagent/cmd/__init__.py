# SPDX-License-Identifier: Apache-2.0
"""The service and its status command: they read options, put the parts together, and run."""

import warnings

# futurist imports it if it is there, for nothing that is used here; it would say so at each start and to each probe.
warnings.filterwarnings('ignore', message=r'\s*Eventlet is deprecated')
