use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::*;
use crate::deployment::{FaultPolicy, Located, PolicyUse, Selection};

const BUILTINS: &[&str] = &[
    "api-key",
    "jwt",
    "token-bucket",
    "quota",
    "schema",
    "header-transform",
    "http",
    "function",
    "mock",
    "access-log",
];

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

fn load_config(name: &str) -> Snapshot {
    let node = config::load(&configs().join(name)).unwrap_or_else(|problems| panic!("{problems}"));
    load(&node, BUILTINS).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A node with the upstream `orders`, the function `items`, the plugin `my-auth` and the API `a`, whose stage `dev` has
/// `settings`.
fn node(settings: &str) -> Node {
    let text = format!(
        "[[listener]]\naddress = '127.0.0.1:0'\n[upstream.orders]\ntargets = ['http://127.0.0.1:1']\n\
         [function.items]\ncomponent = 'items.wasm'\n\
         [function.anywhere]\ncomponent = 'a.wasm'\nhttp-client = ['*']\n[plugin.my-auth]\ncomponent = 'a.wasm'\n[secret.s]\nenv = 'S'\n\
         [[api]]\nid = 'a'\ndefinition = 'a.yaml'\n[api.stage.dev]\n{settings}"
    );
    config::parse(Path::new("node.toml"), &text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn compile_text(settings: &str, definition: &str) -> Result<Snapshot, Problems> {
    let document = Document::parse(Path::new("a.yaml"), definition)?;
    let definitions = BTreeMap::from([("a".to_owned(), openapi::import("a", &document)?)]);
    compile(&node(settings), &definitions, BUILTINS)
}

/// The bindings of each route in the order of calling, with their configurations.
fn describe(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for stage in &snapshot.stages {
        writeln!(
            text,
            "{} {:?} {:?}",
            stage.scope, stage.flavor, stage.variables
        )
        .unwrap();
        for route in &stage.entries {
            writeln!(
                text,
                "  {} {:?} {:?}",
                route.key, route.parameters, route.timeout
            )
            .unwrap();
            let pipeline = &route.pipeline;
            let steps = [
                &pipeline.authorizers,
                &pipeline.throttles,
                &pipeline.validators,
                &pipeline.request_transforms,
            ];
            let ids = steps
                .into_iter()
                .flatten()
                .chain(&pipeline.integration)
                .chain(&pipeline.response_transforms);
            for id in ids {
                let binding = snapshot.binding(*id);
                writeln!(
                    text,
                    "    #{} {} {}",
                    id.0, binding.plugin, binding.configuration
                )
                .unwrap();
            }
        }
        for id in &stage.log_sinks {
            let binding = snapshot.binding(*id);
            writeln!(
                text,
                "  #{} {} {}",
                id.0, binding.plugin, binding.configuration
            )
            .unwrap();
        }
    }
    text
}

/// Every file in configs/ that is a node's.
#[test]
fn every_configuration_loads() {
    let mut found = Vec::new();
    for folder in [configs(), configs().join("demo")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                assert_eq!(
                    crate::check(&[&path], BUILTINS).to_string(),
                    "",
                    "{}",
                    path.display()
                );
                found.push(path);
            }
        }
    }
    assert!(found.len() >= 4, "{found:?}");
}

#[test]
fn the_sample_becomes_pipelines_that_share_their_bindings() {
    let snapshot = load_config("demo/node.toml");
    insta::assert_snapshot!(describe(&snapshot));
}

#[test]
fn a_request_of_the_sample_finds_its_route() {
    let snapshot = load_config("demo/node.toml");
    let host = "items.execute-api.local.localhost:8080";
    let path = "/prod/items/a%20b";
    let Located::Stage { stage, path_offset } = snapshot.locate(Some(host), path) else {
        panic!("no stage")
    };
    let below = &path[path_offset..];
    let Selection::Matched { entry, params } = stage.routes.select(&http::Method::PUT, below)
    else {
        panic!("no route")
    };
    let route = &stage.entries[entry];
    assert_eq!(route.key, "PUT /items/{id}");
    assert_eq!(route.parameter("id", &params, below), Some("a%20b"));
    assert_eq!(stage.variables["table"], "items-prod");
}

#[test]
fn full_toml_grants_what_its_bindings_need_and_no_more() {
    let snapshot = load_config("full.toml");
    let mut text = String::new();
    for binding in &snapshot.bindings {
        let grants =
            format!("{:?}", binding.grants).replace(&configs().display().to_string(), "configs");
        writeln!(
            text,
            "{}: {:?} {:?} {:?}\n  {grants}",
            binding.name, binding.fault_policy, binding.isolation, binding.limits
        )
        .unwrap();
    }
    insta::assert_snapshot!(text);
}

const HTTP_API: &str = r#"
openapi: 3.0.1
info: {title: web}
paths:
  /$default:
    x-amazon-apigateway-any-method:
      isDefaultRoute: true
      x-amazon-apigateway-integration:
        type: http_proxy
        httpMethod: ANY
        uri: "http://${stageVariables.backend}/{proxy}"
        payloadFormatVersion: "1.0"
        timeoutInMillis: 30000
  /pets/{id}:
    get:
      security: [{jwt: [pets/read]}]
      x-amazon-apigateway-integration:
        type: aws_proxy
        uri: "arn:aws:lambda:local:0:function:${stageVariables.function}"
        payloadFormatVersion: "2.0"
        requestParameters: {"overwrite:header.x-stage": "$context.stage"}
components:
  securitySchemes:
    jwt:
      type: oauth2
      x-amazon-apigateway-authorizer:
        type: jwt
        identitySource: $request.header.Authorization
        jwtConfiguration: {issuer: "https://idp.test/", audience: [web]}
"#;

#[test]
fn an_http_api_has_jwt_authorizers_mappings_and_a_default_route() {
    let snapshot = compile_text(
        "variables = { backend = 'orders', function = 'items' }",
        HTTP_API,
    )
    .unwrap();
    let jwt = snapshot
        .bindings
        .iter()
        .find(|binding| binding.plugin == "jwt")
        .unwrap();
    assert!(jwt.grants.crypto);
    assert_eq!(jwt.grants.jwks, ["idp.test"]);
    insta::assert_snapshot!(describe(&snapshot));
}

#[test]
fn stages_differ_in_identifier_when_their_settings_or_the_definition_do() {
    let id = |settings: &str, definition: &str| {
        compile_text(settings, definition).unwrap().stages[0]
            .deployment_id
            .clone()
    };
    let variables = "variables = { backend = 'orders', function = 'items' }";
    let first = id(variables, HTTP_API);
    assert_eq!(first, id(&format!("# moved\n{variables}"), HTTP_API));
    assert_ne!(
        first,
        id(&format!("{variables}\nthrottle = {{ rate = 1 }}"), HTTP_API)
    );
    assert_ne!(
        first,
        id(variables, &HTTP_API.replace("title: web", "title: other"))
    );
    assert_eq!(first.len(), 16);
}

#[test]
fn a_plugin_of_ones_own_is_not_shared_between_stages_and_a_built_in_is() {
    let definition = "
openapi: 3.0.1
info: {title: a}
security: [{own: []}, {key: []}]
paths:
  /a: {get: {x-amazon-apigateway-integration: {type: mock}}}
  /b: {get: {x-amazon-apigateway-integration: {type: mock}}}
components:
  securitySchemes:
    own: {type: apiKey, in: header, name: a, x-tidegate-authorizer: {plugin: my-auth}}
    key: {type: apiKey, in: header, name: X-API-Key}
";
    let snapshot = compile_text("[api.stage.prod]", definition).unwrap();
    let names: Vec<_> = snapshot
        .bindings
        .iter()
        .map(|binding| binding.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "a/dev GET /a: authorizer my-auth",
            "a/dev GET /a: authorizer api-key",
            "a/dev GET /a: integration mock",
            "a/prod GET /a: authorizer my-auth",
        ]
    );
}

