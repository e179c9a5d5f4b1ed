"""Packs the starter for Lambda and prints what Lambda calls the archive's CodeSha256.

Usage: pack_function.py PROJECT ARCHIVE true|false. With true, the archive also has mirror/, boto3 and bytecode, for
STARTER_COPIES=true, and "compiled" or "plain" follows the sum. This runs on what users have: Python 3.7 or newer.
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# What the function runs on; lib/resources/function.sh says the same to Lambda.
PYTHON, PLATFORM = "3.13", "manylinux2014_aarch64"
FOLDER_IN_LAMBDA = "/var/task"
# Most of botocore's size is the description of services that the function never calls.
NOT_NEEDED = re.compile(
    r"[^/]+\.(dist-info|data)/|bin/|boto3/examples/"
    r"|(boto3|botocore)/data/(?!(s3|sqs|sts|ecs|events|lambda|cloudwatch|sns|logs)/)[^/]+/"
)


# What the starter has of mirror/, also if it does not copy.
SETTINGS = [
    f"mirror/{name}" for name in ("__init__.py", "model/__init__.py", "model/checks.py", "model/settings.table")
]


def own_files(project, copies):
    files = {project / name for name in ["starter.py", *SETTINGS]}
    for folder in ["launch", "mirror"] if copies else ["launch"]:
        files.update(path for path in (project / folder).rglob("*") if path.suffix in (".py", ".table"))
    return files


def write_archive(folder, files, archive):
    """Stored, not compressed, as compressors differ, and without the files' times and modes: the same files are the
    same archive on every machine."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(files):
            member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o644 << 16
            file.writestr(member, path.read_bytes())


def without_crt(requirements):
    """The packages of the worker, with their hashes, but for the AWS CRT, which the function does not use."""
    lines = requirements.read_text().splitlines(keepends=True)
    return "".join(line.replace("[crt]", "") for line in lines if not line.startswith("awscrt=="))


def download(requirements, folder):
    """Wheels for the function's platform, by their hashes; pip keeps them in its cache."""
    platform = ["--platform", PLATFORM, "--implementation", "cp", "--python-version", PYTHON, "--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*command, *platform, "--require-hashes", "--requirement", str(requirements)], check=True)


def unpack(wheel, folder):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder, [name for name in file.namelist() if not NOT_NEEDED.match(name)])


def find_compiler():
    """The command of the Python whose bytecode the function reads, or nothing."""
    ask = ["-c", "import sys; print(sys.implementation.cache_tag)"]
    for python in filter(None, (sys.executable, shutil.which(f"python{PYTHON}"))):
        answer = subprocess.run([python, *ask], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        if answer.stdout.strip() == b"cpython-" + PYTHON.replace(".", "").encode():
            return python
    return None


def compile_all(python, folder):
    """Bytecode that is not compared with its source, and the same in each run: the order of a set depends on the seed
    of hashes, and -S keeps out what a machine's site-packages does at the start."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [python, "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(folder), "-p", FOLDER_IN_LAMBDA, str(folder)]
    subprocess.run(command, env={**environment, "PYTHONHASHSEED": "0"}, check=True)


def pack_copying(project, archive):
    """Whether the archive has bytecode."""
    with tempfile.TemporaryDirectory() as temporary:
        wheels, folder, packages = (Path(temporary, name) for name in ("wheels", "function", "requirements.txt"))
        packages.write_text(without_crt(project / "requirements.txt"))
        download(packages, wheels)
        for wheel in sorted(wheels.glob("*.whl")):
            unpack(wheel, folder)
        for path in own_files(project, True):
            target = folder / path.relative_to(project)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        compiler = find_compiler()
        if compiler:
            compile_all(compiler, folder)
        write_archive(folder, [path for path in folder.rglob("*") if path.is_file()], archive)
        return bool(compiler)


def main():
    project, archive, copies = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "true"
    said = []
    if copies:
        said = ["compiled" if pack_copying(project, archive) else "plain"]
    else:
        write_archive(project, own_files(project, False), archive)
    print(base64.b64encode(hashlib.sha256(archive.read_bytes()).digest()).decode(), *said)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(error.cmd[:4])} failed")
