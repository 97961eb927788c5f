# SPDX-License-Identifier: Apache-2.0
"""How fast the agent is, next to its peer and next to the floor: ``tools/bench``, and doc/source/benchmarks.rst.

One module per benchmark; each has ``TITLE`` and ``run``. :mod:`benchmarks.harness` is what they share.
"""
