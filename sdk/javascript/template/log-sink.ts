// Writes down the requests that failed.

import { definePlugin } from "tidegate";
import { write } from "tidegate/log-output";

export default definePlugin<{ least?: number }>({
  reads: () => ({ status: "context:status", route: "context:routeKey" }),

  write(records, { least = 400 }) {
    const failed = records.filter(({ status }) => Number(status) >= least);
    write(failed.map(({ status, route = "-" }) => `${status} ${route}`));
  },
});
