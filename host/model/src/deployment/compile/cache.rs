//! The cache of a route: the node's settings and the integration's, as one.

use std::sync::Arc;

use super::StageContext;
use super::integration::IntegrationSource;
use super::route::RouteSource;
use crate::api::rest::{self, MethodSetting};
use crate::cache::policy::{KeyParameter, Mode, Policy, Stage, Strategy, TTL_DEFAULT};
use crate::config::Cache;

impl RouteSource<'_> {
    /// How the route's responses are cached; the route's own setting counts before the stage's.
    ///
    /// # Errors
    /// Where the integration names a key parameter that there is not.
    pub(super) fn cache(
        &self,
        stage: &StageContext<'_>,
        by_caller: bool,
    ) -> Result<Option<Arc<Policy>>, String> {
        let own = stage
            .settings
            .routes
            .get(&self.key)
            .and_then(|route| route.cache.as_ref());
        let (mode, shares_set_cookie, encrypted) = match own.unwrap_or(&stage.settings.cache) {
            Cache::Off => return Ok(None),
            Cache::Http { set_cookie } => (Mode::Http, *set_cookie, false),
            Cache::Stage(setting) => {
                let integration = match &self.integration {
                    Some(IntegrationSource::Rest(integration)) => Some(*integration),
                    _ => None,
                };
                let mode = Mode::Stage(Stage {
                    any_method: own.is_some(),
                    ..stage_cache(setting, integration)?
                });
                (mode, false, setting.cache_data_encrypted)
            }
        };
        Ok(Some(Arc::new(Policy {
            mode,
            shares_set_cookie,
            encrypted,
            by_caller,
        })))
    }
}

fn stage_cache(
    setting: &MethodSetting,
    integration: Option<&rest::Integration>,
) -> Result<Stage, String> {
    let named = integration.map_or(&[][..], |it| it.cache_key_parameters.as_slice());
    let parameters = named
        .iter()
        .map(|name| key_parameter(name, integration))
        .collect::<Result<_, _>>()?;
    let strategy = setting
        .unauthorized_cache_control_header_strategy
        .as_deref();
    Ok(Stage {
        ttl: setting.cache_ttl_in_seconds.unwrap_or(TTL_DEFAULT).into(),
        namespace: integration.and_then(|it| it.cache_namespace.clone()),
        key_parameters: parameters,
        require_authorization: setting.require_authorization_for_cache_control,
        unauthorized: strategy.and_then(Strategy::parse).unwrap_or(Strategy::Warn),
        any_method: false,
    })
}

/// A parameter of the method, or one of the integration that is mapped from one.
fn key_parameter(
    name: &str,
    integration: Option<&rest::Integration>,
) -> Result<KeyParameter, String> {
    let mapped = integration.and_then(|it| it.request_parameters.get(name));
    KeyParameter::parse(mapped.map_or(name, String::as_str))
        .map_err(|problem| format!("cacheKeyParameters: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_parameters_of_the_integration_are_followed_to_the_methods() {
        let integration = rest::Integration {
            cache_namespace: Some("n".to_owned()),
            cache_key_parameters: vec![
                "method.request.path.id".to_owned(),
                "integration.request.querystring.q".to_owned(),
            ],
            request_parameters: [(
                "integration.request.querystring.q".to_owned(),
                "method.request.querystring.query".to_owned(),
            )]
            .into(),
            ..rest::Integration::default()
        };
        let setting = MethodSetting {
            cache_ttl_in_seconds: Some(60),
            unauthorized_cache_control_header_strategy: Some("FAIL_WITH_403".to_owned()),
            ..MethodSetting::default()
        };
        let expected = Stage {
            ttl: 60,
            namespace: Some("n".to_owned()),
            key_parameters: vec![
                KeyParameter::Path("id".to_owned()),
                KeyParameter::Query("query".to_owned()),
            ],
            require_authorization: false,
            unauthorized: Strategy::Fail,
            any_method: false,
        };
        assert_eq!(stage_cache(&setting, Some(&integration)), Ok(expected));

        let unmapped = rest::Integration {
            cache_key_parameters: vec!["integration.request.querystring.q".to_owned()],
            ..rest::Integration::default()
        };
        let problem = stage_cache(&setting, Some(&unmapped)).unwrap_err();
        assert!(
            problem.contains("integration.request.querystring.q"),
            "{problem}"
        );
    }
}