/// What one operation, `GET /a` of a REST API, is refused with.
fn refusals(operation: &str, root: &str) -> String {
    let definition = format!(
        "openapi: 3.0.1\ninfo: {{title: a}}\n{root}\npaths:\n  /a:\n    get:\n      {}\n",
        operation.replace('\n', "\n      ")
    );
    compile_text("variables = { v = 'items' }", &definition)
        .err()
        .map(|problems| problems.to_string())
        .unwrap_or_default()
}

#[test]
fn what_cannot_be_served_is_refused_by_name() {
    let integration = |fields: &str| format!("x-amazon-apigateway-integration: {{{fields}}}");
    let arn = "arn:aws:lambda:local:0:function:";
    let cases = [
        (
            integration("type: http_proxy, uri: 'http://order/x'"),
            "no upstream \"order\"; did you mean \"orders\"?",
        ),
        (
            integration("type: http_proxy, uri: 'http://orders:8080/x'"),
            "uri \"http://orders:8080/x\" has a port, and upstream \"orders\" has its targets' ports; write http://orders/x",
        ),
        (
            integration("type: http_proxy, uri: 'http://127.0.0.1:9/x'"),
            "",
        ),
        (
            integration("type: http_proxy, uri: 'http://example.com'"),
            "",
        ),
        (
            integration("type: http_proxy, uri: '/x'"),
            "uri \"/x\" is not absolute",
        ),
        (
            integration("type: http_proxy, uri: 'ftp://orders'"),
            "uri \"ftp://orders\" does not start with http:// or https://",
        ),
        (
            integration("type: http_proxy, uri: 'http://{host}/'"),
            "uri \"http://{host}/\" has no literal host",
        ),
        (
            integration(&format!("type: aws_proxy, uri: '{arn}item'")),
            "no function \"item\"; did you mean \"items\"?",
        ),
        (
            integration(&format!(
                "type: aws_proxy, uri: '{arn}${{stageVariables.v}}'"
            )),
            "",
        ),
        (
            integration(&format!(
                "type: aws_proxy, uri: '{arn}${{stageVariables.w}}'"
            )),
            "the stage has no variable \"w\"; did you mean \"v\"?",
        ),
        (
            integration("type: aws_proxy, uri: items"),
            "uri \"items\" names no function; write \"arn:aws:lambda:{region}:{account}:function:{name}\"",
        ),
        (
            integration("type: aws, uri: x"),
            "an integration of type AWS is not supported yet",
        ),
        (
            integration(
                "type: http_proxy, uri: 'http://orders', connectionType: VPC_LINK, connectionId: x",
            ),
            "an integration through a VPC link is not supported yet",
        ),
        (
            integration(
                "type: http, uri: 'http://orders', requestTemplates: {application/json: x}",
            ),
            "mapping templates of http integrations are not supported yet; use type http_proxy",
        ),
        (
            integration("type: mock, requestTemplates: {application/json: x}"),
            "the mock's request template is not `{\"statusCode\": 200}`",
        ),
        (
            format!(
                "x-tidegate-bindings: [{{step: throttle, plugin: token-buckets}}]\n{}",
                integration("type: mock")
            ),
            "no plugin \"token-buckets\"; did you mean \"token-bucket\"?",
        ),
        (
            format!(
                "x-tidegate-bindings: [{{step: integration, plugin: mock}}]\n{}",
                integration("type: mock")
            ),
            "a second integration beside a/dev GET /a: integration mock",
        ),
        (
            format!(
                "x-tidegate-bindings: [{{step: log-sink, plugin: access-log}}]\n{}",
                integration("type: mock")
            ),
            "a log sink takes all records of a stage: bind it at the root",
        ),
        (
            "x-tidegate-bindings: [{step: integration, plugin: mock, fault-policy: bypass}]"
                .to_owned(),
            "`fault-policy: bypass` at an integration: nothing else would answer the request",
        ),
        (
            format!(
                "x-tidegate-bindings: [{{step: authorizer, plugin: my-auth, grants: {{secrets: [t]}}}}]\n{}",
                integration("type: mock")
            ),
            "no secret \"t\"; did you mean \"s\"?",
        ),
        (
            format!(
                "x-tidegate-middleware: [item]\n{}",
                integration("type: mock")
            ),
            "no function \"item\"; did you mean \"items\"?",
        ),
        (
            format!(
                "x-tidegate-middleware: [items, {{function: anywhere}}]\n{}",
                integration("type: mock")
            ),
            "function \"anywhere\" may ask every host, so none could be told from the integration; \
             name the hosts that it asks in its `http-client`",
        ),
    ];
    for (operation, expected) in cases {
        let refusals = refusals(&operation, "");
        let (_, message) = refusals
            .split_once("route \"GET /a\": ")
            .unwrap_or(("", &refusals));
        assert_eq!(message, expected, "{operation}");
    }
}

