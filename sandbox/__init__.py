# SPDX-License-Identifier: Apache-2.0
"""A real environment for the agent: RabbitMQ, libvirtd, guests that boot in seconds; and the quickstart."""
