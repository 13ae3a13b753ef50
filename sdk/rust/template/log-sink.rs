//! Writes down the requests that failed.

use tidegate_plugin::{
    Configuration, ConfigurationError, Given, LogSink, Plugin, Reading, Setup, log_output,
};

struct Failures {
    least: u32,
}

impl Plugin for Failures {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let least = match fields.optional("least") {
            Some(least) => least.integer(100, 599)?,
            None => 400,
        };
        fields.finish()?;
        let reads = ["status", "routeKey"].map(|name| Reading::Context(name.into()));
        Ok(Setup::new(Self { least }).reads(reads))
    }
}

impl LogSink for Failures {
    fn write(&self, records: Vec<Given>) -> Result<(), String> {
        let lines: Vec<String> = records.iter().filter_map(|record| self.line(record)).collect();
        log_output::write(&lines);
        Ok(())
    }
}

impl Failures {
    fn line(&self, record: &Given) -> Option<String> {
        let status: u32 = record.get(0)?.parse().ok()?;
        let route = record.get(1).unwrap_or("-");
        (status >= self.least).then(|| format!("{status} {route}"))
    }
}

tidegate_plugin::export!(Failures: log_sink);
