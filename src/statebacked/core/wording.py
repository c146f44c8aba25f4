"""The few texts of our own: who sent a message, why a child or an instance is not there. Never a user's."""

from functools import lru_cache

import msgspec

from statebacked.model.envelopes import ServiceFailed
from statebacked.model.values import Address, Json

NO_INSTANCE = "there is no machine or instance of that name"


@lru_cache(10_000)
def sender_auth(sender: Address) -> Json:
    """The authContext of what an instance sends to another."""
    told = {"machineName": sender.machine, "machineInstanceName": sender.name}
    return _text({"stateBackedSender": told})


def failure(code: str, message: str) -> Json:
    """Why a child could not be made, or that it is gone."""
    return _text({"code": code, "message": message})


def read_failure(text: Json) -> ServiceFailed:
    """What `failure` says."""
    told = msgspec.json.decode(text)
    return ServiceFailed(told["code"], told["message"])


def _text(value: object) -> Json:
    return Json(msgspec.json.encode(value))
