// Digests and signatures; capability and grant: crypto.
import * as host from "tidegate:gateway/crypto@0.1.0";
import { octets } from "tidegate";

export const digest = (algorithm, data) => host.digest(algorithm, octets(data));
export const hmac = (algorithm, key, data) => host.hmac(algorithm, octets(key), octets(data));
export const verify = (algorithm, key, message, signature) =>
  host.verify(algorithm, JSON.stringify(key), octets(message), signature);
export const equal = (a, b) => host.equal(octets(a), octets(b));
