//! One instantiation of a binding's plugin, and how it is called and interrupted.

use std::sync::Arc;

use wasmtime::component::{ComponentNamedList, Func, Lift, Lower, ResourceTable, TypedFunc};
use wasmtime::{Store, StoreContextMut, Trap, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::account::Capability;
use crate::binding::{Binding, Core};
use crate::bindings::gateway::exports::tidegate::gateway::plugin;
use crate::engine::TICK;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::limits::{Alive, Meter};
use crate::printable::printable;
use crate::recent::Recent;
use crate::wasi;

/// What the host functions of a step's instance work on.
pub struct StepState {
    pub(crate) binding: Arc<Core>,
    /// The request in hand, for the time of one call.
    pub(crate) exchange: Option<Arc<dyn Exchange>>,
    /// Lines logged in this call.
    pub(crate) log_lines: u32,
    /// The last of them, and of what was printed.
    pub(crate) recent: Recent,
    meter: Meter,
    table: ResourceTable,
    _alive: Alive,
    /// Made at the first use: most plugins never print, and making it costs more than a call.
    wasi: Option<WasiCtx>,
    /// Whether the running call gives way at each tick, or holds the thread until its ticks are over.
    yields: bool,
    interrupted: bool,
}

impl WasiView for StepState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| {
            wasi::context(&self.binding.services, &self.binding.name, &self.recent)
        });
        WasiCtxView {
            ctx,
            table: &mut self.table,
        }
    }
}

/// An instance, ready for step calls. Whoever calls owns it: a trap or a dropped future drops it.
pub(crate) struct Instance {
    store: Store<StepState>,
    step: Func,
    /// Calls so far.
    calls: u32,
}

