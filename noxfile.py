"""Everything that is run on this repository: `nox -l` lists it, `nox` passes or fails it.

A package joins by existing: a folder whose pyproject.toml has `[tool.ssvideo] session`.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).parent


def find_packages() -> dict[str, str]:
    """Session name to folder, core first: `{"core": "core", "gdt": "gdt_stica", ...}`."""
    found = {}
    for file in sorted(ROOT.glob("*/pyproject.toml")):
        settings = tomllib.loads(file.read_text()).get("tool", {}).get("ssvideo", {})
        if "session" in settings:
            found[settings["session"]] = file.parent.name
    return dict(sorted(found.items(), key=lambda item: item[0] != "core"))


PACKAGES = find_packages()
IMPORTS, SIXTH_METHOD = {"core": "ssvideo_core"}, "examples/sixth_method"
UNTRAINED, TRAINED = ("sixth_method@none",), ("brave", "gdt_stica")
DEMO = [
    *("--dataset", "embedded", "--protocols", "common@2x1", "--splits", "1", "--papers", "all"),
    *("--data", "demo/data/videos/videos.csv", "--split-files", "demo/data/splits"),
    *("--out", "demo/run"),
]

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", *(f"test-{name}" for name in PACKAGES), "test-all"]


def install(session: nox.Session, *folders: str, extra: str = "") -> None:
    """Install packages as a user would: built, not editable."""
    session.install(*(f"./{folder}[{extra}]" if extra else f"./{folder}" for folder in folders))


def pytest(session: nox.Session, *paths: str) -> None:
    words = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", *paths, *session.posargs]
    session.run("pytest", *words, env={"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Format and lint; `nox -s lint -- --fix` mends what can be mended."""
    session.install("ruff")
    session.run("ruff", "format", *([] if session.posargs else ["--check"]), ".")
    session.run("ruff", "check", *session.posargs, ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types of every package's src."""
    install(session, *PACKAGES.values(), extra="test")
    session.install("mypy")
    sources = [f"{folder}/src" for folder in PACKAGES.values()]
    session.run("mypy", *sources, env={"MYPYPATH": os.pathsep.join(sources)})


def add_test_session(name: str, folder: str) -> None:
    """`test-NAME`: the package alone in a fresh environment, then its tests."""

    @nox.session(name=f"test-{name}")
    def test(session: nox.Session) -> None:
        install(session, folder, extra="test")
        session.run("python", "-P", "-c", f"import {IMPORTS.get(folder, folder)}")
        pytest(session, f"{folder}/tests")


def add_learn_session(name: str, folder: str) -> None:
    """`learn-NAME`: the evidence that the method learns, up to an hour."""

    @nox.session(name=f"learn-{name}")
    def learn(session: nox.Session) -> None:
        install(session, folder, extra="test")
        words = [f"{folder}/learn/learn.py", "--out", f"learn/{folder}", *session.posargs]
        session.run("python", *words)


for _name, _folder in PACKAGES.items():
    add_test_session(_name, _folder)
    if (ROOT / _folder / "learn").is_dir():
        add_learn_session(_name, _folder)


@nox.session(name="test-all")
def test_all(session: nox.Session) -> None:
    """All packages in one environment: the tests across packages, and core's again."""
    install(session, *PACKAGES.values(), extra="test")
    install(session, SIXTH_METHOD)
    imports = ", ".join(IMPORTS.get(folder, folder) for folder in PACKAGES.values())
    session.run("python", "-P", "-c", f"import {imports}")
    pytest(session, "tests", f"{SIXTH_METHOD}/tests", "core/tests")


@nox.session
def demo(session: nox.Session) -> None:
    """The main job on the embedded videos: training, a table on the terminal, a page in demo/."""
    install(session, *PACKAGES.values(), SIXTH_METHOD)
    session.run("python", "-m", "ssvideo_core.testing.synthetic", "--out", "demo/data")
    items = list(UNTRAINED)
    for method in TRAINED:
        run, words = f"demo/{method}", ["recipes", "run", "demo", "--out", f"demo/{method}"]
        session.run("python", "-P", "-m", method, *words, "--data", "demo/data/videos/train1.csv")
        items += [f"{method}@untrained={run}/encoder-untrained.safetensors"]
        items += [f"{method}@trained={run}/encoder.safetensors"]
    session.run("python", "-m", "shared_eval", "run", "--methods", ",".join(items), *DEMO)


@nox.session
def stress(session: nox.Session) -> None:
    """Random kills of every training command, many times."""
    install(session, *PACKAGES.values(), extra="test")
    pytest(session, *(f"{folder}/tests" for folder in PACKAGES.values()), "-m", "stress")


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks: `nox -s bench -- core`."""
    install(session, *PACKAGES.values(), extra="test")
    for folder in session.posargs or PACKAGES.values():
        scripts = sorted(ROOT.glob(f"{folder}/benchmarks/*.py"))
        for script in filter(lambda s: "__main__" in s.read_text(), scripts):
            session.run("python", str(script))


@nox.session(name="docs-commands")
def docs_commands(session: nox.Session) -> None:
    """Run the READMEs' blocks tagged `bash run`; read the flags of those tagged `bash needs=`."""
    install(session, *PACKAGES.values(), SIXTH_METHOD)
    session.install("nox[uv]", "pip")
    session.run("python", "tests/readme_commands.py")


@nox.session
def build(session: nox.Session) -> None:
    """Wheels of all packages in dist/."""
    session.install("build[uv]")
    for folder in PACKAGES.values():
        session.run("python", "-m", "build", "--wheel", "--installer", "uv", "-o", "dist", folder)
