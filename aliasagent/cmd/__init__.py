# SPDX-License-Identifier: Apache-2.0
"""The service and its status command: they read options, put the parts together, and run."""

from aliasagent import threads

threads.use_native()
