//! The resources of an HTTP API. Names, types and defaults: Amazon API Gateway V2 API reference.

use std::collections::BTreeMap;

use super::resource;

/// An HTTP API with what belongs to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definition {
    pub api: Api,
    pub routes: Vec<Route>,
    pub integrations: Vec<Integration>,
    pub authorizers: Vec<Authorizer>,
}

resource! {
    /// `Api`.
    Api {
        api_endpoint: Option<String>,
        api_gateway_managed: bool,
        api_id: String,
        api_key_selection_expression: Option<String>,
        cors_configuration: Option<Cors>,
        /// ISO 8601.
        created_date: Option<String>,
        description: Option<String>,
        disable_schema_validation: bool,
        disable_execute_api_endpoint: bool,
        import_info: Vec<String>,
        ip_address_type: Option<String>,
        name: String,
        /// `HTTP` or `WEBSOCKET`.
        protocol_type: String,
        route_selection_expression: Option<String>,
        tags: BTreeMap<String, String>,
        version: Option<String>,
        warnings: Vec<String>,
    }

    /// `Cors`.
    Cors {
        allow_credentials: bool,
        allow_headers: Vec<String>,
        allow_methods: Vec<String>,
        allow_origins: Vec<String>,
        expose_headers: Vec<String>,
        /// Seconds.
        max_age: Option<i64>,
    }

    /// `Route`.
    Route {
        api_gateway_managed: bool,
        api_key_required: bool,
        authorization_scopes: Vec<String>,
        /// `NONE`, `AWS_IAM`, `CUSTOM` or `JWT`.
        authorization_type: String,
        authorizer_id: Option<String>,
        model_selection_expression: Option<String>,
        operation_name: Option<String>,
        request_models: BTreeMap<String, String>,
        request_parameters: BTreeMap<String, ParameterConstraints>,
        route_id: String,
        /// `GET /pets`, `ANY /pets` or `$default`.
        route_key: String,
        route_response_selection_expression: Option<String>,
        /// `integrations/{integrationId}`.
        target: Option<String>,
    }

    /// `ParameterConstraints`.
    ParameterConstraints {
        required: bool,
    }

    /// `Integration`.
    Integration {
        api_gateway_managed: bool,
        connection_id: Option<String>,
        /// `INTERNET` (default) or `VPC_LINK`.
        connection_type: Option<String>,
        content_handling_strategy: Option<String>,
        credentials_arn: Option<String>,
        description: Option<String>,
        integration_id: String,
        integration_method: Option<String>,
        integration_response_selection_expression: Option<String>,
        /// The AWS service action of an `AWS_PROXY` integration that is no function: `SQS-SendMessage`.
        integration_subtype: Option<String>,
        /// `HTTP_PROXY` or `AWS_PROXY`.
        integration_type: String,
        integration_uri: Option<String>,
        passthrough_behavior: Option<String>,
        /// `1.0` or `2.0`.
        payload_format_version: Option<String>,
        /// `{append|overwrite|remove}:{header|querystring|path}.{name}` → where the value is from.
        request_parameters: BTreeMap<String, String>,
        request_templates: BTreeMap<String, String>,
        /// Status code → as `request_parameters`, of the response.
        response_parameters: BTreeMap<String, BTreeMap<String, String>>,
        template_selection_expression: Option<String>,
        /// 50 to 30,000.
        timeout_in_millis: Option<u32>,
        tls_config: Option<TlsConfig>,
    }

    /// `TlsConfig`.
    TlsConfig {
        server_name_to_verify: Option<String>,
    }

    /// `Authorizer`.
    Authorizer {
        authorizer_credentials_arn: Option<String>,
        authorizer_id: String,
        authorizer_payload_format_version: Option<String>,
        authorizer_result_ttl_in_seconds: Option<u32>,
        /// `REQUEST` or `JWT`.
        authorizer_type: String,
        authorizer_uri: Option<String>,
        enable_simple_responses: bool,
        identity_source: Vec<String>,
        identity_validation_expression: Option<String>,
        jwt_configuration: Option<JwtConfiguration>,
        name: String,
    }

    /// `JWTConfiguration`.
    JwtConfiguration {
        audience: Vec<String>,
        issuer: Option<String>,
    }

    /// `Stage`.
    Stage {
        access_log_settings: Option<AccessLogSettings>,
        api_gateway_managed: bool,
        auto_deploy: bool,
        client_certificate_id: Option<String>,
        /// ISO 8601.
        created_date: Option<String>,
        default_route_settings: Option<RouteSettings>,
        deployment_id: Option<String>,
        description: Option<String>,
        last_deployment_status_message: Option<String>,
        /// ISO 8601.
        last_updated_date: Option<String>,
        /// Route key → settings.
        route_settings: BTreeMap<String, RouteSettings>,
        stage_name: String,
        stage_variables: BTreeMap<String, String>,
        tags: BTreeMap<String, String>,
    }

    /// `AccessLogSettings`.
    AccessLogSettings {
        destination_arn: Option<String>,
        format: Option<String>,
    }

    /// `RouteSettings`.
    RouteSettings {
        data_trace_enabled: bool,
        detailed_metrics_enabled: bool,
        logging_level: Option<String>,
        /// Requests.
        throttling_burst_limit: Option<u32>,
        /// Requests per second.
        throttling_rate_limit: Option<f64>,
    }
}
