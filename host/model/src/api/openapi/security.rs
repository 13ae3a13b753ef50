//! Security schemes and requirements: who may call an operation.

use std::collections::BTreeMap;

use super::Dialect;
use super::at::At;
use super::extensions;
use crate::api::BindingSpec;
use crate::problem::did_you_mean;

/// The security schemes of a definition, by name.
pub(super) struct Schemes(BTreeMap<String, Scheme>);

pub(super) enum Scheme {
    /// An API key is required.
    ApiKey,
    /// Signed by AWS Signature Version 4.
    Iam,
    /// An authorizer of the service.
    Authorizer(Box<Authorizer>),
    /// An authorizer plugin.
    Plugin(Box<BindingSpec>),
}

/// `x-amazon-apigateway-authorizer`.
#[derive(Debug, Clone, Default)]
pub(super) struct Authorizer {
    /// In upper case: `TOKEN`, `REQUEST`, `COGNITO_USER_POOLS` or `JWT`.
    pub(super) kind: String,
    pub(super) auth_type: Option<String>,
    pub(super) uri: Option<String>,
    pub(super) credentials: Option<String>,
    pub(super) identity_source: Option<String>,
    pub(super) identity_validation_expression: Option<String>,
    pub(super) result_ttl_in_seconds: Option<u32>,
    pub(super) provider_arns: Vec<String>,
    pub(super) payload_format_version: Option<String>,
    pub(super) enable_simple_responses: bool,
    pub(super) issuer: Option<String>,
    pub(super) audience: Vec<String>,
}

/// What an operation asks of its callers.
#[derive(Debug, Clone, Default)]
pub(super) struct Security {
    pub(super) api_key_required: bool,
    pub(super) iam: bool,
    /// The scheme that is the authorizer.
    pub(super) authorizer: Option<String>,
    pub(super) scopes: Vec<String>,
}

impl Schemes {
    pub(super) fn read(root: &At<'_>, dialect: Dialect) -> Self {
        let schemes = match dialect {
            Dialect::Swagger2 => root.entries_at("securityDefinitions"),
            _ => root
                .get("components")
                .map(|at| at.entries_at("securitySchemes"))
                .unwrap_or_default(),
        };
        Self(
            schemes
                .into_iter()
                .filter_map(|(name, at)| Some((name.to_owned(), scheme(&at)?)))
                .collect(),
        )
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Scheme)> {
        self.0.iter()
    }

    /// The authorizer plugins, by the scheme's name.
    pub(super) fn plugins(&self) -> BTreeMap<String, BindingSpec> {
        let plugin = |(name, scheme): (&String, &Scheme)| match scheme {
            Scheme::Plugin(binding) => Some((name.clone(), (**binding).clone())),
            _ => None,
        };
        self.0.iter().filter_map(plugin).collect()
    }

    /// The security of an operation: its own, or the root's. All requirements of the list hold together, as API Gateway
    /// takes them; an operation has at most one authorizer.
    pub(super) fn of(&self, operation: &At<'_>, root: &At<'_>) -> Security {
        let mut security = Security::default();
        if let Some(auth) = operation.get("x-amazon-apigateway-auth") {
            match auth.text_at("type").as_deref() {
                Some("NONE") => return security,
                Some("AWS_IAM") => security.iam = true,
                _ => auth.problem("`type` is neither NONE nor AWS_IAM"),
            }
        }
        let Some(requirements) = operation.get("security").or_else(|| root.get("security")) else {
            return security;
        };
        for (name, at) in requirements.items().iter().flat_map(At::entries) {
            match self.0.get(name) {
                None => {
                    let hint = did_you_mean(name, self.0.keys().map(String::as_str));
                    at.problem_with_hint(format!("no security scheme \"{name}\""), hint);
                }
                Some(Scheme::ApiKey) => security.api_key_required = true,
                Some(Scheme::Iam) => security.iam = true,
                Some(Scheme::Authorizer(_) | Scheme::Plugin(_)) => match &security.authorizer {
                    Some(other) if other != name => {
                        at.problem(format!(
                            "a second authorizer, \"{name}\": \"{other}\" is the first"
                        ));
                    }
                    _ => {
                        security.authorizer = Some(name.to_owned());
                        security.scopes = at.items().iter().filter_map(At::text).collect();
                    }
                },
            }
        }
        if let (true, Some(name)) = (security.iam, &security.authorizer) {
            operation.problem(format!(
                "IAM authorization beside authorizer \"{name}\": the service has one of them"
            ));
        }
        security
    }
}

