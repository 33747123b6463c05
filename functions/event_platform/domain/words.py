"""Words of sentences for people."""


def counted(number: int, noun: str) -> str:
    """Returns the number and the noun, whose plural ends in "s" or "ies": "1 delivery", "2 deliveries"."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("ry") else f"{number} {noun}s"
