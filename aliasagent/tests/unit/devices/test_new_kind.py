# SPDX-License-Identifier: Apache-2.0
"""The worked example of the contributor's guide: a new kind of device, and what has to be true of it.

The guide shows the parts between the marks.
"""

import dataclasses
from typing import ClassVar
from typing import Self

import fixtures
import jsonschema

from aliasagent import exception
from aliasagent.allowed import rules
from aliasagent.devices import alias
from aliasagent.devices import base as devices
from aliasagent.devices import differences
from aliasagent.devices import domain
from aliasagent.devices import identity
from aliasagent.devices import properties
from aliasagent.requests import base as requests
from aliasagent.requests import schema as parts
from aliasagent.tests import base


# begin of the class
class Filesystem(devices.Device):
    """A directory of the host that a guest can mount (libvirt, formatdomain, "Filesystems")."""

    tag = 'filesystem'

    type = properties.text('@type')
    accessmode = properties.text('@accessmode')
    driver_type = properties.text('driver/@type')
    source_dir = properties.text('source/@dir')
    #: What the guest names when it mounts it.
    mount_tag = properties.text('target/@dir')
    readonly = properties.Presence('readonly')

    @property
    def target(self) -> str | None:
        return self.mount_tag

    @property
    def source(self) -> str | None:
        return self.source_dir
# end of the class


# begin of the request
@dataclasses.dataclass(frozen=True)
class AttachShare(requests.BuiltAttach):
    """Let a guest mount a directory of the host."""

    schema: ClassVar = parts.whole(
        {
            **requests.INSTANCE,
            'share_id': requests.DEVICE_ID,
            'path': parts.string('absolute-path'),
            'tag': parts.string('name'),
        },
        {'access_mode': {'enum': [None, 'rw', 'ro']}, **requests.FORCE},
    )

    share_id: str
    path: str
    tag: str
    access_mode: str | None = None
    #: Attach it to a guest of Nova, too.
    force: bool = False

    @classmethod
    def from_dict(cls, arguments: requests.Json) -> Self:
        return requests.of_members(cls, {**arguments, 'share_id': requests.normal(arguments['share_id'])})

    def to_dict(self) -> requests.Json:
        return requests.members(self)

    @property
    def device_id(self) -> str:
        return self.share_id

    def needs(self) -> list[rules.Need]:
        return [rules.Need('path', rules.PATHS, self.path)]

    def decided(self) -> dict[str, str]:
        return {'mount_tag': 'tag', 'readonly': 'access_mode'}

    def device(self, *, dead_vlan: bool = False) -> Filesystem:
        filesystem = Filesystem.new()
        filesystem.type = 'mount'
        filesystem.accessmode = 'passthrough'
        filesystem.driver_type = 'virtiofs'
        filesystem.source_dir = self.path
        filesystem.mount_tag = self.tag
        filesystem.readonly = self.access_mode == 'ro'
        filesystem.alias = alias.make(self.share_id)
        return filesystem
# end of the request


# begin of the tests
SHARE = '0f7a4f1b-2c01-4a3e-9d6f-5a7fd1f261c5'
MESSAGE = {'share_id': SHARE.upper(), 'path': '/srv/shares/data', 'tag': 'data', 'access_mode': 'ro'}
#: As libvirt has it in a definition, with what we do not speak of.
DEFINITION = f"""
<domain type='kvm'>
  <uuid>d4a6a9a0-5a5c-4a4b-9c39-0c8f1f4f2f10</uuid>
  <devices>
    <filesystem type='mount' accessmode='passthrough'>
      <driver type='virtiofs' queue='1024'/>
      <binary path='/usr/libexec/virtiofsd'/>
      <source dir='/srv/shares/data'/>
      <target dir='data'/>
      <readonly/>
      <alias name='ua-{SHARE}'/>
      <address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/>
    </filesystem>
  </devices>
</domain>
"""


class NewKindTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        # In the house this is a line of the table itself.
        classes = {**domain._CLASSES, Filesystem.tag: Filesystem}
        self.useFixture(fixtures.MonkeyPatch('aliasagent.devices.domain._CLASSES', classes))

    def test_a_message_is_parsed_once_and_kept(self) -> None:
        jsonschema.validate({'instance_uuid': SHARE, **MESSAGE}, AttachShare.schema)
        request = AttachShare.from_dict(MESSAGE)
        self.assertEqual(SHARE, request.device_id)
        self.assertEqual(request, AttachShare.from_dict(request.to_dict()))
        self.assertEqual([('path', '/srv/shares/data')], [(need.field, need.name) for need in request.needs()])

    def test_what_is_made_of_a_request(self) -> None:
        self.assertEqual(
            '<filesystem type="mount" accessmode="passthrough"><driver type="virtiofs"/>'
            f'<source dir="/srv/shares/data"/><target dir="data"/><readonly/><alias name="ua-{SHARE}"/></filesystem>',
            AttachShare.from_dict(MESSAGE).device().to_xml(),
        )

    def test_an_id_that_libvirt_would_drop_is_refused(self) -> None:
        request = AttachShare.from_dict({**MESSAGE, 'share_id': 'my share'})
        self.assertRaises(exception.InvalidInput, request.device)

    def test_it_is_found_by_its_id_and_is_the_one_that_was_asked_for(self) -> None:
        found = identity.find(domain.Domain.parse(DEFINITION), SHARE)
        assert found is not None and isinstance(found.device, Filesystem)
        request = AttachShare.from_dict(MESSAGE)
        asked = request.device()
        self.assertEqual((asked.source, asked.target), (found.device.source, found.device.target))
        self.assertIsNone(differences.first(found.device, asked, request.decided()))
        self.assertFalse(found.device.can_be_unplugged)

    def test_what_is_changed_leaves_the_rest_as_it_is(self) -> None:
        definition = domain.Domain.parse(DEFINITION)
        (device,) = definition.devices()
        device.alias = None
        self.assertIn('queue="1024"', definition.to_xml())
        self.assertTrue(definition.differs_in_aliases_only(domain.Domain.parse(DEFINITION)))
# end of the tests
