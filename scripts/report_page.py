"""Looks at report pages in a real browser, on screens of 1280 and 390 pixels, light and dark.

    python3 scripts/report_page.py                           make the pages of the sample data and check them
    python3 scripts/report_page.py page.html …               check these pages
    python3 scripts/report_page.py --self-test               check that faults are found
    python3 scripts/report_page.py --picture docs/report.png draw the picture of the README
    python3 scripts/report_page.py --pictures DIR page.html  draw these pages on every screen

A page must: say nothing on the console, ask for nothing from elsewhere, be no wider than the screen, answer its three
questions in the first screen, draw every value of its JSON where the axes say, cut no text off in its charts, and have
enough contrast to be read.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from browser import Browser

ROOT = Path(__file__).resolve().parent.parent
SCREENS = [(1280, 800, False), (1280, 800, True), (390, 844, False), (390, 844, True)]

# Every value of the JSON beside what is drawn; a list of faults and the number of values.
VALUES = r"""(() => {
  const data = JSON.parse(document.getElementById('report-data').textContent);
  const faults = []; let values = 0;
  const place = (axis, value) => {
    const [from, to] = axis.domain, [start, end] = axis.range;
    const part = axis.scale === 'log' ? Math.log(value / from) / Math.log(to / from) : (value - from) / (to - from);
    return start + part * (end - start);
  };
  const drawn = document.querySelectorAll('svg[data-chart]');
  if (drawn.length !== data.charts.length) faults.push(`${drawn.length} charts are drawn of ${data.charts.length}`);
  for (const chart of data.charts) {
    const svg = document.querySelector(`svg[data-chart="${chart.id}"]`);
    if (!svg) { faults.push(`${chart.id} is not drawn`); continue; }
    const sizes = chart.series.flatMap(series => series.points).map(point => point.size).filter(size => size);
    const most = Math.max(...sizes);
    const same = (name, attribute, expected) => {
      values += 1;
      if (!(Math.abs(Number(attribute) - expected) < 0.02)) faults.push(`${name}: drawn ${attribute}, expected ${expected}`);
    };
    const groups = svg.querySelectorAll('g[data-series]');
    if (groups.length !== chart.series.length) faults.push(`${chart.id}: ${groups.length} series of ${chart.series.length}`);
    chart.series.forEach((series, number) => {
      const group = svg.querySelector(`g[data-series="${number}"]`);
      const name = `${chart.id}, series ${number}`;
      const at = (node, point, x, y) => {
        same(name, node.getAttribute(x), place(chart.x, point.x));
        same(name, node.getAttribute(y), place(chart.y, point.y));
      };
      const marks = [...group.querySelectorAll(':scope > *')];
      const lines = ['line', 'guide'].includes(series.marks);
      if (!lines && marks.length !== series.points.length) faults.push(`${name}: ${marks.length} marks of ${series.points.length}`);
      if (lines) {
        const line = group.querySelector(':scope > polyline[points]');
        if (!line) { faults.push(`${name}: no line is drawn`); return; }
        const places = line.getAttribute('points').split(' ').filter(Boolean).map(pair => pair.split(','));
        if (places.length !== series.points.length) faults.push(`${name}: ${places.length} places of ${series.points.length}`);
        series.points.forEach((point, i) => {
          same(name, places[i][0], place(chart.x, point.x));
          same(name, places[i][1], place(chart.y, point.y));
        });
        return;
      }
      series.points.forEach((point, i) => {
        const mark = marks[i];
        if (series.marks === 'squares') {
          const [x, y] = mark.getAttribute('d').slice(1).split('m')[0].split(',');
          same(name, x, place(chart.x, point.x)); same(name, y, place(chart.y, point.y));
        } else if (series.marks === 'moves') {
          at(mark.querySelector('line'), point, 'x1', 'y1');
          const end = {x: point.to[0], y: point.to[1]};
          at(mark.querySelector('line'), end, 'x2', 'y2');
          at(mark.querySelector('circle'), end, 'cx', 'cy');
        } else if (series.marks === 'intervals') {
          at(mark.querySelector('circle'), point, 'cx', 'cy');
          same(name, mark.querySelector('line').getAttribute('x1'), place(chart.x, point.to[0]));
          same(name, mark.querySelector('line').getAttribute('x2'), place(chart.x, point.to[1]));
        } else {
          at(mark, point, 'cx', 'cy');
          if (point.size) same(name, mark.getAttribute('r'), Math.max(2.4, 15 * Math.sqrt(point.size / most)));
        }
      });
    });
  }
  return {faults, values};
})()"""

# The figures of the tables beside the JSON.
TABLES = r"""(() => {
  const data = JSON.parse(document.getElementById('report-data').textContent);
  // Also what is folded away.
  const text = document.querySelector('main').textContent;
  const missing = [];
  for (const split of data.splits) for (const row of split.metrics) for (const mean of row.means) {
    if (!text.includes(mean.toFixed(4))) missing.push(`${split.name} ${row.metric}: ${mean}`);
  }
  for (const list of data.queries) for (const query of list.queries) if (!text.includes(query.id.slice(0, 20))) missing.push(`query ${query.id}`);
  for (const file of data.files) if (!text.includes(file.sha256)) missing.push(`digest of ${file.name}`);
  return missing;
})()"""

FIRST_SCREEN = r"""[...document.querySelectorAll('h1, .answer h2, .answer .short')]
  .filter(node => { const box = node.getBoundingClientRect(); return box.bottom > innerHeight || box.height === 0; })
  .map(node => node.textContent)"""

TOO_WIDE = r"""(() => {
  const width = document.documentElement.clientWidth;
  const wide = document.documentElement.scrollWidth > width ? [`the page is ${document.documentElement.scrollWidth} wide`] : [];
  for (const node of document.querySelectorAll('body *')) {
    const box = node.getBoundingClientRect();
    if (box.right > width + 1 && !node.closest('.scroll, svg')) wide.push(`${node.tagName} ends at ${box.right}`);
  }
  return wide;
})()"""

CUT_OFF = r"""[...document.querySelectorAll('svg text')].filter(text => {
  const inner = text.getBoundingClientRect(), outer = text.ownerSVGElement.getBoundingClientRect();
  return inner.width > 0 && (inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.top < outer.top - 1
    || inner.bottom > outer.bottom + 1);
}).map(text => text.textContent)"""

# Texts whose contrast with what is behind them is below 4.5, as WCAG 2 computes it.
TOO_FAINT = r"""(() => {
  const parse = color => {
    const numbers = color.match(/[\d.]+/g).map(Number);
    const scale = color.startsWith('color(') ? 255 : 1;
    return [numbers[0] * scale, numbers[1] * scale, numbers[2] * scale, numbers[3] ?? 1];
  };
  const over = (top, below) => top.slice(0, 3).map((part, i) => part * top[3] + below[i] * (1 - top[3]));
  const behind = node => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      layers.push(color);
      if (color[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const light = color => {
    const [r, g, b] = color.map(part => { part /= 255; return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = new Set();
  for (const node of document.querySelectorAll('body *')) {
    if (node.closest('script, style, title') || !node.checkVisibility() || ![...node.childNodes].some(child => child.nodeType === 3 && child.data.trim())) continue;
    const style = getComputedStyle(node), back = behind(node);
    const front = over(parse(node.ownerSVGElement ? style.fill : style.color), back);
    const [a, b] = [light(front), light(back)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.add(`${node.tagName}.${node.getAttribute('class') ?? ''} "${node.textContent.trim().slice(0, 20)}": ${ratio.toFixed(2)}`);
  }
  return [...faint];
})()"""

UNNAMED = r"""[
  ...[...document.querySelectorAll('svg[data-chart]')].filter(svg => svg.getAttribute('role') !== 'img' || !svg.getAttribute('aria-label')).map(() => 'a chart without words'),
  ...[...document.querySelectorAll('table')].filter(table => !table.querySelector('thead th[scope=col]') || !table.querySelector('tbody th[scope=row]')).map(() => 'a table without headers'),
  ...(document.querySelectorAll('h1').length === 1 ? [] : ['not one h1']),
  ...(document.documentElement.lang && document.title ? [] : ['no language or title']),
]"""


def look(browser, file, width, height, dark):
    """The faults of a page on one screen, and how many values were compared."""
    page = browser.open(file, width, height, dark)
    compared = page.value(VALUES)
    faults = compared["faults"]
    faults += [f"in the JSON and not to be read: {what}" for what in page.value(TABLES)]
    faults += [f"not in the first screen: {what}" for what in page.value(FIRST_SCREEN)]
    faults += [f"too wide: {what}" for what in page.value(TOO_WIDE)]
    faults += [f"cut off: {what}" for what in page.value(CUT_OFF)]
    faults += [f"too faint: {what}" for what in page.value(TOO_FAINT)]
    faults += [f"without a name: {what}" for what in page.value(UNNAMED)]
    # The icon of the page, which is empty, stands in it.
    faults += [f"asks for {url}" for url in page.requests() if not url.startswith("data:")]
    faults += [f"the console says: {line}" for line in page.complaints()]
    page.close()
    return faults, compared["values"]


def check(files):
    """Checks pages on every screen; the number of those with faults."""
    failed = 0
    with Browser() as browser:
        for file in files:
            for width, height, dark in SCREENS:
                faults, values = look(browser, file, width, height, dark)
                screen = f"{file.name} at {width} × {height}, {'dark' if dark else 'light'}"
                if values < 20:
                    faults.append(f"only {values} values are drawn")
                print(f"{screen}: {f'{len(faults)} faults' if faults else f'{values} values as in the JSON'}")
                for fault in faults[:10]:
                    print(f"    {fault}")
                failed += bool(faults)
    return failed


def host_cli(*arguments):
    command = ["cargo", "run", "--quiet", "--release", "--", *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def sample_pages(folder, recipes=("auto", "single", "reference")):
    """The pages of the sample data, by every recipe and of the base alone."""
    data = ROOT / "examples/data"
    common = ("--embeddings", data, "--quiet", "--force")
    pages = []
    for recipe in recipes:
        page = folder / f"{recipe}.html"
        host_cli("train", data / "train.json", "--test", data / "test.json", "--recipe", recipe, *common,
                 "--output", folder / "adapter.qad", "--report", page)
        pages.append(page)
    page = folder / "base.html"
    host_cli("evaluate", data / "test.json", *common, "--report", page)
    return [*pages, page]


# What must be found: a name, what is replaced in a sound page, by what, and a part of the fault.
SEEDED = [
    ("a disc at another place", '<circle cx="', '<circle cx="1', "drawn"),
    ("a line that is not drawn", "<polyline points=", "<polyline data-points=", "no line is drawn"),
    ("a figure that was changed", '"means":[0.', '"means":[9.', "not to be read"),
    ("a page that is too wide", "<footer>", '<footer style="min-width: 1500px">', "too wide"),
    ("a headline below the screen", '<header>', '<header style="padding-top: 900px">', "first screen"),
    ("a request", "<footer>", '<footer><img src="https://example.invalid/x.png">', "asks for"),
    ("a script that fails", "<footer>", "<footer><script>fail()</script>", "console says"),
    ("grey on grey", "--soft: #545b66", "--soft: #b5b8bd", "too faint"),
    ("a label beyond its chart", 'class="tick" text-anchor="middle" x="', 'class="tick" text-anchor="middle" x="-9', "cut off"),
    ("a chart without words", 'role="img" aria-label', 'role="img" data-label', "without words"),
]


def self_test(page):
    """Seeds faults into a sound page; the number of those that are not found."""
    sound = page.read_text(encoding="utf-8")
    missed = 0
    with Browser() as browser:
        for name, old, new, expected in SEEDED:
            # Of elements the first is enough; a policy that forbids the fault is taken out of its way.
            broken = sound.replace(old, new, 1)
            if broken == sound:
                sys.exit(f"{name}: the page has no {old!r}")
            if "<footer><" in new:
                broken = broken.replace("default-src 'none'; ", "")
            file = page.with_name("broken.html")
            file.write_text(broken, encoding="utf-8")
            try:
                faults, _ = look(browser, file, 1280, 800, False)
            except RuntimeError as error:
                faults = [str(error)]
            found = any(expected in fault for fault in faults)
            print(f"{name}: {'found' if found else f'NOT FOUND in {faults[:3]}'}")
            missed += not found
    return missed


def pictures(files, folder):
    folder.mkdir(parents=True, exist_ok=True)
    with Browser() as browser:
        for file in files:
            for width, height, dark in SCREENS:
                page = browser.open(file, width, height, dark)
                page.picture(folder / f"{file.stem}-{width}-{'dark' if dark else 'light'}.png")
                page.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--picture", type=Path, metavar="PNG")
    parser.add_argument("--pictures", type=Path, metavar="DIR")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if options.self_test:
            page = options.pages[0] if options.pages else sample_pages(folder, ["single"])[0]
            copy = folder / "sound.html"
            copy.write_bytes(page.read_bytes())
            sys.exit(self_test(copy) > 0)
        if options.picture:
            page = options.pages[0] if options.pages else sample_pages(folder, ["auto"])[0]
            with Browser() as browser:
                browser.open(page, 1120, 860).picture(options.picture, whole=False)
            return
        pages = options.pages or sample_pages(folder)
        if options.pictures:
            pictures(pages, options.pictures)
            return
        sys.exit(check(pages) > 0)


if __name__ == "__main__":
    main()
