// A cache that all instances of a binding share; capability and grant: shared-cache.
import * as host from "tidegate:gateway/shared-cache@0.1.0";
import { octets } from "tidegate";

export const get = (key) => host.get(key) ?? undefined;
export const set = (key, value, ttlMs) => host.set(key, octets(value), ttlMs);
export const remove = (key) => host.delete_?.(key) ?? host["delete"]?.(key);
