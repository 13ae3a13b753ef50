//! C and C++: bindings by wit-bindgen, clang, and the encoder.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use wit_bindgen_core::Files;

use super::super::language::Language;
use super::super::manifest::{Kind, Manifest};
use super::super::{embedded, encode, tool};
use super::constant;

pub fn build(manifest: &Manifest) -> Result<Vec<u8>> {
    let cpp = manifest.language == Language::Cpp;
    let clang = tool::find("clang", GET)?;
    tool::find("wasm-ld", GET)?;
    ensure!(
        Path::new(HEADERS).is_dir(),
        "wasi-libc is not there; to get it: {GET}"
    );
    let work = manifest.build_folder();
    let library = work.join("library");
    bind(manifest, &library)?;

    let mut objects = vec![work.join("author.o")];
    let compiler = || {
        let mut command = Command::new(&clang);
        command
            .args(["--target=wasm32-wasi", "-Os", "-c", "-I"])
            .arg(&library)
            .args(defines(manifest));
        command
    };
    let mut author = compiler();
    author.arg("-gline-tables-only");
    if cpp {
        ensure!(
            Path::new(HEADERS).join("c++").is_dir(),
            "libc++ is not there; to get it: {GET_CPP}"
        );
        author.args(["-xc++", "-std=c++20", "-fno-exceptions", "-fno-rtti"]);
    }
    author
        .args(["-Wall", "-Wextra"])
        .arg(manifest.folder.join(&manifest.source))
        .arg("-o")
        .arg(&objects[0]);
    tool::run(&mut author)?;
    let glue = match manifest.kind {
        Kind::Steps(_) => "tidegate.c",
        Kind::Function => "function.c",
    };
    for source in ["text.c", glue, "plugin.c"] {
        let object = work.join(source).with_extension("o");
        tool::run(compiler().arg(library.join(source)).arg("-o").arg(&object))?;
        objects.push(object);
    }
    objects.push(library.join("plugin_component_type.o"));

    let core = manifest.core();
    let mut linker = Command::new(&clang);
    linker.args(["--target=wasm32-wasi", "-mexec-model=reactor"]);
    linker.args(&objects);
    if cpp {
        linker.args(["-lc++", "-lc++abi"]);
    }
    tool::run(linker.arg("-o").arg(&core))?;
    encode::encode(&std::fs::read(&core).with_context(|| core.display().to_string())?)
}

/// Writes `plugin.c`, `plugin.h` and `plugin_component_type.o`.
fn bind(manifest: &Manifest, folder: &Path) -> Result<()> {
    let (mut resolve, world) = encode::resolve(manifest)?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default()
        .build()
        .generate(&mut resolve, world, &mut files)?;
    for (name, content) in files.iter() {
        embedded::write_changed(&folder.join(name), content)?;
    }
    Ok(())
}

/// What the library has to know of the world: it holds code for each step, and compiles what is there.
fn defines(manifest: &Manifest) -> impl Iterator<Item = String> {
    let steps = manifest.steps().iter();
    steps.map(|step| format!("-DTG_{}", constant(step.name())))
}

/// Where Debian puts wasi-libc.
const HEADERS: &str = "/usr/include/wasm32-wasi";
const GET: &str = "apt-get install clang lld wasi-libc libclang-rt-dev-wasm32";
const GET_CPP: &str = "apt-get install libc++-dev-wasm32";
