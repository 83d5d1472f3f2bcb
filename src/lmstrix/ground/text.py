"""Small rules about text that several layers keep."""


def one_line(failure: object) -> str:
    """What a failure says, as one line of a terminal, a table or a journal."""
    return " ".join(str(failure).split())


def storable(text: str) -> str:
    """Text as files and SQLite take it: half surrogate pairs, which no UTF-8 can hold, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