#[test]
fn what_protects_an_api_in_the_service_is_not_dropped_in_silence() {
    let schemes = |scheme: &str| {
        format!("security: [{{s: []}}]\ncomponents: {{securitySchemes: {{s: {{{scheme}}}}}}}")
    };
    let header = "type: apiKey, in: header, name: Authorization";
    let cases = [
        (
            schemes(&format!("{header}, x-amazon-apigateway-authtype: awsSigv4")),
            "a.yaml:7: route \"GET /a\": IAM authorization (awsSigv4) is not supported yet",
        ),
        (
            schemes(&format!(
                "{header}, x-amazon-apigateway-authorizer: {{type: token, authorizerUri: x}}"
            )),
            "a.yaml:7: route \"GET /a\": authorizer \"s\": type TOKEN is not supported yet; \
             name a plugin that does its work by x-tidegate-authorizer",
        ),
        (
            schemes(
                "type: oauth2, x-amazon-apigateway-authorizer: {type: jwt, jwtConfiguration: {issuer: i, audience: [a]}}",
            ),
            "a.yaml:7: route \"GET /a\": authorizer \"s\": type JWT is not supported yet; JWT authorizers are for HTTP APIs: \
             set `x-tidegate-api-type: http`, or name the plugin by x-tidegate-authorizer",
        ),
        (
            "x-amazon-apigateway-policy: {Version: '2012-10-17', Statement: [{Effect: Deny, Actions: '*'}]}\n"
                .to_owned(),
            "a.yaml:1: x-amazon-apigateway-policy: statement 1: \"Actions\" is no element; did you mean \"Action\"?",
        ),
        (
            "x-amazon-apigateway-endpoint-configuration: {types: [PRIVATE]}\n".to_owned(),
            "a.yaml:1: api \"a\": a PRIVATE API needs a resource policy; say who may invoke it by x-amazon-apigateway-policy",
        ),
        (
            "x-amazon-apigateway-endpoint-configuration: {types: [PRIVATE]}\n\
             x-amazon-apigateway-policy: {Version: '2012-10-17', Statement: []}\n"
                .to_owned(),
            "",
        ),
    ];
    for (root, expected) in cases {
        assert_eq!(
            refusals("x-amazon-apigateway-integration: {type: mock}", &root),
            expected,
            "{root}"
        );
    }
}

