// Admits so many requests of each caller: some a second and, where configured, some a day.

import { admit, definePlugin, exceeded, reject } from "tidegate";
import { take as takeQuota } from "tidegate/quota";
import { take as takeToken } from "tidegate/rate-limit";

interface Configuration {
  header?: string;
  anonymous?: boolean;
  rate: number;
  burst: number;
  limit?: number;
}

export default definePlugin<Configuration>({
  // The host hands the header over with each call, which costs half of what asking for it does.
  reads: ({ header = "x-client" }) => ({ client: `header:${header}` }),

  admit({ configuration: { anonymous = false, rate, burst, limit }, given: { client } }) {
    if (client === undefined && !anonymous) return reject(1000); // a name is missing, not time
    const key = `client ${client ?? ""}`;
    const token = takeToken(key, rate, burst);
    if (token.tag === "rejected") return reject(token.val);
    if (limit === undefined) return admit();
    const { tag, val } = takeQuota(key, 1, { limit, period: "day" });
    return tag === "admitted" ? admit() : exceeded(val.renewsInMs);
  },
});
