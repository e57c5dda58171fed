"""What requests need: the servers of this process."""

from typing import Annotated

from fastapi import Depends, Request

from tis_sync.runs.services import Services


def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


Servers = Annotated[Services, Depends(_services)]
