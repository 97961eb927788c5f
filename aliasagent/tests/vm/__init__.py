# SPDX-License-Identifier: Apache-2.0
"""Programs that run in the virtual machine of ``sandbox.machine``, with a kernel that can do what they need."""
