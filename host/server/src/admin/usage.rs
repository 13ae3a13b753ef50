//! `GET /tidegate/v1/usage`: what each binding and function did and costs, for `tidegate top`.

use serde_json::{Map, Value, json};
use tidegate_sandbox::limits::instances_live;
use tidegate_sandbox::{Account, Capability};

use super::Admin;
use crate::telemetry::metrics::Bound;

impl Admin {
    /// Counters since each binding is there, and when that was looked at.
    pub(super) fn usage(&self) -> Value {
        let mut bindings = Vec::new();
        self.metrics
            .each_account(|bound, account| bindings.push(entry(bound, account)));
        json!({
            "uptime_ms": u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "node": {
                "name": self.name,
                "revision": self.serving.load().stable.revision,
                "instances": instances_live(),
                "resident_bytes": resident_bytes(),
            },
            "bindings": bindings,
        })
    }
}

fn entry(bound: &Bound<'_>, account: &Account) -> Value {
    let capabilities: Map<String, Value> = Capability::ALL
        .into_iter()
        .map(|capability| (capability, account.host_calls(capability)))
        .filter(|(_, count)| *count > 0)
        .map(|(capability, count)| (capability.name().to_owned(), count.into()))
        .collect();
    let host_calls: u64 = capabilities.values().filter_map(Value::as_u64).sum();
    json!({
        "binding": bound.binding,
        "step": bound.step,
        "plugin": bound.plugin,
        "version": bound.version,
        "calls": account.calls(),
        "faults": account.faults(),
        "refused": account.refused(),
        "seconds": account.time().as_secs_f64(),
        "busy_seconds": account.busy().as_secs_f64(),
        "instances": account.instances(),
        "instances_started": account.instances_started(),
        "memory_bytes": account.memory_bytes(),
        "host_calls": host_calls,
        "capabilities": capabilities,
    })
}

/// Of this process; absent where the system has no such file. Source: proc_pid_status(5), `VmRSS`.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
