//! What a binding may ask the host for.

use crate::component::PACKAGE;

/// The capabilities granted to a binding, by the names of the WIT interfaces. Nothing is granted by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Digests and signatures.
    pub crypto: bool,
    /// Hosts (`host` or `host:port`) whose key sets may be fetched.
    pub jwks: Vec<String>,
    /// Token buckets.
    pub rate_limit: bool,
    /// Quotas.
    pub quota: bool,
    /// The node's API keys.
    pub api_keys: bool,
    /// A cache that the binding's instances share.
    pub shared_cache: bool,
    /// Hosts (`host` or `host:port`) that may be asked.
    pub http_client: Vec<String>,
    /// Names of secrets.
    pub secrets: Vec<String>,
    /// Counters of the plugin's own.
    pub metrics: bool,
    /// Where log lines go, by a name that the embedder knows.
    pub log_output: Option<String>,
}

impl Grants {
    /// The first of `imports` that needs a grant and has none, as `tidegate:gateway/crypto`.
    pub(crate) fn missing<'a>(
        &self,
        imports: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        imports.into_iter().find(|import| !self.allows(import))
    }

    pub(crate) fn allows(&self, import: &str) -> bool {
        let name = import.split('@').next().unwrap_or(import);
        let Some(interface) = name
            .strip_prefix(PACKAGE)
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            return name.starts_with("wasi:"); // clocks, random and output into the log; nothing is preopened
        };
        match interface {
            "types" | "request" | "request-body" | "response" | "response-body" | "log" => true,
            "crypto" => self.crypto,
            "jwks" => !self.jwks.is_empty(),
            "rate-limit" => self.rate_limit,
            "quota" => self.quota,
            "api-keys" => self.api_keys,
            "shared-cache" => self.shared_cache,
            "http-client" => !self.http_client.is_empty(),
            "secrets" => !self.secrets.is_empty(),
            "metrics" => self.metrics,
            "log-output" => self.log_output.is_some(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_granted_is_named() {
        let grants = Grants {
            crypto: true,
            ..Grants::default()
        };
        let cases: [(&[&str], Option<&str>); 4] = [
            (
                &["tidegate:gateway/request@0.1.0", "wasi:cli/stderr@0.2.6"],
                None,
            ),
            (&["tidegate:gateway/crypto@0.1.0"], None),
            (
                &[
                    "tidegate:gateway/log@0.1.0",
                    "tidegate:gateway/secrets@0.1.0",
                ],
                Some("tidegate:gateway/secrets@0.1.0"),
            ),
            (&["other:thing/x@1.0.0"], Some("other:thing/x@1.0.0")),
        ];
        for (imports, expected) in cases {
            assert_eq!(
                grants.missing(imports.iter().copied()),
                expected,
                "{imports:?}"
            );
        }
    }
}
