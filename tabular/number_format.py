"""Numbers in messages and tables that people read."""

import math


def format_number(value: float) -> str:
    """Return a number to four significant digits, or to units if it has more: 0.00012, 71,580.

    An exponent appears only below 0.0001 and from 10^15.
    """
    if not 1e-4 <= abs(value) < 1e15:  # includes 0, infinities and NaN
        return f"{value:.4g}"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text