#[test]
fn an_api_has_the_endpoint_type_that_the_node_says_or_the_definition_or_the_service() {
    let rest = "openapi: 3.0.1\ninfo: {title: a}\npaths: {/a: {get: {x-amazon-apigateway-integration: {type: mock}}}}\n";
    let regional =
        format!("{rest}x-amazon-apigateway-endpoint-configuration: {{types: [REGIONAL]}}\n");
    let cases = [
        ("", rest, EndpointType::Edge),
        ("", HTTP_API, EndpointType::Regional),
        ("", regional.as_str(), EndpointType::Regional),
        ("EDGE", regional.as_str(), EndpointType::Edge),
        ("EDGE", HTTP_API, EndpointType::Edge),
        ("REGIONAL", rest, EndpointType::Regional),
    ];
    for (written, definition, expected) in cases {
        let mut node = node("variables = { backend = 'orders', function = 'items' }");
        node.apis[0].endpoint = match written {
            "EDGE" => Some(EndpointType::Edge),
            "REGIONAL" => Some(EndpointType::Regional),
            _ => None,
        };
        let document = Document::parse(Path::new("a.yaml"), definition).unwrap();
        let definition = openapi::import("a", &document).unwrap();
        let definitions = BTreeMap::from([("a".to_owned(), definition)]);
        let snapshot = compile(&node, &definitions, BUILTINS).unwrap();
        assert_eq!(snapshot.stages[0].endpoint, expected, "{written}");
    }
    let mut node = node("variables = { backend = 'orders', function = 'items' }");
    node.apis[0].endpoint = Some(EndpointType::Private);
    let document = Document::parse(Path::new("a.yaml"), HTTP_API).unwrap();
    let definitions = BTreeMap::from([("a".to_owned(), openapi::import("a", &document).unwrap())]);
    let problems = compile(&node, &definitions, BUILTINS)
        .unwrap_err()
        .to_string();
    assert!(
        problems.contains("an HTTP API cannot be PRIVATE"),
        "{problems}"
    );
    for (types, expected) in [
        ("[EDGE, REGIONAL]", "an API has one endpoint type, not 2"),
        (
            "[REGIONL]",
            "\"REGIONL\" is neither EDGE, REGIONAL nor PRIVATE",
        ),
    ] {
        let root = format!("x-amazon-apigateway-endpoint-configuration: {{types: {types}}}");
        assert_eq!(
            refusals("x-amazon-apigateway-integration: {type: mock}", &root),
            format!("a.yaml:1: api \"a\": x-amazon-apigateway-endpoint-configuration: {expected}")
        );
    }
}

