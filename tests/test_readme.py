"""The README runs: its Python block, its tables, its links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_block_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 1
    lines = [line for line in blocks[0].splitlines() if line.strip() and "import" not in line]
    assert len(lines) == 5  # "five lines"
    torch.manual_seed(0)
    exec(compile(blocks[0], "README.md", "exec"), {})
    assert "max logit difference" in capsys.readouterr().out


def test_tables_are_those_of_the_committed_results():
    pages = ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))]
    done = subprocess.run([sys.executable, "tools/readme_table.py", "--check", *pages], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_the_command_page_is_that_of_the_code():
    done = subprocess.run([sys.executable, "tools/cli_page.py", "--check"], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_links_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
