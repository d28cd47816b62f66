// A desktop program's side of a neuron: it knows the gateway and holds the token, the neuron is its child.
//
//   BIGBRAIN_GATEWAY_URL=https://... BIGBRAIN_TOKEN=... node host.mjs neuron-anyio run worker.py
//
// `Host` is what the main process of an Electron program would keep behind `ipcMain`: attach, subscribe, invoke, detach.
// Here its caller is a Python neuron that speaks JSON-RPC, one message per line, over its standard input and output.

import { spawn } from "node:child_process";
import { pathToFileURL } from "node:url";

const PATHS = new Set(["register", "update-capability", "heartbeat", "ack", "nack", "progress"]);

/** What a neuron may ask of its host. The token never leaves this class. */
export class Host {
  #gateway;
  #token;
  #channels = new Map();
  #count = 0;

  constructor(gateway, token) {
    this.#gateway = gateway.replace(/\/+$/, "");
    this.#token = token;
  }

  attach(neuronId) {
    const channel = `neuron-${++this.#count}`;
    this.#channels.set(channel, { neuronId, stream: new AbortController() });
    return { channel };
  }

  /** Resolves when the gateway's stream is open; frames go to `onFrame` until it ends, and to `onEnd` what broke it. */
  async subscribe(channel, onFrame, onEnd) {
    const attached = this.#channels.get(channel);
    if (!attached) throw refusal("attach first", {});
    const { neuronId, stream } = attached;
    const url = `${this.#gateway}/neuron/events?neuronId=${encodeURIComponent(neuronId)}`;
    const headers = { ...this.#authorization(), Accept: "text/event-stream" };
    const reply = await this.#fetch(url, { headers, redirect: "manual", signal: stream.signal });
    if (reply.status !== 200) throw refusal(`the gateway answered ${reply.status}`, { status: reply.status });
    readEvents(reply.body, onFrame).then(
      () => onEnd(null),
      (error) => stream.signal.aborted || onEnd(error.message),
    );
    return {};
  }

  async invoke(path, frame) {
    if (!PATHS.has(path)) throw refusal("this is nothing that a neuron may post", {});
    const headers = { ...this.#authorization(), "Content-Type": "application/json" };
    const body = JSON.stringify(frame);
    const reply = await this.#fetch(`${this.#gateway}/neuron/${path}`, { method: "POST", headers, body, redirect: "manual" });
    const retryAfter = Number.parseFloat(reply.headers.get("retry-after") ?? "");
    return {
      status: reply.status,
      text: (await reply.text()).slice(0, 300),
      isJson: (reply.headers.get("content-type") ?? "").includes("json"),
      retryAfter: Number.isFinite(retryAfter) ? retryAfter : null,
    };
  }

  detach(neuronId) {
    for (const [channel, attached] of this.#channels) {
      if (attached.neuronId === neuronId) {
        attached.stream.abort();
        this.#channels.delete(channel);
      }
    }
    return {};
  }

  #authorization() {
    return this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
  }

  async #fetch(url, options) {
    try {
      return await fetch(url, options);
    } catch (error) {
      throw refusal(`the gateway cannot be reached: ${error.cause?.code ?? error.message}`, {});
    }
  }
}

function refusal(message, data) {
  return Object.assign(new Error(message), { data });
}

/** Reads an event stream and hands over the JSON text of each event. */
async function readEvents(body, onFrame) {
  let data = [];
  for await (const line of linesOf(body.pipeThrough(new TextDecoderStream()))) {
    if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
    if (line === "" && data.length > 0) {
      const text = data.join("\n");
      onFrame(parsed(text) ?? text); // what is no JSON is for the neuron to drop, and to tell of
      data = [];
    }
  }
}

/** Yields the lines of a stream of texts. A long one is put together once, not with every chunk. */
async function* linesOf(texts) {
  let parts = [];
  for await (const text of texts) {
    const [first, ...others] = text.split("\n");
    parts.push(first);
    for (const other of others) {
      yield parts.join("").replace(/\r$/, "");
      parts = [other];
    }
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // its own words would quote what it could not read
  }
}

/** Answers a neuron's calls, which come from `input`, on `output`; resolves at the end of `input`. */
export async function serve(host, input, output) {
  const send = (message) => output.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  const calls = {
    attach: ({ neuronId }) => host.attach(neuronId),
    subscribe: ({ channel }) =>
      host.subscribe(
        channel,
        (frame) => send({ method: "frame", params: { channel, frame } }),
        (reason) => send({ method: "end", params: { channel, reason } }),
      ),
    invoke: ({ path, frame }) => host.invoke(path, frame),
    detach: ({ neuronId }) => host.detach(neuronId),
  };
  const answer = async ({ id, method, params }) => {
    try {
      if (!Object.hasOwn(calls, method)) throw refusal(`this host does not know ${method}`, {});
      send({ id, result: await calls[method](params) });
    } catch (error) {
      send({ id, error: { code: -32603, message: error.message, data: error.data ?? {} } });
    }
  };
  for await (const line of linesOf(input.setEncoding("utf8"))) {
    const call = parsed(line);
    if (typeof call?.method === "string") answer(call);
  }
}

/** Runs a neuron as a child until it ends; the first signal lets it drain. */
async function main([program, ...options]) {
  const { BIGBRAIN_GATEWAY_URL: gateway, BIGBRAIN_TOKEN: token, ...environment } = process.env;
  if (!gateway || !program) {
    console.error("usage: BIGBRAIN_GATEWAY_URL=URL [BIGBRAIN_TOKEN=TOKEN] node host.mjs COMMAND [ARGUMENT ...]");
    return 2;
  }
  const env = { ...environment, BIGBRAIN_GATEWAY_URL: "stdio:" };
  // Detached: Ctrl-C in a terminal is the host's to pass on; the neuron would take it for a second signal.
  const child = spawn(program, options, { env, stdio: ["pipe", "pipe", "inherit"], detached: true });
  const ended = new Promise((resolve) => {
    child.once("error", (error) => resolve(console.error(`cannot start ${program}: ${error.message}`) ?? 1));
    child.once("exit", (code) => resolve(code ?? 1));
  });
  for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => child.kill("SIGTERM"));
  child.stdin.on("error", () => {}); // it ended; its exit says more
  const host = new Host(gateway, token);
  await Promise.race([serve(host, child.stdout, child.stdin), ended]);
  return await ended;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.exit(await main(process.argv.slice(2)));
}
