//! Who pushes and pulls: what the command line says, or what `docker login` left.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::secrets::RegistryAuth;

/// A registry's credentials; those of docker's `config.json` unless they are given.
#[derive(Debug, Default, Args)]
pub struct Credentials {
    /// The registry's user, instead of what docker's config.json says.
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,
    /// Read the user's password from standard input.
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

impl Credentials {
    /// What to tell a registry.
    ///
    /// # Errors
    ///
    /// Where there are credentials for it that cannot be read.
    pub fn of(&self, registry: &str) -> Result<RegistryAuth> {
        if let Some(username) = &self.username {
            let password = std::io::read_to_string(std::io::stdin()).context("standard input")?;
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            return Ok(RegistryAuth::Basic(username.clone(), password));
        }
        // What `docker login` without a name writes.
        let entry = match registry {
            "docker.io" | "index.docker.io" => "https://index.docker.io/v1/",
            other => other,
        };
        let Some(file) = dockers_file().filter(|file| file.exists()) else {
            return Ok(RegistryAuth::Anonymous);
        };
        let config = std::fs::File::open(&file).with_context(|| file.display().to_string())?;
        match docker_credential::get_credential_from_reader(config, entry) {
            Ok(DockerCredential::UsernamePassword(username, password)) => {
                Ok(RegistryAuth::Basic(username, password))
            }
            Ok(DockerCredential::IdentityToken(_)) => bail!(
                "{} has an identity token for {registry}, which is for docker only: use --username and --password-stdin",
                file.display()
            ),
            Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(RegistryAuth::Anonymous),
            Err(error) => Err(error)
                .with_context(|| format!("{}, credentials for {registry}", file.display())),
        }
    }
}

/// Where `docker login` puts them.
fn dockers_file() -> Option<PathBuf> {
    let folder = match env::var_os("DOCKER_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env::var_os("HOME")?).join(".docker"),
    };
    Some(folder.join("config.json"))
}
