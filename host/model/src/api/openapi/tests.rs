use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::rest;

fn import_text(text: &str) -> Result<Definition, Problems> {
    import("a", &Document::parse(Path::new("a.yaml"), text)?)
}

fn rest(text: &str) -> rest::Definition {
    let definition = import_text(text).unwrap_or_else(|problems| panic!("{problems}"));
    match definition.resources {
        Resources::Rest(rest) => *rest,
        Resources::Http(_) => panic!("an HTTP API"),
    }
}

const SWAGGER: &str = r#"
swagger: "2.0"
info: {title: pets, version: "2020-01-01T00:00:00Z"}
basePath: /prod
consumes: [application/json, application/xml]
x-amazon-apigateway-request-validators:
  body: {validateRequestBody: true, validateRequestParameters: false}
  params: {validateRequestBody: false, validateRequestParameters: true}
x-amazon-apigateway-request-validator: body
x-amazon-apigateway-api-key-source: HEADER
x-amazon-apigateway-binary-media-types: [image/png]
x-amazon-apigateway-gateway-responses:
  THROTTLED: {statusCode: 503, responseTemplates: {application/json: '{}'}}
paths:
  /pets:
    post:
      operationId: createPet
      parameters:
        - {in: body, name: Pet, required: true, schema: {$ref: '#/definitions/Pet'}}
        - {in: header, name: X-Trace, type: string, required: true}
        - {$ref: '#/parameters/page'}
      responses:
        201: {description: made, schema: {$ref: '#/definitions/Pet'}, headers: {Location: {type: string}}}
      security: [{api_key: []}, {pool: [pets/write]}]
      x-amazon-apigateway-integration:
        type: http
        httpMethod: post
        uri: http://pets.example/v1
        requestParameters: {integration.request.header.x-trace: method.request.header.X-Trace}
        responses:
          default: {statusCode: 201}
          "4\\d{2}": {statusCode: 400, responseTemplates: {application/json: bad}}
  /pets/{id}:
    x-amazon-apigateway-any-method:
      x-amazon-apigateway-request-validator: params
      x-amazon-apigateway-integration: {type: MOCK}
parameters:
  page: {in: query, name: page, type: integer}
securityDefinitions:
  api_key: {type: apiKey, name: x-api-key, in: header}
  pool:
    type: apiKey
    name: Authorization
    in: header
    x-amazon-apigateway-authtype: cognito_user_pools
    x-amazon-apigateway-authorizer: {type: cognito_user_pools, providerARNs: ['arn:aws:cognito-idp:x']}
definitions:
  Pet:
    type: object
    properties:
      parent: {$ref: '#/definitions/Pet'}
      age: {type: integer, minimum: 0, exclusiveMinimum: true, x-nullable: true, example: 3}
"#;

#[test]
fn swagger_becomes_the_resources_of_a_rest_api() {
    let api = rest(SWAGGER);
    let resources: Vec<_> = api
        .resources
        .iter()
        .map(|resource| serde_json::to_value(resource).unwrap())
        .collect();
    let rest = [
        serde_json::to_value(&api.rest_api).unwrap(),
        json!(api.models),
        json!(api.request_validators),
        json!(api.authorizers),
        json!(api.gateway_responses),
    ];
    insta::assert_snapshot!(serde_json::to_string_pretty(&json!([resources, rest])).unwrap());
}

#[test]
fn the_kind_of_an_api_is_told_by_its_type_or_its_payload_format() {
    let paths = "openapi: 3.0.1\ninfo: {title: a}\npaths: {/a: {get: {x-amazon-apigateway-integration: {type: aws_proxy, uri: x";
    let cases = [
        (format!("{paths}}}}}}}}}"), Ok(Flavor::Rest)),
        (
            format!("{paths}, payloadFormatVersion: '2.0'}}}}}}}}"),
            Ok(Flavor::Http),
        ),
        (
            format!("x-tidegate-api-type: http\n{paths}}}}}}}}}"),
            Ok(Flavor::Http),
        ),
        (
            format!("x-tidegate-api-type: rest\n{paths}, payloadFormatVersion: '1.0'}}}}}}}}"),
            Ok(Flavor::Rest),
        ),
        (
            format!("x-tidegate-api-type: soap\n{paths}}}}}}}}}"),
            Err(
                "a.yaml:1: /: x-tidegate-api-type \"soap\" is neither \"rest\" nor \"http\""
                    .to_owned(),
            ),
        ),
    ];
    for (text, expected) in cases {
        let flavor = import_text(&text).map(|definition| match definition.resources {
            Resources::Rest(_) => Flavor::Rest,
            Resources::Http(_) => Flavor::Http,
        });
        assert_eq!(
            flavor.map_err(|problems| problems.to_string()),
            expected,
            "{text}"
        );
    }
}