/// How a call came to no answer.
pub(crate) enum Stop {
    /// A synchronous call held the thread for [`HOLD`]; nothing is known against the plugin yet.
    TooLongAtOnce,
    /// A fault.
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Instance {
    /// Makes an instance and configures it, giving way to other tasks while it computes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the instance.
    pub(crate) async fn start(binding: &Binding) -> Result<(Self, plugin::Setup), Fault> {
        let deadline = binding.core.limits.start_deadline;
        match tokio::time::timeout(deadline, Self::start_unbounded(binding)).await {
            Ok(started) => started,
            Err(_) => Err(Fault::Start(format!(
                "configure took longer than {deadline:?}"
            ))),
        }
    }

    async fn start_unbounded(binding: &Binding) -> Result<(Self, plugin::Setup), Fault> {
        let mut store = Store::new(
            binding.plugin.pre.engine(),
            StepState::new(binding.core.clone()),
        );
        store.limiter(|state| &mut state.meter);
        store.epoch_deadline_callback(StepState::on_tick);
        store.data_mut().yields = true;
        store.set_epoch_deadline(1);

        let instance = match binding.plugin.pre.instantiate_async(&mut store).await {
            Ok(instance) => instance,
            Err(error) if error.is::<wasmtime::PoolConcurrencyLimitError>() => {
                return Err(Fault::Busy);
            }
            Err(error) => return Err(start_fault(&store, &error)),
        };
        let missing = || Fault::Start("an export is missing".to_owned());
        let configure = instance
            .get_func(&mut store, binding.exports.configure)
            .ok_or_else(missing)?;
        let step = instance
            .get_func(&mut store, binding.exports.step)
            .ok_or_else(missing)?;
        let configure = configure
            .typed::<(&str,), (Result<plugin::Setup, String>,)>(&store)
            .map_err(|error| Fault::Start(format!("{error:#}")))?;
        let setup = match configure
            .call_async(&mut store, (&binding.core.configuration,))
            .await
        {
            Ok((Ok(setup),)) => setup,
            Ok((Err(refusal),)) => return Err(Fault::Start(refusal)),
            Err(error) => return Err(start_fault(&store, &error)),
        };
        Ok((
            Self {
                store,
                step,
                calls: 0,
            },
            setup,
        ))
    }

    /// Calls the step and holds the thread until it answers, at most [`HOLD`].
    pub(crate) fn call_now<P, R>(
        &mut self,
        exchange: Option<Arc<dyn Exchange>>,
        given: P,
    ) -> Result<R, Stop>
    where
        (P,): ComponentNamedList + Lower,
        R: Lift + 'static,
        (Result<R, String>,): ComponentNamedList + Lift,
    {
        self.begin(exchange, false);
        let answer = self.typed().call(&mut self.store, (given,));
        let state = self.store.data_mut();
        state.exchange = None;
        if state.interrupted {
            return Err(Stop::TooLongAtOnce);
        }
        self.conclude(answer).map_err(Stop::Fault)
    }

    /// Calls the step, giving way to other tasks at every tick and while it waits.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the instance unusable: drop it too.
    pub(crate) async fn call_waiting<P, R>(
        &mut self,
        exchange: Option<Arc<dyn Exchange>>,
        given: P,
    ) -> Result<R, Fault>
    where
        (P,): ComponentNamedList + Lower + Send + Sync,
        R: Lift + Send + Sync + 'static,
        (Result<R, String>,): ComponentNamedList + Lift + Send + Sync + 'static,
    {
        self.begin(exchange, true);
        let deadline = self.store.data().binding.limits.deadline;
        let call = self.typed();
        let answer =
            tokio::time::timeout(deadline, call.call_async(&mut self.store, (given,))).await;
        self.store.data_mut().exchange = None;
        match answer {
            Ok(answer) => self.conclude(answer),
            Err(_) => Err(Fault::Deadline(deadline)),
        }
    }

    /// Calls so far, for recycling.
    pub(crate) fn calls(&self) -> u32 {
        self.calls
    }

    fn begin(&mut self, exchange: Option<Arc<dyn Exchange>>, yields: bool) {
        self.calls = self.calls.saturating_add(1);
        let state = self.store.data_mut();
        state.exchange = exchange;
        state.log_lines = 0;
        state.recent.forget();
        state.yields = yields;
        state.interrupted = false;
        self.store
            .set_epoch_deadline(if yields { 1 } else { HOLD_TICKS });
    }

    fn typed<P, R>(&self) -> TypedFunc<(P,), (Result<R, String>,)>
    where
        (P,): ComponentNamedList + Lower,
        (Result<R, String>,): ComponentNamedList + Lift,
    {
        // SAFETY: `Binding::new` has checked that this export of this component has the parameters and results of its
        // step, and each step is called with those types only (`Pool`). Checking again for each call costs a tenth of it.
        unsafe { TypedFunc::new_unchecked(self.step) }
    }

    fn conclude<R>(&self, answer: wasmtime::Result<(Result<R, String>,)>) -> Result<R, Fault> {
        match answer {
            Ok((Ok(decision),)) => Ok(decision),
            Ok((Err(message),)) => Err(Fault::Answered(printable(&message).into_owned())),
            Err(error) => Err(self.store.data().fault(&error)),
        }
    }
}

impl StepState {
    fn new(binding: Arc<Core>) -> Self {
        Self {
            meter: Meter::new(binding.limits.memory_bytes, binding.account.clone()),
            binding,
            exchange: None,
            log_lines: 0,
            recent: Recent::default(),
            table: ResourceTable::new(),
            _alive: Alive::new(),
            wasi: None,
            yields: true,
            interrupted: false,
        }
    }

    /// The plugin calls a capability.
    pub(crate) fn calls(&self, capability: Capability) {
        self.binding.account.host_called(capability);
    }

    fn on_tick(mut store: StoreContextMut<'_, Self>) -> wasmtime::Result<UpdateDeadline> {
        let state = store.data_mut();
        if state.yields {
            return Ok(UpdateDeadline::YieldCustom(
                1,
                Box::pin(tokio::task::yield_now()),
            ));
        }
        state.interrupted = true;
        Ok(UpdateDeadline::Interrupt)
    }

    fn fault(&self, error: &wasmtime::Error) -> Fault {
        if self.meter.refused {
            return Fault::Memory(self.binding.limits.memory_bytes);
        }
        Fault::Trap(self.recent.below(describe(error)))
    }
}

/// A trap with the guest's stack, as one text.
pub(crate) fn describe(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(trap) => format!("{trap}; {error:#}"),
        None => format!("{error:#}"),
    }
}

fn start_fault(store: &Store<StepState>, error: &wasmtime::Error) -> Fault {
    match store.data().fault(error) {
        Fault::Trap(message) => Fault::Start(format!("trapped: {message}")),
        fault => Fault::Start(fault.to_string()),
    }
}

/// How long a synchronous call may hold its thread: long for a decision (3–30 µs), short for the requests behind it. A
/// call that needs longer is made again in the waiting form, and the binding stays with that form.
const HOLD_TICKS: u64 = 12;
#[expect(dead_code, reason = "what HOLD_TICKS means, for the documentation")]
pub(crate) const HOLD: std::time::Duration = TICK.saturating_mul(HOLD_TICKS as u32);
