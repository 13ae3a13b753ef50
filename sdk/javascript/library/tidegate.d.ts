// The types of a Tidegate plugin. Units and bounds are those of the WIT package `tidegate:gateway`.

declare module "tidegate" {
  /** A name and its value. */
  export type Field = [name: string, value: string];

  /** The request in hand, read value by value. Each look-up is a call of the host: `reads` costs half. */
  export interface Request {
    readonly method: string;
    /** Below the stage, percent-encoded, without the query. */
    readonly path: string;
    readonly queryString: string | undefined;
    header(name: string): string | undefined;
    headers(): Field[];
    queryParameter(name: string): string | undefined;
    queryParameters(): Field[];
    pathParameter(name: string): string | undefined;
    pathParameters(): Field[];
    stageVariable(name: string): string | undefined;
    /** A variable of `$context`, without the prefix: `requestId`. */
    context(name: string): string | undefined;
  }

  /** What a step is called with. `given`: the values that `reads` names. */
  export interface Call<C> {
    configuration: C;
    given: Record<string, string | undefined>;
    request: Request;
  }

  export interface Answer {
    /** 200 unless given. */
    status?: number;
    headers?: Record<string, string>;
    body?: string | Uint8Array;
  }

  export type Verdict = { tag: "allow" | "unauthorized" | "forbidden"; val?: unknown };
  export type Admission = { tag: "admit" | "reject" | "exceeded"; val?: number };
  export type Validity = { tag: string; val?: string };
  export type Edit = { tag: string; val: unknown };
  export type Respond = { tag: "respond"; val: unknown };
  export type Plan = Respond | { tag: "forward" | "invoke"; val: unknown };

  /** `header:x-name`, `queryParameter:q`, `pathParameter:id`, `stageVariable:v`, `context:requestId`, `method` … */
  export type Reading = string;

  /** A plugin: how it is configured, and a function for each step that plugin.toml names. Throwing is the error that no
   * decision could be made; in `configure`, it refuses the deployment. */
  export interface Plugin<C> {
    /** Takes the binding's configuration, which the host has checked against the schema. What it returns is handed to
     * every call as `configuration`; without it, that is the configuration itself. */
    configure?(configuration: any): C;
    /** Values that the host hands over with each call, by the names that `given` shall have. At most 64. */
    reads?(configuration: C): Record<string, Reading>;
    authorize?(call: Call<C>): Verdict;
    admit?(call: Call<C>): Admission;
    validate?(call: Call<C>): Validity;
    transformRequest?(call: Call<C>): Edit[] | Respond;
    integrate?(call: Call<C>): Plan;
    transformResponse?(call: Call<C>): Edit[];
    /** Takes 1 to 256 served requests, the oldest first, each the values of `reads`. */
    write?(records: Record<string, string | undefined>[], configuration: C): void;
  }

  export function definePlugin<C>(plugin: Plugin<C>): Plugin<C>;

  export const request: Request;
  export const log: Record<"trace" | "debug" | "info" | "warn" | "error", (message: unknown) => void>;

  export function octets(value: string | Uint8Array): Uint8Array;
  export function text(value: Uint8Array): string;
  export function hex(value: Uint8Array): string;
  /** Octets of base64url without padding (RFC 7515 section 2); throws where it is none. */
  export function fromBase64url(text: string): Uint8Array;

  /** Proceed, as this principal. */
  export function allow(
    id: string,
    options?: { context?: Record<string, string | number | boolean>; usageIdentifierKey?: string },
  ): Verdict;
  /** 401, with a `WWW-Authenticate` challenge. */
  export function unauthorized(challenge?: string): Verdict;
  /** 403; the reason is for the log. */
  export function forbidden(reason?: string): Verdict;

  export function admit(): Admission;
  /** 429; a retry can succeed after this many milliseconds. */
  export function reject(retryMs: number): Admission;
  /** 429, of a quota; it begins anew after this many milliseconds. */
  export function exceeded(renewsInMs: number): Admission;

  export function valid(): Validity;
  export function invalidParameters(message: string): Validity;
  export function invalidBody(message: string): Validity;
  export function unsupportedMediaType(): Validity;

  export function setHeader(name: string, value: string): Edit;
  export function appendHeader(name: string, value: string): Edit;
  export function removeHeader(name: string): Edit;
  export function renameHeader(from: string, to: string): Edit;
  export function setQueryParameter(name: string, value: string): Edit;
  export function removeQueryParameter(name: string): Edit;
  export function renameQueryParameter(from: string, to: string): Edit;
  export function setPath(path: string): Edit;
  export function setStatus(status: number): Edit;
  export function setBody(body: string | Uint8Array): Edit;

  /** Answers with this; the integration is not called. */
  export function respond(answer: Answer): Respond;
  /** Sends the request to a server: an upstream of the node, or a granted host. */
  export function forward(to: { uri: string; method?: string; edits?: Edit[]; timeoutMs?: number }): Plan;
  /** Invokes a function of the node. */
  export function invoke(name: string, options?: { edits?: Edit[]; timeoutMs?: number }): Plan;
}

/** The response in hand, in a response-transform. */
declare module "tidegate/response" {
  export const response: {
    readonly status: number;
    header(name: string): string | undefined;
    headers(): import("tidegate").Field[];
  };
}

/** The request's content. Capability: `request-body`. */
declare module "tidegate/request-body" {
  export function read(): Uint8Array;
}

