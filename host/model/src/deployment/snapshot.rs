//! Which stage a request is for: by host name, or by path.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Binding, BindingId, Flavor, Snapshot, Stage};
use crate::problem::Place;

/// Finds stages by API. Made with the snapshot.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// `.execute-api.{region}.{suffix}`, in lower case.
    host_suffix: String,
    apis: HashMap<String, ApiStages>,
}

#[derive(Debug)]
struct ApiStages {
    flavor: Flavor,
    /// By name, with its place in [`Snapshot::stages`].
    stages: Vec<(String, usize)>,
    default: Option<usize>,
}

/// What a request's host and path say of the API and stage.
#[derive(Debug, Clone, Copy)]
pub enum Located<'s> {
    /// The stage. What follows `path_offset` in the path is what its routes match; empty means `/`.
    Stage {
        stage: &'s Arc<Stage>,
        path_offset: usize,
    },
    /// The API has no such stage. Amazon API Gateway answers 403 `Forbidden` (REST) or 404 `Not Found` (HTTP).
    UnknownStage(Flavor),
    /// Neither host nor path names an API of this node.
    UnknownApi,
}

/// Where an API is reached by path, whatever the host.
pub const PATH_PREFIX: &str = "/_aws/execute-api/";

impl Snapshot {
    /// Puts a snapshot together. Bindings come with where they were written; `region` and `suffix` are the node's, for host
    /// names.
    pub fn new(
        stages: Vec<Arc<Stage>>,
        bindings: Vec<(Arc<Binding>, Place)>,
        region: &str,
        suffix: &str,
    ) -> Self {
        let mut apis: HashMap<String, ApiStages> = HashMap::new();
        for (place, stage) in stages.iter().enumerate() {
            let api = apis
                .entry(stage.api_id.to_ascii_lowercase())
                .or_insert_with(|| ApiStages {
                    flavor: stage.flavor,
                    stages: Vec::new(),
                    default: None,
                });
            match stage.name.as_str() {
                "$default" => api.default = Some(place),
                name => api.stages.push((name.to_owned(), place)),
            }
        }
        let host_suffix = format!(".execute-api.{region}.{suffix}").to_ascii_lowercase();
        let (bindings, places) = bindings.into_iter().unzip();
        Self {
            stages,
            bindings,
            places,
            index: Index { host_suffix, apis },
        }
    }

    /// The binding of that place.
    ///
    /// # Panics
    /// When `id` is another snapshot's and out of range.
    pub fn binding(&self, id: BindingId) -> &Arc<Binding> {
        &self.bindings[id.0 as usize]
    }

    /// Finds the stage of a request, without allocating.
    ///
    /// `host` is the `Host` field or `:authority`, with or without a port, in any case; `path` is the request's, without
    /// the query. `{api}.execute-api.{region}.{suffix}` names the API, and the path's first segment the stage; any other
    /// host is looked at only for `/_aws/execute-api/{api}/{stage}/…`. Where an HTTP API has a stage `$default`, it takes
    /// what names no other stage (Amazon API Gateway, "Routing API requests").
    pub fn locate(&self, host: Option<&str>, path: &str) -> Located<'_> {
        if let Some(api) = host.and_then(|host| self.index.api_of_host(host)) {
            return self.stage_of(api, path, 0);
        }
        let Some(below) = path.strip_prefix(PATH_PREFIX) else {
            return Located::UnknownApi;
        };
        let id = below.split('/').next().unwrap_or_default();
        match self.index.apis.get(id) {
            Some(api) => self.stage_of(api, path, PATH_PREFIX.len() + id.len()),
            None => Located::UnknownApi,
        }
    }

    /// `offset`: where the stage's segment starts, with its slash.
    fn stage_of(&self, api: &ApiStages, path: &str, offset: usize) -> Located<'_> {
        let below = &path[offset..];
        let segment = below
            .strip_prefix('/')
            .unwrap_or(below)
            .split('/')
            .next()
            .unwrap_or_default();
        let named = api.stages.iter().find(|(name, _)| name == segment);
        let (place, path_offset) = match (named, api.default) {
            (Some((_, place)), _) => (*place, offset + below.len().min(1 + segment.len())),
            (None, Some(place)) => (place, offset),
            (None, None) => return Located::UnknownStage(api.flavor),
        };
        Located::Stage {
            stage: &self.stages[place],
            path_offset,
        }
    }
}

