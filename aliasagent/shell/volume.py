# SPDX-License-Identifier: Apache-2.0
"""``aliasagent volume ...``"""

import argparse

from aliasagent.shell import base
from aliasagent.shell import errors


class VolumeAttach(base.RequestCommand):
    """Plug a volume into a guest, live and for its next starts.

    The volume gets the alias ua-VOLUME_ID, and can be taken out again by this id. One of --file, --block and
    --connection-info tells where its data are; paths are paths on the agent's host.
    """

    example = 'aliasagent volume attach web1 7d3c2b9e-... --file /srv/volumes/data.raw --bus scsi --wait'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument('volume', metavar='VOLUME_ID', help="the volume's id, a UUID in most clouds")
        where = parser.add_mutually_exclusive_group(required=True)
        where.add_argument('--file', metavar='PATH', help='a file (raw unless --file-format says otherwise)')
        where.add_argument('--block', metavar='PATH', help='a block device')
        where.add_argument(
            '--connection-info',
            metavar='JSON|@FILE',
            help="what Cinder's initialize_connection returns: driver_volume_type and data",
        )
        parser.add_argument('--file-format', choices=('raw', 'qcow2'), help='what is in the file given by --file')
        parser.add_argument('--device-name', metavar='NAME', help='such as /dev/vdb; the first free one by default')
        parser.add_argument(
            '--bus',
            choices=('virtio', 'scsi', 'sata', 'usb'),
            help='how the guest sees it; by default what --device-name suggests, else virtio',
        )
        parser.add_argument('--type', choices=('disk', 'lun', 'cdrom'), default='disk', help='disk by default')

    def request(self, parsed_args: argparse.Namespace) -> tuple[str, str, base.Json]:
        return (
            'attach_volume',
            parsed_args.volume,
            {
                'volume_id': parsed_args.volume,
                'connection_info': _connection_info(parsed_args),
                'device_name': parsed_args.device_name,
                'disk_bus': parsed_args.bus,
                'device_type': parsed_args.type,
            },
        )


class VolumeDetach(base.RequestCommand):
    """Take the disk of a volume out of a guest."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument('volume', metavar='VOLUME_ID', help="the volume's id, a UUID in most clouds")

    def request(self, parsed_args: argparse.Namespace) -> tuple[str, str, base.Json]:
        return 'detach_volume', parsed_args.volume, {'volume_id': parsed_args.volume}


def _connection_info(parsed_args: argparse.Namespace) -> base.Json:
    """Cinder's description of the volume.

    :raises BadInput: it cannot be read, or --file-format is given for something else than a file.
    """
    if parsed_args.file is not None:
        data = {'device_path': parsed_args.file, 'format': parsed_args.file_format or 'raw'}
        return {'driver_volume_type': 'file', 'data': data}
    if parsed_args.file_format is not None:
        raise errors.BadInput('--file-format: is for --file only')
    if parsed_args.block is not None:
        return {'driver_volume_type': 'local', 'data': {'device_path': parsed_args.block}}
    return base.json_argument('--connection-info', parsed_args.connection_info)
