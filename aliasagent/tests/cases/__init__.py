# SPDX-License-Identifier: Apache-2.0
"""Inputs after public reports, and answers of Cinder and Neutron; names and addresses are made up."""

import json
import pathlib
from typing import Any

_DIRECTORY = pathlib.Path(__file__).parent


def text(name: str) -> str:
    """A case's file as it is."""
    return (_DIRECTORY / name).read_text()


def read(name: str) -> Any:
    """What a case's JSON file holds.

    :param name: without its ending.
    """
    return json.loads(text(f'{name}.json'))
