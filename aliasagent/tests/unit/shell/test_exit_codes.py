# SPDX-License-Identifier: Apache-2.0
"""What the command ends with, and that all that describes it says the same."""

import io
import pathlib
import re
from typing import Any

import fixtures

from aliasagent import context
from aliasagent import exception
from aliasagent.client import sending
from aliasagent.shell import errors
from aliasagent.tests.unit.shell import base

README = pathlib.Path(__file__).parents[4] / 'README.rst'
DETACH = ('volume', 'detach', 'web1', base.VOLUME)


class ExitCodesTestCase(base.ShellTestCase):
    def assert_ends(self, code: int, *argv: str, api: base.FakeComputeAPI | None = None, says: str = '') -> None:
        done = self.run_command(*argv, api=api)
        self.assertEqual(code, done.code, done.stderr)
        self.assertIn(says, done.stderr)
        self.assertIn(code, described(errors.EXIT_CODES))

    def test_0_done(self) -> None:
        self.assert_ends(0, *DETACH)
        self.assert_ends(0, *DETACH, '--wait', api=base.FakeComputeAPI('succeeded'))

    def test_1_failed(self) -> None:
        self.assert_ends(1, *DETACH, '--wait', api=base.FakeComputeAPI('failed'), says='the target vdb is taken')
        api = base.FakeComputeAPI()
        api.error = base.rebuilt(exception.ServiceBusy(reason='full'))
        self.assert_ends(1, 'guest', 'list', api=api, says='busy')

    def test_2_wrong(self) -> None:
        self.assert_ends(2, 'guest', 'list', '--no-such-option', says='--no-such-option')
        self.assert_ends(2, 'volume', 'detach', 'web1', 'no/id', says='volume_id')
        self.assert_ends(2, 'volume', 'detach', 'twin', base.VOLUME, says=base.TWIN_2)
        api = base.FakeComputeAPI()
        api.error = base.rebuilt(exception.InvalidInput(field='volume_id', reason='is none'))
        self.assert_ends(2, *DETACH, api=api, says='volume_id: is none')
        self.assertEqual([], api.casts)

    def test_3_nobody_there(self) -> None:
        api = base.FakeComputeAPI()
        api.error = base.undeliverable()
        self.assert_ends(3, 'guest', 'list', api=api, says='is aliasagent-compute running there')

    def test_4_not_finished(self) -> None:
        api = base.FakeComputeAPI('running')
        self.assert_ends(4, *DETACH, '--wait=0.01', api=api, says='aliasagent operation watch')

    def test_5_no_such_thing(self) -> None:
        self.assert_ends(5, 'device', 'list', 'web2', says='"aliasagent guest list" shows its 3 guests')
        self.assert_ends(5, 'device', 'list', base.TWIN_1, says='is not on this host')
        unknown = base.rebuilt(exception.OperationNotFound(operation='one'))
        api = base.FakeComputeAPI(unknown)
        self.assert_ends(5, 'operation', 'show', 'one', api=api, says='"aliasagent operation list" shows')

    def test_130_interrupted(self) -> None:
        def interrupt(_seconds: float) -> None:
            raise KeyboardInterrupt

        for module in ('remote.agent', 'operation'):
            self.useFixture(fixtures.MonkeyPatch(f'aliasagent.shell.{module}.time.sleep', interrupt))
        running = base.FakeComputeAPI('running')
        self.assert_ends(130, *DETACH, '--wait', api=running, says='operation watch')
        self.assertEqual(1, len(running.casts))
        self.assert_ends(
            130, 'operation', 'watch', 'one', api=base.FakeComputeAPI('running'), says='the operation continues'
        )

        class Interrupted(base.FakeComputeAPI):
            def _fail(self) -> None:
                raise KeyboardInterrupt

        self.assert_ends(130, 'guest', 'list', api=Interrupted())

    def test_130_interrupted_while_the_request_is_sent(self) -> None:
        """The agent may have it: the operation can be asked for (issue 13, number 28)."""

        class Interrupted(base.FakeComputeAPI):
            def submit(self, ctxt: context.RequestContext, action: str, **arguments: Any) -> dict[str, Any]:
                super().submit(ctxt, action, **arguments)
                raise KeyboardInterrupt

            def detach_volume(self, ctxt: context.RequestContext, **arguments: Any) -> None:
                self.submit(ctxt, 'detach_volume', **arguments)

        for wait in ((), ('--wait',)):
            api = Interrupted()
            done = self.run_command(*DETACH, *wait, api=api)
            self.assertEqual(130, done.code)
            self.assertIn(f'"aliasagent operation show {api.contexts[0].operation_id}" shows', done.stderr)

    def test_3_the_answer_is_lost(self) -> None:
        class Silent(base.FakeComputeAPI):
            def submit(self, ctxt: context.RequestContext, action: str, **arguments: Any) -> dict[str, Any]:
                super().submit(ctxt, action, **arguments)
                raise sending.NoAnswer('no answer')

        api = Silent()
        done = self.run_command(*DETACH, '--wait', api=api)
        self.assertEqual(3, done.code)
        self.assertIn(f'"aliasagent operation show {api.contexts[0].operation_id}" shows', done.stderr)

    def test_141_nobody_reads_the_output(self) -> None:
        """As programs that do not handle SIGPIPE, and without a word (issue 13, number 28)."""

        class Closed(io.StringIO):
            def write(self, _text: str) -> int:
                raise BrokenPipeError

        done = self.run_command('guest', 'list', stdout=Closed())
        self.assertEqual((141, ''), (done.code, done.stderr))
        self.assertIn(141, described(errors.EXIT_CODES))
        # That the operation failed counts more than that nobody reads the table.
        done = self.run_command(*DETACH, '--wait', api=base.FakeComputeAPI('failed'), stdout=Closed())
        self.assertEqual(1, done.code)
        self.assertIn('the target vdb is taken', done.stderr)

    def test_each_code_is_tested_here(self) -> None:
        tested = {int(found[1]) for name in dir(self) if (found := re.match(r'test_(\d+)_', name))}
        self.assertEqual(set(described(errors.EXIT_CODES)), tested)

    def test_no_error_has_another(self) -> None:
        codes = {error.exit_code for error in errors.ShellError.__subclasses__()}
        self.assertEqual(set(), codes - set(described(errors.EXIT_CODES)))

    def test_the_readme_says_what_the_help_says(self) -> None:
        _before, _head, table = README.read_text().partition('exit  meaning\n')
        self.assertEqual(
            described(errors.EXIT_CODES), described(table.partition('\n\n')[0].replace('standard error', ''))
        )
        self.assertIn(errors.EXIT_CODES.splitlines()[1], self.run_command('--help').stdout)
        self.assertIn(errors.EXIT_CODES.splitlines()[1], self.run_command('help').stdout)


def described(text: str) -> dict[int, str]:
    """What each exit code means, by a text with a line for each."""
    return {int(code): words.strip() for code, words in re.findall(r'^ *(\d+)  +(.*)$', text, re.MULTILINE)}
