"""A bar chart in plain SVG."""
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
