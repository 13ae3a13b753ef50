//! Records on their way to the log sinks of a stage.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_sandbox::{Binding, Pool};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::request::exchange::Exchange;

/// The log sinks of a stage.
#[derive(Default)]
pub struct Sinks(pub(super) Vec<Sink>);

/// Takes records for one sink.
pub struct Sink {
    binding: Arc<Binding>,
    records: mpsc::Sender<LogRecord>,
    lost: Arc<AtomicU64>,
}

/// The values that a sink's plugin reads, in its order.
type LogRecord = Vec<Option<String>>;

impl Sinks {
    /// Whether nobody wants records.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Hands a record to each sink. One that does not keep up loses it, and the loss is counted.
    pub fn write(&self, exchange: &Exchange) {
        for sink in &self.0 {
            let reads = &sink.binding.setup.reads;
            let values = reads
                .iter()
                .map(|reading| reading.of(exchange).map(Into::into));
            if sink.records.try_send(values.collect()).is_err() {
                sink.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The tasks of one worker that call its sinks, off the request's way.
pub struct SinkTasks {
    closing: watch::Sender<bool>,
    tasks: RefCell<JoinSet<()>>,
}

impl Default for SinkTasks {
    fn default() -> Self {
        Self {
            closing: watch::channel(false).0,
            tasks: RefCell::default(),
        }
    }
}

impl SinkTasks {
    /// Starts the task that hands records to a sink, in batches. It ends when nobody can send it any, or the worker ends.
    pub fn start(&self, pool: Rc<Pool>, lost: Arc<AtomicU64>) -> Sink {
        let (records, queue) = mpsc::channel(RECORDS_MAX);
        let sink = Sink {
            binding: pool.binding().clone(),
            records,
            lost: lost.clone(),
        };
        let mut tasks = self.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {} // those of snapshots that are gone
        tasks.spawn_local(run(pool, queue, self.closing.subscribe(), lost));
        sink
    }

    /// Writes what waits, for a moment at the most. Records that come later are lost.
    pub async fn finish(&self) {
        self.closing.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        if tokio::time::timeout(FINISH_MAX, tasks.join_all())
            .await
            .is_err()
        {
            tracing::warn!("log sinks did not finish in time: records are lost");
        }
    }
}

async fn run(
    pool: Rc<Pool>,
    mut queue: mpsc::Receiver<LogRecord>,
    mut closing: watch::Receiver<bool>,
    lost: Arc<AtomicU64>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let open = !queue.is_closed();
        let count = tokio::select! {
            biased;
            // Cancel safe: nothing is taken from the queue before it is ready.
            count = queue.recv_many(&mut batch, BATCH) => count,
            _ = closing.wait_for(|closing| *closing), if open => {
                queue.close(); // what is in it is still received
                continue;
            }
        };
        if count == 0 {
            return;
        }
        if let Err(fault) = pool.write_records(&batch).await {
            lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
            tracing::warn!(binding = pool.binding().name(), kind = fault.kind(), %fault, "log records lost");
        }
        batch.clear();
    }
}

/// Records that wait for a sink; beyond, they are lost.
const RECORDS_MAX: usize = 16_384;
/// Records of one call; the contract's bound.
const BATCH: usize = 256;
/// Past the drain, people wait for the process to end.
const FINISH_MAX: Duration = Duration::from_secs(2);
