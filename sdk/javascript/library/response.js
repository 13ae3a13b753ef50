// The response in hand, in a response-transform.
import * as host from "tidegate:gateway/response@0.1.0";

export const response = {
  get status() {
    return host.status();
  },
  header: (name) => host.header(name) ?? undefined,
  headers: () => host.headers(),
};
