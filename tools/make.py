"""What the Makefile does, for systems without make: the Makefile itself calls this.

    python tools/make.py                    # demo, as `make` alone does
    python tools/make.py check dist         # several, one after the other
    python tools/make.py test CONSTRAINTS=constraints.txt
    py -3.12 tools\\make.py demo             # on Windows, with one of several Pythons

Standard library only, since it runs before anything is installed. The environment is made with the Python that runs
this, or with the one that PYTHON=... names. The Python that macOS brings along is 3.9: this file has to be understood
by it, so that it can say what is missing instead of failing at the first word it does not know.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
WINDOWS = os.name == "nt"
OLDEST = (3, 11)
VENV = ROOT / ".venv"
VENV_LOWEST = ROOT / ".venv-lowest"
VENV_DOCS = ROOT / ".venv-docs"
READY = VENV / ".ready"
"""Written after each installation: older than pyproject.toml, or missing, and it is time for the next."""
CODE = ("src", "tests", "bench", "tools", "examples")
PYTEST = ("-m", "pytest", "-q", "-n", "4", "--dist", "loadfile")
"""On two cores two more processes work while the others wait: for models, deadlines and signals."""
CHECKS = (
    ("ruff", "format", "--check", *CODE),
    ("ruff", "check", *CODE),
    ("mypy",),
    # The product on the other two systems. Each has a cache of its own: they would throw each other's away.
    ("mypy", "--platform", "win32", "--cache-dir", ".mypy_cache/win32", "src"),
    ("mypy", "--platform", "darwin", "--cache-dir", ".mypy_cache/darwin", "src"),
)
LEFTOVERS = (
    ".venv",
    ".venv-lowest",
    ".venv-docs",
    "build",
    "dist",
    "site",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
)
WINDOWS_ON_ARM = (
    "This is a Python for Windows on ARM, for which minijinja, which LMStrix needs, and xllamacpp, which its engine "
    "needs, are not published: pip has to build them.\nInstall the 64-bit Python for x64 processors, which Windows on "
    "ARM runs too (https://www.python.org/downloads/windows/), delete .venv, and start this with that Python."
)


class Failed(Exception):
    """What went wrong, in words for whoever started this; `status` is the exit status."""

    def __init__(self, words: str = "", status: int = 1) -> None:
        super().__init__(words)
        self.status = status


class Settings:
    """What was asked for beside the targets, as `NAME=value`: the Python to begin with, a file of exact versions."""

    def __init__(self, assigned: dict[str, str]) -> None:
        self.python = assigned.get("PYTHON") or sys.executable
        self.constraints = assigned.get("CONSTRAINTS") or os.environ.get("CONSTRAINTS", "")


def program(venv: Path, name: str) -> str:
    """A program of an environment."""
    return str(venv / "Scripts" / (name + ".exe") if WINDOWS else venv / "bin" / name)


def run(*command: str, shown: bool = False) -> None:
    """Run a command to its end; one that fails ends this too, with its exit status."""
    if shown:
        print(" ".join([Path(command[0]).stem, *command[1:]]), flush=True)
    try:
        process = subprocess.Popen(command, cwd=str(ROOT))
    except OSError as exc:
        raise Failed(f"{command[0]} cannot be started: {exc}") from exc
    while True:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            continue  # it got the same Ctrl-C, and may have to tidy up
        break
    if status:
        raise Failed(status=128 - status if status < 0 else status)


def answer_of(python: str, question: str) -> str:
    """What an interpreter prints for a few statements."""
    try:
        return subprocess.check_output([python, "-c", question], text=True).strip()
    except (OSError, subprocess.SubprocessError) as exc:
        raise Failed(f"{python} is no Python that can be used: {exc}") from exc


def version_of(python: str) -> tuple[int, ...]:
    return tuple(int(number) for number in answer_of(python, "import sys; print(*sys.version_info[:3])").split())


def require_new_python(python: str) -> None:
    """Say what to do where the Python to begin with is too old."""
    version = version_of(python)
    if version >= OLDEST:
        return
    newer = next((name for minor in (14, 13, 12, 11) for name in [f"python3.{minor}"] if shutil.which(name)), None)
    remedy = "Install one (https://www.python.org/downloads/), then for example: make PYTHON=python3.12"
    if newer:
        remedy = f"{newer} is installed: {newer} tools/make.py, or make PYTHON={newer}"
    raise Failed(
        f"LMStrix needs Python 3.11 or newer; {python} is {'.'.join(str(number) for number in version)}. {remedy}"
    )


def make_environment(settings: Settings, venv: Path) -> None:
    """An environment with nothing but pip, unless one that is new enough is there."""
    python = program(venv, "python")
    if Path(python).exists() and version_of(python) >= OLDEST:
        return
    require_new_python(settings.python)
    try:
        run(settings.python, "-m", "venv", "--clear", str(venv))
    except Failed:
        # Debian's Python without its package python3-venv leaves one that has no pip, and would be taken for whole.
        shutil.rmtree(str(venv), ignore_errors=True)
        raise


def install(settings: Settings) -> None:
    """Set up .venv with LMStrix and all it is developed with, unless that was done since pyproject.toml changed."""
    if READY.exists() and READY.stat().st_mtime >= (ROOT / "pyproject.toml").stat().st_mtime:
        return
    make_environment(settings, VENV)
    print(f"Installing LMStrix into {VENV.name} (now, and whenever pyproject.toml changes) ...", flush=True)
    pip = [program(VENV, "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constraints = ["--constraint", settings.constraints] if settings.constraints else []
    try:
        run(*pip, *constraints, "-e", ".[engine,dev]")
    except Failed as exc:
        if answer_of(program(VENV, "python"), "import sysconfig; print(sysconfig.get_platform())") == "win-arm64":
            raise Failed(WINDOWS_ON_ARM, exc.status) from exc
        raise
    READY.touch()


def demo(settings: Settings) -> None:
    """The whole story on a bundled model."""
    install(settings)
    run(program(VENV, "lmstrix"), "demo")


def test(settings: Settings) -> None:
    """The tests, but for the slow ones."""
    install(settings)
    run(program(VENV, "python"), *PYTEST, "-m", "not slow")


def check(settings: Settings) -> None:
    """What CI runs: format, lint, types for each system, all tests."""
    install(settings)
    for name, *words in CHECKS:
        run(program(VENV, name), *words, shown=True)
    run(program(VENV, "python"), *PYTEST, shown=True)


def check_lowest(settings: Settings) -> None:
    """The tests with the oldest packages that pyproject.toml allows, in an environment of their own."""
    make_environment(settings, VENV_LOWEST)
    python = program(VENV_LOWEST, "python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv")
    uv = [program(VENV_LOWEST, "uv"), "pip", "install", "--python", python]
    run(*uv, "--quiet", "--resolution", "lowest-direct", "-e", ".[engine,dev]")
    run(python, *PYTEST, "-p", "no:cacheprovider", shown=True)


def layout(settings: Settings) -> None:
    """Let ruff format and mend what it can."""
    install(settings)
    run(program(VENV, "ruff"), "format", *CODE, shown=True)
    run(program(VENV, "ruff"), "check", "--fix", *CODE, shown=True)


def docs(settings: Settings) -> None:
    """The user's site, into site/, with warnings as errors."""
    make_environment(settings, VENV_DOCS)
    pip = [program(VENV_DOCS, "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "-e", ".[docs]")
    os.environ["NO_MKDOCS_2_WARNING"] = "1"  # a notice of the theme's makers, which is no warning about these pages
    run(program(VENV_DOCS, "mkdocs"), "build", "--strict", shown=True)


def bench(settings: Settings) -> None:
    """The benchmarks behind the documented figures."""
    install(settings)
    run(program(VENV, "python"), "bench/run.py", shown=True)


def dist(settings: Settings) -> None:
    """The sdist and the wheel, into dist/."""
    install(settings)
    shutil.rmtree(str(ROOT / "dist"), ignore_errors=True)
    run(program(VENV, "python"), "-m", "hatchling", "build", shown=True)


def clean(_settings: Settings) -> None:
    """Remove all that these targets made."""
    for name in LEFTOVERS:
        try:
            shutil.rmtree(str(ROOT / name))
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise Failed(f"{name} cannot be removed, as long as something runs in it: {exc}") from exc


TARGETS: dict[str, Callable[[Settings], None]] = {
    "demo": demo,
    "install": install,
    "test": test,
    "check": check,
    "check-lowest": check_lowest,
    "format": layout,
    "docs": docs,
    "bench": bench,
    "dist": dist,
    "clean": clean,
}


def usage() -> str:
    lines = [f"  {name:<14}{target.__doc__}" for name, target in TARGETS.items()]
    options = "PYTHON=python3.12 (to begin with), CONSTRAINTS=constraints.txt (exact versions)"
    return "\n".join(["python tools/make.py [TARGET ...] [NAME=value ...]", *lines, f"NAME=value: {options}"])


def main(words: list[str]) -> int:
    """Make each target that is named; the exit status."""
    if {"-h", "--help"} & set(words):
        print(usage())
        return 0
    assigned = dict(word.split("=", 1) for word in words if "=" in word)
    targets = [word for word in words if "=" not in word] or ["demo"]
    unknown = [name for name in targets if name not in TARGETS] + sorted(set(assigned) - {"PYTHON", "CONSTRAINTS"})
    if unknown:
        print(f"not known here: {', '.join(unknown)}\n{usage()}", file=sys.stderr)
        return 2
    settings = Settings(assigned)
    # Hundreds of processes of the tests would compile every module anew: half as long again for the whole suite.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        for name in targets:
            TARGETS[name](settings)
    except Failed as exc:
        if str(exc):
            print(exc, file=sys.stderr)
        return exc.status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
