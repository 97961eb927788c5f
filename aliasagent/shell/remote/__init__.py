# SPDX-License-Identifier: Apache-2.0
"""The agents, as the commands reach them. Loaded only when a command talks to one."""
