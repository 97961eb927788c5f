# SPDX-License-Identifier: Apache-2.0
"""``aliasagent volume ...``"""

import argparse

from aliasagent.shell import base
from aliasagent.shell import errors


class VolumeAttach(base.RequestCommand):
    """Attach a volume to a guest as a disk, live and persistent.

    The disk gets the alias ua-VOLUME_ID, and a detach by this id finds it. Without --file, --block and
    --connection-info, the agent gets the volume from Cinder: it makes the attachment and connects the host, and undoes
    both after the detach. Paths are paths on the agent's host.
    """

    can_force = True
    example = 'aliasagent volume attach web1 7d3c2b9e-... --file /srv/volumes/data.raw --bus scsi --wait'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument('volume', metavar='VOLUME_ID', help="the volume's id, a UUID in most clouds")
        where = parser.add_mutually_exclusive_group()
        where.add_argument('--file', metavar='PATH', help='a file with the data, raw or as --file-format says')
        where.add_argument('--block', metavar='PATH', help='a block device with the data')
        where.add_argument(
            '--connection-info',
            metavar='JSON|@FILE',
            help='the connection_info of the volume, as Cinder answers it with an attachment, or that answer as a '
            'whole; device_path must be among it, except for RBD, iSCSI and NBD',
        )
        parser.add_argument('--file-format', choices=('raw', 'qcow2'), help='the format of the file; raw by default')
        parser.add_argument(
            '--device-name', metavar='NAME', help='the target, such as /dev/vdb; the first free one by default'
        )
        parser.add_argument(
            '--bus',
            choices=('virtio', 'scsi', 'sata', 'usb'),
            help='the bus of the disk in the guest; by default the one that --device-name suggests, or virtio',
        )
        parser.add_argument(
            '--type', choices=('disk', 'lun', 'cdrom'), default='disk', help='the type of the device; disk by default'
        )

    def request(self, parsed_args: argparse.Namespace) -> tuple[str, str, base.Json]:
        info = _connection_info(parsed_args)
        return (
            'attach_volume',
            parsed_args.volume,
            {
                'volume_id': parsed_args.volume,
                **({} if info is None else {'connection_info': info}),
                'device_name': parsed_args.device_name,
                'disk_bus': parsed_args.bus,
                'device_type': parsed_args.type,
            },
        )


class VolumeDetach(base.DetachCommand):
    """Detach the disk of a volume from a guest."""

    in_nova = 'openstack server remove volume {guest} {device}'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument('volume', metavar='VOLUME_ID', help="the volume's id, a UUID in most clouds")

    def request(self, parsed_args: argparse.Namespace) -> tuple[str, str, base.Json]:
        return 'detach_volume', parsed_args.volume, {'volume_id': parsed_args.volume}


def _connection_info(parsed_args: argparse.Namespace) -> base.Json | None:
    """Return the volume's connection_info, as Cinder describes it; None if the agent must ask Cinder.

    :raises BadInput: the arguments are not valid, or give --file-format without --file.
    """
    if parsed_args.file is not None:
        data = {'device_path': parsed_args.file, 'format': parsed_args.file_format or 'raw'}
        return {'driver_volume_type': 'file', 'data': data}
    if parsed_args.file_format is not None:
        raise errors.BadInput('--file-format: is for --file only')
    if parsed_args.block is not None:
        return {'driver_volume_type': 'local', 'data': {'device_path': parsed_args.block}}
    if parsed_args.connection_info is None:
        return None
    answer = base.json_argument('--connection-info', parsed_args.connection_info)
    attachment = answer.get('attachment')
    whose = attachment.get('volume_id') if isinstance(attachment, dict) else None
    if whose not in (None, parsed_args.volume):
        raise errors.BadInput(f'--connection-info: is of volume {whose!r}, not of {parsed_args.volume!r}')
    return base.inside(answer, 'attachment', 'connection_info')
