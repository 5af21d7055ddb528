"""Charts in plain SVG."""
import statistics
from html import escape

WIDTH, LEFT, RIGHT, BAR, GAP = 880, 380, 70, 18, 16
COLOURS = ("#1f6f8b", "#b9c4c9")


def bars(unit: str, caption: str, names: tuple[str, str], rows: list[tuple[str, list[float], list[float]]]) -> str:
    """Two bars a row: medians, with a whisker from the least to the most.

    rows: (label, values of the first, values of the second).
    """
    longest = max((v for _, a, b in rows for v in a + b), default=1) or 1
    scale = (WIDTH - LEFT - RIGHT) / longest
    height = 64 + len(rows) * (2 * BAR + GAP) + 30
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#22313a">',
             f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>']
    for i, name in enumerate(names):
        x = LEFT + i * 120
        parts.append(f'<rect x="{x}" y="14" width="12" height="12" fill="{COLOURS[i]}"/><text x="{x + 18}" y="25">{escape(name)}</text>')
    parts.append(f'<text x="{LEFT}" y="48" fill="#5b6b74">{escape(unit)}</text>')
    for i, (label, *series) in enumerate(rows):
        top = 64 + i * (2 * BAR + GAP)
        parts.append(f'<text x="{LEFT - 10}" y="{top + BAR + 4}" text-anchor="end">{escape(label)}</text>')
        for k, values in enumerate(series):
            y, middle = top + k * BAR, statistics.median(values)
            low, high, end = (LEFT + v * scale for v in (min(values), max(values), middle))
            parts.append(f'<rect x="{LEFT}" y="{y + 1}" width="{end - LEFT:.1f}" height="{BAR - 2}" fill="{COLOURS[k]}"/>')
            parts.append(f'<path d="M{low:.1f} {y + BAR / 2}H{high:.1f}" stroke="#22313a" stroke-width="1"/>')
            parts.append(f'<text x="{max(end, high) + 6:.1f}" y="{y + BAR - 5}">{middle:,.1f}</text>')
    parts.append(f'<text x="{WIDTH - 10}" y="{height - 10}" text-anchor="end" font-size="11" fill="#5b6b74">{escape(caption)}</text></svg>')
    return "\n".join(parts) + "\n"


def lines(caption: str, panels: list[tuple[str, list[tuple[float, float]]]], x_unit: str) -> str:
    """Panels above each other with one x axis, each from zero up.

    panels: (what and its unit, points).
    """
    width, left, right, panel, gap = 880, 70, 20, 150, 46
    height = 20 + len(panels) * (panel + gap) + 10
    last = max((x for _, points in panels for x, _ in points), default=1) or 1
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#22313a">',
             f'<rect width="{width}" height="{height}" fill="#ffffff"/>']
    for i, (title, points) in enumerate(panels):
        top = 30 + i * (panel + gap)
        most = max((y for _, y in points), default=1) or 1
        place = [(left + x / last * (width - left - right), top + panel - y / (most * 1.1) * panel) for x, y in points]
        parts.append(f'<text x="{left}" y="{top - 8}">{escape(title)}</text>')
        parts.append(f'<path d="M{left} {top}V{top + panel}H{width - right}" fill="none" stroke="#b9c4c9"/>')
        for value in (0, most):
            y = top + panel - value / (most * 1.1) * panel
            parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#5b6b74">{value:,.0f}</text>')
        parts.append(f'<path d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in place)}" fill="none" stroke="{COLOURS[0]}" stroke-width="1.5"/>')
        parts.append(f'<text x="{width - right}" y="{top + panel + 16}" text-anchor="end" fill="#5b6b74">{last:,.0f} {escape(x_unit)}</text>')
    parts.append(f'<text x="{width - 10}" y="{height - 6}" text-anchor="end" font-size="11" fill="#5b6b74">{escape(caption)}</text></svg>')
    return "\n".join(parts) + "\n"
