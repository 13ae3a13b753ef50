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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use tidegate_sandbox::{Runtime, Settings};

    use super::*;

    #[test]
    fn what_is_taken_from_functions_compiled_before_is_what_the_compiler_makes() {
        let folder = tempfile::tempdir().unwrap();
        let compile = |folder: &Path, function_bytes_max| {
            let runtime = Runtime::new(Settings {
                instances_max: 10,
                artifacts: Some(folder.to_owned()),
                function_bytes_max,
                ..Settings::default()
            });
            let runtime = runtime.unwrap();
            let plugins = PLUGINS.iter().map(|(name, component)| {
                let hash = runtime.plugin(component).unwrap().hash.clone();
                (*name, runtime.artifact(&hash).unwrap())
            });
            plugins.collect::<BTreeMap<_, _>>()
        };
        let each_anew = compile(&folder.path().join("anew"), 0);
        // They are by one library: later ones have much in common with those before.
        let together = compile(&folder.path().join("together"), 64 << 20);
        for (name, code) in each_anew {
            assert!(together[name] == code, "{name}");
        }
    }
}
