#!/usr/bin/env python3
"""Draws a dashboard from a Prometheus, every panel in its place, without Grafana.

    pip install matplotlib
    dashboards/plot.py fleet --prometheus http://127.0.0.1:9090 --minutes 60 --out fleet.png
    dashboards/plot.py tenant --tenant acme ...
"""

import argparse
import datetime
import io
import json
import pathlib
import re
import sys
import textwrap
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates as dates
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image

COLUMNS, CELL_WIDTH, CELL_HEIGHT = 24, 0.78, 0.4
INK, PALE, GRID, BACK = "#1f2430", "#6b7280", "#e5e7eb", "#ffffff"
COLOURS = {"green": "#2e8b57", "yellow": "#d9a400", "red": "#cc3333"}
LINES = ["#3366cc", "#e07b39", "#2e8b57", "#b23a8e", "#7a5bd0", "#c9a227", "#00979d", "#cc3333", "#5f6b7a", "#8fb339"]


def ask(server, path, **fields):
    url = f"{server}/api/v1/{path}?{urllib.parse.urlencode(fields)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["data"]["result"]


def number(value, unit):
    """A value as Grafana would show it."""
    if value is None or value != value:
        return "–"
    if value in (float("inf"), float("-inf")):
        return "∞"
    if unit == "s":
        for limit, factor, name in ((1e-3, 1e6, "µs"), (1, 1e3, "ms"), (120, 1, "s"), (7200, 1 / 60, "min"), (172800, 1 / 3600, "h")):
            if abs(value) < limit:
                return f"{value * factor:.3g} {name}" if value else "0 s"
        return f"{value / 86400:.3g} d"
    if unit == "bytes":
        for name in ("B", "KiB", "MiB", "GiB"):
            if abs(value) < 1024:
                return f"{value:.3g} {name}"
            value /= 1024
        return f"{value:.3g} TiB"
    if unit == "currencyUSD":
        return f"${value:,.2f}" if abs(value) >= 0.1 or not value else f"${value:.3g}"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    end = {"reqps": " /s", "cps": " /s"}.get(unit, "")
    for limit, factor, name in ((1e3, 1, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M")):
        if abs(value) < limit:
            return f"{value / factor:.3g}{name}{end}"
    return f"{value:.3g}{end}"


def legend(target, labels):
    form = target.get("legendFormat") or "__auto"
    if form == "__auto":
        return ", ".join(v for k, v in labels.items() if k != "__name__") or "value"
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda m: labels.get(m[1], ""), form).strip()


def colour(defaults, value):
    found = COLOURS["green"]
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or (value == value and value >= step["value"]):
            found = COLOURS.get(step["color"], INK)
    return found


class Drawing:
    def __init__(self, options):
        self.options = options
        self.end = time.time() if options.end is None else options.end
        self.start = self.end - options.minutes * 60
        self.step = max((self.end - self.start) / 240, options.interval)

    def filled(self, expression):
        rate = max(4 * self.options.interval, self.step)
        for name, value in (
            ("$__rate_interval", f"{rate:.0f}s"),
            ("$__range", f"{self.end - self.start:.0f}s"),
            ("$instance", ".*"),
            ("$tenant", self.options.tenant),
        ):
            expression = expression.replace(name, value)
        return expression

    def ranges(self, target):
        found = ask(self.options.prometheus, "query_range", query=self.filled(target["expr"]), start=self.start, end=self.end, step=self.step)
        for series in found:
            points = [(float(at), float(value)) for at, value in series["values"]]
            yield legend(target, series["metric"]), points

    def instant(self, target):
        found = ask(self.options.prometheus, "query", query=self.filled(target["expr"]), time=self.end)
        return [(series["metric"], float(series["value"][1])) for series in found]

    def stat(self, axes, panel):
        defaults = panel["fieldConfig"]["defaults"]
        value, points = float("nan"), []
        for _, points in self.ranges(panel["targets"][0]):
            value = points[-1][1]
        text = number(value, defaults["unit"])
        for mapping in defaults["mappings"]:
            text = mapping["options"].get(f"{value:.0f}", {"text": text})["text"]
        if panel["options"]["graphMode"] == "area" and len(points) > 1:
            tops = [v if v == v else 0 for _, v in points]
            axes.fill_between(range(len(tops)), tops, color=colour(defaults, value), alpha=0.12, lw=0)
            axes.set_ylim(0, (max(tops) or 1) * 2.2)
            axes.set_xlim(0, len(tops) - 1)
        axes.text(0.5, 0.52, text, transform=axes.transAxes, ha="center", va="center", fontsize=17, fontweight="bold", color=colour(defaults, value))
        axes.set_xticks([]), axes.set_yticks([])

    def timeseries(self, axes, panel):
        defaults = panel["fieldConfig"]["defaults"]
        unit, custom = defaults["unit"], defaults["custom"]
        series = [one for target in panel["targets"] for one in self.ranges(target)]
        series = [one for one in series if any(v == v for _, v in one[1])]
        series.sort(key=lambda one: -max((v for _, v in one[1] if v == v), default=0))
        when = lambda points: [datetime.datetime.fromtimestamp(at, datetime.timezone.utc) for at, _ in points]
        if custom["stacking"]["mode"] == "normal" and series:
            times = sorted({at for _, points in series for at, _ in points})
            known = [dict(points) for _, points in series]
            heights = [[0 if (v := one.get(at, 0)) != v else v for at in times] for one in known]
            axes.stackplot(when([(at, 0) for at in times]), heights, colors=LINES, alpha=0.75, lw=0)
        else:
            for n, (_, points) in enumerate(series):
                axes.plot(when(points), [v for _, v in points], color=LINES[n % len(LINES)], lw=1.2)
        if custom.get("scaleDistribution", {}).get("type") == "log" and series:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(numticks=5))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.yaxis.set_major_locator(MaxNLocator(4))
            low, high = axes.get_ylim()
            axes.set_ylim(0, max(high, 1e-9) if any(v for _, points in series for _, v in points if v == v) else 1)
        if custom["thresholdsStyle"]["mode"] != "off":
            for step in defaults["thresholds"]["steps"]:
                if step["value"] is not None and step["value"] <= axes.get_ylim()[1] * 3:
                    axes.axhline(step["value"], color=COLOURS[step["color"]], lw=0.8, ls="--")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: number(v, unit)))
        axes.set_xlim(*(datetime.datetime.fromtimestamp(at, datetime.timezone.utc) for at in (self.start, self.end)))
        axes.xaxis.set_major_locator(dates.AutoDateLocator(minticks=3, maxticks=5))
        axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S" if self.options.minutes < 20 else "%H:%M"))
        axes.grid(color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        # The names below, as many as fit, with their last values.
        places = axes.get_position()
        height = axes.figure.get_figheight()
        for n, (name, points) in enumerate(series[:6]):
            x = places.x0 + (n % 3) * places.width / 3
            y = places.y0 - (0.3 + 0.15 * (n // 3)) / height
            axes.figure.text(x, y, "■", fontsize=6, color=LINES[n % len(LINES)], va="center")
            shown = f"{name}  {number(points[-1][1], unit)}"
            axes.figure.text(x + 0.006, y, textwrap.shorten(shown, 30, placeholder="…"), fontsize=6, color=INK, va="center")
        if len(series) > 6:
            axes.figure.text(places.x1, places.y0 - 0.45 / height, f"and {len(series) - 6} more", fontsize=6, color=PALE, va="center", ha="right")

    def bargauge(self, axes, panel):
        defaults = panel["fieldConfig"]["defaults"]
        bars = [(legend(panel["targets"][0], labels), value) for labels, value in self.instant(panel["targets"][0])][:12]
        bars.reverse()
        axes.barh([name for name, _ in bars], [v for _, v in bars], color=[colour(defaults, v) for _, v in bars], height=0.6)
        top = defaults.get("max") or max((v for _, v in bars), default=1) or 1
        axes.set_xlim(0, top * 1.15)
        for n, (_, value) in enumerate(bars):
            axes.text(min(value, top) + top * 0.01, n, number(value, defaults["unit"]), va="center", fontsize=7, color=INK)
        axes.set_xticks([])

    def table(self, axes, panel):
        names = panel["transformations"][1]["options"]["renameByName"]
        units = {one["matcher"]["options"]: one["properties"][0]["value"] for one in panel["fieldConfig"]["overrides"]}
        rows, keys = {}, []
        for target in panel["targets"]:
            column = names[f"Value #{target['refId']}"]
            for labels, value in self.instant(target):
                keys = sorted(labels)
                rows.setdefault(tuple(labels[key] for key in keys), {})[column] = number(value, units.get(column, "short"))
        heads = keys + list(names.values())
        cells = [list(key) + [row.get(name, "–") for name in names.values()] for key, row in sorted(rows.items())][:14]
        axes.axis("off")
        if cells:
            drawn = axes.table(cells, colLabels=heads, loc="upper center", cellLoc="left", edges="horizontal")
            drawn.auto_set_font_size(False)
            drawn.set_fontsize(7)
            drawn.scale(1, 1.1)
            for (row, _), cell in drawn.get_celld().items():
                cell.set_edgecolor(GRID)
                cell.get_text().set_color(PALE if row == 0 else INK)

    def dashboard(self, dashboard, out):
        panels = dashboard["panels"]
        rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
        width, height = COLUMNS * CELL_WIDTH, rows * CELL_HEIGHT + 0.7
        figure = plt.figure(figsize=(width, height), facecolor=BACK)
        figure.text(0.008, 1 - 0.3 / height, dashboard["title"], fontsize=14, fontweight="bold", color=INK, va="center")
        figure.text(0.992, 1 - 0.3 / height, time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.end)), fontsize=8, color=PALE, va="center", ha="right")
        for panel in panels:
            place = panel["gridPos"]
            left, right = place["x"] / COLUMNS, (place["x"] + place["w"]) / COLUMNS
            top = 1 - (place["y"] * CELL_HEIGHT + 0.65) / height
            bottom = top - place["h"] * CELL_HEIGHT / height
            if panel["type"] == "row":
                figure.text(0.008, (top + bottom) / 2, panel["title"], fontsize=10, fontweight="bold", color=INK, va="center")
                figure.add_artist(plt.Line2D([0.008, 0.992], [bottom + 0.03 / height] * 2, color=GRID, lw=1))
                continue
            figure.text(left + 0.008, top - 0.16 / height, panel["title"], fontsize=8, color=INK, va="center")
            wide = {"timeseries": (0.05, 0.62), "bargauge": (0.065, 0.12)}.get(panel["type"], (0.008, 0.1))
            box = [left + wide[0], bottom + wide[1] / height, right - left - wide[0] - 0.012, top - bottom - (0.32 + wide[1]) / height]
            axes = figure.add_axes(box, facecolor=BACK)
            axes.tick_params(labelsize=6.5, colors=PALE, length=0)
            for side in axes.spines.values():
                side.set_visible(False)
            getattr(self, panel["type"])(axes, panel)
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=84, format="png")
        # Few colours are drawn with, and a small file is soon read.
        Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(out, optimize=True)
        return out


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("dashboard", help="fleet, tenants, tenant, security, or a file")
    options.add_argument("--prometheus", default="http://127.0.0.1:9090")
    options.add_argument("--minutes", type=float, default=60, help="how far back")
    options.add_argument("--end", type=float, help="seconds since 1970; now, if it is left out")
    options.add_argument("--interval", type=float, default=15, help="seconds between two samples")
    options.add_argument("--tenant", default="", help="for the dashboard of one tenant")
    options.add_argument("--out", required=True, help="a PNG file")
    options = options.parse_args()
    path = pathlib.Path(options.dashboard)
    if not path.suffix:
        path = pathlib.Path(__file__).parent / f"{path}.json"
    with open(path, encoding="utf-8") as file:
        print(Drawing(options).dashboard(json.load(file), options.out), file=sys.stderr)


if __name__ == "__main__":
    main()
