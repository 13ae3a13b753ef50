//! Whether a request may proceed: the resource policy, authorizers, throttles, validators, in the order of the route.

use std::sync::Arc;
use std::time::Duration;

use http_body::Body as _;
use tidegate_model::deployment::{BindingId, FaultPolicy, Route};
use tidegate_sandbox::Fault;
use tidegate_sandbox::wit::{Admission, Principal, Validity, Verdict};

use super::{Exchange, GatewayError, own, policy, usable};
use crate::body::Body;
use crate::cases::answers;
use crate::telemetry::entry;
use crate::worker::Local;

/// Lets the request through, or says why not.
pub async fn admit(
    local: &Local,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: &mut Body,
) -> Result<(), GatewayError> {
    policy::admit(route, exchange, true)?;
    for &id in &route.pipeline.authorizers {
        authorize(local, id, route, exchange, body).await?;
    }
    policy::admit(route, exchange, false)?;
    for &id in &route.pipeline.throttles {
        throttle(local, id, route, exchange, body).await?;
    }
    for &id in &route.pipeline.validators {
        validate(local, id, route, exchange, body).await?;
    }
    Ok(())
}

async fn authorize(
    local: &Local,
    id: BindingId,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: &mut Body,
) -> Result<(), GatewayError> {
    collect_for(local, id, route, exchange, body).await?;
    let verdict = local.pool(id).authorize(shared(exchange)).await;
    local.record(id, exchange, &verdict, answers::verdict_value);
    match verdict.and_then(usable::verdict) {
        Ok(Verdict::Allow(principal)) => {
            identify(&mut own(exchange).account.principal, principal);
            Ok(())
        }
        Ok(Verdict::Unauthorized(challenge)) => Err(GatewayError::Unauthorized { challenge }),
        Ok(Verdict::Forbidden(reason)) => Err(GatewayError::Forbidden { reason }),
        Err(fault) => after_fault(local, id, fault, |binding, fault| {
            GatewayError::AuthorizerFault { binding, fault }
        }),
    }
}

async fn throttle(
    local: &Local,
    id: BindingId,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: &mut Body,
) -> Result<(), GatewayError> {
    collect_for(local, id, route, exchange, body).await?;
    let admission = local.pool(id).admit(shared(exchange)).await;
    local.record(id, exchange, &admission, answers::admission_value);
    match admission {
        Ok(Admission::Admit) => Ok(()),
        Ok(Admission::Reject(milliseconds)) => Err(GatewayError::Throttled {
            retry_after: Duration::from_millis(milliseconds.into()),
        }),
        Ok(Admission::Exceeded(milliseconds)) => Err(GatewayError::QuotaExceeded {
            renews_in: Duration::from_millis(milliseconds.into()),
        }),
        Err(fault) => after_fault(local, id, fault, |binding, fault| {
            GatewayError::PluginFault { binding, fault }
        }),
    }
}

async fn validate(
    local: &Local,
    id: BindingId,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: &mut Body,
) -> Result<(), GatewayError> {
    collect_for(local, id, route, exchange, body).await?;
    let validity = local.pool(id).validate(shared(exchange)).await;
    local.record(id, exchange, &validity, answers::validity_value);
    match validity {
        Ok(Validity::Valid) => Ok(()),
        Ok(Validity::InvalidParameters(message)) => Err(GatewayError::InvalidParameters(message)),
        Ok(Validity::InvalidBody(message)) => Err(GatewayError::InvalidBody(message)),
        Ok(Validity::UnsupportedMediaType) => Err(GatewayError::UnsupportedMediaType),
        Err(fault) => after_fault(local, id, fault, |binding, fault| {
            GatewayError::PluginFault { binding, fault }
        }),
    }
}

/// Collects the request's body, where the binding's plugin reads it and none before has.
pub(super) async fn collect_for(
    local: &Local,
    id: BindingId,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: &mut Body,
) -> Result<(), GatewayError> {
    if !local.pool(id).binding().needs.request_body || exchange.body.is_some() {
        return Ok(());
    }
    let bytes_max = route.payload_bytes_max;
    if body.size_hint().lower() > bytes_max {
        return Err(GatewayError::RequestTooLarge { bytes_max });
    }
    let collected = std::mem::take(body)
        .collect(bytes_max)
        .await
        .map_err(GatewayError::RequestBody)?;
    own(exchange).body = Some(collected);
    Ok(())
}

/// What a fault means for the request, by the binding's policy.
pub(super) fn after_fault(
    local: &Local,
    id: BindingId,
    fault: Fault,
    refuse: impl FnOnce(String, Fault) -> GatewayError,
) -> Result<(), GatewayError> {
    let binding = local.deployed.snapshot.binding(id);
    match binding.fault_policy {
        FaultPolicy::Deny => Err(refuse(binding.name.clone(), fault)),
        FaultPolicy::Fail => Err(GatewayError::PluginFault {
            binding: binding.name.clone(),
            fault,
        }),
        FaultPolicy::Bypass => {
            local.tell_failure(|left_out| {
                let (binding, kind, text) = (&binding.name, fault.kind(), fault.to_string());
                let fault = entry::in_one(&text);
                tracing::warn!(binding, kind, %fault, left_out, "plugin fault, bypassed");
            });
            Ok(())
        }
    }
}

/// The exchange, as a step call holds it.
pub(super) fn shared(exchange: &Arc<Exchange>) -> Arc<dyn tidegate_sandbox::Exchange> {
    exchange.clone()
}

/// The first authorizer says who it is; later ones add what they know.
fn identify(known: &mut Option<Principal>, found: Principal) {
    match known {
        None => *known = Some(found),
        Some(known) => {
            known.context.extend(found.context);
            known.usage_identifier_key = known
                .usage_identifier_key
                .take()
                .or(found.usage_identifier_key);
        }
    }
}