impl Index {
    fn api_of_host(&self, host: &str) -> Option<&ApiStages> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let at = name.len().checked_sub(self.host_suffix.len())?;
        let (id, suffix) = name.split_at_checked(at)?;
        if !suffix.eq_ignore_ascii_case(&self.host_suffix) || self.host_suffix.is_empty() {
            return None;
        }
        // A label has at most 63 bytes (RFC 1035 §2.3.4).
        let mut label = [0; 63];
        let label = label.get_mut(..id.len())?;
        label.copy_from_slice(id.as_bytes());
        label.make_ascii_lowercase();
        self.apis.get(std::str::from_utf8(label).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::{EndpointType, Routes};

    fn stage(api: &str, flavor: Flavor, name: &str) -> Arc<Stage> {
        Arc::new(Stage {
            api_id: api.to_owned(),
            api_name: api.to_owned(),
            flavor,
            endpoint: EndpointType::Regional,
            resource_policy: None,
            name: name.to_owned(),
            scope: format!("{api}/{name}"),
            arn: String::new(),
            deployment_id: String::new(),
            variables: Default::default(),
            routes: Routes::new(flavor),
            entries: Vec::new(),
            caches_by_http: false,
            log_sinks: Vec::new(),
        })
    }

    #[test]
    fn host_and_first_segment_or_the_path_prefix_name_the_stage() {
        let stages = vec![
            stage("items", Flavor::Rest, "dev"),
            stage("items", Flavor::Rest, "prod"),
            stage("web", Flavor::Http, "$default"),
            stage("web", Flavor::Http, "beta"),
        ];
        let snapshot = Snapshot::new(stages, Vec::new(), "local", "localhost");
        let items = Some("items.execute-api.local.localhost");
        let web = Some("web.execute-api.local.localhost");
        let cases = [
            (items, "/dev/items/1", "items/dev /items/1"),
            (items, "/prod", "items/prod "),
            (items, "/prod/", "items/prod /"),
            (items, "/stage", "no stage Rest"),
            (items, "/", "no stage Rest"),
            (items, "", "no stage Rest"),
            (items, "/development/x", "no stage Rest"),
            (items, "/_aws/execute-api/web/beta/x", "no stage Rest"),
            (
                Some("ITEMS.Execute-API.local.localhost:8080"),
                "/dev/a",
                "items/dev /a",
            ),
            (
                Some("items.execute-api.local.localhost:x"),
                "/dev/a",
                "no api",
            ),
            (
                Some("items.execute-api.other.localhost"),
                "/dev/a",
                "no api",
            ),
            (Some(".execute-api.local.localhost"), "/dev/a", "no api"),
            (
                Some("a.items.execute-api.local.localhost"),
                "/dev/a",
                "no api",
            ),
            (Some("é"), "/dev/a", "no api"),
            (web, "/beta/x", "web/beta /x"),
            (web, "/x/beta", "web/$default /x/beta"),
            (web, "/$default/x", "web/$default /$default/x"),
            (web, "", "web/$default "),
            (
                None,
                "/_aws/execute-api/items/dev/items/1",
                "items/dev /items/1",
            ),
            (
                Some("127.0.0.1:8080"),
                "/_aws/execute-api/items/dev",
                "items/dev ",
            ),
            (
                Some("[::1]:8080"),
                "/_aws/execute-api/web/a/b",
                "web/$default /a/b",
            ),
            (None, "/_aws/execute-api/items", "no stage Rest"),
            (None, "/_aws/execute-api/nothing/dev", "no api"),
            (None, "/_aws/execute-api/", "no api"),
            (None, "/dev/items", "no api"),
        ];
        for (host, path, expected) in cases {
            let located = match snapshot.locate(host, path) {
                Located::Stage { stage, path_offset } => {
                    format!("{}/{} {}", stage.api_id, stage.name, &path[path_offset..])
                }
                Located::UnknownStage(flavor) => format!("no stage {flavor:?}"),
                Located::UnknownApi => "no api".to_owned(),
            };
            assert_eq!(located, expected, "{host:?} {path}");
        }
    }
}
