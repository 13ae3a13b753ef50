//! What the node says about itself: log lines, metrics, and the lines of log sinks.

pub mod entry;
pub mod lines;
pub mod log;
pub mod metrics;
pub mod sparing;
pub mod tail;