#[test]
fn an_http_api_keeps_cors_authorizers_and_payload_formats() {
    let text = r#"
openapi: 3.0.1
info: {title: web}
x-amazon-apigateway-cors: {allowOrigins: ['*'], maxAge: 60, allowCredentials: false}
paths:
  /$default:
    x-amazon-apigateway-any-method: {x-amazon-apigateway-integration: {$ref: '#/components/x-amazon-apigateway-integrations/i'}}
  /a:
    get: {security: [{jwt: [read]}], x-amazon-apigateway-integration: {$ref: '#/components/x-amazon-apigateway-integrations/i'}}
components:
  x-amazon-apigateway-integrations:
    i: {type: AWS_PROXY, uri: 'arn:aws:lambda:x:0:function:f', payloadFormatVersion: 2.0, httpMethod: POST}
  securitySchemes:
    jwt:
      type: openIdConnect
      openIdConnectUrl: https://idp.test/.well-known/openid-configuration
      x-amazon-apigateway-authorizer:
        type: jwt
        jwtConfiguration: {issuer: 'https://idp.test', audience: [web]}
        identitySource: $request.header.Authorization
"#;
    let definition = import_text(text).unwrap();
    let Resources::Http(api) = definition.resources else {
        panic!("a REST API")
    };
    let all = json!([api.api, api.routes, api.integrations, api.authorizers]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&all).unwrap());
}

#[test]
fn schemas_of_each_dialect_become_json_schema() {
    let cases = [
        (
            "3.0.3",
            "{type: string, nullable: true}",
            json!({"type": ["string", "null"]}),
        ),
        (
            "3.0.3",
            "{type: string, nullable: true, enum: [a]}",
            json!({"type": ["string", "null"], "enum": ["a", null]}),
        ),
        (
            "3.0.3",
            "{nullable: true, allOf: [{type: object}]}",
            json!({"anyOf": [{"allOf": [{"type": "object"}]}, {"type": "null"}]}),
        ),
        (
            "3.0.3",
            "{nullable: false, type: string}",
            json!({"type": "string"}),
        ),
        (
            "3.0.3",
            "{minimum: 1, exclusiveMinimum: true, maximum: 2, exclusiveMaximum: false}",
            json!({"maximum": 2, "exclusiveMinimum": 1}),
        ),
        (
            "3.0.3",
            "{type: string, example: x, xml: {}, x-a: 1}",
            json!({"type": "string"}),
        ),
        (
            "3.0.3",
            "{properties: {example: {type: string, example: 1}}}",
            json!({"properties": {"example": {"type": "string"}}}),
        ),
        (
            "3.0.3",
            "{$ref: '#/components/schemas/B', description: x}",
            json!({"$ref": "https://apigateway.amazonaws.com/restapis/a/models/B"}),
        ),
        (
            "3.1.0",
            "{$ref: '#/components/schemas/B', description: x}",
            json!({"$ref": "https://apigateway.amazonaws.com/restapis/a/models/B", "description": "x"}),
        ),
        (
            "3.1.0",
            "{type: [string, 'null'], exclusiveMinimum: 1, examples: [1]}",
            json!({"type": ["string", "null"], "exclusiveMinimum": 1, "examples": [1]}),
        ),
        ("3.1.0", "true", json!(true)),
    ];
    for (version, schema, expected) in cases {
        let text = format!(
            "openapi: {version}\ninfo: {{title: a}}\npaths: {{/a: {{get: {{}}}}}}\n\
             components: {{schemas: {{A: {schema}, B: {{type: string}}}}}}"
        );
        let api = rest(&text);
        let model = api.models.iter().find(|model| model.name == "A").unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&model.schema).unwrap(),
            expected,
            "{version} {schema}"
        );
    }
}

