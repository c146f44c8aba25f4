"""Holds answers against openapi.yaml. Every HTTP client of the API's tests does so with every answer."""

import re
from functools import cache
from importlib.resources import files
from typing import Any

import httpx
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types

__all__ = ["Draft202012Validator", "check", "named", "spec"]

PREFLIGHT = "OPTIONS"


@cache
def spec() -> dict[str, Any]:
    """The contract."""
    text = files("statebacked.api").joinpath("openapi.yaml").read_text()
    return dict(yaml.safe_load(text))


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """For a schema of the contract, with its references."""
    return Draft202012Validator({**schema, "components": spec()["components"]})


def named(name: str) -> Draft202012Validator:
    """For a schema of the contract, by its name."""
    return validator({"$ref": f"#/components/schemas/{name}"})


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        target: Any = spec()
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def operation(method: str, path: str) -> dict[str, Any] | None:
    """The operation that serves a path, if the contract has one."""
    path = "/" + "/".join(segment for segment in path.split("/") if segment)
    path = path.removeprefix("/base")  # where one test says that the server stands
    # A literal segment wins over a parameter.
    for template in sorted(spec()["paths"], key=lambda template: template.count("{")):
        pattern = re.sub(r"\{[a-z]+\}", "[^/]+", template)
        if re.fullmatch(pattern, path) and method.lower() in spec()["paths"][template]:
            return dict(spec()["paths"][template][method.lower()])
    return None


async def check(response: httpx.Response) -> None:
    """An httpx hook: the answer is one that the contract allows."""
    await response.aread()
    request = response.request
    assert response.headers["x-request-id"]
    if request.method == PREFLIGHT:
        return
    method = "GET" if request.method == "HEAD" else request.method
    found = operation(method, request.url.raw_path.decode().partition("?")[0])
    if found is None:
        assert response.status_code in {400, 404, 405, 421, 431}, response.text
        allowed: dict[str, Any] = {"$ref": "#/components/responses/Error"}
    else:
        responses = found["responses"]
        fallback = responses["default"] if response.status_code >= 400 else None
        allowed = responses.get(str(response.status_code), fallback)
        assert allowed is not None, f"{response.status_code} is not in the contract of {found['operationId']}"
    content = _resolved(allowed).get("content")
    if content is None:
        assert response.content == b"", "201 and 204 have no body"
        return
    if request.method == "HEAD":
        assert response.content == b""
        return
    kind = response.headers["content-type"]
    schema = content[kind]["schema"]
    if kind == "application/json":
        validator(schema).validate(response.json())
