//! Methods of REST APIs and routes of HTTP APIs, as one.

use http::Method;
use serde_json::json;

use super::integration::{IntegrationSource, Refusal};
use super::{API_KEY, StageContext, bindings, mapping, validator};
use crate::api::{BindingSpec, Definition, MiddlewareSpec, Resources, http as v2, rest};
use crate::deployment::{PolicyUse, Step};
use crate::problem::Place;

/// What a route is compiled from.
pub(super) struct RouteSource<'d> {
    /// `GET /items/{id}`, `ANY /{proxy+}` or `$default`.
    pub(super) key: String,
    /// `None`: any.
    pub(super) method: Option<Method>,
    pub(super) path: &'d str,
    pub(super) integration: Option<IntegrationSource<'d>>,
    api_key_required: bool,
    authorization: Authorization<'d>,
    scopes: &'d [String],
    /// What a REST API validates.
    rest_method: Option<&'d rest::Method>,
}

enum Authorization<'d> {
    None,
    Iam,
    /// The name of the authorizer, where there is one of that identifier.
    Rest(Option<&'d rest::Authorizer>),
    Http(Option<&'d v2::Authorizer>),
}

/// The routes of a definition, in its order.
pub(super) fn sources(definition: &Definition) -> Vec<RouteSource<'_>> {
    match &definition.resources {
        Resources::Rest(api) => rest_sources(api),
        Resources::Http(api) => http_sources(api),
    }
}

fn rest_sources(api: &rest::Definition) -> Vec<RouteSource<'_>> {
    let methods = api.resources.iter().flat_map(|resource| {
        resource
            .resource_methods
            .values()
            .map(move |method| (resource.path.as_str(), method))
    });
    methods
        .map(|(path, method)| RouteSource {
            key: format!("{} {path}", method.http_method),
            method: method_of(&method.http_method),
            path,
            integration: method
                .method_integration
                .as_ref()
                .map(IntegrationSource::Rest),
            api_key_required: method.api_key_required,
            authorization: match method.authorization_type.as_str() {
                "NONE" | "" => Authorization::None,
                "AWS_IAM" => Authorization::Iam,
                _ => Authorization::Rest(
                    api.authorizers
                        .iter()
                        .find(|authorizer| Some(&authorizer.id) == method.authorizer_id.as_ref()),
                ),
            },
            scopes: &method.authorization_scopes,
            rest_method: Some(method),
        })
        .collect()
}

fn http_sources(api: &v2::Definition) -> Vec<RouteSource<'_>> {
    let integration = |route: &v2::Route| {
        let id = route.target.as_ref()?.strip_prefix("integrations/")?;
        api.integrations
            .iter()
            .find(|integration| integration.integration_id == id)
            .map(IntegrationSource::Http)
    };
    let sources = api.routes.iter().map(|route| {
        let (method, path) = route
            .route_key
            .split_once(' ')
            .unwrap_or(("ANY", &route.route_key));
        RouteSource {
            key: route.route_key.clone(),
            method: method_of(method),
            path,
            integration: integration(route),
            api_key_required: route.api_key_required,
            authorization: match route.authorization_type.as_str() {
                "NONE" | "" => Authorization::None,
                "AWS_IAM" => Authorization::Iam,
                _ => Authorization::Http(
                    api.authorizers
                        .iter()
                        .find(|known| Some(&known.authorizer_id) == route.authorizer_id.as_ref()),
                ),
            },
            scopes: &route.authorization_scopes,
            rest_method: None,
        }
    });
    sources.collect()
}

fn method_of(name: &str) -> Option<Method> {
    if name == "ANY" {
        None
    } else {
        name.parse().ok()
    }
}

impl<'d> RouteSource<'d> {
    /// Where the operation was written.
    pub(super) fn place(&self, stage: &StageContext<'_>) -> Place {
        let extensions = &stage.definition.extensions;
        let operation = extensions
            .operations
            .get(&self.key)
            .map(|operation| &operation.place);
        operation
            .or(extensions.place.as_ref())
            .unwrap_or(&stage.settings.place)
            .clone()
    }

