// What may be taken in a day, week or month; capability and grant: quota.
import { take as takeBy } from "tidegate:gateway/quota@0.1.0";

export const take = (key, amount, { limit, offset = 0, period }) => takeBy(key, amount, { limit, offset, period });
