# SPDX-License-Identifier: Apache-2.0
"""The entry points of the service and its status command."""

from aliasagent import threads

threads.use_native()
