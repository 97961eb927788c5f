# SPDX-License-Identifier: Apache-2.0
"""The final states of an operation, as the agent returns them."""

SUCCEEDED, FAILED = 'succeeded', 'failed'
