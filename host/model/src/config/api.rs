//! `[[api]]`: which API definitions a node serves, and the settings of their stages.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::cache::{Cache, CacheFile};
use super::source::Source;
use crate::deployment::{EndpointType, LogOutput};
use crate::problem::Place;

/// An API: its definition and its stages.
#[derive(Debug, Clone, PartialEq)]
pub struct Api {
    /// Stands in URLs: a DNS label in lower case.
    pub id: String,
    /// An OpenAPI or Swagger file, YAML or JSON.
    pub definition: PathBuf,
    /// `None`: what the definition says, or the default of its kind.
    pub endpoint: Option<EndpointType>,
    pub stages: Vec<Stage>,
    pub place: Place,
}

/// A stage's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// `$default` only for HTTP APIs: served without a segment of its own.
    pub name: String,
    pub variables: BTreeMap<String, String>,
    /// For all routes of the stage together.
    pub throttle: Option<Throttle>,
    pub access_log: Option<AccessLog>,
    /// For the routes that do not say otherwise.
    pub cache: Cache,
    /// By route key, `GET /items/{id}`.
    pub routes: BTreeMap<String, RouteSettings>,
    pub place: Place,
}

/// A token bucket's size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throttle {
    /// Tokens per second, above 0.
    pub rate: f64,
    /// The most that it holds, above 0.
    pub burst: u32,
}

/// Which access records are written where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Text with `$context.…` variables, as API Gateway's.
    pub format: String,
    pub output: LogOutput,
}

