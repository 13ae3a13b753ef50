//! `[cache]`, and the `cache` of a stage or route.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::key::Secret;
use super::limits::{at_least, positive};
use super::source::Source;
use super::units::{ByteSize, DurationText};
use crate::api::rest::MethodSetting;
use crate::cache::policy::{Strategy, TTL_DEFAULT, TTL_MAX};
use crate::problem::did_you_mean;

/// The node's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCache {
    /// What all stored responses may take, with what is needed to find them.
    pub memory: ByteSize,
    /// The largest body that is stored.
    pub body: ByteSize,
    /// How long a request waits for another one's answer to the same URL.
    pub wait: Duration,
    /// The tier that outlives the process; `None`: memory only.
    pub disk: Option<DiskCache>,
}

/// The cache's disk tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskCache {
    /// What its files may take.
    pub bytes: ByteSize,
    /// The directory of its files, and of nothing else.
    pub path: PathBuf,
    /// The name of the secret that its keys are derived from; `None`: one that the node makes up and keeps beside the files.
    pub secret: Option<String>,
}

/// Whether responses of a stage or route are cached, and by whose rules.
#[derive(Debug, Clone, PartialEq)]
pub enum Cache {
    Off,
    /// By the origin's (RFC 9111).
    Http {
        /// Responses that set cookies are shared as well.
        set_cookie: bool,
    },
    /// By the stage's, as API Gateway has them.
    Stage(MethodSetting),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct NodeCacheFile {
    /// Default `"256MiB"`: a quarter of a small machine. Nothing is taken before a stage caches.
    memory: Option<Spanned<ByteSize>>,
    /// Default `"8MiB"`: larger ones are seldom asked for by many, and would push out many small ones.
    body: Option<Spanned<ByteSize>>,
    /// Default `"5s"`: an origin that takes longer is better asked by each than waited for by all.
    wait: Option<Spanned<DurationText>>,
    /// Default none: what is written to disk wears it, and is somebody's to protect.
    disk: Option<Spanned<ByteSize>>,
    /// Default `cache` in the node's data directory.
    path: Option<Spanned<String>>,
    /// Default none: a key that is made up, in a file of mode 0600 beside the others.
    secret: Option<Spanned<String>>,
}

impl NodeCacheFile {
    /// `data` is the node's data directory, `secrets` are the names of its secrets.
    pub(super) fn compile(
        mut self,
        data: &Path,
        secrets: &BTreeMap<String, Secret>,
        source: &mut Source,
    ) -> NodeCache {
        let disk = self.disk(data, secrets, source);
        let memory = at_least("cache", "memory", self.memory, MEMORY_LEAST, source)
            .unwrap_or(ByteSize::mib(256));
        let body = match self.body {
            None => ByteSize(ByteSize::mib(8).0.min(memory.0 / 4)),
            Some(written) => {
                if written.get_ref().0 > memory.0 / 4 {
                    let message = "cache: `body` is more than a quarter of `memory`: one response would push out the others";
                    source.problem(&written.span(), message);
                }
                written.into_inner()
            }
        };
        NodeCache {
            memory,
            body,
            wait: positive("cache", "wait", self.wait, source).unwrap_or(Duration::from_secs(5)),
            disk,
        }
    }

