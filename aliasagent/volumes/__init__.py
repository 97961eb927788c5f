# SPDX-License-Identifier: Apache-2.0
"""Volumes between a control plane and a guest: attachments, and the connections of this host."""
