# SPDX-License-Identifier: Apache-2.0
"""What can be asked of the agent, a file for each kind: type, schema, what it names of the host, device. Pure."""
