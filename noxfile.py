"""What is run before anything is called done: `nox` for all, `nox -s tests-3.12` for a part, `nox -l` for a list."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"  # the first with `download_python`
nox.options.default_venv_backend = "venv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # a version that is not here is skipped and says so, in CI as well
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
FLAKE8_ASYNC_OFF = {
    "ASYNC106": "`from anyio import CancelScope` is plain enough",
    "ASYNC114": "every function that is given a `task_status` counts as one that is started",
    "ASYNC124": "what implements an asynchronous protocol need not wait itself",
    "ASYNC127": "httpx is what users hand in; there is no other library to take its place",
    "ASYNC128": "cannot see a `task_status` that is handed on",
    "ASYNC9": "a checkpoint on every path is a rule for libraries of primitives; off by default there, too",
}
PUBLISHED = "holokai-neuron-sdk==0.2.0"
JSON_SCHEMA_SUITE = "jsonschema==4.26.0"  # its source package carries the official test suite
BETWEEN = ("tests/pure", "tests/kit", "tests/ipc")
XDIST = (
    f"--numprocesses={min(8, 2 * (os.cpu_count() or 1))}",
    "--dist=worksteal",
)  # half of the tests wait while the others compute


def show_interpreters() -> None:
    """Put the interpreters of pyenv, and those beside the running one, where nox looks for them.

    pyenv's own `python3.12` is a script that refuses unless that version is switched on.
    """
    homes = (Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions", Path(sys.base_prefix).parent)
    found = [str(path.parent) for version in PYTHONS for home in homes for path in home.glob(f"*/bin/python{version}")]
    os.environ["PATH"] = os.pathsep.join([*dict.fromkeys(found), os.environ["PATH"]])


os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a thousand processes would each compile tests and benchmarks anew
show_interpreters()
PRESENT = [version for version in PYTHONS if shutil.which(f"python{version}")]


def install(session: nox.Session, group: str, *, editable: bool = False) -> None:
    """Install a dependency group, in which the package itself is this checkout, as users get it: a wheel.

    The group is read here, because pip has been able to only since 25.1.
    """
    name = PROJECT["project"]["name"]
    wanted = nox.project.dependency_groups(PROJECT, group)
    others = [requirement for requirement in wanted if not requirement.startswith(f"{name}[")]
    (extras,) = [requirement.removeprefix(name) for requirement in wanted if requirement not in others]
    session.install(*(["--editable"] if editable else []), f".{extras}", *others)
    # `tests` and `examples` are imported too; at the end of the path, so that the wheel goes before the source.
    for folder in Path(session.virtualenv.location).glob("lib/python*/site-packages"):
        folder.joinpath("checkout.pth").write_text(f"{ROOT}\n", encoding="utf-8")


def published_python(session: nox.Session) -> str:
    """Install the published SDK in an environment of its own; return its interpreter."""
    folder = Path(session.create_tmp()).resolve() / "published"
    session.run("python", "-m", "venv", str(folder))
    session.run(str(folder / "bin" / "pip"), "install", "--quiet", PUBLISHED, external=True)
    return str(folder / "bin" / "python")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and mistakes that only asynchronous code can have."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    files = sorted(str(path.relative_to(ROOT)) for path in ROOT.joinpath("neuron_anyio").rglob("*.py"))
    session.run("flake8-async", "--anyio", f"--disable={','.join(FLAKE8_ASYNC_OFF)}", *files, log=False)


@nox.session
def types(session: nox.Session) -> None:
    """Two type checkers, both strict, on the package, the examples and the tests; every public name has a type."""
    install(session, "types")
    session.run("mypy")
    session.run("pyright", f"--project={pyright_config(session)}")
    session.chdir(session.create_tmp())  # away from the source
    session.run("pyright", "--verifytypes", "neuron_anyio", "--ignoreexternal")


def pyright_config(session: nox.Session) -> Path:
    """Write the project's settings with the session's environment: they name the developer's, and win over flags."""
    environment = Path(session.virtualenv.location)
    path = Path(session.create_tmp()) / "pyrightconfig.json"
    settings = PROJECT["tool"]["pyright"] | {"venvPath": str(environment.parent), "venv": environment.name}
    settings["include"] = [os.path.relpath(ROOT / part, path.parent) for part in settings["include"]]
    settings["extraPaths"] = [str(ROOT)]
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests against the built wheel: all on the oldest Python here, all but the thorough ones on the newest.

    These search for rare states of our own code (random schemas, kills, interleavings), look at what is the same on
    every interpreter (pages, usage), or run on uvloop; what a newer interpreter breaks is seen by the others. Between
    the oldest and the newest little can break alone: there a part of the tests looks.
    """
    install(session, "test")
    some = [] if session.python == PRESENT[0] else ["-m", "not thorough"]
    part = BETWEEN if session.python in PRESENT[1:-1] and not session.posargs else ()
    session.run("pytest", *XDIST, *some, *part, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Lines and branches that no test reaches, in any process."""
    install(session, "test", editable=True)  # one place for what every process runs
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *XDIST, *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def kills(session: nox.Session) -> None:
    """A neuron with a journal, killed a hundred times at every point on a result's way, and 400 times at random."""
    install(session, "test")
    often = {"KILLS_AT_EACH_POINT": "100", "KILLS_AT_RANDOM": "400"}
    session.run("pytest", *XDIST, "--timeout=1200", "tests/kills", *session.posargs, env=often)


