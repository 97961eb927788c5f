# SPDX-License-Identifier: Apache-2.0
"""The requests to the agent, a module for each kind: type, schema, needs of the host, device. Pure."""