#[test]
fn a_resource_policy_is_alone_or_before_an_authorizer() {
    let definition = "
openapi: 3.0.1
info: {title: a}
x-amazon-apigateway-policy: {Version: '2012-10-17', Statement: []}
paths:
  /open: {get: {x-amazon-apigateway-integration: {type: mock}}}
  /key: {get: {security: [{key: []}], x-amazon-apigateway-integration: {type: mock}}}
  /own: {get: {security: [{own: []}], x-amazon-apigateway-integration: {type: mock}}}
components:
  securitySchemes:
    key: {type: apiKey, in: header, name: X-API-Key}
    own: {type: apiKey, in: header, name: a, x-tidegate-authorizer: {plugin: my-auth}}
";
    let snapshot = compile_text("", definition).unwrap();
    let stage = &snapshot.stages[0];
    assert!(stage.resource_policy.is_some());
    let uses: Vec<_> = stage
        .entries
        .iter()
        .map(|route| (route.key.as_str(), route.policy_use))
        .collect();
    assert_eq!(
        uses,
        [
            ("GET /open", PolicyUse::Alone),
            ("GET /key", PolicyUse::Alone),
            ("GET /own", PolicyUse::BeforeAuthorizer),
        ]
    );
}

#[test]
fn middleware_of_the_root_stands_around_that_of_an_operation() {
    let definition = "
openapi: 3.0.1
info: {title: a}
x-tidegate-middleware: [items]
paths:
  /a: {get: {x-amazon-apigateway-integration: {type: mock}}}
  /b:
    get:
      x-tidegate-middleware: [{function: outer, fault-policy: bypass}, items]
      x-amazon-apigateway-integration: {type: mock}
";
    let settings = "[function.outer]\ncomponent = 'b.wasm'";
    let snapshot = compile_text(settings, definition).unwrap();
    let around: Vec<Vec<_>> = snapshot.stages[0]
        .entries
        .iter()
        .map(|route| {
            let middleware = route.pipeline.middleware.iter();
            middleware
                .map(|it| (it.function.as_str(), it.fault_policy))
                .collect()
        })
        .collect();
    let items = ("items", FaultPolicy::Fail);
    let outer = ("outer", FaultPolicy::Bypass);
    assert_eq!(around, [vec![items], vec![items, outer, items]]);
}

#[test]
fn settings_for_what_the_api_does_not_have_are_refused() {
    let definition = "openapi: 3.0.1\ninfo: {title: a}\npaths: {/a: {get: {}}}";
    let settings = "route.'GET /b' = { throttle = { rate = 1 } }\n[api.stage.'$default']";
    let problems = compile_text(settings, definition).unwrap_err().to_string();
    assert_eq!(
        problems,
        "node.toml:18: stage \"a/dev\": no route \"GET /b\"; did you mean \"GET /a\"?\n\
         node.toml:19: api \"a\": a REST API has no stage $default"
    );
}