/** The response's content. Capability: `response-body`. */
declare module "tidegate/response-body" {
  export function read(): Uint8Array;
}

/** Capability and grant: `crypto`. */
declare module "tidegate/crypto" {
  export type DigestAlgorithm = "sha256" | "sha384" | "sha512";
  export type SignatureAlgorithm =
    | "hs256" | "hs384" | "hs512" | "rs256" | "rs384" | "rs512"
    | "ps256" | "ps384" | "ps512" | "es256" | "es384" | "ed-dsa";
  export function digest(algorithm: DigestAlgorithm, data: string | Uint8Array): Uint8Array;
  export function hmac(
    algorithm: DigestAlgorithm,
    key: string | Uint8Array,
    data: string | Uint8Array,
  ): Uint8Array;
  /** Whether the signature is the message's under the JSON Web Key; throws what is wrong with the key. */
  export function verify(
    algorithm: SignatureAlgorithm,
    key: object,
    message: string | Uint8Array,
    signature: Uint8Array,
  ): boolean;
  /** Compares in a time that depends on the lengths only. */
  export function equal(a: string | Uint8Array, b: string | Uint8Array): boolean;
}

/** Key sets of identity providers. Capability and grant: `jwks`. */
declare module "tidegate/jwks" {
  /** The key set at `uri`; `refresh` fetches it again, at most once in 30 seconds. Throws why there is none. */
  export function fetch(uri: string, options?: { refresh?: boolean }): { keys: Record<string, unknown>[] };
}

/** The node's API keys. Capability and grant: `api-keys`. */
declare module "tidegate/api-keys" {
  /** The enabled key of this value whose usage plan includes this API and stage. */
  export function find(value: string): { id: string; name: string } | undefined;
}

/** Where log records go. Capability and grant: `log-output`. */
declare module "tidegate/log-output" {
  /** Writes whole lines to the binding's destination; the host adds the line ends. */
  export function write(lines: string[]): void;
}

/** Capability and grant: `shared-cache`. */
declare module "tidegate/shared-cache" {
  export function get(key: string): Uint8Array | undefined;
  export function set(key: string, value: string | Uint8Array, ttlMs: number): void;
  export function remove(key: string): void;
}

/** Capability and grant: `rate-limit`. */
declare module "tidegate/rate-limit" {
  export function take(
    key: string,
    rate: number,
    burst: number,
  ): { tag: "admitted" | "rejected"; val: number };
}

/** Capability and grant: `quota`. */
declare module "tidegate/quota" {
  export interface Terms {
    /** In one period. */
    limit: number;
    period: "day" | "week" | "month";
    /** Subtracted from the limit in the period of the first use; 0 unless given. */
    offset?: number;
  }
  /** What may still be taken, and the milliseconds until the next period begins. */
  export interface Standing {
    left: number;
    renewsInMs: number;
  }
  /** Takes the amount, 0 to look only; it counts for all nodes. Throws why that is not possible. */
  export function take(
    key: string,
    amount: number,
    terms: Terms,
  ): { tag: "admitted" | "exceeded"; val: Standing };
}

/** Capability and grant: `secrets`. */
declare module "tidegate/secrets" {
  export function get(name: string): string | undefined;
}

/** Capability and grant: `metrics`. */
declare module "tidegate/metrics" {
  export function count(event: string, amount: number): void;
}

/** Capability and grant: `http-client`. */
declare module "tidegate/http-client" {
  /** Sends it and waits for the whole response; throws what went wrong. */
  export function fetch(
    uri: string,
    options?: {
      method?: string;
      headers?: Record<string, string>;
      body?: string | Uint8Array;
      timeoutMs?: number;
    },
  ): { status: number; headers: import("tidegate").Field[]; body: Uint8Array };
}

/** Functions: standard `wasi:http` components around a `fetch`. */
declare module "tidegate/function" {
  /** The module's default export. An exception is 500, and in the log. */
  export interface Handler {
    fetch(request: Request): Response | Promise<Response>;
  }

  /** Names are compared without regard to case; what is iterated over is in lower case. */
  export class Headers implements Iterable<[name: string, value: string]> {
    constructor(fields?: Record<string, string> | Iterable<[name: string, value: string]>);
    append(name: string, value: string): void;
    delete(name: string): void;
    /** Several field lines are joined by `, `. */
    get(name: string): string | null;
    has(name: string): boolean;
    set(name: string, value: string): void;
    [Symbol.iterator](): IterableIterator<[name: string, value: string]>;
  }

  /** The parameters of a query, decoded. */
  export interface Query extends Iterable<[name: string, value: string]> {
    get(name: string): string | null;
    getAll(name: string): string[];
    has(name: string): boolean;
  }

  interface Message {
    readonly headers: Headers;
    bytes(): Promise<Uint8Array>;
    arrayBuffer(): Promise<ArrayBuffer>;
    text(): Promise<string>;
    json(): Promise<any>;
  }

  /** A whole one: its content is there before `fetch` is called. */
  export interface Request extends Message {
    readonly method: string;
    readonly url: string;
    /** Percent-encoded, without the query. */
    readonly path: string;
    readonly query: Query;
  }

  export class Response {
    constructor(
      content?: string | Uint8Array | ArrayBuffer | null,
      options?: { status?: number; headers?: ConstructorParameters<typeof Headers>[0] },
    );
    static json(value: unknown, options?: ConstructorParameters<typeof Response>[1]): Response;
    readonly status: number;
    readonly ok: boolean;
  }

  export interface Response extends Message {}
}
