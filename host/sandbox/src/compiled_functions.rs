//! Functions that were compiled, so that the next version of a plugin need not compile again what did not change.
//!
//! A version in JavaScript or Python has other data than the one before, and the interpreter's code once more; one in a compiled
//! language has most of its functions, and its standard library, in common with it. What is found here is what the compiler made of
//! the same function in the same process: nothing is here of what was loaded as an artifact. It is kept in memory, within a bound:
//! what was not asked for longest goes first.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use wasmtime::CacheStore;

/// The functions, by what the compiler hashes of each.
pub(crate) struct CompiledFunctions(Cache<Arc<[u8]>, Arc<[u8]>>);

impl CompiledFunctions {
    /// Keeps at most `bytes_max`.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let weigh = |key: &Arc<[u8]>, function: &Arc<[u8]>| {
            u32::try_from(key.len() + function.len() + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder()
            .max_capacity(bytes_max)
            .weigher(weigh)
            .eviction_policy(EvictionPolicy::lru());
        Self(cache.build())
    }
}

impl fmt::Debug for CompiledFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} compiled functions", self.0.entry_count())
    }
}

impl CacheStore for CompiledFunctions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let function = self.0.get(key)?;
        Some(Cow::Owned(function.to_vec()))
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.0.insert(key.into(), value.into());
        true
    }
}

/// About what the cache itself needs for one.
const ENTRY_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Settings, TickingEngine};
    use crate::shared_code::component;

    /// An engine as a runtime has it, with a pool as small as can be.
    fn engine(concurrency: bool, functions: &Arc<CompiledFunctions>) -> TickingEngine {
        let settings = Settings {
            instances_max: 1,
            ..Settings::default()
        };
        TickingEngine::new(&settings, concurrency, functions.clone()).expect("an engine")
    }

    #[test]
    fn what_two_components_have_in_common_is_compiled_once() {
        let functions = Arc::new(CompiledFunctions::new(1 << 20));
        let engine = engine(false, &functions);
        let compiled = |result, custom| {
            component(&engine.engine, result, custom);
            functions.0.run_pending_tasks();
            functions.0.entry_count()
        };
        let first = compiled(7, 1);
        assert!(first > 0);
        assert_eq!(compiled(7, 2), first);
        assert!(compiled(8, 2) > first);
    }

    #[test]
    fn engines_that_share_functions_compile_what_each_would_alone() {
        let shared = Arc::new(CompiledFunctions::new(1 << 20));
        for concurrency in [false, true] {
            let code = |functions: &Arc<CompiledFunctions>| {
                let engine = engine(concurrency, functions);
                let component = component(&engine.engine, 7, 1);
                component.serialize().expect("machine code")
            };
            let alone = code(&Arc::new(CompiledFunctions::new(0)));
            assert!(code(&shared) == alone, "{concurrency}");
            assert!(code(&shared) == alone, "{concurrency}, again");
        }
    }

    #[test]
    fn what_was_not_asked_for_longest_makes_room() {
        let functions = CompiledFunctions::new(3 * (100 + ENTRY_BYTES as u64));
        let asked = |key: u8| functions.get(&[key]).is_some();
        for key in 0..3 {
            assert!(functions.insert(&[key], vec![key; 99]));
            functions.0.run_pending_tasks();
        }
        assert!(asked(0));
        functions.insert(&[3], vec![3; 99]);
        functions.0.run_pending_tasks();
        assert_eq!([0, 1, 2, 3].map(asked), [true, false, true, true]);
    }
}
