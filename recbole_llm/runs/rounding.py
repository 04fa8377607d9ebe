"""When a recorded metric counts as a recomputed one: a record keeps numbers to some decimals."""

from collections.abc import Mapping
from typing import Any

#: Difference that arithmetic may make.
_SLACK = 1e-6
#: Decimals that a record has unless its settings ask for fewer.
_DIGITS = 6
#: Decimals that say enough of a metric to compare it; with fewer, a number must be the exact one.
_FEWEST_DIGITS = 3


class Rounding:
    """The comparison of metrics that were rounded as a record's settings say.

    Args:
        config: settings of the run.

    Attributes:
        digits: decimals of the recorded metrics, 3 to 6.
        tolerance: largest difference that counts as none.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        digits = config.get("metric_decimal_place")
        is_known = type(digits) is int and _FEWEST_DIGITS <= digits < _DIGITS
        self.digits: int = digits if is_known else _DIGITS  # type: ignore[assignment]
        self.tolerance = _SLACK + 0.5 * 10.0**-self.digits

    def same(self, recorded: float, here: float) -> bool:
        """Return whether the recorded number is what rounding makes of the one found here.

        A number that has more decimals than its record promises was written by another hand.
        """
        if self.digits < _DIGITS and round(recorded, self.digits) != recorded:
            return False
        return abs(recorded - here) <= self.tolerance
