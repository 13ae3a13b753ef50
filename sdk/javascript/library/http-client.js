// Requests to other servers; capability and grant: http-client.
import { send } from "tidegate:gateway/http-client@0.1.0";
import { octets } from "tidegate";

/** Sends it and waits for the whole response; throws what went wrong. */
export const fetch = (uri, { method = "GET", headers = {}, body = "", timeoutMs = 5000 } = {}) => {
  const answer = send({ method, uri, headers: Object.entries(headers), body: octets(body), timeoutMs });
  return { status: answer.status, headers: answer.headers, body: answer.body };
};
