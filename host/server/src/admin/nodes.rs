//! `GET /tidegate/v1/nodes`: this node, and those that have linked to it since it started.

use serde_json::json;

use super::Admin;

/// The list.
pub fn list(admin: &Admin) -> serde_json::Value {
    let snapshot = admin.serving.load().stable.published.clone();
    let nodes = admin.membership.as_ref().map(|it| it.nodes.list(&snapshot));
    let this = json!({
        "name": admin.name,
        "role": admin.role.as_str(),
        "region": admin.region,
        "version": env!("CARGO_PKG_VERSION"),
        "snapshot": *snapshot,
    });
    json!({ "this": this, "nodes": nodes.unwrap_or_default() })
}
