// Lets in who has an API key of the node, or a token that the identity provider has signed (RFC 7519, ES256).

import { allow, definePlugin, forbidden, fromBase64url, octets, text, unauthorized, type Verdict } from "tidegate";
import { find } from "tidegate/api-keys";
import { verify } from "tidegate/crypto";
import { fetch } from "tidegate/jwks";

interface Configuration {
  provider: string;
}

/** A token's parts, and what the signature is over. */
interface Token {
  header: { kid?: string } | null;
  claims: { sub: string; exp: number };
  signature: Uint8Array;
  message: Uint8Array;
}

export default definePlugin<Configuration>({
  reads: () => ({ apiKey: "header:x-api-key", authorization: "header:authorization", now: "context:requestTimeEpoch" }),

  authorize({ configuration: { provider }, given: { apiKey, authorization = "", now } }) {
    if (apiKey !== undefined) return byKey(apiKey);
    const token = authorization.startsWith("Bearer ") ? parse(authorization.slice(7)) : undefined;
    if (!token) return unauthorized("Bearer");
    const key = findKey(provider, token.header?.kid);
    const good = key && isSigned(token, key) && 1000 * token.claims.exp > Number(now);
    return good ? allow(token.claims.sub) : unauthorized("Bearer");
  },
});

const byKey = (value: string): Verdict => {
  const key = find(value);
  return key ? allow(key.name, { usageIdentifierKey: key.id }) : forbidden("unknown API key");
};

/** The provider's key of this id; one that is new may not be in the set that the node keeps. */
const findKey = (provider: string, id?: string): object | undefined => {
  for (const refresh of [false, true]) {
    const key = fetch(provider, { refresh }).keys.find(({ kid }) => kid === id);
    if (key) return key;
  }
  return undefined;
};

const isSigned = ({ message, signature }: Token, key: object): boolean => {
  try {
    return verify("es256", key, message, signature);
  } catch {
    return false; // an unfit key signs nothing
  }
};

const parse = (token: string): Token | undefined => {
  const [header, claims, signature, ...more] = token.split(".");
  if (signature === undefined || more.length > 0) return undefined;
  try {
    return {
      header: JSON.parse(text(fromBase64url(header))),
      claims: JSON.parse(text(fromBase64url(claims))),
      signature: fromBase64url(signature),
      message: octets(`${header}.${claims}`),
    };
  } catch {
    return undefined;
  }
};
