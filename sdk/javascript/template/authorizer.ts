// Lets in who sends a token whose digest is the configuration's.

import { allow, definePlugin, forbidden, hex, unauthorized } from "tidegate";
import { digest, equal } from "tidegate/crypto";

interface Configuration {
  header?: string;
  digest: string;
}

export default definePlugin<Configuration>({
  // The host hands the header over with each call, which costs half of what asking for it does.
  reads: ({ header = "x-token" }) => ({ token: `header:${header}` }),

  authorize({ configuration, given: { token } }) {
    if (token === undefined) return unauthorized("Token");
    const known = equal(hex(digest("sha256", token)), configuration.digest);
    return known ? allow("friend") : forbidden("another token");
  },
});
