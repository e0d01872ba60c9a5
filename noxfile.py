"""Every check of the project, each in an environment of its own: ``nox -s tests``, ``nox -s lint typing``, ...

``nox --list`` shows them; what follows ``--`` goes to the command: ``nox -s tests -- -k rotation``.
"""

from __future__ import annotations

import shutil
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
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # the tests' tensors are small: more threads only wait for one another
SHORT_FORMS = {  # of every example, but the quickstart, which the package session runs whole, from the wheel
    "faces_anomaly.py": ("--data=sample", "--images=200", "--epochs=1", "--seeds=0"),
    "camvid_segmentation.py": (
        *("--data=synthetic", "--tasks=rotation", "--views=4", "--crops=1", "--crop-size=48"),
        *("--steps=20", "--supervised-steps=10"),
    ),
    "context_prediction.py": ("--data=sample", "--images=100", "--pairs=2", "--steps=2", "--measured=100"),
    "cifar10_comparison.py": (
        *("--data=sample", "--tasks", "rotation", "simclr", "--views=4"),
        *("--images=128", "--seeds=0", "--finetune-steps=2"),
    ),
    "reconstruction_mitigations.py": (
        *("--data=sample", "--rows", "autoencoder", "differences, of one contrast", "half the patches hidden"),
        *("--images=128", "--held-out=128", "--views=2"),
    ),
    "fashion_mnist_transfer.py": (
        *("--first=sample", "--second=sample", "--tasks", "rotation", "colorization"),
        *("--views=4", "--images=128", "--seeds=0"),
    ),
    "svhn_few_labels.py": (
        *("--data=sample", "--labels", "100", "--main=100", "--seeds", "0", "--tasks", "none", "rotation"),
        *("--epochs=1", "--images=512", "--steps=2"),
    ),
    "why_28_percent.py": (
        *("--data=sample", "--labels=100", "--seeds", "0"),
        *("--epochs=1", "--small-epochs=1", "--images=256"),
    ),
    "distributed_pretrain.py": ("--epochs=1", "--images=512", "--batch-size=128"),
    "fsdp_pretrain.py": ("--epochs=1", "--images=512", "--batch-size=128"),
    "shards_stream.py": ("--epochs=1", "--images=512", "--shards=2", "--workers=2"),
    "svhn_rotation.py": ("--data=sample", "--stem=imagenet", "--epochs=1", "--images=512"),
}


def built_wheel() -> str:
    """Find the one wheel in dist/."""
    (wheel,) = DIST.glob("*.whl")
    return str(wheel)


def install(session: nox.Session, *groups: str) -> None:
    """Install pretextkit, editable so that doctests and tests see the same modules, with dependency groups."""
    session.install("-e", ".", *(argument for group in groups for argument in ("--group", group)))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests and every docstring's example."""
    install(session, "test")
    session.run("pytest", *session.posargs, env=ONE_THREAD)


@nox.session(venv_backend="uv")
def minimums(session: nox.Session) -> None:
    """Run the tests with the oldest releases that pyproject.toml admits."""
    session.install("--resolution", "lowest-direct", "-e", ".", "--group", "test")
    session.run("uv", "pip", "list", external=True)
    # Slow is the test that compiles: what torch 2.4 compiles turns off small floats in the whole process.
    session.run("pytest", "-m", "not slow", *session.posargs, env=ONE_THREAD)


@nox.session
def nightly(session: nox.Session) -> None:
    """Run the tests that draw their input at random with 2,000 draws each, instead of 100."""
    install(session, "test")
    session.run("pytest", "tests/fuzz", *session.posargs, env={**ONE_THREAD, "HYPOTHESIS_PROFILE": "nightly"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting; ``ruff check --fix`` and ``ruff format`` repair most of it."""
    session.install("--group", "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types strictly, and that the checkers refuse what they should refuse."""
    install(session, "typing")
    session.run("mypy")
    session.run("pytest", "typing_tests/test_typing.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build; every warning and broken reference is an error."""
    install(session, "docs")
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-b", "html", "docs", "docs/_build/html", *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """Run the conformance kit over everything registered, and over an installed third-party plug-in."""
    install(session, "test")
    session.run("pytest", "tests/conformance", *session.posargs, env=ONE_THREAD)
    session.install("--no-deps", "./examples/plugin_package")  # its one dependency is there
    session.run("pytest", "examples/plugin_package/tests", *session.posargs, env=ONE_THREAD)


@nox.session
def examples(session: nox.Session) -> None:
    """Run every example in its short form."""
    install(session)
    session.install("matplotlib", "tqdm")
    out = Path(session.create_tmp())
    for script in sorted(ROOT.glob("examples/*.py")):
        if script.name != "quickstart.py":
            own = out / script.stem  # what one left, another would take for its own
            shutil.rmtree(own, ignore_errors=True)
            session.run("python", script, *SHORT_FORMS[script.name], "--out", str(own), env={"MPLBACKEND": "Agg"})


@nox.session
def bench(session: nox.Session) -> None:
    """Time what a user waits for beside the peers; on a quiet machine. Writes out/speed.json, or what --out names."""
    install(session, "bench")
    session.run("python", "benchmarks/speed.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel and the sdist into dist/ and look inside."""
    session.install("build", "twine")
    shutil.rmtree(DIST, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", DIST, silent=True)
    session.run("twine", "check", "--strict", *DIST.iterdir())
    names = zipfile.ZipFile(built_wheel()).namelist()
    missing = [wanted for wanted in IN_WHEEL if not any(name.endswith(wanted) for name in names)]
    if missing:
        session.error(f"The wheel lacks {', '.join(missing)}.")


@nox.session(requires=["build"])
def package(session: nox.Session) -> None:
    """Install the wheel, without extras, and run the quickstart away from the source tree."""
    session.install(built_wheel())
    away = session.create_tmp()
    shutil.copy(ROOT / "examples" / "quickstart.py", away)
    session.chdir(away)
    session.run("python", "quickstart.py", *session.posargs)
