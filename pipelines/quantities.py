"""Numbers as people read them."""

from __future__ import annotations


def quantity(value: float, unit: str) -> str:
    """A number with its unit: bytes as kB, MB or GB (decimal), shares as percent, the rest to four digits."""
    if unit == "bytes":
        return size(value)
    if unit == "share":
        return f"{value * 100:.1f}%"
    if unit == "x":
        return f"{value:.2f}x"
    return f"{value:.4g} {unit}" if unit else f"{value:{'.4g' if value == round(value, 0) else '#.4g'}}"


def difference(value: float, unit: str) -> str:
    """A change with its sign; the unit may be `%`, and a share changes by points (hundredths)."""
    if unit in {"%", "share"}:
        hundredths = f"{round(value * 100, 2) + 0.0:+.2f}".rstrip("0").rstrip(".")  # + 0.0: no "-0"
        return f"{hundredths}%" if unit == "%" else f"{hundredths} points"
    if unit == "bytes":
        return ("-" if value < 0 else "+") + size(abs(value))
    return f"{value:+.4g} {unit}".rstrip()


def size(count: float) -> str:
    """Bytes in decimal units, three digits at most: 105 MB."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= 0.9995 * factor:
            scaled = count / factor
            return f"{scaled:.0f} {unit}" if scaled >= 100 else f"{scaled:.3g} {unit}"
    return f"{count:.0f} bytes"


def duration(seconds: float) -> str:
    """Seconds as 0.4 s, 12 s, 3 min 20 s or 1 h 5 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
