//! The resources of a REST API. Names, types and defaults: Amazon API Gateway V1 API reference.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::resource;

/// A REST API with what belongs to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definition {
    pub rest_api: RestApi,
    /// The root first, each below its parent.
    pub resources: Vec<Resource>,
    pub models: Vec<Model>,
    pub request_validators: Vec<RequestValidator>,
    pub authorizers: Vec<Authorizer>,
    pub gateway_responses: Vec<GatewayResponse>,
}

resource! {
    /// `RestApi`.
    RestApi {
        id: String,
        name: String,
        description: Option<String>,
        /// Seconds since 1970.
        created_date: Option<i64>,
        version: Option<String>,
        warnings: Vec<String>,
        binary_media_types: Vec<String>,
        /// Bytes.
        minimum_compression_size: Option<u32>,
        /// `HEADER` (default) or `AUTHORIZER`.
        api_key_source: Option<String>,
        endpoint_configuration: Option<EndpointConfiguration>,
        /// A resource policy, JSON text.
        policy: Option<String>,
        tags: BTreeMap<String, String>,
        disable_execute_api_endpoint: bool,
        root_resource_id: Option<String>,
    }

    /// `EndpointConfiguration`.
    EndpointConfiguration {
        /// `REGIONAL`, `EDGE` or `PRIVATE`.
        types: Vec<String>,
        ip_address_type: Option<String>,
        vpc_endpoint_ids: Vec<String>,
    }

    /// `Resource`: a path, and its methods by name (`GET` … or `ANY`).
    Resource {
        id: String,
        parent_id: Option<String>,
        path_part: Option<String>,
        path: String,
        resource_methods: IndexMap<String, Method>,
    }

    /// `Method`.
    Method {
        http_method: String,
        /// `NONE`, `AWS_IAM`, `CUSTOM` or `COGNITO_USER_POOLS`.
        authorization_type: String,
        authorizer_id: Option<String>,
        api_key_required: bool,
        request_validator_id: Option<String>,
        operation_name: Option<String>,
        /// `method.request.{header|querystring|path}.{name}` → whether it is required.
        request_parameters: BTreeMap<String, bool>,
        /// Media type → model name.
        request_models: BTreeMap<String, String>,
        method_responses: BTreeMap<String, MethodResponse>,
        method_integration: Option<Integration>,
        authorization_scopes: Vec<String>,
    }

    /// `MethodResponse`.
    MethodResponse {
        status_code: String,
        /// `method.response.header.{name}` → whether it is required.
        response_parameters: BTreeMap<String, bool>,
        /// Media type → model name.
        response_models: BTreeMap<String, String>,
    }

    /// `Integration`.
    Integration {
        /// `HTTP`, `HTTP_PROXY`, `AWS`, `AWS_PROXY` or `MOCK`.
        r#type: String,
        http_method: Option<String>,
        uri: Option<String>,
        /// `INTERNET` (default) or `VPC_LINK`.
        connection_type: Option<String>,
        connection_id: Option<String>,
        credentials: Option<String>,
        /// `integration.request.{header|querystring|path}.{name}` → where the value is from.
        request_parameters: BTreeMap<String, String>,
        /// Media type → mapping template.
        request_templates: BTreeMap<String, String>,
        /// `WHEN_NO_MATCH`, `WHEN_NO_TEMPLATES` or `NEVER`.
        passthrough_behavior: Option<String>,
        /// `CONVERT_TO_BINARY` or `CONVERT_TO_TEXT`.
        content_handling: Option<String>,
        /// 50 to 29,000 unless the account's quota is higher.
        timeout_in_millis: Option<u32>,
        cache_namespace: Option<String>,
        cache_key_parameters: Vec<String>,
        /// By status code.
        integration_responses: IndexMap<String, IntegrationResponse>,
        tls_config: Option<TlsConfig>,
        response_transfer_mode: Option<String>,
        integration_target: Option<String>,
    }

    /// `TlsConfig`.
    TlsConfig {
        insecure_skip_verification: bool,
    }

    /// `IntegrationResponse`.
    IntegrationResponse {
        status_code: String,
        /// A regular expression; `None` for the default response.
        selection_pattern: Option<String>,
        /// `method.response.header.{name}` → where the value is from.
        response_parameters: BTreeMap<String, String>,
        /// Media type → mapping template.
        response_templates: BTreeMap<String, String>,
        content_handling: Option<String>,
    }

    /// `Model`.
    Model {
        id: String,
        name: String,
        description: Option<String>,
        /// A JSON Schema as text. It refers to other models of the API by [`model_url`].
        schema: String,
        content_type: String,
    }

    /// `RequestValidator`.
    RequestValidator {
        id: String,
        name: String,
        validate_request_body: bool,
        validate_request_parameters: bool,
    }

    /// `Authorizer`.
    Authorizer {
        id: String,
        name: String,
        /// `TOKEN`, `REQUEST` or `COGNITO_USER_POOLS`.
        r#type: String,
        #[serde(rename = "providerARNs")]
        provider_arns: Vec<String>,
        auth_type: Option<String>,
        authorizer_uri: Option<String>,
        authorizer_credentials: Option<String>,
        /// `method.request.header.Authorization`, several separated by commas.
        identity_source: Option<String>,
        identity_validation_expression: Option<String>,
        authorizer_result_ttl_in_seconds: Option<u32>,
    }

    /// `GatewayResponse`.
    GatewayResponse {
        response_type: String,
        status_code: Option<String>,
        /// `gatewayresponse.header.{name}` → where the value is from.
        response_parameters: BTreeMap<String, String>,
        response_templates: BTreeMap<String, String>,
        default_response: bool,
    }

    /// `Deployment`.
    Deployment {
        id: String,
        description: Option<String>,
        /// Seconds since 1970.
        created_date: Option<i64>,
        /// Path → method → what was deployed.
        api_summary: BTreeMap<String, BTreeMap<String, MethodSnapshot>>,
    }

    /// `MethodSnapshot`.
    MethodSnapshot {
        authorization_type: String,
        api_key_required: bool,
    }

    /// `Stage`.
    Stage {
        deployment_id: String,
        client_certificate_id: Option<String>,
        stage_name: String,
        description: Option<String>,
        cache_cluster_enabled: bool,
        /// In GB: `0.5` … `237`.
        cache_cluster_size: Option<String>,
        cache_cluster_status: Option<String>,
        /// `*/*` or `{resource path}/{method}` → settings.
        method_settings: BTreeMap<String, MethodSetting>,
        variables: BTreeMap<String, String>,
        documentation_version: Option<String>,
        access_log_settings: Option<AccessLogSettings>,
        canary_settings: Option<CanarySettings>,
        tracing_enabled: bool,
        web_acl_arn: Option<String>,
        tags: BTreeMap<String, String>,
        /// Seconds since 1970.
        created_date: Option<i64>,
        /// Seconds since 1970.
        last_updated_date: Option<i64>,
    }

    /// `MethodSetting`.
    MethodSetting {
        metrics_enabled: bool,
        /// `OFF`, `ERROR` or `INFO`.
        logging_level: Option<String>,
        data_trace_enabled: bool,
        /// Requests.
        throttling_burst_limit: Option<u32>,
        /// Requests per second.
        throttling_rate_limit: Option<f64>,
        caching_enabled: bool,
        cache_ttl_in_seconds: Option<u32>,
        cache_data_encrypted: bool,
        require_authorization_for_cache_control: bool,
        unauthorized_cache_control_header_strategy: Option<String>,
    }

    /// `AccessLogSettings`.
    AccessLogSettings {
        format: Option<String>,
        destination_arn: Option<String>,
    }

    /// `CanarySettings`.
    CanarySettings {
        /// 0 to 100.
        percent_traffic: f64,
        deployment_id: Option<String>,
        stage_variable_overrides: BTreeMap<String, String>,
        use_stage_cache: bool,
    }

    /// `UsagePlan`.
    UsagePlan {
        id: String,
        name: String,
        description: Option<String>,
        api_stages: Vec<ApiStage>,
        throttle: Option<ThrottleSettings>,
        quota: Option<QuotaSettings>,
        product_code: Option<String>,
        tags: BTreeMap<String, String>,
    }

    /// `ApiStage`.
    ApiStage {
        api_id: String,
        stage: String,
        /// `{resource path}/{method}` → limits.
        throttle: BTreeMap<String, ThrottleSettings>,
    }

    /// `ThrottleSettings`.
    ThrottleSettings {
        burst_limit: Option<u32>,
        /// Requests per second.
        rate_limit: Option<f64>,
    }

    /// `QuotaSettings`.
    QuotaSettings {
        limit: u64,
        offset: u64,
        /// `DAY`, `WEEK` or `MONTH`.
        period: String,
    }

    /// `ApiKey`.
    ApiKey {
        id: String,
        value: Option<String>,
        name: String,
        customer_id: Option<String>,
        description: Option<String>,
        enabled: bool,
        /// Seconds since 1970.
        created_date: Option<i64>,
        /// Seconds since 1970.
        last_updated_date: Option<i64>,
        stage_keys: Vec<String>,
        tags: BTreeMap<String, String>,
    }
}

/// How a model refers to another one of its API.
///
/// Source: Amazon API Gateway, "Data models", "Reference external models".
pub fn model_url(api_id: &str, name: &str) -> String {
    format!("https://apigateway.amazonaws.com/restapis/{api_id}/models/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_speak_the_services_json() {
        let json = serde_json::json!({
            "httpMethod": "GET",
            "authorizationType": "NONE",
            "apiKeyRequired": true,
            "requestParameters": { "method.request.header.x-a": true },
            "methodIntegration": {
                "type": "AWS_PROXY",
                "httpMethod": "POST",
                "uri": "arn:aws:apigateway:local:lambda:path/2015-03-31/functions/f/invocations",
                "timeoutInMillis": 29000,
                "tlsConfig": { "insecureSkipVerification": true }
            }
        });
        let method: Method = serde_json::from_value(json.clone()).unwrap();
        assert!(method.api_key_required);
        assert_eq!(serde_json::to_value(method).unwrap(), json);

        let json = serde_json::json!({"id": "a", "name": "n", "type": "COGNITO_USER_POOLS", "providerARNs": ["arn"]});
        let authorizer: Authorizer = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(authorizer).unwrap(), json);
    }
}
