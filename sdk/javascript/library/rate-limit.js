// Token buckets; capability and grant: rate-limit.
export { take } from "tidegate:gateway/rate-limit@0.1.0";
