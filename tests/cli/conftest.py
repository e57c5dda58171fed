"""The program as a user calls it; in this process, so that its coverage is measured."""

from collections.abc import Callable
from dataclasses import dataclass
from json import loads
from typing import Any

import pytest

from tests.conftest import ON_THE_DAY
from tis_sync import cli


@dataclass
class Result:
    """The exit code and the output of one call of the program."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return loads(self.out[self.out.index("[" if self.out.lstrip()[:1] != "{" else "{") :])


Program = Callable[..., Result]


@pytest.fixture
def program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Call `tis-sync` with arguments; keywords are settings."""

    def call(*arguments: str, **settings: object) -> Result:
        with monkeypatch.context() as patch:
            for name, moment in ON_THE_DAY.items():
                patch.setenv(name, moment)
            for name, value in settings.items():
                patch.setenv(f"TIS_SYNC_{name.upper()}", str(value))
            patch.setattr("sys.argv", ["tis-sync", *arguments])
            capsys.readouterr()
            try:
                cli.main()
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call