/// A scheme that would protect nothing is a problem, not a decoration.
fn scheme(at: &At<'_>) -> Option<Scheme> {
    let at = at.resolved()?;
    if at.get("x-tidegate-authorizer").is_some() {
        return extensions::authorizer(&at).map(|binding| Scheme::Plugin(Box::new(binding)));
    }
    if let Some(authorizer) = at.get("x-amazon-apigateway-authorizer") {
        return authorizer_of(&at, &authorizer)
            .map(|authorizer| Scheme::Authorizer(Box::new(authorizer)));
    }
    if at
        .text_at("x-amazon-apigateway-authtype")
        .is_some_and(|kind| kind.eq_ignore_ascii_case("awssigv4"))
    {
        return Some(Scheme::Iam);
    }
    let is_key = at.text_at("type").as_deref() == Some("apiKey")
        && at.text_at("in").as_deref() == Some("header")
        && at
            .text_at("name")
            .is_some_and(|name| name.eq_ignore_ascii_case("x-api-key"));
    if is_key {
        return Some(Scheme::ApiKey);
    }
    at.problem_with_hint(
        "this security scheme has no authorizer, and would protect nothing",
        Some("add x-amazon-apigateway-authorizer or x-tidegate-authorizer".to_owned()),
    );
    None
}

fn authorizer_of(scheme: &At<'_>, at: &At<'_>) -> Option<Authorizer> {
    at.only(AUTHORIZER_KEYS);
    let Some(kind) = at.text_at("type") else {
        at.problem("`type` is missing");
        return None;
    };
    let kind = kind.to_ascii_uppercase();
    if !["TOKEN", "REQUEST", "COGNITO_USER_POOLS", "JWT"].contains(&kind.as_str()) {
        at.problem(format!(
            "type \"{kind}\" is none of token, request, cognito_user_pools, jwt"
        ));
        return None;
    }
    let jwt = at.get("jwtConfiguration");
    let issuer = jwt.as_ref().and_then(|jwt| jwt.text_at("issuer"));
    let audience = jwt
        .as_ref()
        .map(|jwt| jwt.texts_at("audience"))
        .unwrap_or_default();
    if kind == "JWT" && (issuer.is_none() || audience.is_empty()) {
        at.problem("`jwtConfiguration` needs an `issuer` and at least one `audience`");
        return None;
    }
    // A scheme of type apiKey says by itself in which header the token is.
    let header = scheme
        .text_at("name")
        .filter(|_| scheme.text_at("in").as_deref() == Some("header"));
    let from_scheme = header.map(|name| format!("method.request.header.{name}"));
    Some(Authorizer {
        auth_type: scheme.text_at("x-amazon-apigateway-authtype"),
        uri: at.text_at("authorizerUri"),
        credentials: at.text_at("authorizerCredentials"),
        identity_source: at.text_at("identitySource").or(if kind == "JWT" {
            None
        } else {
            from_scheme
        }),
        identity_validation_expression: at.text_at("identityValidationExpression"),
        result_ttl_in_seconds: at.count_at("authorizerResultTtlInSeconds"),
        provider_arns: at.texts_at("providerARNs"),
        payload_format_version: at.text_at("authorizerPayloadFormatVersion"),
        enable_simple_responses: at.flag_at("enableSimpleResponses").unwrap_or(false),
        issuer,
        audience,
        kind,
    })
}

const AUTHORIZER_KEYS: &[&str] = &[
    "type",
    "authorizerUri",
    "authorizerCredentials",
    "authorizerPayloadFormatVersion",
    "authorizerResultTtlInSeconds",
    "enableSimpleResponses",
    "identitySource",
    "identityValidationExpression",
    "jwtConfiguration",
    "providerARNs",
];
