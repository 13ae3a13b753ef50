// Secrets by name; capability and grant: secrets.
import { get as find } from "tidegate:gateway/secrets@0.1.0";

export const get = (name) => find(name) ?? undefined;
