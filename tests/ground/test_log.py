"""A log line is one harmless line without secrets, and writing it never fails."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstrix.ground import log
from lmstrix.ground.errors import UsageError
from lmstrix.ground.log_target import DescriptorTarget, FileTarget
from lmstrix.ground.log_text import MOST_CHARS, LineLimiter, LogRates, failure_text, log_text
from lmstrix.ground.log_writer import LogWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "sk-lm-abcdEF12:abcdefghijKLMNOP1234"


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    yield
    log.close()


class TestText:
    @given(st.text())
    def test_any_text_becomes_one_line_that_drives_no_terminal(self, text: str) -> None:
        line = log_text(text)
        assert line.isprintable()
        line.encode()

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("plain C:\\models\\a.gguf", "plain C:\\models\\a.gguf"),
            ("one\n2026-01-01 00:00:00Z info  forged", "one\\n2026-01-01 00:00:00Z info  forged"),
            ("\x1b[2J\x07\r\x9b", "\\x1b[2J\\x07\\r\\x9b"),
            ("right\u202eleft\u2028", "right\\u202eleft\\u2028"),
            ("half \udcff", "half \\udcff"),
            ("Grüße 你好 🙂", "Grüße 你好 🙂"),
        ],
    )
    def test_control_characters_are_written_out(self, text: str, shown: str) -> None:
        assert log_text(text) == shown

    def test_long_texts_are_cut_and_say_so(self) -> None:
        line = log_text("x" * 10**7)
        assert len(line) < MOST_CHARS + 50
        assert "10,000,000 characters" in line
        assert log_text("x" * MOST_CHARS) == "x" * MOST_CHARS

    @pytest.mark.parametrize(
        "text",
        [
            f"connecting with {TOKEN}",
            f"Authorization: Bearer {TOKEN}",
            "Authorization: Bearer hunter2hunter2",
            "authorization=Basic hunter2hunter2",
            '{"api_key": "hunter2hunter2", "x": 1}',
            "{'Authorization': 'Bearer hunter2hunter2'}",
            "X-Api-Key: hunter2hunter2",
            "clientPasskey=hunter2hunter2",
            "http://me:hunter2hunter2@example.org/",
            "with sk-proj-hunter2hunter2 and hf_hunter2hunter2hunter2",
            "x" * (MOST_CHARS - 10) + f" {TOKEN}",
            "the word hunter2hunter2 alone, which was given as a secret",
        ],
    )
    def test_secrets_are_left_out(self, text: str) -> None:
        line = log_text(text, {"hunter2hunter2"} if "given" in text else ())
        for secret in ("hunter2hunter2", TOKEN, "KLMNOP1234", "abcdEF12:"):
            assert secret not in line

    @pytest.mark.parametrize("text", ["max_tokens: 512, prompt tokens 3", "a secret-sharing model", "skip sk-8"])
    def test_ordinary_words_stay(self, text: str) -> None:
        assert log_text(text) == text

    def test_a_failure_is_its_kind_and_its_places_and_nothing_it_quotes(self) -> None:
        def inner(prompt: str) -> int:
            return int(prompt)

        try:
            try:
                inner("my private prompt")
            except ValueError as exc:
                raise RuntimeError("about my private prompt") from exc
        except RuntimeError as exc:
            text = failure_text(exc)
        assert text.startswith("RuntimeError at test_log.py:")
        assert "caused by ValueError at test_log.py:" in text
        assert " inner < " in text
        assert "private" not in text
        assert "No space left" in failure_text(OSError(28, "No space left on device"))


class TestRates:
    def test_repeats_are_counted_instead(self) -> None:
        limiter = LineLimiter(LogRates(repeat_window_s=10))
        assert limiter.admit("a", 0) == ["a"]
        assert [limiter.admit("a", 1), limiter.admit("a", 9)] == [[], []]
        assert limiter.admit("b", 2) == ["b"]
        assert limiter.admit("a", 11) == ["a (again, 2 times)", "a"]
        assert limiter.due(30) == []
        assert limiter.rest() == []

    def test_a_series_that_ended_is_told_without_a_further_line(self) -> None:
        limiter = LineLimiter(LogRates(repeat_window_s=10))
        for now_s in range(5):
            limiter.admit("a", now_s)
        assert limiter.due(9) == []
        assert limiter.due(10) == ["a (again, 4 times)"]

    def test_floods_are_cut_and_said(self) -> None:
        limiter = LineLimiter(LogRates(burst_lines=10, lines_per_s=1))
        written = [line for number in range(1000) for line in limiter.admit(f"line {number}", 0)]
        assert written == [f"line {number}" for number in range(10)]
        assert limiter.admit("later", 5)[-2:] == ["warn  990 lines were left out: there were too many at once", "later"]

    @given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 3)), max_size=200))
    def test_no_line_is_lost_without_a_count(self, told: list[tuple[str, float]]) -> None:
        limiter, now_s, written = LineLimiter(LogRates(repeat_window_s=2, known_lines=3)), 0.0, []
        for line, after_s in told:
            now_s += after_s
            written += limiter.admit(line, now_s)
        written += limiter.rest()
        repeats = sum(int(line.split("(again, ")[1].split()[0]) for line in written if "again" in line)
        assert repeats + sum(len(line) == 1 for line in written) == len(told)


class Failing:
    """A target that fails until it is mended."""

    def __init__(self) -> None:
        self.broken = True
        self.text = ""

    def write(self, text: str) -> None:
        if self.broken:
            raise OSError(28, "No space left on device")
        self.text += text

    def close(self) -> None:
        pass


class TestWriting:
    def test_what_cannot_be_written_is_counted_and_told_later(self) -> None:
        target = Failing()
        writer = LogWriter(target)
        for number in range(3):
            writer.write("info", f"lost {number}")
        assert writer.lost == 3
        target.broken = False
        writer.write("warn", "back")
        lines = [line.partition("Z ")[2] for line in target.text.splitlines() if line]
        assert lines == ["warn  3 lines could not be written", "warn  back"]
        assert writer.lost == 0

    def test_lines_below_the_level_are_left_out(self, tmp_path: Path) -> None:
        log.to_file(tmp_path / "log", "info")
        log.debug("detail {}", 1)
        log.info("loaded {} at {}", "tiny", 4096)
        log.keep_secret(TOKEN)
        log.warn("passkey {} and {}", TOKEN.rpartition(":")[2], TOKEN)
        log.close()
        log.error("nobody listens any more")
        lines = (tmp_path / "log").read_text().splitlines()
        assert [line.partition("Z ")[2] for line in lines] == ["info  loaded tiny at 4096", "warn  passkey *** and ***"]

    def test_a_file_that_cannot_be_written_is_said_in_one_line(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "absent" / "log"):
            with pytest.raises(UsageError, match="cannot write the log file") as caught:
                log.to_file(path, "debug")
            assert str(path) in str(caught.value)

    @pytest.mark.needs_linux("a device that is always full")
    def test_a_full_disk_fails_nobody(self, tmp_path: Path) -> None:
        (tmp_path / "log").symlink_to("/dev/full")
        log.to_file(tmp_path / "log", "debug")
        log.error("this goes nowhere")

    @pytest.mark.needs_posix("pipes of POSIX")
    def test_a_reader_who_went_or_sleeps_holds_nobody_up(self) -> None:
        for closed in (True, False):
            reading, writing = os.pipe()
            if closed:
                os.close(reading)
            writer = LogWriter(DescriptorTarget(writing), threaded=True)
            # More than a pipe holds: a writer without a thread of its own would wait here for ever.
            for number in range(20_000):
                writer.write("info", f"line {number} {'x' * 100}")
            if not closed:
                os.close(reading)
            writer.close()
            os.close(writing)
            assert writer.lost

    def test_many_threads_write_whole_lines(self, tmp_path: Path) -> None:
        writer = LogWriter(FileTarget(tmp_path / "log"), threaded=True)

        def tell(thread: int) -> None:
            for number in range(50):
                writer.write("info", f"thread {thread} line {number}")

        threads = [threading.Thread(target=tell, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        writer.close()
        lines = (tmp_path / "log").read_text().splitlines()
        assert len(lines) == 400
        assert all(line.count("thread") == 1 for line in lines)


class TestFiles:
    def test_a_full_file_is_begun_anew_and_the_one_before_kept(self, tmp_path: Path) -> None:
        target = FileTarget(tmp_path / "log", max_bytes=1000)
        for number in range(100):
            target.write(f"line {number:04} {'x' * 30}\n")
            assert (tmp_path / "log").stat().st_size <= 1000
        target.close()
        kept = (tmp_path / "log.1").read_text() + (tmp_path / "log").read_text()
        assert kept.splitlines()[-1].startswith("line 0099")
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["log", "log.1"]

    @pytest.mark.needs_posix("Windows removes no open files")
    def test_a_file_that_was_taken_away_is_made_again(self, tmp_path: Path) -> None:
        target = FileTarget(tmp_path / "log")
        target.write("one\n")
        (tmp_path / "log").rename(tmp_path / "elsewhere")
        target.write("two\n")
        target.close()
        assert (tmp_path / "log").read_text() == "two\n"

    @pytest.mark.needs_posix("permission bits are POSIX")
    def test_nobody_else_reads_it(self, tmp_path: Path) -> None:
        FileTarget(tmp_path / "log").close()
        assert (tmp_path / "log").stat().st_mode & 0o077 == 0
