# SPDX-License-Identifier: Apache-2.0
"""Real parts to try the agent on: a RabbitMQ, a libvirtd, guests that boot in seconds, the agent; the quickstart."""
