# SPDX-License-Identifier: Apache-2.0
"""The agents, as the commands reach them. Loaded only when a command talks to one: oslo.messaging takes its time."""

from aliasagent import threads

threads.use_native()
