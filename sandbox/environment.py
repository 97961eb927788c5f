# SPDX-License-Identifier: Apache-2.0
"""The environment of the integration tests, from the variables that ``python -m sandbox up`` prints.

A missing variable is an error, never a reason to skip a test.
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
CLOUDS = 'ALIASAGENT_TEST_CLOUDS'


@dataclasses.dataclass(frozen=True)
class Environment:
    """The addresses of the running parts."""

    rabbit_url: str  # an oslo.messaging transport_url
    libvirt_uri: str
    guest_image: guest_image.GuestImage
    directory: pathlib.Path  # for files of the tests; guests can read and write there
    clouds: pathlib.Path | None = None  # the directory of the running services, for sandbox.clouds

    def variables(self) -> dict[str, str]:
        """Return the environment variables for :func:`read`."""
        found = {
            RABBIT_URL: self.rabbit_url,
            LIBVIRT_URI: self.libvirt_uri,
            GUEST_IMAGE: str(self.guest_image.directory),
            DIRECTORY: str(self.directory),
        }
        if self.clouds is not None:
            found[CLOUDS] = str(self.clouds)
        return found


def read(variables: Mapping[str, str] = os.environ) -> Environment:
    """Read the environment variables.

    :raises PartFailed: a variable is not set, or the image or the directory that it names does not exist
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
    clouds = pathlib.Path(variables[CLOUDS]) if variables.get(CLOUDS) else None
    if clouds is not None and not clouds.is_dir():
        raise processes.PartFailed(f'{CLOUDS}: {clouds} is not a directory')
    return Environment(variables[RABBIT_URL], variables[LIBVIRT_URI], image, directory, clouds)
