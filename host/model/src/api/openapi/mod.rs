//! OpenAPI → resources: Swagger 2.0, OpenAPI 3.0 and 3.1 with API Gateway's extensions.
//!
//! What the service keeps of a definition is kept, by its names. An API is an HTTP API where the root says
//! `x-tidegate-api-type: http` or an integration has a `payloadFormatVersion`, and a REST API elsewhere.
//!
//! Read: `x-amazon-apigateway-` `integration`, `integrations` (components), `any-method`, `request-validator`,
//! `request-validators`, `authorizer`, `authtype`, `api-key-source`, `gateway-responses`, `binary-media-types`,
//! `minimum-compression-size`, `endpoint-configuration`, `policy`, `cors`, `auth`; and `x-tidegate-` `api-type`, `bindings`,
//! `middleware`, `authorizer`. References are followed within the file. `servers` and `basePath` say where an API was, not where it is
//! to be: they are ignored, as the service's import does unless told otherwise.

mod at;
mod extensions;
mod http;
mod integration;
mod operation;
mod rest;
mod schema;
mod security;

use self::at::{At, Reader};
use self::schema::Models;
use self::security::Schemes;
use super::{Definition, Extensions, Resources, hex_digest};
use crate::deployment::Flavor;
use crate::document::Document;
use crate::problem::Problems;

/// Makes the resources of the API `api_id` from its definition.
///
/// # Errors
/// All that is wrong with the definition, each with its JSON pointer and line. Parts of the service that Tidegate does not
/// have yet are no errors here: the deployment says so.
pub fn import(api_id: &str, document: &Document) -> Result<Definition, Problems> {
    let reader = Reader::new(document);
    let definition = read(api_id, reader.root());
    let problems = reader.problems.into_inner();
    match definition {
        Some(definition) => problems.or(definition),
        None => Err(problems),
    }
}

/// The dialects of OpenAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Swagger2,
    OpenApi30,
    OpenApi31,
}

/// What all parts of the reading look at.
struct Context<'r> {
    api_id: &'r str,
    dialect: Dialect,
    flavor: Flavor,
    root: At<'r>,
    schemes: Schemes,
}

fn read(api_id: &str, root: At<'_>) -> Option<Definition> {
    let dialect = dialect(&root)?;
    root.only_extensions(ROOT_EXTENSIONS);
    let flavor = flavor(&root)?;
    let context = Context {
        api_id,
        dialect,
        flavor,
        schemes: Schemes::read(&root, dialect),
        root,
    };
    let mut models = Models::new(&context);
    let operations = operation::read_all(&context, &mut models);
    let mut extensions = Extensions {
        bindings: extensions::bindings(&context.root),
        middleware: extensions::middleware(&context.root),
        operations: Default::default(),
        authorizers: context.schemes.plugins(),
        place: Some(context.root.place()),
    };
    for operation in &operations {
        extensions
            .operations
            .insert(operation.key(), operation.extension());
    }
    let resources = match flavor {
        Flavor::Rest => Resources::Rest(Box::new(rest::assemble(&context, operations, models))),
        Flavor::Http => Resources::Http(Box::new(http::assemble(&context, operations))),
    };
    let digest = hex_digest(&context.root.value.to_string());
    Some(Definition {
        resources,
        extensions,
        digest,
    })
}

fn dialect(root: &At<'_>) -> Option<Dialect> {
    let version = root.text_at("openapi").or_else(|| root.text_at("swagger"));
    match version.as_deref() {
        Some("2.0") => Some(Dialect::Swagger2),
        Some(version) if version.starts_with("3.0") => Some(Dialect::OpenApi30),
        Some(version) if version.starts_with("3.1") => Some(Dialect::OpenApi31),
        Some(version) => {
            root.problem(format!(
                "version \"{version}\" is not read: use OpenAPI 3.0, 3.1 or Swagger 2.0"
            ));
            None
        }
        None => {
            root.problem("is no API definition: `openapi` or `swagger` is missing");
            None
        }
    }
}

fn flavor(root: &At<'_>) -> Option<Flavor> {
    match root.text_at("x-tidegate-api-type").as_deref() {
        Some("http") => return Some(Flavor::Http),
        Some("rest") => return Some(Flavor::Rest),
        Some(other) => {
            root.problem(format!(
                "x-tidegate-api-type \"{other}\" is neither \"rest\" nor \"http\""
            ));
            return None;
        }
        None => {}
    }
    let paths = root
        .entries_at("paths")
        .into_iter()
        .flat_map(|(_, path)| path.entries());
    let shared = root
        .get("components")
        .map(|at| at.entries_at(integration::SHARED))
        .unwrap_or_default();
    let operations = paths.filter(|(_, operation)| operation.value.is_object());
    let inline = operations.filter_map(|(_, operation)| operation.get(integration::KEY));
    let mut integrations = inline.chain(shared.into_iter().map(|(_, at)| at));
    let has_version = |at: At<'_>| at.value.get("payloadFormatVersion").is_some();
    Some(if integrations.any(has_version) {
        Flavor::Http
    } else {
        Flavor::Rest
    })
}

/// Some are not looked at: they document, or are about accounts of the service.
const ROOT_EXTENSIONS: &[&str] = &[
    "x-amazon-apigateway-api-key-source",
    "x-amazon-apigateway-binary-media-types",
    "x-amazon-apigateway-cors",
    "x-amazon-apigateway-documentation",
    "x-amazon-apigateway-endpoint-access-mode",
    "x-amazon-apigateway-endpoint-configuration",
    "x-amazon-apigateway-gateway-responses",
    "x-amazon-apigateway-importexport-version",
    "x-amazon-apigateway-minimum-compression-size",
    "x-amazon-apigateway-policy",
    "x-amazon-apigateway-request-validator",
    "x-amazon-apigateway-request-validators",
    "x-amazon-apigateway-security-policy",
    "x-amazon-apigateway-tag-value",
    "x-tidegate-api-type",
    "x-tidegate-bindings",
    "x-tidegate-middleware",
];

#[cfg(test)]
mod tests;
