# SPDX-License-Identifier: Apache-2.0
"""What of this host may be given to a guest: checked by its name (``rules``, ``hosts``), and by what it leads to."""
