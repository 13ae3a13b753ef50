//! `cases/*.toml`: requests, and what a plugin is to make of them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_model::uri;
use tidegate_sandbox::{Exchange, Plugin, Step};

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// The binding's configuration, of all cases that have none of their own.
    configuration: Option<Value>,
    #[serde(flatten)]
    pub surroundings: Surroundings,
    #[serde(rename = "case", default)]
    cases: Vec<CaseEntry>,
}

/// What the plugin finds outside.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Surroundings {
    /// By name.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// Names of API keys, by value.
    #[serde(default)]
    pub api_keys: BTreeMap<String, String>,
    /// What servers answer, for `http-client` and `jwks`.
    #[serde(default)]
    pub replies: Vec<Reply>,
}

/// What the server at a URI answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    pub uri: String,
    #[serde(default = "ok")]
    pub status: u16,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub body: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseEntry {
    name: String,
    step: Option<String>,
    configuration: Option<Value>,
    times: Option<u16>,
    #[serde(default)]
    request: RequestEntry,
    response: Option<ResponseEntry>,
    expect: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RequestEntry {
    method: Option<String>,
    path: Option<String>,
    #[serde(default)]
    query: BTreeMap<String, String>,
    /// As it is sent, in the place of `query`: in order, with names that come twice.
    query_string: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    path_parameters: BTreeMap<String, String>,
    #[serde(default)]
    stage_variables: BTreeMap<String, String>,
    #[serde(default)]
    context: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResponseEntry {
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
}

fn ok() -> u16 {
    200
}

/// A case, ready to be run.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    /// Where the plugin has several.
    pub step: Option<Step>,
    /// Absent in a case that holds whatever the configuration is ([`ANY`]).
    pub configuration: Option<Value>,
    /// How often it is asked, at least once: what is expected becomes of the last.
    pub times: u16,
    pub exchange: CaseExchange,
    pub expect: Value,
}

/// The cases of one file.
#[derive(Debug)]
pub struct Suite {
    pub surroundings: Surroundings,
    pub cases: Vec<Case>,
}

impl CaseFile {
    /// # Errors
    ///
    /// What an author has to mend, with its place.
    pub fn compile(self) -> Result<Suite> {
        ensure!(!self.cases.is_empty(), "there is no [[case]]");
        let mut cases = Vec::new();
        for entry in self.cases {
            let name = entry.name.clone();
            let case = entry
                .compile(self.configuration.as_ref())
                .with_context(|| format!("case \"{name}\""))?;
            cases.push(case);
        }
        Ok(Suite {
            surroundings: self.surroundings,
            cases,
        })
    }
}

impl Case {
    /// The step that it is about.
    ///
    /// # Errors
    ///
    /// Where it says none, and the plugin has several; or one that the plugin has not.
    pub fn step_of(&self, plugin: &Plugin) -> Result<Step> {
        let mut steps = plugin.steps();
        match (self.step, steps.next(), steps.next()) {
            (Some(step), _, _) if plugin.implements(step) => Ok(step),
            (Some(step), _, _) => bail!(
                "the case \"{}\" is about the step {step}, which the plugin does not implement",
                self.name
            ),
            (None, Some(step), None) => Ok(step),
            _ => bail!(
                "the plugin has several steps: the case \"{}\" has to name its `step`",
                self.name
            ),
        }
    }
}

impl CaseEntry {
    fn compile(self, configuration: Option<&Value>) -> Result<Case> {
        let step = match self.step {
            None => None,
            Some(name) => Some(
                Step::ALL
                    .into_iter()
                    .find(|step| step.name() == name)
                    .with_context(|| format!("there is no step \"{name}\""))?,
            ),
        };
        let times = self.times.unwrap_or(1);
        ensure!(
            (1..=TIMES_MAX).contains(&times),
            "`times` is {times}; it may be 1 to {TIMES_MAX}"
        );
        let request = self.request;
        ensure!(
            request.query.is_empty() || request.query_string.is_none(),
            "`query` and `query-string` are one too many"
        );
        let mut query = request.query_string.unwrap_or_default();
        for (name, value) in &request.query {
            uri::set_query_parameter(&mut query, name, value);
        }
        let exchange = CaseExchange {
            method: request.method.unwrap_or_else(|| "GET".to_owned()),
            path: request.path.unwrap_or_else(|| "/".to_owned()),
            query: Some(query).filter(|query| !query.is_empty()),
            headers: fields(&request.headers)?,
            path_parameters: request.path_parameters,
            stage_variables: request.stage_variables,
            context: request.context,
            body: request.body.into(),
            response: match &self.response {
                None => None,
                Some(response) => Some((
                    StatusCode::from_u16(response.status)?,
                    fields(&response.headers)?,
                )),
            },
            response_body: self
                .response
                .map(|response| response.body.into())
                .unwrap_or_default(),
        };
        Ok(Case {
            name: self.name,
            step,
            configuration: match self.configuration.as_ref().or(configuration) {
                None => Some(json!({})),
                Some(any) if any == ANY => None,
                Some(configuration) => Some(configuration.clone()),
            },
            times,
            exchange,
            expect: self.expect,
        })
    }
}

fn fields(fields: &BTreeMap<String, String>) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let told = || format!("header {name:?}");
        let value = HeaderValue::from_bytes(value.as_bytes()).with_context(told)?;
        let name = HeaderName::from_bytes(name.as_bytes()).with_context(told)?;
        map.try_append(name, value).context("too many headers")?;
    }
    Ok(map)
}

