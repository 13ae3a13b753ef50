//! Where an API answers: what the node says of it, else its definition, else the service's default.

use super::Refusal;
use crate::api::{Definition, Resources};
use crate::config;
use crate::deployment::EndpointType;

/// The endpoint type of `api`.
///
/// REST APIs are EDGE unless something else is said, HTTP APIs REGIONAL (Amazon API Gateway, `CreateRestApi`:
/// `endpointConfiguration`; "HTTP APIs: Regional"). Beyond the service, the node may say EDGE of an HTTP API.
pub(super) fn of(api: &config::Api, definition: &Definition) -> Result<EndpointType, Refusal> {
    let (written, default) = match &definition.resources {
        Resources::Rest(rest) => {
            let endpoint = rest.rest_api.endpoint_configuration.as_ref();
            let types = endpoint.map(|endpoint| endpoint.types.as_slice());
            (types.unwrap_or_default(), EndpointType::Edge)
        }
        Resources::Http(_) => (&[][..], EndpointType::Regional),
    };
    let endpoint = match (api.endpoint, written) {
        (Some(endpoint), _) => endpoint,
        (None, []) => default,
        (None, [name]) => named(name)?,
        (None, _) => {
            return Err(refusal(format!(
                "{EXTENSION}: an API has one endpoint type, not {}",
                written.len()
            )));
        }
    };
    match (endpoint, &definition.resources) {
        (EndpointType::Private, Resources::Http(_)) => Err(Refusal {
            message: "an HTTP API cannot be PRIVATE: it has no resource policy".to_owned(),
            hint: Some("make it a REST API by `x-tidegate-api-type: rest`".to_owned()),
        }),
        _ => Ok(endpoint),
    }
}

fn named(name: &str) -> Result<EndpointType, Refusal> {
    match name {
        "EDGE" => Ok(EndpointType::Edge),
        "REGIONAL" => Ok(EndpointType::Regional),
        "PRIVATE" => Ok(EndpointType::Private),
        _ => Err(refusal(format!(
            "{EXTENSION}: \"{name}\" is neither EDGE, REGIONAL nor PRIVATE"
        ))),
    }
}

fn refusal(message: String) -> Refusal {
    Refusal {
        message,
        hint: None,
    }
}

const EXTENSION: &str = "x-amazon-apigateway-endpoint-configuration";