@nox.session
def soak(session: nox.Session) -> None:
    """A hundred thousand leases under faults that change all the time: nothing lost, nothing twice, flat memory."""
    install(session, "test")
    session.run("python", "-m", "benchmarks.soak", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Every fault against this package on both backends, and against the published SDK in an environment of its own."""
    install(session, "test")
    folder = Path(session.create_tmp()).resolve()
    python = published_python(session)
    runs = {
        "asyncio": ["--backend", "asyncio"],
        "trio": ["--backend", "trio"],
        "published": ["--holokai", python],
    }
    for name, arguments in runs.items():
        session.run(
            "python", "-m", "benchmarks.faults", *arguments, "--json", f"{folder}/{name}.json", *session.posargs
        )
    session.run("python", "-m", "benchmarks.faults.table", *(f"{name}={folder}/{name}.json" for name in runs))
    # The worker before, as the page has it.
    session.run("pytest", "-q", "tests/docs/test_migrating.py", env={"PUBLISHED_PYTHON": python})


@nox.session
def json_schema_suite(session: nox.Session) -> None:
    """Every required test of the official JSON Schema suite, through both ways into the validators."""
    install(session, "test")
    folder = Path(session.create_tmp()).resolve()
    here = ["--dest", str(folder), "--no-deps", "--no-binary", "jsonschema"]
    session.run("python", "-m", "pip", "download", "--quiet", *here, JSON_SCHEMA_SUITE)
    with tarfile.open(folder / f"{JSON_SCHEMA_SUITE.replace('==', '-')}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    suite = folder / JSON_SCHEMA_SUITE.replace("==", "-") / "json"
    session.run("python", "-m", "benchmarks.schemas.suite", str(suite), *session.posargs)


@nox.session
def cancel(session: nox.Session) -> None:
    """Time from the gateway's cancel to the nack and to the next start, for every kind of handler."""
    install(session, "test")
    session.run("python", "-m", "benchmarks.cancel", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """The tour: a gateway, two neurons, and what happens between them."""
    session.install(".[cli]")
    session.run("python", "-m", "examples.tour", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """What the package costs, beside a bare client, and the published SDK in an environment of its own."""
    install(session, "test")
    session.run("python", "-m", "benchmarks", *session.posargs, env={"PUBLISHED_PYTHON": published_python(session)})


@nox.session
def counts(session: nox.Session) -> None:
    """Instructions of the pure core's operations beside those that were kept. Needs valgrind, which Linux has."""
    install(session, "test")
    session.run("python", "-m", "benchmarks.counts", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site; a broken link is an error."""
    install(session, "test")
    session.run("mkdocs", "build", "--strict", *session.posargs)
