//! API definitions, put together in a test.

use serde_json::{Map, Value, json};

/// An OpenAPI 3.0 definition.
#[derive(Debug, Clone)]
pub struct Api {
    document: Value,
}

impl Api {
    /// A REST API (v1 semantics) without routes.
    #[allow(clippy::new_without_default)] // Says nothing in a test; `Api::new()` does.
    pub fn new() -> Self {
        let document = json!({
            "openapi": "3.0.3",
            "info": { "title": "test", "version": "1" },
            "paths": {},
        });
        Self { document }
    }

    /// Adds a route by its key: `GET /items/{id}`, `ANY /{proxy+}`.
    pub fn route(mut self, key: &str, operation: Operation) -> Self {
        let (method, path) = key.split_once(' ').expect("a method and a path");
        let method = match method {
            "ANY" => "x-amazon-apigateway-any-method".to_owned(),
            method => method.to_lowercase(),
        };
        let parameters: Vec<Value> = path.split('/').filter_map(parameter).collect();
        let mut operation = operation.0;
        if !parameters.is_empty() {
            operation.insert("parameters".into(), parameters.into());
        }
        self.document["paths"][path][method] = operation.into();
        self
    }

    /// Sets a field of the document's root, an `x-…` extension or `components`.
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.document[name] = value;
        self
    }

    /// A security scheme by its name, for `Operation::field("security", …)`.
    pub fn security_scheme(mut self, name: &str, scheme: Value) -> Self {
        self.document["components"]["securitySchemes"][name] = scheme;
        self
    }

    /// The definition as JSON, which YAML readers read as well.
    pub fn text(&self) -> String {
        format!("{:#}\n", self.document)
    }
}

/// An operation of an API.
#[derive(Debug, Clone)]
pub struct Operation(Map<String, Value>);

impl Operation {
    /// Answers 200 with `body`.
    pub fn mock(body: &str) -> Self {
        let configuration =
            json!({ "statusCode": 200, "headers": { "content-type": "text/plain" }, "body": body });
        Self::empty().step("integration", "mock", configuration)
    }

    /// Forwards to `uri` as an `http_proxy` integration does, with the request's own method.
    pub fn proxy(uri: &str) -> Self {
        let integration = json!({ "type": "http_proxy", "httpMethod": "ANY", "uri": uri });
        Self::empty().field("x-amazon-apigateway-integration", integration)
    }

    /// Invokes the function of this name.
    pub fn function(name: &str) -> Self {
        Self::empty().step("integration", "function", json!({ "function": name }))
    }

    /// An operation without an integration.
    pub fn empty() -> Self {
        let responses = json!({ "200": { "description": "ok" } });
        Self(Map::from_iter([("responses".to_owned(), responses)]))
    }

    /// Binds a plugin at a step, with nothing granted.
    pub fn step(self, step: &str, plugin: &str, configuration: Value) -> Self {
        self.binding(json!({ "step": step, "plugin": plugin, "configuration": configuration }))
    }

    /// Adds an entry of `x-tidegate-bindings`.
    pub fn binding(mut self, binding: Value) -> Self {
        let bindings = self
            .0
            .entry("x-tidegate-bindings")
            .or_insert_with(|| json!([]));
        bindings
            .as_array_mut()
            .expect("only this writes it")
            .push(binding);
        self
    }

    /// Sets any other field.
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.into(), value);
        self
    }
}

/// OpenAPI wants every path parameter declared.
fn parameter(segment: &str) -> Option<Value> {
    let name = segment
        .strip_prefix('{')?
        .strip_suffix('}')?
        .trim_end_matches('+');
    Some(json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
}
