# SPDX-License-Identifier: Apache-2.0
"""Requests to attach, made of what a client sends."""

from typing import Any

from aliasagent.requests.hostdev import AttachHostdev
from aliasagent.requests.port import AttachInterface
from aliasagent.requests.volume import AttachVolume

Json = dict[str, Any]


def volume(
    volume_id: str,
    connection_info: Json,
    device_name: str | None = None,
    disk_bus: str | None = None,
    device_type: str = 'disk',
    **more: Any,
) -> AttachVolume:
    return AttachVolume.from_dict(
        {
            'volume_id': volume_id,
            'connection_info': connection_info,
            'device_name': device_name,
            'disk_bus': disk_bus,
            'device_type': device_type,
            **more,
        }
    )


def interface(port: Json) -> AttachInterface:
    return AttachInterface.from_dict({'port': port})


def hostdev(device_id: str, described: Json) -> AttachHostdev:
    return AttachHostdev.from_dict({'device_id': device_id, 'hostdev': described})
