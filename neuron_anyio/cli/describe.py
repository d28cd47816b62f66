"""`neuron-anyio describe`: what a module offers."""

from __future__ import annotations

import json
from typing import Any

import click

from neuron_anyio.capability import Capability, OnBehalfOf

from .loading import load
from .options import MODULE, apply, example, log_level

__all__ = ["describe"]


@click.command(epilog=example("neuron-anyio describe worker.py"))
@apply(
    MODULE, click.option("--json", "as_json", is_flag=True, help="One JSON array, for machines."), log_level("warning")
)
def describe(module: str, *, as_json: bool) -> None:
    """Show what MODULE offers: types, terms, descriptions and schemas. Nothing is connected."""
    offered = [_document(item) for item in load(module).capabilities]
    if as_json:
        click.echo(json.dumps(offered, indent=2, ensure_ascii=False))
    else:
        click.echo("\n\n".join(_text(document) for document in offered))


def _document(item: Capability[..., Any]) -> dict[str, Any]:
    terms = item.terms
    return {
        "type": terms.type,
        "description": terms.description or _first_line(item.__doc__),
        "scope": {"onBehalfOf": terms.scope.user} if isinstance(terms.scope, OnBehalfOf) else terms.scope,
        "concurrency": terms.concurrency,
        "leaseTtl": terms.lease_ttl,
        "timeout": terms.timeout,
        "runs": terms.runs,
        "inputSchema": item.input_schema,
        "outputSchema": item.output_schema,
    }


def _first_line(text: str | None) -> str | None:
    return text.strip().partition("\n")[0] if text and text.strip() else None


def _text(document: dict[str, Any]) -> str:
    scope = document["scope"]
    rows = {
        "scope": scope if isinstance(scope, str) else f"on behalf of {scope['onBehalfOf']}",
        "concurrency": str(document["concurrency"]),
        "lease": "the gateway's default" if document["leaseTtl"] is None else f"{document['leaseTtl']:g} s",
        "timeout": "none" if document["timeout"] is None else f"{document['timeout']:g} s",
        "runs": {"loop": "in the event loop", "thread": "in a thread", "process": "in a process"}[document["runs"]],
        "input": _schema(document["inputSchema"]),
        "output": _schema(document["outputSchema"]),
    }
    head = [document["type"], *([f"  {document['description']}"] if document["description"] else [])]
    return "\n".join([*head, *(f"  {name:<12} {value}" for name, value in rows.items())])


def _schema(schema: Any) -> str:
    return "any JSON" if schema is None else json.dumps(schema, ensure_ascii=False)
