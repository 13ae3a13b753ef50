//! `x-tidegate-bindings`, `x-tidegate-middleware` and `x-tidegate-authorizer`.

use serde_json::{Map, Value};

use super::at::At;
use crate::api::{BindingSpec, MiddlewareSpec};
use crate::config::ByteSize;
use crate::deployment::{FaultPolicy, Grants, INSTANCES_MAX, Isolation, Limits, Step};

/// The bindings of the root or of an operation.
pub(super) fn bindings(owner: &At<'_>) -> Vec<BindingSpec> {
    owner
        .items_at("x-tidegate-bindings")
        .iter()
        .filter_map(binding)
        .collect()
}

/// The functions around the integrations of the root or of an operation, the outermost first.
pub(super) fn middleware(owner: &At<'_>) -> Vec<MiddlewareSpec> {
    let written = owner.items_at("x-tidegate-middleware");
    written.iter().filter_map(around).collect()
}

/// A function's name, or a table where there is more to say.
fn around(at: &At<'_>) -> Option<MiddlewareSpec> {
    if !at.value.is_object() {
        return Some(MiddlewareSpec {
            function: at.text()?,
            fault_policy: None,
            place: at.place(),
        });
    }
    at.only(&["function", "fault-policy"]);
    let Some(function) = at.text_at("function") else {
        at.problem("`function` is missing");
        return None;
    };
    Some(MiddlewareSpec {
        function,
        fault_policy: at.get("fault-policy").and_then(|policy| policy.read()),
        place: at.place(),
    })
}

fn binding(at: &At<'_>) -> Option<BindingSpec> {
    at.only(&[
        "step",
        "plugin",
        "configuration",
        "grants",
        "limits",
        "fault-policy",
        "isolation",
    ]);
    let Some(step) = at.get("step") else {
        at.problem("`step` is missing");
        return None;
    };
    plugin(at, step.read()?)
}

/// An authorizer plugin of one's own, in a security scheme.
pub(super) fn authorizer(scheme: &At<'_>) -> Option<BindingSpec> {
    let at = scheme.get("x-tidegate-authorizer")?;
    at.only(&[
        "plugin",
        "configuration",
        "grants",
        "limits",
        "fault-policy",
        "isolation",
    ]);
    plugin(&at, Step::Authorizer)
}

fn plugin(at: &At<'_>, step: Step) -> Option<BindingSpec> {
    let Some(plugin) = at.text_at("plugin") else {
        at.problem("`plugin` is missing");
        return None;
    };
    let configuration = match at.get("configuration") {
        None => Value::Object(Map::new()),
        Some(configuration) => {
            configuration.entries();
            configuration.value.clone()
        }
    };
    Some(BindingSpec {
        step,
        plugin,
        configuration,
        grants: at
            .get("grants")
            .and_then(|grants| grants.read::<Grants>())
            .unwrap_or_default(),
        limits: at
            .get("limits")
            .map(|limits| limits_of(&limits))
            .unwrap_or_default(),
        fault_policy: at
            .get("fault-policy")
            .and_then(|policy| policy.read::<FaultPolicy>()),
        isolation: at
            .get("isolation")
            .and_then(|isolation| isolation.read::<Isolation>())
            .unwrap_or_default(),
        place: at.place(),
    })
}

fn limits_of(at: &At<'_>) -> Limits {
    at.only(&["deadline", "start-deadline", "memory", "instances"]);
    let default = Limits::default();
    let memory = at.get("memory").and_then(|memory| {
        let size = memory.read::<ByteSize>()?;
        let fits = (ByteSize::kib(64)..=ByteSize::mib(4096)).contains(&size);
        if !fits {
            memory.problem("is not between 64KiB and 4GiB");
        }
        fits.then_some(size.0)
    });
    let instances = at.get("instances").and_then(|instances| {
        let number = instances.read::<u16>()?;
        let fits = (1..=INSTANCES_MAX).contains(&number);
        if !fits {
            instances.problem(format!("is not between 1 and {INSTANCES_MAX}"));
        }
        fits.then_some(number)
    });
    Limits {
        deadline: at.duration_at("deadline").unwrap_or(default.deadline),
        start_deadline: at
            .duration_at("start-deadline")
            .unwrap_or(default.start_deadline),
        memory_bytes: memory.unwrap_or(default.memory_bytes),
        instances: instances.unwrap_or(default.instances),
    }
}
