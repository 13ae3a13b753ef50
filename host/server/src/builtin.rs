//! The plugins that come with the node: components like any other, without a private way into the host.

/// Name and component of each, put here by the build script.
pub const PLUGINS: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// The names.
pub fn names() -> Vec<&'static str> {
    PLUGINS.iter().map(|(name, _)| *name).collect()
}

/// The component of this name.
pub fn component(name: &str) -> Option<&'static [u8]> {
    PLUGINS
        .iter()
        .find(|(builtin, _)| *builtin == name)
        .map(|(_, component)| *component)
}
