// What a function in JavaScript or TypeScript is written with: a standard wasi:http component around a `fetch`, as workers have
// it. The types are in tidegate.d.ts.
//
// `host:` becomes `wasi:` when the component is made. While it is built, the engine has a WASI of its own.

import { settled } from "./promise.js"; // first: it is the Promise of all that follows
import { getStderr } from "host:cli/stderr@0.2.12";
import { getRandomBytes } from "host:random/random@0.2.12";
import { Fields, IncomingBody, OutgoingBody, OutgoingResponse, ResponseOutparam } from "host:http/types@0.2.12";
import { hex } from "./hex.js";
import { traced } from "./told.js";
import { decode, encode } from "./utf8.js";

export class Headers {
  #fields = [];

  constructor(from = []) {
    const fields = typeof from[Symbol.iterator] === "function" ? from : Object.entries(from);
    for (const [name, value] of fields) this.append(name, value);
  }

  append(name, value) {
    this.#fields.push([name.toLowerCase(), String(value)]);
  }

  delete(name) {
    this.#fields = this.#fields.filter(([known]) => known !== name.toLowerCase());
  }

  get(name) {
    const values = this.#fields.filter(([known]) => known === name.toLowerCase());
    return values.length > 0 ? values.map(([, value]) => value).join(", ") : null;
  }

  has(name) {
    return this.get(name) !== null;
  }

  set(name, value) {
    this.delete(name);
    this.append(name, value);
  }

  /** All field lines, in their order. */
  [Symbol.iterator]() {
    return this.#fields[Symbol.iterator]();
  }
}

/** The parameters of a query, decoded. */
class Query {
  #parameters;

  constructor(text) {
    const parts = text.split("&").filter((part) => part !== "");
    this.#parameters = parts.map((part) => {
      const [, name, value = ""] = /^([^=]*)=?(.*)$/s.exec(part);
      return [decodeParameter(name), decodeParameter(value)];
    });
  }

  get(name) {
    return this.getAll(name)[0] ?? null;
  }

  getAll(name) {
    return this.#parameters.filter(([known]) => known === name).map(([, value]) => value);
  }

  has(name) {
    return this.getAll(name).length > 0;
  }

  [Symbol.iterator]() {
    return this.#parameters[Symbol.iterator]();
  }
}

const decodeParameter = (text) => {
  const spaced = text.replaceAll("+", " ");
  try {
    return decodeURIComponent(spaced);
  } catch {
    return spaced; // a percent sign that encodes nothing
  }
};

/** What requests and responses have in common. */
class Message {
  #content;

  constructor(content, headers) {
    this.#content = content;
    this.headers = headers;
  }

  async bytes() {
    return this.#content;
  }

  async arrayBuffer() {
    return this.#content.slice().buffer;
  }

