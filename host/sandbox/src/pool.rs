//! The instances that one worker thread keeps of a binding, and the step calls that go through them.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;
use wasmtime::component::{ComponentNamedList, Lift, Lower};

use crate::binding::Binding;
use crate::circuit::Circuit;
use crate::component::Step;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::instance::{Instance, Stop};
use crate::wit::{Admission, Edit, Outcome, Plan, Validity, Verdict};

/// One thread's instances of a binding.
///
/// A call takes an instance out and puts it back when it answered; a fault, or a caller that went away, drops it. No
/// instance is ever on two threads, so nothing here locks.
pub struct Pool {
    binding: Arc<Binding>,
    idle: RefCell<Vec<Instance>>,
    in_use: Cell<usize>,
    instances_max: usize,
    /// Calls give way: since a synchronous one held the thread too long once, or since a second attempt would do harm.
    slow: Cell<bool>,
    circuit: Circuit,
}

type Given<'a> = &'a [Option<&'a str>];

impl Pool {
    /// An empty pool; the first call makes the first instance.
    pub fn new(binding: Arc<Binding>) -> Self {
        // What it wrote before it was stopped, it would write again.
        let writes = binding.step == Step::LogSink;
        Self {
            instances_max: binding.core.limits.instances_max,
            binding,
            idle: RefCell::default(),
            in_use: Cell::new(0),
            slow: Cell::new(writes),
            circuit: Circuit::default(),
        }
    }

    /// What the instances are of.
    pub fn binding(&self) -> &Arc<Binding> {
        &self.binding
    }

    /// Calls an authorizer.
    pub async fn authorize(&self, exchange: Arc<dyn Exchange>) -> Result<Verdict, Fault> {
        self.call(exchange).await
    }

    /// Calls a throttle.
    pub async fn admit(&self, exchange: Arc<dyn Exchange>) -> Result<Admission, Fault> {
        self.call(exchange).await
    }

    /// Calls a validator.
    pub async fn validate(&self, exchange: Arc<dyn Exchange>) -> Result<Validity, Fault> {
        self.call(exchange).await
    }

    /// Calls a request transform.
    pub async fn transform_request(&self, exchange: Arc<dyn Exchange>) -> Result<Outcome, Fault> {
        self.call(exchange).await
    }

    /// Calls an integration.
    pub async fn integrate(&self, exchange: Arc<dyn Exchange>) -> Result<Plan, Fault> {
        self.call(exchange).await
    }

    /// Calls a response transform.
    pub async fn transform_response(
        &self,
        exchange: Arc<dyn Exchange>,
    ) -> Result<Vec<Edit>, Fault> {
        self.call(exchange).await
    }

    /// Hands records to a log sink, each the values of its `reads`.
    pub async fn write_records(&self, records: &[Vec<Option<String>>]) -> Result<(), Fault> {
        self.timed(None, self.run(None, records)).await
    }

    /// Calls the step of the binding with the values that it asked for. Nothing holds the exchange once this is ready.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the instance that was in use.
    async fn call<R>(&self, exchange: Arc<dyn Exchange>) -> Result<R, Fault>
    where
        R: Lift + Send + Sync + 'static,
        (Result<R, String>,): ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let reads = &self.binding.setup.reads;
        let values: SmallVec<[_; 4]> = reads.iter().map(|reading| reading.of(&*exchange)).collect();
        let given: SmallVec<[Option<&str>; 4]> = values.iter().map(Option::as_deref).collect();
        self.timed(
            Some(&exchange),
            self.run::<Given<'_>, R>(Some(&exchange), &given),
        )
        .await
    }

    /// Makes a call where the circuit lets it through, and keeps account of it.
    async fn timed<R>(
        &self,
        exchange: Option<&Arc<dyn Exchange>>,
        call: impl Future<Output = Result<R, Fault>>,
    ) -> Result<R, Fault> {
        let began = Instant::now();
        let account = &self.binding.account;
        let admitted = self.circuit.admit(began);
        let admitted = admitted.inspect_err(|_| account.call_refused())?;
        let answer = account.of_call(began, call).await;
        admitted.settle(&answer, Instant::now);
        if let Err(fault) = &answer {
            let id = exchange.and_then(|exchange| exchange.context("requestId"));
            let core = &self.binding.core;
            core.services.fault(&core.name, id.as_deref(), fault);
        }
        answer
    }

    async fn run<P, R>(&self, exchange: Option<&Arc<dyn Exchange>>, given: P) -> Result<R, Fault>
    where
        P: Copy,
        (P,): ComponentNamedList + Lower + Send + Sync,
        R: Lift + Send + Sync + 'static,
        (Result<R, String>,): ComponentNamedList + Lift + Send + Sync + 'static,
    {
        if !self.binding.needs.waits && !self.slow.get() {
            let mut lease = self.take().await?;
            match lease.instance().call_now(exchange.cloned(), given) {
                Ok(decision) => {
                    lease.put_back();
                    return Ok(decision);
                }
                Err(Stop::Fault(fault)) => return lease.after(fault),
                // Deciding twice is harmless, holding every other request is not.
                Err(Stop::TooLongAtOnce) => self.slow.set(true),
            }
        }
        // Boxed, as starting is: else their size would be that of every request's future, which is moved into its place.
        Box::pin(self.run_waiting(exchange.cloned(), given)).await
    }

    async fn run_waiting<P, R>(
        &self,
        exchange: Option<Arc<dyn Exchange>>,
        given: P,
    ) -> Result<R, Fault>
    where
        P: Copy,
        (P,): ComponentNamedList + Lower + Send + Sync,
        R: Lift + Send + Sync + 'static,
        (Result<R, String>,): ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let mut lease = self.take().await?;
        match lease.instance().call_waiting(exchange, given).await {
            Ok(decision) => {
                lease.put_back();
                Ok(decision)
            }
            Err(fault) => lease.after(fault),
        }
    }

    async fn take(&self) -> Result<Lease<'_>, Fault> {
        if self.in_use.get() >= self.instances_max {
            return Err(Fault::Busy);
        }
        let mut lease = Lease {
            pool: self,
            instance: None,
        };
        self.in_use.set(self.in_use.get() + 1); // from here on the lease's drop gives it back
        let idle = self.idle.borrow_mut().pop();
        lease.instance = Some(match idle {
            Some(instance) => instance,
            None => Box::pin(self.start()).await?,
        });
        Ok(lease)
    }

    async fn start(&self) -> Result<Instance, Fault> {
        let (instance, _setup) = Instance::start(&self.binding).await?;
        self.binding.account.instance_started();
        Ok(instance)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for _ in self.idle.get_mut().drain(..) {
            self.binding.account.instance_dropped();
        }
    }
}

/// An instance in use. Only [`Lease::put_back`] makes it reusable; any other end drops it.
struct Lease<'a> {
    pool: &'a Pool,
    instance: Option<Instance>,
}

impl Lease<'_> {
    fn instance(&mut self) -> &mut Instance {
        self.instance
            .as_mut()
            .expect("taken only by put_back, which consumes the lease")
    }

    fn put_back(mut self) {
        let keeps = |instance: &Instance| self.pool.binding.reuse && instance.calls() < CALLS_MAX;
        if let Some(instance) = self.instance.take_if(|instance| keeps(instance)) {
            self.pool.idle.borrow_mut().push(instance);
        }
    }

    /// An instance whose step answered with an error is sound; any other fault ends it.
    fn after<R>(self, fault: Fault) -> Result<R, Fault> {
        if matches!(fault, Fault::Answered(_)) {
            self.put_back();
        }
        Err(fault)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.pool.in_use.set(self.pool.in_use.get() - 1);
        if self.instance.take().is_some() {
            self.pool.binding.account.instance_dropped();
        }
    }
}

/// A guest that leaks a little for each call gets a new instance before that matters.
const CALLS_MAX: u32 = 100_000;
