//! Running a language's own tools.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The program of this name on the path.
///
/// # Errors
///
/// It is not there; `get` says how to have it.
pub fn find(name: &str, get: &str) -> Result<PathBuf> {
    match look_up(name) {
        Some(path) => Ok(path),
        None => bail!("{name} is not there, which this plugin is built with; to get it: {get}"),
    }
}

/// The program of this name on the path, if it is there.
pub fn look_up(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// What a tool answers to `--version`.
pub fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}

/// The tool in the nearest `node_modules` of the folder or above it, where a workspace's are.
pub fn look_up_in_node_modules(folder: &Path, name: &str) -> Option<PathBuf> {
    folder
        .ancestors()
        .map(|above| above.join("node_modules/.bin").join(name))
        .find(|program| program.is_file())
}

/// Runs a tool to its end; what it prints goes to standard error, where the author sees it as it comes.
pub fn run(command: &mut Command) -> Result<()> {
    let name = shown(command);
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("`{name}` does not start"))?;
    if !status.success() {
        bail!("`{name}` ended with {status}; its messages are above");
    }
    Ok(())
}

/// Runs a tool to its end, and says what it printed only where it failed.
pub fn run_quietly(command: &mut Command) -> Result<()> {
    let name = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("`{name}` does not start"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!(
            "`{name}` ended with {}:\n{}",
            output.status,
            String::from_utf8_lossy(&said).trim()
        );
    }
    Ok(())
}

/// The tool's name and what it was asked for, without paths that tell nothing.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let first = command.get_args().next().unwrap_or_default();
    format!("{} {}", program.to_string_lossy(), first.to_string_lossy())
}
