use std::path::{Path, PathBuf};

use super::*;
use crate::deployment::{Binding, FaultPolicy, Located, Selection};

const BUILTINS: &[&str] = &[
    "api-key",
    "jwt",
    "token-bucket",
    "schema",
    "header-transform",
    "http",
    "function",
    "mock",
    "access-log",
];

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

fn load_config(name: &str) -> Snapshot {
    let node = config::load(&configs().join(name)).unwrap_or_else(|problems| panic!("{problems}"));
    load(&node, BUILTINS).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Every file in configs/ that is a node's.
#[test]
fn every_configuration_loads() {
    let mut found = Vec::new();
    for folder in [configs(), configs().join("demo")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                assert_eq!(crate::check(&[&path], BUILTINS).to_string(), "", "{}", path.display());
                found.push(path);
            }
        }
    }
    assert!(found.len() >= 4, "{found:?}");
}
