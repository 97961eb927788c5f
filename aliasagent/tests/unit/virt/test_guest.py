# SPDX-License-Identifier: Apache-2.0
"""One guest and its two definitions."""

from collections.abc import Callable
from typing import Any
from typing import ClassVar

import libvirt

from aliasagent import exception
from aliasagent.tests import base
from aliasagent.tests.ids import GUEST
from aliasagent.tests.unit.virt.test_errors import libvirt_error
from aliasagent.virt.guest import Definitions
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side

LIVE = "<domain id='7'><name>live</name></domain>"
SAVED = '<domain><name>saved</name></domain>'


class StubDomain:
    """A libvirt domain: each attribute is what the call of that name returns, raises or does.

    No second hypervisor: it behaves in no way of its own. It gives single answers that the fake has no way to give:
    codes that libvirt may return at any time, and a guest that changes between two calls of one method.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[Any, ...]] = []

    def UUIDString(self) -> str:  # noqa: N802 - libvirt's name
        return GUEST

    def name(self) -> str:
        return 'guest'

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls.append((method, *arguments))
            answer = self.answers[method]
            if isinstance(answer, Exception):
                raise answer
            return answer(*arguments) if callable(answer) else answer

        return call


def guest(alive: bool = True, **answers: Any) -> tuple[Guest, StubDomain]:
    domain = StubDomain(**answers)
    return Guest(domain, lambda: alive), domain


def running(flags: int) -> str:
    return SAVED if flags & libvirt.VIR_DOMAIN_XML_INACTIVE else LIVE


class DefinitionsTestCase(base.TestCase):
    def names(self, definitions: Definitions) -> tuple[str | None, str | None]:
        live, persistent = definitions.live, definitions.persistent
        return live.name if live else None, persistent.name if persistent else None

    def test_running(self) -> None:
        view, _domain = guest(XMLDesc=running, isPersistent=1)
        definitions = view.definitions()
        self.assertEqual(('live', 'saved'), self.names(definitions))
        self.assertEqual([Side.PERSISTENT, Side.LIVE], [side for side, _domain in definitions.sides()])
        self.assertEqual(Side.LIVE | Side.PERSISTENT, definitions.there)

    def test_transient(self) -> None:
        view, domain = guest(XMLDesc=running, isPersistent=0)
        self.assertEqual(('live', None), self.names(view.definitions()))
        self.assertEqual(Side.LIVE, view.definitions().there)
        self.assertNotIn(('XMLDesc', libvirt.VIR_DOMAIN_XML_INACTIVE), domain.calls)
        self.assertIsNone(view.persistent_text())

    def test_started_and_changed_between_two_calls_it_has_what_it_was_started_with(self) -> None:
        """A device that it was started with is taken out of its config at once: the live definition has to show it."""
        without = '<domain><name>without</name></domain>'
        now = ["<domain id='6'><name>without</name></domain>", "<domain id='7'><name>with</name></domain>"]

        def read(flags: int) -> str:
            live = now.pop(0) if len(now) > 1 else now[0]
            return without if flags & libvirt.VIR_DOMAIN_XML_INACTIVE else live

        view, _domain = guest(XMLDesc=read, isPersistent=1)
        self.assertIn('with', self.names(view.definitions()))

    def test_shut_off(self) -> None:
        view, _domain = guest(XMLDesc=SAVED, isPersistent=1)
        self.assertEqual((None, 'saved'), self.names(view.definitions()))
        self.assertEqual(Side.PERSISTENT, view.definitions().there)
        self.assertIsNone(view.live_definition())

    def test_stopped_between_two_calls_it_is_not_taken_as_live(self) -> None:
        """It was active when it was asked; the definition that is read then is the saved one."""
        view, domain = guest(XMLDesc=SAVED, isPersistent=1, isActive=1)
        self.assertTrue(view.is_active())
        self.assertIsNone(view.definitions().live)
        self.assertIsNone(view.live_definition())
        self.assertNotIn('isActive', [call[0] for call in domain.calls[1:]])

    def test_what_is_written_back_is_read_with_its_secrets(self) -> None:
        view, domain = guest(XMLDesc=SAVED, isPersistent=1)
        self.assertIsNotNone(view.persistent_text())
        wanted = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        self.assertEqual(('XMLDesc', wanted), domain.calls[-1])

    def test_what_is_only_looked_at_is_read_without(self) -> None:
        view, domain = guest(XMLDesc=running, isPersistent=1)
        view.definitions()
        view.live_definition()
        for _method, *flags in domain.calls:
            self.assertFalse(any(flag & libvirt.VIR_DOMAIN_XML_SECURE for flag in flags))

    def test_unreadable_is_not_empty(self) -> None:
        for answer in (
            libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR),
            libvirt_error(libvirt.VIR_ERR_OPERATION_TIMEOUT),
            libvirt_error(libvirt.VIR_ERR_OPERATION_INVALID),
            libvirt_error(libvirt.VIR_ERR_NO_SUPPORT),
            '',
            '<domain>',
            '<network/>',
            '<!DOCTYPE domain><domain/>',
        ):
            view, _domain = guest(XMLDesc=answer, isPersistent=1)
            texts = () if isinstance(answer, str) else (view.persistent_text, view.live_text)
            for read in (view.definitions, view.live_definition, *texts):
                error = self.assertRaises(exception.GuestUnreadable, read)
                self.assertIn(GUEST, str(error))
                self.assertTrue(error.retryable)

    def test_one_of_two_unreadable(self) -> None:
        def half(flags: int) -> str:
            if flags & libvirt.VIR_DOMAIN_XML_INACTIVE:
                raise libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR)
            return LIVE

        view, _domain = guest(XMLDesc=half, isPersistent=1)
        self.assertRaises(exception.GuestUnreadable, view.definitions)

    def test_gone(self) -> None:
        gone = libvirt_error(libvirt.VIR_ERR_NO_DOMAIN)
        view, _domain = guest(XMLDesc=gone, isPersistent=gone)
        for read in (view.definitions, view.live_definition, view.persistent_text):
            self.assertRaises(exception.InstanceNotFound, read)

    def test_the_hypervisor_is_gone(self) -> None:
        gone = libvirt_error(libvirt.VIR_ERR_NO_DOMAIN)
        view, _domain = guest(alive=False, XMLDesc=gone, isPersistent=gone)
        for read in (view.definitions, view.live_definition, view.persistent_text):
            self.assertRaises(exception.HypervisorUnavailable, read)


class CallsTestCase(base.TestCase):
    def test_attach(self) -> None:
        view, domain = guest(attachDeviceFlags=0)
        view.attach('<disk/>', Side.LIVE | Side.PERSISTENT)
        both = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
        self.assertEqual([('attachDeviceFlags', '<disk/>', both)], domain.calls)

    def test_detach_names_one_side(self) -> None:
        view, domain = guest(detachDeviceAlias=0)
        view.detach('ua-x', Side.LIVE)
        view.detach('ua-x', Side.PERSISTENT)
        self.assertEqual(
            [
                ('detachDeviceAlias', 'ua-x', libvirt.VIR_DOMAIN_AFFECT_LIVE),
                ('detachDeviceAlias', 'ua-x', libvirt.VIR_DOMAIN_AFFECT_CONFIG),
            ],
            domain.calls,
        )

    def test_changes_by_xml_are_to_the_saved_definition_only(self) -> None:
        view, domain = guest(updateDeviceFlags=0, detachDeviceFlags=0)
        view.update_persistent('<disk/>')
        view.detach_persistent_xml('<disk/>')
        self.assertEqual({libvirt.VIR_DOMAIN_AFFECT_CONFIG}, {call[-1] for call in domain.calls})

    def test_state_in_words(self) -> None:
        for state, words in ((libvirt.VIR_DOMAIN_RUNNING, 'running'), (libvirt.VIR_DOMAIN_SHUTOFF, 'shut off')):
            self.assertEqual(words, guest(state=(state, 1))[0].state())
        self.assertEqual('state 99', guest(state=(99, 1))[0].state())

    def test_each_call_is_translated(self) -> None:
        for code, kind in (
            (libvirt.VIR_ERR_NO_DOMAIN, exception.InstanceNotFound),
            (libvirt.VIR_ERR_INTERNAL_ERROR, exception.HypervisorError),
        ):
            error = libvirt_error(code)
            names = (
                'attachDeviceFlags',
                'detachDeviceAlias',
                'detachDeviceFlags',
                'jobStats',
                'state',
                'updateDeviceFlags',
            )
            view, _domain = guest(isActive=error, isPersistent=error, **dict.fromkeys(names, error))
            for call in (
                lambda view=view: view.attach('', Side.LIVE),
                lambda view=view: view.detach('', Side.LIVE),
                lambda view=view: view.detach_persistent_xml(''),
                lambda view=view: view.update_persistent(''),
                view.state,
                view.is_active,
                view.is_persistent,
                view.refuse_if_migrating,
            ):
                self.assertRaises(kind, call)


class MigratingTestCase(base.TestCase):
    IDLE: ClassVar = {'type': libvirt.VIR_DOMAIN_JOB_NONE}

    def assert_busy(self, job: dict[str, int] | Exception) -> None:
        view, _domain = guest(state=(libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED), jobStats=job)
        self.assertTrue(view.is_at_work())
        error = self.assertRaises(exception.GuestBusy, view.refuse_if_migrating)
        self.assertTrue(error.retryable)

    def test_on_its_way_out(self) -> None:
        for name in ('OUT', 'IN'):
            operation = getattr(libvirt, f'VIR_DOMAIN_JOB_OPERATION_MIGRATION_{name}')
            job = {'type': libvirt.VIR_DOMAIN_JOB_UNBOUNDED, 'operation': operation}
            self.assert_busy(job)

    def test_on_its_way_in(self) -> None:
        self.assert_busy(libvirt_error(libvirt.VIR_ERR_OPERATION_UNSUPPORTED))

    def test_another_job(self) -> None:
        running, saving = (libvirt.VIR_DOMAIN_RUNNING, 1), (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE)
        backup = {'type': libvirt.VIR_DOMAIN_JOB_UNBOUNDED, 'operation': libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP}
        # what libvirt says while the last of a save is written
        completed = {'type': libvirt.VIR_DOMAIN_JOB_COMPLETED, 'operation': libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE}
        busy, off = map(libvirt_error, (libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_ERR_OPERATION_INVALID))
        for state, job, at_work in (
            (running, self.IDLE, False),
            (running, off, False),
            (running, backup, True),
            (running, completed, True),
            (running, busy, True),
            (saving, self.IDLE, True),
        ):
            view, _domain = guest(state=state, jobStats=job)
            self.assertEqual(at_work, view.is_at_work(), f'{state}, {job}')
        view, _domain = guest(state=running, jobStats=backup)
        self.assertRaises(exception.GuestBusy, view.refuse_if_at_work)

    def test_saved_and_what_came_of_it(self) -> None:
        for state, managed, saved, goes_on in (
            ((libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED), 0, True, False),
            ((libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED), 1, False, False),
            ((libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN), 0, False, False),
            ((libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED), 0, False, True),
            ((libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_SAVE_CANCELED), 0, False, True),
            ((libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED), 0, False, False),
        ):
            view, _domain = guest(state=state, hasManagedSaveImage=managed)
            self.assertEqual((saved, goes_on), (view.is_saved(), view.continues_from_save()), str(state))

    def test_not_on_its_way(self) -> None:
        backup = {
            'type': libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
            'operation': libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP,
        }
        past = {
            'type': libvirt.VIR_DOMAIN_JOB_NONE,
            'operation': libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT,
        }
        for job in (self.IDLE, backup, past, {}):
            for state in (
                (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED),
                (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER),
                # of one that was paused when it was saved, and restored
                (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION),
            ):
                view, _domain = guest(state=state, jobStats=job)
                view.refuse_if_migrating()
