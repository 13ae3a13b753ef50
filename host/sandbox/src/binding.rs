//! A plugin at one place of a pipeline.

use std::sync::Arc;

use wasmtime::component::ComponentExportIndex;

use crate::account::Account;
use crate::bindings::gateway::exports::tidegate::gateway as exports;
use crate::capabilities::Services;
use crate::capabilities::shared_cache::SharedCache;
use crate::component::{Needs, PACKAGE, Plugin, Step, VERSION};
use crate::exchange::Reading;
use crate::fault::Fault;
use crate::grants::Grants;
use crate::instance::Instance;
use crate::limits::Limits;
use crate::standing::{Rule, StandingPlan};
use crate::wit;

/// What is chosen about one binding.
#[derive(Debug, Clone)]
pub struct BindingOptions {
    /// Where it was written, for people.
    pub name: String,
    /// The step that is called.
    pub step: Step,
    /// One JSON document.
    pub configuration: String,
    /// What it may ask for.
    pub grants: Grants,
    /// Its bounds.
    pub limits: Limits,
    /// Whether an instance serves many requests, or one.
    pub reuse: bool,
    /// What the one in whose place it comes has kept.
    pub kept: Kept,
}

/// What a binding keeps in the host: its shared cache.
#[derive(Debug, Clone, Default)]
pub struct Kept(pub(crate) Arc<SharedCache>);

/// A plugin with its configuration, grants and limits, checked and ready. Shared by all threads; each keeps its own
/// [`crate::Pool`] of instances.
pub struct Binding {
    pub(crate) core: Arc<Core>,
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) exports: Exports,
    pub(crate) reuse: bool,
    /// The step that is called.
    pub step: Step,
    /// The plugin's, beside what else a call reads.
    pub needs: Needs,
    /// What its instances asked for when they were configured.
    pub setup: Setup,
    /// What it has done so far.
    pub account: Arc<Account>,
}

/// What the host functions need of a binding.
pub(crate) struct Core {
    pub(crate) name: Arc<str>,
    pub(crate) configuration: String,
    pub(crate) grants: Grants,
    pub(crate) limits: Limits,
    pub(crate) services: Arc<dyn Services>,
    pub(crate) kept: Kept,
    pub(crate) account: Arc<Account>,
}

pub(crate) struct Exports {
    pub(crate) configure: ComponentExportIndex,
    pub(crate) step: ComponentExportIndex,
}

/// What a configured plugin asks of the host.
#[derive(Debug, Default)]
pub struct Setup {
    /// The values that are handed over with each call.
    pub reads: Vec<Reading>,
    /// What it has decided for all requests.
    pub decision: Decision,
}

/// Whether a step is called for each request, or has decided once for all.
#[derive(Debug, Default)]
pub enum Decision {
    /// It is called.
    #[default]
    Call,
    /// A transform whose changes stand.
    Rules(Vec<Rule>),
    /// An integration whose plan stands.
    Plan(StandingPlan),
}

/// Why a plugin cannot be used at a place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BindError {
    /// It does not implement the step.
    #[error("the plugin implements {implemented}, not {step}")]
    NotThatStep {
        /// What it was bound to.
        step: Step,
        /// What it implements.
        implemented: String,
    },
    /// It imports a capability that was not granted.
    #[error(
        "the plugin imports {0}, which this binding was not granted: add it under `grants`, or use another plugin"
    )]
    NotGranted(String),
    /// The step has another shape than the contract says.
    #[error("the plugin's export has another type than {PACKAGE}@{VERSION} says: {0}")]
    Shape(String),
    /// It refused its configuration, or failed while it took it.
    #[error("{0}")]
    Configure(Fault),
    /// What it asked for when it was configured breaks the contract.
    #[error("the plugin's setup cannot be used: {0}")]
    Setup(String),
}

impl Binding {
    /// Checks the plugin against the place, and configures a first instance to see that it can be.
    ///
    /// # Errors
    ///
    /// What an operator has to mend, by name.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn new(
        plugin: Arc<Plugin>,
        options: BindingOptions,
        services: Arc<dyn Services>,
    ) -> Result<Arc<Self>, BindError> {
        let BindingOptions {
            name,
            step,
            configuration,
            grants,
            limits,
            reuse,
            kept,
        } = options;
        if !plugin.implements(step) {
            let implemented = plugin
                .steps()
                .map(Step::name)
                .collect::<Vec<_>>()
                .join(", ");
            return Err(BindError::NotThatStep { step, implemented });
        }
        if let Some(import) = grants.missing(plugin.imports()) {
            let capability = import.split('@').next().unwrap_or(import).to_owned();
            return Err(BindError::NotGranted(capability));
        }
        let exports = Exports::of(&plugin, step)?;
        let core = Arc::new(Core {
            name: name.into(),
            configuration,
            grants,
            limits,
            services,
            kept,
            account: Arc::default(),
        });
        let mut binding = Self {
            account: core.account.clone(),
            core,
            needs: plugin.needs,
            plugin,
            exports,
            reuse,
            step,
            setup: Setup::default(),
        };
        let (_first, setup) = Instance::start(&binding)
            .await
            .map_err(|fault| match fault {
                Fault::Start(reason) => BindError::Configure(Fault::Start(reason)),
                fault => BindError::Configure(fault),
            })?;
        binding.setup = Setup::parse(step, setup).map_err(BindError::Setup)?;
        Ok(Arc::new(binding))
    }

    /// Where it was written.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// The plugin.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// What it keeps in the host, for the one that comes in its place.
    pub fn kept(&self) -> Kept {
        self.core.kept.clone()
    }
}