  async text() {
    return decode(this.#content);
  }

  async json() {
    return JSON.parse(decode(this.#content));
  }
}

export class Request extends Message {
  constructor(method, base, target, headers, content) {
    super(content, headers);
    const [path, query] = divided(target, "?");
    this.method = method;
    this.url = base + target;
    this.path = path;
    this.query = new Query(query);
  }
}

const divided = (text, mark) => {
  const place = text.indexOf(mark);
  return place < 0 ? [text, ""] : [text.slice(0, place), text.slice(place + mark.length)];
};

export class Response extends Message {
  constructor(content = null, { status = 200, headers } = {}) {
    super(contentOf(content), new Headers(headers));
    if (!Number.isInteger(status) || status < 200 || status > 599) {
      throw new RangeError(`${status} is no status of a response`);
    }
    this.status = status;
    this.ok = status < 300;
    if (typeof content === "string" && !this.headers.has("content-type")) {
      this.headers.set("content-type", "text/plain;charset=UTF-8");
    }
  }

  static json(value, options = {}) {
    const response = new Response(encode(JSON.stringify(value)), options);
    if (!response.headers.has("content-type")) response.headers.set("content-type", "application/json");
    return response;
  }
}

const contentOf = (content) => {
  if (content === null || typeof content === "string") return encode(content ?? "");
  return content instanceof Uint8Array ? content : new Uint8Array(content);
};

// ---- Between these and wasi:http: what the generated entry module calls. ----

export const serve = (handler) => {
  if (typeof handler?.fetch !== "function") {
    throw new Error("the module's default export has no function `fetch`");
  }
  return {
    handle(incoming, out) {
      send(answer(handler, received(incoming)), out);
    },
  };
};

const answer = (handler, request) => {
  try {
    const response = settled(handler.fetch(request));
    if (response instanceof Response) return response;
    throw new TypeError("`fetch` gave no Response");
  } catch (error) {
    console.error(error);
    return new Response("", { status: 500 });
  }
};

const received = (incoming) => {
  const { tag, val } = incoming.method();
  const method = tag === "other" ? val : tag.toUpperCase();
  const scheme = incoming.scheme()?.tag === "https" ? "https" : "http";
  const base = `${scheme}://${incoming.authority() ?? ""}`;
  const target = incoming.pathWithQuery() ?? "/";
  const fields = incoming.headers();
  const headers = new Headers(fields.entries().map(([name, value]) => [name, fromOctets(value)]));
  fields[Symbol.dispose]();
  const request = new Request(method, base, target, headers, consumed(incoming));
  incoming[Symbol.dispose]();
  return request;
};

const consumed = (incoming) => {
  const body = incoming.consume();
  const stream = body.stream();
  const parts = [];
  try {
    for (;;) parts.push(stream.blockingRead(16 * CHUNK));
  } catch {
    // The end, or the sender left: the host knows which.
  }
  stream[Symbol.dispose]();
  IncomingBody.finish(body)[Symbol.dispose]();
  return joined(parts);
};

const joined = (parts) => {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
};

const send = (response, out) => {
  const fields = new Fields();
  for (const [name, value] of response.headers) fields.append(name, toOctets(value));
  const outgoing = new OutgoingResponse(fields);
  outgoing.setStatusCode(response.status);
  const body = outgoing.body();
  ResponseOutparam.set(out, { tag: "ok", val: outgoing });
  const stream = body.write();
  try {
    writeAll(stream, settled(response.bytes()));
  } catch {
    // The viewer left.
  }
  stream[Symbol.dispose]();
  OutgoingBody.finish(body, null);
};

const writeAll = (stream, content) => {
  for (let place = 0; place < content.length; place += CHUNK) {
    stream.blockingWriteAndFlush(content.slice(place, place + CHUNK));
  }
};

/** A field's value is octets; each is a character here, as in the web's API. */
const fromOctets = (value) => String.fromCharCode(...value);

const toOctets = (value) => Uint8Array.from(value, (character) => {
  const code = character.codePointAt(0);
  if (code > 0xff) throw new TypeError(`${JSON.stringify(value)} cannot be a field's value`);
  return code;
});

/** Lines for the log, with the request's id. */
const line = (...values) => {
  const stream = getStderr();
  writeAll(stream, encode(`${values.map(shown).join(" ")}\n`));
  stream[Symbol.dispose]();
};

const shown = (value) => {
  if (value instanceof Error) return traced(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
};

globalThis.crypto = {
  getRandomValues(array) {
    const drawn = getRandomBytes(array.byteLength);
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(drawn);
    return array;
  },

  /** A UUID of version 4 (RFC 9562 section 5.4). */
  randomUUID() {
    const octets = crypto.getRandomValues(new Uint8Array(16));
    octets[6] = (octets[6] & 0x0f) | 0x40;
    octets[8] = (octets[8] & 0x3f) | 0x80;
    return hex(octets).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  },
};

// Every instance begins from one snapshot: the engine's own numbers would be the same in all of them.
Math.random = () => {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return ((high >>> 11) * 2 ** 32 + low) * 2 ** -53;
};

globalThis.console = { debug: line, error: line, info: line, log: line, warn: line };

/** Octets of one read or write: the most that a blocking write takes. */
const CHUNK = 4096;
