"""Small rules about text that several layers keep."""

_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_MARK = "\ufeff"


def one_line(failure: object) -> str:
    """What a failure says, as one line of a terminal, a table or a journal."""
    return " ".join(str(failure).split())


def encoding_of(start: bytes) -> str:
    """How a text that begins so is encoded: UTF-8, but for the mark of UTF-16, as PowerShell's `>` writes files."""
    return "utf-16" if start.startswith(_UTF_16_MARKS) else "utf-8"


def decoded(data: bytes) -> str:
    """Bytes of a file or a pipe as text, without the byte order mark that Windows' programs put before it.

    Raises UnicodeDecodeError.
    """
    return data.decode(encoding_of(data)).removeprefix(_MARK)


def storable(text: str) -> str:
    """Text as files and SQLite take it: half surrogate pairs, which no UTF-8 can hold, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def is_web_address(text: str) -> bool:
    """Whether a text that may be the path of a file is an http or https address."""
    return text[:8].lower().startswith(("http://", "https://"))
