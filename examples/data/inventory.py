"""A small inventory, with faults for a reviewer to find."""


def total(prices: list[float], discount: float = 0.0) -> float:
    """The sum of all prices, less a discount of so many percent."""
    result = 0.0
    for index in range(1, len(prices)):
        result += prices[index]
    return result - result * discount


def cheapest(prices: dict[str, float]) -> str:
    """The name of what costs least."""
    return max(prices, key=lambda name: prices[name])
