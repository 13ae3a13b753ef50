//! What of the cache is to go.

use serde::{Deserialize, Serialize};
use tidegate_model::cache::key::Named;
use tidegate_model::uri;

use super::stored::Stored;

/// Names stored responses, and what becomes of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    pub scope: Scope,
    /// They are marked stale, not removed: the origin is asked whether they still hold, and they can stand in for it where
    /// it fails.
    pub soft: bool,
}

/// Which responses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// A URL below its stage, with its query; of one host, where that is named.
    Url(Place),
    /// All URLs that begin so.
    Prefix(Place),
    /// What the origin called it, in `Surrogate-Key` or `Cache-Tag`.
    Tag(Vec<u8>),
    /// `api`, or `api/stage`.
    Stage(String),
    All,
}

/// Where responses are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    host: Option<String>,
    /// Path and query.
    path: String,
}

impl Purge {
    /// What the query of `/tidegate/v1/cache/purge` names: one of `url`, `prefix`, `tag`, `stage` and `all=true`, and
    /// `soft=true`.
    ///
    /// # Errors
    /// A sentence, where it names nothing, or more than one thing.
    pub fn from_query(query: &str) -> Result<Self, String> {
        let parameter = |name| uri::query_parameter(query, name);
        let is_true = |name| parameter(name).is_some_and(|value| value == "true");
        let mut named = Vec::new();
        if let Some(url) = parameter("url") {
            named.push(Self::url(&url)?);
        }
        if let Some(prefix) = parameter("prefix") {
            named.push(Self::prefix(&prefix)?);
        }
        named.extend(parameter("tag").map(|tag| Self::tag(&tag)));
        named.extend(parameter("stage").map(|stage| Self::stage(&stage)));
        if is_true("all") {
            named.push(Self::all());
        }
        match <[Self; 1]>::try_from(named) {
            Ok([mut purge]) => {
                purge.soft = is_true("soft");
                Ok(purge)
            }
            Err(_) => Err("name one of url, prefix, tag, stage, or all=true".to_owned()),
        }
    }

    /// One URL: `http://host/path?query`, or `/path?query` for every host. The path is the one below the stage.
    ///
    /// # Errors
    /// A sentence, where it is neither.
    pub fn url(text: &str) -> Result<Self, String> {
        Place::parse(text).map(|place| Self::of(Scope::Url(place)))
    }

    /// All URLs that begin so.
    ///
    /// # Errors
    /// As [`Self::url`].
    pub fn prefix(text: &str) -> Result<Self, String> {
        Place::parse(text).map(|place| Self::of(Scope::Prefix(place)))
    }

    /// All that the origin gave this tag.
    pub fn tag(text: &str) -> Self {
        Self::of(Scope::Tag(text.as_bytes().to_vec()))
    }

    /// All of an API (`orders`), or of one of its stages (`orders/prod`).
    pub fn stage(text: &str) -> Self {
        Self::of(Scope::Stage(text.to_owned()))
    }

    /// Everything.
    pub fn all() -> Self {
        Self::of(Scope::All)
    }

    fn of(scope: Scope) -> Self {
        Self { scope, soft: false }
    }

    /// Whether it is about a stored response. `named` is what its key says.
    pub fn means(&self, named: &Named<'_>, stored: &Stored) -> bool {
        self.scope.means(named, stored)
    }

    /// All scopes that name a stored response, but for prefixes.
    pub fn scopes_of(named: &Named<'_>, stored: &Stored) -> Vec<Scope> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let stage = text(named.scope);
        let api = stage.split('/').next().unwrap_or_default().to_owned();
        let mut scopes = vec![Scope::All, Scope::Stage(api), Scope::Stage(stage)];
        scopes.extend(stored.tags().iter().map(|tag| Scope::Tag(tag.to_vec())));
        if let Some(path) = named.url() {
            let path = text(&path);
            for host in [None, Some(text(named.host))] {
                let path = path.clone();
                scopes.push(Scope::Url(Place { host, path }));
            }
        }
        scopes
    }
}

impl Scope {
    /// What it takes, roughly.
    pub fn bytes(&self) -> usize {
        let text = match self {
            Self::Url(place) | Self::Prefix(place) => {
                place.path.len() + place.host.as_ref().map_or(0, String::len)
            }
            Self::Tag(tag) => tag.len(),
            Self::Stage(scope) => scope.len(),
            Self::All => 0,
        };
        size_of::<Self>() + text
    }

    /// Whether it names a stored response.
    pub fn means(&self, named: &Named<'_>, stored: &Stored) -> bool {
        match self {
            Self::All => true,
            Self::Tag(tag) => stored.tags().iter().any(|other| **other == **tag),
            Self::Stage(scope) => named
                .scope
                .strip_prefix(scope.as_bytes())
                .is_some_and(|rest| {
                    rest.is_empty() || (rest.starts_with(b"/") && !scope.contains('/'))
                }),
            Self::Url(place) => place.is_host(named) && place.begins(named, true),
            Self::Prefix(place) => place.is_host(named) && place.begins(named, false),
        }
    }
}

impl Place {
    fn parse(text: &str) -> Result<Self, String> {
        let absolute = ["http://", "https://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let (host, path) = match absolute {
            None => (None, text),
            Some(rest) => {
                let at = rest.find(['/', '?']).unwrap_or(rest.len());
                (Some(rest[..at].to_ascii_lowercase()), &rest[at..])
            }
        };
        match path.as_bytes().first() {
            Some(b'/') => Ok(Self {
                host,
                path: path.to_owned(),
            }),
            None if host.is_some() => Ok(Self {
                host,
                path: "/".to_owned(),
            }),
            _ => Err(format!("\"{text}\" is no URL and no path")),
        }
    }

    fn is_host(&self, named: &Named<'_>) -> bool {
        self.host
            .as_ref()
            .is_none_or(|host| named.host == host.as_bytes())
    }

    /// `whole`: nothing follows; of a key by parameters, which has no query, the path has to be the same.
    fn begins(&self, named: &Named<'_>, whole: bool) -> bool {
        let Some(url) = named.url() else {
            return false;
        };
        if whole {
            url == self.path.as_bytes()
        } else {
            url.starts_with(self.path.as_bytes())
        }
    }
}