    /// The operation's own bindings.
    pub(super) fn bindings<'s>(&self, stage: &StageContext<'s>) -> &'s [BindingSpec] {
        let operation = stage.definition.extensions.operations.get(&self.key);
        operation
            .map(|operation| operation.bindings.as_slice())
            .unwrap_or_default()
    }

    /// The functions around the operation's own integration.
    pub(super) fn middleware<'s>(&self, stage: &StageContext<'s>) -> &'s [MiddlewareSpec] {
        let operation = stage.definition.extensions.operations.get(&self.key);
        operation
            .map(|operation| operation.middleware.as_slice())
            .unwrap_or_default()
    }

    /// What of a resource policy lets a request pass. `authorized`: some authorizer decides, beside an API key.
    pub(super) fn policy_use(&self, authorized: bool) -> PolicyUse {
        match &self.authorization {
            Authorization::Rest(Some(authorizer)) if authorizer.r#type == "COGNITO_USER_POOLS" => {
                PolicyUse::AfterUserPool
            }
            _ if authorized => PolicyUse::BeforeAuthorizer,
            _ => PolicyUse::Alone,
        }
    }

    pub(super) fn authorizer(
        &self,
        stage: &StageContext<'_>,
    ) -> Result<Option<BindingSpec>, Refusal> {
        let name = match &self.authorization {
            Authorization::None => return Ok(None),
            Authorization::Iam => return Err(Refusal::unsupported("IAM authorization (awsSigv4)")),
            Authorization::Rest(None) | Authorization::Http(None) => {
                return Err(Refusal {
                    message: "its authorizer does not exist".to_owned(),
                    hint: None,
                });
            }
            Authorization::Rest(Some(authorizer)) => &authorizer.name,
            Authorization::Http(Some(authorizer)) => &authorizer.name,
        };
        if let Some(spec) = stage.definition.extensions.authorizers.get(name) {
            return Ok(Some(spec.clone()));
        }
        let kind = match &self.authorization {
            Authorization::Http(Some(authorizer)) if authorizer.authorizer_type == "JWT" => {
                return Ok(Some(self.jwt(authorizer, self.place(stage))));
            }
            Authorization::Rest(Some(authorizer)) => authorizer.r#type.as_str(),
            Authorization::Http(Some(authorizer)) => authorizer.authorizer_type.as_str(),
            _ => "",
        };
        let hint = if kind == "JWT" {
            "JWT authorizers are for HTTP APIs: set `x-tidegate-api-type: http`, or name the plugin by x-tidegate-authorizer"
        } else {
            "name a plugin that does its work by x-tidegate-authorizer"
        };
        let message = format!("authorizer \"{name}\": type {kind} is not supported yet");
        Err(Refusal {
            message,
            hint: Some(hint.to_owned()),
        })
    }

    fn jwt(&self, authorizer: &v2::Authorizer, place: Place) -> BindingSpec {
        let jwt = authorizer.jwt_configuration.clone().unwrap_or_default();
        let source = authorizer
            .identity_source
            .first()
            .map_or("$request.header.Authorization", String::as_str);
        let mut configuration = json!({
            "issuer": jwt.issuer,
            "audience": jwt.audience,
            "identitySource": source,
        });
        if !self.scopes.is_empty() {
            configuration["scopes"] = json!(self.scopes);
        }
        bindings::builtin(Step::Authorizer, "jwt", configuration, place)
    }

    pub(super) fn api_key(&self, stage: &StageContext<'_>) -> Result<Option<BindingSpec>, Refusal> {
        if !self.api_key_required {
            return Ok(None);
        }
        if let Resources::Rest(api) = &stage.definition.resources
            && api.rest_api.api_key_source.as_deref() == Some("AUTHORIZER")
        {
            return Err(Refusal::unsupported(
                "x-amazon-apigateway-api-key-source AUTHORIZER",
            ));
        }
        let configuration = json!({ "header": "x-api-key" });
        Ok(Some(bindings::builtin(
            Step::Authorizer,
            API_KEY,
            configuration,
            self.place(stage),
        )))
    }

    /// The route's own bucket first: what it rejects takes nothing from the stage's.
    pub(super) fn throttles(&self, stage: &StageContext<'_>) -> Vec<BindingSpec> {
        let settings = stage.settings;
        let own = settings
            .routes
            .get(&self.key)
            .and_then(|route| Some((self.key.as_str(), route.throttle?, &route.place)));
        let shared = settings
            .throttle
            .map(|throttle| ("stage", throttle, &settings.place));
        let throttles = own.into_iter().chain(shared);
        throttles
            .map(|(bucket, throttle, place)| bindings::throttle(bucket, throttle, place.clone()))
            .collect()
    }

    pub(super) fn validator(
        &self,
        stage: &StageContext<'_>,
    ) -> Result<Option<BindingSpec>, Refusal> {
        let (Some(method), Resources::Rest(api)) = (self.rest_method, &stage.definition.resources)
        else {
            return Ok(None);
        };
        let operation = stage.definition.extensions.operations.get(&self.key);
        let body_required = operation.is_some_and(|operation| operation.body_required);
        let configuration = validator::configuration(api, method, body_required)?;
        Ok(configuration.map(|configuration| {
            bindings::builtin(Step::Validator, "schema", configuration, self.place(stage))
        }))
    }

    /// The parameter mapping of an HTTP API's integration.
    pub(super) fn mapping(&self, stage: &StageContext<'_>) -> Result<Option<BindingSpec>, Refusal> {
        let Some(IntegrationSource::Http(integration)) = &self.integration else {
            return Ok(None);
        };
        let configuration = mapping::configuration(integration)?;
        let place = self.place(stage);
        Ok(configuration
            .map(|it| bindings::builtin(Step::RequestTransform, "header-transform", it, place)))
    }
}
