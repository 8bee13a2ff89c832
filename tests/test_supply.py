"""The checks of the supply chain can fail."""

from __future__ import annotations

import ast
from pathlib import Path

from scripts.check_supply import secrets, unpinned


def test_what_is_not_pinned() -> None:
    good = "limits==5.8.0 \\\n    --hash=sha256:abc\n"
    assert unpinned(good) == []
    assert unpinned("limits>=5 \\\n    --hash=sha256:abc\n") == ["limits>=5 \\"]
    assert unpinned("limits==5.8.0\n") == ["limits==5.8.0"]
    assert "x @ https://example.com/x.whl" in unpinned("x @ https://example.com/x.whl\n" + good)


def test_a_secret_in_the_tree(tmp_path: Path) -> None:
    planted = tmp_path / "notes.txt"
    planted.write_text("-----BEGIN " + "OPENSSH PRIVATE KEY-----\n")
    token = tmp_path / "more.txt"
    token.write_text("token: gh" + "p_" + "a1B2" * 9 + "\n")
    found = secrets([str(planted), str(token)])
    assert [line.partition(" ")[2] for line in found] == ["Private Key", "GitHub Token"]


def test_no_shell_no_pickle_no_unsafe_yaml() -> None:
    """ruff's S rules say so too; this holds whatever is marked as an exception there. `_Plain` is a SafeLoader."""
    for path in (Path(__file__).parent.parent / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not _forbidden(node), f"{path}:{getattr(node, 'lineno', 0)}"


def _forbidden(node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
        return bool({"pickle", "marshal", "shelve"} & set(names))
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    shell = any(word.arg == "shell" and ast.unparse(word.value) != "False" for word in node.keywords)
    loads = called == "yaml.load" and "_Plain" not in ast.unparse(node)
    return shell or loads or called in ("eval", "exec", "os.system", "os.popen", "asyncio.create_subprocess_shell")