    fn disk(
        &mut self,
        data: &Path,
        secrets: &BTreeMap<String, Secret>,
        source: &mut Source,
    ) -> Option<DiskCache> {
        let (path, secret) = (self.path.take(), self.secret.take());
        let Some(bytes) = at_least("cache", "disk", self.disk.take(), DISK_LEAST, source) else {
            for (key, written) in [("path", &path), ("secret", &secret)] {
                if let Some(written) = written {
                    let message = format!("cache: `{key}` says nothing without `disk`");
                    source.problem(&written.span(), message);
                }
            }
            return None;
        };
        if let Some(secret) = &secret
            && !secrets.contains_key(secret.get_ref())
        {
            let hint = did_you_mean(secret.get_ref(), secrets.keys().map(String::as_str));
            let message = format!("cache: no secret \"{}\"", secret.get_ref());
            source.problem_with_hint(&secret.span(), message, hint);
        }
        Some(DiskCache {
            bytes,
            path: path.map_or_else(|| data.join("cache"), |path| source.resolve(path.get_ref())),
            secret: secret.map(Spanned::into_inner),
        })
    }
}

/// A word, or a table.
#[derive(Debug)]
pub(super) enum CacheFile {
    Word(Word),
    Table(TableFile),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Word {
    Off,
    Http,
    Stage,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct TableFile {
    /// Default `"stage"`: tables are mostly API Gateway's settings.
    mode: Option<Word>,
    /// For `"http"`; default false: a session that is handed out twice is one session for two people.
    set_cookie: Option<Spanned<bool>>,
    /// For `"stage"`, `cacheTtlInSeconds`. Default `"300s"`, at most `"3600s"`: the service's.
    ttl: Option<Spanned<DurationText>>,
    /// `cacheDataEncrypted`. Default false.
    data_encrypted: Option<Spanned<bool>>,
    /// `requireAuthorizationForCacheControl`. Default true, the service's.
    require_authorization_for_cache_control: Option<Spanned<bool>>,
    /// `unauthorizedCacheControlHeaderStrategy`. Default `"SUCCEED_WITH_RESPONSE_HEADER"`, the service's.
    unauthorized_cache_control_header_strategy: Option<Spanned<String>>,
}

impl CacheFile {
    pub(super) fn compile(self, owner: &str, source: &mut Source) -> Cache {
        let empty = |mode| TableFile {
            mode: Some(mode),
            set_cookie: None,
            ttl: None,
            data_encrypted: None,
            require_authorization_for_cache_control: None,
            unauthorized_cache_control_header_strategy: None,
        };
        match self {
            Self::Word(word) => empty(word).compile(owner, source),
            Self::Table(table) => table.compile(owner, source),
        }
    }
}

impl TableFile {
    fn compile(self, owner: &str, source: &mut Source) -> Cache {
        let mode = self.mode.unwrap_or(Word::Stage);
        let stage_only = [
            ("ttl", self.ttl.as_ref().map(Spanned::span)),
            (
                "data-encrypted",
                self.data_encrypted.as_ref().map(Spanned::span),
            ),
            (
                "require-authorization-for-cache-control",
                self.require_authorization_for_cache_control
                    .as_ref()
                    .map(Spanned::span),
            ),
            (
                "unauthorized-cache-control-header-strategy",
                self.unauthorized_cache_control_header_strategy
                    .as_ref()
                    .map(Spanned::span),
            ),
        ];
        let http_only = [("set-cookie", self.set_cookie.as_ref().map(Spanned::span))];
        let foreign = match mode {
            Word::Off => [&stage_only[..], &http_only].concat(),
            Word::Http => stage_only.to_vec(),
            Word::Stage => http_only.to_vec(),
        };
        for (key, span) in foreign {
            if let Some(span) = span {
                let message = format!("{owner}: cache: `{key}` says nothing in this mode");
                source.problem(&span, message);
            }
        }
        match mode {
            Word::Off => Cache::Off,
            Word::Http => Cache::Http {
                set_cookie: self.set_cookie.is_some_and(Spanned::into_inner),
            },
            Word::Stage => Cache::Stage(self.setting(owner, source)),
        }
    }

    fn setting(self, owner: &str, source: &mut Source) -> MethodSetting {
        let ttl = self.ttl.map_or(TTL_DEFAULT, |written| {
            let seconds = written.get_ref().0.as_secs();
            let whole = written.get_ref().0.subsec_nanos() == 0;
            match u32::try_from(seconds) {
                Ok(seconds) if seconds <= TTL_MAX && whole => seconds,
                _ => {
                    let message = format!("{owner}: cache: `ttl` is whole seconds, 0 to {TTL_MAX}");
                    source.problem(&written.span(), message);
                    TTL_DEFAULT
                }
            }
        });
        let strategy = self.unauthorized_cache_control_header_strategy;
        if let Some(written) = &strategy
            && Strategy::parse(written.get_ref()).is_none()
        {
            let message = format!(
                "{owner}: cache: \"{}\" is no strategy: there are FAIL_WITH_403, SUCCEED_WITH_RESPONSE_HEADER and \
                 SUCCEED_WITHOUT_RESPONSE_HEADER",
                written.get_ref()
            );
            source.problem(&written.span(), message);
        }
        MethodSetting {
            caching_enabled: true,
            cache_ttl_in_seconds: Some(ttl),
            cache_data_encrypted: self.data_encrypted.is_some_and(Spanned::into_inner),
            require_authorization_for_cache_control: self
                .require_authorization_for_cache_control
                .is_none_or(Spanned::into_inner),
            unauthorized_cache_control_header_strategy: Some(strategy.map_or_else(
                || "SUCCEED_WITH_RESPONSE_HEADER".to_owned(),
                Spanned::into_inner,
            )),
            ..MethodSetting::default()
        }
    }
}

impl<'de> Deserialize<'de> for CacheFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = CacheFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"http\", \"stage\", \"off\", or a table")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CacheFile, E> {
                match text {
                    "off" => Ok(CacheFile::Word(Word::Off)),
                    "http" => Ok(CacheFile::Word(Word::Http)),
                    "stage" => Ok(CacheFile::Word(Word::Stage)),
                    _ => Err(E::custom(format!(
                        "\"{text}\" is no cache: write \"http\", \"stage\", \"off\", or a table"
                    ))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CacheFile, A::Error> {
                TableFile::deserialize(MapAccessDeserializer::new(map)).map(CacheFile::Table)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Room for a few hundred small responses; less is a typing error.
const MEMORY_LEAST: u64 = 1 << 20;
/// Some files of a megabyte each, and what is noted beside them.
const DISK_LEAST: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn with(stage: &str, rest: &str) -> Result<Cache, String> {
        let text = format!(
            "{rest}\n[[listener]]\naddress = '127.0.0.1:0'\n[[api]]\nid = 'a'\ndefinition = 'a.yaml'\n\
             [api.stage.s]\n{stage}\n"
        );
        let node = parse(Path::new("n.toml"), &text).map_err(|problems| problems.to_string())?;
        Ok(node.apis[0].stages[0].cache.clone())
    }

    #[test]
    fn a_stages_cache_is_off_by_words_or_by_a_table() {
        let stage = |ttl, encrypted, required, strategy: &str| {
            Cache::Stage(MethodSetting {
                caching_enabled: true,
                cache_ttl_in_seconds: Some(ttl),
                cache_data_encrypted: encrypted,
                require_authorization_for_cache_control: required,
                unauthorized_cache_control_header_strategy: Some(strategy.to_owned()),
                ..MethodSetting::default()
            })
        };
        let warns = "SUCCEED_WITH_RESPONSE_HEADER";
        let cases = [
            ("", Cache::Off),
            ("cache = 'off'", Cache::Off),
            ("cache = 'http'", Cache::Http { set_cookie: false }),
            (
                "cache = { mode = 'http', set-cookie = true }",
                Cache::Http { set_cookie: true },
            ),
            ("cache = 'stage'", stage(300, false, true, warns)),
            ("cache = {}", stage(300, false, true, warns)),
            (
                "cache = { ttl = '1h', data-encrypted = true, require-authorization-for-cache-control = false }",
                stage(3600, true, false, warns),
            ),
            (
                "cache = { ttl = '0s', unauthorized-cache-control-header-strategy = 'FAIL_WITH_403' }",
                stage(0, false, true, "FAIL_WITH_403"),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(with(text, "").unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        let cases = [
            ("cache = 'memory'", "", "write \"http\", \"stage\", \"off\""),
            (
                "cache = { ttl = '2h' }",
                "",
                "n.toml:8: api \"a\": stage \"s\": cache: `ttl`",
            ),
            ("cache = { ttl = '1500ms' }", "", "whole seconds"),
            (
                "cache = { set-cookie = true }",
                "",
                "`set-cookie` says nothing in this mode",
            ),
            (
                "cache = { mode = 'http', ttl = '1s' }",
                "",
                "`ttl` says nothing in this mode",
            ),
            (
                "cache = { unauthorized-cache-control-header-strategy = 'x' }",
                "",
                "is no strategy",
            ),
            ("cache = { size = 1 }", "", "size"),
            ("", "[cache]\nmemory = '1kB'", "`memory` is below"),
            (
                "",
                "[cache]\nmemory = '8MiB'\nbody = '4MiB'",
                "`body` is more than a quarter",
            ),
            ("", "[cache]\nwait = '0s'", "`wait` is 0"),
            ("", "[cache]\ndisk = '1MiB'", "`disk` is below"),
            (
                "",
                "[cache]\npath = 'x'",
                "`path` says nothing without `disk`",
            ),
            (
                "",
                "[secret.one]\nenv = 'X'\n[cache]\ndisk = '1GiB'\nsecret = 'on'",
                "cache: no secret \"on\"; did you mean \"one\"?",
            ),
        ];
        for (stage, rest, expected) in cases {
            let problems = with(stage, rest).unwrap_err();
            assert!(problems.contains(expected), "{stage} {rest}: {problems}");
        }
    }
}
