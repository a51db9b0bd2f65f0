"""The suite on the oldest and on the newest packages that requirements.txt admits, on every Python there is.

python -m parity_tests.guards.versions                            each of Python 3.11, 3.12 and 3.13 that is on the PATH
python -m parity_tests.guards.versions ~/bin/python3.12 python3.13 these

uv resolves the versions, the oldest with a wheel for that Python among them; pip installs them in an
environment each, in build/versions, where they stay. A line says how each suite went; the exit code
is 0 if all passed.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "versions"
RESOLUTION = {"oldest": "lowest-direct", "newest": "highest"}
PACKAGES = ("python", "torch", "tensorflow", "keras", "numpy", "scipy", "scikit-learn")


def environment(python: str, which: str) -> Path:
    """The interpreter of an environment with the ``which`` packages, made if it is not there yet."""
    ask = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    number = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    folder = BUILD / f"{number}-{which}"
    interpreter, pins, ready = folder / "bin" / "python", folder / "pins.txt", folder / "ready"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python, "-m", "venv", folder], check=True)
        resolve = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--only-binary", ":all:", "--python"]
        resolve += [interpreter, "--resolution", RESOLUTION[which], "--output-file", pins, ROOT / "requirements.txt"]
        subprocess.run(resolve, check=True)
        install = [
            interpreter,
            "-m",
            "pip",
            "install",
            "--quiet",
            "-r",
            ROOT / "requirements.txt",
            "--constraint",
            pins,
        ]
        subprocess.run(install, check=True)
        ready.touch()
    return interpreter


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite in every environment and print a line for each; the exit code is 0 if all passed."""
    given = sys.argv[1:] if argv is None else argv
    pythons = given or [found for minor in (11, 12, 13) if (found := shutil.which(f"python3.{minor}"))]
    failed = False
    for python in pythons:
        for which in RESOLUTION:
            interpreter = environment(python, which)
            ask = "import json; from common.runs.folder import versions; print(json.dumps(versions()))"
            answer = subprocess.run(
                [interpreter, "-c", ask], check=True, cwd=ROOT, capture_output=True, text=True
            ).stdout
            suite = [interpreter, "-m", "pytest", "--numprocesses", "2", "parity_tests"]
            done = subprocess.run(suite, cwd=ROOT, capture_output=True, text=True)
            (interpreter.parent.parent / "suite.log").write_text(done.stdout + done.stderr, encoding="utf-8")
            failed |= done.returncode != 0
            found = json.loads(answer)
            packages = ", ".join(f"{name} {found[name]}" for name in PACKAGES)
            print(f"{which}: {packages}: {done.stdout.strip().splitlines()[-1]}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
