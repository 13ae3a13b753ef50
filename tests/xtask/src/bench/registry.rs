//! An OCI registry on this machine, Debian's `docker-registry`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::systems::await_port;
use crate::node::free_addresses;
use crate::process::{Guard, find, said};

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
        let mut guard = Guard::spawn("docker-registry", silent)?;
        await_port(address, &mut guard)?;
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
        said(&mut command)?;
        Ok(reference)
    }
}