/// What a stage sets for one route.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteSettings {
    /// Beside the stage's own.
    pub throttle: Option<Throttle>,
    /// `None`: the stage's.
    pub cache: Option<Cache>,
    pub place: Place,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ApiFile {
    /// Required.
    id: Option<Spanned<String>>,
    /// Required.
    definition: Option<String>,
    /// Default: the definition's `x-amazon-apigateway-endpoint-configuration`; else API Gateway's own, `EDGE` for REST APIs
    /// and `REGIONAL` for HTTP APIs.
    endpoint: Option<EndpointType>,
    /// Required, at least one: an API without a stage has no URL.
    stage: Option<BTreeMap<Spanned<String>, Spanned<StageFile>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct StageFile {
    /// Default empty. Names: letters, digits, `_`.
    variables: Option<Spanned<BTreeMap<String, String>>>,
    /// Default none: the node takes what comes.
    throttle: Option<Spanned<ThrottleFile>>,
    /// Default none.
    access_log: Option<AccessLogFile>,
    /// Default `"off"`: what may be given to others, the operator has to say.
    cache: Option<CacheFile>,
    /// Default empty. Keys are route keys.
    route: Option<BTreeMap<Spanned<String>, Spanned<RouteFile>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ThrottleFile {
    /// Requests per second. Required.
    rate: Option<f64>,
    /// Default: `rate`, rounded up: a second's worth at once.
    burst: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct AccessLogFile {
    /// Default: API Gateway's CLF format.
    format: Option<String>,
    /// Default `"stdout"`; or `{ file = "access.log" }`.
    output: Option<LogOutput>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RouteFile {
    /// Default none.
    throttle: Option<Spanned<ThrottleFile>>,
    /// Default: the stage's.
    cache: Option<CacheFile>,
}

impl ApiFile {
    pub(super) fn compile(file: Spanned<Self>, source: &mut Source) -> Option<Api> {
        let span = file.span();
        let file = file.into_inner();
        let Some(id) = file.id else {
            source.missing(&span, "api", "id");
            return None;
        };
        let owner = format!("api \"{}\"", id.get_ref());
        if !is_dns_label(id.get_ref()) {
            let message =
                format!("{owner}: `id` stands in host names: use a-z, 0-9 and -, at most 63");
            source.problem(&id.span(), message);
        }
        let stages: Vec<Stage> = file
            .stage
            .unwrap_or_default()
            .into_iter()
            .map(|(name, stage)| StageFile::compile(&owner, &name, stage, source))
            .collect();
        if stages.is_empty() {
            source.missing(&span, &owner, "stage");
        }
        let Some(definition) = file.definition else {
            source.missing(&span, &owner, "definition");
            return None;
        };
        let place = source.place(&span);
        Some(Api {
            id: id.into_inner(),
            definition: source.resolve(&definition),
            endpoint: file.endpoint,
            stages,
            place,
        })
    }
}

impl StageFile {
    fn compile(
        owner: &str,
        name: &Spanned<String>,
        file: Spanned<Self>,
        source: &mut Source,
    ) -> Stage {
        let span = name.span();
        let file = file.into_inner();
        let name = name.get_ref();
        let owner = format!("{owner}: stage \"{name}\"");
        if !is_stage_name(name) {
            source.problem(
                &span,
                format!("{owner}: use letters, digits, _ and -, at most 128, or $default"),
            );
        }
        if let Some(variables) = &file.variables {
            let names = variables.get_ref().keys();
            for name in names.filter(|name| name.is_empty() || !name.bytes().all(is_word_byte)) {
                source.problem(
                    &variables.span(),
                    format!("{owner}: variable \"{name}\": use letters, digits and _"),
                );
            }
        }
        let throttle = file
            .throttle
            .and_then(|throttle| ThrottleFile::compile(&owner, throttle, source));
        let routes = file
            .route
            .unwrap_or_default()
            .into_iter()
            .map(|(key, route)| {
                let place = source.place(&key.span());
                let key = key.into_inner();
                let owner = format!("{owner}: route \"{key}\"");
                let RouteFile { throttle, cache } = route.into_inner();
                let throttle =
                    throttle.and_then(|throttle| ThrottleFile::compile(&owner, throttle, source));
                let cache = cache.map(|cache| cache.compile(&owner, source));
                let settings = RouteSettings {
                    throttle,
                    cache,
                    place,
                };
                (key, settings)
            });
        Stage {
            name: name.clone(),
            variables: file.variables.map(Spanned::into_inner).unwrap_or_default(),
            throttle,
            routes: routes.collect(),
            cache: file
                .cache
                .map_or(Cache::Off, |cache| cache.compile(&owner, source)),
            access_log: file.access_log.map(|log| log.compile(source)),
            place: source.place(&span),
        }
    }
}

impl ThrottleFile {
    fn compile(owner: &str, file: Spanned<Self>, source: &mut Source) -> Option<Throttle> {
        let span = file.span();
        let Self { rate, burst } = file.into_inner();
        let owner = format!("{owner}: throttle");
        let Some(rate) = rate else {
            source.missing(&span, &owner, "rate");
            return None;
        };
        // Written so that NaN is refused as well.
        if !(rate > 0.0 && rate <= RATE_MAX) {
            source.problem(
                &span,
                format!("{owner}: `rate` is not above 0 and at most {RATE_MAX}"),
            );
            return None;
        }
        if burst == Some(0) {
            source.problem(
                &span,
                format!("{owner}: `burst` is 0: nothing would ever be admitted"),
            );
            return None;
        }
        // Within u32: RATE_MAX is.
        let burst = burst.unwrap_or(rate.ceil() as u32);
        Some(Throttle { rate, burst })
    }
}

impl AccessLogFile {
    fn compile(self, source: &Source) -> AccessLog {
        let output = match self.output {
            None | Some(LogOutput::Stdout) => LogOutput::Stdout,
            Some(LogOutput::File(path)) => LogOutput::File(source.resolve(&path.to_string_lossy())),
        };
        AccessLog {
            format: self.format.unwrap_or_else(|| CLF.to_owned()),
            output,
        }
    }
}

fn is_dns_label(text: &str) -> bool {
    let inner = text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    (1..=63).contains(&text.len()) && inner && !text.starts_with('-') && !text.ends_with('-')
}

fn is_stage_name(text: &str) -> bool {
    let word = text.bytes().all(|byte| is_word_byte(byte) || byte == b'-');
    text == "$default" || (1..=128).contains(&text.len()) && word
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// More than any node can serve; keeps bucket arithmetic exact.
const RATE_MAX: f64 = 1e9;

/// The Common Log Format in API Gateway's variables.
const CLF: &str = "$context.identity.sourceIp $context.identity.caller $context.identity.user [$context.requestTime] \
                   \"$context.httpMethod $context.path $context.protocol\" $context.status $context.responseLength \
                   $context.requestId";
