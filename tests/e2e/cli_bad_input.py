# ruff: noqa: E501 - the rows of a table are as long as the lines that they are about
"""What the command line refuses, with the exact line that it answers; `test_cli_usage` runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tests.e2e.cli_child import WORKER

TOKEN = "the-right-token"
WRONG_TOKEN = "a-secret-but-wrong-token"

MODULES = {
    "worker": WORKER,
    "no_namespace": "from neuron_anyio import capability\n\n\n@capability('fetch')\nasync def fetch(value): ...\n",
    "no_slots": "from neuron_anyio import capability\n\n@capability('a/b', concurrency=0)\nasync def f(value): ...\n",
    "twice": (
        "from neuron_anyio import capability\n\n@capability('a/b')\nasync def first(value): ...\n\n"
        "second = first.with_options(concurrency=2)\n"
    ),
    "unknown_type": "from neuron_anyio import capability\n\n@capability('a/b')\nasync def f(value: 'Later'): ...\n",
    "unbound": (
        "from neuron_anyio import capability\n\nclass W:\n    @capability('a/b')\n    async def f(self, value): ...\n\n"
        "unbound = W.f\n"
    ),
    "empty": "number = 1\nnothing = []\n",
    "raises": "def load():\n    raise LookupError('no such\\nmodel')\n\nload()\n",
    "needs": "import a_package_that_is_not_there\n",
    "broken": "def (:\n",
    "serves": "raise SystemExit(0)\n",
    "json": "from neuron_anyio import capability\n",
}


class Bad(NamedTuple):
    """A command line that is refused.

    Attributes:
        line: the arguments, for a shell.
        error: pattern of the whole line on stderr, after `error: `.
    """

    name: str
    line: str
    code: int
    error: str
    env: Mapping[str, str] = {}


# fmt: off
RUN = "run worker --gateway-url"

TABLE = [
    # the module
    Bad("type without a namespace", "describe no_namespace", 2, r"module 'no_namespace' raised ValueError when it was imported \(no_namespace\.py:4\): capability 'fetch': the type must be namespaced, .* for example 'examples/http\.fetch'"),
    Bad("concurrency 0", "describe no_slots", 2, r"module 'no_slots' raised ValueError when it was imported \(no_slots\.py:3\): capability 'a/b': concurrency must be a whole number, 1 or more, not 0"),
    Bad("a type twice", "describe twice", 2, r"module 'twice': capabilities: type 'a/b' occurs twice; each type has one handler; pick one with MODULE:NAME"),
    Bad("an annotation that is nowhere", "describe unknown_type", 2, r"module 'unknown_type': capability 'a/b': the parameter 'value' is annotated 'Later', and name 'Later' is not defined; define it or import it in that module, outside `if TYPE_CHECKING`"),
    Bad("a method without its instance", "describe unbound:unbound", 2, r"module 'unbound': capabilities: f is a method without its instance; give W\(\.\.\.\)\.f"),
    Bad("no such module", "describe nowhere", 2, r"there is no module 'nowhere' in \S+ or among what is installed; give a name that can be imported from there, or the path of a \.py file"),
    Bad("no such submodule", "describe worker.deeper", 2, r"there is no module 'worker\.deeper' in .* file"),
    Bad("no such file", "describe no/where.py", 2, r"there is no Python file no/where\.py; give a module's name or the path of a \.py file"),
    Bad("no module's name", "describe work-er", 2, r"'work-er' is not a module's name; give a name like 'package\.module' or the path of a \.py file"),
    Bad("no name after the colon", "describe worker:", 2, r"MODULE must be a module, or MODULE:NAME for some of its capabilities, not 'worker:'"),
    Bad("a file in another module's place", "describe json.py", 2, r"json\.py cannot be imported: 'json' is another module; give the file another name"),
    Bad("module raises", "describe raises", 2, r"module 'raises' raised LookupError when it was imported \(raises\.py:2\): no such model"),
    Bad("module lacks a package", "describe needs", 2, r"module 'needs' raised ModuleNotFoundError when it was imported \(needs\.py:1\): No module named 'a_package_that_is_not_there'"),
    Bad("module has a syntax error", "describe broken.py", 2, r"module 'broken' raised SyntaxError when it was imported: .*\(broken\.py, line 1\)"),
    Bad("module serves by itself", "describe serves", 2, r"module 'serves' ended the program when it was imported; put what starts it under: if __name__ == '__main__':"),
    Bad("module without a capability", "describe empty", 2, r"module 'empty' has no capability; decorate a function with @capability\('namespace/name'\)"),
    Bad("no such name", "describe worker:lower", 2, r"module 'worker': 'lower' is not there; its capabilities are: upper, in_thread, fails, gated, stubborn, deaf"),
    Bad("a name that is no capability", "describe empty:nothing", 2, r"module 'empty': 'nothing' is no capability and no list of them; its capabilities are: none"),
    # the gateway's URL
    Bad("no URL", "run worker", 2, r"Missing option '--gateway-url'.*BIGBRAIN_GATEWAY_URL.*; see 'neuron-anyio run --help'"),
    Bad("URL without scheme", f"{RUN} 127.0.0.1:8787", 2, r"--gateway-url: the gateway's URL must begin with http:// or https://, .*; got '127\.0\.0\.1:8787'"),
    Bad("URL without scheme in the environment", "run worker", 2, r"--gateway-url: the gateway's URL must begin with .*", {"BIGBRAIN_GATEWAY_URL": "localhost:8787"}),
    Bad("URL with credentials", f"{RUN} http://user:pass@host", 2, r"--gateway-url: the gateway's URL carries credentials; give them .*"),
    Bad("wrong path, run", f"{RUN} {{locked}}/api --token {TOKEN}", 1, r"http://127\.0\.0\.1:\d+ answered 404 to GET /api/neuron/events: .*check the path of the gateway's URL"),
    Bad("wrong path, submit", f"submit a/b 1 --gateway-url {{locked}}/api --token {TOKEN}", 1, r"GET http://127\.0\.0\.1:\d+/api/neurons: 404.*check the URL.*"),
    Bad("no gateway, submit", "submit a/b 1 --gateway-url {open}", 1, r"GET http://127\.0\.0\.1:\d+/neurons: 404.*check the URL.*"),
    Bad("gateway down, submit", "submit a/b 1 --gateway-url {closed}", 1, r"GET http://127\.0\.0\.1:\d+/neurons failed: .*cannot connect: Connection refused"),
    # the token
    Bad("wrong token, run", f"{RUN} {{locked}} --token {WRONG_TOKEN}", 1, r"the token was refused \(401, 2 times\); check that it is meant for this gateway and not expired"),
    Bad("no token, run", f"{RUN} {{locked}}", 1, r"the gateway wants a token and none was given .*; check .*"),
    Bad("wrong token, submit", f"submit a/b 1 --gateway-url {{locked}} --token {WRONG_TOKEN}", 1, r"GET http://127\.0\.0\.1:\d+/neurons: 401, .*check that the token is meant for it and not expired \(--token-file, --token\)"),
    Bad("token file not there", f"{RUN} {{locked}} --token-file no/file", 2, r"--token-file: the token file no/file cannot be read \(No such file or directory\); check the path and that this user may read it"),
    Bad("token file with two lines", f"{RUN} {{locked}}", 2, r"BIGBRAIN_TOKEN_FILE: the token file two-lines holds a line break, .*; it must hold the token alone, on one line", {"BIGBRAIN_TOKEN_FILE": "two-lines"}),
    Bad("token with a newline", f"{RUN} {{locked}}", 2, r"BIGBRAIN_TOKEN: the token contains a line break, .*; give the token alone, or its file with --token-file", {"BIGBRAIN_TOKEN": f"{WRONG_TOKEN}\n"}),
    Bad("token with a space", f"{RUN} {{locked}} --token 'Bearer {WRONG_TOKEN}'", 2, r"--token: the token contains a line break, a space or .*"),
    Bad("empty token", f"{RUN} {{locked}} --token ''", 2, r"--token: the token is empty; give the token alone, .*"),
    Bad("token and token file", f"{RUN} {{locked}} --token {WRONG_TOKEN} --token-file two-lines", 2, r"both a token and a token file are given; leave out one of them"),
    Bad("gateway's token file not there", "gateway --token-file no/file", 2, r"--token-file: the token file no/file cannot .*"),
    # numbers
    Bad("concurrency of nothing", f"{RUN} {{closed}} --concurrency a/b=2", 2, r"--concurrency: no capability 'a/b' in the module; it has examples/deaf, .*"),
    Bad("concurrency that is no number", f"{RUN} {{closed}} --concurrency examples/fails=many", 2, r".*--concurrency.*: 'examples/fails=many' is neither TYPE=N nor N, with N a whole number from 1 to 1000000; see .*"),
    Bad("concurrency 0 by option", f"{RUN} {{closed}} --concurrency 0", 2, r".*--concurrency.*: '0' is neither .*"),
    Bad("no heartbeat", f"{RUN} {{closed}} --heartbeat 0", 2, r".*'--heartbeat' \(env var: '\w+'\): '0' is not a number of seconds above 0 and up to 31622400; see .*"),
    Bad("a heartbeat that is no number", f"{RUN} {{closed}} --heartbeat nan", 2, r".*'--heartbeat' \(env var: '\w+'\): 'nan' is not a number of seconds above 0 and up to 31622400; see .*"),
    Bad("a drain below 0", f"{RUN} {{closed}} --drain -1", 2, r".*'--drain' \(env var: '\w+'\): '-1' is not a number of seconds from 0 up to 31622400; see .*"),
    Bad("a lease without end", "gateway --port 0 --lease-ttl inf", 2, r".*'--lease-ttl' \(env var: '\w+'\): 'inf' is not a number of seconds above 0 and up to 31622400; see .*"),
    Bad("a time-out that is no number", "submit a/b 1 --gateway-url {closed} --timeout nan", 2, r".*'--timeout' \(env var: '\w+'\): 'nan' is not a number of seconds above 0 and up to 31622400; see .*"),
    Bad("a concurrency with too many digits", f"{RUN} {{closed}} --concurrency {'9' * 5000}", 2, r".*--concurrency.*: '9{40}…' is neither TYPE=N nor N, with N a whole number from 1 to 1000000; see .*"),
    Bad("empty neuron id", f"{RUN} {{closed}} --neuron-id ''", 2, r"--neuron-id is empty; leave it out, or give a name"),
    Bad("unknown log level", f"{RUN} {{closed}} --log-level loud", 2, r".*'--log-level'.*'loud' is not one of 'debug', .*"),
    Bad("unknown option", "run worker --port 1", 2, r"No such option.*--port.*; see 'neuron-anyio run --help'"),
    Bad("unknown verb", "serve worker", 2, r"No such command 'serve'.*; see 'neuron-anyio --help'"),
    # tasks
    Bad("JSON that does not parse", "submit a/b '{{text: 1}}' --gateway-url {closed}", 2, r"JSON is not JSON: .*byte 1.*; quote it for the shell, .* or give @FILE or - for stdin"),
    Bad("JSON file that does not parse", "submit a/b @broken.json --gateway-url {closed}", 2, r"JSON is not JSON: .*"),
    Bad("JSON file that is not there", "submit a/b @none.json --gateway-url {closed}", 2, r"JSON: cannot read none\.json \(No such file or directory\); check the path after '@'"),
    Bad("unknown capability", f"submit a/b 1 --wait --gateway-url {{locked}} --token {TOKEN}", 1, r"no neuron offers 'a/b'; offered: nothing; start one, or wait for one with --allow-unknown"),
    Bad("no capability's name", f"submit ab 1 --gateway-url {{locked}} --token {TOKEN}", 1, r"POST http://127\.0\.0\.1:\d+/tasks: 400: capability must be two or more segments .*"),
    Bad("time-out", f"submit a/b 1 --wait --allow-unknown --timeout 1 --gateway-url {{locked}} --token {TOKEN}", 1, r"no end within 1 s(; task task_\w+ goes on)?"),
    # ports and dev
    Bad("port in use, gateway", "gateway --port {taken}", 1, r"cannot listen on 127\.0\.0\.1 port \d+: something else listens there; stop it, or give another port .*"),
    Bad("port in use, dev", "dev worker --port {taken}", 1, r"cannot listen on 127\.0\.0\.1 port \d+: something else .*"),
    Bad("unknown host", "gateway --host no.such.host.invalid", 1, r"host 'no\.such\.host\.invalid' is not known .*"),
    Bad("task for another module", "dev worker --port 0 --submit a/b 1", 2, r"--submit: no capability 'a/b' in the module; it has examples/deaf, .*"),
    Bad("task with bad JSON", "dev worker --port 0 --submit examples/fails {{", 2, r"--submit examples/fails is not JSON: .*"),
    Bad("once without a task", "dev worker --port 0 --once", 2, r"--once needs tasks to wait for; give --submit TYPE JSON"),
]
# fmt: on
