# SPDX-License-Identifier: Apache-2.0

from aliasagent.devices import disk
from aliasagent.devices import xml
from aliasagent.tests import base


def read(text: str) -> disk.Disk:
    return disk.Disk(xml.parse(text))


class SourceTestCase(base.TestCase):
    """One volume has one source, whoever wrote it down and when; another volume has another."""

    def check(self, source: str | None, *texts: str) -> None:
        for text in texts:
            self.assertEqual(source, read(text).source, text)

    def test_local(self) -> None:
        self.check('/srv/a.img', "<disk type='file'><source file='/srv/a.img' index='1'/></disk>")
        self.check('/dev/sdb', "<disk type='block'><source dev='/dev/sdb'/></disk>")
        self.check('/srv/dir', "<disk type='dir'><source dir='/srv/dir'/></disk>")
        self.check('volume:default/a.img', "<disk type='volume'><source pool='default' volume='a.img'/></disk>")
        self.check('unix:/run/blk', "<disk type='vhostuser'><source type='unix' path='/run/blk'/></disk>")
        self.check(
            'nvme:0000:01:00.0/1',
            """<disk type='nvme'><source type='pci' managed='yes' namespace='1'>
               <address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source></disk>""",
            "<disk type='nvme'><source namespace='1'><address bus='1' slot='0' function='0'/></source></disk>",
        )

    def test_an_empty_drive_has_none(self) -> None:
        self.check(
            None,
            "<disk type='file' device='cdrom'/>",
            "<disk type='file' device='cdrom'><source startupPolicy='optional'/></disk>",
            '<disk/>',
        )

    def test_the_order_of_the_hosts_does_not_matter(self) -> None:
        one, two = "<host name='a' port='6789'/>", "<host name='B' port='6790'/>"
        texts = [
            f"<disk type='network'><source protocol='gluster' name='pool/image'>{hosts}</source></disk>"
            for hosts in (one + two, two + one, f'{one}<config file="/etc/ceph.conf"/>{two.lower()}')
        ]
        self.check('gluster:pool/image@a:6789,b:6790', *texts)

    def test_default_ports(self) -> None:
        for protocol, name, port in (('nbd', 'data', 10809), ('gluster', 'volume/a', 24007)):
            self.check(
                f'{protocol}:{name}@a:{port}',
                *(
                    f"<disk type='network'><source protocol='{protocol}' name='{name}'>"
                    f"<host name='a'{written}/></source></disk>"
                    for written in ('', f" port='{port}'", " port='0'", f" port='{port}' transport='tcp'")
                ),
            )

    def test_monitors_and_portals_do_not_matter(self) -> None:
        for protocol, name in (('rbd', 'pool/image'), ('iscsi', 'iqn.2001-04.com.example:a/1')):
            self.check(
                f'{protocol}:{name}',
                *(
                    f"<disk type='network'><source protocol='{protocol}' name='{name}'>{hosts}</source></disk>"
                    for hosts in ('', "<host name='a'/>", "<host name='b' port='6789'/><host name='c'/>")
                ),
            )

    def test_what_a_disk_is_based_on(self) -> None:
        text = """<disk><source file='/top'/><mirror type='block'><source dev='/dev/copy'/></mirror>
            <backingStore type='file'><source file='/middle'/>
              <backingStore type='network'><source protocol='rbd' name='a/b'/><backingStore/></backingStore>
            </backingStore></disk>"""
        self.assertEqual(['/middle', '/dev/copy'], disk.Disk(xml.parse(text)).other_paths)

    def test_ipv6(self) -> None:
        self.check(
            'nbd:a@[2001:db8::1]:10809',
            *(
                f"<disk><source protocol='nbd' name='a'><host name='{name}'/></source>"
                '</disk>'
                for name in ('2001:db8::1', '[2001:DB8::1]')
            ),
        )

    def test_a_target_without_a_lun_is_lun_0(self) -> None:
        self.check(
            'iscsi:iqn.2001-04.com.example:a/0',
            "<disk><source protocol='iscsi' name='iqn.2001-04.com.example:a'><host name='h'/></source></disk>",
            "<disk><source protocol='iscsi' name='iqn.2001-04.com.example:a/0'><host name='h'/></source></disk>",
        )

    def test_sockets_and_other_transports(self) -> None:
        self.check(
            'nbd:@unix:/run/nbd',
            "<disk><source protocol='nbd'><host transport='unix' socket='/run/nbd'/></source></disk>",
            "<disk><source protocol='nbd' tls='no'><host transport='unix' socket='/run/nbd'/></source></disk>",
        )
        self.check(
            'gluster:a/b@rdma:h:24007',
            "<disk><source protocol='gluster' name='a/b'><host name='h' transport='rdma'/></source></disk>",
        )

    def test_what_makes_it_another_volume(self) -> None:
        texts = (
            "<disk><source protocol='rbd' name='pool/image'/></disk>",
            "<disk><source protocol='rbd' name='pool/image'><snapshot name='s'/></source></disk>",
            "<disk><source protocol='rbd' name='pool/other'/></disk>",
            "<disk><source protocol='nbd' name='pool/image'/></disk>",
            "<disk><source protocol='nbd' name='pool/image'><host name='a'/></source></disk>",
            "<disk><source protocol='nbd' name='pool/image'><host name='a' port='1'/></source></disk>",
            "<disk><source protocol='https' name='pool/image' query='a=1'><host name='a'/></source></disk>",
            "<disk><source protocol='https' name='pool/image' query='a=2'><host name='a'/></source></disk>",
            "<disk><source file='pool/image'/></disk>",
            "<disk><source pool='pool' volume='image'/></disk>",
        )
        self.assertEqual(len(texts), len({read(text).source for text in texts}))

    def test_odd_definitions_do_not_raise(self) -> None:
        for text in (
            "<disk><source protocol=''><host/></source></disk>",
            "<disk><source protocol='nbd'><host port='many'/></source></disk>",
            "<disk type='nvme'><source/></disk>",
            "<disk type='volume'><source pool='a'/></disk>",
        ):
            self.assertIsInstance(read(text).source, str)


class HostsTestCase(base.TestCase):
    def test_what_is_added_is_read(self) -> None:
        hosts = [disk.Host('a', '1'), disk.Host('b'), disk.Host(transport='unix', socket='/run/s')]
        device = disk.Disk.new()
        for host in hosts:
            device.add_host(host)
        self.assertEqual(hosts, device.hosts)
        self.assertEqual(1, len(device.element.findall('source')))
