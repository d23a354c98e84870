"""What holds for the package as a whole: its version, its cost, the Python it is for, the wheel."""

import ast
import glob
import os
import re
import shutil
import subprocess
import sys
import zipfile

from conftest import PACKAGE

SOURCES = sorted(glob.glob(os.path.join(PACKAGE, "further_link", "*.py")))
EXAMPLES = sorted(glob.glob(os.path.join(PACKAGE, "examples", "*.py")))


def test_the_version_is_the_daemons(further_link):
    with open(os.path.join(PACKAGE, "..", "Cargo.toml")) as file:
        workspace = re.search(r'(?ms)^\[workspace\.package\]$.*?^version = "([^"]+)"$', file.read())
    assert further_link.__version__ == workspace.group(1)


def test_the_promised_names_can_be_imported():
    from further_link import KeyboardButton, __version__, send_image

    assert KeyboardButton and send_image and __version__


def test_importing_needs_no_module_but_its_own_and_starts_nothing(program):
    code = (
        "import sys, threading; before = set(sys.modules); import further_link; "
        "print(sorted(set(sys.modules) - before), threading.active_count())"
    )
    status, out, err = program(code, "-W", "error", channel="/nowhere").finish()
    assert (status, err) == (0, "")
    assert out == "['__future__', 'further_link', 'further_link._image', 'further_link._keyboard'] 1\n"


def test_every_file_is_python_3_7():
    assert len(SOURCES) > 4 and len(EXAMPLES) > 1
    for path in SOURCES + EXAMPLES:
        with open(path, encoding="utf-8") as file:
            source = file.read()
        if sys.version_info >= (3, 8):
            # Syntax only; that no newer function is called was seen by running these tests with 3.7.
            ast.parse(source, path, feature_version=(3, 7))
        else:
            ast.parse(source, path)


def test_the_package_is_typed():
    assert os.path.exists(os.path.join(PACKAGE, "further_link", "py.typed"))
    for path in SOURCES:
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read(), path)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                unannotated = [a.arg for a in node.args.args if a.annotation is None and a.arg != "self"]
                assert node.returns is not None and not unannotated, f"{path}:{node.lineno} {node.name}"


def test_a_wheel_can_be_built_and_holds_nothing_but_python(tmp_path, further_link):
    # A copy: setuptools builds in the source tree.
    source, target = str(tmp_path / "source"), str(tmp_path / "target")
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    build = "import sys, setuptools.build_meta as b; print(b.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, target],
        cwd=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    assert done.returncode == 0, done.stdout
    name = f"further_link-{further_link.__version__}-py3-none-any.whl"
    assert os.listdir(target) == [name]
    names = zipfile.ZipFile(os.path.join(target, name)).namelist()
    modules = sorted(name for name in names if ".dist-info/" not in name)
    wanted = ["further_link/" + os.path.basename(path) for path in SOURCES] + ["further_link/py.typed"]
    assert modules == sorted(wanted)
    assert any(name.endswith("/LICENSE") for name in names)
