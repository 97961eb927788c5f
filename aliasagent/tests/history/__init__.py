# SPDX-License-Identifier: Apache-2.0
"""The history machine: the real agent on the fake hypervisor and a clock of its own, drawn from a seed and judged.

One history is a few guests, a script of steps (requests, guests that stop and start, another client's changes, lost
connections, a full disk, an agent that is killed), and an oracle that reads what really happened from the fake and
judges every word of the agent. Nothing waits and no thread is started: what the agent starts as a thread is a greenlet
here (:mod:`aliasagent.tests.history.scheduler`), so that a seed always gives the same history.

* ``scheduler``, ``threads``, ``patching``: time and threads
* ``hypervisor``, ``chronicle``: the fake, and what really happened in it
* ``agent``: how the real parts are put together, the one place that knows it
* ``plan``, ``draw``: what a history is, and how one is drawn from a seed
* ``world``, ``steps``: the guests, the other client, the broker; and how steps are carried out
* ``oracle``: what is true
* ``run``, ``shrink``: one history, and the shortest one with the same verdict
"""
