# SPDX-License-Identifier: Apache-2.0
"""The client command ``aliasagent``: one file per noun; it speaks to the agent through its client class only."""
