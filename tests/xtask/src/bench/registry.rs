//! An OCI registry on this machine, Debian's `docker-registry`.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::node::free_addresses;
use crate::process::{Guard, find};

pub struct Registry {
    address: SocketAddr,
    _guard: Guard,
}

impl Registry {
    /// Starts one, where the machine has it.
    pub fn start(folder: &Path) -> anyhow::Result<Option<Self>> {
        let Some(program) = find("docker-registry") else {
            eprintln!(
                "docker-registry is missing, measuring no swap from a registry; to get it: apt-get install docker-registry"
            );
            return Ok(None);
        };
        let (address, _) = free_addresses()?;
        let settings = folder.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{ level: error, accesslog: {{ disabled: true }} }}\n\
             storage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: '{address}' }}\n",
            folder.join("registry").display()
        );
        fs::write(&settings, text)?;
        let mut command = Command::new(program);
        command.arg("serve").arg(&settings);
        let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
        let guard = Guard::spawn("docker-registry", silent)?;
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > until {
                bail!("docker-registry does not listen on {address}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(Self {
            address,
            _guard: guard,
        }))
    }

    /// Pushes a component; gives its reference.
    pub fn push(&self, binary: &Path, file: &Path, version: u64) -> anyhow::Result<String> {
        let reference = format!("oci://{}/bench/plugin:{version}", self.address);
        let mut command = Command::new(binary);
        command.args(["plugin", "push", &reference]).arg(file);
        succeeds(&mut command)?;
        Ok(reference)
    }
}

/// Runs a command that is to end well.
pub fn succeeds(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.success() {
        true => Ok(()),
        false => Err(anyhow::anyhow!(said())).with_context(|| format!("{command:?}")),
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
