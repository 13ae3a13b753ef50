//! From core modules to components, and what is written into them.

use std::path::Path;

use anyhow::{Result, anyhow};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_bindgen_core::wit_parser::{Resolve, WorldId};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use super::manifest::{Kind, Manifest};
use super::{component, embedded};

/// Writes the contract and the plugin's world as a WIT folder, for tools that read one.
pub fn lay_out_wit(manifest: &Manifest, folder: &Path) -> Result<()> {
    embedded::write_changed(&folder.join("world.wit"), manifest.world().as_bytes())?;
    for (path, content) in embedded::below("wit") {
        let place = match path.strip_prefix("deps/") {
            Some(rest) => folder.join("deps").join(rest),
            None => folder.join("deps/tidegate-gateway").join(path),
        };
        embedded::write_changed(&place, content)?;
    }
    if manifest.kind == Kind::Function {
        embedded::lay_out("wasi", &folder.join("deps"))?;
    }
    Ok(())
}

/// The plugin's world, resolved.
pub fn resolve(manifest: &Manifest) -> Result<(Resolve, WorldId)> {
    let folder = manifest.build_folder().join("wit");
    lay_out_wit(manifest, &folder)?;
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(&folder)?;
    let world = resolve.select_world(&[package], Some("plugin"))?;
    Ok((resolve, world))
}

/// Makes a component of a module that does not say its world yet.
pub fn embed_and_encode(manifest: &Manifest, mut module: Vec<u8>) -> Result<Vec<u8>> {
    let (resolve, world) = resolve(manifest)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .map_err(|error| anyhow!("the module is no WebAssembly: {error:#}"))?;
    encode(&module)
}

/// Makes a component of a module that says its world; WASI 0.1 becomes 0.2.
pub fn encode(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| {
            encoder.adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            )
        })
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(|error| anyhow!("the module does not fit its world: {error:#}"))
}

/// Writes a custom section into a component.
pub fn with_section(mut component: Vec<u8>, name: &str, content: &str) -> Vec<u8> {
    component::append_section(&mut component, name, content.as_bytes());
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_world_resolves() {
        for steps in [
            "'function'",
            "'authorizer', 'throttle', 'validator', 'request-transform', 'integration', 'response-transform', 'log-sink'",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let text = format!("name = 'a'\nversion = '1.0.0'\nlanguage = 'c'\nsteps = [{steps}]");
            std::fs::write(folder.path().join("plugin.toml"), text).unwrap();
            let manifest = Manifest::read(folder.path()).unwrap();
            resolve(&manifest).unwrap();
        }
    }
}
