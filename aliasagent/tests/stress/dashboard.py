# SPDX-License-Identifier: Apache-2.0
"""Draws the dashboard with what a real Prometheus has scraped of a real agent.

python -m aliasagent.tests.stress.dashboard PICTURE.png

Volumes are attached and detached, a guest does not let go of one, a guest from before aliases comes, and the message
broker goes away and comes back, in about two minutes. The panels, their places and their expressions are those of
``etc/grafana/aliasagent.json``; it is drawn without Grafana, by matplotlib, which is not among the requirements. Lines
that are 0 all the time are left out, as they hide the others. Needs the package prometheus.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from matplotlib import dates
from matplotlib import figure as figures
from matplotlib import ticker

from aliasagent.context import RequestContext
from aliasagent.tests.stress import story
from sandbox import processes

DASHBOARD = pathlib.Path(__file__).parents[3] / 'etc' / 'grafana' / 'aliasagent.json'
HOST = 'compute-1'
#: Seconds between two scrapes; a rate needs several.
STEP, RATE = 1, '15s'
#: Inches of a cell of Grafana's grid.
_WIDTH, _HEIGHT = 0.55, 0.32
_DARK, _PANEL, _LIGHT, _GRID = '#111217', '#181b1f', '#ccccdc', '#2c3235'
_COLOURS = {'red': '#f2495c', 'green': '#73bf69'}


@dataclasses.dataclass(frozen=True)
class Line:
    """A series of a panel."""

    name: str
    times: list[float]
    values: list[float]


class Prometheus:
    """A Prometheus of our own that scrapes one agent."""

    def __init__(self, directory: pathlib.Path, target: int) -> None:
        port = processes.free_port()
        self._url = f'http://127.0.0.1:{port}/'
        config = directory / 'prometheus.yml'
        job = {'job_name': 'aliasagent', 'static_configs': [{'targets': [f'127.0.0.1:{target}']}]}
        # whatever port it has: the host is what a dashboard tells apart
        job['relabel_configs'] = [{'target_label': 'instance', 'replacement': HOST}]
        config.write_text(json.dumps({'global': {'scrape_interval': f'{STEP}s'}, 'scrape_configs': [job]}))
        self._process = processes.Process('prometheus', directory)
        self._process.start(
            [
                'prometheus',
                f'--config.file={config}',
                f'--storage.tsdb.path={directory / "prometheus"}',
                f'--web.listen-address=127.0.0.1:{port}',
            ]
        )
        self._process.wait_ready(self._answers, 30)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self._url + '-/ready', timeout=5):
                return True
        except OSError:
            return False

    def ask(self, expression: str, legend: str, begin: float, end: float) -> list[Line]:
        """What an expression was from one time to another."""
        query = urllib.parse.urlencode({'query': expression, 'start': begin, 'end': end, 'step': STEP})
        with urllib.request.urlopen(f'{self._url}api/v1/query_range?{query}', timeout=30) as answer:
            found = json.load(answer)['data']['result']
        lines = []
        for series in found:
            labels: dict[str, str] = series['metric']
            name = legend
            for label in re.findall(r'\{\{(\w+)}}', legend):
                name = name.replace(f'{{{{{label}}}}}', labels.get(label, ''))
            points: list[tuple[float, str]] = series['values']
            times, values = [at for at, _value in points], [float(value) for _at, value in points]
            lines.append(Line(name.strip(), times, values))
        return lines

    def stop(self) -> None:
        self._process.end()


def live(it: story.Story) -> None:
    """Two minutes of an agent's life."""
    guests = [it.bench.new_guest() for _ in range(3)]
    stop = threading.Event()

    def work(guest: str) -> None:
        api = it.bench.api(timeout=60)
        while not stop.is_set():
            volume, connection = it.bench.new_volume()
            attach, detach = RequestContext(), RequestContext()
            api.attach_volume(attach, guest, volume, connection, disk_bus='scsi')
            it.bench.wait_state(attach.operation_id, 'succeeded')
            stop.wait(0.7)
            api.detach_volume(detach, guest, volume)
            it.bench.wait_state(detach.operation_id, 'succeeded')
            stop.wait(0.7)

    workers = [threading.Thread(target=work, args=(guest,)) for guest in guests]
    time.sleep(12)
    for worker in workers:
        worker.start()
    time.sleep(15)
    stuck = it.detach(it.attach()[0])
    time.sleep(12)
    it.old_guest_comes()
    it.bench.wait_state(stuck.operation_id, 'failed')
    stop.set()
    for worker in workers:
        worker.join()
    it.broker.kill()
    time.sleep(15)
    it.broker.start()
    it.wait_page('broker_connected', 1, timeout=30)
    stop.clear()
    workers = [threading.Thread(target=work, args=(guest,)) for guest in guests]
    for worker in workers:
        worker.start()
    time.sleep(20)
    stop.set()
    for worker in workers:
        worker.join()