#[test]
fn inline_bodies_and_parts_of_schemas_become_models() {
    let text = r##"
openapi: 3.0.3
info: {title: a}
paths:
  /a:
    parameters: [{in: query, name: q, required: true}, {in: header, name: h}]
    post:
      parameters: [{in: query, name: q}]
      requestBody:
        required: true
        content:
          application/json: {schema: {type: array, items: {$ref: '#/components/schemas/A/properties/b'}}}
components: {schemas: {A: {properties: {b: {type: integer}}}}}
"##;
    let api = rest(text);
    let method = &api.resources[1].resource_methods["POST"];
    let body = api
        .models
        .iter()
        .find(|model| model.name == method.request_models["application/json"])
        .unwrap();
    let schema: Value = serde_json::from_str(&body.schema).unwrap();
    let part = schema["items"]["$ref"]
        .as_str()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap();
    let part = api.models.iter().find(|model| model.name == part).unwrap();
    assert_eq!(part.schema, r#"{"type":"integer"}"#);
    // The operation's own parameter wins over its path's.
    let expected = [
        ("method.request.header.h".to_owned(), false),
        ("method.request.querystring.q".to_owned(), false),
    ];
    assert_eq!(method.request_parameters, expected.into());
}

#[test]
fn every_problem_is_reported_with_its_pointer_and_line() {
    let text = r##"
openapi: 3.0.3
info: {}
x-amazon-apigateway-gateway-responses: {THROTLED: {}}
x-amazon-apigateway-api-key-source: COOKIE
x-tidegate-binding: []
x-tidegate-bindings:
  - {step: throtle, plugin: token-bucket}
  - {step: throttle}
  - {step: throttle, plugin: token-bucket, configuration: [], limits: {deadline: 5, memory: 1KiB}, grants: {rate-limits: true}}
paths:
  /a/{id}:
    gte: {}
    get:
      security: [{keys: []}]
      parameters:
        - {in: path, name: ix, required: true}
        - {in: query}
        - {$ref: '#/components/parameters/Page'}
      requestBody: {content: {application/json: {schema: {$ref: 'other.yaml#/A'}}}}
      x-amazon-apigateway-request-validator: al
      x-amazon-apigateway-integration: {type: http_proxi, uri: x}
    put:
      x-tidegate-middleware: [{function: a, fault-policy: ignore}, {fuction: a}, [a]]
      x-amazon-apigateway-integrations: {type: mock}
      x-amazon-apigateway-auth: {type: IAM}
      x-amazon-apigateway-integration: {type: http_proxy}
    post:
      x-amazon-apigateway-integration: {type: mock, timeoutInMillis: 10, pasthroughBehavior: never, requestParameters: [], responses: {default: {}}}
  /a/{name}/b:
    get: {}
  /a/{id}/:
    get: {}
  b: {get: {}}
components:
  parameters: {page: {in: query, name: page}}
  securitySchemes:
    key: {type: apiKey, in: header, name: x-api-key}
    basic: {type: http, scheme: basic}
    jwt: {type: oauth2, x-amazon-apigateway-authorizer: {type: jwt, jwtConfiguration: {issuer: x}}}
    own: {type: apiKey, x-tidegate-authorizer: {plugn: a}}
  schemas: {Loop: {$ref: '#/components/schemas/Loop'}, Bad: 7}
"##;
    insta::assert_snapshot!(import_text(text).unwrap_err().to_string());
}

#[test]
fn what_is_no_definition_says_so() {
    let cases = [
        (
            "",
            "a.yaml: /: is no API definition: `openapi` or `swagger` is missing",
        ),
        (
            "[1]",
            "a.yaml:1: /: is no API definition: `openapi` or `swagger` is missing",
        ),
        (
            "openapi: 2.9.9",
            "a.yaml:1: /: version \"2.9.9\" is not read: use OpenAPI 3.0, 3.1 or Swagger 2.0",
        ),
        (
            "openapi: 3.0.0\ninfo: {title: a}",
            "a.yaml:1: /: `paths` is missing: an API without a route answers nothing",
        ),
        (
            "openapi: 3.0.0\ninfo: {title: a}\npaths: {}",
            "a.yaml:3: /paths: the API has no route",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            import_text(text).unwrap_err().to_string(),
            expected,
            "{text}"
        );
    }
}

proptest! {
    /// A definition with one piece replaced by something else is read or refused, and never a panic.
    #[test]
    fn a_damaged_definition_is_read_or_refused(at in 0usize..2000, piece in "[ -~]{0,6}") {
        for whole in [SWAGGER, include_str!("../../../../../configs/demo/items.openapi.yaml")] {
            let at = at % whole.len();
            let end = (at + piece.len()).min(whole.len());
            if let (Some(before), Some(after)) = (whole.get(..at), whole.get(end..)) {
                let _ = import_text(&format!("{before}{piece}{after}"));
            }
        }
    }
}
