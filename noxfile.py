"""Sessions that check the project, each in its own environment: ``nox -s tests``, ``nox -s lint typing``, ...

``nox --list`` lists the sessions. Arguments after ``--`` go to the session's command: ``nox -s tests -- -k rotation``.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["lint", "typing", "tests", "docs", "conformance", "examples", "package"]

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
IN_WHEEL = (
    "pretextkit/py.typed",
    "pretextkit/data/fashion_mnist_sample/train.png",
    "pretextkit/data/fashion_mnist_sample/test.png",
    "pretextkit/data/fashion_mnist_sample/LICENSE",
    ".dist-info/licenses/LICENSE",
)
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # the tests use small tensors: more threads only wait for one another
# Two workers, for two cores. Tests in the group "serial" start processes of their own and share one worker.
TWO_WORKERS = ("-n", "2", "--dist", "loadgroup")
OTHER_SESSIONS = ("--ignore=tests/conformance", "--ignore=tests/scripts")


def built_wheel() -> str:
    """Return the path of the wheel in dist/."""
    (wheel,) = DIST.glob("*.whl")
    return str(wheel)


def install(session: nox.Session, *groups: str) -> None:
    """Install pretextkit with dependency groups; editable, because doctests and tests must import the same modules."""
    session.install("-e", ".", *(argument for group in groups for argument in ("--group", group)))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests and the examples in docstrings, but those of the sessions conformance and examples."""
    install(session, "test", "backbones")
    session.run("pytest", *TWO_WORKERS, *OTHER_SESSIONS, "--durations=15", *session.posargs, env=ONE_THREAD)


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure which lines the tests run, and list those that they do not."""
    install(session, "test", "backbones")
    session.install("coverage[toml]>=7.4", "pytest-cov>=5")
    report = ("--cov=pretextkit", "--cov-report=term-missing:skip-covered", "--cov-report=html:out/coverage")
    session.run("pytest", *TWO_WORKERS, *report, *OTHER_SESSIONS, *session.posargs, env=ONE_THREAD)


@nox.session(venv_backend="uv")
def minimums(session: nox.Session) -> None:
    """Run the tests with the oldest releases that pyproject.toml allows."""
    session.install("--resolution", "lowest-direct", "-e", ".", "--group", "test")
    session.run("uv", "pip", "list", external=True)
    # The test that compiles is marked slow: code compiled by torch 2.4 turns off subnormal floats in its process.
    session.run("pytest", *TWO_WORKERS, "--ignore=tests/scripts", "-m", "not slow", *session.posargs, env=ONE_THREAD)


@nox.session
def nightly(session: nox.Session) -> None:
    """Run the property-based tests with 2,000 examples each instead of 100."""
    install(session, "test")
    session.run("pytest", "tests/fuzz", *session.posargs, env={**ONE_THREAD, "HYPOTHESIS_PROFILE": "nightly"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting; ``ruff check --fix`` and ``ruff format`` fix most findings."""
    session.install("--group", "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types strictly, and check that the type checkers reject wrong programs."""
    install(session, "typing")
    session.run("mypy")
    session.run("pytest", "typing_tests/test_typing.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build; warnings and broken references are errors."""
    install(session, "docs")
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-b", "html", "docs", "docs/_build/html", *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """Run the conformance kit on every registered class and on an installed third-party plug-in."""
    install(session, "test", "backbones")
    session.run("pytest", *TWO_WORKERS, "tests/conformance", *session.posargs, env=ONE_THREAD)
    session.install("--no-deps", "./examples/plugin_package")  # its only dependency is installed already
    session.run("pytest", "examples/plugin_package/tests", *session.posargs, env=ONE_THREAD)


@nox.session
def examples(session: nox.Session) -> None:
    """Run every example and every experiment in its short form."""
    install(session, "test", "backbones", "frameworks")
    session.run("pytest", *TWO_WORKERS, "--durations=10", "tests/scripts", *session.posargs, env=ONE_THREAD)


@nox.session
def bench(session: nox.Session) -> None:
    """Compare the speed with other libraries, on a quiet machine; writes out/speed.json or the file given by --out."""
    install(session, "bench")
    session.run("python", "benchmarks/speed.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel and the sdist into dist/ twice, compare their bytes, and check their contents."""
    session.install("build", "twine")
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as again:
        for folder in (DIST, again):
            session.run("python", "-m", "build", "--outdir", folder, silent=True)
        different = [path.name for path in DIST.iterdir() if path.read_bytes() != Path(again, path.name).read_bytes()]
    if different:
        session.error(f"A second build gives other bytes for {', '.join(different)}.")
    session.run("twine", "check", "--strict", *DIST.iterdir())
    names = zipfile.ZipFile(built_wheel()).namelist()
    missing = [wanted for wanted in IN_WHEEL if not any(name.endswith(wanted) for name in names)]
    if missing:
        session.error(f"The wheel is missing {', '.join(missing)}.")


@nox.session(requires=["build"])
def package(session: nox.Session) -> None:
    """Install the wheel with figures and run the quickstart outside the source tree."""
    session.install(f"{built_wheel()}[plot]")
    shutil.rmtree(session.create_tmp())  # of an earlier run
    away = session.create_tmp()
    for script in ("quickstart.py", "untidy_folder.py"):
        shutil.copy(ROOT / "examples" / script, away)
    session.chdir(away)
    session.run("python", "quickstart.py", *session.posargs)
    session.run("pretextkit", "list", "--json")
    folder = "untidy_folder.make_untidy_folder(pathlib.Path('.'), classes=3, photos=40, labels=20, new=8)"
    session.run("python", "-c", f"import pathlib, untidy_folder; {folder}")
    photos = ("photos", "--on-error=skip")
    session.run("pretextkit", "pretrain", *photos, "--backbone=small-cnn", "--size=32", "--epochs=1", "--out=run")
    session.run(
        *("pretextkit", "finetune", *photos, "--backbone=run", "--labels=labels.csv", "--steps=2", "--out=birds.pt")
    )
    session.run("pretextkit", "predict", "birds.pt", "new-photos", "--csv=predictions.csv")
    session.run("pretextkit", "select", *photos, "--backbone=run", "--n=5", "--csv=to_label.csv")
    session.run("pretextkit", "report", "run", "--out=run.html")
