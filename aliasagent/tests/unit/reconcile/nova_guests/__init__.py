# SPDX-License-Identifier: Apache-2.0
"""Definitions that Nova wrote, by release, with whose each device is in whose.json.

``written`` is as Nova writes it, ``defined`` what libvirt 9.0 made of that, ``live`` that of a running guest.
"""
