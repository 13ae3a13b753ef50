// Counters; capability and grant: metrics.
export { count } from "tidegate:gateway/metrics@0.1.0";
