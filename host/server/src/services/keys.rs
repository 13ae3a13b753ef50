//! API keys: who may use which stage.

use std::collections::{BTreeSet, HashMap};

use aws_lc_rs::digest;
use tidegate_model::config;
use tidegate_sandbox::wit::ApiKey;

/// The keys of a node, by the digest of their value: neither the look-up's time nor a copy of memory tells a value.
#[derive(Default)]
pub struct Keys(HashMap<[u8; 32], Key>);

struct Key {
    public: ApiKey,
    enabled: bool,
    /// `api/stage`.
    scopes: BTreeSet<String>,
}

impl Keys {
    /// Takes the configured keys.
    pub fn new(keys: &[config::ApiKey]) -> Self {
        let entry = |key: &config::ApiKey| {
            let scopes = key
                .stages
                .iter()
                .map(|stage| format!("{}/{}", stage.api, stage.stage))
                .collect();
            let public = ApiKey {
                id: key.id.clone(),
                name: key.name.clone(),
            };
            (
                key.digest,
                Key {
                    public,
                    enabled: key.enabled,
                    scopes,
                },
            )
        };
        Self(keys.iter().map(entry).collect())
    }

    /// The enabled key of this value that may be used in `scope`.
    pub fn find(&self, scope: &str, value: &str) -> Option<ApiKey> {
        let key = self.0.get(&digest_of(value))?;
        (key.enabled && key.scopes.contains(scope)).then(|| key.public.clone())
    }
}

fn digest_of(value: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, value.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 octets")
}
