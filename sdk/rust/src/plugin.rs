use crate::bindings::plugin::exports::tidegate::gateway::plugin::{Setup as SetupRecord, Standing};
use crate::types::{Edit, Plan, Reading, Rule, StandingPlan};
use crate::{Admission, Configuration, ConfigurationError, Given, Outcome, Principal};
use crate::{Validity, Verdict};

/// What every plugin does beside its steps: it takes its configuration.
pub trait Plugin: Sized + 'static {
    /// Takes the binding's configuration, once for each instance and before any step call.
    ///
    /// The functions of [`request`](crate::request) trap here: there is none yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration, for the operator: the deployment is refused with it.
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError>;
}

/// A configured plugin, and what it asks of the host.
#[derive(Debug)]
pub struct Setup<P> {
    pub(crate) plugin: P,
    pub(crate) record: SetupRecord,
}

impl<P> Setup<P> {
    /// A plugin that is called at each of its steps, and is given nothing.
    pub fn new(plugin: P) -> Self {
        let standing = Standing {
            request_rules: None,
            response_rules: None,
            plan: None,
        };
        Self {
            plugin,
            record: SetupRecord {
                reads: Vec::new(),
                standing,
            },
        }
    }

    /// The values to hand over with each call; at most 64.
    pub fn reads(mut self, readings: impl IntoIterator<Item = Reading>) -> Self {
        self.record.reads = readings.into_iter().collect();
        self
    }

    /// Applies these rules to every request, without calling [`RequestTransform`].
    pub fn request_rules(mut self, rules: Vec<Rule>) -> Self {
        self.record.standing.request_rules = Some(rules);
        self
    }

    /// Applies these rules to every response, without calling [`ResponseTransform`].
    pub fn response_rules(mut self, rules: Vec<Rule>) -> Self {
        self.record.standing.response_rules = Some(rules);
        self
    }

    /// Answers every request by this plan, without calling [`Integration`].
    pub fn plan(mut self, plan: StandingPlan) -> Self {
        self.record.standing.plan = Some(plan);
        self
    }

    /// The plugin, for its tests.
    pub fn plugin(&self) -> &P {
        &self.plugin
    }

    /// The readings that it asks for, for its tests.
    pub fn readings(&self) -> &[Reading] {
        &self.record.reads
    }

    /// The decisions that need no call, for its tests.
    pub fn standing(&self) -> &Standing {
        &self.record.standing
    }
}

/// Decides whether a request may proceed, and who sends it.
pub trait Authorizer: Plugin {
    /// Decides on the request in hand.
    ///
    /// # Errors
    ///
    /// No decision could be made; the binding's fault policy applies.
    fn authorize(&self, given: Given) -> Result<Verdict, String>;
}

/// Decides whether there is capacity for a request.
pub trait Throttle: Plugin {
    /// Decides on the request in hand.
    ///
    /// # Errors
    ///
    /// No decision could be made; the binding's fault policy applies.
    fn admit(&self, given: Given) -> Result<Admission, String>;
}

/// Decides whether a request is what the API's definition says.
pub trait Validator: Plugin {
    /// Decides on the request in hand.
    ///
    /// # Errors
    ///
    /// No decision could be made; the binding's fault policy applies.
    fn validate(&self, given: Given) -> Result<Validity, String>;
}

/// Changes a request before the integration.
pub trait RequestTransform: Plugin {
    /// Decides on the request in hand.
    ///
    /// # Errors
    ///
    /// No decision could be made; the binding's fault policy applies.
    fn transform_request(&self, given: Given) -> Result<Outcome, String>;
}

/// Decides what answers a request.
pub trait Integration: Plugin {
    /// Decides on the request in hand.
    ///
    /// # Errors
    ///
    /// No decision could be made: the request is answered with 500.
    fn integrate(&self, given: Given) -> Result<Plan, String>;
}

/// Changes a response before it goes to the caller.
pub trait ResponseTransform: Plugin {
    /// Decides on the response in hand.
    ///
    /// # Errors
    ///
    /// No decision could be made; the binding's fault policy applies.
    fn transform_response(&self, given: Given) -> Result<Vec<Edit>, String>;
}

/// Writes down what happened.
pub trait LogSink: Plugin {
    /// Takes 1 to 256 served requests, the oldest first.
    ///
    /// # Errors
    ///
    /// The records are counted as lost; the sink is called again with the next.
    fn write(&self, records: Vec<Given>) -> Result<(), String>;
}

impl Principal {
    /// A principal of which nothing but its name is known.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            context: Vec::new(),
            usage_identifier_key: None,
        }
    }
}
