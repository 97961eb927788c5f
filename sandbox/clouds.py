# SPDX-License-Identifier: Apache-2.0
"""Runs the services of a cloud that the agent asks: Ceph, Keystone, Cinder and Neutron."""

import pathlib
from collections.abc import Callable
from concurrent import futures
from typing import Self

from sandbox import ceph
from sandbox import cinder
from sandbox import keystone
from sandbox import neutron
from sandbox import processes


class Clouds:
    """The services; a context manager. Another object with the same directory finds the running ones.

    :param directory: has a directory for each service; created if it does not exist
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory.resolve()
        self.ceph = ceph.Ceph(self.directory / 'ceph')
        self.keystone = keystone.Keystone(self.directory / 'keystone')
        self.cinder = cinder.Cinder(self.directory / 'cinder', self.keystone, self.ceph)
        self.neutron = neutron.Neutron(self.directory / 'neutron', self.keystone)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_raised: object) -> None:
        self.stop()

    def start(self, say: Callable[[str], None] = lambda _text: None) -> None:
        """Start what does not run, and wait until all is ready.

        :raises PartFailed: a service is not installed or does not start; the others keep running
        """

        def start(name: str, each: Callable[[], None]) -> None:
            with processes.stage(name, say):
                each()

        # they wait much for themselves: two at a time
        with futures.ThreadPoolExecutor() as pool:
            for two in (
                {'Ceph': self.ceph.start, 'Keystone': self.keystone.start},
                {'Cinder': self.cinder.start, 'Neutron': self.neutron.start},
            ):
                started = [pool.submit(start, name, each) for name, each in two.items()]
                for it in started:
                    it.result()

    def stop(self) -> None:
        """Stop all that runs."""
        self.cinder.stop()  # before Ceph, for which it would wait
        self.neutron.stop()
        self.keystone.stop()
        self.ceph.stop()