def draw(ask: Callable[[str, str], list[Line]], path: pathlib.Path) -> None:
    """Draw the panels."""
    panels = json.loads(DASHBOARD.read_text())['panels']
    rows = max(panel['gridPos']['y'] + panel['gridPos']['h'] for panel in panels)
    figure = figures.Figure(figsize=(24 * _WIDTH, rows * _HEIGHT), facecolor=_DARK)
    for panel in panels:
        lines = [line for it in panel['targets'] for line in ask(it['expr'], it['legendFormat'])]
        at = panel['gridPos']
        place = (
            (at['x'] + 0.9 * (at['w'] > 4)) / 24 + 0.008,
            1 - (at['y'] + at['h'] - 1.1) / rows,
            (at['w'] - 0.9 * (at['w'] > 4)) / 24 - 0.016,
            (at['h'] - 2.2) / rows,
        )
        axes = figure.add_axes(place, facecolor=_PANEL)
        axes.set_title(panel['title'], color=_LIGHT, fontsize=9, loc='left')
        for side in axes.spines.values():
            side.set_color(_GRID)
        {'stat': _stat, 'timeseries': _series}[panel['type']](axes, panel, lines)
    figure.savefig(path, dpi=80, facecolor=_DARK)


def _stat(axes: Any, panel: Any, lines: list[Line]) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    defaults = panel['fieldConfig']['defaults']
    value = lines[0].values[-1]
    words, colour = _unit(defaults['unit'])(value), _COLOURS['green']
    for mapping in defaults.get('mappings', []):
        found = mapping['options'].get(f'{value:g}')
        if found:
            words, colour = found['text'], _COLOURS[found['color']]
    axes.text(0.5, 0.5, words, color=colour, fontsize=26, ha='center', va='center', transform=axes.transAxes)


def _series(axes: Any, panel: Any, lines: list[Line]) -> None:
    shown = [line for line in lines if any(value > 0 for value in line.values)]
    for line in shown:
        axes.plot([dates.date2num(_datetime(at)) for at in line.times], line.values, label=line.name, linewidth=1.2)
    axes.xaxis.set_major_formatter(dates.DateFormatter('%H:%M:%S'))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    words = _unit(panel['fieldConfig']['defaults']['unit'])
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _position: words(value)))
    begin, end = (
        dates.date2num(_datetime(find(at for line in lines for at in line.times))) for find in (min, max)
    )
    axes.set_xlim(begin, end)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.1)
    axes.tick_params(colors=_LIGHT, labelsize=7)
    axes.grid(color=_GRID, linewidth=0.5)
    if shown:
        axes.legend(fontsize=6, loc='upper left', facecolor=_PANEL, edgecolor=_GRID, labelcolor=_LIGHT)


def _datetime(seconds: float) -> Any:
    return dates.num2date(seconds / 86400)


def _unit(unit: str) -> Callable[[float], str]:
    """How Grafana shows a number of this unit."""
    return {
        'short': lambda value: f'{value:g}',
        's': lambda value: f'{value:.3g} s',
        'ops': lambda value: f'{value:g} ops/s',
        'percentunit': lambda value: f'{100 * value:.0f} %',
        'bytes': lambda value: f'{value / 1048576:.0f} MiB',
    }[unit]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('picture', type=pathlib.Path)
    path = parser.parse_args().picture
    with story.Story(timeout=5.0, attempts=4) as it:
        prometheus = Prometheus(it.bench.directory, it.metrics_port)
        try:
            begin = time.time()
            live(it)
            end = time.time()

            def ask(expression: str, legend: str) -> list[Line]:
                for variable, value in (('$__rate_interval', RATE), ('$instance', '.*')):
                    expression = expression.replace(variable, value)
                return prometheus.ask(expression, legend, begin, end)

            draw(ask, path)
        finally:
            prometheus.stop()
    print(f'{path}: {path.stat().st_size} bytes, {end - begin:.0f} s')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
