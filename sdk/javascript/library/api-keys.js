// The node's API keys; capability and grant: api-keys.
import { find as look } from "tidegate:gateway/api-keys@0.1.0";

export const find = (value) => look(value) ?? undefined;
