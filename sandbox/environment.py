# SPDX-License-Identifier: Apache-2.0
"""Where the real parts are that the integration tests run on, as ``python -m sandbox up`` told.

A missing part is an error, never a reason to skip.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping

from sandbox import guest_image
from sandbox import processes

RABBIT_URL = 'ALIASAGENT_TEST_RABBIT_URL'
LIBVIRT_URI = 'ALIASAGENT_TEST_LIBVIRT_URI'
GUEST_IMAGE = 'ALIASAGENT_TEST_GUEST_IMAGE'
DIRECTORY = 'ALIASAGENT_TEST_DIRECTORY'


@dataclasses.dataclass(frozen=True)
class Environment:
    """The parts that are up."""

    rabbit_url: str  # an oslo.messaging transport_url
    libvirt_uri: str
    guest_image: guest_image.GuestImage
    directory: pathlib.Path  # for the tests' own files; the guests can read and write there

    def variables(self) -> dict[str, str]:
        """The environment variables that :func:`read` understands."""
        return {
            RABBIT_URL: self.rabbit_url,
            LIBVIRT_URI: self.libvirt_uri,
            GUEST_IMAGE: str(self.guest_image.directory),
            DIRECTORY: str(self.directory),
        }


def read(variables: Mapping[str, str] = os.environ) -> Environment:
    """The parts that the environment variables name.

    :raises PartFailed: a variable is not set, or the image or the directory that it names is not there
    """
    missing = [name for name in (RABBIT_URL, LIBVIRT_URI, GUEST_IMAGE, DIRECTORY) if not variables.get(name)]
    if missing:
        raise processes.PartFailed(
            f'{", ".join(missing)} not set. The integration tests run on a real RabbitMQ, libvirt and QEMU: run '
            'tools/run-tests integration, or eval "$(python -m sandbox up --directory DIR)" first'
        )
    directory = pathlib.Path(variables[DIRECTORY])
    if not directory.is_dir():
        raise processes.PartFailed(f'{DIRECTORY}: {directory} is not a directory')
    image = guest_image.GuestImage(pathlib.Path(variables[GUEST_IMAGE])).check()
    return Environment(variables[RABBIT_URL], variables[LIBVIRT_URI], image, directory)
