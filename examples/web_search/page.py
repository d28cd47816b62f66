"""The search page's HTML to results."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

__all__ = ["Result", "parse_results", "target_of"]


class Result(Struct):
    """One result.

    Attributes:
        title, snippet: text without markup, spacing collapsed.
        url: where it leads, without the search page's redirect.
    """

    title: str
    url: str
    snippet: str


def parse_results(html: str) -> list[Result]:
    """Return the results of a page that have a title, a URL and a snippet."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    return [result for result in parser.results if result.title and result.url and result.snippet]


def target_of(href: str) -> str:
    """Return where a link of the page leads: `//host/l/?uddg=URL` to URL, `//host/path` to https."""
    if not href.startswith("//"):
        return href
    parts = urlsplit(f"https:{href}")
    wrapped = parse_qs(parts.query).get("uddg") if parts.path == "/l/" else None
    return wrapped[0] if wrapped else parts.geturl()


class _Parser(HTMLParser):
    """Collects results: a title link opens one, its snippet follows."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.results: list[Result] = []
        self._field: str | None = None
        self._tag = ""
        self._depth = 0
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a result or a field of one."""
        if self._field is not None:
            self._depth += tag == self._tag
            return
        attributes = dict(attrs)
        classes = (attributes.get("class") or "").split()
        if "result__a" in classes:
            self.results.append(Result(title="", url=target_of((attributes.get("href") or "").strip()), snippet=""))
            self._open("title", tag)
        elif "result__snippet" in classes and self.results:
            self._open("snippet", tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the field whose tag this is."""
        if self._field is None or tag != self._tag:
            return
        self._depth -= 1
        if not self._depth:
            setattr(self.results[-1], self._field, " ".join("".join(self._text).split()))
            self._field = None

    def handle_data(self, data: str) -> None:
        """Keep text inside a field."""
        if self._field is not None:
            self._text.append(data)

    def _open(self, field: str, tag: str) -> None:
        self._field, self._tag, self._depth = field, tag, 1
        self._text = []
