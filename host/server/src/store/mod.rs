//! What the node remembers: tables of functions.

pub mod embedded;

use std::sync::Arc;

use tidegate_sandbox::capabilities::keyvalue::Table;

/// Where tables are kept.
pub trait Tables: Send + Sync {
    /// Opens a table; `None` where the node has none of that name.
    fn table(&self, name: &str) -> Option<Arc<dyn Table>>;
}