impl Exports {
    fn of(plugin: &Plugin, step: Step) -> Result<Self, BindError> {
        let (interface, function) = step.export();
        let exports = Self {
            configure: index(plugin, "plugin", "configure")?,
            step: index(plugin, interface, function)?,
        };
        check_types(plugin, &exports, step)
            .map_err(|error| BindError::Shape(format!("{error:#}")))?;
        Ok(exports)
    }
}

fn index(
    plugin: &Plugin,
    interface: &str,
    function: &str,
) -> Result<ComponentExportIndex, BindError> {
    let component = plugin.pre.component();
    let name = format!("{PACKAGE}/{interface}@{VERSION}");
    component
        .get_export_index(None, &name)
        .and_then(|instance| component.get_export_index(Some(&instance), function))
        .ok_or_else(|| BindError::Shape(format!("there is no function {name}#{function}")))
}

/// Sees that the exports have the contract's types, so that calls need not look again.
fn check_types(plugin: &Plugin, exports: &Exports, step: Step) -> wasmtime::Result<()> {
    use wasmtime::component::types::ComponentItem;
    type Given = Vec<Option<String>>;
    let component = plugin.pre.component();
    let instance_type = plugin.pre.instance_type();
    let function = |index: &ComponentExportIndex| match component
        .get_export(None, index)
        .map(|(item, _)| item)
    {
        Some(ComponentItem::ComponentFunc(function)) => Ok(function),
        _ => Err(wasmtime::format_err!("the export is no function")),
    };
    function(&exports.configure)?
        .typecheck::<(String,), (Result<exports::plugin::Setup, String>,)>(&instance_type)?;
    let step_function = function(&exports.step)?;
    match step {
        Step::Authorizer => {
            step_function.typecheck::<(Given,), (Result<wit::Verdict, String>,)>(&instance_type)
        }
        Step::Throttle => {
            step_function.typecheck::<(Given,), (Result<wit::Admission, String>,)>(&instance_type)
        }
        Step::Validator => {
            step_function.typecheck::<(Given,), (Result<wit::Validity, String>,)>(&instance_type)
        }
        Step::RequestTransform => {
            step_function.typecheck::<(Given,), (Result<wit::Outcome, String>,)>(&instance_type)
        }
        Step::Integration => {
            step_function.typecheck::<(Given,), (Result<wit::Plan, String>,)>(&instance_type)
        }
        Step::ResponseTransform => {
            step_function.typecheck::<(Given,), (Result<Vec<wit::Edit>, String>,)>(&instance_type)
        }
        Step::LogSink => {
            step_function.typecheck::<(Vec<Given>,), (Result<(), String>,)>(&instance_type)
        }
    }
}

impl Setup {
    fn parse(step: Step, setup: exports::plugin::Setup) -> Result<Self, String> {
        if setup.reads.len() > READS_MAX {
            return Err(format!(
                "it reads {} values; {READS_MAX} is the most",
                setup.reads.len()
            ));
        }
        let reads = setup
            .reads
            .into_iter()
            .map(Reading::parse)
            .collect::<Result<Vec<_>, _>>()?;
        let exports::plugin::Standing {
            request_rules,
            response_rules,
            plan,
        } = setup.standing;
        let rules = |rules: Option<Vec<_>>| match rules {
            Some(rules) => Rule::parse_all(rules).map(Decision::Rules),
            None => Ok(Decision::Call),
        };
        let decision = match step {
            Step::RequestTransform => rules(request_rules)?,
            Step::ResponseTransform => rules(response_rules)?,
            Step::Integration => match plan {
                Some(plan) => Decision::Plan(StandingPlan::parse(plan)?),
                None => Decision::Call,
            },
            _ => Decision::Call,
        };
        Ok(Self { reads, decision })
    }
}

const READS_MAX: usize = 64;