/// A request that is only text, and the response to it where the case has one.
#[derive(Debug, Clone)]
pub struct CaseExchange {
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    path_parameters: BTreeMap<String, String>,
    stage_variables: BTreeMap<String, String>,
    context: BTreeMap<String, String>,
    pub body: Bytes,
    response: Option<(StatusCode, HeaderMap)>,
    response_body: Bytes,
}

impl Exchange for CaseExchange {
    fn method(&self) -> &str {
        &self.method
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query_string(&self) -> Option<&str> {
        self.query.as_deref()
    }

    fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn query_parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        uri::query_parameter(self.query.as_deref()?, name)
    }

    fn query_parameters(&self) -> Vec<(String, String)> {
        uri::parameters(self.query.as_deref().unwrap_or_default())
            .map(|(name, value)| {
                (
                    uri::decode_query(name).into_owned(),
                    uri::decode_query(value).into_owned(),
                )
            })
            .collect()
    }

    fn path_parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        self.path_parameters.get(name).map(|value| value.into())
    }

    fn path_parameters(&self) -> Vec<(String, String)> {
        self.path_parameters.clone().into_iter().collect()
    }

    fn stage_variable(&self, name: &str) -> Option<&str> {
        self.stage_variables.get(name).map(String::as_str)
    }

    fn context(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.context.get(name) {
            Some(value) => Some(value.into()),
            None if name == "httpMethod" => Some(self.method.as_str().into()),
            None if name == "requestId" => Some("case".into()),
            None if name == "stage" => Some("test".into()),
            None => None,
        }
    }

    fn body(&self) -> Option<&Bytes> {
        Some(&self.body)
    }

    fn response(&self) -> Option<(StatusCode, &HeaderMap)> {
        self.response
            .as_ref()
            .map(|(status, headers)| (*status, headers))
    }

    fn response_body(&self) -> Option<&Bytes> {
        self.response.as_ref().map(|_| &self.response_body)
    }

    fn scope(&self) -> &str {
        "case/test"
    }
}

/// A node runs cases before a version takes traffic, and waits for them.
const TIMES_MAX: u16 = 1000;
/// What stands for the configuration where a node is to try the case with that of each binding.
const ANY: &str = "binding";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Suite> {
        toml::from_str::<CaseFile>(text)?.compile()
    }

    #[test]
    fn a_request_has_no_more_headers_than_fit() {
        let headers: Vec<String> = (0..40_000)
            .map(|number| format!("x{number} = ''"))
            .collect();
        let headers = headers.join(", ");
        let text = format!(
            "[[case]]\nname = 'x'\nrequest = {{ headers = {{ {headers} }} }}\nexpect = {{}}"
        );
        let error = parse(&text).unwrap_err();
        assert!(
            format!("{error:#}").contains("too many headers"),
            "{error:#}"
        );
    }

    #[test]
    fn a_case_takes_the_files_configuration_unless_it_has_its_own() {
        let text = "configuration = { a = 1 }\n[[case]]\nname = 'x'\nexpect = { admit = true }\n\
                    [[case]]\nname = 'y'\nconfiguration = { a = 2 }\nrequest = { query = { q = 'a b' } }\nexpect = {}\n\
                    [[case]]\nname = 'z'\nconfiguration = 'binding'\nexpect = {}";
        let cases = parse(text).unwrap().cases;
        assert_eq!(cases[0].configuration, Some(json!({ "a": 1 })));
        assert_eq!(cases[1].configuration, Some(json!({ "a": 2 })));
        assert_eq!(cases[2].configuration, None);
        assert_eq!(
            cases[1].exchange.query_parameter("q").as_deref(),
            Some("a b")
        );
    }

    #[test]
    fn a_misspelt_key_is_named() {
        for (text, named) in [
            ("", "no [[case]]"),
            ("[[case]]\nname = 'x'\nexpects = {}", "expects"),
            (
                "[[case]]\nname = 'x'\nstep = 'a'\nexpect = {}",
                "no step \"a\"",
            ),
            (
                "[[case]]\nname = 'x'\nrequest = { header = {} }\nexpect = {}",
                "header",
            ),
            (
                "[[case]]\nname = 'x'\ntimes = 0\nexpect = {}",
                "`times` is 0",
            ),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
