# SPDX-License-Identifier: Apache-2.0
"""The statistics of the benchmarks, and that contenders which differ are found out."""

from aliasagent.devices import domain
from aliasagent.devices import xml
from aliasagent.tests import base
from benchmarks import build
from benchmarks import definitions
from benchmarks import figures
from benchmarks import harness
from benchmarks import report


class TestFigures(base.TestCase):
    def test_summary(self) -> None:
        self.assertEqual(figures.Summary(3, 2, 4, 1, 5), figures.summary([5, 1, 4, 2, 3]))
        self.assertEqual(figures.Summary(2.5, 1.75, 3.25, 1, 4), figures.summary([1, 2, 3, 4]))
        self.assertEqual(figures.Summary(7, 7, 7, 7, 7), figures.summary([7]))
        self.assertRaises(ValueError, figures.summary, [])

    def test_spread(self) -> None:
        self.assertEqual(2 / 3, figures.summary([1, 2, 3, 4, 5]).spread)
        self.assertEqual(0.0, figures.summary([0, 0]).spread)

    def test_ratio_is_taken_turn_by_turn(self) -> None:
        # The machine was ten times slower in the second turn, for both.
        found = figures.ratio([1.0, 10.0, 1.0], [2.0, 20.0, 2.0])
        self.assertEqual(figures.Summary(0.5, 0.5, 0.5, 0.5, 0.5), found)

    def test_what_cannot_be_compared(self) -> None:
        self.assertRaises(ValueError, figures.ratio, [1.0], [1.0, 2.0])
        self.assertRaises(ValueError, figures.ratio, [1.0], [0.0])

    def test_table_with_a_sample_of_nothing(self) -> None:
        comparison = harness.Comparison('idle', '%', {'ours': [0.1, 0.2], 'bare': [0.1, 0.0]})
        table = report.table('x', harness.Result([comparison], []))
        self.assertIn('0.15 %', table)
        self.assertNotIn('of it', table)

    def test_words(self) -> None:
        for value, unit, words in (
            (1.5, 's', '1.5 s'),
            (0.0025, 's', '2.5 ms'),
            (0.0000314159, 's', '31.4 µs'),
            (0.9996, 's', '1,000 ms'),
            (0, 's', '0 s'),
            (1234.5, 'pairs/s', '1,234 pairs/s'),
            (0.5, '%', '0.5 %'),
        ):
            self.assertEqual(words, figures.words(value, unit))


class TestAim(base.TestCase):
    def test_at_most(self) -> None:
        met, missed = (harness.aim('x', figures.summary([value]), 1.0) for value in (1.0, 1.25))
        self.assertEqual((True, 0.0), (met.met, met.missed_by))
        self.assertEqual((False, 0.25), (missed.met, missed.missed_by))

    def test_at_least(self) -> None:
        met, missed = (harness.aim('x', figures.summary([value]), 0.8, at_most=False) for value in (0.8, 0.6))
        self.assertTrue(met.met)
        self.assertEqual((False, 0.25), (missed.met, round(missed.missed_by, 9)))

    def test_a_miss_says_what_bounds_it(self) -> None:
        aims = [harness.aim('x', figures.summary([value]), 1.0, bounded_by='the disk') for value in (0.5, 2.0)]
        met, missed = map(report.verdict, aims)
        self.assertIn('met', met)
        self.assertNotIn('the disk', met)
        self.assertIn('MISSED by 100%', missed)
        self.assertIn('the disk', missed)


class TestTurns(base.TestCase):
    def test_one_after_the_other(self) -> None:
        order: list[str] = []

        def turn(name: str, value: float) -> harness.Turn:
            def take() -> harness.Sample:
                order.append(name)
                return harness.Sample(value, 'same')

            return take

        samples = harness.take_turns(2, {'a': turn('a', 1), 'b': turn('b', 2)})
        # The first round is not counted.
        self.assertEqual({'a': [1, 1], 'b': [2, 2]}, samples)
        self.assertEqual(['a', 'b'] * 3, order)

    def test_other_work_is_no_contest(self) -> None:
        turns: dict[str, harness.Turn] = {
            'a': lambda: harness.Sample(1, 'all'), 'b': lambda: harness.Sample(0.1, 'half'),
        }  # fmt: skip
        self.assertRaises(harness.Differs, harness.take_turns, 2, turns)


class TestBuild(base.TestCase):
    def test_what_libvirt_does_not_mind(self) -> None:
        one = '<disk type="file" device="disk">\n  <target dev="sda"/>\n  <serial>x</serial>\n</disk>\n'
        self.assertEqual(
            build.canonical(one),
            build.canonical("<disk device='disk' type='file'><serial>x</serial><target dev='sda'/></disk>"),
        )
        self.assertNotEqual(build.canonical(one), build.canonical(one.replace('sda', 'sdb')))
        self.assertNotEqual(build.canonical(one), build.canonical(one.replace('>x<', '>y<')))

    def test_each_value_of_a_built_device_is_in_its_xml(self) -> None:
        # Setting a name that the device's class does not have would write nothing, in no time.
        for name, kind in build.KINDS.items():
            device = domain.device(xml.parse(build.ours(kind)))
            self.assertEqual(kind.ours, {key: getattr(device, key, None) for key in kind.ours}, name)


class TestDefinitions(base.TestCase):
    def test_names_of_disks(self) -> None:
        self.assertEqual(
            ['sda', 'sdz', 'sdaa', 'sdaz', 'sdba', 'sdzz', 'sdaaa'],
            [definitions.target(number) for number in (0, 25, 26, 51, 52, 701, 702)],
        )
