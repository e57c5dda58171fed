"""The program in a separate process, which can kill itself."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import ON_THE_DAY

DRIVER = Path(__file__).parent / "driver.py"


def tis_sync(home: Path, *arguments: str, kill: tuple[str, int] | None = None) -> Any:
    """Run the program in a home; it kills itself at the point that `kill` names."""
    point, number = kill or ("end:never", 0)
    command = [sys.executable, str(DRIVER), point, str(number), "--", *arguments]
    environment = {**os.environ, **ON_THE_DAY, "TIS_SYNC_HOME": str(home)}
    root = str(Path(__file__).parent.parent.parent)
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, cwd=root, check=False
    )
